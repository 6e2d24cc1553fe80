//! F-08: the rule engine, against a scan over naive rules and a naive blkdebug.
//!
//! Changes are refused or made by both; every request waits by both for as long, stops at the same
//! breakpoints, and fails with the same error, is never answered, or neither; in the end every rule has
//! met and hit as many requests, and the same sectors are bad. Also where requests that the compiled
//! index leaves out are not asked about. What chance decides is a number of the rule's own stream
//! (`fault::random`), the only part of the engine that the naive rules take from it.

mod made;
mod media;
mod naive;
mod seeds;

use std::time::Duration;

use blkfault::errno::Errno;
use blkfault::fault::blkdebug::Rules;
use blkfault::fault::engine::{BlkdebugSetup, Change, Engine, Place, Then, Verdict};
use blkfault::fault::rule::Request;
use blkfault::fault::{Io, IoType};

use crate::input::{Reader, Writer};
use made::{Conditions, injection, manual, name, rule, transition};
use naive::{Naive, Report};
pub use seeds::seeds;

/// Sectors of the disk: few, so that rules and requests meet.
const SECTORS: u64 = 64;
/// More steps only take time.
const STEPS_MAX: usize = 200;
/// Of both.
const SEED: u64 = 7;

/// What happens next. Numbers are taken modulo what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Ask {
        iotype: u8,
        sector: u8,
        sectors: u8,
        queue: u8,
        depth: u8,
        after: u8,
        /// What it writes begins with this, a sector further with one more.
        fill: u8,
    },
    Add {
        name: u8,
        place: u8,
        other: u8,
        conditions: Conditions,
    },
    Remove(u8),
    Enable(u8),
    Disable(u8),
    Reset(u8),
    State(u8),
    EngineState(u8),
    /// The following change and this one together, or neither.
    Twice {
        first: u8,
        second: u8,
    },
}

/// An input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Case {
    /// Ask about every request, needed or not.
    pub asks_all: bool,
    /// blkdebug's rules; with any, native rules leave the engine's state alone.
    pub inject_error: Vec<[u8; 6]>,
    pub set_state: Vec<[u8; 3]>,
    pub steps: Vec<Step>,
}

impl Case {
    pub fn decode(input: &[u8]) -> Self {
        let mut input = Reader::new(input);
        let counts = input.u8();
        let inject_error =
            (0..counts >> 1 & 7).map(|_| std::array::from_fn(|_| input.u8())).collect();
        let set_state = (0..counts >> 4 & 7).map(|_| std::array::from_fn(|_| input.u8())).collect();
        let mut steps = Vec::new();
        while !input.is_empty() && steps.len() < STEPS_MAX {
            steps.push(Step::read(&mut input));
        }
        Self { asks_all: counts & 1 != 0, inject_error, set_state, steps }
    }

    pub fn encode(&self) -> Vec<u8> {
        let count = |count: usize| u8::try_from(count.min(7)).unwrap_or(7);
        let mut output = Writer::default();
        let counts = count(self.inject_error.len()) << 1 | count(self.set_state.len()) << 4;
        output.u8(u8::from(self.asks_all) | counts);
        self.inject_error.iter().for_each(|rule| output.bytes(rule));
        self.set_state.iter().for_each(|rule| output.bytes(rule));
        self.steps.iter().for_each(|step| step.write(&mut output));
        output.0
    }

    fn blkdebug(&self) -> Option<Rules> {
        let inject_error: Vec<_> = self.inject_error.iter().map(injection).collect();
        let set_state: Vec<_> = self.set_state.iter().map(transition).collect();
        let any = !inject_error.is_empty() || !set_state.is_empty();
        any.then_some(Rules { inject_error, set_state })
    }
}

impl Step {
    fn read(input: &mut Reader<'_>) -> Self {
        match input.u8() % 16 {
            0..=7 => Self::Ask {
                iotype: input.u8(),
                sector: input.u8(),
                sectors: input.u8(),
                queue: input.u8(),
                depth: input.u8(),
                after: input.u8(),
                fill: input.u8(),
            },
            8 => Self::Add {
                name: input.u8(),
                place: input.u8(),
                other: input.u8(),
                conditions: std::array::from_fn(|_| input.u8()),
            },
            9 => Self::Remove(input.u8()),
            10 => Self::Enable(input.u8()),
            11 => Self::Disable(input.u8()),
            12 => Self::Reset(input.u8()),
            13 => Self::State(input.u8()),
            14 => Self::EngineState(input.u8()),
            _ => Self::Twice { first: input.u8(), second: input.u8() },
        }
    }

