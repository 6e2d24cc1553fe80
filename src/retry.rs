//! Waiting for what a process that was killed has not let go of yet.
//!
//! Knows: that the kernel takes a process apart after whoever waits for its death may have heard of it.
//! Must not know: what is waited for. Invariants: an attempt is made at least once, and a last time when
//! the time is over; the pauses grow, so that one who lives and is asked again and again hardly notices.

use std::time::{Duration, Instant};

/// The first pause, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(250)];

/// How long a start waits, all in all, for what another process holds. A daemon that was killed keeps
/// its sockets and files until the kernel has taken it apart, and the locks of an image until what it
/// asked of the image has ended, so that nothing of that lands on what the next one writes, nor where
/// its guest has put something else by then.
const WAIT_AT_START: Duration = Duration::from_secs(2);

/// Until when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    until: Option<Instant>,
}

impl Retry {
    /// Not at all.
    pub const NEVER: Self = Self { until: None };

    /// As long as a daemon does that begins now.
    #[must_use]
    pub fn at_start() -> Self {
        Self::within(WAIT_AT_START)
    }

    /// For so long from now on.
    #[must_use]
    pub fn within(wait: Duration) -> Self {
        Self { until: Some(Instant::now() + wait) }
    }

    /// How much time there is still.
    #[must_use]
    pub fn left(self) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Attempt something until it succeeds, or fails otherwise than by being held by somebody.
    ///
    /// # Errors
    /// The last attempt's.
    pub fn attempt<T, E>(
        self,
        is_held: impl Fn(&E) -> bool,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let [mut pause, longest] = PAUSES;
        loop {
            let left = self.left();
            match attempt() {
                Err(error) if is_held(&error) && !left.is_zero() => {
                    std::thread::sleep(pause.min(left));
                    pause = (pause * 2).min(longest);
                }
                ended => return ended,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells how often it was tried, and what came of it.
    fn tried(
        retry: Retry,
        results: &[Result<(), &'static str>],
    ) -> (usize, Result<(), &'static str>) {
        let mut count = 0;
        let ended = retry.attempt(
            |error| *error == "held",
            || {
                count += 1;
                results[(count - 1).min(results.len() - 1)]
            },
        );
        (count, ended)
    }

    #[test]
    fn what_is_held_is_tried_again_and_nothing_else() {
        let long = Retry::within(Duration::from_secs(60));
        assert_eq!(tried(long, &[Ok(())]), (1, Ok(())));
        assert_eq!(tried(long, &[Err("held"), Err("held"), Ok(())]), (3, Ok(())));
        assert_eq!(tried(long, &[Err("held"), Err("broken")]), (2, Err("broken")));
        assert_eq!(tried(Retry::NEVER, &[Err("held")]), (1, Err("held")));
    }

    #[test]
    fn the_last_attempt_comes_when_the_time_is_over() {
        let (began, wait) = (Instant::now(), Duration::from_millis(30));
        let (count, ended) = tried(Retry::within(wait), &[Err("held")]);
        assert!(began.elapsed() >= wait && ended == Err("held"));
        // Pauses of 2, 4, 8 and 16 ms at the least.
        assert!((2..=6).contains(&count), "{count}");
    }
}
