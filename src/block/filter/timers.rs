//! When the requests of one channel have waited long enough.
//!
//! Knows: keys and moments. Must not know: what happens then. Invariant: the descriptor is readable
//! from the earliest moment on until [`due`](Timers::due) has given out all that have come.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::super::fault_point::Key;

/// Moments, and one descriptor for the earliest of them.
#[derive(Debug)]
pub(super) struct Timers {
    moments: BTreeSet<(Instant, Key)>,
    set_to: Option<Instant>,
    timer: OwnedFd,
}

impl Timers {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { moments: BTreeSet::new(), set_to: None, timer })
    }

    pub(super) fn add(&mut self, at: Instant, key: Key) {
        self.moments.insert((at, key));
    }

    pub(super) fn remove(&mut self, at: Instant, key: Key) {
        self.moments.remove(&(at, key));
    }

    pub(super) fn clear(&mut self) {
        self.moments.clear();
    }

    /// Take the moments that have come, the earliest first.
    pub(super) fn due(&mut self) -> Vec<Key> {
        let mut due = Vec::new();
        if self.moments.is_empty() {
            return due;
        }
        let now = Instant::now();
        while let Some((_, key)) = self.moments.first().filter(|(at, _)| *at <= now) {
            due.push(*key);
            self.moments.pop_first();
        }
        due
    }

    /// Set the descriptor for the earliest moment. Costs nothing while that stays the same.
    pub(super) fn set(&mut self) {
        let first = self.moments.first().map(|(at, _)| *at);
        if first == self.set_to {
            return;
        }
        // An alarm of zero is none; one that is late is due at once.
        let soonest = Duration::from_nanos(1);
        let left = first
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()).max(soonest));
        let alarm = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        match timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &alarm) {
            Ok(_) => self.set_to = first,
            Err(error) => log::error!("timerfd_settime: {error}"),
        }
    }

    /// Readable when a moment has come.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