    fn write(&self, output: &mut Writer) {
        match self {
            Self::Ask { iotype, sector, sectors, queue, depth, after, fill } => {
                output.bytes(&[0, *iotype, *sector, *sectors, *queue, *depth, *after, *fill]);
            }
            Self::Add { name, place, other, conditions } => {
                output.bytes(&[8, *name, *place, *other]);
                output.bytes(conditions);
            }
            Self::Remove(name) => output.bytes(&[9, *name]),
            Self::Enable(name) => output.bytes(&[10, *name]),
            Self::Disable(name) => output.bytes(&[11, *name]),
            Self::Reset(name) => output.bytes(&[12, *name]),
            Self::State(state) => output.bytes(&[13, *state]),
            Self::EngineState(state) => output.bytes(&[14, *state]),
            Self::Twice { first, second } => output.bytes(&[15, *first, *second]),
        }
    }
}

/// Try an input.
pub fn run(input: &[u8]) {
    play(input);
}

/// What became of the requests, and of the rules.
fn play(input: &[u8]) -> (Vec<Fate>, Vec<Report>) {
    let mut fates = Vec::new();
    let case = Case::decode(input);
    let mut engine = Engine::new(SEED);
    let blkdebug = case.blkdebug();
    if let Some(rules) = blkdebug.clone() {
        let setup = BlkdebugSetup { rules, ..BlkdebugSetup::default() };
        let _ = engine.configure(vec![Change::OpenBlkdebug(setup)], 0).expect("rules");
    }
    let mut naive = Naive::new(blkdebug.as_ref(), engine.engine_state());
    let (mut now_ns, mut ordinal) = (0, 0);
    for step in &case.steps {
        match step {
            Step::Ask { iotype, sector, sectors, queue, depth, after, fill } => {
                now_ns += u64::from(*after);
                let io = io(*iotype, *sector, *sectors, *queue, ordinal);
                ordinal += 1;
                let depth = u32::from(depth % 8) + 1;
                let written = payload(&io, *fill);
                let request = Request { io, now_ns, depth, payload: &written.as_slice() };
                let ended = ask(&mut engine, &request, case.asks_all);
                let expected = naive.ask(&request, &written);
                assert_eq!(ended, expected, "{request:?}");
                fates.push(ended);
            }
            Step::Twice { first, second } => {
                let changes =
                    vec![Change::RemoveRule(name(*first)), Change::EnableRule(name(*second))];
                change(&mut engine, &mut naive, changes, now_ns);
            }
            step => {
                let change_of = change_of(step, blkdebug.is_none());
                change(&mut engine, &mut naive, change_of.into_iter().collect(), now_ns);
            }
        }
    }
    let reports: Vec<_> = engine
        .rules()
        .map(|report| {
            let media = report.media.map(|(bad, healed)| (bad.ranges().to_vec(), healed));
            (report.rule.name().clone(), report.enabled, report.met, report.hits, media)
        })
        .collect();
    assert_eq!(reports, naive.reports());
    assert_eq!(engine.engine_state(), naive.state());
    (fates, reports)
}

fn io(iotype: u8, sector: u8, sectors: u8, queue: u8, ordinal: u64) -> Io {
    let iotype = IoType::NAMED[usize::from(iotype) % 6];
    let (sector, sectors) = (u64::from(sector) % SECTORS, u64::from(sectors) % 16 + 1);
    let has_sectors = iotype.has_sectors();
    let (offset_bytes, bytes) = if has_sectors { (sector * 512, sectors * 512) } else { (0, 0) };
    Io { iotype, offset_bytes, bytes, ordinal, queue: (queue % 4).into() }
}

/// What a write has: one byte a sector, again and again.
fn payload(io: &Io, fill: u8) -> Vec<u8> {
    let bytes = if io.iotype == IoType::Write { io.bytes } else { 0 };
    let mut payload = vec![fill; usize::try_from(bytes).expect("few")];
    for (place, sector) in payload.chunks_mut(512).zip(0_u8..) {
        place.fill(fill.wrapping_add(sector));
    }
    payload
}

fn change_of(step: &Step, with_state: bool) -> Option<Change> {
    Some(match step {
        Step::Add { name: number, place, other, conditions } => {
            let place = match place % 4 {
                0 => Place::Last,
                1 => Place::First,
                2 => Place::Before(name(*other)),
                _ => Place::After(name(*other)),
            };
            let rule = Box::new(rule(*number, *conditions, with_state)?);
            Change::AddRule { rule, place }
        }
        Step::Remove(number) => Change::RemoveRule(name(*number)),
        Step::Enable(number) => Change::EnableRule(name(*number)),
        Step::Disable(number) => Change::DisableRule(name(*number)),
        Step::Reset(number) => Change::ResetRule(name(*number)),
        Step::State(number) => Change::SetState(manual(*number)),
        Step::EngineState(number) if with_state => Change::SetEngineState(i32::from(number % 4)),
        _ => return None,
    })
}

