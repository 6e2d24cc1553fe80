//! Memory that is cut short under the back end's hands (B-17).

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_get_seals, ftruncate, memfd_create};

use crate::support::daemon::{Daemon, set_state, told};
use crate::support::front::{Ask, Desc, Front, Queue, feature, header, kind};
use crate::words;

/// One region for the rings, one for data.
const LAYOUT: &[(u64, u64)] = &[(0, 16 << 20), (1 << 32, 1 << 20)];
const DATA: u64 = 1 << 32;

/// What a front end does to its own memory. It must not touch it afterwards.
type Cut = fn(&mut Front, &mut Queue);

const CUTS: &[(&str, Cut)] = &[
    ("the rings", |front, queue| {
        let kick = rustix::io::dup(queue.kick_fd()).unwrap();
        ftruncate(front.memory.regions()[0].memfd(), 0).unwrap();
        rustix::io::write(&kick, &1u64.to_ne_bytes()).unwrap();
    }),
    ("where a read goes", |front, queue| {
        ftruncate(front.memory.regions()[1].memfd(), 4096).unwrap();
        let [head, status] = [16, 1].map(|bytes| front.memory.allocate(bytes, 16));
        front.memory.write(head, &header(kind::IN, 0));
        let into = Desc::writable(DATA + 4096, 64 << 10);
        queue.submit_chain(&[Desc::readable(head, 16), into, Desc::writable(status, 1)]);
        queue.kick();
    }),
    ("what a write takes", |front, queue| {
        ftruncate(front.memory.regions()[1].memfd(), 0).unwrap();
        let [head, status] = [16, 1].map(|bytes| front.memory.allocate(bytes, 16));
        front.memory.write(head, &header(kind::OUT, 0));
        let from = Desc::readable(DATA, 1 << 20);
        queue.submit_chain(&[Desc::readable(head, 16), from, Desc::writable(status, 1)]);
        queue.kick();
    }),
    ("the rings, before they start", |front, queue| {
        front.stop_queue(0);
        let vring = words(&[0]);
        ftruncate(front.memory.regions()[0].memfd(), 0).unwrap();
        let _ = front.wire.tell(Ask::SetVringKick, &vring, &[queue.kick_fd()]);
    }),
    ("the log of written pages", |front, queue| {
        let log = memfd_create("log", MemfdFlags::CLOEXEC).unwrap();
        // A bit for each page, up to the end of the second region.
        let bytes = (DATA + LAYOUT[1].1) / 4096 / 8;
        ftruncate(&log, bytes).unwrap();
        front.wire.ask_with(Ask::SetLogBase, &words(&[bytes, 0]), log.as_fd()).unwrap();
        ftruncate(&log, 0).unwrap();
        front.accepted |= feature::LOG_ALL;
        front.accept_again();
        queue.submit_chain(&[Desc::writable(front.memory.allocate(64, 16), 64)]);
        queue.kick();
    }),
];

#[test]
fn a_front_end_that_cuts_its_memory_short_harms_itself_alone() {
    let dir = tempfile::tempdir().unwrap();
    let disks = ["id=bad,memory=4M", "id=good,memory=4M"];
    let mut daemon = Daemon::start_disks(dir.path(), &disks);
    let mut operator = daemon.operator();
    let mut good = Front::connect(&daemon.socket("good"));
    good.negotiate(feature::ALL);
    let mut good_queue = good.start_queues(1, 16).remove(0);
    for (what, cut) in CUTS {
        let mut front = Front::with_memory(&daemon.socket("bad"), LAYOUT);
        front.negotiate(feature::ALL);
        let mut queue = front.start_queues(1, 16).remove(0);
        assert!(queue.is_alive(), "{what}");
        cut(&mut front, &mut queue);
        assert!(front.wire.closes_within(Duration::from_secs(20)), "{what}");
        operator.wait_event("BLOCK_EXPORT_CONNECTED");
        operator.wait_event("BLOCK_EXPORT_DISCONNECTED");
        assert!(good_queue.is_alive(), "{what}: the other disk never noticed");
        set_state(&mut operator, "good", "none");
    }
    assert!(UnixStream::connect(daemon.monitor()).is_ok());
    let mut next = Front::connect(&daemon.socket("bad"));
    next.negotiate(feature::ALL);
    assert!(next.start_queues(1, 16)[0].is_alive(), "the next front end is served");
    assert!(daemon.end().success());
    let (_, said) = told(&daemon.log(), "memory that it shares is gone");
    assert_eq!(said, CUTS.len(), "said once of each: {}", daemon.log());
}

#[test]
fn memory_that_can_be_sealed_cannot_be_cut_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let front = Front::connect(&daemon.socket("disk0"));
    let sealable = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&sealable, 1 << 20).unwrap();
    let region = words(&[0, 0, 1 << 20, 1 << 40, 0]);
    front.wire.tell(Ask::AddMemReg, &region, &[sealable.as_fd()]).unwrap();
    assert_eq!(fcntl_get_seals(&sealable).unwrap(), SealFlags::SHRINK);
    assert_eq!(ftruncate(&sealable, 4096).unwrap_err(), rustix::io::Errno::PERM);
    ftruncate(&sealable, 2 << 20).expect("it may grow");
}

/// A SIGBUS that is nobody's mapping ends the daemon as it ends every program.
#[test]
fn a_sigbus_from_elsewhere_ends_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let mut front = Front::connect(&daemon.socket("disk0"));
    front.negotiate(feature::ALL);
    assert!(front.start_queues(1, 16)[0].is_alive(), "memory is mapped, the handler is there");
    let pid = rustix::process::Pid::from_raw(i32::try_from(daemon.id()).unwrap()).unwrap();
    for _ in 0..2 {
        // The first may be taken by Rust's own handler, which is looking for full stacks.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::BUS);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(front.wire.closes_within(Duration::from_secs(20)));
}
