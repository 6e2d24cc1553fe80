//! Tasks carried out by io_uring, but for the calls that wait for no device.
//!
//! Knows: io_uring; the only module that does. Must not know: what a task is for. Invariants: at
//! most as many calls are in the kernel as the completion queue holds, so no completion is lost;
//! what a call points to lives, and stays where it is, until its completion was taken, even when the
//! channel is dropped.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use io_uring::{IoUring, Probe, opcode, register, squeue, types};

use super::current::Seat;
use super::inline::{self, Allowance, Company};
use super::task::{Call, Next, Task};
use super::wary::Wary;
use crate::block::waker::Waker;
use crate::block::{Channel, Completion, Op};
use crate::errno::Errno;

/// Calls that may be in the kernel at once; what comes beyond waits here.
const ENTRIES: u32 = 256;
/// Identifies the waker's completion; every other one carries its task's slot.
const WAKER: u64 = u64::MAX;
/// How long to let the kernel rest when it has no memory for us.
const REST: Duration = Duration::from_millis(1);

/// Failures that are no further apart than this are one outage.
const OUTAGE_GAP: Duration = Duration::from_secs(10);

/// Failures in a row, of which only the first is worth telling.
#[derive(Debug, Default)]
struct Outage {
    last_failure: Option<Instant>,
}

impl Outage {
    /// There was a failure. True if it begins an outage.
    fn begins(&mut self, now: Instant) -> bool {
        let before = self.last_failure.replace(now);
        before.is_none_or(|before| now.saturating_duration_since(before) > OUTAGE_GAP)
    }
}

/// Whether this process may use io_uring with all that tasks need. A yes is remembered.
///
/// # Errors
/// What the host says: `ENOSYS` or `EPERM` where a kernel, sysctl or seccomp filter forbids it.
pub(super) fn check() -> io::Result<()> {
    static MAY: OnceLock<()> = OnceLock::new();
    if MAY.get().is_none() {
        try_out()?;
        let _ = MAY.set(());
    }
    Ok(())
}

fn try_out() -> io::Result<()> {
    let ring = IoUring::new(1)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    if NEEDED.into_iter().all(|code| probe.is_supported(code)) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel's io_uring is too old"))
}

/// All that a ring is asked for.
const NEEDED: [u8; 7] = [
    opcode::Read::CODE,
    opcode::Write::CODE,
    opcode::Readv::CODE,
    opcode::Writev::CODE,
    opcode::Fsync::CODE,
    opcode::Fallocate::CODE,
    opcode::PollAdd::CODE,
];

/// A ring that does nothing else than it is needed for. No filter on system calls sees what a ring is
/// asked for, and a ring could open files and sockets.
fn restricted_ring() -> io::Result<IoUring> {
    let ring = IoUring::builder().setup_clamp().setup_r_disabled().dontfork().build(ENTRIES)?;
    let flags = register::Restriction::sqe_flags_allowed(squeue::Flags::ASYNC.bits());
    let calls = NEEDED.into_iter().map(register::Restriction::sqe_op);
    let mut allowed: Vec<_> = calls.chain([flags]).collect();
    ring.submitter().register_restrictions(&mut allowed)?;
    ring.submitter().register_enable_rings()?;
    Ok(ring)
}

/// A ring: a restricted one where the kernel has those (since Linux 5.10).
///
/// Not one that defers its work until it is asked (`IORING_SETUP_DEFER_TASKRUN`): an `epoll` that watches
/// such a ring is not woken by what is deferred (seen with Linux 6.18).
fn ring() -> io::Result<IoUring> {
    restricted_ring().or_else(|error| {
        log::info!("io_uring cannot be restricted here ({error})");
        IoUring::builder().setup_clamp().dontfork().build(ENTRIES)
    })
}

