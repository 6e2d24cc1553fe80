//! Image locks as QEMU takes them.
//!
//! Knows: QEMU's lock bytes. Must not know: what the image is used for beyond reading, writing and
//! resizing. Invariants: the locks are open-file-description locks on the description that does
//! the I/O, so they last until its last request has ended, whoever dies meanwhile; every lock is
//! a read lock, so that taking one never fails for another user of this protocol: a conflict is
//! found by asking who else has a lock (`raw_apply_lock_bytes` and `raw_check_lock_bytes` in
//! QEMU's block/file-posix.c).
//!
//! One lock more is ours: a [`Mark`] for each disk that is shown from the description. Readers do not
//! exclude each other, so it alone tells the next daemon that a dead one's reads, which go into a
//! guest's memory, have not ended.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// First of the bytes that say "I do this" (`RAW_LOCK_PERM_BASE`).
const DOES_BASE: i64 = 100;
/// First of the bytes that say "nobody else may do this" (`RAW_LOCK_SHARED_BASE`).
const FORBIDS_BASE: i64 = 200;
/// QEMU's permissions in the order of their bytes (`BLK_PERM_*`).
const PERMISSIONS: [&str; 4] = ["consistent read", "write", "write unchanged", "resize"];

const CONSISTENT_READ: u8 = 1 << 0;
const WRITE: u8 = 1 << 1;
const WRITE_UNCHANGED: u8 = 1 << 2;
const RESIZE: u8 = 1 << 3;
const ALL: u8 = CONSISTENT_READ | WRITE | WRITE_UNCHANGED | RESIZE;

/// What we do with an image, and what we let others do, as bits in the order of `PERMISSIONS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    does: u8,
    shares: u8,
}

impl Claim {
    /// A disk's claim: nobody else may change the image, a writer also bars copies by
    /// `write unchanged`.
    pub(super) fn new(read_only: bool) -> Self {
        if read_only {
            Self { does: CONSISTENT_READ, shares: CONSISTENT_READ | WRITE_UNCHANGED }
        } else {
            Self { does: CONSISTENT_READ | WRITE | RESIZE, shares: CONSISTENT_READ }
        }
    }

    /// Nothing claimed.
    pub(super) const NONE: Self = Self { does: 0, shares: ALL };

    /// Whether this claim asks for nothing that `other` did not ask for.
    pub(super) fn is_within(self, other: Self) -> bool {
        self.does & !other.does == 0 && other.shares & !self.shares == 0
    }

    /// The bytes that are locked for this claim.
    fn bytes(self) -> impl Iterator<Item = i64> {
        let set =
            |bits: u8, base| (0i64..4).filter(move |i| bits >> i & 1 == 1).map(move |i| base + i);
        set(self.does, DOES_BASE).chain(set(!self.shares & ALL, FORBIDS_BASE))
    }
}

/// The byte that stands for one disk, whoever shows it and from whatever process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(i64);

impl Mark {
    /// Far from QEMU's bytes, and from those of any image: two disks meet in one of 2^62 bytes only.
    const BASE: u64 = 1 << 62;

    /// The mark of the disk that has this number in all its lives.
    pub(super) fn of(disk: u64) -> Self {
        Self((Self::BASE | (disk % Self::BASE)).cast_signed())
    }
}

/// A file with its claim and marks, which end with it.
///
/// Closing alone would not do: a process that forks meanwhile has copies of the descriptor until
/// its child executes something else, and the lock lasts as long as any of them.
#[derive(Debug)]
pub(super) struct Claimed {
    file: File,
    claim: Claim,
    /// A disk that is being made beside the one it repeats has the mark twice, for a moment.
    marks: Mutex<Vec<Mark>>,
}

