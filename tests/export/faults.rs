//! States, cut lines and failing images, met by front ends at work.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use blkfault::block::{OnError, Resume, Which};
use blkfault::errno::Errno;
use blkfault::fault::engine::{Change, Place};
use blkfault::fault::manual::DiskState;
use blkfault::fault::rule::{Effect, Rule, RuleName, Trigger};
use blkfault::fault::slow::{Distribution, Profile, ProfileOptions};
use blkfault::fault::{IoType, IoTypes};

use crate::support::backend::{DISK_BYTES, Holdings, Served, alone, eventually, options};
use crate::support::front::{Front, Queue, SECTOR, Status, feature, kind};
use crate::support::nodes::MemoryNode;
use crate::{configure, enter, front_with_queue};

/// The states of a storm, in their order.
fn states() -> [DiskState; 5] {
    let slow = ProfileOptions {
        delay: Some(Distribution::Fixed { delay_ns: 50_000 }),
        ..ProfileOptions::default()
    };
    [
        DiskState::None,
        DiskState::Error { errno: Errno::EIO, iotypes: IoTypes::ALL },
        DiskState::Hang { iotypes: IoTypes::ALL, on_release: None },
        DiskState::Slow { profiles: vec![Profile::new(slow).unwrap()] },
        DiskState::ReadOnly { errno: Errno::EROFS },
    ]
}

/// What a guest must meet in the state of this number; `None` where it is never answered.
fn expected(state: usize, is_write: bool) -> Option<Status> {
    match (state, is_write) {
        (0 | 3, _) | (4, false) => Some(Status::Ok),
        (1, _) | (4, true) => Some(Status::IoErr),
        _ => None,
    }
}

