//! A disk in memory.
//!
//! Knows: chunks of bytes by offset. Must not know: the host's files. Invariants: a chunk that was
//! never written, or was discarded, takes no memory and reads as zeroes; bytes beyond the end do
//! not exist, so that a disk which shrinks and grows again reads zeroes there; every channel sees
//! what any channel has finished writing; nothing is stored that was not in the request's memory; a
//! guest whose content died with an earlier process meets errors, never zeroes that it did not write.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use vm_memory::VolatileSlice;

use super::immediate::{ImmediateChannel, Served, Store, end_within};
use super::{Buffers, Channel, Geometry, Node, OpKind};
use crate::errno::Errno;

/// Bytes that are allocated together. Miri would take seconds for each chunk's zeroes.
const CHUNK_BYTES: usize = if cfg!(miri) { 8 << 10 } else { 64 << 10 };
/// Bytes of a write that are copied together, by way of memory of our own.
const STEP_BYTES: usize = 4 << 10;
/// Locks over which the chunks are spread, so that channels seldom meet.
const SHARDS: usize = 16;

/// A sparse disk in memory, shared by all its channels and lost with the process.
///
/// ```
/// use blkfault::block::{MemoryImage, Node};
///
/// let disk = MemoryImage::new(1 << 40);
/// assert_eq!(disk.geometry().size_bytes, 1 << 40);
/// assert_eq!(disk.actual_size_bytes(), 0);
/// ```
#[derive(Debug)]
pub struct MemoryImage {
    chunks: Arc<Chunks>,
    /// Held while the disk is resized.
    control: Mutex<()>,
}

type Chunk = Vec<u8>;

#[derive(Debug)]
struct Chunks {
    /// Read by every part of an op while it runs, so that a resize waits for those under way.
    size_bytes: RwLock<u64>,
    shards: [RwLock<BTreeMap<u64, Chunk>>; SHARDS],
    /// Somebody had an op done: what is here is somebody's.
    is_used: AtomicBool,
    /// What the guest wrote died with an earlier process.
    is_lost: AtomicBool,
}

/// The part of an op that lies in one chunk.
struct Part {
    chunk: u64,
    within: Range<usize>,
}

impl MemoryImage {
    /// A disk of this size, all zeroes.
    #[must_use]
    pub fn new(size_bytes: u64) -> Self {
        let shards = std::array::from_fn(|_| RwLock::default());
        let (is_used, is_lost) = (AtomicBool::new(false), AtomicBool::new(false));
        let size_bytes = RwLock::new(size_bytes);
        let chunks = Arc::new(Chunks { size_bytes, shards, is_used, is_lost });
        Self { chunks, control: Mutex::default() }
    }

    /// Bytes that its chunks take now.
    #[must_use]
    pub fn actual_size_bytes(&self) -> u64 {
        let chunks = |shard: &RwLock<BTreeMap<_, _>>| {
            shard.read().unwrap_or_else(PoisonError::into_inner).len() as u64
        };
        self.chunks.shards.iter().map(chunks).sum::<u64>() * CHUNK_BYTES as u64
    }
}

impl Node for MemoryImage {
    fn geometry(&self) -> Geometry {
        let size_bytes = *self.chunks.size_bytes.read().unwrap_or_else(PoisonError::into_inner);
        Geometry {
            size_bytes,
            request_alignment: 1,
            physical_block_bytes: 4096,
            read_only: false,
            can_discard: true,
            can_unmap_zeroes: true,
        }
    }

    fn channel(&self) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(ImmediateChannel::new(self.chunks.clone())?))
    }

    fn resize(&self, size_bytes: u64) -> Result<(), Errno> {
        let _control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let set = |size_bytes| {
            let mut size = self.chunks.size_bytes.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *size, size_bytes)
        };
        // Once the smaller size is in force nothing beyond it is touched, so ops need not wait
        // while it is freed.
        if size_bytes < set(size_bytes) {
            self.chunks.cut(size_bytes);
        }
        Ok(())
    }

    fn lose_earlier(&self) -> bool {
        let is_used = self.chunks.is_used.load(Ordering::Relaxed);
        !is_used && !self.chunks.is_lost.swap(true, Ordering::Relaxed)
    }

    fn begin_anew(&self) -> bool {
        self.chunks.is_lost.swap(false, Ordering::Relaxed)
    }
}

