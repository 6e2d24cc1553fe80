//! How far the end of a disk's service has come.
//!
//! Knows: when the owner asked for it. Must not know: threads, rings. Invariant: it is never taken back.

use std::sync::OnceLock;
use std::time::Instant;

/// The end of a service, which may still be far.
#[derive(Debug, Default)]
pub(super) struct Ending {
    asked: OnceLock<Instant>,
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
}
