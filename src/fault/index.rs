//! Which rules could match a request, without asking every rule.
//!
//! Knows: I/O types, queues, engine states and sector ranges of rules, by a number that says their
//! order. Must
//! not know: what rules do. Invariants: an index never changes, so queues may share it without a
//! lock; what it leaves out cannot match (what it finds still has to be asked); a query costs
//! O(log ranges + found).

use std::collections::BTreeMap;

use super::sectors::{SectorRange, SectorSet};
use super::{Io, IoType, IoTypes};

/// An index of rules, numbered in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    by_type: [ByType; IoType::NAMED.len()],
}

/// What concerns one I/O type.
#[derive(Debug, Clone, Default)]
struct ByType {
    /// Rules for any sector, by the queue and the engine state they want.
    anywhere: BTreeMap<(Option<u16>, Option<i32>), Vec<u32>>,
    ranges: Ranges,
}

/// What an index needs to know about a rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach<'a> {
    pub(super) number: u32,
    pub(super) iotypes: IoTypes,
    pub(super) queue: Option<u16>,
    pub(super) state: Option<i32>,
    /// Empty: any sector, or none.
    pub(super) sectors: &'a SectorSet,
}

impl<'a> FromIterator<Reach<'a>> for Index {
    /// Rules come in rising order of their numbers.
    fn from_iter<T: IntoIterator<Item = Reach<'a>>>(rules: T) -> Self {
        let mut index = Self::default();
        for rule in rules {
            for iotype in rule.iotypes.iter() {
                let by_type = &mut index.by_type[iotype as usize];
                if rule.sectors.is_empty() {
                    by_type.anywhere.entry((rule.queue, rule.state)).or_default().push(rule.number);
                }
                for range in rule.sectors.ranges() {
                    by_type.ranges.add(*range, rule.number, rule.queue);
                }
            }
        }
        index.by_type.iter_mut().for_each(|by_type| by_type.ranges.build());
        index
    }
}

impl Index {
    /// Whether some rule could match in some engine state.
    pub(super) fn any(&self, io: &Io) -> bool {
        let by_type = &self.by_type[io.iotype as usize];
        by_type.any_anywhere(io.queue)
            || SectorRange::of_bytes(io.offset_bytes, io.bytes)
                .is_some_and(|range| by_type.ranges.any(range, io.queue))
    }