impl Store for Chunks {
    fn serve(&self, kind: &OpKind, done_bytes: u64, work_bytes_max: u64) -> Result<Served, Errno> {
        // Set before a ring starts, and so before any of its ops.
        if self.is_lost.load(Ordering::Relaxed) {
            return Err(Errno::EIO);
        }
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        let size = self.size_bytes.read().unwrap_or_else(PoisonError::into_inner);
        let now = |bytes: u64| done_bytes..bytes.min(done_bytes.saturating_add(work_bytes_max));
        match kind {
            OpKind::Read { offset_bytes, into } => {
                end_within(*offset_bytes, into.bytes(), *size)?;
                let now = now(into.bytes());
                self.read(*offset_bytes, into, now.clone());
                Ok(Served::up_to(now.end, into.bytes(), now.end - now.start))
            }
            OpKind::Write { offset_bytes, from, .. } => {
                end_within(*offset_bytes, from.bytes(), *size)?;
                let now = now(from.bytes());
                self.write(*offset_bytes, from, now.clone())?;
                Ok(Served::up_to(now.end, from.bytes(), now.end - now.start))
            }
            OpKind::Discard { offset_bytes, bytes } => {
                let end = end_within(*offset_bytes, *bytes, *size)?;
                Ok(self.zero(*offset_bytes..end, done_bytes, true, work_bytes_max))
            }
            OpKind::WriteZeroes { offset_bytes, bytes, may_unmap, .. } => {
                let end = end_within(*offset_bytes, *bytes, *size)?;
                Ok(self.zero(*offset_bytes..end, done_bytes, *may_unmap, work_bytes_max))
            }
            OpKind::Flush | OpKind::GetId => Ok(Served::ENDED),
        }
    }
}

/// The first part of a range.
fn first_part(range: &Range<u64>) -> Part {
    const BYTES: u64 = CHUNK_BYTES as u64;
    let chunk = range.start / BYTES;
    // Both are at most a chunk's length.
    let index = |bytes: u64| usize::try_from(bytes).unwrap_or(CHUNK_BYTES);
    let start = range.start % BYTES;
    let end = (range.end - chunk * BYTES).min(BYTES);
    Part { chunk, within: index(start)..index(end) }
}

