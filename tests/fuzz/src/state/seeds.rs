//! Seeds of state files: what daemons leave behind, and what they would not.

use std::sync::Arc;

use blkfault::block::{OnError, Record, Snapshot};
use blkfault::errno::Errno;
use blkfault::fault::blkdebug::{Event, InjectError, Limits, Rules, SetState};
use blkfault::fault::engine::{BlkdebugSetup, Change, Engine, Place};
use blkfault::fault::manual::DiskState;
use blkfault::fault::rule::{
    Content, Effect, Media, Point, Rule, RuleName, Schedule, SlowFirst, Trigger,
};
use blkfault::fault::slow::{Distribution, Profile, ProfileOptions, Rate, Shape, Share};
use blkfault::fault::{IoType, IoTypes, SectorRange};
use blkfault::fuzzing::state_line;

use crate::Seed;

fn add(name: &str, trigger: Trigger, effect: Effect) -> Change {
    let name = RuleName::new(name).expect("a name");
    let rule = Rule::new(name, trigger, effect, false).expect("a rule");
    Change::AddRule { rule: Box::new(rule), place: Place::First }
}

fn here() -> Trigger {
    let sectors = SectorRange::new(8, 15).into_iter().collect();
    Trigger { sectors, ..Trigger::default() }
}

/// A rule of every kind.
fn rules() -> Vec<Change> {
    let delay = Distribution::Lognormal { median_ns: 1_000_000, sigma: 0.3 };
    let slow_first = Some(SlowFirst { requests: 2, delay: delay.clone() });
    let media = Media { heal_on_write: true, remap_pool: Some(3), ..Media::failing(Errno::EIO) };
    let retried = Media { retries: Some(2), slow_first, ..Media::failing(Errno::EIO) };
    let schedule = Some(Schedule { up_down_ns: Some((3, 2)), ..Schedule::default() });
    let writes = IoTypes::from_iter([IoType::Write]);
    let content = Content::new(1, Some(512), vec![7, 8], Some(vec![255, 240])).ok();
    let chance =
        Trigger { probability: Share::new(0.1).ok(), times: Some(3), ..Trigger::default() };
    let written = Trigger { iotypes: writes, content, ..Trigger::default() };
    let (tag, point) = ("häl".into(), Point::BeforeAnswer);
    vec![
        add("chance", chance, Effect::Error(Errno::ENOSPC)),
        add("bad", here(), Effect::Media(media.into())),
        add("worse", here(), Effect::Media(retried.into())),
        add("page", written, Effect::Break { tag, point }),
        add("flaky", Trigger { schedule, ..here() }, Effect::Delay { delay, then: None }),
        add("stuck", here(), Effect::Hang { at_most_ns: Some(5), then: Some(Errno::EIO) }),
        add("gone", here(), Effect::Disconnect),
        add("next", Trigger { state: Some(1), ..here() }, Effect::SetState(2)),
    ]
}

fn blkdebug() -> Vec<Change> {
    let at = InjectError { sector: Some(9), once: true, ..InjectError::on(Event::ReadAio) };
    let set_state = vec![SetState { event: Event::WriteAio, state: 1, new_state: 2 }];
    let rules = Rules { inject_error: vec![at, InjectError::on(Event::None)], set_state };
    let limits = Limits::default();
    let setup = BlkdebugSetup { rules: rules.clone(), limits, ..BlkdebugSetup::default() };
    let tag: Arc<str> = "A".into();
    vec![
        Change::OpenBlkdebug(setup),
        Change::SetBreakpoint { event: Event::FlushToDisk, tag },
        Change::AddBlkdebugRules(rules),
    ]
}

fn slow() -> DiskState {
    let options = ProfileOptions {
        delay: Some(Distribution::Pareto { min_ns: 1000, alpha: 1.5 }),
        bytes_per_second: Rate::new(1_000_000, None).ok(),
        shape: Shape::Ramp { from: 0.5, to: 2.0, duration_ns: 1_000_000 },
        ..ProfileOptions::default()
    };
    DiskState::Slow { profiles: vec![Profile::new(options).expect("a profile")] }
}

/// The first line of the file of a disk with these faults, always at the same time.
fn first(changes: Vec<Change>) -> String {
    let mut engine = Engine::new(7);
    let _ = engine.configure(changes, 1000).expect("changes");
    let line = state_line(&Snapshot::of(engine)).expect("a line");
    let mut line: serde_json::Value = serde_json::from_str(&line).expect("an object");
    for time in ["entered_ns", "now_ns", "at_ns"] {
        line["snapshot"][time] = 1_000_000_000_u64.into();
    }
    line.to_string() + "\n"
}

