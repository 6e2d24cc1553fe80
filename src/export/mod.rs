//! The guest's door: a disk served to a vhost-user front end.
//!
//! Knows: vhost-user, virtqueues, virtio-blk requests. Must not know: QMP, images, or why a request
//! fails. Only this folder names the crates `vhost` and `virtio-queue`.
//!
//! A request's journey: [`ring`] takes a head, [`chain`] walks its descriptors, [`request`] makes a
//! request of them, the [`worker`] submits it to the node and answers it. One thread per disk
//! ([`Export`]) answers vhost-user messages ([`wire`], [`connection`], [`session`]) and never waits for a
//! guest's request; one thread per started virtqueue serves requests.

mod bell;
mod chain;
mod config;
mod connection;
mod control;
mod dirty;
mod disk;
mod door;
mod ending;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod handoff;
mod in_flight;
mod inflight;
mod late;
mod mapping;
mod memory;
mod ordinals;
mod passed;
mod patience;
mod polling;
mod redo;
mod request;
mod ring;
mod round;
mod serve;
mod session;
mod stats;
mod touch;
mod vring;
mod waiting;
mod wire;
mod worker;

pub use disk::{
    BadSerial, Disk, DiskOptions, HeldOnStop, IoFailure, NUM_QUEUES_MAX, Observer, QUEUE_SIZE_MAX,
    SERIAL_BYTES, Serial,
};
pub use door::{DoorError, Inherited};
pub use late::Late;
pub use passed::open_beforehand;
pub use polling::PollShare;
pub use serve::{Door, Export, LeftBehind};
pub use stats::{Stats, TypeStats};
