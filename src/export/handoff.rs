//! What the control thread and a queue's worker hand to each other.
//!
//! Knows: changes by their order, a wake, locks and atomics. Must not know: what a change is, rings, or
//! how the worker sleeps. Invariants: changes are taken in the order in which they were sent, each once;
//! who waits for a change hears that it is in force or that the worker has ended, whatever ends it; a
//! worker that sleeps only once it found no change, until it is woken, misses none; what the worker did
//! before it ended is seen by whoever hears of its end.
//!
//! `tests/loom` tries this very file in every order of its steps that the language allows. Models have
//! no clock, so that [`Shared::pause`] is all that differs.

use std::collections::VecDeque;
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU16, Ordering},
};
#[cfg(not(loom))]
use std::time::Instant;

#[cfg(loom)]
use loom::sync::{
    Arc, Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU16, Ordering},
};

/// How long somebody waits.
#[cfg(not(loom))]
pub(super) type Deadline = Instant;
/// As long as it takes.
#[cfg(loom)]
pub(super) type Deadline = ();

/// What gets a worker out of its sleep, or keeps it from falling asleep once.
pub(super) trait Wake {
    /// Wake it.
    fn wake(&self);
}

#[derive(Debug)]
struct Shared<C, W> {
    /// Whether there are changes, so that a worker with nothing to hear takes no lock.
    has_changes: AtomicBool,
    abandoned: AtomicBool,
    next_avail: AtomicU16,
    wake: W,
    state: Mutex<State<C>>,
    /// Something is in force, or the worker has ended.
    news: Condvar,
}

#[derive(Debug)]
struct State<C> {
    changes: VecDeque<C>,
    /// How many were ever sent.
    sent: u64,
    /// How many of them are in force.
    in_force: u64,
    /// How many requests a worker gave up that has ended.
    ended: Option<usize>,
}

/// The number of a change, counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent(u64);

/// What is heard of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is in force.
    InForce,
    /// Nobody is there any more for whom it could be.
    Ended,
}

/// The control thread's end.
#[derive(Debug)]
pub(super) struct Teller<C, W>(Arc<Shared<C, W>>);

/// The worker's end. When it is dropped the worker has ended.
#[derive(Debug)]
pub(super) struct Listener<C, W>(Arc<Shared<C, W>>);

/// Both ends, of a worker that `wake` wakes.
pub(super) fn ends<C, W: Wake>(wake: W, next_avail: u16) -> (Teller<C, W>, Listener<C, W>) {
    let state = State { changes: VecDeque::new(), sent: 0, in_force: 0, ended: None };
    let shared = Arc::new(Shared {
        has_changes: AtomicBool::new(false),
        abandoned: AtomicBool::new(false),
        next_avail: AtomicU16::new(next_avail),
        wake,
        state: Mutex::new(state),
        news: Condvar::new(),
    });
    (Teller(shared.clone()), Listener(shared))
}

impl<C, W> Shared<C, W> {
    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `look` finds, as soon as it finds something; nothing if it does not in time.
    fn wait<T>(&self, until: Deadline, look: impl Fn(&State<C>) -> Option<T>) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(found) = look(&state) {
                return Some(found);
            }
            state = self.pause(state, until)?;
        }
    }

    /// Until there may be news; nothing when the time is over.
    #[cfg(not(loom))]
    fn pause<'a>(
        &self,
        state: MutexGuard<'a, State<C>>,
        until: Deadline,
    ) -> Option<MutexGuard<'a, State<C>>> {
        let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let (state, _) =
            self.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        Some(state)
    }

    #[cfg(loom)]
    fn pause<'a>(
        &self,
        state: MutexGuard<'a, State<C>>,
        (): Deadline,
    ) -> Option<MutexGuard<'a, State<C>>> {
        Some(self.news.wait(state).unwrap_or_else(PoisonError::into_inner))
    }

    /// The worker has ended. Only the first number counts.
    fn end(&self, given_up: usize) {
        let mut state = self.state();
        state.ended.get_or_insert(given_up);
        self.has_changes.store(false, Ordering::Release);
        let unheard = std::mem::take(&mut state.changes);
        drop(state);
        self.news.notify_all();
        // They may keep memory mapped and files open.
        drop(unheard);
    }
}

impl<C, W: Wake> Teller<C, W> {
    /// Send a change; [`heard`](Self::heard) tells what became of it.
    pub(super) fn send(&self, change: C) -> Sent {
        let mut state = self.0.state();
        state.sent += 1;
        let sent = Sent(state.sent);
        if state.ended.is_none() {
            state.changes.push_back(change);
            self.0.has_changes.store(true, Ordering::Release);
            drop(state);
            // Last, because whoever is woken looks once.
            self.0.wake.wake();
        }
        sent
    }

    /// Wait until a change is in force or the worker has ended; nothing if neither is so in time.
    pub(super) fn heard(&self, Sent(sent): Sent, until: Deadline) -> Option<Heard> {
        self.0.wait(until, |state| match state.ended {
            _ if state.in_force >= sent => Some(Heard::InForce),
            Some(_) => Some(Heard::Ended),
            None => None,
        })
    }

    /// The worker must not touch the ring any more. It sees this no later than whatever is sent after.
    pub(super) fn abandon(&self) {
        self.0.abandoned.store(true, Ordering::Release);
    }

    /// Wait until the worker has ended; how many requests it gave up.
    pub(super) fn ended(&self, until: Deadline) -> Option<usize> {
        self.0.wait(until, |state| state.ended)
    }

    /// The avail index that comes next: the last one, once the worker has ended.
    pub(super) fn next_avail(&self) -> u16 {
        self.0.next_avail.load(Ordering::Acquire)
    }
}

impl<C, W> Listener<C, W> {
    /// Whether a change waits to be taken.
    pub(super) fn has_changes(&self) -> bool {
        self.0.has_changes.load(Ordering::Acquire)
    }

    /// The change that comes next, if there is one. [`in_force`](Self::in_force) follows.
    pub(super) fn take(&self) -> Option<C> {
        if !self.has_changes() {
            return None;
        }
        let mut state = self.0.state();
        let change = state.changes.pop_front();
        self.0.has_changes.store(!state.changes.is_empty(), Ordering::Release);
        change
    }

    /// The change that was taken last is in force.
    pub(super) fn in_force(&self) {
        self.0.state().in_force += 1;
        self.0.news.notify_all();
    }

    /// Whether the ring must not be touched any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.0.abandoned.load(Ordering::Acquire)
    }

    /// Tell the avail index that comes next.
    pub(super) fn set_next_avail(&self, next_avail: u16) {
        self.0.next_avail.store(next_avail, Ordering::Release);
    }

    /// What wakes the worker.
    pub(super) fn wake(&self) -> &W {
        &self.0.wake
    }

    /// The worker has ended and gave up so many requests; it touches nothing that is the ring's.
    pub(super) fn end(&self, given_up: usize) {
        self.0.end(given_up);
    }
}

impl<C, W> Drop for Listener<C, W> {
    fn drop(&mut self) {
        self.0.end(0);
    }
}
