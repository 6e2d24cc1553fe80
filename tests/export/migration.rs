//! A guest that is watched while it migrates: every page that the device writes is in the log.

use std::os::fd::AsFd;

use crate::support::backend::{DISK_BYTES, Served, options};
use crate::support::front::{Ask, Desc, Front, Queue, Refusal, Region, feature, header, kind};
use crate::support::nodes::{HoldingNode, MemoryNode};

const PAGE: u64 = 4096;
/// Guest memory of these stories: 64 pages of log are 2 MiB, so much more than a byte.
const LAYOUT: &[(u64, u64)] = &[(0, 16 << 20), (1 << 30, 1 << 20)];
const LOG_BYTES: u64 = ((1 << 30) + (1 << 20)) / PAGE / 8;

/// The front end's side of the log.
struct Log(std::sync::Arc<Region>);

impl Log {
    fn new() -> Self {
        Self(Region::new(0, LOG_BYTES))
    }

    fn give(&self, front: &Front, bytes: u64) -> Result<(), Refusal> {
        let body = [bytes.to_ne_bytes(), 0u64.to_ne_bytes()].concat();
        front.wire.ask_with(Ask::SetLogBase, &body, self.0.memfd().as_fd()).map(|_| ())
    }

    /// The pages marked since the last call.
    fn take(&self) -> Vec<u64> {
        let mut bytes = vec![0; LOG_BYTES as usize];
        self.0.read(0, &mut bytes);
        self.0.write(0, &vec![0; LOG_BYTES as usize]);
        let pages =
            (0..LOG_BYTES * 8).filter(|page| bytes[*page as usize / 8] & 1 << (page % 8) != 0);
        pages.collect()
    }
}

struct Stage {
    front: Front,
    queue: Queue,
    log: Log,
    header_at: u64,
    status_at: u64,
}

impl Stage {
    fn new(served: &Served) -> Self {
        let mut front = Front::with_memory(&served.socket, LAYOUT);
        front.negotiate(feature::ALL);
        let queue = front.start_queues(1, 16).remove(0);
        let [header_at, status_at] = [16, 1].map(|bytes| front.memory.allocate(bytes, PAGE));
        Self { front, queue, log: Log::new(), header_at, status_at }
    }

    fn begin(&mut self) {
        self.log.give(&self.front, LOG_BYTES).expect("SET_LOG_BASE");
        self.front.accept_exactly(self.front.accepted | feature::LOG_ALL);
    }

    fn end(&mut self) {
        self.front.accept_exactly(self.front.accepted & !feature::LOG_ALL);
    }

    fn submit(&mut self, wanted: u32, data: Desc) {
        self.front.memory.write(self.header_at, &header(wanted, 0));
        let (head, tail) = (Desc::readable(self.header_at, 16), Desc::writable(self.status_at, 1));
        self.queue.submit_chain(&[head, data, tail]);
        self.queue.kick();
    }

    /// The pages marked since the last call, once the device has nothing more to do: it marks a page
    /// after it has written it, so that an answer is seen before its mark.
    fn marked(&self) -> Vec<u64> {
        self.front.enable_queue(0, true).expect("a worker that has come round");
        self.log.take()
    }

    /// The pages that the device writes for any request: used ring and status.
    fn always(&self) -> Vec<u64> {
        vec![self.queue.layout.used / PAGE, self.status_at / PAGE]
    }
}

#[test]
fn every_page_that_the_device_writes_is_logged_and_no_other() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let mut stage = Stage::new(&served);
    let far = 1 << 30;
    stage.submit(kind::IN, Desc::writable(far, 512));
    stage.queue.answer();
    assert_eq!(stage.marked(), [0; 0], "nobody migrates yet");

    stage.begin();
    // From the last byte of one page over a whole one to the first of another.
    stage.submit(kind::IN, Desc::writable(far + PAGE - 512, 512 + 4096 + 512));
    stage.queue.answer();
    let mut expected = stage.always();
    expected.extend([far / PAGE, far / PAGE + 1, far / PAGE + 2]);
    assert_eq!(stage.marked(), expected);

    stage.submit(kind::OUT, Desc::readable(far, 4096));
    stage.queue.answer();
    assert_eq!(stage.marked(), stage.always(), "a write of the guest is a read of its memory");

    stage.submit(kind::GET_ID, Desc::writable(far + 8 * PAGE, 20));
    stage.queue.answer();
    expected = stage.always();
    expected.push(far / PAGE + 8);
    assert_eq!(stage.marked(), expected);

    stage.end();
    // The device may have looked at its ring once more before the end.
    stage.marked();
    stage.submit(kind::IN, Desc::writable(far, 512));
    stage.queue.answer();
    assert_eq!(stage.marked(), [0; 0], "nobody migrates any more");
}

