//! Faults that are kept for the next daemon, on a host that has no room for them, and beside options
//! that say otherwise.

use std::process::Command;

use super::support::daemon::{Daemon, tail};
use super::support::front::{Front, Queue, Status, feature};
use super::support::operator::Operator;
use super::{Value, json};

/// No file of the daemon grows beyond this: to the daemon, as if there was no room left.
const ROOM_BYTES: u64 = 16 << 10;
const PAYLOAD: [u8; 512] = [7; 512];

struct Kept {
    daemon: Daemon,
    operator: Operator,
    _folder: tempfile::TempDir,
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let room = format!("--fsize={ROOM_BYTES}:unlimited");
        let state = folder.path().join("state");
        let options = ["--memory", "1M", "--state-dir", state.to_str().unwrap()];
        let daemon = Daemon::start_inside(folder.path(), &["prlimit", &room], &options);
        let operator = daemon.operator();
        Self { daemon, operator, _folder: folder }
    }

    fn make_room(&self) {
        let id = self.daemon.id().to_string();
        let limit = ["--fsize=unlimited:unlimited", "--pid", &id];
        assert!(Command::new("prlimit").args(limit).status().unwrap().success());
    }

    /// Kill it and start it again; what the new one says.
    fn kill(&mut self) -> String {
        let said_before = self.daemon.log().len();
        self.daemon.kill_and_start_again();
        self.operator = self.daemon.operator();
        self.daemon.log().split_off(said_before)
    }

    fn add_rule(&mut self) -> Result<Value, Value> {
        let rule =
            json!({ "effect": "error", "errno": "EIO", "iotype": ["write"], "continue": false });
        self.operator.execute("block-fault-rule-add", json!({ "id": "disk0", "rule": rule }))
    }

    fn rules(&mut self) -> usize {
        let told = self.operator.must("query-block-fault-rules", json!({ "id": "disk0" }));
        told["rules"].as_array().unwrap().len()
    }

    fn is_kept(&mut self) -> bool {
        let told = self.operator.must("query-block-fault", json!({ "id": "disk0" }));
        told["state-kept"].as_bool().unwrap()
    }

    fn guest(&self) -> (Front, Queue) {
        let mut front = Front::connect(&self.daemon.socket("disk0"));
        front.negotiate(feature::ALL);
        let queue = front.start_queues(1, 64).remove(0);
        (front, queue)
    }

    /// Add rules until the host has no room for another; tells how many were taken.
    fn fill(&mut self) -> usize {
        for taken in 0..1000 {
            let Err(error) = self.add_rule() else { continue };
            let desc = error["desc"].as_str().unwrap();
            assert!(desc.starts_with("nothing was changed, because the next daemon"), "{desc}");
            assert!(desc.contains("disk0.state: File too large"), "{desc}");
            return taken;
        }
        panic!("there is room for a thousand rules in {ROOM_BYTES} bytes");
    }
}

#[test]
fn a_command_whose_change_finds_no_room_is_refused_and_the_next_daemon_has_all_the_others() {
    let mut kept = Kept::new();
    let taken = kept.fill();
    assert!(taken > 10, "{taken}");
    assert_eq!(kept.rules(), taken, "what was refused was not done");
    assert!(kept.is_kept());
    let said = kept.kill();
    assert!(
        said.contains(&format!("its faults are as they were: state none, {taken} rules")),
        "{said}"
    );
    assert_eq!(kept.rules(), taken);
    assert!(kept.is_kept() && kept.add_rule().is_err());
    kept.make_room();
    kept.add_rule().unwrap();
    let said = kept.kill();
    assert!(said.contains(&format!("{} rules", taken + 1)), "{said}");
}

#[test]
fn what_requests_did_and_found_no_room_for_is_told_until_it_is_written_and_by_the_next_daemon() {
    let mut kept = Kept::new();
    let taken = kept.fill();
    let (front, mut queue) = kept.guest();
    let mut requests = 0;
    while kept.is_kept() {
        assert_eq!(queue.write(0, &PAYLOAD).status, Status::IoErr);
        requests += 1;
        assert!(requests < 1000, "there is room for all of them");
    }
    // The guest is not the worse for it, and the log is not full of it.
    for _ in 0..50 {
        assert_eq!(queue.write(0, &PAYLOAD).status, Status::IoErr);
    }
    drop((queue, front));
    kept.daemon.wait_said("what requests do to the faults is not kept", 1);
    let log = kept.daemon.log();
    assert_eq!(
        log.matches("what requests do to the faults is not kept").count(),
        1,
        "{}",
        tail(&log)
    );
    assert!(kept.add_rule().is_err(), "nothing makes sense behind what is missing");
    let whole = ": its faults are as they were";
    for _ in 0..2 {
        let said = kept.kill();
        assert!(said.contains("disk0: its faults are NOT as they were"), "{said}");
        assert!(said.contains(&format!("{taken} rules")) && !said.contains(whole), "{said}");
        assert!(!kept.is_kept());
    }
    kept.make_room();
    kept.add_rule().unwrap();
    assert!(kept.is_kept());
    let said = kept.kill();
    assert!(said.contains(whole) && !said.contains("NOT as they were"), "{said}");
    assert_eq!(kept.rules(), taken + 1);
}

#[test]
fn a_disk_whose_faults_cannot_be_kept_at_all_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let output = Command::new("prlimit")
        .args(["--fsize=16", env!("CARGO_BIN_EXE_blkfaultd"), "--memory", "1M", "--state-dir"])
        .arg(state)
        .arg("--socket-path")
        .arg(folder.path().join("disk0"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("disk0.state: File too large"), "{said}");
}

#[test]
fn fault_options_that_say_otherwise_than_the_state_file_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (state, rules, others) = (path("state"), path("rules.conf"), path("others.conf"));
    std::fs::write(&rules, "[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\n").unwrap();
    std::fs::write(&others, "[inject-error]\nevent = \"write_aio\"\nerrno = \"5\"\n").unwrap();
    let disk = ["--memory", "1M", "--state-dir", &state];
    let first = ["--seed", "7", "--on-error", "hold", "--blkdebug-config", &rules];
    let other = ["--seed", "8", "--on-error", "report", "--blkdebug-config", &others];
    let said = |options: &[&str]| {
        let before = std::fs::read_to_string(folder.path().join("daemon.log")).unwrap_or_default();
        let daemon = Daemon::start(folder.path(), &[&disk[..], options].concat());
        let info = daemon.operator().must("query-block-fault", json!({ "id": "disk0" }));
        assert_eq!((&info["seed"], &info["on-error"]), (&json!(7), &json!("hold")), "{info}");
        daemon.log().split_off(before.len())
    };
    for same in [&first[..], &first[..], &[]] {
        let said = said(same);
        assert!(!said.contains("not used"), "{said}");
    }
    for (options, named) in [
        (&other[..], "--seed and --on-error and --blkdebug-config not used"),
        (&other[..2], "disk disk0: --seed not used"),
        (&other[2..4], "disk disk0: --on-error not used"),
        (&other[4..], "disk disk0: --blkdebug-config not used"),
    ] {
        let said = said(options);
        assert!(
            said.contains(named) && said.contains("'disk0.state' out of --state-dir"),
            "{said}"
        );
    }
}
