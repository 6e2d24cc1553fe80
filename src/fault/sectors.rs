//! Ranges of sectors, and sets of them.
//!
//! Knows: 512-byte sectors. Must not know: rules. Invariant: a [`SectorSet`]'s ranges are sorted,
//! not empty, and neither touch nor overlap.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Bytes of a sector: virtio-blk's and blkdebug's unit.
pub const SECTOR_BYTES: u64 = 512;

/// Sectors from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SectorRange {
    first: u64,
    last: u64,
}

impl SectorRange {
    /// A range; `None` where the last comes before the first.
    #[must_use]
    pub fn new(first: u64, last: u64) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The sectors that a range of bytes touches; `None` for no bytes.
    #[must_use]
    pub fn of_bytes(offset_bytes: u64, bytes: u64) -> Option<Self> {
        let last_bytes = offset_bytes.saturating_add(bytes.checked_sub(1)?);
        Some(Self { first: offset_bytes / SECTOR_BYTES, last: last_bytes / SECTOR_BYTES })
    }

    /// The first sector.
    #[must_use]
    pub fn first(self) -> u64 {
        self.first
    }

    /// The last sector.
    #[must_use]
    pub fn last(self) -> u64 {
        self.last
    }

    /// How many sectors.
    #[must_use]
    pub fn sectors(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// Whether they have a sector in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn common(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }
}

impl fmt::Display for SectorRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// A text that is no range of sectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no range of sectors: a sector such as 2048, or the first and the last, 2048-2055"
)]
pub struct BadRange(String);

impl FromStr for SectorRange {
    type Err = BadRange;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, BadRange> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        // Of what `parse` takes, a sign is no part of a sector.
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let sector = |text: &str| text.parse().ok().filter(|_| digits(text));
        let range =
            sector(first).zip(sector(last)).and_then(|(first, last)| Self::new(first, last));
        range.ok_or_else(|| BadRange(text.to_owned()))
    }
}

/// A set of sectors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<SectorRange>", into = "Vec<SectorRange>")]
pub struct SectorSet(Ranges);

/// In order. Most rules have one, and those that have many have no room to spare.
type Ranges = SmallVec<[SectorRange; 1]>;

impl FromIterator<SectorRange> for SectorSet {
    fn from_iter<T: IntoIterator<Item = SectorRange>>(ranges: T) -> Self {
        let mut sorted: Vec<SectorRange> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut merged: Vec<SectorRange> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(before) if range.first <= before.last.saturating_add(1) => {
                    before.last = before.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self::from_sorted(merged)
    }
}

impl SectorSet {
    /// Of ranges as the invariant wants them.
    fn from_sorted(ranges: Vec<SectorRange>) -> Self {
        let mut ranges = Ranges::from_vec(ranges);
        ranges.shrink_to_fit();
        Self(ranges)
    }

    /// The ranges, in order.
    #[must_use]
    pub fn ranges(&self) -> &[SectorRange] {
        &self.0
    }

    /// Whether the set has no sector.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many sectors.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.0.iter().fold(0, |sum, range| sum.saturating_add(range.sectors()))
    }

    /// The first sector of the set in this range.
    #[must_use]
    pub fn first_in(&self, range: SectorRange) -> Option<u64> {
        let place = self.0.partition_point(|known| known.last < range.first);
        let known = self.0.get(place)?;
        known.common(range).map(SectorRange::first)
    }

    /// Take at most `sectors_max` sectors of this range out of the set, lowest first. Tells how
    /// many there were.
    pub fn remove(&mut self, range: SectorRange, sectors_max: u64) -> u64 {
        let mut removed = 0;
        let mut left = Vec::with_capacity(self.0.len() + 1);
        for known in std::mem::take(&mut self.0) {
            let gone = known.common(range).and_then(|common| {
                let sectors = common.sectors().min(sectors_max - removed);
                let last = common.first.checked_add(sectors.checked_sub(1)?)?;
                Some(SectorRange { first: common.first, last })
            });
            let Some(gone) = gone else {
                left.push(known);
                continue;
            };
            removed += gone.sectors();
            let before = gone.first.checked_sub(1).and_then(|l| SectorRange::new(known.first, l));
            let after = gone.last.checked_add(1).and_then(|f| SectorRange::new(f, known.last));
            left.extend(before.into_iter().chain(after));
        }
        *self = Self::from_sorted(left);
        removed
    }
}

