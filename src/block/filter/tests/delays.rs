//! Requests that wait for a time, and what ends their wait early.

use std::time::Duration;

use super::rig::{Rig, add, hang};
use super::{OK, delayed, name, tagged, writes};
use crate::block::{Released, Resume, Which};
use crate::errno::Errno;
use crate::fault::IoTypes;
use crate::fault::blkdebug::{Event, InjectError, Rules};
use crate::fault::engine::{Change, Place};
use crate::fault::manual::DiskState;
use crate::fault::rule::{Effect, Point, Rule, Trigger};
use crate::fault::slow::{Distribution, Profile, ProfileOptions};

/// Longer than any test.
const AN_HOUR: Duration = Duration::from_secs(3600);

fn hour() -> Distribution {
    Distribution::Fixed { delay_ns: 3_600_000_000_000 }
}

fn slow() -> DiskState {
    let options = ProfileOptions { delay: Some(hour()), ..ProfileOptions::default() };
    DiskState::Slow { profiles: vec![Profile::new(options).unwrap()] }
}

fn remove(word: &str) -> Change {
    Change::RemoveRule(name(word))
}

impl Rig {
    /// Put a rule behind the others that lets later rules look, too.
    fn add_going_on(&self, word: &str, effect: Effect) {
        let rule = Box::new(Rule::new(name(word), writes(), effect, true).unwrap());
        self.change(Change::AddRule { rule, place: Place::Last });
    }

    fn change(&self, change: Change) {
        self.point.configure(vec![change]).unwrap();
    }
}

#[test]
fn leaving_a_slow_state_ends_what_is_left_of_its_delays() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    rig.enter(slow());
    (0..3).for_each(|ordinal| lane.write(ordinal, ordinal, 1));
    assert_eq!((lane.ended(), rig.held()), (vec![], vec![]), "delayed, not held");
    rig.enter(slow());
    assert!(!lane.calls() && lane.ended().is_empty(), "set anew it is not left");
    rig.enter(DiskState::None);
    assert!(lane.calls(), "the worker is woken");
    assert_eq!(lane.wait(3), [(0, OK), (1, OK), (2, OK)]);
    assert!(!lane.calls());
    assert_eq!((rig.sector(2), rig.point.counts().delayed), (Some(1), 3));
}

#[test]
fn whoever_is_released_from_a_slow_state_meets_the_rules() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    rig.add("full", writes(), Effect::Error(Errno::ENOSPC));
    rig.enter(slow());
    lane.write(0, 0, 1);
    rig.enter(hang());
    assert_eq!(lane.wait(1), [(0, Err(Errno::ENOSPC))], "but not the state entered since");
}

#[test]
fn a_rule_that_is_removed_or_disabled_delays_nobody_any_more() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    let late = Effect::Delay { delay: hour(), then: Some(Errno::ETIMEDOUT) };
    for (ordinal, change) in (0..).zip([remove("wait"), Change::DisableRule(name("wait"))]) {
        rig.add("wait", writes(), delayed(AN_HOUR));
        lane.write(ordinal, 0, 1);
        assert_eq!(lane.ended(), []);
        rig.change(change);
        assert_eq!(lane.wait(1), [(ordinal, OK)]);
    }
    rig.add("late", writes(), late);
    lane.write(2, 2, 1);
    rig.change(remove("wait"));
    assert_eq!(lane.ended(), [], "another rule's");
    rig.change(remove("late"));
    assert_eq!(lane.wait(1), [(2, Err(Errno::ETIMEDOUT))], "as was decided for it");
    assert_eq!(rig.sector(2), None);
}

#[test]
fn a_request_that_two_rules_delay_waits_on_for_the_one_that_stays() {
    const NAP: Duration = Duration::from_millis(20);
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    rig.add_going_on("long", delayed(AN_HOUR));
    rig.add_going_on("nap", delayed(NAP));
    rig.add("longer", writes(), delayed(AN_HOUR));
    lane.write(0, 0, 1);
    rig.change(remove("longer"));
    rig.change(remove("long"));
    let began = std::time::Instant::now();
    assert_eq!(lane.wait(1), [(0, OK)]);
    eprintln!("a nap of {NAP:?} took {:?}", began.elapsed());

    rig.add("long", writes(), delayed(AN_HOUR));
    lane.write(1, 0, 1);
    rig.change(remove("nap"));
    assert_eq!(lane.ended(), []);
    let which = Which::Rule(name("long"));
    assert_eq!(rig.point.resume(&which, Resume::Run), Released { reached: 1, gone: 1 });
    assert_eq!(lane.wait(1), [(1, OK)]);
}

