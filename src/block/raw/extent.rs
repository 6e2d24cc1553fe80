//! One file or device, under however many descriptions.
//!
//! Knows: how long it is, and who writes where. Must not know: how it is opened or written.
//! Invariants: the descriptions that an image has on one file share one extent for as long as any
//! of them is in use, so that their writes wait for each other; a write that stands in line after
//! the size became smaller sees the smaller one.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::turns::Turns;

/// What tells one file or device from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    /// Of a device node: the device that it stands for.
    target: u64,
}

impl Identity {
    /// Of an open file, where the host tells.
    pub(super) fn of(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        let (device, inode, target) = (metadata.dev(), metadata.ino(), metadata.rdev());
        Some(Self { device, inode, target })
    }
}

/// What the descriptions of one file share.
#[derive(Debug)]
pub(super) struct Extent {
    identity: Option<Identity>,
    size_bytes: AtomicU64,
    /// Where writes wait for each other.
    pub(super) writes: Arc<Turns>,
}

impl Extent {
    pub(super) fn new(identity: Option<Identity>, size_bytes: u64) -> Self {
        Self { identity, size_bytes: AtomicU64::new(size_bytes), writes: Arc::default() }
    }

    /// Whether it is the extent of this file.
    pub(super) fn is_of(&self, identity: Option<Identity>) -> bool {
        identity.is_some() && self.identity == identity
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Acquire)
    }

    pub(super) fn set_size_bytes(&self, size_bytes: u64) {
        self.size_bytes.store(size_bytes, Ordering::Release);
    }
}
