//! The log of guest pages that the device has written, for live migration.
//!
//! Knows: one bit per page of guest memory, in memory of the front end's (QEMU's
//! docs/interop/vhost-user.rst, "Migration"). Must not know: who writes, or what. Invariants: a page
//! is marked after it was written, never before; while nobody migrates, marking costs one load.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use vm_memory::bitmap::{Bitmap, BitmapSlice, NewBitmap, WithBitmapSlice};
use vm_memory::{MmapRegion, VolatileMemory};

use super::mapping::{Mapping, PROTECTION, Sharer};

/// Bytes that one bit stands for (`VHOST_LOG_PAGE`).
const PAGE_BYTES: u64 = 4096;

/// The log of one session, shared by all of its memory.
#[derive(Debug, Default)]
pub(super) struct DirtyLog {
    /// LOG_ALL is negotiated.
    enabled: AtomicBool,
    bits: RwLock<Option<Bits>>,
}

/// The bits in the front end's memory.
#[derive(Debug)]
struct Bits {
    region: MmapRegion,
    /// Keeps the region mapped.
    _mapping: Mapping,
}

impl DirtyLog {
    /// SET_LOG_BASE: mark pages there from now on. `covers` is the first guest address that need
    /// not have a bit.
    ///
    /// # Errors
    /// A log that cannot be mapped or is too short.
    pub(super) fn set_bits(
        &self,
        file: &File,
        offset: u64,
        bytes: u64,
        covers: u64,
        sharer: &Arc<Sharer>,
    ) -> io::Result<()> {
        if covers.div_ceil(PAGE_BYTES).div_ceil(8) > bytes {
            let why = "the log is too short for the memory";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mapping = Mapping::new(file, offset, bytes, sharer)?;
        let (start, bytes) = (mapping.start(), mapping.bytes());
        // SAFETY: mapped for that many bytes as long as the mapping, which goes along.
        let region = unsafe { MmapRegion::build_raw(start, bytes, PROTECTION, libc::MAP_SHARED) };
        let bits = Bits { region: region.map_err(io::Error::other)?, _mapping: mapping };
        *self.bits.write().unwrap_or_else(PoisonError::into_inner) = Some(bits);
        Ok(())
    }

    /// Whether pages are to be marked (LOG_ALL).
    pub(super) fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::SeqCst);
    }

    /// Mark guest memory that was written. Pages past the log's end have no bit and are ignored.
    pub(super) fn mark(&self, guest_addr: u64, bytes: u64) {
        if !self.enabled.load(Ordering::Relaxed) || bytes == 0 {
            return;
        }
        let bits = self.bits.read().unwrap_or_else(PoisonError::into_inner);
        let Some(bits) = &*bits else {
            return;
        };
        let last = guest_addr.saturating_add(bytes - 1) / PAGE_BYTES;
        for page in guest_addr / PAGE_BYTES..=last {
            let byte = usize::try_from(page / 8).ok();
            let Some(byte) = byte.and_then(|at| bits.region.get_atomic_ref::<AtomicU8>(at).ok())
            else {
                return;
            };
            byte.fetch_or(1 << (page % 8), Ordering::Relaxed);
        }
    }

    fn is_marked(&self, guest_addr: u64) -> bool {
        let bits = self.bits.read().unwrap_or_else(PoisonError::into_inner);
        let page = guest_addr / PAGE_BYTES;
        let byte = usize::try_from(page / 8).ok();
        let byte = bits.as_ref().zip(byte).and_then(|(bits, at)| {
            bits.region.get_atomic_ref::<AtomicU8>(at).ok().map(|byte| byte.load(Ordering::Relaxed))
        });
        byte.is_some_and(|byte| byte & 1 << (page % 8) != 0)
    }
}

/// A region's part of its session's log.
#[derive(Debug, Clone, Default)]
pub(super) struct RegionLog {
    log: Arc<DirtyLog>,
    /// The region's guest address.
    start: u64,
    /// Keeps the region mapped, of which this is a part.
    mapping: Option<Arc<Mapping>>,
}

impl RegionLog {
    /// The part of a region that starts at this guest address.
    pub(super) fn new(log: Arc<DirtyLog>, start: u64, mapping: Mapping) -> Self {
        Self { log, start, mapping: Some(Arc::new(mapping)) }
    }

    /// See [`Mapping::is_intact`].
    pub(super) fn is_intact(&self) -> bool {
        self.mapping.as_ref().is_none_or(|mapping| mapping.is_intact())
    }

    fn slice(&self, offset: usize) -> LogSlice<'_> {
        LogSlice { log: &self.log, start: self.start.saturating_add(offset as u64) }
    }
}

/// A part of a region's part. `vm-memory` marks through it whatever it writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogSlice<'a> {
    log: &'a DirtyLog,
    start: u64,
}

impl Bitmap for LogSlice<'_> {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.log.mark(self.start.saturating_add(offset as u64), len as u64);
        #[cfg(test)]
        super::inflight::crash::stored_in_guest();
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.log.is_marked(self.start.saturating_add(offset as u64))
    }

    fn slice_at(&self, offset: usize) -> Self {
        Self { log: self.log, start: self.start.saturating_add(offset as u64) }
    }
}

impl WithBitmapSlice<'_> for LogSlice<'_> {
    type S = Self;
}

impl BitmapSlice for LogSlice<'_> {}

impl Bitmap for RegionLog {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.slice(0).mark_dirty(offset, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.slice(0).dirty_at(offset)
    }

    fn slice_at(&self, offset: usize) -> LogSlice<'_> {
        self.slice(offset)
    }
}

impl<'a> WithBitmapSlice<'a> for RegionLog {
    type S = LogSlice<'a>;
}

impl NewBitmap for RegionLog {
    /// A log that nobody reads.
    fn with_len(_: usize) -> Self {
        Self::default()
    }
}