#[test]
fn a_delay_is_resumed_by_its_rule_by_its_state_or_with_everybody() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    rig.add("wait", writes(), delayed(AN_HOUR));
    let rule = || Which::Rule(name("wait"));
    for (ordinal, which) in (0..).zip([rule(), Which::All]) {
        lane.write(ordinal, 0, 1);
        for other in [Which::State, Which::OnError, Which::Tag("wait".to_owned())] {
            assert_eq!(rig.resume(&other, Resume::Run), 0, "{other:?}");
        }
        assert_eq!(rig.resume(&which, Resume::Run), 1);
        assert_eq!(lane.wait(1), [(ordinal, OK)]);
    }
    lane.write(2, 2, 1);
    assert_eq!(rig.resume(&rule(), Resume::Fail(Errno::ENXIO)), 1);
    assert_eq!(lane.wait(1), [(2, Err(Errno::ENXIO))]);
    assert_eq!((rig.sector(2), rig.point.counts().failed), (None, 1));
    rig.change(remove("wait"));
    rig.enter(slow());
    lane.write(3, 3, 1);
    assert_eq!((rig.resume(&rule(), Resume::Run), rig.resume(&Which::State, Resume::Run)), (0, 1));
    assert_eq!(lane.wait(1), [(3, OK)]);
}

#[test]
fn a_hold_behind_a_delay_is_a_hold_only_while_its_rule_is_in_force() {
    let stop = |rig: &Rig| {
        rig.add_going_on("wait", delayed(AN_HOUR));
        rig.add("stop", writes(), tagged("stop", Point::Received));
    };
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    stop(&rig);
    lane.write(0, 0, 1);
    rig.change(remove("wait"));
    assert_eq!((lane.ended(), rig.held()), (vec![], vec![0]), "the delay is over, the hold begins");
    rig.change(remove("stop"));
    assert_eq!(lane.wait(1), [(0, OK)]);

    stop(&rig);
    lane.write(1, 1, 1);
    // Gone, and another of its name is there: nobody is held for either.
    rig.change(remove("stop"));
    rig.add("stop", writes(), tagged("stop", Point::Received));
    rig.change(remove("wait"));
    assert_eq!((lane.wait(1), rig.held()), (vec![(1, OK)], vec![]));

    let then = Some(Errno::ETIMEDOUT);
    rig.change(remove("stop"));
    rig.add_going_on("wait", delayed(AN_HOUR));
    rig.add("hang", writes(), Effect::Hang { at_most_ns: None, then });
    lane.write(2, 2, 1);
    rig.change(Change::DisableRule(name("hang")));
    rig.change(Change::EnableRule(name("hang")));
    rig.change(remove("wait"));
    assert_eq!(lane.wait(1), [(2, Err(Errno::ETIMEDOUT))], "as was decided for it");
}

#[test]
fn an_order_waits_for_one_of_it_that_is_delayed() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    rig.add_going_on("stop", tagged("stop", Point::Received));
    rig.add("wait", Trigger { times: Some(1), ..writes() }, delayed(AN_HOUR));
    (0..2).for_each(|ordinal| lane.write(ordinal, 0, 0));
    assert_eq!(rig.resume(&Which::Ordinals(vec![1, 0]), Resume::Run), 2);
    assert_eq!((lane.ended(), rig.held()), (vec![], vec![0]), "1 has gone on into a delay");
    rig.change(remove("wait"));
    assert_eq!(lane.wait(2), [(1, OK), (0, OK)]);
}

#[test]
fn delays_of_blkdebug_s_rules_end_when_everybody_is_resumed() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    let rule = InjectError {
        errno: None,
        delay_ns: 3_600_000_000_000,
        ..InjectError::on(Event::WriteAio)
    };
    rig.change(Change::AddBlkdebugRules(Rules { inject_error: vec![rule], ..Rules::default() }));
    lane.write(0, 0, 1);
    assert_eq!((lane.ended(), rig.resume(&Which::State, Resume::Run)), (vec![], 0));
    assert_eq!(rig.resume(&Which::All, Resume::Run), 1);
    assert_eq!(lane.wait(1), [(0, OK)]);
}

#[test]
fn a_hang_that_is_set_anew_keeps_those_it_holds_on_the_old_terms() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    rig.enter(hang());
    lane.write(0, 0, 1);
    rig.enter(DiskState::Hang { iotypes: IoTypes::ALL, on_release: Some(Errno::EIO) });
    lane.write(1, 1, 1);
    assert_eq!((lane.ended(), rig.held()), (vec![], vec![0, 1]), "it was not left");
    rig.point.configure(vec![Change::SetState(DiskState::None), Change::SetState(hang())]).unwrap();
    let mut ended = lane.wait(2);
    ended.sort_unstable_by_key(|(ordinal, _)| *ordinal);
    assert_eq!(ended, [(0, OK), (1, Err(Errno::EIO))], "left and entered in one change");
}

#[test]
fn a_stopping_ring_and_a_release_at_once_end_a_delay_once() {
    let rig = Rig::new();
    let mut lane = rig.lane(0);
    rig.point.configure(vec![add("wait", writes(), delayed(AN_HOUR))]).unwrap();
    (0..2).for_each(|ordinal| lane.write(ordinal, ordinal, 1));
    rig.change(remove("wait"));
    lane.channel.fail_held(Errno::EIO);
    assert_eq!(lane.wait(2), [(0, OK), (1, OK)]);
    rig.add("wait", writes(), delayed(AN_HOUR));
    lane.write(2, 2, 1);
    assert_eq!(lane.wait(1), [(2, OK)], "a stopped ring delays nobody");
    assert_eq!(rig.resume(&Which::All, Resume::Run), 0);
}
