//! Rings that stop and start with requests on their way.

use std::time::{Duration, Instant};

use blkfault::block::NullImage;
use blkfault::export::DiskOptions;
use blkfault::fault::manual::DiskState;
use blkfault::fault::{IoType, IoTypes};

use crate::support::backend::{Backend, DISK_BYTES, Served, eventually, options};
use crate::support::front::{Ask, Desc, Front, NEXT, SECTOR, Status, feature, header, kind};
use crate::support::nodes::{HoldingNode, MemoryNode};
use crate::{enter, front_with_queue, pattern};

/// An answer is promised within a second, which QEMU's main loop can stand. Tests run beside others, on
/// few processors: this is more, and less than rings take that are waited for one after the other.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn a_stopping_ring_answers_what_it_took_and_goes_on_where_it_was() {
    let node = HoldingNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    queue.prepare_slots(32, 4096);
    for round in 0..20u16 {
        node.shut();
        for slot in 0..32 {
            queue.start(slot, kind::IN, u64::from(slot) * 8, 4096);
        }
        queue.kick();
        node.wait_held(32);
        let late = node.clone();
        let opener = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            late.open();
        });
        let base = front.stop_queue(0);
        assert_eq!(base, 32 * (round + 1), "the base counts what was taken");
        assert_eq!(queue.used_index_in_memory(), base, "all of it is answered by now");
        opener.join().unwrap();
        assert!(queue.finish_all().iter().all(|end| end.status == Status::Ok));
        front.restart_queue(&mut queue, base);
        assert!(queue.is_alive());
        front.stop_queue(0);
        queue.reset(32 * (round + 1));
        front.start_queue(&queue, 32 * (round + 1));
    }
}

#[test]
fn what_was_not_taken_when_a_ring_stopped_is_taken_when_it_starts() {
    for (name, backend) in Backend::all(1) {
        let (front, mut queue) = front_with_queue(backend.socket());
        assert!(queue.is_alive());
        let base = front.stop_queue(0);
        queue.prepare_slots(8, 512);
        (0..8).for_each(|slot| queue.start(slot, kind::IN, 0, 512));
        queue.kick_always();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(queue.used_index_in_memory(), base, "{name}: a stopped ring is left alone");
        front.restart_queue(&mut queue, base);
        assert!(queue.finish_all().iter().all(|end| end.status == Status::Ok), "{name}");
    }
}

#[test]
fn a_request_that_never_ends_does_not_keep_a_ring_from_stopping() {
    let node = HoldingNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(2));
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let mut queues = front.start_queues(2, 16);
    queues[0].prepare_slots(4, 512);
    node.shut();
    queues[0].start(0, kind::FLUSH, 0, 0);
    (1..4).for_each(|slot| queues[0].start(slot, kind::OUT, 8 * u64::from(slot), 512));
    queues[0].kick();
    node.wait_held(4);
    node.let_go(1);
    let first = queues[0].finish();
    assert_eq!((first.slot, first.status), (1, Status::Ok));

    let began = Instant::now();
    let base = front.stop_queue(0);
    assert!(began.elapsed() < SOON, "GET_VRING_BASE took {:?}", began.elapsed());
    assert_eq!((base, queues[0].used_index_in_memory()), (4, 4), "all of it is answered by now");

    // Its end comes when the ring belongs to the guest again: nobody may hear of it.
    let rings = queues[0].layout;
    let before = front.memory.read(rings.used, 6 + 8 * 16);
    let mut ends = queues[0].finish_all();
    ends.sort_by_key(|end| end.slot);
    let ends: Vec<_> = ends.iter().map(|end| (end.slot, end.status, end.len)).collect();
    assert_eq!(ends, [0, 2, 3].map(|slot| (slot, Status::IoErr, 1)), "each once, with an error");
    queues[0].was_called();
    node.open();
    std::thread::sleep(Duration::from_millis(50));
    assert!(front.memory.read(rings.used, 6 + 8 * 16) == before, "the used ring was written");
    assert!(!queues[0].was_called(), "the driver was called");

    assert!(queues[1].is_alive(), "the other queue never noticed");
    front.restart_queue(&mut queues[0], base);
    assert!(queues[0].is_alive(), "and the guest goes on where it was");
    assert_eq!(served.disk().stats.of(IoType::Write).failed, 2);
}

