//! A guest under load whose back end comes and goes.
//!
//! Knows: a daemon over a raw image, a verified load, and how a front end takes up its work again.
//! Must not know: what happens to the daemon. Invariants: guest memory, rings and the region of
//! requests in flight outlive every connection; what was done again is counted as each daemon says.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::daemon::{Daemon, resubmitted};
use super::front::{Front, Inflight, Memory, Refusal};
use super::load::{Load, ready};

/// Bytes of the disk.
const DISK_BYTES: u64 = 64 << 20;
/// Memory for the buffers of four deep queues.
const MEMORY: &[(u64, u64)] = &[(0, 256 << 20)];
/// Descriptors of each queue.
const QUEUE_SIZE: u16 = 1024;

/// A guest, its disk and the program that serves it.
#[derive(Debug)]
pub struct Guest {
    pub daemon: Daemon,
    pub load: Load,
    front: Option<Front>,
    memory: Memory,
    features: u64,
    region: Option<Inflight>,
    /// Requests done again, by the process of each life that has said so.
    resubmitted: HashMap<u32, u64>,
    _directory: TempDir,
}

impl Guest {
    /// A guest with so many queues so deep, over a raw image with these options.
    pub fn new(seed: u64, queues: u16, depth: u16, options: &[&str]) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let image = directory.path().join("disk.img");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        let queues_text = queues.to_string();
        let mut all = vec!["--blk-file", image.to_str().unwrap(), "--num-queues", &queues_text];
        all.extend(options);
        let daemon = Daemon::start(directory.path(), &all);
        let mut front = Front::with_memory(&daemon.socket("disk0"), MEMORY);
        let region = front.get_inflight(queues, QUEUE_SIZE).unwrap();
        front.set_inflight(&region).unwrap();
        let rings = ready(&mut front, queues, QUEUE_SIZE);
        Self {
            load: Load::new(seed, DISK_BYTES, depth, rings),
            memory: front.memory.clone(),
            features: front.accepted,
            front: Some(front),
            region: Some(region),
            resubmitted: HashMap::new(),
            daemon,
            _directory: directory,
        }
    }

    fn socket(&self) -> PathBuf {
        self.daemon.socket("disk0")
    }

    /// The connection.
    pub fn front(&self) -> &Front {
        self.front.as_ref().expect("a connection")
    }

    /// Forget the connection, as a front end does whose back end has gone.
    pub fn lose_connection(&mut self) {
        self.front = None;
    }

    /// Forget which requests were in flight: what a front end without INFLIGHT_SHMFD does.
    pub fn forget_in_flight(&mut self) {
        self.region = None;
    }

    /// Connect again and go on.
    pub fn reconnect(&mut self) -> Result<(), Refusal> {
        let Self { memory, features, region, load, .. } = self;
        let region = region.as_ref();
        let front =
            Front::resume(&self.daemon.socket("disk0"), memory, *features, region, &load.queues)?;
        self.front = Some(front);
        Ok(())
    }

    /// Connect again to a back end that may not have seen yet that the connection was lost.
    pub fn reconnect_until_taken(&mut self) {
        let until = Instant::now() + Duration::from_secs(30);
        while let Err(refusal) = self.reconnect() {
            assert!(Instant::now() < until, "{refusal:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Connect to what has just started; tells how long the guest waited for an answer from then on.
    pub fn come_back(&mut self) -> Duration {
        let accepted = Instant::now();
        self.reconnect().unwrap_or_else(|refusal| panic!("{:?}: {refusal:?}", self.socket()));
        while self.load.step() == 0 {
            self.load.check_hung();
            std::thread::yield_now();
        }
        let waited = accepted.elapsed();
        self.count_resubmitted();
        waited
    }

    /// Ask the daemon what it has done again so far: all that this connection began with, since
    /// starting a ring counts it.
    fn count_resubmitted(&mut self) {
        let count = resubmitted(&mut self.daemon.operator(), "disk0");
        self.resubmitted.insert(self.daemon.id(), count);
    }

    /// Stop every ring under load and start it where it stopped, as QEMU's `stop` and `cont` do.
    pub fn restart_queues(&mut self) {
        let front = self.front.as_ref().expect("a connection");
        for queue in &mut self.load.queues {
            let base = front.stop_queue(queue.index);
            front.restart_queue(queue, base);
        }
    }

    /// Stop, look at everything, and tell how many requests were done again in all lives of which
    /// somebody saw the end of a handshake.
    pub fn conclude(mut self) -> u64 {
        self.load.verify_all();
        self.count_resubmitted();
        self.resubmitted.values().sum()
    }
}

/// The middle, the 99th percentile and the most of some times.
pub fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    format!("p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100))
}
