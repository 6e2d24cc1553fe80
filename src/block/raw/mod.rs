//! Raw images: a regular file or a block device of the host, byte for byte.
//!
//! Knows: the host's files. Must not know: who asks. Invariants: success is reported only for
//! bytes that were transferred; once a flush has failed no flush succeeds until the image is
//! reopened; the image is locked as QEMU locks it.
//!
//! ```text
//! options -> open (probe, lock) -> Opened, one per description
//! Op -> task (transfer, bounce, turns): which system call next, and what does its result mean
//!    -> inline: what waits for no device; uring | threads: the other system calls
//! ```

mod bounce;
mod budget;
mod current;
mod direct;
mod extent;
mod inline;
mod lock;
mod open;
mod options;
mod probe;
mod task;
mod threads;
mod transfer;
mod turns;
mod uring;
mod wary;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use self::current::Current;
use self::lock::Mark;
use self::open::Opened;
pub use self::options::{Aio, CacheMode, ImageKind, Locking, OpenError, RawOptions};
use self::threads::{Pool, ThreadsChannel};
use self::uring::UringChannel;
use super::{Channel, Geometry, Node};
use crate::errno::Errno;

/// When this variable is set in the environment, [`Aio::Auto`] means threads.
pub const NO_IO_URING_VARIABLE: &str = "BLKFAULT_NO_IO_URING";

/// How long a resize waits for writes that are under way beyond the new end.
const SHRINK_PATIENCE: Duration = Duration::from_secs(2);

/// A raw image.
///
/// Its size is what it was when it was opened, reopened or resized here. When somebody else cuts
/// the file short meanwhile, reads beyond its end are `EIO`, never zeroes; a write there makes the
/// file longer again, as any write to a file does, and what lies between reads as zeroes then. To
/// tell before each write would take a system call more for each, and could still come too late:
/// the lock is what keeps others away.
#[derive(Debug)]
pub struct RawImage {
    current: Arc<Current>,
    pool: Arc<Pool>,
    /// Held while the image is reopened or resized.
    control: Arc<Mutex<()>>,
}

impl RawImage {
    /// Open an image.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing stays open or locked.
    pub fn open(options: RawOptions) -> Result<Self, OpenError> {
        check_aio(&options)?;
        let opened = Opened::open(options, None)?;
        let current = Arc::new(Current::new(opened));
        Ok(Self { current, pool: Arc::default(), control: Arc::default() })
    }

    /// Open another image, or the same one again, in the place of this one, under the channels
    /// that exist. Ops submitted after this returns go to the new one and a failed flush is
    /// forgotten; ops submitted before end on the old one, which is then closed. Existing channels
    /// keep asking the kernel the way they do, whatever the new `aio` says. An op that hangs on the
    /// old image may hold up new writes of the same channel: the kernel runs them in a row.
    ///
    /// # Errors
    /// See [`OpenError`]; the old one then stays as it is.
    pub fn reopen(&self, options: RawOptions) -> Result<(), OpenError> {
        self.prepare_reopen(options).map(Reopening::commit)
    }

    /// The first half of [`RawImage::reopen`]: open and lock, and change nothing yet. What is not
    /// committed is closed again.
    ///
    /// # Errors
    /// See [`OpenError`]; the old one then stays as it is.
    pub fn prepare_reopen(&self, options: RawOptions) -> Result<Reopening, OpenError> {
        let _control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        check_aio(&options)?;
        let before = self.current.get();
        let opened = Opened::open(options, Some(&before))?;
        Ok(Reopening { current: self.current.clone(), control: self.control.clone(), opened })
    }

    /// Serve a disk from the image, which no other open image may do that serves the disk of the same
    /// number, be it in another process or in a dead one whose requests the host has not ended. The
    /// image's lock keeps writers from each other; this keeps a dead reader's requests, which write
    /// to the memory of a guest, from its successor's. `wait` is how long another is waited for;
    /// `disk` names the disk in words. Nothing is kept out where the image is not locked.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing has changed.
    pub fn serve(&self, number: u64, disk: &str, wait: Duration) -> Result<Served, OpenError> {
        let _control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = Mark::of(number);
        self.current.get().mark(mark, disk, wait)?;
        Ok(Served { current: self.current.clone(), control: self.control.clone(), mark })
    }

    /// How the image is open now.
    #[must_use]
    pub fn options(&self) -> RawOptions {
        self.current.look(|opened| opened.options.clone())
    }

