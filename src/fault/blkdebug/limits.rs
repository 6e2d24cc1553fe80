//! blkdebug's size options: what its driver pretends to be limited to.
//!
//! Knows: the checks of `blkdebug_open` and their message. Must not know: rules. Invariant: every
//! limit is a multiple of what it has to be a multiple of, so [`plan`](super::plan) can divide.

use serde::{Deserialize, Serialize};

/// The size options as an operator gives them, in bytes; 0 is "as the image has it".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitOptions {
    /// `align`.
    pub align: u64,
    /// `max-transfer`.
    pub max_transfer: u64,
    /// `opt-write-zero`.
    pub opt_write_zero: u64,
    /// `max-write-zero`.
    pub max_write_zero: u64,
    /// `opt-discard`.
    pub opt_discard: u64,
    /// `max-discard`.
    pub max_discard: u64,
}

/// QEMU's limits are below `INT_MAX`.
const INT_MAX: u64 = 0x7fff_ffff;

/// An option that does not go with the others; the text is QEMU's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Cannot meet constraints with {option} {value}")]
pub struct BadLimit {
    /// The option's name.
    pub option: &'static str,
    /// Its value, bytes.
    pub value: u64,
}

/// Limits that hold together. All in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[u64; 6]", into = "[u64; 6]")]
pub struct Limits {
    align: u64,
    max_transfer: u64,
    zero_align: u64,
    max_write_zero: u64,
    discard_align: u64,
    max_discard: u64,
}

impl Default for Limits {
    /// No limits: requests reach the image in one piece.
    fn default() -> Self {
        Self {
            align: 1,
            max_transfer: INT_MAX,
            zero_align: 1,
            max_write_zero: INT_MAX,
            discard_align: 1,
            max_discard: INT_MAX,
        }
    }
}

impl Limits {
    /// Check options against each other and against the image's own alignment, in bytes.
    ///
    /// # Errors
    /// The first option, in QEMU's order, that is `INT_MAX` or more, no power of two (`align`) or
    /// no multiple of what it has to be.
    pub fn new(options: &LimitOptions, image_align_bytes: u64) -> Result<Self, BadLimit> {
        let LimitOptions { align: asked, .. } = *options;
        if asked != 0 && (asked >= INT_MAX || !asked.is_power_of_two()) {
            return Err(BadLimit { option: "align", value: asked });
        }
        let align = asked.max(image_align_bytes).max(1);
        multiple("max-transfer", options.max_transfer, align)?;
        multiple("opt-write-zero", options.opt_write_zero, align)?;
        let zero_unit = options.opt_write_zero.max(align);
        multiple("max-write-zero", options.max_write_zero, zero_unit)?;
        multiple("opt-discard", options.opt_discard, align)?;
        let discard_unit = options.opt_discard.max(align);
        multiple("max-discard", options.max_discard, discard_unit)?;
        let or_max = |bytes: u64| if bytes == 0 { INT_MAX } else { bytes };
        let request_align = if asked == 0 { 1 } else { asked };
        Ok(Self {
            align: request_align,
            max_transfer: or_max(options.max_transfer),
            zero_align: request_align.max(options.opt_write_zero),
            max_write_zero: or_max(options.max_write_zero),
            discard_align: request_align.max(options.opt_discard),
            max_discard: or_max(options.max_discard),
        })
    }

    /// Requests are widened to multiples of this; 1 where they are not.
    #[must_use]
    pub fn align(&self) -> u64 {
        self.align
    }

    /// Longest read or write.
    #[must_use]
    pub fn max_transfer(&self) -> u64 {
        round_down(self.max_transfer, self.align)
    }

    pub(super) fn zero_align(&self) -> u64 {
        self.zero_align
    }

    pub(super) fn max_write_zero(&self) -> u64 {
        round_down(self.max_write_zero, self.zero_align)
    }

    pub(super) fn discard_align(&self) -> u64 {
        self.discard_align
    }

    pub(super) fn max_discard(&self) -> u64 {
        round_down(self.max_discard, self.discard_align)
    }
}

/// Never 0: every limit is at least its unit (checked by `multiple`).
fn round_down(limit: u64, unit: u64) -> u64 {
    (limit - limit % unit).max(unit)
}

fn multiple(option: &'static str, value: u64, unit: u64) -> Result<(), BadLimit> {
    if value != 0 && (value >= INT_MAX || !value.is_multiple_of(unit)) {
        return Err(BadLimit { option, value });
    }
    Ok(())
}

impl TryFrom<[u64; 6]> for Limits {
    type Error = BadLimit;

    fn try_from(written: [u64; 6]) -> Result<Self, BadLimit> {
        let [align, max_transfer, zero_align, max_write_zero, discard_align, max_discard] = written;
        let options = LimitOptions { align, ..LimitOptions::default() };
        Self::new(&options, 1)?;
        let units = [("opt-write-zero", zero_align), ("opt-discard", discard_align)];
        if let Some((option, value)) =
            units.into_iter().find(|(_, unit)| !(1..INT_MAX).contains(unit))
        {
            return Err(BadLimit { option, value });
        }
        let align = align.max(1);
        Ok(Self { align, max_transfer, zero_align, max_write_zero, discard_align, max_discard })
    }
}

impl From<Limits> for [u64; 6] {
    fn from(limits: Limits) -> Self {
        let Limits { align, max_transfer, zero_align, max_write_zero, discard_align, max_discard } =
            limits;
        [align, max_transfer, zero_align, max_write_zero, discard_align, max_discard]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_do_not_go_together_are_refused_in_qemus_words() {
        let base = LimitOptions { align: 4096, ..LimitOptions::default() };
        let bad = [
            (LimitOptions { align: 3, ..base }, "align 3"),
            (LimitOptions { align: 1 << 31, ..base }, "align 2147483648"),
            (LimitOptions { max_transfer: 1000, ..base }, "max-transfer 1000"),
            (LimitOptions { opt_write_zero: 512, ..base }, "opt-write-zero 512"),
            (
                LimitOptions { opt_write_zero: 12288, max_write_zero: 8192, ..base },
                "max-write-zero 8192",
            ),
            (LimitOptions { opt_discard: 1 << 31, ..base }, "opt-discard 2147483648"),
            (LimitOptions { opt_discard: 12288, max_discard: 8192, ..base }, "max-discard 8192"),
        ];
        for (options, what) in bad {
            let error = Limits::new(&options, 1).unwrap_err().to_string();
            assert_eq!(error, format!("Cannot meet constraints with {what}"));
        }
    }

    #[test]
    fn the_images_alignment_counts_where_it_is_larger() {
        let options = LimitOptions { max_transfer: 1024, ..LimitOptions::default() };
        assert!(Limits::new(&options, 512).is_ok());
        assert_eq!(Limits::new(&options, 4096).unwrap_err().option, "max-transfer");
    }

    #[test]
    fn without_options_nothing_is_limited() {
        assert_eq!(Limits::new(&LimitOptions::default(), 512), Ok(Limits::default()));
    }
}
