//! Whether the host keeps a worker that asked it not to wait.
//!
//! Pure: times are arguments. Knows: how long a call took that was to wait for nothing. Must not know:
//! which. Invariant: of a worker's time, at most a hundredth goes into being kept for [`LONG`] or more, but
//! for the first time; what is shorter is not noticed.
//!
//! To begin to read a file, Linux looks up where it lies, and reads the file system's own tables for that
//! if they are not in memory; nothing that the caller may say keeps it from that (`RWF_NOWAIT`; io_uring's
//! first try). From a device that needs seconds for a request, seen with ext4 of Linux 6.18: 3 to 4 s in
//! `preadv2`, and as long in `io_uring_enter` for each request submitted.

use std::time::{Duration, Instant};

/// Kept for as long as this, a worker is wary. Longer than it may lack a processor on a busy host.
const LONG: Duration = Duration::from_millis(100);
/// How many times as long.
const TIMES: u32 = 100;

/// What was learnt.
#[derive(Debug, Default)]
pub(super) struct Wary {
    until: Option<Instant>,
}

impl Wary {
    /// A call that was to wait for nothing took so long.
    pub(super) fn learn(&mut self, began: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(began);
        if took >= LONG {
            self.until = ended.checked_add(took.saturating_mul(TIMES));
        }
    }

    /// Whether another thread had better make such a call. The time is asked for only if it matters.
    pub(super) fn is_wary(&mut self, now: impl FnOnce() -> Instant) -> bool {
        let is_wary = self.until.is_some_and(|until| now() < until);
        if !is_wary {
            self.until = None;
        }
        is_wary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_kept_for_long_is_wary_a_hundred_times_as_long() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut wary = Wary::default();
        wary.learn(at(0), at(99));
        assert!(!wary.is_wary(|| panic!("nobody needs the time")));
        wary.learn(at(1000), at(3000));
        assert!(wary.is_wary(|| at(3000)) && wary.is_wary(|| at(202_999)));
        assert!(!wary.is_wary(|| at(203_000)));
        assert!(!wary.is_wary(|| panic!("it is over")));
    }
}
