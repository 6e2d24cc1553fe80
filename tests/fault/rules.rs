//! Native rules: against a scan, under threads, and twice the same.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use blkfault::errno::Errno;
use blkfault::fault::engine::{Cause, Change, Engine, Place, Verdict};
use blkfault::fault::manual::DiskState;
use blkfault::fault::rule::{Effect, Media, Request, Rule, RuleName, Schedule, Trigger};
use blkfault::fault::slow::{Distribution, Preset, Quantile, Share};
use blkfault::fault::{Io, IoType, IoTypes, NoPayload, SectorRange};
use proptest::prelude::*;

fn name(number: usize) -> RuleName {
    RuleName::new(&format!("r{number}")).expect("a name")
}

fn add(rule: Rule) -> Change {
    Change::AddRule { rule: Box::new(rule), place: Place::Last }
}

fn io(iotype: IoType, sector: u64, ordinal: u64) -> Io {
    let bytes = if iotype == IoType::Flush { 0 } else { 4096 };
    Io { iotype, offset_bytes: sector * 512, bytes, ordinal, queue: u16::from(ordinal % 2 == 1) }
}

fn request(io: Io) -> Request<'static> {
    let depth = u32::try_from(io.ordinal * 7 % 5).expect("below 5") + 1;
    Request { io, now_ns: io.ordinal * 1000, depth, payload: &NoPayload }
}

fn trigger() -> impl Strategy<Value = Trigger> {
    let types = prop::collection::vec(0..IoType::ALL.len(), 1..4);
    let ranges = prop::collection::vec((0_u64..2000, 0_u64..30), 0..3);
    let counts = (0_u64..3, 1_u64..4, prop::option::of(1_u64..5));
    let chance = prop::option::of(1_u32..100);
    let schedule = prop::option::of((0_u64..5000, 1_u64..9000, 1_u64..9000));
    let moment = (prop::option::of(1_i32..3), prop::option::of(1_u32..6), schedule);
    (types, ranges, prop::option::of(0_u16..2), counts, chance, moment).prop_map(
        |(types, ranges, queue, (skip, every, times), chance, (state, depth_min, schedule))| {
            Trigger {
                iotypes: types.into_iter().map(|place| IoType::ALL[place]).collect(),
                sectors: ranges
                    .into_iter()
                    .filter_map(|(first, more)| SectorRange::new(first, first + more))
                    .collect(),
                queue,
                state,
                depth_min,
                skip,
                every,
                times,
                probability: chance.and_then(|of_100| Share::new(f64::from(of_100) / 100.0).ok()),
                schedule: schedule.map(|(start_ns, up, down)| Schedule {
                    start_ns,
                    up_down_ns: Some((up, down)),
                    ..Schedule::default()
                }),
                ..Trigger::default()
            }
        },
    )
}

fn effect(place: usize) -> Effect {
    let ms = 1_000_000;
    match place % 7 {
        0 => Effect::Error(Errno::ENOSPC),
        1 => Effect::Delay {
            delay: Distribution::Lognormal { median_ns: ms, sigma: 1.0 },
            then: None,
        },
        2 => Effect::Delay {
            delay: Distribution::Exponential { mean_ns: ms },
            then: Some(Errno::EIO),
        },
        3 => Effect::SetState(2),
        4 => Effect::Delay { delay: Distribution::Uniform { min_ns: 1, max_ns: ms }, then: None },
        5 => {
            let points = [(0.0, 1), (0.9, ms), (1.0, 9 * ms)];
            let points = points.map(|(share, delay_ns)| Quantile { share, delay_ns });
            Effect::Delay { delay: Distribution::Quantiles(points.to_vec()), then: None }
        }
        _ => Effect::Delay { delay: Distribution::Pareto { min_ns: ms, alpha: 1.2 }, then: None },
    }
}

/// Rules that are valid; a flush-only trigger with sectors is not, and left out.
fn rules(triggers: Vec<Trigger>) -> Vec<Rule> {
    let rule = |(place, trigger): (usize, Trigger)| {
        Rule::new(name(place), trigger, effect(place), matches!(place % 7, 1 | 3 | 4)).ok()
    };
    triggers.into_iter().enumerate().filter_map(rule).collect()
}

/// Every verdict of a run, in words.
fn verdicts(seed: u64, rules: &[Rule], asked: &[(usize, u64)], ask_all: bool) -> Vec<String> {
    let mut engine = Engine::new(seed);
    let changes = rules.iter().cloned().map(add).collect();
    let _ = engine.configure(changes, 0).expect("rules");
    (0..)
        .zip(asked)
        .map(|(ordinal, (place, sector))| {
            let io = io(IoType::ALL[*place], *sector, ordinal);
            if !ask_all && !engine.armed().may_match(&io) {
                return format!("{:?}", Verdict::Pass);
            }
            let decision = engine.decide(&request(io));
            format!("{:?}", decision.verdict)
        })
        .collect()
}

