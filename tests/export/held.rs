//! Requests that a fault holds or delays, and what may happen to their ring meanwhile.

use std::time::{Duration, Instant};

use blkfault::block::{Resume, Which};
use blkfault::fault::IoTypes;
use blkfault::fault::engine::{Change, Place};
use blkfault::fault::manual::DiskState;
use blkfault::fault::rule::{Effect, Point, Rule, RuleName, Trigger};
use blkfault::fault::slow::Distribution;

use crate::support::backend::{
    DISK_BYTES, Holdings, Served, alone, eventually, options, resident_bytes,
};
use crate::support::front::{Front, Queue, SECTOR, Status, feature, kind};
use crate::support::nodes::MemoryNode;
use crate::{configure, enter, front_with_queue};

/// An answer is promised within a second, which QEMU's main loop can stand; tests run beside others.
const SOON: Duration = Duration::from_secs(3);

fn hang() -> DiskState {
    DiskState::Hang { iotypes: IoTypes::ALL, on_release: None }
}

fn rule(name: &str, effect: Effect) -> Change {
    let name = RuleName::new(name).unwrap();
    let rule = Rule::new(name, Trigger::default(), effect, false).unwrap();
    Change::AddRule { rule: Box::new(rule), place: Place::Last }
}

fn delay(delay_ns: u64) -> Effect {
    Effect::Delay { delay: Distribution::Fixed { delay_ns }, then: None }
}

/// Start reads in all of these slots and wait until the disk has taken them.
fn start_reads(served: &Served, queue: &mut Queue, count: u16) {
    let before = served.faults.depth();
    queue.prepare_slots(count, SECTOR as u64);
    (0..count).for_each(|slot| queue.start(slot, kind::IN, u64::from(slot) * 8, SECTOR as u32));
    queue.kick();
    eventually("all are taken", || served.faults.depth() == before + u32::from(count));
}

#[test]
fn a_ring_that_stops_while_its_disk_hangs_fails_what_it_holds() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(2));
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let mut queues = front.start_queues(2, 128);
    enter(&served, hang());
    for queue in &mut queues {
        start_reads(&served, queue, 32);
    }
    let began = Instant::now();
    let base = front.stop_queue(0);
    assert!(began.elapsed() < SOON, "GET_VRING_BASE took {:?}", began.elapsed());
    assert_eq!((base, queues[0].used_index_in_memory()), (32, 32));
    assert!(queues[0].finish_all().iter().all(|end| end.status == Status::IoErr));
    assert_eq!(served.faults.held().len(), 32, "the other ring's are held on");
    assert!(served.faults.held().iter().all(|held| held.queue == 1));

    front.restart_queue(&mut queues[0], base);
    (0..32).for_each(|slot| queues[0].start(slot, kind::IN, 0, SECTOR as u32));
    queues[0].kick();
    eventually("a ring that runs again holds again", || served.faults.held().len() == 64);
    enter(&served, DiskState::None);
    for queue in &mut queues {
        assert!(queue.finish_all().iter().all(|end| end.status == Status::Ok));
        assert!(queue.is_alive());
    }
}

#[test]
fn a_ring_that_stops_does_not_wait_for_delays() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    configure(&served, rule("slow", delay(3_600_000_000_000)));
    start_reads(&served, &mut queue, 16);
    let began = Instant::now();
    assert_eq!(front.stop_queue(0), 16);
    assert!(began.elapsed() < SOON, "GET_VRING_BASE took {:?}", began.elapsed());
    let ends = queue.finish_all();
    assert!(ends.iter().all(|end| end.status == Status::Ok), "they went on at once: {ends:?}");
}

