//! Rings that lie, change under the device's eyes, or lie where they may not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use crate::support::backend::{DISK_BYTES, Served, alone, options};
use crate::support::front::{
    Desc, Front, Layout, Memory, Queue, Region, Status, feature, header, kind,
};
use crate::support::nodes::HoldingNode;
use crate::{Case, HOLE, QUEUE_SIZE, Stage, tell_all};

/// How long a storm lasts.
const STORM: Duration = Duration::from_millis(150);

pub(crate) const CASES: &[Case] = &[
    Case { id: "G-06", story: "a head past the table: the ring is broken", tell: head_past_table },
    Case { id: "G-07", story: "the available index jumps: broken", tell: index_jumps },
    Case { id: "G-08", story: "the available index goes back: broken", tell: index_back },
    Case { id: "G-09", story: "a ring that never runs empty: can be stopped", tell: never_empty },
    Case { id: "G-37", story: "buffers that are the rings themselves", tell: into_rings },
    Case { id: "G-38", story: "a buffer that is the log of requests in flight", tell: into_log },
    Case { id: "G-39", story: "rings that overlap each other", tell: overlapping_rings },
    Case { id: "G-40", story: "everything changes while it is read", tell: flips },
    Case { id: "G-41", story: "a storm of kicks on an idle queue", tell: kick_storm },
    Case { id: "G-42", story: "notification wishes that change at random", tell: wishes },
    Case { id: "G-43", story: "the used ring is scribbled over", tell: scribbled_used },
    Case { id: "G-44", story: "more in flight than a host has memory", tell: deep_flight },
    Case { id: "G-45", story: "a reset with everything in flight", tell: reset_in_flight },
    Case { id: "G-46", story: "the smallest and the largest rings", tell: ring_sizes },
    Case { id: "G-47", story: "event indices wrap: nothing is lost", tell: event_wrap },
];

#[test]
fn every_lying_ring_is_survived() {
    tell_all(CASES);
}

fn head_past_table(stage: &mut Stage) {
    for head in [QUEUE_SIZE, QUEUE_SIZE + 1, 0x8000, u16::MAX] {
        // An honest head before it is served still.
        let chain = [stage.head(kind::IN, 0), stage.room(512), stage.tail()];
        stage.queue.submit_chain(&chain);
        stage.queue.offer(head);
        stage.queue.kick();
        assert_eq!((stage.queue.answer().len, stage.status()), (513, Status::Ok));
        stage.broken();
        assert!(stage.queue.is_alive());
    }
}

fn index_jumps(stage: &mut Stage) {
    for jump in [QUEUE_SIZE + 1, 1000, 0x8000] {
        let index = stage.queue.avail_index().wrapping_add(jump);
        stage.queue.put_avail_index(index);
        stage.queue.kick_always();
        stage.broken();
    }
    assert!(stage.node.memory.asked().is_empty());
}

fn index_back(stage: &mut Stage) {
    for back in [1, QUEUE_SIZE] {
        for _ in 0..3 {
            assert!(stage.queue.is_alive());
        }
        stage.queue.put_avail_index(stage.queue.avail_index().wrapping_sub(back));
        stage.queue.kick_always();
        stage.broken();
    }
}

fn never_empty(stage: &mut Stage) {
    let stop = AtomicBool::new(false);
    let Stage { queue, front, other, .. } = stage;
    scope(|scope| {
        let spinning = scope.spawn(|| {
            queue.prepare_slots(QUEUE_SIZE / 4, 512);
            queue.set_interrupts(false);
            (0..QUEUE_SIZE / 4).for_each(|slot| queue.start(slot, kind::IN, 0, 512));
            let mut served = 0;
            while !stop.load(Ordering::Relaxed) {
                queue.kick();
                // As soon as one is answered, it is offered again.
                while let Some(end) = queue.try_finish() {
                    queue.start(end.slot, kind::IN, 0, 512);
                    served += 1;
                }
            }
            served
        });
        std::thread::sleep(STORM);
        assert!(other.is_alive(), "the other queue is served meanwhile");
        let began = Instant::now();
        front.stop_queue(0);
        assert!(began.elapsed() < Duration::from_secs(3), "stopped in {:?}", began.elapsed());
        stop.store(true, Ordering::Relaxed);
        assert!(spinning.join().unwrap() > 100, "the story happened");
    });
    queue.reset(0);
    front.start_queue(queue, 0);
}

