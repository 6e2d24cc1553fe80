//! Requests whose channel is gone before it answered them, and what the next one makes of them.

use super::rig::{Lane, Rig};
use super::{OK, writes};
use crate::block::{Op, Record, Resume, Ticket, Which};
use crate::errno::Errno;
use crate::fault::IoTypes;
use crate::fault::engine::{Change, Place};
use crate::fault::manual::DiskState;
use crate::fault::rule::{Effect, Point, Rule, RuleName};
use crate::fault::slow::Distribution;

/// A queue whose requests are known to the next worker, which is going to submit these.
fn lane(rig: &Rig, ordinals: &[u64]) -> Lane {
    let mut lane = rig.lane(0);
    lane.channel.take_up(0, ordinals);
    lane
}

fn again(lane: &mut Lane, ordinal: u64) {
    let kind = super::write(0, &[1; 512]);
    lane.channel.submit_again(Op { ticket: Ticket(ordinal), ordinal, queue: 0, kind });
    lane.channel.commit();
}

fn held_at(point: Point) -> Rig {
    let rig = Rig::new();
    rig.add("r", writes(), Effect::Break { tag: "A".into(), point });
    rig
}

const POINTS: [Point; 4] =
    [Point::Received, Point::BeforeImage, Point::AfterImage, Point::BeforeAnswer];

#[test]
fn who_was_held_is_held_again_at_the_same_point_and_counted_once() {
    for point in POINTS {
        let rig = held_at(point);
        let mut first = lane(&rig, &[]);
        first.write(5, 0, 1);
        assert!(first.ended().is_empty());
        first.channel.keep_held();
        assert_eq!((first.channel.take_kept(), rig.held()), (vec![Ticket(5)], vec![]));
        drop(first);
        let mut second = lane(&rig, &[5]);
        again(&mut second, 5);
        assert!(second.ended().is_empty(), "{point:?}");
        assert_eq!((rig.held(), rig.point.counts().held_total), (vec![5], 1), "{point:?}");
        assert_eq!(rig.resume(&Which::Tag("A".into()), Resume::Run), 1);
        assert_eq!(second.wait(1), [(5, OK)]);
    }
}

#[test]
fn who_was_let_go_and_never_heard_of_it_is_not_held_again() {
    for point in POINTS {
        for (action, result) in [(Resume::Run, OK), (Resume::Fail(Errno::EIO), Err(Errno::EIO))] {
            let rig = held_at(point);
            let mut first = lane(&rig, &[]);
            first.write(5, 0, 1);
            assert!(first.ended().is_empty());
            assert_eq!(rig.resume(&Which::Tag("A".into()), action), 1);
            // The letter about it is never read.
            drop(first);
            let mut second = lane(&rig, &[5]);
            again(&mut second, 5);
            assert_eq!(second.ended(), [(5, result)], "{point:?} {action:?}: {:?}", rig.held());
            assert!(rig.held().is_empty());
        }
    }
}

/// What holds or delays writes, and what lets them go.
fn waits_and_their_ends() -> Vec<(Change, Change)> {
    let rule = |effect| {
        let rule = Rule::new(RuleName::new("r").unwrap(), writes(), effect, false).unwrap();
        Change::AddRule { rule: Box::new(rule), place: Place::Last }
    };
    let delay = Distribution::Fixed { delay_ns: 3_600_000_000_000 };
    let without_rule = || Change::RemoveRule(RuleName::new("r").unwrap());
    let hang = DiskState::Hang { iotypes: IoTypes::ALL, on_release: None };
    vec![
        (Change::SetState(hang), Change::SetState(DiskState::None)),
        (rule(Effect::Hang { at_most_ns: None, then: None }), without_rule()),
        (rule(Effect::Delay { delay, then: None }), without_rule()),
        (rule(Effect::Break { tag: "A".into(), point: Point::Received }), without_rule()),
    ]
}

#[test]
fn what_ends_while_nobody_is_connected_holds_nobody_again() {
    for (begins, ends) in waits_and_their_ends() {
        let rig = Rig::new();
        rig.point.configure(vec![begins]).unwrap();
        let mut first = lane(&rig, &[]);
        first.write(5, 0, 1);
        assert!(first.ended().is_empty());
        first.channel.keep_held();
        drop(first);
        let before = rig.point.snapshot();
        rig.point.configure(vec![ends.clone()]).unwrap();
        // The next process, which reads of it, does the same.
        let (now_ns, entered_ns) = (rig.point.now_ns(), None);
        let mut read = before;
        read.meet(Record::Configured { now_ns, entered_ns, changes: vec![ends] });
        for rig in [Rig::over(read), rig] {
            let mut second = lane(&rig, &[5]);
            again(&mut second, 5);
            assert_eq!(second.ended(), [(5, OK)], "{:?}", rig.held());
        }
    }
}
