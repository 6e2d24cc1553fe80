//! One script, three arms: blkdebug rules and requests against the engine alone, the whole daemon
//! and QEMU's own storage daemon, request by request.
//!
//! The scripts are in `tests/data/fault_scripts`; `README.md` there says how they are written. QEMU's
//! arm is left out, aloud, where it is not installed.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test may fail")]

#[path = "../support"]
mod support {
    pub mod blkdebug;
    pub mod daemon;
    pub mod front;
    pub mod operator;
    pub mod qsd;
}

mod arms;
mod exact;
mod random;
mod script;
mod stories;
