//! The filter and its point, told as stories over an image of its own.

mod again;
mod delays;
mod races;
mod rig;

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rig::{Rig, add, hang, write};

use crate::block::{
    FaultObserver, HeldCause, HeldReport, Node, OnError, OpKind, OwnedMemory, Released, Resume,
    TimedOut, Which,
};
use crate::errno::Errno;
use crate::fault::blkdebug::Event;
use crate::fault::engine::{BlkdebugSetup, Cause, Change, Notice};
use crate::fault::manual::{DiskState, DiskStateName};
use crate::fault::rule::{Content, Effect, Point, RuleName, Trigger};
use crate::fault::slow::Distribution;
use crate::fault::{IoType, IoTypes};

const OK: Result<(), Errno> = Ok(());

fn name(name: &str) -> RuleName {
    RuleName::new(name).unwrap()
}

fn writes() -> Trigger {
    Trigger { iotypes: [IoType::Write].into_iter().collect(), ..Trigger::default() }
}

fn tagged(tag: &str, point: Point) -> Effect {
    Effect::Break { tag: tag.into(), point }
}

fn delayed(duration: Duration) -> Effect {
    let delay_ns = u64::try_from(duration.as_nanos()).unwrap();
    Effect::Delay { delay: Distribution::Fixed { delay_ns }, then: None }
}

/// Whom the point tells, and what.
#[derive(Debug, Default)]
struct Seen {
    notices: Mutex<Vec<Notice>>,
    stopped: Mutex<Vec<HeldReport>>,
    disconnects: Mutex<u32>,
    errors: Mutex<Vec<HeldReport>>,
}

impl FaultObserver for Seen {
    fn noticed(&self, notices: &[Notice]) {
        self.notices.lock().unwrap().extend_from_slice(notices);
    }

    fn stopped_at(&self, held: &HeldReport) {
        self.stopped.lock().unwrap().push(held.clone());
    }

    fn disconnect(&self) {
        *self.disconnects.lock().unwrap() += 1;
    }

    fn held_on_error(&self, held: &HeldReport) {
        self.errors.lock().unwrap().push(held.clone());
    }
}

fn watched(rig: &Rig) -> Arc<Seen> {
    let seen = Arc::new(Seen::default());
    assert!(rig.point.set_observer(seen.clone()));
    seen
}

#[test]
fn a_hanging_disk_holds_everything_until_the_state_is_left() {
    let rig = Rig::new();
    let mut lane = rig.lane(3);
    rig.enter(hang());
    (0..4).for_each(|ordinal| lane.write(ordinal, ordinal, 1));
    lane.submit(4, OpKind::Flush);
    assert_eq!(lane.ended(), []);
    assert_eq!(rig.held(), [0, 1, 2, 3, 4]);
    let report = rig.point.held().swap_remove(2);
    assert_eq!((report.queue, report.iotype, report.sector), (3, IoType::Write, Some(2)));
    assert_eq!((report.bytes, report.tags.len()), (512, 0));
    assert_eq!(report.cause, HeldCause::Fault(Cause::State(DiskStateName::Hang)));
    assert_eq!((rig.point.depth(), rig.sector(0)), (5, None));
    rig.enter(DiskState::None);
    assert!(lane.calls(), "the worker is woken");
    assert_eq!(lane.wait(5), [(0, OK), (1, OK), (2, OK), (3, OK), (4, OK)]);
    assert!(!lane.calls(), "and may sleep again");
    assert_eq!((rig.held(), rig.point.depth(), rig.sector(3)), (vec![], 0, Some(1)));
    assert_eq!(rig.point.counts().held_total, 5);
}