#[test]
fn a_slow_read_is_waited_for_and_one_that_never_ends_is_failed() {
    let node = HoldingNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    assert_eq!(queue.write(0, &[7; SECTOR]).status, Status::Ok);
    queue.prepare_slots(2, 512);
    node.shut();
    (0..2).for_each(|slot| queue.start(slot, kind::IN, 0, 512));
    queue.kick();
    node.wait_held(2);
    let slow = node.clone();
    let opener = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1500));
        slow.let_go(0);
    });
    let began = Instant::now();
    let base = front.stop_queue(0);
    assert!(began.elapsed() < 3 * SOON, "GET_VRING_BASE took {:?}", began.elapsed());
    opener.join().unwrap();
    assert_eq!((base, queue.used_index_in_memory()), (3, 3));
    let ends = queue.finish_all();
    assert_eq!((ends[0].slot, ends[0].status), (0, Status::Ok), "its memory is its own until then");
    assert_eq!((ends[1].slot, ends[1].status), (1, Status::IoErr));
    let mut data = [0; SECTOR];
    queue.slot_into(0, &mut data);
    assert_eq!(data, [7; SECTOR]);
    node.open();
    front.restart_queue(&mut queue, base);
    assert!(queue.is_alive());
}

#[test]
fn rings_that_are_stuck_one_like_the_other_stop_in_the_time_of_one() {
    let node = HoldingNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(4));
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let mut queues = front.start_queues(4, 16);
    node.shut();
    for queue in &mut queues {
        queue.prepare_slots(2, 512);
        (0..2).for_each(|slot| queue.start(slot, kind::OUT, 0, 512));
        queue.kick();
    }
    node.wait_held(8);
    let began = Instant::now();
    let bases: Vec<u16> = (0..4).map(|index| front.stop_queue(index)).collect();
    assert!(began.elapsed() < SOON, "four rings took {:?}", began.elapsed());
    assert_eq!(bases, [2; 4]);
    node.open();
    for (queue, base) in queues.iter_mut().zip(bases) {
        assert!(queue.finish_all().iter().all(|end| end.status == Status::IoErr));
        front.restart_queue(queue, base);
        assert!(queue.is_alive());
    }
    // The image is well again, and so a slow one is waited for again.
    node.shut();
    queues[0].start(0, kind::FLUSH, 0, 0);
    queues[0].kick();
    node.wait_held(1);
    let late = node.clone();
    let opener = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        late.open();
    });
    front.stop_queue(0);
    opener.join().unwrap();
    assert_eq!(queues[0].finish().status, Status::Ok);
}

#[test]
fn several_stuck_rings_end_with_their_session_at_once() {
    let node = HoldingNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(4));
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let mut queues = front.start_queues(4, 16);
    node.shut();
    for queue in &mut queues {
        queue.prepare_slots(1, 512);
        queue.start(0, kind::IN, 0, 512);
        queue.kick();
    }
    node.wait_held(4);
    let began = Instant::now();
    front.reset_device().expect("RESET_DEVICE");
    assert!(began.elapsed() < SOON, "RESET_DEVICE took {:?}", began.elapsed());
    drop(front);
    served.wait_disconnected();
    node.open();
    let (_front, mut queue) = front_with_queue(&served.socket);
    assert!(queue.is_alive(), "the next front end is served");
}

#[test]
fn a_disabled_ring_leaves_requests_where_they_are() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    queue.prepare_slots(4, 512);
    for _ in 0..50 {
        front.enable_queue(0, false).expect("disable");
        let before = queue.used_index_in_memory();
        (0..4).for_each(|slot| queue.start(slot, kind::IN, 0, 512));
        queue.kick_always();
        std::thread::sleep(Duration::from_micros(500));
        assert_eq!(queue.used_index_in_memory(), before);
        front.enable_queue(0, true).expect("enable");
        assert_eq!(queue.finish_all().len(), 4);
    }
}