/// Cut the part `now` of an op's memory at the chunks' borders.
fn each_part<E>(
    offset_bytes: u64,
    buffers: &Buffers,
    now: Range<u64>,
    mut with: impl FnMut(Part, VolatileSlice<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut offset_bytes = offset_bytes + now.start;
    for slice in buffers.slices_within(now) {
        let mut rest = slice;
        while !rest.is_empty() {
            let part = first_part(&(offset_bytes..offset_bytes + rest.len() as u64));
            let step = part.within.len();
            let (Ok(first), Ok(later)) = (rest.subslice(0, step), rest.offset(step)) else { break };
            with(part, first)?;
            rest = later;
            offset_bytes += step as u64;
        }
    }
    Ok(())
}

impl Chunks {
    fn shard(&self, chunk: u64) -> &RwLock<BTreeMap<u64, Chunk>> {
        &self.shards[usize::try_from(chunk).unwrap_or(0) % SHARDS]
    }

    fn read(&self, offset_bytes: u64, into: &Buffers, now: Range<u64>) {
        let copied: Result<(), std::convert::Infallible> =
            each_part(offset_bytes, into, now, |part, memory| {
                static ZEROES: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
                let shard = self.shard(part.chunk).read().unwrap_or_else(PoisonError::into_inner);
                let chunk = shard.get(&part.chunk).map_or(&ZEROES[..], Vec::as_slice);
                memory.copy_from(&chunk[part.within]);
                Ok(())
            });
        let Ok(()) = copied;
    }

    fn write(&self, offset_bytes: u64, from: &Buffers, now: Range<u64>) -> Result<(), Errno> {
        let mut copy = [0; STEP_BYTES];
        each_part(offset_bytes, from, now, |part, memory| {
            let mut shard = self.shard(part.chunk).write().unwrap_or_else(PoisonError::into_inner);
            let chunk = match shard.entry(part.chunk) {
                std::collections::btree_map::Entry::Occupied(present) => present.into_mut(),
                std::collections::btree_map::Entry::Vacant(absent) => absent.insert(new_chunk()?),
            };
            let mut rest = memory;
            for stored in chunk[part.within].chunks_mut(STEP_BYTES) {
                let copied = &mut copy[..stored.len()];
                rest.copy_to(&mut *copied);
                // Only now is it known whether that was the request's memory or zeroes in its place.
                if !from.is_intact() {
                    return Err(Errno::EIO);
                }
                stored.copy_from_slice(copied);
                rest = rest.offset(stored.len()).map_err(|_| Errno::EIO)?;
            }
            Ok(())
        })
    }

    /// The first chunk from `from` on that exists, below `end`.
    fn next_chunk(&self, from: u64, end: u64) -> Option<u64> {
        let first = |shard: &RwLock<BTreeMap<u64, Chunk>>| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.range(from..end).next().map(|(chunk, _)| *chunk)
        };
        self.shards.iter().filter_map(first).min()
    }

    /// Go on making a range read as zeroes; chunks that it covers are freed if `free`. What it
    /// costs depends on the chunks that exist, however long the range is.
    fn zero(&self, range: Range<u64>, done_bytes: u64, free: bool, work_bytes_max: u64) -> Served {
        let border = CHUNK_BYTES as u64;
        let chunks_end = range.end.div_ceil(border);
        let (mut rest, mut worked_bytes) = (range.start + done_bytes..range.end, 0);
        while worked_bytes < work_bytes_max
            && let Some(chunk) = self.next_chunk(rest.start / border, chunks_end)
        {
            rest.start = rest.start.max(chunk * border);
            if rest.is_empty() {
                break;
            }
            let part = first_part(&rest);
            let bytes = part.within.len() as u64;
            self.zero_part(part, free);
            worked_bytes += bytes;
            rest.start += bytes;
        }
        let left = worked_bytes >= work_bytes_max;
        let done_bytes = if left { rest.start } else { range.end } - range.start;
        Served::up_to(done_bytes, range.end - range.start, worked_bytes)
    }

    fn zero_part(&self, part: Part, free: bool) {
        let mut shard = self.shard(part.chunk).write().unwrap_or_else(PoisonError::into_inner);
        if free && part.within.len() == CHUNK_BYTES {
            let freed = shard.remove(&part.chunk);
            drop(shard);
            drop(freed);
        } else if let Some(content) = shard.get_mut(&part.chunk) {
            content[part.within].fill(0);
        }
    }

    /// Forget everything from `size_bytes` on.
    fn cut(&self, size_bytes: u64) {
        let border = CHUNK_BYTES as u64;
        let whole = size_bytes.div_ceil(border);
        if !size_bytes.is_multiple_of(border) {
            self.zero_part(first_part(&(size_bytes..u64::MAX)), false);
        }
        for shard in &self.shards {
            let beyond = shard.write().unwrap_or_else(PoisonError::into_inner).split_off(&whole);
            drop(beyond);
        }
    }
}

/// A chunk of zeroes, or the news that the host has no memory left.
fn new_chunk() -> Result<Chunk, Errno> {
    let mut chunk = Vec::new();
    chunk.try_reserve_exact(CHUNK_BYTES).map_err(|_| Errno::ENOSPC)?;
    chunk.resize(CHUNK_BYTES, 0);
    Ok(chunk)
}

#[cfg(test)]
mod tests;
