//! What the daemon has given up by the time it serves, and what still works.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::cast_possible_truncation, reason = "sizes of these tests' own")]

mod calls;
mod files;
mod process;
mod sockets;
#[path = "../support"]
mod support {
    pub mod daemon;
    pub mod front;
    pub mod operator;
}

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::front::{Front, Queue, Status, UNMAP, feature};

const SECTOR: usize = 512;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A file of zeroes.
fn image(path: PathBuf) -> PathBuf {
    File::create(&path).unwrap().set_len(4 << 20).unwrap();
    path
}

fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Say past the test harness, which hides what passing tests say, that this machine cannot do it.
fn leave_out(what: &str, why: &str) {
    let line = format!("left out: {what}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A guest with one queue.
fn guest(socket: &Path) -> (Front, Queue) {
    let mut front = Front::connect(socket);
    front.negotiate(feature::ALL);
    let queue = front.start_queues(1, 64).remove(0);
    (front, queue)
}

/// One request of each kind; all must succeed.
fn use_the_disk(queue: &mut Queue) {
    let data = [0xa5; 8 * SECTOR];
    assert_eq!(queue.write(8, &data).status, Status::Ok);
    assert_eq!(queue.flush().status, Status::Ok);
    assert_eq!(queue.read(8, data.len()).status, Status::Ok);
    assert_eq!(queue.write_zeroes(8, 8, 0).status, Status::Ok);
    assert_eq!(queue.write_zeroes(8, 8, UNMAP).status, Status::Ok);
    // Not every disk here has it; answered it must be.
    assert!(matches!(queue.discard(8, 8).status, Status::Ok | Status::Unsupp));
    assert_eq!(queue.get_id().status, Status::Ok);
}

fn file_node(name: &str, path: &Path, read_only: bool) -> Value {
    json!({"driver": "file", "node-name": name, "filename": path, "read-only": read_only})
}

fn export(id: &str, node: &str, socket: &Path) -> Value {
    json!({
        "type": "vhost-user-blk", "id": id, "node-name": node, "writable": true,
        "addr": {"type": "unix", "path": socket},
    })
}

/// A line of `/proc/PID/status`, or of a thread's.
fn status_line(path: &Path, name: &str) -> String {
    let status = fs::read_to_string(path.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
}
