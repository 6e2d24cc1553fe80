//! When a worker looks at its ring for a while before it sleeps.
//!
//! Knows: how long the last sleeps were, and what looking has cost. Must not know: rings, threads or
//! clocks; the time is an argument. Invariants: looking takes at most the share of the time that passes
//! that it may, but for one [`CREDIT_MAX`] at the beginning; a worker that looked in vain and then
//! slept for long looks no more until a sleep proves too short to have been worth it.
//!
//! The window grows and shrinks as QEMU's does (`aio_poll`, `adjust_polling_time`) and KVM's
//! (`halt_poll_ns`); the share is ours: a window alone lets a guest that asks a little faster than it is
//! long have all of a processor.

use std::time::{Duration, Instant};

/// The longest that a worker looks (QEMU: 32.768 us). Where an idle processor has to be woken, by the guest and
/// for the guest, both wakes are in what it sleeps: 0.1 ms each on a virtual machine whose host lets idle
/// processors sleep deeply. With 64 us it never began to look there, and one that looks keeps them awake.
const WINDOW_MAX: Duration = Duration::from_micros(256);
/// How long it looks for what ends by itself: what a wake costs, and some more.
pub(super) const LEAD: Duration = Duration::from_micros(64);
/// The first window after none.
const WINDOW_FIRST: Duration = Duration::from_micros(8);
/// How much can be saved up for later.
const CREDIT_MAX: Duration = Duration::from_millis(1);

/// How much of a worker's time may be spent looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollShare(u8);

impl PollShare {
    /// A share in percent, from 0 (never) to 100.
    #[must_use]
    pub fn percent(percent: u8) -> Option<Self> {
        (percent <= 100).then_some(Self(percent))
    }
}

impl Default for PollShare {
    /// Half of it.
    fn default() -> Self {
        Self(50)
    }
}

/// One worker's habit.
#[derive(Debug)]
pub(super) struct Polling {
    share: PollShare,
    window: Duration,
    credit: Duration,
    credited_at: Instant,
    /// What the last look took that found nothing, until the sleep after it is over.
    in_vain: Duration,
}

/// A worker that looks.
#[derive(Debug)]
#[must_use]
pub(super) struct Look {
    began: Instant,
    until: Instant,
}

impl Look {
    /// Whether it looks on.
    pub(super) fn goes_on(&self, now: Instant) -> bool {
        now < self.until
    }
}

impl Polling {
    pub(super) fn new(share: PollShare, now: Instant) -> Self {
        let none = Duration::ZERO;
        Self { share, window: none, credit: none, credited_at: now, in_vain: none }
    }

    /// Whether it ever looks.
    pub(super) fn is_on(&self) -> bool {
        self.share.0 > 0
    }

