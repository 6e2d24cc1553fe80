//! Requests that walk through an engine.

mod blkdebug;
mod states;

use std::time::Duration;

use super::*;
use crate::errno::Errno;
use crate::fault::blkdebug::{Event, InjectError, Rules, SetState};
use crate::fault::rule::{
    Content, Media, NoPayload, Payload, Point, Request, Rule, RuleName, Schedule, SlowFirst,
    Trigger,
};
use crate::fault::slow::{Distribution, Profile, ProfileOptions, Share};
use crate::fault::{IoTypes, SectorRange, SectorSet};

fn only(iotype: IoType) -> IoTypes {
    [iotype].into_iter().collect()
}

fn sectors(first: u64, last: u64) -> SectorSet {
    SectorRange::new(first, last).into_iter().collect()
}

fn name(name: &str) -> RuleName {
    RuleName::new(name).unwrap()
}

fn rule(word: &str, trigger: Trigger, effect: Effect) -> Rule {
    Rule::new(name(word), trigger, effect, false).unwrap()
}

fn going_on(word: &str, effect: Effect) -> Rule {
    Rule::new(name(word), Trigger::default(), effect, true).unwrap()
}

fn add(rule: Rule) -> Change {
    Change::AddRule { rule: Box::new(rule), place: Place::Last }
}

fn error(word: &str, errno: Errno) -> Change {
    add(rule(word, Trigger::default(), Effect::Error(errno)))
}

fn fixed(delay_ns: u64) -> Distribution {
    Distribution::Fixed { delay_ns }
}

/// An engine, and a disk that does what it is told.
struct Disk {
    engine: Engine,
    ordinal: u64,
    now_ns: u64,
    notices: Vec<Notice>,
}

/// A request in flight.
struct Asked {
    io: Io,
    verdict: Verdict,
    passage: Passage,
}

impl Asked {
    /// How long it waits, if it waits for a time.
    fn waits_ns(&self) -> u128 {
        match &self.verdict {
            Verdict::Delay { waits, .. } => waits.duration().as_nanos(),
            _ => 0,
        }
    }
}

impl Disk {
    fn with(changes: Vec<Change>) -> Self {
        let mut engine = Engine::new(1);
        let _ = engine.configure(changes, 0).unwrap();
        Self { engine, ordinal: 0, now_ns: 0, notices: Vec::new() }
    }

    fn change(&mut self, change: Change) -> Applied {
        self.engine.configure(vec![change], self.now_ns).unwrap()
    }

    fn request(&self, io: Io) -> Request<'static> {
        Request { io, now_ns: self.now_ns, depth: 1, payload: &NoPayload }
    }

    fn take(&mut self, decision: Decision, io: Io) -> Asked {
        self.notices.extend(decision.notices);
        Asked { io, verdict: decision.verdict, passage: decision.passage }
    }

    fn ask(&mut self, iotype: IoType, sector: u64) -> Asked {
        let bytes = if iotype.has_sectors() { 1024 } else { 0 };
        let io = Io { iotype, offset_bytes: sector * 512, bytes, ordinal: self.ordinal, queue: 0 };
        self.ordinal += 1;
        let decision = self.engine.decide(&self.request(io));
        self.take(decision, io)
    }

    fn go_on(&mut self, asked: Asked) -> Asked {
        let decision = self.engine.go_on(&self.request(asked.io), asked.passage);
        self.take(decision, asked.io)
    }

    fn finish(&mut self, asked: Asked, result: Result<(), Errno>) -> Asked {
        let decision = self.engine.finished(&self.request(asked.io), asked.passage, result);
        self.take(decision, asked.io)
    }

    /// All the way, with a good image and no breaks. The error the guest meets, and the time.
    fn run(&mut self, iotype: IoType, sector: u64) -> (Option<Errno>, u64) {
        let start_ns = self.now_ns;
        let mut asked = self.ask(iotype, sector);
        let result = loop {
            match asked.verdict {
                Verdict::Pass => break Ok(()),
                Verdict::Fail(errno, _) => break Err(errno),
                Verdict::Delay { ref waits, then } => {
                    self.now_ns += u64::try_from(waits.duration().as_nanos()).unwrap();
                    if let Then::Fail(errno) = then {
                        break Err(errno);
                    }
                }
                ref held => panic!("{held:?}"),
            }
            asked = self.go_on(asked);
        };
        let ended = self.finish(asked, result);
        assert_eq!(ended.verdict, Verdict::Pass);
        (result.err(), self.now_ns - start_ns)
    }

    fn errno(&mut self, iotype: IoType, sector: u64) -> Option<Errno> {
        self.run(iotype, sector).0
    }

    fn hits(&self, word: &str) -> u64 {
        self.engine.hits(&Cause::Rule(name(word))).unwrap()
    }
}

