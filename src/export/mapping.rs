//! Memory that a front end shares, mapped into this process.
//!
//! Knows: mmap, file seals, SIGBUS. Must not know: what the memory is for. Invariants: a mapping lives
//! as long as its [`Mapping`]; a front end that cuts its file short under a mapping harms nobody but
//! itself: touching what is not there any more makes the mapping memory of our own, all zeroes, and
//! ends the front end's connection.
//!
//! SIGBUS comes to whoever touches such memory, in the middle of any code. So the handler takes no lock
//! and frees nothing: it looks the address up in a list whose entries are never freed, only used
//! again.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
use std::sync::{Arc, Once, OnceLock};

use rustix::fs::SealFlags;

mod slot;

use slot::Slot;

/// The front end that shares memory.
#[derive(Debug)]
pub(super) struct Sharer {
    /// Its connection.
    socket: OwnedFd,
    has_cut: AtomicBool,
}

impl Sharer {
    /// The front end behind this connection.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, has_cut: AtomicBool::new(false) }
    }

    /// Whether memory that it shares was not there when it was touched: its file was cut short, or
    /// the host has no page left for it. If not, everything that was read of it before this call was
    /// in it.
    pub(super) fn has_cut(&self) -> bool {
        // What was read before is read before the flag, which is set before there are zeroes.
        fence(Ordering::Acquire);
        self.has_cut.load(Ordering::Acquire)
    }
}

/// A mapped part of a file, for reading and writing.
#[derive(Debug)]
pub(super) struct Mapping {
    start: *mut u8,
    bytes: usize,
    entry: &'static Entry,
    /// The entry points to it.
    sharer: Arc<Sharer>,
}

// SAFETY: the pointer is an address to unmap, which any thread may do; nothing is read through it.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing can be done with a shared reference but to learn the address.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Map a part of a file, which must have all of it and, where that can be had, is kept from
    /// shrinking.
    ///
    /// # Errors
    /// `InvalidInput` where the file is too short; what the host says.
    pub(super) fn new(
        file: &File,
        offset_bytes: u64,
        bytes: u64,
        sharer: &Arc<Sharer>,
    ) -> io::Result<Self> {
        if !cfg!(miri) {
            // Refused for what is no memfd, or was made without the right to seal it.
            let _ = rustix::fs::fcntl_add_seals(file, SealFlags::SHRINK);
        }
        check_length(file, offset_bytes, bytes)?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        let offset = libc::off_t::try_from(offset_bytes).map_err(io::Error::other)?;
        let (fd, flags) = if cfg!(miri) {
            // Miri maps no files: zeroes are in the place of this one, which nobody else sees.
            (-1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)
        } else {
            install_handler();
            (file.as_raw_fd(), libc::MAP_NORESERVE | libc::MAP_SHARED)
        };
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { libc::mmap(null_mut(), bytes, PROTECTION, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        if !cfg!(miri) {
            leave_out_of_dumps(start, bytes);
        }
        let entry = Entry::take(start as usize, bytes, sharer);
        Ok(Self { start: start.cast(), bytes, entry, sharer: sharer.clone() })
    }

    /// Where it begins.
    pub(super) fn start(&self) -> *mut u8 {
        self.start
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all that was read of it before this call was in it; false for ever once any memory of
    /// the same front end was not there.
    pub(super) fn is_intact(&self) -> bool {
        !self.sharer.has_cut()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // First, so that the entry never tells of what somebody else has mapped since.
        self.entry.slot.give_back();
        // SAFETY: mapped in `new`, or by the handler at the same place; whoever uses the memory
        // keeps the mapping.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// What a guest has in its memory is nobody's business, and may be more than the disk holds.
fn leave_out_of_dumps(start: *mut libc::c_void, bytes: usize) {
    // SAFETY: a mapping of ours; the advice changes no content.
    let advised = unsafe { libc::madvise(start, bytes, libc::MADV_DONTDUMP) };
    if advised != 0 {
        log::warn!("guest memory may be in core dumps: {}", io::Error::last_os_error());
    }
}

/// Protection of shared memory.
pub(super) const PROTECTION: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;

/// Asks the file's file system, which is one that answers ([`passed`](super::passed)).
fn check_length(file: &File, offset_bytes: u64, bytes: u64) -> io::Result<()> {
    let metadata = file.metadata()?;
    let end = offset_bytes.checked_add(bytes);
    if metadata.is_file() && end.is_none_or(|end| end > metadata.len()) {
        let why = "region reaches past the end of its file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(())
}

/// What the handler knows of a mapping.
#[derive(Debug)]
struct Entry {
    slot: Slot<Sharer>,
    /// The entry that was made before it.
    next: *const Entry,
}

// SAFETY: `next` is written before the entry is shared, and entries are never freed.
unsafe impl Sync for Entry {}

/// The entry that was made last.
static ENTRIES: AtomicPtr<Entry> = AtomicPtr::new(null_mut());

fn entries() -> impl Iterator<Item = &'static Entry> {
    let mut next: *const Entry = ENTRIES.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: null, or an entry that was leaked whole before it came into the list.
        let entry = unsafe { next.as_ref() }?;
        next = entry.next;
        Some(entry)
    })
}

impl Entry {
    /// An entry that tells of a mapping; one that is free or a new one.
    fn take(start: usize, bytes: usize, sharer: &Arc<Sharer>) -> &'static Self {
        let entry = entries().find(|entry| entry.slot.take()).unwrap_or_else(Self::make);
        entry.slot.tell(start, bytes, Arc::as_ptr(sharer));
        entry
    }

    /// An entry in the list that is taken and tells of nothing.
    fn make() -> &'static Self {
        let mut entry = Box::new(Self { slot: Slot::new_taken(), next: null() });
        loop {
            let newest = ENTRIES.load(Ordering::Acquire);
            entry.next = newest;
            let ours = Box::into_raw(entry);
            let shared =
                ENTRIES.compare_exchange(newest, ours, Ordering::AcqRel, Ordering::Acquire);
            match shared {
                // SAFETY: made from a box just now and never freed.
                Ok(_) => return unsafe { &*ours },
                // SAFETY: made from a box just now, and nobody else has seen it.
                Err(_) => entry = unsafe { Box::from_raw(ours) },
            }
        }
    }
}

