//! The states an operator can put a whole disk into, with their options.
//!
//! Knows: what a state does to one request (fault-model.md, "Manual states"). Must not know: rules,
//! which a state outranks, or when a state was entered. Invariant: a state that exists can be
//! left, and every request it holds has a way back.

use super::slow::Profile;
use super::{Io, IoType, IoTypes};
use crate::errno::Errno;

/// The states' names, as operators write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskStateName {
    /// An ordinary disk.
    None,
    /// Every request fails at once.
    Error,
    /// Nothing completes.
    Hang,
    /// A limping disk.
    Slow,
    /// Reads work, nothing else that touches data does.
    ReadOnly,
    /// The front end is disconnected and refused.
    Offline,
}

impl DiskStateName {
    /// Every state, in the schema's order.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Error, Self::Hang, Self::Slow, Self::ReadOnly, Self::Offline];

    /// The name as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Error => "error",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::ReadOnly => "read-only",
            Self::Offline => "offline",
        }
    }
}

/// A state with its options.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum DiskState {
    /// An ordinary disk: rules decide.
    #[default]
    None,
    /// Requests of these types fail at once.
    Error {
        /// The error that events and statistics carry.
        errno: Errno,
        /// The types that fail; for the others rules decide.
        iotypes: IoTypes,
    },
    /// Requests of these types are held until the state is left.
    Hang {
        /// The types that are held; for the others rules decide.
        iotypes: IoTypes,
        /// When released they fail with this, else they go on to the rules.
        on_release: Option<Errno>,
    },
    /// The first profile that concerns a request slows it; then rules decide.
    Slow {
        /// The profiles, in order.
        profiles: Vec<Profile>,
    },
    /// Writes, discards and write-zeroes fail; for reads and flushes rules decide.
    ReadOnly {
        /// The error that events and statistics carry.
        errno: Errno,
    },
    /// The front end is disconnected and refused until the state is left.
    Offline,
}

/// Why there is no such state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadState {
    /// A state about no request.
    #[error("'iotype' expects at least one I/O type")]
    NoIoType,
    /// A slow disk that is not slow.
    #[error("state 'slow' expects 1 to {PROFILES_MAX} profiles")]
    Profiles,
}

/// Most profiles of a slow disk.
pub const PROFILES_MAX: usize = 64;

impl DiskState {
    /// The state without its options.
    #[must_use]
    pub fn name(&self) -> DiskStateName {
        match self {
            Self::None => DiskStateName::None,
            Self::Error { .. } => DiskStateName::Error,
            Self::Hang { .. } => DiskStateName::Hang,
            Self::Slow { .. } => DiskStateName::Slow,
            Self::ReadOnly { .. } => DiskStateName::ReadOnly,
            Self::Offline => DiskStateName::Offline,
        }
    }

    /// Check the options.
    ///
    /// # Errors
    /// A state that could concern no request, or has too many profiles.
    pub fn check(&self) -> Result<(), BadState> {
        match self {
            Self::Error { iotypes, .. } | Self::Hang { iotypes, .. } if iotypes.is_empty() => {
                Err(BadState::NoIoType)
            }
            Self::Slow { profiles } if profiles.is_empty() || profiles.len() > PROFILES_MAX => {
                Err(BadState::Profiles)
            }
            _ => Ok(()),
        }
    }

    /// Whether it could do anything to such a request.
    #[must_use]
    pub fn concerns(&self, io: &Io) -> bool {
        match self {
            Self::None => false,
            Self::Error { iotypes, .. } | Self::Hang { iotypes, .. } => iotypes.contains(io.iotype),
            Self::Slow { profiles } => profiles.iter().any(|profile| profile.concerns(io)),
            Self::ReadOnly { .. } => {
                matches!(io.iotype, IoType::Write | IoType::Discard | IoType::WriteZeroes)
            }
            Self::Offline => io.iotype != IoType::GetId,
        }
    }
}
