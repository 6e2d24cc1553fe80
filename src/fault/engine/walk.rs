//! A request's walk past the stations.
//!
//! Knows: the order of the stations and where a wait interrupts the walk. Must not know: how a
//! single rule answers (`entry`, `machine`). Invariant: a passage only moves forward, so no rule
//! sees a request twice at one station.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Engine;
use super::entry::Answer;
use super::verdict::{Cause, Notice, Then, Verdict, Waits};
use crate::errno::Errno;
use crate::fault::blkdebug::plan::{self, Leg};
use crate::fault::manual::{DiskState, DiskStateName};
use crate::fault::random::Stream;
use crate::fault::rule::{Point, Request};
use crate::fault::{Io, IoType, SectorRange};

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Station {
    /// The manual state is next.
    State,
    /// The native rules that act at this point are next, behind the last one that answered.
    Rules(Point, Option<Last>),
    /// This step of this leg through blkdebug is next.
    Blkdebug(Leg, usize),
    /// The image is next.
    Image,
    /// It is at the image.
    AtImage,
    /// It failed by decision and never reached the image.
    Failed,
    /// blkdebug's last event is next.
    AfterEvent,
    /// Its end counts: healing, and a slow disk's stretch.
    Settle,
    /// It may be answered.
    Answer,
}

/// The rule that answered last: its id, and where it was, should it be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Last {
    id: u64,
    position: usize,
}

/// A request's way through the engine. Whoever carries the request keeps it, and gives it back to
/// [`Engine::go_on`] or [`Engine::finished`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Passage {
    pub(super) station: Station,
    /// Decided already, to be told when a wait is over.
    pending: Option<Pending>,
    /// blkdebug has seen it: when, in its count of writes, and whether a flush was due.
    pub(super) blkdebug: Option<Seen>,
    /// The profile of state slow that concerned it, and when that state was entered.
    profile: Option<(u64, usize)>,
    at_image_ns: u64,
    result: Option<Result<(), Errno>>,
}

/// What a rule decided, behind the waits of rules before it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pending {
    verdict: Verdict,
    rule_id: u64,
    rule_stint: u32,
}

/// What blkdebug knew when it first saw a request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) written: u64,
    pub(super) unflushed: bool,
}

/// What becomes of a request, and what is to be told.
#[derive(Debug)]
#[must_use]
pub struct Decision {
    /// What becomes of it now.
    pub verdict: Verdict,
    /// To be given back.
    pub passage: Passage,
    /// For events and traces.
    pub notices: Vec<Notice>,
}

impl Engine {
    /// Decide about a request that was just taken.
    pub fn decide(&mut self, request: &Request<'_>) -> Decision {
        let passage = Passage {
            station: Station::State,
            pending: None,
            blkdebug: None,
            profile: None,
            at_image_ns: request.now_ns,
            result: None,
        };
        self.go_on(request, passage)
    }

    /// Decide about a request whose wait is over ([`Then::GoOn`], or a breakpoint that was
    /// resumed). The request's time and depth are the present ones.
    pub fn go_on(&mut self, request: &Request<'_>, mut passage: Passage) -> Decision {
        let mut notices = Vec::new();
        let verdict = loop {
            let pending = passage.pending.take();
            if let Some(verdict) = pending.and_then(|pending| self.is_still(pending)) {
                break verdict;
            }
            if let Some(verdict) = self.step(request, &mut passage, &mut notices) {
                break verdict;
            }
        };
        Decision { verdict, passage, notices }
    }

    /// What was decided behind a wait, as of now: a rule that was removed or put out of force
    /// meanwhile holds nobody any more.
    fn is_still(&self, pending: Pending) -> Option<Verdict> {
        let Pending { verdict, rule_id, rule_stint } = pending;
        let rule = self.position_of(rule_id).and_then(|position| self.rules.get(position));
        if rule.is_some_and(|entry| entry.life.stint == rule_stint) {
            return Some(verdict);
        }
        match verdict {
            Verdict::Hold { then: Then::Fail(errno), cause, .. } => {
                Some(Verdict::Fail(errno, cause))
            }
            Verdict::Hold { .. } | Verdict::Break { .. } => None,
            decided => Some(decided),
        }
    }

