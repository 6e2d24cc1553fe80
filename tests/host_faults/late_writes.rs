//! E-07: what a killed daemon had asked of its image must not land on what its successor writes.
//!
//! The host holds every write back, the daemon is killed with all of them in flight and started again
//! at once, as a supervisor does: until it works. The successor does again what was in flight, the
//! guest writes other content over it, and the host lets the old writes go: into the restart, at a
//! random moment. The fence is the image's lock, which is given up only when the last old write has
//! ended. The control is the same story without the lock, where the old writes must be seen on top.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::host::lend;
use crate::support::daemon::Daemon;
use crate::support::front::request::{SECTOR, Status, kind};
use crate::support::front::ring::Queue;
use crate::support::front::{Front, Inflight, Memory, feature};
use crate::support::fuse::{Class, Host, Plan, Shape, Trouble, When};
use crate::support::load::Dice;
use crate::times;

pub(crate) const BLOCKS: u16 = 16;
pub(crate) const BLOCK_BYTES: usize = 4096;
const QUEUE_SIZE: u16 = 128;
/// How long after the kill the host lets the old writes go, at most.
pub(crate) const LET_GO_MS: u64 = 300;
/// How long a start waits for the lock of an image.
pub(crate) const START_WAITS_MS: u64 = 2000;
/// How long after a start was refused a supervisor tries again.
const START_AGAIN_AFTER: Duration = Duration::from_millis(20);
const WAIT: Duration = Duration::from_secs(60);
pub(crate) const SHAPE: Shape = Shape { cached: false, block_bytes: 512, async_direct: true };
const HOLD: Plan = Plan { class: Class::Write, when: When::Always, trouble: Trouble::Held };

fn content(block: u16, version: u64) -> Vec<u8> {
    (version << 16 | u64::from(block)).to_le_bytes().repeat(BLOCK_BYTES / 8)
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + WAIT;
    while !done() {
        assert!(Instant::now() < until, "waited {WAIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How the guest is served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    pub(crate) aio: &'static str,
    pub(crate) is_locked: bool,
    pub(crate) is_read_only: bool,
}

/// A guest on an image of the slow host.
pub(crate) struct Guest<'a> {
    host: &'a Host,
    daemon: Daemon,
    service: Service,
    pub(crate) queue: Queue,
    memory: Memory,
    features: u64,
    region: Inflight,
    front: Option<Front>,
    _directory: tempfile::TempDir,
}

/// The guest's disk over an image that nobody locks, which only the monitor can make.
fn add_unlocked(daemon: &Daemon, host: &Host, service: Service) {
    let mut operator = daemon.operator();
    let node = json!({ "driver": "file", "node-name": "image", "filename": host.image(),
        "locking": "off", "aio": service.aio, "read-only": service.is_read_only,
        "cache": { "direct": true } });
    operator.must("blockdev-add", node);
    let address = json!({ "type": "unix", "path": daemon.socket("guest") });
    let export = json!({ "type": "vhost-user-blk", "id": "guest", "node-name": "image",
        "addr": address, "writable": !service.is_read_only });
    operator.must("block-export-add", export);
}

impl<'a> Guest<'a> {
    pub(crate) fn boot(host: &'a Host, service: Service) -> Self {
        let Service { aio, is_locked, is_read_only } = service;
        host.begin(1 << 20);
        let directory = tempfile::tempdir().unwrap();
        let image = host.image();
        let mut options = vec!["--blk-file", image.to_str().unwrap(), "--aio", aio];
        options.extend(["--cache", "none"]);
        options.extend(is_read_only.then_some("--read-only"));
        if !is_locked {
            options = vec!["--memory", "1M"];
        }
        let daemon = Daemon::start(directory.path(), &options);
        if !is_locked {
            add_unlocked(&daemon, host, service);
        }
        let socket = daemon.socket(if is_locked { "disk0" } else { "guest" });
        let mut front = Front::connect(&socket);
        let region = front.get_inflight(1, QUEUE_SIZE).unwrap();
        front.set_inflight(&region).unwrap();
        front.negotiate(feature::ALL);
        let mut queue = front.start_queues(1, QUEUE_SIZE).remove(0);
        queue.prepare_slots(BLOCKS, BLOCK_BYTES as u64);
        Self {
            host,
            daemon,
            service,
            queue,
            memory: front.memory.clone(),
            features: front.accepted,
            region,
            front: Some(front),
            _directory: directory,
        }
    }

    fn start_writes(&mut self, version: u64) {
        for block in 0..BLOCKS {
            self.queue.fill_slot(block, &content(block, version));
            let sector = u64::from(block) * (BLOCK_BYTES / SECTOR) as u64;
            self.queue.start(block, kind::OUT, sector, BLOCK_BYTES as u32);
        }
        self.queue.kick();
    }

    pub(crate) fn finish(&mut self) {
        let ends = self.queue.finish_all();
        assert!(ends.iter().all(|end| end.status == Status::Ok), "{ends:?}");
    }

    /// Start the daemon again, and again, until it serves; how often that was refused.
    fn come_back(&mut self) -> u32 {
        let until = Instant::now() + WAIT;
        let mut refused = 0;
        while let Err(said) = self.daemon.try_start_again() {
            assert!(Instant::now() < until, "it does not start again: {said}");
            refused += 1;
            std::thread::sleep(START_AGAIN_AFTER);
        }
        if self.service.is_locked {
            assert_eq!(self.host.late(), 0, "it serves although the dead one's calls are coming");
        } else {
            add_unlocked(&self.daemon, self.host, self.service);
        }
        let socket = self.daemon.socket(if self.service.is_locked { "disk0" } else { "guest" });
        let queues = std::slice::from_ref(&self.queue);
        let front = Front::resume(&socket, &self.memory, self.features, Some(&self.region), queues);
        self.front = Some(front.unwrap());
        refused
    }

    /// Blocks that do not hold this version.
    fn wrong(&mut self, version: u64) -> usize {
        let is_wrong = |block: &u16| {
            let sector = u64::from(*block) * (BLOCK_BYTES / SECTOR) as u64;
            let read = self.queue.read(sector, BLOCK_BYTES);
            assert_eq!(read.status, Status::Ok);
            read.data != content(*block, version)
        };
        (0..BLOCKS).filter(is_wrong).count()
    }

    /// Kill the daemon once all that was started is at the host, and start it again; how often that
    /// was refused. The host lets go of what it held after a while, or keeps it where nothing waits.
    pub(crate) fn die_and_come_back(&mut self, let_go_after: Duration) -> u32 {
        let host = self.host;
        wait_for("all of it to be at the host", || host.late() == usize::from(BLOCKS));
        // Nobody waits for the process to be gone: what it waits for in the kernel may keep it.
        self.daemon.kill_after(Duration::ZERO).join().unwrap();
        self.front = None;
        host.plan(None);
        let is_locked = self.service.is_locked;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(let_go_after);
                if is_locked {
                    host.let_go();
                }
            });
            self.come_back()
        })
    }

    /// One death among writes; how many blocks were wrong afterwards, and how many starts were
    /// refused.
    fn die_writing(&mut self, version: u64, let_go_after: Duration) -> (usize, u32) {
        let host = self.host;
        host.plan(Some(HOLD));
        self.start_writes(version);
        let refused = self.die_and_come_back(let_go_after);
        self.finish();
        self.start_writes(version + 1);
        self.finish();
        host.let_go();
        wait_for("the old writes", || host.late() == 0);
        (self.wrong(version + 1), refused)
    }
}

