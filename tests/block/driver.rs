//! A worker in miniature: submits ops to a channel, waits as a worker waits, checks the contract.

use std::collections::BTreeMap;
use std::time::Duration;

use blkfault::block::{Buffers, Channel, Completion, Node, Op, OpKind, OwnedMemory, Ticket};
use blkfault::errno::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long an op may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A channel with the ops that are in flight on it.
pub(crate) struct Driver {
    channel: Box<dyn Channel>,
    ticket_next: u64,
    in_flight: usize,
    ended: BTreeMap<u64, Result<(), Errno>>,
}

impl Driver {
    pub(crate) fn new(node: &dyn Node) -> Self {
        let channel = node.channel().expect("a channel");
        Self { channel, ticket_next: 0, in_flight: 0, ended: BTreeMap::new() }
    }

    /// Submit an op; its number.
    pub(crate) fn submit(&mut self, kind: OpKind) -> u64 {
        let number = self.ticket_next;
        self.ticket_next += 1;
        self.in_flight += 1;
        self.channel.submit(Op { ticket: Ticket(number), ordinal: number, queue: 0, kind });
        number
    }

    pub(crate) fn commit(&mut self) {
        self.channel.commit();
    }

    /// Take what has ended without waiting. True if something had.
    pub(crate) fn reap(&mut self) -> bool {
        let mut done: Vec<Completion> = Vec::new();
        self.channel.poll(&mut done);
        let any = !done.is_empty();
        for completion in done {
            self.in_flight -= 1;
            assert!(completion.ticket.0 < self.ticket_next, "an unknown ticket");
            let before = self.ended.insert(completion.ticket.0, completion.result);
            assert!(before.is_none(), "{:?} ended twice", completion.ticket);
        }
        any
    }

    /// Wait for every op.
    pub(crate) fn finish(&mut self) {
        finish_all(&mut [self]);
    }

    /// How an op ended; `None` while it is in flight.
    pub(crate) fn ended(&self, number: u64) -> Option<Result<(), Errno>> {
        self.ended.get(&number).copied()
    }

    /// Do one op and wait for it.
    pub(crate) fn run(&mut self, kind: OpKind) -> Result<(), Errno> {
        let number = self.submit(kind);
        self.finish();
        self.ended[&number]
    }

    pub(crate) fn read(&mut self, offset_bytes: u64, bytes: usize) -> Result<Vec<u8>, Errno> {
        let memory = OwnedMemory::new(bytes, 0);
        self.run(OpKind::Read { offset_bytes, into: memory.buffers() })?;
        Ok(memory.read())
    }

    pub(crate) fn write(&mut self, offset_bytes: u64, content: &[u8]) -> Result<(), Errno> {
        self.run(write_op(offset_bytes, content))
    }

    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        self.run(OpKind::Flush)
    }
}

/// Wait for every op on several channels as their workers would: poll, and sleep on the
/// descriptors.
pub(crate) fn finish_all(drivers: &mut [&mut Driver]) {
    drivers.iter_mut().for_each(|driver| driver.commit());
    while drivers.iter().any(|driver| driver.in_flight > 0) {
        let mut progress = false;
        for driver in drivers.iter_mut() {
            progress |= driver.reap();
        }
        if progress {
            drivers.iter_mut().for_each(|driver| driver.commit());
            continue;
        }
        sleep(drivers);
    }
}

fn sleep(drivers: &[&mut Driver]) {
    let in_flight = || drivers.iter().filter(|driver| driver.in_flight > 0);
    let mut fds: Vec<_> = in_flight()
        .flat_map(|driver| driver.channel.wake_fds())
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    assert!(!fds.is_empty(), "an op in flight can be waited for");
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    match poll(&mut fds, Some(&patience)) {
        Ok(0) => panic!("ops did not end in {PATIENCE:?}"),
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => panic!("poll: {error}"),
    }
}

/// A write of this content.
pub(crate) fn write_op(offset_bytes: u64, content: &[u8]) -> OpKind {
    let memory = OwnedMemory::new(content.len(), 0);
    memory.write(content);
    OpKind::Write { offset_bytes, from: memory.buffers(), fua: false }
}

/// Memory cut into pieces, the first of them `first` bytes, then growing and shrinking,
/// `misalignment` past a page border.
pub(crate) fn cut_memory(
    bytes: usize,
    misalignment: usize,
    first: usize,
) -> (OwnedMemory, Buffers) {
    let memory = OwnedMemory::new(bytes, misalignment);
    let (mut lengths, mut rest, mut factor) = (Vec::new(), bytes, 1);
    while rest > 0 {
        let length = (first * factor).clamp(1, rest);
        lengths.push(length);
        rest -= length;
        factor = factor % 5 + 1;
    }
    let buffers = memory.pieces(&lengths);
    (memory, buffers)
}
