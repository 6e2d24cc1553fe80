//! The guest's door against a hostile driver: the catalogue G-01 to G-47.
//!
//! Each entry does one thing that no honest driver does. What all have in common is checked here:
//! every head that is offered is answered exactly once (the front end fails the test on an answer
//! too many), the other queue serves, and the queue itself serves: at once, or where the driver has
//! broken its ring, after it starts the ring again.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test may fail")]

#[path = "../support"]
mod support {
    pub mod backend;
    pub mod daemon;
    pub mod front;
    pub mod nodes;
    pub mod operator;
}

mod chains;
mod log;
mod random;
mod requests;
mod rings;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use support::backend::{DISK_BYTES, Served, options};
use support::front::{Desc, Front, Queue, Status, UNWRITTEN, feature, header};
use support::nodes::HoldingNode;

/// Descriptors of each queue.
const QUEUE_SIZE: u16 = 128;
/// Two regions that touch, a hole, and one more region.
const LAYOUT: &[(u64, u64)] = &[(0, 64 << 20), (64 << 20, 1 << 20), (1 << 32, 1 << 20)];
/// Where the first two regions touch.
const BORDER: u64 = 64 << 20;
/// The first address behind the first two regions.
const HOLE: u64 = 65 << 20;
/// The end of the last region.
const END: u64 = (1 << 32) + (1 << 20);

/// One entry of the catalogue.
struct Case {
    /// Its name in the catalogue.
    id: &'static str,
    /// What the driver does, and what is expected of the device.
    story: &'static str,
    tell: fn(&mut Stage),
}

/// A disk, a front end and two running queues; and buffers for the hostile one.
struct Stage {
    node: HoldingNode,
    served: Served,
    front: Front,
    /// The queue that is abused.
    queue: Queue,
    /// The queue that must not notice.
    other: Queue,
    header_at: u64,
    status_at: u64,
    data_at: u64,
}

/// Bytes at `data_at`.
const DATA_BYTES: u64 = 2 << 20;

impl Stage {
    fn new() -> Self {
        Self::with_features(feature::ALL)
    }

    fn with_features(features: u64) -> Self {
        let node = HoldingNode::new(DISK_BYTES);
        let served = Served::over(node.clone(), options(2));
        let mut front = Front::with_memory(&served.socket, LAYOUT);
        front.negotiate(features);
        let mut queues = front.start_queues(2, QUEUE_SIZE);
        let (other, queue) = (queues.remove(1), queues.remove(0));
        let header_at = front.memory.allocate(4096, 4096);
        let status_at = front.memory.allocate(4096, 4096);
        let data_at = front.memory.allocate(DATA_BYTES, 4096);
        Self { node, served, front, queue, other, header_at, status_at, data_at }
    }

    /// Write a header and a blank status; the header as a descriptor.
    fn head(&self, kind: u32, sector: u64) -> Desc {
        self.front.memory.write(self.header_at, &header(kind, sector));
        self.front.memory.write(self.status_at, &[UNWRITTEN]);
        Desc::readable(self.header_at, 16)
    }

    /// Room for the status.
    fn tail(&self) -> Desc {
        Desc::writable(self.status_at, 1)
    }

    /// The status as it is now.
    fn status(&self) -> Status {
        self.front.memory.read(self.status_at, 1)[0].into()
    }

    /// Room for this many bytes of data.
    fn room(&self, bytes: u64) -> Desc {
        Desc::writable(self.data_at, bytes as u32)
    }

    /// This many bytes of data.
    fn data(&self, bytes: u64) -> Desc {
        Desc::readable(self.data_at, bytes as u32)
    }

    /// Write descriptors, linked as they say, to the first places of the queue's table and offer
    /// the first. Returns the length of the answer.
    fn offer_raw(&mut self, descs: &[Desc]) -> u32 {
        let places: [u16; 8] = self.queue.take_descs();
        assert_eq!(places, [0, 1, 2, 3, 4, 5, 6, 7], "the table is fresh");
        for (place, desc) in places.into_iter().zip(descs) {
            self.queue.put_desc(place, *desc);
        }
        self.queue.offer(0);
        self.queue.kick();
        self.queue.answer().len
    }

    /// Offer these descriptors as a chain. Returns the length of the answer and the status.
    fn chain(&mut self, descs: &[Desc]) -> (u32, Status) {
        let head = self.queue.submit_chain(descs);
        self.queue.kick();
        let used = self.queue.wait(head);
        (used.len, self.status())
    }

    /// Write descriptors, linked as they say, as a table at an address.
    fn table_at(&self, address: u64, descs: &[Desc]) -> Desc {
        let bytes: Vec<u8> = descs.iter().flat_map(|desc| desc.to_bytes()).collect();
        self.front.memory.write(address, &bytes);
        Desc::indirect(address, descs.len())
    }

    /// Write descriptors as a table, linked one to the next.
    fn linked_table(&self, descs: &[Desc]) -> Desc {
        let last = descs.len() - 1;
        let linked: Vec<Desc> = (0u16..)
            .zip(descs)
            .map(|(index, desc)| match usize::from(index) < last {
                true => Desc { flags: desc.flags | support::front::NEXT, next: index + 1, ..*desc },
                false => *desc,
            })
            .collect();
        self.table_at(self.front.memory.allocate(16 * descs.len() as u64, 16), &linked)
    }

    /// The driver has broken its ring: it is told so, once, and the ring serves nobody until it
    /// starts again.
    fn broken(&mut self) {
        assert!(self.queue.broken_within(Duration::from_secs(5)), "the error is reported");
        self.queue.kick_always();
        assert!(!self.queue.broken_within(Duration::from_millis(5)), "and reported once");
        self.front.renew_queue(&mut self.queue);
    }
}

/// What every entry ends with.
fn epilogue(stage: &mut Stage) {
    stage.node.open();
    assert!(stage.other.is_alive(), "the other queue serves");
    assert!(stage.queue.is_alive(), "the queue serves");
    assert_eq!(stage.queue.in_flight(), 0, "every head is answered");
    assert!(stage.served.disk().is_connected(), "the session goes on");
    let capacity = DISK_BYTES;
    for asked in stage.node.memory.asked() {
        let end = asked.io.offset_bytes.checked_add(asked.io.bytes);
        assert!(end.is_some_and(|end| end <= capacity), "the image was asked for {asked:?}");
    }
}

/// Tell every story; those that fail are named together.
fn tell_all(cases: &[Case]) {
    let mut failed = Vec::new();
    for case in cases {
        let told = catch_unwind(AssertUnwindSafe(|| {
            let mut stage = Stage::new();
            (case.tell)(&mut stage);
            epilogue(&mut stage);
        }));
        if told.is_err() {
            eprintln!("^^^ {}: {}", case.id, case.story);
            failed.push(case.id);
        }
    }
    assert_eq!(failed, Vec::<&str>::new(), "entries of the catalogue that failed");
}

#[test]
fn the_catalogue_is_complete() {
    let all = chains::CASES.iter().chain(requests::CASES).chain(rings::CASES);
    let mut ids: Vec<&str> = all.map(|case| case.id).collect();
    ids.sort_unstable();
    let expected: Vec<String> = (1..=47).map(|number| format!("G-{number:02}")).collect();
    assert_eq!(ids, expected);
}
