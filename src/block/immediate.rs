//! Channels of stores that answer at once.
//!
//! Knows: that an op can be done by the calling thread without waiting. Must not know: where the
//! bytes are. Invariant: every op has ended when `submit` returns.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::{Channel, Completion, Op, OpKind};
use crate::errno::Errno;

/// What does an op by itself.
pub(super) trait Store: Send + Sync {
    /// Do it.
    fn serve(&self, kind: &OpKind) -> Result<(), Errno>;
}

/// A channel to a store.
pub(super) struct ImmediateChannel<S> {
    store: Arc<S>,
    ended: Vec<Completion>,
}

impl<S: Store> ImmediateChannel<S> {
    pub(super) fn new(store: Arc<S>) -> Self {
        Self { store, ended: Vec::new() }
    }
}

impl<S: Store> Channel for ImmediateChannel<S> {
    fn submit(&mut self, op: Op) {
        let result = self.store.serve(&op.kind);
        self.ended.push(op.complete(result));
    }

    fn commit(&mut self) {}

    fn poll(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.ended);
    }

    fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
}

/// The end of a range that lies within `size_bytes`; `EIO` for any other.
pub(super) fn end_within(offset_bytes: u64, bytes: u64, size_bytes: u64) -> Result<u64, Errno> {
    offset_bytes.checked_add(bytes).filter(|end| *end <= size_bytes).ok_or(Errno::EIO)
}
