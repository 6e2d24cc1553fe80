//! An op on its way through the kernel, whoever carries the system calls out.
//!
//! Knows: which system call an op needs next, and what its result means. Must not know: io_uring
//! or threads, which both run tasks and so cannot differ in what they do. Invariants: a task ends
//! once; it ends well only when all of it is done; a write that must be durable ends after the
//! flush that made it so; nothing is in the kernel while a task waits for its turn.

use std::ops::Range;
use std::sync::Arc;

use super::bounce::{Bounced, Direction, Memory, Pending, padded};
use super::current::Kept;
use super::direct::{Direct, transfer_call};
use super::open::Opened;
use super::transfer::{Progress, Stalls};
use super::turns::{FlushTurn, Turn};
use crate::block::waker::Waker;
use crate::block::{Op, OpKind, Ticket};
use crate::errno::Errno;

/// A system call on the image.
#[derive(Debug)]
pub(super) enum Call<'a> {
    /// `preadv`. Its result is the number of bytes.
    Read {
        /// Where the data goes; valid until the task is told the result.
        pieces: &'a [libc::iovec],
        /// From where in the image.
        offset_bytes: u64,
    },
    /// `pwritev`. Its result is the number of bytes.
    Write {
        /// Where the data is; valid until the task is told the result.
        pieces: &'a [libc::iovec],
        /// To where in the image.
        offset_bytes: u64,
    },
    /// `fdatasync`.
    Datasync,
    /// `fallocate`.
    Allocate {
        /// `FALLOC_FL_*`.
        mode: i32,
        /// From where in the image.
        offset_bytes: u64,
        /// How much.
        bytes: u64,
    },
}

/// What is to be done for a task.
#[derive(Debug)]
pub(super) enum Next<'a> {
    /// Carry this out on the image that it was submitted to, and tell the task the result.
    Call(&'a Opened, Call<'a>),
    /// Ask again when the waker was woken.
    Wait,
    /// That was all.
    Ended(Result<(), Errno>),
}

/// An op with the image it was submitted to.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) ticket: Ticket,
    image: Kept,
    claim: Option<Claim>,
    stage: Stage,
    /// A flush follows before the end.
    durable: bool,
    pieces: Vec<libc::iovec>,
}

// SAFETY: `pieces` point into memory that the task itself keeps mapped (its buffers, its bounce
// region or a static), and that memory may be accessed from any thread.
unsafe impl Send for Task {}

#[derive(Debug)]
enum Stage {
    Direct(Direct),
    /// Takes memory when it is first run, and only within the image's budget.
    Pending(Box<Pending>),
    Bounced(Box<Bounced>),
    Allocate(Allocation),
    Sync(Sync),
    Ended(Result<(), Errno>),
}

/// A turn to write, taken when the task is first run: who stands in line makes progress.
#[derive(Debug)]
struct Claim {
    range: Range<u64>,
    exclusive: bool,
    turn: Option<Turn>,
}

#[derive(Debug)]
struct Allocation {
    range: Range<u64>,
    way: Way,
    purpose: Purpose,
    stalls: Stalls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Punch,
    ZeroRange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Discard,
    Zero,
}

/// A flush; given up if dropped while under way.
#[derive(Debug)]
struct Sync {
    image: Kept,
    number: u64,
    running: bool,
}

impl Drop for Sync {
    fn drop(&mut self) {
        if self.running {
            self.image.flushes.abandon();
        }
    }
}

impl Task {
    /// An op that was just submitted.
    pub(super) fn new(op: Op, image: Kept) -> Self {
        let io = op.io();
        let durable = match &op.kind {
            OpKind::Write { fua, .. } | OpKind::WriteZeroes { fua, .. } => *fua,
            _ => false,
        };
        let mut task = Self {
            ticket: op.ticket,
            durable: durable && !image.options.no_flush,
            image,
            claim: None,
            stage: Stage::Ended(Ok(())),
            pieces: Vec::new(),
        };
        let range = io.offset_bytes..io.offset_bytes.saturating_add(io.bytes);
        task.stage = match task.first_stage(op.kind, range) {
            Ok(stage) => stage,
            Err(errno) => Stage::Ended(Err(errno)),
        };
        task
    }

    fn first_stage(&mut self, kind: OpKind, range: Range<u64>) -> Result<Stage, Errno> {
        let image = &self.image;
        let writes = !matches!(kind, OpKind::Read { .. } | OpKind::Flush | OpKind::GetId);
        if writes && image.options.read_only {
            return Err(Errno::EROFS);
        }
        if range.end > image.size_bytes() {
            return Err(Errno::EIO);
        }
        let unit = u64::from(image.request_alignment());
        if !range.start.is_multiple_of(unit) || !range.end.is_multiple_of(unit) {
            return Err(Errno::EINVAL);
        }
        if range.is_empty() && !matches!(kind, OpKind::Flush) {
            return Ok(Stage::Ended(Ok(())));
        }
        match kind {
            OpKind::Read { into, .. } => {
                Ok(self.transfer(Memory::Guest(into), Direction::Read, range))
            }
            OpKind::Write { from, .. } => {
                Ok(self.transfer(Memory::Guest(from), Direction::Write, range))
            }
            OpKind::Flush if image.options.no_flush || image.options.read_only => {
                Ok(Stage::Ended(Ok(())))
            }
            OpKind::Flush => Ok(self.sync()),
            OpKind::GetId => Ok(Stage::Ended(Ok(()))),
            OpKind::Discard { .. } => Ok(self.discard(range)),
            OpKind::WriteZeroes { may_unmap, .. } => Ok(self.zero(range, may_unmap)),
        }
    }

