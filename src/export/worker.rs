//! One thread, one virtqueue: take requests, ask the node, answer.
//!
//! Knows: a started [`Ring`], a [`Channel`] of its own, and how to wait for either. Must not know:
//! vhost-user. Invariants: the ring belongs to this thread alone while it is started, and the
//! control thread talks to it by [`Change`]; every head that was fetched gets one used entry, with
//! no early return between the two, unless the front end is gone; changes are in force when
//! [`Worker::tell`] returns.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::chain::walk;
use super::disk::{Disk, IoFailure, QUEUE_SIZE_MAX};
use super::memory::GuestMemory;
use super::request::{Outcome, Parsed, Request, Terms, Used, What, parse};
use super::ring::{Ring, RingSetup};
use super::stats::Ended;
use crate::block::{Channel, Completion, Op, OpKind, Ticket};
use crate::errno::Errno;

/// How long a worker may take to finish what is at the image before it is left to itself. QEMU's
/// main loop waits for the answer, which is to come within a second.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_millis(800);
/// How long a worker that was left to itself may take to hear of it.
const ABANDON_TIMEOUT: Duration = Duration::from_millis(100);

/// What the control thread may change about a running ring.
#[derive(Debug)]
pub(super) enum Change {
    /// SET_VRING_ENABLE.
    Enable(bool),
    /// SET_VRING_CALL.
    Call(Option<File>),
    /// SET_VRING_ERR.
    Err(Option<File>),
    /// The memory table changed.
    Memory(Arc<GuestMemory>),
    /// Take nothing more, and end when everything that was taken has ended.
    End,
}

/// What becomes of requests that were taken when a worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// GET_VRING_BASE: they are answered.
    Drain,
    /// The front end is gone or resets the device: the ring is not touched any more.
    Abandon,
}

/// What a worker needs to start.
#[derive(Debug)]
pub(super) struct WorkerSetup {
    pub(super) disk: Arc<Disk>,
    pub(super) memory: Arc<GuestMemory>,
    pub(super) ring: RingSetup,
    pub(super) kick: File,
    pub(super) enabled: bool,
    /// Feature bits that both sides agreed on.
    pub(super) features: u64,
    /// The `writeback` byte of the configuration space, shared by the queues.
    pub(super) writeback: Arc<AtomicBool>,
}

/// The control thread's end of a running worker.
#[derive(Debug)]
pub(super) struct Worker {
    name: String,
    changes: Sender<(Change, SyncSender<()>)>,
    wake: EventFd,
    next_avail: Arc<AtomicU16>,
    abandoned: Arc<AtomicBool>,
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Start a worker; returns when it serves, or with the reason why it cannot.
    pub(super) fn start(setup: WorkerSetup) -> io::Result<Self> {
        let name = format!("{}/{}", setup.disk.options.id, setup.ring.index);
        let (changes, changes_in) = channel();
        let (ended_in, ended) = channel();
        let (ready_in, ready) = sync_channel(1);
        let wake = EventFd::new(EFD_NONBLOCK)?;
        let next_avail = Arc::new(AtomicU16::new(setup.ring.next_avail));
        let abandoned = Arc::new(AtomicBool::new(false));
        let shared = Shared {
            changes: changes_in,
            wake: wake.try_clone()?,
            next_avail: next_avail.clone(),
            abandoned: abandoned.clone(),
        };
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            match Loop::new(setup, shared) {
                Ok(mut serving) => {
                    let _ = ready_in.send(Ok(()));
                    while serving.turn() {}
                }
                Err(error) => {
                    let _ = ready_in.send(Err(error));
                }
            }
            let _ = ended_in.send(());
        })?;
        match ready.recv() {
            Ok(Ok(())) => Ok(Self { name, changes, wake, next_avail, abandoned, ended, thread }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the worker ended while it started")),
        }
    }

    /// Make a change; it is in force when this returns.
    pub(super) fn tell(&self, change: Change) {
        if self.send(change).recv_timeout(STOP_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            log::error!("worker {} does not answer", self.name);
        }
    }

    /// Ask for a change; what is returned tells when it is in force, or that the worker has ended.
    fn send(&self, change: Change) -> Receiver<()> {
        let (done, is_done) = sync_channel(1);
        if self.changes.send((change, done)).is_ok() {
            let _ = self.wake.write(1);
        }
        is_done
    }

    /// Stop it by [`end`](Self::end) and [`ended_by`](Self::ended_by). Returns the avail index that
    /// comes next.
    pub(super) fn stop(self, how: End) -> u16 {
        let deadline = Instant::now() + STOP_TIMEOUT;
        self.end(how);
        self.ended_by(deadline)
    }

    /// Ask it to take nothing more and to end.
    pub(super) fn end(&self, how: End) {
        if how == End::Abandon {
            self.abandoned.store(true, Ordering::Release);
        }
        self.send(Change::End);
    }

    /// Wait until it has ended. Returns the avail index that comes next.
    ///
    /// Requests that are at the image after the deadline are left behind: the worker waits for
    /// them without touching the ring any more.
    pub(super) fn ended_by(self, deadline: Instant) -> u16 {
        let left = deadline.saturating_duration_since(Instant::now());
        if self.ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            log::error!("worker {}: requests are stuck at the image and left behind", self.name);
            self.abandoned.store(true, Ordering::Release);
            // A worker that does not answer even this is inside the image's code and sees the flag
            // when it comes out, before it touches the ring.
            let _ = self.send(Change::End).recv_timeout(ABANDON_TIMEOUT);
        } else {
            let _ = self.thread.join();
        }
        self.next_avail.load(Ordering::Acquire)
    }
}

