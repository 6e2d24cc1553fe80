//! The disk turned bad and good again under a guest.

use serde_json::json;

use crate::directory;
use crate::support::daemon::{Daemon, counter, set_state};
use crate::support::vm::{Image, Machine};

const WRITE: &str = "dd if=/dev/zero of=/dev/vda bs=4k count=8 oflag=direct";
const READ: &str = "dd if=/dev/vda of=/dev/null bs=4k count=8 iflag=direct";
const FLUSH: &str = "dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync";
// Forced, because it would first read to see what is there.
const DISCARD: &str = "blkdiscard -f -o 1M -l 1M /dev/vda";

#[test]
fn a_disk_in_the_state_error_fails_its_guest_and_serves_it_again_after_none() {
    let Some(image) = Image::for_story("the state error") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "64M"]);
    let mut operator = daemon.operator();
    let mut vm = Machine::new().disk(&daemon.socket("disk0")).boot(&image);
    vm.must("mkfs.ext4 -qF /dev/vda; mount -t ext4 /dev/vda /mnt");
    vm.must("dd if=/dev/urandom of=/mnt/keep bs=1M count=4; cd /mnt; md5sum keep >sum; sync");

    set_state(&mut operator, "disk0", "error");
    let write = vm.run("dd if=/dev/zero of=/mnt/more bs=1M count=1 conv=fsync");
    assert_ne!(write.status, 0);
    assert!(write.output.contains("Input/output error"), "{}", write.output);
    let read = vm.run("echo 3 >/proc/sys/vm/drop_caches; cat /mnt/keep");
    assert!(read.output.contains("Input/output error"), "{}", read.output);
    let kernel = vm.kernel_log();
    assert!(kernel.contains("I/O error, dev vda, sector "), "{kernel}");
    let event = operator.wait_event("BLOCK_IO_ERROR");
    assert_eq!(event["data"]["device"], "disk0");
    assert_ne!(counter(&mut operator, "disk0", "failed_wr_operations"), 0);

    set_state(&mut operator, "disk0", "none");
    vm.run("umount /mnt");
    let repaired = vm.run("e2fsck -fy /dev/vda");
    assert!(repaired.status <= 1, "{}", repaired.output);
    vm.must("mount -t ext4 /dev/vda /mnt; cd /mnt; md5sum -c sum");
    vm.must("dd if=/dev/zero of=/mnt/more bs=1M count=1 conv=fsync");
}

#[test]
fn only_the_request_types_named_fail() {
    let Some(image) = Image::for_story("the state error by request type") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "64M"]);
    let mut operator = daemon.operator();
    let mut vm = Machine::new().disk(&daemon.socket("disk0")).boot(&image);
    let kinds = [("write", WRITE), ("read", READ), ("flush", FLUSH), ("discard", DISCARD)];
    for (bad, _) in kinds {
        let state = json!({ "id": "disk0", "state": "error", "errno": "EIO", "iotype": [bad] });
        operator.must("set-block-fault-state", state);
        for (kind, script) in kinds {
            // A flush comes after a write, which fails first.
            let fails = kind == bad || (kind, bad) == ("flush", "write");
            let answer = vm.run(script);
            assert_eq!(answer.status != 0, fails, "{bad} fails, {kind}: {}", answer.output);
        }
        set_state(&mut operator, "disk0", "none");
        for (_, script) in kinds {
            vm.must(script);
        }
    }
}

#[test]
fn of_two_paths_to_one_store_one_fails_and_the_other_serves() {
    let Some(image) = Image::for_story("two paths to one store") else { return };
    let directory = directory();
    let disks = ["id=path0,memory=32M", "id=path1,store=path0"];
    let daemon = Daemon::start_disks(directory.path(), &disks);
    let mut operator = daemon.operator();
    let mut vm =
        Machine::new().disk(&daemon.socket("path0")).disk(&daemon.socket("path1")).boot(&image);
    vm.must(
        "head -c 4m /dev/urandom >/tmp/data
        dd if=/tmp/data of=/dev/vda bs=64k oflag=direct
        dd if=/dev/vdb bs=64k count=64 iflag=direct | cmp - /tmp/data",
    );
    let read = |disk: &str| format!("dd if=/dev/{disk} of=/dev/null bs=4k count=8 iflag=direct");
    for (bad, good, id) in [("vda", "vdb", "path0"), ("vdb", "vda", "path1")] {
        set_state(&mut operator, id, "error");
        assert_ne!(vm.run(&read(bad)).status, 0, "{id} fails");
        vm.must(&read(good));
        set_state(&mut operator, id, "none");
        vm.must(&read(bad));
    }
}
