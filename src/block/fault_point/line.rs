//! The line between a disk and its front end, as far as faults have a say in it.
//!
//! Knows: whether the line is down, and whether it is to be cut. Must not know: sockets. Invariant:
//! a cut is carried out once, by whoever serves the front end.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// A disk's line to its front end.
#[derive(Debug, Default)]
pub struct Line {
    down: AtomicBool,
    cut: AtomicBool,
    /// Written to at every cut.
    wake: Mutex<Option<OwnedFd>>,
}

impl Line {
    /// Whether front ends are refused: the disk is offline.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::SeqCst)
    }

    /// Whether the front end is to be disconnected. Asking takes the wish away.
    #[must_use]
    pub fn take_cut(&self) -> bool {
        self.cut.swap(false, Ordering::SeqCst)
    }

    /// Have this eventfd written to at every cut from now on.
    pub fn watch(&self, wake: OwnedFd) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }

    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wake) = &*wake {
            // A full counter wakes as well as any.
            let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
        }
    }
}
