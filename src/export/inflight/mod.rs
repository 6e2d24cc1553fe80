//! The log of requests that were taken from a ring and not answered yet, in memory that outlives us.
//!
//! Knows: the region that the front end keeps for its back end and hands to the next one (QEMU's
//! docs/interop/vhost-user.rst, "Inflight I/O tracking", split virtqueues). Must not know: requests,
//! or how a ring is served. Invariants: a head is marked before anything is done about it, and its
//! mark goes after its used entry was published; whatever lies between two stores here, the next
//! [`recover`](QueueLog::recover) finds every head that has no used entry, and none that has one;
//! what the region holds was written by another process and is believed no further than that.
//!
//! Stores are in program order for whoever maps the region after this process has died, because one
//! thread makes them all; they are atomic and release, so that compilers keep the order too.
//!
//! ```text
//! take:     counter = ordinal + 1, inflight = 1
//! answer:   next = last_batch_head, last_batch_head = head, (used ring), inflight = 0, used_idx
//! recover:  used.idx - used_idx answers were published and still have their marks: the list from
//!           last_batch_head tells which
//! ```

mod recovery;
mod region;

pub(super) use recovery::{BadLog, Recovered, Taken};
pub(super) use region::{Region, Shape, create};

use std::sync::Arc;

use self::region::{Queue, QueueField, StateField};

/// One queue's part of the region, in the hands of the thread that serves the queue.
#[derive(Debug)]
pub(super) struct QueueLog {
    queue: Queue,
}

impl QueueLog {
    /// The log of a queue; nothing if the region has none for it.
    pub(super) fn of(region: &Arc<Region>, queue_index: u16) -> Option<Self> {
        Some(Self { queue: region.queue(queue_index)? })
    }

    /// Whether a request was ever taken by it.
    pub(super) fn is_used(&self) -> bool {
        let taken = |head| self.queue.of(head, StateField::Counter) != 0;
        self.queue.get(QueueField::Version) != 0 && (0..self.queue.size()).any(taken)
    }

    /// A head was taken from the avail ring, as the request of this ordinal; those of a queue rise.
    /// Heads outside the log are of nobody's request.
    pub(super) fn take(&mut self, head: u16, ordinal: u64) {
        self.queue.set(head, StateField::Counter, ordinal.wrapping_add(1));
        self.queue.set(head, StateField::Inflight, 1);
    }

    /// The head's used entry is about to be published.
    pub(super) fn answering(&mut self, head: u16) {
        let before = self.queue.get(QueueField::LastBatchHead);
        self.queue.set(head, StateField::Next, before);
        self.queue.put(QueueField::LastBatchHead, u64::from(head));
    }

    /// The head's used entry is published, and the used ring's index is this now.
    pub(super) fn answered(&mut self, head: u16, used_idx: u16) {
        self.queue.set(head, StateField::Inflight, 0);
        self.published(used_idx);
    }

    /// The used ring's index is this now.
    pub(super) fn published(&mut self, used_idx: u16) {
        self.queue.put(QueueField::UsedIdx, u64::from(used_idx));
    }
}

#[cfg(test)]
pub(super) mod crash;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod tests;
