//! The numbers of a disk's requests, in the order in which it takes them from its rings.
//!
//! Knows: which number comes next, and how far others are believed who tell of earlier ones. Must not know:
//! requests, rings or logs. Invariants: no number is given twice, and none that was told and believed;
//! whatever was told, there are numbers left for longer than any machine lasts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A front end is believed about requests of an earlier process up to here: more than a disk takes in a
/// hundred years at a million a second, and few enough that what comes after is, as long again, a number that
/// every JSON parser reads exactly. Only what the disk has come to by itself is beyond it.
const TOLD_END: u64 = 1 << 52;
/// The same for what the daemon wrote down itself.
const REMEMBERED_END: u64 = 1 << 63;

/// What was taken so far. On cache lines of its own, because every request changes it, and reads the rest
/// of the disk.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Ordinals {
    next: AtomicU64,
    /// This process gave one of them.
    any: AtomicBool,
}

impl Ordinals {
    /// The next request's.
    pub(super) fn take(&self) -> u64 {
        if !self.any.load(Ordering::Relaxed) {
            self.any.store(true, Ordering::Relaxed);
        }
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether this process has given any.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// As if it had given none.
    pub(super) fn forget_any(&self) {
        self.any.store(false, Ordering::Relaxed);
    }

    /// Whether the number was given, or skipped because others had given it.
    pub(super) fn has(&self, ordinal: u64) -> bool {
        ordinal < self.next.load(Ordering::Relaxed)
    }

    /// Whether an earlier process may have given the number, as a front end tells.
    pub(super) fn may_be(&self, ordinal: u64) -> bool {
        ordinal < TOLD_END || self.has(ordinal)
    }

    /// Give no number from now on that is below this one, of which a state file tells or that
    /// [`may_be`](Self::may_be).
    pub(super) fn skip_below(&self, ordinal: u64) {
        self.next.fetch_max(ordinal.min(REMEMBERED_END), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_skipped_is_not_given() {
        let ordinals = Ordinals::default();
        assert_eq!((ordinals.take(), ordinals.take()), (0, 1));
        ordinals.skip_below(7);
        ordinals.skip_below(3);
        assert!(ordinals.has(6) && !ordinals.has(7));
        assert_eq!(ordinals.take(), 7);
    }

    #[test]
    fn whatever_is_told_there_are_numbers_left() {
        let ordinals = Ordinals::default();
        assert!(ordinals.may_be(TOLD_END - 1) && !ordinals.may_be(TOLD_END));
        ordinals.skip_below(TOLD_END);
        ordinals.take();
        assert!(ordinals.may_be(TOLD_END), "it was given");
        assert!(!ordinals.may_be(TOLD_END + 1) && !ordinals.may_be(u64::MAX));
        ordinals.skip_below(u64::MAX);
        assert_eq!(ordinals.take(), REMEMBERED_END);
    }
}
