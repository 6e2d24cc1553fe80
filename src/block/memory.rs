//! A disk in memory.
//!
//! Knows: chunks of bytes by offset. Must not know: the host's files. Invariants: a chunk that was
//! never written, or was discarded, takes no memory and reads as zeroes; bytes beyond the end do
//! not exist, so that a disk which shrinks and grows again reads zeroes there; every channel sees
//! what any channel has finished writing.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use vm_memory::VolatileSlice;

use super::immediate::{ImmediateChannel, Store, end_within};
use super::{Buffers, Channel, Geometry, Node, OpKind};
use crate::errno::Errno;

/// Bytes that are allocated together.
const CHUNK_BYTES: usize = 64 << 10;
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
}

type Chunk = Vec<u8>;

#[derive(Debug)]
struct Chunks {
    /// Read by every op while it runs, so that a resize waits for those under way.
    size_bytes: RwLock<u64>,
    shards: [RwLock<BTreeMap<u64, Chunk>>; SHARDS],
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
        Self { chunks: Arc::new(Chunks { size_bytes: RwLock::new(size_bytes), shards }) }
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
        Ok(Box::new(ImmediateChannel::new(self.chunks.clone())))
    }

    fn resize(&self, size_bytes: u64) -> Result<(), Errno> {
        let mut size = self.chunks.size_bytes.write().unwrap_or_else(PoisonError::into_inner);
        if size_bytes < *size {
            self.chunks.cut(size_bytes);
        }
        *size = size_bytes;
        Ok(())
    }
}

impl Store for Chunks {
    fn serve(&self, kind: &OpKind) -> Result<(), Errno> {
        let size = self.size_bytes.read().unwrap_or_else(PoisonError::into_inner);
        match kind {
            OpKind::Read { offset_bytes, into } => {
                end_within(*offset_bytes, into.bytes(), *size)?;
                self.read(*offset_bytes, into);
                Ok(())
            }
            OpKind::Write { offset_bytes, from, .. } => {
                end_within(*offset_bytes, from.bytes(), *size)?;
                self.write(*offset_bytes, from)
            }
            OpKind::Discard { offset_bytes, bytes } => {
                let end = end_within(*offset_bytes, *bytes, *size)?;
                self.zero(*offset_bytes..end, true);
                Ok(())
            }
            OpKind::WriteZeroes { offset_bytes, bytes, may_unmap, .. } => {
                let end = end_within(*offset_bytes, *bytes, *size)?;
                self.zero(*offset_bytes..end, *may_unmap);
                Ok(())
            }
            OpKind::Flush => Ok(()),
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

/// Cut the memory of an op at the chunks' borders.
fn each_part<E>(
    offset_bytes: u64,
    buffers: &Buffers,
    mut with: impl FnMut(Part, VolatileSlice<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut offset_bytes = offset_bytes;
    for slice in buffers.slices() {
        let mut rest = slice;
        while !rest.is_empty() {
            let part = first_part(&(offset_bytes..offset_bytes + rest.len() as u64));
            let step = part.within.len();
            let (Ok(now), Ok(later)) = (rest.subslice(0, step), rest.offset(step)) else { break };
            with(part, now)?;
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

    fn read(&self, offset_bytes: u64, into: &Buffers) {
        let copied: Result<(), std::convert::Infallible> =
            each_part(offset_bytes, into, |part, memory| {
                static ZEROES: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
                let shard = self.shard(part.chunk).read().unwrap_or_else(PoisonError::into_inner);
                let chunk = shard.get(&part.chunk).map_or(&ZEROES[..], Vec::as_slice);
                memory.copy_from(&chunk[part.within]);
                Ok(())
            });
        let Ok(()) = copied;
    }

    fn write(&self, offset_bytes: u64, from: &Buffers) -> Result<(), Errno> {
        each_part(offset_bytes, from, |part, memory| {
            let mut shard = self.shard(part.chunk).write().unwrap_or_else(PoisonError::into_inner);
            let chunk = match shard.entry(part.chunk) {
                std::collections::btree_map::Entry::Occupied(present) => present.into_mut(),
                std::collections::btree_map::Entry::Vacant(absent) => absent.insert(new_chunk()?),
            };
            memory.copy_to(&mut chunk[part.within]);
            Ok(())
        })
    }

    /// Make a range read as zeroes; chunks that it covers are freed if `free`.
    fn zero(&self, range: Range<u64>, free: bool) {
        let border = CHUNK_BYTES as u64;
        let whole = range.start.next_multiple_of(border)..range.end - range.end % border;
        if !free || whole.start >= whole.end {
            return self.overwrite_zero(range);
        }
        self.free(whole.start / border..whole.end / border);
        self.overwrite_zero(range.start..whole.start);
        self.overwrite_zero(whole.end..range.end);
    }

    /// Put zeroes into the chunks of a range that exist.
    fn overwrite_zero(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let border = CHUNK_BYTES as u64;
        let chunks = range.start / border..range.end.div_ceil(border);
        let zero = |chunk: u64, content: &mut Chunk| {
            let start = range.start.max(chunk * border);
            content[first_part(&(start..range.end)).within].fill(0);
        };
        if chunks.end - chunks.start <= SHARDS as u64 {
            for chunk in chunks {
                let mut shard = self.shard(chunk).write().unwrap_or_else(PoisonError::into_inner);
                if let Some(content) = shard.get_mut(&chunk) {
                    zero(chunk, content);
                }
            }
            return;
        }
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            for (chunk, content) in shard.range_mut(chunks.clone()) {
                zero(*chunk, content);
            }
        }
    }

    fn free(&self, chunks: Range<u64>) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let mut beyond = shard.split_off(&chunks.start);
            shard.append(&mut beyond.split_off(&chunks.end));
        }
    }

    /// Forget everything from `size_bytes` on.
    fn cut(&self, size_bytes: u64) {
        let border = size_bytes.div_ceil(CHUNK_BYTES as u64);
        self.overwrite_zero(size_bytes..border.saturating_mul(CHUNK_BYTES as u64));
        self.free(border..u64::MAX);
    }
}

/// A chunk of zeroes, or the news that the host has no memory left.
fn new_chunk() -> Result<Chunk, Errno> {
    let mut chunk = Vec::new();
    chunk.try_reserve_exact(CHUNK_BYTES).map_err(|_| Errno::ENOSPC)?;
    chunk.resize(CHUNK_BYTES, 0);
    Ok(chunk)
}
