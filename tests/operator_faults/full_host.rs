//! The host has no space left: a write is held instead of failed, until an operator has made room.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::host::{Mount, lend, sparse};
use super::support::daemon::{Daemon, counter};
use super::support::front::{Front, Status, feature, kind};
use super::{Scene, Value, json};

const FILE_SYSTEM_BYTES: u64 = 4 << 20;
const IMAGE_BYTES: u64 = 16 << 20;
const BLOCK: [u8; 4096] = [0xb1; 4096];
/// Where the guest writes, in sectors and in bytes.
const AT: u64 = 64;
const AT_BYTES: u64 = AT * 512;
const PATIENCE: Duration = Duration::from_secs(60);

/// A disk over an image that is larger than its file system, and what fills the rest of that.
struct FullHost {
    scene: Scene,
    image: PathBuf,
    filler: PathBuf,
}

impl FullHost {
    fn new(mount: &Mount, aio: &str) -> Self {
        let image = sparse(&mount.path.join("disk.img"), IMAGE_BYTES);
        let filler = mount.path.join("filler");
        let path = image.to_str().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let daemon = Daemon::start(folder.path(), &["--blk-file", path, "--aio", aio]);
        let operator = daemon.operator();
        let mut front = Front::connect(&daemon.socket("disk0"));
        front.negotiate(feature::ALL);
        let mut guest = front.start_queues(1, 64).remove(0);
        guest.prepare_slots(4, BLOCK.len() as u64);
        fill(&filler);
        let scene = Scene { guest, _front: front, operator, daemon, folder };
        Self { scene, image, filler }
    }

    /// What a verb of `blkfault` prints.
    #[track_caller]
    fn run(&self, line: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blkfault"));
        command.args(line.split_whitespace()).env("BLKFAULT_MONITOR", self.scene.daemon.monitor());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one request that is held; waits for it.
    fn held(&self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let held: Value = serde_json::from_str(&self.run("held disk0 --json")).unwrap();
            match held.as_array().unwrap().as_slice() {
                [one] => return one.clone(),
                [] => assert!(Instant::now() < deadline, "nothing is held"),
                _ => panic!("held are {held}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn bytes_in_image(&self) -> [u8; BLOCK.len()] {
        let mut bytes = [0; BLOCK.len()];
        File::open(&self.image).unwrap().read_exact_at(&mut bytes, AT_BYTES).unwrap();
        bytes
    }
}

/// Take all the space that the file system has left.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    loop {
        match file.write(&BLOCK) {
            Ok(bytes) => assert_ne!(bytes, 0, "{}", path.display()),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}"),
        }
    }
}

fn a_write_waits_for_space(aio: &str) {
    let Some(mount) = lend("a write that waits for space", Mount::tmpfs(FILE_SYSTEM_BYTES)) else {
        return;
    };
    let mut host = FullHost::new(&mount, aio);
    // The host is full indeed: this is what the guest meets by default.
    assert_eq!(host.scene.guest.write(AT, &BLOCK).status, Status::IoErr);
    let told = host.scene.operator.wait_event("BLOCK_IO_ERROR")["data"].clone();
    assert_eq!((&told["action"], &told["nospace"]), (&json!("report"), &json!(true)), "{told}");
    let failed = counter(&mut host.scene.operator, "disk0", "failed_wr_operations");

    host.run("on-error disk0 hold-on-enospc");
    host.scene.guest.fill_slot(0, &BLOCK);
    host.scene.guest.start(0, kind::OUT, AT, BLOCK.len() as u32);
    host.scene.guest.kick();
    let told = host.scene.operator.wait_event("BLOCK_IO_ERROR")["data"].clone();
    assert_eq!((&told["action"], &told["nospace"]), (&json!("stop"), &json!(true)), "{told}");
    assert_eq!((&told["device"], &told["operation"]), (&json!("disk0"), &json!("write")));
    let held = host.held();
    assert_eq!((&held["cause"], &held["iotype"]), (&json!("on-error"), &json!("write")), "{held}");
    assert_eq!((&held["sector"], &held["bytes"]), (&json!(AT), &json!(BLOCK.len())), "{held}");

    // Asked again too early, the image fails it again, and it is held again.
    assert_eq!(host.run("resume disk0 --held-by on-error"), "1\n");
    assert_eq!(host.held()["ordinal"], held["ordinal"]);
    assert!(host.scene.guest.try_finish().is_none(), "the guest has met no end of it");
    assert_eq!(host.bytes_in_image(), [0; BLOCK.len()]);

    std::fs::remove_file(&host.filler).unwrap();
    assert_eq!(host.run("resume disk0 --held-by on-error"), "1\n");
    assert_eq!(host.scene.guest.finish().status, Status::Ok);
    assert_eq!(host.bytes_in_image(), BLOCK, "what was told to be written is there");
    assert_eq!(host.scene.guest.read(AT, BLOCK.len()).data, BLOCK);
    assert_eq!(host.run("held disk0 --json"), "[]\n");
    let failed_now = counter(&mut host.scene.operator, "disk0", "failed_wr_operations");
    assert_eq!(failed_now, failed, "no other request failed");
}

#[test]
fn a_write_that_finds_no_space_waits_until_there_is_some_with_io_uring() {
    a_write_waits_for_space("io_uring");
}

#[test]
fn a_write_that_finds_no_space_waits_until_there_is_some_with_threads() {
    a_write_waits_for_space("threads");
}
