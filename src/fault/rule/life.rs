//! What a rule has done, and whether it still does.
//!
//! Knows: counters and the time a rule came into force. Must not know: effects. Invariant: a rule
//! that may hit n times hits n times, and the count says so.

use serde::{Deserialize, Serialize};

use super::conditions::Conditions;
use super::trigger::Request;
use crate::fault::random::Stream;

/// When a rule last hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastHit {
    /// The request.
    pub ordinal: u64,
    /// The monotonic time, nanoseconds.
    pub at_ns: u64,
}

/// A rule's counters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(in crate::fault) struct Life {
    met: u64,
    pub(in crate::fault) hits: u64,
    /// Anything before the first hit.
    last: LastHit,
    pub(in crate::fault) since_ns: u64,
    /// How often the rule was put out of force: who was to be held by it before that is not.
    pub(in crate::fault) stint: u32,
    pub(in crate::fault) enabled: bool,
    was_hit: bool,
}

/// A request that a rule takes, unless its effect says otherwise: the rule's random numbers for it.
#[must_use]
pub(in crate::fault) struct Met(pub(in crate::fault) Stream);

impl Life {
    pub(in crate::fault) fn new(enabled: bool, now_ns: u64) -> Self {
        let last = LastHit { ordinal: 0, at_ns: 0 };
        Self { met: 0, hits: 0, last, since_ns: now_ns, stint: 0, enabled, was_hit: false }
    }

    /// Forget what it did, and begin now. It stays in or out of force.
    pub(in crate::fault) fn begin_again(&mut self, now_ns: u64) {
        *self = Self { stint: self.stint, ..Self::new(self.enabled, now_ns) };
    }

    /// Requests that met the conditions that do not count.
    pub(in crate::fault) fn met(&self) -> u64 {
        self.met
    }

    pub(in crate::fault) fn last_hit(&self) -> Option<LastHit> {
        self.was_hit.then_some(self.last)
    }

    /// Hits left; `None` without a limit.
    pub(in crate::fault) fn remaining(&self, conditions: &Conditions) -> Option<u64> {
        conditions.times().map(|times| times.saturating_sub(self.hits))
    }

    /// Whether the conditions take this request. Counts it if it meets the conditions.
    pub(in crate::fault) fn meet(
        &mut self,
        conditions: &Conditions,
        request: &Request<'_>,
        engine_state: i32,
        stream: impl FnOnce() -> Stream,
    ) -> Option<Met> {
        let may_hit = self.enabled && self.remaining(conditions) != Some(0);
        if !may_hit || !conditions.is_met(request, engine_state, self.since_ns) {
            return None;
        }
        self.met = self.met.saturating_add(1);
        let mut stream = stream();
        conditions.takes(self.met, &mut stream).then_some(Met(stream))
    }

    /// Count a hit. True if it was the last one.
    pub(in crate::fault) fn hit(&mut self, conditions: &Conditions, request: &Request<'_>) -> bool {
        self.hits = self.hits.saturating_add(1);
        self.was_hit = true;
        self.last = LastHit { ordinal: request.io.ordinal, at_ns: request.now_ns };
        self.remaining(conditions) == Some(0)
    }
}

/// A life as it is written down. A rule's stint is written beside it.
#[derive(Serialize, Deserialize)]
struct Written {
    enabled: bool,
    met: u64,
    hits: u64,
    last_hit: Option<LastHit>,
    since_ns: u64,
}

impl From<Written> for Life {
    fn from(written: Written) -> Self {
        let Written { enabled, met, hits, last_hit, since_ns } = written;
        let new = Self::new(enabled, since_ns);
        Self { met, hits, last: last_hit.unwrap_or(new.last), was_hit: last_hit.is_some(), ..new }
    }
}

impl From<Life> for Written {
    fn from(life: Life) -> Self {
        let last_hit = life.last_hit();
        let Life { enabled, met, hits, since_ns, .. } = life;
        Self { enabled, met, hits, last_hit, since_ns }
    }
}
