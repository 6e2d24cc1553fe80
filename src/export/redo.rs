//! What a worker finds undone when its ring starts.
//!
//! Knows: what the log of requests in flight tells, and what to say of it. Must not know: how a request
//! is done. Invariant: what is done again keeps its number, and what comes new gets a higher one.

use super::disk::Disk;
use super::inflight::{Recovered, Taken};

/// What becomes of requests that an earlier worker took and did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redo {
    /// They are done, for the first time or again, which makes no difference to who waits for them.
    Submit,
    /// They fail, because some of them may have been answered.
    Fail,
}

/// What a ring's log says must be done before anything new, the first at the end.
pub(super) fn unfinished(disk: &Disk, queue: u16, recovered: Recovered) -> (Redo, Vec<Taken>) {
    let id = &disk.options.id;
    let (redo, mut taken) = match recovered {
        Recovered::Unused => (Redo::Submit, Vec::new()),
        Recovered::Unanswered { taken, .. } => (Redo::Submit, taken),
        Recovered::Contradicted { taken, .. } => {
            log::error!(
                "disk {id} queue {queue}: the used ring and the log of requests in flight contradict \
                 each other: {} requests fail",
                taken.len()
            );
            (Redo::Fail, taken)
        }
    };
    if redo == Redo::Submit && !taken.is_empty() {
        log::warn!(
            "disk {id} queue {queue}: {} requests of an earlier connection are done again",
            taken.len()
        );
        let is_known = |taken: &Taken| disk.has_numbered(taken.ordinal);
        if !disk.options.remembers_faults && !taken.iter().all(is_known) {
            log::warn!(
                "disk {id} queue {queue}: what states and rules an earlier process had for them is \
                 forgotten (--state-dir keeps it)"
            );
        }
        disk.stats.count_resubmitted(taken.len() as u64);
    }
    let last = taken.iter().map(|taken| taken.ordinal).max();
    disk.skip_ordinals_below(last.map_or(0, |last| last.saturating_add(1)));
    if !disk.late.now().is_empty() {
        log::warn!(
            "disk {id} queue {queue}: requests that were given up before are still at the image: it \
             waits for them"
        );
    }
    taken.reverse();
    (redo, taken)
}