#[test]
fn a_hang_that_ends_in_failure_fails_what_it_held_and_rules_see_none_of_it() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    let iotypes = [IoType::Write].into_iter().collect();
    rig.enter(DiskState::Hang { iotypes, on_release: Some(Errno::ETIMEDOUT) });
    lane.write(0, 0, 1);
    lane.submit(1, OpKind::Flush);
    assert_eq!(lane.ended(), [(1, OK)], "other types pass");
    rig.enter(DiskState::None);
    assert_eq!(lane.wait(1), [(0, Err(Errno::ETIMEDOUT))]);
    assert_eq!((rig.sector(0), rig.point.counts().failed), (None, 1));
}

#[test]
fn a_delayed_request_comes_late_and_keeps_nobody_waiting() {
    const DELAY: Duration = Duration::from_millis(20);
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    rig.add("slow", writes(), delayed(DELAY));
    let began = Instant::now();
    lane.write(0, 0, 1);
    lane.submit(1, OpKind::Flush);
    assert_eq!(lane.ended(), [(1, OK)], "the flush overtakes it");
    assert!(!lane.calls());
    assert_eq!(lane.wait(1), [(0, OK)]);
    let took = began.elapsed();
    assert!(took >= DELAY, "{took:?}");
    eprintln!("a delay of {DELAY:?} took {:?} more", took - DELAY);
    assert!(!lane.calls());
    assert_eq!((rig.point.counts().delayed, rig.sector(0)), (1, Some(1)));
}

#[test]
fn a_hang_for_a_time_ends_by_itself_or_by_command_whichever_is_first() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    let at_most_ns = Some(10_000_000);
    rig.add("nap", writes(), Effect::Hang { at_most_ns, then: Some(Errno::ETIMEDOUT) });
    lane.write(0, 0, 1);
    assert_eq!(lane.wait(1), [(0, Err(Errno::ETIMEDOUT))]);
    lane.write(1, 1, 1);
    assert_eq!(rig.resume(&Which::Rule(name("nap")), Resume::Run), 1);
    assert_eq!(lane.wait(1), [(1, OK)], "run outranks what the hang would have ended in");
    std::thread::sleep(Duration::from_millis(15));
    assert_eq!(lane.ended(), []);
    lane.write(2, 2, 1);
    rig.point.configure(vec![Change::RemoveRule(name("nap"))]).unwrap();
    assert_eq!(lane.wait(1), [(2, Err(Errno::ETIMEDOUT))], "as was decided for it");
}

#[test]
fn a_request_stops_at_each_of_the_five_points_of_its_life() {
    let rig = Rig::new();
    let seen = watched(&rig);
    let mut lane = rig.lane(0);
    for point in Point::ALL {
        rig.add(point.name(), Trigger::default_for(point), tagged(point.name(), point));
    }
    let resume = |tag: &str| rig.resume(&Which::Tag(tag.to_owned()), Resume::Run);
    let at = |expected: &str| {
        let held = rig.point.held();
        assert_eq!(held.len(), 1, "at {expected}");
        assert_eq!(held[0].point.map(Point::name), Some(expected));
        assert_eq!(*held[0].tags, [Arc::from(expected)]);
    };
    lane.write(0, 5, 9);
    for (point, written) in [
        ("received", None),
        ("before-image", None),
        ("after-image", Some(9)),
        ("before-answer", Some(9)),
    ] {
        assert_eq!(lane.ended(), []);
        at(point);
        assert_eq!(rig.sector(5), written, "{point}");
        assert_eq!(resume("elsewhere"), 0);
        assert_eq!(resume(point), 1);
    }
    assert_eq!(lane.ended(), [(0, OK)]);
    lane.submit(1, OpKind::Flush);
    for point in Point::ALL {
        assert_eq!(lane.ended(), []);
        at(point.name());
        assert_eq!(resume(point.name()), 1);
    }
    assert_eq!(lane.ended(), [(1, OK)]);
    assert_eq!(seen.stopped.lock().unwrap().len(), 9);
}

