//! blkdebug as tests meet it: requests, random rule sets, their config files, and a naive model.
//!
//! Knows: what QEMU says about them. Must not know: who carries them out. Invariant: a rule set and
//! the config file made of it say the same.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]

pub mod model;

use blkfault::errno::Errno;
use blkfault::fault::IoType;
use blkfault::fault::blkdebug::{Event, InjectError, IoTypeWord, Rules, SetState};
use proptest::prelude::*;

/// A request of a script.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub iotype: IoType,
    pub sector: u64,
    pub sectors: u64,
}

/// Sectors that requests touch: few, so that rules and requests meet.
pub const SECTORS: u64 = 64;

pub fn asked() -> impl Strategy<Value = Asked> {
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

pub fn rules() -> impl Strategy<Value = Rules> {
    let inject_error = prop::collection::vec(inject_error(), 0..8);
    let set_state = prop::collection::vec(set_state(), 0..6);
    (inject_error, set_state)
        .prop_map(|(inject_error, set_state)| Rules { inject_error, set_state })
}

/// A config file that says the same, sections of both kinds mixed.
pub fn config(rules: &Rules) -> String {
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
