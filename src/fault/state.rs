//! Manual states: what the operator turned the whole disk into.
//!
//! A state outranks rules (fault-model.md, "Manual states"). This module says what a state does to
//! one request; when it takes effect is the fault filter's business (`block::filter`).

use super::{Io, IoTypes};
use crate::errno::Errno;

/// The names of the states, as operators write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateName {
    /// An ordinary disk.
    None,
    /// Every request fails at once.
    Error,
}

/// A state with its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManualState {
    /// An ordinary disk.
    None,
    /// Requests of these types fail at once with this error.
    Error {
        /// The error that events and statistics carry; the guest sees an I/O error.
        errno: Errno,
        /// The types that fail; the others pass.
        iotypes: IoTypes,
    },
}

impl ManualState {
    /// The state without its options.
    #[must_use]
    pub fn name(&self) -> StateName {
        match self {
            Self::None => StateName::None,
            Self::Error { .. } => StateName::Error,
        }
    }
}

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The manual state.
    State,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It goes on to the image.
    Pass,
    /// It fails with this error and never reaches the image.
    Fail(Errno, Cause),
}

/// Everything that decides about requests at one moment: immutable, shared by all queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The manual state.
    pub state: ManualState,
}

impl Snapshot {
    /// An ordinary disk.
    pub const IDLE: Self = Self { state: ManualState::None };

    /// Whether every request passes, so that nobody needs to ask.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        *self == Self::IDLE
    }

    /// What becomes of this request.
    pub fn decide(&self, io: &Io) -> Verdict {
        match self.state {
            ManualState::Error { errno, iotypes } if iotypes.contains(io.iotype) => {
                Verdict::Fail(errno, Cause::State)
            }
            ManualState::None | ManualState::Error { .. } => Verdict::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::IoType;

    fn io(iotype: IoType) -> Io {
        Io { iotype, offset_bytes: 0, bytes: 512, ordinal: 0, queue: 0 }
    }

    #[test]
    fn an_ordinary_disk_passes_everything() {
        assert!(Snapshot::IDLE.is_idle());
        for iotype in IoType::ALL {
            assert_eq!(Snapshot::IDLE.decide(&io(iotype)), Verdict::Pass);
        }
    }

    #[test]
    fn the_error_state_fails_the_named_types_and_no_other() {
        let iotypes: IoTypes = [IoType::Write, IoType::Flush].into_iter().collect();
        let bad = Snapshot { state: ManualState::Error { errno: Errno::ENOSPC, iotypes } };
        assert!(!bad.is_idle());
        for iotype in IoType::ALL {
            let expected = match iotype {
                IoType::Write | IoType::Flush => Verdict::Fail(Errno::ENOSPC, Cause::State),
                _ => Verdict::Pass,
            };
            assert_eq!(bad.decide(&io(iotype)), expected, "{}", iotype.name());
        }
    }
}
