//! Native rules: what an operator asks for, checked.
//!
//! Knows: a rule's trigger, effect and name. Must not know: other rules or the engine. Invariant:
//! a [`Rule`] that exists can hit, and every effect of it can be carried out.

mod conditions;
mod content;
mod effect;
mod life;
mod media;
mod name;
mod schedule;
mod trigger;

use serde::{Deserialize, Serialize};

pub use content::{BadContent, Content, NoPayload, PATTERN_BYTES_MAX, Payload};
pub use effect::{BadEffect, Effect, Point, TAG_BYTES_MAX};
pub use life::LastHit;
pub use media::{Media, RETRIES_MAX, SlowFirst};
pub use name::{NAME_BYTES_MAX, RuleName};
pub use schedule::{BadSchedule, Schedule};
pub use trigger::{BadTrigger, RANGES_MAX, Request, Trigger};

pub(in crate::fault) use conditions::Conditions;
pub(in crate::fault) use life::{Life, Met};
pub(in crate::fault) use media::{Touch, Wounds};

/// A native rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Rule {
    name: RuleName,
    conditions: Conditions,
    effect: Effect,
    goes_on: bool,
    enabled: bool,
}

/// Why there is no such rule. Each message names the member.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BadRule {
    /// Its name.
    #[error(
        "'name' expects an identifier of up to {NAME_BYTES_MAX} letters, digits, '-', '.', '_', \
         starting with a letter"
    )]
    Name,
    /// Its trigger.
    #[error(transparent)]
    Trigger(#[from] BadTrigger),
    /// Its effect.
    #[error(transparent)]
    Effect(#[from] BadEffect),
    /// A media fault that is nowhere.
    #[error("'sectors' expects at least one range: a media fault is somewhere")]
    MediaSectors,
    /// A request can't go on after this.
    #[error("'continue' expects an effect that lets the request go on: delay, break or set-state")]
    Continue,
    /// A flush that is no flush.
    #[error("'point' flush-before-commit expects 'iotype' to have flush")]
    FlushPoint,
}

impl Rule {
    /// Make a rule. `goes_on`: later rules are looked at even when this one hits.
    ///
    /// # Errors
    /// A part out of its range, or parts that do not go together.
    pub fn new(
        name: RuleName,
        trigger: Trigger,
        effect: Effect,
        goes_on: bool,
    ) -> Result<Self, BadRule> {
        trigger.check()?;
        effect.check()?;
        let ends = match &effect {
            Effect::Error(_) | Effect::Hang { .. } | Effect::Disconnect | Effect::Media(_) => true,
            Effect::Delay { then, .. } => then.is_some(),
            Effect::Break { .. } | Effect::SetState(_) => false,
        };
        if goes_on && ends {
            return Err(BadRule::Continue);
        }
        if matches!(effect, Effect::Media(_)) && trigger.sectors.is_empty() {
            return Err(BadRule::MediaSectors);
        }
        let flushes = trigger.iotypes.contains(crate::fault::IoType::Flush);
        if effect.point() == Point::FlushBeforeCommit && !flushes {
            return Err(BadRule::FlushPoint);
        }
        Ok(Self { name, conditions: trigger.into(), effect, goes_on, enabled: true })
    }

    /// The same rule, not in force until it is enabled.
    #[must_use]
    pub fn disabled(self) -> Self {
        Self { enabled: false, ..self }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &RuleName {
        &self.name
    }

    /// Its conditions.
    #[must_use]
    pub fn trigger(&self) -> Trigger {
        Trigger::from(&self.conditions)
    }

    /// The same, for those who ask with every request.
    pub(in crate::fault) fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// What it does.
    #[must_use]
    pub fn effect(&self) -> &Effect {
        &self.effect
    }

    /// Whether later rules are looked at even when it hits.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Whether it starts in force.
    #[must_use]
    pub fn starts_enabled(&self) -> bool {
        self.enabled
    }
}

/// A rule as it is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    name: RuleName,
    trigger: Trigger,
    effect: Effect,
    goes_on: bool,
    enabled: bool,
}

impl TryFrom<Written> for Rule {
    type Error = BadRule;

    fn try_from(written: Written) -> Result<Self, BadRule> {
        let Written { name, trigger, effect, goes_on, enabled } = written;
        let rule = Self::new(name, trigger, effect, goes_on)?;
        Ok(Self { enabled, ..rule })
    }
}

impl From<Rule> for Written {
    fn from(rule: Rule) -> Self {
        let Rule { name, conditions, effect, goes_on, enabled } = rule;
        let trigger = Trigger::from(&conditions);
        Self { name, trigger, effect, goes_on, enabled }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