impl Claimed {
    /// Take over a file that has the locks of `claim`.
    pub(super) fn new(file: File, claim: Claim) -> Self {
        Self { file, claim, marks: Mutex::default() }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn claim(&self) -> Claim {
        self.claim
    }

    fn marks(&self) -> MutexGuard<'_, Vec<Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mark the description, unless another has the mark. Without locks, nobody is asked.
    ///
    /// # Errors
    /// Another has it, or what the host says; then it is not marked.
    pub(super) fn mark(&self, mark: Mark) -> Result<(), LockError> {
        self.mark_unasked(mark)?;
        let asked =
            if self.claim == Claim::NONE { Ok(false) } else { is_locked(&self.file, mark.0) };
        let found = asked.and_then(|found| if found { Err(LockError::Marked) } else { Ok(()) });
        found.inspect_err(|_| self.unmark(mark))
    }

    /// Mark the description, whoever else has the mark.
    fn mark_unasked(&self, mark: Mark) -> Result<(), LockError> {
        if self.claim != Claim::NONE {
            set(&self.file, libc::F_RDLCK, mark.0)?;
        }
        self.marks().push(mark);
        Ok(())
    }

    /// Take back one [`Claimed::mark`].
    pub(super) fn unmark(&self, mark: Mark) {
        let mut marks = self.marks();
        let Some(index) = marks.iter().position(|found| *found == mark) else { return };
        marks.swap_remove(index);
        if self.claim != Claim::NONE && !marks.contains(&mark) {
            let _ = set(&self.file, libc::F_UNLCK, mark.0);
        }
    }

    /// Take over the marks of the description whose place this one takes. On the same file nobody
    /// else can have them.
    ///
    /// # Errors
    /// As [`Claimed::mark`].
    pub(super) fn mark_like(&self, before: &Self, is_same_file: bool) -> Result<(), LockError> {
        let marks = before.marks().clone();
        let mark = |mark| if is_same_file { self.mark_unasked(mark) } else { self.mark(mark) };
        marks.into_iter().try_for_each(mark)
    }

    /// The same once more: disks may have come and gone since. What the host refuses now is told.
    pub(super) fn follow_marks(&self, before: &Self) {
        let wanted = before.marks().clone();
        let own = std::mem::take(&mut *self.marks());
        for mark in &wanted {
            if let Err(error) = self.mark_unasked(*mark) {
                log::error!("a disk's image is not marked: {error:?}");
            }
        }
        for mark in own.into_iter().filter(|mark| !wanted.contains(mark)) {
            self.marks().push(mark);
            self.unmark(mark);
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        release(&self.file, self.claim);
        let marks = self.marks().clone();
        marks.into_iter().for_each(|mark| self.unmark(mark));
    }
}

/// Why a claim was not granted.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another has a claim against it.
    Conflict {
        /// QEMU's name of the permission.
        permission: &'static str,
        /// The other does it and we do not share it; otherwise the other forbids it.
        shared: bool,
    },
    /// Another has the mark of the same disk.
    Marked,
    /// The file system or kernel cannot do such locks.
    Unsupported(io::Error),
    /// The host says something else.
    Host(io::Error),
}

fn fcntl_lock(file: &File, command: i32, kind: i32, byte: i64) -> io::Result<libc::flock> {
    // SAFETY: all-zero is a valid flock, and `l_pid` must be 0 for these commands.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    #[expect(clippy::cast_possible_truncation, reason = "lock kinds and whences are 0 to 2")]
    {
        lock.l_type = kind as i16;
        lock.l_whence = libc::SEEK_SET as i16;
    }
    lock.l_start = byte;
    lock.l_len = 1;
    // SAFETY: the descriptor is open and the structure outlives the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(lock) }
}

fn set(file: &File, kind: i32, byte: i64) -> Result<(), LockError> {
    match fcntl_lock(file, libc::F_OFD_SETLK, kind, byte) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.raw_os_error() {
            Some(
                libc::EINVAL
                | libc::ENOSYS
                | libc::EOPNOTSUPP
                | libc::ENOLCK
                | libc::ENOTTY
                | libc::EOVERFLOW,
            ) => LockError::Unsupported(error),
            _ => LockError::Host(error),
        }),
    }
}

/// Lock the bytes of a claim without asking whether others object.
///
/// # Errors
/// The host refuses; then nothing is locked.
pub(super) fn apply(file: &File, claim: Claim) -> Result<(), LockError> {
    for byte in claim.bytes() {
        if let Err(error) = set(file, libc::F_RDLCK, byte) {
            release(file, claim);
            return Err(error);
        }
    }
    Ok(())
}

/// Give up the bytes of a claim. Closing the description does so too.
pub(super) fn release(file: &File, claim: Claim) {
    for byte in claim.bytes() {
        let _ = set(file, libc::F_UNLCK, byte);
    }
}

/// Ask whether others object to a claim that was applied.
///
/// # Errors
/// The first objection, in QEMU's order.
pub(super) fn check(file: &File, claim: Claim) -> Result<(), LockError> {
    for (i, permission) in PERMISSIONS.into_iter().enumerate() {
        let index = i64::try_from(i).unwrap_or_default();
        if claim.does >> i & 1 == 1 && is_locked(file, FORBIDS_BASE + index)? {
            return Err(LockError::Conflict { permission, shared: false });
        }
        if claim.shares >> i & 1 == 0 && is_locked(file, DOES_BASE + index)? {
            return Err(LockError::Conflict { permission, shared: true });
        }
    }
    Ok(())
}