const KICK: u64 = 0;
const WAKE: u64 = 1;
const CHANNEL: u64 = 2;

/// The thread's end of what it shares with the control thread.
struct Shared {
    changes: Receiver<(Change, SyncSender<()>)>,
    wake: EventFd,
    next_avail: Arc<AtomicU16>,
    abandoned: Arc<AtomicBool>,
}

/// What the thread owns.
struct Loop {
    disk: Arc<Disk>,
    memory: Arc<GuestMemory>,
    ring: Ring,
    queue: u16,
    features: u64,
    writeback: Arc<AtomicBool>,
    channel: Box<dyn Channel>,
    /// By head, because a head may be in flight only once.
    in_flight: Vec<Option<Request>>,
    in_flight_count: usize,
    enabled: bool,
    draining: bool,
    /// The ring must not be touched any more.
    abandoned: Arc<AtomicBool>,
    changes: Receiver<(Change, SyncSender<()>)>,
    wake: EventFd,
    next_avail: Arc<AtomicU16>,
    epoll: Epoll,
    /// Kept open as long as it is in `epoll`.
    _kick: File,
    heads: Vec<u16>,
    done: Vec<Completion>,
}

impl Loop {
    fn new(setup: WorkerSetup, shared: Shared) -> io::Result<Self> {
        let queue = setup.ring.index;
        let size = usize::from(setup.ring.size);
        let ring =
            Ring::start(setup.ring, QUEUE_SIZE_MAX, &setup.memory).map_err(io::Error::other)?;
        let channel = setup.disk.node().channel()?;
        let epoll = Epoll::new()?;
        // Edge-triggered, so that a kick needs no read and an odd descriptor cannot spin us.
        let edge = EventSet::IN | EventSet::EDGE_TRIGGERED;
        let watch = |fd, events, token| {
            epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(events, token))
        };
        watch(setup.kick.as_raw_fd(), edge, KICK)?;
        watch(shared.wake.as_raw_fd(), EventSet::IN, WAKE)?;
        for fd in channel.wake_fds() {
            watch(fd.as_raw_fd(), EventSet::IN, CHANNEL)?;
        }
        Ok(Self {
            disk: setup.disk,
            memory: setup.memory,
            ring,
            queue,
            features: setup.features,
            writeback: setup.writeback,
            channel,
            in_flight: std::iter::repeat_with(|| None).take(size).collect(),
            in_flight_count: 0,
            enabled: setup.enabled,
            draining: false,
            abandoned: shared.abandoned,
            changes: shared.changes,
            wake: shared.wake,
            next_avail: shared.next_avail,
            epoll,
            _kick: setup.kick,
            heads: Vec::with_capacity(size),
            done: Vec::with_capacity(size),
        })
    }

    /// One round. False when the worker has ended.
    fn turn(&mut self) -> bool {
        self.take_changes();
        let reaped = self.reap();
        let fetched = self.fetch();
        self.channel.commit();
        let reaped = self.reap() || reaped;
        if !self.is_abandoned() {
            self.ring.announce(&self.memory);
        }
        if self.draining && self.in_flight_count == 0 {
            return false;
        }
        let busy = reaped || fetched || (self.may_fetch() && self.ring.rearm(&self.memory));
        if !busy {
            self.wait();
        }
        true
    }

    fn take_changes(&mut self) {
        while let Ok((change, done)) = self.changes.try_recv() {
            match change {
                Change::Enable(enabled) => self.enabled = enabled,
                Change::Call(call) => self.ring.set_call(call),
                Change::Err(err) => self.ring.set_err(err),
                Change::Memory(memory) => {
                    self.ring.check_place(&memory);
                    self.memory = memory;
                }
                Change::End => {
                    self.draining = true;
                    self.channel.fail_held(Errno::EIO);
                }
            }
            let _ = done.send(());
        }
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    fn may_fetch(&self) -> bool {
        self.enabled && !self.draining && self.ring.is_usable()
    }

    /// Take every request that is available. True if there was one.
    fn fetch(&mut self) -> bool {
        if !self.may_fetch() {
            return false;
        }
        let mut heads = std::mem::take(&mut self.heads);
        self.ring.fetch(&self.memory, &mut heads);
        self.next_avail.store(self.ring.next_avail(), Ordering::Release);
        let any = !heads.is_empty();
        for head in heads.drain(..) {
            self.take(head);
        }
        self.heads = heads;
        any
    }

    /// Take one request from the ring: it is submitted, or answered at once.
    fn take(&mut self, head: u16) {
        let ordinal = self.disk.next_ordinal();
        if self.in_flight[usize::from(head)].is_some() {
            return self.refuse(head, &"the descriptor is in flight already");
        }
        let terms = Terms::of(self.features, self.writeback.load(Ordering::Relaxed));
        let indirect = self.ring.indirect();
        match walk(&self.memory, self.ring.table(), head, indirect) {
            Err(bad) => self.refuse(head, &bad),
            Ok(chain) => match parse(&self.disk, terms, &self.memory, head, chain) {
                Parsed::Submit(request, kind) => self.submit(request, kind, ordinal),
                Parsed::Answer(request, outcome) => self.answer(request, outcome),
                Parsed::Refuse(used) => {
                    self.disk.stats.malformed.fetch_add(1, Ordering::Relaxed);
                    self.ring.push(&self.memory, used);
                }
            },
        }
    }

    /// Answer a head that no request can be made of: one used entry that claims nothing.
    fn refuse(&mut self, head: u16, why: &dyn std::fmt::Display) {
        self.disk.stats.malformed.fetch_add(1, Ordering::Relaxed);
        log::debug!("queue {}: malformed chain at descriptor {head}: {why}", self.queue);
        self.ring.push(&self.memory, Used { head, bytes: 0 });
    }

    fn submit(&mut self, request: Request, kind: OpKind, ordinal: u64) {
        let head = request.head();
        self.in_flight[usize::from(head)] = Some(request);
        self.in_flight_count += 1;
        let ticket = Ticket(u64::from(head));
        self.channel.submit(Op { ticket, ordinal, queue: self.queue, kind });
    }

    /// Answer every request that the node has ended. True if there was one.
    fn reap(&mut self) -> bool {
        let mut done = std::mem::take(&mut self.done);
        self.channel.poll(&mut done);
        let any = !done.is_empty();
        for completion in done.drain(..) {
            let slot = usize::try_from(completion.ticket.0).ok();
            let request = slot.and_then(|slot| self.in_flight.get_mut(slot)?.take());
            if let Some(request) = request {
                self.in_flight_count -= 1;
                self.answer(
                    request,
                    completion.result.map_or_else(Outcome::Failed, |()| Outcome::Done),
                );
            }
        }
        self.done = done;
        any
    }

    fn answer(&mut self, request: Request, outcome: Outcome) {
        self.count(&request, outcome);
        if self.is_abandoned() {
            return;
        }
        let used = request.finish(outcome);
        self.ring.push(&self.memory, used);
    }

    fn count(&self, request: &Request, outcome: Outcome) {
        let stats = &self.disk.stats;
        let end = match outcome {
            Outcome::Done => Ended::Done,
            Outcome::Failed(_) => Ended::Failed,
            Outcome::Invalid | Outcome::Unsupported => Ended::Invalid,
        };
        match request.what() {
            What::Io { iotype, offset_bytes, bytes } => {
                stats.count(iotype, end, (offset_bytes, bytes), request.taken());
                // A front end that is gone is told nothing, and so is nobody.
                if let (Outcome::Failed(errno), false) = (outcome, self.is_abandoned()) {
                    let failure = IoFailure { iotype, errno };
                    self.disk.observer.io_failed(&self.disk.options.id, failure);
                }
            }
            What::GetId => {
                stats.get_id_operations.fetch_add(1, Ordering::Relaxed);
            }
            What::Unknown => {
                stats.malformed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn wait(&mut self) {
        let mut events = [EpollEvent::default(); 8];
        let ready = match self.epoll.wait(-1, &mut events) {
            Ok(ready) => ready,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => {
                // Nothing can be waited for any more; go on slowly rather than spin.
                log::error!("queue {}: epoll_wait: {error}", self.queue);
                std::thread::sleep(Duration::from_millis(10));
                0
            }
        };
        if events[..ready].iter().any(|event| event.data() == WAKE) {
            let _ = self.wake.read();
        }
    }
}
