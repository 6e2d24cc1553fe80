//! Front ends that are processes of their own: stopped, killed (B-39, B-40).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::{Daemon, counter, set_state};
use crate::support::front::{Front, Status, feature};
use crate::support::load::{Load, ready};
use crate::support::operator::Operator;
use crate::support::process::{Sample, Watched};
use crate::times;

const DISK_BYTES: u64 = 4 << 20;
/// Names the socket to the process that is a front end.
const SOCKET: &str = "BLKFAULT_TEST_PEER";
const WAIT: Duration = Duration::from_secs(60);

/// What the process of a [`Peer`] does: it loads the disk until its standard input ends, looks at
/// everything it wrote, and ends.
#[test]
fn a_peer_of_other_stories() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let mut front = Front::with_memory(Path::new(&socket), &[(0, 64 << 20)]);
    let mut queues = ready(&mut front, 2, 64);
    // Nobody knows what earlier ones wrote.
    let zeroed = queues[0].write_zeroes(0, (DISK_BYTES / 512) as u32, 0);
    assert_eq!(zeroed.status, Status::Ok);
    let mut load = Load::new(0xb39, DISK_BYTES, 16, queues);
    while load.done.requests < 200 {
        load.run(Duration::from_millis(1));
    }
    println!("\nloading");
    std::thread::scope(|scope| {
        let asked_to_end = scope.spawn(|| std::io::copy(&mut std::io::stdin(), &mut Vec::new()));
        while !asked_to_end.is_finished() {
            load.run(Duration::from_millis(5));
        }
    });
    load.verify_all();
    println!("\nverified {} bytes", load.done.bytes_verified);
}

/// A front end that is a process and loads its disk.
struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Start one; it is loading the disk.
    fn start(socket: &Path) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "peers::a_peer_of_other_stories", "--nocapture"]);
        command.env(SOCKET, socket).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut peer = Self { child, input, output: BufReader::new(output) };
        peer.wait_for("loading");
        peer
    }

    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while !line.starts_with(word) {
            line.clear();
            let bytes = self.output.read_line(&mut line).unwrap();
            assert!(bytes > 0, "the front end ended before it said {word:?}");
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ask it to end; it finds on the disk what it wrote.
    fn conclude(mut self) {
        drop(self.input.take());
        self.wait_for("verified");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn written(operator: &mut Operator) -> u64 {
    counter(operator, "disk0", "wr_operations")
}

#[test]
fn a_front_end_that_is_stopped_in_the_middle_of_it_all_goes_on_where_it_was() {
    let stop = Duration::from_secs(times(3, 60).into());
    let dir = tempfile::tempdir().unwrap();
    let daemon =
        Daemon::start_disks(dir.path(), &["id=disk0,memory=4M,num-queues=2", "id=good,memory=4M"]);
    let mut operator = daemon.operator();
    let mut good = Front::connect(&daemon.socket("good"));
    good.negotiate(feature::ALL);
    let mut good_queue = good.start_queues(1, 16).remove(0);
    let peer = Peer::start(&daemon.socket("disk0"));
    let watched = Watched::of(daemon.id());
    peer.signal(Signal::STOP);
    wait_until("what is on its way has ended", || {
        let before = written(&mut operator);
        std::thread::sleep(Duration::from_millis(100));
        written(&mut operator) == before
    });
    let (began, before, at_stop) = (Instant::now(), watched.sample(), written(&mut operator));
    while began.elapsed() < stop {
        assert!(good_queue.is_alive(), "another disk does not notice");
        set_state(&mut operator, "good", "none");
        std::thread::sleep(Duration::from_millis(10));
    }
    let after = watched.sample();
    assert_eq!(written(&mut operator), at_stop, "nothing happens for a front end that is stopped");
    assert_eq!((after.descriptors, after.threads), (before.descriptors, before.threads));
    assert!(after.anonymous_kib <= before.anonymous_kib + 1024, "{before}; then {after}");
    peer.signal(Signal::CONT);
    wait_until("it goes on", || written(&mut operator) > at_stop + 100);
    peer.conclude();
    assert!(daemon.terminate().success());
}

#[test]
fn a_front_end_that_is_killed_under_load_leaves_nothing_and_the_next_is_served() {
    let kills = times(5, 300);
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path(), &["--memory", "4M", "--num-queues", "2"]);
    let mut operator = daemon.operator();
    let watched = Watched::of(daemon.id());
    let kill_one = |operator: &mut Operator| {
        let peer = Peer::start(&daemon.socket("disk0"));
        peer.signal(Signal::KILL);
        drop(peer);
        operator.wait_event("BLOCK_EXPORT_DISCONNECTED");
    };
    (0..3).for_each(|_| kill_one(&mut operator));
    let idle = || held(daemon.id(), watched.sample());
    let mut before = idle();
    wait_until("it is quiet", || {
        std::thread::sleep(Duration::from_millis(50));
        std::mem::replace(&mut before, idle()) == before
    });
    let kib_before = watched.sample().anonymous_kib;
    for _ in 0..kills {
        kill_one(&mut operator);
        wait_until("nothing is left behind", || idle() == before);
    }
    let kib = watched.sample().anonymous_kib.saturating_sub(kib_before);
    eprintln!("B-40 x {kills}: {kib} KiB kept");
    assert!(kib < 1024, "{kib} KiB are kept");
    Peer::start(&daemon.socket("disk0")).conclude();
    assert!(daemon.terminate().success());
}

/// Descriptors, threads, and mappings of guest memory: stacks and the like come and go.
fn held(daemon: u32, sample: Sample) -> [usize; 3] {
    let maps = std::fs::read_to_string(format!("/proc/{daemon}/maps")).unwrap();
    let guest = maps.lines().filter(|line| line.contains("memfd:")).count();
    [sample.descriptors, sample.threads, guest]
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in {WAIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
