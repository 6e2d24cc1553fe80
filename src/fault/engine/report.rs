//! What an operator may ask about.
//!
//! Knows: states, rules and counters. Must not know: how they are printed. Invariant: asking
//! changes nothing.

use std::sync::Arc;

use super::Engine;
use super::entry::Entry;
use super::verdict::Cause;
use crate::fault::SectorSet;
use crate::fault::blkdebug::{Event, InjectError, SetState};
use crate::fault::manual::DiskState;
use crate::fault::rule::{LastHit, Rule, RuleName};

/// A native rule and what it did.
#[derive(Debug, Clone)]
pub struct RuleReport {
    /// The rule.
    pub rule: Arc<Rule>,
    /// Whether it is in force.
    pub enabled: bool,
    /// Requests that met its conditions, not counting skip, every, probability and times.
    pub met: u64,
    /// Requests it hit.
    pub hits: u64,
    /// Hits left; `None` without a limit.
    pub remaining: Option<u64>,
    /// The last hit.
    pub last_hit: Option<LastHit>,
    /// Media faults: the sectors that are bad now, and how many were healed.
    pub media: Option<(SectorSet, u64)>,
}

/// blkdebug and what it did.
#[derive(Debug, Clone, Default)]
pub struct BlkdebugReport {
    /// Every `inject-error` rule ever added, in order.
    pub inject_error: Vec<InjectErrorReport>,
    /// Every `set-state` rule, in order.
    pub set_state: Vec<SetState>,
    /// The breakpoints that were not met yet.
    pub breakpoints: Vec<(Event, Arc<str>)>,
}

/// An `inject-error` rule and what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InjectErrorReport {
    /// The rule.
    pub rule: InjectError,
    /// Requests it hit.
    pub hits: u64,
    /// False once a `once` rule has hit.
    pub is_left: bool,
}

impl Engine {
    /// The manual state.
    #[must_use]
    pub fn state(&self) -> &DiskState {
        &self.state
    }

    /// The number that `set-state` rules change; 1 at first.
    #[must_use]
    pub fn engine_state(&self) -> i32 {
        self.blkdebug.machine.state()
    }

    /// The native rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = RuleReport> {
        self.rules.iter().map(Entry::report)
    }

    /// How many native rules there are.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// The native rule of this name.
    #[must_use]
    pub fn rule(&self, name: &RuleName) -> Option<RuleReport> {
        let position = self.position(name).ok()?;
        self.rules.get(position).map(Entry::report)
    }

    /// Whether a native rule has this name.
    #[must_use]
    pub fn has_rule(&self, name: &RuleName) -> bool {
        self.names.contains(name)
    }

    /// How often a rule hit; `None` for states, breakpoints and rules that are not there.
    #[must_use]
    pub fn hits(&self, cause: &Cause) -> Option<u64> {
        match cause {
            Cause::Rule(name) => {
                let position = self.position(name).ok()?;
                self.rules.get(position).map(|entry| entry.life.hits)
            }
            Cause::InjectError(number) => {
                let number = usize::try_from(*number).ok()?;
                self.blkdebug.machine.inject_error().nth(number).map(|(_, hits, _)| hits)
            }
            Cause::State(_) | Cause::Breakpoint => None,
        }
    }

    /// blkdebug's rules.
    #[must_use]
    pub fn blkdebug(&self) -> BlkdebugReport {
        let machine = &self.blkdebug.machine;
        let report = |(rule, hits, is_left): (&InjectError, u64, bool)| InjectErrorReport {
            rule: rule.clone(),
            hits,
            is_left,
        };
        BlkdebugReport {
            inject_error: machine.inject_error().map(report).collect(),
            set_state: machine.set_state_rules().to_vec(),
            breakpoints: machine.breakpoints().to_vec(),
        }
    }
}

impl Entry {
    fn report(&self) -> RuleReport {
        let life = &self.life;
        RuleReport {
            rule: self.rule.clone(),
            enabled: life.enabled,
            met: life.met(),
            hits: life.hits,
            remaining: life.remaining(self.rule.conditions()),
            last_hit: life.last_hit(),
            media: self.wounds.as_ref().map(|wounds| (wounds.bad().clone(), wounds.healed())),
        }
    }
}