/// Read a sector of zeroes into an address, and see that everybody survives it.
fn read_into(stage: &mut Stage, address: u64) {
    let chain = [stage.head(kind::IN, 0), Desc::writable(address, 512), stage.tail()];
    stage.queue.submit_chain(&chain);
    stage.queue.kick_always();
    let deadline = Instant::now() + Duration::from_secs(5);
    while stage.status() == Status::Unwritten && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(stage.status(), Status::Ok, "the request itself is an honest one");
    stage.queue.kick_always();
    assert!(stage.other.is_alive());
    stage.front.stop_queue(0);
    stage.queue.reset(0);
    stage.queue.broken_within(Duration::ZERO);
    stage.front.start_queue(&stage.queue, 0);
    assert!(stage.queue.is_alive());
}

fn into_rings(stage: &mut Stage) {
    let Layout { table, avail, used } = stage.queue.layout;
    for address in [table, avail, used, avail - 256, used - 256] {
        read_into(stage, address);
    }
}

/// No guest has the log in its memory, unless the front end puts it there.
fn into_log(stage: &mut Stage) {
    const AT: u64 = 1 << 40;
    stage.front.memory.write(stage.data_at, &[0xff; 512]);
    let ones = [stage.head(kind::OUT, 1), stage.data(512), stage.tail()];
    assert_eq!(stage.chain(&ones), (1, Status::Ok));
    stage.front.stop_queue(0);
    stage.front.stop_queue(1);
    let log = stage.front.get_inflight(2, QUEUE_SIZE).expect("a log");
    let pages = log.bytes.next_multiple_of(4096);
    let region = Region::of(log.file.try_clone().expect("descriptor"), AT, pages);
    // The log's own file is sealed: what is shared must end with it.
    assert!(stage.front.add_region(&region).is_err(), "the file has no such page");
    let region = Region::of(log.file.try_clone().expect("descriptor"), AT, log.bytes);
    stage.front.add_region(&region).expect("memory like any other");
    for sector in [0, 1] {
        stage.front.set_inflight(&log).expect("the log comes back");
        stage.queue.reset(0);
        stage.other.reset(0);
        if stage.front.try_start_queue(&stage.queue, 0).is_err() {
            continue;
        }
        stage.front.start_queue(&stage.other, 0);
        for offset in (0..log.bytes).step_by(512) {
            let data = Desc::writable(AT + offset, 512);
            let chain = [stage.head(kind::IN, sector), data, stage.tail()];
            let (_, status) = stage.chain(&chain);
            let inside = offset + 512 <= log.bytes;
            assert_eq!(status, if inside { Status::Ok } else { Status::IoErr }, "at {offset}");
        }
        stage.front.stop_queue(0);
        stage.front.stop_queue(1);
    }
    let fresh = stage.front.get_inflight(2, QUEUE_SIZE).expect("another log");
    stage.front.set_inflight(&fresh).expect("the log comes back");
    for queue in [&mut stage.queue, &mut stage.other] {
        queue.reset(0);
        stage.front.start_queue(queue, 0);
    }
}

