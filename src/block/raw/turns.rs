//! Who must wait for whom before touching the image.
//!
//! Knows: which ranges are being written and whether a flush is under way, over all channels of an
//! image. Must not know: how anything is written. Invariants: whoever waits, waits only for those
//! that came before it, so nobody waits in a circle; a flush that was asked for before another one
//! started is covered by that one; once a flush has failed, none succeeds.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::event::EventfdFlags;

/// Wakes a thread that waits in epoll: an eventfd.
#[derive(Debug)]
pub(super) struct Waker(OwnedFd);

impl Waker {
    pub(super) fn new() -> std::io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(rustix::event::eventfd(0, flags)?))
    }

    /// Make the descriptor readable. A counter that is full is readable already.
    pub(super) fn wake(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Make the descriptor unreadable. It may have been so already.
    pub(super) fn quieten(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ranges of the image that are being written, in the order of arrival.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: Mutex<Queue>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    number_next: u64,
    /// By ascending number.
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    range: Range<u64>,
    exclusive: bool,
    waiting: Option<Arc<Waker>>,
}

impl Queue {
    /// Whether nobody who came before stands in the way. Only an exclusive entry stands in the way
    /// of a shared one.
    fn is_up(&self, place: usize) -> bool {
        let Some(own) = self.entries.get(place) else { return true };
        !self.entries[..place].iter().any(|earlier| {
            (own.exclusive || earlier.exclusive)
                && earlier.range.start < own.range.end
                && own.range.start < earlier.range.end
        })
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&number, |entry| entry.number).ok()
    }
}

impl Turns {
    /// Stand in line for a range. Shared turns pass each other, an exclusive one passes nobody.
    pub(super) fn join(self: &Arc<Self>, range: Range<u64>, exclusive: bool) -> Turn {
        let mut queue = lock(&self.queue);
        let number = queue.number_next;
        queue.number_next += 1;
        queue.entries.push(Entry { number, range, exclusive, waiting: None });
        Turn { turns: self.clone(), number }
    }
}

/// A place in line, given up when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    number: u64,
}

impl Turn {
    /// Whether the range may be touched now; if not, `waker` is woken once it may.
    pub(super) fn is_up(&self, waker: &Arc<Waker>) -> bool {
        let mut queue = lock(&self.turns.queue);
        let Some(place) = queue.place(self.number) else { return true };
        let up = queue.is_up(place);
        queue.entries[place].waiting = (!up).then(|| waker.clone());
        up
    }

    /// Block until the range may be touched.
    pub(super) fn wait(&self) {
        let mut queue = lock(&self.turns.queue);
        while queue.place(self.number).is_some_and(|place| !queue.is_up(place)) {
            queue = self.turns.left.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = lock(&self.turns.queue);
        let Some(place) = queue.place(self.number) else { return };
        queue.entries.remove(place);
        for place in place..queue.entries.len() {
            if queue.entries[place].waiting.is_some()
                && queue.is_up(place)
                && let Some(waker) = queue.entries[place].waiting.take()
            {
                waker.wake();
            }
        }
        self.turns.left.notify_all();
    }
}

/// The one flush at a time of an image, and whether one has failed.
///
/// One at a time, because the kernel reports a lost write to one flush only: of two that ran side
/// by side, the other would claim that everything is durable.
#[derive(Debug, Default)]
pub(super) struct FlushGate {
    state: Mutex<FlushState>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct FlushState {
    number_next: u64,
    /// Flushes with a smaller number are covered by one that succeeded.
    covered_below: u64,
    /// What the flush under way will cover.
    running: Option<u64>,
    failed: bool,
    waiting: Vec<Arc<Waker>>,
}

/// What becomes of a flush.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FlushTurn {
    /// Ask the kernel, then call [`FlushGate::end`] or [`FlushGate::abandon`].
    Run,
    /// Another flush, started after this one was asked for, has done the work.
    Covered,
    /// A flush has failed: what it lost stays lost.
    Failed,
    /// Another flush is under way.
    Wait,
}

impl FlushGate {
    /// A number for a flush: writes that completed before this call are covered by it.
    pub(super) fn join(&self) -> u64 {
        let mut state = lock(&self.state);
        let number = state.number_next;
        state.number_next += 1;
        number
    }

