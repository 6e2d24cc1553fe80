//! Requests that `O_DIRECT` does not take as they are, through aligned memory of our own.
//!
//! Knows: how to cut a range into aligned windows, and how to copy. Must not know: system calls.
//! Invariants: a window is read before it is written if the request covers only a part of it, and is
//! not written if the request's memory was not there when it was copied; a
//! request takes memory when its budget lets it, [`WINDOW_BYTES_MAX`] at most whatever its length.

use std::ops::Range;
use std::sync::Arc;

use vm_memory::{MmapRegion, VolatileMemory, VolatileSlice};

use super::budget::{Budget, Lease};
use super::transfer::{Progress, Transfer};
use crate::block::Buffers;
use crate::block::buffers::fill_zero;
use crate::block::waker::Waker;
use crate::errno::Errno;

/// The most memory that one request takes, a multiple of every alignment.
const WINDOW_BYTES_MAX: u64 = 1 << 20;

/// The other end of a transfer.
#[derive(Debug)]
pub(super) enum Memory {
    /// The request's own.
    Guest(Buffers),
    /// As many zeroes as it takes; only ever written to the image.
    Zeroes,
}

/// Which way the data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the image.
    Read,
    /// To the image.
    Write,
}

/// An aligned part of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    start_bytes: u64,
    bytes: u64,
    /// Its content must be read first.
    fetch: bool,
}

/// The window for the part of `range` from `position_bytes` on.
///
/// A write has a window of one block for a block it covers in part, so that no more is read than
/// must be.
fn window(position_bytes: u64, range: &Range<u64>, align: u64, direction: Direction) -> Window {
    let start_bytes = position_bytes - position_bytes % align;
    let full = match direction {
        Direction::Read => (range.end - start_bytes).next_multiple_of(align),
        Direction::Write if start_bytes != position_bytes => 0,
        Direction::Write => {
            let rest = range.end - start_bytes;
            rest - rest % align
        }
    };
    let fetch = direction == Direction::Read || full == 0;
    Window { start_bytes, bytes: full.clamp(align, WINDOW_BYTES_MAX), fetch }
}

/// The aligned range that a request touches.
pub(super) fn padded(range: &Range<u64>, align: u64) -> Range<u64> {
    range.start - range.start % align..range.end.next_multiple_of(align)
}

/// A request that has no aligned memory yet.
#[derive(Debug)]
pub(super) struct Pending {
    memory: Memory,
    direction: Direction,
    range: Range<u64>,
    align: u64,
    lease: Option<Lease>,
}

impl Pending {
    /// A request that is to go through memory aligned to `align` bytes.
    pub(super) fn new(memory: Memory, direction: Direction, range: Range<u64>, align: u32) -> Self {
        Self { memory, direction, range, align: u64::from(align), lease: None }
    }

    fn window_bytes(&self) -> u64 {
        let padded = padded(&self.range, self.align);
        (padded.end - padded.start).min(WINDOW_BYTES_MAX)
    }

    /// Whether the budget lets it begin; if not, `waker` is woken once it does. Without a waker
    /// this blocks until then.
    pub(super) fn may_begin(&mut self, budget: &Arc<Budget>, waker: Option<&Arc<Waker>>) -> bool {
        let bytes = self.window_bytes();
        let lease = self.lease.get_or_insert_with(|| budget.join(bytes));
        match waker {
            Some(waker) => lease.is_up(waker),
            None => {
                lease.wait();
                true
            }
        }
    }

    /// Take the memory.
    ///
    /// # Errors
    /// `ENOMEM`; `EIO` where the request's memory is not there any more.
    pub(super) fn begin(self) -> Result<Bounced, Errno> {
        let bytes = usize::try_from(self.window_bytes()).map_err(|_| Errno::ENOMEM)?;
        let region = MmapRegion::new(bytes.next_multiple_of(4096)).map_err(|_| Errno::ENOMEM)?;
        let Self { memory, direction, range, align, lease } = self;
        let window = window(range.start, &range, align, direction);
        let transfer = Transfer::new(window.start_bytes, window.bytes);
        let position_bytes = range.start;
        let mut bounced = Bounced {
            memory,
            direction,
            range,
            align,
            region,
            position_bytes,
            window,
            storing: false,
            transfer,
            _lease: lease,
        };
        bounced.enter_window()?;
        Ok(bounced)
    }
}

