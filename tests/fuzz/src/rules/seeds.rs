//! Seeds of F-08. The bugs that they are like are mostly other programs' lost errors.

use super::made::Conditions;
use super::{Case, Step};
use crate::Seed;

/// Any request, any time: error.
const ANY: Conditions = [0x1F, 0, 0, 255, 0, 1, 255, 255, 0, 255, 255, 255, 255, 0, 255, 0];

fn ask(iotype: u8, sector: u8) -> Step {
    Step::Ask { iotype, sector, sectors: 3, queue: 0, depth: 0, after: 1, fill: 1 }
}

fn add(name: u8, conditions: Conditions) -> Step {
    Step::Add { name, place: 0, other: 0, conditions }
}

fn all(sector: u8) -> Vec<Step> {
    (0..6).map(|iotype| ask(iotype, sector)).collect()
}

fn case(steps: Vec<Vec<Step>>) -> Case {
    Case { steps: steps.concat(), ..Case::default() }
}

fn with(change: impl Fn(&mut Conditions)) -> Conditions {
    let mut conditions = ANY;
    change(&mut conditions);
    conditions
}

/// Sectors 8 to 12 are bad.
fn media(how: u8) -> Conditions {
    with(|c| (c[0], c[1], c[2], c[14], c[15]) = (0x3F, 8, 4, 0x42, how))
}

/// A breakpoint that lets later rules act, too.
fn stops(point: u8) -> Conditions {
    with(|c| (c[13], c[14], c[15]) = (8, 0x41, point))
}

/// The seeds.
pub fn seeds() -> Vec<Seed> {
    let at_sectors = with(|c| (c[0], c[1], c[2]) = (0x2B, 8, 4));
    let once = with(|c| c[6] = 1);
    let third = with(|c| (c[4], c[5]) = (1, 3));
    let scheduled = with(|c| (c[7], c[8]) = (5, 0b0100_1110));
    let deep = with(|c| c[9] = 3);
    let delays = with(|c| c[13] = 0x19 & !0x10);
    let hangs = with(|c| c[13] = 0x33);
    let in_state = with(|c| c[10] = 2);
    let sets_state = with(|c| (c[6], c[13]) = (1, 2 | 8 | 2 << 5));
    let discards = with(|c| c[0] = 1 << 3);
    let blkdebug = Case {
        inject_error: vec![[1, 0, 0, 1, 1, 1], [3, 2, 1, 2, 0, 0], [0, 0, 4, 3, 0, 2]],
        set_state: vec![[2, 1, 2], [6, 2, 3]],
        ..case(vec![all(1), all(1), all(5), vec![add(0, once)], all(1)])
    };
    let cases = [
        ("an-ordinary-rule", case(vec![vec![add(0, at_sectors)], all(2), all(9)])),
        (
            "a-rule-that-hits-once",
            case(vec![vec![add(0, once)], all(0), vec![Step::Reset(0)], all(0)]),
        ),
        ("a-rule-that-hits-every-third", case(vec![vec![add(0, third)], all(0), all(1)])),
        (
            "a-rule-with-a-schedule",
            case(vec![vec![add(0, scheduled)], all(0), all(1), all(2), all(3)]),
        ),
        ("a-rule-that-waits-for-depth", case(vec![vec![add(0, deep)], all(0)])),
        ("rules-that-go-on", case(vec![vec![add(0, delays), add(1, once)], all(0)])),
        ("rules-that-hold", case(vec![vec![add(0, hangs)], all(0)])),
        (
            "rules-that-set-the-state",
            case(vec![
                vec![add(0, sets_state), add(1, in_state)],
                all(0),
                vec![Step::EngineState(1)],
                all(0),
            ]),
        ),
        (
            "rules-come-and-go",
            case(vec![
                vec![add(0, ANY), add(0, ANY), Step::Disable(0)],
                all(0),
                vec![Step::Enable(0)],
                all(0),
                vec![Step::Remove(0), Step::Remove(0)],
                all(0),
            ]),
        ),
        (
            "changes-all-or-none",
            case(vec![
                vec![add(0, ANY), Step::Twice { first: 0, second: 1 }],
                all(0),
                vec![add(1, once), Step::Twice { first: 0, second: 1 }],
                all(0),
            ]),
        ),
        (
            "manual-states",
            case((0..8).flat_map(|state| [vec![Step::State(state * 31)], all(0)]).collect()),
        ),
        ("CHV-e737d61a0-discard-fails", case(vec![vec![add(0, discards)], all(3)])),
        ("CHV-a5e145bde-no-space", case(vec![vec![add(0, with(|c| c[13] = 1 << 5))], all(3)])),
        ("CHV-6f19d0071-one-queue-fails", case(vec![vec![add(0, with(|c| c[3] = 1))], all(3)])),
        (
            "a-rule-by-chance",
            case(vec![vec![add(0, with(|c| c[12] = 50))], all(0), all(0), all(0)]),
        ),
        (
            "a-rule-about-content",
            case(vec![vec![add(0, with(|c| (c[0], c[11]) = (2, 0x31)))], all(0), all(1), all(2)]),
        ),
        ("a-rule-about-get-id", case(vec![vec![add(0, with(|c| c[14] = 0x80))], all(0), all(1)])),
        ("bad-sectors", case(vec![vec![add(0, media(0))], all(0), all(7), all(9)])),
        ("bad-sectors-that-heal", case(vec![vec![add(0, media(0x09))], all(0), all(7), all(9)])),
        ("bad-sectors-few-spare", case(vec![vec![add(0, media(0x0B))], all(7), all(8), all(9)])),
        ("bad-sectors-slow-first", case(vec![vec![add(0, media(0x21))], all(7), all(8), all(9)])),
        ("bad-sectors-tried-again", case(vec![vec![add(0, media(0xC1))], all(7), all(7), all(7)])),
        (
            "breakpoints-at-every-point",
            case(vec![(0..5).map(|name| add(name, stops(name))).collect(), all(0), all(1)]),
        ),
        (
            "a-rule-that-disconnects",
            case(vec![vec![add(0, with(|c| c[14] = 0x40)), add(1, delays)], all(0)]),
        ),
        (
            "a-slow-disk",
            case(
                [4, 0x4C, 0x1C]
                    .map(|state| [vec![Step::State(state)], all(5), all(20)].concat())
                    .into(),
            ),
        ),
        (
            "many-rules",
            case(vec![
                (0..8).map(|name| add(name, with(|c| (c[0], c[1]) = (0x21, name * 2)))).collect(),
                all(1),
                all(9),
            ]),
        ),
        ("blkdebug-rules", blkdebug.clone()),
        ("blkdebug-rules-asked-about-everything", Case { asks_all: true, ..blkdebug }),
    ];
    cases.into_iter().map(|(name, case)| (name, case.encode())).collect()
}
