//! Which events may go out when.
//!
//! Knows: which events are limited to one a second, and which of them count as the same (QEMU's
//! `monitor_qapi_event_conf`, monitor/monitor.c). Must not know: clocks or clients. Invariants: of
//! events that are the same, two never leave within one period, and the last one always leaves; an
//! event with a member `untold` says how many did not leave since the one before it; nothing is
//! written down of one that does not leave.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Something to tell the clients.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) data: Option<Value>,
    /// When it happened, counted from the beginning of 1970 (UTC).
    pub(super) at: Duration,
}

/// What makes two limited events the same: the event's name and some of its members.
type Key = (&'static str, Vec<Option<String>>);

/// Something that happened. Disks have millions of it to say and little of that is told, so the event
/// is made when it is.
pub(super) struct News {
    name: &'static str,
    /// `None` if the event is not limited.
    key: Option<Key>,
    at: Duration,
    data: Box<dyn FnOnce() -> Option<Value> + Send>,
}

impl News {
    /// An event that is made already.
    pub(super) fn made(name: &'static str, data: Option<Value>, at: Duration) -> Self {
        let key = key(name, data.as_ref());
        Self { name, key, at, data: Box::new(move || data) }
    }

    /// An event that is the same as another if these members are ([`members`]).
    pub(super) fn unmade(
        name: &'static str,
        same: Vec<String>,
        at: Duration,
        data: impl FnOnce() -> Option<Value> + Send + 'static,
    ) -> Self {
        let key = members(name).map(|_| (name, same.into_iter().map(Some).collect()));
        Self { name, key, at, data: Box::new(data) }
    }

    fn make(self) -> Event {
        let Self { name, key: given, at, data } = self;
        let data = data();
        debug_assert_eq!(given, key(name, data.as_ref()), "it is limited as what it is");
        Event { name, data, at }
    }
}

impl fmt::Debug for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("News").field("name", &self.name).field("key", &self.key).finish()
    }
}

/// The limited events that went out lately.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    periods: BTreeMap<Key, Period>,
}

#[derive(Debug)]
struct Period {
    ends: Instant,
    /// The last event of the period, which goes out at its end.
    delayed: Option<News>,
    /// How many events of the period the delayed one stands for besides itself.
    untold: u64,
}

impl Period {
    fn starting(now: Instant) -> Self {
        Self { ends: now + Throttle::PERIOD, delayed: None, untold: 0 }
    }

    fn delay(&mut self, news: News) {
        self.untold += u64::from(self.delayed.is_some());
        self.delayed = Some(news);
    }

    /// The delayed event, if there is one.
    fn take(&mut self) -> Option<Event> {
        let mut event = self.delayed.take()?.make();
        let untold = event.data.as_mut().and_then(|data| data.get_mut("untold"));
        if let Some(member) = untold {
            *member = Value::from(std::mem::take(&mut self.untold));
        }
        Some(event)
    }
}

impl Throttle {
    /// The time between two events that are the same.
    pub(super) const PERIOD: Duration = Duration::from_secs(1);

    /// Something happened. Returns the event if it may go out now.
    pub(super) fn offer(&mut self, news: News, now: Instant) -> Option<Event> {
        let Some(key) = &news.key else { return Some(news.make()) };
        match self.periods.get_mut(key) {
            Some(period) => {
                period.delay(news);
                None
            }
            None => {
                self.periods.insert(key.clone(), Period::starting(now));
                Some(news.make())
            }
        }
    }

    /// The events whose period has ended, in the order in which they happened.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Event> {
        let mut due = Vec::new();
        self.periods.retain(|_, period| {
            if period.ends > now {
                return true;
            }
            let Some(event) = period.take() else { return false };
            due.push(event);
            period.ends = now + Self::PERIOD;
            true
        });
        due.sort_by_key(|event| event.at);
        due
    }

    /// Every event that waits, because nothing will go out later.
    pub(super) fn finish(&mut self) -> Vec<Event> {
        let periods = std::mem::take(&mut self.periods);
        let mut last: Vec<_> =
            periods.into_values().filter_map(|mut period| period.take()).collect();
        last.sort_by_key(|event| event.at);
        last
    }

    /// When [`Throttle::due`] has something to do.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.periods.values().map(|period| period.ends).min()
    }
}

/// The members by which events of this name are the same; `None` if they are not limited.
fn members(name: &str) -> Option<&'static [&'static str]> {
    match name {
        "BLOCK_IO_ERROR" => Some(&["device", "operation"]),
        "BLOCK_FAULT" => Some(&["id", "rule"]),
        "BLOCK_FAULT_HEALED" => Some(&["id", "rule", "reason"]),
        "BLOCK_FAULT_ENGINE_STATE_CHANGED" => Some(&["id"]),
        _ => None,
    }
}

