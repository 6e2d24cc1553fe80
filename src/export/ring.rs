//! One virtqueue: heads out of the avail ring, used entries into the used ring, notifications.
//!
//! Knows: split virtqueues (virtio 1.3 section 2.7) through `virtio-queue`. Must not know: what a
//! chain asks for. Invariants: a head is fetched at most once per avail entry, and marked in the
//! [`inflight`](super::inflight) log from then until its used entry is there; nothing the driver
//! writes makes a fetch longer than the queue; a ring that lies is broken once and for all until
//! it is started again, while one whose memory went away goes on when that comes back.

use std::fs::File;
use std::num::Wrapping;
use std::sync::atomic::Ordering;

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::bell::{never_wait_for, signal};
use super::chain::Table;
use super::inflight::{BadLog, QueueLog, Recovered};
use super::memory::GuestMemory;
use super::request::Used;

/// Where a ring is and how it is used, all in guest addresses.
#[derive(Debug)]
pub(super) struct RingSetup {
    /// Which queue of the device this is.
    pub(super) index: u16,
    /// Descriptors, a power of two.
    pub(super) size: u16,
    pub(super) desc_table: u64,
    pub(super) avail_ring: u64,
    pub(super) used_ring: u64,
    /// The avail index to go on from, where no log knows better.
    pub(super) next_avail: u16,
    /// Where requests are marked that are not answered, if the front end keeps such a log.
    pub(super) log: Option<QueueLog>,
    pub(super) event_idx: bool,
    pub(super) indirect: bool,
    pub(super) call: Option<File>,
    pub(super) err: Option<File>,
}

/// Why a ring cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRing {
    #[error("its size is not a power of two up to the limit")]
    Size,
    #[error("one of its parts is misaligned or outside the guest's memory")]
    Place,
    #[error("its avail index jumped further than the queue is long")]
    AvailIndex,
    #[error("its avail ring names descriptor {0}, which the table does not have")]
    Head(u16),
    #[error("its used ring cannot be written")]
    Used,
    #[error("{0}")]
    Log(#[from] BadLog),
}

/// A started virtqueue.
#[derive(Debug)]
pub(super) struct Ring {
    queue: Queue,
    index: u16,
    indirect: bool,
    call: Option<File>,
    err: Option<File>,
    /// Used entries were added since the last notification was considered.
    unannounced: bool,
    broken: Option<BadRing>,
    /// The memory that the ring lies in is not there now.
    misplaced: bool,
    /// Used entries that wait for it.
    kept: Vec<(Used, Mark)>,
    log: Option<QueueLog>,
}

/// What a used entry means for its head's mark in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The request that was marked has ended.
    Ends,
    /// The head was offered twice, and the other request goes on.
    Stays,
}

impl Ring {
    /// Start a ring where it left off: used from the ring itself, avail from the log or the setup.
    /// Also tells what was taken before and not answered.
    pub(super) fn start(
        setup: RingSetup,
        size_max: u16,
        memory: &GuestMemory,
    ) -> Result<(Self, Recovered), BadRing> {
        let mut queue = Queue::new(size_max).map_err(|_| BadRing::Size)?;
        queue.try_set_size(setup.size).map_err(|_| BadRing::Size)?;
        let placed = queue
            .try_set_desc_table_address(GuestAddress(setup.desc_table))
            .and_then(|()| queue.try_set_avail_ring_address(GuestAddress(setup.avail_ring)))
            .and_then(|()| queue.try_set_used_ring_address(GuestAddress(setup.used_ring)));
        placed.map_err(|_| BadRing::Place)?;
        queue.set_event_idx(setup.event_idx);
        queue.set_next_avail(setup.next_avail);
        queue.set_ready(true);
        if !queue.is_valid(memory) {
            return Err(BadRing::Place);
        }
        let used = queue.used_idx(memory, Ordering::Acquire).map_err(|_| BadRing::Place)?;
        queue.set_next_used(used.0);
        let mut log = setup.log;
        let recovered = match &mut log {
            Some(log) => log.recover(used.0, setup.size)?,
            None => Recovered::Unused,
        };
        if let Recovered::Unanswered { next_avail, .. }
        | Recovered::Contradicted { next_avail, .. } = recovered
        {
            queue.set_next_avail(next_avail);
        }
        let (call, err) = (setup.call, setup.err);
        let mut ring = Self {
            queue,
            index: setup.index,
            indirect: setup.indirect,
            call: None,
            err: None,
            unannounced: false,
            broken: None,
            misplaced: false,
            kept: Vec::new(),
            log,
        };
        ring.set_call(call);
        ring.set_err(err);
        Ok((ring, recovered))
    }

    /// The descriptor table that heads index.
    pub(super) fn table(&self) -> Table {
        Table { addr: self.queue.desc_table(), size: self.queue.size() }
    }

    /// Whether the driver may use indirect descriptors.
    pub(super) fn indirect(&self) -> bool {
        self.indirect
    }

    /// The avail index that comes next.
    pub(super) fn next_avail(&self) -> u16 {
        self.queue.next_avail()
    }