/// Run batches until the operator is done; count, by state, the answers that were certainly given
/// in it. `epoch` is odd while a change is under way.
fn meet_states(queue: &mut Queue, epoch: &AtomicU64, last: u64, certain: &[AtomicU64; 5]) {
    const BATCH: u16 = 8;
    queue.prepare_slots(BATCH, SECTOR as u64);
    let is_write = |slot: u16| slot % 2 == 1;
    loop {
        let before = epoch.load(Ordering::SeqCst);
        if before >= last {
            return;
        }
        for slot in 0..BATCH {
            let wanted = if is_write(slot) { kind::OUT } else { kind::IN };
            queue.start(slot, wanted, u64::from(slot) * 8, SECTOR as u32);
        }
        queue.kick();
        let state = usize::try_from(before / 2 % 5).unwrap();
        for _ in 0..BATCH {
            let end = queue.finish();
            if before % 2 == 1 || epoch.load(Ordering::SeqCst) != before {
                continue;
            }
            assert_eq!(
                Some(end.status),
                expected(state, is_write(end.slot)),
                "state {state}, slot {}",
                end.slot
            );
            certain[state].fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn ten_thousand_changes_of_state_under_load_have_no_request_on_the_wrong_side() {
    const TOGGLES: u64 = 10_000;
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(4));
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let queues = front.start_queues(4, 64);
    let (epoch, certain) = (AtomicU64::new(0), <[AtomicU64; 5]>::default());
    let states = states();
    std::thread::scope(|scope| {
        for mut queue in queues {
            let (epoch, certain) = (&epoch, &certain);
            scope.spawn(move || meet_states(&mut queue, epoch, 2 * TOGGLES, certain));
        }
        for toggle in 1..=TOGGLES {
            epoch.fetch_add(1, Ordering::SeqCst);
            let state = &states[usize::try_from(toggle % 5).unwrap()];
            enter(&served, state.clone());
            epoch.fetch_add(1, Ordering::SeqCst);
            // Long enough for whole batches to run in one state, short enough for many to meet two.
            std::thread::sleep(Duration::from_micros(150 + toggle % 7 * 50));
        }
        enter(&served, DiskState::None);
    });
    let certain = certain.map(AtomicU64::into_inner);
    eprintln!("certainly answered in none, error, hang, slow, read-only: {certain:?}");
    assert_eq!(certain[2], 0);
    assert!([0, 1, 3, 4].iter().all(|state| certain[*state] > 100), "{certain:?}");
    let counts = served.faults.counts();
    assert!(counts.held_total > 1000 && counts.delayed > 1000, "{counts:?}");
    let failures = served.seen.failures.lock().unwrap().len();
    assert_eq!(counts.failed, u64::try_from(failures).unwrap(), "met and counted");
}

#[test]
fn an_offline_disk_drops_its_front_end_and_refuses_others_until_it_is_back() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(4));
    for round in 0..3 {
        let mut front = Front::connect(&served.socket);
        front.negotiate(feature::ALL);
        let queues = front.start_queues(4, 64);
        let gone = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for mut queue in queues {
                let gone = &gone;
                scope.spawn(move || {
                    queue.prepare_slots(8, SECTOR as u64);
                    let mut free: Vec<u16> = (0..8).collect();
                    while !gone.load(Ordering::SeqCst) {
                        for slot in free.drain(..) {
                            queue.start(slot, kind::IN, 0, SECTOR as u32);
                        }
                        queue.kick_always();
                        while let Some(end) = queue.try_finish() {
                            assert_eq!(end.status, Status::Ok, "no request meets an error");
                            free.push(end.slot);
                        }
                        std::thread::yield_now();
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(5));
            let began = Instant::now();
            enter(&served, DiskState::Offline);
            served.wait_disconnected();
            assert!(began.elapsed() < Duration::from_secs(3), "took {:?}", began.elapsed());
            gone.store(true, Ordering::SeqCst);
        });
        drop(front);
        for _ in 0..3 {
            assert!(Front::try_connect(&served.socket, crate::support::front::ONE_REGION).is_err());
        }
        assert_eq!(served.faults.depth(), 0, "round {round}: what was unanswered is forgotten");
        enter(&served, DiskState::None);
        let (front, mut queue) = front_with_queue(&served.socket);
        assert!(queue.is_alive(), "back in round {round}");
        drop(front);
        served.wait_disconnected();
    }
    assert!(served.seen.failures.lock().unwrap().is_empty());
}

#[test]
fn a_rule_that_disconnects_leaves_its_request_unanswered_and_the_next_front_end_alone() {
    if !alone(
        "faults::a_rule_that_disconnects_leaves_its_request_unanswered_and_the_next_front_end_alone",
    ) {
        return;
    }
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let trigger = Trigger {
        iotypes: [IoType::Flush].into_iter().collect(),
        times: Some(20),
        ..Trigger::default()
    };
    let rule = Rule::new(RuleName::new("cut").unwrap(), trigger, Effect::Disconnect, false);
    configure(&served, Change::AddRule { rule: Box::new(rule.unwrap()), place: Place::Last });
    let mut before = None;
    for round in 0..20 {
        let (front, mut queue) = front_with_queue(&served.socket);
        assert_eq!(queue.write(round, &[7; SECTOR]).status, Status::Ok);
        queue.prepare_slots(1, SECTOR as u64);
        let used = queue.used_index_in_memory();
        queue.start(0, kind::FLUSH, 0, 0);
        queue.kick();
        served.wait_disconnected();
        assert_eq!(queue.used_index_in_memory(), used, "it is never answered");
        drop((front, queue));
        if round < 2 {
            before = Some(Holdings::now());
        }
        eventually("nothing of it is left", || Some(Holdings::now()) == before);
    }
    let (_front, mut queue) = front_with_queue(&served.socket);
    assert_eq!(queue.flush().status, Status::Ok, "the rule is used up");
    assert_eq!(served.faults.counts().disconnected, 20);
}

#[test]
fn what_a_failing_image_could_not_do_is_done_when_it_is_mended_and_resumed() {
    let node = MemoryNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    served.faults.set_on_error(OnError::HoldOnEnospc).unwrap();
    node.fail(IoType::Write, Errno::ENOSPC);
    queue.prepare_slots(4, SECTOR as u64);
    for slot in 0..4 {
        queue.fill_slot(slot, &[slot as u8 + 1; SECTOR]);
        queue.start(slot, kind::OUT, slot.into(), SECTOR as u32);
    }
    queue.kick();
    eventually("all are held", || served.faults.held().len() == 4);
    assert!(queue.try_finish().is_none());
    assert!(served.seen.failures.lock().unwrap().is_empty(), "the guest has met no error");
    node.mend();
    assert_eq!(served.faults.resume(&Which::OnError, Resume::Run).gone, 4);
    assert!(queue.finish_all().iter().all(|end| end.status == Status::Ok));
    let content = node.content();
    assert!((0..4).all(|slot| content[slot * SECTOR] == slot as u8 + 1), "all landed");

    node.fail(IoType::Write, Errno::EIO);
    assert_eq!(queue.write(0, &[9; SECTOR]).status, Status::IoErr, "another error is told");
    served.faults.set_on_error(OnError::Hold).unwrap();
    queue.start(0, kind::OUT, 0, SECTOR as u32);
    queue.kick();
    eventually("it is held", || served.faults.held().len() == 1);
    front.stop_queue(0);
    let ends = queue.finish_all();
    assert_eq!((ends.len(), ends[0].status), (1, Status::IoErr), "a stop tells what happened");
    assert_eq!(served.faults.counts().failed, 0, "none of it was injected");
}

#[test]
fn hits_in_a_report_are_the_errors_that_the_front_end_met() {
    let requests: u64 = std::env::var("BLKFAULT_REQUESTS").map_or(40_000, |n| n.parse().unwrap());
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(4));
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let queues = front.start_queues(4, 128);
    let trigger = Trigger { every: 7, ..Trigger::default() };
    let rule =
        Rule::new(RuleName::new("seventh").unwrap(), trigger, Effect::Error(Errno::EIO), false);
    configure(&served, Change::AddRule { rule: Box::new(rule.unwrap()), place: Place::Last });
    let met = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for mut queue in queues {
            let met = &met;
            scope.spawn(move || {
                queue.prepare_slots(32, SECTOR as u64);
                for _ in 0..requests / 128 {
                    (0..32).for_each(|slot| queue.start(slot, kind::IN, 0, SECTOR as u32));
                    queue.kick();
                    let ends = queue.finish_all();
                    let failed = ends.iter().filter(|end| end.status == Status::IoErr).count();
                    met.fetch_add(failed as u64, Ordering::Relaxed);
                }
            });
        }
    });
    let report = served.faults.inspect(|engine| engine.rules().next().unwrap());
    assert_eq!(report.met, requests / 128 * 128);
    assert_eq!((report.hits, met.into_inner()), (report.met / 7, report.met / 7));
    assert_eq!(served.faults.counts().failed, report.hits);
}
