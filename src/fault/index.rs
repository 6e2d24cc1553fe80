//! Which rules could match a request, without asking every rule.
//!
//! Knows: I/O types, queues, engine states, depths and sector ranges of rules, by a number that says
//! their order. Must not know: what rules do, or time (`timetable`). Invariants: an index never changes,
//! so queues may share it without a lock; what it leaves out cannot match (what it finds still has to be
//! asked); a query costs O(log ranges + found) for each set of I/O types that rules name; a rule is in
//! it once, however many types it names.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::sectors::{SectorRange, SectorSet};
use super::{Io, IoType, IoTypes};

/// An index of rules, numbered in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    groups: Vec<Group>,
}

/// The rules that name the same I/O types, of which there are few sets in use.
#[derive(Debug, Clone, Default)]
struct Group {
    iotypes: IoTypes,
    /// Rules for any sector, with the depth each wants, in rising order of both.
    anywhere: BTreeMap<Bucket, Vec<(u32, u32)>>,
    /// Where there are rules for any sector that have a schedule: `timetable` knows them.
    scheduled: BTreeSet<Bucket>,
    ranges: Ranges,
}

/// The queue and the engine state that a rule wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket {
    queue: Option<u16>,
    state: Option<i32>,
}

impl Bucket {
    /// Those in which the rules for a request of this queue in this state are.
    pub(super) fn of(queue: u16, state: i32) -> [Self; 4] {
        let (queue, state) = (Some(queue), Some(state));
        [(None, None), (None, state), (queue, None), (queue, state)]
            .map(|(queue, state)| Self { queue, state })
    }

    /// All of a queue's, whatever the state.
    fn of_queue(queue: Option<u16>) -> RangeInclusive<Self> {
        Self { queue, state: None }..=Self { queue, state: Some(i32::MAX) }
    }
}

/// What an index needs to know about a rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach<'a> {
    pub(super) number: u32,
    pub(super) iotypes: IoTypes,
    pub(super) queue: Option<u16>,
    pub(super) state: Option<i32>,
    /// The fewest requests in flight; 0 where that is no condition.
    pub(super) depth_min: u32,
    pub(super) is_scheduled: bool,
    /// Empty: any sector, or none.
    pub(super) sectors: &'a SectorSet,
}

impl Reach<'_> {
    pub(super) fn bucket(&self) -> Bucket {
        Bucket { queue: self.queue, state: self.state }
    }
}

impl<'a> FromIterator<Reach<'a>> for Index {
    /// Rules come in rising order of their numbers.
    fn from_iter<T: IntoIterator<Item = Reach<'a>>>(rules: T) -> Self {
        let mut index = Self::default();
        for rule in rules {
            let group = index.group(rule.iotypes);
            if rule.sectors.is_empty() && rule.is_scheduled {
                group.scheduled.insert(rule.bucket());
            } else if rule.sectors.is_empty() {
                let rules = group.anywhere.entry(rule.bucket()).or_default();
                rules.push((rule.depth_min, rule.number));
            }
            for range in rule.sectors.ranges() {
                group.ranges.add(*range, rule.number, rule.queue);
            }
        }
        for group in &mut index.groups {
            group.ranges.build();
            for rules in group.anywhere.values_mut() {
                rules.sort_unstable();
                rules.shrink_to_fit();
            }
        }
        index
    }
}

impl Index {
    /// The group of these types, a new one if there is none.
    fn group(&mut self, iotypes: IoTypes) -> &mut Group {
        let known = self.groups.iter().position(|group| group.iotypes == iotypes);
        let place = known.unwrap_or(self.groups.len());
        if known.is_none() {
            self.groups.push(Group { iotypes, ..Group::default() });
        }
        &mut self.groups[place]
    }

    /// The groups that concern this type.
    fn groups(&self, iotype: IoType) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.iotypes.contains(iotype))
    }

    /// Whether some rule could match in some engine state, at some depth and time.
    pub(super) fn any(&self, io: &Io) -> bool {
        let range = SectorRange::of_bytes(io.offset_bytes, io.bytes);
        self.groups(io.iotype).any(|group| {
            group.any_anywhere(io.queue)
                || range.is_some_and(|range| group.ranges.any(range, io.queue))
        })
    }

    /// The rules that could match in this engine state and at this depth, in order, but for those
    /// about any sector that have a schedule.
    pub(super) fn find(&self, io: &Io, state: i32, depth: u32) -> Vec<u32> {
        let range = SectorRange::of_bytes(io.offset_bytes, io.bytes);
        let mut found = Vec::new();
        for group in self.groups(io.iotype) {
            found.extend(group.anywhere(io.queue, state, depth));
            if let Some(range) = range {
                group.ranges.each(range, io.queue, &mut |number| {
                    found.push(number);
                    true
                });
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether no request could match.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

impl Group {
    fn any_anywhere(&self, queue: u16) -> bool {
        [None, Some(queue)].into_iter().any(|queue| {
            self.anywhere.range(Bucket::of_queue(queue)).next().is_some()
                || self.scheduled.range(Bucket::of_queue(queue)).next().is_some()
        })
    }

    fn anywhere(&self, queue: u16, state: i32, depth: u32) -> impl Iterator<Item = u32> {
        Bucket::of(queue, state)
            .into_iter()
            .filter_map(|bucket| self.anywhere.get(&bucket))
            .flat_map(move |rules| {
                let deep_enough = rules.partition_point(|(depth_min, _)| *depth_min <= depth);
                rules[..deep_enough].iter().map(|(_, number)| *number)
            })
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
        self.nodes.shrink_to_fit();
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

    type Plain = (IoTypes, Option<u16>, Option<i32>, u32, SectorSet);

    fn matches((iotypes, queue, _, _, sectors): &Plain, io: &Io) -> bool {
        iotypes.contains(io.iotype)
            && queue.is_none_or(|queue| queue == io.queue)
            && (sectors.is_empty()
                || SectorRange::of_bytes(io.offset_bytes, io.bytes)
                    .is_some_and(|range| sectors.first_in(range).is_some()))
    }

    fn index_of(rules: &[Plain]) -> Index {
        (0..)
            .zip(rules)
            .map(|(number, (iotypes, queue, state, depth_min, sectors))| Reach {
                number,
                iotypes: *iotypes,
                queue: *queue,
                state: *state,
                depth_min: *depth_min,
                is_scheduled: false,
                sectors,
            })
            .collect()
    }

    fn rule() -> impl Strategy<Value = Plain> {
        let ranges = proptest::collection::vec((0_u64..2000, 0_u64..20), 0..4);
        let types = proptest::collection::vec(0_usize..6, 1..4);
        let state = proptest::option::of(0_i32..3);
        (types, proptest::option::of(0_u16..3), state, 0_u32..4, ranges).prop_map(
            |(types, queue, state, depth_min, ranges)| {
                let range = |(first, more)| SectorRange::new(first, first + more);
                (
                    types.into_iter().map(|place| IoType::NAMED[place]).collect(),
                    queue,
                    state,
                    depth_min,
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
            for (state, depth) in (0..3).zip([3, 1, 2]) {
                // A rule for a range is found whatever its state and depth, and asked.
                let here = |(_, _, wanted, depth_min, sectors): &Plain| {
                    let met = wanted.is_none_or(|wanted| wanted == state) && *depth_min <= depth;
                    !sectors.is_empty() || met
                };
                let scan: Vec<u32> =
                    scan.iter().filter(|(_, rule)| here(rule)).map(|(number, _)| *number).collect();
                assert_eq!(index.find(io, state, depth), scan, "{io:?}");
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
