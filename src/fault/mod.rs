//! The decision, pure: which request fails, waits or is held, and how.
//!
//! Knows: the shape of a request ([`Io`]) and what the operator asked for. Must not know: files,
//! sockets, threads, clocks, the environment or data. Invariant: same inputs, same outputs, for
//! ever; whoever calls brings time and seeds along.
//!
//! The rooms: [`engine`] decides, with [`manual`] states that outrank [`rule`]s (the native dialect)
//! and [`blkdebug`] (QEMU's dialect); [`slow`] says how long a delay is and [`random`] by which
//! chance.

pub mod blkdebug;
pub mod engine;
mod index;
mod io;
pub mod manual;
pub mod random;
pub mod rule;
mod sectors;
pub mod slow;
mod timetable;

pub use io::{Io, IoType, IoTypes};
pub use rule::{NoPayload, Payload};
pub use sectors::{BadRange, SECTOR_BYTES, SectorRange, SectorSet};
