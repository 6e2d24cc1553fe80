//! Where things lie in the region.
//!
//! Knows: offsets, widths and the mapping, and the guest's choice of a cache, which is kept beside the
//! log. Must not know: what the log's values mean to each other.
//! Invariants: every access is atomic and inside the mapping; the stride from queue to queue does not
//! change from version to version, because the region of an old daemon comes to a new one.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use vm_memory::{AtomicInteger, MmapRegion, VolatileMemory};

use crate::export::disk::QUEUE_SIZE_MAX;
use crate::export::mapping::{Mapping, PROTECTION, Sharer};

/// Bytes before the descriptors' states (`QueueRegionSplit`).
const HEADER_BYTES: usize = 16;
/// Bytes of one descriptor's state (`DescStateSplit`).
const STATE_BYTES: usize = 16;
/// What a queue's part is a multiple of, so that queues share no cache line.
const STRIDE_UNIT: usize = 64;

/// Where the first queue's `features` lie, which no version of the protocol uses: QEMU has them zero.
const FEATURES_AT: usize = 0;
/// What we keep there: the guest has chosen one of the two caches.
const WRITE_THROUGH: u64 = 1 << 62;
const WRITE_BACK: u64 = 1 << 63;

/// How many queues a region has a part for, and of how many descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::export) struct Shape {
    num_queues: u16,
    queue_size: u16,
}

impl Shape {
    /// The shape that a front end asks for, of a disk with so many queues.
    ///
    /// # Errors
    /// `InvalidInput`: it asks for more than the disk may have.
    pub(in crate::export) fn new(
        num_queues: u16,
        queue_size: u16,
        num_queues_max: u16,
    ) -> io::Result<Self> {
        if !(1..=num_queues_max).contains(&num_queues)
            || !(1..=QUEUE_SIZE_MAX).contains(&queue_size)
        {
            let why = format!(
                "an in-flight region of {num_queues} queues of {queue_size} descriptors: 1 to \
                 {num_queues_max} of 1 to {QUEUE_SIZE_MAX} are possible"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Self { num_queues, queue_size })
    }

    fn stride(self) -> usize {
        (HEADER_BYTES + STATE_BYTES * usize::from(self.queue_size)).next_multiple_of(STRIDE_UNIT)
    }

    /// Length of a region of this shape.
    pub(in crate::export) fn bytes(self) -> u64 {
        (self.stride() * usize::from(self.num_queues)) as u64
    }
}

/// A new region, all zeroes, as a file that cannot change its length any more.
///
/// # Errors
/// What the host says.
pub(in crate::export) fn create(shape: Shape) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("vhost-user-inflight", flags)?);
    file.set_len(shape.bytes())?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// A region that the front end gave us, mapped.
#[derive(Debug)]
pub(in crate::export) struct Region {
    shape: Shape,
    mapped: MmapRegion,
    /// Keeps it mapped.
    _mapping: Mapping,
}

