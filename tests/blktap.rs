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
}

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use host::{Mount, lend, sparse};
use support::daemon::{Daemon, counter};
use support::front::request::{SECTOR, Status, kind};
use support::front::{Front, feature};

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

/// Fill a block so that each sector says where it belongs.
fn stamp(block: &mut [u8], number: usize) {
    let first_sector = number * block.len() / SECTOR;
    for (index, sector) in block.chunks_mut(SECTOR).enumerate() {
        let word = ((first_sector + index) as u64 ^ 0x6c62_6b66_6175_6c74).to_le_bytes();
        sector.chunks_mut(8).for_each(|place| place.copy_from_slice(&word));
    }
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

    /// One request for each of the blocks, [`DEPTH`] at a time; tells which ended well. What was
    /// read must be what belongs there.
    fn each(&mut self, kind: u32, numbers: &[usize]) -> Vec<(usize, bool)> {
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
                outcome.push((number, finished.status == Status::Ok));
                if kind == kind::IN && finished.status == Status::Ok {
                    self.check(finished.slot, number);
                }
            }
        }
        outcome
    }

    fn check(&mut self, slot: u16, number: usize) {
        let mut read = vec![0; self.block.len()];
        self.queue.slot_into(slot, &mut read);
        stamp(&mut self.block, number);
        assert!(read == self.block, "block {number} was acknowledged and is wrong");
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
    let image = sparse(&small.path.join("disk.img"), IMAGE_BYTES);
    let reserve = small.path.join("reserve");
    std::fs::write(&reserve, vec![1; RESERVE_BYTES]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut options = vec!["--blk-file", image.to_str().unwrap()];
    options.extend(arm.options);
    let daemon = Daemon::start(directory.path(), &options);
    let mut operator = daemon.operator();
    let mut front = Front::connect(&daemon.socket("disk0"));
    let mut guest = Guest::boot(&mut front, block_bytes);

    let numbers: Vec<usize> = (0..WRITTEN_BYTES / block_bytes).collect();
    let outcome = guest.each(kind::OUT, &numbers);
    let pick = |wanted: bool| -> Vec<usize> {
        outcome.iter().filter(|(_, well)| *well == wanted).map(|(number, _)| *number).collect()
    };
    let (acknowledged, refused) = (pick(true), pick(false));
    let acknowledged_bytes = (acknowledged.len() * block_bytes) as u64;
    assert!(acknowledged_bytes <= SMALL_BYTES, "no more than there is room for");
    assert!(acknowledged_bytes >= SMALL_BYTES / 2, "the disk worked while there was room");
    let failed = counter(&mut operator, "disk0", "failed_wr_operations");
    assert_eq!(failed, refused.len() as u64, "every refusal is counted");
    let event = operator.wait_event("BLOCK_IO_ERROR");
    assert_eq!(event["data"]["nospace"], true, "{event}");

    let read = guest.each(kind::IN, &acknowledged);
    assert!(read.iter().all(|(_, well)| *well), "what was acknowledged can be read");
    assert_eq!(guest.queue.flush().status, Status::Ok, "what was acknowledged can be made durable");
    let wrong = wrong_in_image(&image, block_bytes, &acknowledged);
    assert_eq!(wrong, 0, "acknowledged and wrong");

    std::fs::remove_file(&reserve).unwrap();
    let again: Vec<usize> = refused[..RESERVE_BYTES / 2 / block_bytes].to_vec();
    let outcome = guest.each(kind::OUT, &again);
    assert!(outcome.iter().all(|(_, well)| *well), "the disk works again once there is space");
    assert!(guest.each(kind::IN, &again).iter().all(|(_, well)| *well));
    // Past the test harness, which hides what passing tests say.
    let _ = writeln!(
        std::io::stderr(),
        "{:26} {:5} KiB: {:4} MiB acknowledged, {} requests refused, {wrong} acknowledged and wrong",
        arm.name,
        block_bytes / 1024,
        acknowledged_bytes as usize / MIB,
        refused.len(),
    );
    drop(front);
    drop(daemon);
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
