//! The rules as one would write them down: tried one by one, counted by hand.
//!
//! Knows: what the fault model says. Must not know: the engine. Shares with it only the rules' types.

use blkfault::errno::Errno;
use blkfault::fault::IoType;
use blkfault::fault::blkdebug::Rules;
use blkfault::fault::engine::{Change, Place};
use blkfault::fault::manual::DiskState;
use blkfault::fault::rule::{Effect, Request, Rule, RuleName, Trigger};

use crate::blkdebug::Asked;
use crate::blkdebug::model::Model;

#[derive(Debug, Clone)]
struct Entry {
    rule: Rule,
    enabled: bool,
    since_ns: u64,
    met: u64,
    hits: u64,
}

/// All rules of a disk.
#[derive(Debug)]
pub(super) struct Naive {
    manual: DiskState,
    entries: Vec<Entry>,
    state: i32,
    /// Changes never touch it.
    blkdebug: Option<std::rc::Rc<std::cell::RefCell<Model>>>,
}

impl Clone for Naive {
    fn clone(&self) -> Self {
        Self {
            manual: self.manual.clone(),
            entries: self.entries.clone(),
            state: self.state,
            blkdebug: self.blkdebug.clone(),
        }
    }
}

impl Naive {
    pub(super) fn new(blkdebug: Option<&Rules>, state: i32) -> Self {
        let model =
            blkdebug.map(|rules| std::rc::Rc::new(std::cell::RefCell::new(Model::open(rules))));
        Self { manual: DiskState::None, entries: Vec::new(), state, blkdebug: model }
    }

    pub(super) fn state(&self) -> i32 {
        self.blkdebug.as_ref().map_or(self.state, |model| model.borrow().state())
    }

    pub(super) fn reports(&self) -> Vec<(RuleName, bool, u64, u64)> {
        let report = |e: &Entry| (e.rule.name().clone(), e.enabled, e.met, e.hits);
        self.entries.iter().map(report).collect()
    }

    fn place_of(&self, name: &RuleName) -> Option<usize> {
        self.entries.iter().position(|entry| entry.rule.name() == name)
    }

    /// False: refused.
    pub(super) fn change(&mut self, change: &Change, now_ns: u64) -> bool {
        let entry = |naive: &mut Self, name: &RuleName, with: &dyn Fn(&mut Entry)| {
            naive.place_of(name).map(|place| with(&mut naive.entries[place])).is_some()
        };
        match change {
            Change::SetState(state) => {
                let of_nothing = |iotypes: &blkfault::fault::IoTypes| iotypes.is_empty();
                let bad = match state {
                    DiskState::Error { iotypes, .. } | DiskState::Hang { iotypes, .. } => {
                        of_nothing(iotypes)
                    }
                    _ => false,
                };
                if !bad {
                    self.manual = state.clone();
                }
                !bad
            }
            Change::AddRule { rule, place } => self.add(rule, place, now_ns),
            Change::RemoveRule(name) => {
                self.place_of(name).map(|place| self.entries.remove(place)).is_some()
            }
            Change::EnableRule(name) => entry(self, name, &|entry| {
                if !entry.enabled {
                    (entry.enabled, entry.since_ns) = (true, now_ns);
                }
            }),
            Change::DisableRule(name) => entry(self, name, &|entry| entry.enabled = false),
            Change::ResetRule(name) => entry(self, name, &|entry| {
                (entry.met, entry.hits, entry.since_ns) = (0, 0, now_ns);
            }),
            Change::SetEngineState(state) => {
                self.state = *state;
                true
            }
            other => panic!("nobody changes {other:?}"),
        }
    }

