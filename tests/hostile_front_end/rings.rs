//! Rings that are set up wrongly, or disturbed while they run.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::EventfdFlags;

use crate::support::front::{
    Ask, Config, FLAG_NEED_REPLY, Front, Queue, SECTOR, Status, feature, kind,
};
use crate::support::load::Dice;
use crate::{Stage, halves, ready, words};

const SIZE: u16 = 16;

fn with_queue(stage: &Stage) -> (Front, Queue) {
    let mut front = ready(stage);
    let queue = front.start_queues(1, SIZE).remove(0);
    (front, queue)
}

pub(crate) fn features(stage: &Stage) {
    let (front, mut queue) = with_queue(stage);
    for bit in 0..64 {
        let with_one_more = front.accepted | 1 << bit;
        if front.offered & 1 << bit == 0 {
            let told = front.wire.tell(Ask::SetFeatures, &words(&[with_one_more]), &[]);
            assert!(told.is_err(), "bit {bit} was not offered");
        }
    }
    // What a running ring agreed on holds until it starts again.
    for others in [0, feature::VERSION_1, front.accepted & !feature::EVENT_IDX, front.offered] {
        let _ = front.wire.tell(Ask::SetFeatures, &words(&[others]), &[]);
        assert!(queue.is_alive(), "features {others:#x}");
    }
}

pub(crate) fn that_are_not_there(stage: &Stage) {
    let (front, mut queue) = with_queue(stage);
    let ring = |index: u32, value: u32| halves(&[index, value]);
    for index in [2, 255, 256, 65_535, 65_536, u32::MAX] {
        for ask in [Ask::SetVringNum, Ask::SetVringBase, Ask::SetVringEnable] {
            assert!(front.wire.tell(ask, &ring(index, 1), &[]).is_err(), "{ask:?} {index}");
        }
        let user = front.memory.regions()[0].user_address();
        let addresses = [halves(&[index, 0]), words(&[user, user, user, 0])].concat();
        assert!(front.wire.tell(Ask::SetVringAddr, &addresses, &[]).is_err(), "{index}");
    }
    // Descriptors come with an index of one byte.
    for index in [2, 255] {
        for ask in [Ask::SetVringKick, Ask::SetVringCall, Ask::SetVringErr] {
            let told = front.wire.tell(ask, &words(&[index]), &[queue.kick_fd()]);
            assert!(told.is_err(), "{ask:?} {index}");
        }
    }
    for size in [0, 3, 2048, 32_768, 32_769, 0x1_0000, 0x1_0010, u32::MAX] {
        assert!(front.wire.tell(Ask::SetVringNum, &ring(1, size), &[]).is_err(), "{size}");
        assert!(front.wire.tell(Ask::SetVringNum, &ring(0, size), &[]).is_err(), "it runs");
    }
    assert!(front.wire.tell(Ask::SetVringNum, &ring(0, 8), &[]).is_err(), "it runs");
    assert!(queue.is_alive());
    front.wire.send(Ask::GetVringBase as u32, 0, &ring(2, 0), &[]).unwrap();
    assert!(front.wire.closes_within(Duration::from_secs(20)), "it waits for an answer");
}

pub(crate) fn bases(stage: &Stage) {
    let (front, mut queue) = with_queue(stage);
    front.stop_queue(0);
    for base in [0x1_0000, 0x1_0001, u32::MAX] {
        assert!(front.wire.tell(Ask::SetVringBase, &halves(&[0, base]), &[]).is_err(), "{base}");
    }
    // Nothing was offered, so a ring that begins further on is behind itself by almost all of it.
    for base in [1, SIZE, SIZE + 1, 0x8000, 0xffff - SIZE] {
        front.start_queue(&queue, base);
        queue.kick_always();
        assert!(queue.broken_within(Duration::from_secs(20)), "base {base}");
        front.renew_queue(&mut queue);
        assert!(queue.is_alive());
        front.stop_queue(0);
        queue.reset(0);
    }
}

/// Descriptors that take no more, and whose writers wait. The first is an eventfd.
fn full_descriptors_of_all_kinds() -> Vec<(&'static str, OwnedFd, OwnedFd)> {
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    let (out, into) = std::io::pipe().unwrap();
    let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
    let all = vec![
        ("an eventfd", event.try_clone().unwrap(), event),
        ("a pipe", out.into(), into.into()),
        ("a socket", other.into(), one.into()),
    ];
    for (_, _, full) in &all[1..] {
        rustix::io::ioctl_fionbio(full, true).unwrap();
        while rustix::io::write(full, &[0; 4096]).is_ok() {}
        while rustix::io::write(full, &[0]).is_ok() {}
        rustix::io::ioctl_fionbio(full, false).unwrap();
    }
    all
}

