//! The log: how much of it there is, and how it leaves the process.
//!
//! Knows: the crate `log`. Must not know: disks, monitors, or which lines are worth writing.
//! Invariants: whoever logs waits for nobody who reads; what a guest or a front end causes is at most
//! one line a second for each disk and place in the program; a line that is left out is counted.

mod limit;
mod per_disk;
mod writer;

pub(crate) use limit::LogLimit;
pub use per_disk::LimitedLog;
pub(crate) use per_disk::this_thread_serves;
pub(crate) use writer::Writer;
pub use writer::{LogPipe, finish, say};
