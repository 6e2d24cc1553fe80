//! blkdebug's two kinds of rule, with QEMU's fields and defaults.
//!
//! Knows: `BlkdebugInjectErrorOptions` and `BlkdebugSetStateOptions`. Must not know: where rules
//! are written (`config`) or how they act together (`machine`). Invariant: a rule that exists is
//! one that this disk carries out to the letter.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::event::{BadEvent, Event};
use crate::errno::Errno;
use crate::fault::{IoType, IoTypes};

/// Largest sector number a rule may name: its byte offset fits QEMU's signed 64 bits.
pub const SECTOR_MAX: u64 = (1 << 54) - 1;

/// What an `inject-error` rule may be limited to (`BlkdebugIOType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IoTypeWord {
    /// A request that guests make.
    Io(IoType),
    /// Asking which parts are allocated: guests never do, so such a rule never hits.
    BlockStatus,
}

impl IoTypeWord {
    /// QEMU's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Io(iotype) => iotype.name(),
            Self::BlockStatus => "block-status",
        }
    }
}

impl FromStr for IoTypeWord {
    type Err = BadEvent;

    fn from_str(name: &str) -> Result<Self, BadEvent> {
        if name == "block-status" {
            return Ok(Self::BlockStatus);
        }
        let iotype = IoType::ALL.into_iter().find(|iotype| iotype.name() == name);
        iotype.map(Self::Io).ok_or_else(|| BadEvent(name.to_owned()))
    }
}

/// `inject-error`: when the event comes in this state, arm an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectError {
    /// What arms it.
    pub event: Event,
    /// The engine state in which the event arms it; 0 is any.
    pub state: i32,
    /// The requests it hits; absent: all but `block-status`.
    #[serde(deserialize_with = "written_iotype")]
    pub iotype: Option<IoTypeWord>,
    /// The error; `None` is errno 0: the request goes on, and later rules are not looked at.
    pub errno: Option<Errno>,
    /// Waited before the request ends, or with errno 0 before it goes on (QEMU 11.1), nanoseconds.
    pub delay_ns: u64,
    /// Hit only requests that have the first byte of this sector; a flush has none.
    #[serde(deserialize_with = "written_sector")]
    pub sector: Option<u64>,
    /// Gone after its first hit.
    pub once: bool,
    /// Fail without going round QEMU's event loop; no difference here.
    pub immediately: bool,
}

/// What an operator cannot ask for is not read either: no disk has such a sector.
fn written_sector<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    match Option::<u64>::deserialize(from)? {
        Some(sector) if sector > SECTOR_MAX => {
            Err(D::Error::custom(format!("'sector' expects at most {SECTOR_MAX}, not {sector}")))
        }
        sector => Ok(sector),
    }
}

/// The same: blkdebug is never asked for a get-id.
fn written_iotype<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IoTypeWord>, D::Error> {
    let word = Option::<IoTypeWord>::deserialize(from)?;
    let is_unknown = |word: &IoTypeWord| word.name().parse::<IoTypeWord>().is_err();
    match word.filter(is_unknown) {
        Some(word) => {
            Err(D::Error::custom(format!("'iotype' of blkdebug is never {}", word.name())))
        }
        None => Ok(word),
    }
}

impl InjectError {
    /// A rule with QEMU's defaults: any state, any sector, EIO, again and again.
    #[must_use]
    pub fn on(event: Event) -> Self {
        Self {
            event,
            state: 0,
            iotype: None,
            errno: Some(Errno::EIO),
            delay_ns: 0,
            sector: None,
            once: false,
            immediately: false,
        }
    }

    /// The requests it hits.
    #[must_use]
    pub fn iotypes(&self) -> IoTypes {
        match self.iotype {
            None => IoTypes::ALL,
            Some(IoTypeWord::Io(iotype)) => [iotype].into_iter().collect(),
            Some(IoTypeWord::BlockStatus) => IoTypes::default(),
        }
    }
}