    /// The path that was given.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.current.look(|opened| opened.options.path.clone())
    }

    /// QEMU's name of the driver: `file` or `host_device`.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        self.current.look(|opened| opened.kind.driver())
    }

    /// The host's page cache is left out.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.current.look(|opened| opened.options.cache == CacheMode::Direct)
    }

    /// Flushes are ignored.
    #[must_use]
    pub fn no_flush(&self) -> bool {
        self.current.look(|opened| opened.options.no_flush)
    }

    /// Bytes that the image takes on the host.
    ///
    /// # Errors
    /// What the host says.
    pub fn actual_size_bytes(&self) -> io::Result<u64> {
        let opened = self.current.get();
        probe::actual_size_bytes(opened.file(), opened.kind)
    }
}

/// A disk is served from the image until this is dropped, and then until the requests end that are at a
/// description which was replaced meanwhile.
#[derive(Debug)]
#[must_use = "dropping it lets others serve the disk"]
pub struct Served {
    current: Arc<Current>,
    control: Arc<Mutex<()>>,
    mark: Mark,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        self.current.get().unmark(self.mark);
    }
}

/// An image that is open beside the one it may replace.
#[derive(Debug)]
#[must_use = "dropping it leaves the old image in place"]
pub struct Reopening {
    current: Arc<Current>,
    control: Arc<Mutex<()>>,
    opened: Opened,
}

impl Reopening {
    /// Put the new image in the place of the old one. Its size is what it is now.
    pub fn commit(self) {
        let _control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        self.opened.refresh_size();
        self.opened.follow_marks(&self.current.get());
        self.current.replace(self.opened);
    }
}

/// Whether new channels may use io_uring.
fn check_io_uring(aio: Aio) -> io::Result<()> {
    if aio == Aio::Auto && std::env::var_os(NO_IO_URING_VARIABLE).is_some() {
        return Err(io::Error::other(format!("{NO_IO_URING_VARIABLE} is set")));
    }
    uring::check()
}

/// Refuse `aio=io_uring` where the host has none for us.
fn check_aio(options: &RawOptions) -> Result<(), OpenError> {
    if options.aio != Aio::IoUring {
        return Ok(());
    }
    uring::check().map_err(|source| OpenError::NoIoUring { path: options.path.clone(), source })
}

/// Say once in the life of the process that threads serve where io_uring should.
fn tell_fallback(error: &io::Error) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        log::warn!("io_uring is not available ({error}): threads serve the images");
    });
}

impl Node for RawImage {
    fn geometry(&self) -> Geometry {
        self.current.look(Opened::geometry)
    }

    fn channel(&self) -> io::Result<Box<dyn Channel>> {
        let aio = self.current.look(|opened| opened.options.aio);
        if aio != Aio::Threads {
            let ring = check_io_uring(aio).and_then(|()| UringChannel::new(self.current.seat()));
            match ring {
                Ok(channel) => return Ok(Box::new(channel)),
                Err(error) if aio == Aio::IoUring => return Err(error),
                Err(error) => tell_fallback(&error),
            }
        }
        Ok(Box::new(ThreadsChannel::new(self.current.seat(), self.pool.clone())?))
    }

    fn resize(&self, size_bytes: u64) -> Result<(), Errno> {
        let _control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = self.current.get();
        if opened.kind == ImageKind::HostDevice {
            let own = probe::size_bytes(opened.file()).map_err(|error| Errno::from_io(&error))?;
            if own != size_bytes {
                return Err(Errno::EOPNOTSUPP);
            }
            opened.set_size_bytes(own);
            return Ok(());
        }
        resize_file(&opened, size_bytes)
    }
}

fn resize_file(opened: &Opened, size_bytes: u64) -> Result<(), Errno> {
    if opened.options.read_only {
        return Err(Errno::EROFS);
    }
    if !size_bytes.is_multiple_of(u64::from(opened.size_unit_bytes())) {
        return Err(Errno::EINVAL);
    }
    if i64::try_from(size_bytes).is_err() {
        return Err(Errno::EFBIG);
    }
    // A smaller size is in force before the file is cut, so that no new write grows it again.
    let before = opened.size_bytes();
    opened.set_size_bytes(before.min(size_bytes));
    let resized = cut_or_grow(opened, size_bytes);
    opened.set_size_bytes(if resized.is_ok() { size_bytes } else { before });
    resized
}

/// Give the file its length once no write is under way beyond it; such a write would make it
/// longer again. `EBUSY` if one does not end.
fn cut_or_grow(opened: &Opened, size_bytes: u64) -> Result<(), Errno> {
    let mut turn = opened.writes().join(size_bytes..u64::MAX, true);
    if !turn.wait_until(Some(Instant::now() + SHRINK_PATIENCE)) {
        return Err(Errno::EBUSY);
    }
    opened.file().set_len(size_bytes).map_err(|error| Errno::from_io(&error))
}