fn overlapping_rings(stage: &mut Stage) {
    let Layout { table, avail, used } = stage.queue.layout;
    let layouts = [
        Layout { table, avail, used: avail },
        Layout { table, avail, used: table },
        Layout { table: used, avail, used },
        Layout { table, avail: table, used: table },
        Layout { table, avail, used: (avail + 8).next_multiple_of(4) },
    ];
    for layout in layouts {
        stage.front.stop_queue(0);
        stage.queue.layout = layout;
        stage.queue.reset(0);
        if stage.front.try_start_queue(&stage.queue, 0).is_ok() {
            let chain = [stage.head(kind::IN, 0), stage.room(512), stage.tail()];
            stage.queue.submit_chain(&chain);
            stage.queue.kick_always();
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(stage.other.is_alive(), "{layout:x?}");
    }
    stage.front.stop_queue(0);
    stage.queue.layout = Layout { table, avail, used };
    stage.queue.reset(0);
    stage.queue.broken_within(Duration::ZERO);
    stage.front.start_queue(&stage.queue, 0);
}

/// Change these bytes between two values as fast as possible until told to stop.
fn flip(memory: &Memory, stop: &AtomicBool, at: u64, values: [&[u8]; 2]) {
    while !stop.load(Ordering::Relaxed) {
        memory.write(at, values[0]);
        memory.write(at, values[1]);
    }
}

fn flips(stage: &mut Stage) {
    let good = header(kind::OUT, 8);
    let (far, other_type) = (header(kind::OUT, u64::MAX / 512), header(kind::IN, 1 << 40));
    let desc = Desc::readable(stage.data_at, 512).to_bytes();
    let into_hole = Desc::readable(HOLE - 256, 512).to_bytes();
    let too_long = Desc { len: u32::MAX, ..Desc::writable(stage.data_at, 0) }.to_bytes();
    let zeroes = segment_bytes(8, 8);
    let far_zeroes = segment_bytes(u64::MAX - 8, u32::MAX);
    let table = stage.front.memory.allocate(64, 16);
    let (header_at, data_at) = (stage.header_at, stage.data_at);
    let flipped: [(u64, [&[u8]; 2], u32); 5] = [
        (header_at, [&good, &far], kind::OUT),
        (header_at, [&good, &other_type], kind::OUT),
        (table + 16, [&desc, &into_hole], kind::OUT),
        (table + 16, [&desc, &too_long], kind::OUT),
        (data_at, [&zeroes, &far_zeroes], kind::WRITE_ZEROES),
    ];
    for (at, values, wanted) in flipped {
        let stop = AtomicBool::new(false);
        let memory = stage.front.memory.clone();
        scope(|scope| {
            scope.spawn(|| flip(&memory, &stop, at, values));
            let began = Instant::now();
            let (mut served, mut refused) = (0, 0);
            while began.elapsed() < STORM {
                let head = Desc { flags: 1, next: 1, ..stage.head(wanted, 8) };
                let bytes = if wanted == kind::OUT { 512 } else { 16 };
                let middle = Desc { flags: 1, next: 2, ..stage.data(bytes) };
                let chain = stage.table_at(table, &[head, middle, stage.tail()]);
                match stage.chain(&[chain]).1 {
                    Status::Ok => served += 1,
                    _ => refused += 1,
                }
            }
            stop.store(true, Ordering::Relaxed);
            assert!(served + refused > 10, "the story happened");
        });
    }
    let grown = stage.node.memory.content().len() as u64;
    assert_eq!(grown, DISK_BYTES, "what was asked of the image is checked at the end");
}

fn segment_bytes(sector: u64, sectors: u32) -> [u8; 16] {
    crate::support::front::segment(sector, sectors, 0)
}

fn kick_storm(stage: &mut Stage) {
    let stop = AtomicBool::new(false);
    let Stage { queue, other, .. } = stage;
    scope(|scope| {
        let kicking = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                queue.kick_always();
            }
            queue.notifications.kicks
        });
        let began = Instant::now();
        while began.elapsed() < STORM {
            assert!(other.is_alive());
        }
        stop.store(true, Ordering::Relaxed);
        assert!(kicking.join().unwrap() > 100, "the story happened");
    });
}

fn wishes(stage: &mut Stage) {
    let event_idx = feature::ALL;
    for features in [event_idx, event_idx & !feature::EVENT_IDX] {
        *stage = Stage::with_features(features);
        let queue = &mut stage.queue;
        queue.prepare_slots(16, 512);
        let mut random = 1u16;
        for _ in 0..500 {
            random = random.wrapping_mul(25173).wrapping_add(13849);
            queue.put_used_event(random);
            queue.put_avail_flags(random >> 8);
            (0..16).for_each(|slot| queue.start(slot, kind::IN, 0, 512));
            queue.kick_always();
            let deadline = Instant::now() + Duration::from_secs(5);
            let mut ended = 0;
            while ended < 16 {
                ended += usize::from(queue.try_finish().is_some());
                assert!(Instant::now() < deadline, "{ended} of 16 were answered");
            }
        }
        queue.set_interrupts(true);
    }
}

fn scribbled_used(stage: &mut Stage) {
    let used = stage.queue.layout.used;
    for (flags, index) in [(0u16, 0x1234u16), (1, 0xffff), (0xffff, 0)] {
        let words = [flags.to_le_bytes(), index.to_le_bytes()].concat();
        let before = stage.queue.used_index();
        stage.front.memory.write(used, &words);
        let chain = [stage.head(kind::IN, 0), stage.room(512), stage.tail()];
        stage.queue.submit_chain(&chain);
        stage.queue.kick_always();
        let deadline = Instant::now() + Duration::from_secs(5);
        while stage.queue.used_index_in_memory() != before.wrapping_add(1) {
            assert!(Instant::now() < deadline, "the device goes on by its own count");
        }
        assert_eq!(stage.queue.answer().len, 513);
    }
    // Over a restart the device has nothing but the ring to go by.
    for index in [0u16, 7, 0x8000, 0xffff] {
        let base = stage.front.stop_queue(0);
        stage.front.memory.write(used + 2, &index.to_le_bytes());
        stage.front.start_queue(&stage.queue, base);
        stage.queue.kick_always();
        std::thread::sleep(Duration::from_millis(1));
        assert!(stage.other.is_alive());
        stage.front.renew_queue(&mut stage.queue);
        assert!(stage.queue.is_alive());
    }
}