/// What makes this event the same as another; `None` if it is not limited.
fn key(name: &'static str, data: Option<&Value>) -> Option<Key> {
    let member = |name: &&str| Some(data?.get(*name)?.as_str()?.to_owned());
    Some((name, members(name)?.iter().map(member).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn news(event: Event) -> News {
        News::made(event.name, event.data, event.at)
    }

    fn error(device: &str, operation: &str, seconds: u64) -> Event {
        let data = json!({ "device": device, "operation": operation, "reason": seconds });
        Event { name: "BLOCK_IO_ERROR", data: Some(data), at: Duration::from_secs(seconds) }
    }

    #[test]
    fn the_first_error_goes_out_at_once_and_the_last_of_a_second_at_its_end() {
        let mut throttle = Throttle::default();
        let begin = Instant::now();
        assert_eq!(throttle.offer(news(error("a", "read", 1)), begin), Some(error("a", "read", 1)));
        for number in 2..100 {
            assert_eq!(throttle.offer(news(error("a", "read", number)), begin), None);
        }
        assert_eq!(throttle.next_end(), Some(begin + Throttle::PERIOD));
        assert_eq!(throttle.due(begin + Throttle::PERIOD / 2), []);
        let end = begin + Throttle::PERIOD;
        assert_eq!(throttle.due(end), [error("a", "read", 99)]);
        // The delayed one opens a period of its own.
        assert_eq!(throttle.offer(news(error("a", "read", 100)), end), None);
        assert_eq!(throttle.due(end + Throttle::PERIOD), [error("a", "read", 100)]);
        assert_eq!(throttle.due(end + Throttle::PERIOD * 2), []);
        assert_eq!(throttle.next_end(), None);
    }

    #[test]
    fn disks_and_directions_do_not_hide_each_other() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for event in [error("a", "read", 1), error("a", "write", 2), error("b", "read", 3)] {
            assert_eq!(throttle.offer(news(event.clone()), now), Some(event));
        }
    }

    #[test]
    fn an_event_that_counts_says_how_many_are_not_told() {
        let hit = |ordinal: u64, untold: u64| {
            let data = json!({ "id": "a", "rule": "r", "ordinal": ordinal, "untold": untold });
            Event { name: "BLOCK_FAULT", data: Some(data), at: Duration::from_secs(ordinal) }
        };
        let mut throttle = Throttle::default();
        let begin = Instant::now();
        assert_eq!(throttle.offer(news(hit(1, 0)), begin), Some(hit(1, 0)));
        for ordinal in 2..=10 {
            assert_eq!(throttle.offer(news(hit(ordinal, 0)), begin), None);
        }
        let end = begin + Throttle::PERIOD;
        assert_eq!(throttle.due(end), [hit(10, 8)]);
        assert_eq!(throttle.offer(news(hit(11, 0)), end), None);
        assert_eq!(throttle.finish(), [hit(11, 0)], "none is counted twice");
    }

    #[test]
    fn what_is_not_told_is_never_made() {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let hit = |ordinal: u64| {
            let same = vec!["a".to_owned(), "r".to_owned()];
            News::unmade("BLOCK_FAULT", same, Duration::from_secs(ordinal), move || {
                MADE.fetch_add(1, Ordering::SeqCst);
                Some(json!({ "id": "a", "rule": "r", "ordinal": ordinal, "untold": 0 }))
            })
        };
        let ordinal = |event: &Event| event.data.as_ref().unwrap()["ordinal"].as_u64();
        let (mut throttle, begin) = (Throttle::default(), Instant::now());
        let told: Vec<_> = (1..=100_000).filter_map(|n| throttle.offer(hit(n), begin)).collect();
        assert_eq!(told.iter().map(ordinal).collect::<Vec<_>>(), [Some(1)]);
        assert_eq!(MADE.load(Ordering::SeqCst), 1);
        let told = throttle.due(begin + Throttle::PERIOD);
        assert_eq!(told.iter().map(ordinal).collect::<Vec<_>>(), [Some(100_000)]);
        assert_eq!(told[0].data.as_ref().unwrap()["untold"], 99_998);
        assert_eq!(MADE.load(Ordering::SeqCst), 2, "the first and the last of a hundred thousand");
    }

    #[test]
    fn other_events_are_never_delayed() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let event = Event { name: "SHUTDOWN", data: None, at: Duration::ZERO };
        for _ in 0..3 {
            assert_eq!(throttle.offer(news(event.clone()), now), Some(event.clone()));
        }
    }

    #[test]
    fn at_the_end_what_was_delayed_goes_out_in_the_order_in_which_it_happened() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for seconds in [1, 4] {
            throttle.offer(news(error("b", "read", seconds)), now);
        }
        for seconds in [2, 5, 3] {
            throttle.offer(news(error("a", "read", seconds)), now);
        }
        assert_eq!(throttle.finish(), [error("a", "read", 3), error("b", "read", 4)]);
        assert_eq!(throttle.finish(), []);
    }
}