#[test]
fn enabling_and_disabling_under_load_loses_nothing() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    let worker = std::thread::spawn(move || {
        queue.prepare_slots(16, 512);
        for _ in 0..500 {
            (0..16).for_each(|slot| queue.start(slot, kind::IN, 0, 512));
            queue.kick();
            assert_eq!(queue.finish_all().len(), 16);
        }
        queue
    });
    let mut storms = 0;
    while !worker.is_finished() {
        front.enable_queue(0, storms % 2 == 1).expect("enable");
        storms += 1;
        if storms == 20_000 {
            break;
        }
    }
    front.enable_queue(0, true).expect("enable");
    worker.join().expect("every request was answered");
    assert!(storms > 10, "the story happened");
}

#[test]
fn a_stopped_ring_stops_again_and_says_the_same() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(2));
    let (front, mut queue) = front_with_queue(&served.socket);
    assert!(queue.is_alive());
    assert_eq!([front.stop_queue(0), front.stop_queue(0)], [1, 1]);
    assert_eq!(front.stop_queue(1), 0, "a ring that was never started");
}

#[test]
fn the_next_session_starts_with_rings_of_its_own() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(2));
    let mut front = Front::connect(&served.socket);
    // Firmware: one queue, few features. The VMM enables all queues nevertheless.
    front.negotiate(feature::VERSION_1 | feature::FLUSH | feature::BLK_SIZE);
    let mut firmware = front.start_queues(1, 128).remove(0);
    front.enable_queue(1, true).expect("enable a queue that was never set up");
    assert_eq!(firmware.write(0, &pattern(1, SECTOR)).status, Status::Ok);
    let base = front.stop_queue(0);
    assert_ne!(base, 0);
    front.enable_queue(0, false).expect("disable");
    front.enable_queue(1, false).expect("disable");
    // Kernel: both queues, all features, rings elsewhere.
    front.accept_features(feature::ALL);
    let mut queues = front.start_queues(2, 64);
    for queue in &mut queues {
        assert_eq!(queue.read(0, SECTOR).data, pattern(1, SECTOR));
    }
}

#[test]
fn a_reset_device_forgets_its_rings_and_nothing_else() {
    let node = HoldingNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    let (mut front, mut queue) = front_with_queue(&served.socket);
    queue.write(0, &[7; SECTOR]);
    queue.prepare_slots(8, 512);
    node.shut();
    (0..8).for_each(|slot| queue.start(slot, kind::IN, 0, 512));
    queue.kick();
    node.wait_held(8);
    let late = node.clone();
    let opener = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        late.open();
    });
    let used = queue.used_index_in_memory();
    front.reset_device().expect("RESET_DEVICE");
    opener.join().unwrap();
    assert_eq!(queue.used_index_in_memory(), used, "a reset ring is not written");
    queue.reset(0);
    front.accept_features(feature::ALL);
    front.start_queue(&queue, 0);
    assert_eq!(queue.read(0, SECTOR).data, [7; SECTOR]);
}

#[test]
fn a_ring_that_was_never_set_up_is_refused_and_the_session_goes_on() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    let other = crate::support::front::Queue::new(&front.memory, 1, 16, true);
    assert!(front.try_start_queue(&other, 0).is_err(), "queue 1 of 1");
    let vring = |index: u32, num: u32| [index.to_ne_bytes(), num.to_ne_bytes()].concat();
    for num in [0, 3, 2048, 32_768, 0x1_0000, 0x1_0080] {
        assert!(front.wire.tell(Ask::SetVringNum, &vring(0, num), &[]).is_err(), "size {num}");
    }
    assert!(front.wire.tell(Ask::SetVringBase, &vring(0, 0x1_0000), &[]).is_err());
    assert!(front.enable_queue(1, true).is_err());
    assert!(queue.is_alive(), "refusals change nothing");
    eventually("one front end", || served.disk().is_connected());
}

