//! When a rule is in force.
//!
//! Knows: time since the rule was added, enabled or reset. Must not know: the clock. Invariant: a
//! schedule says yes or no for every moment, and up and down take turns for ever.

use serde::{Deserialize, Serialize};

/// A schedule. All times in nanoseconds since the rule was added, enabled or reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Schedule {
    /// Out of force until then.
    pub start_ns: u64,
    /// Out of force again after so long.
    pub duration_ns: Option<u64>,
    /// From the start on, the disk is up for the first and down, that is the rule is in force, for
    /// the second, again and again, as in dm-flakey.
    pub up_down_ns: Option<(u64, u64)>,
}

/// Why there is no such schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// A rule that would never be in force.
    #[error("'{0}' expects more than 0 nanoseconds")]
    Zero(&'static str),
    /// An interval beyond 64 bits.
    #[error("'up-ns' and 'down-ns' together expect at most 2^63 nanoseconds")]
    TooLong,
}

impl Schedule {
    /// Check the times.
    ///
    /// # Errors
    /// A duration or down interval of 0, or an interval beyond 2^63 ns.
    pub fn check(&self) -> Result<(), BadSchedule> {
        if self.duration_ns == Some(0) {
            return Err(BadSchedule::Zero("duration-ns"));
        }
        match self.up_down_ns {
            Some((_, 0)) => Err(BadSchedule::Zero("down-ns")),
            Some((up, down)) if up.checked_add(down).is_none_or(|sum| sum > 1 << 63) => {
                Err(BadSchedule::TooLong)
            }
            _ => Ok(()),
        }
    }

    /// Whether the rule is in force so long after it was added.
    #[must_use]
    pub fn is_in_force(&self, since_ns: u64) -> bool {
        self.turn(since_ns).0
    }

    /// The same, and when to ask again: until then the answer stays. `None` for ever.
    pub(in crate::fault) fn turn(&self, since_ns: u64) -> (bool, Option<u64>) {
        let Some(running_ns) = since_ns.checked_sub(self.start_ns) else {
            return (false, Some(self.start_ns));
        };
        if self.duration_ns.is_some_and(|duration_ns| running_ns >= duration_ns) {
            return (false, None);
        }
        let (is_down, next_ns) = match self.up_down_ns {
            None => (true, None),
            Some((up_ns, down_ns)) => {
                let period_ns = up_ns.saturating_add(down_ns).max(1);
                let phase_ns = running_ns % period_ns;
                let is_down = phase_ns >= up_ns;
                let turns_at_ns = if is_down { period_ns } else { up_ns };
                (is_down, (running_ns - phase_ns).checked_add(turns_at_ns))
            }
        };
        let next_ns = [next_ns, self.duration_ns].into_iter().flatten().min();
        (is_down, next_ns.and_then(|next_ns| next_ns.checked_add(self.start_ns)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_starts_and_ends() {
        let schedule = Schedule { start_ns: 5, duration_ns: Some(10), ..Schedule::default() };
        assert_eq!([4, 5, 14, 15].map(|ns| schedule.is_in_force(ns)), [false, true, true, false]);
    }

    #[test]
    fn up_and_down_take_turns_as_in_dm_flakey() {
        let schedule = Schedule { up_down_ns: Some((3, 2)), ..Schedule::default() };
        let turns: Vec<bool> = (0..10).map(|ns| schedule.is_in_force(ns)).collect();
        let turn = [false, false, false, true, true];
        assert_eq!(turns, [turn, turn].concat());
    }

    #[test]
    fn a_schedule_that_never_comes_is_refused() {
        let never = [
            Schedule { duration_ns: Some(0), ..Schedule::default() },
            Schedule { up_down_ns: Some((1, 0)), ..Schedule::default() },
            Schedule { up_down_ns: Some((u64::MAX, 1)), ..Schedule::default() },
        ];
        for schedule in never {
            assert!(schedule.check().is_err(), "{schedule:?}");
        }
    }
}
