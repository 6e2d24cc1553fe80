//! A back end under test: a disk served at a socket, by this process or by another program.
//!
//! Knows: how a disk is served and what the host says about it. Must not know: what is tested.
//! Invariant: nothing is served any more when a [`Backend`] is dropped.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use blkfault::block::{FaultFilter, FaultPoint, Node};
use blkfault::export::{Disk, DiskOptions, Door, Export, IoFailure, Observer, Serial};
use tempfile::TempDir;

use super::daemon::Daemon;
use super::nodes;

/// Longest that a program may take to listen; far beyond what it needs.
const START: Duration = Duration::from_secs(20);
/// Bytes of a disk in a story that needs no other size.
pub const DISK_BYTES: u64 = 4 << 20;

/// Options of an ordinary disk with this many queues.
pub fn options(num_queues: u16) -> DiskOptions {
    DiskOptions {
        id: "disk0".to_owned(),
        serial: Serial::new("SERIAL-0123456789").expect("a good serial"),
        logical_block_bytes: 512,
        num_queues,
        writable: true,
        writeback: true,
        held_on_stop: blkfault::export::HeldOnStop::Fail,
        remembers_faults: false,
        poll: blkfault::export::PollShare::default(),
    }
}

/// What a disk told its observer.
#[derive(Debug, Default)]
pub struct Seen {
    pub connected: AtomicU64,
    pub disconnected: AtomicU64,
    pub failures: Mutex<Vec<IoFailure>>,
}

impl Observer for Seen {
    fn connected(&self, _: &str) {
        self.connected.fetch_add(1, Ordering::SeqCst);
    }

    fn disconnected(&self, _: &str) {
        self.disconnected.fetch_add(1, Ordering::SeqCst);
    }

    fn io_failed(&self, _: &str, failure: IoFailure) {
        self.failures.lock().unwrap().push(failure);
    }
}

/// A disk served by this process, with a fault filter on top of its node.
#[derive(Debug)]
pub struct Served {
    /// Where front ends connect.
    pub socket: PathBuf,
    /// The disk's manual state.
    pub faults: Arc<FaultPoint>,
    /// What the disk told.
    pub seen: Arc<Seen>,
    /// The service itself.
    pub export: Export,
    _directory: TempDir,
}

impl Served {
    /// Serve a node.
    pub fn over(node: impl Node + 'static, options: DiskOptions) -> Self {
        Self::over_shared(Arc::new(node), options)
    }

    /// Serve a node that others use as well.
    pub fn over_shared(node: Arc<dyn Node>, options: DiskOptions) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let socket = directory.path().join("disk");
        let (faults, seen) = (Arc::new(FaultPoint::default()), Arc::new(Seen::default()));
        let filter = Arc::new(FaultFilter::new(node, faults.clone()));
        let disk = Arc::new(Disk::new(options, filter, seen.clone()));
        let listener = UnixListener::bind(&socket).expect("a socket to listen on");
        let export = Export::start(disk, Door::Listener(listener)).expect("serve");
        Self { socket, faults, seen, export, _directory: directory }
    }

    /// The disk being served.
    pub fn disk(&self) -> &Disk {
        self.export.disk()
    }

    /// Wait until the front end is known to have gone.
    pub fn wait_disconnected(&self) {
        eventually("the front end is seen to go", || !self.disk().is_connected());
    }
}

/// Some back end with an ordinary disk of [`DISK_BYTES`].
#[derive(Debug)]
pub enum Backend {
    InProcess(Served),
    Blkfaultd(Program),
    Qsd(Process),
}

/// The whole daemon.
#[derive(Debug)]
pub struct Program {
    socket: PathBuf,
    _daemon: Daemon,
    _directory: TempDir,
}

impl Program {
    fn start(num_queues: u16) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (bytes, queues) = (DISK_BYTES.to_string(), num_queues.to_string());
        let options = ["--memory", &bytes, "--num-queues", &queues];
        let daemon = Daemon::start(directory.path(), &options);
        Self { socket: daemon.socket("disk0"), _daemon: daemon, _directory: directory }
    }
}

impl Backend {
    /// Where front ends connect.
    pub fn socket(&self) -> &Path {
        match self {
            Self::InProcess(served) => &served.socket,
            Self::Blkfaultd(program) => &program.socket,
            Self::Qsd(process) => &process.socket,
        }
    }

