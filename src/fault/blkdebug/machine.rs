//! How blkdebug's rules act together: events arm, requests hit.
//!
//! Knows: `blkdebug_co_debug_event` and `rule_check` of QEMU's `block/blkdebug.c`. Must not know:
//! which events a request raises (`plan`) or what the rest of the engine does. Invariants: rules
//! are only ever taken away, so the armed set is always "the rules of one event and state up to a
//! number, minus those that are gone", and every step costs O(log rules + hits).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::Event;
use super::rule::{InjectError, IoTypeWord, Rules, SetState};
use crate::errno::Errno;
use crate::fault::IoType;

/// A rule's place in the order of definition, from 0; never used again when a rule is gone.
type Number = u32;

/// A rule of the set with what it did.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cell {
    rule: InjectError,
    hits: u64,
    gone: bool,
}

/// What a request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fault) struct Hit {
    /// The rule's place among all `inject-error` rules.
    pub(in crate::fault) number: u32,
    /// The error; `None` goes on after the delay.
    pub(in crate::fault) errno: Option<Errno>,
    /// Waited first.
    pub(in crate::fault) delay_ns: u64,
    /// The rule was `once` and is gone now.
    pub(in crate::fault) exhausted: bool,
}

/// Rules filed under one event and one state (0: any).
#[derive(Debug, Clone, Default)]
struct Group {
    /// All of them that are not gone.
    numbers: BTreeSet<Number>,
    /// Those that hit any I/O type.
    of_any_type: Places,
    /// Those that hit one.
    of_type: [Places; IoType::ALL.len()],
}

/// Rules by where they hit.
#[derive(Debug, Clone, Default)]
struct Places {
    /// Those without a sector.
    anywhere: BTreeSet<Number>,
    /// Those with one: its byte offset, number.
    at: BTreeSet<(u64, Number)>,
}

/// The rules that are armed: of this event and state, and of this event and any state.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Armed {
    event: Event,
    state: i32,
    /// Rules from this number on came later.
    before: Number,
}

/// blkdebug's memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(in crate::fault) struct Machine {
    state: i32,
    cells: Vec<Cell>,
    groups: BTreeMap<(Event, i32), Group>,
    set_state: Vec<SetState>,
    /// The first `set-state` rule of each event and state, by its place.
    first_set_state: BTreeMap<(Event, i32), usize>,
    breakpoints: Vec<(Event, Arc<str>)>,
    armed: Option<Armed>,
}

/// The engine state of a disk that was just made.
const STATE_FIRST: i32 = 1;

impl Default for Machine {
    fn default() -> Self {
        Self {
            state: STATE_FIRST,
            cells: Vec::new(),
            groups: BTreeMap::new(),
            set_state: Vec::new(),
            first_set_state: BTreeMap::new(),
            breakpoints: Vec::new(),
            armed: None,
        }
    }
}

impl Machine {
    /// A machine that was just opened: state 1, event `none` raised.
    pub(in crate::fault) fn open(rules: Rules) -> Self {
        let mut machine = Self::default();
        machine.add(rules);
        machine.raise(Event::None);
        machine
    }

    /// Put rules behind those that are there. They are armed by events from now on.
    pub(in crate::fault) fn add(&mut self, rules: Rules) {
        for rule in rules.inject_error {
            let number = Number::try_from(self.cells.len()).unwrap_or(Number::MAX);
            self.groups.entry((rule.event, rule.state)).or_default().insert(number, &rule);
            self.cells.push(Cell { rule, hits: 0, gone: false });
        }
        for rule in rules.set_state {
            let place = self.set_state.len();
            self.first_set_state.entry((rule.event, rule.state)).or_insert(place);
            self.set_state.push(rule);
        }
    }