impl Trigger {
    fn default_for(point: Point) -> Self {
        match point {
            Point::FlushBeforeCommit => {
                Self { iotypes: [IoType::Flush].into_iter().collect(), ..Self::default() }
            }
            _ => Self::default(),
        }
    }
}

#[test]
fn a_request_failed_at_a_breakpoint_fails_wherever_it_is() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    for (ordinal, point) in
        (0..).zip([Point::Received, Point::BeforeImage, Point::AfterImage, Point::BeforeAnswer])
    {
        let once = Trigger { times: Some(1), ..writes() };
        rig.add(&format!("r{ordinal}"), once, tagged("here", point));
        lane.write(ordinal, ordinal, 1);
        assert_eq!(lane.ended(), []);
        let which = Which::Tag("here".to_owned());
        assert_eq!(rig.resume(&which, Resume::Fail(Errno::ENXIO)), 1);
        assert_eq!(lane.ended(), [(ordinal, Err(Errno::ENXIO))], "{}", point.name());
        let reached = matches!(point, Point::AfterImage | Point::BeforeAnswer);
        assert_eq!(rig.sector(ordinal).is_some(), reached, "{}", point.name());
    }
    assert_eq!(rig.point.counts().failed, 4);
}

#[test]
fn held_requests_are_released_one_after_the_other_in_the_order_asked_for() {
    let rig = Rig::new();
    let mut lanes = [rig.lane(0), rig.lane(1)];
    rig.add("stop", writes(), tagged("stop", Point::BeforeImage));
    // All to one sector: the last to land is what stays.
    for ordinal in 0..6 {
        let byte = u8::try_from(ordinal).unwrap();
        lanes[usize::from(byte % 2)].write(ordinal, 0, byte);
    }
    let order = vec![3, 0, 5, 99, 4, 1, 2];
    assert_eq!(rig.resume(&Which::Ordinals(order), Resume::Run), 6);
    let mut landed = Vec::new();
    while landed.len() < 6 {
        // Whoever is not next has nothing to do, however often its worker looks.
        let idle = landed.len();
        for lane in &mut lanes {
            landed.extend(lane.ended().into_iter().map(|(ordinal, _)| ordinal));
        }
        assert!(landed.len() > idle, "{landed:?}");
    }
    assert_eq!(landed, [3, 0, 5, 4, 1, 2]);
    assert_eq!(rig.sector(0), Some(2));
}

#[test]
fn an_order_goes_on_when_one_of_it_stops_again_or_its_queue_is_gone() {
    let rig = Rig::new();
    let (mut lane, mut doomed) = (rig.lane(0), rig.lane(1));
    rig.add("a", writes(), tagged("a", Point::BeforeImage));
    lane.write(0, 0, 0);
    doomed.write(1, 0, 1);
    lane.write(2, 0, 2);
    rig.add("b", Trigger { times: Some(1), ..writes() }, tagged("b", Point::AfterImage));
    assert_eq!(rig.resume(&Which::Ordinals(vec![0, 1, 2]), Resume::Run), 3);
    assert_eq!(rig.held(), [1, 2], "their turn has not come");
    assert_eq!(lane.ended(), []);
    assert_eq!(rig.held(), [0, 2], "0 has stopped again, 1 is on its way");
    drop(doomed);
    assert_eq!(lane.ended(), [(2, OK)]);
    assert_eq!(rig.resume(&Which::All, Resume::Run), 1);
    assert_eq!(lane.ended(), [(0, OK)]);
}

#[test]
fn a_request_at_two_of_blkdebug_s_breakpoints_goes_when_both_are_resumed() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    let set = |tag: &str| Change::SetBreakpoint { event: Event::WriteAio, tag: tag.into() };
    let open = Change::OpenBlkdebug(BlkdebugSetup::default());
    rig.point.configure(vec![open, set("A"), set("B")]).unwrap();
    lane.write(0, 0, 1);
    lane.write(1, 1, 1);
    assert_eq!(lane.ended(), [(1, OK)], "a breakpoint holds one request");
    let reached = Released { reached: 1, gone: 0 };
    assert_eq!(rig.point.resume(&Which::NewestAt("A".to_owned()), Resume::Run), reached);
    assert_eq!((lane.ended(), rig.point.held()[0].tags.len()), (vec![], 1));
    rig.point.configure(vec![Change::RemoveBreakpoint { tag: "B".into() }]).unwrap();
    assert_eq!(lane.ended(), [(0, OK)]);
}

