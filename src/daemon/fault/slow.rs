//! Slow disks as operators write them.
//!
//! Knows: the schema's and the engine's words for delays, rates, shapes and profiles. Must not know:
//! what a profile does. Invariant: what is rendered is parsed back to the same.

use super::words::{
    bad, parse_iotypes, parse_sectors, parse_share, refused, render_share, render_some_iotypes,
    render_some_sectors, within,
};
use crate::fault::slow::{
    Distribution, Preset, Profile, ProfileOptions, Quantile, Rate, Shape, Stage,
};
use crate::qapi::QmpError;
use crate::qapi::types::{
    BlockFaultDelay, BlockFaultDelayExponential, BlockFaultDelayLognormal, BlockFaultDelayPareto,
    BlockFaultDelayQuantiles, BlockFaultDelayUniform, BlockFaultDistribution,
    BlockFaultDistributionVariant as Family, BlockFaultPreset, BlockFaultProfile,
    BlockFaultQuantile, BlockFaultRate, BlockFaultShape, BlockFaultShapePermanent,
    BlockFaultShapeRamp, BlockFaultShapeSpikes, BlockFaultShapeStage, BlockFaultShapeStalls,
    BlockFaultShapeSteps, BlockFaultShapeTransient, BlockFaultShapeVariant as Course,
};

pub(super) fn parse_delay(delay: &BlockFaultDelay) -> Distribution {
    let random = match delay {
        BlockFaultDelay::FixedNs(delay_ns) => return Distribution::Fixed { delay_ns: *delay_ns },
        BlockFaultDelay::Random(random) => &random.variant,
    };
    match random {
        Family::Fixed(d) => Distribution::Fixed { delay_ns: d.delay_ns },
        Family::Uniform(d) => Distribution::Uniform { min_ns: d.min_ns, max_ns: d.max_ns },
        Family::Exponential(d) => Distribution::Exponential { mean_ns: d.mean_ns },
        Family::Lognormal(d) => Distribution::Lognormal { median_ns: d.median_ns, sigma: d.sigma },
        Family::Pareto(d) => Distribution::Pareto { min_ns: d.min_ns, alpha: d.alpha },
        Family::Quantiles(d) => {
            let point = |q: &BlockFaultQuantile| Quantile { share: q.share, delay_ns: q.delay_ns };
            Distribution::Quantiles(d.quantiles.iter().map(point).collect())
        }
    }
}

pub(super) fn render_delay(delay: &Distribution) -> BlockFaultDelay {
    let variant = match delay {
        Distribution::Fixed { delay_ns } => return BlockFaultDelay::FixedNs(*delay_ns),
        Distribution::Uniform { min_ns, max_ns } => {
            Family::Uniform(BlockFaultDelayUniform { min_ns: *min_ns, max_ns: *max_ns })
        }
        Distribution::Exponential { mean_ns } => {
            Family::Exponential(BlockFaultDelayExponential { mean_ns: *mean_ns })
        }
        Distribution::Lognormal { median_ns, sigma } => {
            Family::Lognormal(BlockFaultDelayLognormal { median_ns: *median_ns, sigma: *sigma })
        }
        Distribution::Pareto { min_ns, alpha } => {
            Family::Pareto(BlockFaultDelayPareto { min_ns: *min_ns, alpha: *alpha })
        }
        Distribution::Quantiles(points) => {
            let point = |q: &Quantile| BlockFaultQuantile { share: q.share, delay_ns: q.delay_ns };
            let quantiles = points.iter().map(point).collect();
            Family::Quantiles(BlockFaultDelayQuantiles { quantiles })
        }
    };
    BlockFaultDelay::Random(Box::new(BlockFaultDistribution { variant }))
}

fn parse_rate(member: &str, given: Option<&BlockFaultRate>) -> Result<Option<Rate>, QmpError> {
    let parse = |rate: &BlockFaultRate| {
        Rate::new(rate.per_second, rate.burst).map_err(|error| bad(member, error))
    };
    given.map(parse).transpose()
}

fn render_rate(rate: Rate) -> BlockFaultRate {
    BlockFaultRate { per_second: rate.per_second(), burst: Some(rate.burst()) }
}