    /// Whether no request can meet anything here.
    pub(in crate::fault) fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.set_state.is_empty() && self.breakpoints.is_empty()
    }

    /// Whether nothing that is there can ever do anything: rules on events that never come, and
    /// rules that are gone.
    pub(in crate::fault) fn is_inert(&self) -> bool {
        let lives = |((event, _), group): (&(Event, i32), &Group)| {
            event.is_raised() && !group.numbers.is_empty()
        };
        !self.groups.iter().any(lives)
            && !self.set_state.iter().any(|rule| rule.event.is_raised())
            && !self.breakpoints.iter().any(|(event, _)| event.is_raised())
    }

    pub(in crate::fault) fn state(&self) -> i32 {
        self.state
    }

    pub(in crate::fault) fn set_state(&mut self, state: i32) {
        self.state = state;
    }

    /// Every `inject-error` rule that was ever added, with its hits and whether it is still there.
    pub(in crate::fault) fn inject_error(
        &self,
    ) -> impl ExactSizeIterator<Item = (&InjectError, u64, bool)> {
        self.cells.iter().map(|cell| (&cell.rule, cell.hits, !cell.gone))
    }

    /// Every `set-state` rule.
    pub(in crate::fault) fn set_state_rules(&self) -> &[SetState] {
        &self.set_state
    }

    /// Set a breakpoint (`blkdebug_debug_breakpoint`).
    pub(in crate::fault) fn add_breakpoint(&mut self, event: Event, tag: Arc<str>) {
        self.breakpoints.push((event, tag));
    }

    /// Take breakpoints with this tag away. False if there was none.
    pub(in crate::fault) fn remove_breakpoints(&mut self, tag: &str) -> bool {
        let before = self.breakpoints.len();
        self.breakpoints.retain(|(_, known)| **known != *tag);
        self.breakpoints.len() != before
    }

    pub(in crate::fault) fn breakpoints(&self) -> &[(Event, Arc<str>)] {
        &self.breakpoints
    }

    /// An event: arm, change the state, and tell the breakpoints that were set on it, which are
    /// gone now. All rules see the state from before.
    pub(in crate::fault) fn raise(&mut self, event: Event) -> Vec<Arc<str>> {
        let state = self.state;
        let filled =
            |state| self.groups.get(&(event, state)).is_some_and(|group| !group.numbers.is_empty());
        if filled(0) || filled(state) {
            let before = Number::try_from(self.cells.len()).unwrap_or(Number::MAX);
            self.armed = Some(Armed { event, state, before });
        }
        let first = |state| self.first_set_state.get(&(event, state)).copied();
        let chosen = first(0).into_iter().chain(first(state)).min();
        if let Some(rule) = chosen.and_then(|place| self.set_state.get(place)) {
            self.state = rule.new_state;
        }
        if self.breakpoints.is_empty() {
            return Vec::new();
        }
        let (met, left) = std::mem::take(&mut self.breakpoints)
            .into_iter()
            .partition(|(known, _)| *known == event);
        self.breakpoints = left;
        met.into_iter().map(|(_, tag)| tag).collect()
    }

    /// What the first armed rule for this range does to it (`rule_check`).
    pub(in crate::fault) fn check(
        &mut self,
        iotype: IoType,
        offset_bytes: u64,
        bytes: u64,
    ) -> Option<Hit> {
        let armed = self.armed?;
        let groups = [(armed.event, 0), (armed.event, armed.state)];
        let number = groups
            .iter()
            .filter_map(|key| self.groups.get(key)?.first(iotype, offset_bytes, bytes))
            .min()
            .filter(|number| *number < armed.before)?;
        let cell = self.cells.get_mut(usize::try_from(number).ok()?)?;
        let InjectError { errno, delay_ns, once, .. } = cell.rule;
        if errno.is_none() && delay_ns == 0 {
            return None;
        }
        cell.hits = cell.hits.saturating_add(1);
        cell.gone = once;
        if once && let Some(group) = self.groups.get_mut(&(cell.rule.event, cell.rule.state)) {
            group.remove(number, &cell.rule);
        }
        Some(Hit { number, errno, delay_ns, exhausted: once })
    }
}

impl Group {
    fn insert(&mut self, number: Number, rule: &InjectError) {
        self.numbers.insert(number);
        if let Some(places) = self.places(rule) {
            match rule.sector {
                None => places.anywhere.insert(number),
                Some(sector) => places.at.insert((sector * 512, number)),
            };
        }
    }

    fn remove(&mut self, number: Number, rule: &InjectError) {
        self.numbers.remove(&number);
        if let Some(places) = self.places(rule) {
            match rule.sector {
                None => places.anywhere.remove(&number),
                Some(sector) => places.at.remove(&(sector * 512, number)),
            };
        }
    }

    /// Where a rule is; `None` if it hits nothing that guests ask for.
    fn places(&mut self, rule: &InjectError) -> Option<&mut Places> {
        match rule.iotype {
            None => Some(&mut self.of_any_type),
            Some(IoTypeWord::Io(iotype)) => self.of_type.get_mut(iotype as usize),
            Some(IoTypeWord::BlockStatus) => None,
        }
    }

    /// The first rule for this range.
    fn first(&self, iotype: IoType, offset_bytes: u64, bytes: u64) -> Option<Number> {
        let of_type = self.of_type.get(iotype as usize).into_iter();
        let places = of_type.chain([&self.of_any_type]);
        places.filter_map(|places| places.first(offset_bytes, bytes)).min()
    }
}

impl Places {
    fn first(&self, offset_bytes: u64, bytes: u64) -> Option<Number> {
        let anywhere = self.anywhere.first().copied();
        let end_bytes = offset_bytes.saturating_add(bytes);
        let at = self.at.range((offset_bytes, 0)..(end_bytes, 0)).map(|(_, number)| *number).min();
        anywhere.into_iter().chain(at).min()
    }
}

/// What is written down of a machine; the rest follows from it.
#[derive(Serialize, Deserialize)]
struct Written {
    state: i32,
    cells: Vec<Cell>,
    set_state: Vec<SetState>,
    breakpoints: Vec<(Event, Arc<str>)>,
    armed: Option<Armed>,
}

impl From<Written> for Machine {
    fn from(written: Written) -> Self {
        let Written { state, cells, set_state, breakpoints, armed } = written;
        let inject_error = cells.iter().map(|cell| cell.rule.clone()).collect();
        let mut machine = Self::default();
        machine.add(Rules { inject_error, set_state });
        for (number, cell) in (0..).zip(&cells).filter(|(_, cell)| cell.gone) {
            if let Some(group) = machine.groups.get_mut(&(cell.rule.event, cell.rule.state)) {
                group.remove(number, &cell.rule);
            }
        }
        Self { state, cells, breakpoints, armed, ..machine }
    }
}

impl From<Machine> for Written {
    fn from(machine: Machine) -> Self {
        let Machine { state, cells, set_state, breakpoints, armed, .. } = machine;
        Self { state, cells, set_state, breakpoints, armed }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