    /// The rules that could match in this engine state, in order.
    pub(super) fn find(&self, io: &Io, state: i32) -> Vec<u32> {
        let by_type = &self.by_type[io.iotype as usize];
        let mut found: Vec<u32> = by_type.anywhere(io.queue, state).copied().collect();
        if let Some(range) = SectorRange::of_bytes(io.offset_bytes, io.bytes) {
            by_type.ranges.each(range, io.queue, &mut |number| {
                found.push(number);
                true
            });
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether no request could match.
    pub(super) fn is_empty(&self) -> bool {
        self.by_type.iter().all(|by| by.anywhere.is_empty() && by.ranges.nodes.is_empty())
    }
}

impl ByType {
    fn any_anywhere(&self, queue: u16) -> bool {
        [None, Some(queue)].into_iter().any(|queue| {
            self.anywhere.range((queue, None)..=(queue, Some(i32::MAX))).next().is_some()
        })
    }

    fn anywhere(&self, queue: u16, state: i32) -> impl Iterator<Item = &u32> {
        let (queue, state) = (Some(queue), Some(state));
        [(None, None), (None, state), (queue, None), (queue, state)]
            .into_iter()
            .filter_map(|key| self.anywhere.get(&key))
            .flatten()
    }
}

/// An interval tree in an array: ranges by their first sector, the middle of each part is its
/// root, and each root knows the last sector of its part.
#[derive(Debug, Clone, Default)]
struct Ranges {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    range: SectorRange,
    last_below: u64,
    number: u32,
    queue: Option<u16>,
}

impl Ranges {
    fn add(&mut self, range: SectorRange, number: u32, queue: Option<u16>) {
        self.nodes.push(Node { range, last_below: range.last(), number, queue });
    }

    fn build(&mut self) {
        self.nodes.sort_unstable_by_key(|node| (node.range, node.number));
        Self::fill(&mut self.nodes);
    }

    /// Tell every root of this part its last sector; returns the part's.
    fn fill(part: &mut [Node]) -> u64 {
        let middle = part.len() / 2;
        let (before, rest) = part.split_at_mut(middle);
        let Some((root, after)) = rest.split_first_mut() else {
            return 0;
        };
        root.last_below = root.range.last().max(Self::fill(before)).max(Self::fill(after));
        root.last_below
    }

    fn any(&self, range: SectorRange, queue: u16) -> bool {
        !self.each(range, queue, &mut |_| false)
    }

    /// Tell every rule that overlaps, until told to stop. False if it was stopped.
    fn each(&self, range: SectorRange, queue: u16, tell: &mut dyn FnMut(u32) -> bool) -> bool {
        Self::each_in(&self.nodes, range, queue, tell)
    }

    fn each_in(
        part: &[Node],
        range: SectorRange,
        queue: u16,
        tell: &mut dyn FnMut(u32) -> bool,
    ) -> bool {
        let (before, rest) = part.split_at(part.len() / 2);
        let Some((root, after)) = rest.split_first() else {
            return true;
        };
        if root.last_below < range.first() {
            return true;
        }
        if !Self::each_in(before, range, queue, tell) {
            return false;
        }
        if root.range.first() > range.last() {
            return true;
        }
        let hit = root.range.overlaps(range) && root.queue.is_none_or(|wanted| wanted == queue);
        if hit && !tell(root.number) {
            return false;
        }
        Self::each_in(after, range, queue, tell)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Plain = (IoTypes, Option<u16>, Option<i32>, SectorSet);

    fn matches((iotypes, queue, _, sectors): &Plain, io: &Io) -> bool {
        iotypes.contains(io.iotype)
            && queue.is_none_or(|queue| queue == io.queue)
            && (sectors.is_empty()
                || SectorRange::of_bytes(io.offset_bytes, io.bytes)
                    .is_some_and(|range| sectors.first_in(range).is_some()))
    }

    fn index_of(rules: &[Plain]) -> Index {
        (0..)
            .zip(rules)
            .map(|(number, (iotypes, queue, state, sectors))| Reach {
                number,
                iotypes: *iotypes,
                queue: *queue,
                state: *state,
                sectors,
            })
            .collect()
    }

    fn rule() -> impl Strategy<Value = Plain> {
        let ranges = proptest::collection::vec((0_u64..2000, 0_u64..20), 0..4);
        let types = proptest::collection::vec(0_usize..6, 1..4);
        let state = proptest::option::of(0_i32..3);
        (types, proptest::option::of(0_u16..3), state, ranges).prop_map(
            |(types, queue, state, ranges)| {
                let range = |(first, more)| SectorRange::new(first, first + more);
                (
                    types.into_iter().map(|place| IoType::NAMED[place]).collect(),
                    queue,
                    state,
                    ranges.into_iter().filter_map(range).collect(),
                )
            },
        )
    }

    fn io() -> impl Strategy<Value = Io> {
        (0_usize..6, 0_u64..2000, 0_u64..40, 0_u16..3).prop_map(
            |(place, sector, sectors, queue)| {
                let iotype = IoType::NAMED[place];
                let sectors = if iotype.has_sectors() { sectors } else { 0 };
                Io { iotype, offset_bytes: sector * 512, bytes: sectors * 512, ordinal: 0, queue }
            },
        )
    }

    fn same(rules: &[Plain], ios: &[Io]) {
        let index = index_of(rules);
        for io in ios {
            let scan: Vec<(u32, &Plain)> =
                (0..).zip(rules).filter(|(_, rule)| matches(rule, io)).collect();
            assert_eq!(index.any(io), !scan.is_empty(), "{io:?}");
            for state in 0..3 {
                // A rule for a range is found whatever its state, and asked.
                let here = |(_, _, wanted, sectors): &Plain| {
                    !sectors.is_empty() || wanted.is_none_or(|wanted| wanted == state)
                };
                let scan: Vec<u32> =
                    scan.iter().filter(|(_, rule)| here(rule)).map(|(number, _)| *number).collect();
                assert_eq!(index.find(io, state), scan, "{io:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn an_index_finds_what_a_scan_finds(
            rules in proptest::collection::vec(rule(), 0..80),
            ios in proptest::collection::vec(io(), 1..40),
        ) {
            same(&rules, &ios);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4))]
        #[test]
        fn ten_thousand_rules_are_found_as_by_a_scan(
            rules in proptest::collection::vec(rule(), 10_000),
            ios in proptest::collection::vec(io(), 50),
        ) {
            same(&rules, &ios);
        }
    }
}