pub(crate) fn full_descriptors(stage: &Stage) {
    // Not the same for both: what is done to one would help the other.
    let all = full_descriptors_of_all_kinds().into_iter().zip(full_descriptors_of_all_kinds());
    for (number, ((what, _other_end, call), (_, _another_end, err))) in all.enumerate() {
        let (front, mut queue) = with_queue(stage);
        queue.set_interrupts(false);
        for (ask, full) in [(Ask::SetVringErr, &err), (Ask::SetVringCall, &call)] {
            let told = front.wire.tell(ask, &words(&[0]), &[full.as_fd()]);
            assert_eq!(told.is_ok(), number == 0, "{what}: only eventfds are taken: {told:?}");
        }
        for _ in 0..3 {
            // The driver wants to be called all the same.
            queue.put_used_event(queue.used_index());
            assert!(queue.is_alive(), "{what} to call on");
        }
        // A head that there is not breaks the ring, which is reported.
        queue.offer(SIZE);
        queue.kick_always();
        std::thread::sleep(Duration::from_millis(1));
        let stopped = front.try_stop_queue(0);
        assert!(stopped.is_ok(), "{what} to report on: {stopped:?}");
        queue.reset(0);
        front.start_queue(&queue, 0);
        assert!(queue.is_alive(), "{what}");
        drop((front, queue));
        stage.wait_disconnected();
    }
}

/// Keeps an eventfd full and its writers waiting, whatever is done about it.
fn spoil(event: &OwnedFd, enough: &AtomicBool) {
    while !enough.load(Ordering::SeqCst) {
        rustix::io::ioctl_fionbio(event, true).unwrap();
        let _ = rustix::io::write(event, &(u64::MAX - 1).to_ne_bytes());
        rustix::io::ioctl_fionbio(event, false).unwrap();
    }
}

/// The front end has one thread for nothing but that, which outlives its session.
pub(crate) fn descriptor_that_is_kept_full(stage: &Stage) {
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let enough = AtomicBool::new(false);
    let (front, mut queue) = with_queue(stage);
    queue.set_interrupts(false);
    std::thread::scope(|scope| {
        scope.spawn(|| spoil(&event, &enough));
        // Its worker calls at once, and may wait there for so long that it is not heard of any more.
        let _ = front.wire.tell(Ask::SetVringCall, &words(&[0]), &[event.as_fd()]);
        std::thread::sleep(Duration::from_millis(5));
        drop((front, queue));
        std::thread::sleep(Duration::from_millis(30));
        enough.store(true, Ordering::SeqCst);
    });
    stage.wait_disconnected();
    assert!(with_queue(stage).1.is_alive(), "the next is served");
    stage.wait_disconnected();
}

/// The descriptor is full, and waits again although the back end said that it must not.
pub(crate) fn waiting_descriptor(stage: &Stage) {
    for (ask, (what, _other_end, full)) in [Ask::SetVringCall, Ask::SetVringErr]
        .into_iter()
        .flat_map(|ask| full_descriptors_of_all_kinds().into_iter().map(move |full| (ask, full)))
    {
        let (front, mut queue) = with_queue(stage);
        queue.set_interrupts(false);
        let _ = front.wire.tell(ask, &words(&[0]), &[full.as_fd()]);
        rustix::io::ioctl_fionbio(&full, false).unwrap();
        queue.put_used_event(queue.used_index());
        assert!(queue.is_alive(), "{what}: it is answered before it is called");
        // A head that there is not, of which is told.
        queue.offer(SIZE);
        queue.kick_always();
        std::thread::sleep(Duration::from_millis(1));
        // Its worker may wait in the call. The session ends all the same, and the next is served.
        drop((front, queue));
        stage.wait_disconnected();
        assert!(with_queue(stage).1.is_alive(), "{what}: {ask:?}: the next is served");
        stage.wait_disconnected();
    }
}

/// A guest that reads in batches until it is told to stop; every request is answered well.
fn load(mut queue: Queue, enough: &AtomicBool) -> (Queue, u64) {
    let mut requests = 0;
    queue.prepare_slots(4, SECTOR as u64);
    while requests < 400 || !enough.load(Ordering::SeqCst) {
        (0..4).for_each(|slot| queue.start(slot, kind::OUT, u64::from(slot), SECTOR as u32));
        queue.kick();
        let ends = queue.finish_all();
        assert!(ends.iter().all(|end| end.status == Status::Ok), "{ends:?}");
        requests += ends.len() as u64;
    }
    (queue, requests)
}

/// Disturb a ring so many times while a guest loads it.
fn disturb_under_load(stage: &Stage, mut disturb: impl FnMut(&Front, u32)) {
    let (front, queue) = with_queue(stage);
    let enough = AtomicBool::new(false);
    let (mut queue, _) = std::thread::scope(|scope| {
        let guest = scope.spawn(|| load(queue, &enough));
        (0..200).for_each(|round| disturb(&front, round));
        front.enable_queue(0, true).unwrap();
        enough.store(true, Ordering::SeqCst);
        guest.join().expect("every request was answered")
    });
    assert!(queue.is_alive());
}

