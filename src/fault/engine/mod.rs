//! The engine: one disk's faults, decided request by request.
//!
//! Knows: manual state, native rules and blkdebug rules, and in which order a request meets them.
//! Must not know: files, sockets, threads or clocks; time and depth come with each [`Request`], the
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

mod change;
mod entry;
mod report;
mod verdict;
mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use change::{Applied, BlkdebugSetup, Change, Place, RULES_MAX, Refused, Release};
pub use report::{BlkdebugReport, InjectErrorReport, RuleReport};
pub use verdict::{Action, Cause, Notice, Then, Verdict};
pub use walk::{Decision, Passage};

use entry::Entry;

use super::blkdebug::limits::Limits;
use super::blkdebug::machine::Machine;
use super::index::{Index, Reach};
use super::manual::DiskState;
use super::rule::{Effect, Point, RuleName};
use super::slow::Pacing;
use super::{Io, IoType};

/// One disk's faults.
#[derive(Debug, Clone)]
pub struct Engine {
    seed: u64,
    state: DiskState,
    /// What the profiles of state slow remember, in their order.
    pacing: Vec<Pacing>,
    /// Native rules in their order.
    rules: Vec<Entry>,
    /// Where each rule is in `rules`, and its number for ever.
    names: BTreeMap<RuleName, u64>,
    next_id: u64,
    blkdebug: Blkdebug,
    armed: Arc<Armed>,
}

/// The blkdebug node that the disk has on top, in effect.
#[derive(Debug, Clone, Default)]
struct Blkdebug {
    machine: Machine,
    limits: Limits,
    /// Flushes reach blkdebug even if nothing was written.
    flush_always: bool,
    /// Counts writes, write-zeroes and discards that ended (`BlockDriverState.write_gen`).
    written: u64,
    /// What `written` was when the last good flush began (`flushed_gen`).
    flushed: u64,
}

impl Blkdebug {
    fn is_unflushed(&self) -> bool {
        self.flush_always || self.written != self.flushed
    }
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
        self.state == DiskState::None && !self.blkdebug && self.rules.is_empty()
    }

    /// Whether this request has to ask. If not it passes, and
    /// [`finished`](Engine::finished) need not be told.
    #[must_use]
    pub fn may_match(&self, io: &Io) -> bool {
        self.blkdebug || self.state.concerns(io) || self.rules.any(io) || self.healing.any(io)
    }

    /// The rules in force that could match, by their places, in order.
    fn find(&self, io: &Io) -> Vec<u32> {
        self.rules.find(io)
    }

    /// The rules in force that a successful write could heal, by their places.
    fn find_healing(&self, io: &Io) -> Vec<u32> {
        if self.healing.is_empty() { Vec::new() } else { self.healing.find(io) }
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
            pacing: Vec::new(),
            rules: Vec::new(),
            names: BTreeMap::new(),
            next_id: 0,
            blkdebug: Blkdebug::default(),
            armed: Arc::default(),
        }
    }

    /// Which requests have to ask, as of the last [`configure`](Self::configure).
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
        let enabled = || (0..).zip(&self.rules).filter(|(_, entry)| entry.life.enabled);
        let rules = enabled()
            .map(|(number, entry)| {
                let trigger = entry.rule.trigger();
                let (iotypes, queue) = (trigger.iotypes, trigger.queue);
                Reach { number, iotypes, queue, sectors: &trigger.sectors }
            })
            .collect();
        let writes = [IoType::Write, IoType::WriteZeroes].into_iter().collect();
        let healing = enabled()
            .filter(|(_, entry)| matches!(entry.rule.effect(), Effect::Media(m) if m.heal_on_write))
            .map(|(number, entry)| Reach {
                number,
                iotypes: writes,
                queue: None,
                sectors: &entry.rule.trigger().sectors,
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
            blkdebug: !self.blkdebug.machine.is_empty(),
            rules,
            healing,
            points,
        });
    }
}

#[cfg(test)]
mod tests;
