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
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::chain::walk;
use super::disk::{Disk, IoFailure, QUEUE_SIZE_MAX};
use super::memory::GuestMemory;
use super::request::{Outcome, Parsed, Request, Terms, Used, What, parse};
use super::ring::{Ring, RingSetup};
use super::stats::Ended;
use crate::block::{Channel, Completion, Op, OpKind, Ticket};

/// How long a worker may take to finish what is at the image before it is left to itself: QEMU's
/// main loop waits for the answer.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// GET_VRING_BASE: take nothing more, answer what was taken.
    Drain,
    /// The front end is gone: take nothing more, touch the ring no more.
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
        let wake_in = wake.try_clone()?;
        let next_avail = Arc::new(AtomicU16::new(setup.ring.next_avail));
        let next_avail_in = next_avail.clone();
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            match Loop::new(setup, changes_in, wake_in, next_avail_in) {
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
            Ok(Ok(())) => Ok(Self { name, changes, wake, next_avail, ended, thread }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the worker ended while it started")),
        }
    }

    /// Make a change; it is in force when this returns.
    pub(super) fn tell(&self, change: Change) {
        let (done, is_done) = sync_channel(1);
        if self.changes.send((change, done)).is_err() {
            return;
        }
        let _ = self.wake.write(1);
        if is_done.recv_timeout(STOP_TIMEOUT).is_err() {
            log::error!("worker {} does not answer", self.name);
        }
    }

    /// Take nothing more, answer what was taken, end. Returns the avail index that comes next.
    ///
    /// Requests that are still at the image after a second are left behind: the worker finishes
    /// them without touching the ring.
    pub(super) fn stop(self, how: Change) -> u16 {
        let abandoned = matches!(how, Change::Abandon);
        self.tell(how);
        if self.ended.recv_timeout(STOP_TIMEOUT).is_ok() {
            let _ = self.thread.join();
        } else {
            log::error!(
                "worker {}: requests are stuck at the image and are left behind",
                self.name
            );
            if !abandoned {
                self.tell(Change::Abandon);
            }
        }
        self.next_avail.load(Ordering::Acquire)
    }
}

const KICK: u64 = 0;
const WAKE: u64 = 1;
const CHANNEL: u64 = 2;

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
    abandoned: bool,
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
    fn new(
        setup: WorkerSetup,
        changes: Receiver<(Change, SyncSender<()>)>,
        wake: EventFd,
        next_avail: Arc<AtomicU16>,
    ) -> io::Result<Self> {
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
        watch(wake.as_raw_fd(), EventSet::IN, WAKE)?;
        if let Some(fd) = channel.wake_fd() {
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
            abandoned: false,
            changes,
            wake,
            next_avail,
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
        if !self.abandoned {
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
                Change::Drain => self.draining = true,
                Change::Abandon => {
                    self.draining = true;
                    self.abandoned = true;
                }
            }
            let _ = done.send(());
        }
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
        if self.abandoned {
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
                if let Outcome::Failed(errno) = outcome {
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
        let mut events = [EpollEvent::default(); 3];
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
