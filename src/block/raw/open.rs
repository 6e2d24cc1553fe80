//! One open file description, and everything that is true of it alone.
//!
//! Knows: how to open, check and lock an image. Must not know: requests. Invariant: the lock is
//! given up when the last request that uses the description has ended, or when the image is
//! refused, and not by a copy of it that a child of this process has for a moment.

use std::fs::{File, FileType, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::budget::Budget;
use super::extent::{Extent, Identity};
use super::inline::Source;
use super::lock::{self, Claim, Claimed, LockError, Mark};
use super::options::{CacheMode, ImageKind, Locking, OpenError, RawOptions};
use super::probe::{self, Alignment};
use super::turns::{FlushGate, Turns};
use crate::block::Geometry;

/// Guests never ask for less than a sector, so nothing finer need be served.
const SECTOR_BYTES: u32 = 512;
/// The most memory that the requests of one description take on their way through aligned memory.
const BOUNCE_BYTES_MAX: u64 = 16 << 20;

/// An open image.
#[derive(Debug)]
pub(super) struct Opened {
    /// The description, with its lock.
    claimed: Claimed,
    /// As the operator asked.
    pub(super) options: RawOptions,
    /// What it turned out to be.
    pub(super) kind: ImageKind,
    /// What requests must be aligned to, to go to the kernel as they are.
    pub(super) alignment: Alignment,
    /// What fallocate wants offsets and lengths to be multiples of, in bytes.
    pub(super) allocation_bytes: u32,
    physical_block_bytes: u32,
    /// What is shared with the other descriptions of the same file.
    extent: Arc<Extent>,
    /// The extents of the files that were open before, which ops may still be using.
    earlier: Vec<Weak<Extent>>,
    /// Holes can be punched.
    can_punch: AtomicBool,
    /// Ranges can be zeroed without writing.
    can_zero_range: AtomicBool,
    /// Which calls wait for a device.
    pub(super) source: Source,
    /// Where requests wait for memory of ours.
    pub(super) bounces: Arc<Budget>,
    /// Where flushes wait for each other.
    pub(super) flushes: FlushGate,
}

impl Opened {
    /// Open an image. `before` is what the new one takes the place of, if anything.
    pub(super) fn open(options: RawOptions, before: Option<&Self>) -> Result<Self, OpenError> {
        let block_bytes = options.block_bytes;
        if !block_bytes.is_power_of_two() || !(SECTOR_BYTES..=4096).contains(&block_bytes) {
            return Err(OpenError::BadBlockSize(block_bytes));
        }
        let host = |source| OpenError::Host { path: options.path.clone(), source };
        let (file, kind) = open_file(&options)?;
        let claimed = claim(file, &options, before)?;
        if let Some(before) = before {
            take_over_marks(&claimed, &options, before)?;
        }
        let file = claimed.file();
        let size_bytes = probe::size_bytes(file).map_err(host)?;
        let alignment = match options.cache {
            CacheMode::Buffered => Alignment::NONE,
            CacheMode::Direct => probe::direct_alignment(file, kind)
                .map_err(|source| OpenError::NoDirect { path: options.path.clone(), source })?,
        };
        check_size(&options, size_bytes, alignment)?;
        let allocation_bytes = match kind {
            ImageKind::File => 1,
            ImageKind::HostDevice => rustix::fs::ioctl_blksszget(file).unwrap_or(SECTOR_BYTES),
        };
        let physical = probe::physical_block_bytes(file, kind);
        let can_punch = !options.read_only && probe::can_punch(file, kind, size_bytes);
        let identity = Identity::of(file);
        let earlier = before.map(Self::extents).unwrap_or_default();
        let extent = match earlier.iter().find(|extent| extent.is_of(identity)) {
            Some(extent) => extent.clone(),
            None => Arc::new(Extent::new(identity, size_bytes)),
        };
        Ok(Self {
            physical_block_bytes: physical.max(alignment.offset_bytes).min(4096),
            extent,
            earlier: earlier.iter().map(Arc::downgrade).collect(),
            can_punch: AtomicBool::new(can_punch),
            can_zero_range: AtomicBool::new(true),
            flushes: FlushGate::default(),
            source: Source::of(file, kind, options.cache),
            claimed,
            options,
            kind,
            alignment,
            allocation_bytes,
            bounces: Arc::new(Budget::new(BOUNCE_BYTES_MAX)),
        })
    }

    /// Mark the description as the one that serves a disk, once nobody else has the mark.
    pub(super) fn mark(&self, mark: Mark, disk: &str, wait: Duration) -> Result<(), OpenError> {
        let deadline = Instant::now() + wait;
        loop {
            match self.claimed.mark(mark) {
                Err(LockError::Marked) if Instant::now() < deadline => {
                    std::thread::sleep(LOCK_POLL);
                }
                marked => return excused(marked, disk, &self.options),
            }
        }
    }

    /// Take back one [`Opened::mark`].
    pub(super) fn unmark(&self, mark: Mark) {
        self.claimed.unmark(mark);
    }

    /// Have the marks of the one whose place this takes, as they are by now.
    pub(super) fn follow_marks(&self, before: &Self) {
        self.claimed.follow_marks(&before.claimed);
    }

    /// The extents that ops may be using: its own and those that were open before.
    fn extents(&self) -> Vec<Arc<Extent>> {
        let earlier = self.earlier.iter().filter_map(Weak::upgrade);
        std::iter::once(self.extent.clone()).chain(earlier).collect()
    }

    /// Look how long the image is now, because it may have changed since it was opened.
    ///
    /// A part of a unit at the end, which nobody can have asked for here, is left out.
    pub(super) fn refresh_size(&self) {
        let path = self.options.path.display();
        match probe::size_bytes(self.file()) {
            Ok(size_bytes) => {
                let rest = size_bytes % u64::from(self.size_unit_bytes());
                if rest > 0 {
                    log::warn!(
                        "image '{path}' is {size_bytes} bytes long now: the last {rest} are left out"
                    );
                }
                self.set_size_bytes(size_bytes - rest);
            }
            Err(error) => log::error!("image '{path}' does not tell its size: {error}"),
        }
    }

    /// What the size must be a multiple of, in bytes.
    pub(super) fn size_unit_bytes(&self) -> u32 {
        self.options.block_bytes.max(self.alignment.offset_bytes)
    }

    /// Where writes wait for each other.
    pub(super) fn writes(&self) -> &Arc<Turns> {
        &self.extent.writes
    }

    pub(super) fn file(&self) -> &File {
        self.claimed.file()
    }

    pub(super) fn raw_fd(&self) -> i32 {
        self.file().as_raw_fd()
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.extent.size_bytes()
    }

    pub(super) fn set_size_bytes(&self, size_bytes: u64) {
        self.extent.set_size_bytes(size_bytes);
    }

    /// What request offsets and lengths must be multiples of, in bytes.
    pub(super) fn request_alignment(&self) -> u32 {
        self.alignment.offset_bytes.min(SECTOR_BYTES)
    }

    pub(super) fn can_punch(&self) -> bool {
        self.can_punch.load(Ordering::Relaxed)
    }

    pub(super) fn can_zero_range(&self) -> bool {
        self.can_zero_range.load(Ordering::Relaxed)
    }

    /// The host has said that it cannot.
    pub(super) fn cannot_punch(&self) {
        self.can_punch.store(false, Ordering::Relaxed);
    }

    /// The host has said that it cannot.
    pub(super) fn cannot_zero_range(&self) {
        self.can_zero_range.store(false, Ordering::Relaxed);
    }

    pub(super) fn geometry(&self) -> Geometry {
        let deallocates = self.options.discard && self.can_punch();
        Geometry {
            size_bytes: self.size_bytes(),
            request_alignment: self.request_alignment(),
            physical_block_bytes: self.physical_block_bytes,
            read_only: self.options.read_only,
            can_discard: deallocates,
            can_unmap_zeroes: deallocates,
        }
    }
}

#[cfg(all(test, miri))]
impl Opened {
    /// A regular file that nothing was asked about: Miri has no locks, and hardly an ioctl.
    pub(super) fn unprobed(file: File, options: RawOptions, size_bytes: u64) -> Self {
        let kind = ImageKind::File;
        Self {
            extent: Arc::new(Extent::new(None, size_bytes)),
            source: Source::of(&file, kind, options.cache),
            claimed: Claimed::new(file, Claim::NONE),
            options,
            kind,
            alignment: Alignment::NONE,
            allocation_bytes: 1,
            physical_block_bytes: SECTOR_BYTES,
            earlier: Vec::new(),
            can_punch: AtomicBool::new(true),
            can_zero_range: AtomicBool::new(true),
            bounces: Arc::new(Budget::new(BOUNCE_BYTES_MAX)),
            flushes: FlushGate::default(),
        }
    }
}

/// The size must be whole blocks, and whole units of what the host transfers.
fn check_size(
    options: &RawOptions,
    size_bytes: u64,
    alignment: Alignment,
) -> Result<(), OpenError> {
    let units = [
        ("the block size", options.block_bytes),
        ("what O_DIRECT (cache.direct=on) needs,", alignment.offset_bytes),
    ];
    for (what, unit_bytes) in units {
        if !size_bytes.is_multiple_of(u64::from(unit_bytes)) {
            let path = options.path.clone();
            return Err(OpenError::NotMultiple { path, size_bytes, what, unit_bytes });
        }
    }
    Ok(())
}

fn open_file(options: &RawOptions) -> Result<(File, ImageKind), OpenError> {
    let path = &options.path;
    let host = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => OpenError::Missing(path.clone()),
        _ => OpenError::Host { path: path.clone(), source },
    };
    // Asked before the open, because opening a FIFO or a terminal has effects of its own.
    kind_of(std::fs::metadata(path).map_err(host)?.file_type(), options)?;
    let direct = options.cache == CacheMode::Direct;
    // Whatever has taken its place since does not make this wait, nor become the process's terminal.
    let careful = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .write(!options.read_only)
        .custom_flags(careful | if direct { libc::O_DIRECT } else { 0 })
        .open(path)
        .map_err(|source| match source.raw_os_error() {
            Some(libc::EACCES | libc::EROFS | libc::EPERM | libc::ETXTBSY)
                if !options.read_only =>
            {
                OpenError::NotWritable { path: path.clone(), source }
            }
            Some(libc::EINVAL) if direct => OpenError::NoDirect { path: path.clone(), source },
            _ => host(source),
        })?;
    let kind = kind_of(file.metadata().map_err(host)?.file_type(), options)?;
    wait_for_io(&file).map_err(host)?;
    if !options.read_only && probe::is_write_protected(&file, kind).map_err(host)? {
        let source = io::Error::from_raw_os_error(libc::EROFS);
        return Err(OpenError::NotWritable { path: path.clone(), source });
    }
    Ok((file, kind))
}

