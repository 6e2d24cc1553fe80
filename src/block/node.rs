//! The small interface that every layer of a disk implements.
//!
//! Knows: what a disk can be asked to do. Must not know: rings, descriptors, status bytes (those
//! are `export`'s) or who decides about faults (`fault`).
//!
//! A [`Node`] is the shared control handle of a disk or image; a [`Channel`] is one worker's own
//! handle for data. Invariant: every [`Op`] that is submitted yields exactly one [`Completion`]
//! with its ticket, on the same channel, or its ticket once from [`Channel::take_kept`], when it is
//! left to another channel; submitting cannot fail, a failure is a completion.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::block::{Buffers, Line};
use crate::errno::Errno;
use crate::fault::{Io, IoType};

/// What the submitter needs to recognise a completion. Opaque to every layer below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// One thing a node is asked to do.
#[derive(Debug)]
pub struct Op {
    /// Given back in the [`Completion`].
    pub ticket: Ticket,
    /// The request's place in the order in which its disk took requests from its rings, from 0.
    pub ordinal: u64,
    /// The virtqueue the request came from.
    pub queue: u16,
    /// What is asked.
    pub kind: OpKind,
}

/// What is asked of a node, with byte offsets from the start of the disk.
///
/// Ranges were checked against the geometry by whoever made the op, but the image may have shrunk
/// since: a node answers `EIO`, never panics, for a range outside itself.
#[derive(Debug)]
pub enum OpKind {
    /// Fill all of `into` from the image.
    Read {
        /// Byte offset of the first byte.
        offset_bytes: u64,
        /// Where the data goes; its length is the request's length.
        into: Buffers,
    },
    /// Write all of `from` to the image.
    Write {
        /// Byte offset of the first byte.
        offset_bytes: u64,
        /// The data; its length is the request's length.
        from: Buffers,
        /// Durable before the completion (write-through, virtio 1.3 5.2.6.2).
        fua: bool,
    },
    /// Make every write that completed before this was submitted durable.
    Flush,
    /// The range's content no longer matters.
    Discard {
        /// Byte offset of the first byte.
        offset_bytes: u64,
        /// Length in bytes; 0 does nothing.
        bytes: u64,
    },
    /// The range reads as zeroes afterwards.
    WriteZeroes {
        /// Byte offset of the first byte.
        offset_bytes: u64,
        /// Length in bytes; 0 does nothing.
        bytes: u64,
        /// The range may be deallocated.
        may_unmap: bool,
        /// Durable before the completion.
        fua: bool,
    },
    /// Nothing: whoever asks has the answer, and wants to know from the layers on the way whether
    /// it may be told.
    GetId,
}

impl Op {
    /// The shape of the op without its data, as the fault engine sees it.
    #[must_use]
    pub fn io(&self) -> Io {
        let (iotype, offset_bytes, bytes) = match &self.kind {
            OpKind::Read { offset_bytes, into } => (IoType::Read, *offset_bytes, into.bytes()),
            OpKind::Write { offset_bytes, from, .. } => {
                (IoType::Write, *offset_bytes, from.bytes())
            }
            OpKind::Flush => (IoType::Flush, 0, 0),
            OpKind::GetId => (IoType::GetId, 0, 0),
            OpKind::Discard { offset_bytes, bytes } => (IoType::Discard, *offset_bytes, *bytes),
            OpKind::WriteZeroes { offset_bytes, bytes, .. } => {
                (IoType::WriteZeroes, *offset_bytes, *bytes)
            }
        };
        Io { iotype, offset_bytes, bytes, ordinal: self.ordinal, queue: self.queue }
    }

    /// The same op over the same memory, for whoever has to ask for it again.
    #[must_use]
    pub fn share(&self) -> Self {
        let kind = match &self.kind {
            OpKind::Read { offset_bytes, into } => {
                OpKind::Read { offset_bytes: *offset_bytes, into: into.share() }
            }
            OpKind::Write { offset_bytes, from, fua } => {
                OpKind::Write { offset_bytes: *offset_bytes, from: from.share(), fua: *fua }
            }
            OpKind::Flush => OpKind::Flush,
            OpKind::GetId => OpKind::GetId,
            OpKind::Discard { offset_bytes, bytes } => {
                OpKind::Discard { offset_bytes: *offset_bytes, bytes: *bytes }
            }
            OpKind::WriteZeroes { offset_bytes, bytes, may_unmap, fua } => OpKind::WriteZeroes {
                offset_bytes: *offset_bytes,
                bytes: *bytes,
                may_unmap: *may_unmap,
                fua: *fua,
            },
        };
        Self { kind, ..*self }
    }

    /// The op's end.
    pub fn complete(self, result: Result<(), Errno>) -> Completion {
        Completion { ticket: self.ticket, result }
    }
}

