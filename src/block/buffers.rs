//! The memory that an op reads into or writes from.
//!
//! Knows: pieces of memory that somebody else may write at the same time (a guest). Must not know:
//! guest addresses. Invariant: the pieces stay mapped as long as the [`Buffers`] exist, because
//! the owner of the mapping is kept inside. Nothing here makes a Rust reference to guest memory.
//!
//! Memory that stays mapped need not stay what it was: a front end can cut short the file behind it,
//! and what is touched then reads as zeroes. The kernel, asked to read there, says `EFAULT`; whoever
//! copies himself asks [`Buffers::is_intact`] afterwards, before he does anything with the copy.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;
use vm_memory::VolatileSlice;

/// What keeps memory mapped.
pub trait MemoryOwner: Send + Sync {
    /// Whether all that was copied out of the memory so far was really in it, and all that was
    /// copied into it has arrived. Once it says no, it never says yes again.
    fn is_intact(&self) -> bool {
        true
    }
}

/// Memory that nobody can take away.
impl MemoryOwner for () {}
impl MemoryOwner for vm_memory::MmapRegion {}

/// Pieces of memory as the kernel takes them. So many take no memory of the allocator's.
pub type IoVecs = SmallVec<[libc::iovec; 4]>;

/// Pieces of memory, in order, and whatever keeps them mapped.
pub struct Buffers {
    iovecs: IoVecs,
    bytes: u64,
    owner: Arc<dyn MemoryOwner>,
}

// SAFETY: the iovecs point into memory that `owner` keeps mapped, `owner` is Send + Sync, and the
// memory is only ever accessed as volatile bytes or by the kernel, from any thread.
unsafe impl Send for Buffers {}

impl Buffers {
    /// Buffers over memory that `owner` keeps mapped.
    ///
    /// # Safety
    /// Each iovec must describe readable and writable memory that stays mapped for as long as
    /// `owner` exists. It may be written by others at any time, but no Rust reference to it may.
    #[must_use]
    pub unsafe fn new(iovecs: IoVecs, owner: Arc<dyn MemoryOwner>) -> Self {
        let bytes = iovecs.iter().map(|iovec| iovec.iov_len as u64).sum();
        Self { iovecs, bytes, owner }
    }

    /// No memory at all.
    #[must_use]
    pub fn empty() -> Self {
        Self { iovecs: IoVecs::new(), bytes: 0, owner: Arc::new(()) }
    }

    /// Total length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The pieces, for vectored system calls.
    #[must_use]
    pub fn iovecs(&self) -> &[libc::iovec] {
        &self.iovecs
    }

    /// The pieces as memory that others may write meanwhile.
    pub fn slices(&self) -> impl Iterator<Item = VolatileSlice<'_>> {
        self.iovecs.iter().map(|iovec| {
            // SAFETY: `new` was promised that the memory stays mapped while `owner` lives, and
            // the slice borrows `self`, which holds `owner`.
            unsafe { VolatileSlice::new(iovec.iov_base.cast(), iovec.iov_len) }
        })
    }

    /// Whether what was copied out of the memory before this call was really in it, and not zeroes
    /// in the place of memory that its owner's front end has taken away.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.owner.is_intact()
    }

    /// The same memory once more.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { iovecs: self.iovecs.clone(), bytes: self.bytes, owner: self.owner.clone() }
    }

    /// Copy out what is there now, from this offset on; each byte is read once. False where there
    /// are not so many bytes, with `into` as it was, or where they are not there any more.
    #[must_use]
    pub fn read_at(&self, offset_bytes: u64, into: &mut [u8]) -> bool {
        let end = offset_bytes.checked_add(into.len() as u64);
        let Some(end) = end.filter(|end| *end <= self.bytes) else {
            return false;
        };
        let mut rest = into;
        for slice in self.slices_within(offset_bytes..end) {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(slice.len());
            slice.copy_to(now);
            rest = later;
        }
        self.is_intact()
    }

    /// The pieces of a part of the memory, in order; `range` counts bytes from its beginning.
    pub fn slices_within(&self, range: Range<u64>) -> impl Iterator<Item = VolatileSlice<'_>> {
        let mut at = 0;
        self.slices().filter_map(move |slice| {
            let (start, end) = (at, at + slice.len() as u64);
            at = end;
            let part = range.start.max(start)..range.end.min(end);
            // Both are at most the piece's length.
            let index = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
            let bytes = part.end.checked_sub(part.start).filter(|bytes| *bytes > 0)?;
            slice.subslice(index(part.start - start), index(bytes)).ok()
        })
    }

    /// Fill every piece with zeroes.
    pub fn fill_zero(&self) {
        self.slices().for_each(fill_zero);
    }
}

