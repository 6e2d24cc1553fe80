//! Nodes: one small interface, stacked.
//!
//! Knows: images and the layers above them. Must not know: virtio, vhost-user or QMP. Invariant:
//! layers compose by wrapping the same two traits, [`Node`] and [`Channel`].

mod buffers;
mod fault_point;
mod filter;
mod immediate;
mod memory;
mod node;
mod null;
mod raw;
mod waker;

pub use buffers::{Buffers, IoVecs, MemoryOwner, OwnedMemory};
pub use fault_point::{
    FaultCounts, FaultObserver, FaultPoint, HeldCause, HeldReport, Keeper, Line, NotChanged,
    NotKept, OnError, Overview, Record, Released, Resume, Snapshot, TimedOut, Which,
};
pub use filter::FaultFilter;
pub use memory::MemoryImage;
pub use node::{Channel, Completion, Geometry, Node, Op, OpKind, Ticket};
pub use null::NullImage;
pub use raw::{
    Aio, CacheMode, ImageKind, Locking, NO_IO_URING_VARIABLE, OpenError, RawImage, RawOptions,
    Reopening, Served,
};
