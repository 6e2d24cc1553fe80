//! Native rules: what an operator asks for, checked.
//!
//! Knows: a rule's trigger, effect and name. Must not know: other rules or the engine. Invariant:
//! a [`Rule`] that exists can hit, and every effect of it can be carried out.

mod content;
mod effect;
mod life;
mod media;
mod schedule;
mod trigger;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use content::{BadContent, Content, NoPayload, PATTERN_BYTES_MAX, Payload};
pub use effect::{BadEffect, Effect, Point, TAG_BYTES_MAX};
pub use life::LastHit;
pub use media::{Media, RETRIES_MAX, SlowFirst};
pub use schedule::{BadSchedule, Schedule};
pub use trigger::{BadTrigger, RANGES_MAX, Request, Trigger};

pub(in crate::fault) use life::{Life, Met};
pub(in crate::fault) use media::{Touch, Wounds};

/// A rule's name, unique on its disk. Cheap to copy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuleName(Arc<str>);

/// Longest name, bytes.
pub const NAME_BYTES_MAX: usize = 127;

impl RuleName {
    /// A name, by QEMU's rule for ids.
    ///
    /// # Errors
    /// Anything but a letter and then letters, digits, '-', '.' and '_', or too long.
    pub fn new(name: &str) -> Result<Self, BadRule> {
        let follows = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let good = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(follows)
            && name.len() <= NAME_BYTES_MAX;
        if good { Ok(Self(name.into())) } else { Err(BadRule::Name) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A native rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Rule {
    name: RuleName,
    trigger: Trigger,
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
        Ok(Self { name, trigger, effect, goes_on, enabled: true })
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
    pub fn trigger(&self) -> &Trigger {
        &self.trigger
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

impl TryFrom<String> for RuleName {
    type Error = BadRule;

    fn try_from(name: String) -> Result<Self, BadRule> {
        Self::new(&name)
    }
}

impl From<RuleName> for String {
    fn from(name: RuleName) -> Self {
        name.as_str().to_owned()
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
        let Rule { name, trigger, effect, goes_on, enabled } = rule;
        Self { name, trigger, effect, goes_on, enabled }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
