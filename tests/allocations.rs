//! A request that is read or written asks the allocator for nothing, from its kick to its call.
//!
//! The whole process is counted: the back end in it, and the front end, whose hot path does not allocate
//! either. A binary of its own, because the allocator is everybody's.

#![allow(clippy::unwrap_used, reason = "a test panics when it fails")]

mod support {
    pub mod backend;
    pub mod daemon;
    pub mod front;
    pub mod nodes;
    pub mod operator;
}

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blkfault::block::{Node, NullImage, RawImage, RawOptions};
use blkfault::errno::Errno;
use blkfault::fault::SectorRange;
use blkfault::fault::engine::{Change, Place};
use blkfault::fault::rule::{Effect, Rule, RuleName, Trigger};
use support::backend::{Served, options};
use support::front::{Front, Queue, Status, feature, kind};

/// The system's allocator, which tells how often it was asked.
struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is done by the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DEPTH: u16 = 40;
const ROUNDS: u32 = 500;

/// So many rounds of requests, all of them answered well.
fn go_on_for(queue: &mut Queue, rounds: u32, wanted: u32) {
    for round in 0..rounds {
        for slot in 0..DEPTH {
            let sector = u64::from((round * u32::from(DEPTH) + u32::from(slot)) % 512) * 8;
            queue.start(slot, wanted, sector, 4096);
        }
        queue.kick();
        for _ in 0..DEPTH {
            assert_eq!(queue.finish().status, Status::Ok);
        }
    }
}

/// A rule about sectors that nothing is asked of.
fn rule_about_others() -> Change {
    let sectors = SectorRange::new(7000, 7007).into_iter().collect();
    let trigger = Trigger { sectors, ..Trigger::default() };
    let name = RuleName::new("others").unwrap();
    let rule = Rule::new(name, trigger, Effect::Error(Errno::EIO), false).unwrap();
    Change::AddRule { rule: Box::new(rule), place: Place::Last }
}

/// How often the allocator is asked for these requests, once everything has its size.
fn asked_for(node: Arc<dyn Node>, wanted: u32, is_armed: bool) -> u64 {
    let served = Served::over_shared(node, options(1));
    if is_armed {
        served.faults.configure(vec![rule_about_others()]).unwrap();
    }
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let mut queue = front.start_queues(1, 128).remove(0);
    queue.prepare_slots(DEPTH, 4096);
    go_on_for(&mut queue, ROUNDS, wanted);
    let before = ASKED.load(Ordering::Relaxed);
    go_on_for(&mut queue, ROUNDS, wanted);
    ASKED.load(Ordering::Relaxed) - before
}

#[test]
fn a_request_asks_the_allocator_for_nothing() {
    let on_disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // Its data is carried by the worker itself there.
    let in_memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let requests = ROUNDS * u32::from(DEPTH);
    for wanted in [kind::IN, kind::OUT] {
        let raw = [&on_disk, &in_memory].map(|directory| -> Arc<dyn Node> {
            let path = directory.path().join("image");
            std::fs::write(&path, vec![0; 4 << 20]).unwrap();
            Arc::new(RawImage::open(RawOptions::new(&path)).unwrap())
        });
        let null: Arc<dyn Node> = Arc::new(NullImage::new(4 << 20));
        for node in raw.into_iter().chain([null]) {
            for is_armed in [false, true] {
                let name = format!("{node:?}");
                let asked = asked_for(node.clone(), wanted, is_armed);
                // The export's own thread may be asked something by the test's library meanwhile.
                assert!(
                    asked < 16,
                    "{asked} of {requests} requests (kind {wanted}, a rule: {is_armed}): {name}"
                );
            }
        }
    }
    let before = ASKED.load(Ordering::Relaxed);
    drop(Box::new(7));
    assert!(ASKED.load(Ordering::Relaxed) > before, "the story happened: somebody counts");
}
