//! Requests that pass blkdebug on their way.

use super::*;

fn blkdebug(inject_error: Vec<InjectError>, set_state: Vec<SetState>) -> Disk {
    let rules = Rules { inject_error, set_state };
    Disk::with(vec![Change::OpenBlkdebug(BlkdebugSetup { rules, ..BlkdebugSetup::default() })])
}

#[test]
fn a_flush_reaches_blkdebug_only_after_a_write_discard_or_failed_flush() {
    let flush = InjectError {
        iotype: "flush".parse().ok(),
        once: true,
        ..InjectError::on(Event::FlushToDisk)
    };
    let mut disk = blkdebug(vec![flush.clone(), flush], vec![]);
    assert_eq!(disk.errno(IoType::Flush, 0), None);
    assert_eq!(disk.errno(IoType::Discard, 0), None);
    assert_eq!(disk.errno(IoType::Flush, 0), Some(Errno::EIO));
    assert_eq!(disk.errno(IoType::Flush, 0), Some(Errno::EIO), "it stays dirty");
    assert_eq!(disk.errno(IoType::Flush, 0), None);
    let change = SetState { event: Event::FlushToDisk, state: 1, new_state: 2 };
    let _ = disk
        .change(Change::AddBlkdebugRules(Rules { inject_error: vec![], set_state: vec![change] }));
    assert_eq!((disk.errno(IoType::Flush, 0), disk.engine.engine_state()), (None, 1));
}

#[test]
fn the_last_event_comes_after_the_image_even_when_the_write_failed() {
    let fail = InjectError { once: true, ..InjectError::on(Event::None) };
    let read =
        InjectError { state: 2, errno: Some(Errno::ENOSPC), ..InjectError::on(Event::ReadAio) };
    let done = SetState { event: Event::PwritevDone, state: 0, new_state: 2 };
    let mut disk = blkdebug(vec![fail, read], vec![done]);
    let asked = disk.ask(IoType::Write, 0);
    assert_eq!(asked.verdict, Verdict::Fail(Errno::EIO, Cause::InjectError(0)));
    assert_eq!(disk.engine.engine_state(), 1);
    let _ = disk.finish(asked, Err(Errno::EIO));
    assert_eq!(disk.engine.engine_state(), 2);
    assert_eq!(disk.errno(IoType::Read, 0), Some(Errno::ENOSPC));
}

#[test]
fn not_supported_means_to_qemu_what_it_says() {
    let rule = |word: &str, errno| InjectError {
        iotype: word.parse().ok(),
        errno: Some(errno),
        ..InjectError::on(Event::None)
    };
    let mut disk = blkdebug(
        vec![
            rule("discard", Errno::EOPNOTSUPP),
            rule("write-zeroes", Errno::EOPNOTSUPP),
            rule("write", Errno::ENOSPC),
        ],
        vec![],
    );
    assert_eq!(disk.errno(IoType::Discard, 0), None);
    assert_eq!(disk.errno(IoType::WriteZeroes, 0), Some(Errno::ENOSPC));
}

#[test]
fn blkdebugs_breakpoints_stop_a_request_once_and_then_its_walk_goes_on() {
    let mut disk = blkdebug(vec![InjectError::on(Event::Pwritev)], vec![]);
    for tag in ["A", "B"] {
        let _ = disk.change(Change::SetBreakpoint { event: Event::WriteAio, tag: tag.into() });
    }
    let asked = disk.ask(IoType::Write, 0);
    let tags = vec!["A".into(), "B".into()];
    assert_eq!(asked.verdict, Verdict::Break { tags, point: None, cause: Cause::Breakpoint });
    assert_eq!(disk.errno(IoType::Write, 0), Some(Errno::EIO), "the breakpoints are used up");
    assert_eq!(disk.go_on(asked).verdict, Verdict::Fail(Errno::EIO, Cause::InjectError(0)));
}

#[test]
fn delay_ns_comes_before_the_error_and_without_one_before_the_image() {
    let fail = InjectError { delay_ns: 7, once: true, ..InjectError::on(Event::ReadAio) };
    let slow = InjectError { errno: None, delay_ns: 9, ..fail.clone() };
    let mut disk = blkdebug(vec![fail, slow], vec![]);
    assert_eq!(disk.run(IoType::Read, 0), (Some(Errno::EIO), 7));
    assert_eq!(disk.run(IoType::Read, 0), (None, 9));
    assert_eq!(disk.run(IoType::Read, 0), (None, 0));
}

#[test]
fn a_blkdebug_that_can_do_nothing_need_not_be_asked() {
    let mut disk = blkdebug(vec![InjectError::on(Event::L2Load)], vec![]);
    assert!(disk.engine.armed().is_idle());
    let once = InjectError { once: true, ..InjectError::on(Event::FlushToDisk) };
    let rules = Rules { inject_error: vec![once], set_state: vec![] };
    let _ = disk.change(Change::AddBlkdebugRules(rules));
    assert!(!disk.engine.armed().is_idle());
    assert_eq!(disk.errno(IoType::Flush, 0), Some(Errno::EIO), "nobody knows it was not written");
    let _ = disk.engine.configure(vec![], 0).unwrap();
    assert!(disk.engine.armed().is_idle());
}

#[test]
fn an_older_flush_that_ends_later_leaves_a_newer_ones_mark() {
    let fail = InjectError { iotype: "flush".parse().ok(), ..InjectError::on(Event::FlushToDisk) };
    let mut disk = blkdebug(vec![InjectError { state: 2, ..fail }], vec![]);
    assert_eq!(disk.errno(IoType::Write, 0), None);
    let older = disk.ask(IoType::Flush, 0);
    assert_eq!(disk.errno(IoType::Write, 0), None);
    assert_eq!(disk.errno(IoType::Flush, 0), None);
    assert_eq!(disk.finish(older, Ok(())).verdict, Verdict::Pass);
    let _ = disk.change(Change::SetEngineState(2));
    assert_eq!(disk.errno(IoType::Flush, 0), None, "nothing was written since the newer one");
    assert_eq!(disk.errno(IoType::Write, 0), None);
    assert_eq!(disk.errno(IoType::Flush, 0), Some(Errno::EIO));
}

#[test]
fn breakpoints_are_taken_away_by_tag_and_have_a_limit() {
    let mut disk = Disk::with(vec![]);
    let at = |tag: &str| Change::SetBreakpoint { event: Event::ReadAio, tag: tag.into() };
    let _ = disk.change(at("A"));
    let applied = disk.change(Change::RemoveBreakpoint { tag: "A".into() });
    assert_eq!(applied.released, [Release::Tag("A".into())]);
    assert!(disk.engine.armed().is_idle());
    assert_eq!(disk.engine.configure(vec![at("")], 0), Err(Refused::Tag));
    let many = (0..=BREAKPOINTS_MAX).map(|_| at("B")).collect();
    assert_eq!(disk.engine.configure(many, 0), Err(Refused::TooManyBreakpoints));
    assert!(disk.engine.armed().is_idle());
}
