//! Every place where the process can die, and what the next one makes of what it finds.

#[cfg(not(miri))]
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use vm_memory::{Bytes, GuestAddress};

use super::crash::{Crash, run_until};
use super::*;
use crate::export::mapping::Sharer;
use crate::export::memory::GuestMemory;
use crate::export::request::Used;
use crate::export::ring::{Mark, Ring, RingSetup};

const RING_SIZE: u16 = 8;
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x2000;

/// A ring in memory and its log, for one life after the other.
struct Rig {
    file: std::fs::File,
    region: Arc<Region>,
    memory: GuestMemory,
}

/// A file of the file system, all zeroes.
fn sized_file(bytes: u64) -> std::fs::File {
    let file = tempfile::NamedTempFile::new().unwrap().into_file();
    file.set_len(bytes).unwrap();
    file
}

impl Rig {
    fn new() -> Self {
        let shape = Shape::new(2, RING_SIZE, 2).unwrap();
        // Miri has no memfd, and maps no other file either: the region is memory of its own there.
        let file = if cfg!(miri) { sized_file(shape.bytes()) } else { create(shape).unwrap() };
        let (socket, _) = UnixStream::pair().unwrap();
        let sharer = Arc::new(Sharer::new(socket.into()));
        let region = Region::map(shape, &file, 0, shape.bytes(), &sharer).unwrap();
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x3000)]).unwrap();
        Self { file, region: Arc::new(region), memory }
    }

    /// As if nothing had happened, with both indices at `start`.
    fn renew(&self, start: u16) {
        self.write(&vec![0; usize::try_from(2 * self.stride()).unwrap()], 0);
        for at in [AVAIL, USED] {
            self.memory.write_slice(&[0; 0x100], GuestAddress(at)).unwrap();
            self.memory.write_obj(start, GuestAddress(at + 2)).unwrap();
        }
    }

    /// Length of one queue's part.
    fn stride(&self) -> u64 {
        self.file.metadata().unwrap().len() / 2
    }

    /// What another process writes into the region.
    fn write(&self, bytes: &[u8], at: u64) {
        #[cfg(miri)]
        self.region.whole().write_slice(bytes, usize::try_from(at).unwrap()).unwrap();
        #[cfg(not(miri))]
        self.file.write_all_at(bytes, at).unwrap();
    }

    /// What another process finds in the region.
    fn read(&self, into: &mut [u8], at: u64) {
        #[cfg(miri)]
        self.region.whole().read_slice(into, usize::try_from(at).unwrap()).unwrap();
        #[cfg(not(miri))]
        self.file.read_exact_at(into, at).unwrap();
    }

    fn used_idx(&self) -> u16 {
        self.memory.read_obj(GuestAddress(USED + 2)).unwrap()
    }

    fn log(&self) -> QueueLog {
        QueueLog::of(&self.region, 1).unwrap()
    }

    /// Start the ring as QEMU does after a back end has died: from the used index.
    fn start(&self) -> (Ring, Recovered) {
        let setup = RingSetup {
            index: 1,
            size: RING_SIZE,
            desc_table: 0,
            avail_ring: AVAIL,
            used_ring: USED,
            next_avail: self.used_idx(),
            log: Some(self.log()),
            event_idx: false,
            indirect: false,
            call: None,
            err: None,
        };
        Ring::start(setup, RING_SIZE, &self.memory).unwrap()
    }
}

/// A driver that offers a head again as soon as it has the answer, and remembers everything.
struct World<'a> {
    rig: &'a Rig,
    offers_left: u32,
    avail_idx: u16,
    used_idx: u16,
    /// By head: the number of the request that is outstanding.
    outstanding: [Option<usize>; RING_SIZE as usize],
    /// By request: how often it was done.
    done: Vec<u32>,
    answers: usize,
}

impl<'a> World<'a> {
    fn new(rig: &'a Rig, start: u16, depth: u16, total: u32) -> Self {
        rig.renew(start);
        let mut world = Self {
            rig,
            offers_left: total,
            avail_idx: start,
            used_idx: start,
            outstanding: [None; RING_SIZE as usize],
            done: Vec::new(),
            answers: 0,
        };
        (0..depth).for_each(|head| world.offer(head));
        world
    }

    fn offer(&mut self, head: u16) {
        if self.offers_left == 0 {
            return;
        }
        self.offers_left -= 1;
        let slot = AVAIL + 4 + 2 * u64::from(self.avail_idx % RING_SIZE);
        self.rig.memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.avail_idx = self.avail_idx.wrapping_add(1);
        self.rig.memory.write_obj(self.avail_idx, GuestAddress(AVAIL + 2)).unwrap();
        let before = self.outstanding[usize::from(head)].replace(self.done.len());
        assert_eq!(before, None);
        self.done.push(0);
    }