/// io_uring would answer EAGAIN for a file that is open without waiting.
fn wait_for_io(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(file, flags.difference(OFlags::NONBLOCK))?)
}

/// What the image is, if that is acceptable.
fn kind_of(found: FileType, options: &RawOptions) -> Result<ImageKind, OpenError> {
    let kind = if found.is_file() {
        Ok(ImageKind::File)
    } else if found.is_block_device() {
        Ok(ImageKind::HostDevice)
    } else if found.is_dir() {
        Err("a directory")
    } else if found.is_fifo() {
        Err("a FIFO")
    } else if found.is_socket() {
        Err("a socket")
    } else {
        Err("a character device")
    };
    let wanted = options.expect.map_or("a regular file or block device", ImageKind::wants);
    let found = match kind {
        Ok(kind) if options.expect.is_none_or(|expected| expected == kind) => return Ok(kind),
        Ok(kind) => kind.wants(),
        Err(found) => found,
    };
    Err(OpenError::WrongKind { path: options.path.clone(), found, wanted })
}

/// Lock the description as the options want.
fn claim(file: File, options: &RawOptions, before: Option<&Opened>) -> Result<Claimed, OpenError> {
    if options.locking == Locking::Off {
        return Ok(Claimed::new(file, Claim::NONE));
    }
    let claim = Claim::new(options.read_only);
    let path = options.path.as_path();
    match lock_in_time(&file, claim, before, options) {
        Ok(()) => Ok(Claimed::new(file, claim)),
        Err(LockError::Unsupported(error)) if options.locking == Locking::Auto => {
            log::warn!("image '{}' is not locked: the host cannot ({error})", path.display());
            Ok(Claimed::new(file, Claim::NONE))
        }
        Err(error) => Err(locked(path, error)),
    }
}

