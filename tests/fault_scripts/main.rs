//! One script, three arms: blkdebug rules and requests against the engine alone, the whole daemon
//! and QEMU's own storage daemon, request by request.
//!
//! The scripts are in `tests/data/fault_scripts`; `README.md` there says how they are written. QEMU's
//! arm is left out, aloud, where it is not installed.

#[path = "../support"]
mod support {
    pub mod backend;
    pub mod blkdebug;
    pub mod daemon;
    pub mod front;
    pub mod nodes;
    pub mod operator;
}

mod arms;
mod random;
mod script;
mod stories;
