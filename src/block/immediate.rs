//! Channels of stores that the calling thread serves itself.
//!
//! Knows: that an op can be carried on by the calling thread without waiting, and that the thread
//! has more to do than that. Must not know: where the bytes are. Invariants: a call does about
//! [`WORK_BYTES_MAX`] of work at most, whatever was submitted; the descriptor is readable exactly
//! while work is left; what was not done when the channel is dropped is never done.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::waker::Waker;
use super::{Channel, Completion, Op, OpKind};
use crate::errno::Errno;

/// How much is done in one call: about a millisecond's worth of copying.
const WORK_BYTES_MAX: u64 = 4 << 20;

/// What does an op by itself, a part at a time.
pub(super) trait Store: Send + Sync {
    /// Go on with an op of which the first `done_bytes` are done, for about as much work as
    /// copying `work_bytes_max`, which is more than 0.
    fn serve(&self, kind: &OpKind, done_bytes: u64, work_bytes_max: u64) -> Result<Served, Errno>;
}

/// How far an op has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Served {
    /// So many bytes of the op are done; `None` when all are.
    pub(super) done_bytes: Option<u64>,
    /// The work that it took, as bytes copied.
    pub(super) worked_bytes: u64,
}

impl Served {
    /// Nothing was left to be done.
    pub(super) const ENDED: Self = Self { done_bytes: None, worked_bytes: 0 };

    /// All up to `done_bytes` of an op of `bytes` is done.
    pub(super) fn up_to(done_bytes: u64, bytes: u64, worked_bytes: u64) -> Self {
        Self { done_bytes: (done_bytes < bytes).then_some(done_bytes), worked_bytes }
    }
}

/// A channel to a store.
pub(super) struct ImmediateChannel<S> {
    store: Arc<S>,
    waiting: VecDeque<Op>,
    /// How much of the first one that waits is done.
    done_bytes: u64,
    ended: Vec<Completion>,
    waker: Waker,
    awake: bool,
}

impl<S: Store> ImmediateChannel<S> {
    pub(super) fn new(store: Arc<S>) -> io::Result<Self> {
        Ok(Self {
            store,
            waiting: VecDeque::new(),
            done_bytes: 0,
            ended: Vec::new(),
            waker: Waker::new()?,
            awake: false,
        })
    }

    /// Go on with what was submitted, for a bounded time.
    fn work(&mut self) {
        let mut left_bytes = WORK_BYTES_MAX;
        while left_bytes > 0
            && let Some(op) = self.waiting.front()
        {
            let result = match self.store.serve(&op.kind, self.done_bytes, left_bytes) {
                Ok(served) => {
                    left_bytes = left_bytes.saturating_sub(served.worked_bytes);
                    if let Some(done_bytes) = served.done_bytes {
                        self.done_bytes = done_bytes;
                        continue;
                    }
                    Ok(())
                }
                Err(errno) => Err(errno),
            };
            self.done_bytes = 0;
            self.ended.extend(self.waiting.pop_front().map(|op| op.complete(result)));
        }
        self.tell();
    }

    /// Make the descriptor say whether work is left. Costs nothing where nothing changes.
    fn tell(&mut self) {
        let awake = !self.waiting.is_empty();
        if awake && !self.awake {
            self.waker.wake();
        } else if !awake && self.awake {
            self.waker.quieten();
        }
        self.awake = awake;
    }
}

impl<S: Store> Channel for ImmediateChannel<S> {
    fn submit(&mut self, op: Op) {
        self.waiting.push_back(op);
    }

    fn commit(&mut self) {
        self.work();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        // Only what a commit has left, and not where it has something to tell already.
        if self.ended.is_empty() && self.awake {
            self.work();
        }
        done.append(&mut self.ended);
    }

    fn has_ended(&mut self) -> bool {
        self.awake
    }

    fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.waker.as_fd()]
    }
}

