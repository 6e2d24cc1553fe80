//! Connections: how they begin, what they carry, how they end.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blkfault::block::{FaultFilter, FaultPoint, Node};
use blkfault::export::{Disk, Door, Export};

use crate::support::backend::{
    Backend, DISK_BYTES, Holdings, Seen, Served, alone, eventually, options,
};
use crate::support::front::{
    Ask, Front, ONE_REGION, Refusal, Region, SECTOR, Sharing, Status, Wire, feature, header, kind,
    protocol,
};
use crate::support::front::{Cut, Desc, Queue};
use crate::support::nodes::{HoldingNode, MemoryNode};
use crate::{front_with_queue, pattern};

#[test]
fn a_thousand_sessions_leave_nothing_behind() {
    if !alone("session::a_thousand_sessions_leave_nothing_behind") {
        return;
    }
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(2));
    let session = || {
        let mut front = Front::connect(&served.socket);
        front.negotiate(feature::ALL);
        let mut queues = front.start_queues(2, 16);
        assert!(queues[0].is_alive());
        queues[1].prepare_slots(4, 512);
        (0..4).for_each(|slot| queues[1].start(slot, kind::IN, 0, 512));
        queues[1].kick();
        drop((front, queues));
        served.wait_disconnected();
    };
    (0..3).for_each(|_| session());
    let before = Holdings::now();
    assert_eq!(before.guest_mappings, 0, "a front end that went is not mapped");
    (0..1000).for_each(|_| session());
    assert_eq!(Holdings::now(), before);
    let seen = &served.seen;
    assert_eq!(seen.connected.load(Ordering::SeqCst), 1003);
    assert_eq!(seen.disconnected.load(Ordering::SeqCst), 1003);
}

#[test]
fn a_session_that_ends_with_requests_on_their_way_leaves_nothing_behind() {
    if !alone("session::a_session_that_ends_with_requests_on_their_way_leaves_nothing_behind") {
        return;
    }
    let node = HoldingNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    front_with_queue(&served.socket);
    served.wait_disconnected();
    let before = Holdings::now();
    for _ in 0..3 {
        let (front, mut queue) = front_with_queue(&served.socket);
        node.shut();
        queue.prepare_slots(8, 512);
        (0..8).for_each(|slot| queue.start(slot, kind::IN, 0, 512));
        queue.kick();
        node.wait_held(8);
        drop((front, queue));
        served.wait_disconnected();
        assert_eq!(node.held(), 8, "the image still has them, and the memory they read into");
        node.open();
        eventually("what they held is given back", || Holdings::now() == before);
    }
}

#[test]
fn a_second_front_end_is_refused_and_the_first_does_not_notice() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (_front, mut queue) = front_with_queue(&served.socket);
    for _ in 0..10 {
        let second = Front::try_connect(&served.socket, ONE_REGION);
        assert!(matches!(second, Err(Refusal::Closed)), "{second:?}");
        assert!(queue.is_alive());
    }
    assert_eq!(served.seen.connected.load(Ordering::SeqCst), 1);
}

#[test]
fn the_next_front_end_waits_for_the_first_ones_last_copy_of_its_socket() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let is_served_beside_a_copy = || {
        let socket = UnixStream::connect(&served.socket).unwrap();
        // As a child of the front end has between its fork and its execution.
        let copy = socket.try_clone().unwrap();
        let first = Wire::over(socket);
        first.ask_u64(Ask::GetFeatures).unwrap();
        drop(first);
        let child = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(copy);
        });
        let next = Front::try_connect(&served.socket, ONE_REGION);
        child.join().unwrap();
        next.is_ok()
    };
    // On a busy machine the copy may outlast what the back end waits.
    assert!((0..20).any(|_| is_served_beside_a_copy()));
}

#[test]
fn what_a_front_end_that_has_gone_said_last_keeps_the_next_one_waiting_but_not_out() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    for _ in 0..20 {
        let first = Wire::connect(&served.socket).unwrap();
        first.ask_u64(Ask::GetFeatures).unwrap();
        for _ in 0..100 {
            first.tell(Ask::SetOwner, &[], &[]).unwrap();
        }
        drop(first);
        Front::connect(&served.socket);
    }
}

