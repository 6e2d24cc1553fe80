//! The disk under a real guest: Linux on QEMU, its file systems and its operator.
//!
//! Needs the guest that `tests/run` builds; without it each story says that it is left out.

#[path = "../support"]
mod support {
    pub mod daemon;
    /// Compiled by guest-image for the guest; here only so that formatter and linter see it.
    #[path = "guest-load.rs"]
    #[allow(dead_code, reason = "a program of its own")]
    mod guest_load;
    pub mod operator;
    pub mod vm;
}

mod crash;
mod fault_engine;
mod faults;
mod file_systems;
mod full_host;
mod held;
mod lifecycle;
mod migration;
mod mirror;
mod verified;

use std::time::{Duration, Instant};

use support::daemon::counter;
use support::operator::Operator;

/// Longest wait for something to come about; far beyond what it needs on a busy machine.
const WAIT: Duration = Duration::from_secs(120);

/// A short number, or the one that the figures were measured with.
fn times(short: u32, long: u32) -> u32 {
    if std::env::var_os("BLKFAULT_LONG").is_some_and(|value| value == "1") { long } else { short }
}

/// A directory for sockets and images.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Look again and again until it is so.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Wait until the disk has completed this many more writes.
fn wait_for_writes(operator: &mut Operator, id: &str, more: u64) {
    let before = counter(operator, id, "wr_operations");
    wait_until("the guest writes", || counter(operator, id, "wr_operations") >= before + more);
}