/// Whether another description has a lock on the byte.
fn is_locked(file: &File, byte: i64) -> Result<bool, LockError> {
    let found =
        fcntl_lock(file, libc::F_OFD_GETLK, libc::F_WRLCK, byte).map_err(LockError::Host)?;
    Ok(i32::from(found.l_type) != libc::F_UNLCK)
}

/// Lock a claim and ask whether others object.
///
/// # Errors
/// An objection or what the host says; then nothing is locked.
pub(super) fn acquire(file: &File, claim: Claim) -> Result<(), LockError> {
    apply(file, claim)?;
    check(file, claim).inspect_err(|_| release(file, claim))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_descriptions() -> (File, File, tempfile::NamedTempFile) {
        let named = tempfile::NamedTempFile::new().unwrap();
        (named.reopen().unwrap(), named.reopen().unwrap(), named)
    }

    #[test]
    fn two_writers_exclude_each_other_until_one_lets_go() {
        let (first, second, _named) = two_descriptions();
        let writer = Claim::new(false);
        acquire(&first, writer).unwrap();
        let refused = acquire(&second, writer).unwrap_err();
        assert!(
            matches!(refused, LockError::Conflict { permission: "write", shared: false }),
            "{refused:?}"
        );
        release(&first, writer);
        acquire(&second, writer).unwrap();
    }

    #[test]
    fn readers_share_and_bar_a_writer() {
        let (first, second, named) = two_descriptions();
        let reader = Claim::new(true);
        acquire(&first, reader).unwrap();
        acquire(&second, reader).unwrap();
        let third = named.reopen().unwrap();
        let refused = acquire(&third, Claim::new(false)).unwrap_err();
        assert!(
            matches!(refused, LockError::Conflict { permission: "write", shared: false }),
            "{refused:?}"
        );
        release(&first, reader);
        release(&second, reader);
        acquire(&third, Claim::new(false)).unwrap();
    }

    #[test]
    fn a_writer_bars_a_reader_in_qemus_words() {
        let (first, second, _named) = two_descriptions();
        acquire(&first, Claim::new(false)).unwrap();
        let refused = acquire(&second, Claim::new(true)).unwrap_err();
        assert!(
            matches!(refused, LockError::Conflict { permission: "write", shared: true }),
            "{refused:?}"
        );
    }

    #[test]
    fn a_mark_keeps_out_the_same_disk_and_no_other() {
        let (first, second, named) = two_descriptions();
        let reader = |file| Claimed::new(file, Claim::new(true));
        let (first, second) = (reader(first), reader(second));
        let (disk, other) = (Mark::of(u64::MAX), Mark::of(1));
        first.mark(disk).unwrap();
        second.mark(other).unwrap();
        assert!(matches!(second.mark(disk), Err(LockError::Marked)));
        first.mark(disk).unwrap();
        first.unmark(disk);
        assert!(matches!(second.mark(disk), Err(LockError::Marked)), "one of two is left");
        first.unmark(disk);
        second.mark(disk).unwrap();
        drop(second);
        first.mark(disk).unwrap();
        let unlocked = Claimed::new(named.reopen().unwrap(), Claim::NONE);
        unlocked.mark(disk).unwrap();
    }

    #[test]
    fn a_description_takes_over_the_marks_of_the_one_before_and_what_came_of_them() {
        let (first, second, named) = two_descriptions();
        let reader = |file| Claimed::new(file, Claim::new(true));
        let (first, second) = (reader(first), reader(second));
        let third = reader(named.reopen().unwrap());
        let [stays, goes, comes] = [1, 2, 3].map(Mark::of);
        first.mark(stays).unwrap();
        first.mark(goes).unwrap();
        assert!(matches!(second.mark_like(&first, false), Err(LockError::Marked)));
        let second = reader(named.reopen().unwrap());
        second.mark_like(&first, true).unwrap();
        first.unmark(goes);
        first.mark(comes).unwrap();
        second.follow_marks(&first);
        drop(first);
        for taken in [stays, comes] {
            assert!(matches!(third.mark(taken), Err(LockError::Marked)), "{taken:?}");
        }
        third.mark(goes).unwrap();
    }

    #[test]
    fn a_reader_claims_no_more_than_a_writer() {
        let (reader, writer) = (Claim::new(true), Claim::new(false));
        assert!(reader.is_within(writer) && !writer.is_within(reader));
        assert!(Claim::NONE.is_within(reader));
        assert_eq!(Claim::NONE.bytes().count(), 0);
    }
}
