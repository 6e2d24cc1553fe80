//! The blktap story: an image is larger than its host's file system, and the guest fills it.
//!
//! blktap acknowledged writes that had failed for want of space, and guests lost data without a word.
//! Here a 2 GiB sparse image lies on a file system of 200 MB, the guest writes 1 GiB, and every byte
//! that was acknowledged is read back. Each engine, each request size; a table on standard error.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::cast_possible_truncation, reason = "sizes of this file's own")]

#[path = "block/host.rs"]
#[allow(dead_code, reason = "shared with tests/block")]
mod host;
mod support {
    #[path = "../support/daemon.rs"]
    pub mod daemon;
    #[path = "../support/front/mod.rs"]
    pub mod front;
    #[path = "../support/operator.rs"]
    pub mod operator;
    #[path = "../support/qsd.rs"]
    pub mod qsd;
}

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use host::{Mount, lend, sparse};
use serde_json::json;
use support::daemon::{Daemon, counter};
use support::front::request::{SECTOR, Status, kind};
use support::front::{Config, Front, feature};
use support::qsd::Qsd;

const MIB: usize = 1 << 20;
const SMALL_BYTES: u64 = 200_000_000;
const IMAGE_BYTES: u64 = 2 << 30;
const WRITTEN_BYTES: usize = 1 << 30;
/// Kept free for the end of the story by a file that is removed then.
const RESERVE_BYTES: usize = 16 * MIB;
/// Requests in flight.
const DEPTH: u16 = 16;

/// An engine of the raw image, and the file system it meets.
#[derive(Clone, Copy)]
struct Arm {
    name: &'static str,
    options: &'static [&'static str],
    file_system: fn(u64) -> Result<Mount, String>,
}

const ARMS: [Arm; 4] = [
    Arm { name: "io_uring, tmpfs", options: &["--aio", "io_uring"], file_system: Mount::tmpfs },
    Arm { name: "threads, tmpfs", options: &["--aio", "threads"], file_system: Mount::tmpfs },
    Arm {
        name: "io_uring, O_DIRECT, ext4",
        options: &["--aio", "io_uring", "--cache", "none"],
        file_system: Mount::ext4,
    },
    Arm {
        name: "threads, O_DIRECT, ext4",
        options: &["--aio", "threads", "--cache", "none"],
        file_system: Mount::ext4,
    },
];

/// The same of qemu-storage-daemon: its `aio`, and whether around the page cache.
const QEMU_ARMS: [(&str, bool); 4] =
    [("io_uring", false), ("threads", false), ("io_uring", true), ("native", true)];