/// A request on its way through aligned memory.
#[derive(Debug)]
pub(super) struct Bounced {
    memory: Memory,
    direction: Direction,
    range: Range<u64>,
    align: u64,
    region: MmapRegion,
    /// Everything before this is done.
    position_bytes: u64,
    window: Window,
    /// The window is being written, not read.
    storing: bool,
    transfer: Transfer,
    /// Given back after the region: fields drop in their order.
    _lease: Option<Lease>,
}

impl Bounced {
    /// What the kernel is to do next.
    pub(super) fn call(&self) -> (Direction, libc::iovec, u64) {
        let direction = if self.storing { Direction::Write } else { Direction::Read };
        let moved = usize::try_from(self.transfer.moved_bytes()).unwrap_or(0);
        let remaining = usize::try_from(self.transfer.remaining_bytes()).unwrap_or(0);
        let iov_base = self.region.as_ptr().wrapping_add(moved).cast();
        let piece = libc::iovec { iov_base, iov_len: remaining };
        (direction, piece, self.transfer.position_bytes())
    }

    /// Take the result of one call.
    pub(super) fn after(&mut self, result: Result<u32, Errno>) -> Progress {
        match self.transfer.after(result) {
            Progress::Finished => self.end_transfer().unwrap_or_else(Progress::Failed),
            other => other,
        }
    }

    fn end_transfer(&mut self) -> Result<Progress, Errno> {
        if self.direction == Direction::Read {
            self.copy()?;
        } else if !self.storing {
            self.copy()?;
            self.store();
            return Ok(Progress::More);
        }
        self.position_bytes = self.part().end;
        if self.position_bytes == self.range.end {
            return Ok(Progress::Finished);
        }
        self.window = window(self.position_bytes, &self.range, self.align, self.direction);
        self.enter_window()?;
        Ok(Progress::More)
    }

    fn enter_window(&mut self) -> Result<(), Errno> {
        self.storing = false;
        self.transfer = Transfer::new(self.window.start_bytes, self.window.bytes);
        if !self.window.fetch {
            self.copy()?;
            self.store();
        }
        Ok(())
    }

    fn store(&mut self) {
        self.storing = true;
        self.transfer = Transfer::new(self.window.start_bytes, self.window.bytes);
    }

    /// The part of the request that lies in the window.
    fn part(&self) -> Range<u64> {
        self.position_bytes..self.range.end.min(self.window.start_bytes + self.window.bytes)
    }

    /// Copy the part between the request's memory and the window. `EIO` where that memory is not
    /// there: the window holds zeroes then that nobody wrote.
    fn copy(&self) -> Result<(), Errno> {
        let part = self.part();
        let index = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let at = index(part.start - self.window.start_bytes);
        let inside = self.region.get_slice(at, index(part.end - part.start));
        let inside = inside.map_err(|_| Errno::EIO)?;
        match &self.memory {
            Memory::Zeroes => fill_zero(inside),
            Memory::Guest(buffers) => {
                copy_guest(buffers, index(part.start - self.range.start), inside, self.direction);
                if !buffers.is_intact() {
                    return Err(Errno::EIO);
                }
            }
        }
        Ok(())
    }
}

/// Copy between `inside` and the request's memory after its first `skip` bytes.
fn copy_guest(buffers: &Buffers, skip: usize, inside: VolatileSlice<'_>, direction: Direction) {
    let (mut skip, mut inside) = (skip, inside);
    for piece in buffers.slices() {
        if skip >= piece.len() {
            skip -= piece.len();
            continue;
        }
        let step = (piece.len() - skip).min(inside.len());
        let (Ok(guest), Ok(ours)) = (piece.subslice(skip, step), inside.subslice(0, step)) else {
            return;
        };
        match direction {
            Direction::Read => ours.copy_to_volatile_slice(guest),
            Direction::Write => guest.copy_to_volatile_slice(ours),
        }
        skip = 0;
        match inside.offset(step) {
            Ok(rest) if !rest.is_empty() => inside = rest,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests;
