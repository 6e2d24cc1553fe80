//! Words of which a disk's option takes one.
//!
//! Knows: the words and what each means. Must not know: which option takes them. Invariant: the words
//! are QEMU's where QEMU has the thing.

use clap::ValueEnum;

/// What kind of store a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A file or block device of the host, byte by byte.
    Raw,
    /// Memory of the daemon, gone when it ends.
    Memory,
    /// Nothing: reads give zeroes, writes are forgotten.
    Null,
}

/// How the host and the guest cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CacheChoice {
    /// Around the host's page cache (O_DIRECT); the guest flushes.
    None,
    /// Through the host's page cache; the guest flushes.
    Writeback,
    /// Every write is durable before it is answered.
    Writethrough,
}

/// How to reach the image without waiting for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AioChoice {
    /// Threads that wait instead.
    Threads,
    /// io_uring of the host's kernel.
    #[value(name = "io_uring")]
    IoUring,
}

/// What becomes of discards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DiscardChoice {
    /// Nothing.
    Ignore,
    /// The image gives the space back.
    Unmap,
}

/// What becomes of requests that the image fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnErrorChoice {
    /// The guest is told.
    Report,
    /// They are held until they are resumed.
    Hold,
    /// They are held if the image has no space left.
    HoldOnEnospc,
}

/// What becomes of held requests whose queue stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HeldOnStopChoice {
    /// They fail.
    Fail,
    /// They are held again when it starts.
    Keep,
}
