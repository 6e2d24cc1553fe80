//! Bad sectors: how they fail, and how they heal.
//!
//! Knows: dm-dust's bad blocks (healed by a write), NEC's and IRON's media faults (slow, then
//! unreadable; readable after some tries). Must not know: which requests a rule is about.
//! Invariant: a sector that healed stays healed until the rule is reset; memory is bounded
//! whatever a guest reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::effect::BadEffect;
use crate::errno::Errno;
use crate::fault::random::Stream;
use crate::fault::slow::Distribution;
use crate::fault::{SectorRange, SectorSet};

/// Most tries that a marginal sector may need.
pub const RETRIES_MAX: u32 = 1_000_000;
/// Marginal sectors whose tries are remembered at once; beyond, the lowest sector is forgotten.
const TRIED_MAX: usize = 4096;

/// A fault of the medium, at the sectors of the rule's trigger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Media {
    /// What requests fail with.
    pub errno: Errno,
    /// A write heals the sectors it wrote, as a drive that remaps them does; a write that fails
    /// because of them too, so that the next one succeeds.
    pub heal_on_write: bool,
    /// Sectors that can heal before the spare ones run out; absent: all.
    pub remap_pool: Option<u64>,
    /// The first so many requests that the rule hits succeed but wait; later ones fail.
    pub slow_first: Option<SlowFirst>,
    /// A sector fails so many times in a row, then once not, and so on.
    pub retries: Option<u32>,
}

/// A sector on its way out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlowFirst {
    /// How many requests are slow.
    pub requests: u64,
    /// How slow.
    pub delay: Distribution,
}

impl Media {
    /// Unreadable for good.
    #[must_use]
    pub fn failing(errno: Errno) -> Self {
        Self { errno, heal_on_write: false, remap_pool: None, slow_first: None, retries: None }
    }

    pub(super) fn check(&self) -> Result<(), BadEffect> {
        if self.retries.is_some_and(|retries| !(1..=RETRIES_MAX).contains(&retries)) {
            return Err(BadEffect::Retries);
        }
        if self.remap_pool.is_some() && !self.heal_on_write {
            return Err(BadEffect::PoolWithoutHeal);
        }
        match &self.slow_first {
            Some(SlowFirst { requests: 0, .. }) => Err(BadEffect::FailAfter),
            Some(SlowFirst { delay, .. }) => Ok(delay.check()?),
            None => Ok(()),
        }
    }
}

/// What a bad sector does to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fault) enum Touch {
    /// It fails.
    Fails(Errno),
    /// It waits so many nanoseconds and goes on.
    Slow(u64),
    /// This try succeeds.
    Succeeds,
}

/// The sectors of a rule as they are now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::fault) struct Wounds {
    bad: SectorSet,
    healed: u64,
    tries: BTreeMap<u64, u32>,
}

impl Wounds {
    /// All of these are bad.
    pub(in crate::fault) fn new(bad: SectorSet) -> Self {
        Self { bad, healed: 0, tries: BTreeMap::new() }
    }

    /// The sectors that are bad now.
    pub(in crate::fault) fn bad(&self) -> &SectorSet {
        &self.bad
    }

    /// How many were healed.
    pub(in crate::fault) fn healed(&self) -> u64 {
        self.healed
    }

    /// The first bad sector of these.
    pub(in crate::fault) fn first_bad(&self, range: Option<SectorRange>) -> Option<u64> {
        self.bad.first_in(range?)
    }

    /// A request meets a bad sector. `hits`: how many the rule hit before.
    pub(in crate::fault) fn touch(
        &mut self,
        media: &Media,
        sector: u64,
        hits: u64,
        stream: &mut Stream,
    ) -> Touch {
        if let Some(SlowFirst { requests, delay }) = &media.slow_first
            && hits < *requests
        {
            return Touch::Slow(delay.draw(stream));
        }
        let Some(retries) = media.retries else {
            return Touch::Fails(media.errno);
        };
        let tries = self.tries.entry(sector).or_insert(0);
        if *tries >= retries {
            self.tries.remove(&sector);
            return Touch::Succeeds;
        }
        *tries += 1;
        if self.tries.len() > TRIED_MAX {
            // Some other one, or a guest that tries here again never gets through.
            let is_first = self.tries.first_key_value().is_some_and(|(first, _)| *first == sector);
            let _ = if is_first { self.tries.pop_last() } else { self.tries.pop_first() };
        }
        Touch::Fails(media.errno)
    }