    /// Every back end that ordinary stories are told over, by name. The last is QEMU's own, which
    /// checks the stories and the front end; where it is not installed that is said aloud.
    pub fn all(num_queues: u16) -> Vec<(&'static str, Self)> {
        let mut all = Vec::new();
        for (name, make) in nodes::ORDINARY {
            let served = Served::over_shared(make(DISK_BYTES), options(num_queues));
            all.push((*name, Self::InProcess(served)));
        }
        all.push(("blkfaultd", Self::Blkfaultd(Program::start(num_queues))));
        match Process::qsd(num_queues) {
            Some(process) => all.push(("qemu-storage-daemon", Self::Qsd(process))),
            None => left_out("qemu-storage-daemon", "it is not installed"),
        }
        all
    }
}

/// Say that something was left out, past the test harness, which hides what passing tests say.
fn left_out(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "LEFT OUT: {what}: {why}");
}

/// Another program that serves a disk.
#[derive(Debug)]
pub struct Process {
    socket: PathBuf,
    child: Child,
    directory: TempDir,
}

impl Process {
    /// QEMU's storage daemon with one export; `None` where it is not installed.
    fn qsd(num_queues: u16) -> Option<Self> {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (socket, image) = (directory.path().join("disk"), directory.path().join("image"));
        fs::File::create(&image).and_then(|file| file.set_len(DISK_BYTES)).expect("image");
        let log = fs::File::create(directory.path().join("log")).expect("log file");
        let mut command = Command::new("qemu-storage-daemon");
        command
            .arg("--blockdev")
            .arg(format!("driver=file,node-name=node0,filename={},discard=unmap", image.display()));
        command.arg("--export").arg(format!(
            "type=vhost-user-blk,id=disk0,node-name=node0,addr.type=unix,addr.path={},\
             writable=on,num-queues={num_queues}",
            socket.display()
        ));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("log file")).stderr(log);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => panic!("{command:?}: {error}"),
        };
        let mut process = Self { socket, child, directory };
        let deadline = Instant::now() + START;
        while !is_listening(&process.socket) {
            let ended = !matches!(process.child.try_wait(), Ok(None));
            assert!(!ended, "{command:?} ended: {}", process.log());
            assert!(Instant::now() < deadline, "{command:?} does not listen: {}", process.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(process)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the program's last words: {}", self.log());
        }
    }
}

/// Whether some socket listens at the path, seen without connecting to it.
fn is_listening(path: &Path) -> bool {
    const LISTENS: &str = "00010000";
    let table = fs::read_to_string("/proc/net/unix").expect("the kernel's table of sockets");
    let path = path.to_string_lossy();
    table.lines().any(|line| {
        line.ends_with(path.as_ref()) && line.split_whitespace().nth(3) == Some(LISTENS)
    })
}

/// Wait until something holds, which must be soon.
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in 20 s: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// What this process holds of the host now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    pub descriptors: usize,
    pub threads: usize,
    /// Mappings of guest memory.
    pub guest_mappings: usize,
}

/// Bytes of memory that are this process's own and in use now.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = anonymous.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("RssAnon in KiB") * 1024
}

impl Holdings {
    /// Count them.
    pub fn now() -> Self {
        let entries = |name: &str| fs::read_dir(name).map_or(0, Iterator::count);
        let maps = fs::read_to_string("/proc/self/maps").expect("maps");
        Self {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            guest_mappings: maps.lines().filter(|line| line.contains("memfd:guest")).count(),
        }
    }
}

/// Run a test in a process of its own, where nothing else opens descriptors or starts threads.
/// Returns whether this is that process.
pub fn alone(test: &str) -> bool {
    const MARK: &str = "BLKFAULT_TEST_ALONE";
    if std::env::var(MARK).is_ok_and(|name| name == test) {
        return true;
    }
    let myself = std::env::current_exe().expect("own path");
    let output = Command::new(myself)
        .args(["--exact", test, "--nocapture"])
        .env(MARK, test)
        .output()
        .expect("run the test alone");
    let text = String::from_utf8_lossy(&output.stdout);
    // Its figures.
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{test} alone: {text}");
    false
}