/// Fill a piece of memory with zeroes.
pub(super) fn fill_zero(mut slice: VolatileSlice<'_>) {
    const ZEROES: [u8; 4096] = [0; 4096];
    while !slice.is_empty() {
        let step = slice.len().min(ZEROES.len());
        slice.copy_from(&ZEROES[..step]);
        match slice.offset(step) {
            Ok(rest) => slice = rest,
            Err(_) => return,
        }
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffers({} bytes in {} pieces)", self.bytes, self.iovecs.len())
    }
}

/// Memory of our own behind [`Buffers`], for tests, examples and bounce copies.
///
/// ```
/// let memory = blkfault::block::OwnedMemory::new(1024, 512);
/// let buffers = memory.buffers();
/// assert_eq!(buffers.bytes(), 1024);
/// memory.write(&[7; 1024]);
/// assert_eq!(memory.read(), vec![7; 1024]);
/// ```
#[derive(Debug, Clone)]
pub struct OwnedMemory {
    region: Arc<vm_memory::MmapRegion>,
    offset: usize,
    bytes: usize,
}

impl OwnedMemory {
    /// `bytes` bytes of zeroes at an address that is `misalignment` past a page boundary, so that
    /// tests can ask for any alignment (`0` is page-aligned).
    ///
    /// # Panics
    /// When the host has no memory left.
    #[must_use]
    pub fn new(bytes: usize, misalignment: usize) -> Self {
        let mapped = (bytes + misalignment).max(1).next_multiple_of(4096);
        let region = vm_memory::MmapRegion::new(mapped).expect("anonymous memory");
        Self { region: Arc::new(region), offset: misalignment, bytes }
    }

    /// All of the memory as one piece.
    #[must_use]
    pub fn buffers(&self) -> Buffers {
        self.pieces(&[self.bytes])
    }

    /// The memory cut into consecutive pieces of these lengths; what is left over is not used.
    ///
    /// # Panics
    /// When the pieces are longer than the memory.
    #[must_use]
    pub fn pieces(&self, lengths: &[usize]) -> Buffers {
        assert!(lengths.iter().sum::<usize>() <= self.bytes, "pieces longer than the memory");
        let mut at = self.offset;
        let iovecs = lengths
            .iter()
            .map(|&iov_len| {
                let iov_base = self.region.as_ptr().wrapping_add(at).cast();
                at += iov_len;
                libc::iovec { iov_base, iov_len }
            })
            .collect();
        // SAFETY: the pieces lie inside the region, which the Arc keeps mapped.
        unsafe { Buffers::new(iovecs, self.region.clone()) }
    }

    /// The present content.
    #[must_use]
    pub fn read(&self) -> Vec<u8> {
        let mut content = vec![0; self.bytes];
        if let Some(slice) = self.buffers().slices().next() {
            slice.copy_to(&mut content[..]);
        }
        content
    }

    /// Replace the content's first bytes.
    pub fn write(&self, content: &[u8]) {
        if let Some(slice) = self.buffers().slices().next() {
            slice.copy_from(content);
        }
    }
}

#[cfg(test)]
mod tests;
