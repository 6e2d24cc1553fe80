//! The region of requests in flight, in the hands of a front end that lies about it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::pwrite;

use crate::messages::odd_descriptors;
use crate::support::front::{Ask, Front, Inflight, Queue};
use crate::{Stage, ready};

const QUEUES: u16 = 2;
const SIZE: u16 = 16;

fn memfd(bytes: u64, flags: MemfdFlags) -> OwnedFd {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC | flags).unwrap();
    ftruncate(&file, bytes).unwrap();
    file
}

fn region(file: OwnedFd, bytes: u64) -> Inflight {
    Inflight { file, offset: 0, bytes, queues: QUEUES, queue_size: SIZE }
}

/// Regions as a hostile front end asks for them. What cannot be had ends its session, because it
/// waits for an answer that there is not.
pub(crate) fn asked_for(stage: &Stage) {
    for (queues, size) in [(0, SIZE), (3, SIZE), (65_535, SIZE), (QUEUES, 0), (QUEUES, 65_535)] {
        let front = ready(stage);
        let asked = front.get_inflight(queues, size);
        assert!(asked.is_err(), "{queues} queues of {size}: {asked:?}");
        drop(front);
        stage.wait_disconnected();
    }
    let front = ready(stage);
    for _ in 0..50 {
        let region = front.get_inflight(QUEUES, SIZE).unwrap();
        front.set_inflight(&region).unwrap();
    }
}

pub(crate) fn given(stage: &Stage) {
    let mut front = ready(stage);
    let good = front.get_inflight(QUEUES, SIZE).unwrap();
    let (bytes, copy) = (good.bytes, || good.file.try_clone().unwrap());
    let given = |offset, bytes, queues, queue_size| Inflight {
        file: copy(),
        offset,
        bytes,
        queues,
        queue_size,
    };
    let regions = [
        ("of no bytes", given(0, 0, QUEUES, SIZE)),
        ("a byte too short", given(0, bytes - 1, QUEUES, SIZE)),
        ("past its file", given(4096, bytes, QUEUES, SIZE)),
        ("that wraps around", given(u64::MAX - 4095, bytes, QUEUES, SIZE)),
        ("within a page", given(8, bytes, QUEUES, SIZE)),
        ("of other queues", given(0, bytes, QUEUES + 1, SIZE)),
        ("of no queues", given(0, bytes, 0, SIZE)),
        ("of other sizes", given(0, bytes, QUEUES, 2 * SIZE)),
        ("of all sizes", given(0, u64::MAX, u16::MAX, u16::MAX)),
        ("in a short file", region(memfd(bytes - 1, MemfdFlags::ALLOW_SEALING), bytes)),
        ("in an empty file", region(memfd(0, MemfdFlags::ALLOW_SEALING), bytes)),
    ];
    for (what, region) in &regions {
        assert!(front.set_inflight(region).is_err(), "a region {what}");
    }
    for (what, file) in odd_descriptors() {
        // What can be mapped at all may be the front end's own harm.
        let taken = front.set_inflight(&region(file, bytes));
        assert!(taken.is_err() || what == "/dev/zero", "{what} as a region");
    }
    let reading = File::open(format!("/proc/self/fd/{}", fd_number(&good.file))).unwrap();
    assert!(front.set_inflight(&region(reading.into(), bytes)).is_err(), "for reading only");
    front.wire.tell(Ask::SetInflightFd, &[0; 24], &[]).expect_err("no descriptor");

    front.set_inflight(&good).unwrap();
    let mut queue = front.start_queues(1, SIZE).remove(0);
    assert!(front.set_inflight(&good).is_err(), "the ring runs");
    assert!(queue.is_alive());
    front.stop_queue(0);
    front.set_inflight(&region(memfd(bytes, MemfdFlags::empty()), bytes)).expect("not sealed");
}

fn fd_number(file: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd;
    file.as_raw_fd()
}

/// Where the fields of a queue's part lie (`QueueRegionSplit`).
const VERSION_AT: u64 = 8;
const DESC_NUM_AT: u64 = 10;

/// A region that the front end wrote itself, and a ring over it.
fn start_over(stage: &Stage, content: &[u8]) -> (Front, Queue, bool) {
    let front = ready(stage);
    let region = front.get_inflight(QUEUES, SIZE).unwrap();
    let bytes = &content[..content.len().min(region.bytes as usize)];
    pwrite(region.file.as_fd(), bytes, 0).unwrap();
    front.set_inflight(&region).unwrap();
    let queue = Queue::new(&front.memory, 0, SIZE, true);
    let started = front.try_start_queue(&queue, 0).is_ok();
    (front, queue, started)
}

fn with(at: u64, value: u16, mut content: Vec<u8>) -> Vec<u8> {
    content[at as usize..at as usize + 2].copy_from_slice(&value.to_ne_bytes());
    content
}

pub(crate) fn full_of_lies(stage: &Stage) {
    const BYTES: usize = 1024;
    let of_kind =
        |version, size| with(DESC_NUM_AT, size, with(VERSION_AT, version, vec![0; BYTES]));
    for (what, content) in [
        ("of another version", of_kind(2, SIZE)),
        ("of another size", of_kind(1, 2 * SIZE)),
        ("of no descriptors", of_kind(1, 0)),
    ] {
        let (front, _, started) = start_over(stage, &content);
        assert!(!started, "a region {what}");
        drop(front);
        stage.wait_disconnected();
    }
    for noise in [0xff, 0x01, 0x55, 0x80u8] {
        let noisy = with(DESC_NUM_AT, SIZE, with(VERSION_AT, 1, vec![noise; BYTES]));
        let (front, queue, started) = start_over(stage, &noisy);
        if started {
            // Whatever it did for the heads that the region names, it is bounded and it stops.
            front.stop_queue(0);
            let answered = queue.used_index_in_memory();
            assert!(answered <= SIZE, "{answered} answers for {SIZE} descriptors");
        }
        drop((front, queue));
        stage.wait_disconnected();
    }
    // The region goes while the ring runs (B-17).
    let mut front = ready(stage);
    let bytes = front.get_inflight(QUEUES, SIZE).unwrap().bytes;
    let short_lived = region(memfd(bytes, MemfdFlags::empty()), bytes);
    front.set_inflight(&short_lived).unwrap();
    let mut queue = front.start_queues(1, SIZE).remove(0);
    assert!(queue.is_alive());
    ftruncate(&short_lived.file, 0).unwrap();
    let (head, status) = (front.memory.allocate(16, 16), front.memory.allocate(1, 1));
    queue.submit_chain(&[
        crate::support::front::Desc::readable(head, 16),
        crate::support::front::Desc::writable(status, 1),
    ]);
    queue.kick();
    assert!(front.wire.closes_within(Duration::from_secs(20)), "its own harm");
}
