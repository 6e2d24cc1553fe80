//! When the requests of one channel have waited long enough.
//!
//! Knows: keys and moments. Must not know: what happens then. Invariant: the descriptor is readable
//! from the earliest moment on until [`due`](Timers::due) has given out all that have come, and, where
//! that is asked for, for a while before it: until it is [`set`](Timers::set) again.

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
    /// How much earlier than the moment it wakes first.
    lead: Duration,
    set_to: Option<Alarm>,
    timer: OwnedFd,
}

/// What the descriptor is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alarm {
    /// Somewhat before this moment.
    Before(Instant),
    /// This moment.
    At(Instant),
}

impl Timers {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { moments: BTreeSet::new(), lead: Duration::ZERO, set_to: None, timer })
    }

    /// Wake so much earlier than each moment, and then at the moment.
    pub(super) fn wake_early(&mut self, lead: Duration) {
        self.lead = lead;
    }

    /// The earliest moment.
    pub(super) fn next(&self) -> Option<Instant> {
        self.moments.first().map(|(at, _)| *at)
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

    /// Set the descriptor for the earliest moment. Costs no system call while that stays the same.
    pub(super) fn set(&mut self) {
        let first = self.next();
        if self.set_to == first.map(Alarm::At) {
            return;
        }
        let now = Instant::now();
        let alarm = first.map(|at| match at.checked_sub(self.lead) {
            Some(before) if before > now && !self.lead.is_zero() => (Alarm::Before(at), before),
            _ => (Alarm::At(at), at),
        });
        let set_to = alarm.map(|(alarm, _)| alarm);
        if self.set_to == set_to {
            return;
        }
        match self.arm(alarm.map(|(_, at)| at.saturating_duration_since(now))) {
            Ok(()) => self.set_to = set_to,
            Err(error) => log::error!("timerfd_settime: {error}"),
        }
    }

    fn arm(&self, left: Option<Duration>) -> io::Result<()> {
        // An alarm of zero is none; one that is late is due at once.
        let left = left.map_or(Duration::ZERO, |left| left.max(Duration::from_nanos(1)));
        let alarm = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &alarm)?;
        Ok(())
    }

    /// Readable when a moment has come.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn is_readable(timers: &Timers, wait: Duration) -> bool {
        let fd = timers.wake_fd();
        let wait = Timespec::try_from(wait).unwrap();
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&wait)) == Ok(1)
    }

    #[test]
    fn who_asks_to_be_woken_early_is_woken_once_before_the_moment() {
        let mut timers = Timers::new().unwrap();
        let at = Instant::now() + HOUR;
        timers.add(at, Key::default());
        timers.wake_early(HOUR - Duration::from_millis(1));
        timers.set();
        assert!(is_readable(&timers, Duration::from_secs(20)), "a millisecond from now");
        assert_eq!((timers.due().len(), timers.next()), (0, Some(at)), "not yet");
        timers.set();
        assert!(!is_readable(&timers, Duration::from_millis(5)), "it sleeps until the moment");
    }

    #[test]
    fn a_moment_that_is_near_is_not_woken_for_before() {
        let mut timers = Timers::new().unwrap();
        timers.wake_early(HOUR);
        timers.add(Instant::now() + Duration::from_millis(3), Key::default());
        timers.set();
        assert!(is_readable(&timers, Duration::from_secs(20)));
        assert_eq!(timers.due().len(), 1, "woken when it has come");
        timers.set();
        assert!(!is_readable(&timers, Duration::ZERO));
    }
}