/// Memory of this process that no file backs, in KiB, without the guest's.
fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn deep_flight(_: &mut Stage) {
    the_deepest_flight_is_told_alone();
}

/// 32 queues with 128 requests of 1 MiB each: 4 GiB of data on its way, none of it copied.
#[test]
fn the_deepest_flight_is_told_alone() {
    if !alone("rings::the_deepest_flight_is_told_alone") {
        return;
    }
    const QUEUES: u16 = 32;
    let node = HoldingNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(QUEUES));
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let mut queues = front.start_queues(QUEUES, QUEUE_SIZE);
    let [header_at, status_at, data_at] =
        [16, 1, 1 << 20].map(|bytes| front.memory.allocate(bytes, 4096));
    front.memory.write(header_at, &header(kind::IN, 0));
    let chain = [
        Desc::readable(header_at, 16),
        Desc::writable(data_at, 1 << 20),
        Desc::writable(status_at, 1),
    ];
    let table: Vec<u8> = (0u16..)
        .zip(chain)
        .map(|(index, desc)| Desc {
            flags: desc.flags | u16::from(index < 2),
            next: index + 1,
            ..desc
        })
        .flat_map(Desc::to_bytes)
        .collect();
    let table_at = front.memory.allocate(64, 16);
    front.memory.write(table_at, &table);
    node.shut();
    let before = anonymous_kib();
    for queue in &mut queues {
        (0..QUEUE_SIZE).for_each(|_| {
            queue.submit_chain(&[Desc::indirect(table_at, 3)]);
        });
        queue.kick();
    }
    node.wait_held(usize::from(QUEUES * QUEUE_SIZE));
    let grown = anonymous_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "4 GiB in flight took {grown} KiB");
    node.open();
    for queue in &mut queues {
        (0..QUEUE_SIZE).for_each(|_| assert_eq!(queue.answer().len, (1 << 20) + 1));
    }
}

fn reset_in_flight(stage: &mut Stage) {
    stage.node.shut();
    for _ in 0..40 {
        let chain = [stage.head(kind::IN, 0), stage.room(512), stage.tail()];
        stage.queue.submit_chain(&chain);
    }
    stage.queue.kick();
    stage.node.wait_held(40);
    stage.front.reset_device().expect("RESET_DEVICE");
    let used = stage.queue.used_index_in_memory();
    stage.node.open();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(stage.queue.used_index_in_memory(), used, "the ring is the guest's again");
    stage.front.accept_features(feature::ALL);
    for queue in [&mut stage.queue, &mut stage.other] {
        queue.reset(0);
        stage.front.start_queue(queue, 0);
    }
}

fn ring_sizes(stage: &mut Stage) {
    for size in [1u16, 2, 1024] {
        stage.front.stop_queue(0);
        let mut queue = Queue::new(&stage.front.memory, 0, size, true);
        stage.front.start_queue(&queue, 0);
        for _ in 0..5 {
            let chain = [stage.head(kind::IN, 0), stage.room(512), stage.tail()];
            let table = stage.linked_table(&chain);
            let head = queue.submit_chain(&[table]);
            queue.kick();
            assert_eq!((queue.wait(head).len, stage.status()), (513, Status::Ok), "size {size}");
        }
    }
    stage.front.stop_queue(0);
    for size in [2048u16, 32_768] {
        let queue = Queue::new(&stage.front.memory, 0, size, true);
        assert!(stage.front.try_start_queue(&queue, 0).is_err(), "size {size} is refused");
    }
    stage.queue.reset(0);
    stage.front.start_queue(&stage.queue, 0);
}

fn event_wrap(stage: &mut Stage) {
    stage.front.stop_queue(0);
    stage.queue.reset(0xff00);
    stage.front.start_queue(&stage.queue, 0xff00);
    stage.queue.prepare_slots(32, 512);
    // Interrupts are on: an answer without a call fails in `finish`.
    for _ in 0..16 {
        (0..32).for_each(|slot| stage.queue.start(slot, kind::IN, 0, 512));
        stage.queue.kick();
        assert!(stage.queue.finish_all().iter().all(|end| end.status == Status::Ok));
        assert!(stage.queue.is_alive());
    }
    assert!(stage.queue.used_index() < 0xff00, "the index has wrapped");
}
