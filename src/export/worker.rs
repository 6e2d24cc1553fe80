//! One thread, one virtqueue: take requests, ask the node, answer.
//!
//! Knows: a started [`Ring`], a [`Channel`] of its own, and how to wait for either. Must not know:
//! vhost-user. Invariants: the ring belongs to this thread alone while it is started, and the
//! control thread talks to it by [`Change`]; every head that was taken gets one used entry, with
//! no early return between the two, unless the front end is gone; what an earlier worker took and
//! did not answer is done before anything new, and nothing while one is still at the image; what
//! the image does not end in time when the ring stops is answered all the same, and its end is
//! then not heard of.

mod undone;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::chain::walk;
use super::control::{Change, Listener};
use super::disk::{Disk, IoFailure, QUEUE_SIZE_MAX};
#[cfg(feature = "fuzzing")]
use super::fuzzing::watch::{Event, tell};
use super::in_flight::InFlight;
use super::inflight::Taken;
use super::late::Wait;
use super::memory::{GuestMemory, own_handle};
use super::patience::Patience;
use super::polling::{LEAD, Polling};
use super::redo::{Redo, unfinished};
use super::request::{Outcome, Parsed, Request, Terms, Used, What, parse};
use super::ring::{Mark, Ring, RingSetup};
use super::round::Round;
use super::stats::Ended;
use crate::block::{Channel, Completion, Op, OpKind, Ticket};
use crate::errno::Errno;

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

/// The head that a ticket is for: tickets are made of heads.
fn head_of(ticket: Ticket) -> u16 {
    u16::try_from(ticket.0).unwrap_or(u16::MAX)
}

const KICK: u64 = 0;
const WAKE: u64 = 1;
const CHANNEL: u64 = 2;

/// What the thread owns.
pub(super) struct Loop {
    disk: Arc<Disk>,
    memory: Arc<GuestMemory>,
    ring: Ring,
    queue: u16,
    features: u64,
    writeback: Arc<AtomicBool>,
    channel: Box<dyn Channel>,
    /// By head, because a head may be in flight only once.
    in_flight: InFlight<Request>,
    enabled: bool,
    /// Set while the ring stops.
    draining: Option<Patience>,
    /// Requests that were answered although the image has not done with them.
    given_up: usize,
    /// What the control thread tells, and is told.
    control: Listener,
    epoll: Epoll,
    /// Kept open as long as it is in `epoll`.
    _kick: File,
    heads: Vec<u16>,
    done: Vec<Completion>,
    /// What an earlier worker took and did not answer; the first is the last here.
    unfinished: Vec<Taken>,
    /// What becomes of them.
    redo: Redo,
    /// How much is taken from the ring next.
    round: Round,
    /// Earlier workers that are still at the image, of this disk or another over it.
    late: Wait,
    polling: Polling,
    /// When the batch was fetched or ended that is being worked on.
    now: Instant,
}

