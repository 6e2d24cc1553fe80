//! The engine: one disk's faults, decided request by request.
//!
//! Knows: manual state, native rules and blkdebug rules, and in which order a request meets them.
//! Must not know: files, sockets, threads or clocks; time and depth come with each request, the
//! seed with the engine. Invariants: one engine belongs to one disk and is called under its
//! owner's lock; [`Armed`] is shared without it and says which requests need not ask. Same
//! configuration, seed and requests in the same order: same verdicts.
//!
//! A request walks past stations. On its way in: the manual state, native rules in their order,
//! blkdebug's events and rules, breakpoints before the image. On its way out: breakpoints after
//! the image, blkdebug's last event, healing, a slow disk's stretch, breakpoints before the
//! answer. [`Engine::decide`] starts the walk, [`Engine::go_on`] continues it after a wait, and
//! [`Engine::finished`] takes it on the way out when its result is known, whoever decided it; each
//! consumes the request's [`Passage`], so no step is done twice.
//!
//! ```
//! use blkfault::errno::Errno;
//! use blkfault::fault::engine::{Change, Engine, Place, Verdict};
//! use blkfault::fault::rule::{Effect, Request, Rule, RuleName, Trigger};
//! use blkfault::fault::{Io, IoType, NoPayload, SectorRange};
//!
//! let sectors = SectorRange::new(2048, 2055).into_iter().collect();
//! let trigger = Trigger { sectors, times: Some(1), ..Trigger::default() };
//! let rule = Rule::new(RuleName::new("bad")?, trigger, Effect::Error(Errno::EIO), false)?;
//! let mut engine = Engine::new(42);
//! engine.configure(vec![Change::AddRule { rule: Box::new(rule), place: Place::Last }], 0)?;
//!
//! let io = Io { iotype: IoType::Read, offset_bytes: 1 << 20, bytes: 4096, ordinal: 0, queue: 0 };
//! let mut errors = 0;
//! for now_ns in [10, 20] {
//!     if !engine.armed().may_match(&io) {
//!         continue; // Straight to the image, without a lock.
//!     }
//!     let request = Request { io, now_ns, depth: 1, payload: &NoPayload };
//!     let decision = engine.decide(&request);
//!     let result = match decision.verdict {
//!         Verdict::Fail(errno, _) => Err(errno),
//!         _ => Ok(()), // What the image says; waits and holds belong to the caller.
//!     };
//!     errors += u32::from(result.is_err());
//!     let ended = engine.finished(&request, decision.passage, result);
//!     assert_eq!(ended.verdict, Verdict::Pass); // Answer the guest.
//! }
//! assert_eq!(errors, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blkdebug;
mod change;
mod entry;
mod report;
mod verdict;
mod walk;
mod written;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use change::{
    Applied, BREAKPOINTS_MAX, BlkdebugSetup, Change, Place, RULES_MAX, Refused, Release,
};
pub use report::{BlkdebugReport, InjectErrorReport, RuleReport};
pub use verdict::{Action, Cause, Notice, Then, Verdict, Waits};
pub use walk::{Decision, Passage};

use blkdebug::Blkdebug;
use entry::{Entry, Named};
use written::Written;

use super::index::{Index, Reach};
use super::manual::DiskState;
use super::rule::{Effect, Point, Request};
use super::slow::Pacing;
use super::timetable::Timetable;
use super::{Io, IoType};

/// Fewer exhausted rules than half of this are not worth a new index.
const EXHAUSTED_MIN: usize = 128;

/// One disk's faults.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Engine {
    seed: u64,
    state: DiskState,
    /// How often a state was entered.
    entered: u64,
    /// What the profiles of state slow remember, in their order.
    pacing: Vec<Pacing>,
    /// Native rules in their order.
    rules: Vec<Entry>,
    /// The same in the order of their names.
    names: BTreeSet<Named>,
    next_id: u64,
    /// Rules that hit for the last time since the index was made.
    exhausted: usize,
    /// Scheduled rules in force that are about any sector.
    timetable: Timetable,
    blkdebug: Blkdebug,
    armed: Arc<Armed>,
}

/// Which requests have to ask the engine: immutable, shared by all queues without a lock.
#[derive(Debug, Default)]
pub struct Armed {
    state: DiskState,
    /// blkdebug must see every request: any may raise an event or meet an armed rule.
    blkdebug: bool,
    rules: Index,
    /// Writes that may heal.
    healing: Index,
    /// Whether any rule acts there, by the point's number.
    points: [bool; Point::ALL.len()],
}