/// Fill a block so that each sector says where it belongs.
fn stamp(block: &mut [u8], number: usize) {
    let first_sector = number * block.len() / SECTOR;
    for (index, sector) in block.chunks_mut(SECTOR).enumerate() {
        let word = ((first_sector + index) as u64 ^ 0x6c62_6b66_6175_6c74).to_le_bytes();
        sector.chunks_mut(8).for_each(|place| place.copy_from_slice(&word));
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    Refused,
    /// It was answered well, and what was read is not what was acknowledged.
    Wrong,
}

struct Guest {
    queue: support::front::ring::Queue,
    block: Vec<u8>,
}

impl Guest {
    fn boot(front: &mut Front, block_bytes: usize) -> Self {
        front.negotiate(feature::ALL);
        let mut queue = front.start_queues(1, 128).remove(0);
        queue.prepare_slots(DEPTH, block_bytes as u64);
        Self { queue, block: vec![0; block_bytes] }
    }

    /// One request for each of the blocks, [`DEPTH`] at a time; tells how each ended.
    fn each(&mut self, kind: u32, numbers: &[usize]) -> Vec<(usize, End)> {
        let mut outcome = Vec::with_capacity(numbers.len());
        let sectors = (self.block.len() / SECTOR) as u64;
        for batch in numbers.chunks(DEPTH.into()) {
            for (slot, &number) in (0..).zip(batch) {
                if kind == kind::OUT {
                    stamp(&mut self.block, number);
                    self.queue.fill_slot(slot, &self.block);
                }
                let bytes = self.block.len() as u32;
                self.queue.start(slot, kind, number as u64 * sectors, bytes);
            }
            self.queue.kick();
            for finished in self.queue.finish_all() {
                let number = batch[usize::from(finished.slot)];
                assert_ne!(finished.status, Status::Unwritten, "every request has a status");
                let end = if finished.status != Status::Ok {
                    End::Refused
                } else if kind == kind::IN && !self.is_right(finished.slot, number) {
                    End::Wrong
                } else {
                    End::Well
                };
                outcome.push((number, end));
            }
        }
        outcome
    }

    fn is_right(&mut self, slot: u16, number: usize) -> bool {
        let mut read = vec![0; self.block.len()];
        self.queue.slot_into(slot, &mut read);
        stamp(&mut self.block, number);
        read == self.block
    }

    /// Write all there is, look at what was acknowledged, make room, and write again.
    fn fill(&mut self, scene: &Scene) -> Seen {
        let block_bytes = self.block.len();
        let numbers: Vec<usize> = (0..WRITTEN_BYTES / block_bytes).collect();
        let outcome = self.each(kind::OUT, &numbers);
        let pick = |wanted: End| -> Vec<usize> {
            outcome.iter().filter(|(_, end)| *end == wanted).map(|(number, _)| *number).collect()
        };
        let (acknowledged, refused) = (pick(End::Well), pick(End::Refused));
        let read = self.each(kind::IN, &acknowledged);
        let flushed = self.queue.flush().status == Status::Ok;
        let wrong_in_image = wrong_in_image(&scene.image, block_bytes, &acknowledged);
        std::fs::remove_file(&scene.reserve).unwrap();
        let again: Vec<usize> =
            refused.iter().copied().take(RESERVE_BYTES / 2 / block_bytes).collect();
        let all_well = |ends: Vec<(usize, End)>| ends.iter().all(|(_, end)| *end == End::Well);
        let works_again =
            all_well(self.each(kind::OUT, &again)) && all_well(self.each(kind::IN, &again));
        Seen {
            acknowledged_bytes: (acknowledged.len() * block_bytes) as u64,
            refused: refused.len(),
            unreadable: read.iter().filter(|(_, end)| *end == End::Refused).count(),
            wrong: wrong_in_image + read.iter().filter(|(_, end)| *end == End::Wrong).count(),
            flushed,
            works_again,
        }
    }
}

/// What a guest met on a disk without room.
#[derive(Debug)]
struct Seen {
    acknowledged_bytes: u64,
    refused: usize,
    /// Acknowledged, and an error when read.
    unreadable: usize,
    /// Acknowledged and wrong, for the guest or on the host.
    wrong: usize,
    flushed: bool,
    /// Once there is room.
    works_again: bool,
}

impl Seen {
    /// A line of the table, past the test harness, which hides what passing tests say.
    fn tell(&self, name: &str, block_bytes: usize) {
        let yes = |well: bool| if well { "yes" } else { "NO" };
        let _ = writeln!(
            std::io::stderr(),
            "{name:50} {:5} KiB: {:4} MiB acknowledged, {} requests refused, {} unreadable, {} \
             acknowledged and wrong; flushes: {}, works again: {}",
            block_bytes / 1024,
            self.acknowledged_bytes as usize / MIB,
            self.refused,
            self.unreadable,
            self.wrong,
            yes(self.flushed),
            yes(self.works_again),
        );
    }
}

/// An image that is larger than its file system, and a file that can make room.
struct Scene {
    image: PathBuf,
    reserve: PathBuf,
    _small: Mount,
}

impl Scene {
    fn new(small: Mount) -> Self {
        let image = sparse(&small.path.join("disk.img"), IMAGE_BYTES);
        let reserve = small.path.join("reserve");
        std::fs::write(&reserve, vec![1; RESERVE_BYTES]).unwrap();
        Self { image, reserve, _small: small }
    }
}

/// The host's own look at the image, past the daemon.
fn wrong_in_image(image: &Path, block_bytes: usize, acknowledged: &[usize]) -> usize {
    let file = File::open(image).unwrap();
    let (mut expected, mut found) = (vec![0; block_bytes], vec![0; block_bytes]);
    let is_wrong = |&&number: &&usize| {
        stamp(&mut expected, number);
        file.read_exact_at(&mut found, (number * block_bytes) as u64).unwrap();
        found != expected
    };
    acknowledged.iter().filter(is_wrong).count()
}

/// One at a time: each fills a file system of its own, and there are few loop devices.
static TURN: Mutex<()> = Mutex::new(());

fn story(arm: Arm, block_bytes: usize) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(small) = lend(arm.name, (arm.file_system)(SMALL_BYTES)) else { return };
    let scene = Scene::new(small);
    let directory = tempfile::tempdir().unwrap();
    let mut options = vec!["--blk-file", scene.image.to_str().unwrap()];
    options.extend(arm.options);
    let daemon = Daemon::start(directory.path(), &options);
    let mut operator = daemon.operator();
    let mut front = Front::connect(&daemon.socket("disk0"));
    let seen = Guest::boot(&mut front, block_bytes).fill(&scene);

    assert!(seen.acknowledged_bytes <= SMALL_BYTES, "no more than there is room for: {seen:?}");
    assert!(seen.acknowledged_bytes >= SMALL_BYTES / 2, "it worked while there was room: {seen:?}");
    let failed = counter(&mut operator, "disk0", "failed_wr_operations");
    assert_eq!(failed, seen.refused as u64, "every refusal is counted");
    let event = operator.wait_event("BLOCK_IO_ERROR");
    assert_eq!(event["data"]["nospace"], true, "{event}");
    assert_eq!(seen.unreadable, 0, "what was acknowledged can be read");
    assert_eq!(seen.wrong, 0, "acknowledged and wrong");
    assert!(seen.flushed, "what was acknowledged can be made durable");
    assert!(seen.works_again, "the disk works again once there is space");
    seen.tell(arm.name, block_bytes);
    drop(front);
    drop(daemon);
}

