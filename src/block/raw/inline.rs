//! Calls that a worker had better carry out itself, because they wait for no device.
//!
//! Knows: which calls those are, and how the kernel is asked not to wait. Must not know: who carries
//! the others out. Invariants: no data that is carried out here comes from a device or a server, nor is a
//! file system waited for that is frozen, because a worker that waits hears of nothing; where the kernel waits
//! all the same, for its own tables ([`wary`](super::wary)) or for swap, is not known here; a result told
//! here is the call's only one, so nothing is asked for twice.
//!
//! For data in memory a plain call is several times as cheap as io_uring, which gives what it cannot
//! do without waiting to another thread, among it every call on tmpfs. It does so with every write to
//! ext4, too, and there a plain call would wait: while the file system is frozen, or for room among the
//! pages that are to be written.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::options::{CacheMode, ImageKind};
use super::task::Call;
use crate::errno::Errno;

/// Where a file's data comes from, as far as it matters here.
#[derive(Debug)]
pub(super) struct Source {
    kind: Kind,
    /// The kernel can be asked to read only what is in memory.
    reads_at_once: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Memory, and nothing else.
    Memory,
    /// The page cache, where what is asked for may be.
    Cached,
    /// A device, always.
    Device,
}

/// File systems in memory: tmpfs, ramfs, hugetlbfs (`linux/magic.h`).
const IN_MEMORY: [u32; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];

impl Source {
    /// What the host says of an open file.
    pub(super) fn of(file: &File, image: ImageKind, cache: CacheMode) -> Self {
        // The C library's field is wider on some architectures; the numbers have 32 bits.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let magic = || rustix::fs::fstatfs(file).ok().map(|system| system.f_type as u32);
        // Miri does not know the call.
        let magic = if cfg!(miri) { None } else { magic() };
        let kind = Kind::of(image, cache, magic);
        Self { kind, reads_at_once: AtomicBool::new(kind != Kind::Device) }
    }
}

impl Source {
    /// Whether a call may have ended as soon as the kernel has it.
    pub(super) fn ends_at_once(&self) -> bool {
        self.kind != Kind::Device
    }

    /// Whether the kernel may have to ask a device for what a call needs.
    pub(super) fn may_wait(&self) -> bool {
        self.kind != Kind::Memory
    }
}

impl Kind {
    /// A block device's file system is that of its name, which is in memory.
    fn of(image: ImageKind, cache: CacheMode, magic: Option<u32>) -> Self {
        let is_in_memory = magic.is_some_and(|magic| IN_MEMORY.contains(&magic));
        match (cache, image) {
            (CacheMode::Direct, _) => Self::Device,
            (CacheMode::Buffered, ImageKind::File) if is_in_memory => Self::Memory,
            (CacheMode::Buffered, _) => Self::Cached,
        }
    }
}

/// The longest call, in bytes: 0.1 ms or so of copying.
const CALL_BYTES_MAX: u64 = 1 << 20;
/// All calls until the worker has looked at what else there is to do.
const ALL_BYTES_MAX: u64 = 4 << 20;

/// How much a worker may still carry out itself.
#[derive(Debug)]
pub(super) struct Allowance {
    left_bytes: u64,
}

impl Allowance {
    pub(super) fn new() -> Self {
        Self { left_bytes: ALL_BYTES_MAX }
    }

    /// It has looked.
    pub(super) fn renew(&mut self) {
        *self = Self::new();
    }

    /// Whether a call is short enough, and what is left is enough for it; then it is spent.
    fn covers(&mut self, call: &Call<'_>) -> bool {
        let bytes = match call {
            Call::Read { pieces, .. } | Call::Write { pieces, .. } => {
                pieces.iter().map(|piece| piece.iov_len as u64).sum()
            }
            Call::Datasync | Call::Allocate { .. } => 0,
        };
        let is_covered = bytes <= CALL_BYTES_MAX && bytes <= self.left_bytes;
        if is_covered {
            self.left_bytes -= bytes;
        }
        is_covered
    }
}