impl TryFrom<String> for SectorRange {
    type Error = BadRange;

    fn try_from(text: String) -> Result<Self, BadRange> {
        text.parse()
    }
}

impl From<SectorRange> for String {
    fn from(range: SectorRange) -> Self {
        range.to_string()
    }
}

impl From<Vec<SectorRange>> for SectorSet {
    fn from(ranges: Vec<SectorRange>) -> Self {
        ranges.into_iter().collect()
    }
}

impl From<SectorSet> for Vec<SectorRange> {
    fn from(set: SectorSet) -> Self {
        set.0.into_vec()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn range(first: u64, last: u64) -> SectorRange {
        SectorRange::new(first, last).unwrap()
    }

    #[test]
    fn bytes_touch_sectors() {
        assert_eq!(SectorRange::of_bytes(512, 0), None);
        assert_eq!(SectorRange::of_bytes(511, 2), Some(range(0, 1)));
        assert_eq!(SectorRange::of_bytes(1024, 512), Some(range(2, 2)));
        assert_eq!(range(3, 3).to_string(), "3");
        assert_eq!(range(3, 9).to_string(), "3-9");
    }

    #[test]
    fn a_range_is_read_as_it_is_written_and_nothing_else_is() {
        assert_eq!("3".parse(), Ok(range(3, 3)));
        assert_eq!("3-9".parse(), Ok(range(3, 9)));
        for bad in ["", "-", "9-3", "+3", "3-", "-3", "3-+9", "3-9-12", " 3", "0x3", "3..9"] {
            let error = bad.parse::<SectorRange>().expect_err(bad);
            assert!(error.to_string().starts_with(&format!("'{bad}' is no range")), "{error}");
        }
    }

    #[test]
    fn the_last_sector_of_all_is_no_trap() {
        let mut set: SectorSet = [range(5, u64::MAX)].into_iter().collect();
        assert_eq!(set.remove(range(u64::MAX, u64::MAX), u64::MAX), 1);
        assert_eq!(set.ranges(), [range(5, u64::MAX - 1)]);
    }

    proptest::proptest! {
        #[test]
        fn a_set_of_ranges_is_a_set_of_sectors(
            ranges in proptest::collection::vec((0_u64..60, 0_u64..12), 0..8),
            cut in (0_u64..60, 0_u64..20), most in 0_usize..25, ask in (0_u64..60, 0_u64..5),
        ) {
            let ranges = ranges.into_iter().map(|(first, more)| range(first, first + more));
            let ranges: Vec<_> = ranges.collect();
            let mut model: BTreeSet<u64> =
                ranges.iter().flat_map(|range| range.first..=range.last).collect();
            let mut set: SectorSet = ranges.into_iter().collect();
            let cut = range(cut.0, cut.0 + cut.1);
            let gone: Vec<u64> =
                model.range(cut.first..=cut.last).copied().take(most).collect();
            model.retain(|sector| !gone.contains(sector));
            proptest::prop_assert_eq!(set.remove(cut, most as u64), gone.len() as u64);
            proptest::prop_assert_eq!(set.sectors(), model.len() as u64);
            let ask = range(ask.0, ask.0 + ask.1);
            let first = model.range(ask.first..=ask.last).next().copied();
            proptest::prop_assert_eq!(set.first_in(ask), first);
            for pair in set.ranges().windows(2) {
                proptest::prop_assert!(pair[0].last + 1 < pair[1].first);
            }
        }
    }
}
