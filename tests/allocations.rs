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

const DEPTH: u16 = 8;
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

/// How often the allocator is asked for these requests, once everything has its size.
fn asked_for(node: Arc<dyn Node>, wanted: u32) -> u64 {
    let served = Served::over_shared(node, options(1));
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
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    std::fs::write(&path, vec![0; 4 << 20]).unwrap();
    let requests = u64::from(ROUNDS) * u64::from(DEPTH);
    for wanted in [kind::IN, kind::OUT] {
        let nodes: [Arc<dyn Node>; 2] = [
            Arc::new(NullImage::new(4 << 20)),
            Arc::new(RawImage::open(RawOptions::new(&path)).unwrap()),
        ];
        for node in nodes {
            let name = format!("{node:?}");
            let asked = asked_for(node, wanted);
            // The export's own thread may be asked something by the test's library meanwhile.
            assert!(
                asked < requests / 100,
                "{asked} of {requests} requests (kind {wanted}): {name}"
            );
        }
    }
    let before = ASKED.load(Ordering::Relaxed);
    drop(Box::new(7));
    assert!(ASKED.load(Ordering::Relaxed) > before, "the story happened: somebody counts");
}
