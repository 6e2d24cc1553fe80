//! How often a disk's faults did what.
//!
//! Knows: what a verdict counts as. Must not know: who asked. Invariant: every number only grows,
//! and is the same whether it was counted as it happened or from what was written down.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::fault::IoType;
use crate::fault::engine::Verdict;

/// How often what was done. Every number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FaultCounts {
    /// Requests that failed by decision, by command, or because they were held when their ring
    /// stopped.
    pub failed: u64,
    /// Those of them that asked for the serial number.
    pub failed_get_ids: u64,
    /// Waits for a time, each counted when it begins.
    pub delayed: u64,
    /// Waits to be released, by state, rule, breakpoint or error of the image, each counted when
    /// it begins.
    pub held_total: u64,
    /// Requests that were left unanswered because their front end was disconnected.
    pub disconnected: u64,
}

impl FaultCounts {
    pub(super) fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Delay { .. } => add_one(&mut self.delayed),
            Verdict::Hold { .. } | Verdict::Break { .. } => {
                add_one(&mut self.held_total);
            }
            Verdict::Disconnect(_) => add_one(&mut self.disconnected),
            Verdict::Pass | Verdict::Fail(..) => {}
        }
    }

    pub(super) fn count_failed(&mut self, iotype: IoType) {
        add_one(&mut self.failed);
        if iotype == IoType::GetId {
            add_one(&mut self.failed_get_ids);
        }
    }
}

/// What was read may be any number.
fn add_one(count: &mut u64) {
    *count = count.saturating_add(1);
}

/// The same, counted by many at once.
#[derive(Debug, Default)]
pub(super) struct Counters {
    failed: AtomicU64,
    failed_get_ids: AtomicU64,
    delayed: AtomicU64,
    held_total: AtomicU64,
    disconnected: AtomicU64,
}

impl Counters {
    pub(super) fn now(&self) -> FaultCounts {
        let Self { failed, failed_get_ids, delayed, held_total, disconnected } = self;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FaultCounts {
            failed: get(failed),
            failed_get_ids: get(failed_get_ids),
            delayed: get(delayed),
            held_total: get(held_total),
            disconnected: get(disconnected),
        }
    }
}

impl Counters {
    pub(super) fn count_failed(&self, iotype: IoType) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.failed_get_ids.fetch_add(u64::from(iotype == IoType::GetId), Ordering::Relaxed);
    }

    pub(super) fn count_held(&self) {
        self.held_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self, verdict: &Verdict) {
        let mut one = FaultCounts::default();
        one.count(verdict);
        self.delayed.fetch_add(one.delayed, Ordering::Relaxed);
        self.held_total.fetch_add(one.held_total, Ordering::Relaxed);
        self.disconnected.fetch_add(one.disconnected, Ordering::Relaxed);
    }
}

impl From<FaultCounts> for Counters {
    fn from(counts: FaultCounts) -> Self {
        Self {
            failed: counts.failed.into(),
            failed_get_ids: counts.failed_get_ids.into(),
            delayed: counts.delayed.into(),
            held_total: counts.held_total.into(),
            disconnected: counts.disconnected.into(),
        }
    }
}
