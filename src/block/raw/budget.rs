//! A limit on what requests take at once, first come, first served.
//!
//! Knows: how many bytes are taken and who waits for some. Must not know: what they are taken for.
//! Invariants: no more than the limit is taken, except by one who takes more than that alone; who
//! comes first is served first, so nobody starves; who was served waits for nobody here, so that
//! those in line wait only for work that is under way.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::block::waker::Waker;

/// Bytes of which only so many are taken at once.
#[derive(Debug)]
pub(super) struct Budget {
    limit_bytes: u64,
    state: Mutex<State>,
    granted: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken_bytes: u64,
    number_next: u64,
    /// By ascending number. Whoever is not in line was served.
    line: VecDeque<Waiting>,
    /// Threads that block.
    blocked: usize,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    bytes: u64,
    waker: Option<Arc<Waker>>,
}

impl State {
    fn place(&self, number: u64) -> Option<usize> {
        self.line.binary_search_by_key(&number, |waiting| waiting.number).ok()
    }

    /// Serve those for whom there is room now.
    fn serve(&mut self, limit_bytes: u64) {
        while let Some(first) = self.line.front()
            && (self.taken_bytes == 0 || self.taken_bytes + first.bytes <= limit_bytes)
        {
            self.taken_bytes += first.bytes;
            if let Some(waker) = self.line.pop_front().and_then(|waiting| waiting.waker) {
                waker.wake();
            }
        }
    }
}

impl Budget {
    /// A budget of so many bytes.
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, state: Mutex::default(), granted: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stand in line for so many bytes.
    pub(super) fn join(self: &Arc<Self>, bytes: u64) -> Lease {
        let mut state = self.lock();
        let number = state.number_next;
        state.number_next += 1;
        state.line.push_back(Waiting { number, bytes, waker: None });
        state.serve(self.limit_bytes);
        Lease { budget: self.clone(), number, bytes }
    }

    /// Bytes that are taken now.
    #[cfg(test)]
    pub(super) fn taken_bytes(&self) -> u64 {
        self.lock().taken_bytes
    }
}

/// A place in line, and later a share of the budget; given up when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    budget: Arc<Budget>,
    number: u64,
    bytes: u64,
}

impl Lease {
    /// Whether the bytes may be taken now; if not, `waker` is woken once they may.
    pub(super) fn is_up(&self, waker: &Arc<Waker>) -> bool {
        let mut state = self.budget.lock();
        let Some(place) = state.place(self.number) else { return true };
        state.line[place].waker = Some(waker.clone());
        false
    }

    /// Block until the bytes may be taken.
    pub(super) fn wait(&self) {
        let mut state = self.budget.lock();
        while state.place(self.number).is_some() {
            state.blocked += 1;
            state = self.budget.granted.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.blocked -= 1;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        match state.place(self.number) {
            Some(place) => drop(state.line.remove(place)),
            None => state.taken_bytes -= self.bytes,
        }
        state.serve(self.budget.limit_bytes);
        if state.blocked > 0 {
            self.budget.granted.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_and_the_first_in_line_is_served_first() {
        let budget = Arc::new(Budget::new(10));
        let waker = Arc::new(Waker::new().unwrap());
        let first = budget.join(6);
        let second = budget.join(6);
        let third = budget.join(1);
        assert!(first.is_up(&waker));
        assert!(!second.is_up(&waker) && !third.is_up(&waker), "a small one does not slip past");
        assert_eq!(budget.taken_bytes(), 6);
        drop(first);
        assert!(waker.is_awake() && second.is_up(&waker) && third.is_up(&waker));
        assert_eq!(budget.taken_bytes(), 7);
        drop((second, third));
        assert_eq!(budget.taken_bytes(), 0);
    }

    #[test]
    fn one_that_takes_more_than_there_is_gets_it_alone() {
        let budget = Arc::new(Budget::new(10));
        let waker = Arc::new(Waker::new().unwrap());
        let small = budget.join(1);
        let large = budget.join(50);
        assert!(!large.is_up(&waker));
        drop(small);
        assert!(large.is_up(&waker));
        assert!(!budget.join(1).is_up(&waker));
    }

    #[test]
    fn one_that_gives_up_its_place_lets_those_behind_it_pass() {
        let budget = Arc::new(Budget::new(10));
        let waker = Arc::new(Waker::new().unwrap());
        let _first = budget.join(6);
        let second = budget.join(6);
        let third = budget.join(4);
        assert!(!third.is_up(&waker));
        drop(second);
        assert!(waker.is_awake() && third.is_up(&waker));
    }

    #[test]
    fn a_thread_that_blocks_is_let_go() {
        let budget = Arc::new(Budget::new(10));
        let first = budget.join(10);
        let second = budget.join(10);
        let thread = std::thread::spawn(move || second.wait());
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!thread.is_finished());
        drop(first);
        thread.join().unwrap();
    }
}