fn change(engine: &mut Engine, naive: &mut Naive, changes: Vec<Change>, now_ns: u64) {
    let mut tried = naive.clone();
    let expected = changes.iter().all(|change| tried.change(change, now_ns));
    let made = engine.configure(changes, now_ns).is_ok();
    assert_eq!(made, expected, "a change");
    if expected {
        *naive = tried;
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Fate {
    /// How long it waited, as far as that has an end.
    waited_ns: u64,
    /// Where it was stopped.
    stops: Vec<u8>,
    /// Its error.
    errno: Option<Errno>,
    /// It was never answered.
    lost: bool,
}

/// A request to its end, over an image that does everything.
fn ask(engine: &mut Engine, request: &Request<'_>, asks_all: bool) -> Fate {
    let mut fate = Fate::default();
    if !asks_all && !engine.armed().may_match(&request.io) {
        return fate;
    }
    let mut decision = engine.decide(request);
    let mut is_done = false;
    for _ in 0..1000 {
        let passage = decision.passage;
        if let Verdict::Delay { waits, .. } = &decision.verdict {
            let waited = waits.duration();
            fate.waited_ns += u64::try_from(waited.as_nanos()).expect("not so long");
        }
        decision = match decision.verdict {
            Verdict::Pass if is_done => return fate,
            Verdict::Pass => {
                is_done = true;
                engine.finished(request, passage, Ok(()))
            }
            Verdict::Fail(errno, _)
            | Verdict::Delay { then: Then::Fail(errno), .. }
            | Verdict::Hold { then: Then::Fail(errno), .. } => {
                assert!(!is_done, "failed when it was done");
                (is_done, fate.errno) = (true, Some(errno));
                engine.finished(request, passage, Err(errno))
            }
            Verdict::Hold { at_most, .. } => {
                assert!(at_most.is_none_or(|at_most| at_most == Duration::from_nanos(5)));
                engine.go_on(request, passage)
            }
            Verdict::Break { tags, .. } => {
                fate.stops.extend(tags.iter().flat_map(|tag| tag.bytes()));
                engine.go_on(request, passage)
            }
            Verdict::Delay { .. } => engine.go_on(request, passage),
            Verdict::Disconnect(_) => return Fate { lost: true, ..fate },
        };
    }
    panic!("a request that never ends");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What the seed of this name comes to.
    fn played(name: &str) -> (Vec<Fate>, Vec<Report>) {
        let seed = seeds().into_iter().find(|(known, _)| *known == name).expect("a seed");
        play(&seed.1)
    }

    fn failed(name: &str) -> usize {
        played(name).0.iter().filter(|fate| fate.errno.is_some()).count()
    }

    #[test]
    fn the_seeds_do_what_their_names_say() {
        assert_eq!(failed("a-rule-about-get-id"), 12, "all of two rounds");
        let by_chance = failed("a-rule-by-chance");
        assert!((1..15).contains(&by_chance), "{by_chance} of 15");
        assert_eq!(failed("a-rule-about-content"), 3, "the write of each round");
        assert!(played("a-rule-that-disconnects").0.iter().any(|fate| fate.lost));
        let waited: BTreeSet<_> =
            played("a-slow-disk").0.iter().map(|fate| fate.waited_ns).collect();
        assert!(waited.is_superset(&[0, 30, 100].into()), "{waited:?}");
        let tags = played("breakpoints-at-every-point").0;
        assert!(tags.iter().any(|fate| fate.stops.len() == 5), "{tags:?}");
    }

    #[test]
    fn bad_sectors_are_bad_until_they_heal() {
        let healed = |name: &str| match &played(name).1[..] {
            [(.., Some((bad, healed)))] => (bad.len(), *healed),
            other => panic!("{other:?}"),
        };
        assert_eq!(healed("bad-sectors"), (1, 0));
        assert_eq!(healed("bad-sectors-that-heal"), (0, 5));
        assert_eq!(healed("bad-sectors-few-spare").1, 2);
        let tried = played("bad-sectors-tried-again").0;
        assert!(
            tried.iter().any(|fate| fate.errno.is_none()) && failed("bad-sectors-tried-again") > 3
        );
        assert!(played("bad-sectors-slow-first").0.iter().any(|fate| fate.waited_ns > 0));
    }
}
