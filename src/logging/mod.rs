//! The log: how much of it there is, and how it leaves the process.
//!
//! Knows: the crate `log`. Must not know: disks, monitors, or which lines are worth writing.
//! Invariants: whoever logs waits for nobody who reads; what a guest or a front end causes is at most
//! one line a second for each disk, queue and place in the program; a line that is left out is counted,
//! and the count is told a second later, or at the end, be there another line or not.

mod limit;
mod per_disk;
mod writer;

pub(crate) use limit::LogLimit;
pub use per_disk::LimitedLog;
pub(crate) use per_disk::{this_thread_serves, this_thread_serves_queue};
pub(crate) use writer::Writer;
pub use writer::{LogPipe, finish, say};
