//! What a worker finds undone when its ring starts.
//!
//! Knows: what the log of requests in flight tells, and what to say of it. Must not know: how a request
//! is done. Invariant: what is done again keeps its number, unless no disk can have come to it, and what
//! comes new gets a higher one, from whichever queue.

use std::sync::Arc;

use super::disk::Disk;
use super::inflight::{Recovered, Region, Taken};

/// What becomes of requests that an earlier worker took and did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redo {
    /// They are done, for the first time or again, which makes no difference to who waits for them.
    Submit,
    /// They fail, because some of them may have been answered.
    Fail,
}

/// A front end has come with its log. Rings start one after the other, and what the first takes must not get
/// the number of what is done again for the last.
pub(super) fn look_ahead(disk: &Disk, region: &Arc<Region>) {
    let (mut end, mut is_forgotten) = (0, false);
    for (is_marked, ordinal) in region.ordinals() {
        is_forgotten |= is_marked && !disk.ordinals.has(ordinal);
        if disk.ordinals.may_be(ordinal) {
            end = end.max(ordinal + 1);
        }
    }
    disk.skip_ordinals_below(end);
    if is_forgotten && !disk.options.remembers_faults {
        log::warn!(
            "disk {}: the front end was served by an earlier process: what states and rules that had for \
             requests in flight is forgotten (--state-dir keeps it)",
            disk.options.id
        );
    }
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
        disk.stats.count_resubmitted(taken.len() as u64);
    }
    for taken in &mut taken {
        if disk.ordinals.may_be(taken.ordinal) {
            // Should somebody have changed the log since it came.
            disk.skip_ordinals_below(taken.ordinal + 1);
        } else {
            taken.ordinal = disk.ordinals.take();
        }
    }
    if !disk.late.now().is_empty() {
        log::warn!(
            "disk {id} queue {queue}: requests that were given up before are still at the image: it \
             waits for them"
        );
    }
    taken.reverse();
    (redo, taken)
}
