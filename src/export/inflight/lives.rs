//! The worker that serves guests, dying at every store that it makes to the ring, the guest's memory
//! and the log, and the next one over what it left behind.
//!
//! Knows: the driver's side of a ring, and a device that ends requests in any order. Must not know: how
//! a worker serves. Invariant: the driver and the device outlive every worker, and fail the test when
//! a request is answered twice, without having been done, under two numbers, or never.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard};

use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::crash::{Crash, run_until_store, spared};
use super::*;
use crate::block::{Channel, Completion, Geometry, MemoryImage, Node, Op};
use crate::errno::Errno;
use crate::export::disk::{Disk, example};
use crate::export::handoff;
use crate::export::mapping::Sharer;
use crate::export::memory::GuestMemory;
use crate::export::ring::RingSetup;
use crate::export::worker::{Loop, WorkerSetup};

const RING_SIZE: u16 = 8;
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x2000;
/// Each head has a piece of guest memory from here on: its indirect table, header and status.
const REQUESTS: u64 = 0x3000;
const REQUEST_BYTES: u64 = 0x400;
const HEADER: u64 = 0x100;
const STATUS: u64 = 0x110;
const DATA: u64 = 0x200;
/// Turns until a worker that has not answered everything is taken to hang.
const TURNS_MAX: usize = 100;

/// What the device has been asked and has done. The sector of a request is its number.
#[derive(Debug, Default)]
struct Deeds {
    done: BTreeMap<u64, u32>,
    ordinals: BTreeMap<u64, u64>,
    /// Which of those that wait ends next.
    order: Vec<usize>,
    ends: usize,
}

#[derive(Debug, Default, Clone)]
struct Device(Arc<Mutex<Deeds>>);

impl Device {
    fn deeds(&self) -> MutexGuard<'_, Deeds> {
        self.0.lock().unwrap()
    }
}

impl Node for Device {
    fn geometry(&self) -> Geometry {
        MemoryImage::new(1 << 20).geometry()
    }

    fn channel(&self) -> std::io::Result<Box<dyn Channel>> {
        Ok(Box::new(DeviceChannel { device: self.clone(), waiting: Vec::new() }))
    }

    fn resize(&self, _: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
}

struct DeviceChannel {
    device: Device,
    waiting: Vec<Op>,
}

impl DeviceChannel {
    fn take(&mut self, op: Op) {
        let (sector, ordinal) = (op.io().offset_bytes / 512, op.ordinal);
        if let Some(before) = self.device.deeds().ordinals.insert(sector, ordinal) {
            assert_eq!(before, ordinal, "done again under another number");
        }
        // A process that finds nothing undone begins to count anew.
        let is_other = |other: &Op| other.ordinal != ordinal;
        assert!(self.waiting.iter().all(is_other), "two requests of one number");
        self.waiting.push(op);
    }
}

impl Channel for DeviceChannel {
    fn submit(&mut self, op: Op) {
        let sector = op.io().offset_bytes / 512;
        assert!(!self.device.deeds().ordinals.contains_key(&sector), "taken twice");
        self.take(op);
    }

    fn submit_again(&mut self, op: Op) {
        self.take(op);
    }

    fn commit(&mut self) {}

    /// One of those that wait ends, and every other time two.
    fn poll(&mut self, done: &mut Vec<Completion>) {
        let mut deeds = self.device.deeds();
        for _ in 0..1 + deeds.ends % 2 {
            if self.waiting.is_empty() {
                return;
            }
            let next = deeds.order[deeds.ends % deeds.order.len()] % self.waiting.len();
            let op = self.waiting.remove(next);
            *deeds.done.entry(op.io().offset_bytes / 512).or_default() += 1;
            deeds.ends += 1;
            done.push(op.complete(Ok(())));
        }
    }

    fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
}

/// A driver that offers a head again as soon as it has the answer; the worker's process comes and
/// goes.
struct World {
    region: Arc<Region>,
    memory: Arc<GuestMemory>,
    device: Device,
    event_idx: bool,
    offers_left: u64,
    offered: u64,
    avail_idx: u16,
    used_idx: u16,
    /// By head: the number of the request that is outstanding.
    outstanding: [Option<u64>; RING_SIZE as usize],
}

impl World {
    fn new(start: u16, order: &[usize]) -> Self {
        let shape = Shape::new(1, RING_SIZE, 1).unwrap();
        let (socket, _) = UnixStream::pair().unwrap();
        let sharer = Arc::new(Sharer::new(socket.into()));
        let file = create(shape).unwrap();
        let region = Region::map(shape, &file, 0, shape.bytes(), &sharer).unwrap();
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x5000)]).unwrap();
        let device = Device::default();
        device.deeds().order = order.to_vec();
        let mut world = Self {
            region: Arc::new(region),
            memory: Arc::new(memory),
            device,
            event_idx: start % 2 == 1,
            offers_left: 2 * order.len() as u64,
            offered: 0,
            avail_idx: start,
            used_idx: start,
            outstanding: [None; RING_SIZE as usize],
        };
        world.put(AVAIL + 2, start);
        world.put(USED + 2, start);
        (0..).zip(order).for_each(|(head, _)| world.offer(head));
        world
    }

    fn put<T: vm_memory::ByteValued>(&self, at: u64, value: T) {
        self.memory.write_obj(value, GuestAddress(at)).unwrap();
    }

    fn descriptor(&self, at: u64, (addr, bytes, flags, next): (u64, u32, u16, u16)) {
        let [low, high] = [u128::from(addr), u128::from(bytes)];
        let (flags, next) = (u128::from(flags), u128::from(next));
        self.put(at, low | high << 64 | flags << 96 | next << 112);
    }

    /// A write of one sector.
    fn offer(&mut self, head: u16) {
        if self.offers_left == 0 {
            return;
        }
        self.offers_left -= 1;
        let at = REQUESTS + REQUEST_BYTES * u64::from(head);
        let at_table = |index: u64| at + 16 * index;
        self.descriptor(16 * u64::from(head), (at, 3 * 16, 4, 0));
        self.descriptor(at_table(0), (at + HEADER, 16, 1, 1));
        self.descriptor(at_table(1), (at + DATA, 512, 1, 2));
        self.descriptor(at_table(2), (at + STATUS, 1, 2, 0));
        self.put(at + HEADER, 1u128 | u128::from(self.offered) << 64);
        self.put(at + STATUS, 0xffu8);
        self.put(AVAIL + 4 + 2 * u64::from(self.avail_idx % RING_SIZE), head);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        self.put(AVAIL + 2, self.avail_idx);
        let before = self.outstanding[usize::from(head)].replace(self.offered);
        assert_eq!(before, None);
        self.offered += 1;
    }

    fn get<T: vm_memory::ByteValued>(&self, at: u64) -> T {
        self.memory.read_obj(GuestAddress(at)).unwrap()
    }

    /// Take the answers that are there.
    fn look(&mut self) {
        while self.used_idx != self.get::<u16>(USED + 2) {
            let slot = USED + 4 + 8 * u64::from(self.used_idx % RING_SIZE);
            let (head, bytes) = (self.get::<u32>(slot), self.get::<u32>(slot + 4));
            let head = u16::try_from(head).unwrap();
            let request = self.outstanding[usize::from(head)].take();
            let request = request.expect("a second answer, or one to what was not asked");
            assert!(self.device.deeds().done.contains_key(&request), "answered and not done");
            let status = self.get::<u8>(REQUESTS + REQUEST_BYTES * u64::from(head) + STATUS);
            assert_eq!((status, bytes), (0, 1), "not answered with success");
            self.used_idx = self.used_idx.wrapping_add(1);
            self.offer(head);
        }
    }

    fn is_over(&self) -> bool {
        self.offers_left == 0 && self.outstanding.iter().all(Option::is_none)
    }

    /// What a process has of its own: nothing that an earlier one knew.
    fn disk(&self) -> Arc<Disk> {
        Arc::new(example::disk(Arc::new(self.device.clone())))
    }

    /// As QEMU starts it after a back end has died: from the used index.
    fn setup(&self) -> WorkerSetup {
        let ring = RingSetup {
            index: 0,
            size: RING_SIZE,
            desc_table: 0,
            avail_ring: AVAIL,
            used_ring: USED,
            next_avail: self.get(USED + 2),
            log: QueueLog::of(&self.region, 0),
            event_idx: self.event_idx,
            indirect: true,
            call: None,
            err: None,
        };
        let kick = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        WorkerSetup {
            disk: self.disk(),
            memory: self.memory.clone(),
            ring,
            kick: kick.into(),
            enabled: true,
            features: 0,
            writeback: Arc::new(AtomicBool::new(true)),
        }
    }
}

/// The life of a worker, until everything is answered.
fn live(world: &mut World) {
    let setup = spared(|| world.setup());
    let wake = EventFd::new(EFD_NONBLOCK).unwrap();
    let (_teller, listener) = handoff::ends(wake.try_clone().unwrap(), setup.ring.next_avail);
    let mut serving = Loop::new(setup, listener).unwrap();
    for _ in 0..TURNS_MAX {
        if world.is_over() {
            return;
        }
        // It never waits longer than for this.
        wake.write(1).unwrap();
        assert!(serving.turn(), "it ended");
        spared(|| world.look());
    }
    panic!("a request hangs");
}

/// Die at a store, come back, die at another, come back; which of the two there were.
fn die_twice(mut world: World, first: u32, second: u32) -> (bool, bool) {
    let mut dies = |number| {
        let died = matches!(run_until_store(number, || live(&mut world)), Err(Crash));
        world.look();
        died
    };
    let first_died = dies(first);
    let second_died = first_died && dies(second);
    live(&mut world);
    assert_eq!(world.device.deeds().done.len() as u64, world.offered);
    (first_died, second_died)
}

/// Orders in which a depth's requests end: all of them, or some.
fn orders(depth: usize) -> Vec<Vec<usize>> {
    let turned = |by: usize| (0..depth).map(move |at| (at * 3 + by) % depth).collect();
    match depth {
        1 | 2 => (0..depth).map(turned).collect(),
        _ => [0, depth - 1].into_iter().map(turned).chain([vec![depth - 1; depth]]).collect(),
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no memfd, and it takes too long")]
fn at_whichever_store_a_worker_dies_the_next_one_answers_every_request_once() {
    let (mut points, mut lives) = (0u64, 0u64);
    for depth in 1..=usize::from(RING_SIZE) {
        for (order, start) in orders(depth).iter().zip([0xffff, 0, 0xfffd].iter().cycle()) {
            let mut first = 0;
            while die_twice(World::new(*start, order), first, u32::MAX).0 {
                // The second death at every store where there are few, else at some, others each time.
                let (mut second, step) = if depth <= 2 { (0, 1) } else { (first % 61, 61) };
                while die_twice(World::new(*start, order), first, second).1 {
                    second += step;
                    lives += 1;
                }
                first += 1;
                points += 1;
                lives += 1;
            }
        }
    }
    println!("{points} stores to die at, {lives} deaths, 0 requests lost, answered twice or hung");
    assert!(points > 500 && lives > 5_000, "{points} points, {lives} deaths");
}
