//! Slow disks: how long a request is held up before, or stretched after, it goes to the image.
//!
//! Knows: delays, rates and their shapes over time. Must not know: rules or states that use them.
//! Invariant: a delay is a function of (seed, name, ordinal) and of the time since the profile
//! came into force; only rates remember anything, and they remember it in virtual time.

use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

mod distribution;
mod pace;
mod preset;
mod profile;
mod shape;

pub use distribution::{BadDistribution, DELAY_MAX_NS, Distribution, Quantile};
pub use pace::{BadRate, Rate};
pub use preset::Preset;
pub use profile::{BadProfile, Profile, ProfileOptions};
pub use shape::{BadShape, Shape, Stage};

pub(in crate::fault) use profile::Pacing;

/// A second in nanoseconds.
pub const SECOND_NS: u64 = 1_000_000_000;
/// A millisecond in nanoseconds.
pub const MILLISECOND_NS: u64 = 1_000_000;

/// A share, more than 0 and at most 1.
#[derive(Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
// The number's bits, which order as it does; never none, so that no share at all takes no more room.
pub struct Share(NonZeroU64);

/// A number that is no share.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("expects a number above 0 and up to 1, not {0}")]
pub struct BadShare(pub f64);

impl Share {
    /// All.
    pub const ALL: Self = Self(NonZeroU64::new(1.0_f64.to_bits()).expect("not 0"));

    /// A share of one.
    ///
    /// # Errors
    /// 0 or less, more than 1, or not a number.
    pub fn new(share: f64) -> Result<Self, BadShare> {
        let is_share = share > 0.0 && share <= 1.0;
        let bits = NonZeroU64::new(share.to_bits()).filter(|_| is_share);
        bits.map(Self).ok_or(BadShare(share))
    }

    /// The number, above 0 and up to 1.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from_bits(self.0.get())
    }

    /// Whether a draw from [0, 1) falls into the share.
    #[must_use]
    pub fn takes(self, unit: f64) -> bool {
        unit < self.get()
    }
}

impl TryFrom<f64> for Share {
    type Error = BadShare;

    fn try_from(share: f64) -> Result<Self, BadShare> {
        Self::new(share)
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> Self {
        share.get()
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Share").field(&self.get()).finish()
    }
}
