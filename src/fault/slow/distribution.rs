//! How long a delay is.
//!
//! Knows: six families and their inverse functions. Must not know: what is delayed. Invariant: a
//! distribution that exists yields a finite delay up to [`DELAY_MAX_NS`] for every draw.

use serde::{Deserialize, Serialize};

use super::SECOND_NS;
use crate::fault::random::Stream;

/// No delay is longer than an hour, whatever the tail of its distribution says. Nanoseconds.
pub const DELAY_MAX_NS: u64 = 3600 * SECOND_NS;

/// A point of an empirical distribution: this share of requests take at most this long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// From 0 to 1.
    pub share: f64,
    /// Nanoseconds.
    pub delay_ns: u64,
}

/// A distribution of delays. All times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Distribution {
    /// Always the same.
    Fixed {
        /// The delay.
        delay_ns: u64,
    },
    /// Every delay between two, both included, equally often.
    Uniform {
        /// The shortest.
        min_ns: u64,
        /// The longest.
        max_ns: u64,
    },
    /// Exponential: many short ones, few long ones.
    Exponential {
        /// The mean.
        mean_ns: u64,
    },
    /// Lognormal: the logarithm is normal.
    Lognormal {
        /// Half the delays are shorter.
        median_ns: u64,
        /// Standard deviation of the natural logarithm.
        sigma: f64,
    },
    /// Pareto: a heavy tail.
    Pareto {
        /// The shortest delay.
        min_ns: u64,
        /// The tail index: the smaller, the heavier.
        alpha: f64,
    },
    /// Measured quantiles, straight lines between them.
    Quantiles(Vec<Quantile>),
}

/// Why there is no such distribution.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BadDistribution {
    /// A time beyond the limit.
    #[error("'{0}' expects at most {DELAY_MAX_NS} nanoseconds (an hour)")]
    TooLong(&'static str),
    /// A time that has to be more than 0.
    #[error("'{0}' expects more than 0 nanoseconds")]
    Zero(&'static str),
    /// Bounds the wrong way round.
    #[error("'max-ns' expects at least 'min-ns'")]
    Bounds,
    /// A parameter that is no positive number.
    #[error("'{0}' expects a number above 0 and up to {1}")]
    Parameter(&'static str, f64),
    /// Quantiles that are no distribution.
    #[error(
        "'quantiles' expects 2 to {QUANTILES_MAX} points with shares rising from 0 to 1 and delays \
         that never fall"
    )]
    Quantiles,
}

/// Most points of an empirical distribution.
const QUANTILES_MAX: usize = 1024;
const SIGMA_MAX: f64 = 10.0;
const ALPHA_MAX: f64 = 1000.0;

impl Distribution {
    /// Check the parameters.
    ///
    /// # Errors
    /// The first parameter that is out of its range.
    pub fn check(&self) -> Result<(), BadDistribution> {
        let time = |name, ns: u64| match ns {
            0 => Err(BadDistribution::Zero(name)),
            ns => at_most(name, ns),
        };
        match self {
            Self::Fixed { delay_ns } => at_most("delay-ns", *delay_ns),
            Self::Uniform { min_ns, max_ns } if min_ns > max_ns => Err(BadDistribution::Bounds),
            Self::Uniform { max_ns, .. } => at_most("max-ns", *max_ns),
            Self::Exponential { mean_ns } => time("mean-ns", *mean_ns),
            Self::Lognormal { median_ns, sigma } => {
                time("median-ns", *median_ns)?;
                positive("sigma", *sigma, SIGMA_MAX)
            }
            Self::Pareto { min_ns, alpha } => {
                time("min-ns", *min_ns)?;
                positive("alpha", *alpha, ALPHA_MAX)
            }
            Self::Quantiles(points) => check_quantiles(points),
        }
    }

