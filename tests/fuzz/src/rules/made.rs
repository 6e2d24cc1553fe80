//! What F-08's numbers say: rules, states, blkdebug's rules.
//!
//! Knows: the rules' types. Must not know: who decides by them. Invariant: small numbers, so that rules
//! and requests meet.

use blkfault::errno::Errno;
use blkfault::fault::blkdebug::{Event, InjectError, IoTypeWord, SetState};
use blkfault::fault::manual::DiskState;
use blkfault::fault::rule::{
    Content, Effect, Media, Point, Rule, RuleName, Schedule, SlowFirst, Trigger,
};
use blkfault::fault::slow::{Distribution, Profile, ProfileOptions, Shape, Share};
use blkfault::fault::{IoType, IoTypes, SectorRange};

use super::SECTORS;

/// Names of rules.
const NAMES: u8 = 8;

/// The numbers of a rule.
pub type Conditions = [u8; 16];

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

pub(super) fn injection(rule: &[u8; 6]) -> InjectError {
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

pub(super) fn transition(rule: &[u8; 3]) -> SetState {
    let [on, state, new_state] = *rule;
    SetState { event: event(on), state: i32::from(state % 4), new_state: i32::from(new_state % 4) }
}

pub(super) fn name(number: u8) -> RuleName {
    RuleName::new(&format!("r{}", number % NAMES)).expect("a name")
}

/// A rule, if there is such a rule.
pub(super) fn rule(number: u8, conditions: Conditions, with_state: bool) -> Option<Rule> {
    let [.., effect, more, value] = conditions;
    let effect_of = if more & 0x80 == 0 {
        rare(more % 4, value, number)
    } else {
        common(effect, value, with_state)
    };
    let trigger = trigger(conditions, with_state);
    let rule = Rule::new(name(number), trigger, effect_of, effect & 8 != 0).ok()?;
    Some(if conditions[0] & 0x40 != 0 { rule.disabled() } else { rule })
}

fn trigger(conditions: Conditions, with_state: bool) -> Trigger {
    let [
        types,
        first,
        more,
        queue,
        skip,
        every,
        times,
        start,
        up_down,
        depth,
        state,
        content,
        chance,
        _,
        rare,
        _,
    ] = conditions;
    let sectors = SectorRange::new(u64::from(first), u64::from(first) + u64::from(more % 16));
    let named = |iotype: &IoType| match iotype {
        IoType::GetId => rare & 0x40 == 0,
        iotype => types & 1 << *iotype as u8 != 0,
    };
    Trigger {
        iotypes: IoType::NAMED.into_iter().filter(named).collect(),
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
        content: (content < 128).then(|| pattern(content)).flatten(),
        probability: (chance < 128).then(|| Share::new(f64::from(chance) / 100.0).ok()).flatten(),
    }
}

/// Two bytes somewhere.
fn pattern(number: u8) -> Option<Content> {
    let block = [None, Some(512), Some(1024), Some(1536)][usize::from(number) % 4];
    let at = [0, 1, 510, 600][usize::from(number >> 2) % 4];
    let mask = (number & 0x10 != 0).then(|| vec![3, 1]);
    let byte = number >> 5;
    Content::new(at, block, vec![byte, byte], mask).ok()
}

fn common(effect: u8, value: u8, with_state: bool) -> Effect {
    let then = (effect & 0x10 != 0).then(|| errno(effect >> 5));
    match effect % 4 {
        0 => Effect::Error(errno(effect >> 5)),
        1 => Effect::Delay { delay: fixed(value), then },
        2 if with_state => Effect::SetState(i32::from(effect >> 5)),
        _ => Effect::Hang { at_most_ns: Some(5), then },
    }
}

fn rare(kind: u8, value: u8, number: u8) -> Effect {
    match kind {
        0 => Effect::Disconnect,
        1 => {
            let tag = (b'A' + number % NAMES) as char;
            let point = Point::ALL[usize::from(value) % Point::ALL.len()];
            Effect::Break { tag: tag.to_string().into(), point }
        }
        _ => Effect::Media(Box::new(Media {
            errno: errno(value),
            heal_on_write: value & 1 != 0,
            remap_pool: (value & 2 != 0).then_some((value >> 2 & 7).into()),
            slow_first: (value & 0x20 != 0)
                .then(|| SlowFirst { requests: 2, delay: fixed(value & 0x0F) }),
            retries: (value & 0x40 != 0).then_some(1 + u32::from(value >> 7)),
        })),
    }
}

fn fixed(value: u8) -> Distribution {
    Distribution::Fixed { delay_ns: value.into() }
}

fn slow(number: u8, iotypes: IoTypes) -> DiskState {
    let shape = match number >> 3 & 3 {
        0 => Shape::Permanent,
        1 => Shape::Transient { start_ns: 10, duration_ns: 50 },
        _ => Shape::Stalls { period_ns: 20, stall_ns: 5 },
    };
    let here = SectorRange::new(4, 9).into_iter().collect();
    let all =
        ProfileOptions { iotypes, delay: Some(fixed(100)), shape, ..ProfileOptions::default() };
    let some =
        ProfileOptions { sectors: here, delay: Some(fixed(30)), ..ProfileOptions::default() };
    let profiles = [some, all].into_iter().filter_map(|options| Profile::new(options).ok());
    DiskState::Slow { profiles: profiles.collect() }
}

pub(super) fn manual(number: u8) -> DiskState {
    let iotypes = IoType::ALL.into_iter().filter(|iotype| number & 4 << *iotype as u8 != 0);
    match number % 6 {
        0 => DiskState::None,
        1 => DiskState::ReadOnly { errno: Errno::EIO },
        2 => DiskState::Error { errno: Errno::ENOSPC, iotypes: iotypes.collect() },
        3 => DiskState::Hang {
            iotypes: iotypes.collect(),
            on_release: (number & 0x80 != 0).then_some(Errno::EIO),
        },
        4 => slow(number, iotypes.collect()),
        _ => DiskState::Offline,
    }
}