#[test]
fn a_request_for_the_serial_number_meets_those_rules_only_that_name_it() {
    let blkdebug = Rules {
        inject_error: vec![InjectError::on(Event::None), InjectError::on(Event::FlushToDisk)],
        ..Rules::default()
    };
    let errors = DiskState::Error { errno: Errno::EROFS, iotypes: IoTypes::ALL };
    let mut disk = Disk::with(vec![error("all", Errno::EIO), Change::AddBlkdebugRules(blkdebug)]);
    let io = Io { iotype: IoType::GetId, offset_bytes: 0, bytes: 0, ordinal: 0, queue: 0 };
    for state in [DiskState::None, errors, DiskState::Offline] {
        let _ = disk.change(Change::SetState(state));
        assert!(!disk.engine.armed().may_match(&io));
        assert_eq!(disk.errno(IoType::GetId, 0), None);
    }
    let _ = disk.change(Change::SetState(DiskState::None));
    let named = Trigger { iotypes: only(IoType::GetId), ..Trigger::default() };
    let _ = disk.change(add(rule("named", named, Effect::Error(Errno::ENXIO))));
    assert!(disk.engine.armed().may_match(&io));
    assert_eq!(disk.errno(IoType::GetId, 0), Some(Errno::ENXIO));
    assert_eq!(disk.errno(IoType::Read, 0), Some(Errno::EIO));
    assert_eq!((disk.hits("all"), disk.hits("named")), (1, 1));
}

#[test]
fn an_ordinary_disk_passes_everything_and_nobody_need_ask() {
    let mut disk = Disk::with(vec![]);
    assert!(disk.engine.armed().is_idle());
    for iotype in IoType::ALL {
        assert_eq!(disk.errno(iotype, 0), None);
    }
    assert_eq!(disk.notices, []);
}

#[test]
fn the_first_rule_that_matches_decides() {
    let narrow = rule(
        "narrow",
        Trigger { sectors: sectors(8, 8), ..Trigger::default() },
        Effect::Error(Errno::ENOSPC),
    );
    let mut disk = Disk::with(vec![add(narrow), error("wide", Errno::EIO)]);
    assert_eq!(disk.errno(IoType::Read, 8), Some(Errno::ENOSPC));
    assert_eq!(disk.errno(IoType::Read, 9), Some(Errno::EIO));
    let first = rule("first", Trigger::default(), Effect::Error(Errno::ENOMEM));
    let place = Place::Before(name("narrow"));
    let _ = disk.change(Change::AddRule { rule: Box::new(first), place });
    assert_eq!(disk.errno(IoType::Read, 8), Some(Errno::ENOMEM));
    let order: Vec<_> = disk.engine.rules().map(|report| report.rule.name().to_string()).collect();
    assert_eq!(order, ["first", "narrow", "wide"]);
}

#[test]
fn a_rule_that_goes_on_adds_its_delay_to_what_the_next_decides() {
    let slow =
        |word, delay_ns| add(going_on(word, Effect::Delay { delay: fixed(delay_ns), then: None }));
    let mut disk = Disk::with(vec![slow("a", 5), slow("b", 7), error("c", Errno::EIO)]);
    assert_eq!(disk.run(IoType::Read, 0), (Some(Errno::EIO), 12));
    assert_eq!(["a", "b", "c"].map(|word| disk.hits(word)), [1, 1, 1]);
}

