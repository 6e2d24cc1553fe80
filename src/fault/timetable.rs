//! Which scheduled rules are in force now, without asking every rule.
//!
//! Knows: when each of them comes into force and goes out of it, and which requests it is about.
//! Must not know: what rules do. Invariants: what is left out is not in force, or not about such a
//! request; a rule is looked at when its schedule turns, not with every request.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Bucket, Reach};
use super::rule::Schedule;
use super::{Io, IoType, IoTypes};

/// Rules of one bucket by the depth they want, and their numbers.
type InForce = BTreeMap<Bucket, BTreeSet<(u32, u32)>>;

/// By type.
type InForces = [InForce; IoType::NAMED.len()];

/// Rules with a schedule that are about any sector, or none.
#[derive(Debug, Clone, Default)]
pub(super) struct Timetable {
    rules: Vec<Timed>,
    in_force: InForces,
    /// When to look at which of `rules` again.
    turns: BTreeSet<(u64, usize)>,
    /// The time of the last look.
    now_ns: u64,
}

#[derive(Debug, Clone)]
struct Timed {
    number: u32,
    iotypes: IoTypes,
    bucket: Bucket,
    depth_min: u32,
    schedule: Schedule,
    since_ns: u64,
}

impl Timetable {
    /// Add a rule that came into force at this time.
    pub(super) fn add(&mut self, reach: &Reach<'_>, schedule: Schedule, since_ns: u64) {
        let &Reach { number, iotypes, depth_min, .. } = reach;
        let bucket = reach.bucket();
        self.turns.insert((0, self.rules.len()));
        self.rules.push(Timed { number, iotypes, bucket, depth_min, schedule, since_ns });
    }

    /// Tell the rules that could match now.
    pub(super) fn find(
        &mut self,
        io: &Io,
        state: i32,
        depth: u32,
        now_ns: u64,
        found: &mut Vec<u32>,
    ) {
        if self.rules.is_empty() {
            return;
        }
        self.advance(now_ns);
        let in_force = &self.in_force[io.iotype as usize];
        for rules in Bucket::of(io.queue, state).into_iter().filter_map(|key| in_force.get(&key)) {
            found.extend(rules.range(..=(depth, u32::MAX)).map(|(_, number)| *number));
        }
    }

    fn advance(&mut self, now_ns: u64) {
        if now_ns < self.now_ns {
            // No clock goes back, but whoever replays requests may.
            self.in_force = InForces::default();
            self.turns = (0..self.rules.len()).map(|place| (0, place)).collect();
        }
        self.now_ns = now_ns;
        while let Some((_, place)) = self.turns.first().copied().filter(|(at, _)| *at <= now_ns) {
            self.turns.pop_first();
            self.turn(place);
        }
    }

    /// Look at a rule whose schedule may have turned.
    fn turn(&mut self, place: usize) {
        let Some(rule) = self.rules.get(place) else {
            return;
        };
        let (is_in_force, next_ns) = rule.schedule.turn(self.now_ns.saturating_sub(rule.since_ns));
        let entry = (rule.depth_min, rule.number);
        for iotype in rule.iotypes.iter() {
            let rules = self.in_force[iotype as usize].entry(rule.bucket).or_default();
            if is_in_force {
                rules.insert(entry);
            } else {
                rules.remove(&entry);
            }
        }
        // A time that does not fit never comes.
        if let Some(at_ns) = next_ns.and_then(|next_ns| rule.since_ns.checked_add(next_ns)) {
            self.turns.insert((at_ns, place));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fault::SectorSet;

    fn schedule() -> impl Strategy<Value = Schedule> {
        let turns = proptest::option::of((0_u64..6, 1_u64..6));
        (0_u64..20, proptest::option::of(1_u64..20), turns).prop_map(
            |(start_ns, duration_ns, up_down_ns)| Schedule { start_ns, duration_ns, up_down_ns },
        )
    }

    proptest! {
        #[test]
        fn a_timetable_finds_the_rules_whose_schedules_say_so(
            rules in proptest::collection::vec((schedule(), 0_u64..10, 0_u32..4), 1..30),
            moments in proptest::collection::vec((0_u64..80, 1_u32..5), 1..60),
        ) {
            let (mut timetable, sectors) = (Timetable::default(), SectorSet::default());
            for (number, (schedule, since_ns, depth_min)) in (0..).zip(&rules) {
                let reach = Reach {
                    number,
                    iotypes: IoTypes::ALL,
                    queue: None,
                    state: None,
                    depth_min: *depth_min,
                    is_scheduled: true,
                    sectors: &sectors,
                };
                timetable.add(&reach, *schedule, *since_ns);
            }
            let io =
                Io { iotype: IoType::Read, offset_bytes: 0, bytes: 512, ordinal: 0, queue: 0 };
            // Forward, and now and then back.
            for (now_ns, depth) in moments {
                let scan: Vec<u32> = (0..)
                    .zip(&rules)
                    .filter(|(_, (schedule, since_ns, depth_min))| {
                        *depth_min <= depth
                            && schedule.is_in_force(now_ns.saturating_sub(*since_ns))
                    })
                    .map(|(number, _)| number)
                    .collect();
                let mut found = Vec::new();
                timetable.find(&io, 1, depth, now_ns, &mut found);
                found.sort_unstable();
                prop_assert_eq!(found, scan, "at {}", now_ns);
            }
        }
    }

    #[test]
    fn a_rule_is_looked_at_when_its_schedule_turns_and_not_before() {
        let (mut timetable, sectors) = (Timetable::default(), SectorSet::default());
        let schedule = Schedule { start_ns: 100, duration_ns: Some(5), ..Schedule::default() };
        for number in 0..1000 {
            let reach = Reach {
                number,
                iotypes: IoTypes::ALL,
                queue: None,
                state: None,
                depth_min: 0,
                is_scheduled: true,
                sectors: &sectors,
            };
            timetable.add(&reach, schedule, 0);
        }
        let io = Io { iotype: IoType::Read, offset_bytes: 0, bytes: 512, ordinal: 0, queue: 0 };
        let mut counts = Vec::new();
        for now_ns in [0, 99, 100, 104, 105] {
            let mut found = Vec::new();
            timetable.find(&io, 1, 1, now_ns, &mut found);
            counts.push((found.len(), timetable.turns.first().map(|(at, _)| *at)));
        }
        let (waits, ends) = (Some(100), Some(105));
        assert_eq!(counts, [(0, waits), (0, waits), (1000, ends), (1000, ends), (0, None)]);
    }
}
