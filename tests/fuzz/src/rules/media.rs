//! Bad sectors, as one would write them down: one by one.

use std::collections::{BTreeMap, BTreeSet};

use blkfault::errno::Errno;
use blkfault::fault::SectorRange;
use blkfault::fault::rule::{Media, Rule};
use blkfault::fault::slow::Distribution;

/// What a bad sector does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    Fails(Errno),
    Waits(u64),
    Nothing,
}

/// The sectors of a rule that are bad now.
#[derive(Debug, Clone)]
pub(super) struct Sectors {
    bad: BTreeSet<u64>,
    healed: u64,
    tries: BTreeMap<u64, u32>,
}

/// A delay that is always the same.
pub(super) fn fixed_ns(delay: &Distribution) -> u64 {
    match delay {
        Distribution::Fixed { delay_ns } => *delay_ns,
        other => panic!("nobody asked for {other:?}"),
    }
}

impl Sectors {
    pub(super) fn of(rule: &Rule) -> Self {
        let sectors = rule.trigger().sectors;
        let bad = sectors.ranges().iter().flat_map(|range| range.first()..=range.last()).collect();
        Self { bad, healed: 0, tries: BTreeMap::new() }
    }

    /// The first bad one of these.
    pub(super) fn first(&self, touched: impl Iterator<Item = u64>) -> Option<u64> {
        touched.into_iter().find(|sector| self.bad.contains(sector))
    }

    /// A request meets one; `hits` did before.
    pub(super) fn touch(&mut self, media: &Media, sector: u64, hits: u64) -> Touch {
        if let Some(slow) = media.slow_first.as_ref().filter(|slow| hits < slow.requests) {
            return Touch::Waits(fixed_ns(&slow.delay));
        }
        let tries = self.tries.entry(sector).or_default();
        *tries += 1;
        if media.retries.is_some_and(|retries| *tries > retries) {
            *tries = 0;
            return Touch::Nothing;
        }
        Touch::Fails(media.errno)
    }

    /// These were written, the lowest first.
    pub(super) fn heal(&mut self, media: &Media, written: impl Iterator<Item = u64>) {
        for sector in written.filter(|_| media.heal_on_write) {
            let has_spare = media.remap_pool.is_none_or(|pool| self.healed < pool);
            if has_spare && self.bad.remove(&sector) {
                self.healed += 1;
            }
            self.tries.remove(&sector);
        }
    }

    /// The ranges that are bad, and how many were healed.
    pub(super) fn report(&self) -> (Vec<SectorRange>, u64) {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for sector in &self.bad {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *sector => *last = *sector,
                _ => ranges.push((*sector, *sector)),
            }
        }
        let range = |(first, last)| SectorRange::new(first, last);
        (ranges.into_iter().filter_map(range).collect(), self.healed)
    }
}
