//! F-08: the rule engine, against a scan over naive rules and a naive blkdebug.
//!
//! Changes are refused or made by both; every request fails by both with the same error or by
//! neither; in the end every rule has met and hit as many requests. Also where requests that the
//! compiled index leaves out are not asked about.

mod naive;
mod seeds;

use blkfault::errno::Errno;
use blkfault::fault::blkdebug::{Event, InjectError, IoTypeWord, Rules, SetState};
use blkfault::fault::engine::{BlkdebugSetup, Change, Engine, Place, Then, Verdict};
use blkfault::fault::manual::DiskState;
use blkfault::fault::rule::{Effect, Request, Rule, RuleName, Schedule, Trigger};
use blkfault::fault::slow::Distribution;
use blkfault::fault::{Io, IoType, IoTypes, NoPayload, SectorRange};

use crate::input::{Reader, Writer};
use naive::Naive;
pub use seeds::seeds;

/// Sectors of the disk: few, so that rules and requests meet.
const SECTORS: u64 = 64;
/// More steps only take time.
const STEPS_MAX: usize = 200;
/// Names of rules.
const NAMES: u8 = 8;

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
    },
    Add {
        name: u8,
        place: u8,
        other: u8,
        conditions: [u8; 12],
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
            Self::Ask { iotype, sector, sectors, queue, depth, after } => {
                output.bytes(&[0, *iotype, *sector, *sectors, *queue, *depth, *after]);
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

fn event(number: u8) -> Event {
    const EVENTS: [Event; 10] = [
        Event::None,
        Event::ReadAio,
        Event::WriteAio,
        Event::Pwritev,
        Event::PwritevZero,
        Event::PwritevDone,
        Event::FlushToOs,
        Event::FlushToDisk,
        Event::PwritevRmwHead,
        Event::L2Load,
    ];
    EVENTS[usize::from(number) % EVENTS.len()]
}

fn errno(number: u8) -> Errno {
    [Errno::EIO, Errno::ENOSPC, Errno::EOPNOTSUPP][usize::from(number) % 3]
}

fn injection(rule: &[u8; 6]) -> InjectError {
    const WORDS: [&str; 6] = ["read", "write", "flush", "discard", "write-zeroes", "block-status"];
    let [on, state, iotype, error, sector, flags] = *rule;
    let word = WORDS.get(usize::from(iotype) % 8);
    InjectError {
        event: event(on),
        state: i32::from(state % 4),
        iotype: word.and_then(|word| word.parse::<IoTypeWord>().ok()),
        errno: (error % 4 > 0).then(|| self::errno(error)),
        delay_ns: 0,
        sector: (sector % 4 > 0).then(|| u64::from(sector) % SECTORS),
        once: flags & 1 != 0,
        immediately: flags & 2 != 0,
    }
}

fn transition(rule: &[u8; 3]) -> SetState {
    let [on, state, new_state] = *rule;
    SetState { event: event(on), state: i32::from(state % 4), new_state: i32::from(new_state % 4) }
}

fn name(number: u8) -> RuleName {
    RuleName::new(&format!("r{}", number % NAMES)).expect("a name")
}

/// A rule, if there is such a rule.
fn rule(number: u8, conditions: [u8; 12], with_state: bool) -> Option<Rule> {
    let [types, first, more, queue, skip, every, times, start, up_down, depth, state, effect] =
        conditions;
    let sectors = SectorRange::new(u64::from(first), u64::from(first) + u64::from(more % 16));
    let iotypes: IoTypes =
        IoType::ALL.into_iter().filter(|iotype| types & 1 << *iotype as u8 != 0).collect();
    let trigger = Trigger {
        iotypes,
        sectors: sectors.filter(|_| types & 0x20 != 0).into_iter().collect(),
        queue: (queue < 4).then_some(queue.into()),
        skip: (skip % 4).into(),
        every: (every % 4).into(),
        times: (times < 8).then_some(times.into()),
        schedule: (start < 128).then(|| Schedule {
            start_ns: start.into(),
            duration_ns: (up_down & 1 != 0).then_some(u64::from(up_down) * 8),
            up_down_ns: (up_down & 2 != 0)
                .then_some((u64::from(up_down >> 5), u64::from(up_down >> 2 & 7))),
        }),
        depth_min: (depth < 4).then_some(depth.into()),
        state: (with_state && state < 4).then_some(state.into()),
        ..Trigger::default()
    };
    let then = (effect & 0x10 != 0).then(|| errno(effect >> 5));
    let delay = Distribution::Uniform { min_ns: 1, max_ns: 1000 };
    let effect_of = match effect % 4 {
        0 => Effect::Error(errno(effect >> 5)),
        1 => Effect::Delay { delay, then },
        2 if with_state => Effect::SetState(i32::from(effect >> 5)),
        _ => Effect::Hang { at_most_ns: Some(5), then },
    };
    let rule = Rule::new(name(number), trigger, effect_of, effect & 8 != 0).ok()?;
    Some(if types & 0x40 != 0 { rule.disabled() } else { rule })
}

fn manual(number: u8) -> DiskState {
    let iotypes = IoType::ALL.into_iter().filter(|iotype| number & 4 << *iotype as u8 != 0);
    match number % 4 {
        0 => DiskState::None,
        1 => DiskState::ReadOnly { errno: Errno::EIO },
        2 => DiskState::Error { errno: Errno::ENOSPC, iotypes: iotypes.collect() },
        _ => DiskState::Hang {
            iotypes: iotypes.collect(),
            on_release: (number & 0x80 != 0).then_some(Errno::EIO),
        },
    }
}

/// Try an input.
pub fn run(input: &[u8]) {
    let case = Case::decode(input);
    let mut engine = Engine::new(7);
    let blkdebug = case.blkdebug();
    if let Some(rules) = blkdebug.clone() {
        let setup = BlkdebugSetup { rules, ..BlkdebugSetup::default() };
        let _ = engine.configure(vec![Change::OpenBlkdebug(setup)], 0).expect("rules");
    }
    let mut naive = Naive::new(blkdebug.as_ref(), engine.engine_state());
    let (mut now_ns, mut ordinal) = (0, 0);
    for step in &case.steps {
        match step {
            Step::Ask { iotype, sector, sectors, queue, depth, after } => {
                now_ns += u64::from(*after);
                let io = io(*iotype, *sector, *sectors, *queue, ordinal);
                ordinal += 1;
                let depth = u32::from(depth % 8) + 1;
                let request = Request { io, now_ns, depth, payload: &NoPayload };
                let ended = ask(&mut engine, &request, case.asks_all);
                let expected = naive.ask(&request);
                assert_eq!(ended, expected, "{request:?}");
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
        .map(|report| (report.rule.name().clone(), report.enabled, report.met, report.hits))
        .collect();
    assert_eq!(reports, naive.reports());
    assert_eq!(engine.engine_state(), naive.state());
}

fn io(iotype: u8, sector: u8, sectors: u8, queue: u8, ordinal: u64) -> Io {
    let iotype = IoType::ALL[usize::from(iotype) % 5];
    let (sector, sectors) = (u64::from(sector) % SECTORS, u64::from(sectors) % 16 + 1);
    let is_flush = iotype == IoType::Flush;
    let (offset_bytes, bytes) = if is_flush { (0, 0) } else { (sector * 512, sectors * 512) };
    Io { iotype, offset_bytes, bytes, ordinal, queue: (queue % 4).into() }
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

/// A request to its end, over an image that does everything.
fn ask(engine: &mut Engine, request: &Request<'_>, asks_all: bool) -> Option<Errno> {
    if !asks_all && !engine.armed().may_match(&request.io) {
        return None;
    }
    let mut decision = engine.decide(request);
    for _ in 0..1000 {
        let result = match &decision.verdict {
            Verdict::Pass => Ok(()),
            Verdict::Fail(errno, _) => Err(*errno),
            Verdict::Delay { then: Then::Fail(errno), .. }
            | Verdict::Hold { then: Then::Fail(errno), .. } => Err(*errno),
            Verdict::Delay { .. } | Verdict::Hold { .. } => {
                decision = engine.go_on(request, decision.passage);
                continue;
            }
            other => panic!("nobody asked for {other:?}"),
        };
        let ended = engine.finished(request, decision.passage, result);
        assert_eq!(ended.verdict, Verdict::Pass, "nothing holds answers");
        return result.err();
    }
    panic!("a request that never ends");
}
