//! The rules as one would write them down: tried one by one, counted by hand.
//!
//! Knows: what the fault model says. Must not know: the engine. Shares with it only the rules' types and
//! the numbers of chance.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use blkfault::errno::Errno;
use blkfault::fault::blkdebug::Rules;
use blkfault::fault::engine::{Change, Place};
use blkfault::fault::manual::DiskState;
use blkfault::fault::random::Stream;
use blkfault::fault::rule::{Content, Effect, Point, Request, Rule, RuleName, Trigger};
use blkfault::fault::slow::Shape;
use blkfault::fault::{Io, IoType, SectorRange};

use super::media::{Sectors, Touch, fixed_ns};
use super::{Fate, SEED};
use crate::blkdebug::Asked;
use crate::blkdebug::model::Model;

#[derive(Debug, Clone)]
struct Entry {
    rule: Rule,
    enabled: bool,
    since_ns: u64,
    met: u64,
    hits: u64,
    /// Only media faults have any.
    sectors: Option<Sectors>,
}

/// What a rule is asked with.
struct Moment<'a> {
    request: &'a Request<'a>,
    written: &'a [u8],
    /// The engine's state when the pass began, or went on.
    state: i32,
    point: Point,
}

/// Name, in force, met, hits, the bad sectors and how many were healed.
pub(super) type Report = (RuleName, bool, u64, u64, Option<(Vec<SectorRange>, u64)>);

/// All rules of a disk.
#[derive(Debug, Clone)]
pub(super) struct Naive {
    manual: DiskState,
    entered_ns: u64,
    entries: Vec<Entry>,
    state: i32,
    /// Changes never touch it.
    blkdebug: Option<Rc<RefCell<Model>>>,
}

impl Naive {
    pub(super) fn new(blkdebug: Option<&Rules>, state: i32) -> Self {
        let blkdebug = blkdebug.map(|rules| Rc::new(RefCell::new(Model::open(rules))));
        Self { manual: DiskState::None, entered_ns: 0, entries: Vec::new(), state, blkdebug }
    }

    pub(super) fn state(&self) -> i32 {
        self.blkdebug.as_ref().map_or(self.state, |model| model.borrow().state())
    }

