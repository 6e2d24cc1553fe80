//! The numbers of requests, over connections and processes: none is given twice, whoever tells of earlier
//! ones.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Arc;

use blkfault::fault::IoTypes;
use blkfault::fault::manual::DiskState;

use crate::enter;
use crate::support::backend::{DISK_BYTES, Served, eventually, options};
use crate::support::front::{Front, Inflight, Queue, SECTOR, feature, kind};
use crate::support::nodes::MemoryNode;

const QUEUE_SIZE: u16 = 16;
/// What a region tells of a descriptor (`DescStateSplit` in vhost-user.rst).
const STATE_BYTES: u64 = 16;
/// Where it begins, and where the counter is in it.
const STATES_AT: u64 = 16;
const COUNTER_AT: u64 = 8;

/// A disk all of whose requests hang.
fn hanging(queues: u16) -> Served {
    let served = Served::over_shared(Arc::new(MemoryNode::new(DISK_BYTES)), options(queues));
    enter(&served, DiskState::Hang { iotypes: IoTypes::ALL, on_release: None });
    served
}

/// Have this many more requests of a queue held.
fn hold(served: &Served, queue: &mut Queue, slots: std::ops::Range<u16>) {
    let wanted = served.faults.held().len() + slots.len();
    slots.for_each(|slot| queue.start(slot, kind::IN, 0, SECTOR as u32));
    queue.kick();
    wait_held(served, wanted);
}

fn wait_held(served: &Served, wanted: usize) {
    eventually("all are held", || served.faults.held().len() == wanted);
}

/// The queue and ordinal of all that is held.
fn held(served: &Served) -> Vec<(u16, u64)> {
    served.faults.held().iter().map(|held| (held.queue, held.ordinal)).collect()
}

fn guest(served: &Served, count: u16) -> (Front, Vec<Queue>, Inflight) {
    let mut front = Front::connect(&served.socket);
    let region = front.get_inflight(count, QUEUE_SIZE).unwrap();
    front.set_inflight(&region).unwrap();
    front.negotiate(feature::ALL);
    let mut queues = front.start_queues(count, QUEUE_SIZE);
    queues.iter_mut().for_each(|queue| queue.prepare_slots(4, SECTOR as u64));
    (front, queues, region)
}

#[test]
fn what_comes_new_to_one_queue_has_no_number_of_what_is_done_again_for_the_next() {
    let first = hanging(2);
    let (front, mut queues, region) = guest(&first, 2);
    hold(&first, &mut queues[0], 0..1);
    hold(&first, &mut queues[1], 0..3);
    let (memory, features) = (front.memory.clone(), front.accepted);
    drop(front);
    first.wait_disconnected();

    let second = hanging(2);
    let of_first = &queues[..1];
    let front = Front::resume(&second.socket, &memory, features, Some(&region), of_first).unwrap();
    wait_held(&second, 1);
    hold(&second, &mut queues[0], 1..4);
    front.start_queue(&queues[1], queues[1].used_index_in_memory());
    wait_held(&second, 7);
    let again: Vec<_> = held(&second).into_iter().filter(|(queue, _)| *queue == 1).collect();
    assert_eq!(again, [(1, 1), (1, 2), (1, 3)], "they keep their numbers");
    let ordinals: BTreeSet<u64> = held(&second).iter().map(|(_, ordinal)| *ordinal).collect();
    assert_eq!(ordinals.len(), 7, "each has its own: {:?}", held(&second));
}

#[test]
fn a_region_that_lies_about_numbers_leaves_enough_for_whoever_comes_after() {
    let served = hanging(1);
    let (front, mut queues, region) = guest(&served, 1);
    hold(&served, &mut queues[0], 0..2);
    let (memory, features) = (front.memory.clone(), front.accepted);
    drop(front);
    served.wait_disconnected();
    // Of all descriptors, whether they are in flight or not.
    for head in 0..u64::from(QUEUE_SIZE) {
        let at = region.offset + STATES_AT + STATE_BYTES * head + COUNTER_AT;
        rustix::io::pwrite(region.file.as_fd(), &u64::MAX.to_ne_bytes(), at).unwrap();
    }
    let front = Front::resume(&served.socket, &memory, features, Some(&region), &queues).unwrap();
    wait_held(&served, 2);
    assert_eq!(held(&served), [(0, 2), (0, 3)], "they are done again, under new numbers");
    hold(&served, &mut queues[0], 2..3);
    let mut states = vec![0; STATE_BYTES as usize * usize::from(QUEUE_SIZE)];
    rustix::io::pread(region.file.as_fd(), &mut states, region.offset + STATES_AT).unwrap();
    let marked = states.chunks(STATE_BYTES as usize).filter(|state| state[0] == 1);
    let counter =
        |state: &[u8]| u64::from_ne_bytes(state[COUNTER_AT as usize..].try_into().unwrap());
    let logged: BTreeSet<u64> = marked.map(counter).collect();
    assert_eq!(logged, BTreeSet::from([3, 4, 5]), "the log says so too");
    drop(front);
    served.wait_disconnected();

    let (_front, mut queues, _region) = guest(&served, 1);
    hold(&served, &mut queues[0], 0..2);
    assert_eq!(held(&served), [(0, 5), (0, 6)], "an innocent guest's");
}