#[test]
fn a_front_end_may_be_handed_over_as_a_connection() {
    let (ours, theirs) = UnixStream::pair().expect("socket pair");
    let disk = Arc::new(Disk::new(
        options(1),
        Arc::new(FaultFilter::new(
            Arc::new(MemoryNode::new(DISK_BYTES)),
            Arc::new(FaultPoint::default()),
        )),
        Arc::new(Seen::default()),
    ));
    let export = Export::start(disk, Door::Connected(theirs)).expect("serve");
    let mut front = Front::over(Wire::over(ours), ONE_REGION).expect("a front end");
    front.negotiate(feature::ALL);
    assert!(front.start_queues(1, 16)[0].is_alive());
    assert!(export.is_serving());
    drop(front);
    eventually("the only front end has gone", || !export.is_serving());
}

#[test]
fn stopping_an_export_disconnects_its_front_end() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    assert!(queue.is_alive());
    let Served { export, seen, .. } = served;
    export.stop().unwrap();
    assert_eq!(seen.disconnected.load(Ordering::SeqCst), 1);
    assert!(front.wire.closes_within(Duration::from_secs(5)));
}

#[test]
fn a_resize_is_announced_and_served() {
    let node = MemoryNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    let sectors = DISK_BYTES / 512;
    assert_eq!(queue.read(sectors, SECTOR).status, Status::IoErr);
    assert!(!front.config_changed_within(Duration::from_millis(10)));
    node.resize(2 * DISK_BYTES).expect("grow");
    served.export.announce_resize();
    assert!(front.config_changed_within(Duration::from_secs(5)), "the front end is told");
    assert_eq!(front.config().capacity, 2 * sectors);
    assert_eq!(queue.read(sectors, SECTOR).status, Status::Ok);
    node.resize(DISK_BYTES / 2).expect("shrink");
    served.export.announce_resize();
    assert!(front.config_changed_within(Duration::from_secs(5)));
    assert_eq!(queue.read(sectors / 2, SECTOR).status, Status::IoErr);
}

#[test]
fn a_front_end_that_does_not_read_announcements_holds_nothing_up() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    // Far more than a socket's buffer takes.
    for _ in 0..20_000 {
        served.export.announce_resize();
    }
    assert!(queue.is_alive());
    assert_eq!(front.config().capacity, DISK_BYTES / 512, "messages are still answered");
}

#[test]
fn memory_is_shared_as_a_table_or_by_slots() {
    for (name, backend) in Backend::all(1) {
        for sharing in [Sharing::Table, Sharing::Slots] {
            let layout = [(0, 64 << 20), (64 << 20, 1 << 20), (4 << 30, 1 << 20)];
            let mut front = Front::with_memory(backend.socket(), &layout);
            front.accept_features(feature::ALL);
            front.share_memory(sharing);
            let mut queue = front.start_queues(1, 16).remove(0);
            let data = pattern(9, 2 * SECTOR);
            assert_eq!(queue.write(0, &data).status, Status::Ok, "{name}");
            // A buffer over the border of two regions, another far away.
            for address in [(64 << 20) - 512, 4 << 30] {
                let out = front.memory.allocate(32, 16);
                front.memory.write(out, &header(kind::IN, 0));
                queue.submit_chain(&[
                    Desc::readable(out, 16),
                    Desc::writable(address, 1024),
                    Desc::writable(out + 16, 1),
                ]);
                queue.kick();
                assert_eq!(queue.answer().len, 1025, "{name}");
                assert!(front.memory.read(address, 1024) == data, "{name} {sharing:?}");
            }
            if let Backend::InProcess(served) = &backend {
                drop((front, queue));
                served.wait_disconnected();
            }
        }
    }
}

#[test]
fn memory_may_come_and_go_under_running_requests() {
    let node = HoldingNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    let spare = Region::new(8 << 30, 2 << 20);
    for _ in 0..50 {
        front.add_region(&spare).expect("ADD_MEM_REG");
        node.shut();
        let out = front.memory.allocate(32, 16);
        front.memory.write(out, &header(kind::IN, 0));
        queue.submit_chain(&[
            Desc::readable(out, 16),
            Desc::writable(8 << 30, 4096),
            Desc::writable(out + 16, 1),
        ]);
        queue.kick();
        node.wait_held(1);
        spare.write(8 << 30, &[0xff; 4096]);
        front.remove_region(&spare).expect("REM_MEM_REG");
        node.open();
        assert_eq!(queue.answer().len, 4097);
        let mut data = [0xff; 4096];
        spare.read(8 << 30, &mut data);
        assert_eq!(data, [0; 4096], "the request kept the memory that it began with");
        front.share_memory(Sharing::Table);
        assert!(queue.is_alive());
    }
    assert!(front.remove_region(&spare).is_err(), "a region that is not there");
}

