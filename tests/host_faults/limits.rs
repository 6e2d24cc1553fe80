//! What the host allows a process runs out (D-13).

use std::time::{Duration, Instant};

use crate::host::{lend, run, scratch, sparse};
use crate::support::daemon::Daemon;
use crate::support::front::request::Status;
use crate::support::front::ring::Queue;
use crate::support::front::{Front, ONE_REGION, feature};

/// The longest that a file of the daemon may become.
const FILE_BYTES_MAX: u64 = 1 << 20;
const SECTORS_PER_BLOCK: u64 = 8;

#[test]
fn a_write_beyond_the_longest_file_that_the_host_allows_fails_and_the_daemon_lives() {
    if lend("RLIMIT_FSIZE", run(&["prlimit", "--version"])).is_none() {
        return;
    }
    for aio in ["io_uring", "threads"] {
        let directory = scratch();
        let image = sparse(&directory.path().join("disk.img"), 4 * FILE_BYTES_MAX);
        let options = ["--blk-file", image.to_str().unwrap(), "--aio", aio];
        let limit = format!("--fsize={FILE_BYTES_MAX}");
        let daemon = Daemon::start_inside(directory.path(), &["prlimit", &limit], &options);
        let mut front = Front::connect(&daemon.socket("disk0"));
        front.negotiate(feature::ALL);
        let mut queue = front.start_queues(1, 128).remove(0);
        let blocks = FILE_BYTES_MAX / 4096;
        for block in [0, blocks - 1] {
            let reply = queue.write(block * SECTORS_PER_BLOCK, &[7; 4096]);
            assert_eq!(reply.status, Status::Ok, "{aio}: block {block} lies within the limit");
        }
        for block in [blocks, 2 * blocks] {
            let reply = queue.write(block * SECTORS_PER_BLOCK, &[8; 4096]);
            assert_eq!(reply.status, Status::IoErr, "{aio}: block {block} lies beyond the limit");
        }
        // The kernel moves the part that lies within, and the rest fails.
        let reply = queue.write((blocks - 1) * SECTORS_PER_BLOCK, &[9; 8192]);
        assert_eq!(reply.status, Status::IoErr, "{aio}: across the limit");
        let read = queue.read(0, 4096);
        assert_eq!((read.status, read.data), (Status::Ok, vec![7; 4096]), "{aio}");
        let read = queue.read(blocks * SECTORS_PER_BLOCK, 4096);
        assert_eq!((read.status, read.data), (Status::Ok, vec![0; 4096]), "{aio}");
        assert_eq!(queue.flush().status, Status::Ok, "{aio}");
        drop(front);
        assert!(daemon.terminate().success(), "{aio}");
    }
}

/// Descriptors that a process has.
fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

fn allow_descriptors(process: u32, count: usize) {
    let (process, limit) = (process.to_string(), format!("--nofile={count}:"));
    run(&["prlimit", "--pid", &process, &limit]).unwrap();
}

/// The front end before this one has gone when the daemon hears of it, and when no child that another
/// test is starting has a copy of its socket any more.
fn connect_after_another(daemon: &Daemon) -> Front {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match Front::try_connect(&daemon.socket("disk0"), ONE_REGION) {
            Ok(front) => return front,
            Err(refusal) => assert!(Instant::now() < until, "{refusal:?}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a ring starts where the daemon can have so many more descriptors. One that starts serves;
/// and afterwards, without the limit, the next front end's does, too.
fn starts_with(daemon: &Daemon, spare: usize) -> bool {
    let connect = || {
        let mut front = connect_after_another(daemon);
        front.negotiate(feature::ALL);
        front
    };
    let front = connect();
    let mut queue = Queue::new(&front.memory, 0, 128, true);
    allow_descriptors(daemon.id(), descriptors(daemon.id()) + spare);
    let is_started = front.try_start_queue(&queue, 0).is_ok();
    assert!(!is_started || queue.is_alive(), "with {spare} descriptors to spare: not served");
    allow_descriptors(daemon.id(), 1024);
    drop(front);
    let mut front = connect();
    assert!(front.start_queues(1, 128)[0].is_alive(), "after {spare} descriptors to spare");
    is_started
}

/// EMFILE wherever a ring's start needs a descriptor: the ring's own, io_uring's, a waker's.
#[test]
fn a_ring_that_starts_without_descriptors_to_spare_is_served_or_refused_and_the_next_one_is_served()
{
    if lend("RLIMIT_NOFILE", run(&["prlimit", "--version"])).is_none() {
        return;
    }
    for aio in ["io_uring", "threads"] {
        let directory = scratch();
        let image = sparse(&directory.path().join("disk.img"), FILE_BYTES_MAX);
        let options = ["--blk-file", image.to_str().unwrap(), "--aio", aio];
        let daemon = Daemon::start(directory.path(), &options);
        let mut spare = 0;
        while !starts_with(&daemon, spare) {
            spare += 1;
            assert!(spare < 64, "{aio}: no number of descriptors will do");
        }
        assert!(spare > 0, "{aio}: nothing was refused");
    }
}

/// What the process may have: the soft limit.
fn allowed_descriptors(process: u32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}

#[test]
fn the_daemon_takes_as_many_descriptors_as_the_host_allows_and_tells_where_they_will_not_do() {
    if lend("RLIMIT_NOFILE", run(&["prlimit", "--version"])).is_none() {
        return;
    }
    const QUEUES: u16 = 32;
    let directory = scratch();
    let image = sparse(&directory.path().join("disk.img"), FILE_BYTES_MAX);
    let options = ["--blk-file", image.to_str().unwrap(), "--num-queues", &QUEUES.to_string()];
    let warning = "the host allows 128 open files (RLIMIT_NOFILE)";

    let daemon =
        Daemon::start_inside(directory.path(), &["prlimit", "--nofile=128:1024"], &options);
    assert_eq!(allowed_descriptors(daemon.id()), 1024);
    let mut front = Front::connect(&daemon.socket("disk0"));
    front.negotiate(feature::ALL);
    let mut queues = front.start_queues(QUEUES, 128);
    assert!(queues.iter_mut().all(Queue::is_alive), "every queue is served");
    let used = descriptors(daemon.id());
    assert!(used > 128, "{used} descriptors: the limit of before would have done");
    let forecast = 64 + 24 + 9 * usize::from(QUEUES);
    assert!(used <= forecast, "{used} descriptors, more than the {forecast} that are foreseen");
    assert!(!daemon.log().contains("RLIMIT_NOFILE"), "{}", daemon.log());
    drop(front);
    assert!(daemon.terminate().success());

    let daemon = Daemon::start_inside(directory.path(), &["prlimit", "--nofile=128:128"], &options);
    assert!(daemon.log().contains(warning), "{}", daemon.log());
    assert!(daemon.terminate().success());
}