/// How long until another look at a lock that is in the way.
const LOCK_POLL: Duration = Duration::from_millis(2);

/// Lock `file`, when others have given up theirs.
fn lock_in_time(
    file: &File,
    claim: Claim,
    before: Option<&Opened>,
    options: &RawOptions,
) -> Result<(), LockError> {
    let deadline = Instant::now() + options.lock_wait;
    loop {
        match lock_against_others(file, claim, before) {
            Err(LockError::Conflict { .. }) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_POLL);
            }
            other => return other,
        }
    }
}

/// Lock `file`. What `before` holds on the same file is ours and is no objection.
fn lock_against_others(
    file: &File,
    claim: Claim,
    before: Option<&Opened>,
) -> Result<(), LockError> {
    let Some(before) = before.filter(|before| is_same(file, before.file())) else {
        return lock::acquire(file, claim);
    };
    lock::apply(file, claim)?;
    if claim.is_within(before.claimed.claim()) {
        return Ok(());
    }
    // The new claim is in place, so that the old one can step aside while others are looked for,
    // and comes back, because the new image may yet be dropped.
    lock::release(before.file(), before.claimed.claim());
    let checked = lock::check(file, claim);
    if let Err(error) = lock::apply(before.file(), before.claimed.claim()) {
        log::error!("image '{}' lost its lock: {error:?}", before.options.path.display());
    }
    checked.inspect_err(|_| lock::release(file, claim))
}