#[test]
fn a_delay_before_a_hang_is_waited_for_first() {
    let slow = going_on("slow", Effect::Delay { delay: fixed(5), then: None });
    let hang = rule("hang", Trigger::default(), Effect::Hang { at_most_ns: Some(9), then: None });
    let mut disk = Disk::with(vec![add(slow), add(hang)]);
    let asked = disk.ask(IoType::Read, 0);
    assert!(matches!(asked.verdict, Verdict::Delay { then: Then::GoOn, .. }));
    let asked = disk.go_on(asked);
    let at_most = Some(Duration::from_nanos(9));
    let cause = Cause::Rule(name("hang"));
    assert_eq!(asked.verdict, Verdict::Hold { at_most, then: Then::GoOn, cause });
    assert_eq!(disk.go_on(asked).verdict, Verdict::Pass);
    assert_eq!((disk.hits("slow"), disk.hits("hang")), (1, 1));
}

#[test]
fn removing_or_disabling_a_hang_releases_what_it_holds() {
    let hang = rule("hang", Trigger::default(), Effect::Hang { at_most_ns: None, then: None });
    let mut disk = Disk::with(vec![add(hang)]);
    let released = vec![Release::Rule(name("hang"))];
    assert_eq!(disk.change(Change::DisableRule(name("hang"))).released, released);
    assert_eq!(disk.change(Change::RemoveRule(name("hang"))).released, released);
}

#[test]
fn a_bad_sector_is_healed_by_a_write_that_succeeds() {
    let media = Media { heal_on_write: true, ..Media::failing(Errno::EIO) };
    let trigger =
        Trigger { iotypes: only(IoType::Read), sectors: sectors(8, 9), ..Trigger::default() };
    let mut disk = Disk::with(vec![add(rule("bad", trigger, Effect::Media(media.into())))]);
    assert_eq!(disk.errno(IoType::Read, 8), Some(Errno::EIO));
    let write = disk.ask(IoType::Write, 8);
    assert!(disk.engine.armed().may_match(&write.io), "writes must be told, to heal");
    let _ = disk.finish(write, Err(Errno::ENOSPC));
    assert_eq!(disk.errno(IoType::Read, 8), Some(Errno::EIO), "that write had failed");
    assert_eq!(disk.errno(IoType::Write, 8), None);
    assert!(disk.notices.contains(&Notice::Healed { rule: name("bad"), sectors: 2 }));
    assert_eq!(disk.errno(IoType::Read, 8), None);
    assert_eq!(disk.hits("bad"), 2);
    let _ = disk.change(Change::ResetRule(name("bad")));
    assert_eq!(disk.errno(IoType::Read, 8), Some(Errno::EIO));
}

#[test]
fn a_sector_is_slow_first_then_unreadable_and_try_again_helps() {
    let delay = fixed(100);
    let slow_first = Some(SlowFirst { requests: 2, delay });
    let media = Media { slow_first, retries: Some(1), ..Media::failing(Errno::EIO) };
    let trigger = Trigger { sectors: sectors(8, 9), ..Trigger::default() };
    let mut disk = Disk::with(vec![add(rule("dying", trigger, Effect::Media(media.into())))]);
    let mut read = || disk.run(IoType::Read, 8);
    assert_eq!([read(), read()], [(None, 100), (None, 100)]);
    assert_eq!([read(), read(), read()], [(Some(Errno::EIO), 0), (None, 0), (Some(Errno::EIO), 0)]);
    assert_eq!(disk.hits("dying"), 4, "the try that helped is no hit");
}

#[test]
fn a_commit_block_is_found_without_reading_anything_else() {
    struct Journal(std::cell::Cell<u32>);
    impl Payload for Journal {
        fn read(&self, offset_bytes: u64, into: &mut [u8]) -> bool {
            self.0.set(self.0.get() + 1);
            (&[0xc0, 0x3b, 0x39, 0x98].as_slice()).read(offset_bytes, into)
        }
    }
    let content = Content::new(0, None, vec![0xc0, 0x3b, 0x39, 0x98], None).ok();
    let trigger = Trigger {
        iotypes: only(IoType::Write),
        content,
        sectors: sectors(8, 99),
        ..Trigger::default()
    };
    let mut disk = Disk::with(vec![add(rule("jbd2", trigger, Effect::Error(Errno::EIO)))]);
    let journal = Journal(std::cell::Cell::new(0));
    let mut ask = |sector: u64| {
        let io = Io {
            iotype: IoType::Write,
            offset_bytes: sector * 512,
            bytes: 1024,
            ordinal: 0,
            queue: 0,
        };
        let request = Request { io, now_ns: 0, depth: 1, payload: &journal };
        (disk.engine.decide(&request).verdict, journal.0.get())
    };
    assert_eq!(ask(0), (Verdict::Pass, 0));
    let cause = Cause::Rule(name("jbd2"));
    assert_eq!(ask(8), (Verdict::Fail(Errno::EIO, cause), 1));
}