#[test]
fn a_ring_whose_memory_goes_and_comes_back_loses_nothing() {
    let node = HoldingNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    queue.prepare_slots(6, 512);
    for _ in 0..3 {
        node.shut();
        (0..4).for_each(|slot| queue.start(slot, kind::IN, 8 * u64::from(slot), 512));
        queue.kick();
        node.wait_held(4);
        // As QEMU does when a region changes its size.
        let region = front.memory.regions()[0].clone();
        front.remove_region(&region).expect("REM_MEM_REG");
        assert!(queue.broken_within(SOON), "the driver may know that its ring is not served");
        node.open();
        (4..6).for_each(|slot| queue.start(slot, kind::OUT, 8 * u64::from(slot), 512));
        queue.kick_always();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(queue.used_index_in_memory(), queue.used_index(), "there is nowhere to answer");
        front.add_region(&region).expect("ADD_MEM_REG");
        let ends = queue.finish_all();
        assert_eq!(ends.len(), 6);
        assert!(ends.iter().all(|end| end.status == Status::Ok), "{ends:?}");
    }
    assert!(queue.is_alive());
}

#[test]
fn a_ring_that_stops_before_it_was_enabled_answers_what_it_took_up() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let mut front = Front::connect(&served.socket);
    let region = front.get_inflight(1, 16).unwrap();
    front.set_inflight(&region).unwrap();
    front.negotiate(feature::ALL);
    let mut queue = front.start_queues(1, 16).remove(0);
    enter(&served, DiskState::Hang { iotypes: IoTypes::ALL, on_release: None });
    queue.prepare_slots(2, SECTOR as u64);
    (0..2).for_each(|slot| queue.start(slot, kind::IN, 0, SECTOR as u32));
    queue.kick();
    eventually("both are held", || served.faults.held().len() == 2);
    let (memory, features) = (front.memory.clone(), front.accepted);
    drop(front);
    served.wait_disconnected();

    let next = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let front = Front::resume(&next.socket, &memory, features, Some(&region), &[]).unwrap();
    front.start_queue_disabled(&queue, 0).unwrap();
    assert_eq!((front.stop_queue(0), queue.used_index_in_memory()), (2, 2));
    assert!(queue.finish_all().iter().all(|end| end.status == Status::Ok));
}

/// Threads of this process with this name.
fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|comm| comm.trim() == name).count()
}

#[test]
fn a_ring_stops_between_requests_of_an_image_that_does_all_at_once() {
    const REQUESTS: u16 = 100;
    const PIECES: u16 = 16;
    const PIECE_BYTES: u32 = 8 << 20;
    let huge = DiskOptions { id: "huge".to_owned(), ..options(1) };
    let served = Served::over(NullImage::new(1 << 40), huge);
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let mut queue = front.start_queues(1, 128).remove(0);
    let memory = front.memory.clone();
    let [head, status] = [16, 1].map(|bytes| memory.allocate(bytes, 16));
    let (table, data) = (memory.allocate(16 * 64, 16), memory.allocate(PIECE_BYTES.into(), 4096));
    memory.write(head, &header(kind::IN, 0));
    let mut chain = vec![Desc::readable(head, 16)];
    chain.extend((0..PIECES).map(|_| Desc::writable(data, PIECE_BYTES)));
    chain.push(Desc::writable(status, 1));
    for (index, desc) in (0..PIECES + 1).zip(&mut chain) {
        (desc.flags, desc.next) = (desc.flags | NEXT, index + 1);
    }
    let bytes: Vec<u8> = chain.iter().flat_map(|desc| desc.to_bytes()).collect();
    memory.write(table, &bytes);
    (0..REQUESTS).for_each(|_| {
        queue.submit_chain(&[Desc::indirect(table, chain.len())]);
    });
    queue.kick();
    queue.answer();

    let base = front.stop_queue(0);
    assert!(base < REQUESTS, "it stopped in the middle of them: {base}");
    assert_eq!(queue.used_index_in_memory(), base, "what was taken is answered");
    memory.write(data, &[0xaa; SECTOR]);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(memory.read(data, SECTOR), [0xaa; SECTOR], "the memory is the guest's again");

    front.restart_queue(&mut queue, base);
    (1..base + 1).for_each(|_| {
        queue.answer();
    });
    drop((front, queue));
    served.wait_disconnected();
    eventually("a session that ends in the middle leaves no thread", || {
        threads_named("huge/0") == 0
    });
}
