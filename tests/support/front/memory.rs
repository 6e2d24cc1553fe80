//! Guest memory: regions of memfds at guest addresses, which the back end maps too.
//!
//! Knows: guest addresses, lengths and how to read and write there. Must not know: what the bytes
//! mean (rings and requests are `ring`'s and `request`'s). Invariant: an access lies within one
//! [`Memory`], or the test fails with the address; this is the front end's only `unsafe`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};

/// One run of guest memory, backed by its own memfd.
#[derive(Debug)]
pub struct Region {
    /// Guest address of the first byte.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
    base: NonNull<u8>,
    memfd: OwnedFd,
}

// SAFETY: the mapping is shared memory that another process writes as it likes; nothing here hands
// out a plain reference to it, only atomics and copies.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Zeroed memory at a guest address; pages are taken from the host when touched.
    pub fn new(start: u64, bytes: u64) -> Arc<Self> {
        let memfd = rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC).expect("memfd");
        rustix::fs::ftruncate(&memfd, bytes).expect("size the memfd");
        Self::of(memfd, start, bytes)
    }

    /// The first `bytes` of a file as memory at a guest address.
    pub fn of(memfd: OwnedFd, start: u64, bytes: u64) -> Arc<Self> {
        let length = usize::try_from(bytes).expect("region fits the address space");
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address the kernel chooses; unmapped in `drop`.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                MapFlags::SHARED | MapFlags::NORESERVE,
                &memfd,
                0,
            )
        }
        .expect("map the memfd");
        let base = NonNull::new(base.cast()).expect("mmap gives no null");
        Arc::new(Self { start, bytes, base, memfd })
    }

    /// Where the front end itself sees the region (vhost-user's user address).
    pub fn user_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// The memory itself, for the back end.
    pub fn memfd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    fn holds(&self, address: u64) -> bool {
        address >= self.start && address - self.start < self.bytes
    }

    /// Pointer to `address`, and the bytes from there to the region's end.
    fn at(&self, address: u64) -> (*mut u8, usize) {
        let offset = address - self.start;
        assert!(offset <= self.bytes, "{address:#x} is outside its region");
        // SAFETY: the offset lies within the mapping, whose length fits usize (see `new`).
        let pointer = unsafe { self.base.as_ptr().add(offset as usize) };
        (pointer, (self.bytes - offset) as usize)
    }

    /// The 16-bit word at an even address, shared with the back end.
    pub fn word16(&self, address: u64) -> &AtomicU16 {
        let (pointer, left) = self.at(address);
        assert!(left >= 2 && address.is_multiple_of(2), "no 16-bit word at {address:#x}");
        // SAFETY: in bounds and aligned by the assertion; the mapping lives as long as `self`.
        unsafe { AtomicU16::from_ptr(pointer.cast()) }
    }

    /// Copy bytes in; they must fit between `address` and the region's end.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        let (pointer, left) = self.at(address);
        assert!(bytes.len() <= left, "write of {} bytes at {address:#x}", bytes.len());
        // SAFETY: in bounds by the assertion; `bytes` is no part of the mapping, of which no
        // reference exists.
        unsafe { pointer.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Copy bytes out.
    pub fn read(&self, address: u64, bytes: &mut [u8]) {
        let (pointer, left) = self.at(address);
        assert!(bytes.len() <= left, "read of {} bytes at {address:#x}", bytes.len());
        // SAFETY: as in `write`.
        unsafe { pointer.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; nothing borrowed from it outlives `self`.
        let unmapped =
            unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes as usize) };
        debug_assert!(unmapped.is_ok());
    }
}

/// All of a guest's memory, with a bump allocator over its first region.
#[derive(Debug, Clone)]
pub struct Memory {
    regions: Arc<[Arc<Region>]>,
    next_free: Arc<AtomicU64>,
}

impl Memory {
    /// Memory of regions given as (guest address, bytes).
    pub fn new(layout: &[(u64, u64)]) -> Self {
        let regions: Arc<[_]> =
            layout.iter().map(|(start, len)| Region::new(*start, *len)).collect();
        // Page 0 stays free, so that a forgotten address is seen.
        let next_free = Arc::new(AtomicU64::new(regions[0].start + 4096));
        Self { regions, next_free }
    }

    /// The regions in the order they were given.
    pub fn regions(&self) -> &[Arc<Region>] {
        &self.regions
    }

    /// Fresh bytes of the first region; never given back. `align` is a power of two.
    pub fn allocate(&self, bytes: u64, align: u64) -> u64 {
        let up = |address: u64| (address + align - 1) & !(align - 1);
        let take = |free| Some(up(free) + bytes);
        let taken = self.next_free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let address = up(taken.unwrap_or_else(|free| free));
        let first = &self.regions[0];
        assert!(
            address + bytes <= first.start + first.bytes,
            "guest memory is used up: give the front end a larger first region"
        );
        address
    }

    /// The region that holds `address`.
    pub fn region(&self, address: u64) -> &Arc<Region> {
        self.regions
            .iter()
            .find(|region| region.holds(address))
            .unwrap_or_else(|| panic!("no guest memory at {address:#x}"))
    }

    /// Where the front end sees a guest address (vhost-user's user address).
    pub fn user_address(&self, address: u64) -> u64 {
        let region = self.region(address);
        region.user_address() + (address - region.start)
    }

    /// Copy bytes in, over the border of adjacent regions too.
    pub fn write(&self, mut address: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let region = self.region(address);
            let here = bytes.len().min((region.start + region.bytes - address) as usize);
            region.write(address, &bytes[..here]);
            (address, bytes) = (address + here as u64, &bytes[here..]);
        }
    }

    /// Copy bytes out, over the border of adjacent regions too.
    pub fn read_into(&self, mut address: u64, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let region = self.region(address);
            let here = bytes.len().min((region.start + region.bytes - address) as usize);
            let (now, rest) = bytes.split_at_mut(here);
            region.read(address, now);
            (address, bytes) = (address + here as u64, rest);
        }
    }

    /// Copy bytes out.
    pub fn read(&self, address: u64, bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        self.read_into(address, &mut out);
        out
    }
}
