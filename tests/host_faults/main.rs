//! Hosts that fail: what the guest is told is true.
//!
//! What a host can do to an image, and which test shows what becomes of it:
//!
//! | | what happens | shown by |
//! | --- | --- | --- |
//! | D-01 | the image's file system fills up | `tests/blktap.rs`, `space.rs` of `tests/block`, `full_host.rs` of `tests/real_guest` |
//! | D-02 | it fills up when the host writes back | `flush.rs` of `tests/block`, [`sweep`] behind a page cache |
//! | D-03 | inside the metadata of a qcow2 | nothing: images are raw |
//! | D-04 | call N fails, for each N, class of calls and error | [`sweep`] |
//! | D-05 | transfers are short | [`sweep`], each one in its storms |
//! | D-06 | `EINTR`, `EAGAIN` | [`sweep`], most calls in its storms |
//! | D-07 | a sync fails once | [`sweep`], `flush.rs` of `tests/block` |
//! | D-08 | the image is cut short | [`changes`], `life.rs` of `tests/block` |
//! | D-09 | it is renamed, removed, replaced, punched; its file system turns read-only | [`changes`] |
//! | D-10 | it becomes longer | [`changes`], `resizing.rs` of `tests/block`, `session.rs` of `tests/export` |
//! | D-11 | another opens it | `locks.rs` of `tests/block`; after a kill, [`late_writes`] |
//! | D-12 | discard and zeroing are not supported, or fail midway | [`sweep`], `space.rs` of `tests/block` |
//! | D-13 | limits of the process and of the user | [`limits`], `EDQUOT` and `EFBIG` in a long [`sweep`] |
//! | D-14 | direct I/O that is not aligned | `conformance.rs` and `opening.rs` of `tests/block`, [`sweep`] in blocks of 4096 |
//! | B-12 | a front end passes files of a file system that does not answer | [`strangers`] |
//! | E-07 | a killed daemon's writes, or reads, arrive late | [`late_writes`], [`late_reads`] |
//! | E-07 | those that a disk has given up arrive late, while the daemon lives | [`late_disks`] |
//!
//! `BLKFAULT_LONG=1` makes the runs as long as when the figures were taken. All that fails calls on
//! command needs `/dev/fuse` and the right to mount, and is left out, aloud, where they are not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::cast_possible_truncation, reason = "sizes here are the test's own and small")]

#[path = "../block/driver.rs"]
#[allow(dead_code, reason = "shared with tests/block")]
mod driver;
#[path = "../block/host.rs"]
#[allow(dead_code, reason = "shared with tests/block")]
mod host;
#[path = "../support"]
mod support {
    pub mod backend;
    pub mod daemon;
    pub mod front;
    pub mod fuse;
    pub mod load;
    pub mod nodes;
    pub mod operator;
    pub mod process;
}

mod changes;
mod late_disks;
mod late_reads;
mod late_writes;
mod limits;
mod strangers;
mod sweep;
mod workload;

/// The runs are to be as long as when the figures were taken, instead of as short as will do.
fn is_long() -> bool {
    std::env::var_os("BLKFAULT_LONG").is_some_and(|value| value == "1")
}

/// A short number, or the one that the figures were measured with.
fn times(short: u32, long: u32) -> u32 {
    if is_long() { long } else { short }
}