#[test]
fn a_ring_whose_memory_goes_is_broken_until_it_starts_again() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    assert!(queue.is_alive());
    let region = front.memory.regions()[0].clone();
    front.remove_region(&region).expect("REM_MEM_REG");
    assert!(queue.broken_within(Duration::from_secs(5)), "the front end is told");
    front.add_region(&region).expect("ADD_MEM_REG");
    front.renew_queue(&mut queue);
    assert!(queue.is_alive());
}

#[test]
fn the_features_offered_are_kept() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let front = Front::connect(&served.socket);
    let logs = front.offered & feature::LOG_ALL != 0;
    assert_eq!(
        logs,
        front.protocol_offered & protocol::LOG_SHMFD != 0,
        "a log needs its descriptor"
    );
    let unoffered = !front.offered & feature::ALL | 1 << 40;
    assert!(front.wire.tell(Ask::SetFeatures, &unoffered.to_ne_bytes(), &[]).is_err());
    assert_eq!(front.protocol_offered & protocol::KNOWN, protocol::KNOWN);
}

#[test]
fn messages_twice_or_out_of_turn_do_no_harm() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    let _ = front.wire.tell(Ask::SetOwner, &[], &[]);
    front.accept_again();
    front.share_memory(Sharing::Table);
    front.share_memory(Sharing::Table);
    let vring = [0u32.to_ne_bytes(), 64u32.to_ne_bytes()].concat();
    assert!(front.wire.tell(Ask::SetVringNum, &vring, &[]).is_err(), "the ring runs");
    assert!(front.wire.tell(Ask::SetVringBase, &vring, &[]).is_err(), "the ring runs");
    assert!(queue.is_alive());
    // The same call descriptor again, another one, then none at all.
    let index = 0u64.to_ne_bytes();
    let other = Queue::new(&front.memory, 0, 16, true);
    for fd in [queue.call_fd(), other.call_fd(), queue.call_fd()] {
        front.wire.tell(Ask::SetVringCall, &index, &[fd]).expect("SET_VRING_CALL");
    }
    assert!(queue.was_called(), "a new call descriptor tells at once what was missed");
    assert!(queue.is_alive());
    // A kick descriptor on a running ring starts it anew where it was.
    front.wire.tell(Ask::SetVringKick, &index, &[queue.kick_fd()]).expect("SET_VRING_KICK");
    assert!(queue.is_alive());
    front.wire.tell(Ask::SetVringErr, &index, &[other.err_fd()]).expect("SET_VRING_ERR");
    let no_fd = 0x100u64.to_ne_bytes();
    front.wire.tell(Ask::SetVringCall, &no_fd, &[]).expect("no call descriptor");
    queue.set_interrupts(false);
    assert!(queue.is_alive(), "a driver may poll");
}

#[test]
fn a_call_descriptor_that_is_full_stops_nobody() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    let flags = rustix::event::EventfdFlags::CLOEXEC;
    let full = rustix::event::eventfd(0, flags).expect("eventfd");
    rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).expect("fill it");
    let index = 0u64.to_ne_bytes();
    front.wire.tell(Ask::SetVringCall, &index, &[full.as_fd()]).expect("SET_VRING_CALL");
    queue.set_interrupts(false);
    for _ in 0..100 {
        assert!(queue.is_alive());
    }
    let began = std::time::Instant::now();
    front.stop_queue(0);
    assert!(began.elapsed() < Duration::from_secs(3), "nobody is stuck in a write");
}

#[test]
fn an_old_front_end_without_protocol_features_is_served() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let wire = Wire::connect(&served.socket).expect("connect");
    let mut front = Front::over(wire, ONE_REGION).expect("a front end");
    // Without the bit, rings are enabled when they start and SET_VRING_ENABLE is not known.
    front.accept_exactly(feature::VERSION_1 | feature::FLUSH);
    front.share_memory(Sharing::Table);
    let mut queue = Queue::new(&front.memory, 0, 16, false);
    front.start_queue_disabled(&queue, 0).expect("start");
    assert!(queue.is_alive());
    let read = queue.submit_cut(&header(kind::IN, 0), 513, Cut::NONE);
    queue.kick();
    assert_eq!(queue.wait(read.head).len, 513);
}