    /// A delay, nanoseconds.
    #[must_use]
    pub fn draw(&self, stream: &mut Stream) -> u64 {
        let ns = match self {
            Self::Fixed { delay_ns } => return (*delay_ns).min(DELAY_MAX_NS),
            Self::Uniform { min_ns, max_ns } => {
                let width = to_f64(max_ns.saturating_sub(*min_ns)) + 1.0;
                return min_ns.saturating_add(to_ns((stream.next_unit() * width).floor()));
            }
            Self::Exponential { mean_ns } => -to_f64(*mean_ns) * open_unit(stream).ln(),
            Self::Lognormal { median_ns, sigma } => {
                to_f64(*median_ns) * (sigma * normal(stream)).exp()
            }
            Self::Pareto { min_ns, alpha } => {
                to_f64(*min_ns) * open_unit(stream).powf(-alpha.recip())
            }
            Self::Quantiles(points) => interpolate(points, stream.next_unit()),
        };
        to_ns(ns)
    }
}

fn at_most(name: &'static str, ns: u64) -> Result<(), BadDistribution> {
    if ns > DELAY_MAX_NS { Err(BadDistribution::TooLong(name)) } else { Ok(()) }
}

fn positive(name: &'static str, number: f64, max: f64) -> Result<(), BadDistribution> {
    if number > 0.0 && number <= max { Ok(()) } else { Err(BadDistribution::Parameter(name, max)) }
}

fn check_quantiles(points: &[Quantile]) -> Result<(), BadDistribution> {
    let rises = |pair: &[Quantile]| match pair {
        [a, b] => a.share < b.share && a.delay_ns <= b.delay_ns,
        _ => false,
    };
    let ends = match points {
        [first, .., last] => first.share == 0.0 && last.share == 1.0,
        _ => false,
    };
    if !ends || points.len() > QUANTILES_MAX || !points.windows(2).all(rises) {
        return Err(BadDistribution::Quantiles);
    }
    points.last().map_or(Ok(()), |last| at_most("quantiles", last.delay_ns))
}

/// A number in (0, 1], for logarithms.
fn open_unit(stream: &mut Stream) -> f64 {
    1.0 - stream.next_unit()
}

/// A standard normal number (Box and Muller).
fn normal(stream: &mut Stream) -> f64 {
    let radius = (-2.0 * open_unit(stream).ln()).sqrt();
    radius * (std::f64::consts::TAU * stream.next_unit()).cos()
}

fn interpolate(points: &[Quantile], unit: f64) -> f64 {
    let after = points.partition_point(|point| point.share <= unit);
    let Some(before) = after.checked_sub(1).and_then(|place| points.get(place)) else {
        return 0.0;
    };
    let Some(next) = points.get(after) else {
        return to_f64(before.delay_ns);
    };
    let part = (unit - before.share) / (next.share - before.share);
    to_f64(before.delay_ns) + part * to_f64(next.delay_ns.saturating_sub(before.delay_ns))
}

#[allow(clippy::cast_precision_loss)] // Delays are below 2^53 ns.
pub(super) fn to_f64(ns: u64) -> f64 {
    ns as f64
}

