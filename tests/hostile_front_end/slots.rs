//! Many small memory slots that touch, and requests that cross them again and again (B-16).

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::support::daemon::{Daemon, set_state};
use crate::support::front::{Ask, Desc, Front, NEXT, Queue, Status, feature, header, kind};
use crate::support::process::Watched;
use crate::words;

/// All slots but that of the rings.
const SLOTS: u64 = 508;
const SLOT_BYTES: u64 = 4096;
/// Where the slots begin, one behind the other.
const DATA: u64 = 1 << 33;
const DATA_BYTES: u64 = SLOTS * SLOT_BYTES;
/// Descriptors for data that fit in a table, beside those for header and status.
const DATA_DESCS: usize = 1022;
/// Requests on their way at once.
const REQUESTS: u16 = 16;
/// What they may take of the daemon's memory: half of the list for one that crosses all it can.
const PEAK_KIB_MAX: u64 = 4 << 10;

/// A front end that gives its memory page by page.
struct Paged {
    front: Front,
    queue: Queue,
    /// What is in the slots.
    content: Vec<u8>,
}

impl Paged {
    fn connect(socket: &Path) -> Self {
        let mut front = Front::connect(socket);
        front.negotiate(feature::ALL);
        let queue = front.start_queues(1, 64).remove(0);
        let memfd = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memfd, DATA_BYTES).unwrap();
        let content: Vec<u8> = (0..=250).cycle().take(DATA_BYTES as usize).collect();
        rustix::io::pwrite(&memfd, &content, 0).unwrap();
        for at in (0..SLOTS).map(|slot| slot * SLOT_BYTES) {
            let region = words(&[0, DATA + at, SLOT_BYTES, (1 << 45) + at, at]);
            front.wire.tell(Ask::AddMemReg, &region, &[memfd.as_fd()]).unwrap();
        }
        Self { front, queue, content }
    }

    /// Offer a request for the first sector. Tells where its status comes.
    fn offer(&mut self, wanted: u32, data: &[Desc]) -> u64 {
        let memory = &self.front.memory;
        let [head, status] = [16, 1].map(|bytes| memory.allocate(bytes, 16));
        memory.write(head, &header(wanted, 0));
        memory.write(status, &[0xee]);
        let (head, tail) = (Desc::readable(head, 16), Desc::writable(status, 1));
        let chain = [&[head], data, &[tail]].concat();
        let linked = (1..).zip(&chain).map(|(next, desc)| match usize::from(next) < chain.len() {
            true => Desc { flags: desc.flags | NEXT, next, ..*desc },
            false => *desc,
        });
        let table: Vec<u8> = linked.flat_map(Desc::to_bytes).collect();
        let place = memory.allocate(table.len() as u64, 16);
        memory.write(place, &table);
        self.queue.submit_chain(&[Desc::indirect(place, chain.len())]);
        status
    }

    /// Have a request done.
    fn ask(&mut self, wanted: u32, data: &[Desc]) -> Status {
        let status = self.offer(wanted, data);
        self.queue.kick();
        self.queue.answer();
        self.front.memory.read(status, 1)[0].into()
    }
}

#[test]
fn requests_that_cross_every_slot_again_and_again_take_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    // Large enough that what is asked for is on the disk.
    std::fs::File::create(&image).unwrap().set_len(4 << 30).unwrap();
    let daemon = Daemon::start(dir.path(), &["--blk-file", image.to_str().unwrap()]);
    let mut paged = Paged::connect(&daemon.socket("disk0"));
    let mut operator = daemon.operator();
    set_state(&mut operator, "disk0", "hang");
    let process = Watched::of(daemon.id());
    process.forget_peak();
    let before = process.memory();
    let all = [Desc::writable(DATA, DATA_BYTES as u32); DATA_DESCS];
    let answers: Vec<u64> = (0..REQUESTS).map(|_| paged.offer(kind::IN, &all)).collect();
    paged.queue.kick();
    for status in answers {
        assert_eq!(paged.queue.answer().len, 0, "refused, and so not held");
        assert_eq!(Status::from(paged.front.memory.read(status, 1)[0]), Status::IoErr);
    }
    let peak_kib = process.memory().peak_since(before);
    assert!(peak_kib < PEAK_KIB_MAX, "{peak_kib} KiB at most");
    assert!(paged.queue.in_flight() == 0, "one answer each");
}

#[test]
fn as_many_pieces_as_a_driver_needs_are_served_over_all_slots() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let daemon = Daemon::start(dir.path(), &["--blk-file", image.to_str().unwrap()]);
    let mut paged = Paged::connect(&daemon.socket("disk0"));
    // Each sector a descriptor, but the first crosses every border: more than a call of the kernel's
    // takes, twice over the same memory once more than a request may have.
    let sector = |at: usize| Desc::readable(DATA + at as u64 * 512, 512);
    let mut data: Vec<Desc> = (0..DATA_DESCS).map(sector).collect();
    data[0] = Desc::readable(DATA, DATA_BYTES as u32);
    assert_eq!(paged.ask(kind::OUT, &data), Status::Ok);
    let expected = [&paged.content[..], &paged.content[512..DATA_DESCS * 512]].concat();
    let written = std::fs::read(&image).unwrap();
    assert!(written[..expected.len()] == expected, "every piece at its place");
    assert!(written[expected.len()..].iter().all(|byte| *byte == 0), "and nothing behind");
    data[1] = data[0];
    data[2] = data[0];
    assert_eq!(paged.ask(kind::OUT, &data), Status::IoErr);
    assert!(std::fs::read(&image).unwrap() == written, "of what is refused nothing is written");
    assert!(paged.queue.is_alive());
}
