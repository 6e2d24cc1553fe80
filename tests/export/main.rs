//! The guest's door, told as stories of an honest front end.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test may fail")]

#[path = "../support"]
mod support {
    pub mod backend;
    pub mod daemon;
    pub mod front;
    pub mod nodes;
    pub mod operator;
    pub mod process;
}

mod deaf;
mod faults;
mod framing;
mod held;
mod load;
mod migration;
mod ordinals;
mod polling;
mod requests;
mod session;
mod state_contract;
mod stopping;
mod stuck;

/// A connected front end with one running queue, everything negotiated.
fn front_with_queue(socket: &std::path::Path) -> (support::front::Front, support::front::Queue) {
    let mut front = support::front::Front::connect(socket);
    front.negotiate(support::front::feature::ALL);
    let queue = front.start_queues(1, 128).remove(0);
    (front, queue)
}

/// Change a disk's faults.
fn configure(served: &support::backend::Served, change: blkfault::fault::engine::Change) {
    served.faults.configure(vec![change]).expect("a good change");
}

/// Put a disk into a state.
fn enter(served: &support::backend::Served, state: blkfault::fault::manual::DiskState) {
    configure(served, blkfault::fault::engine::Change::SetState(state));
}

/// Bytes that differ from place to place.
fn pattern(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| ((at / 7) as u8) ^ (at as u8).wrapping_mul(31) ^ seed).collect()
}
