//! The guest's door, told as stories of an honest front end.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test may fail")]

#[path = "../support"]
mod support {
    pub mod backend;
    pub mod daemon;
    pub mod front;
    pub mod nodes;
    pub mod operator;
}

mod deaf;
mod framing;
mod load;
mod migration;
mod requests;
mod session;
mod state_contract;
mod stopping;

/// A connected front end with one running queue, everything negotiated.
fn front_with_queue(socket: &std::path::Path) -> (support::front::Front, support::front::Queue) {
    let mut front = support::front::Front::connect(socket);
    front.negotiate(support::front::feature::ALL);
    let queue = front.start_queues(1, 128).remove(0);
    (front, queue)
}

/// Bytes that differ from place to place.
fn pattern(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| ((at / 7) as u8) ^ (at as u8).wrapping_mul(31) ^ seed).collect()
}
