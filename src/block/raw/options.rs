//! How a raw image is to be opened, and why it cannot be.
//!
//! Knows: the operator's choices and QEMU's names for them. Must not know: how any of it is done.
//! Invariant: every error names the image and what would be accepted.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whether the host's page cache is used (QEMU `cache.direct`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// Through the page cache.
    #[default]
    Buffered,
    /// Around it, with `O_DIRECT`.
    Direct,
}

/// How the kernel is asked (QEMU `aio`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aio {
    /// io_uring where the host lets us, otherwise threads.
    #[default]
    Auto,
    /// io_uring, or the image does not open.
    IoUring,
    /// A pool of threads.
    Threads,
}

/// Whether the image is locked against others as QEMU does it (QEMU `locking`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Locking {
    /// Where the file system can.
    #[default]
    Auto,
    /// Or the image does not open.
    On,
    /// Never.
    Off,
}

/// What an image may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// A regular file.
    File,
    /// A block device of the host.
    HostDevice,
}

impl ImageKind {
    /// QEMU's name of the driver.
    #[must_use]
    pub fn driver(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::HostDevice => "host_device",
        }
    }

    /// What the driver wants, in words.
    pub(super) fn wants(self) -> &'static str {
        match self {
            Self::File => "a regular file",
            Self::HostDevice => "a block device",
        }
    }
}

/// How to open a raw image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawOptions {
    /// The file or block device.
    pub path: PathBuf,
    /// Open for reading only.
    pub read_only: bool,
    /// Page cache or not.
    pub cache: CacheMode,
    /// Ignore flushes (QEMU `cache.no-flush`): fast, and a host crash loses data.
    pub no_flush: bool,
    /// How the kernel is asked.
    pub aio: Aio,
    /// Lock the image as QEMU does.
    pub locking: Locking,
    /// How long to wait for another to give up a lock that is in the way. What a process that was
    /// killed asked of its image keeps the lock until it has ended.
    pub lock_wait: Duration,
    /// Discards, and write-zeroes that may unmap, deallocate (QEMU `discard=unmap`); otherwise
    /// they are accepted and deallocate nothing.
    pub discard: bool,
    /// Refuse an image of another kind.
    pub expect: Option<ImageKind>,
    /// The image's size must be a multiple of this: a power of two from 512 to 4096.
    pub block_bytes: u32,
}

impl RawOptions {
    /// The defaults for an image: writable, buffered, locked where possible, blocks of 512 bytes.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            read_only: false,
            cache: CacheMode::default(),
            no_flush: false,
            aio: Aio::default(),
            locking: Locking::default(),
            lock_wait: Duration::ZERO,
            discard: false,
            expect: None,
            block_bytes: 512,
        }
    }
}

/// Why an image could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is nothing at the path.
    #[error(
        "image '{}' does not exist: name an existing file or block device (qemu-img create makes one)",
        .0.display()
    )]
    Missing(PathBuf),
    /// It is something else than a file or block device.
    #[error("image '{}' is {found}: {wanted} is needed", path.display())]
    WrongKind {
        /// The path as given.
        path: PathBuf,
        /// What is there.
        found: &'static str,
        /// What would be accepted.
        wanted: &'static str,
    },
    /// It may only be read.
    #[error(
        "image '{}' cannot be opened for writing ({source}): make it writable or serve it read-only",
        path.display()
    )]
    NotWritable {
        /// The path as given.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// The file system has no `O_DIRECT`.
    #[error(
        "image '{}' cannot be opened with O_DIRECT ({source}): its file system needs cache.direct=off",
        path.display()
    )]
    NoDirect {
        /// The path as given.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// Another open image of this or another process excludes us. The words are QEMU's.
    #[error(
        "Failed to get {}\"{permission}\" lock. Is another process using the image [{}]?",
        if *.shared { "shared " } else { "" }, path.display()
    )]
    Locked {
        /// The path as given.
        path: PathBuf,
        /// What the other has or does not share.
        permission: &'static str,
        /// The other has the permission, and we would not share it.
        shared: bool,
    },
    /// Something else serves the same disk from it, or has not ended what it did.
    #[error(
        "Failed to get the lock of {disk} on the image [{}]. Another daemon serves it there, or the \
         host has not finished what a dead one asked for",
        path.display()
    )]
    Marked {
        /// The path as given.
        path: PathBuf,
        /// The disk, in words.
        disk: String,
    },
    /// The lock could not even be tried.
    #[error("image '{}' cannot be locked ({source}): use locking=off if nobody else writes to it", path.display())]
    NoLocking {
        /// The path as given.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// Its length does not fit.
    #[error(
        "image '{}' is {size_bytes} bytes long, which is not a multiple of {what} {unit_bytes}",
        path.display()
    )]
    NotMultiple {
        /// The path as given.
        path: PathBuf,
        /// How long it is.
        size_bytes: u64,
        /// What the unit is, in words.
        what: &'static str,
        /// A multiple of this would be accepted.
        unit_bytes: u32,
    },
    /// The block size itself is wrong.
    #[error("block size {0} is not 512, 1024, 2048 or 4096")]
    BadBlockSize(u32),
    /// `aio=io_uring` was asked for, and the host has none for us.
    #[error("io_uring is not available for image '{}' ({source}): use aio=threads", path.display())]
    NoIoUring {
        /// The path as given.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// Anything else that the host says.
    #[error("image '{}' cannot be opened: {source}", path.display())]
    Host {
        /// The path as given.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
}

impl OpenError {
    /// The path that the host says this process may not open.
    #[must_use]
    pub fn denied(&self) -> Option<&Path> {
        let (Self::NotWritable { path, source, .. } | Self::Host { path, source }) = self else {
            return None;
        };
        (source.kind() == io::ErrorKind::PermissionDenied).then_some(path)
    }
}
