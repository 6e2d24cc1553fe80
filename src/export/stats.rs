//! What a disk has done so far, counted where requests end.
//!
//! Knows: how requests of each type ended, queue by queue. Must not know: requests. Invariants: a request
//! is counted once, under exactly one of done, failed or invalid, before its answer is published; what
//! one queue counts is on cache lines that no other queue writes, so that queues add up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::fault::IoType;

/// What became of the requests of one type, as of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TypeStats {
    /// Requests done.
    pub operations: u64,
    /// Bytes read, written, discarded or zeroed by requests done.
    pub bytes: u64,
    /// Requests that the image or a fault failed.
    pub failed: u64,
    /// Requests refused before they reached the image: out of range, misaligned, read-only.
    pub invalid: u64,
    /// Time that requests done and failed took, from ring to ring, in nanoseconds.
    pub total_time_ns: u64,
}

impl TypeStats {
    /// Requests that reached the node and ended, either way.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.operations + self.failed
    }
}

/// Counters of one request type.
#[derive(Debug, Default)]
struct TypeCounters {
    operations: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
    invalid: AtomicU64,
    total_time_ns: AtomicU64,
}

/// Counters of one queue. Processors fetch lines of 64 bytes by twos.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct QueueStats {
    by_type: [TypeCounters; IoType::NAMED.len()],
    get_id_operations: AtomicU64,
    malformed: AtomicU64,
    wr_highest_offset: AtomicU64,
    /// When a request last ended, in nanoseconds since the disk's start, plus 1; 0 for never.
    last_end_ns: AtomicU64,
}

/// Counters of one disk.
#[derive(Debug)]
pub struct Stats {
    /// At least one.
    queues: Box<[QueueStats]>,
    resubmitted: AtomicU64,
    started: Instant,
}

/// How a request ended, as far as counting goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    Failed,
    Invalid,
}

impl Stats {
    /// A disk of so many queues that has done nothing.
    #[must_use]
    pub fn new(queues: u16) -> Self {
        Self {
            queues: (0..queues.max(1)).map(|_| QueueStats::default()).collect(),
            resubmitted: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    /// What became of the requests of one type.
    #[must_use]
    pub fn of(&self, iotype: IoType) -> TypeStats {
        let sum = |counter: fn(&TypeCounters) -> &AtomicU64| {
            self.sum(|queue| counter(&queue.by_type[iotype as usize]))
        };
        TypeStats {
            operations: sum(|of| &of.operations),
            bytes: sum(|of| &of.bytes),
            failed: sum(|of| &of.failed),
            invalid: sum(|of| &of.invalid),
            total_time_ns: sum(|of| &of.total_time_ns),
        }
    }

    /// GET_ID requests answered.
    #[must_use]
    pub fn get_id_operations(&self) -> u64 {
        self.sum(|queue| &queue.get_id_operations)
    }

    /// Chains that no request could be made of, and requests of unknown type.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.sum(|queue| &queue.malformed)
    }

    /// Requests of an earlier connection or an earlier process that were taken and not answered
    /// there, and done again.
    #[must_use]
    pub fn resubmitted(&self) -> u64 {
        self.resubmitted.load(Ordering::Relaxed)
    }

    /// End of the highest write done, in bytes from the start of the disk.
    #[must_use]
    pub fn wr_highest_offset(&self) -> u64 {
        self.max(|queue| &queue.wr_highest_offset)
    }

    /// How long no request has ended; `None` if none ever did.
    #[must_use]
    pub fn idle_time(&self) -> Option<Duration> {
        let last = self.max(|queue| &queue.last_end_ns).checked_sub(1)?;
        Some(self.started.elapsed().saturating_sub(Duration::from_nanos(last)))
    }

    fn sum(&self, counter: impl Fn(&QueueStats) -> &AtomicU64) -> u64 {
        self.queues.iter().map(|queue| counter(queue).load(Ordering::Relaxed)).sum()
    }

    fn max(&self, counter: impl Fn(&QueueStats) -> &AtomicU64) -> u64 {
        let values = self.queues.iter().map(|queue| counter(queue).load(Ordering::Relaxed));
        values.max().unwrap_or(0)
    }

    fn queue(&self, queue: u16) -> &QueueStats {
        &self.queues[usize::from(queue) % self.queues.len()]
    }

    pub(super) fn count_malformed(&self, queue: u16) {
        add(&self.queue(queue).malformed, 1);
    }

    pub(super) fn count_get_id(&self, queue: u16) {
        add(&self.queue(queue).get_id_operations, 1);
    }

    pub(super) fn count_resubmitted(&self, requests: u64) {
        add(&self.resubmitted, requests);
    }

    /// A request of this queue for this (offset, length) in bytes was taken and ended then.
    pub(super) fn count(
        &self,
        queue: u16,
        iotype: IoType,
        end: Ended,
        range: (u64, u64),
        (taken, ended): (Instant, Instant),
    ) {
        let queue = self.queue(queue);
        let of = &queue.by_type[iotype as usize];
        match end {
            Ended::Invalid => return add(&of.invalid, 1),
            Ended::Failed => add(&of.failed, 1),
            Ended::Done => {
                add(&of.operations, 1);
                add(&of.bytes, range.1);
                if iotype == IoType::Write {
                    queue.wr_highest_offset.fetch_max(range.0 + range.1, Ordering::Relaxed);
                }
            }
        }
        add(&of.total_time_ns, nanos(ended.duration_since(taken)));
        let end_ns = nanos(ended.duration_since(self.started)).saturating_add(1);
        queue.last_end_ns.store(end_ns, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_queues_count_is_the_disks_and_no_two_share_a_line() {
        let (stats, time) = (Stats::new(3), (Instant::now(), Instant::now()));
        for queue in 0..3 {
            let offset = u64::from(queue) * 4096;
            stats.count(queue, IoType::Write, Ended::Done, (offset, 512), time);
            stats.count(queue, IoType::Write, Ended::Failed, (1 << 20, 512), time);
            stats.count(queue, IoType::Read, Ended::Invalid, (0, 512), time);
            stats.count_malformed(queue);
        }
        stats.count_get_id(2);
        let write = stats.of(IoType::Write);
        assert_eq!((write.operations, write.bytes, write.failed, write.ended()), (3, 1536, 3, 6));
        assert_eq!((stats.of(IoType::Read).invalid, stats.of(IoType::Flush).ended()), (3, 0));
        assert_eq!((stats.malformed(), stats.get_id_operations()), (3, 1));
        assert_eq!(stats.wr_highest_offset(), 2 * 4096 + 512, "of those done");
        assert!(stats.idle_time().is_some());
        let starts = |queue: usize| std::ptr::from_ref(&stats.queues[queue]).addr();
        assert!((0..3).all(|queue| starts(queue).is_multiple_of(128)));
    }

    #[test]
    fn a_disk_that_did_nothing_was_never_idle() {
        let stats = Stats::new(0);
        assert_eq!((stats.idle_time(), stats.wr_highest_offset()), (None, 0));
        stats.count(7, IoType::Flush, Ended::Done, (0, 0), (Instant::now(), Instant::now()));
        assert_eq!(stats.of(IoType::Flush).operations, 1, "no queue is too many to be counted");
    }
}
