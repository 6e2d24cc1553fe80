//! Many requests at once on several queues, and faults that come and go among them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blkfault::errno::Errno;
use blkfault::fault::engine::Change;
use blkfault::fault::manual::{DiskState, DiskStateName};
use blkfault::fault::{IoType, IoTypes};

use crate::support::backend::{Backend, DISK_BYTES, Served, options};
use crate::support::front::{Front, Queue, SECTOR, Status, feature, kind};
use crate::support::nodes::MemoryNode;

/// Write a share of the disk's blocks in a scrambled order, deep, and read it all back.
fn fill_and_verify(queue: &mut Queue, share: u64, shares: u64) {
    const BLOCK_BYTES: u32 = 4096;
    const DEPTH: u16 = 32;
    let blocks = DISK_BYTES / u64::from(BLOCK_BYTES) / shares;
    let sector = |block: u64| (share * blocks + block * 7 % blocks) * 8;
    let content = |sector: u64| (sector as u8).wrapping_mul(13) ^ (share as u8);
    queue.prepare_slots(DEPTH, BLOCK_BYTES.into());
    for wanted in [kind::OUT, kind::IN] {
        let mut sectors = HashMap::new();
        let (mut started, mut finished) = (0, 0);
        let mut free: Vec<u16> = (0..DEPTH).collect();
        while finished < blocks {
            while let (true, Some(slot)) = (started < blocks, free.pop()) {
                let at = sector(started);
                queue.fill_slot(slot, &[content(at) ^ u8::from(wanted == kind::IN); 4096]);
                queue.start(slot, wanted, at, BLOCK_BYTES);
                sectors.insert(slot, at);
                started += 1;
            }
            queue.kick();
            let end = queue.finish();
            assert_eq!(end.status, Status::Ok);
            let mut data = [0; 4096];
            queue.slot_into(end.slot, &mut data);
            let expected = content(sectors[&end.slot]);
            assert!(data.iter().all(|byte| *byte == expected), "sector {}", sectors[&end.slot]);
            free.push(end.slot);
            finished += 1;
        }
    }
}

fn set_state(served: &Served, state: DiskState) {
    served.faults.configure(vec![Change::SetState(state)]).unwrap();
}

#[test]
fn one_two_and_four_queues_serve_at_once() {
    for queues_count in [1u16, 2, 4] {
        for features in [feature::ALL, feature::ALL & !feature::EVENT_IDX] {
            for (name, backend) in Backend::all(queues_count) {
                let mut front = Front::connect(backend.socket());
                assert_eq!(front.queues_max, u64::from(queues_count), "{name}");
                front.negotiate(features);
                let queues = front.start_queues(queues_count, 128);
                std::thread::scope(|scope| {
                    for mut queue in queues {
                        let (share, shares) = (queue.index.into(), queues_count.into());
                        scope.spawn(move || fill_and_verify(&mut queue, share, shares));
                    }
                });
            }
        }
    }
}

#[test]
fn a_driver_that_polls_is_not_called() {
    for features in [feature::ALL, feature::ALL & !feature::EVENT_IDX] {
        let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
        let mut front = Front::connect(&served.socket);
        front.negotiate(features);
        let mut queue = front.start_queues(1, 128).remove(0);
        assert!(queue.is_alive());
        queue.set_interrupts(false);
        queue.was_called();
        for _ in 0..200 {
            assert!(queue.is_alive());
        }
        assert!(!queue.was_called(), "features {features:#x}");
        queue.set_interrupts(true);
        assert!(queue.is_alive(), "and is called again when it asks for it");
    }
}

#[test]
fn indices_wrap_without_a_request_lost() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let mut queue = front.start_queues(1, 8).remove(0);
    front.stop_queue(0);
    queue.reset(0xfff0);
    front.start_queue(&queue, 0xfff0);
    for _ in 0..64 {
        assert!(queue.is_alive());
    }
    assert_eq!(queue.used_index(), 0x30);
    assert_eq!(front.stop_queue(0), 0x30);
}

/// What the operator has said, as far as a guest can know: odd while a change is under way.
///
/// A guest that saw an even number before it submitted and sees the same after the answer knows in
/// which state its whole request ran.
#[derive(Debug, Default)]
struct Epoch(AtomicU64);

impl Epoch {
    fn is_error(epoch: u64) -> bool {
        epoch % 4 == 2
    }
}