    /// A write of these sectors succeeded. Tells how many it healed, and whether it used up the
    /// last spare sector.
    pub(in crate::fault) fn heal(&mut self, media: &Media, range: SectorRange) -> (u64, bool) {
        if !media.heal_on_write {
            return (0, false);
        }
        let left = media.remap_pool.map_or(u64::MAX, |pool| pool.saturating_sub(self.healed));
        let healed = self.bad.remove(range, left);
        self.healed = self.healed.saturating_add(healed);
        for sector in
            self.tries.range(range.first()..=range.last()).map(|(s, _)| *s).collect::<Vec<_>>()
        {
            self.tries.remove(&sector);
        }
        (healed, healed > 0 && Some(self.healed) == media.remap_pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64) -> SectorRange {
        SectorRange::new(first, last).unwrap()
    }

    fn stream() -> Stream {
        Stream::new(0, "m", 0)
    }

    #[test]
    fn a_write_heals_until_the_spare_sectors_run_out() {
        let media =
            Media { heal_on_write: true, remap_pool: Some(3), ..Media::failing(Errno::EIO) };
        let mut wounds = Wounds::new([range(8, 15)].into_iter().collect());
        assert_eq!(wounds.heal(&media, range(0, 9)), (2, false));
        assert_eq!(wounds.heal(&media, range(12, 13)), (1, true));
        assert_eq!(wounds.heal(&media, range(0, 99)), (0, false));
        assert_eq!(wounds.bad().ranges(), [range(10, 11), range(13, 15)]);
        assert_eq!(wounds.first_bad(Some(range(0, 11))), Some(10));
    }

    #[test]
    fn a_marginal_sector_is_read_after_some_tries_each_time() {
        let media = Media { retries: Some(2), ..Media::failing(Errno::EIO) };
        let mut wounds = Wounds::new([range(0, 9)].into_iter().collect());
        let mut read = |sector| wounds.touch(&media, sector, 0, &mut stream()) == Touch::Succeeds;
        assert_eq!([3, 3, 4, 3, 4, 3].map(&mut read), [false, false, false, true, false, false]);
    }

    #[test]
    fn a_sector_on_its_way_out_is_slow_first() {
        let delay = Distribution::Fixed { delay_ns: 7 };
        let slow_first = Some(SlowFirst { requests: 2, delay });
        let media = Media { slow_first, ..Media::failing(Errno::EIO) };
        let mut wounds = Wounds::new([range(0, 9)].into_iter().collect());
        let touches = [0, 1, 2].map(|hits| wounds.touch(&media, 0, hits, &mut stream()));
        assert_eq!(touches, [Touch::Slow(7), Touch::Slow(7), Touch::Fails(Errno::EIO)]);
    }

    #[test]
    fn a_guest_that_reads_everywhere_fills_no_memory() {
        let media = Media { retries: Some(1), ..Media::failing(Errno::EIO) };
        let mut wounds = Wounds::new([range(0, u64::MAX)].into_iter().collect());
        for sector in 0..3 * TRIED_MAX as u64 {
            let _ = wounds.touch(&media, sector, 0, &mut stream());
        }
        assert_eq!(wounds.tries.len(), TRIED_MAX);
        for sector in [0, 5_000, u64::MAX] {
            let tries: Vec<_> =
                (0..3).map(|_| wounds.touch(&media, sector, 0, &mut stream())).collect();
            assert!(tries.contains(&Touch::Succeeds), "sector {sector}: {tries:?}");
        }
    }
}
