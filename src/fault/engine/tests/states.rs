//! Requests that meet a manual state.

use super::*;

#[test]
fn a_state_outranks_rules_and_leaving_a_hang_releases() {
    let mut disk = Disk::with(vec![error("rule", Errno::EIO)]);
    let hang = DiskState::Hang { iotypes: only(IoType::Write), on_release: None };
    let _ = disk.change(Change::SetState(hang));
    let held = disk.ask(IoType::Write, 0);
    assert!(matches!(held.verdict, Verdict::Hold { at_most: None, then: Then::GoOn, .. }));
    assert_eq!(disk.errno(IoType::Read, 0), Some(Errno::EIO), "not a type that hangs");
    let error = DiskState::Error { errno: Errno::ENOMEM, iotypes: IoTypes::ALL };
    assert_eq!(disk.change(Change::SetState(error)).released, [Release::State]);
    assert_eq!(disk.errno(IoType::Read, 0), Some(Errno::ENOMEM));
    let cause = Cause::Rule(name("rule"));
    let released = disk.go_on(held).verdict;
    assert_eq!(released, Verdict::Fail(Errno::EIO, cause), "it was taken before the new state");
}

#[test]
fn read_only_lets_reads_and_flushes_work_and_offline_nothing() {
    let mut disk = Disk::with(vec![Change::SetState(DiskState::ReadOnly { errno: Errno::EROFS })]);
    let errors = IoType::ALL.map(|iotype| disk.errno(iotype, 0));
    let refused = Some(Errno::EROFS);
    assert_eq!(errors, [None, refused, None, refused, refused]);
    let _ = disk.change(Change::SetState(DiskState::Offline));
    assert!(matches!(disk.ask(IoType::Flush, 0).verdict, Verdict::Disconnect(Cause::State(_))));
}

#[test]
fn a_slow_disk_waits_before_and_stretches_after() {
    let profile = ProfileOptions {
        iotypes: only(IoType::Read),
        delay: Some(fixed(10)),
        speed: Share::new(0.5).unwrap(),
        ..ProfileOptions::default()
    };
    let profiles = vec![Profile::new(profile).unwrap()];
    let mut disk = Disk::with(vec![Change::SetState(DiskState::Slow { profiles })]);
    assert_eq!(disk.run(IoType::Write, 0), (None, 0));
    let asked = disk.ask(IoType::Read, 0);
    assert_eq!(asked.waits_ns(), 10);
    disk.now_ns += 10;
    let asked = disk.go_on(asked);
    assert_eq!(asked.verdict, Verdict::Pass);
    disk.now_ns += 300;
    let asked = disk.finish(asked, Ok(()));
    assert_eq!(asked.waits_ns(), 300);
    assert_eq!(disk.go_on(asked).verdict, Verdict::Pass);
}

#[test]
fn a_slow_state_stretches_nobody_who_was_taken_before_it_was_entered() {
    let slow = || {
        let speed = Share::new(0.5).unwrap();
        let profile = Profile::new(ProfileOptions { speed, ..ProfileOptions::default() }).unwrap();
        Change::SetState(DiskState::Slow { profiles: vec![profile] })
    };
    let mut disk = Disk::with(vec![slow()]);
    let asked = disk.ask(IoType::Read, 0);
    assert_eq!(disk.change(Change::SetState(DiskState::None)).released, [Release::State]);
    let _ = disk.change(slow());
    disk.now_ns += 300;
    assert_eq!(disk.finish(asked, Ok(())).verdict, Verdict::Pass);
}

#[test]
fn time_at_a_breakpoint_is_not_time_at_the_image() {
    let speed = Share::new(0.5).unwrap();
    let profile = Profile::new(ProfileOptions { speed, ..ProfileOptions::default() }).unwrap();
    let stop = Effect::Break { tag: "t".into(), point: Point::BeforeImage };
    let mut disk = Disk::with(vec![
        Change::SetState(DiskState::Slow { profiles: vec![profile] }),
        add(rule("stop", Trigger::default(), stop)),
    ]);
    let asked = disk.ask(IoType::Read, 0);
    disk.now_ns += 1_000_000;
    let asked = disk.go_on(asked);
    disk.now_ns += 7;
    let asked = disk.finish(asked, Ok(()));
    assert_eq!(asked.waits_ns(), 7);
}

#[test]
fn states_that_make_no_sense_are_refused() {
    let mut engine = Engine::new(0);
    let bad = [
        (DiskState::Error { errno: Errno::EIO, iotypes: IoTypes::default() }, "'iotype'"),
        (DiskState::Slow { profiles: vec![] }, "state 'slow'"),
    ];
    for (state, named) in bad {
        let refused = engine.configure(vec![Change::SetState(state)], 0).unwrap_err();
        assert!(refused.to_string().starts_with(named), "{refused}");
    }
}
