//! What is decided about a request, and what it is told to others.
//!
//! Knows: every way a request can be treated. Must not know: how a way is chosen (`walk`).
//! Invariant: a verdict says all that its carrier needs, and every wait says how it ends.

use std::sync::Arc;
use std::time::Duration;

use crate::errno::Errno;
use crate::fault::manual::DiskStateName;
use crate::fault::rule::{Point, RuleName};
use crate::fault::{Io, IoType};

/// Who decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The manual state.
    State(DiskStateName),
    /// A native rule.
    Rule(RuleName),
    /// blkdebug's `inject-error` rule with this place among those ever added, from 0.
    InjectError(u32),
    /// blkdebug's breakpoints.
    Breakpoint,
}

/// How a wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The request goes on where it stopped: ask [`Engine::go_on`](super::Engine::go_on).
    GoOn,
    /// The request fails with this and never reaches the image.
    Fail(Errno),
}

/// What becomes of a request now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// On its way in: it goes to the image. On its way out: its result is told to the guest.
    Pass,
    /// It fails with this error and never reaches the image.
    Fail(Errno, Cause),
    /// It waits.
    Delay {
        /// For whom, and how long. Whoever lets go of a request ends its own part early, as
        /// [`Release`](super::Release) says.
        waits: Waits,
        /// What then.
        then: Then,
    },
    /// It is held until it is released: by [`Release`](super::Release), by command, or in time.
    Hold {
        /// Released at the latest after this.
        at_most: Option<Duration>,
        /// What then.
        then: Then,
        /// Who holds it.
        cause: Cause,
    },
    /// It is held until each of its tags was resumed once; then it goes on.
    Break {
        /// The tags; more than one where several blkdebug breakpoints met one event.
        tags: Vec<Arc<str>>,
        /// Where a native breakpoint is; `None` for blkdebug's, which name events.
        point: Option<Point>,
        /// Whose breakpoint it is.
        cause: Cause,
    },
    /// The front end is disconnected, the request not answered.
    Disconnect(Cause),
}

/// Waits for a time, one after the other, each with who asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waits(Vec<(Cause, Duration)>);

impl Waits {
    /// One wait; none where there is nothing to wait for.
    pub(super) fn of(cause: Cause, duration: Duration) -> Self {
        let mut waits = Self::default();
        waits.add(cause, duration);
        waits
    }

    pub(super) fn add(&mut self, cause: Cause, duration: Duration) {
        if !duration.is_zero() {
            self.0.push((cause, duration));
        }
    }

    pub(super) fn append(&mut self, mut later: Self) {
        self.0.append(&mut later.0);
    }

    /// Whether there is nothing to wait for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How long they take together.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.0.iter().fold(Duration::ZERO, |sum, (_, duration)| sum.saturating_add(*duration))
    }

    /// Whether one of them is for such a cause.
    pub fn any(&self, is_one: impl Fn(&Cause) -> bool) -> bool {
        self.0.iter().any(|(cause, _)| is_one(cause))
    }

    /// What remains so long before their end when those for such a cause are over at once.
    #[must_use]
    pub fn without(&self, mut left: Duration, is_over: impl Fn(&Cause) -> bool) -> Self {
        let mut remain = Self::default();
        for (cause, duration) in self.0.iter().rev() {
            let still = left.min(*duration);
            left = left.saturating_sub(still);
            if !is_over(cause) {
                remain.add(cause.clone(), still);
            }
        }
        remain.0.reverse();
        remain
    }
}

/// What was done to a request, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It failed.
    Error,
    /// It waits.
    Delay,
    /// It is held.
    Hang,
    /// It is held at a breakpoint.
    Break,
    /// The engine's state was set.
    SetState,
    /// The front end was disconnected.
    Disconnect,
}

impl Action {
    /// The name that events tell.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Delay => "delay",
            Self::Hang => "hang",
            Self::Break => "break",
            Self::SetState => "set-state",
            Self::Disconnect => "disconnect",
        }
    }
}

/// Something that happened, for events and traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A rule hit a request.
    Hit {
        /// The rule.
        cause: Cause,
        /// The request.
        ordinal: u64,
        /// What it asks for.
        iotype: IoType,
        /// Its first sector, if it is about sectors.
        sector: Option<u64>,
        /// The error it gets, at once or later.
        errno: Option<Errno>,
        /// What was done.
        action: Action,
    },
    /// A rule hit for the last time.
    Exhausted(Cause),
    /// The engine's state number changed.
    EngineState {
        /// What it was.
        from: i32,
        /// What it is.
        to: i32,
    },
    /// A write healed sectors of a media fault.
    Healed {
        /// The rule.
        rule: RuleName,
        /// How many sectors.
        sectors: u64,
    },
    /// The last spare sector of a media fault was used.
    PoolEmpty {
        /// The rule.
        rule: RuleName,
    },
}

impl Notice {
    pub(super) fn hit(cause: Cause, io: &Io, errno: Option<Errno>, action: Action) -> Self {
        let sector = io.iotype.has_sectors().then_some(io.offset_bytes / 512);
        Self::Hit { cause, ordinal: io.ordinal, iotype: io.iotype, sector, errno, action }
    }
}