fn asked(most: usize) -> impl Strategy<Value = Vec<(usize, u64)>> {
    prop::collection::vec((0..IoType::ALL.len(), 0_u64..2000), 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_same_seed_and_requests_give_the_same_verdicts(
        triggers in prop::collection::vec(trigger(), 1..12), asked in asked(200), seed in any::<u64>(),
    ) {
        let rules = rules(triggers);
        prop_assert_eq!(verdicts(seed, &rules, &asked, true), verdicts(seed, &rules, &asked, true));
    }

    /// The index only leaves out rules that do not match: with and without it, and rule by rule
    /// without any index, a disk does the same.
    #[test]
    fn asking_only_when_armed_changes_nothing(
        triggers in prop::collection::vec(trigger(), 1..12), asked in asked(100),
    ) {
        let rules = rules(triggers);
        prop_assert_eq!(verdicts(5, &rules, &asked, false), verdicts(5, &rules, &asked, true));
    }
}

/// A rule as one would write it down: conditions one after the other, counted by hand.
struct Naive {
    trigger: Trigger,
    met: u64,
    hits: u64,
}

impl Naive {
    fn hits(&mut self, request: &Request<'_>, engine_state: i32) -> bool {
        let Request { io, now_ns, depth, .. } = request;
        let Trigger { iotypes, sectors, queue, state, depth_min, schedule, .. } = &self.trigger;
        let Trigger { skip, every, times, .. } = &self.trigger;
        let (first, end) = (io.offset_bytes / 512, (io.offset_bytes + io.bytes) / 512);
        let touches = sectors.is_empty()
            || (first..end).any(|sector| {
                sectors
                    .ranges()
                    .iter()
                    .any(|range| range.first() <= sector && sector <= range.last())
            });
        let in_force = schedule.is_none_or(|Schedule { start_ns, up_down_ns, .. }| {
            let (up, down) = up_down_ns.expect("made with one");
            *now_ns >= start_ns && (now_ns - start_ns) % (up + down) >= up
        });
        let left = times.is_none_or(|times| self.hits < times);
        let right_queue = queue.is_none_or(|queue| queue == io.queue);
        let right_state = state.is_none_or(|state| state == engine_state);
        let deep_enough = depth_min.is_none_or(|depth_min| *depth >= depth_min);
        let right_moment = in_force && right_state && deep_enough;
        if !(left && iotypes.contains(io.iotype) && touches && right_moment && right_queue) {
            return false;
        }
        self.met += 1;
        let hit = self.met > *skip && (self.met - skip).is_multiple_of(*every);
        self.hits += u64::from(hit);
        hit
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    /// Against rules that are tried one by one; and what a rule reports is what was met.
    #[test]
    fn the_engine_agrees_with_a_scan_over_naive_rules(
        triggers in prop::collection::vec(trigger(), 1..12), asked in asked(150),
    ) {
        let triggers = triggers.into_iter().map(|trigger| Trigger { probability: None, ..trigger });
        let rules: Vec<Rule> = triggers
            .enumerate()
            .filter_map(|(place, trigger)| {
                Rule::new(name(place), trigger, Effect::Error(Errno::EIO), false).ok()
            })
            .collect();
        let mut naive: Vec<(RuleName, Naive)> = rules
            .iter()
            .map(|rule| (rule.name().clone(), Naive { trigger: rule.trigger(), met: 0, hits: 0 }))
            .collect();
        let mut engine = Engine::new(0);
        let _ = engine.configure(rules.into_iter().map(add).collect(), 0).expect("rules");
        for (ordinal, (place, sector)) in (0..).zip(asked) {
            let io = io(IoType::ALL[place], sector, ordinal);
            let request = request(io);
            let state = i32::from(ordinal / 20 % 2 == 1) + 1;
            if ordinal % 20 == 0 {
                let _ = engine.configure(vec![Change::SetEngineState(state)], 0).expect("a state");
            }
            let first = naive
                .iter_mut()
                .find_map(|(name, naive)| naive.hits(&request, state).then(|| name.clone()));
            let expected = first
                .map_or(Verdict::Pass, |name| Verdict::Fail(Errno::EIO, Cause::Rule(name)));
            prop_assert_eq!(engine.decide(&request).verdict, expected, "{:?}", io);
        }
        for (name, naive) in naive {
            prop_assert_eq!(engine.hits(&Cause::Rule(name)), Some(naive.hits));
        }
    }
}

#[test]
fn another_seed_gives_other_verdicts() {
    let trigger = Trigger { probability: Share::new(0.5).ok(), ..Trigger::default() };
    let rule = Rule::new(name(0), trigger, Effect::Error(Errno::EIO), false).expect("a rule");
    let asked: Vec<_> = (0..64).map(|sector| (0, sector)).collect();
    let rules = [rule];
    assert_ne!(verdicts(1, &rules, &asked, true), verdicts(2, &rules, &asked, true));
}

#[test]
fn every_preset_says_the_same_twice() {
    for preset in Preset::ALL {
        let run = || {
            let mut engine = Engine::new(9);
            let state = DiskState::Slow { profiles: preset.profiles() };
            let _ = engine.configure(vec![Change::SetState(state)], 0).expect("a preset");
            let verdict = |ordinal| {
                let io = io(
                    IoType::ALL[usize::try_from(ordinal % 5).expect("a place")],
                    ordinal,
                    ordinal,
                );
                format!("{:?}", engine.decide(&request(io)).verdict)
            };
            (0..500).map(verdict).collect::<Vec<_>>()
        };
        let said = run();
        assert_eq!(said, run(), "{}", preset.name());
        let shown = said.iter().any(|verdict| verdict.starts_with("Delay"));
        assert!(shown || preset == Preset::Limplock, "{} slows nothing", preset.name());
    }
}

/// A rule that may hit once must not hit twice when four queues race for it, and the hits it
/// reports are the errors that were met.
#[test]
fn once_is_once_under_four_threads() {
    const TRIALS: u64 = 500;
    let once = Trigger { times: Some(1), ..Trigger::default() };
    let rule = Rule::new(name(0), once, Effect::Error(Errno::EIO), false).expect("a rule");
    let engine = Mutex::new(Engine::new(0));
    let _ = engine.lock().expect("a lock").configure(vec![add(rule)], 0).expect("a rule");
    let met = AtomicU64::new(0);
    for trial in 0..TRIALS {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (engine, met) = (&engine, &met);
                scope.spawn(move || {
                    let io = io(IoType::Write, thread, trial * 4 + thread);
                    let armed = engine.lock().expect("a lock").armed();
                    if armed.may_match(&io) {
                        let decision = engine.lock().expect("a lock").decide(&request(io));
                        if let Verdict::Fail(..) = decision.verdict {
                            met.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let mut engine = engine.lock().expect("a lock");
        assert_eq!(engine.hits(&Cause::Rule(name(0))), Some(1));
        let _ = engine.configure(vec![Change::ResetRule(name(0))], 0).expect("a reset");
    }
    assert_eq!(met.load(Ordering::Relaxed), TRIALS);
}

/// Rules that are used up, and rules for another engine state, cost nothing: the requests that
/// come later need not ask, or ask few.
#[test]
fn used_up_rules_leave_the_index() {
    let once = Trigger { times: Some(1), ..Trigger::default() };
    let rule = |number| Rule::new(name(number), once.clone(), Effect::Error(Errno::EIO), false);
    let changes = (0..1000).map(|number| add(rule(number).expect("a rule"))).collect();
    let mut engine = Engine::new(0);
    let _ = engine.configure(changes, 0).expect("rules");
    for ordinal in 0..1000 {
        let verdict = engine.decide(&request(io(IoType::Read, 0, ordinal))).verdict;
        let cause = Cause::Rule(name(usize::try_from(ordinal).expect("a number")));
        assert_eq!(verdict, Verdict::Fail(Errno::EIO, cause));
    }
    assert_eq!(engine.decide(&request(io(IoType::Read, 0, 1000))).verdict, Verdict::Pass);
    let _ = engine.configure(vec![], 0).expect("nothing");
    assert!(engine.armed().is_idle());
}

/// Ten thousand bad blocks, as dm-dust would have them: added at once, each fails its own reads,
/// heals on a write, and requests elsewhere need not ask.
#[test]
fn ten_thousand_bad_blocks_are_ten_thousand_bad_blocks() {
    let reads: IoTypes = [IoType::Read].into_iter().collect();
    let media = || Media { heal_on_write: true, ..Media::failing(Errno::EIO) };
    let rule = |number: usize| {
        let sectors = SectorRange::new(number as u64 * 16, number as u64 * 16 + 7);
        let trigger = Trigger {
            iotypes: reads,
            sectors: sectors.into_iter().collect(),
            ..Trigger::default()
        };
        Rule::new(name(number), trigger, Effect::Media(media().into()), false).expect("a rule")
    };
    let mut engine = Engine::new(0);
    let _ = engine.configure((0..10_000).map(rule).map(add).collect(), 0).expect("rules");
    let armed = engine.armed();
    for number in (0..10_000).step_by(97) {
        let sector = number * 16;
        let read = io(IoType::Read, sector, 0);
        assert!(!armed.may_match(&io(IoType::Read, sector + 8, 0)));
        assert!(!armed.may_match(&io(IoType::Flush, 0, 0)));
        let decision = engine.decide(&request(read));
        let cause = Cause::Rule(name(usize::try_from(number).expect("a number")));
        assert_eq!(decision.verdict, Verdict::Fail(Errno::EIO, cause));
        let write = request(io(IoType::Write, sector, 1));
        let decision = engine.decide(&write);
        assert_eq!(decision.verdict, Verdict::Pass);
        assert_eq!(engine.finished(&write, decision.passage, Ok(())).verdict, Verdict::Pass);
        assert_eq!(engine.decide(&request(read)).verdict, Verdict::Pass);
    }
}