    /// Use another call descriptor from now on, and tell it at once what it may have missed.
    pub(super) fn set_call(&mut self, call: Option<File>) {
        if let Some(call) = &call {
            never_wait_for(call);
            signal(call);
        }
        self.call = call;
    }

    /// Use another error descriptor from now on.
    pub(super) fn set_err(&mut self, err: Option<File>) {
        err.as_ref().map(never_wait_for);
        self.err = err;
    }

    /// The memory under the ring changed. QEMU takes a region out and puts it back when it changes
    /// the region's size; what became of requests meanwhile is told then.
    pub(super) fn check_place(&mut self, memory: &GuestMemory) {
        let was_misplaced = std::mem::replace(&mut self.misplaced, !self.queue.is_valid(memory));
        if self.misplaced && !was_misplaced {
            log::warn!("queue {}: its memory has gone: it waits for it", self.index);
            self.err.as_ref().map(signal);
        }
        if !self.misplaced {
            for (used, mark) in std::mem::take(&mut self.kept) {
                self.push(memory, used, mark);
            }
        }
    }

    /// Whether heads may be fetched.
    pub(super) fn is_usable(&self) -> bool {
        self.broken.is_none() && !self.misplaced
    }

    /// Append every head that is available now, up to the first lie; at most as many as the queue
    /// has descriptors.
    pub(super) fn fetch(&mut self, memory: &GuestMemory, heads: &mut Vec<u16>) {
        let _ = self.queue.disable_notification(memory);
        let size = self.queue.size();
        let mut bad = None;
        match self.queue.iter(memory) {
            Err(_) => bad = Some(BadRing::AvailIndex),
            Ok(mut available) => {
                while let Some(head) = available.next().map(|chain| chain.head_index()) {
                    if head < size {
                        heads.push(head);
                        continue;
                    }
                    // What came before it is served first.
                    if heads.is_empty() {
                        bad = Some(BadRing::Head(head));
                    } else {
                        available.go_to_previous_position();
                    }
                    break;
                }
            }
        }
        if let Some(bad) = bad {
            self.set_broken(bad);
        }
    }

    /// Whether there seems to be something to fetch. Costs two loads.
    pub(super) fn has_more(&self, memory: &GuestMemory) -> bool {
        let next_avail = Wrapping(self.queue.next_avail());
        self.queue.avail_idx(memory, Ordering::Acquire).is_ok_and(|avail| avail != next_avail)
    }

    /// Leave the last `count` heads that were fetched in the ring, to be fetched again.
    pub(super) fn put_back(&mut self, count: u16) {
        let next_avail = self.queue.next_avail().wrapping_sub(count);
        self.queue.set_next_avail(next_avail);
    }

    /// Ask for kicks again. True if something became available meanwhile.
    pub(super) fn rearm(&mut self, memory: &GuestMemory) -> bool {
        match self.queue.enable_notification(memory) {
            Ok(more) => more,
            Err(_) => {
                self.set_broken(BadRing::Place);
                false
            }
        }
    }

    /// Whether what is taken and not answered outlives the ring.
    pub(super) fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// Something is about to be done about a head that was fetched, as the request of this ordinal.
    pub(super) fn take(&mut self, head: u16, ordinal: u64) {
        if let Some(log) = &mut self.log {
            log.take(head, ordinal);
        }
    }

    /// Put an entry on the used ring, or keep it until there is one.
    pub(super) fn push(&mut self, memory: &GuestMemory, used: Used, mark: Mark) {
        if self.misplaced {
            return self.kept.push((used, mark));
        }
        if let (Some(log), Mark::Ends) = (&mut self.log, mark) {
            log.answering(used.head);
        }
        #[cfg(test)]
        super::inflight::crash::point();
        if self.queue.add_used(memory, used.head, used.bytes).is_err() {
            return self.set_broken(BadRing::Used);
        }
        self.unannounced = true;
        let used_idx = self.queue.next_used();
        match (&mut self.log, mark) {
            (Some(log), Mark::Ends) => log.answered(used.head, used_idx),
            (Some(log), Mark::Stays) => log.published(used_idx),
            (None, _) => {}
        }
    }

    /// Notify the driver of what was pushed since the last call, if it asked for that.
    pub(super) fn announce(&mut self, memory: &GuestMemory) {
        if !std::mem::take(&mut self.unannounced) {
            return;
        }
        let wanted = self.queue.needs_notification(memory).unwrap_or(true);
        if wanted && !self.interrupts_suppressed(memory) {
            self.call.as_ref().map(signal);
        }
    }

    /// `VIRTQ_AVAIL_F_NO_INTERRUPT` (2.7.7), which `virtio-queue` leaves to its user.
    fn interrupts_suppressed(&self, memory: &GuestMemory) -> bool {
        if self.queue.event_idx_enabled() {
            return false;
        }
        let flags = memory.load::<u16>(GuestAddress(self.queue.avail_ring()), Ordering::Acquire);
        flags.is_ok_and(|flags| u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT != 0)
    }

    fn set_broken(&mut self, bad: BadRing) {
        if self.broken.replace(bad).is_none() {
            log::error!("queue {} is broken until it is started again: {bad}", self.index);
            self.err.as_ref().map(signal);
        }
    }
}