    pub(super) fn reports(&self) -> Vec<Report> {
        let report = |e: &Entry| {
            let media = e.sectors.as_ref().map(Sectors::report);
            (e.rule.name().clone(), e.enabled, e.met, e.hits, media)
        };
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
                let bad = bad || *state == DiskState::Slow { profiles: Vec::new() };
                if !bad {
                    (self.manual, self.entered_ns) = (state.clone(), now_ns);
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
                entry.sectors = Entry::sectors_of(&entry.rule);
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
        let sectors = Entry::sectors_of(rule);
        let (rule, since_ns) = (rule.clone(), now_ns);
        let entry = Entry { rule, enabled, since_ns, met: 0, hits: 0, sectors };
        place.map(|place| self.entries.insert(place, entry)).is_some()
    }

    /// What becomes of a request that writes this.
    pub(super) fn ask(&mut self, request: &Request<'_>, written: &[u8]) -> Fate {
        let mut fate = Fate::default();
        let moment = |point| Moment { request, written, state: 0, point };
        self.by_state(request, &mut fate);
        let is_decided = |fate: &Fate| fate.lost || fate.errno.is_some();
        if !is_decided(&fate) {
            self.by_rules(moment(Point::Received), &mut fate);
        }
        if !is_decided(&fate) {
            fate.errno = self.by_blkdebug(&request.io);
        }
        if fate.lost {
            return fate;
        }
        if fate.errno.is_none() {
            self.by_rules(moment(Point::BeforeImage), &mut fate);
            if request.io.iotype == IoType::Flush {
                self.by_rules(moment(Point::FlushBeforeCommit), &mut fate);
            }
            self.by_rules(moment(Point::AfterImage), &mut fate);
            self.heal(&request.io);
        }
        self.by_rules(moment(Point::BeforeAnswer), &mut fate);
        fate
    }

    fn by_state(&self, request: &Request<'_>, fate: &mut Fate) {
        let iotype = request.io.iotype;
        match &self.manual {
            DiskState::Error { errno, iotypes } if iotypes.contains(iotype) => {
                fate.errno = Some(*errno);
            }
            DiskState::ReadOnly { errno } => {
                let changes = [IoType::Write, IoType::Discard, IoType::WriteZeroes];
                fate.errno = changes.contains(&iotype).then_some(*errno);
            }
            DiskState::Hang { iotypes, on_release } if iotypes.contains(iotype) => {
                fate.errno = *on_release;
            }
            DiskState::Offline => fate.lost = iotype != IoType::GetId,
            DiskState::Slow { .. } => fate.waited_ns += self.slow_ns(request),
            _ => {}
        }
    }

    /// The first profile that is about the request.
    fn slow_ns(&self, request: &Request<'_>) -> u64 {
        let DiskState::Slow { profiles } = &self.manual else { return 0 };
        let concerns = |options: &&blkfault::fault::slow::ProfileOptions| {
            let sectors = &options.sectors;
            options.iotypes.contains(request.io.iotype)
                && (sectors.is_empty() || touches(sectors.ranges(), &request.io))
        };
        let found = profiles.iter().map(|profile| profile.options()).find(concerns);
        let Some(options) = found else { return 0 };
        let since_ns = request.now_ns - self.entered_ns;
        let delay_ns = options.delay.as_ref().map_or(0, fixed_ns);
        match options.shape {
            Shape::Permanent => delay_ns,
            Shape::Transient { start_ns, duration_ns } => {
                let within = (start_ns..start_ns + duration_ns).contains(&since_ns);
                if within { delay_ns } else { 0 }
            }
            Shape::Stalls { period_ns, stall_ns } => {
                let mut start_ns = 0;
                while start_ns + period_ns <= since_ns {
                    start_ns += period_ns;
                }
                (start_ns + stall_ns).saturating_sub(since_ns)
            }
            _ => panic!("nobody asked for {options:?}"),
        }
    }

    fn by_blkdebug(&self, io: &Io) -> Option<Errno> {
        let model = self.blkdebug.as_ref()?;
        let (sector, sectors) = (io.offset_bytes / 512, io.bytes / 512);
        let asked = Asked { iotype: io.iotype, sector, sectors };
        Errno::new(model.borrow_mut().request(&asked).into())
    }

    fn heal(&mut self, io: &Io) {
        if !is_written(io) {
            return;
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.enabled) {
            if let (Effect::Media(media), Some(sectors)) = (entry.rule.effect(), &mut entry.sectors)
            {
                sectors.heal(media, touched(io));
            }
        }
    }

    fn by_rules(&mut self, mut moment: Moment<'_>, fate: &mut Fate) {
        // Rules of one pass see the state at its beginning.
        moment.state = self.state;
        for entry in &mut self.entries {
            if !entry.takes(&moment) || !entry.acts(&moment.request.io, fate, &mut self.state) {
                continue;
            }
            if fate.lost || fate.errno.is_some() || !entry.rule.goes_on() {
                return;
            }
            if matches!(entry.rule.effect(), Effect::Break { .. }) {
                // It went on later.
                moment.state = self.state;
            }
        }
    }
}

/// The sectors of a request.
fn touched(io: &Io) -> Range<u64> {
    io.offset_bytes / 512..(io.offset_bytes + io.bytes) / 512
}

fn touches(ranges: &[SectorRange], io: &Io) -> bool {
    let is_in = |sector| ranges.iter().any(|r| (r.first()..=r.last()).contains(&sector));
    touched(io).any(is_in)
}

fn is_written(io: &Io) -> bool {
    matches!(io.iotype, IoType::Write | IoType::WriteZeroes)
}

/// Whether a pattern is in a write, looked for at every byte of the disk that it may start at.
fn has(content: &Content, io: &Io, written: &[u8]) -> bool {
    let is_at = |at: u64| {
        let found = written.get(at as usize..).unwrap_or_default();
        let pairs = || found.iter().zip(content.bytes()).zip(content.mask());
        pairs().count() == content.bytes().len() && pairs().all(|((f, w), m)| f & m == w & m)
    };
    match content.block_bytes() {
        None => is_at(content.offset_bytes()),
        Some(block) => (0..io.bytes)
            .filter(|at| (io.offset_bytes + at).is_multiple_of(block))
            .any(|at| is_at(at + content.offset_bytes())),
    }
}

impl Entry {
    fn sectors_of(rule: &Rule) -> Option<Sectors> {
        matches!(rule.effect(), Effect::Media(_)).then(|| Sectors::of(rule))
    }