pub(crate) fn enable_storm(stage: &Stage) {
    disturb_under_load(stage, |front, round| front.enable_queue(0, round % 2 == 1).unwrap());
}

pub(crate) fn cache(stage: &Stage) {
    let (front, _queue) = with_queue(stage);
    let before = front.read_config(0, Config::BYTES).unwrap();
    for offset in (0..Config::BYTES + 8).filter(|offset| *offset != Config::WRITEBACK_AT) {
        assert!(front.write_config(offset, &[1]).is_err(), "byte {offset} is not the driver's");
    }
    for (offset, bytes) in [
        (Config::WRITEBACK_AT, &[2][..]),
        (Config::WRITEBACK_AT, &[0, 0]),
        (Config::WRITEBACK_AT, &[]),
        (Config::WRITEBACK_AT - 1, &[0, 0]),
        (u32::MAX, &[0]),
        (0, &[0xff; 60]),
    ] {
        assert!(front.write_config(offset, bytes).is_err(), "{bytes:?} at {offset}");
    }
    assert_eq!(front.read_config(0, Config::BYTES).unwrap(), before);
    drop((front, _queue));
    stage.wait_disconnected();
    disturb_under_load(stage, |front, round| {
        front.write_config(Config::WRITEBACK_AT, &[(round % 2) as u8]).unwrap();
    });
}

/// Requests are held when the ring stops, some go on a little later, others are offered while it is
/// stopped; each is answered once and none is lost, however often that happens.
pub(crate) fn stop_and_go(stage: &Stage) {
    const DEPTH: u16 = 32;
    let mut front = ready(stage);
    let mut queue = front.start_queues(1, 128).remove(0);
    queue.prepare_slots(DEPTH, SECTOR as u64);
    let mut dice = Dice::new(24);
    for _ in 0..20 {
        stage.node.shut();
        let before = 1 + dice.below(DEPTH.into()) as u16;
        (0..before).for_each(|slot| queue.start(slot, kind::IN, slot.into(), SECTOR as u32));
        queue.kick();
        stage.node.wait_held(before.into());
        let base = std::thread::scope(|scope| {
            scope.spawn(|| {
                while stage.node.held() > 0 {
                    stage.node.let_go(0);
                    std::thread::yield_now();
                }
                stage.node.open();
            });
            front.stop_queue(0)
        });
        assert_eq!((base, queue.used_index_in_memory()), (queue.avail_index(), base));
        let meanwhile = DEPTH - before;
        (before..DEPTH).for_each(|slot| queue.start(slot, kind::OUT, slot.into(), 0));
        queue.kick_always();
        front.restart_queue(&mut queue, base);
        let mut ends = queue.finish_all();
        ends.sort_by_key(|end| end.slot);
        let slots: Vec<u16> = ends.iter().map(|end| end.slot).collect();
        assert_eq!(slots, (0..DEPTH).collect::<Vec<_>>(), "{before} before, {meanwhile} meanwhile");
        assert!(ends.iter().all(|end| end.status == Status::Ok), "{ends:?}");
        stage.forget();
    }
}

pub(crate) fn stop_twice(stage: &Stage) {
    let (front, mut queue) = with_queue(stage);
    assert!(queue.is_alive());
    assert_eq!([front.stop_queue(0), front.stop_queue(0)], [1, 1]);
    assert_eq!([front.stop_queue(1), front.stop_queue(1)], [0, 0], "it was never started");
    front.restart_queue(&mut queue, 1);
    assert!(queue.is_alive());
}

pub(crate) fn reset(stage: &Stage) {
    const RESET_OWNER: u32 = 4;
    const RESET_DEVICE: u32 = Ask::ResetDevice as u32;
    for request in [RESET_DEVICE, RESET_OWNER] {
        let (mut front, mut queue) = with_queue(stage);
        queue.prepare_slots(4, SECTOR as u64);
        stage.node.shut();
        (0..4).for_each(|slot| queue.start(slot, kind::IN, 0, SECTOR as u32));
        queue.kick();
        stage.node.wait_held(4);
        let used = std::thread::scope(|scope| {
            scope.spawn(|| {
                // Before the reset, or in the middle of it.
                std::thread::sleep(Duration::from_millis(1));
                stage.node.open();
            });
            front.wire.send(request, FLAG_NEED_REPLY, &[], &[]).unwrap();
            let answer = front.wire.receive(Duration::from_secs(20)).unwrap();
            assert_eq!(answer.body, [0; 8], "{request}");
            queue.used_index_in_memory()
        });
        assert_eq!(queue.used_index_in_memory(), used, "a ring that was reset is not written");
        queue.reset(0);
        front.accept_features(feature::ALL);
        front.start_queue(&queue, 0);
        assert!(queue.is_alive());
        drop((front, queue));
        stage.wait_disconnected();
    }
}
