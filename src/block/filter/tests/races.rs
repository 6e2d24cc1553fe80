//! Four queues against one operator.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::rig::{Lane, Rig, add, hang};
use super::{name, writes};
use crate::errno::Errno;
use crate::fault::engine::{Cause, Change};
use crate::fault::manual::DiskState;
use crate::fault::rule::{Effect, Trigger};
use crate::fault::slow::{Distribution, Profile, ProfileOptions};

/// Trials of a race; more where the environment asks for them.
fn trials(usual: u64) -> u64 {
    std::env::var("BLKFAULT_TRIALS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Write without a pause until told to stop; returns how many were submitted and how many failed.
fn hammer(lane: &mut Lane, queue: u64, stop: &AtomicBool) -> (u64, u64) {
    let (mut submitted, mut ended, mut failed) = (0, 0, 0);
    let mut stopped = false;
    while !stopped || ended < submitted {
        stopped = stopped || stop.load(Ordering::SeqCst);
        if !stopped && submitted - ended < 8 {
            lane.write(submitted * 4 + queue, queue, 1);
            submitted += 1;
        }
        for (_, result) in lane.ended() {
            ended += 1;
            failed += u64::from(result.is_err());
        }
        // There are more queues than processors, and the operator wants a turn as well.
        std::thread::yield_now();
    }
    (submitted, failed)
}

#[test]
fn a_rule_that_fires_once_fires_once_whoever_races_for_it() {
    let trials = trials(10_000);
    let rig = Rig::new();
    let (stop, failed) = (AtomicBool::new(false), AtomicU64::new(0));
    let rule = |trial: u64| format!("once-{trial}");
    let once = || Trigger { times: Some(1), ..writes() };
    std::thread::scope(|scope| {
        for queue in 0..4 {
            let (rig, stop, failed) = (&rig, &stop, &failed);
            scope.spawn(move || {
                let mut lane = rig.lane(u16::try_from(queue).unwrap());
                failed.fetch_add(hammer(&mut lane, queue, stop).1, Ordering::SeqCst);
            });
        }
        for trial in 0..trials {
            rig.add(&rule(trial), once(), Effect::Error(Errno::EIO));
            let cause = Cause::Rule(name(&rule(trial)));
            while rig.point.inspect(|engine| engine.hits(&cause)) == Some(0) {
                std::thread::yield_now();
            }
            assert_eq!(rig.point.inspect(|engine| engine.hits(&cause)), Some(1));
            rig.point.configure(vec![Change::RemoveRule(name(&rule(trial)))]).unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(failed.into_inner(), trials);
    assert_eq!(rig.point.counts().failed, trials);
}

#[test]
fn a_slow_state_that_is_left_delays_nobody_and_ends_no_delay_twice() {
    let rounds = trials(500);
    let rig = Rig::new();
    let stop = AtomicBool::new(false);
    let options = || {
        let delay = Some(Distribution::Uniform { min_ns: 0, max_ns: 200_000 });
        vec![Profile::new(ProfileOptions { delay, ..ProfileOptions::default() }).unwrap()]
    };
    std::thread::scope(|scope| {
        for queue in 0..4 {
            let (rig, stop) = (&rig, &stop);
            scope.spawn(move || {
                let mut lane = rig.lane(u16::try_from(queue).unwrap());
                let (submitted, failed) = hammer(&mut lane, queue, stop);
                assert!(submitted > 0 && failed == 0, "{submitted} {failed}");
                assert_eq!(lane.ended(), []);
            });
        }
        for round in 0..rounds {
            let delayed = rig.point.counts().delayed;
            rig.enter(DiskState::Slow { profiles: options() });
            while round % 2 == 0 && rig.point.counts().delayed == delayed {
                std::thread::yield_now();
            }
            // Releases meet delays that are just over.
            rig.enter(DiskState::None);
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(rig.point.depth(), 0);
    assert!(rig.point.counts().delayed >= rounds / 2, "the story happened");
}

#[test]
fn a_hang_that_is_left_leaves_nobody_behind_and_releases_nobody_twice() {
    let rounds = trials(1_000);
    let rig = Rig::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hammers: Vec<_> = (0..4)
            .map(|queue| {
                let (rig, stop) = (&rig, &stop);
                scope.spawn(move || {
                    let mut lane = rig.lane(u16::try_from(queue).unwrap());
                    let (submitted, failed) = hammer(&mut lane, queue, stop);
                    assert_eq!(lane.ended(), []);
                    (submitted, failed)
                })
            })
            .collect();
        for round in 0..rounds {
            rig.enter(hang());
            // Some hangs hold somebody, others are left while somebody submits.
            while round % 2 == 0 && rig.held().is_empty() {
                std::thread::yield_now();
            }
            rig.enter(DiskState::None);
            assert_eq!(rig.held(), [0; 0], "who submits now meets an ordinary disk");
        }
        stop.store(true, Ordering::SeqCst);
        for hammer in hammers {
            let (submitted, failed) = hammer.join().unwrap();
            assert!(submitted > 0 && failed == 0, "{submitted} {failed}");
        }
    });
    assert_eq!(rig.point.depth(), 0);
    assert!(rig.point.counts().held_total >= rounds / 2, "the story happened");
    // A configuration in which rules come and go at once is one change.
    let swap = vec![add("a", writes(), Effect::Error(Errno::EIO)), Change::RemoveRule(name("a"))];
    rig.point.configure(swap).unwrap();
}