    /// Tell a request's end: what the image said, or what was decided. [`Verdict::Pass`] then means
    /// that the result may be told to the guest.
    ///
    /// To be called for every request that [`decide`](Self::decide) saw and that is going to be
    /// answered; once more for one that waits on its way out and is to have another result.
    pub fn finished(
        &mut self,
        request: &Request<'_>,
        mut passage: Passage,
        result: Result<(), Errno>,
    ) -> Decision {
        passage.pending = None;
        passage.station = match (passage.station, passage.result.replace(result)) {
            (Station::AtImage, None) => Station::Rules(Point::AfterImage, None),
            (_, None) => Station::AfterEvent,
            (station, Some(_)) => station,
        };
        self.go_on(request, passage)
    }

    /// Pass one station. `None`: on to the next.
    fn step(
        &mut self,
        request: &Request<'_>,
        passage: &mut Passage,
        notices: &mut Vec<Notice>,
    ) -> Option<Verdict> {
        match passage.station {
            Station::State => self.pass_state(request, passage),
            Station::Rules(point, last) => self.pass_rules(request, passage, notices, point, last),
            Station::Blkdebug(leg, step) => {
                self.pass_blkdebug(request, passage, notices, (leg, step))
            }
            Station::AfterEvent => self.pass_after_event(request, passage, notices),
            Station::Settle => self.settle(request, passage, notices),
            Station::Image => {
                passage.station = Station::AtImage;
                passage.at_image_ns = request.now_ns;
                Some(Verdict::Pass)
            }
            Station::AtImage | Station::Failed | Station::Answer => Some(Verdict::Pass),
        }
    }

    fn pass_state(&mut self, request: &Request<'_>, passage: &mut Passage) -> Option<Verdict> {
        passage.station = Station::Rules(Point::Received, None);
        if !self.state.concerns(&request.io) {
            return None;
        }
        let cause = Cause::State(self.state.name());
        match &self.state {
            DiskState::None => None,
            DiskState::Error { errno, .. } | DiskState::ReadOnly { errno } => {
                passage.station = Station::Failed;
                Some(Verdict::Fail(*errno, cause))
            }
            DiskState::Hang { on_release, .. } => {
                // Whoever is told to run all the same goes on to the rules.
                let then = on_release.map_or(Then::GoOn, Then::Fail);
                Some(Verdict::Hold { at_most: None, then, cause })
            }
            DiskState::Slow { .. } => {
                let delay_ns = self.slow_ns(request, passage);
                let duration = Duration::from_nanos(delay_ns);
                wait(Waits::of(cause, duration))
            }
            DiskState::Offline => {
                passage.station = Station::Failed;
                Some(Verdict::Disconnect(cause))
            }
        }
    }

    /// How long state slow makes a request wait before the image, nanoseconds.
    fn slow_ns(&mut self, request: &Request<'_>, passage: &mut Passage) -> u64 {
        let DiskState::Slow { profiles } = &self.state else {
            return 0;
        };
        let concerned = profiles.iter().position(|profile| profile.concerns(&request.io));
        // Not a rule's name: those have no colon.
        let mut stream = Stream::new(self.seed, "state:slow", request.io.ordinal);
        let delay_ns = concerned.and_then(|at| {
            let (profile, pacing) = profiles.get(at).zip(self.pacing.get_mut(at))?;
            pacing.delay_ns(profile, &request.io, request.now_ns, &mut stream)
        });
        passage.profile = concerned.filter(|_| delay_ns.is_some()).map(|at| (self.entered, at));
        delay_ns.unwrap_or(0)
    }

    /// Ask the native rules that act at this point, in order.
    fn pass_rules(
        &mut self,
        request: &Request<'_>,
        passage: &mut Passage,
        notices: &mut Vec<Notice>,
        point: Point,
        last: Option<Last>,
    ) -> Option<Verdict> {
        passage.station = after_rules(point, &request.io);
        if !self.acts_at(point) {
            return None;
        }
        let from = last.map_or(0, |Last { id, position }| {
            self.position_of(id).map_or(position, |position| position + 1)
        });
        let state = self.engine_state();
        let mut waits = Waits::default();
        for number in self.find(request, state) {
            let position = usize::try_from(number).unwrap_or(usize::MAX);
            let Some(entry) = self.rules.get_mut(position).filter(|_| position >= from) else {
                continue;
            };
            if entry.rule.effect().point() != point {
                continue;
            }
            let Some(answer) = entry.answer(request, state, self.seed, notices) else {
                continue;
            };
            let (id, stint, goes_on) = (entry.id, entry.life.stint, entry.rule.goes_on());
            let cause = entry.cause();
            if entry.life.remaining(entry.rule.conditions()) == Some(0) {
                self.count_exhausted();
            }
            match answer {
                Answer::Wait(delay_ns) => waits.add(cause, Duration::from_nanos(delay_ns)),
                Answer::State(state) => {
                    let from = self.engine_state();
                    self.blkdebug.machine.set_state(state);
                    notices.extend(self.engine_state_notice(from));
                }
                Answer::End(verdict) => {
                    passage.station = Station::Failed;
                    return Some(passage.after_waiting(waits, verdict, (id, stint)));
                }
                Answer::Pause(verdict) => {
                    if goes_on {
                        passage.station = Station::Rules(point, Some(Last { id, position }));
                    }
                    return Some(passage.after_waiting(waits, verdict, (id, stint)));
                }
            }
            if !goes_on {
                break;
            }
        }
        wait(waits)
    }

