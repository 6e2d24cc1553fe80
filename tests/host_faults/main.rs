//! Hosts that fail: what the guest is told is true.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::cast_possible_truncation, reason = "sizes here are the test's own and small")]

#[path = "../block/driver.rs"]
#[allow(dead_code, reason = "shared with tests/block")]
mod driver;
#[path = "../block/host.rs"]
#[allow(dead_code, reason = "shared with tests/block")]
mod host;
#[path = "../support"]
mod support {
    pub mod daemon;
    pub mod front;
    pub mod fuse;
    pub mod load;
    pub mod operator;
}

mod changes;
mod late_writes;
mod limits;
mod sweep;
mod workload;

/// The runs are to be as long as when the figures were taken, instead of as short as will do.
fn is_long() -> bool {
    std::env::var_os("BLKFAULT_LONG").is_some_and(|value| value == "1")
}

/// A short number, or the one that the figures were measured with.
fn times(short: u32, long: u32) -> u32 {
    if is_long() { long } else { short }
}
