//! Who must wait for whom before touching the image.
//!
//! Knows: which ranges are being written and whether a flush is under way, over all channels of an
//! image. Must not know: how anything is written. Invariants: whoever waits, waits only for those
//! that came before it, so nobody waits in a circle; a flush that was asked for before another one
//! started is covered by that one; once a flush has failed, none succeeds.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::block::waker::Waker;

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
    /// Each where it was put, so that coming and going asks for no memory.
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    /// How many entries are exclusive; without any, nobody waits.
    exclusive: usize,
    /// How many entries wait for their waker.
    waiting: usize,
    /// How many threads block.
    blocked: usize,
}

#[derive(Debug)]
struct Entry {
    /// Smaller ones came before.
    number: u64,
    range: Range<u64>,
    exclusive: bool,
    waiting: Option<Arc<Waker>>,
}

impl Entry {
    /// Whether the two must not run side by side. Shared ones may.
    fn excludes(&self, other: &Self) -> bool {
        (self.exclusive || other.exclusive)
            && self.range.start < other.range.end
            && other.range.start < self.range.end
    }
}

impl Queue {
    /// Whether nobody who came before stands in the way.
    fn is_up(&self, place: usize) -> bool {
        let Some(own) = &self.entries[place] else { return true };
        let stands_in_the_way = |other: &Entry| other.number < own.number && other.excludes(own);
        (!own.exclusive && self.exclusive == 0)
            || !self.entries.iter().flatten().any(stands_in_the_way)
    }

    fn join(&mut self, range: Range<u64>, exclusive: bool) -> usize {
        let entry = Entry { number: self.number_next, range, exclusive, waiting: None };
        self.number_next += 1;
        self.exclusive += usize::from(exclusive);
        let place = self.free.pop().unwrap_or(self.entries.len());
        if place == self.entries.len() {
            self.entries.push(Some(entry));
        } else {
            self.entries[place] = Some(entry);
        }
        place
    }

    fn leave(&mut self, place: usize) -> Option<Entry> {
        let entry = self.entries[place].take()?;
        self.free.push(place);
        self.exclusive -= usize::from(entry.exclusive);
        self.waiting -= usize::from(entry.waiting.is_some());
        Some(entry)
    }

    /// Wake those who waited for the one that left, and for nobody else any more.
    fn wake_behind(&mut self, left: &Entry) {
        if self.waiting == 0 {
            return;
        }
        let waits_for = |entry: &Entry| {
            entry.waiting.is_some() && entry.number > left.number && left.excludes(entry)
        };
        let up: Vec<usize> = (0..self.entries.len())
            .filter(|place| self.entries[*place].as_ref().is_some_and(waits_for))
            .filter(|place| self.is_up(*place))
            .collect();
        for place in up {
            if let Some(waker) = self.entries[place].as_mut().and_then(|e| e.waiting.take()) {
                self.waiting -= 1;
                waker.wake();
            }
        }
    }
}

impl Turns {
    /// Stand in line for a range. Shared turns pass each other, an exclusive one passes nobody.
    pub(super) fn join(self: &Arc<Self>, range: Range<u64>, exclusive: bool) -> Turn {
        let mut queue = lock(&self.queue);
        let place = queue.join(range, exclusive);
        let up = queue.is_up(place);
        Turn { turns: self.clone(), place, up }
    }
}

/// A place in line, given up when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    place: usize,
    /// Its turn has come; it does not go again.
    up: bool,
}

impl Turn {
    /// Whether the range may be touched now; if not, `waker` is woken once it may.
    pub(super) fn is_up(&mut self, waker: &Arc<Waker>) -> bool {
        if self.up {
            return true;
        }
        let mut queue = lock(&self.turns.queue);
        self.up = queue.is_up(self.place);
        let waits = !self.up;
        if let Some(entry) = &mut queue.entries[self.place] {
            let before = std::mem::replace(&mut entry.waiting, waits.then(|| waker.clone()));
            queue.waiting -= usize::from(before.is_some());
            queue.waiting += usize::from(waits);
        }
        self.up
    }

    /// Block until the range may be touched.
    pub(super) fn wait(&mut self) {
        self.wait_until(None);
    }

    /// Block until the range may be touched. False if that was not so by the deadline.
    pub(super) fn wait_until(&mut self, deadline: Option<Instant>) -> bool {
        if self.up {
            return true;
        }
        let mut queue = lock(&self.turns.queue);
        while !queue.is_up(self.place) {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            queue.blocked += 1;
            queue = match left {
                None => self.turns.left.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.turns.left.wait_timeout(queue, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            queue.blocked -= 1;
        }
        self.up = true;
        true
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = lock(&self.turns.queue);
        let Some(left) = queue.leave(self.place) else { return };
        queue.wake_behind(&left);
        if queue.blocked > 0 {
            self.turns.left.notify_all();
        }
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
            // One wake is enough for a channel, however often it asks.
            if let Some(waker) = waker
                && !state.waiting.iter().any(|waiting| Arc::ptr_eq(waiting, waker))
            {
                state.waiting.push(waker.clone());
            }
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

    #[test]
    fn an_exclusive_turn_waits_for_those_before_it_and_holds_up_those_behind_it() {
        let turns = Arc::new(Turns::default());
        let waker = Arc::new(Waker::new().unwrap());
        let mut first = turns.join(0..10, false);
        let mut second = turns.join(5..15, true);
        let mut third = turns.join(8..9, false);
        let mut elsewhere = turns.join(15..20, true);
        assert!(first.is_up(&waker) && elsewhere.is_up(&waker));
        assert!(!second.is_up(&waker) && !third.is_up(&waker));
        drop(first);
        assert!(waker.is_awake(), "the second was woken");
        assert!(second.is_up(&waker) && !third.is_up(&waker));
        waker.quieten();
        drop(elsewhere);
        assert!(!waker.is_awake(), "nobody's turn has come");
        drop(second);
        assert!(waker.is_awake() && third.is_up(&waker));
    }

    #[test]
    fn who_comes_later_stands_behind_whatever_place_it_is_given() {
        let turns = Arc::new(Turns::default());
        let waker = Arc::new(Waker::new().unwrap());
        let before = turns.join(0..10, false);
        let mut exclusive = turns.join(0..10, true);
        drop(before);
        // In the place of the one that left.
        let mut after = turns.join(0..10, false);
        assert!(exclusive.is_up(&waker) && !after.is_up(&waker));
        drop(exclusive);
        assert!(waker.is_awake() && after.is_up(&waker));
        assert_eq!(lock(&turns.queue).entries.len(), 2);
    }

    #[test]
    fn shared_turns_pass_each_other() {
        let turns = Arc::new(Turns::default());
        let waker = Arc::new(Waker::new().unwrap());
        let _first = turns.join(0..10, false);
        assert!(turns.join(0..10, false).is_up(&waker));
    }

    #[test]
    fn who_waits_for_a_turn_until_a_deadline_waits_no_longer() {
        let turns = Arc::new(Turns::default());
        let first = turns.join(0..10, false);
        let mut second = turns.join(5..u64::MAX, true);
        let soon = Instant::now() + std::time::Duration::from_millis(20);
        assert!(!second.wait_until(Some(soon)) && Instant::now() >= soon);
        drop(first);
        assert!(second.wait_until(Some(soon)), "it is up, however late it is");
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
        assert!(waker.is_awake());
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