impl Region {
    /// Map a region of this shape out of a file.
    ///
    /// # Errors
    /// `InvalidInput`: it is too short for its shape, or reaches past the end of the file. What the
    /// host says.
    pub(in crate::export) fn map(
        shape: Shape,
        file: &File,
        offset_bytes: u64,
        bytes: u64,
        sharer: &Arc<Sharer>,
    ) -> io::Result<Self> {
        if bytes < shape.bytes() {
            let why = format!(
                "an in-flight region of {bytes} bytes: {} are needed for {} queues of {} descriptors",
                shape.bytes(),
                shape.num_queues,
                shape.queue_size
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mapping = Mapping::new(file, offset_bytes, shape.bytes(), sharer)?;
        let (start, bytes) = (mapping.start(), mapping.bytes());
        // SAFETY: mapped for that many bytes as long as the mapping, which goes along.
        let mapped = unsafe { MmapRegion::build_raw(start, bytes, PROTECTION, libc::MAP_SHARED) };
        Ok(Self { shape, mapped: mapped.map_err(io::Error::other)?, _mapping: mapping })
    }

    /// The part of one queue; nothing if it has none.
    pub(super) fn queue(self: &Arc<Self>, queue_index: u16) -> Option<Queue> {
        let start = self.shape.stride() * usize::from(queue_index);
        (queue_index < self.shape.num_queues).then(|| Queue { region: self.clone(), start })
    }

    /// Have the guest's choice of a cache (the configuration's `writeback`) be what the region says, if it
    /// says anything; else let it say what was chosen, if that is not what every guest begins with.
    /// No front end tells it to the next back end, whose guest relies on it all the same.
    pub(in crate::export) fn agree_on_writeback(&self, chosen: &AtomicBool, default: bool) {
        match self.load::<AtomicU64>(FEATURES_AT) {
            Some(WRITE_THROUGH) => chosen.store(false, Ordering::Relaxed),
            Some(WRITE_BACK) => chosen.store(true, Ordering::Relaxed),
            _ if chosen.load(Ordering::Relaxed) != default => self.keep_writeback(!default),
            _ => {}
        }
    }

    /// The guest has chosen.
    pub(in crate::export) fn keep_writeback(&self, writeback: bool) {
        let choice = if writeback { WRITE_BACK } else { WRITE_THROUGH };
        self.store::<AtomicU64>(FEATURES_AT, choice);
    }

    fn load<T: AtomicInteger>(&self, at: usize) -> Option<T::V> {
        let cell: &T = self.mapped.get_atomic_ref(at).ok()?;
        Some(cell.load(Ordering::Acquire))
    }

    fn store<T: AtomicInteger>(&self, at: usize, value: T::V) {
        #[cfg(test)]
        super::crash::point();
        if let Ok(cell) = self.mapped.get_atomic_ref::<T>(at) {
            cell.store(value, Ordering::Release);
        }
    }
}

#[cfg(all(test, miri))]
impl Region {
    /// All of it, in the place of the file, which Miri does not map.
    pub(super) fn whole(&self) -> vm_memory::VolatileSlice<'_> {
        self.mapped.as_volatile_slice()
    }
}

/// What a queue's part begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueField {
    /// 0 while the rest is not set up.
    Version,
    DescNum,
    LastBatchHead,
    UsedIdx,
}

/// What is kept for each descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateField {
    Inflight,
    Next,
    Counter,
}

/// One queue's part.
#[derive(Debug)]
pub(super) struct Queue {
    region: Arc<Region>,
    /// Offset of the part in the region.
    start: usize,
}

impl Queue {
    /// Descriptors that it has states for.
    pub(super) fn size(&self) -> u16 {
        self.region.shape.queue_size
    }

    pub(super) fn get(&self, field: QueueField) -> u64 {
        let at = self.start;
        let loaded = match field {
            QueueField::Version => self.region.load::<AtomicU16>(at + 8).map(u64::from),
            QueueField::DescNum => self.region.load::<AtomicU16>(at + 10).map(u64::from),
            QueueField::LastBatchHead => self.region.load::<AtomicU16>(at + 12).map(u64::from),
            QueueField::UsedIdx => self.region.load::<AtomicU16>(at + 14).map(u64::from),
        };
        loaded.unwrap_or(0)
    }

    #[expect(clippy::cast_possible_truncation, reason = "fields are as wide as their values")]
    pub(super) fn put(&self, field: QueueField, value: u64) {
        let at = self.start;
        match field {
            QueueField::Version => self.region.store::<AtomicU16>(at + 8, value as u16),
            QueueField::DescNum => self.region.store::<AtomicU16>(at + 10, value as u16),
            QueueField::LastBatchHead => self.region.store::<AtomicU16>(at + 12, value as u16),
            QueueField::UsedIdx => self.region.store::<AtomicU16>(at + 14, value as u16),
        }
    }

    /// Where a head's state lies, if it has one here.
    fn state(&self, head: u16) -> Option<usize> {
        let at = self.start + HEADER_BYTES + STATE_BYTES * usize::from(head);
        (head < self.size()).then_some(at)
    }

    /// A field of a head's state; 0 for a head that has none.
    pub(super) fn of(&self, head: u16, field: StateField) -> u64 {
        let Some(at) = self.state(head) else {
            return 0;
        };
        let loaded = match field {
            StateField::Inflight => self.region.load::<AtomicU8>(at).map(u64::from),
            StateField::Next => self.region.load::<AtomicU16>(at + 6).map(u64::from),
            StateField::Counter => self.region.load::<AtomicU64>(at + 8),
        };
        loaded.unwrap_or(0)
    }

    #[expect(clippy::cast_possible_truncation, reason = "fields are as wide as their values")]
    pub(super) fn set(&self, head: u16, field: StateField, value: u64) {
        let Some(at) = self.state(head) else {
            return;
        };
        match field {
            StateField::Inflight => self.region.store::<AtomicU8>(at, value as u8),
            StateField::Next => self.region.store::<AtomicU16>(at + 6, value as u16),
            StateField::Counter => self.region.store::<AtomicU64>(at + 8, value),
        }
    }
}