fn configured(changes: Vec<Change>) -> String {
    record(&Record::Configured { now_ns: 2000, entered_ns: Some(1_500_000_000), changes })
}

fn record(record: &Record) -> String {
    serde_json::to_string(record).expect("a line") + "\n"
}

/// A question, as the filter has it written down.
fn asked(iotype: &str, ordinal: u64, step: &str) -> String {
    format!(
        "{{\"what\":\"Asked\",\"now_ns\":{},\"depth\":2,\"io\":{{\"iotype\":\"{iotype}\",\
         \"offset_bytes\":4096,\"bytes\":4096,\"ordinal\":{ordinal},\"queue\":0}},\
         \"step\":{step},\"reads\":[[1,2,[7,8]],[513,2,null]]}}\n",
        3000 + ordinal
    )
}

fn let_go(how: &str) -> String {
    format!("{{\"what\":\"LetGo\",\"now_ns\":4000,\"queue\":0,\"ordinal\":0,\"how\":{how}}}\n")
}

fn requests() -> String {
    let ended = "{\"Finished\":[{\"Ok\":null},false]}";
    let failed = "{\"Finished\":[{\"Err\":5},true]}";
    let types = [("Read", ended), ("Write", failed), ("Flush", ended)];
    let asked_both =
        |(n, (of, end)): (u64, (&str, &str))| asked(of, n, "\"Decide\"") + &asked(of, n, end);
    (0..).zip(types).map(asked_both).collect()
}

/// The same with one part replaced; it must be there.
fn with(text: &str, part: &str, by: &str) -> String {
    assert!(text.contains(part), "{part} in {text}");
    text.replacen(part, by, 1)
}

fn held() -> String {
    let hang = DiskState::Hang { iotypes: IoTypes::ALL, on_release: None };
    let goes = let_go("{\"Goes\":\"On\"}") + &let_go("{\"LessTag\":[\"A\",5]}");
    first(vec![Change::SetState(hang)])
        + &asked("Read", 0, "\"Decide\"")
        + &goes
        + &asked("Read", 0, "\"GoOn\"")
}

/// The files of a daemon that was there before, and what nobody writes, by name.
pub fn seeds() -> Vec<Seed> {
    let many = first(rules()[..4].to_vec()) + &requests();
    let more = first(rules()[4..].to_vec()) + &requests();
    let debugged = first(blkdebug()) + &requests();
    let limping = first(vec![Change::SetState(slow())]) + &requests();
    let twice = configured(rules()[..1].to_vec()) + &configured(rules()[..1].to_vec());
    let policy = record(&Record::OnError { policy: OnError::Hold });
    let numbers = with(&many, "\"met\":0", "\"met\":18446744073709551615");
    let ids = with(&many, "\"next_id\":4", "\"next_id\":18446744073709551615");
    let cells = with(&debugged, "\"sector\":9", "\"sector\":18446744073709551615");
    let texts = [
        ("a-state-file-of-rules", many.clone()),
        ("a-state-file-of-more-rules", more),
        ("a-state-file-of-blkdebug", debugged.clone()),
        ("a-state-file-of-a-slow-disk", limping.clone()),
        ("a-state-file-of-held-requests", held()),
        ("a-state-file-of-changes", first(Vec::new()) + &policy + &twice + &configured(blkdebug())),
        ("a-state-file-cut-off-in-a-character", with(&many, "häl", "\u{1F4BE}")),
        (
            "a-state-file-of-another-version",
            with(&held(), "\"blkfault-state\":1", "\"blkfault-state\":2"),
        ),
        ("a-state-file-of-a-counter-that-is-full", numbers),
        ("a-state-file-without-numbers-left", ids),
        ("a-state-file-of-a-sector-that-is-nowhere", cells),
        (
            "a-state-file-of-a-blkdebug-get-id",
            with(&debugged, "\"iotype\":null", "\"iotype\":{\"Io\":\"GetId\"}"),
        ),
        (
            "a-state-file-of-pacing-that-is-gone",
            with(&limping, "\"pacing\":[{", "\"pacing\":[],\"was\":[{"),
        ),
        (
            "a-state-file-of-a-request-without-end",
            with(&debugged, "\"bytes\":4096", "\"bytes\":18446744073709551615"),
        ),
        ("a-state-file-of-one-name-twice", with(&many, "\"name\":\"bad\"", "\"name\":\"worse\"")),
        ("serde_json-recursion-128-in-a-state-file", "{\"snapshot\":[".repeat(150) + "\n"),
    ];
    // A fuzzer would cut off longer ones, and nothing whole would be left.
    assert!(texts.iter().all(|(_, text)| text.len() < 4096), "one is too long");
    texts.into_iter().map(|(name, text)| (name, text.into_bytes())).collect()
}
