//! A native rule in the engine: the rule, its life, its sectors.
//!
//! Knows: how one rule answers one request. Must not know: other rules. Invariant: a hit is
//! counted exactly when the rule does something.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::verdict::{Action, Cause, Notice, Then, Verdict, Waits};
use crate::errno::Errno;
use crate::fault::index::Reach;
use crate::fault::random::Stream;
use crate::fault::rule::{Effect, Life, Media, Met, Request, Rule, RuleName, Touch, Wounds};
use crate::fault::{Io, IoType, SectorRange};

/// A rule with what it did and what is left of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(super) struct Entry {
    /// Never given to another rule.
    pub(super) id: u64,
    pub(super) rule: Arc<Rule>,
    pub(super) life: Life,
    /// Only media faults have any.
    pub(super) wounds: Option<Box<Wounds>>,
}

/// A rule, found by its name.
#[derive(Debug, Clone)]
pub(super) struct Named(pub(super) Arc<Rule>);

impl Borrow<RuleName> for Named {
    fn borrow(&self) -> &RuleName {
        self.0.name()
    }
}

impl Ord for Named {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name().cmp(other.0.name())
    }
}

impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Named {}

/// What a rule does to a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// It waits so many nanoseconds; the next rule is looked at if this one says so.
    Wait(u64),
    /// The engine's state becomes this; the same.
    State(i32),
    /// This is decided, once earlier waits are over.
    End(Verdict),
    /// It stops here; afterwards the same.
    Pause(Verdict),
}

impl Entry {
    pub(super) fn new(id: u64, rule: Rule, now_ns: u64) -> Self {
        let life = Life::new(rule.starts_enabled(), now_ns);
        let wounds = Self::fresh_wounds(&rule);
        Self { id, rule: Arc::new(rule), life, wounds }
    }

    fn fresh_wounds(rule: &Rule) -> Option<Box<Wounds>> {
        let is_media = matches!(rule.effect(), Effect::Media(_));
        is_media.then(|| Box::new(Wounds::new(rule.conditions().sectors().clone())))
    }

    /// Whether it has wounds exactly if it is a media fault.
    pub(super) fn has_its_wounds(&self) -> bool {
        self.wounds.is_some() == matches!(self.rule.effect(), Effect::Media(_))
    }

    /// As if it had just been added, in or out of force as it is.
    pub(super) fn reset(&mut self, now_ns: u64) {
        self.life.begin_again(now_ns);
        self.wounds = Self::fresh_wounds(&self.rule);
    }

    /// Whether it has hits left.
    pub(super) fn may_hit(&self) -> bool {
        self.life.remaining(self.rule.conditions()) != Some(0)
    }

