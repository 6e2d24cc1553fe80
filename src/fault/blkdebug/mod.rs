//! The blkdebug dialect: QEMU's rules, kept to the letter.
//!
//! Knows: how a request to `raw` over `blkdebug` raises events, arms rules and meets errors
//! (QEMU's `block/blkdebug.c`, `block/raw-format.c` and `block/io.c`; 7.2 was run, 11.1 adds
//! `delay-ns`). Must not know: native rules, states or who asks. Invariant: for the same rules and
//! requests the same requests fail with the same errors as in QEMU.
//!
//! Where it differs, on purpose:
//! 1. A negative `errno`, which QEMU acknowledges as success with nothing done, is refused; so are
//!    states beyond 32 bits and sectors beyond 2^54, which QEMU cuts off.
//! 2. Config file lines that QEMU would take apart in the middle (1023 bytes and more) are refused.
//! 3. A request is done as a whole or not at all: where `max-transfer` and the like cut it and a
//!    later piece fails, QEMU has done the earlier pieces.
//! 4. Flushes do not wait for each other.
//! 5. A discard that is "not supported" (errno 95) succeeds as in QEMU, but is done.
//! 6. Size options that make QEMU end itself by an assertion (unaligned discards under `align`)
//!    do nothing of the kind.
//! 7. Rules may be added at run time; they are armed by events from then on.

pub mod config;
pub mod event;
pub mod limits;
pub(in crate::fault) mod machine;
pub(in crate::fault) mod plan;
pub mod rule;

pub use config::{ConfigError, parse};
pub use event::{BadEvent, Event};
pub use limits::{BadLimit, LimitOptions, Limits};
pub use rule::{BadMember, InjectError, IoTypeWord, Rules, SetState, Warning};
