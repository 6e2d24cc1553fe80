//! What a disk has done so far, counted where requests end.
//!
//! Invariant: a request is counted once, under exactly one of done, failed or invalid.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::fault::IoType;

/// Counters of one request type.
#[derive(Debug, Default)]
pub struct TypeStats {
    /// Requests done.
    pub operations: AtomicU64,
    /// Bytes read, written, discarded or zeroed by requests done.
    pub bytes: AtomicU64,
    /// Requests that the image or a fault failed.
    pub failed: AtomicU64,
    /// Requests refused before they reached the image: out of range, misaligned, read-only.
    pub invalid: AtomicU64,
    /// Time that requests done and failed took, from ring to ring, in nanoseconds.
    pub total_time_ns: AtomicU64,
}

impl TypeStats {
    /// Requests that reached the node and ended, either way.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.operations.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed)
    }
}

/// Counters of one disk.
#[derive(Debug)]
pub struct Stats {
    by_type: [TypeStats; IoType::NAMED.len()],
    /// GET_ID requests answered.
    pub get_id_operations: AtomicU64,
    /// Chains that no request could be made of, and requests of unknown type.
    pub malformed: AtomicU64,
    /// Requests of an earlier connection or an earlier process that were taken and not answered
    /// there, and done again.
    pub resubmitted: AtomicU64,
    /// End of the highest write done, in bytes from the start of the disk.
    pub wr_highest_offset: AtomicU64,
    started: Instant,
    /// When a request last ended, in nanoseconds since `started`, plus 1; 0 for never.
    last_end_ns: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            by_type: Default::default(),
            get_id_operations: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            resubmitted: AtomicU64::new(0),
            wr_highest_offset: AtomicU64::new(0),
            started: Instant::now(),
            last_end_ns: AtomicU64::new(0),
        }
    }
}

/// How a request ended, as far as counting goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    Failed,
    Invalid,
}

impl Stats {
    /// The counters of one type.
    #[must_use]
    pub fn of(&self, iotype: IoType) -> &TypeStats {
        &self.by_type[iotype as usize]
    }

    /// How long no request has ended; `None` if none ever did.
    #[must_use]
    pub fn idle_time(&self) -> Option<Duration> {
        let last = self.last_end_ns.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.started.elapsed().saturating_sub(Duration::from_nanos(last)))
    }

    pub(super) fn count(&self, iotype: IoType, end: Ended, range: (u64, u64), taken: Instant) {
        let of = self.of(iotype);
        match end {
            Ended::Invalid => return add(&of.invalid, 1),
            Ended::Failed => add(&of.failed, 1),
            Ended::Done => {
                add(&of.operations, 1);
                add(&of.bytes, range.1);
                if iotype == IoType::Write {
                    self.wr_highest_offset.fetch_max(range.0 + range.1, Ordering::Relaxed);
                }
            }
        }
        let now = Instant::now();
        add(&of.total_time_ns, nanos(now.duration_since(taken)));
        let end_ns = nanos(now.duration_since(self.started)).saturating_add(1);
        self.last_end_ns.store(end_ns, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
