//! One question to the engine on a request's behalf.
//!
//! Knows: the engine's verdicts and the registry of those who wait. Must not know: how a channel
//! carries an answer out. Invariant: whoever is to wait is in the registry before anything else
//! can be decided or released; whoever is told, is told after the lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::delayed::Delayed;
use super::held::{Held, HeldCause, HeldReport, Key};
use super::link::Link;
use super::record::{Asked, Heard, Step};
use super::standing::Standing;
use super::{Core, Record, Shared};
use crate::block::Op;
use crate::errno::Errno;
use crate::fault::engine::{Decision, Notice, Passage, Then, Verdict, Waits};
use crate::fault::rule::Request;

/// What a channel asks.
#[derive(Debug)]
pub(in crate::block) enum Question {
    /// A request was taken.
    Decide,
    /// Its wait is over.
    GoOn(Passage),
    /// Its result is known, or another than before: the image's, or a decided one.
    Finished(Passage, Result<(), Errno>, bool),
    /// It stands here, since an earlier channel had it.
    Again(Box<Standing>),
}

impl Question {
    /// About a request that an earlier channel had: whether it was let go decides.
    pub(in crate::block) fn of(standing: Box<Standing>) -> Self {
        match standing.go {
            Some(_) => Self::GoOn(standing.passage),
            None => Self::Again(standing),
        }
    }
}

/// What becomes of a request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::block) enum Next {
    /// It goes on: to the image, or to the guest if its result is known.
    Pass,
    /// It fails.
    Fail(Errno),
    /// Its wait is left out; it goes on where it is.
    Skip,
    /// It waits until then, and is registered under this key.
    Delay(Key, Instant, Then),
    /// It is held and registered under this key; released in time if there is one.
    Hold(Key, Option<Duration>, Then),
    /// It is never answered: its front end is being disconnected.
    Lose(Key),
    /// It is not answered here, and submitted again to another channel.
    Keep,
}

/// What becomes of waits in a channel whose ring stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::block) enum Stopping {
    /// Who would be held fails with this.
    Fail(Errno),
    /// Who would wait is left to another channel.
    Keep,
}

/// An answer, and the passage for the next question.
#[derive(Debug)]
pub(in crate::block) struct Answer {
    pub(in crate::block) next: Next,
    pub(in crate::block) passage: Passage,
}

/// What is to be told when the lock is free again.
enum News {
    Nothing,
    StoppedAt(Box<HeldReport>),
    Disconnect,
}

impl Shared {
    /// Ask about an op of this channel. In a `stopping` channel nobody waits.
    pub(in crate::block) fn ask(
        &self,
        question: Question,
        op: &Op,
        link: &Arc<Link>,
        stopping: Option<Stopping>,
    ) -> Answer {
        let mut core = self.lock();
        let (now_ns, depth) = (self.now_ns(), core.depth());
        let request = Request { io: op.io(), now_ns, depth, payload: op };
        let is_new = !matches!(question, Question::Again(_));
        let decision = self.decide(&mut core, question, &request, link);
        let Decision { verdict, passage, notices } = decision;
        if is_new && !matches!(stopping, Some(Stopping::Fail(_))) {
            self.counters.count(&verdict);
        }
        let (next, news) = match stopping {
            Some(Stopping::Fail(errno)) => (without_waiting(verdict, errno), News::Nothing),
            Some(Stopping::Keep) if is_wait(&verdict) => (Next::Keep, News::Nothing),
            Some(Stopping::Keep) | None => self.carry(&mut core, verdict, &request, link),
        };
        drop(core);
        self.tell(&notices, &news);
        Answer { next, passage }
    }

    /// Ask the engine, and note what it says.
    fn decide(
        &self,
        core: &mut Core,
        question: Question,
        request: &Request<'_>,
        link: &Arc<Link>,
    ) -> Decision {
        let heard = Heard::new(request.payload);
        let payload = if core.keeper.is_some() { &heard } else { request.payload };
        let asked = Request { payload, ..*request };
        let (step, decision) = match question {
            Question::Decide => (Step::Decide, core.engine.decide(&asked)),
            Question::GoOn(passage) => (Step::GoOn, core.engine.go_on(&asked, passage)),
            Question::Finished(passage, result, decided) => {
                (Step::Finished(result, decided), core.engine.finished(&asked, passage, result))
            }
            Question::Again(standing) => {
                let verdict = standing.verdict_at(request.now_ns);
                let Standing { passage, result, .. } = *standing;
                let decision = Decision { verdict, passage, notices: Vec::new() };
                core.standings.note(&request.io, &decision, result, request.now_ns);
                return decision;
            }
        };
        core.ordinals_end = core.ordinals_end.max(request.io.ordinal.saturating_add(1));
        if link.is_resumed() {
            core.standings.note(&request.io, &decision, step.result(), request.now_ns);
        }
        let (now_ns, depth, io) = (request.now_ns, request.depth, request.io);
        self.keep(core, || {
            Record::Asked(Asked { now_ns, depth, io, step, reads: heard.into_reads() })
        });
        decision
    }

