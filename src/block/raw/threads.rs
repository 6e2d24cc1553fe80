//! Tasks carried out by a pool of threads, but for reads that wait for no device.
//!
//! Knows: blocking system calls. Must not know: what a task is for. Invariants: the pool has at
//! most [`THREADS_MAX`] threads, started when there is work and nobody idle, and none outlives it;
//! a channel's descriptor is readable exactly while its mailbox holds something.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::current::Seat;
use super::inline::{self, Allowance, Company, plainly};
use super::task::{Next, Task};
use super::wary::Wary;
use crate::block::waker::Waker;
use crate::block::{Channel, Completion, Op};
use crate::errno::Errno;

/// QEMU's `thread-pool-max`.
const THREADS_MAX: usize = 64;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads of one image, shared by its channels.
#[derive(Debug, Default)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: Vec<JoinHandle<()>>,
    closing: bool,
}

#[derive(Debug)]
struct Job {
    task: Task,
    mailbox: Arc<Mailbox>,
}

impl Pool {
    fn run(&self, jobs: &mut Vec<Job>) {
        let added = jobs.len();
        let mut state = lock(&self.shared.state);
        state.jobs.extend(jobs.drain(..));
        let wanted = state.jobs.len().saturating_sub(state.idle);
        let room = THREADS_MAX - state.threads.len().min(THREADS_MAX);
        for _ in 0..wanted.min(room) {
            let shared = self.shared.clone();
            match std::thread::Builder::new().name("image".into()).spawn(move || shared.serve()) {
                Ok(thread) => state.threads.push(thread),
                Err(error) if state.threads.is_empty() => {
                    log::error!(
                        "no thread for the image ({error}): its requests are served inline"
                    );
                    let jobs = std::mem::take(&mut state.jobs);
                    drop(state);
                    jobs.into_iter().for_each(Job::run);
                    return;
                }
                // Those that exist will do.
                Err(_) => break,
            }
        }
        drop(state);
        (0..added).for_each(|_| self.shared.work.notify_one());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let threads = {
            let mut state = lock(&self.shared.state);
            state.closing = true;
            std::mem::take(&mut state.threads)
        };
        self.shared.work.notify_all();
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// A thread's life.
    fn serve(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job.run();
                state = lock(&self.state);
            } else if state.closing {
                return;
            } else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

impl Job {
    fn run(mut self) {
        let result = loop {
            match self.task.next(None) {
                Next::Ended(result) => break result,
                Next::Wait => self.task.wait(),
                Next::Call(image, call) => {
                    let result = plainly(image.raw_fd(), &call);
                    self.task.advance(result);
                }
            }
        };
        let completion = Completion { ticket: self.task.ticket, result };
        // The image may be closed by now, and the memory unmapped, before anybody is told.
        drop(self.task);
        self.mailbox.deliver(completion);
    }
}

/// Where a channel's completions arrive.
#[derive(Debug)]
struct Mailbox {
    state: Mutex<MailboxState>,
    /// It holds something; for those who look without the lock.
    is_full: AtomicBool,
    drained: Condvar,
    waker: Waker,
}

#[derive(Debug, Default)]
struct MailboxState {
    ended: Vec<Completion>,
    in_flight: usize,
}

impl Mailbox {
    fn deliver(&self, completion: Completion) {
        let mut state = lock(&self.state);
        state.in_flight -= 1;
        if state.ended.is_empty() {
            self.waker.wake();
        }
        state.ended.push(completion);
        self.is_full.store(true, Ordering::Relaxed);
        if state.in_flight == 0 {
            self.drained.notify_all();
        }
    }
}

/// One worker's access to the pool.
pub(super) struct ThreadsChannel {
    seat: Arc<Seat>,
    pool: Arc<Pool>,
    mailbox: Arc<Mailbox>,
    submitted: Vec<Job>,
    /// What was carried out without a thread.
    ended: Vec<Completion>,
    allowance: Allowance,
    /// When the first op was submitted that is not committed.
    began: Option<Instant>,
    wary: Wary,
}

impl ThreadsChannel {
    pub(super) fn new(seat: Arc<Seat>, pool: Arc<Pool>) -> io::Result<Self> {
        let (state, drained) = (Mutex::default(), Condvar::new());
        let (is_full, waker) = (AtomicBool::new(false), Waker::new()?);
        let mailbox = Arc::new(Mailbox { state, is_full, drained, waker });
        let (submitted, ended) = (Vec::new(), Vec::new());
        let (allowance, wary) = (Allowance::new(), Wary::default());
        Ok(Self { seat, pool, mailbox, submitted, ended, allowance, began: None, wary })
    }

    /// Carry a read out here, if its data is in memory: a thread costs many times as much. `None` if a
    /// thread has to go on with it.
    fn read_at_once(&mut self, task: &mut Task) -> Option<Result<(), Errno>> {
        if !task.is_ready_read() || self.wary.is_wary(Instant::now) {
            return None;
        }
        loop {
            match task.next(None) {
                Next::Ended(result) => return Some(result),
                Next::Wait => return None,
                Next::Call(image, call) => {
                    let (source, fd) = (&image.source, image.raw_fd());
                    let result =
                        inline::carry_out(source, &mut self.allowance, Company::None, fd, &call)?;
                    task.advance(result);
                }
            }
        }
    }
}

impl Channel for ThreadsChannel {
    fn submit(&mut self, op: Op) {
        self.began.get_or_insert_with(Instant::now);
        let mut task = Task::new(op, self.seat.image());
        match self.read_at_once(&mut task) {
            Some(result) => self.ended.push(Completion { ticket: task.ticket, result }),
            None => self.submitted.push(Job { task, mailbox: self.mailbox.clone() }),
        }
    }

    fn commit(&mut self) {
        if let Some(began) = self.began.take() {
            self.wary.learn(began, Instant::now());
        }
        self.allowance.renew();
        if self.submitted.is_empty() {
            return;
        }
        lock(&self.mailbox.state).in_flight += self.submitted.len();
        self.pool.run(&mut self.submitted);
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        let mut state = lock(&self.mailbox.state);
        if !state.ended.is_empty() {
            self.mailbox.waker.quieten();
            self.mailbox.is_full.store(false, Ordering::Relaxed);
            done.append(&mut state.ended);
        }
        done.append(&mut self.ended);
        self.allowance.renew();
    }

    fn ends_at_once(&self) -> bool {
        self.seat.image().source.ends_at_once()
    }

    fn has_ended(&mut self) -> bool {
        self.mailbox.is_full.load(Ordering::Relaxed)
    }

    fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.mailbox.waker.as_fd()]
    }
}

