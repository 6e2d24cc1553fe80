//! Slow disks that were published, ready to use.
//!
//! Knows: what each study or service says. Must not know: how a profile acts. Invariant: every
//! preset is a list of valid profiles; a figure that the source does not give is marked as ours.

use super::profile::ProfileOptions;
use super::{Distribution, MILLISECOND_NS, Profile, Rate, SECOND_NS, Shape, Share, Stage};
use crate::fault::{IoType, IoTypes};

/// A ready-made slow disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Slow from now on. The shape "permanent slowdown" of H. Gunawi et al., "Fail-Slow at Scale",
    /// FAST'18 (101 reports, 12 institutions). The figures are ours: 20 ms median, sigma 0.5.
    FailSlowPermanent,
    /// Slow for a while. The shape "transient slowdown" of the same. The figures are ours: as
    /// above, for five minutes.
    FailSlowTransient,
    /// Slow for some. The shape "partial slowdown" of the same. The figures are ours: one read in
    /// ten takes 100 ms longer, writes are well.
    FailSlowPartial,
    /// Stops and goes on. The shape "transient stop" of the same. The figures are ours: 2 s in
    /// every 30 s.
    FailSlowStop,
    /// One component at a small fraction of its speed, and everything waiting on it: T. Do et al.,
    /// "Limplock", SOCC'13. The figures are ours: 1 MiB a second, and a hundredth of the image's
    /// speed.
    Limplock,
    /// AWS Fault Injection Service, EBS volume latency "sustained": 500 ms on half of the reads and
    /// on all writes, for 15 minutes.
    AwsFisSustained,
    /// The same, "increasing": 50, 200, 700, 1000, 15000 ms, three minutes each, on a tenth of the
    /// reads and a quarter of the writes.
    AwsFisIncreasing,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 7] = [
        Self::FailSlowPermanent,
        Self::FailSlowTransient,
        Self::FailSlowPartial,
        Self::FailSlowStop,
        Self::Limplock,
        Self::AwsFisSustained,
        Self::AwsFisIncreasing,
    ];

    /// The name that operators use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FailSlowPermanent => "fail-slow-permanent",
            Self::FailSlowTransient => "fail-slow-transient",
            Self::FailSlowPartial => "fail-slow-partial",
            Self::FailSlowStop => "fail-slow-stop",
            Self::Limplock => "limplock",
            Self::AwsFisSustained => "aws-fis-sustained",
            Self::AwsFisIncreasing => "aws-fis-increasing",
        }
    }

    /// The preset of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// Its profiles; the first that concerns a request slows it.
    #[must_use]
    pub fn profiles(self) -> Vec<Profile> {
        let lognormal = || Distribution::Lognormal { median_ns: 20 * MILLISECOND_NS, sigma: 0.5 };
        let options = match self {
            Self::FailSlowPermanent => vec![delayed(IoTypes::ALL, 1.0, lognormal())],
            Self::FailSlowTransient => vec![ProfileOptions {
                shape: Shape::Transient { start_ns: 0, duration_ns: 300 * SECOND_NS },
                ..delayed(IoTypes::ALL, 1.0, lognormal())
            }],
            Self::FailSlowPartial => vec![delayed(reads(), 0.1, fixed_ms(100))],
            Self::FailSlowStop => vec![ProfileOptions {
                shape: Shape::Stalls { period_ns: 30 * SECOND_NS, stall_ns: 2 * SECOND_NS },
                ..ProfileOptions::default()
            }],
            Self::Limplock => vec![ProfileOptions {
                bytes_per_second: Rate::new(1 << 20, None).ok(),
                speed: share(0.01),
                ..ProfileOptions::default()
            }],
            Self::AwsFisSustained => [(reads(), 0.5), (writes(), 1.0)]
                .map(|(iotypes, part)| ProfileOptions {
                    shape: Shape::Transient { start_ns: 0, duration_ns: 900 * SECOND_NS },
                    ..delayed(iotypes, part, fixed_ms(500))
                })
                .into(),
            Self::AwsFisIncreasing => [(reads(), 0.1), (writes(), 0.25)]
                .map(|(iotypes, part)| ProfileOptions {
                    shape: Shape::Steps(stages_ms(&[50.0, 200.0, 700.0, 1000.0, 15000.0])),
                    ..delayed(iotypes, part, fixed_ms(1))
                })
                .into(),
        };
        options.into_iter().filter_map(|options| Profile::new(options).ok()).collect()
    }
}

fn reads() -> IoTypes {
    [IoType::Read].into_iter().collect()
}

fn writes() -> IoTypes {
    [IoType::Write, IoType::WriteZeroes].into_iter().collect()
}

fn share(part: f64) -> Share {
    Share::new(part).unwrap_or(Share::ALL)
}

fn fixed_ms(ms: u64) -> Distribution {
    Distribution::Fixed { delay_ns: ms * MILLISECOND_NS }
}

fn delayed(iotypes: IoTypes, part: f64, delay: Distribution) -> ProfileOptions {
    ProfileOptions { iotypes, share: share(part), delay: Some(delay), ..ProfileOptions::default() }
}

/// Three minutes of each delay, for a delay of one millisecond.
fn stages_ms(delays_ms: &[f64]) -> Vec<Stage> {
    delays_ms.iter().map(|scale| Stage { duration_ns: 180 * SECOND_NS, scale: *scale }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_found_by_name_and_loses_no_profile() {
        for preset in Preset::ALL {
            assert_eq!(Preset::find(preset.name()), Some(preset));
            let expected = match preset {
                Preset::AwsFisSustained | Preset::AwsFisIncreasing => 2,
                _ => 1,
            };
            assert_eq!(preset.profiles().len(), expected, "{}", preset.name());
        }
    }
}
