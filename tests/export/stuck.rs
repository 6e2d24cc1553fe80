//! An image that keeps whoever asks it for something else than data: a ring that starts, and the thread
//! that serves front ends itself.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blkfault::block::{Channel, Geometry, Node};
use blkfault::errno::Errno;
use blkfault::export::{Disk, Door, Export};

use crate::deaf::Gate;
use crate::support::backend::{DISK_BYTES, Seen, Served, eventually, options};
use crate::support::front::{Ask, Front, ONE_REGION, Queue, Refusal, Wire, feature, kind};
use crate::support::nodes::MemoryNode;

/// Memory behind a gate for all questions but those for data.
#[derive(Debug)]
struct StuckNode(MemoryNode, Arc<Gate>);

impl Node for StuckNode {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn channel(&self) -> io::Result<Box<dyn Channel>> {
        self.1.pass();
        self.0.channel()
    }

    fn resize(&self, size_bytes: u64) -> Result<(), Errno> {
        self.0.resize(size_bytes)
    }

    fn lose_earlier(&self) -> bool {
        self.1.pass();
        false
    }
}

#[test]
fn a_ring_that_cannot_start_is_refused_and_holds_nothing_up() {
    let gate = Arc::<Gate>::default();
    let served = Served::over(StuckNode(MemoryNode::new(DISK_BYTES), gate.clone()), options(2));
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let mut first = front.start_queues(1, 16).remove(0);
    let mut second = Queue::new(&front.memory, 1, 16, true);
    gate.set_shut(true);
    let told = front.try_start_queue(&second, 0);
    assert!(matches!(told, Err(Refusal::Status(_))), "it does not serve: {told:?}");
    assert!(first.is_alive(), "the other is served");
    gate.set_shut(false);
    eventually("the image is left", || gate.kept() == 0);
    second.reset(0);
    front.start_queue(&second, 0);
    assert!(second.is_alive());
    served.export.stop().unwrap();
}

#[test]
fn a_serving_thread_that_is_stuck_is_left_behind_and_serves_no_more() {
    let gate = Arc::<Gate>::default();
    let node = Arc::new(StuckNode(MemoryNode::new(DISK_BYTES), gate.clone()));
    let disk = Arc::new(Disk::new(options(2), node, Arc::new(Seen::default())));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let export = Export::start(disk, Door::Connected(theirs)).unwrap();
    let mut front = Front::over(Wire::over(ours), ONE_REGION).unwrap();
    front.negotiate(feature::ALL);
    let mut queue = front.start_queues(1, 16).remove(0);
    queue.prepare_slots(2, 512);
    gate.set_shut(true);
    // As of a guest that another process served: the image is asked whether it has lost anything.
    let second = Queue::new(&front.memory, 1, 16, true);
    front.wire.acknowledged = false;
    front.try_start_queue(&second, 1).unwrap();
    eventually("the serving thread is kept", || gate.kept() == 1);
    let began = Instant::now();
    let left = export.stop().expect_err("the thread does not end");
    assert!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
    queue.start(0, kind::IN, 0, 512);
    queue.kick_always();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(queue.used_index_in_memory(), 0, "nobody serves the ring any more");
    gate.set_shut(false);
    left.wait();
    assert!(front.wire.ask_u64(Ask::GetFeatures).is_err(), "the front end is let go at last");
    assert_eq!(queue.used_index_in_memory(), 0);
}