/// One worker's ring.
pub(super) struct UringChannel {
    ring: IoUring,
    seat: Arc<Seat>,
    /// Each at a place of its own: what the kernel is given points into it, while more are added.
    #[allow(clippy::vec_box, reason = "a task must stay where it is")]
    slots: Vec<Box<Option<Task>>>,
    free: Vec<usize>,
    /// Slots that wait for room in the kernel.
    backlog: VecDeque<usize>,
    /// A slot that waits for the next op or commit, to see whether it is alone.
    lone: Option<usize>,
    /// Slots that wait for their turn.
    parked: Vec<usize>,
    /// Calls that are in the ring or the kernel, without the waker's.
    in_kernel: usize,
    waker: Arc<Waker>,
    /// The ring waits for the waker.
    waker_armed: bool,
    ended: Vec<Completion>,
    results: Vec<(u64, i32)>,
    /// What may be carried out without the ring until the next commit or poll.
    allowance: Allowance,
    outage: Outage,
    wary: Wary,
}

impl UringChannel {
    pub(super) fn new(seat: Arc<Seat>) -> io::Result<Self> {
        Ok(Self {
            ring: ring()?,
            seat,
            slots: Vec::new(),
            free: Vec::new(),
            backlog: VecDeque::new(),
            lone: None,
            parked: Vec::new(),
            in_kernel: 0,
            waker: Arc::new(Waker::new()?),
            waker_armed: false,
            ended: Vec::new(),
            results: Vec::new(),
            allowance: Allowance::new(),
            outage: Outage::default(),
            wary: Wary::default(),
        })
    }

    /// Calls that may be in the kernel at once. One entry is the waker's.
    fn in_kernel_max(&self) -> usize {
        self.ring.params().sq_entries() as usize - 1
    }

    fn place(&mut self, task: Task) -> usize {
        if let Some(slot) = self.free.pop() {
            *self.slots[slot] = Some(task);
            return slot;
        }
        self.slots.push(Box::new(Some(task)));
        self.slots.len() - 1
    }

    /// Let a task make its next calls until one has to wait, or it has ended.
    fn drive(&mut self, slot: usize, company: Company) {
        if self.in_kernel >= self.in_kernel_max() {
            return self.backlog.push_back(slot);
        }
        let Some(task) = self.slots[slot].as_mut() else { return };
        let ticket = task.ticket;
        let is_wary = self.wary.is_wary(Instant::now);
        let entry = loop {
            match task.next(Some(&self.waker)) {
                Next::Wait => return self.parked.push(slot),
                Next::Ended(result) => {
                    self.ended.push(Completion { ticket, result });
                    *self.slots[slot] = None;
                    return self.free.push(slot);
                }
                Next::Call(image, call) => {
                    let fd = image.raw_fd();
                    if is_wary && image.source.may_wait() {
                        let entry = entry(types::Fd(fd), &call).flags(squeue::Flags::ASYNC);
                        break entry.user_data(slot as u64);
                    }
                    let allowance = &mut self.allowance;
                    let Some(result) =
                        inline::carry_out(&image.source, allowance, company, fd, &call)
                    else {
                        break entry(types::Fd(fd), &call).user_data(slot as u64);
                    };
                    task.advance(result);
                }
            }
        };
        if self.push(&entry) {
            self.in_kernel += 1;
        } else {
            self.backlog.push_back(slot);
        }
    }

