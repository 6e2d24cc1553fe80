//! Where requests stand with the engine, so that another channel, or another process, takes them up.
//!
//! Knows: what was last decided about each request that the engine was asked about, by queue and
//! ordinal. Must not know: files, or when a request is taken up. Invariants: a request that is taken
//! up gets what was decided for it and is not counted again; what was answered is forgotten by the
//! channel that answered it, or with its queue; a change of the configuration lets go whom it is to let
//! go, also while no channel has them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::link::Go;
use crate::errno::Errno;
use crate::fault::Io;
use crate::fault::engine::{Cause, Decision, Passage, Release, Verdict, Waits};

/// The most requests that are remembered: as many as 64 queues of the largest size have in flight.
/// Those that were decided last are kept.
const STANDINGS_MAX: usize = 1 << 16;

/// Where one request stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::block) struct Standing {
    pub(in crate::block) io: Io,
    /// What was decided last, as of `at_ns`.
    pub(in crate::block) verdict: Verdict,
    pub(in crate::block) passage: Passage,
    /// Once it is known; and whether it was decided, not asked of the image.
    pub(in crate::block) result: Option<(Result<(), Errno>, bool)>,
    /// It was let go, and the engine has not heard of that.
    pub(in crate::block) go: Option<Go>,
    at_ns: u64,
}

/// What becomes of a request that waits, by command or by a change of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::block) enum LetGo {
    /// It goes.
    Goes(Go),
    /// It waits for one tag less; once it goes, it fails with this.
    LessTag(Arc<str>, Option<Errno>),
    /// It waits for these from now on.
    Waits(Waits),
}

impl Standing {
    /// What was decided, as of now: what a wait has left.
    pub(super) fn verdict_at(&self, now_ns: u64) -> Verdict {
        let elapsed = Duration::from_nanos(now_ns.saturating_sub(self.at_ns));
        match self.verdict.clone() {
            Verdict::Delay { waits, then } => {
                let left = waits.duration().saturating_sub(elapsed);
                Verdict::Delay { waits: waits.without(left, |_| false), then }
            }
            Verdict::Hold { at_most, then, cause } => {
                let at_most = at_most.map(|at_most| at_most.saturating_sub(elapsed));
                Verdict::Hold { at_most, then, cause }
            }
            verdict => verdict,
        }
    }

    /// What a change of the configuration does to its wait, if anything.
    fn released_by(&self, release: &Release, now_ns: u64) -> Option<LetGo> {
        if self.go.is_some() {
            return None;
        }
        let is_its = |cause: &Cause| match (release, cause) {
            (Release::State, Cause::State(_)) => true,
            (Release::Rule(name), Cause::Rule(cause)) => name == cause,
            _ => false,
        };
        match (self.verdict_at(now_ns), release) {
            (Verdict::Hold { then, cause, .. }, _) if is_its(&cause) => {
                Some(LetGo::Goes(then.into()))
            }
            (Verdict::Break { cause, .. }, _) if is_its(&cause) => Some(LetGo::Goes(Go::On)),
            (Verdict::Break { tags, cause: Cause::Breakpoint, .. }, Release::Tag(tag)) => {
                tags.contains(tag).then(|| match tags.len() {
                    1 => LetGo::Goes(Go::On),
                    _ => LetGo::LessTag(tag.clone(), None),
                })
            }
            (Verdict::Delay { waits, then }, _) if waits.any(is_its) => {
                let left = waits.without(waits.duration(), is_its);
                Some(if left.is_empty() { LetGo::Goes(then.into()) } else { LetGo::Waits(left) })
            }
            _ => None,
        }
    }

    fn let_go(&mut self, how: &LetGo, now_ns: u64) {
        match how {
            LetGo::Goes(go) => self.go = Some(*go),
            LetGo::LessTag(tag, _) => {
                if let Verdict::Break { tags, .. } = &mut self.verdict
                    && let Some(place) = tags.iter().position(|known| known == tag)
                {
                    tags.remove(place);
                }
            }
            LetGo::Waits(left) => {
                if let Verdict::Delay { waits, .. } = &mut self.verdict {
                    *waits = left.clone();
                    self.at_ns = now_ns;
                }
            }
        }
    }
}

/// All of a disk.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Standing>", into = "Vec<Standing>")]
pub(in crate::block) struct Standings(BTreeMap<(u16, u64), Standing>);

impl Standings {
    /// What was decided about a request just now. `result`: what its end is, if it is known now.
    pub(super) fn note(
        &mut self,
        io: &Io,
        decision: &Decision,
        result: Option<(Result<(), Errno>, bool)>,
        now_ns: u64,
    ) {
        let key = (io.queue, io.ordinal);
        // One that lost its front end has to meet the next one as if it were new.
        if matches!(decision.verdict, Verdict::Disconnect(_)) {
            self.0.remove(&key);
            return;
        }
        let result = result.or_else(|| self.0.get(&key).and_then(|standing| standing.result));
        let standing = Standing {
            io: *io,
            verdict: decision.verdict.clone(),
            passage: decision.passage.clone(),
            result,
            go: None,
            at_ns: now_ns,
        };
        self.0.insert(key, standing);
        if self.0.len() > STANDINGS_MAX {
            self.0.pop_first();
        }
    }

    /// Where this request stands. One of another shape is another request, and this one has gone.
    pub(super) fn find(&mut self, io: &Io) -> Option<Standing> {
        let key = (io.queue, io.ordinal);
        if self.0.get(&key).is_some_and(|standing| standing.io != *io) {
            self.0.remove(&key);
        }
        self.0.get(&key).cloned()
    }

