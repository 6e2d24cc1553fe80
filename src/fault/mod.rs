//! The decision, pure: which request fails, and how.
//!
//! Knows: the shape of a request ([`Io`]) and what the operator asked for. Must not know: files,
//! sockets, threads, clocks, the environment or data. Invariant: same inputs, same outputs, for
//! ever; whoever calls brings time and seeds along.

mod io;
mod state;

pub use io::{Io, IoType, IoTypes};
pub use state::{Cause, ManualState, Snapshot, StateName, Verdict};