    fn carry(
        &self,
        core: &mut Core,
        verdict: Verdict,
        request: &Request<'_>,
        link: &Arc<Link>,
    ) -> (Next, News) {
        match verdict {
            Verdict::Pass => (Next::Pass, News::Nothing),
            Verdict::Fail(errno, _) => (Next::Fail(errno), News::Nothing),
            Verdict::Delay { waits, then } => {
                (Self::delay(core, waits, then, request, link), News::Nothing)
            }
            Verdict::Hold { at_most, then, cause } => {
                let report = HeldReport::new(&request.io, HeldCause::Fault(cause));
                let key = Self::hold(core, report, then, link);
                (Next::Hold(key, at_most, then), News::Nothing)
            }
            Verdict::Break { tags, point, cause } => {
                let report = HeldReport::new(&request.io, HeldCause::Fault(cause));
                let report = HeldReport { tags, point, ..report };
                self.waits.met(&report);
                let key = Self::hold(core, report.clone(), Then::GoOn, link);
                (Next::Hold(key, None, Then::GoOn), News::StoppedAt(Box::new(report)))
            }
            Verdict::Disconnect(_) => (Next::Lose(core.registry.next_key()), News::Disconnect),
        }
    }

    fn delay(
        core: &mut Core,
        waits: Waits,
        then: Then,
        request: &Request<'_>,
        link: &Arc<Link>,
    ) -> Next {
        let (key, ends) = (core.registry.next_key(), after(waits.duration()));
        let request = (request.io.queue, request.io.ordinal);
        core.registry
            .delays
            .insert(key, Delayed { waits, ends, then, link: link.clone(), request });
        Next::Delay(key, ends, then)
    }

    fn hold(core: &mut Core, report: HeldReport, then: Then, link: &Arc<Link>) -> Key {
        let key = core.registry.next_key();
        core.registry.insert(key, Held { report, then, link: link.clone(), fails: None });
        key
    }

    /// Hold an op that the image failed, if the policy still says so.
    pub(in crate::block) fn hold_on_error(
        &self,
        op: &Op,
        errno: Errno,
        link: &Arc<Link>,
    ) -> Option<Key> {
        let mut core = self.lock();
        if !core.on_error.holds(errno) {
            return None;
        }
        let report = HeldReport::new(&op.io(), HeldCause::ImageError(errno));
        self.counters.count_held();
        let key = Self::hold(&mut core, report.clone(), Then::GoOn, link);
        drop(core);
        if let Some(observer) = self.observer.get() {
            observer.held_on_error(&report);
        }
        Some(key)
    }

    fn tell(&self, notices: &[Notice], news: &News) {
        self.notice(notices);
        match news {
            News::Nothing => {}
            News::StoppedAt(report) => {
                if let Some(observer) = self.observer.get() {
                    observer.stopped_at(report);
                }
            }
            News::Disconnect => self.disconnect(),
        }
    }
}

/// The moment so long from now; a century is long enough.
pub(in crate::block) fn after(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400))
}

fn is_wait(verdict: &Verdict) -> bool {
    !matches!(verdict, Verdict::Pass | Verdict::Fail(..))
}

/// What becomes of a request whose ring stops: delays are cut short, holds fail.
fn without_waiting(verdict: Verdict, errno: Errno) -> Next {
    match verdict {
        Verdict::Pass => Next::Pass,
        Verdict::Fail(errno, _) | Verdict::Delay { then: Then::Fail(errno), .. } => {
            Next::Fail(errno)
        }
        Verdict::Delay { then: Then::GoOn, .. } => Next::Skip,
        Verdict::Hold { .. } | Verdict::Break { .. } | Verdict::Disconnect(_) => Next::Fail(errno),
    }
}