/// The far memory at the guest's new place, which follows the old one by the log alone.
struct Follower(Vec<u8>);

const FAR: u64 = 1 << 30;
const FAR_PAGES: u64 = (1 << 20) / PAGE;

impl Follower {
    fn of(front: &Front) -> Self {
        Self(front.memory.read(FAR, (FAR_PAGES * PAGE) as usize))
    }

    fn copy(&mut self, front: &Front, page: u64) {
        if let Some(at) = page.checked_sub(FAR / PAGE).map(|page| (page * PAGE) as usize) {
            self.0[at..at + PAGE as usize]
                .copy_from_slice(&front.memory.read(page * PAGE, PAGE as usize));
        }
    }

    /// The pages that are not what they are at the old place.
    fn stale(&self, front: &Front) -> Vec<u64> {
        let now = Self::of(front);
        let pages = self.0.chunks(PAGE as usize).zip(now.0.chunks(PAGE as usize));
        (FAR / PAGE..)
            .zip(pages)
            .filter(|(_, (old, new))| old != new)
            .map(|(page, _)| page)
            .collect()
    }
}

/// A guest reads all over its memory while it migrates. The pages that are stale at its new place, if
/// whoever copies them ignores the log for one of them; and how many pages the log named.
fn migrate_while_reading(ignored: Option<u64>) -> (Vec<u64>, usize) {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let mut stage = Stage::new(&served);
    let source = stage.front.memory.allocate(32 * 512, PAGE);
    let content: Vec<u8> = (0..32 * 512u32).map(|at| 1 + (at / 3 % 255) as u8).collect();
    stage.front.memory.write(source, &content);
    stage.submit(kind::OUT, Desc::readable(source, 32 * 512));
    stage.queue.answer();
    stage.begin();
    let mut there = Follower::of(&stage.front);
    let mut named = std::collections::BTreeSet::new();
    for number in 0..200u64 {
        let at = FAR + number * 37 % 240 * PAGE + number % 8 * 512;
        stage.submit(kind::IN, Desc::writable(at, 512 * (1 + number as u32 % 32)));
        stage.queue.answer();
        if number % 10 == 9 {
            let marked = stage.marked();
            named.extend(marked.iter().copied().filter(|page| *page >= FAR / PAGE));
            let seen = marked.into_iter().filter(|page| Some(*page) != ignored);
            seen.for_each(|page| there.copy(&stage.front, page));
        }
    }
    (there.stale(&stage.front), named.len())
}

#[test]
fn a_guest_that_reads_while_it_migrates_arrives_whole() {
    let (stale, named) = migrate_while_reading(None);
    assert_eq!(stale, [0; 0]);
    assert!(named > 200, "{named} pages were read into");
}

/// The story above could not fail if nobody looked, or nothing were read.
#[test]
fn one_page_that_the_log_does_not_tell_is_found() {
    for forgotten in [FAR / PAGE, FAR / PAGE + 37, FAR / PAGE + 111] {
        assert_eq!(migrate_while_reading(Some(forgotten)).0, [forgotten]);
    }
}

#[test]
fn a_read_that_was_on_its_way_is_logged_when_it_ends() {
    let node = HoldingNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    let mut stage = Stage::new(&served);
    node.shut();
    stage.submit(kind::IN, Desc::writable(8 << 20, 4096));
    node.wait_held(1);
    stage.begin();
    stage.marked();
    node.open();
    stage.queue.answer();
    assert!(stage.marked().contains(&((8 << 20) / PAGE)));
}

#[test]
fn a_log_that_does_not_cover_the_memory_is_refused() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    for bytes in [LOG_BYTES - 1, 1, 0, LOG_BYTES + 1, u64::MAX] {
        let stage = Stage::new(&served);
        assert!(stage.log.give(&stage.front, bytes).is_err(), "{bytes} bytes");
        assert!(!stage.queue.broken_within(std::time::Duration::ZERO));
        drop(stage);
        served.wait_disconnected();
    }
    let mut next = Stage::new(&served);
    assert!(next.queue.is_alive());
    next.begin();
    assert!(next.queue.is_alive());
}
