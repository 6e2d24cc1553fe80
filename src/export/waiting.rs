//! How the thread that serves front ends waits for workers.
//!
//! Knows: a deadline, which all share who are waited for together, that the service may be asked to
//! end meanwhile, and whom to let go who waits for the front end. Must not know: workers. Invariant: no
//! wait outlives its deadline, nor by more than [`HEAR_TIMEOUT`] the wish for the end.

use std::time::{Duration, Instant};

use super::ending::Ending;

/// How long a worker may take to hear of something that nobody has time for.
pub(super) const HEAR_TIMEOUT: Duration = Duration::from_millis(100);
/// How long a worker may take to have a change in force, or to start. A worker without a processor is
/// not inside the image's code, and a change that is refused is a device that fails to start.
pub(super) const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long until another look at what may have come in the way.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A wait that several things may be the object of, one after the other.
pub(super) struct Waiting<'a> {
    until: Instant,
    /// Cuts the wait short.
    ending: Option<&'a Ending>,
    /// Lets those go who wait for the front end, and so cannot hear.
    let_go: &'a dyn Fn(),
}

impl<'a> Waiting<'a> {
    /// For a change to be in force.
    pub(super) fn for_change(ending: &'a Ending, let_go: &'a dyn Fn()) -> Self {
        Self { until: Instant::now() + CHANGE_TIMEOUT, ending: Some(ending), let_go }
    }

    /// For what ends by itself at this moment, unless it hears of nothing. `ending` is of a service
    /// that nobody waits for once it is asked to end.
    pub(super) fn for_end(at: Instant, ending: Option<&'a Ending>, let_go: &'a dyn Fn()) -> Self {
        Self { until: at + HEAR_TIMEOUT, ending, let_go }
    }

    fn until(&self) -> Instant {
        let asked = self.ending.and_then(Ending::asked);
        asked.map_or(self.until, |asked| self.until.min(asked + HEAR_TIMEOUT))
    }

    /// What `look` finds, which waits no longer than until the moment it is given. It looks at least
    /// once, however late it is.
    pub(super) fn wait<T>(&self, look: impl Fn(Instant) -> Option<T>) -> Option<T> {
        loop {
            let (now, until) = (Instant::now(), self.until());
            let found = look(until.min(now + LOOK_EVERY));
            if found.is_some() || until <= now {
                return found;
            }
            (self.let_go)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn whoever_comes_late_is_still_looked_at_once() {
        let over =
            Waiting::for_end(Instant::now().checked_sub(CHANGE_TIMEOUT).unwrap(), None, &|| {});
        assert_eq!(over.wait(|_| Some(1)), Some(1));
        assert_eq!(over.wait(|_| None::<u8>), None);
    }

    #[test]
    fn who_waits_for_the_front_end_is_let_go_and_then_heard_of() {
        let free = Cell::new(false);
        let ending = Ending::default();
        let let_go = || free.set(true);
        let waiting = Waiting::for_change(&ending, &let_go);
        assert_eq!(waiting.wait(|_| free.get().then_some(())), Some(()));
    }

    #[test]
    fn nobody_waits_for_a_change_of_a_service_that_is_to_end() {
        let ending = Ending::default();
        let rounds = Cell::new(0);
        let look = |until: Instant| {
            ending.ask();
            rounds.set(rounds.get() + 1);
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            None::<u8>
        };
        assert_eq!(Waiting::for_change(&ending, &|| {}).wait(look), None);
        let whole = CHANGE_TIMEOUT.as_millis() / LOOK_EVERY.as_millis();
        assert!(rounds.get() < whole / 2, "{} rounds", rounds.get());
    }
}