impl Loop {
    pub(super) fn new(setup: WorkerSetup, control: Listener) -> io::Result<Self> {
        let queue = setup.ring.index;
        let ring_size = setup.ring.size;
        let (mut ring, recovered) =
            Ring::start(setup.ring, QUEUE_SIZE_MAX, &setup.memory).map_err(io::Error::other)?;
        let (redo, unfinished) = unfinished(&setup.disk, queue, recovered);
        // Under a new number, where the log has none that is believed.
        unfinished.iter().for_each(|taken| ring.take(taken.head, taken.ordinal));
        let mut channel = setup.disk.node().channel()?;
        let ordinals: Vec<u64> = unfinished.iter().map(|taken| taken.ordinal).collect();
        if ring.has_log() {
            channel.take_up(queue, if redo == Redo::Submit { &ordinals } else { &[] });
        }
        let epoll = Epoll::new()?;
        // Edge-triggered, so that a kick needs no read and an odd descriptor cannot spin us.
        let edge = EventSet::IN | EventSet::EDGE_TRIGGERED;
        let watch = |fd, events, token| {
            epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(events, token))
        };
        watch(setup.kick.as_raw_fd(), edge, KICK)?;
        watch(control.wake().as_raw_fd(), EventSet::IN, WAKE)?;
        for fd in channel.wake_fds() {
            watch(fd.as_raw_fd(), EventSet::IN, CHANNEL)?;
        }
        control.set_next_avail(ring.next_avail());
        let now = Instant::now();
        let polling = Polling::new(setup.disk.options.poll, now);
        if polling.is_on() {
            channel.wake_early(LEAD);
        }
        Ok(Self {
            polling,
            late: Wait::begin(&setup.disk.late),
            disk: setup.disk,
            memory: own_handle(&setup.memory),
            ring,
            queue,
            features: setup.features,
            writeback: setup.writeback,
            channel,
            in_flight: InFlight::new(ring_size),
            enabled: setup.enabled,
            draining: None,
            given_up: 0,
            control,
            epoll,
            _kick: setup.kick,
            heads: Vec::with_capacity(ring_size.into()),
            done: Vec::with_capacity(ring_size.into()),
            unfinished,
            redo,
            round: Round::first(),
            now,
        })
    }

    /// One round. False when the worker has ended.
    pub(super) fn turn(&mut self) -> bool {
        self.take_changes();
        let reaped = self.reap();
        let fetched = self.fetch();
        self.channel.commit();
        let reaped = self.reap() || reaped;
        self.give_up();
        if !self.is_abandoned() {
            self.ring.announce(&self.memory);
        }
        if self.draining.is_some() && self.in_flight.len() == 0 && !self.owes() {
            return false;
        }
        let busy =
            reaped || fetched || self.look() || (self.may_fetch() && self.ring.rearm(&self.memory));
        if !busy {
            self.sleep();
        }
        true
    }

    /// Look for more to do for a while, if that is likely to be worth it. True if there is.
    fn look(&mut self) -> bool {
        if !self.polling.is_on() || !self.may_fetch() {
            return false;
        }
        let mut now = Instant::now();
        let moment = self.channel.next_moment();
        let Some(look) = self.polling.look(now, moment) else {
            return false;
        };
        let found = loop {
            if self.ring.has_more(&self.memory)
                || self.channel.has_ended()
                || self.control.has_changes()
                || moment.is_some_and(|moment| moment <= now)
            {
                break true;
            }
            now = Instant::now();
            if !look.goes_on(now) {
                break false;
            }
            // Whoever would ask for more may be waiting for this very processor.
            std::thread::yield_now();
        };
        self.polling.looked(look, now, found);
        found
    }

    fn sleep(&mut self) {
        let began = self.polling.is_on().then(Instant::now);
        self.wait();
        if let Some(began) = began {
            self.polling.slept(began, Instant::now());
        }
    }

    /// It has ended. Comes before it is dropped, which waits for the image.
    pub(super) fn end(&self) {
        self.control.end(self.given_up);
    }

    fn take_changes(&mut self) {
        while let Some(change) = self.control.take() {
            match change {
                Change::Enable(enabled) => self.enabled = enabled,
                Change::Call(call) => self.ring.set_call(call),
                Change::Err(err) => self.ring.set_err(err),
                Change::Memory(memory) => {
                    self.ring.check_place(&memory);
                    self.memory = own_handle(&memory);
                }
                Change::End(patience) => {
                    self.finish_all();
                    self.draining = Some(patience);
                    if self.keeps() {
                        self.channel.keep_held();
                    } else {
                        self.channel.fail_held(Errno::EIO);
                    }
                }
            }
            self.control.in_force();
        }
    }

    fn is_abandoned(&self) -> bool {
        self.control.is_abandoned() || self.disk.ending.is_left_behind()
    }

    fn may_fetch(&self) -> bool {
        self.enabled
            && self.draining.is_none()
            && !self.is_abandoned()
            && self.ring.is_usable()
            && self.late.is_over()
    }

    /// Take requests that are available, as many as a [`Round`] has. True if there was one.
    fn fetch(&mut self) -> bool {
        self.late.look();
        if let Some(patience) = self.draining {
            return self.settle(patience);
        }
        if !self.may_fetch() {
            return false;
        }
        if !self.unfinished.is_empty() {
            self.finish();
            return true;
        }
        let mut heads = std::mem::take(&mut self.heads);
        self.ring.fetch(&self.memory, &mut heads);
        if !heads.is_empty() {
            self.now = Instant::now();
        }
        self.round.set_early(heads.len() < 2 || self.channel.ends_at_once());
        let (mut taken, mut asked_bytes) = (0, 0);
        while taken < heads.len() && self.round.goes_on(asked_bytes) && !self.is_abandoned() {
            #[cfg(feature = "fuzzing")]
            tell(Event::Taking { queue: self.queue, head: heads[taken] });
            asked_bytes += self.take(heads[taken]);
            #[cfg(feature = "fuzzing")]
            tell(Event::Taken);
            taken += 1;
        }
        let left = u16::try_from(heads.len() - taken).unwrap_or(0);
        self.ring.put_back(left);
        self.round.ended(left > 0);
        self.control.set_next_avail(self.ring.next_avail());
        heads.clear();
        self.heads = heads;
        taken > 0
    }

    /// Take one request from the ring: it is submitted, or answered at once. Tells how many bytes
    /// were asked of the image.
    fn take(&mut self, head: u16) -> u64 {
        let ordinal = self.disk.ordinals.take();
        if self.in_flight.has(head) {
            self.refuse(head, Mark::Stays, &"the descriptor is in flight already");
            return 0;
        }
        self.ring.take(head, ordinal);
        self.do_head(head, ordinal, None)
    }

    /// Do what a head asks for that is marked as taken, now or by an earlier worker.
    fn do_head(&mut self, head: u16, ordinal: u64, redo: Option<Redo>) -> u64 {
        let writeback = self.writeback.load(Ordering::Relaxed);
        let terms = Terms::of(self.features, writeback, self.disk.options.writeback);
        let indirect = self.ring.indirect();
        match walk(&self.memory, self.ring.table(), head, indirect) {
            Err(bad) => self.refuse(head, Mark::Ends, &bad),
            Ok(chain) => match parse(&self.disk, terms, &self.memory, head, chain, self.now) {
                Parsed::Submit(request, _) if redo == Some(Redo::Fail) => {
                    self.answer(request, Outcome::Failed(Errno::EIO));
                }
                Parsed::Submit(request, kind) => {
                    return self.submit(request, kind, ordinal, redo.is_some());
                }
                // A rule may have something to say about it.
                Parsed::Answer(request, Outcome::Done) if request.what() == What::GetId => {
                    return self.submit(request, OpKind::GetId, ordinal, redo.is_some());
                }
                Parsed::Answer(request, outcome) => self.answer(request, outcome),
                Parsed::Refuse(used) => {
                    self.disk.stats.count_malformed(self.queue);
                    self.push(used, Mark::Ends);
                }
            },
        }
        0
    }

    /// Answer a head that no request can be made of: one used entry that claims nothing.
    fn refuse(&mut self, head: u16, mark: Mark, why: &dyn std::fmt::Display) {
        self.disk.stats.count_malformed(self.queue);
        log::debug!("queue {}: malformed chain at descriptor {head}: {why}", self.queue);
        self.push(Used { head, bytes: 0 }, mark);
    }

    fn submit(&mut self, request: Request, kind: OpKind, ordinal: u64, again: bool) -> u64 {
        let head = request.head();
        self.in_flight.insert(head, request);
        let op = Op { ticket: Ticket(u64::from(head)), ordinal, queue: self.queue, kind };
        let bytes = op.io().bytes;
        if again {
            self.channel.submit_again(op);
        } else {
            self.channel.submit(op);
        }
        bytes
    }

    /// Answer every request that the node has ended. True if there was one.
    fn reap(&mut self) -> bool {
        let mut done = std::mem::take(&mut self.done);
        self.channel.poll(&mut done);
        let any = !done.is_empty();
        if any {
            self.now = Instant::now();
        }
        for completion in done.drain(..) {
            if let Some(request) = self.in_flight.take(head_of(completion.ticket)) {
                self.answer(
                    request,
                    completion.result.map_or_else(Outcome::Failed, |()| Outcome::Done),
                );
            }
        }
        self.done = done;
        if any && !self.is_abandoned() {
            self.channel.answered();
        }
        for ticket in self.channel.take_kept() {
            // No answer: it stays marked, and the next worker takes it up.
            self.in_flight.take(head_of(ticket));
        }
        any
    }

    /// Answer what a ring that stops does not wait for any more. Its memory stays mapped, because
    /// the op at the image keeps it; its end finds nothing to answer.
    fn give_up(&mut self) {
        let Some(patience) = self.draining else {
            return;
        };
        let (now, before) = (Instant::now(), self.given_up);
        self.now = now;
        for head in self.in_flight.heads() {
            let is_over = |request: &Request| patience.is_over(request.is_read(), now);
            if let Some(request) = self.in_flight.take_if(head, is_over) {
                self.given_up += 1;
                self.answer(request, Outcome::Failed(Errno::EIO));
            }
        }
        if self.given_up > before {
            log::error!(
                "disk {} queue {}: {} requests do not end at the image: failed, for the ring stops",
                self.disk.options.id,
                self.queue,
                self.given_up - before
            );
        }
    }

    fn answer(&mut self, request: Request, outcome: Outcome) {
        let outcome = request.judge(outcome);
        self.count(&request, outcome);
        if self.is_abandoned() {
            return;
        }
        let used = request.finish(outcome);
        self.push(used, Mark::Ends);
    }

    fn push(&mut self, used: Used, mark: Mark) {
        if !self.is_abandoned() {
            #[cfg(feature = "fuzzing")]
            tell(Event::Answered { queue: self.queue, head: used.head });
            self.ring.push(&self.memory, used, mark);
        }
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
                let time = (request.taken(), self.now);
                stats.count(self.queue, iotype, end, (offset_bytes, bytes), time);
                // A front end that is gone is told nothing, and so is nobody.
                if let (Outcome::Failed(errno), false) = (outcome, self.is_abandoned()) {
                    let failure = IoFailure { iotype, errno };
                    self.disk.observer.io_failed(&self.disk.options.id, failure);
                }
            }
            What::GetId => stats.count_get_id(self.queue),
            What::Unknown => stats.count_malformed(self.queue),
        }
    }

    /// Whether [`wait`](Self::wait) would return at once.
    #[cfg(feature = "fuzzing")]
    pub(super) fn would_wake(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        // SAFETY: the descriptor is open as long as `self`, which outlives the result.
        let epoll = unsafe { std::os::fd::BorrowedFd::borrow_raw(self.epoll.as_raw_fd()) };
        poll(&mut [PollFd::new(&epoll, PollFlags::IN)], Some(&Timespec::default())) == Ok(1)
    }

    fn wait(&mut self) {
        let mut events = [EpollEvent::default(); 8];
        // Rounded up, so that something is over when it wakes us.
        let until = |patience: Patience| patience.next(Instant::now()) + Duration::from_millis(1);
        let left = self.draining.map(until).into_iter().chain(self.late.next()).min();
        let timeout_ms =
            left.map_or(-1, |left| i32::try_from(left.as_millis()).unwrap_or(i32::MAX));
        let ready = match self.epoll.wait(timeout_ms, &mut events) {
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
            let _ = self.control.wake().read();
        }
    }
}
