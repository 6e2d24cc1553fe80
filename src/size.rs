//! Sizes as people write them: `512`, `64K`, `1G`.
//!
//! Pure. Invariant: what is written is what is meant, or it is an error; nothing is rounded.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
///
/// ```
/// use blkfault::size::Size;
///
/// assert_eq!("64M".parse(), Ok(Size(64 << 20)));
/// assert_eq!(Size(3 << 29).to_string(), "1.5 GiB");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a size: write bytes, or a number with K, M, G, T or P (times 1024), such as 64M"
)]
pub struct BadSize(String);

const UNITS: [(char, u32, &str); 5] =
    [('K', 10, "KiB"), ('M', 20, "MiB"), ('G', 30, "GiB"), ('T', 40, "TiB"), ('P', 50, "PiB")];

impl FromStr for Size {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        let bad = || BadSize(text.to_owned());
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let number: u64 = digits.parse().map_err(|_| bad())?;
        let shift = shift_of(unit).ok_or_else(bad)?;
        let bytes = number.checked_mul(1 << shift).ok_or_else(bad)?;
        Ok(Self(bytes))
    }
}

/// The power of two that a unit stands for: `K`, `k`, `KiB` and `KB` are 10, as in qemu-img.
fn shift_of(unit: &str) -> Option<u32> {
    let mut letters = unit.chars();
    let Some(first) = letters.next() else {
        return Some(0);
    };
    if !matches!(letters.as_str(), "" | "B" | "iB") {
        return None;
    }
    let first = first.to_ascii_uppercase();
    UNITS.iter().find(|(letter, ..)| *letter == first).map(|(_, shift, _)| *shift)
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((_, shift, unit)) = UNITS.iter().rev().find(|(_, shift, _)| self.0 >> shift != 0)
        else {
            return write!(f, "{} B", self.0);
        };
        let whole = self.0 >> shift;
        let tenths = (u128::from(self.0 - (whole << shift)) * 10) >> shift;
        match tenths {
            0 => write!(f, "{whole} {unit}"),
            _ => write!(f, "{whole}.{tenths} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_with_a_unit() {
        let sizes = [
            ("0", 0),
            ("512", 512),
            ("4k", 4096),
            ("64K", 65536),
            ("64KiB", 65536),
            ("2M", 2 << 20),
            ("3G", 3 << 30),
            ("1TB", 1 << 40),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in sizes {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_told_what_would_do() {
        for text in ["", "M", "-1", "1.5G", "1 G", "1X", "1Mb", "1KK", "16777216T", "0x10", "é"] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains("such as 64M"), "{text}: {error}");
        }
    }

    #[test]
    fn a_size_reads_well() {
        let texts = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536 << 20, "1.5 GiB"),
            (u64::MAX, "16383.9 PiB"),
        ];
        for (bytes, text) in texts {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