    /// Put an entry on the submission queue. False if there is no room.
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what the entry points to belongs to a task, which stays in its slot until the
        // completion is taken (`Drop` waits for that too), or is the waker, which outlives the ring.
        unsafe { self.ring.submission().push(entry).is_ok() }
    }

    /// Give the submission queue to the kernel, and learn whether it keeps who does.
    fn enter(&mut self) {
        if self.ring.submission().is_empty() {
            return;
        }
        let began = Instant::now();
        self.submit_all();
        self.wary.learn(began, Instant::now());
    }

    fn submit_all(&mut self) {
        loop {
            let queued = self.ring.submission().len();
            if queued == 0 {
                return;
            }
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A completion will wake the worker, which comes back here.
                Err(_) if self.in_kernel > queued => return,
                Err(error) => {
                    if self.outage.begins(Instant::now()) {
                        log::warn!("io_uring_enter: {error}; trying again until it works");
                    }
                    std::thread::sleep(REST);
                }
            }
        }
    }

    /// Take every completion. True if there was one.
    fn reap(&mut self) -> bool {
        let mut results = std::mem::take(&mut self.results);
        results.extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result())));
        let any = !results.is_empty();
        for (user_data, result) in results.drain(..) {
            if user_data == WAKER {
                self.waker_armed = false;
                self.waker.quieten();
                self.unpark();
                continue;
            }
            self.in_kernel -= 1;
            let Ok(slot) = usize::try_from(user_data) else { continue };
            if let Some(task) = self.slots[slot].as_mut() {
                task.advance(outcome(result));
            }
            self.drive(slot, Company::Some);
        }
        self.results = results;
        any
    }

    /// Drive the tasks that were waiting for their turn.
    fn unpark(&mut self) {
        for slot in std::mem::take(&mut self.parked) {
            self.drive(slot, Company::Some);
        }
    }

    /// Drive the tasks that were waiting for room.
    fn unload(&mut self) {
        for _ in 0..self.backlog.len() {
            if self.in_kernel >= self.in_kernel_max() {
                break;
            }
            if let Some(slot) = self.backlog.pop_front() {
                self.drive(slot, Company::Some);
            }
        }
    }

    /// Let the ring wait for the waker while a task waits for its turn.
    fn arm_waker(&mut self) {
        if self.waker_armed || self.parked.is_empty() {
            return;
        }
        let events = u32::from(libc::POLLIN.unsigned_abs());
        let poll = opcode::PollAdd::new(types::Fd(self.waker.as_fd().as_raw_fd()), events);
        self.waker_armed = self.push(&poll.build().user_data(WAKER));
    }
}

impl Channel for UringChannel {
    fn submit(&mut self, op: Op) {
        let task = Task::new(op, self.seat.image());
        let slot = self.place(task);
        if let Some(first) = self.lone.take() {
            self.drive(first, Company::Some);
        } else if self.in_kernel == 0 && self.backlog.is_empty() {
            self.lone = Some(slot);
            return;
        }
        self.drive(slot, Company::Some);
    }

    fn commit(&mut self) {
        if let Some(slot) = self.lone.take() {
            let began = Instant::now();
            self.drive(slot, Company::None);
            self.wary.learn(began, Instant::now());
        }
        self.arm_waker();
        self.enter();
        self.allowance.renew();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        if self.reap() {
            self.unload();
            self.arm_waker();
            self.enter();
        }
        done.append(&mut self.ended);
        self.allowance.renew();
    }

    fn ends_at_once(&self) -> bool {
        self.seat.image().source.ends_at_once()
    }

    fn has_ended(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        // SAFETY: the ring keeps its descriptor open while it is borrowed.
        vec![unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }]
    }
}

impl Drop for UringChannel {
    /// Waits for what is in the kernel; what is not there yet is never started.
    fn drop(&mut self) {
        for slot in std::mem::take(&mut self.parked).into_iter().chain(self.backlog.drain(..)) {
            *self.slots[slot] = None;
        }
        while self.in_kernel > 0 {
            if let Err(error) = self.ring.submit_and_wait(1)
                && error.kind() != io::ErrorKind::Interrupted
            {
                std::thread::sleep(REST);
            }
            let results: Vec<_> =
                self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
            for (user_data, result) in results {
                let slot =
                    usize::try_from(user_data).ok().and_then(|slot| self.slots.get_mut(slot));
                if let Some(mut task) = slot.and_then(|slot| slot.take()) {
                    self.in_kernel -= 1;
                    task.advance(outcome(result));
                }
            }
        }
    }
}

fn outcome(result: i32) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| Errno::new(-i64::from(result)).unwrap_or(Errno::EIO))
}