fn parse_shape(shape: &BlockFaultShape) -> Result<Shape, QmpError> {
    Ok(match &shape.variant {
        Course::Permanent(_) => Shape::Permanent,
        Course::Transient(s) => {
            Shape::Transient { start_ns: s.start_ns.unwrap_or(0), duration_ns: s.duration_ns }
        }
        Course::Stalls(s) => Shape::Stalls { period_ns: s.period_ns, stall_ns: s.stall_ns },
        Course::Ramp(s) => Shape::Ramp { from: s.from, to: s.to, duration_ns: s.duration_ns },
        Course::Steps(s) => {
            let stage =
                |s: &BlockFaultShapeStage| Stage { duration_ns: s.duration_ns, scale: s.scale };
            Shape::Steps(s.steps.iter().map(stage).collect())
        }
        Course::Spikes(s) => Shape::Spikes {
            share: parse_share("spike-share", Some(s.spike_share))?,
            delay: parse_delay(&s.spike_delay),
        },
    })
}

fn render_shape(shape: &Shape) -> BlockFaultShape {
    let variant = match shape {
        Shape::Permanent => Course::Permanent(BlockFaultShapePermanent {}),
        Shape::Transient { start_ns, duration_ns } => Course::Transient(BlockFaultShapeTransient {
            start_ns: Some(*start_ns),
            duration_ns: *duration_ns,
        }),
        Shape::Stalls { period_ns, stall_ns } => {
            Course::Stalls(BlockFaultShapeStalls { period_ns: *period_ns, stall_ns: *stall_ns })
        }
        Shape::Ramp { from, to, duration_ns } => {
            Course::Ramp(BlockFaultShapeRamp { from: *from, to: *to, duration_ns: *duration_ns })
        }
        Shape::Steps(stages) => {
            let stage =
                |s: &Stage| BlockFaultShapeStage { duration_ns: s.duration_ns, scale: s.scale };
            Course::Steps(BlockFaultShapeSteps { steps: stages.iter().map(stage).collect() })
        }
        Shape::Spikes { share, delay } => Course::Spikes(BlockFaultShapeSpikes {
            spike_share: share.get(),
            spike_delay: render_delay(delay),
        }),
    };
    BlockFaultShape { variant }
}

fn parse_profile(given: &BlockFaultProfile) -> Result<Profile, QmpError> {
    let options = ProfileOptions {
        iotypes: parse_iotypes(given.iotype.as_deref())?,
        sectors: parse_sectors(given.sectors.as_deref())?,
        share: parse_share("share", given.share)?,
        delay: given.delay.as_ref().map(parse_delay),
        bytes_per_second: parse_rate("bytes-per-second", given.bytes_per_second.as_ref())?,
        requests_per_second: parse_rate("requests-per-second", given.requests_per_second.as_ref())?,
        speed: parse_share("speed", given.speed)?,
        shape: given.shape.as_ref().map_or(Ok(Shape::Permanent), parse_shape)?,
    };
    Profile::new(options).map_err(|error| refused(&error))
}

/// Profiles, each named by its place where it is refused.
pub(super) fn parse_profiles(given: &[BlockFaultProfile]) -> Result<Vec<Profile>, QmpError> {
    let parse = |(index, profile)| within("profiles", index, parse_profile(profile));
    given.iter().enumerate().map(parse).collect()
}

pub(super) fn render_profile(profile: &Profile) -> BlockFaultProfile {
    let options = profile.options();
    BlockFaultProfile {
        iotype: render_some_iotypes(options.iotypes),
        sectors: render_some_sectors(&options.sectors),
        share: render_share(options.share),
        delay: options.delay.as_ref().map(render_delay),
        bytes_per_second: options.bytes_per_second.map(render_rate),
        requests_per_second: options.requests_per_second.map(render_rate),
        speed: render_share(options.speed),
        shape: (options.shape != Shape::Permanent).then(|| render_shape(&options.shape)),
    }
}

pub(super) fn parse_preset(preset: BlockFaultPreset) -> Preset {
    match preset {
        BlockFaultPreset::FailSlowPermanent => Preset::FailSlowPermanent,
        BlockFaultPreset::FailSlowTransient => Preset::FailSlowTransient,
        BlockFaultPreset::FailSlowPartial => Preset::FailSlowPartial,
        BlockFaultPreset::FailSlowStop => Preset::FailSlowStop,
        BlockFaultPreset::Limplock => Preset::Limplock,
        BlockFaultPreset::AwsFisSustained => Preset::AwsFisSustained,
        BlockFaultPreset::AwsFisIncreasing => Preset::AwsFisIncreasing,
    }
}

