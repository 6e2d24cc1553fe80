//! Memory that comes and goes, and the log of what was written there.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::support::backend::eventually;
use crate::support::front::{
    Ask, Desc, Front, Queue, Region, SECTOR, Sharing, Status, feature, header, kind,
};
use crate::{Stage, ready, words};

/// Requests on their way while memory goes.
const REQUESTS: u16 = 128;
/// Changes of the table in one telling.
const CHANGES: u64 = 100;
const DATA: u64 = 1 << 33;

/// How often a file is mapped by this process: once by the front end's own region.
fn mapped(memfd: BorrowedFd<'_>) -> usize {
    let inode = rustix::fs::fstat(memfd).unwrap().st_ino.to_string();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let is_it = |line: &&str| line.split_whitespace().nth(4) == Some(&inode);
    maps.lines().filter(is_it).count()
}

/// Bytes of a sector that differ from change to change and from place to place.
fn stamp(change: u64, slot: u16) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    for (at, word) in (0u64..).zip(bytes.chunks_exact_mut(8)) {
        word.copy_from_slice(&(change << 32 | u64::from(slot) << 16 | at).to_le_bytes());
    }
    bytes
}

/// What a request of the story is made of.
struct Requests {
    heads: u64,
}

impl Requests {
    fn new(front: &Front) -> Self {
        Self { heads: front.memory.allocate(u64::from(REQUESTS) * 32, 4096) }
    }

    fn head(&self, slot: u16) -> u64 {
        self.heads + 32 * u64::from(slot)
    }

    /// Even slots write the first half of the data to the disk, odd ones read.
    fn submit(&self, front: &Front, queue: &mut Queue) {
        for slot in 0..REQUESTS {
            let (head, sector) = (self.head(slot), u64::from(slot));
            let data = DATA + sector * SECTOR as u64;
            let is_write = slot % 2 == 0;
            let kind = if is_write { kind::OUT } else { kind::IN };
            front.memory.write(head, &header(kind, sector));
            front.memory.write(head + 16, &[0xee]);
            let mut desc = Desc::writable(data, SECTOR as u32);
            if is_write {
                desc = Desc::readable(data, SECTOR as u32);
            }
            let tail = Desc::writable(head + 16, 1);
            queue.submit_chain(&[Desc::readable(head, 16), desc, tail]);
        }
        queue.kick();
    }

    fn status(&self, front: &Front, slot: u16) -> Status {
        front.memory.read(self.head(slot) + 16, 1)[0].into()
    }
}

fn change_under_requests(
    stage: &Stage,
    front: &Front,
    queue: &mut Queue,
    requests: &Requests,
    change: u64,
) {
    let data = Region::new(DATA, u64::from(REQUESTS) * SECTOR as u64);
    front.add_region(&data).unwrap();
    assert_eq!(mapped(data.memfd()), 2, "by the front end and by the back end");
    for slot in 0..REQUESTS {
        data.write(DATA + u64::from(slot) * SECTOR as u64, &stamp(change, slot));
    }
    stage.node.shut();
    requests.submit(front, queue);
    stage.node.wait_held(REQUESTS.into());
    if change.is_multiple_of(2) {
        front.remove_region(&data).unwrap();
    } else {
        front.share_memory(Sharing::Table);
    }
    assert_eq!(mapped(data.memfd()), 2, "requests on their way keep what they began with");
    stage.node.open();
    (0..REQUESTS).for_each(|_| {
        queue.answer();
    });
    check_data(stage, front, requests, &data, change);
    eventually("memory that nobody uses any more is not mapped", || {
        mapped(data.memfd()) == 1 && mapped(front.memory.regions()[0].memfd()) == 2
    });
}

fn check_data(stage: &Stage, front: &Front, requests: &Requests, data: &Arc<Region>, change: u64) {
    let disk = stage.node.memory.content();
    for slot in 0..REQUESTS {
        assert_eq!(requests.status(front, slot), Status::Ok, "slot {slot}");
        let at = usize::from(slot) * SECTOR;
        let on_disk = &disk[at..at + SECTOR];
        let mut in_memory = [0; SECTOR];
        data.read(DATA + at as u64, &mut in_memory);
        assert!(in_memory == *on_disk, "slot {slot} moved its data");
        let is_stamp = in_memory == stamp(change, slot);
        assert_eq!(is_stamp, slot.is_multiple_of(2), "slot {slot}: writes are new, reads are not");
    }
}

pub(crate) fn goes_under_requests(stage: &Stage) {
    let mut front = Front::with_memory(&stage.socket, &[(0, 16 << 20)]);
    front.negotiate(feature::ALL);
    let mut queue = front.start_queues(1, 512).remove(0);
    let requests = Requests::new(&front);
    for change in 1..=CHANGES {
        change_under_requests(stage, &front, &mut queue, &requests, change);
        stage.forget();
    }
}

pub(crate) fn without_the_rings(stage: &Stage) {
    let mut front = ready(stage);
    let mut queue = front.start_queues(1, 16).remove(0);
    let elsewhere = Region::new(1 << 40, 1 << 20);
    let place = [1 << 40, 1 << 20, elsewhere.user_address(), 0];
    let table = [words(&[1]), words(&place)].concat();
    front.wire.tell(Ask::SetMemTable, &table, &[elsewhere.memfd()]).unwrap();
    assert!(queue.broken_within(Duration::from_secs(20)), "the driver may know");
    front.share_memory(Sharing::Table);
    assert!(queue.is_alive(), "it has come back");
    front.wire.tell(Ask::SetMemTable, &words(&[0]), &[]).expect_err("no memory at all");
    assert!(queue.is_alive());
}

/// A log of guest pages is asked for with a payload, so a bad one ends the session.
pub(crate) fn logs(stage: &Stage) {
    let all = 256u64 << 20;
    let enough = all / 4096 / 8;
    let log = Region::new(0, enough);
    for (what, bytes, offset) in [
        ("too short", enough - 1, 0),
        ("of no bytes", 0, 0),
        ("past the end of the file", enough, 4096),
        ("longer than the file", enough + 1, 0),
        ("that wraps around", enough, u64::MAX - enough + 1),
        ("that wraps around by itself", u64::MAX, 4096),
        ("within a page", enough, 12),
    ] {
        let mut front = ready(stage);
        let queue = front.start_queues(1, 16).remove(0);
        let given = front.wire.ask_with(Ask::SetLogBase, &words(&[bytes, offset]), log.memfd());
        assert!(given.is_err(), "a log {what}");
        assert!(!queue.broken_within(Duration::ZERO));
        drop((front, queue));
        stage.wait_disconnected();
    }
    // Memory that comes after the log lies beyond it: nothing is marked, nobody is hurt.
    let mut front = ready(stage);
    front.wire.ask_with(Ask::SetLogBase, &words(&[enough, 0]), log.memfd().as_fd()).unwrap();
    front.accept_exactly(front.accepted | feature::LOG_ALL);
    let mut queue = front.start_queues(1, 16).remove(0);
    let last = Region::new(u64::MAX - 0xfff - 4096, 4096);
    front.add_region(&last).unwrap();
    let requests = Requests::new(&front);
    front.memory.write(requests.head(0), &header(kind::IN, 0));
    queue.submit_chain(&[
        Desc::readable(requests.head(0), 16),
        Desc::writable(last.start, 4096),
        Desc::writable(requests.head(0) + 16, 1),
    ]);
    queue.kick();
    assert_eq!(queue.answer().len, 4097);
    assert!(queue.is_alive());
}
