//! How long a ring that stops waits for what is at the image.
//!
//! Knows: which requests may be answered before they have ended. Must not know: rings, threads or
//! the clock. Invariant: it ends; the front end's main loop is waiting for the stop.
//!
//! An answer hands a request's memory back to the guest. What writes the image only reads that
//! memory, so nothing of the guest's is hurt when it ends later than its answer; a read that ends
//! later puts old data into memory which the guest has put to another use. So reads are given more
//! time.

use std::time::{Duration, Instant};

/// For everything but reads. QEMU's main loop should not stand for longer than a second.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_millis(800);
/// For reads.
const READS_TIMEOUT: Duration = Duration::from_secs(5);
/// For rings that stop after another of their session was found stuck: what is not stuck ends.
const NEXT_TIMEOUT: Duration = Duration::from_millis(100);

/// Until when a ring that stops waits; then what is left is answered with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    others_until: Instant,
    reads_until: Instant,
}

impl Patience {
    /// For a ring that stops now and goes on later. `stuck_since` is when the first ring began to
    /// stop of those whose requests did not end in time: all share one deadline.
    pub(super) fn to_drain(now: Instant, stuck_since: Option<Instant>) -> Self {
        let began = stuck_since.unwrap_or(now);
        let until = |timeout| (began + timeout).max(now + NEXT_TIMEOUT);
        Self { others_until: until(STOP_TIMEOUT), reads_until: until(READS_TIMEOUT) }
    }

    /// For a ring whose requests nobody waits for.
    pub(super) fn to_abandon(now: Instant) -> Self {
        Self { others_until: now + STOP_TIMEOUT, reads_until: now + STOP_TIMEOUT }
    }

    /// Whether a request is not waited for any more.
    pub(super) fn is_over(&self, is_read: bool, now: Instant) -> bool {
        now >= if is_read { self.reads_until } else { self.others_until }
    }

    /// How long until something is over that is not yet; nothing if all is.
    pub(super) fn next(&self, now: Instant) -> Duration {
        let until = if now < self.others_until { self.others_until } else { self.reads_until };
        until.saturating_duration_since(now)
    }

    /// When all is over.
    pub(super) fn end(&self) -> Instant {
        self.others_until.max(self.reads_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_given_more_time_than_the_rest() {
        let now = Instant::now();
        let patience = Patience::to_drain(now, None);
        assert!(!patience.is_over(false, now) && !patience.is_over(true, now));
        let later = now + patience.next(now);
        assert!(patience.is_over(false, later) && !patience.is_over(true, later));
        let last = later + patience.next(later);
        assert!(patience.is_over(true, last));
        assert_eq!((last, patience.next(last)), (patience.end(), Duration::ZERO));
    }

    #[test]
    fn rings_that_stop_after_a_stuck_one_share_its_deadline() {
        let first = Instant::now();
        let now = first + READS_TIMEOUT;
        let patience = Patience::to_drain(now, Some(first));
        assert_eq!(patience.end(), now + NEXT_TIMEOUT);
        assert!(!patience.is_over(true, now), "what is not stuck may still end");
        let soon = Patience::to_drain(first + STOP_TIMEOUT, Some(first));
        assert_eq!(soon.end(), first + READS_TIMEOUT);
    }

    #[test]
    fn nobody_waits_longer_for_reads_that_nobody_hears_of() {
        let now = Instant::now();
        assert_eq!(Patience::to_abandon(now).end(), now + STOP_TIMEOUT);
    }
}
