//! What a front end makes the daemon say: bounded, and nobody waits for whoever reads it.

use std::io::PipeReader;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::halves;
use crate::support::daemon::{Daemon, set_state, told};
use crate::support::front::{Ask, FLAG_NEED_REPLY, Front, Wire, feature, message};

/// Messages that are refused.
const REFUSED: usize = 2000;
/// Longer than the daemon is silent about what it has just said.
const FLOOD: Duration = Duration::from_millis(1500);

fn refused_message(front_end: &Wire) {
    let bytes = message(Ask::SetVringBase as u32, 0, &halves(&[99, 0]));
    front_end.send_bytes(&bytes, &[]).expect("the daemon goes on reading");
}

/// A pipe that takes no byte more, and the end that nobody reads from.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(writer.as_fd(), flags | OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, b".").is_ok() {}
    rustix::fs::fcntl_setfl(writer.as_fd(), flags).unwrap();
    (reader, OwnedFd::from(writer).into())
}

#[test]
fn a_log_that_nobody_reads_keeps_no_disk_waiting_and_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let (unread, stderr) = full_pipe();
    let disks = ["id=bad,memory=1M", "id=good,memory=1M"];
    let daemon = Daemon::start_disks_saying_to(stderr, dir.path(), &disks);
    let mut operator = daemon.operator();
    let mut good = Front::connect(&daemon.socket("good"));
    good.negotiate(feature::ALL);
    let mut good_queue = good.start_queues(1, 16).remove(0);
    let bad = Wire::connect(&daemon.socket("bad")).unwrap();
    for count in 0..REFUSED {
        refused_message(&bad);
        if count % 100 == 0 {
            // The socket never fills up, so that what waits for ever is found by a time-out.
            bad.ask_u64(Ask::GetFeatures).expect("the disk itself does not notice");
            assert!(good_queue.is_alive(), "nor does another");
            set_state(&mut operator, "good", "none");
        }
    }
    // What the other one is to say does not keep it either.
    good_queue.put_avail_index(good_queue.avail_index().wrapping_add(100));
    good_queue.kick_always();
    assert!(good_queue.broken_within(Duration::from_secs(20)));
    good.renew_queue(&mut good_queue);
    assert!(good_queue.is_alive());
    drop(bad);
    let mut next = Front::connect(&daemon.socket("bad"));
    next.negotiate(feature::ALL);
    assert!(next.start_queues(1, 16)[0].is_alive(), "the next front end is served");
    assert!(daemon.terminate().success());
    drop(unread);
}

/// Do something for a while. Tells how often, in how many seconds, and what was said by the time the
/// daemon has ended.
fn flood(mut daemon: Daemon, mut one: impl FnMut(&Path, usize)) -> Flood {
    let (began, mut count) = (Instant::now(), 0);
    let socket = daemon.socket("disk0");
    while began.elapsed() < FLOOD || count < 20 {
        one(&socket, count);
        count += 1;
    }
    assert!(daemon.end().success());
    Flood { said: daemon.log(), count, seconds: began.elapsed().as_secs() as usize }
}

/// What came of a flood.
struct Flood {
    said: String,
    count: usize,
    seconds: usize,
}

impl Flood {
    fn is_bounded_and_counted(&self, what: &str) {
        let Self { said, count, seconds } = self;
        let (lines, told) = told(said, what);
        assert!(lines <= seconds + 2, "{what}: {lines} lines in {seconds} s");
        assert_eq!(told, *count, "{what}: those left out are told of: {said}");
    }
}

#[test]
fn what_was_left_out_is_told_though_nothing_more_is_said() {
    const COUNT: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let front_end = Wire::connect(&daemon.socket("disk0")).unwrap();
    (0..COUNT).for_each(|_| refused_message(&front_end));
    let until = Instant::now() + Duration::from_secs(20);
    while told(&daemon.log(), "of the front end refused").1 < COUNT {
        assert!(Instant::now() < until, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(told(&daemon.log(), "of the front end refused").1, COUNT);
    front_end.ask_u64(Ask::GetFeatures).expect("the session goes on");
}

#[test]
fn refused_messages_do_not_fill_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let front_end = Wire::connect(&daemon.socket("disk0")).unwrap();
    let flood = flood(daemon, |_, _| {
        refused_message(&front_end);
        front_end.ask_u64(Ask::GetFeatures).unwrap();
    });
    flood.is_bounded_and_counted("of the front end refused");
}

#[test]
fn front_ends_that_are_dropped_do_not_fill_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let flood = flood(daemon, |socket, _| {
        let front_end = Wire::connect(socket).unwrap();
        // No version has all the flags.
        let _ = front_end.send_bytes(&message(1, !FLAG_NEED_REPLY, &[]), &[]);
        assert!(front_end.closes_within(Duration::from_secs(20)));
    });
    flood.is_bounded_and_counted("front end dropped");
}

#[test]
fn second_front_ends_do_not_fill_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let first = Wire::connect(&daemon.socket("disk0")).unwrap();
    first.ask_u64(Ask::GetFeatures).unwrap();
    let flood = flood(daemon, |socket, _| {
        let second = Wire::connect(socket).unwrap();
        assert!(second.closes_within(Duration::from_secs(20)));
    });
    flood.is_bounded_and_counted("a second front end was refused");
}