    /// Move data, through aligned memory where the kernel would refuse ours.
    fn transfer(&mut self, memory: Memory, direction: Direction, range: Range<u64>) -> Stage {
        let alignment = self.image.alignment;
        let align = u64::from(alignment.offset_bytes);
        let whole = range.start.is_multiple_of(align) && range.end.is_multiple_of(align);
        let fits = match &memory {
            Memory::Zeroes => whole,
            Memory::Guest(buffers) => alignment.fits(range.start, buffers.iovecs()),
        };
        if direction == Direction::Write {
            self.claim(padded(&range, align), !whole);
        }
        if !fits {
            let pending = Pending::new(memory, direction, range, alignment.offset_bytes);
            return Stage::Pending(Box::new(pending));
        }
        Stage::Direct(Direct::new(memory, direction, &range))
    }

    /// Stand in line with the writes that may overlap, once the task runs.
    fn claim(&mut self, range: Range<u64>, exclusive: bool) {
        self.claim = Some(Claim { range, exclusive, turn: None });
    }

    fn discard(&mut self, range: Range<u64>) -> Stage {
        let unit = u64::from(self.image.allocation_bytes);
        // Only whole units: what a discard leaves behind is up to us.
        let range = range.start.next_multiple_of(unit)..range.end - range.end % unit;
        if range.is_empty() || !self.image.options.discard || !self.image.can_punch() {
            return Stage::Ended(Ok(()));
        }
        self.claim(range.clone(), false);
        Stage::Allocate(Allocation::new(range, Way::Punch, Purpose::Discard))
    }

    fn zero(&mut self, range: Range<u64>, may_unmap: bool) -> Stage {
        let image = &self.image;
        let unit = u64::from(image.allocation_bytes);
        let whole = range.start.is_multiple_of(unit) && range.end.is_multiple_of(unit);
        let way = if may_unmap && image.options.discard && image.can_punch() {
            Way::Punch
        } else {
            Way::ZeroRange
        };
        if !whole || (way == Way::ZeroRange && !image.can_zero_range()) {
            return self.transfer(Memory::Zeroes, Direction::Write, range);
        }
        self.claim(range.clone(), false);
        Stage::Allocate(Allocation::new(range, way, Purpose::Zero))
    }

    fn sync(&self) -> Stage {
        let image = self.image.clone();
        let number = image.flushes.join();
        Stage::Sync(Sync { image, number, running: false })
    }