impl Armed {
    /// Whether no request has to ask.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state == DiskState::None
            && !self.blkdebug
            && self.rules.is_empty()
            && self.healing.is_empty()
    }

    /// Whether this request has to ask. If not it passes, and
    /// [`finished`](Engine::finished) need not be told.
    #[must_use]
    pub fn may_match(&self, io: &Io) -> bool {
        (self.blkdebug && io.iotype != IoType::GetId)
            || self.state.concerns(io)
            || self.rules.any(io)
            || self.healing.any(io)
    }

    /// The rules in force that a successful write could heal, by their places.
    fn find_healing(&self, io: &Io) -> Vec<u32> {
        if self.healing.is_empty() { Vec::new() } else { self.healing.find(io, 0, u32::MAX) }
    }
}

impl Engine {
    /// An ordinary disk. Every random choice will be a function of the seed, a rule's name and a
    /// request's ordinal.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            state: DiskState::None,
            entered: 0,
            pacing: Vec::new(),
            rules: Vec::new(),
            names: BTreeSet::new(),
            next_id: 0,
            exhausted: 0,
            timetable: Timetable::default(),
            blkdebug: Blkdebug::default(),
            armed: Arc::default(),
        }
    }

    /// Which requests have to ask, as of the last [`configure`](Self::configure). Rules that are
    /// used up may leave it in between, so an older one asks too often, never too rarely.
    #[must_use]
    pub fn armed(&self) -> Arc<Armed> {
        self.armed.clone()
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether any rule in force acts at this point.
    fn acts_at(&self, point: Point) -> bool {
        self.armed.points.get(point as usize).is_some_and(|acts| *acts)
    }

    /// Compile what is in force. Counters stay where they are.
    fn rebuild(&mut self) {
        // There may be many, and no more may ever come.
        self.rules.shrink_to_fit();
        let enabled = || (0..).zip(&self.rules).filter(|(_, entry)| entry.life.enabled);
        let may_hit = || enabled().filter(|(_, entry)| entry.may_hit());
        let rules = may_hit().map(|(number, entry)| entry.reach(number)).collect();
        let mut timetable = Timetable::default();
        for (number, entry) in may_hit() {
            let conditions = entry.rule.conditions();
            if let Some(schedule) =
                conditions.schedule().filter(|_| conditions.sectors().is_empty())
            {
                timetable.add(&entry.reach(number), schedule, entry.life.since_ns);
            }
        }
        let writes = [IoType::Write, IoType::WriteZeroes].into_iter().collect();
        let healing = enabled()
            .filter(|(_, entry)| matches!(entry.rule.effect(), Effect::Media(m) if m.heal_on_write))
            .map(|(number, entry)| Reach {
                number,
                iotypes: writes,
                queue: None,
                state: None,
                depth_min: 0,
                is_scheduled: false,
                sectors: entry.rule.conditions().sectors(),
            })
            .collect();
        let mut points = [false; Point::ALL.len()];
        for (_, entry) in enabled() {
            if let Some(acts) = points.get_mut(entry.rule.effect().point() as usize) {
                *acts = true;
            }
        }
        self.armed = Arc::new(Armed {
            state: self.state.clone(),
            blkdebug: !self.blkdebug.machine.is_inert(),
            rules,
            healing,
            points,
        });
        self.timetable = timetable;
        self.exhausted = 0;
    }

    /// The rules in force that could match, by their places, in order.
    fn find(&mut self, request: &Request<'_>, engine_state: i32) -> Vec<u32> {
        let Request { io, depth, now_ns, .. } = request;
        let mut found = self.armed.rules.find(io, engine_state, *depth);
        let others = found.len();
        self.timetable.find(io, engine_state, *depth, *now_ns, &mut found);
        if found.len() > others {
            found.sort_unstable();
        }
        found
    }

    /// A rule hit for the last time. Once half of the rules have, they are left out of the index,
    /// so that their number costs nothing.
    fn count_exhausted(&mut self) {
        self.exhausted += 1;
        if self.exhausted * 2 > self.rules.len().max(EXHAUSTED_MIN) {
            self.rebuild();
        }
    }
}

#[cfg(test)]
mod tests;