    fn look(&mut self) {
        while self.used_idx != self.rig.used_idx() {
            let slot = USED + 4 + 8 * u64::from(self.used_idx % RING_SIZE);
            let head: u32 = self.rig.memory.read_obj(GuestAddress(slot)).unwrap();
            let head = u16::try_from(head).unwrap();
            let request = self.outstanding[usize::from(head)].take();
            let request = request.expect("a second answer, or one to what was not asked");
            assert!(self.done[request] > 0, "answered and not done");
            self.answers += 1;
            self.used_idx = self.used_idx.wrapping_add(1);
            self.offer(head);
        }
    }

    /// The device does what a head asks for.
    fn execute(&mut self, head: u16) {
        let request = self.outstanding[usize::from(head)];
        self.done[request.expect("done after it was answered")] += 1;
    }

    fn is_over(&self) -> bool {
        self.offers_left == 0 && self.outstanding.iter().all(Option::is_none)
    }
}

/// The life of a device, from its start until everything is answered. `order` says which of those in
/// flight is answered next.
fn live(world: &mut World<'_>, order: &[usize]) {
    let (mut ring, recovered) = world.rig.start();
    let mut in_flight = match recovered {
        Recovered::Unused => Vec::new(),
        Recovered::Unanswered { taken, .. } => taken.into_iter().map(|taken| taken.head).collect(),
        Recovered::Contradicted { .. } => panic!("nobody but us has written"),
    };
    in_flight.iter().for_each(|head| world.execute(*head));
    let mut order = order.iter().cycle();
    while !world.is_over() {
        let mut heads = Vec::new();
        ring.fetch(&world.rig.memory, &mut heads);
        for head in heads {
            assert!(!in_flight.contains(&head), "taken twice");
            ring.take(head, world.outstanding[usize::from(head)].unwrap() as u64);
            world.execute(head);
            in_flight.push(head);
        }
        let next = order.next().unwrap() % in_flight.len();
        let head = in_flight.remove(next);
        ring.push(&world.rig.memory, Used { head, bytes: 1 }, Mark::Ends);
        world.look();
    }
}

/// All orders of `len` things.
fn permutations(len: usize) -> Vec<Vec<usize>> {
    if len == 0 {
        return vec![Vec::new()];
    }
    let longer = |shorter: Vec<usize>| {
        (0..len).map(move |at| {
            let mut longer = shorter.clone();
            longer.insert(at, len - 1);
            longer
        })
    };
    permutations(len - 1).into_iter().flat_map(longer).collect()
}

/// The orders that a depth is tried with: all of them, or every so-manieth.
fn orders(depth: u16) -> Vec<Vec<usize>> {
    let all = permutations(usize::from(depth));
    let step = all.len().div_ceil(24);
    all.into_iter().step_by(step).collect()
}

/// Die at a point, come back, die at another, come back; true if both points were reached.
fn die_twice(world: &mut World<'_>, order: &[usize], first: u32, second: u32) -> (bool, bool) {
    let first_died = matches!(run_until(first, || live(world, order)), Err(Crash));
    world.look();
    let second_died = first_died && matches!(run_until(second, || live(world, order)), Err(Crash));
    world.look();
    live(world, order);
    assert!(world.is_over() && world.answers == world.done.len());
    (first_died, second_died)
}

#[test]
fn wherever_the_process_dies_every_request_is_answered_once() {
    let rig = Rig::new();
    let (mut lives, mut points) = (0u64, 0u64);
    // Miri takes some thousand times as long: it has one death in a life, and not each.
    let (depth_max, step, second_max) = if cfg!(miri) { (2, 5, 0) } else { (RING_SIZE, 1, 40) };
    for depth in 1..=depth_max {
        for (order, start) in orders(depth).iter().zip([0, 0xfffd, 0x7fff, 0xffff].iter().cycle()) {
            let total = 2 * u32::from(depth);
            let new = || World::new(&rig, *start, depth, total);
            let mut first = 0;
            while die_twice(&mut new(), order, first, u32::MAX).0 {
                // The second death at every point of the recovery, and at some behind it.
                let mut second = 0;
                while second < second_max && die_twice(&mut new(), order, first, second).1 {
                    second += if depth <= 3 { 1 } else { 5 };
                    lives += 1;
                }
                first += step;
                points += 1;
                lives += 1;
            }
        }
    }
    println!("{points} points to die at, {lives} deaths, 0 requests lost, answered twice or hung");
    let (points_min, lives_min) = if cfg!(miri) { (10, 10) } else { (5_000, 50_000) };
    assert!(points > points_min && lives > lives_min, "{points} points, {lives} deaths");
}

fn recover(rig: &Rig) -> Result<Recovered, BadLog> {
    rig.log().recover(rig.used_idx(), RING_SIZE)
}