    fn point(&self) -> Point {
        match self.rule.effect() {
            Effect::Break { point, .. } => *point,
            _ => Point::Received,
        }
    }

    /// Whether the rule is to act.
    fn takes(&mut self, moment: &Moment<'_>) -> bool {
        let Trigger { skip, every, times, probability, .. } = self.rule.trigger();
        let used_up = times.is_some_and(|times| self.hits >= times);
        if !self.enabled || used_up || self.point() != moment.point || !self.is_met(moment) {
            return false;
        }
        self.met += 1;
        let ordinal = moment.request.io.ordinal;
        let mut stream = Stream::new(SEED, self.rule.name().as_str(), ordinal);
        let counts = self.met > skip && (self.met - skip).is_multiple_of(every);
        let by_chance = probability.is_none_or(|share| stream.next_unit() < share.get());
        counts && by_chance
    }

    /// Act. False: it came to nothing.
    fn acts(&mut self, io: &Io, fate: &mut Fate, state: &mut i32) -> bool {
        match self.rule.effect() {
            Effect::Error(errno) => fate.errno = Some(*errno),
            Effect::Delay { delay, then } => {
                fate.waited_ns += fixed_ns(delay);
                fate.errno = *then;
            }
            Effect::Hang { then, .. } => fate.errno = *then,
            Effect::SetState(new) => *state = *new,
            Effect::Break { tag, .. } => fate.stops.extend(tag.bytes()),
            Effect::Disconnect => fate.lost = true,
            Effect::Media(media) => {
                let Some(sectors) = &mut self.sectors else { return false };
                let Some(sector) = sectors.first(touched(io)) else { return false };
                match sectors.touch(media, sector, self.hits) {
                    Touch::Nothing => return false,
                    Touch::Waits(ns) => fate.waited_ns += ns,
                    Touch::Fails(errno) => {
                        fate.errno = Some(errno);
                        // One that is to fail some times in a row is not remapped before.
                        if is_written(io) && media.retries.is_none() {
                            sectors.heal(media, touched(io));
                        }
                    }
                }
            }
        }
        self.hits += 1;
        true
    }

    fn is_met(&self, moment: &Moment<'_>) -> bool {
        let trigger = self.rule.trigger();
        let Moment { request, written, state, .. } = moment;
        let io = &request.io;
        let is_there = match &self.sectors {
            Some(sectors) => sectors.first(touched(io)).is_some(),
            None => trigger.sectors.is_empty() || touches(trigger.sectors.ranges(), io),
        };
        trigger.iotypes.contains(io.iotype)
            && is_there
            && trigger.queue.is_none_or(|queue| queue == io.queue)
            && trigger.state.is_none_or(|wanted| wanted == *state)
            && trigger.depth_min.is_none_or(|depth| request.depth >= depth)
            && self.is_time(request.now_ns)
            && trigger.content.as_ref().is_none_or(|content| has(content, io, written))
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
