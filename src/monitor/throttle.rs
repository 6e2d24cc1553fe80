//! Which events may go out when.
//!
//! Knows: which events are limited to one a second, and which of them count as the same (QEMU's
//! `monitor_qapi_event_conf`, monitor/monitor.c). Must not know: clocks or clients. Invariants: of
//! events that are the same, two never leave within one period, and the last one always leaves; an
//! event with a member `untold` says how many did not leave since the one before it.

use std::collections::BTreeMap;
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

/// The limited events that went out lately.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    periods: BTreeMap<Key, Period>,
}

#[derive(Debug)]
struct Period {
    ends: Instant,
    /// The last event of the period, which goes out at its end.
    delayed: Option<Event>,
    /// How many events of the period the delayed one stands for besides itself.
    untold: u64,
}

impl Period {
    fn starting(now: Instant) -> Self {
        Self { ends: now + Throttle::PERIOD, delayed: None, untold: 0 }
    }

    fn delay(&mut self, event: Event) {
        self.untold += u64::from(self.delayed.is_some());
        self.delayed = Some(event);
    }

    /// The delayed event, if there is one.
    fn take(&mut self) -> Option<Event> {
        let mut event = self.delayed.take()?;
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

    /// An event happened. Returns it if it may go out now.
    pub(super) fn offer(&mut self, event: Event, now: Instant) -> Option<Event> {
        let Some(key) = key(&event) else { return Some(event) };
        match self.periods.get_mut(&key) {
            Some(period) => {
                period.delay(event);
                None
            }
            None => {
                self.periods.insert(key, Period::starting(now));
                Some(event)
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

/// What makes this event the same as another; `None` if it is not limited.
fn key(event: &Event) -> Option<Key> {
    let members: &[&str] = match event.name {
        "BLOCK_IO_ERROR" => &["device", "operation"],
        "BLOCK_FAULT" => &["id", "rule"],
        "BLOCK_FAULT_HEALED" => &["id", "rule", "reason"],
        "BLOCK_FAULT_ENGINE_STATE_CHANGED" => &["id"],
        _ => return None,
    };
    let member = |name: &&str| Some(event.data.as_ref()?.get(*name)?.as_str()?.to_owned());
    Some((event.name, members.iter().map(member).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn error(device: &str, operation: &str, seconds: u64) -> Event {
        let data = json!({ "device": device, "operation": operation, "reason": seconds });
        Event { name: "BLOCK_IO_ERROR", data: Some(data), at: Duration::from_secs(seconds) }
    }

    #[test]
    fn the_first_error_goes_out_at_once_and_the_last_of_a_second_at_its_end() {
        let mut throttle = Throttle::default();
        let begin = Instant::now();
        assert_eq!(throttle.offer(error("a", "read", 1), begin), Some(error("a", "read", 1)));
        for number in 2..100 {
            assert_eq!(throttle.offer(error("a", "read", number), begin), None);
        }
        assert_eq!(throttle.next_end(), Some(begin + Throttle::PERIOD));
        assert_eq!(throttle.due(begin + Throttle::PERIOD / 2), []);
        let end = begin + Throttle::PERIOD;
        assert_eq!(throttle.due(end), [error("a", "read", 99)]);
        // The delayed one opens a period of its own.
        assert_eq!(throttle.offer(error("a", "read", 100), end), None);
        assert_eq!(throttle.due(end + Throttle::PERIOD), [error("a", "read", 100)]);
        assert_eq!(throttle.due(end + Throttle::PERIOD * 2), []);
        assert_eq!(throttle.next_end(), None);
    }

    #[test]
    fn disks_and_directions_do_not_hide_each_other() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for event in [error("a", "read", 1), error("a", "write", 2), error("b", "read", 3)] {
            assert_eq!(throttle.offer(event.clone(), now), Some(event));
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
        assert_eq!(throttle.offer(hit(1, 0), begin), Some(hit(1, 0)));
        for ordinal in 2..=10 {
            assert_eq!(throttle.offer(hit(ordinal, 0), begin), None);
        }
        let end = begin + Throttle::PERIOD;
        assert_eq!(throttle.due(end), [hit(10, 8)]);
        assert_eq!(throttle.offer(hit(11, 0), end), None);
        assert_eq!(throttle.finish(), [hit(11, 0)], "none is counted twice");
    }

    #[test]
    fn other_events_are_never_delayed() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let event = Event { name: "SHUTDOWN", data: None, at: Duration::ZERO };
        for _ in 0..3 {
            assert_eq!(throttle.offer(event.clone(), now), Some(event.clone()));
        }
    }

    #[test]
    fn at_the_end_what_was_delayed_goes_out_in_the_order_in_which_it_happened() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for seconds in [1, 4] {
            throttle.offer(error("b", "read", seconds), now);
        }
        for seconds in [2, 5, 3] {
            throttle.offer(error("a", "read", seconds), now);
        }
        assert_eq!(throttle.finish(), [error("a", "read", 3), error("b", "read", 4)]);
        assert_eq!(throttle.finish(), []);
    }
}
