//! The blkdebug dialect: QEMU's rules, kept to the letter.
//!
//! Knows: how a request to `raw` over `blkdebug` raises events, arms rules and meets errors
//! (QEMU's `block/blkdebug.c`, `block/raw-format.c` and `block/io.c`; 7.2 was run, 11.1 adds
//! `delay-ns`). Must not know: native rules, states or who asks. Invariant: for the same rules and
//! requests the same requests fail with the same errors as in QEMU.

pub mod config;
pub mod event;
pub mod limits;
pub(in crate::fault) mod machine;
pub(in crate::fault) mod plan;
pub mod rule;

pub use config::{ConfigError, parse};
pub use event::{BadEvent, Event};
pub use limits::{BadLimit, Limits};
pub use rule::{BadMember, InjectError, IoTypeWord, Rules, SetState, Warning};