#[test]
fn only_the_newest_at_a_tag_goes_where_that_is_asked_for() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    rig.add("stop", writes(), tagged("stop", Point::Received));
    (0..3).for_each(|ordinal| lane.write(ordinal, 0, 0));
    assert_eq!(rig.resume(&Which::NewestAt("stop".to_owned()), Resume::Run), 1);
    assert_eq!(lane.ended(), [(2, OK)]);
    assert_eq!(rig.held(), [0, 1]);
}

#[test]
fn a_stopping_ring_fails_whom_it_holds_and_cuts_delays_short() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    let flushes = Trigger { iotypes: [IoType::Flush].into_iter().collect(), ..Trigger::default() };
    rig.add("slow", flushes, delayed(Duration::from_secs(3600)));
    rig.add("stuck", Trigger { times: Some(1), ..writes() }, tagged("t", Point::Received));
    rig.add("late", Trigger { times: Some(1), ..writes() }, tagged("u", Point::AfterImage));
    lane.write(0, 0, 1);
    lane.write(1, 1, 1);
    lane.submit(2, OpKind::Flush);
    assert_eq!((lane.ended(), rig.held()), (vec![], vec![0, 1]));
    lane.channel.fail_held(Errno::EIO);
    let mut ended = lane.ended();
    ended.sort_unstable_by_key(|(ordinal, _)| *ordinal);
    assert_eq!(ended, [(0, Err(Errno::EIO)), (1, OK), (2, OK)], "1 was done and says so");
    assert_eq!((rig.held(), rig.point.depth()), (vec![], 0));
    rig.add("later", Trigger { times: Some(1), ..writes() }, tagged("v", Point::AfterImage));
    lane.write(3, 3, 1);
    assert_eq!(lane.ended(), [(3, OK)], "nobody stops on its way out");
    rig.enter(hang());
    lane.write(4, 0, 1);
    assert_eq!(lane.ended(), [(4, Err(Errno::EIO))], "nobody is held any more");
    assert!(!lane.calls());
}

#[test]
fn a_channel_that_goes_takes_whom_it_holds_along() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    rig.enter(hang());
    (0..10).for_each(|ordinal| lane.write(ordinal, 0, 1));
    assert_eq!(rig.held().len(), 10);
    drop(lane);
    assert_eq!((rig.held(), rig.point.depth()), (vec![], 0));
    rig.enter(DiskState::None);
}