fn entry(file: types::Fd, call: &Call<'_>) -> squeue::Entry {
    // A call has at most `PIECES_MAX` pieces.
    let count = |pieces: &[libc::iovec]| u32::try_from(pieces.len()).unwrap_or(u32::MAX);
    // One piece needs no list that the kernel would have to read.
    let one = |pieces: &[libc::iovec]| match *pieces {
        [piece] => u32::try_from(piece.iov_len).ok().map(|b| (piece.iov_base.cast::<u8>(), b)),
        _ => None,
    };
    match *call {
        Call::Read { pieces, offset_bytes } => match one(pieces) {
            Some((data, bytes)) => {
                opcode::Read::new(file, data, bytes).offset(offset_bytes).build()
            }
            None => opcode::Readv::new(file, pieces.as_ptr(), count(pieces))
                .offset(offset_bytes)
                .build(),
        },
        Call::Write { pieces, offset_bytes } => match one(pieces) {
            Some((data, bytes)) => {
                opcode::Write::new(file, data.cast_const(), bytes).offset(offset_bytes).build()
            }
            None => opcode::Writev::new(file, pieces.as_ptr(), count(pieces))
                .offset(offset_bytes)
                .build(),
        },
        Call::Datasync => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
        Call::Allocate { mode, offset_bytes, bytes } => {
            opcode::Fallocate::new(file, bytes).offset(offset_bytes).mode(mode).build()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::raw::RawOptions;
    use crate::block::raw::current::Current;
    use crate::block::raw::open::Opened;
    use crate::block::{OpKind, OwnedMemory, Ticket};

    #[test]
    fn a_ring_opens_no_file() {
        check().unwrap();
        let mut ring = restricted_ring().unwrap();
        let mut ask = |entry: squeue::Entry| {
            // SAFETY: what the entry points to is static.
            unsafe { ring.submission().push(&entry).unwrap() };
            ring.submit_and_wait(1).unwrap();
            ring.completion().next().unwrap().result()
        };
        let path = c"/dev/null".as_ptr();
        let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path).build();
        assert_eq!(ask(open), -libc::EACCES);
        assert_eq!(
            ask(opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build()),
            -libc::EACCES
        );
        // What it is for goes on: this is a descriptor that is not open.
        assert_eq!(ask(opcode::Fsync::new(types::Fd(-1)).build()), -libc::EBADF);
    }

    /// What is in the kernel after a commit, and what has ended in the end, of a read of 4096 bytes.
    fn read_at(channel: &mut UringChannel, memory: &OwnedMemory) -> (usize, Vec<Completion>) {
        let into = memory.buffers();
        let kind = OpKind::Read { offset_bytes: 0, into };
        channel.submit(Op { ticket: Ticket(1), ordinal: 1, queue: 0, kind });
        channel.commit();
        let (in_kernel, mut done) = (channel.in_kernel, Vec::new());
        if in_kernel > 0 {
            channel.ring.submit_and_wait(1).unwrap();
        }
        channel.poll(&mut done);
        (in_kernel, done)
    }

    #[test]
    fn a_wary_channel_has_another_thread_read_what_may_wait() {
        // Beside the program, which is on a disk where this one is.
        let beside = std::env::current_exe().unwrap();
        let named = tempfile::NamedTempFile::new_in(beside.parent().unwrap()).unwrap();
        std::fs::write(named.path(), [7; 4096]).unwrap();
        let opened = Opened::open(RawOptions::new(named.path()), None).unwrap();
        let may_wait = opened.source.may_wait();
        let mut channel = UringChannel::new(Current::new(opened).seat()).unwrap();
        let now = Instant::now();
        channel.wary.learn(now, now + Duration::from_secs(1));
        let memory = OwnedMemory::new(4096, 0);
        let (in_kernel, done) = read_at(&mut channel, &memory);
        assert_eq!(in_kernel, usize::from(may_wait));
        assert!(done.len() == 1 && done[0].result.is_ok(), "{done:?}");
        assert_eq!(memory.read(), [7; 4096]);
    }

    #[test]
    fn an_outage_is_told_once_however_often_the_kernel_is_asked() {
        let start = Instant::now();
        let mut outage = Outage::default();
        let told = |outage: &mut Outage, from: u64| {
            let failures = (from..from + 60_000).map(|ms| start + Duration::from_millis(ms));
            failures.filter(|now| outage.begins(*now)).count()
        };
        assert_eq!(told(&mut outage, 0), 1);
        assert_eq!(told(&mut outage, 65_000), 0, "it was better for five seconds only");
        assert_eq!(told(&mut outage, 1_000_000), 1, "another one");
    }
}
