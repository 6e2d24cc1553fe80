//! A log that strangers cannot fill.
//!
//! Knows: when the last line was written. Must not know: clocks, or what lines say. Invariant: at most
//! one line a second, and none is left out without being counted.

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
}
