//! Requests whose channel is gone before it answered them, and what the next one makes of them.

use super::rig::{Lane, Rig};
use super::{OK, writes};
use crate::block::{Op, Resume, Ticket, Which};
use crate::errno::Errno;
use crate::fault::rule::{Effect, Point};

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