#[test]
fn what_the_image_fails_is_held_if_asked_for_and_asked_of_it_again() {
    let rig = Rig::new();
    let seen = watched(&rig);
    let mut lane = rig.lane(0);
    *rig.slate.fails.lock().unwrap() = Some(Errno::ENOSPC);
    lane.write(0, 0, 1);
    assert_eq!(lane.ended(), [(0, Err(Errno::ENOSPC))], "told, unless asked otherwise");
    rig.point.set_on_error(OnError::HoldOnEnospc).unwrap();
    lane.write(1, 1, 7);
    assert_eq!((lane.ended(), rig.held()), (vec![], vec![1]));
    assert_eq!(rig.point.held()[0].cause, HeldCause::ImageError(Errno::ENOSPC));
    assert_eq!(rig.resume(&Which::OnError, Resume::Run), 1);
    assert_eq!((lane.ended(), rig.held()), (vec![], vec![1]), "still no space");
    *rig.slate.fails.lock().unwrap() = None;
    assert_eq!(rig.resume(&Which::OnError, Resume::Run), 1);
    assert_eq!((lane.wait(1), rig.sector(1)), (vec![(1, OK)], Some(7)));
    *rig.slate.fails.lock().unwrap() = Some(Errno::EIO);
    lane.write(2, 2, 1);
    assert_eq!(lane.ended(), [(2, Err(Errno::EIO))], "another error");
    rig.point.set_on_error(OnError::Hold).unwrap();
    lane.write(3, 3, 1);
    lane.write(4, 4, 1);
    assert_eq!(lane.ended(), []);
    let first = Which::Ordinals(vec![3]);
    assert_eq!(rig.resume(&first, Resume::Fail(Errno::EREMOTEIO)), 1);
    assert_eq!(lane.ended(), [(3, Err(Errno::EREMOTEIO))]);
    lane.channel.fail_held(Errno::ENXIO);
    assert_eq!(lane.ended(), [(4, Err(Errno::EIO))], "a stop tells what the image said");
    assert_eq!(seen.errors.lock().unwrap().len(), 4);
    assert_eq!(rig.point.counts().failed, 0, "none of it was decided here");
}

#[test]
fn an_injected_error_is_never_held_by_the_policy_for_real_ones() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    rig.point.set_on_error(OnError::Hold).unwrap();
    rig.enter(DiskState::Error { errno: Errno::EIO, iotypes: IoTypes::ALL });
    lane.write(0, 0, 1);
    assert_eq!(lane.ended(), [(0, Err(Errno::EIO))]);
}

#[test]
fn content_is_looked_for_in_all_the_pieces_of_a_write() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    let content = Content::new(6, None, b"needle".to_vec(), None).unwrap();
    let trigger = Trigger { content: Some(content), ..writes() };
    rig.add("find", trigger, Effect::Error(Errno::EIO));
    lane.submit(0, write(0, b"hay   needle"));
    lane.submit(1, write(0, b"needle hay  "));
    let memory = OwnedMemory::new(12, 3);
    memory.write(b"hay   needle");
    let from = memory.pieces(&[2, 0, 5, 4, 1]);
    lane.submit(2, OpKind::Write { offset_bytes: 0, from, fua: false });
    lane.submit(3, write(0, b"hay   need"));
    let eio = Err(Errno::EIO);
    let mut ended = lane.ended();
    ended.sort_unstable_by_key(|(ordinal, _)| *ordinal);
    assert_eq!(ended, [(0, eio), (1, OK), (2, eio), (3, OK)]);
}

#[test]
fn a_rule_knows_how_deep_the_disk_s_queues_are_together() {
    let rig = Rig::new();
    let (mut first, mut second) = (rig.lane(0), rig.lane(1));
    rig.add("stop", Trigger { times: Some(2), ..writes() }, tagged("t", Point::Received));
    let deep = Trigger { depth_min: Some(3), ..writes() };
    rig.add("deep", deep, Effect::Error(Errno::EIO));
    first.write(0, 0, 1);
    second.write(1, 0, 1);
    second.write(2, 0, 1);
    assert_eq!(second.ended(), [(2, Err(Errno::EIO))]);
    rig.resume(&Which::All, Resume::Run);
    assert_eq!((first.ended(), second.ended()), (vec![(0, OK)], vec![(1, OK)]));
    first.write(3, 0, 1);
    assert_eq!(first.ended(), [(3, OK)], "it is alone now");
}

