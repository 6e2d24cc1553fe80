//! What a rule does to a request that it hits.
//!
//! Knows: the effects on a request's result, time and life. Must not know: triggers. Invariant:
//! every effect that can be made is carried out.
//!
//! Effects on data (drop, corrupt, tear, misdirect, stale, late-error) and power-cut will be
//! variants here once the layer below can carry them out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::media::Media;
use crate::errno::Errno;
use crate::fault::slow::{BadDistribution, DELAY_MAX_NS, Distribution};

/// A place in a request's life at which it can be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Point {
    /// It was taken from the ring.
    Received,
    /// All rules let it pass and it is about to go to the image.
    BeforeImage,
    /// The image has done it, or failed to.
    AfterImage,
    /// Its result is about to be told to the guest, whoever decided it.
    BeforeAnswer,
    /// It is a flush about to go to the image.
    FlushBeforeCommit,
}

impl Point {
    /// Every point, in the order of a request's life.
    pub const ALL: [Self; 5] = [
        Self::Received,
        Self::BeforeImage,
        Self::FlushBeforeCommit,
        Self::AfterImage,
        Self::BeforeAnswer,
    ];

    /// The name that operators use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::BeforeImage => "before-image",
            Self::AfterImage => "after-image",
            Self::BeforeAnswer => "before-answer",
            Self::FlushBeforeCommit => "flush-before-commit",
        }
    }
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// It fails and never reaches the image.
    Error(Errno),
    /// It waits.
    Delay {
        /// How long.
        delay: Distribution,
        /// Fails afterwards; else it goes on.
        then: Option<Errno>,
    },
    /// It is held until it is released.
    Hang {
        /// Or until so long has passed, nanoseconds.
        at_most_ns: Option<u64>,
        /// Fails afterwards; else it goes on.
        then: Option<Errno>,
    },
    /// It is held at a point until its tag is resumed.
    Break {
        /// What the operator calls it.
        tag: Arc<str>,
        /// Where.
        point: Point,
    },
    /// The engine's state changes.
    SetState(i32),
    /// The front end is disconnected.
    Disconnect,
    /// The medium is bad there.
    Media(Box<Media>),
}

/// Why there is no such effect.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BadEffect {
    /// A delay.
    #[error(transparent)]
    Delay(#[from] BadDistribution),
    /// A hang that is none, or too long.
    #[error("'for-ns' expects 1 to {DELAY_MAX_NS} nanoseconds")]
    Hang,
    /// A tag that cannot be told.
    #[error("'tag' expects 1 to {TAG_BYTES_MAX} bytes")]
    Tag,
    /// A media fault that never fails.
    #[error("'retries' expects 1 to {} tries", super::media::RETRIES_MAX)]
    Retries,
    /// A pool for nothing.
    #[error("'remap-pool' expects 'heal' to be on-write")]
    PoolWithoutHeal,
    /// Slow no times.
    #[error("'fail-after' expects 1 or more slow requests")]
    FailAfter,
}

/// Longest tag, bytes.
pub const TAG_BYTES_MAX: usize = 255;

impl Effect {
    /// Check the parameters.
    ///
    /// # Errors
    /// The first that is out of its range.
    pub fn check(&self) -> Result<(), BadEffect> {
        match self {
            Self::Error(_) | Self::SetState(_) | Self::Disconnect => Ok(()),
            Self::Delay { delay, .. } => Ok(delay.check()?),
            Self::Hang { at_most_ns: Some(ns), .. } if *ns == 0 || *ns > DELAY_MAX_NS => {
                Err(BadEffect::Hang)
            }
            Self::Hang { .. } => Ok(()),
            Self::Break { tag, .. } if tag.is_empty() || tag.len() > TAG_BYTES_MAX => {
                Err(BadEffect::Tag)
            }
            Self::Break { .. } => Ok(()),
            Self::Media(media) => media.check(),
        }
    }

    /// The point at which it acts: rules that break later are looked at later.
    pub(in crate::fault) fn point(&self) -> Point {
        match self {
            Self::Break { point, .. } => *point,
            _ => Point::Received,
        }
    }
}
