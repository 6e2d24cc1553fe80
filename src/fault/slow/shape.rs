//! How a slowdown comes and goes.
//!
//! Knows: time since the slowdown came into force. Must not know: the clock or what is slowed.
//! Invariant: a shape that exists tells one phase for every moment.

use serde::{Deserialize, Serialize};

use super::distribution::{to_f64, to_ns};
use super::{Distribution, Share};

/// A stage of [`Shape::Steps`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// How long it lasts, nanoseconds.
    pub duration_ns: u64,
    /// What delays are multiplied with.
    pub scale: f64,
}

/// A slowdown over time. Times count from when it came into force, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Shape {
    /// From now on, for ever.
    Permanent,
    /// For a while.
    Transient {
        /// When it starts.
        start_ns: u64,
        /// How long it lasts.
        duration_ns: u64,
    },
    /// Again and again nothing moves until the stall is over; between stalls all is well.
    Stalls {
        /// From one stall's start to the next one's.
        period_ns: u64,
        /// How long a stall lasts.
        stall_ns: u64,
    },
    /// Delays grow, or shrink, evenly from one scale to another, and stay.
    Ramp {
        /// The scale at the start.
        from: f64,
        /// The scale at the end.
        to: f64,
        /// How long it takes.
        duration_ns: u64,
    },
    /// One stage after the other; after the last all is well.
    Steps(Vec<Stage>),
    /// Now and then a request takes this much longer.
    Spikes {
        /// The share of requests.
        share: Share,
        /// How much longer.
        delay: Distribution,
    },
}

/// What a shape says about one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Phase {
    /// All is well.
    Off,
    /// Delays are multiplied with this.
    Scaled(f64),
    /// Nothing moves for so many more nanoseconds.
    Stalled(u64),
}

/// Why there is no such shape.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BadShape {
    /// A time of nothing.
    #[error("'{0}' expects more than 0 nanoseconds")]
    Zero(&'static str),
    /// A stall that never ends.
    #[error("'stall-ns' expects less than 'period-ns'")]
    Stall,
    /// A scale that is none.
    #[error("'{0}' expects a number from 0 to {SCALE_MAX}")]
    Scale(&'static str),
    /// No stages, or too many.
    #[error("'steps' expects 1 to {STAGES_MAX} stages")]
    Stages,
    /// A spike's delay.
    #[error(transparent)]
    Delay(#[from] super::BadDistribution),
}

const SCALE_MAX: f64 = 1e6;
const STAGES_MAX: usize = 1024;

impl Shape {
    /// Check the parameters.
    ///
    /// # Errors
    /// The first that is out of its range.
    pub fn check(&self) -> Result<(), BadShape> {
        match self {
            Self::Permanent => Ok(()),
            Self::Transient { duration_ns, .. } => not_zero("duration-ns", *duration_ns),
            Self::Stalls { period_ns, stall_ns } => {
                not_zero("stall-ns", *stall_ns)?;
                if stall_ns < period_ns { Ok(()) } else { Err(BadShape::Stall) }
            }
            Self::Ramp { from, to, duration_ns } => {
                scale("from", *from)?;
                scale("to", *to)?;
                not_zero("duration-ns", *duration_ns)
            }
            Self::Steps(stages) if stages.is_empty() || stages.len() > STAGES_MAX => {
                Err(BadShape::Stages)
            }
            Self::Steps(stages) => stages.iter().try_for_each(|stage| {
                scale("scale", stage.scale)?;
                not_zero("duration-ns", stage.duration_ns)
            }),
            Self::Spikes { delay, .. } => Ok(delay.check()?),
        }
    }

    /// What it says at this time since it came into force.
    pub(super) fn phase(&self, since_ns: u64) -> Phase {
        match self {
            Self::Permanent | Self::Spikes { .. } => Phase::Scaled(1.0),
            Self::Transient { start_ns, duration_ns } => {
                let within = since_ns.checked_sub(*start_ns).is_some_and(|ns| ns < *duration_ns);
                if within { Phase::Scaled(1.0) } else { Phase::Off }
            }
            Self::Stalls { period_ns, stall_ns } => {
                let place_ns = since_ns % (*period_ns).max(1);
                match stall_ns.checked_sub(place_ns) {
                    Some(left_ns) if left_ns > 0 => Phase::Stalled(left_ns),
                    _ => Phase::Off,
                }
            }
            Self::Ramp { from, to, duration_ns } => {
                let part = to_f64(since_ns.min(*duration_ns)) / to_f64((*duration_ns).max(1));
                Phase::Scaled(from + (to - from) * part)
            }
            Self::Steps(stages) => {
                let mut left_ns = since_ns;
                for stage in stages {
                    match left_ns.checked_sub(stage.duration_ns) {
                        Some(later_ns) => left_ns = later_ns,
                        None => return Phase::Scaled(stage.scale),
                    }
                }
                Phase::Off
            }
        }
    }
}

/// A delay multiplied with a scale, nanoseconds.
pub(super) fn scaled(delay_ns: u64, scale: f64) -> u64 {
    to_ns(to_f64(delay_ns) * scale)
}

fn not_zero(name: &'static str, ns: u64) -> Result<(), BadShape> {
    if ns == 0 { Err(BadShape::Zero(name)) } else { Ok(()) }
}

fn scale(name: &'static str, scale: f64) -> Result<(), BadShape> {
    if (0.0..=SCALE_MAX).contains(&scale) { Ok(()) } else { Err(BadShape::Scale(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transient_slowdown_starts_and_ends() {
        let shape = Shape::Transient { start_ns: 10, duration_ns: 5 };
        let on = |ns| shape.phase(ns) == Phase::Scaled(1.0);
        assert_eq!([9, 10, 14, 15].map(on), [false, true, true, false]);
    }

    #[test]
    fn a_stall_holds_until_it_is_over() {
        let shape = Shape::Stalls { period_ns: 100, stall_ns: 30 };
        assert_eq!(shape.phase(0), Phase::Stalled(30));
        assert_eq!(shape.phase(129), Phase::Stalled(1));
        assert_eq!(shape.phase(130), Phase::Off);
    }

    #[test]
    fn a_ramp_rises_evenly_and_stays() {
        let shape = Shape::Ramp { from: 0.0, to: 4.0, duration_ns: 100 };
        assert_eq!(shape.phase(50), Phase::Scaled(2.0));
        assert_eq!(shape.phase(1000), Phase::Scaled(4.0));
    }

    #[test]
    fn steps_follow_each_other_and_end() {
        let stage = |duration_ns, scale| Stage { duration_ns, scale };
        let shape = Shape::Steps(vec![stage(10, 1.0), stage(5, 3.0)]);
        assert_eq!(shape.phase(9), Phase::Scaled(1.0));
        assert_eq!(shape.phase(10), Phase::Scaled(3.0));
        assert_eq!(shape.phase(15), Phase::Off);
    }

    #[test]
    fn bad_shapes_are_told_by_member() {
        let bad = [
            (Shape::Stalls { period_ns: 5, stall_ns: 5 }, "'stall-ns'"),
            (Shape::Ramp { from: -1.0, to: 1.0, duration_ns: 1 }, "'from'"),
            (Shape::Steps(vec![]), "'steps'"),
            (Shape::Transient { start_ns: 0, duration_ns: 0 }, "'duration-ns'"),
        ];
        for (shape, named) in bad {
            assert!(shape.check().unwrap_err().to_string().starts_with(named), "{shape:?}");
        }
    }
}
