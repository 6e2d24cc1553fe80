//! Breaking a disk by command: a whole daemon, operators at its monitor, and a guest that meets it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::cast_possible_truncation, reason = "sizes of these tests' own")]

mod breakpoints;
mod events;
mod full_host;
#[path = "../block/host.rs"]
#[allow(dead_code, reason = "shared with tests/block")]
mod host;
mod refusals;
mod rules;
mod state_dir;
mod verbs;
#[path = "../support"]
mod support {
    pub mod daemon;
    pub mod front;
    pub mod operator;
}

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::front::{Front, Queue, feature};
use support::operator::Operator;

/// A daemon with one disk in memory, an operator, and a guest with one queue.
struct Scene {
    guest: Queue,
    _front: Front,
    operator: Operator,
    daemon: Daemon,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::with(&[])
    }

    /// The same with more options for the disk.
    fn with(options: &[&str]) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), options)
    }

    fn in_folder(folder: tempfile::TempDir, options: &[&str]) -> Self {
        let options = [&["--memory", "1M"], options].concat();
        let daemon = Daemon::start(folder.path(), &options);
        // First, so that it hears of the guest.
        let operator = daemon.operator();
        let mut front = Front::connect(&daemon.socket("disk0"));
        front.negotiate(feature::ALL);
        let mut guest = front.start_queues(1, 64).remove(0);
        guest.prepare_slots(16, 4096);
        Self { guest, _front: front, operator, daemon, folder }
    }

    /// A command about the disk that must succeed.
    fn must(&mut self, command: &str, mut arguments: Value) -> Value {
        arguments["id"] = json!("disk0");
        self.operator.must(command, arguments)
    }
}