#[test]
fn a_log_that_nobody_used_says_nothing_about_the_ring() {
    let rig = Rig::new();
    rig.renew(77);
    assert_eq!(recover(&rig), Ok(Recovered::Unused));
    assert_eq!(recover(&rig), Ok(Recovered::Unused), "set up and still unused");
    let mut log = rig.log();
    log.recover(77, RING_SIZE).unwrap();
    log.take(3, 40);
    log.take(1, 41);
    let taken = vec![Taken { head: 3, ordinal: 40 }, Taken { head: 1, ordinal: 41 }];
    assert_eq!(recover(&rig), Ok(Recovered::Unanswered { next_avail: 79, taken }));
}

#[test]
fn a_used_index_that_the_driver_wrote_fails_what_is_in_flight() {
    let rig = Rig::new();
    rig.renew(0);
    let mut log = rig.log();
    log.recover(0, RING_SIZE).unwrap();
    (2..6).for_each(|head| log.take(head, u64::from(head)));
    rig.memory.write_obj(4000u16, GuestAddress(USED + 2)).unwrap();
    let taken = (2..6).map(|head| Taken { head, ordinal: u64::from(head) }).collect();
    assert_eq!(recover(&rig), Ok(Recovered::Contradicted { next_avail: 4004, taken }));
}

#[test]
fn a_log_of_another_kind_is_refused_and_left_alone() {
    let rig = Rig::new();
    rig.renew(0);
    let at = |field: u64| rig.stride() + field;
    rig.write(&2u16.to_ne_bytes(), at(8));
    assert_eq!(recover(&rig), Err(BadLog::Version(2)));
    rig.write(&1u16.to_ne_bytes(), at(8));
    rig.write(&16u16.to_ne_bytes(), at(10));
    let wrong = BadLog::Size { logged: 16, region: RING_SIZE, ring: RING_SIZE };
    assert_eq!(recover(&rig), Err(wrong));
    let mut kept = [0; 2];
    rig.read(&mut kept, at(10));
    assert_eq!(u16::from_ne_bytes(kept), 16);
}

#[test]
fn whatever_a_region_holds_recovery_ends_and_names_each_head_once() {
    let rig = Rig::new();
    let mut state = 0x1f11u64;
    let mut random = || {
        // Xorshift: anything but zeroes will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_ne_bytes()[0]
    };
    let mut told = 0;
    let rounds = if cfg!(miri) { 8 } else { 20_000u16 };
    for round in 0..rounds {
        rig.renew(round);
        let mut bytes: Vec<u8> = (0..rig.stride()).map(|_| random()).collect();
        // A log that is refused at once tells nothing.
        bytes[8..10].copy_from_slice(&1u16.to_ne_bytes());
        bytes[10..12].copy_from_slice(&RING_SIZE.to_ne_bytes());
        if round % 2 == 0 {
            bytes[14..16].copy_from_slice(&round.wrapping_sub(round % 9).to_ne_bytes());
            bytes[12..14].copy_from_slice(&(round % 11).to_ne_bytes());
        }
        rig.write(&bytes, rig.stride());
        let (Recovered::Unanswered { taken, .. } | Recovered::Contradicted { taken, .. }) =
            recover(&rig).unwrap()
        else {
            continue;
        };
        let heads: Vec<u16> = taken.iter().map(|taken| taken.head).collect();
        told += heads.len();
        let mut once = heads.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), heads.len(), "{heads:?}");
        assert!(heads.iter().all(|head| *head < RING_SIZE));
    }
    assert!(told > usize::from(rounds / 2), "{told} heads in all");
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no memfd")]
fn a_region_has_the_shape_that_was_asked_for() {
    for (queues, size) in [(0, 8), (3, 8), (1, 0), (1, 1025), (u16::MAX, u16::MAX)] {
        assert!(Shape::new(queues, size, 2).is_err(), "{queues} queues of {size}");
    }
    let shape = Shape::new(2, 128, 2).unwrap();
    assert_eq!(shape.bytes(), 2 * (16 + 128 * 16u64).next_multiple_of(64));
    let file = create(shape).unwrap();
    assert_eq!(file.metadata().unwrap().len(), shape.bytes());
    assert!(file.set_len(1).is_err() && file.set_len(1 << 20).is_err(), "sealed");
    let (socket, _) = UnixStream::pair().unwrap();
    let sharer = Arc::new(Sharer::new(socket.into()));
    assert!(Region::map(shape, &file, 0, shape.bytes() - 1, &sharer).is_err(), "too short");
    assert!(Region::map(shape, &file, 4096, shape.bytes(), &sharer).is_err(), "past the end");
    assert!(Region::map(shape, &file, 1, shape.bytes(), &sharer).is_err(), "misaligned");
    let region = Arc::new(Region::map(shape, &file, 0, shape.bytes(), &sharer).unwrap());
    assert!(QueueLog::of(&region, 1).is_some() && QueueLog::of(&region, 2).is_none());
}