    /// Which requests it is about.
    pub(super) fn reach(&self, number: u32) -> Reach<'_> {
        let conditions = self.rule.conditions();
        Reach {
            number,
            iotypes: conditions.iotypes(),
            queue: conditions.queue(),
            state: conditions.state(),
            depth_min: conditions.depth_min().unwrap_or(0),
            is_scheduled: conditions.schedule().is_some(),
            sectors: conditions.sectors(),
        }
    }

    /// Whether it makes requests wait.
    pub(super) fn makes_wait(&self) -> bool {
        match self.rule.effect() {
            Effect::Hang { .. } | Effect::Break { .. } | Effect::Delay { .. } => true,
            Effect::Media(media) => media.slow_first.is_some(),
            Effect::Error(_) | Effect::SetState(_) | Effect::Disconnect => false,
        }
    }

    pub(super) fn cause(&self) -> Cause {
        Cause::Rule(self.rule.name().clone())
    }

    /// What the rule does to this request, if it hits it.
    pub(super) fn answer(
        &mut self,
        request: &Request<'_>,
        engine_state: i32,
        seed: u64,
        notices: &mut Vec<Notice>,
    ) -> Option<Answer> {
        let range = SectorRange::of_bytes(request.io.offset_bytes, request.io.bytes);
        let bad_sector = match &self.wounds {
            Some(wounds) => Some(wounds.first_bad(range)?),
            None => None,
        };
        let (name, ordinal) = (self.rule.name().as_str(), request.io.ordinal);
        let conditions = self.rule.conditions();
        let stream = || Stream::new(seed, name, ordinal);
        let Met(mut stream) = self.life.meet(conditions, request, engine_state, stream)?;
        let (answer, errno, action) = match self.rule.effect() {
            Effect::Media(media) => {
                let wounds = self.wounds.as_mut()?;
                let touch = wounds.touch(media, bad_sector?, self.life.hits, &mut stream);
                self.touched(touch)?
            }
            effect => self.plain(effect, &mut stream)?,
        };
        let is_last = self.life.hit(self.rule.conditions(), request);
        notices.push(Notice::hit(self.cause(), &request.io, errno, action));
        if action == Action::Error && self.heals_what_it_fails(&request.io) {
            self.heal(range?, notices);
        }
        if is_last {
            notices.push(Notice::Exhausted(self.cause()));
        }
        Some(answer)
    }

    fn plain(
        &self,
        effect: &Effect,
        stream: &mut Stream,
    ) -> Option<(Answer, Option<Errno>, Action)> {
        let cause = self.cause();
        Some(match *effect {
            Effect::Error(errno) => {
                (Answer::End(Verdict::Fail(errno, cause)), Some(errno), Action::Error)
            }
            Effect::Delay { ref delay, then: None } => {
                (Answer::Wait(delay.draw(stream)), None, Action::Delay)
            }
            Effect::Delay { ref delay, then: Some(errno) } => {
                let duration = Duration::from_nanos(delay.draw(stream));
                let waits = Waits::of(cause, duration);
                let verdict = Verdict::Delay { waits, then: Then::Fail(errno) };
                (Answer::End(verdict), Some(errno), Action::Delay)
            }
            Effect::Hang { at_most_ns, then } => {
                let at_most = at_most_ns.map(Duration::from_nanos);
                let verdict =
                    Verdict::Hold { at_most, then: then.map_or(Then::GoOn, Then::Fail), cause };
                (Answer::Pause(verdict), then, Action::Hang)
            }
            Effect::Break { ref tag, point } => {
                let verdict = Verdict::Break { tags: vec![tag.clone()], point: Some(point), cause };
                (Answer::Pause(verdict), None, Action::Break)
            }
            Effect::SetState(state) => (Answer::State(state), None, Action::SetState),
            Effect::Disconnect => {
                (Answer::End(Verdict::Disconnect(cause)), None, Action::Disconnect)
            }
            Effect::Media(_) => return None,
        })
    }

    /// What becomes of a request that met a bad sector.
    fn touched(&self, touch: Touch) -> Option<(Answer, Option<Errno>, Action)> {
        let cause = self.cause();
        match touch {
            Touch::Fails(errno) => {
                Some((Answer::End(Verdict::Fail(errno, cause)), Some(errno), Action::Error))
            }
            Touch::Slow(delay_ns) => Some((Answer::Wait(delay_ns), None, Action::Delay)),
            Touch::Succeeds => None,
        }
    }

    /// Whether a write that this rule fails is remapped all the same, so that the next one succeeds.
    /// Otherwise a rule about writes alone could never heal: none would get through to heal it.
    fn heals_what_it_fails(&self, io: &Io) -> bool {
        let writes = matches!(io.iotype, IoType::Write | IoType::WriteZeroes);
        let remaps = |media: &Media| media.heal_on_write && media.retries.is_none();
        writes && matches!(self.rule.effect(), Effect::Media(media) if remaps(media))
    }

    /// A write of these sectors succeeded, or failed and had them remapped.
    pub(super) fn heal(&mut self, range: SectorRange, notices: &mut Vec<Notice>) {
        let Effect::Media(media) = self.rule.effect() else {
            return;
        };
        let Some(wounds) = self.wounds.as_mut() else {
            return;
        };
        let (sectors, pool_is_empty) = wounds.heal(media, range);
        let rule = self.rule.name();
        if sectors > 0 {
            notices.push(Notice::Healed { rule: rule.clone(), sectors });
        }
        if pool_is_empty {
            notices.push(Notice::PoolEmpty { rule: rule.clone() });
        }
    }
}

/// An entry as it is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    id: u64,
    rule: Arc<Rule>,
    life: Life,
    stint: u32,
    wounds: Option<Box<Wounds>>,
}

impl From<Written> for Entry {
    fn from(written: Written) -> Self {
        let Written { id, rule, mut life, stint, wounds } = written;
        life.stint = stint;
        Self { id, rule, life, wounds }
    }
}

impl From<Entry> for Written {
    fn from(entry: Entry) -> Self {
        let Entry { id, rule, life, wounds } = entry;
        Self { id, rule, stint: life.stint, life, wounds }
    }
}
