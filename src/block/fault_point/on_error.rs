//! The policy for requests that the image itself fails.
//!
//! Knows: which errors are held. Must not know: who holds them. Invariant: an injected error is never
//! its concern.

use serde::{Deserialize, Serialize};

use crate::errno::Errno;

/// What becomes of a request that the image itself failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnError {
    /// The guest is told.
    #[default]
    Report,
    /// It is held, to be asked of the image again when it is resumed.
    Hold,
    /// It is held if the host has no space left, else the guest is told.
    HoldOnEnospc,
}

impl OnError {
    /// Whether a request with this error is held.
    #[must_use]
    pub fn holds(self, errno: Errno) -> bool {
        match self {
            Self::Report => false,
            Self::Hold => true,
            Self::HoldOnEnospc => errno == Errno::ENOSPC,
        }
    }
}