/// The end of a range that lies within `size_bytes`; `EIO` for any other.
pub(super) fn end_within(offset_bytes: u64, bytes: u64, size_bytes: u64) -> Result<u64, Errno> {
    offset_bytes.checked_add(bytes).filter(|end| *end <= size_bytes).ok_or(Errno::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{MemoryImage, Node, NullImage, OwnedMemory, Ticket};

    fn submit(channel: &mut dyn Channel, number: u64, kind: OpKind) {
        channel.submit(Op { ticket: Ticket(number), ordinal: number, queue: 0, kind });
    }

    fn is_readable(channel: &dyn Channel) -> bool {
        let fd = channel.wake_fds().remove(0);
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())) == Ok(1)
    }

    /// Nothing but polling, as a worker that has nothing else to do. How many calls it took.
    fn poll_all(channel: &mut dyn Channel, done: &mut Vec<Completion>) -> usize {
        for polls in 0..100_000 {
            if !is_readable(channel) {
                return polls;
            }
            channel.poll(done);
        }
        panic!("the work does not end");
    }

    #[test]
    fn small_requests_have_ended_when_the_commit_returns() {
        let memory = OwnedMemory::new(4096, 0);
        let mut channel = MemoryImage::new(1 << 20).channel().unwrap();
        for number in 0..100 {
            let from = memory.buffers();
            let kind = OpKind::Write { offset_bytes: number * 4096, from, fua: false };
            submit(&mut *channel, number, kind);
        }
        channel.commit();
        assert!(!is_readable(&*channel));
        let mut done = Vec::new();
        channel.poll(&mut done);
        assert_eq!(done.len(), 100);
        assert!(done.iter().all(|completion| completion.result == Ok(())));
    }

    #[test]
    fn a_full_queue_is_served_a_bounded_part_at_a_time() {
        const REQUEST_BYTES: usize = 1 << 20;
        let images: [Box<dyn Node>; 2] =
            [Box::new(MemoryImage::new(1 << 20)), Box::new(NullImage::new(1 << 20))];
        for image in images {
            let memory = OwnedMemory::new(REQUEST_BYTES, 0);
            let mut channel = image.channel().unwrap();
            for number in 0..64 {
                let into = memory.buffers();
                submit(&mut *channel, number, OpKind::Read { offset_bytes: 0, into });
            }
            let mut done = Vec::new();
            channel.commit();
            channel.poll(&mut done);
            assert_eq!(done.len(), 4);
            assert!(is_readable(&*channel));
            let before = done.len();
            channel.commit();
            channel.poll(&mut done);
            assert_eq!(done.len(), before + 4);
            assert_eq!(poll_all(&mut *channel, &mut done), 14);
            assert!(done.iter().map(|completion| completion.ticket.0).eq(0..64));
        }
    }

    #[test]
    fn a_huge_request_is_split_over_many_turns_and_loses_nothing() {
        const BYTES: usize = 9 << 20;
        let image = MemoryImage::new(64 << 20);
        let mut channel = image.channel().unwrap();
        let (from, into) = (OwnedMemory::new(BYTES, 0), OwnedMemory::new(BYTES, 1));
        let content: Vec<u8> = (0..BYTES).map(|i| (i / 509).to_le_bytes()[i % 2]).collect();
        from.write(&content);
        let lengths: Vec<usize> = (0..1000).map(|i| 1 + i * 7).collect();
        let rest = BYTES - lengths.iter().sum::<usize>();
        let pieces = from.pieces(&[&lengths[..], &[rest]].concat());
        submit(&mut *channel, 0, OpKind::Write { offset_bytes: 5, from: pieces, fua: false });
        submit(&mut *channel, 1, OpKind::Read { offset_bytes: 5, into: into.buffers() });
        channel.commit();
        let mut done = Vec::new();
        assert!(poll_all(&mut *channel, &mut done) > 3);
        assert_eq!(done.len(), 2);
        assert!(into.read() == content);
    }

    #[test]
    fn what_was_not_done_is_forgotten_with_its_channel() {
        let image = MemoryImage::new(64 << 20);
        let mut channel = image.channel().unwrap();
        let memory = OwnedMemory::new(32 << 20, 0);
        let from = memory.buffers();
        submit(&mut *channel, 0, OpKind::Write { offset_bytes: 0, from, fua: false });
        channel.commit();
        drop(channel);
        assert_eq!(image.actual_size_bytes(), WORK_BYTES_MAX);
    }

    #[test]
    fn discarding_a_full_disk_takes_many_turns_and_an_empty_one_a_single_turn() {
        const DISK_BYTES: usize = 32 << 20;
        let image = MemoryImage::new(1 << 50);
        let mut channel = image.channel().unwrap();
        let memory = OwnedMemory::new(DISK_BYTES, 0);
        let write = OpKind::Write { offset_bytes: 0, from: memory.buffers(), fua: false };
        let mut done = Vec::new();
        submit(&mut *channel, 0, write);
        channel.commit();
        poll_all(&mut *channel, &mut done);
        assert_eq!(image.actual_size_bytes(), DISK_BYTES as u64);
        let mut turns = || {
            submit(&mut *channel, 1, OpKind::Discard { offset_bytes: 0, bytes: 1 << 50 });
            channel.commit();
            poll_all(&mut *channel, &mut done)
        };
        assert!(turns() > 4);
        assert_eq!(turns(), 0);
        assert_eq!(image.actual_size_bytes(), 0);
    }
}
