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
    pub mod fuse;
}

mod sweep;
mod workload;

/// The runs are to be as long as when the figures were taken, instead of as short as will do.
fn is_long() -> bool {
    std::env::var_os("BLKFAULT_LONG").is_some_and(|value| value == "1")
}
