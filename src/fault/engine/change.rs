//! What an operator changes, all of it or nothing.
//!
//! Knows: every change and what it invalidates. Must not know: how requests are decided. Invariant:
//! a change that is refused has changed nothing, and neither has any other of its transaction;
//! counters and healed sectors of rules that stay survive every change.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Engine;
use super::blkdebug::Blkdebug;
use super::entry::{Entry, Named};
use super::verdict::Notice;
use crate::fault::blkdebug::machine::Machine;
use crate::fault::blkdebug::{Event, Limits, Rules};
use crate::fault::manual::{BadState, DiskState};
use crate::fault::rule::{Rule, RuleName, TAG_BYTES_MAX};
use crate::fault::slow::Pacing;

/// Most native rules of a disk, and most blkdebug rules it may ever be given.
pub const RULES_MAX: usize = 100_000;
/// Most blkdebug breakpoints that wait to be met.
pub const BREAKPOINTS_MAX: usize = 1000;

/// Where a new rule goes among the others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Place {
    /// Behind all others.
    #[default]
    Last,
    /// In front of all others.
    First,
    /// Just in front of this one.
    Before(RuleName),
    /// Just behind this one.
    After(RuleName),
}

/// A blkdebug node that is opened on top of the disk.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BlkdebugSetup {
    /// Its rules.
    pub rules: Rules,
    /// Its size options.
    pub limits: Limits,
    /// Flushes reach its rules even if nothing was written since the last good one; in QEMU they
    /// do not.
    pub flush_always: bool,
    /// The disk may have been written before, so the next flush reaches the rules in any case.
    pub written_before: bool,
}

/// One change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Change {
    /// Enter a manual state.
    SetState(DiskState),
    /// Add a native rule.
    AddRule {
        /// The rule.
        rule: Box<Rule>,
        /// Where.
        place: Place,
    },
    /// Remove a native rule.
    RemoveRule(RuleName),
    /// Put a native rule in force; its schedule starts now.
    EnableRule(RuleName),
    /// Put a native rule out of force.
    DisableRule(RuleName),
    /// Make a native rule as if it had just been added.
    ResetRule(RuleName),
    /// Set the engine's state number.
    SetEngineState(i32),
    /// Open blkdebug anew: its former rules and breakpoints are gone, the state is 1.
    OpenBlkdebug(BlkdebugSetup),
    /// Add rules behind blkdebug's; events arm them from now on.
    AddBlkdebugRules(Rules),
    /// Set one of blkdebug's breakpoints.
    SetBreakpoint {
        /// Where.
        event: Event,
        /// What the operator calls it.
        tag: Arc<str>,
    },
    /// Take blkdebug's breakpoints with this tag away and release what they hold.
    RemoveBreakpoint {
        /// What the operator called it.
        tag: Arc<str>,
    },
}

/// Waiting requests that a change releases, to be treated as their verdict says: those that are
/// held, and those that wait for a time, whose part of the wait is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    /// Those that wait for the manual state.
    State,
    /// Those that wait for this rule.
    Rule(RuleName),
    /// Those held at this tag of blkdebug's breakpoints, once each.
    Tag(Arc<str>),
}

/// What changes led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Applied {
    /// For events.
    pub notices: Vec<Notice>,
    /// Who is released.
    pub released: Vec<Release>,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A name that is taken.
    #[error("Fault rule '{0}' exists already")]
    Exists(RuleName),
    /// A name that is not.
    #[error("Fault rule '{0}' not found")]
    NotFound(RuleName),
    /// Too many rules.
    #[error("a disk has at most {RULES_MAX} fault rules")]
    TooMany,
    /// Too many breakpoints.
    #[error("a disk has at most {BREAKPOINTS_MAX} blkdebug breakpoints")]
    TooManyBreakpoints,
    /// A tag that cannot be told.
    #[error("'tag' expects 1 to {TAG_BYTES_MAX} bytes")]
    Tag,
    /// A state's options.
    #[error(transparent)]
    State(#[from] BadState),
}

impl Engine {
    /// Make changes, in order, all or none. Requests decided from now on meet all of them.
    /// `now_ns`: the monotonic time, as in requests.
    ///
    /// # Errors
    /// The first change that cannot be made.
    pub fn configure(&mut self, changes: Vec<Change>, now_ns: u64) -> Result<Applied, Refused> {
        let mut applied = Applied::default();
        // A single change checks before it changes; several are tried on a copy first.
        if changes.len() > 1 {
            let mut copy = self.clone();
            for change in changes {
                copy.apply(change, now_ns, &mut applied)?;
            }
            *self = copy;
        } else {
            for change in changes {
                self.apply(change, now_ns, &mut applied)?;
            }
        }
        self.rebuild();
        Ok(applied)
    }

