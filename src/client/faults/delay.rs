//! Delays as people write them: `20ms`, or a distribution such as `lognormal:median=2ms,sigma=1.2`.
//!
//! Knows: the families of `BlockFaultDistribution` (`qapi/fault-slow.json`). Must not know: who waits.
//! Pure. Invariant: ranges are the daemon's to check; here a text is understood or refused.

use std::str::FromStr;

use serde_json::{Value, json};

use super::period::Period;
use super::spec::{self, Family, Member, Members, Written};

/// A delay in the monitor's words.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::client) struct Delay(pub(in crate::client) Value);

/// How many requests wait for how long before they fail: `100,20ms`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::client) struct FailAfter(pub(in crate::client) Value);

const FAMILIES: [Family; 6] = [
    Family {
        name: "fixed",
        example: "fixed:delay=20ms",
        members: Members::Named(&[Member::new("delay", "delay-ns", Written::Time)]),
    },
    Family {
        name: "uniform",
        example: "uniform:min=1ms,max=5ms",
        members: Members::Named(&[
            Member::new("min", "min-ns", Written::Time),
            Member::new("max", "max-ns", Written::Time),
        ]),
    },
    Family {
        name: "exponential",
        example: "exponential:mean=2ms",
        members: Members::Named(&[Member::new("mean", "mean-ns", Written::Time)]),
    },
    Family {
        name: "lognormal",
        example: "lognormal:median=2ms,sigma=1.2",
        members: Members::Named(&[
            Member::new("median", "median-ns", Written::Time),
            Member::new("sigma", "sigma", Written::Number),
        ]),
    },
    Family {
        name: "pareto",
        example: "pareto:min=1ms,alpha=1.5",
        members: Members::Named(&[
            Member::new("min", "min-ns", Written::Time),
            Member::new("alpha", "alpha", Written::Number),
        ]),
    },
    Family {
        name: "quantiles",
        example: "quantiles:0=1ms,0.5=2ms,0.99=20ms,1=500ms",
        members: Members::Pairs {
            list: "quantiles",
            left: Member::new("share", "share", Written::Number),
            right: Member::new("delay", "delay-ns", Written::Time),
        },
    },
];

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let Period(nanoseconds) = text.parse()?;
            return Ok(Self(json!(nanoseconds)));
        }
        let what = "a delay, which is a time such as 20ms or a distribution";
        spec::read(text, &FAMILIES, "distribution", what).map(|read| Self(Value::Object(read)))
    }
}

impl FromStr for FailAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}': write how many requests, a comma and a delay: 100,20ms");
        let (requests, delay) = text.split_once(',').ok_or_else(bad)?;
        let requests: u64 = requests.parse().map_err(|_| bad())?;
        let Delay(delay) = delay.parse()?;
        Ok(Self(json!({ "requests": requests, "delay": delay })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qapi::types::BlockFaultDistributionKind;

    #[test]
    fn a_delay_is_a_time_or_a_distribution_with_units() {
        let cases = [
            ("20ms", json!(20_000_000)),
            ("fixed:delay=1s", json!({"distribution": "fixed", "delay-ns": 1_000_000_000})),
            (
                "uniform:min=1ms,max=5ms",
                json!({"distribution": "uniform", "min-ns": 1_000_000, "max-ns": 5_000_000}),
            ),
            ("exponential:mean=2us", json!({"distribution": "exponential", "mean-ns": 2000})),
            (
                "lognormal:sigma=1.2,median=2ms",
                json!({"distribution": "lognormal", "sigma": 1.2, "median-ns": 2_000_000}),
            ),
            (
                "pareto:min=1ms,alpha=1.5",
                json!({"distribution": "pareto", "min-ns": 1_000_000, "alpha": 1.5}),
            ),
            (
                "quantiles:0=1us,0.5=2us,1=1ms",
                json!({"distribution": "quantiles", "quantiles": [
                    {"share": 0.0, "delay-ns": 1000}, {"share": 0.5, "delay-ns": 2000},
                    {"share": 1.0, "delay-ns": 1_000_000}]}),
            ),
        ];
        for (text, delay) in cases {
            assert_eq!(text.parse(), Ok(Delay(delay)), "{text}");
        }
    }

    #[test]
    fn every_example_is_accepted_and_every_family_of_the_schema_has_one() {
        let known = BlockFaultDistributionKind::ALL.iter().map(|kind| kind.as_str());
        assert_eq!(FAMILIES.map(|family| family.name).to_vec(), known.collect::<Vec<_>>());
        for family in FAMILIES {
            assert!(family.example.parse::<Delay>().is_ok(), "{}", family.example);
        }
    }

    #[test]
    fn what_is_no_delay_is_answered_with_what_would_be() {
        let cases = [
            ("5", "'5' is not a time"),
            ("", "lognormal:median=2ms,sigma=1.2 pareto:min=1ms,alpha=1.5 quantiles:0=1ms"),
            ("lognorml:median=2ms", "did you mean 'lognormal'?"),
            ("lognormal", "'median' is missing; write lognormal:median=2ms,sigma=1.2"),
            ("lognormal:median=2ms", "'sigma' is missing; write lognormal:"),
            ("lognormal:median=2ms,sgima=1", "there is no 'sgima' here, did you mean 'sigma'?"),
            ("lognormal:median=2ms,median=3ms,sigma=1", "'median' is given twice"),
            ("lognormal:median=2,sigma=1", "median: '2' is not a time"),
            ("lognormal:median=2ms,sigma=inf", "sigma: 'inf' is not a number"),
            ("uniform:1ms", "'1ms' has no '='; write uniform:min=1ms,max=5ms"),
            ("quantiles:", "'' has no '='; write quantiles:0=1ms"),
            ("quantiles:x=1ms", "share: 'x' is not a number"),
        ];
        for (text, why) in cases {
            let error = text.parse::<Delay>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn what_fails_later_says_when_and_how_slow_it_is_before() {
        let uniform = json!({"distribution": "uniform", "min-ns": 1, "max-ns": 2});
        let cases = [
            ("100,20ms", json!({"requests": 100, "delay": 20_000_000})),
            ("3,uniform:min=1ns,max=2ns", json!({"requests": 3, "delay": uniform})),
        ];
        for (text, fail_after) in cases {
            assert_eq!(text.parse(), Ok(FailAfter(fail_after)), "{text}");
        }
        for bad in ["100", "20ms,100", "-1,20ms", "100,", "100,soon"] {
            assert!(bad.parse::<FailAfter>().is_err(), "{bad}");
        }
    }
}