/// The same story for comparison: what qemu-storage-daemon does is told and not judged.
fn story_of_qemu((aio, direct): (&str, bool), block_bytes: usize) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (what, file_system) = if direct {
        (", O_DIRECT, ext4", Mount::ext4(SMALL_BYTES))
    } else {
        (", tmpfs", Mount::tmpfs(SMALL_BYTES))
    };
    let name = format!("qemu-storage-daemon: {aio}{what}");
    let Some(small) = lend(&name, file_system) else { return };
    let scene = Scene::new(small);
    let directory = tempfile::tempdir().unwrap();
    let Some(qsd) = Qsd::start(directory.path()) else { return };
    let mut operator = qsd.operator();
    let file = json!({ "driver": "file", "filename": scene.image, "aio": aio,
        "cache": { "direct": direct } });
    operator.must("blockdev-add", json!({ "driver": "raw", "node-name": "disk", "file": file }));
    let socket = directory.path().join("disk");
    let address = json!({ "type": "unix", "path": socket });
    let export = json!({ "type": "vhost-user-blk", "id": "disk", "node-name": "disk",
        "writable": true, "addr": address });
    operator.must("block-export-add", export);
    let mut front = Qsd::connect(&socket);
    let mut guest = Guest::boot(&mut front, block_bytes);
    front.write_config(Config::WRITEBACK_AT, &[1]).unwrap();
    let seen = guest.fill(&scene);
    assert!(seen.refused > 0 && seen.acknowledged_bytes > 0, "it was the same story: {seen:?}");
    seen.tell(&name, block_bytes);
}

#[test]
fn nothing_that_was_acknowledged_4_kib_at_a_time_is_lost_on_a_full_host() {
    ARMS.iter().for_each(|arm| story(*arm, 4 << 10));
}

#[test]
fn nothing_that_was_acknowledged_64_kib_at_a_time_is_lost_on_a_full_host() {
    ARMS.iter().for_each(|arm| story(*arm, 64 << 10));
}

#[test]
fn nothing_that_was_acknowledged_1_mib_at_a_time_is_lost_on_a_full_host() {
    ARMS.iter().for_each(|arm| story(*arm, MIB));
}

#[test]
fn the_same_story_is_told_of_qemu_storage_daemon() {
    let long = std::env::var_os("BLKFAULT_LONG").is_some_and(|value| value == "1");
    if !long {
        return story_of_qemu(QEMU_ARMS[0], MIB);
    }
    for block_bytes in [4 << 10, 64 << 10, MIB] {
        QEMU_ARMS.iter().for_each(|arm| story_of_qemu(*arm, block_bytes));
    }
}
