//! Memory that clients share.
//!
//! Knows: how much there is, and who has how much of it. Must not know: what it is for. Invariant: a
//! share gives back what it took when it goes, however it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bytes for all clients together.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    bytes: usize,
    taken: Arc<AtomicUsize>,
}

impl Budget {
    /// Nobody has any of it yet.
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes, taken: Arc::default() }
    }

    /// Whether all of it is taken, or more.
    pub(super) fn is_spent(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.bytes
    }
}

/// What one has of a budget.
#[derive(Debug)]
pub(super) struct Share {
    of: Budget,
    bytes: usize,
}

impl Share {
    /// Nothing as yet.
    pub(super) fn of(budget: &Budget) -> Self {
        Self { of: budget.clone(), bytes: 0 }
    }

    /// What is taken.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Have so many bytes, also if there are not so many.
    pub(super) fn set(&mut self, bytes: usize) {
        self.of.taken.fetch_add(bytes, Ordering::Relaxed);
        self.of.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// Have so many bytes if there are; otherwise nothing changes.
    #[must_use = "there may not be so much"]
    pub(super) fn try_set(&mut self, bytes: usize) -> bool {
        let before = self.bytes;
        self.set(bytes);
        let is_there = self.of.taken.load(Ordering::Relaxed) <= self.of.bytes;
        if !is_there {
            self.set(before);
        }
        is_there
    }

    /// All of it, leaving nothing.
    pub(super) fn take(&mut self) -> Self {
        let budget = self.of.clone();
        std::mem::replace(self, Self::of(&budget))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_takes_another_cannot_have_until_it_is_given_back() {
        let budget = Budget::new(100);
        let (mut one, mut two) = (Share::of(&budget), Share::of(&budget));
        assert!(one.try_set(60) && !two.try_set(50) && two.try_set(40));
        assert!(budget.is_spent());
        assert_eq!((one.bytes(), two.bytes()), (60, 40), "a refusal changes nothing");
        let passed_on = one.take();
        assert_eq!((one.bytes(), passed_on.bytes()), (0, 60));
        drop(passed_on);
        assert!(!budget.is_spent() && two.try_set(100));
        two.set(200);
        assert!(budget.is_spent() && !one.try_set(1), "more may be taken than there is");
        drop(two);
        assert!(one.try_set(100));
    }
}
