//! The state contract, told of the whole daemon: a state holds from its reply on.
//!
//! `BLKFAULT_LONG=1` makes at least 100,000 toggles and 100 million requests of it, about a thousand
//! toggles a second on an optimised build.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::backend::DISK_BYTES;
use crate::support::daemon::{Daemon, counter};
use crate::support::front::{Finished, Front, Queue, SECTOR, Status, feature, kind};

const QUEUES: u16 = 4;
/// Requests of a queue at once: half of them write, each to a sector of its own.
const DEPTH: u16 = 16;

/// How often the state changes, and how long each lasts, at least and at most.
struct Pace {
    toggles: u64,
    requests: u64,
    pause_us: u64,
    more_us: u64,
}

impl Pace {
    fn chosen() -> Self {
        match std::env::var_os("BLKFAULT_LONG") {
            Some(_) => {
                Self { toggles: 100_000, requests: 100_000_000, pause_us: 200, more_us: 100 }
            }
            None => Self { toggles: 600, requests: 0, pause_us: 1000, more_us: 300 },
        }
    }

    /// Long enough for whole batches in one state, short enough for many to meet two.
    fn pause(&self, toggle: u64) -> Duration {
        Duration::from_micros(self.pause_us + toggle % 7 * self.more_us)
    }
}

/// What the operator has said, as far as a guest can know: odd from before a command is sent until
/// its reply has come. A guest that sees the same even number before it submits and after the answer
/// knows in which state its whole request ran.
type Epoch = AtomicU64;

/// The state of an even epoch.
fn is_error(epoch: u64) -> bool {
    epoch % 4 == 2
}

/// What requests told whose state is certain.
#[derive(Debug, Default)]
struct Certain {
    good: AtomicU64,
    bad: AtomicU64,
}

/// A driver of one queue, and what it knows of its sectors.
struct Guest<'a> {
    queue: Queue,
    epoch: &'a Epoch,
    certain: &'a Certain,
    /// Requests of all guests that have ended.
    progress: &'a AtomicU64,
    is_over: &'a AtomicBool,
    /// By slot: the version of its sector's content.
    versions: HashMap<u16, u64>,
    next_version: u64,
    requests: u64,
    failed: u64,
}

impl Guest<'_> {
    fn sector(&self, slot: u16) -> u64 {
        u64::from(self.queue.index * DEPTH + slot) * 8
    }

    /// Tells how many requests there were, and how many of them failed.
    fn run(mut self) -> [u64; 2] {
        self.queue.prepare_slots(DEPTH, SECTOR as u64);
        while !self.is_over.load(Ordering::Relaxed) {
            self.write_all();
            self.read_all();
            self.progress.fetch_add(2 * u64::from(DEPTH), Ordering::Relaxed);
        }
        [self.requests, self.failed]
    }

    /// A request in every slot; all of them ended, on the side on which they have to be.
    fn batch(&mut self, wanted: u32) -> Vec<Finished> {
        let before = self.epoch.load(Ordering::SeqCst);
        for slot in 0..DEPTH {
            self.queue.start(slot, wanted, self.sector(slot), SECTOR as u32);
        }
        self.queue.kick();
        let ends = self.queue.finish_all();
        let failed = ends.iter().filter(|end| end.status == Status::IoErr).count();
        let done = ends.iter().filter(|end| end.status == Status::Ok).count();
        assert_eq!(failed + done, ends.len(), "{ends:?}");
        self.requests += ends.len() as u64;
        self.failed += failed as u64;
        if before.is_multiple_of(2) && self.epoch.load(Ordering::SeqCst) == before {
            let (side, wrong) = if is_error(before) {
                (&self.certain.bad, done)
            } else {
                (&self.certain.good, failed)
            };
            assert_eq!(wrong, 0, "on the wrong side in epoch {before}: {ends:?}");
            side.fetch_add(ends.len() as u64, Ordering::Relaxed);
        }
        ends
    }

    fn write_all(&mut self) {
        let first = self.next_version;
        for slot in 0..DEPTH {
            let stamp = (first + u64::from(slot)).to_le_bytes().repeat(SECTOR / 8);
            self.queue.fill_slot(slot, &stamp);
        }
        self.next_version += u64::from(DEPTH);
        for end in self.batch(kind::OUT) {
            if end.status == Status::Ok {
                self.versions.insert(end.slot, first + u64::from(end.slot));
            }
        }
    }

    fn read_all(&mut self) {
        for end in self.batch(kind::IN) {
            if end.status != Status::Ok {
                continue;
            }
            let mut data = [0; SECTOR];
            self.queue.slot_into(end.slot, &mut data);
            let version = self.versions.get(&end.slot).copied().unwrap_or(0);
            let expected = version.to_le_bytes().repeat(SECTOR / 8);
            assert!(
                data[..] == expected[..],
                "slot {}: version {version} was the last that was answered well, {:?} is there",
                end.slot,
                &data[..8]
            );
        }
    }
}

#[test]
fn no_request_is_on_the_wrong_side_of_a_reply_and_no_failed_write_reaches_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
    let queues = QUEUES.to_string();
    let options = ["--blk-file", image.to_str().unwrap(), "--num-queues", &queues];
    let daemon = Daemon::start(dir.path(), &options);
    let mut front = Front::connect(&daemon.socket("disk0"));
    front.negotiate(feature::ALL);
    let (epoch, certain) = (Epoch::default(), Certain::default());
    let (progress, is_over) = (AtomicU64::default(), AtomicBool::default());
    let mut operator = crate::support::operator::Operator::connect_oob(&daemon.monitor());

    let (pace, began, mut toggles) = (Pace::chosen(), Instant::now(), 0);
    let [requests, failed] = std::thread::scope(|scope| {
        let guests = front.start_queues(QUEUES, 64).into_iter().map(|queue| Guest {
            queue,
            epoch: &epoch,
            certain: &certain,
            progress: &progress,
            is_over: &is_over,
            versions: HashMap::new(),
            next_version: 1,
            requests: 0,
            failed: 0,
        });
        let guests: Vec<_> = guests.map(|guest| scope.spawn(move || guest.run())).collect();
        let is_enough =
            |toggle| toggle >= pace.toggles && progress.load(Ordering::Relaxed) >= pace.requests;
        for toggle in (0..).take_while(|toggle| !is_enough(*toggle)) {
            toggles += 1;
            let state = if toggle % 2 == 0 { "error" } else { "none" };
            epoch.fetch_add(1, Ordering::SeqCst);
            let arguments = json!({ "id": "disk0", "state": state });
            operator.must_at_once("set-block-fault-state", arguments);
            epoch.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(pace.pause(toggle));
        }
        is_over.store(true, Ordering::Relaxed);
        let counts = guests.into_iter().map(|guest| guest.join().expect("a guest's story"));
        counts.fold([0; 2], |[all, bad], [requests, failed]| [all + requests, bad + failed])
    });
    let (good, bad) = (certain.good.into_inner(), certain.bad.into_inner());
    eprintln!(
        "H-01: {toggles} toggles in {:.0?}, {requests} requests: {good} certainly good, {bad} certainly \
         bad, none on the wrong side",
        began.elapsed()
    );
    assert!(good > 1_000 && bad > 1_000, "the story happened: {good} good, {bad} bad");
    let counted = ["failed_rd_operations", "failed_wr_operations"]
        .map(|name| counter(&mut operator, "disk0", name));
    assert_eq!(counted.iter().sum::<u64>(), failed, "as many as the guests saw");
}
