//! One question to the engine on a request's behalf.
//!
//! Knows: the engine's verdicts and the registry of those who wait. Must not know: how a channel
//! carries an answer out. Invariant: whoever is to wait is in the registry before anything else
//! can be decided or released; whoever is told, is told after the lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::delayed::Delayed;
use super::held::{Held, HeldCause, HeldReport, Key};
use super::link::Link;
use super::{Core, Shared};
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
    /// Its result is known, or another than before.
    Finished(Passage, Result<(), Errno>),
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
    /// Ask about an op of this channel. In a `stopping` channel nobody is held.
    pub(in crate::block) fn ask(
        &self,
        question: Question,
        op: &Op,
        link: &Arc<Link>,
        stopping: Option<Errno>,
    ) -> Answer {
        let mut core = self.lock();
        let request =
            Request { io: op.io(), now_ns: self.now_ns(), depth: core.depth(), payload: op };
        let Decision { verdict, passage, notices } = match question {
            Question::Decide => core.engine.decide(&request),
            Question::GoOn(passage) => core.engine.go_on(&request, passage),
            Question::Finished(passage, result) => core.engine.finished(&request, passage, result),
        };
        let (next, news) = match stopping {
            Some(errno) => (without_waiting(verdict, errno), News::Nothing),
            None => self.carry(&mut core, verdict, &request, link),
        };
        drop(core);
        self.tell(&notices, &news);
        Answer { next, passage }
    }

    fn carry(
        &self,
        core: &mut Core,
        verdict: Verdict,
        request: &Request<'_>,
        link: &Arc<Link>,
    ) -> (Next, News) {
        let counters = &self.counters;
        match verdict {
            Verdict::Pass => (Next::Pass, News::Nothing),
            Verdict::Fail(errno, _) => (Next::Fail(errno), News::Nothing),
            Verdict::Delay { waits, then } => (self.delay(core, waits, then, link), News::Nothing),
            Verdict::Hold { at_most, then, cause } => {
                let report = HeldReport::new(&request.io, HeldCause::Fault(cause));
                let key = self.hold(core, report, then, link);
                (Next::Hold(key, at_most, then), News::Nothing)
            }
            Verdict::Break { tags, point, cause } => {
                let report = HeldReport::new(&request.io, HeldCause::Fault(cause));
                let report = HeldReport { tags, point, ..report };
                self.waits.met(&report);
                let key = self.hold(core, report.clone(), Then::GoOn, link);
                (Next::Hold(key, None, Then::GoOn), News::StoppedAt(Box::new(report)))
            }
            Verdict::Disconnect(_) => {
                counters.disconnected.fetch_add(1, Ordering::Relaxed);
                (Next::Lose(core.registry.next_key()), News::Disconnect)
            }
        }
    }

    fn delay(&self, core: &mut Core, waits: Waits, then: Then, link: &Arc<Link>) -> Next {
        self.counters.delayed.fetch_add(1, Ordering::Relaxed);
        let (key, ends) = (core.registry.next_key(), after(waits.duration()));
        core.registry.delays.insert(key, Delayed { waits, ends, then, link: link.clone() });
        Next::Delay(key, ends, then)
    }

    fn hold(&self, core: &mut Core, report: HeldReport, then: Then, link: &Arc<Link>) -> Key {
        self.counters.held_total.fetch_add(1, Ordering::Relaxed);
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
        let key = self.hold(&mut core, report.clone(), Then::GoOn, link);
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