#[test]
fn a_reset_device_forgets_what_is_held() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (mut front, mut queue) = front_with_queue(&served.socket);
    enter(&served, hang());
    start_reads(&served, &mut queue, 16);
    let began = Instant::now();
    front.reset_device().expect("RESET_DEVICE");
    assert!(began.elapsed() < SOON, "RESET_DEVICE took {:?}", began.elapsed());
    assert_eq!(queue.used_index_in_memory(), 0, "a reset ring is not written");
    assert_eq!((served.faults.held().len(), served.faults.depth()), (0, 0));
    assert!(served.seen.failures.lock().unwrap().is_empty(), "nobody was told of a failure");
    enter(&served, DiskState::None);
    queue.reset(0);
    front.accept_features(feature::ALL);
    front.start_queue(&queue, 0);
    assert!(queue.is_alive());
}

#[test]
fn held_requests_are_answered_in_the_order_asked_for() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (_front, mut queue) = front_with_queue(&served.socket);
    let effect = Effect::Break { tag: "stop".into(), point: Point::BeforeAnswer };
    configure(&served, rule("stop", effect));
    start_reads(&served, &mut queue, 8);
    eventually("all have stopped", || served.faults.held().len() == 8);
    let first = served.faults.held()[0].ordinal;
    let order = [5, 2, 7, 0, 1, 6, 3, 4];
    let ordinals = order.iter().map(|slot| first + u64::from(*slot)).collect();
    assert_eq!(served.faults.resume(&Which::Ordinals(ordinals), Resume::Run).gone, 8);
    let answered: Vec<u16> = queue.finish_all().iter().map(|end| end.slot).collect();
    assert_eq!(answered, order);
}

#[test]
fn ten_thousand_held_or_delayed_requests_go_with_their_front_end_and_leave_nothing_behind() {
    if !alone(
        "held::ten_thousand_held_or_delayed_requests_go_with_their_front_end_and_leave_nothing_behind",
    ) {
        return;
    }
    const QUEUES: u16 = 30;
    const PER_QUEUE: u16 = 336;
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(QUEUES));
    let session = || {
        let mut front = Front::connect(&served.socket);
        front.negotiate(feature::ALL);
        let mut queues = front.start_queues(QUEUES, 1024);
        for queue in &mut queues {
            start_reads(&served, queue, PER_QUEUE);
        }
        let count = u32::from(QUEUES) * u32::from(PER_QUEUE);
        assert!(count > 10_000);
        assert_eq!(served.faults.depth(), count);
        let began = Instant::now();
        drop((front, queues));
        served.wait_disconnected();
        assert_eq!((served.faults.depth(), served.faults.held().len()), (0, 0));
        began.elapsed()
    };
    let both = || {
        enter(&served, hang());
        let held = session();
        enter(&served, DiskState::None);
        configure(&served, rule("slow", delay(3_600_000_000_000)));
        let delayed = session();
        configure(&served, Change::RemoveRule(RuleName::new("slow").unwrap()));
        (held, delayed)
    };
    both();
    let (before, resident) = (Holdings::now(), resident_bytes());
    for _ in 0..4 {
        let (held, delayed) = both();
        eprintln!("{held:?} to forget 10 080 held requests, {delayed:?} as many delayed ones");
        eventually("nothing of it is left", || Holdings::now() == before);
    }
    let grown = resident_bytes().saturating_sub(resident);
    assert!(grown < 4 << 20, "memory grew by {grown} bytes in 80 640 requests");
}

#[test]
fn delays_are_as_long_as_they_should_be() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (_front, mut queue) = front_with_queue(&served.socket);
    for delay_us in [100, 1_000, 10_000] {
        configure(&served, rule("slow", delay(delay_us * 1000)));
        let wanted = Duration::from_micros(delay_us);
        let mut late: Vec<Duration> = (0..20)
            .map(|_| {
                let began = Instant::now();
                assert_eq!(queue.read(0, SECTOR).status, Status::Ok);
                let took = began.elapsed();
                assert!(took >= wanted, "{took:?} is less than {wanted:?}");
                took - wanted
            })
            .collect();
        late.sort_unstable();
        eprintln!("a delay of {wanted:?}: {:?} late (median), {:?} at most", late[10], late[19]);
        configure(&served, Change::RemoveRule(RuleName::new("slow").unwrap()));
    }
}