/// A delay within its limits; not-a-number is 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Clamped before the cast.
pub(super) fn to_ns(ns: f64) -> u64 {
    (ns.clamp(0.0, DELAY_MAX_NS as f64) as u64).min(DELAY_MAX_NS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::slow::MILLISECOND_NS;

    const DRAWS: u64 = 20_000;
    /// Kolmogorov-Smirnov: the 99.9 % quantile of sqrt(n) * D for large n.
    const KS_MAX: f64 = 1.95;

    fn draws(distribution: &Distribution) -> Vec<u64> {
        distribution.check().unwrap();
        let draw = |ordinal| distribution.draw(&mut Stream::new(3, "d", ordinal));
        let mut draws: Vec<u64> = (0..DRAWS).map(draw).collect();
        draws.sort_unstable();
        draws
    }

    /// The largest distance between the draws and a distribution function, times sqrt(n).
    fn distance(distribution: &Distribution, function: impl Fn(f64) -> f64) -> f64 {
        let draws = draws(distribution);
        let n = draws.len() as f64;
        let apart = |(place, ns): (usize, &u64)| {
            let expected = function(*ns as f64);
            (expected - place as f64 / n).abs().max((expected - (place + 1) as f64 / n).abs())
        };
        draws.iter().enumerate().map(apart).fold(0.0, f64::max) * n.sqrt()
    }

    /// Abramowitz and Stegun 7.1.26, good to 1.5e-7.
    fn normal_cdf(x: f64) -> f64 {
        let t = 1.0 / (1.0 + 0.327_591_1 * x.abs() / std::f64::consts::SQRT_2);
        let series = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
        let sum = series.iter().rev().fold(0.0, |sum, a| (sum + a) * t);
        let erf = 1.0 - sum * (-x * x / 2.0).exp();
        if x < 0.0 { (1.0 - erf) / 2.0 } else { (1.0 + erf) / 2.0 }
    }

    #[test]
    fn every_family_has_the_distribution_of_its_name() {
        let ms = MILLISECOND_NS;
        let uniform = Distribution::Uniform { min_ns: ms, max_ns: 3 * ms };
        let d = distance(&uniform, |x| ((x - 1e6) / 2e6).clamp(0.0, 1.0));
        assert!(d < KS_MAX, "uniform {d}");
        let d = distance(&Distribution::Exponential { mean_ns: ms }, |x| 1.0 - (-x / 1e6).exp());
        assert!(d < KS_MAX, "exponential {d}");
        let lognormal = Distribution::Lognormal { median_ns: ms, sigma: 0.7 };
        let d = distance(&lognormal, |x| normal_cdf((x / 1e6).ln() / 0.7));
        assert!(d < KS_MAX, "lognormal {d}");
        let pareto = Distribution::Pareto { min_ns: ms, alpha: 1.5 };
        let d = distance(&pareto, |x| 1.0 - (1e6 / x).powf(1.5));
        assert!(d < KS_MAX, "pareto {d}");
        let points = [(0.0, ms), (0.99, 2 * ms), (1.0, 50 * ms)]
            .map(|(share, delay_ns)| Quantile { share, delay_ns });
        let d = distance(&Distribution::Quantiles(points.to_vec()), |x| {
            if x <= 2e6 { (x - 1e6) / 1e6 * 0.99 } else { 0.99 + (x - 2e6) / 48e6 * 0.01 }
        });
        assert!(d < KS_MAX, "quantiles {d}");
    }

    #[test]
    fn the_test_above_would_notice_a_wrong_parameter() {
        let wrong = Distribution::Exponential { mean_ns: MILLISECOND_NS * 21 / 20 };
        assert!(distance(&wrong, |x| 1.0 - (-x / 1e6).exp()) > KS_MAX);
    }

    #[test]
    fn fixed_is_fixed_and_uniform_reaches_both_ends() {
        let fixed = Distribution::Fixed { delay_ns: 7 };
        assert!(draws(&fixed).iter().all(|ns| *ns == 7));
        let coin = draws(&Distribution::Uniform { min_ns: 4, max_ns: 5 });
        assert_eq!((coin[0], coin[coin.len() - 1]), (4, 5));
    }

    #[test]
    fn no_tail_is_longer_than_the_limit() {
        let wild = Distribution::Pareto { min_ns: DELAY_MAX_NS / 2, alpha: 0.01 };
        let draws = draws(&wild);
        assert_eq!(draws[draws.len() - 1], DELAY_MAX_NS);
    }

    #[test]
    fn bad_parameters_are_named() {
        let q = |share, delay_ns| Quantile { share, delay_ns };
        let bad = [
            (Distribution::Fixed { delay_ns: DELAY_MAX_NS + 1 }, "'delay-ns'"),
            (Distribution::Uniform { min_ns: 2, max_ns: 1 }, "'max-ns'"),
            (Distribution::Exponential { mean_ns: 0 }, "'mean-ns'"),
            (Distribution::Lognormal { median_ns: 1, sigma: f64::NAN }, "'sigma'"),
            (Distribution::Pareto { min_ns: 1, alpha: 0.0 }, "'alpha'"),
            (Distribution::Quantiles(vec![]), "'quantiles'"),
            (Distribution::Quantiles(vec![q(0.0, 1), q(0.9, 2)]), "'quantiles'"),
            (Distribution::Quantiles(vec![q(0.0, 2), q(1.0, 1)]), "'quantiles'"),
        ];
        for (distribution, named) in bad {
            let error = distribution.check().unwrap_err().to_string();
            assert!(error.starts_with(named), "{error}");
        }
    }
}
