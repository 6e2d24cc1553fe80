//! A trigger as a rule keeps it: small, because there may be many.
//!
//! Knows: which conditions few rules have; those are elsewhere in memory, where there are any. Must not
//! know: what a match does. Invariants: it says what the trigger said that it was made of; conditions
//! are tried from the cheapest to the dearest, and guest data is read only when everything else
//! matches; only requests that meet every condition are counted.

use std::num::NonZeroU64;

use super::content::Content;
use super::schedule::Schedule;
use super::trigger::{Request, Trigger};
use crate::fault::random::Stream;
use crate::fault::slow::Share;
use crate::fault::{Io, IoTypes, SectorRange, SectorSet};

/// A trigger's conditions.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::fault) struct Conditions {
    sectors: SectorSet,
    rare: Option<Box<Rare>>,
    /// `None`: always.
    times: Option<NonZeroU64>,
    probability: Option<Share>,
    iotypes: IoTypes,
}

/// Conditions that few rules have.
#[derive(Debug, Clone, PartialEq)]
struct Rare {
    queue: Option<u16>,
    state: Option<i32>,
    depth_min: Option<u32>,
    schedule: Option<Schedule>,
    content: Option<Content>,
    skip: u64,
    every: u64,
}

/// What a rule says that has none of them.
const NOTHING_RARE: Rare = Rare {
    queue: None,
    state: None,
    depth_min: None,
    schedule: None,
    content: None,
    skip: 0,
    every: 1,
};

impl From<Trigger> for Conditions {
    /// Of a trigger that was checked.
    fn from(trigger: Trigger) -> Self {
        let Trigger { iotypes, sectors, queue, state, depth_min, schedule, content, .. } = trigger;
        let Trigger { skip, every, probability, times, .. } = trigger;
        let rare = Rare { queue, state, depth_min, schedule, content, skip, every };
        Self {
            sectors,
            rare: (rare != NOTHING_RARE).then(|| Box::new(rare)),
            times: times.and_then(NonZeroU64::new),
            probability,
            iotypes,
        }
    }
}

impl From<&Conditions> for Trigger {
    fn from(conditions: &Conditions) -> Self {
        let rare = conditions.rare.as_deref().cloned().unwrap_or(NOTHING_RARE);
        let Rare { queue, state, depth_min, schedule, content, skip, every } = rare;
        Self {
            iotypes: conditions.iotypes,
            sectors: conditions.sectors.clone(),
            queue,
            state,
            depth_min,
            schedule,
            content,
            skip,
            every,
            probability: conditions.probability,
            times: conditions.times(),
        }
    }
}

impl Conditions {
    pub(in crate::fault) fn iotypes(&self) -> IoTypes {
        self.iotypes
    }

    pub(in crate::fault) fn sectors(&self) -> &SectorSet {
        &self.sectors
    }

    pub(in crate::fault) fn queue(&self) -> Option<u16> {
        self.rare.as_ref().and_then(|rare| rare.queue)
    }

    pub(in crate::fault) fn state(&self) -> Option<i32> {
        self.rare.as_ref().and_then(|rare| rare.state)
    }

    pub(in crate::fault) fn depth_min(&self) -> Option<u32> {
        self.rare.as_ref().and_then(|rare| rare.depth_min)
    }

    pub(in crate::fault) fn schedule(&self) -> Option<Schedule> {
        self.rare.as_ref().and_then(|rare| rare.schedule)
    }

    pub(in crate::fault) fn times(&self) -> Option<u64> {
        self.times.map(NonZeroU64::get)
    }

    /// Whether a request meets the conditions that do not count. `since_ns`: when the rule came
    /// into force.
    pub(in crate::fault) fn is_met(
        &self,
        request: &Request<'_>,
        engine_state: i32,
        since_ns: u64,
    ) -> bool {
        self.concerns(&request.io)
            && self.rare.as_ref().is_none_or(|rare| rare.is_met(request, engine_state, since_ns))
    }

    /// Whether it is about requests of this type and these sectors.
    fn concerns(&self, io: &Io) -> bool {
        self.iotypes.contains(io.iotype)
            && (self.sectors.is_empty()
                || SectorRange::of_bytes(io.offset_bytes, io.bytes)
                    .is_some_and(|range| self.sectors.first_in(range).is_some()))
    }

    /// Whether the `met`-th request, from 1, that met the conditions is one to hit.
    pub(in crate::fault) fn takes(&self, met: u64, stream: &mut Stream) -> bool {
        self.rare.as_ref().is_none_or(|rare| rare.takes(met))
            && self.probability.is_none_or(|share| share.takes(stream.next_unit()))
    }
}

impl Rare {
    fn is_met(&self, request: &Request<'_>, engine_state: i32, since_ns: u64) -> bool {
        let Request { io, now_ns, depth, payload } = request;
        self.queue.is_none_or(|queue| queue == io.queue)
            && self.state.is_none_or(|state| state == engine_state)
            && self.depth_min.is_none_or(|depth_min| *depth >= depth_min)
            && self.schedule.is_none_or(|s| s.is_in_force(now_ns.saturating_sub(since_ns)))
            && self
                .content
                .as_ref()
                .is_none_or(|content| content.is_in(*payload, io.offset_bytes, io.bytes))
    }

    fn takes(&self, met: u64) -> bool {
        met.checked_sub(self.skip)
            .is_some_and(|after| after > 0 && after.is_multiple_of(self.every))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::rule::Content;

    #[test]
    fn a_rule_says_of_its_trigger_what_it_was_told() {
        let triggers = [
            Trigger::default(),
            Trigger { times: Some(1), probability: Share::new(0.25).ok(), ..Trigger::default() },
            Trigger { queue: Some(0), ..Trigger::default() },
            Trigger { state: Some(0), ..Trigger::default() },
            Trigger { depth_min: Some(1), ..Trigger::default() },
            Trigger { schedule: Some(Schedule::default()), ..Trigger::default() },
            Trigger { content: Content::new(1, None, vec![2], None).ok(), ..Trigger::default() },
            Trigger { skip: 1, ..Trigger::default() },
            Trigger { every: 2, ..Trigger::default() },
            Trigger { sectors: SectorRange::new(8, 9).into_iter().collect(), ..Trigger::default() },
        ];
        for trigger in triggers {
            assert_eq!(Trigger::from(&Conditions::from(trigger.clone())), trigger);
        }
    }
}
