//! What a rule has done, and whether it still does.
//!
//! Knows: counters and the time a rule came into force. Must not know: effects. Invariant: a rule
//! that may hit n times hits n times, and the count says so.

use serde::{Deserialize, Serialize};

use super::trigger::{Request, Trigger};
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
pub(in crate::fault) struct Life {
    pub(in crate::fault) enabled: bool,
    /// Requests that met the conditions that do not count.
    pub(in crate::fault) met: u64,
    pub(in crate::fault) hits: u64,
    pub(in crate::fault) last_hit: Option<LastHit>,
    pub(in crate::fault) since_ns: u64,
}

/// A request that a rule takes, unless its effect says otherwise: the rule's random numbers for it.
#[must_use]
pub(in crate::fault) struct Met(pub(in crate::fault) Stream);

impl Life {
    pub(in crate::fault) fn new(enabled: bool, now_ns: u64) -> Self {
        Self { enabled, met: 0, hits: 0, last_hit: None, since_ns: now_ns }
    }

    /// Hits left; `None` without a limit.
    pub(in crate::fault) fn remaining(&self, trigger: &Trigger) -> Option<u64> {
        trigger.times.map(|times| times.saturating_sub(self.hits))
    }

    /// Whether the trigger takes this request. Counts it if it meets the conditions.
    pub(in crate::fault) fn meet(
        &mut self,
        trigger: &Trigger,
        request: &Request<'_>,
        engine_state: i32,
        stream: impl FnOnce() -> Stream,
    ) -> Option<Met> {
        let may_hit = self.enabled && self.remaining(trigger) != Some(0);
        if !may_hit || !trigger.is_met(request, engine_state, self.since_ns) {
            return None;
        }
        self.met = self.met.saturating_add(1);
        let mut stream = stream();
        trigger.takes(self.met, &mut stream).then_some(Met(stream))
    }

    /// Count a hit. True if it was the last one.
    pub(in crate::fault) fn hit(&mut self, trigger: &Trigger, request: &Request<'_>) -> bool {
        self.hits = self.hits.saturating_add(1);
        self.last_hit = Some(LastHit { ordinal: request.io.ordinal, at_ns: request.now_ns });
        self.remaining(trigger) == Some(0)
    }
}
