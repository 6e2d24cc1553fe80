//! A guest moves from one QEMU to another while it works on its disk, and back.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, counter};
use crate::support::operator::Operator;
use crate::support::vm::{Image, Machine, Vm};
use crate::verified::{GuestLoad, end_right};
use crate::{directory, wait_for_writes, wait_until};

/// The two paths to the one disk, by which the two QEMUs have it.
const PATHS: [&str; 2] = ["here", "there"];

/// Of QEMU's log of the pages that a back end has written: most of them that were seen at one time.
#[derive(Debug, Default)]
struct Watch {
    log: Option<File>,
    pages_max: u32,
}

impl Watch {
    /// Look into the log of this QEMU, if it has made one by now.
    fn look(&mut self, qemu: u32) {
        self.log = self.log.take().or_else(|| dirty_log(qemu));
        let Some(log) = &self.log else { return };
        let bytes = log.metadata().expect("its length").len();
        let mut bits = vec![0; usize::try_from(bytes).expect("a length")];
        let _ = log.read_at(&mut bits, 0).expect("read the log");
        self.pages_max = self.pages_max.max(bits.iter().map(|byte: &u8| byte.count_ones()).sum());
    }
}

/// The memory that QEMU shares with its back end as the dirty log: a file without a name.
fn dirty_log(qemu: u32) -> Option<File> {
    let descriptors = fs::read_dir(format!("/proc/{qemu}/fd")).expect("QEMU's descriptors");
    let is_log = |path: &std::path::Path| {
        fs::read_link(path).is_ok_and(|name| name.to_string_lossy().contains("vhost-log"))
    };
    let found = descriptors.flatten().map(|entry| entry.path()).find(|path| is_log(path))?;
    File::open(found).ok()
}

fn machine(daemon: &Daemon, path: &str) -> Machine {
    Machine::new().cpus(2).disk(&daemon.socket(path))
}

/// Move the guest to another QEMU, which has the disk by another path; that QEMU.
fn migrate(image: &Image, daemon: &Daemon, mut vm: Vm, to: &str) -> Vm {
    let mut operator = daemon.operator();
    wait_until("the path is free", || !is_connected(&mut operator, to));
    let mut there = machine(daemon, to).wait_for_guest(image);
    let (qemu, mut watch) = (vm.id(), Watch::default());
    let told = vm.migrate_to(&mut there, || watch.look(qemu));
    let took = |name: &str| told[name].as_u64().expect("a time");
    eprintln!(
        "migrated to {to}: {} ms, down for {} ms, {} rounds, {} pages in the device's log at most",
        took("total-time"),
        took("downtime"),
        told["ram"]["dirty-sync-count"],
        watch.pages_max
    );
    // The used rings' pages are always among them; more are those that were read into.
    assert!(watch.pages_max > 2, "the device told nobody what it wrote: {watch:?}");
    vm.qemu.must("quit", json!({}));
    assert!(vm.wait_ended().success());
    there
}

fn is_connected(operator: &mut Operator, path: &str) -> bool {
    let exports = operator.must("query-block-exports", json!({}));
    let exports = exports.as_array().expect("a list");
    let export = exports.iter().find(|export| export["id"] == path).expect("the path");
    export["connected"].as_bool().expect("whether a front end is connected")
}

fn migrate_there_and_back(name: &str, slow: Option<Value>) {
    let Some(image) = Image::for_story(name) else { return };
    let directory = directory();
    let file = directory.path().join("disk.img");
    File::create(&file).and_then(|file| file.set_len(64 << 20)).expect("an image");
    let first = format!("id=here,blk-file={},num-queues=2", file.display());
    let daemon =
        Daemon::start_disks(directory.path(), &[&first, "id=there,store=here,num-queues=2"]);
    let mut operator = daemon.operator();
    let mut vm = machine(&daemon, PATHS[0]).boot(&image);
    for path in PATHS {
        if let Some(mut slow) = slow.clone() {
            slow["id"] = json!(path);
            operator.must("set-block-fault-state", slow);
        }
    }
    let load = GuestLoad::start(&mut vm, "/dev/vda", "blocks=1024 threads=24");
    wait_for_writes(&mut operator, "here", 200);
    for to in [PATHS[1], PATHS[0], PATHS[1]] {
        vm = migrate(&image, &daemon, vm, to);
        wait_for_writes(&mut operator, to, 100);
        assert!(!load.has_ended(&mut vm), "it went along");
    }
    let all = end_right(&mut vm, &[load]);
    assert_eq!((all.errors, vm.run("dmesg | grep 'I/O error'").output.as_str()), (0, ""));
    eprintln!("{name}: {all}");
    assert!(counter(&mut operator, "there", "rd_operations") > 0);
}

#[test]
fn a_guest_moves_to_another_qemu_and_back_while_it_writes_and_reads() {
    migrate_there_and_back("live migration", None);
}

#[test]
fn a_guest_moves_with_many_reads_on_their_way() {
    // What ends while the guest stands still is seen only where it goes on.
    let slow = json!({ "state": "slow", "profiles": [{ "delay": 30_000_000 }] });
    migrate_there_and_back("live migration of a slow disk", Some(slow));
}
