//! Times as people write them: `500us`, `20ms`, `1.5s`, `2m`.
//!
//! Pure. Invariant: a time without a unit is refused, because everybody means another one.

use std::str::FromStr;

/// A time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) struct Period(pub(in crate::client) u64);

const UNITS: [(&str, f64); 6] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10)];

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is not a time: write a number with ns, us, ms, s or m");
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        let nanoseconds = number.parse::<f64>().map_err(|_| bad())? * scale;
        // Beyond, a double does not tell one nanosecond from the next; that is a hundred days.
        if nanoseconds > 9e15 {
            return Err(bad());
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Checked above.
        Ok(Self(nanoseconds.round() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        let cases = [("7ns", 7), ("1.5us", 1500), ("20ms", 20_000_000), ("2m", 120_000_000_000)];
        for (text, nanoseconds) in cases {
            assert_eq!(text.parse(), Ok(Period(nanoseconds)), "{text}");
        }
        for bad in ["", "5", "s", "-1s", "1 s", "1h", "1..2s", "1e9s", "999999999m", "nans"] {
            assert!(bad.parse::<Period>().is_err(), "{bad}");
        }
    }
}
