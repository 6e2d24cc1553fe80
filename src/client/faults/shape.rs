//! How slowness comes and goes, as people write it: `stalls:period=30s,stall=2s`; and rates.
//!
//! Knows: the families of `BlockFaultShape` (`qapi/fault-slow.json`). Must not know: who is slow. Pure.
//! Invariant: ranges are the daemon's to check; here a text is understood or refused.

use std::str::FromStr;

use serde_json::{Value, json};

use super::spec::{self, Family, Member, Members, Written};
use crate::size::Size;

/// A shape in the monitor's words.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::client) struct Shape(pub(in crate::client) Value);

/// A rate in the monitor's words.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::client) struct Rate(pub(in crate::client) Value);

const FAMILIES: [Family; 6] = [
    Family { name: "permanent", example: "permanent", members: Members::Named(&[]) },
    Family {
        name: "transient",
        example: "transient:start=10s,duration=5m",
        members: Members::Named(&[
            Member::new("start", "start-ns", Written::Time).optional(),
            Member::new("duration", "duration-ns", Written::Time),
        ]),
    },
    Family {
        name: "stalls",
        example: "stalls:period=30s,stall=2s",
        members: Members::Named(&[
            Member::new("period", "period-ns", Written::Time),
            Member::new("stall", "stall-ns", Written::Time),
        ]),
    },
    Family {
        name: "ramp",
        example: "ramp:from=1,to=10,duration=5m",
        members: Members::Named(&[
            Member::new("from", "from", Written::Number),
            Member::new("to", "to", Written::Number),
            Member::new("duration", "duration-ns", Written::Time),
        ]),
    },
    Family {
        name: "steps",
        example: "steps:3m=1,3m=10,3m=100",
        members: Members::Pairs {
            list: "steps",
            left: Member::new("duration", "duration-ns", Written::Time),
            right: Member::new("scale", "scale", Written::Number),
        },
    },
    Family {
        name: "spikes",
        example: "spikes:share=0.01,delay=200ms",
        members: Members::Named(&[
            Member::new("share", "spike-share", Written::Number),
            Member::new("delay", "spike-delay", Written::Delay),
        ]),
    },
];

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = spec::read(text, &FAMILIES, "shape", "a shape")?;
        Ok(Self(Value::Object(read)))
    }
}

/// Bytes a second: `1M`, or `1M,burst=4M`.
pub(super) fn bytes_per_second(text: &str) -> Result<Rate, String> {
    rate(text, "1M,burst=4M", |size| size.parse().map(|Size(bytes)| bytes).ok())
}

/// Requests a second: `100`, or `100,burst=20`.
pub(super) fn requests_per_second(text: &str) -> Result<Rate, String> {
    rate(text, "100,burst=20", |number| number.parse().ok())
}

fn rate(text: &str, example: &str, read: impl Fn(&str) -> Option<u64>) -> Result<Rate, String> {
    let bad = || {
        format!("'{text}' is not a rate: write one such as {example}; the burst may be left out")
    };
    let (per_second, burst) = match text.split_once(",burst=") {
        Some((per_second, burst)) => (per_second, Some(read(burst).ok_or_else(bad)?)),
        None => (text, None),
    };
    let mut rate = json!({ "per-second": read(per_second).ok_or_else(bad)? });
    if let Some(burst) = burst {
        rate["burst"] = json!(burst);
    }
    Ok(Rate(rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qapi::types::BlockFaultShapeKind;

    #[test]
    fn a_shape_is_a_word_with_members() {
        let second = 1_000_000_000_u64;
        let cases = [
            ("permanent", json!({"shape": "permanent"})),
            ("transient:duration=2s", json!({"shape": "transient", "duration-ns": 2 * second})),
            (
                "stalls:period=30s,stall=2s",
                json!({"shape": "stalls", "period-ns": 30 * second, "stall-ns": 2 * second}),
            ),
            (
                "ramp:from=1,to=10.5,duration=1s",
                json!({"shape": "ramp", "from": 1.0, "to": 10.5, "duration-ns": second}),
            ),
            (
                "steps:3s=1,1s=0.5",
                json!({"shape": "steps", "steps": [
                    {"duration-ns": 3 * second, "scale": 1.0},
                    {"duration-ns": second, "scale": 0.5}]}),
            ),
            (
                "spikes:share=0.01,delay=uniform:min=1s,max=2s",
                json!({"shape": "spikes", "spike-share": 0.01, "spike-delay": {
                    "distribution": "uniform", "min-ns": second, "max-ns": 2 * second}}),
            ),
        ];
        for (text, shape) in cases {
            assert_eq!(text.parse(), Ok(Shape(shape)), "{text}");
        }
    }

    #[test]
    fn every_example_is_accepted_and_every_family_of_the_schema_has_one() {
        let known = BlockFaultShapeKind::ALL.iter().map(|kind| kind.as_str());
        assert_eq!(FAMILIES.map(|family| family.name).to_vec(), known.collect::<Vec<_>>());
        for family in FAMILIES {
            assert!(family.example.parse::<Shape>().is_ok(), "{}", family.example);
        }
    }

    #[test]
    fn what_is_no_shape_is_answered_with_what_would_be() {
        let cases = [
            ("stall:period=1s", "did you mean 'stalls'?"),
            ("wobbly", "accepted are, for example, permanent transient:start=10s,duration=5m"),
            ("permanent:x=1", "there is no 'x' here; write permanent"),
            ("transient", "'duration' is missing; write transient:"),
            ("steps:10=1", "duration: '10' is not a time"),
            ("spikes:delay=2ms,share=1", "write spikes:share=0.01,delay=200ms"),
        ];
        for (text, why) in cases {
            let error = text.parse::<Shape>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_rate_may_have_a_burst() {
        let cases = [
            (bytes_per_second("1M"), json!({"per-second": 1 << 20})),
            (bytes_per_second("1M,burst=4K"), json!({"per-second": 1 << 20, "burst": 4096})),
            (requests_per_second("9,burst=2"), json!({"per-second": 9, "burst": 2})),
        ];
        for (read, rate) in cases {
            assert_eq!(read, Ok(Rate(rate)));
        }
        for bad in ["", "1M", "9,bust=1", "9,burst=", "9,burst=1,burst=2", "-1"] {
            let error = requests_per_second(bad).unwrap_err();
            assert!(error.contains("such as 100,burst=20"), "{bad}: {error}");
        }
    }
}