/// What SIGBUS did before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

fn install_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all zeroes is a sigaction; the kernel fills in the one that is in force.
        let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: reads into a structure of ours.
        unsafe { libc::sigaction(libc::SIGBUS, null(), &raw mut before) };
        let _ = BEFORE.set(before);
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
            on_sigbus;
        let mut ours = before;
        ours.sa_sigaction = handler as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: the handler has the signature of SA_SIGINFO and does only what a handler may.
        unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, null_mut()) };
    });
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a whole siginfo; of what came from a fault
    // (a positive code) the address is part.
    let (is_fault, address) = unsafe { ((*info).si_code > 0, (*info).si_addr() as usize) };
    // SAFETY: the thread's own errno, which the interrupted code may be about to read.
    let errno = unsafe { *libc::__errno_location() };
    let mended = is_fault && entries().any(|entry| replace(entry, address));
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    if mended {
        return;
    }
    // Not ours: what was done before. A fault happens again as soon as this returns.
    if let Some(before) = BEFORE.get() {
        // SAFETY: the action that was in force before ours.
        unsafe { libc::sigaction(signal, before, null_mut()) };
    }
    if !is_fault {
        // SAFETY: allowed in a handler; blocked until this returns.
        unsafe { libc::raise(signal) };
    }
}

/// Put zeroes of our own in the place of a mapping that holds this address. Called by the handler.
fn replace(entry: &Entry, address: usize) -> bool {
    let Some((start, bytes, sharer)) = entry.slot.holding(address) else {
        return false;
    };
    // SAFETY: the mapping, which somebody keeps, keeps it.
    let sharer = unsafe { &*sharer };
    // First, so that nobody who finds zeroes does not find this.
    sharer.has_cut.store(true, Ordering::SeqCst);
    let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: replaces the mapping that was just touched, so somebody keeps it, and it is nobody
    // else's memory.
    let zeroes = unsafe { libc::mmap(start as *mut _, bytes, PROTECTION, flags, -1, 0) };
    if zeroes == libc::MAP_FAILED {
        return false;
    }
    // The thread that serves the connection finds it ended.
    // SAFETY: the descriptor is open as long as the sharer.
    unsafe { libc::shutdown(sharer.socket.as_raw_fd(), libc::SHUT_RDWR) };
    true
}