#[test]
fn a_disconnected_front_end_is_never_answered() {
    let rig = Rig::new();
    let seen = watched(&rig);
    let line = rig.filter.line().unwrap();
    let mut lane = rig.lane(0);
    rig.add("cut", Trigger { times: Some(1), ..writes() }, Effect::Disconnect);
    lane.write(0, 0, 1);
    assert!(line.take_cut() && !line.take_cut() && !line.is_down());
    assert_eq!((lane.ended(), *seen.disconnects.lock().unwrap()), (vec![], 1));
    assert_eq!((rig.held(), rig.resume(&Which::All, Resume::Run)), (vec![], 0));
    rig.enter(DiskState::Offline);
    assert!(line.take_cut() && line.is_down());
    lane.submit(1, OpKind::Flush);
    assert_eq!(lane.ended(), []);
    rig.enter(DiskState::None);
    assert!(!line.is_down());
    assert_eq!(rig.point.counts().disconnected, 2);
}

#[test]
fn whoever_waits_for_a_breakpoint_is_told_once() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    rig.add("stop", writes(), tagged("here", Point::Received));
    let (tell, told) = channel();
    let wait = |tag: &str, patience: Option<u64>| {
        let (tell, deadline) = (tell.clone(), patience.map(Duration::from_millis));
        let deadline = deadline.map(|patience| Instant::now() + patience);
        let tell = move |held: Result<HeldReport, TimedOut>| {
            tell.send(held.map(|held| held.ordinal)).unwrap();
        };
        rig.point.on_held(tag, deadline, Box::new(|| true), Box::new(tell));
    };
    wait("here", Some(1));
    assert_eq!(told.recv(), Ok(Err(TimedOut)));
    wait("here", None);
    wait("elsewhere", None);
    lane.write(8, 0, 1);
    assert_eq!(told.recv(), Ok(Ok(8)));
    wait("here", Some(0));
    assert_eq!(told.recv(), Ok(Ok(8)), "it is there already");
    assert!(told.try_recv().is_err());
    drop((lane, rig));
    assert_eq!(told.recv(), Ok(Err(TimedOut)), "the disk is gone");
    drop(tell);
    assert!(told.recv().is_err(), "and nobody is told twice");
}

#[test]
fn those_who_wait_and_went_away_take_nobody_s_place() {
    let rig = Rig::new();
    let (tell, told) = channel();
    let wait = |listens: bool, number: u32| {
        let tell = tell.clone();
        let tell = move |held: Result<HeldReport, TimedOut>| {
            tell.send((number, held.is_ok())).unwrap();
        };
        rig.point.on_held("here", None, Box::new(move || listens), Box::new(tell));
    };
    wait(true, 0);
    (1..=2000).for_each(|number| wait(false, number));
    wait(true, 2001);
    let mut gone: Vec<_> = (1..=2000).map(|_| told.recv().unwrap()).collect();
    gone.sort_unstable();
    assert_eq!(gone, (1..=2000).map(|number| (number, false)).collect::<Vec<_>>());
    let mut lane = rig.lane(0);
    rig.add("stop", writes(), tagged("here", Point::Received));
    lane.write(8, 0, 1);
    let mut met = [told.recv().unwrap(), told.recv().unwrap()];
    met.sort_unstable();
    assert_eq!(met, [(0, true), (2001, true)]);
}

#[test]
fn what_happens_is_told_in_order_and_a_refused_change_changes_nothing() {
    let rig = Rig::new();
    let seen = watched(&rig);
    let mut lane = rig.lane(0);
    rig.add("one", Trigger { times: Some(1), ..writes() }, Effect::Error(Errno::EIO));
    let twice = vec![Change::SetState(hang()), add("one", writes(), Effect::Error(Errno::EIO))];
    assert!(rig.point.configure(twice).is_err());
    assert_eq!(rig.point.inspect(|engine| engine.state().name()), DiskStateName::None);
    lane.write(0, 0, 1);
    lane.write(1, 0, 1);
    assert_eq!(lane.ended().len(), 2);
    let notices = seen.notices.lock().unwrap();
    assert!(matches!(notices[0], Notice::Hit { ordinal: 0, .. }), "{notices:?}");
    assert_eq!(notices[1..], [Notice::Exhausted(Cause::Rule(name("one")))]);
}
