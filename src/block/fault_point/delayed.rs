//! Who waits for a time, for whom, and who is let go before it is over.
//!
//! Knows: the waits of delayed requests, and when each ends. Must not know: timers; those are their
//! channel's. Invariant: an entry is taken out exactly once, by its channel when the time is over
//! or by whoever ends the wait early, who posts the letter about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::held::{Key, Resume};
use super::link::{Link, Mail};
use crate::fault::engine::{Cause, Then, Waits};

/// A delayed request's entry.
#[derive(Debug)]
pub(super) struct Delayed {
    pub(super) waits: Waits,
    pub(super) ends: Instant,
    /// As was decided.
    pub(super) then: Then,
    pub(super) link: Arc<Link>,
}

/// Everyone who waits for a time on a disk.
#[derive(Debug, Default)]
pub(super) struct Delays {
    delayed: BTreeMap<Key, Delayed>,
}

impl Delays {
    pub(super) fn insert(&mut self, key: Key, delayed: Delayed) {
        self.delayed.insert(key, delayed);
    }

    /// True if it waited here.
    pub(super) fn remove(&mut self, key: Key) -> bool {
        self.delayed.remove(&key).is_some()
    }

    /// Forget everyone in this channel.
    pub(super) fn forget(&mut self, link: &Arc<Link>) {
        self.delayed.retain(|_, delayed| !Arc::ptr_eq(&delayed.link, link));
    }

    /// End the waits for such a cause: what waits for nothing else goes on as was decided for it,
    /// the others do so earlier.
    pub(super) fn release(&mut self, is_one: impl Fn(&Cause) -> bool) -> Released {
        let now = Instant::now();
        let mut released = Released::default();
        self.delayed.retain(|key, delayed| {
            if !delayed.waits.any(&is_one) {
                return true;
            }
            let left = delayed.ends.saturating_duration_since(now);
            delayed.waits = delayed.waits.without(left, &is_one);
            let (key, goes) = (*key, delayed.waits.is_empty());
            delayed.ends = now + delayed.waits.duration();
            delayed.link.post(if goes {
                Mail::Released { key, go: delayed.then.into(), baton: None }
            } else {
                Mail::Sooner { key, ends: delayed.ends }
            });
            released.count(goes);
            !goes
        });
        released
    }

    /// The same by command; who is to fail fails now, whatever else it waits for.
    pub(super) fn resume(&mut self, action: Resume, is_one: impl Fn(&Cause) -> bool) -> Released {
        if action == Resume::Run {
            return self.release(is_one);
        }
        let mut released = Released::default();
        self.delayed.retain(|key, delayed| {
            let stays = !delayed.waits.any(&is_one);
            if !stays {
                released.count(true);
                let go = action.into();
                delayed.link.post(Mail::Released { key: *key, go, baton: None });
            }
            stays
        });
        released
    }
}

/// How far a release went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Released {
    /// Requests that were waiting for what was released.
    pub reached: usize,
    /// Those of them that wait for nothing else and go on.
    pub gone: usize,
}

impl Released {
    pub(super) fn count(&mut self, goes: bool) {
        self.reached += 1;
        self.gone += usize::from(goes);
    }
}

impl std::ops::Add for Released {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { reached: self.reached + other.reached, gone: self.gone + other.gone }
    }
}