/// Whether a call has others beside it that the ring could be given with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    /// It is alone.
    None,
    /// There are others.
    Some,
}

/// Carry a call out now, if it does not wait for a device. `None`, and nothing done, if it might, or takes
/// too long, or if the ring finds what is cached as quickly, and many of it in one call.
pub(super) fn carry_out(
    source: &Source,
    allowance: &mut Allowance,
    company: Company,
    fd: i32,
    call: &Call<'_>,
) -> Option<Result<u32, Errno>> {
    let is_meant = match (call, source.kind) {
        (_, Kind::Device) | (Call::Allocate { .. }, _) => false,
        (Call::Read { .. } | Call::Write { .. } | Call::Datasync, Kind::Memory) => true,
        (Call::Read { .. }, Kind::Cached) => company == Company::None,
        // The kernel waits here for a file system that is frozen, whatever it is told (`file_start_write`).
        (Call::Write { .. } | Call::Datasync, Kind::Cached) => false,
    };
    if !is_meant || !allowance.covers(call) {
        return None;
    }
    match source.kind {
        Kind::Memory => Some(plainly(fd, call)),
        Kind::Cached | Kind::Device => at_once(&source.reads_at_once, fd, call),
    }
}

/// Ask the kernel for what it can do without waiting; remember if it never can.
fn at_once(is_known: &AtomicBool, fd: i32, call: &Call<'_>) -> Option<Result<u32, Errno>> {
    if !is_known.load(Ordering::Relaxed) {
        return None;
    }
    match ask(fd, call, libc::RWF_NOWAIT) {
        // Linux 5.9 and 5.10 say 0 for what is not in memory, too (preadv2(2), BUGS).
        Err(Errno::EAGAIN) | Ok(0) => None,
        // What a kernel or a file system says that does not know the flag.
        Err(errno) if [Errno::EOPNOTSUPP.number(), libc::ENOSYS].contains(&errno.number()) => {
            is_known.store(false, Ordering::Relaxed);
            None
        }
        result => Some(result),
    }
}

/// Carry a call out, however long it takes.
pub(super) fn plainly(fd: i32, call: &Call<'_>) -> Result<u32, Errno> {
    ask(fd, call, 0)
}

