//! What the host says about an image: alignment, block sizes, whether it can deallocate.
//!
//! Knows: the system calls that tell. Must not know: options. Invariant: asking changes neither
//! the image's content nor its size.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::FallocateFlags;
use vm_memory::{MmapRegion, VolatileMemory, VolatileSlice};

use super::options::ImageKind;
use super::transfer::{Progress, Stalls};
use crate::errno::Errno;

/// Largest alignment that is believed: beyond it `O_DIRECT` would be of no use.
const ALIGNMENT_MAX: u32 = 64 << 10;

/// What `O_DIRECT` requires, in bytes, each a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alignment {
    /// Of addresses.
    pub(super) memory_bytes: u32,
    /// Of offsets, and of the lengths of all pieces.
    pub(super) offset_bytes: u32,
}

impl Alignment {
    /// Anything goes, as through the page cache.
    pub(super) const NONE: Self = Self { memory_bytes: 1, offset_bytes: 1 };

    /// Whether the kernel takes these pieces at this offset as they are.
    pub(super) fn fits(self, offset_bytes: u64, pieces: &[libc::iovec]) -> bool {
        offset_bytes & (u64::from(self.offset_bytes) - 1) == 0
            && pieces.iter().all(|piece| {
                piece.iov_base.addr() & (self.memory_bytes as usize - 1) == 0
                    && piece.iov_len & (self.offset_bytes as usize - 1) == 0
            })
    }
}

/// The image's present length in bytes.
pub(super) fn size_bytes(file: &File) -> io::Result<u64> {
    // Works for block devices too, whose metadata say 0.
    let mut file = file;
    file.seek(SeekFrom::End(0))
}

/// What a description with `O_DIRECT` requires.
pub(super) fn direct_alignment(file: &File, kind: ImageKind) -> io::Result<Alignment> {
    if let Some(alignment) = statx_alignment(file) {
        return Ok(alignment);
    }
    if kind == ImageKind::HostDevice {
        let offset_bytes = rustix::fs::ioctl_blksszget(file)?;
        return Ok(Alignment { memory_bytes: offset_bytes.max(512), offset_bytes });
    }
    read_alignment(file)
}

/// What the kernel says since Linux 6.1, where the file system knows.
fn statx_alignment(file: &File) -> Option<Alignment> {
    let mut answer = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the descriptor is open, the empty path is NUL-terminated, and the answer is large
    // enough and zeroed, so that it is valid whatever part the kernel fills in.
    let answer = unsafe {
        let result = libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            answer.as_mut_ptr(),
        );
        if result != 0 {
            return None;
        }
        answer.assume_init()
    };
    let sound = |bytes: u32| bytes.is_power_of_two() && bytes <= ALIGNMENT_MAX;
    let (memory_bytes, offset_bytes) = (answer.stx_dio_mem_align, answer.stx_dio_offset_align);
    let known = answer.stx_mask & libc::STATX_DIOALIGN != 0;
    (known && sound(memory_bytes) && sound(offset_bytes))
        .then_some(Alignment { memory_bytes, offset_bytes })
}

/// The shortest read that the file system takes (`raw_probe_alignment` in QEMU). Memory is taken
/// to need a page, because a too small guess would fail requests and a too large one costs a copy.
fn read_alignment(file: &File) -> io::Result<Alignment> {
    const MEMORY_BYTES: u32 = 4096;
    let region = MmapRegion::<()>::new(ALIGNMENT_MAX as usize).map_err(io::Error::other)?;
    let whole = region.as_volatile_slice();
    let mut offset_bytes = 512;
    while offset_bytes <= ALIGNMENT_MAX {
        let piece = whole.subslice(0, offset_bytes as usize).map_err(io::Error::other)?;
        match read_start(file, &piece) {
            Ok(()) => return Ok(Alignment { memory_bytes: MEMORY_BYTES, offset_bytes }),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => offset_bytes *= 2,
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// Read as much as there is room for from the start of the image, however often it takes.
fn read_start(file: &File, into: &VolatileSlice<'_>) -> io::Result<()> {
    let guard = into.ptr_guard_mut();
    let mut stalls = Stalls::default();
    loop {
        // SAFETY: the guard's memory is mapped, writable and at least this long.
        let read = unsafe { libc::pread(file.as_raw_fd(), guard.as_ptr().cast(), into.len(), 0) };
        if read >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if stalls.judge(Errno::from_io(&error)) != Progress::More {
            return Err(error);
        }
    }
}

/// Preferred smallest unit, a power of two of 512 to 4096 bytes.
pub(super) fn physical_block_bytes(file: &File, kind: ImageKind) -> u32 {
    let bytes = match kind {
        ImageKind::HostDevice => rustix::fs::ioctl_blkpbszget(file).unwrap_or(512),
        ImageKind::File => file
            .metadata()
            .ok()
            .and_then(|metadata| u32::try_from(metadata.blksize()).ok())
            .unwrap_or(4096),
    };
    if bytes.is_power_of_two() { bytes.clamp(512, 4096) } else { 4096 }
}

/// Whether a part of the image can be deallocated and reads as zeroes afterwards.
pub(super) fn can_punch(file: &File, kind: ImageKind, size_bytes: u64) -> bool {
    match kind {
        ImageKind::File => {
            // Beyond the end there is nothing to lose.
            let beyond = size_bytes.next_multiple_of(1 << 20);
            let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let mut stalls = Stalls::default();
            loop {
                let Err(error) = rustix::fs::fallocate(file, mode, beyond, 4096) else {
                    return true;
                };
                if stalls.judge(Errno::from_io(&error.into())) != Progress::More {
                    return false;
                }
            }
        }
        ImageKind::HostDevice => queue_limit(file, "write_zeroes_max_bytes") > 0,
    }
}

/// Whether a block device takes no writes, although it was opened for them.
pub(super) fn is_write_protected(file: &File, kind: ImageKind) -> io::Result<bool> {
    if kind == ImageKind::File {
        return Ok(false);
    }
    /// `_IO(0x12, 94)` of `linux/fs.h`.
    const BLKROGET: libc::c_ulong = 0x125e;
    let mut protected: libc::c_int = 0;
    // SAFETY: the descriptor is open and the request stores one int.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), BLKROGET as _, &raw mut protected) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(protected != 0) }
}

/// A limit of a block device's request queue from sysfs; 0 where it cannot be read.
fn queue_limit(file: &File, name: &str) -> u64 {
    let Ok(metadata) = file.metadata() else { return 0 };
    let device = metadata.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let base = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // A partition has its disk's queue.
    [base.join("queue"), base.join("../queue")]
        .iter()
        .find_map(|queue| std::fs::read_to_string(queue.join(name)).ok()?.trim().parse().ok())
        .unwrap_or(0)
}

/// Bytes that the image takes on the host.
pub(super) fn actual_size_bytes(file: &File, kind: ImageKind) -> io::Result<u64> {
    match kind {
        ImageKind::File => Ok(file.metadata()?.blocks() * 512),
        ImageKind::HostDevice => size_bytes(file),
    }
}
