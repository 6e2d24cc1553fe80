//! How far the end of a disk's service has come.
//!
//! Knows: when the owner asked for it, and whether the thread that serves front ends was left behind.
//! Must not know: threads, rings. Invariant: neither is ever taken back.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The end of a service, which may still be far.
#[derive(Debug, Default)]
pub(super) struct Ending {
    asked: OnceLock<Instant>,
    left_behind: AtomicBool,
}

impl Ending {
    /// Ask for the end.
    pub(super) fn ask(&self) {
        self.asked.get_or_init(Instant::now);
    }

    /// When the end was asked for first.
    pub(super) fn asked(&self) -> Option<Instant> {
        self.asked.get().copied()
    }

    /// The serving thread does not end. What it started must not touch a ring any more.
    pub(super) fn leave_behind(&self) {
        self.left_behind.store(true, Ordering::Release);
    }

    /// Whether no ring may be touched any more, whatever the serving thread says.
    pub(super) fn is_left_behind(&self) -> bool {
        self.left_behind.load(Ordering::Acquire)
    }
}
