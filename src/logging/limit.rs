//! A log that strangers cannot fill.
//!
//! Knows: when the last line was written. Must not know: clocks, or what lines say. Invariant: at most
//! one line a second, unless an end cannot wait for it, and none is left out without being counted.

use std::time::{Duration, Instant};

/// When a line may be written.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    last: Option<Instant>,
    untold: u64,
}

impl LogLimit {
    const PERIOD: Duration = Duration::from_secs(1);

    /// Something is worth a line now. The line, if it may be written, is to say that these many
    /// before it were not.
    pub(crate) fn tell(&mut self, now: Instant) -> Option<u64> {
        let recently = |last| now.saturating_duration_since(last) < Self::PERIOD;
        if self.last.is_some_and(recently) {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }

    /// A line is written now, of those left out. Tells how many there were.
    pub(crate) fn tell_untold(&mut self, now: Instant) -> u64 {
        if self.untold > 0 {
            self.last = Some(now);
        }
        std::mem::take(&mut self.untold)
    }

    /// When those left out may have a line of their own, if there are any.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.last.filter(|_| self.untold > 0).map(|last| last + Self::PERIOD)
    }

    /// Whether nothing is known that a new limit would not know.
    pub(crate) fn is_forgettable(&self, now: Instant) -> bool {
        self.untold == 0 && self.last.is_none_or(|last| last + Self::PERIOD <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_tells_of_those_left_out() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limit = LogLimit::default();
        assert_eq!(limit.tell(at(0)), Some(0));
        assert_eq!(limit.tell(at(10)), None);
        assert_eq!(limit.tell(at(999)), None);
        assert_eq!(limit.tell(at(1000)), Some(2));
        assert_eq!(limit.tell(at(5000)), Some(0));
    }

    #[test]
    fn those_left_out_may_have_a_line_of_their_own() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limit = LogLimit::default();
        assert!(limit.is_forgettable(at(0)) && limit.due().is_none());
        limit.tell(at(0));
        assert!(!limit.is_forgettable(at(999)) && limit.is_forgettable(at(1000)));
        assert_eq!((limit.due(), limit.tell_untold(at(500))), (None, 0));
        limit.tell(at(600));
        limit.tell(at(700));
        assert_eq!(limit.due(), Some(at(1000)));
        assert!(!limit.is_forgettable(at(5000)));
        assert_eq!(limit.tell_untold(at(1000)), 2);
        assert_eq!(limit.tell(at(1500)), None, "that was a line");
        assert_eq!(limit.tell_untold(at(1500)), 1);
    }
}