#[test]
fn breakpoints_stop_a_flush_at_all_five_points_in_order() {
    let mut disk = Disk::with(vec![]);
    for point in Point::ALL {
        let effect = Effect::Break { tag: point.name().into(), point };
        let _ = disk.change(add(rule(point.name(), Trigger::default(), effect)));
    }
    let mut met = Vec::new();
    let mut asked = disk.ask(IoType::Flush, 0);
    let mut finished = false;
    loop {
        match &asked.verdict {
            Verdict::Break { point: Some(point), .. } => {
                met.push(*point);
                asked = disk.go_on(asked);
            }
            Verdict::Pass if !finished => {
                finished = true;
                asked = disk.finish(asked, Ok(()));
            }
            Verdict::Pass => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(met, Point::ALL);
    let asked = disk.ask(IoType::Read, 0);
    let asked = disk.go_on(asked);
    assert!(matches!(asked.verdict, Verdict::Break { point: Some(Point::BeforeImage), .. }));
    assert_eq!(disk.go_on(asked).verdict, Verdict::Pass, "a read is no flush");
}

#[test]
fn a_request_that_waits_at_a_break_goes_on_behind_it_even_if_the_rule_is_gone() {
    let effect = || Effect::Break { tag: "t".into(), point: Point::Received };
    let mut disk = Disk::with(vec![add(going_on("stop", effect())), error("error", Errno::EIO)]);
    let (first, second) = (disk.ask(IoType::Read, 0), disk.ask(IoType::Read, 0));
    assert!(matches!(first.verdict, Verdict::Break { .. }));
    let failed = Verdict::Fail(Errno::EIO, Cause::Rule(name("error")));
    assert_eq!(disk.go_on(first).verdict, failed);
    let _ = disk.change(Change::RemoveRule(name("stop")));
    assert_eq!(disk.go_on(second).verdict, failed);
}

#[test]
fn set_state_rules_drive_native_and_blkdebug_rules_alike() {
    let in_state = |state| Trigger { state: Some(state), ..Trigger::default() };
    let once = Trigger { times: Some(1), ..in_state(1) };
    let blkdebug = InjectError { state: 2, ..InjectError::on(Event::ReadAio) };
    let mut disk = Disk::with(vec![
        add(rule("step", once, Effect::SetState(2))),
        Change::OpenBlkdebug(BlkdebugSetup {
            rules: Rules { inject_error: vec![blkdebug], set_state: vec![] },
            ..BlkdebugSetup::default()
        }),
    ]);
    assert_eq!(disk.errno(IoType::Write, 0), None);
    assert_eq!(disk.engine.engine_state(), 2);
    assert!(disk.notices.contains(&Notice::EngineState { from: 1, to: 2 }));
    assert!(disk.notices.contains(&Notice::Exhausted(Cause::Rule(name("step")))));
    assert_eq!(disk.errno(IoType::Read, 0), Some(Errno::EIO));
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let mut disk = Disk::with(vec![error("a", Errno::EIO)]);
    assert_eq!(disk.errno(IoType::Read, 0), Some(Errno::EIO));
    let changes = vec![
        Change::RemoveRule(name("a")),
        error("b", Errno::ENOSPC),
        Change::RemoveRule(name("c")),
    ];
    let refused = disk.engine.configure(changes, 0).unwrap_err();
    assert_eq!(refused.to_string(), "Fault rule 'c' not found");
    assert_eq!(disk.hits("a"), 1);
    assert_eq!(disk.errno(IoType::Read, 0), Some(Errno::EIO));
    let twice = disk.engine.configure(vec![error("a", Errno::EIO)], 0).unwrap_err();
    assert_eq!(twice.to_string(), "Fault rule 'a' exists already");
}

#[test]
fn counters_survive_changes_and_a_rule_that_fires_n_times_says_n() {
    let trigger = Trigger { times: Some(3), ..Trigger::default() };
    let mut disk = Disk::with(vec![add(rule("three", trigger, Effect::Error(Errno::EIO)))]);
    for round in 0..6 {
        let expected = (round < 3).then_some(Errno::EIO);
        assert_eq!(disk.errno(IoType::Read, 0), expected);
        let _ = disk.change(add(rule(
            &format!("r{round}"),
            Trigger { state: Some(9), ..Trigger::default() },
            Effect::Disconnect,
        )));
    }
    let report = disk.engine.rules().next().unwrap();
    assert_eq!((report.hits, report.remaining, report.enabled), (3, Some(0), true));
    assert_eq!(report.last_hit.map(|hit| hit.ordinal), Some(2));
    let _ = disk.change(Change::ResetRule(name("three")));
    assert_eq!(disk.errno(IoType::Read, 0), Some(Errno::EIO));
}

#[test]
fn a_disabled_rule_is_not_even_asked_and_its_schedule_starts_when_enabled() {
    let schedule = Some(Schedule { duration_ns: Some(10), ..Schedule::default() });
    let trigger = Trigger { schedule, ..Trigger::default() };
    let mut disk = Disk::with(vec![add(rule("r", trigger, Effect::Error(Errno::EIO)).disabled())]);
    assert!(disk.engine.armed().is_idle());
    disk.now_ns = 1000;
    let _ = disk.change(Change::EnableRule(name("r")));
    assert_eq!(disk.errno(IoType::Read, 0), Some(Errno::EIO));
    disk.now_ns = 1010;
    assert_eq!(disk.errno(IoType::Read, 0), None);
}

/// What other tools are for, each a rule.
#[test]
fn dm_dust_dm_flakey_and_scsi_debug_are_one_rule_each() {
    // dmsetup message dust1 0 addbadblock 60 (512-byte blocks)
    let media = Media { heal_on_write: true, ..Media::failing(Errno::EIO) };
    let reads = Trigger { iotypes: only(IoType::Read), ..Trigger::default() };
    let dust = Trigger { sectors: sectors(60, 60), ..reads.clone() };
    let mut disk = Disk::with(vec![add(rule("dust", dust, Effect::Media(media.into())))]);
    let met = [IoType::Read, IoType::Write, IoType::Read].map(|iotype| disk.errno(iotype, 60));
    assert_eq!(met, [Some(Errno::EIO), None, None]);

    // dmsetup create flakey --table '0 N flakey DEV 0 3 2': up 3 s, down 2 s
    let second = 1_000_000_000;
    let schedule =
        Some(Schedule { up_down_ns: Some((3 * second, 2 * second)), ..Schedule::default() });
    let flakey = Trigger { schedule, ..Trigger::default() };
    let mut disk = Disk::with(vec![add(rule("flakey", flakey, Effect::Error(Errno::EIO)))]);
    let met = (0..10).map(|at| {
        disk.now_ns = at * second;
        disk.errno(IoType::Write, 0).is_some()
    });
    let turn = [false, false, false, true, true];
    assert_eq!(met.collect::<Vec<_>>(), [turn, turn].concat());

    // modprobe scsi_debug every_nth=3 opts=2
    let every = Trigger { every: 3, ..reads };
    let mut disk = Disk::with(vec![add(rule("nth", every, Effect::Error(Errno::EIO)))]);
    let met: Vec<bool> = (0..6).map(|_| disk.errno(IoType::Read, 0).is_some()).collect();
    assert_eq!(met, [false, false, true, false, false, true]);
}

#[test]
fn an_engine_and_its_passages_may_move_between_threads() {
    fn moves<T: Send>() {}
    moves::<Engine>();
    moves::<Passage>();
    moves::<Arc<Armed>>();
}