/// `set-state`: when the event comes in this state, change the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetState {
    /// What changes the state.
    pub event: Event,
    /// The state in which it does; 0 is any.
    pub state: i32,
    /// The state after the event.
    pub new_state: i32,
}

/// A rule set in order: every `inject-error` before every `set-state`, as QEMU loads them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The `inject-error` rules.
    pub inject_error: Vec<InjectError>,
    /// The `set-state` rules.
    pub set_state: Vec<SetState>,
}

/// Why a number cannot be what a rule's member holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMember {
    /// A negative or unknown error number. QEMU lets it through and acknowledges lost writes.
    #[error("Parameter 'errno' expects an error number from 0 to 4095, not {0}")]
    Errno(i64),
    /// Neither a sector nor -1.
    #[error("Parameter 'sector' expects -1 (any) or a sector from 0 to {SECTOR_MAX}, not {0}")]
    Sector(i64),
    /// Not a state number.
    #[error("Parameter '{0}' expects a state number that fits 32 bits, not {1}")]
    State(&'static str, i64),
    /// A negative delay.
    #[error("Parameter 'delay-ns' expects nanoseconds, 0 or more, not {0}")]
    Delay(i64),
}

/// The `errno` member: 0 to 4095.
///
/// # Errors
/// Any other number.
pub fn errno_of(number: i64) -> Result<Option<Errno>, BadMember> {
    match number {
        0 => Ok(None),
        _ => Errno::new(number).map(Some).ok_or(BadMember::Errno(number)),
    }
}

/// The `sector` member: -1 is any.
///
/// # Errors
/// Any other negative number, or more than [`SECTOR_MAX`].
pub fn sector_of(number: i64) -> Result<Option<u64>, BadMember> {
    match u64::try_from(number) {
        Ok(sector) if sector <= SECTOR_MAX => Ok(Some(sector)),
        Err(_) if number == -1 => Ok(None),
        _ => Err(BadMember::Sector(number)),
    }
}

/// The members `state` and `new_state`.
///
/// # Errors
/// A number that does not fit 32 bits; QEMU cuts it off.
pub fn state_of(member: &'static str, number: i64) -> Result<i32, BadMember> {
    i32::try_from(number).map_err(|_| BadMember::State(member, number))
}

/// The `delay-ns` member.
///
/// # Errors
/// A negative number.
pub fn delay_of(number: i64) -> Result<u64, BadMember> {
    u64::try_from(number).map_err(|_| BadMember::Delay(number))
}

/// Something about a rule set that its author ought to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// An `inject-error` rule, by its place from 0, waits for an event that never comes.
    InjectNeverRuns(usize, Event),
    /// A `set-state` rule, by its place from 0, waits for an event that never comes.
    SetStateNeverRuns(usize, Event),
    /// An `inject-error` rule, by its place from 0, is limited to `block-status`.
    InjectNeverHits(usize),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = "belongs to image formats and is never raised by a raw disk";
        match self {
            Self::InjectNeverRuns(place, event) => {
                write!(f, "of these rules, inject-error.{place} never runs: event '{event}' {why}")
            }
            Self::SetStateNeverRuns(place, event) => {
                write!(f, "of these rules, set-state.{place} never runs: event '{event}' {why}")
            }
            Self::InjectNeverHits(place) => {
                write!(f, "inject-error.{place} never hits: guests do not ask for 'block-status'")
            }
        }
    }
}

impl Rules {
    /// What the author of these rules ought to know.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for (place, rule) in self.inject_error.iter().enumerate() {
            if !rule.event.is_raised() {
                warnings.push(Warning::InjectNeverRuns(place, rule.event));
            } else if rule.iotype == Some(IoTypeWord::BlockStatus) {
                warnings.push(Warning::InjectNeverHits(place));
            }
        }
        for (place, rule) in self.set_state.iter().enumerate() {
            if !rule.event.is_raised() {
                warnings.push(Warning::SetStateNeverRuns(place, rule.event));
            }
        }
        warnings
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inject_error.is_empty() && self.set_state.is_empty()
    }
}
