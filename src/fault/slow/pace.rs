//! Rates: so many bytes, so many requests a second.
//!
//! Knows: a token bucket kept as a virtual clock. Must not know: the real clock. Invariant: over
//! any span of time no more passes than the rate times the span plus the burst and one request.

use serde::{Deserialize, Serialize};

use super::SECOND_NS;

/// A limit: units a second, and how many may pass at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u64, u64)", into = "(u64, u64)")]
pub struct Rate {
    per_second: u64,
    burst: u64,
}

/// Why there is no such rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRate {
    /// A rate of nothing, or beyond a billion times a billion.
    #[error("expects at least 1 a second, and at most {PER_SECOND_MAX}")]
    PerSecond,
}

const PER_SECOND_MAX: u64 = 1_000_000_000_000;

impl Rate {
    /// A rate. Without a burst, a tenth of a second's worth may pass at once, as in QEMU's
    /// throttle groups.
    ///
    /// # Errors
    /// A rate of 0 or beyond 10^12.
    pub fn new(per_second: u64, burst: Option<u64>) -> Result<Self, BadRate> {
        if per_second == 0 || per_second > PER_SECOND_MAX {
            return Err(BadRate::PerSecond);
        }
        Ok(Self { per_second, burst: burst.unwrap_or(per_second / 10) })
    }

    /// Units a second.
    #[must_use]
    pub fn per_second(self) -> u64 {
        self.per_second
    }

    /// Units that may pass at once after a pause.
    #[must_use]
    pub fn burst(self) -> u64 {
        self.burst
    }

    /// How long this many units take at the rate, nanoseconds.
    fn time_ns(self, units: u64) -> u64 {
        let ns = u128::from(units) * u128::from(SECOND_NS) / u128::from(self.per_second);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

/// A bucket that fills at its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Bucket {
    /// When everything that passed so far would have passed at the rate.
    paid_until_ns: u64,
}

impl Bucket {
    /// Take units out at this time. Tells how long to wait until they are there, nanoseconds.
    pub(super) fn take(&mut self, rate: Rate, units: u64, now_ns: u64) -> u64 {
        let oldest_ns = now_ns.saturating_sub(rate.time_ns(rate.burst));
        let from_ns = self.paid_until_ns.max(oldest_ns);
        self.paid_until_ns = from_ns.saturating_add(rate.time_ns(units));
        from_ns.saturating_sub(now_ns)
    }
}

impl TryFrom<(u64, u64)> for Rate {
    type Error = BadRate;

    fn try_from((per_second, burst): (u64, u64)) -> Result<Self, BadRate> {
        Self::new(per_second, Some(burst))
    }
}

impl From<Rate> for (u64, u64) {
    fn from(rate: Rate) -> Self {
        (rate.per_second, rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_runs_at_the_rate() {
        let rate = Rate::new(1000, Some(0)).unwrap();
        let mut bucket = Bucket::default();
        let last = (0..=1000).map(|_| bucket.take(rate, 1, 0)).last();
        assert_eq!(last, Some(SECOND_NS));
    }

    #[test]
    fn a_burst_passes_after_a_pause_and_no_more() {
        let rate = Rate::new(1000, Some(10)).unwrap();
        let mut bucket = Bucket::default();
        let now_ns = 5 * SECOND_NS;
        let free = (0..100).filter(|_| bucket.take(rate, 1, now_ns) == 0).count();
        assert_eq!(free, 11);
    }

    proptest::proptest! {
        #[test]
        fn no_span_lets_more_pass_than_the_rate(
            steps in proptest::collection::vec((0_u64..2_000_000, 1_u64..100), 1..60),
            per_second in 1_000_u64..100_000, burst in 0_u64..50,
        ) {
            let rate = Rate::new(per_second, Some(burst)).unwrap();
            let mut bucket = Bucket::default();
            let mut now_ns = 0;
            let mut passed: Vec<(u64, u64)> = Vec::new();
            for (step_ns, units) in steps {
                now_ns += step_ns;
                passed.push((now_ns + bucket.take(rate, units, now_ns), units));
            }
            for (place, (from_ns, _)) in passed.iter().enumerate() {
                for (to_place, (to_ns, last)) in passed.iter().enumerate().skip(place) {
                    let units: u64 = passed[place..=to_place].iter().map(|(_, u)| u).sum();
                    let span_ns = to_ns.saturating_sub(*from_ns);
                    let allowed = rate.per_second() * span_ns / SECOND_NS + burst + last + 1;
                    proptest::prop_assert!(units <= allowed, "{units} in {span_ns} ns: {passed:?}");
                }
            }
        }
    }

    #[test]
    fn a_rate_of_nothing_is_refused() {
        assert!(Rate::new(0, None).is_err());
    }
}