    fn save_up(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.credited_at);
        self.credited_at = now;
        let earned = passed.min(Duration::from_secs(1)) * u32::from(self.share.0) / 100;
        self.credit = (self.credit + earned).min(CREDIT_MAX);
    }

    /// There is nothing to do: whether to look for more, and how long. `moment` is when something ends
    /// by itself: who sleeps until then is late by a wake, and who looks is not.
    pub(super) fn look(&mut self, now: Instant, moment: Option<Instant>) -> Option<Look> {
        let left = moment.map(|moment| moment.saturating_duration_since(now));
        let window = left.filter(|left| *left <= LEAD).unwrap_or(self.window);
        if window.is_zero() && left != Some(window) {
            return None;
        }
        self.save_up(now);
        // Less than a window would be spent and find nothing.
        (self.credit >= window).then(|| Look { began: now, until: now + window })
    }

    /// It has looked, and there was something to do or not.
    pub(super) fn looked(&mut self, look: Look, now: Instant, found: bool) {
        let spent = now.saturating_duration_since(look.began);
        self.credit = self.credit.saturating_sub(spent);
        self.in_vain = if found { Duration::ZERO } else { spent };
    }

    /// It has slept.
    pub(super) fn slept(&mut self, began: Instant, now: Instant) {
        if !self.is_on() {
            return;
        }
        self.save_up(now);
        let in_vain = std::mem::take(&mut self.in_vain);
        let idle = now.saturating_duration_since(began) + in_vain;
        if idle > WINDOW_MAX {
            self.window = Duration::ZERO;
        } else if self.window.is_zero() || !in_vain.is_zero() {
            // It was too short to see what came.
            self.window = (self.window * 2).clamp(WINDOW_FIRST, WINDOW_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// A worker that is asked for something again, `pause` after it has nothing to do, for so many
    /// times; `wake` is what a sleep costs beyond that. Tells how long it took, looked, and slept, and
    /// how many requests it got while it looked.
    fn run(share: u8, pause: Duration, wake: Duration, times: u32) -> (Duration, Duration, u32) {
        let start = Instant::now();
        let mut polling = Polling::new(PollShare::percent(share).unwrap(), start);
        let (mut now, mut looking, mut caught) = (start, Duration::ZERO, 0);
        for _ in 0..times {
            let asked_at = now + pause;
            if let Some(look) = polling.look(now, None) {
                let until = look.until;
                let found = asked_at < until;
                let ends = if found { asked_at } else { until };
                looking += ends - now;
                caught += u32::from(found);
                now = ends;
                polling.looked(look, now, found);
                if found {
                    continue;
                }
            }
            let began = now;
            now = asked_at.max(now) + wake;
            polling.slept(began, now);
        }
        (now - start, looking, caught)
    }

    #[test]
    fn a_guest_that_asks_again_soon_is_met_awake() {
        let (_, _, caught) = run(100, 10 * US, 20 * US, 1000);
        assert!(caught > 950, "{caught}");
    }

    #[test]
    fn looking_takes_no_more_than_its_share_however_the_guest_asks() {
        for share in [1, 10, 50, 90, 100] {
            for pause in [1, 7, 15, 31, 40, 63, 64, 65, 100, 200, 255, 256, 257, 400] {
                let (all, looking, _) = run(share, pause * US, 5 * US, 20_000);
                let may = all * u32::from(share) / 100 + CREDIT_MAX;
                assert!(
                    looking <= may,
                    "{share} %, asked every {pause} us: {looking:?} of {all:?}"
                );
            }
        }
    }

    #[test]
    fn half_the_time_is_nearly_all_a_guest_needs() {
        // Worth it: what looks gets there 20 us sooner.
        let (_, _, caught) = run(50, 10 * US, 20 * US, 10_000);
        assert!(caught > 7_000, "{caught}");
    }

    #[test]
    fn a_guest_that_asks_rarely_costs_nothing() {
        let (_, looking, caught) = run(50, 1000 * US, 5 * US, 1000);
        assert_eq!((looking, caught), (Duration::ZERO, 0));
    }

    #[test]
    fn a_worker_that_finds_nothing_goes_to_sleep_for_good() {
        let start = Instant::now();
        let mut polling = Polling::new(PollShare::default(), start);
        let now = start + 100 * US;
        polling.slept(now, now + 10 * US);
        let now = now + 100 * US;
        let look = polling.look(now, None).expect("the last sleep was short");
        let later = now + WINDOW_MAX;
        polling.looked(look, later, false);
        polling.slept(later, later + 1000 * US);
        assert!(polling.look(later + 2000 * US, None).is_none());
    }

    #[test]
    fn a_moment_that_is_near_is_met_awake_and_one_that_is_far_is_not() {
        let start = Instant::now();
        let mut polling = Polling::new(PollShare::default(), start);
        let now = start + 1000 * US;
        assert!(polling.look(now, Some(now + 65 * US)).is_none(), "it wakes in time for that");
        let look = polling.look(now, Some(now + 40 * US)).expect("there is time left for it");
        assert!(look.goes_on(now + 39 * US) && !look.goes_on(now + 40 * US));
        polling.looked(look, now + 40 * US, true);
        assert!(polling.look(now, Some(now)).is_some(), "it is there");
        assert!(
            polling.look(now + 50 * US, None).is_none(),
            "it is no reason to look for requests"
        );
    }

    #[test]
    fn moments_take_no_more_than_the_share() {
        let start = Instant::now();
        let mut polling = Polling::new(PollShare::percent(20).unwrap(), start);
        let (mut now, mut looking) = (start, Duration::ZERO);
        for _ in 0..10_000 {
            let moment = now + 50 * US;
            if let Some(look) = polling.look(now, Some(moment)) {
                polling.looked(look, moment, true);
                looking += 50 * US;
            }
            now = moment + 10 * US;
        }
        assert!(looking <= (now - start) / 5 + CREDIT_MAX, "{looking:?} of {:?}", now - start);
        assert!(looking > (now - start) / 10, "{looking:?}: it is used");
    }

    #[test]
    fn none_is_never() {
        let (_, looking, _) = run(0, 5 * US, 5 * US, 1000);
        assert_eq!(looking, Duration::ZERO);
        assert_eq!(PollShare::percent(101), None);
    }
}