#[test]
fn a_state_holds_from_its_reply_on_for_every_queue_under_load() {
    const TOGGLES: u64 = 2_000;
    let node = MemoryNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(4));
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let queues = front.start_queues(4, 64);
    let epoch = Arc::new(Epoch::default());
    let (certain_ok, certain_error) = (AtomicU64::new(0), AtomicU64::new(0));
    let error = DiskState::Error { errno: Errno::EIO, iotypes: IoTypes::ALL };

    std::thread::scope(|scope| {
        for mut queue in queues {
            let (epoch, certain_ok, certain_error) = (&epoch, &certain_ok, &certain_error);
            scope.spawn(move || {
                queue.prepare_slots(16, SECTOR as u64);
                while epoch.0.load(Ordering::SeqCst) < 2 * TOGGLES {
                    let before = epoch.0.load(Ordering::SeqCst);
                    for slot in 0..16 {
                        let wanted = if slot % 2 == 0 { kind::IN } else { kind::OUT };
                        queue.start(slot, wanted, u64::from(slot) * 8, SECTOR as u32);
                    }
                    queue.kick();
                    let ends = queue.finish_all();
                    if epoch.0.load(Ordering::SeqCst) != before || before % 2 == 1 {
                        continue;
                    }
                    let (expected, count) = match Epoch::is_error(before) {
                        true => (Status::IoErr, certain_error),
                        false => (Status::Ok, certain_ok),
                    };
                    assert!(ends.iter().all(|end| end.status == expected), "{before}: {ends:?}");
                    count.fetch_add(ends.len() as u64, Ordering::Relaxed);
                }
            });
        }
        for toggle in 0..TOGGLES {
            epoch.0.fetch_add(1, Ordering::SeqCst);
            let state = if toggle % 2 == 0 { error.clone() } else { DiskState::None };
            set_state(&served, state);
            epoch.0.fetch_add(1, Ordering::SeqCst);
            // Long enough for whole batches to run in one state, short enough for many to meet two.
            std::thread::sleep(std::time::Duration::from_micros(500 + toggle % 7 * 100));
        }
    });
    let (ok, failed) = (certain_ok.into_inner(), certain_error.into_inner());
    eprintln!("{ok} requests were certainly good and {failed} certainly bad");
    assert!(ok > 1_000 && failed > 1_000, "the story happened: {ok} good, {failed} bad");
    assert_eq!(served.faults.counts().failed, served.seen.failures.lock().unwrap().len() as u64);
}

#[test]
fn a_failed_write_never_reaches_the_image_and_other_types_pass() {
    let node = MemoryNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    let (_front, mut queue) = crate::front_with_queue(&served.socket);
    queue.write(0, &[1; SECTOR]);
    let iotypes: IoTypes = [IoType::Write, IoType::Flush].into_iter().collect();
    set_state(&served, DiskState::Error { errno: Errno::ENOSPC, iotypes });
    node.asked();
    assert_eq!(queue.write(0, &[2; SECTOR]).status, Status::IoErr);
    assert_eq!(queue.flush().status, Status::IoErr);
    assert_eq!(queue.read(0, SECTOR).data, [1; SECTOR]);
    assert_eq!(queue.get_id().status, Status::Ok);
    assert_eq!(node.asked().len(), 1, "the read alone reached the image");
    let name = served.faults.inspect(|engine| engine.state().name());
    assert_eq!(name, DiskStateName::Error);
    set_state(&served, DiskState::None);
    assert_eq!(queue.write(0, &[2; SECTOR]).status, Status::Ok);
    assert_eq!(served.faults.counts().failed, 2);
}

#[test]
fn a_request_for_nothing_fails_too_while_the_disk_fails() {
    for (name, make) in crate::support::nodes::ORDINARY {
        let served = Served::over_shared(make(DISK_BYTES), options(1));
        let (_front, mut queue) = crate::front_with_queue(&served.socket);
        let mut for_nothing = || {
            [
                queue.read(0, 0).status,
                queue.write(0, &[]).status,
                queue.discard(0, 0).status,
                queue.write_zeroes(0, 0, 0).status,
                queue.write_zeroes(0, 0, crate::support::front::UNMAP).status,
            ]
        };
        assert_eq!(for_nothing(), [Status::Ok; 5], "{name}");
        let error = DiskState::Error { errno: Errno::EIO, iotypes: IoTypes::ALL };
        set_state(&served, error);
        assert_eq!(for_nothing(), [Status::IoErr; 5], "{name}");
        assert_eq!(served.faults.counts().failed, 5, "{name}");
    }
}