    fn apply(&mut self, change: Change, now_ns: u64, applied: &mut Applied) -> Result<(), Refused> {
        let engine_state = self.engine_state();
        match change {
            Change::SetState(state) => self.enter(state, now_ns, applied)?,
            Change::AddRule { rule, place } => self.add_rule(*rule, &place, now_ns)?,
            Change::RemoveRule(name) => {
                let position = self.position(&name)?;
                self.release_rule(position, applied);
                self.rules.remove(position);
                self.names.remove(&name);
            }
            Change::EnableRule(name) => {
                let life = &mut self.entry(&name)?.life;
                if !life.enabled {
                    life.enabled = true;
                    life.since_ns = now_ns;
                }
            }
            Change::DisableRule(name) => {
                let position = self.position(&name)?;
                self.release_rule(position, applied);
                let entry = self.entry(&name)?;
                entry.life.enabled = false;
                entry.life.stint = entry.life.stint.wrapping_add(1);
            }
            Change::ResetRule(name) => self.entry(&name)?.reset(now_ns),
            Change::SetEngineState(state) => self.blkdebug.machine.set_state(state),
            Change::OpenBlkdebug(setup) => self.open_blkdebug(setup)?,
            Change::AddBlkdebugRules(rules) => {
                self.check_blkdebug(&rules)?;
                self.attach();
                self.blkdebug.machine.add(rules);
            }
            Change::SetBreakpoint { event, tag } => {
                if tag.is_empty() || tag.len() > TAG_BYTES_MAX {
                    return Err(Refused::Tag);
                }
                if self.blkdebug.machine.breakpoints().len() >= BREAKPOINTS_MAX {
                    return Err(Refused::TooManyBreakpoints);
                }
                self.attach();
                self.blkdebug.machine.add_breakpoint(event, tag);
            }
            Change::RemoveBreakpoint { tag } => {
                self.blkdebug.machine.remove_breakpoints(&tag);
                applied.released.push(Release::Tag(tag));
            }
        }
        applied.notices.extend(self.engine_state_notice(engine_state));
        Ok(())
    }

    fn enter(
        &mut self,
        state: DiskState,
        now_ns: u64,
        applied: &mut Applied,
    ) -> Result<(), Refused> {
        state.check()?;
        // Set anew it is not left: who waits already does so on the old terms.
        let makes_wait = matches!(self.state, DiskState::Hang { .. } | DiskState::Slow { .. });
        if makes_wait && self.state.name() != state.name() {
            applied.released.push(Release::State);
        }
        self.entered = self.entered.wrapping_add(1);
        self.pacing = match &state {
            DiskState::Slow { profiles } => profiles.iter().map(|_| Pacing::from(now_ns)).collect(),
            _ => Vec::new(),
        };
        self.state = state;
        Ok(())
    }

    fn add_rule(&mut self, rule: Rule, place: &Place, now_ns: u64) -> Result<(), Refused> {
        if self.rules.len() >= RULES_MAX {
            return Err(Refused::TooMany);
        }
        if self.has_rule(rule.name()) {
            return Err(Refused::Exists(rule.name().clone()));
        }
        let position = match place {
            Place::Last => self.rules.len(),
            Place::First => 0,
            Place::Before(other) => self.position(other)?,
            Place::After(other) => self.position(other)? + 1,
        };
        let id = self.next_id;
        self.next_id += 1;
        let entry = Entry::new(id, rule, now_ns);
        self.names.insert(Named(entry.rule.clone()));
        self.rules.insert(position, entry);
        Ok(())
    }

    pub(super) fn position(&self, name: &RuleName) -> Result<usize, Refused> {
        let known = self.names.get(name);
        let is_it = |rule: &Arc<Rule>| known.is_some_and(|Named(known)| Arc::ptr_eq(known, rule));
        let found = known.and_then(|_| self.rules.iter().position(|entry| is_it(&entry.rule)));
        found.ok_or_else(|| Refused::NotFound(name.clone()))
    }

    pub(super) fn position_of(&self, id: u64) -> Option<usize> {
        self.rules.iter().position(|entry| entry.id == id)
    }

    fn entry(&mut self, name: &RuleName) -> Result<&mut Entry, Refused> {
        let position = self.position(name)?;
        self.rules.get_mut(position).ok_or_else(|| Refused::NotFound(name.clone()))
    }

    fn release_rule(&self, position: usize, applied: &mut Applied) {
        let Some(entry) = self.rules.get(position) else {
            return;
        };
        if entry.makes_wait() {
            applied.released.push(Release::Rule(entry.rule.name().clone()));
        }
    }

    fn open_blkdebug(&mut self, setup: BlkdebugSetup) -> Result<(), Refused> {
        let BlkdebugSetup { rules, limits, flush_always, written_before } = setup;
        if rules.inject_error.len().max(rules.set_state.len()) > RULES_MAX {
            return Err(Refused::TooMany);
        }
        let Blkdebug { written, flushed, .. } = self.blkdebug;
        let written = if written_before {
            if written == flushed { written.wrapping_add(1) } else { written }
        } else {
            written
        };
        let machine = Machine::open(rules);
        self.blkdebug = Blkdebug { machine, limits, flush_always, written, flushed };
        Ok(())
    }

    fn check_blkdebug(&self, rules: &Rules) -> Result<(), Refused> {
        let machine = &self.blkdebug.machine;
        let inject_error = machine.inject_error().len() + rules.inject_error.len();
        let set_state = machine.set_state_rules().len() + rules.set_state.len();
        if inject_error.max(set_state) > RULES_MAX { Err(Refused::TooMany) } else { Ok(()) }
    }

    /// blkdebug gets rules at run time: if requests did not have to ask so far, nobody counted what
    /// was written.
    fn attach(&mut self) {
        let Blkdebug { machine, written, flushed, .. } = &mut self.blkdebug;
        let was_asked = self.armed.blkdebug || !machine.is_inert();
        if !was_asked && written == flushed {
            *written = written.wrapping_add(1);
        }
    }

    pub(super) fn engine_state_notice(&self, from: i32) -> Option<Notice> {
        let to = self.engine_state();
        (from != to).then_some(Notice::EngineState { from, to })
    }
}
