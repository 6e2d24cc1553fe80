//! What one channel and those who release its requests have in common.
//!
//! Knows: how many requests the channel has, and mail for it. Must not know: what is decided.
//! Invariant: whoever puts mail in wakes the channel's thread, once for any number of letters that
//! were not read yet.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};

use super::held::Key;
use super::order::Baton;
use crate::errno::Errno;

/// How a released request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::block) enum Go {
    /// Where it stopped.
    On,
    /// It fails with this.
    Fail(Errno),
}

/// News about a request that waits.
#[derive(Debug)]
pub(in crate::block) enum Mail {
    /// It is released.
    Released {
        key: Key,
        go: Go,
        /// Others are released when this one has ended.
        baton: Option<Baton>,
    },
    /// It waits on, but only until then.
    Sooner { key: Key, ends: Instant },
}

/// A channel's end of the fault point.
#[derive(Debug)]
pub(in crate::block) struct Link {
    depth: AtomicU32,
    /// Whether there is mail; asked once per poll.
    has_mail: AtomicBool,
    mail: Mutex<Vec<Mail>>,
    wake: OwnedFd,
}

impl Link {
    pub(in crate::block) fn new() -> io::Result<Self> {
        Ok(Self {
            depth: AtomicU32::new(0),
            has_mail: AtomicBool::new(false),
            mail: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    pub(super) fn post(&self, mail: Mail) {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
        if !self.has_mail.swap(true, Ordering::AcqRel) {
            // A full counter wakes as well as any.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    /// The mail that has come, oldest first; the descriptor is quiet until there is more.
    pub(in crate::block) fn take_mail(&self) -> Vec<Mail> {
        if !self.has_mail.load(Ordering::Acquire) {
            return Vec::new();
        }
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        // Before the mail is taken: what comes later wakes again.
        self.has_mail.store(false, Ordering::SeqCst);
        std::mem::take(&mut *self.mail.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth.load(Ordering::Relaxed)
    }

    /// The channel has so many requests now. Only the channel says so.
    pub(in crate::block) fn set_depth(&self, depth: u32) {
        self.depth.store(depth, Ordering::Relaxed);
    }

    /// Readable when there is mail.
    pub(in crate::block) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
