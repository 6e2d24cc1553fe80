//! What remains of a transfer after the kernel moved a part of it.
//!
//! Knows: offsets, lengths and the meaning of a system call's result. Must not know: which system
//! call it was. Pure. Invariant: a transfer is finished only when every byte of it was moved, so a
//! short transfer is never a success.

use crate::errno::Errno;

/// The most pieces that the kernel takes in one call (`UIO_MAXIOV`).
pub(super) const PIECES_MAX: usize = 1024;

/// How often in a row a call may move nothing before it is given up. A storm of signals or of
/// `EAGAIN` ends long before; a host that never lets go must not spin for ever.
const STALLS_MAX: u32 = 1000;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Ask the kernel again.
    More,
    /// All of it is done.
    Finished,
    /// It failed.
    Failed(Errno),
}

/// Counts the calls in a row that came to nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Stalls(u32);

impl Stalls {
    /// Judge a failed call: some failures only mean "again".
    pub(super) fn judge(&mut self, errno: Errno) -> Progress {
        if errno != Errno::EINTR && errno != Errno::EAGAIN {
            return Progress::Failed(errno);
        }
        self.0 += 1;
        if self.0 > STALLS_MAX { Progress::Failed(Errno::EIO) } else { Progress::More }
    }
}

/// A contiguous range of the image on its way from or to memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer {
    offset_bytes: u64,
    bytes: u64,
    moved_bytes: u64,
    stalls: Stalls,
}

impl Transfer {
    /// Nothing moved yet.
    pub(super) fn new(offset_bytes: u64, bytes: u64) -> Self {
        Self { offset_bytes, bytes, moved_bytes: 0, stalls: Stalls::default() }
    }

    /// Where the next byte belongs in the image.
    pub(super) fn position_bytes(&self) -> u64 {
        self.offset_bytes + self.moved_bytes
    }

    /// Bytes moved so far.
    pub(super) fn moved_bytes(&self) -> u64 {
        self.moved_bytes
    }

    /// Bytes still to be moved.
    pub(super) fn remaining_bytes(&self) -> u64 {
        self.bytes - self.moved_bytes
    }

    /// Take the result of one call. Nothing moved is an error: the end of an image that was cut
    /// short by somebody else.
    pub(super) fn after(&mut self, result: Result<u32, Errno>) -> Progress {
        let moved = match result {
            Ok(moved) => u64::from(moved),
            Err(errno) => return self.stalls.judge(errno),
        };
        if moved == 0 || moved > self.remaining_bytes() {
            return Progress::Failed(Errno::EIO);
        }
        self.stalls = Stalls::default();
        self.moved_bytes += moved;
        if self.remaining_bytes() == 0 { Progress::Finished } else { Progress::More }
    }
}

/// The pieces that remain once the first `moved_bytes` are done, at most [`PIECES_MAX`] of them.
/// Replaces the content of `rest`.
pub(super) fn pieces_after(
    pieces: &[libc::iovec],
    mut moved_bytes: u64,
    rest: &mut Vec<libc::iovec>,
) {
    rest.clear();
    for piece in pieces {
        let length = piece.iov_len as u64;
        if moved_bytes >= length {
            moved_bytes -= length;
            continue;
        }
        let skip = usize::try_from(moved_bytes).unwrap_or(usize::MAX);
        moved_bytes = 0;
        rest.push(libc::iovec {
            iov_base: piece.iov_base.wrapping_byte_add(skip),
            iov_len: piece.iov_len - skip,
        });
        if rest.len() == PIECES_MAX {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(address: usize, iov_len: usize) -> libc::iovec {
        libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len }
    }

    fn flat(pieces: &[libc::iovec]) -> Vec<usize> {
        pieces.iter().flat_map(|p| (0..p.iov_len).map(|i| p.iov_base.addr() + i)).collect()
    }

    #[test]
    fn nothing_moved_is_an_error_and_not_the_end() {
        assert_eq!(Transfer::new(0, 10).after(Ok(0)), Progress::Failed(Errno::EIO));
    }

    #[test]
    fn more_moved_than_was_asked_is_an_error() {
        assert_eq!(Transfer::new(0, 10).after(Ok(11)), Progress::Failed(Errno::EIO));
    }

    #[test]
    fn a_storm_of_interruptions_is_ridden_out_but_not_for_ever() {
        let mut transfer = Transfer::new(0, 10);
        for _ in 0..STALLS_MAX {
            assert_eq!(transfer.after(Err(Errno::EINTR)), Progress::More);
        }
        assert_eq!(transfer.after(Err(Errno::EAGAIN)), Progress::Failed(Errno::EIO));
        let mut transfer = Transfer::new(0, 10);
        for _ in 0..5 {
            for _ in 0..STALLS_MAX {
                assert_eq!(transfer.after(Err(Errno::EAGAIN)), Progress::More);
            }
            assert_eq!(transfer.after(Ok(1)), Progress::More, "progress forgives the stalls");
        }
    }

    #[test]
    fn no_more_pieces_are_passed_than_the_kernel_takes() {
        let pieces: Vec<_> = (0..PIECES_MAX + 5).map(|i| piece(i * 100, 3)).collect();
        let mut rest = Vec::new();
        pieces_after(&pieces, 0, &mut rest);
        assert_eq!(rest.len(), PIECES_MAX);
        pieces_after(&pieces, 3 * PIECES_MAX as u64 + 1, &mut rest);
        assert_eq!(flat(&rest).len(), 14);
        assert_eq!(rest[0].iov_base.addr(), PIECES_MAX * 100 + 1);
    }

    proptest! {
        /// Whatever part of the rest each call moves, every byte moves once, in order.
        #[test]
        fn every_byte_moves_once_however_short_the_calls_are(
            lengths in prop::collection::vec(0usize..40, 1..12),
            steps in prop::collection::vec(1u64..50, 1..400),
        ) {
            let pieces: Vec<_> =
                lengths.iter().enumerate().map(|(i, &len)| piece(i * 1000, len)).collect();
            let all = flat(&pieces);
            prop_assume!(!all.is_empty());
            let mut transfer = Transfer::new(7, all.len() as u64);
            let (mut moved, mut rest, mut finished) = (Vec::new(), Vec::new(), false);
            for step in steps.into_iter().chain(std::iter::repeat(1)) {
                prop_assert_eq!(transfer.position_bytes(), 7 + moved.len() as u64);
                pieces_after(&pieces, transfer.moved_bytes(), &mut rest);
                let part: Vec<_> =
                    flat(&rest).into_iter().take(usize::try_from(step).unwrap()).collect();
                let count = u32::try_from(part.len()).unwrap();
                moved.extend(part);
                if transfer.after(Ok(count)) == Progress::Finished {
                    finished = true;
                    break;
                }
            }
            prop_assert!(finished);
            prop_assert_eq!(moved, all);
        }
    }
}