/// The end of an op: all of it was done, or it failed with an error.
///
/// `Ok` means every byte was transferred; there is no short success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Completion {
    /// The ticket of the op that ended.
    pub ticket: Ticket,
    /// How it ended.
    pub result: Result<(), Errno>,
}

/// What a disk looks like from above. All sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Size of the disk.
    pub size_bytes: u64,
    /// Offsets, lengths (and, in the raw engine, addresses) must be multiples of this: 1 where the
    /// image takes anything, at most 512 otherwise: larger blocks of the host are read, modified
    /// and written by the image itself. A power of two.
    pub request_alignment: u32,
    /// Preferred smallest unit (`opt_io_size`, physical block), a power of two, 512 or more.
    pub physical_block_bytes: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// Discard really deallocates.
    pub can_discard: bool,
    /// Write-zeroes with `may_unmap` really deallocates.
    pub can_unmap_zeroes: bool,
}

/// The shared control handle of a disk or image.
pub trait Node: Send + Sync + std::fmt::Debug {
    /// The present geometry. Cheap; may change after a resize.
    fn geometry(&self) -> Geometry;

    /// A data handle for the calling thread.
    ///
    /// # Errors
    /// What the host says when it cannot give what a channel needs (descriptors, rings, threads).
    fn channel(&self) -> io::Result<Box<dyn Channel>>;

    /// Change the size. Only the image decides what happens to data beyond the new end.
    ///
    /// # Errors
    /// `EROFS`, `EOPNOTSUPP` (a host device cannot be resized to anything but its own size), or
    /// what the host says; the size is then unchanged.
    fn resize(&self, size_bytes: u64) -> Result<(), Errno>;

    /// A guest goes on that an earlier process served, and this one has not. True where the content
    /// died with that process, the first time: from then on every op fails with `EIO`, because
    /// success would be told of other bytes than the guest wrote.
    fn lose_earlier(&self) -> bool {
        false
    }

    /// A guest begins anew, and has no use for what was lost. True if something was.
    fn begin_anew(&self) -> bool {
        false
    }

    /// The line to the front end, where a layer has a say in it.
    fn line(&self) -> Option<Arc<Line>> {
        None
    }
}

/// One worker's handle for data. Used by one thread; dropping it waits for what is in flight.
pub trait Channel {
    /// Take an op. It starts now or at the next [`commit`](Self::commit).
    fn submit(&mut self, op: Op);

    /// Start everything that was submitted, in one system call where that is possible.
    fn commit(&mut self);

    /// Append what has ended since the last call, without waiting, and quieten [`wake_fds`].
    ///
    /// [`wake_fds`]: Self::wake_fds
    fn poll(&mut self, done: &mut Vec<Completion>);

    /// Whether what is committed may have ended by then, because no device is waited for.
    fn ends_at_once(&self) -> bool {
        true
    }

    /// Whether [`poll`](Self::poll) would find something that came from the host's kernel, as far as can
    /// be told without a system call.
    fn has_ended(&mut self) -> bool {
        false
    }

    /// When something ends by itself next, if anything does: [`poll`](Self::poll) finds it from then on.
    fn next_moment(&self) -> Option<Instant> {
        None
    }

    /// Have [`wake_fds`](Self::wake_fds) tell of such a moment so much earlier, once: a thread that is
    /// awake by then is not late by the time that a wake takes.
    fn wake_early(&mut self, _lead: Duration) {}

    /// Everything that [`poll`](Self::poll) gave out is answered: it is never submitted again.
    fn answered(&mut self) {}

    /// One of these is readable while [`poll`](Self::poll) may find something; empty where every
    /// op has ended by the time `commit` returns.
    fn wake_fds(&self) -> Vec<BorrowedFd<'_>>;

    /// The worker before this one left ops of this queue without an answer: those of these
    /// ordinals are going to be submitted again, and no others.
    fn take_up(&mut self, _queue: u16, _ordinals: &[u64]) {}

    /// Take an op that a worker before this one took, under the same ordinal. A layer that
    /// remembers it goes on where it was.
    fn submit_again(&mut self, op: Op) {
        self.submit(op);
    }

    /// The ring stops, and what is not answered is submitted again to another channel: ops that a
    /// layer holds back never end here, and from now on none is held back that ends.
    fn keep_held(&mut self) {}

    /// Ops that never end here, since the last call.
    fn take_kept(&mut self) -> Vec<Ticket> {
        Vec::new()
    }

    /// The ring stops: ops that a layer holds back fail with this, those that it only delays go on
    /// now, and from now on none is held back. Those at the image end as they do.
    fn fail_held(&mut self, _errno: Errno) {}
}
