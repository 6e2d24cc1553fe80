//! Requests that the kernel takes as they are.
//!
//! Knows: which pieces of memory are still to be moved. Must not know: who carries a call out.
//! Invariants: no call has more pieces than the kernel takes ([`PIECES_MAX`]), however many the
//! request has; memory that is known to have gone is not asked for, and nothing ends well with it. The
//! kernel says `EFAULT` where it is gone and not touched by us yet; from then on there are zeroes.

use std::ops::Range;

use super::bounce::{Direction, Memory};
use super::task::Call;
use super::transfer::{PIECES_MAX, Progress, Transfer, pieces_after};
use crate::errno::Errno;

/// The call that moves these pieces.
pub(super) fn transfer_call(
    direction: Direction,
    pieces: &[libc::iovec],
    offset_bytes: u64,
) -> Call<'_> {
    match direction {
        Direction::Read => Call::Read { pieces, offset_bytes },
        Direction::Write => Call::Write { pieces, offset_bytes },
    }
}

/// A request whose memory the kernel takes as it is.
#[derive(Debug)]
pub(super) struct Direct {
    memory: Memory,
    direction: Direction,
    transfer: Transfer,
}

impl Direct {
    pub(super) fn new(memory: Memory, direction: Direction, range: &Range<u64>) -> Self {
        let transfer = Transfer::new(range.start, range.end - range.start);
        Self { memory, direction, transfer }
    }

    pub(super) fn is_read(&self) -> bool {
        self.direction == Direction::Read
    }

    /// Take the result of one call.
    pub(super) fn after(&mut self, result: Result<u32, Errno>) -> Progress {
        match self.transfer.after(result) {
            Progress::Finished if !self.is_intact() => Progress::Failed(Errno::EIO),
            progress => progress,
        }
    }

    /// Whether the request's memory is still what it was.
    pub(super) fn is_intact(&self) -> bool {
        match &self.memory {
            Memory::Guest(buffers) => buffers.is_intact(),
            Memory::Zeroes => true,
        }
    }

    /// The call for what remains. `rest` is where its pieces are kept if the request's own do not
    /// do.
    pub(super) fn call<'a>(&'a self, rest: &'a mut Vec<libc::iovec>) -> Call<'a> {
        let pieces = match &self.memory {
            Memory::Guest(buffers) => {
                let all = buffers.iovecs();
                if self.transfer.moved_bytes() == 0 && all.len() <= PIECES_MAX {
                    all
                } else {
                    pieces_after(all, self.transfer.moved_bytes(), rest);
                    rest
                }
            }
            Memory::Zeroes => {
                zero_pieces(self.transfer.remaining_bytes(), rest);
                rest
            }
        };
        transfer_call(self.direction, pieces, self.transfer.position_bytes())
    }
}

/// Zeroes to be written, aligned for any `O_DIRECT`.
#[repr(C, align(65536))]
struct Zeroes([u8; 64 << 10]);
static ZEROES: Zeroes = Zeroes([0; 64 << 10]);

/// Pieces of zeroes, at most as long as `bytes` and as the kernel takes.
fn zero_pieces(bytes: u64, pieces: &mut Vec<libc::iovec>) {
    const CALL_BYTES_MAX: usize = 16 << 20;
    pieces.clear();
    let mut rest = usize::try_from(bytes).unwrap_or(usize::MAX).min(CALL_BYTES_MAX);
    while rest > 0 {
        let iov_len = rest.min(ZEROES.0.len());
        // The kernel only reads it: these pieces are for writes to the image alone.
        let iov_base = ZEROES.0.as_ptr().cast_mut().cast();
        pieces.push(libc::iovec { iov_base, iov_len });
        rest -= iov_len;
    }
}