    /// What the flush with this number is to do. Told to wait, `waker` is woken when to ask again.
    pub(super) fn ask(&self, number: u64, waker: Option<&Arc<Waker>>) -> FlushTurn {
        let mut state = lock(&self.state);
        if state.failed {
            FlushTurn::Failed
        } else if number < state.covered_below {
            FlushTurn::Covered
        } else if state.running.is_some() {
            state.waiting.extend(waker.cloned());
            FlushTurn::Wait
        } else {
            state.running = Some(state.number_next);
            FlushTurn::Run
        }
    }

    /// Block until [`ask`](Self::ask) may have another answer.
    pub(super) fn wait(&self) {
        let mut state = lock(&self.state);
        while state.running.is_some() {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The flush under way has ended.
    pub(super) fn end(&self, succeeded: bool) {
        let mut state = lock(&self.state);
        let covers_below = state.running.take().unwrap_or(0);
        if succeeded {
            state.covered_below = state.covered_below.max(covers_below);
        } else {
            state.failed = true;
        }
        self.wake_all(&mut state);
    }

    /// The flush under way will not be run.
    pub(super) fn abandon(&self) {
        let mut state = lock(&self.state);
        state.running = None;
        self.wake_all(&mut state);
    }

    fn wake_all(&self, state: &mut FlushState) {
        for waker in state.waiting.drain(..) {
            waker.wake();
        }
        self.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(waker: &Waker) -> bool {
        let mut fds = [rustix::event::PollFd::new(&waker.0, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())).unwrap() == 1
    }

    #[test]
    fn an_exclusive_turn_waits_for_those_before_it_and_holds_up_those_behind_it() {
        let turns = Arc::new(Turns::default());
        let waker = Arc::new(Waker::new().unwrap());
        let first = turns.join(0..10, false);
        let second = turns.join(5..15, true);
        let third = turns.join(8..9, false);
        let elsewhere = turns.join(15..20, true);
        assert!(first.is_up(&waker) && elsewhere.is_up(&waker));
        assert!(!second.is_up(&waker) && !third.is_up(&waker));
        drop(first);
        assert!(readable(&waker), "the second was woken");
        assert!(second.is_up(&waker) && !third.is_up(&waker));
        waker.quieten();
        drop(elsewhere);
        assert!(!readable(&waker), "nobody's turn has come");
        drop(second);
        assert!(readable(&waker) && third.is_up(&waker));
    }

    #[test]
    fn shared_turns_pass_each_other() {
        let turns = Arc::new(Turns::default());
        let waker = Arc::new(Waker::new().unwrap());
        let _first = turns.join(0..10, false);
        assert!(turns.join(0..10, false).is_up(&waker));
    }

    #[test]
    fn a_flush_asked_for_before_another_started_is_covered_by_it() {
        let gate = FlushGate::default();
        let waker = Arc::new(Waker::new().unwrap());
        let (first, second) = (gate.join(), gate.join());
        assert_eq!(gate.ask(first, Some(&waker)), FlushTurn::Run);
        let third = gate.join();
        assert_eq!(gate.ask(second, Some(&waker)), FlushTurn::Wait);
        assert_eq!(gate.ask(third, Some(&waker)), FlushTurn::Wait);
        gate.end(true);
        assert!(readable(&waker));
        assert_eq!(gate.ask(second, None), FlushTurn::Covered);
        assert_eq!(gate.ask(third, None), FlushTurn::Run, "it came after the first had started");
    }

    #[test]
    fn after_a_failed_flush_none_succeeds() {
        let gate = FlushGate::default();
        let (first, second) = (gate.join(), gate.join());
        assert_eq!(gate.ask(first, None), FlushTurn::Run);
        assert_eq!(gate.ask(second, None), FlushTurn::Wait);
        gate.end(false);
        assert_eq!(gate.ask(second, None), FlushTurn::Failed);
        assert_eq!(gate.ask(gate.join(), None), FlushTurn::Failed);
    }

    #[test]
    fn an_abandoned_flush_covers_nothing() {
        let gate = FlushGate::default();
        let (first, second) = (gate.join(), gate.join());
        assert_eq!(gate.ask(first, None), FlushTurn::Run);
        gate.abandon();
        assert_eq!(gate.ask(second, None), FlushTurn::Run);
    }
}