    fn add(&mut self, rule: &Rule, place: &Place, now_ns: u64) -> bool {
        if self.place_of(rule.name()).is_some() {
            return false;
        }
        let place = match place {
            Place::Last => Some(self.entries.len()),
            Place::First => Some(0),
            Place::Before(other) => self.place_of(other),
            Place::After(other) => self.place_of(other).map(|place| place + 1),
        };
        let enabled = rule.starts_enabled();
        let entry = Entry { rule: rule.clone(), enabled, since_ns: now_ns, met: 0, hits: 0 };
        place.map(|place| self.entries.insert(place, entry)).is_some()
    }

    /// What a request fails with.
    pub(super) fn ask(&mut self, request: &Request<'_>) -> Option<Errno> {
        self.by_state(request).or_else(|| self.by_rules(request)).or_else(|| {
            let model = self.blkdebug.as_ref()?;
            let io = &request.io;
            let (sector, sectors) = (io.offset_bytes / 512, io.bytes / 512);
            let asked = Asked { iotype: io.iotype, sector, sectors };
            Errno::new(model.borrow_mut().request(&asked).into())
        })
    }

    fn by_state(&self, request: &Request<'_>) -> Option<Errno> {
        let iotype = request.io.iotype;
        match &self.manual {
            DiskState::Error { errno, iotypes } => iotypes.contains(iotype).then_some(*errno),
            DiskState::ReadOnly { errno } => {
                (!matches!(iotype, IoType::Read | IoType::Flush)).then_some(*errno)
            }
            DiskState::Hang { iotypes, on_release } => {
                on_release.filter(|_| iotypes.contains(iotype))
            }
            _ => None,
        }
    }

    fn by_rules(&mut self, request: &Request<'_>) -> Option<Errno> {
        // Rules of one pass see the state at its beginning.
        let state = self.state;
        for entry in &mut self.entries {
            if !entry.takes(request, state) {
                continue;
            }
            entry.hits += 1;
            match entry.rule.effect() {
                Effect::Error(errno) => return Some(*errno),
                Effect::Delay { then: Some(errno), .. } => return Some(*errno),
                Effect::Hang { then, .. } => return *then,
                Effect::SetState(state) => self.state = *state,
                _ => {}
            }
            if !entry.rule.goes_on() {
                return None;
            }
        }
        None
    }
}

impl Entry {
    fn takes(&mut self, request: &Request<'_>, state: i32) -> bool {
        let Trigger { skip, every, times, .. } = *self.rule.trigger();
        let used_up = times.is_some_and(|times| self.hits >= times);
        if !self.enabled || used_up || !self.is_met(request, state) {
            return false;
        }
        self.met += 1;
        self.met > skip && (self.met - skip).is_multiple_of(every)
    }

    fn is_met(&self, request: &Request<'_>, state: i32) -> bool {
        let trigger = self.rule.trigger();
        let io = &request.io;
        let touched = io.offset_bytes / 512..(io.offset_bytes + io.bytes) / 512;
        let touches = trigger.sectors.is_empty()
            || touched.into_iter().any(|sector| {
                let inside =
                    |r: &blkfault::fault::SectorRange| (r.first()..=r.last()).contains(&sector);
                trigger.sectors.ranges().iter().any(inside)
            });
        trigger.iotypes.contains(io.iotype)
            && touches
            && trigger.queue.is_none_or(|queue| queue == io.queue)
            && trigger.state.is_none_or(|wanted| wanted == state)
            && trigger.depth_min.is_none_or(|depth| request.depth >= depth)
            && self.is_time(request.now_ns)
    }

    /// A schedule, by walking along its turns.
    fn is_time(&self, now_ns: u64) -> bool {
        let Some(schedule) = self.rule.trigger().schedule else { return true };
        let start = self.since_ns + schedule.start_ns;
        let over = schedule.duration_ns.is_some_and(|duration| now_ns >= start + duration);
        if now_ns < start || over {
            return false;
        }
        let Some((up, down)) = schedule.up_down_ns else { return true };
        let mut turn = start;
        while turn + up + down <= now_ns {
            turn += up + down;
        }
        now_ns >= turn + up
    }
}