impl Drop for ThreadsChannel {
    fn drop(&mut self) {
        let mut state = lock(&self.mailbox.state);
        while state.in_flight > 0 {
            state = self.mailbox.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
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

    fn op(number: u64, kind: OpKind) -> Op {
        Op { ticket: Ticket(number), ordinal: number, queue: 0, kind }
    }

    #[test]
    fn what_threads_have_ended_is_seen_and_what_is_in_memory_needs_none() {
        let named = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        named.as_file().set_len(4096).unwrap();
        let opened = Opened::open(RawOptions::new(named.path()), None).unwrap();
        let pool = Arc::new(Pool::default());
        let mut channel = ThreadsChannel::new(Current::new(opened).seat(), pool.clone()).unwrap();
        let memory = OwnedMemory::new(4096, 7);
        let from = memory.buffers();
        channel.submit(op(0, OpKind::Write { offset_bytes: 0, from, fua: false }));
        assert!(!channel.has_ended());
        channel.commit();
        let until = Instant::now() + std::time::Duration::from_secs(20);
        while !channel.has_ended() {
            assert!(Instant::now() < until, "nobody sees that it has ended");
            std::thread::yield_now();
        }
        let mut done = Vec::new();
        channel.poll(&mut done);
        assert_eq!(done.len(), 1);
        assert!(!channel.has_ended(), "it was taken");
        assert_eq!(lock(&pool.shared.state).threads.len(), 1, "a write may wait");
        channel.submit(op(1, OpKind::Read { offset_bytes: 0, into: memory.buffers() }));
        channel.commit();
        channel.poll(&mut done);
        assert_eq!(
            done.iter().map(|completion| completion.result).collect::<Vec<_>>(),
            [Ok(()); 2]
        );
    }
}