/// The preset that these profiles are, if they are one.
pub(super) fn find_preset(profiles: &[Profile]) -> Option<BlockFaultPreset> {
    let is_it = |preset: &&BlockFaultPreset| parse_preset(**preset).profiles() == profiles;
    BlockFaultPreset::ALL.iter().find(is_it).copied()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::qapi::{Path, Visit};

    fn profile(value: Value) -> Result<Profile, QmpError> {
        parse_profile(&BlockFaultProfile::parse(value, &Path::ROOT)?)
    }

    #[test]
    fn every_preset_has_one_name_and_survives_the_way_out_and_back() {
        assert_eq!(BlockFaultPreset::ALL.len(), Preset::ALL.len());
        for name in BlockFaultPreset::ALL {
            let preset = parse_preset(*name);
            assert_eq!(preset.name(), name.as_str());
            let profiles = preset.profiles();
            let rendered: Vec<_> = profiles.iter().map(render_profile).collect();
            assert_eq!(parse_profiles(&rendered).unwrap(), profiles, "{}", name.as_str());
            assert_eq!(find_preset(&profiles), Some(*name));
        }
    }

    #[test]
    fn every_family_and_shape_survives_the_way_out_and_back() {
        let delays = [
            json!(1000),
            json!({"distribution": "uniform", "min-ns": 1, "max-ns": 2}),
            json!({"distribution": "exponential", "mean-ns": 5}),
            json!({"distribution": "lognormal", "median-ns": 5, "sigma": 0.5}),
            json!({"distribution": "pareto", "min-ns": 5, "alpha": 1.5}),
            json!({"distribution": "quantiles", "quantiles": [
                {"share": 0.0, "delay-ns": 1}, {"share": 1.0, "delay-ns": 9}]}),
        ];
        let shapes = [
            json!({"shape": "transient", "start-ns": 1, "duration-ns": 2}),
            json!({"shape": "stalls", "period-ns": 10, "stall-ns": 2}),
            json!({"shape": "ramp", "from": 0.0, "to": 4.0, "duration-ns": 2}),
            json!({"shape": "steps", "steps": [{"duration-ns": 1, "scale": 2.0}]}),
            json!({"shape": "spikes", "spike-share": 0.5, "spike-delay": 7}),
        ];
        let of = |delay: &Value, shape: &Value| {
            json!({
                "iotype": ["read"], "sectors": ["8-15"], "share": 0.5, "delay": delay,
                "bytes-per-second": {"per-second": 100, "burst": 7},
                "requests-per-second": {"per-second": 9, "burst": 0}, "speed": 0.25, "shape": shape,
            })
        };
        for delay in &delays {
            for shape in &shapes {
                let parsed = profile(of(delay, shape)).unwrap();
                assert_eq!(render_profile(&parsed).to_value(), of(delay, shape));
            }
        }
    }

    #[test]
    fn profiles_that_make_no_sense_are_refused_by_member() {
        let cases = [
            (json!({}), "a slow profile expects a delay"),
            (json!({"delay": 4_000_000_000_000_u64}), "Parameter 'delay-ns' expects at most"),
            (json!({"delay": 1, "share": 1.5}), "Parameter 'share' expects"),
            (json!({"speed": 0}), "Parameter 'speed' expects"),
            (
                json!({"bytes-per-second": {"per-second": 0}}),
                "Parameter 'bytes-per-second' expects",
            ),
            (json!({"delay": 1, "iotype": []}), "Parameter 'iotype' names no request"),
            (
                json!({"delay": 1, "shape": {"shape": "stalls", "period-ns": 1, "stall-ns": 1}}),
                "Parameter 'stall-ns' expects",
            ),
            (
                json!({"shape": {"shape": "spikes", "spike-share": 0.0, "spike-delay": 1}}),
                "Parameter 'spike-share' expects",
            ),
        ];
        for (given, expected) in cases {
            let error = profile(given.clone()).expect_err(expected).to_string();
            assert!(error.starts_with(expected), "{given}: {error}");
        }
    }
}
