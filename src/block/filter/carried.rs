//! A request that the engine wants to hear more of, on its way through one channel.
//!
//! Knows: the op, its passage and its result. Must not know: other requests. Invariant: a request
//! is in one place: under way in a function, at the image, or waiting.

use std::time::Instant;

use super::super::fault_point::{Baton, Key, Standing};
use super::super::{Op, OpKind};
use crate::errno::Errno;
use crate::fault::Payload;
use crate::fault::engine::{Passage, Then};

/// A request that is kept while it is carried out.
#[derive(Debug)]
pub(super) struct Carried {
    /// What was asked; the image gets a copy over the same memory.
    pub(super) op: Op,
    /// `None` for one that the engine let pass and that is kept for its error only.
    pub(super) passage: Option<Passage>,
    /// Once it is known.
    pub(super) result: Option<Result<(), Errno>>,
    /// Others are released when it has ended.
    pub(super) baton: Option<Baton>,
    /// It was at the image before, in an earlier channel, and this was decided then.
    pub(super) standing: Option<Box<Standing>>,
}

impl Carried {
    pub(super) fn new(op: Op) -> Self {
        Self { op, passage: None, result: None, baton: None, standing: None }
    }
}

/// A request that waits, and for what.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) carried: Carried,
    pub(super) wait: Wait,
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Time.
    Delayed(Instant, Then),
    /// Its release, which comes by mail, or time.
    Held(Option<Instant>, Then),
    /// Its release; the image failed it.
    ImageError(Errno),
    /// Its front end's end.
    Lost,
}

impl Wait {
    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Delayed(at, _) => Some(at),
            Self::Held(at, _) => at,
            Self::ImageError(_) | Self::Lost => None,
        }
    }
}

/// The waiting requests of a channel, in the order in which their waits began. Each elsewhere: in the tree,
/// whoever comes or goes would move its neighbours.
pub(super) type WaitingRoom = std::collections::BTreeMap<Key, Box<Waiting>>;

impl Payload for Op {
    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> bool {
        match &self.kind {
            OpKind::Write { from, .. } => from.read_at(offset_bytes, into),
            _ => false,
        }
    }
}
