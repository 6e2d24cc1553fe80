//! Requests are held, by everything that holds them: QEMU's main loop is not.

use std::fs::File;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, set_state};
use crate::support::operator::Operator;
use crate::support::vm::{Image, Machine, Vm};
use crate::verified::{GuestLoad, end, end_right};
use crate::{directory, wait_for_writes, wait_until};

/// A second is what is promised; a busy machine is given more.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Disks in one daemon, by what holds their requests, and one more over an image that fails.
const DISKS: [&str; 4] = ["hang", "rule", "breakpoint", "slow"];
const RULE: &str = "holds";
/// Bytes up to which the image can be written when it is to fail.
const FILE_LIMIT: u64 = 1 << 20;

/// All that can hold requests.
struct Holders {
    daemon: Daemon,
    operator: Operator,
    /// Its image cannot be written, and what fails is held.
    unwritable: Daemon,
    unwritable_operator: Operator,
    _directories: [tempfile::TempDir; 2],
}

impl Holders {
    fn new() -> Self {
        let directories = [directory(), directory()];
        let disks = DISKS.map(|id| format!("id={id},memory=8M,num-queues=2"));
        let disks: Vec<&str> = disks.iter().map(String::as_str).collect();
        let daemon = Daemon::start_disks(directories[0].path(), &disks);
        let image = directories[1].path().join("disk.img");
        File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("an image");
        let options = ["--blk-file", image.to_str().expect("a UTF-8 path"), "--num-queues", "2"];
        let unwritable = Daemon::start(directories[1].path(), &options);
        let (operator, mut unwritable_operator) = (daemon.operator(), unwritable.operator());
        let hold = json!({ "id": "disk0", "policy": "hold" });
        unwritable_operator.must("block-fault-on-error-set", hold);
        Self { daemon, operator, unwritable, unwritable_operator, _directories: directories }
    }

    fn machine(&self) -> Machine {
        let machine = Machine::new().cpus(2);
        let machine =
            DISKS.iter().fold(machine, |machine, id| machine.disk(&self.daemon.socket(id)));
        machine.disk(&self.unwritable.socket("disk0"))
    }

    fn limit_file(&self, bytes: Option<u64>) {
        let pid = Pid::from_raw(self.unwritable.id().try_into().expect("a process id"));
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(pid, Resource::Fsize, limit).expect("prlimit");
    }

    /// Hold what the guest asks for from now on.
    fn hold(&mut self) {
        let Self { operator, .. } = self;
        set_state(operator, "hang", "hang");
        let rule = json!({ "name": RULE, "effect": "hang" });
        operator.must("block-fault-rule-add", json!({ "id": "rule", "rule": rule }));
        let rule = json!({ "name": RULE, "effect": "break", "tag": "A", "point": "before-answer" });
        operator.must("block-fault-rule-add", json!({ "id": "breakpoint", "rule": rule }));
        let minutes = json!([{ "delay": 600_000_000_000_u64 }]);
        let slow = json!({ "id": "slow", "state": "slow", "profiles": minutes });
        operator.must("set-block-fault-state", slow);
        self.limit_file(Some(FILE_LIMIT));
    }

    /// Hold nothing any more that comes from now on.
    fn release(&mut self) {
        for id in ["hang", "slow"] {
            set_state(&mut self.operator, id, "none");
        }
        for id in ["rule", "breakpoint"] {
            let named = json!({ "id": id, "name": RULE });
            self.operator.must("block-fault-rule-remove", named);
        }
        self.limit_file(None);
    }

    /// Wait until requests are held on every disk; how many are, those that are delayed left out.
    fn wait_held(&mut self, vm: &mut Vm) -> usize {
        let mut count = 0;
        wait_until("requests are held on every disk", || {
            let held = |operator: &mut Operator, id: &str| {
                let held = operator.must("query-block-fault-held", json!({ "id": id }));
                held.as_array().expect("a list").len()
            };
            let mut counts: Vec<usize> =
                DISKS[..3].iter().map(|id| held(&mut self.operator, id)).collect();
            counts.push(held(&mut self.unwritable_operator, "disk0"));
            count = counts.iter().sum();
            // Reads and flushes of the disk that cannot be written go on.
            counts.iter().all(|count| *count > 0) && self.is_slow_disk_still(vm)
        });
        count
    }