    /// What is to be done now. A waker is woken when a waiting task should ask again; without one
    /// use [`wait`](Self::wait). Asking twice gives the same answer.
    pub(super) fn next(&mut self, waker: Option<&Arc<Waker>>) -> Next<'_> {
        if !self.take_turn(waker) || !self.take_memory(waker) {
            return Next::Wait;
        }
        if let Stage::Sync(sync) = &mut self.stage
            && !sync.running
        {
            match self.image.flushes.ask(sync.number, waker) {
                FlushTurn::Wait => return Next::Wait,
                FlushTurn::Run => sync.running = true,
                FlushTurn::Covered => self.stage = Stage::Ended(Ok(())),
                FlushTurn::Failed => self.stage = Stage::Ended(Err(Errno::EIO)),
            }
        }
        // Whoever waited for its turn may have lost its memory meanwhile.
        if let Stage::Direct(direct) = &self.stage
            && !direct.is_intact()
        {
            self.end(Err(Errno::EIO));
        }
        let call = match &self.stage {
            Stage::Pending(_) => return Next::Wait,
            Stage::Ended(result) => return Next::Ended(*result),
            Stage::Sync(_) => Call::Datasync,
            Stage::Allocate(allocation) => allocation.call(),
            Stage::Direct(direct) => direct.call(&mut self.pieces),
            Stage::Bounced(bounced) => {
                let (direction, piece, offset_bytes) = bounced.call();
                self.pieces.clear();
                self.pieces.push(piece);
                transfer_call(direction, &self.pieces, offset_bytes)
            }
        };
        Next::Call(&self.image, call)
    }

    /// True once it is this task's turn to write, or there is nothing to wait for.
    fn take_turn(&mut self, waker: Option<&Arc<Waker>>) -> bool {
        let Some(claim) = &mut self.claim else { return true };
        if claim.turn.is_none() {
            let turn = self.image.writes().join(claim.range.clone(), claim.exclusive);
            claim.turn = Some(turn);
            // Asked once more in line: whoever cuts the image short waits for those in line before
            // it, and for nobody who comes later.
            if claim.range.end > self.image.size_bytes() {
                self.end(Err(Errno::EIO));
                return true;
            }
        }
        match (&mut claim.turn, waker) {
            (Some(turn), Some(waker)) => turn.is_up(waker),
            (Some(turn), None) => {
                turn.wait();
                true
            }
            (None, _) => true,
        }
    }

    /// True once this task has the memory that it needs. Comes after the turn, so that whoever has
    /// memory waits for nobody.
    fn take_memory(&mut self, waker: Option<&Arc<Waker>>) -> bool {
        let Stage::Pending(pending) = &mut self.stage else { return true };
        if !pending.may_begin(&self.image.bounces, waker) {
            return false;
        }
        if let Stage::Pending(pending) = std::mem::replace(&mut self.stage, Stage::Ended(Ok(()))) {
            match pending.begin() {
                Ok(bounced) => self.stage = Stage::Bounced(Box::new(bounced)),
                Err(errno) => self.end(Err(errno)),
            }
        }
        true
    }

    /// Whether it reads, and waits for nobody before the kernel.
    pub(super) fn is_ready_read(&self) -> bool {
        matches!(&self.stage, Stage::Direct(direct) if direct.is_read())
    }

    /// Block until [`next`](Self::next) may have another answer.
    pub(super) fn wait(&self) {
        self.image.flushes.wait();
    }

    /// Take the result of the call that [`next`](Self::next) asked for.
    pub(super) fn advance(&mut self, result: Result<u32, Errno>) {
        let progress = match &mut self.stage {
            Stage::Direct(direct) => direct.after(result),
            Stage::Bounced(bounced) => bounced.after(result),
            Stage::Sync(sync) => sync.after(result),
            Stage::Allocate(allocation) => match (result, allocation.purpose) {
                (Ok(_), _) => Progress::Finished,
                (Err(errno), purpose) if is_unsupported(errno, purpose) => {
                    return self.allocate_otherwise(errno);
                }
                (Err(errno), _) => allocation.stalls.judge(errno),
            },
            Stage::Pending(_) | Stage::Ended(_) => return,
        };
        match progress {
            Progress::More => {}
            Progress::Failed(errno) => self.end(Err(errno)),
            Progress::Finished if self.durable => {
                self.durable = false;
                self.claim = None;
                self.stage = self.sync();
            }
            Progress::Finished => self.end(Ok(())),
        }
    }

    fn end(&mut self, result: Result<(), Errno>) {
        self.claim = None;
        self.stage = Stage::Ended(result);
    }

    /// The host cannot do it that way: try the next one.
    fn allocate_otherwise(&mut self, errno: Errno) {
        let Stage::Allocate(allocation) = &mut self.stage else { return };
        // EINVAL may be about this range only.
        let for_good = errno != Errno::EINVAL;
        match allocation.way {
            Way::Punch if for_good => self.image.cannot_punch(),
            Way::ZeroRange if for_good => self.image.cannot_zero_range(),
            _ => {}
        }
        let punched = allocation.way == Way::Punch;
        if allocation.purpose == Purpose::Discard {
            return self.end(Ok(()));
        }
        if punched && self.image.can_zero_range() {
            allocation.way = Way::ZeroRange;
            allocation.stalls = Stalls::default();
            return;
        }
        // The turn that was taken is for the same range, and is given up for a new one.
        let range = allocation.range.clone();
        self.claim = None;
        self.stage = self.transfer(Memory::Zeroes, Direction::Write, range);
    }
}

/// Whether fallocate says that it cannot do this here, rather than that it failed.
fn is_unsupported(errno: Errno, purpose: Purpose) -> bool {
    match errno.number() {
        libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY | libc::ENODEV => true,
        libc::EINVAL => purpose == Purpose::Zero,
        _ => false,
    }
}

impl Allocation {
    fn new(range: Range<u64>, way: Way, purpose: Purpose) -> Self {
        Self { range, way, purpose, stalls: Stalls::default() }
    }

    fn call(&self) -> Call<'static> {
        // The size is never changed, even if the image was cut short by somebody else.
        let mode = libc::FALLOC_FL_KEEP_SIZE
            | match self.way {
                Way::Punch => libc::FALLOC_FL_PUNCH_HOLE,
                Way::ZeroRange => libc::FALLOC_FL_ZERO_RANGE,
            };
        let (offset_bytes, bytes) = (self.range.start, self.range.end - self.range.start);
        Call::Allocate { mode, offset_bytes, bytes }
    }
}

impl Sync {
    fn after(&mut self, result: Result<u32, Errno>) -> Progress {
        self.running = false;
        self.image.flushes.end(result.is_ok());
        // Also EINTR and EAGAIN: they may be what the host met when it wrote back, and it tells of
        // that once. Asked again it would say that all is well, and the data would be gone.
        let Err(errno) = result else { return Progress::Finished };
        log::error!(
            "image '{}': a flush failed with {errno}: what was not durable yet may be lost, and \
             every flush fails until the image is reopened",
            self.image.options.path.display()
        );
        Progress::Failed(errno)
    }
}

#[cfg(test)]
mod tests;
