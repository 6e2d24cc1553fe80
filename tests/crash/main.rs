//! The daemon dies with requests in flight and comes back: nothing is lost, done after its answer,
//! or left hanging.
//!
//! The short runs are part of every test run; `BLKFAULT_LONG=1` makes them as long as the figures in
//! README were measured.

#![allow(clippy::unwrap_used, reason = "a test panics when it fails")]
#![allow(clippy::cast_possible_truncation, reason = "sizes here are the test's own and small")]

#[path = "../support"]
mod support {
    pub mod daemon;
    pub mod front;
    pub mod guest;
    pub mod load;
    pub mod operator;
}

mod cache;
mod faults;
mod kills;
mod memory;
mod restart;

/// A short number, or the one that the figures were measured with.
fn times(short: u32, long: u32) -> u32 {
    if std::env::var_os("BLKFAULT_LONG").is_some_and(|value| value == "1") { long } else { short }
}
