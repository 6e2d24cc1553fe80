//! An image that keeps the thread which asks it: the worker hears of nothing meanwhile.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use blkfault::block::{Channel, Completion, Geometry, Node, Op};
use blkfault::errno::Errno;

use crate::front_with_queue;
use crate::support::backend::{DISK_BYTES, Served, eventually, options};
use crate::support::front::{Ask, Front, Queue, SECTOR, feature, kind};
use crate::support::nodes::MemoryNode;

/// Whether callers are kept, and how many are.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<(bool, usize)>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn set_shut(&self, shut: bool) {
        self.state.lock().unwrap().0 = shut;
        self.opened.notify_all();
    }

    pub(crate) fn kept(&self) -> usize {
        self.state.lock().unwrap().1
    }

    pub(crate) fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        let mut state = self.opened.wait_while(state, |state| state.0).unwrap();
        state.1 -= 1;
    }
}

/// Memory behind a gate through which every submitter goes.
#[derive(Debug)]
struct KeepingNode(MemoryNode, Arc<Gate>);

impl Node for KeepingNode {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn channel(&self) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(Keeping(self.0.channel()?, self.1.clone())))
    }

    fn resize(&self, size_bytes: u64) -> Result<(), Errno> {
        self.0.resize(size_bytes)
    }
}

struct Keeping(Box<dyn Channel>, Arc<Gate>);

impl Channel for Keeping {
    fn submit(&mut self, op: Op) {
        self.1.pass();
        self.0.submit(op);
    }

    fn commit(&mut self) {
        self.0.commit();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        self.0.poll(done);
    }

    fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.0.wake_fds()
    }
}

#[test]
fn a_change_that_a_worker_does_not_hear_of_is_refused() {
    let gate = Arc::<Gate>::default();
    let served = Served::over(KeepingNode(MemoryNode::new(DISK_BYTES), gate.clone()), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    queue.prepare_slots(4, 512);
    gate.set_shut(true);
    (0..4).for_each(|slot| queue.start(slot, kind::IN, 0, 512));
    queue.kick();
    eventually("the worker is kept", || gate.kept() == 1);
    let region = front.memory.regions()[0].clone();
    assert!(front.remove_region(&region).is_err(), "the memory is in use");
    gate.set_shut(false);
    front.add_region(&region).expect("the worker hears again");
    front.enable_queue(0, true).expect("enable");
    assert_eq!(queue.finish_all().len(), 4, "nothing is lost by it");
}

#[test]
fn a_ring_that_cannot_be_stopped_ends_its_session() {
    let gate = Arc::<Gate>::default();
    let served = Served::over(KeepingNode(MemoryNode::new(DISK_BYTES), gate.clone()), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    queue.prepare_slots(4, 512);
    gate.set_shut(true);
    (0..4).for_each(|slot| queue.start(slot, kind::IN, 0, 512));
    queue.kick();
    eventually("the worker is kept", || gate.kept() == 1);
    let began = Instant::now();
    assert!(front.try_stop_queue(0).is_err(), "a base would say that requests are answered");
    assert!(began.elapsed() < Duration::from_secs(8), "it took {:?}", began.elapsed());
    served.wait_disconnected();
    let rings = (queue.layout.used, 6 + 8 * 128);
    let before = front.memory.read(rings.0, rings.1);
    let (_next, mut next_queue) = front_with_queue(&served.socket);
    gate.set_shut(false);
    assert_eq!(next_queue.read(0, SECTOR).data, [0; SECTOR], "the next front end is served");
    std::thread::sleep(Duration::from_millis(50));
    assert!(front.memory.read(rings.0, rings.1) == before, "the old ring is not touched");
}

/// So many rings that waits for one after the other could not be mistaken for one wait.
const MANY: u16 = 40;

/// A front end all of whose rings are inside an image that keeps them.
fn front_of_kept_rings(gate: &Gate, served: &Served) -> (Front, Vec<Queue>) {
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let mut queues = front.start_queues(MANY, 16);
    gate.set_shut(true);
    for queue in &mut queues {
        queue.prepare_slots(1, 512);
        queue.start(0, kind::IN, 0, 512);
        queue.kick();
    }
    eventually("the workers are kept", || gate.kept() == usize::from(MANY));
    (front, queues)
}

#[test]
fn many_rings_that_hear_nothing_are_waited_for_together() {
    let gate = Arc::<Gate>::default();
    let node = KeepingNode(MemoryNode::new(DISK_BYTES), gate.clone());
    let served = Served::over(node, options(MANY));
    let (front, queues) = front_of_kept_rings(&gate, &served);
    let began = Instant::now();
    assert!(front.remove_region(&front.memory.regions()[0]).is_err(), "the memory is in use");
    drop((front, queues));
    served.wait_disconnected();
    assert!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
    gate.set_shut(false);
    assert_eq!(front_with_queue(&served.socket).1.read(0, SECTOR).data, [0; SECTOR]);
}

#[test]
fn the_end_of_the_service_does_not_wait_for_a_change_that_nobody_hears_of() {
    let gate = Arc::<Gate>::default();
    let node = KeepingNode(MemoryNode::new(DISK_BYTES), gate.clone());
    let served = Served::over(node, options(MANY));
    let (front, _queues) = front_of_kept_rings(&gate, &served);
    // Each of these would be waited for as long as a machine may take that is very busy.
    for _ in 0..4 {
        let body = [0u32, 0].into_iter().flat_map(u32::to_ne_bytes);
        let region = &front.memory.regions()[0];
        let place = [region.start, region.bytes, region.user_address(), 0];
        let body: Vec<u8> = body.chain(place.into_iter().flat_map(u64::to_ne_bytes)).collect();
        front.wire.send(Ask::RemMemReg as u32, 0, &body, &[]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    served.export.stop().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    gate.set_shut(false);
}
