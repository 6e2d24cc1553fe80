//! What the log of a queue tells the next one who serves it.
//!
//! Knows: what the stores of [`QueueLog`] leave behind wherever they are cut off. Must not know: what
//! becomes of the requests. Invariants: everything is read once; every step is bounded by the queue's
//! size; the log is in order again when this returns well, and done once more it tells the same.

use std::sync::Arc;

use super::QueueLog;
use super::region::{QueueField, Region, StateField};

/// The one version there is (vhost-user.rst); 0 is a log that was never used.
const VERSION: u64 = 1;

/// Why a log cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::export) enum BadLog {
    #[error("its in-flight log is of version {0}: 0 (unused) and 1 are known")]
    Version(u64),
    #[error(
        "its in-flight log is for {logged} descriptors, the region for {region}, the ring has {ring}"
    )]
    Size { logged: u64, region: u16, ring: u16 },
}

/// A request that was taken and has no used entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::export) struct Taken {
    pub(in crate::export) head: u16,
    /// Its number among all of its disk.
    pub(in crate::export) ordinal: u64,
}

impl Region {
    /// The ordinals of requests that were taken by the logs of all queues, as far as descriptors still tell,
    /// and whether they are marked.
    pub(in crate::export) fn ordinals(self: &Arc<Self>) -> impl Iterator<Item = (bool, u64)> {
        let queues = (0..).map_while(|index| self.queue(index));
        let used = queues.filter(|queue| queue.get(QueueField::Version) == VERSION);
        used.flat_map(|queue| {
            (0..queue.size()).filter_map(move |head| {
                let ordinal = queue.of(head, StateField::Counter).checked_sub(1)?;
                Some((queue.of(head, StateField::Inflight) != 0, ordinal))
            })
        })
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::export) enum Recovered {
    /// Nobody has used the log: the ring goes on where the front end says.
    Unused,
    /// These have no used entry, in the order they were taken.
    Unanswered {
        /// What comes behind them on the avail ring.
        next_avail: u16,
        taken: Vec<Taken>,
    },
    /// The log and the ring contradict each other, as when the driver writes the used ring's index:
    /// these may have no used entry.
    Contradicted {
        /// What comes behind them on the avail ring.
        next_avail: u16,
        taken: Vec<Taken>,
    },
}

impl QueueLog {
    /// Learn what was not answered, of a ring of `ring_size` descriptors whose used index is
    /// `used_idx`.
    ///
    /// # Errors
    /// A log that cannot be this ring's; it is left as it is.
    pub(in crate::export) fn recover(
        &mut self,
        used_idx: u16,
        ring_size: u16,
    ) -> Result<Recovered, BadLog> {
        match self.queue.get(QueueField::Version) {
            0 if ring_size <= self.queue.size() => {
                self.begin(used_idx);
                return Ok(Recovered::Unused);
            }
            0 | VERSION => {}
            other => return Err(BadLog::Version(other)),
        }
        let (logged, region) = (self.queue.get(QueueField::DescNum), self.queue.size());
        if logged != u64::from(region) || ring_size > region {
            return Err(BadLog::Size { logged, region, ring: ring_size });
        }
        let mut marked = Marked::read(self);
        if marked.counter_max == 0 {
            self.published(used_idx);
            return Ok(Recovered::Unused);
        }
        let settled = self.settle(&mut marked, used_idx, ring_size);
        self.published(used_idx);
        let taken = marked.in_order();
        // A ring has no more in flight than it has descriptors.
        let next_avail = used_idx.wrapping_add(u16::try_from(taken.len()).unwrap_or(0));
        Ok(if settled {
            Recovered::Unanswered { next_avail, taken }
        } else {
            Recovered::Contradicted { next_avail, taken }
        })
    }

    /// Set up a log that nobody has used.
    fn begin(&mut self, used_idx: u16) {
        self.queue.put(QueueField::DescNum, u64::from(self.queue.size()));
        self.queue.put(QueueField::LastBatchHead, 0);
        self.published(used_idx);
        for head in 0..self.queue.size() {
            self.queue.set(head, StateField::Inflight, 0);
            self.queue.set(head, StateField::Counter, 0);
        }
        self.queue.put(QueueField::Version, VERSION);
    }

    /// Take the marks away from what was published. False if log and ring contradict each other.
    fn settle(&mut self, marked: &mut Marked, used_idx: u16, ring_size: u16) -> bool {
        let foreign: Vec<u16> = marked.from(ring_size).collect();
        for head in &foreign {
            self.unmark(marked, *head);
        }
        #[expect(clippy::cast_possible_truncation, reason = "the field has 16 bits")]
        let published = used_idx.wrapping_sub(self.queue.get(QueueField::UsedIdx) as u16);
        if published > ring_size {
            return false;
        }
        let mut next = self.queue.get(QueueField::LastBatchHead);
        for _ in 0..published {
            let Some(head) = u16::try_from(next).ok().filter(|head| *head < ring_size) else {
                return false;
            };
            self.unmark(marked, head);
            next = self.queue.of(head, StateField::Next);
        }
        foreign.is_empty()
    }

    fn unmark(&mut self, marked: &mut Marked, head: u16) {
        self.queue.set(head, StateField::Inflight, 0);
        marked.counters[usize::from(head)] = None;
    }
}

/// The heads that are marked, and when they were.
struct Marked {
    /// By head.
    counters: Vec<Option<u64>>,
    /// Of all heads, marked or not.
    counter_max: u64,
}

impl Marked {
    fn read(log: &QueueLog) -> Self {
        let mut counter_max = 0;
        let read = |head| {
            let counter = log.queue.of(head, StateField::Counter);
            counter_max = counter.max(counter_max);
            (log.queue.of(head, StateField::Inflight) != 0).then_some(counter)
        };
        let counters = (0..log.queue.size()).map(read).collect();
        Self { counters, counter_max }
    }

    fn heads(&self) -> impl Iterator<Item = (u64, u16)> {
        (0..).zip(&self.counters).filter_map(|(head, counter)| counter.map(|at| (at, head)))
    }

    /// Those that a ring of this size does not have.
    fn from(&self, ring_size: u16) -> impl Iterator<Item = u16> {
        self.heads().map(|(_, head)| head).filter(move |head| *head >= ring_size)
    }

    fn in_order(&self) -> Vec<Taken> {
        let mut heads: Vec<_> = self.heads().collect();
        heads.sort_unstable();
        let taken = |(counter, head): (u64, u16)| Taken { head, ordinal: counter.wrapping_sub(1) };
        heads.into_iter().map(taken).collect()
    }
}
