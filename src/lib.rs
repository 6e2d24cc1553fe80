//! A disk that fails on command.
//!
//! `blkfaultd` is a vhost-user-blk back end: QEMU, or any other vhost-user front end, attaches to its
//! socket, and the guest sees an ordinary virtio disk served from an image. Over a QMP monitor, at
//! any moment, an operator makes that disk fail. `blkfault` is that operator's command.
//!
//! # Two journeys
//!
//! A request of the guest, and the type it wears at each step:
//!
//! ```text
//! kick -> export/worker -- Chain -> Request (parsed once, completed exactly once)
//!      -> block/filter  -- Io (shape only) -> fault::engine -> Verdict, naming its cause
//!      -> block/raw | memory | null -> Completion (ticket + Result<(), Errno>)
//!      -> export        -- status byte and used length, computed together -> used ring -> call
//! ```
//!
//! A command of an operator:
//!
//! ```text
//! socket -> monitor/framing -> monitor/session -> qapi::Command::parse -> Daemon::execute
//!        -> block::FaultPoint::configure -> reply, events
//! ```
//!
//! # Rooms
//!
//! | module | knows |
//! | --- | --- |
//! | [`export`] | the guest's door: vhost-user, virtqueues, virtio-blk requests |
//! | [`block`] | nodes: one small interface, stacked: fault filter, then image |
//! | [`fault`] | the decision, pure: what becomes of a request |
//! | [`monitor`] | the operator's door: QMP on sockets |
//! | [`qapi`] | the contract in Rust, generated from `qapi/` |
//! | [`daemon`] | everything that exists, by name; one match over all commands |
//! | [`guard`] | least privilege: what the daemon gives up once it has what it needs |
//! | [`logging`] | the log: how much of it there is, and how it leaves the process |
//! | [`options`] | the daemon's command line, as the monitor's own commands |
//! | [`client`] | the operator's command: a QMP client and its verbs |
//! | [`manual`] | the fault model, differences from QEMU, promises, testing |
//!
//! # Laws
//!
//! `tests/tidy.rs` checks those that a machine can check:
//!
//! - [`fault`] and the pure halves of [`monitor`] take time and seeds as arguments; they use no file,
//!   socket, thread, clock, environment or randomly ordered map.
//! - Only [`export`] names the crates `vhost` and `virtio-queue`; only the raw image's ring names
//!   `io-uring`.
//! - `unsafe` lives only in [`export`], the raw image and the buffers between them, each block with
//!   its SAFETY sentence (and in the one line of `main` that takes over inherited sockets).
//! - Only [`guard`] gives privileges up: it alone names `seccompiler`, `landlock` and `nix`.
//! - Submitting cannot fail: a failure is a completion. One errno type travels from the image to the
//!   status byte.
//! - Guest bytes become a request in one function and are read once; operator bytes become a command
//!   in one function.
//!
//! # Words
//!
//! *Node*: an image with a name. *Disk*: a node shown to guests, QEMU's block export of type
//! vhost-user-blk; it has faults of its own, so two disks over one node are two paths to one store.
//! *Front end*: what connects to a disk, usually QEMU. *Request*: what a guest asks of a disk.
//! *Op*: what a disk asks of its node. *Sector*: 512 bytes. *Logical block*: the smallest unit that
//! the guest may ask for. *State*: what the operator turned a whole disk into.

pub mod block;
pub mod client;
pub mod daemon;
pub mod errno;
pub mod export;
pub mod fault;
pub mod guard;
pub mod logging;
pub mod manual;
pub mod monitor;
mod nearest;
pub mod options;
pub mod qapi;
pub mod retry;
pub mod size;
pub mod socket_path;
mod stream;

/// Doors for `tests/fuzz`.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::daemon::fuzzing::*;
    pub use crate::export::fuzzing::*;
    pub use crate::options::fuzzing::*;
}
