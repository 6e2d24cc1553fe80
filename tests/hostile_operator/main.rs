//! The operator's door against clumsy and hostile clients: the catalogue C, over a whole daemon with a
//! guest at work.
//!
//! Whatever clients do, the operator is answered, every request of the guest is answered, and the daemon
//! takes less than 8 MiB for it, even at its worst moment, but for rules in great numbers (C-08), of
//! which each takes less than a KiB. Prints what it took, and the guest's 99th percentile beside that of a
//! quiet daemon. `BLKFAULT_LONG=1` makes it as long as the figures were measured. What the abuse itself
//! costs the guest, and what only the machine does, is told apart by `windows`; `BLKFAULT_WINDOWS=30`
//! takes thirty windows of a second of each kind.
//!
//! | number | where |
//! | --- | --- |
//! | C-03, C-13 | to the byte, against transcripts: `tests/monitor.rs`; random: `src/monitor/framing/tests.rs` |
//! | C-07 | every refusal: `tests/session.rs`, `tests/operator_faults/refusals.rs` |
//! | C-12, C-16 | not here: paths that are allowed, tokens and HTTP have stories of their own |
//! | C-14 | here, and step by step: `src/monitor/outbox.rs` (`what_a_disk_says_follows_..`) |
//! | C-17 | the host has one time of day, so it does not jump here; faults know only the time that a daemon runs: `tests/tidy.rs` (`the_decision_is_pure`) |
//! | C-18 | `tests/crash/faults.rs`: what `--state-dir` keeps, and what is said to be forgotten without |

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test may fail")]

#[path = "../support"]
mod support {
    pub mod daemon;
    pub mod front;
    pub mod operator;
    pub mod process;
}

mod clients;
mod crowds;
mod ends;
mod faults;
mod guest;
mod inputs;
mod windows;

use std::time::{Duration, Instant};

use serde_json::json;

use guest::Guest;
use support::daemon::Daemon;
use support::operator::Operator;
use support::process::Watched;

/// One entry of the catalogue.
struct Case {
    id: &'static str,
    story: &'static str,
    tell: fn(&Rig),
    /// What it may cost the daemon at its worst moment.
    kib_max: fn() -> u64,
}

/// What abuse may cost.
const KIB_MAX: u64 = 8 << 10;

const fn case(id: &'static str, story: &'static str, tell: fn(&Rig)) -> Case {
    Case { id, story, tell, kib_max: || KIB_MAX }
}

const CASES: &[Case] = &[
    case("C-01", "a line that never ends", inputs::endless_line),
    case("C-02", "values within values", inputs::deep),
    case("C-03", "what is no JSON, or too much of it", inputs::odd),
    case("C-03", "values that take the most memory", inputs::costly),
    case("C-04", "clients that take their time, and more than there is room for", crowds::slow),
    case("C-05", "clients that do not read", crowds::deaf),
    case("C-05", "answers that nobody reads, by clients that overtake", crowds::deaf_and_hasty),
    case("C-05", "clients that send as much as they may, all at once", crowds::greedy),
    case("C-06", "commands in heaps", crowds::heaps),
    case("C-06", "clients that are gone before the answer", crowds::hasty),
    case("C-07", "commands that make no sense", inputs::senseless),
    // The rules are the operator's own: 640 bytes each while a command works on a copy.
    Case {
        kib_max: || KIB_MAX.max(u64::from(faults::rules_count()) * 640 / 1024),
        ..case("C-08", "more rules than there may be, under load", faults::many_rules)
    },
    case("C-09", "two clients that want different things", crowds::racing),
    case("C-11", "text that is no text", inputs::text),
    case("C-13", "ids that are as large as they may be, and larger", inputs::ids),
    case("C-14", "faults and what is told of them", faults::order),
    case("C-15", "faults before, between and after front ends", faults::at_any_time),
];

/// A short number, or the one that the figures were measured with.
fn times(short: u32, long: u32) -> u32 {
    if std::env::var_os("BLKFAULT_LONG").is_some_and(|value| value == "1") { long } else { short }
}

/// A daemon with two disks: one with a guest at work, one for the stories.
struct Rig {
    daemon: Daemon,
    _directory: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disks = ["id=disk0,memory=4M", "id=busy,memory=4M"];
        let daemon = Daemon::start_disks(directory.path(), &disks);
        Self { daemon, _directory: directory }
    }

    fn operator(&self) -> Operator {
        self.daemon.operator()
    }

    /// Tell a case; the operator is answered meanwhile and afterwards.
    fn tell(&self, case: &Case, guest: &Guest, quiet: Duration) {
        let watched = Watched::of(self.daemon.id());
        watched.forget_peak();
        let (before, began) = (watched.memory(), Instant::now());
        guest.take();
        let slowest = std::thread::scope(|scope| {
            let told = scope.spawn(|| (case.tell)(self));
            let mut slowest = Duration::ZERO;
            while !told.is_finished() {
                // When all clients that there may be are there, it is refused.
                slowest = slowest.max(clients::ask_once(self).unwrap_or_default());
                std::thread::sleep(Duration::from_millis(5));
            }
            told.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            slowest
        });
        let after = watched.memory();
        let (peak, kept) = (after.peak_since(before), after.kept_since(before));
        let (requests, p99, max) = guest.take();
        eprintln!(
            "{} {:>6.1} s: {peak:>5} KiB at most, {kept:>5} KiB kept; slowest answer {slowest:.1?}; guest: \
             {requests} requests, p99 {p99:.0?} (quiet {quiet:.0?}), max {max:.1?}: {}",
            case.id,
            began.elapsed().as_secs_f64(),
            case.story
        );
        assert!(peak < (case.kib_max)(), "{}: {}: {peak} KiB at most", case.id, case.story);
        assert!(slowest < Duration::from_secs(20), "{}: {}: {slowest:?}", case.id, case.story);
        self.operator().must("query-block", json!({}));
    }
}

#[test]
fn whatever_clients_do_the_operator_and_the_guest_are_served_and_memory_is_bounded() {
    let rig = Rig::new();
    let guest = Guest::start(&rig.daemon.socket("busy"));
    std::thread::sleep(Duration::from_secs(times(1, 10).into()));
    let (requests, quiet, max) = guest.take();
    eprintln!("quiet: {requests} requests, p99 {quiet:.0?}, max {max:.1?}");
    assert!(requests > 100, "the guest is at work");
    CASES.iter().for_each(|case| rig.tell(case, &guest, quiet));
    guest.end();
    let log = rig.daemon.log();
    let longest = log.lines().map(str::len).max().unwrap_or(0);
    assert!(longest < 4096, "a line of {longest} bytes in the log");
    assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "C-11: {log:?}");
    assert!(rig.daemon.terminate().success());
}