/// A daemon whose calls are held could not be waited for.
impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.host.let_go();
    }
}

pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn nothing_late_lands(aio: &'static str) {
    let Some(host) = lend("late writes", Host::mount(SHAPE)) else { return };
    let mut guest = Guest::boot(&host, Service { aio, is_locked: true, is_read_only: false });
    let mut dice = Dice::new(7);
    let (mut wrong, mut refused) = (0, 0);
    let rounds = times(5, 200);
    for round in 0..rounds {
        // Once it takes longer than a start waits for the lock.
        let wait_ms = if round == 0 { START_WAITS_MS + LET_GO_MS } else { dice.below(LET_GO_MS) };
        let let_go_after = Duration::from_millis(wait_ms);
        let seen = guest.die_writing(u64::from(round) * 2 + 1, let_go_after);
        wrong += seen.0;
        refused += seen.1;
    }
    tell(&format!(
        "E-07 {aio}: {rounds} kills with {BLOCKS} writes at the host, {refused} starts refused, \
         WRONG {wrong}"
    ));
    assert_eq!(wrong, 0);
    assert!(refused > 0, "a start gives up in the end");
}

#[test]
fn no_write_of_a_dead_daemon_over_io_uring_lands_on_what_comes_after() {
    nothing_late_lands("io_uring");
}

#[test]
fn no_write_of_a_dead_daemon_over_threads_lands_on_what_comes_after() {
    nothing_late_lands("threads");
}

/// Over threads this cannot be shown: what a thread waits for in the kernel keeps the dead process's
/// sockets, too, and its successor is refused them.
#[test]
fn without_the_lock_writes_of_a_dead_daemon_over_io_uring_land_on_what_comes_after() {
    let Some(host) = lend("late writes", Host::mount(SHAPE)) else { return };
    let service = Service { aio: "io_uring", is_locked: false, is_read_only: false };
    let mut guest = Guest::boot(&host, service);
    let (wrong, _) = guest.die_writing(1, Duration::ZERO);
    tell(&format!("E-07 io_uring, control without the lock: WRONG {wrong} of {BLOCKS} blocks"));
    assert!(wrong > 0, "the story above would show nothing");
}