    fn pass_after_event(
        &mut self,
        request: &Request<'_>,
        passage: &mut Passage,
        notices: &mut Vec<Notice>,
    ) -> Option<Verdict> {
        passage.station = Station::Settle;
        passage.blkdebug?;
        self.raise(plan::after(request.io.iotype)?, notices)
    }

    /// Count the end of a request: what it wrote, flushed, healed; and stretch it on a slow disk.
    fn settle(
        &mut self,
        request: &Request<'_>,
        passage: &mut Passage,
        notices: &mut Vec<Notice>,
    ) -> Option<Verdict> {
        passage.station = Station::Rules(Point::BeforeAnswer, None);
        let io = &request.io;
        let succeeded = passage.result == Some(Ok(()));
        if let Some(seen) = passage.blkdebug {
            match io.iotype {
                // `bdrv_co_write_req_finish`: failed ones count too.
                IoType::Write | IoType::WriteZeroes | IoType::Discard => {
                    self.blkdebug.written = self.blkdebug.written.wrapping_add(1);
                }
                IoType::Flush if succeeded => {
                    self.blkdebug.flushed = self.blkdebug.flushed.max(seen.written);
                }
                IoType::Flush | IoType::Read | IoType::GetId => {}
            }
        }
        let range = SectorRange::of_bytes(io.offset_bytes, io.bytes);
        if let Some(range) = range.filter(|_| succeeded) {
            for number in self.armed.clone().find_healing(io) {
                let position = usize::try_from(number).unwrap_or(usize::MAX);
                if let Some(entry) = self.rules.get_mut(position) {
                    entry.heal(range, notices);
                }
            }
        }
        self.stretch(request, passage)
    }

    fn stretch(&self, request: &Request<'_>, passage: &mut Passage) -> Option<Verdict> {
        let DiskState::Slow { profiles } = &self.state else {
            return None;
        };
        // One that was taken under another state, or other terms, is no concern of these.
        let (_, at) = passage.profile.take().filter(|(entered, _)| *entered == self.entered)?;
        let (profile, pacing) = profiles.get(at).zip(self.pacing.get(at))?;
        let took_ns = request.now_ns.saturating_sub(passage.at_image_ns);
        let delay_ns = pacing.stretch_ns(profile, took_ns, request.now_ns);
        let cause = Cause::State(DiskStateName::Slow);
        wait(Waits::of(cause, Duration::from_nanos(delay_ns)))
    }
}

/// Wait, if there is something to wait for, and go on.
fn wait(waits: Waits) -> Option<Verdict> {
    (!waits.is_empty()).then_some(Verdict::Delay { waits, then: Then::GoOn })
}

/// Where a request goes from the rules of a point.
fn after_rules(point: Point, io: &Io) -> Station {
    match point {
        Point::Received => Station::Blkdebug(Leg::default(), 0),
        Point::BeforeImage if io.iotype == IoType::Flush => {
            Station::Rules(Point::FlushBeforeCommit, None)
        }
        Point::BeforeImage | Point::FlushBeforeCommit => Station::Image,
        Point::AfterImage => Station::AfterEvent,
        Point::BeforeAnswer => Station::Answer,
    }
}

impl Passage {
    /// Put off what a rule decided until earlier rules' delays are over.
    fn after_waiting(
        &mut self,
        mut waits: Waits,
        verdict: Verdict,
        (rule_id, rule_stint): (u64, u32),
    ) -> Verdict {
        if waits.is_empty() {
            return verdict;
        }
        match verdict {
            Verdict::Fail(errno, _) => Verdict::Delay { waits, then: Then::Fail(errno) },
            Verdict::Delay { waits: own, then } => {
                waits.append(own);
                Verdict::Delay { waits, then }
            }
            verdict => {
                self.pending = Some(Pending { verdict, rule_id, rule_stint });
                Verdict::Delay { waits, then: Then::GoOn }
            }
        }
    }
}
