//! Every ring of a disk waits in a call that its front end does not take, at once (B-22).

use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::next_is_served;
use crate::support::backend::{DISK_BYTES, Served, eventually, options};
use crate::support::front::{Front, Queue, Sharing, feature, kind};
use crate::support::nodes::MemoryNode;

/// So many that waits for one after the other could not be mistaken for one wait.
const RINGS: u16 = 48;
/// What is promised within a second or two.
const SOON: Duration = Duration::from_secs(10);

/// A front end whose rings have all answered a request and wait to call it.
fn front_that_takes_no_calls(served: &Served) -> (Front, Vec<Queue>) {
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let mut queues = front.start_queues(RINGS, 16);
    for queue in &mut queues {
        // A ring may call once when it starts.
        let full = (u64::MAX - 1).to_ne_bytes();
        while rustix::io::write(queue.call_fd(), &full).is_err() {
            rustix::io::read(queue.call_fd(), &mut [0; 8]).unwrap();
        }
        rustix::fs::fcntl_setfl(queue.call_fd(), OFlags::empty()).unwrap();
        queue.put_used_event(queue.used_index());
        queue.prepare_slots(1, 512);
        queue.start(0, kind::IN, 0, 512);
        queue.kick();
    }
    eventually("all are answered", || queues.iter().all(|queue| queue.used_index_in_memory() == 1));
    (front, queues)
}

#[test]
fn rings_that_wait_to_call_are_let_go_and_hear_of_new_memory() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(RINGS));
    let (front, queues) = front_that_takes_no_calls(&served);
    let began = Instant::now();
    assert_eq!(front.try_share_memory(Sharing::Table), Ok(()), "no ring is left waiting");
    drop((front, queues));
    next_is_served(&served);
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
}

#[test]
fn the_end_waits_for_all_rings_that_wait_to_call_together() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(RINGS));
    let (_front, _queues) = front_that_takes_no_calls(&served);
    let began = Instant::now();
    served.export.stop().unwrap();
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
}