    /// Whether the disk that waits for minutes has requests on their way, all of which wait.
    fn is_slow_disk_still(&mut self, vm: &mut Vm) -> bool {
        let told = |operator: &mut Operator| {
            operator.must("query-block-fault", json!({ "id": "slow" }))["counts"].take()
        };
        let before = told(&mut self.operator);
        let in_flight = vm.must("cat /sys/block/vdd/inflight | xargs");
        in_flight != "0 0" && told(&mut self.operator) == before
    }
}

/// Have QEMU do something that waits for the disks, and say how long it waited.
fn timed(vm: &mut Vm, what: &str, arguments: Value) {
    let asked = Instant::now();
    vm.qemu.must(what, arguments);
    let took = asked.elapsed();
    eprintln!("E-09: {what} is answered after {took:.1?}");
    assert!(took < ANSWER_WAIT, "{what} took {took:?}");
}

/// What `savevm` and a migration to a file do: bring the guest to a stop and keep it. QEMU is asked
/// for its state all the while.
fn save(vm: &mut Vm) {
    timed(vm, "human-monitor-command", json!({ "command-line": "savevm now" }));
    let began = Instant::now();
    timed(vm, "migrate", json!({ "uri": "exec:cat >/dev/null" }));
    let mut longest = Duration::ZERO;
    wait_until("the guest is saved", || {
        let asked = Instant::now();
        let told = vm.qemu.must("query-migrate", json!({}));
        longest = longest.max(asked.elapsed());
        assert_ne!(told["status"], "failed", "{told}");
        told["status"] == "completed"
    });
    eprintln!("E-09: saved in {:.1?}; QEMU always answered within {longest:.1?}", began.elapsed());
    assert!(longest < ANSWER_WAIT);
}

fn start_loads(vm: &mut Vm) -> Vec<GuestLoad> {
    let options = "blocks=1024 threads=8 errors=allowed";
    "abcde"
        .chars()
        .map(|letter| GuestLoad::start(vm, &format!("/dev/vd{letter}"), options))
        .collect()
}

#[test]
fn whatever_holds_requests_qemu_stops_saves_resets_and_quits_at_once() {
    let Some(image) = Image::for_story("stop, save, reset and quit with held requests") else {
        return;
    };
    let mut holders = Holders::new();
    let mut vm = holders.machine().boot(&image);
    let loads = start_loads(&mut vm);
    for save_it in [false, true] {
        holders.hold();
        let held = holders.wait_held(&mut vm);
        eprintln!("E-09: {held} requests are held, and more are delayed for minutes");
        if save_it {
            save(&mut vm);
        } else {
            timed(&mut vm, "stop", json!({}));
        }
        holders.release();
        vm.qemu.must("cont", json!({}));
        wait_for_writes(&mut holders.operator, "hang", 50);
    }
    // Those that only waited, or whose answer was known, were not failed for it.
    let verdicts = end(&mut vm, &loads);
    for (load, verdict) in loads.iter().zip(&verdicts) {
        assert!(verdict.is_right, "{load:?}: {}", verdict.said);
    }
    let errors: Vec<u64> = verdicts.iter().map(|verdict| verdict.errors).collect();
    eprintln!("E-09: requests that failed, by disk: {errors:?}; 0 lost, stale, torn, wrong, hung");
    assert!(errors[0] > 0 && errors[1] > 0 && errors[4] > 0, "{errors:?}");
    assert_eq!((errors[2], errors[3]), (0, 0));

    start_loads(&mut vm);
    holders.hold();
    holders.wait_held(&mut vm);
    // QEMU itself takes nearly half a second for it, without any disk.
    timed(&mut vm, "system_reset", json!({}));
    holders.release();
    vm.wait_until_up();
    start_loads(&mut vm);
    holders.hold();
    holders.wait_held(&mut vm);
    let asked = Instant::now();
    timed(&mut vm, "quit", json!({}));
    assert!(vm.wait_ended().success());
    eprintln!("E-09: QEMU is gone {:.1?} after it was asked to quit", asked.elapsed());

    holders.release();
    let mut vm = holders.machine().boot(&image);
    let loads = start_loads(&mut vm);
    wait_for_writes(&mut holders.operator, "hang", 100);
    let all = end_right(&mut vm, &loads);
    assert_eq!(all.errors, 0, "{all}");
}