    pub(super) fn passage(&self, io: &Io) -> Option<Passage> {
        self.0.get(&(io.queue, io.ordinal)).map(|standing| standing.passage.clone())
    }

    pub(super) fn let_go(&mut self, (queue, ordinal): (u16, u64), how: &LetGo, now_ns: u64) {
        if let Some(standing) = self.0.get_mut(&(queue, ordinal)) {
            standing.let_go(how, now_ns);
        }
    }

    /// Let go whom a change of the configuration is to let go, but for those that are let go already.
    pub(super) fn release(&mut self, releases: &[Release], now_ns: u64) {
        for release in releases {
            for standing in self.0.values_mut() {
                if let Some(how) = standing.released_by(release, now_ns) {
                    standing.let_go(&how, now_ns);
                }
            }
        }
    }

    /// These were answered.
    pub(super) fn forget(&mut self, answered: &[(u16, u64)]) {
        for key in answered {
            self.0.remove(key);
        }
    }

    /// Of this queue, no others are left.
    pub(super) fn retain(&mut self, queue: u16, ordinals: &[u64]) {
        self.0.retain(|(of, ordinal), _| *of != queue || ordinals.contains(ordinal));
    }

    /// How many wait to be let go.
    pub(super) fn held_count(&self) -> usize {
        let holds = |standing: &&Standing| {
            let waits = matches!(standing.verdict, Verdict::Hold { .. } | Verdict::Break { .. });
            waits && standing.go.is_none()
        };
        self.0.values().filter(holds).count()
    }
}

impl From<Vec<Standing>> for Standings {
    fn from(all: Vec<Standing>) -> Self {
        let keyed = all.into_iter().map(|one| ((one.io.queue, one.io.ordinal), one));
        Self(keyed.take(STANDINGS_MAX).collect())
    }
}

impl From<Standings> for Vec<Standing> {
    fn from(standings: Standings) -> Self {
        standings.0.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::IoType;
    use crate::fault::engine::{Cause, Change, Engine, Place, Then};
    use crate::fault::rule::{Effect, NoPayload, Point, Request, Rule, RuleName, Trigger};

    fn io(ordinal: u64) -> Io {
        Io { iotype: IoType::Read, offset_bytes: 0, bytes: 512, ordinal, queue: 1 }
    }

    fn decided(effect: Effect) -> (Engine, Decision) {
        let rule = Rule::new(RuleName::new("r").unwrap(), Trigger::default(), effect, false);
        let mut engine = Engine::new(0);
        let add = Change::AddRule { rule: Box::new(rule.unwrap()), place: Place::Last };
        let _ = engine.configure(vec![add], 0).unwrap();
        let request = Request { io: io(0), now_ns: 0, depth: 1, payload: &NoPayload };
        let decision = engine.decide(&request);
        (engine, decision)
    }

    #[test]
    fn a_request_is_known_by_its_queue_its_number_and_its_shape() {
        let (_, decision) = decided(Effect::Error(Errno::EIO));
        let mut standings = Standings::default();
        standings.note(&io(7), &decision, None, 0);
        assert!(standings.clone().find(&Io { queue: 2, ..io(7) }).is_none());
        assert!(standings.clone().find(&io(8)).is_none());
        assert!(standings.clone().find(&Io { bytes: 1024, ..io(7) }).is_none());
        standings.retain(1, &[7]);
        assert!(standings.find(&io(7)).is_some());
        standings.forget(&[(1, 7)]);
        assert!(standings.find(&io(7)).is_none());
    }

    #[test]
    fn a_wait_has_left_what_it_had_not_waited() {
        let for_ns = Some(1_000);
        let (_, decision) = decided(Effect::Hang { at_most_ns: for_ns, then: None });
        let mut standings = Standings::default();
        standings.note(&io(0), &decision, None, 5_000);
        let standing = standings.find(&io(0)).unwrap();
        let Verdict::Hold { at_most, .. } = standing.verdict_at(5_300) else { panic!("held") };
        assert_eq!(at_most, Some(Duration::from_nanos(700)));
    }

    #[test]
    fn a_tag_that_was_resumed_is_not_waited_for_again() {
        let effect = Effect::Break { tag: "A".into(), point: Point::Received };
        let (_, decision) = decided(effect);
        let mut standings = Standings::default();
        standings.note(&io(0), &decision, None, 0);
        assert_eq!(standings.held_count(), 1);
        standings.let_go((1, 0), &LetGo::LessTag("A".into(), None), 0);
        standings.let_go((1, 0), &LetGo::Goes(Go::On), 0);
        let standing = standings.find(&io(0)).unwrap();
        assert_eq!(standing.go, Some(Go::On));
        assert!(matches!(standing.verdict, Verdict::Break { tags, .. } if tags.is_empty()));
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        let (_, decision) = decided(Effect::Hang { at_most_ns: None, then: Some(Errno::EIO) });
        let mut standings = Standings::default();
        standings.note(&io(3), &decision, Some((Err(Errno::ENOSPC), true)), 9);
        let text = serde_json::to_string(&standings).unwrap();
        let mut again: Standings = serde_json::from_str(&text).unwrap();
        let standing = again.find(&io(3)).unwrap();
        assert_eq!(standing.result, Some((Err(Errno::ENOSPC), true)));
        let cause = Cause::Rule(RuleName::new("r").unwrap());
        let held = Verdict::Hold { at_most: None, then: Then::Fail(Errno::EIO), cause };
        assert_eq!(standing.verdict, held);
    }
}
