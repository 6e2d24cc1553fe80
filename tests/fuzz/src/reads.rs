//! Whether guest bytes were read more often than they may.
//!
//! Knows: what a device read and what the reference needs. Must not know: why. Invariant: reads of the
//! same byte by two parts of a chain (a header that is a descriptor, too) are allowed twice, and not
//! three times.

use std::cell::RefCell;

use crate::guest::{BYTES, is_there};
use crate::model::Reads;

/// How often each byte of a guest's memory was read, less what was allowed.
struct Tally(Vec<i32>);

thread_local! {
    /// All zero between checks; kept, because to make one is dear.
    static TALLY: RefCell<Tally> = RefCell::new(Tally(vec![0; BYTES]));
}

/// Fail where `read` has a byte more often than `allowed`.
pub fn check(read: &Reads, allowed: &Reads) {
    if read != allowed {
        TALLY.with_borrow_mut(|tally| tally.check(read, allowed));
    }
}

impl Tally {
    fn each(&mut self, reads: &Reads, mut with: impl FnMut(u64, &mut i32)) {
        for (at, bytes) in reads {
            for at in (*at..at.saturating_add(*bytes).min(BYTES as u64)).filter(|at| is_there(*at))
            {
                if let Some(count) = usize::try_from(at).ok().and_then(|at| self.0.get_mut(at)) {
                    with(at, count);
                }
            }
        }
    }

    fn check(&mut self, read: &Reads, allowed: &Reads) {
        self.each(allowed, |_, count| *count -= 1);
        self.each(read, |_, count| *count += 1);
        let mut worst = None;
        self.each(read, |at, count| worst = worst.or((*count > 0).then_some(at)));
        self.each(read, |_, count| *count = 0);
        self.each(allowed, |_, count| *count = 0);
        assert!(worst.is_none(), "byte {:#x} was read once too often", worst.unwrap_or(0));
    }
}