/// Serve what `before` serves, in its place.
fn take_over_marks(
    claimed: &Claimed,
    options: &RawOptions,
    before: &Opened,
) -> Result<(), OpenError> {
    let is_same_file = is_same(claimed.file(), before.file());
    excused(claimed.mark_like(&before.claimed, is_same_file), "one of its disks", options)
}

/// Marks that the host cannot do are done without, where locks are.
fn excused(
    marked: Result<(), LockError>,
    disk: &str,
    options: &RawOptions,
) -> Result<(), OpenError> {
    let path = options.path.as_path();
    match marked {
        Err(LockError::Unsupported(error)) if options.locking == Locking::Auto => {
            let path = path.display();
            log::warn!("image '{path}' is not marked for {disk}: the host cannot ({error})");
            Ok(())
        }
        Err(LockError::Marked) => {
            Err(OpenError::Marked { path: path.to_owned(), disk: disk.to_owned() })
        }
        marked => marked.map_err(|error| locked(path, error)),
    }
}

fn is_same(one: &File, other: &File) -> bool {
    Identity::of(one).is_some_and(|one| Identity::of(other) == Some(one))
}

fn locked(path: &Path, error: LockError) -> OpenError {
    let path = path.to_owned();
    match error {
        LockError::Conflict { permission, shared } => {
            OpenError::Locked { path, permission, shared }
        }
        LockError::Marked => OpenError::Marked { path, disk: "a disk".to_owned() },
        LockError::Unsupported(source) | LockError::Host(source) => {
            OpenError::NoLocking { path, source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_descriptor_does_not_keep_the_lock() {
        let named = tempfile::NamedTempFile::new().unwrap();
        named.as_file().set_len(1 << 20).unwrap();
        let opened = Opened::open(RawOptions::new(named.path()), None).unwrap();
        let copy = opened.file().try_clone().unwrap();
        assert!(Opened::open(RawOptions::new(named.path()), None).is_err());
        drop(opened);
        Opened::open(RawOptions::new(named.path()), None).unwrap();
        drop(copy);
    }
}
