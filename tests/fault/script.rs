//! Scripts: blkdebug rules and requests, as text for QEMU and as values for the engine, and the
//! engine as an arm that runs them.

use blkfault::errno::Errno;
use blkfault::fault::blkdebug::limits::LimitOptions;
use blkfault::fault::blkdebug::{Event, InjectError, IoTypeWord, Limits, Rules, SetState, parse};
use blkfault::fault::engine::{BlkdebugSetup, Change, Engine, Verdict};
use blkfault::fault::rule::Request;
use blkfault::fault::{Io, IoType, NoPayload};
use proptest::prelude::*;

use crate::model::Model;

/// A request of a script.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) iotype: IoType,
    pub(crate) sector: u64,
    pub(crate) sectors: u64,
}

/// Sectors that requests touch: few, so that rules and requests meet.
pub(crate) const SECTORS: u64 = 64;

pub(crate) fn asked() -> impl Strategy<Value = Asked> {
    (0..IoType::ALL.len(), 0..SECTORS - 16, 1_u64..16).prop_map(|(place, sector, sectors)| {
        let iotype = IoType::ALL[place];
        let sectors = if iotype == IoType::Flush { 0 } else { sectors };
        Asked { iotype, sector, sectors }
    })
}

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

fn event() -> impl Strategy<Value = Event> {
    (0..EVENTS.len()).prop_map(|place| EVENTS[place])
}

fn inject_error() -> impl Strategy<Value = InjectError> {
    let words = ["read", "write", "flush", "discard", "write-zeroes", "block-status"];
    let iotype = prop::option::of((0..words.len()).prop_map(move |place| words[place]));
    let errno = prop::sample::select(vec![0_i64, 5, 28, 95, 5, 28]);
    let sector = prop::option::of(0..SECTORS);
    (event(), 0_i32..4, iotype, errno, sector, any::<bool>(), any::<bool>()).prop_map(
        |(event, state, iotype, errno, sector, once, immediately)| InjectError {
            event,
            state,
            iotype: iotype.and_then(|word| word.parse::<IoTypeWord>().ok()),
            errno: Errno::new(errno),
            delay_ns: 0,
            sector,
            once,
            immediately,
        },
    )
}

fn set_state() -> impl Strategy<Value = SetState> {
    (event(), 0_i32..4, 0_i32..4).prop_map(|(event, state, new_state)| SetState {
        event,
        state,
        new_state,
    })
}

pub(crate) fn rules() -> impl Strategy<Value = Rules> {
    let inject_error = prop::collection::vec(inject_error(), 0..8);
    let set_state = prop::collection::vec(set_state(), 0..6);
    (inject_error, set_state)
        .prop_map(|(inject_error, set_state)| Rules { inject_error, set_state })
}

/// A config file that says the same, sections of both kinds mixed.
pub(crate) fn config(rules: &Rules) -> String {
    let mut text = String::from("# made by a test\n");
    for place in 0..rules.inject_error.len().max(rules.set_state.len()) {
        if let Some(rule) = rules.set_state.get(place) {
            let SetState { event, state, new_state } = rule;
            text += &format!(
                "[set-state]\nevent = \"{event}\"\nstate = \"{state}\"\nnew_state = \"{new_state}\"\n\n"
            );
        }
        if let Some(rule) = rules.inject_error.get(place) {
            text += &section(rule, place);
        }
    }
    text
}

fn section(rule: &InjectError, place: usize) -> String {
    let on_off = |on| if on { "on" } else { "off" };
    let mut text = format!("[inject-error \"rule{place}\"]\nevent = \"{}\"\n", rule.event);
    let errno = rule.errno.map_or(0, Errno::number);
    text += &format!("state = \"{}\"\n  errno = \"{errno:#x}\"\n", rule.state);
    if let Some(iotype) = rule.iotype {
        text += &format!("iotype = \"{}\"\n", iotype.name());
    }
    if let Some(sector) = rule.sector {
        text += &format!("sector = \"{sector}\"\n");
    }
    text + &format!(
        "once = \"{}\"\nimmediately = \"{}\"\n",
        on_off(rule.once),
        on_off(rule.immediately)
    )
}

/// The engine over an image that never fails.
pub(crate) struct EngineArm {
    engine: Engine,
    ordinal: u64,
}

impl EngineArm {
    pub(crate) fn open(rules: Rules, limits: &LimitOptions) -> Self {
        let limits = Limits::new(limits, 1).expect("limits that hold together");
        let setup = BlkdebugSetup { rules, limits, ..BlkdebugSetup::default() };
        let mut engine = Engine::new(0);
        let _ = engine.configure(vec![Change::OpenBlkdebug(setup)], 0).expect("rules");
        Self { engine, ordinal: 0 }
    }

    pub(crate) fn state(&self) -> i32 {
        self.engine.engine_state()
    }

    /// A request, to its end: 0 or an error number. Requests that need not ask do not.
    pub(crate) fn request(&mut self, asked: &Asked) -> i32 {
        let io = Io {
            iotype: asked.iotype,
            offset_bytes: asked.sector * 512,
            bytes: asked.sectors * 512,
            ordinal: self.ordinal,
            queue: 0,
        };
        self.ordinal += 1;
        if !self.engine.armed().may_match(&io) {
            return 0;
        }
        let request = Request { io, now_ns: 0, depth: 1, payload: &NoPayload };
        let decision = self.engine.decide(&request);
        let result = match decision.verdict {
            Verdict::Pass => Ok(()),
            Verdict::Fail(errno, _) => Err(errno),
            other => panic!("{other:?}"),
        };
        let ended = self.engine.finished(&request, decision.passage, result);
        assert_eq!(ended.verdict, Verdict::Pass);
        result.err().map_or(0, Errno::number)
    }
}

#[test]
fn a_config_file_says_what_the_rules_say() {
    proptest!(|(rules in rules())| {
        prop_assert_eq!(parse(&config(&rules)), Ok(rules));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_engine_agrees_with_a_naive_blkdebug(
        rules in rules(),
        asked in prop::collection::vec(asked(), 1..40),
    ) {
        let mut model = Model::open(&rules);
        let mut engine = EngineArm::open(rules, &LimitOptions::default());
        prop_assert_eq!(engine.state(), model.state());
        for (place, asked) in asked.iter().enumerate() {
            prop_assert_eq!(engine.request(asked), model.request(asked), "{}: {:?}", place, asked);
            prop_assert_eq!(engine.state(), model.state(), "{}: {:?}", place, asked);
        }
    }
}
