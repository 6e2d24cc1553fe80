//! Guest memory that a front end shares.
//!
//! Knows: one memory file and our own mapping of it. Must not know: what lies in it. Invariant: the
//! mapping is only touched while the file has all of its pages.

use std::os::fd::OwnedFd;
use std::ptr::null_mut;

use rustix::fs::MemfdFlags;

use crate::guest::{BYTES, is_there};
use crate::wire::memory;

/// The memory of one guest.
#[derive(Debug)]
pub struct Shared {
    /// It may be cut short: the back end cannot seal it.
    pub file: OwnedFd,
    start: *mut u8,
}

impl Shared {
    pub fn new() -> Self {
        let file = memory(BYTES as u64, MemfdFlags::empty());
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        use std::os::fd::AsRawFd;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { libc::mmap(null_mut(), BYTES, prot, flags, file.as_raw_fd(), 0) };
        assert!(start != libc::MAP_FAILED, "mmap");
        Self { file, start: start.cast() }
    }

    pub fn get(&self, at: u64) -> u8 {
        let at = usize::try_from(at).unwrap_or(BYTES).min(BYTES - 1);
        // SAFETY: inside the mapping; the back end writes it only on this thread.
        unsafe { self.start.add(at).read_volatile() }
    }

    pub fn put(&self, at: u64, byte: u8) {
        if is_there(at) {
            // SAFETY: as above.
            unsafe { self.start.add(usize::try_from(at).unwrap_or(0)).write_volatile(byte) };
        }
    }

    pub fn word(&self, at: u64) -> u16 {
        u16::from_le_bytes([self.get(at), self.get(at + 1)])
    }

    pub fn put_word(&self, at: u64, word: u16) {
        (at..).zip(word.to_le_bytes()).for_each(|(at, byte)| self.put(at, byte));
    }

    /// Copy all of it, as it is now.
    pub fn copy(&self, into: &mut [u8; BYTES]) {
        // SAFETY: both are that long, and the copy is the caller's alone.
        unsafe { std::ptr::copy_nonoverlapping(self.start, into.as_mut_ptr(), BYTES) };
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and nobody else has the address.
        unsafe { libc::munmap(self.start.cast(), BYTES) };
    }
}