fn ask(fd: i32, call: &Call<'_>, flags: i32) -> Result<u32, Errno> {
    let offset = |bytes: u64| libc::off64_t::try_from(bytes).map_err(|_| Errno::EIO);
    let count = |pieces: &[libc::iovec]| i32::try_from(pieces.len()).map_err(|_| Errno::EINVAL);
    // SAFETY: the task keeps the descriptor open and the memory of its pieces mapped.
    let result = unsafe {
        match *call {
            Call::Read { pieces, offset_bytes } if flags == 0 => {
                libc::preadv64(fd, pieces.as_ptr(), count(pieces)?, offset(offset_bytes)?)
            }
            Call::Write { pieces, offset_bytes } => {
                libc::pwritev64(fd, pieces.as_ptr(), count(pieces)?, offset(offset_bytes)?)
            }
            Call::Read { pieces, offset_bytes } => {
                libc::preadv64v2(fd, pieces.as_ptr(), count(pieces)?, offset(offset_bytes)?, flags)
            }
            Call::Datasync => libc::fdatasync(fd) as isize,
            Call::Allocate { mode, offset_bytes, bytes } => {
                libc::fallocate64(fd, mode, offset(offset_bytes)?, offset(bytes)?) as isize
            }
        }
    };
    u32::try_from(result).map_err(|_| Errno::from_io(&io::Error::last_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_device_is_no_memory_though_its_name_lies_there() {
        let of = |image| Kind::of(image, CacheMode::Buffered, Some(IN_MEMORY[0]));
        assert_eq!(of(ImageKind::File), Kind::Memory);
        assert_eq!(of(ImageKind::HostDevice), Kind::Cached);
    }

    fn piece(bytes: &mut [u8]) -> [libc::iovec; 1] {
        [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }]
    }

    #[test]
    fn what_needs_the_device_is_left_to_the_ring() {
        use std::os::fd::AsRawFd;
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let source = Source::of(&file, ImageKind::File, CacheMode::Direct);
        let mut memory = [0; 512];
        let pieces = piece(&mut memory);
        let calls = [
            Call::Read { pieces: &pieces, offset_bytes: 0 },
            Call::Write { pieces: &pieces, offset_bytes: 0 },
            Call::Datasync,
            Call::Allocate { mode: 0, offset_bytes: 0, bytes: 512 },
        ];
        for call in calls {
            let allowance = &mut Allowance::new();
            let told = carry_out(&source, allowance, Company::None, file.as_raw_fd(), &call);
            assert_eq!(told, None, "{call:?}");
        }
    }

    #[test]
    fn a_file_in_memory_is_read_and_written_on_the_spot() {
        use std::os::fd::AsRawFd;
        let memfd = rustix::fs::memfd_create("image", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = File::from(memfd);
        file.set_len(4096).unwrap();
        let source = Source::of(&file, ImageKind::File, CacheMode::Buffered);
        assert_eq!(source.kind, Kind::Memory);
        let ask = |call: &Call<'_>| {
            carry_out(&source, &mut Allowance::new(), Company::Some, file.as_raw_fd(), call)
        };
        let (mut data, mut read) = ([7; 512], [0; 512]);
        let from = piece(&mut data);
        assert_eq!(ask(&Call::Write { pieces: &from, offset_bytes: 3584 }), Some(Ok(512)));
        let into = piece(&mut read);
        assert_eq!(ask(&Call::Read { pieces: &into, offset_bytes: 3584 }), Some(Ok(512)));
        assert_eq!(ask(&Call::Read { pieces: &into, offset_bytes: 4000 }), Some(Ok(96)), "short");
        assert_eq!(ask(&Call::Read { pieces: &into, offset_bytes: 4096 }), Some(Ok(0)), "its end");
        assert_eq!(ask(&Call::Datasync), Some(Ok(0)));
        assert_eq!(read[96..], [7; 416], "the first 96 bytes were read once more");
    }

    #[test]
    fn the_end_of_a_cached_file_is_left_to_who_knows_it_for_sure() {
        use std::os::fd::AsRawFd;
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.set_len(512).unwrap();
        let source = Source { kind: Kind::Cached, reads_at_once: AtomicBool::new(true) };
        let mut memory = [0; 512];
        let pieces = piece(&mut memory);
        let ask = |offset_bytes| {
            let call = Call::Read { pieces: &pieces, offset_bytes };
            carry_out(&source, &mut Allowance::new(), Company::None, file.as_raw_fd(), &call)
        };
        assert_eq!(ask(512), None, "0 bytes may mean that they are not in memory");
        assert!(ask(0).is_none_or(|told| told == Ok(512)));
    }

    #[test]
    fn only_so_much_is_carried_out_at_once() {
        let mut byte = [0];
        let mut of = |bytes: u64| {
            let iov_len = usize::try_from(bytes).unwrap();
            [libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len }]
        };
        let (small, large) = (of(CALL_BYTES_MAX), of(CALL_BYTES_MAX + 1));
        let read = |pieces| Call::Read { pieces, offset_bytes: 0 };
        let mut allowance = Allowance::new();
        assert!(!allowance.covers(&read(&large)), "whatever is left");
        let covered = (0..100).take_while(|_| allowance.covers(&read(&small))).count();
        assert_eq!(covered as u64, ALL_BYTES_MAX / CALL_BYTES_MAX);
        assert!(allowance.covers(&Call::Datasync), "which moves nothing");
        allowance.renew();
        assert!(allowance.covers(&read(&small)));
    }
}
