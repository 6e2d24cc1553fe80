//! Resets, reboots, plugging, stopping, resizing, crashes: what happens to a disk in its life.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, counter};
use crate::support::operator::Operator;
use crate::support::vm::{Image, Machine, Vm, reconnect};
use crate::{directory, wait_for_writes, wait_until};

/// A file system with a file that is on the disk for good, its sum beside it.
pub(crate) const MAKE_KEEPSAKE: &str = "mkfs.ext4 -qF /dev/vda; mount -t ext4 /dev/vda /mnt
    dd if=/dev/urandom of=/mnt/keep bs=1M count=8
    cd /mnt; md5sum keep >sum; sync";

/// Write to the file system without end.
pub(crate) const WRITE_ON: &str = "(while :; do dd if=/dev/urandom of=/mnt/load bs=64k count=64 conv=fsync; done) \
    >/dev/null 2>&1 &";

/// After a crash: the journal is replayed, the file system is clean, the file is there.
pub(crate) const CHECK_KEEPSAKE: &str = "mount -t ext4 /dev/vda /mnt
    cd /mnt; md5sum -c sum; cd /
    umount /mnt; e2fsck -fn /dev/vda";

#[test]
fn a_reset_and_a_reboot_under_load_lose_nothing_that_was_synced() {
    let Some(image) = Image::for_story("reset and reboot") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "64M"]);
    let mut operator = daemon.operator();
    let mut vm = Machine::new().disk(&daemon.socket("disk0")).boot(&image);

    vm.must(MAKE_KEEPSAKE);
    vm.must(WRITE_ON);
    wait_for_writes(&mut operator, "disk0", 50);
    vm.qemu.must("system_reset", json!({}));
    vm.wait_until_up();
    vm.must(CHECK_KEEPSAKE);

    vm.must("mount -t ext4 /dev/vda /mnt");
    vm.must(WRITE_ON);
    wait_for_writes(&mut operator, "disk0", 50);
    vm.start("reboot -f");
    vm.wait_until_up();
    vm.must(CHECK_KEEPSAKE);
    assert!(vm.power_off().success());
}

#[test]
fn a_disk_is_unplugged_and_plugged_while_the_guest_runs() {
    let Some(image) = Image::for_story("hot plug") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "64M"]);
    let mut operator = daemon.operator();
    let port = ["-device", "pcie-root-port,id=port0,chassis=1,slot=1"];
    let mut vm = Machine::new().with(&port).boot(&image);
    assert_eq!(vm.run("[ -e /dev/vda ]").status, 1);

    plug(&mut vm, &daemon);
    vm.must("dd if=/dev/urandom of=/tmp/data bs=1M count=4; dd if=/tmp/data of=/dev/vda oflag=direct bs=1M");
    operator.wait_event("BLOCK_EXPORT_CONNECTED");
    unplug(&mut vm);
    operator.wait_event("BLOCK_EXPORT_DISCONNECTED");

    plug(&mut vm, &daemon);
    vm.must("dd if=/dev/vda bs=1M count=4 iflag=direct | cmp - /tmp/data");
    // By a name of its own: once the kernel has removed /dev/vda, dd would make a file of that name.
    vm.must(
        "mknod /tmp/disk b $(sed 's/:/ /' /sys/block/vda/dev)
        (while :; do dd if=/tmp/data of=/tmp/disk bs=64k oflag=direct; done) >/dev/null 2>&1 &",
    );
    wait_for_writes(&mut operator, "disk0", 50);
    unplug(&mut vm);

    plug(&mut vm, &daemon);
    vm.must("dd if=/dev/vda of=/dev/null bs=1M count=4 iflag=direct");
}

/// Plug the daemon's disk into `port0` as `/dev/vda`; QEMU connects again if it loses the daemon.
pub(crate) fn plug(vm: &mut Vm, daemon: &Daemon) {
    let address = json!({ "type": "unix", "data": { "path": daemon.socket("disk0") } });
    let mut socket = json!({ "addr": address, "server": false });
    let (option, value) = reconnect().trim_start_matches(',').split_once('=').expect("an option");
    socket[option] = json!(value.parse::<u32>().expect("a number"));
    let backend = json!({ "type": "socket", "data": socket });
    vm.qemu.must("chardev-add", json!({ "id": "plugged", "backend": backend }));
    vm.qemu.must(
        "device_add",
        json!({ "driver": "vhost-user-blk-pci", "id": "vd0", "chardev": "plugged", "bus": "port0" }),
    );
    vm.must("n=0; until [ -b /dev/vda ]; do sleep 0.1; n=$((n + 1)); [ $n -lt 600 ]; done");
}

pub(crate) fn unplug(vm: &mut Vm) {
    // The guest may be busy with the last change of the slot; it is then asked again.
    wait_until("the guest gives the disk up", || {
        let _ = vm.qemu.execute("device_del", json!({ "id": "vd0" }));
        let events = vm.qemu.events(Duration::from_secs(3));
        events
            .iter()
            .any(|event| event["event"] == "DEVICE_DELETED" && event["data"]["device"] == "vd0")
    });
    vm.qemu.must("chardev-remove", json!({ "id": "plugged" }));
    vm.must("n=0; while [ -b /dev/vda ]; do sleep 0.1; n=$((n + 1)); [ $n -lt 600 ]; done");
}

#[test]
fn a_stopped_machine_is_quiet_and_goes_on_where_it_was() {
    let Some(image) = Image::for_story("stop and cont") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "64M", "--num-queues", "2"]);
    let mut operator = daemon.operator();
    let mut vm = Machine::new().cpus(2).disk(&daemon.socket("disk0")).boot(&image);
    vm.must(
        r#"head -c 2m /dev/urandom >/tmp/random
        work() {
            while [ ! -e /tmp/enough ]; do
                n=$((n + 1)); { echo $n $1; cat /tmp/random; } | head -c 1m >/tmp/out$1
                dd if=/tmp/out$1 of=/dev/vda bs=64k seek=$(($1 * 16)) oflag=direct
                dd if=/dev/vda of=/tmp/in$1 bs=64k skip=$(($1 * 16)) count=16 iflag=direct
                cmp /tmp/out$1 /tmp/in$1 || echo $n >>/tmp/bad
            done
            echo $n >/tmp/rounds$1
        }
        work 0 >/dev/null 2>/tmp/errors0 &
        work 1 >/dev/null 2>/tmp/errors1 &"#,
    );
    for _ in 0..20 {
        wait_for_writes(&mut operator, "disk0", 10);
        vm.qemu.must("stop", json!({}));
        let at_stop = io_counters(&mut operator);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(io_counters(&mut operator), at_stop, "a stopped guest's disk does nothing");
        vm.qemu.must("cont", json!({}));
    }
    vm.must(
        "touch /tmp/enough; until [ -e /tmp/rounds0 ] && [ -e /tmp/rounds1 ]; do sleep 0.1; done",
    );
    vm.must("[ $(cat /tmp/rounds0) -gt 3 ]; [ $(cat /tmp/rounds1) -gt 3 ]; [ ! -e /tmp/bad ]");
    assert_eq!(vm.run("dmesg | grep 'I/O error'").output, "");
}

fn io_counters(operator: &mut Operator) -> [u64; 2] {
    ["rd_operations", "wr_operations"].map(|name| counter(operator, "disk0", name))
}

#[test]
fn a_resize_is_seen_by_the_guest_at_once() {
    let Some(image) = Image::for_story("resize") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "64M"]);
    let mut operator = daemon.operator();
    let mut vm = Machine::new().disk(&daemon.socket("disk0")).boot(&image);
    let mut resize = |vm: &mut Vm, mib: u64| {
        operator.must("block_resize", json!({ "device": "disk0", "size": mib << 20 }));
        let sectors = mib << 11;
        vm.must(&format!(
            "n=0; until [ $(cat /sys/block/vda/size) = {sectors} ]; do
                sleep 0.1; n=$((n + 1)); [ $n -lt 600 ]
            done"
        ));
    };
    let write_mib =
        |at: u64| format!("dd if=/dev/zero of=/dev/vda bs=1M count=1 oflag=direct seek={at}");
    assert_ne!(vm.run(&write_mib(100)).status, 0, "beyond the end");
    resize(&mut vm, 128);
    vm.must(&write_mib(127));
    resize(&mut vm, 32);
    vm.must(&write_mib(31));
    assert_ne!(vm.run(&write_mib(32)).status, 0, "beyond the end");
    let kernel = vm.must("dmesg");
    assert!(kernel.contains("new size: 65536 512-byte logical blocks"), "{kernel}");
}

#[test]
fn a_killed_qemu_is_followed_by_another_one() {
    let Some(image) = Image::for_story("a killed QEMU") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "64M", "--num-queues", "2"]);
    let mut operator = daemon.operator();
    let machine = Machine::new().cpus(2).disk(&daemon.socket("disk0"));
    let mut vm = machine.boot(&image);
    vm.must(MAKE_KEEPSAKE);
    vm.must(WRITE_ON);
    wait_for_writes(&mut operator, "disk0", 50);
    vm.kill();
    wait_until("the daemon has seen the end", || !is_connected(&mut operator));

    let mut vm = machine.boot(&image);
    assert!(is_connected(&mut operator));
    vm.must(CHECK_KEEPSAKE);
}

pub(crate) fn is_connected(operator: &mut Operator) -> bool {
    let exports = operator.must("query-block-exports", json!({}));
    exports[0]["connected"].as_bool().expect("whether a front end is connected")
}

#[test]
fn a_daemon_that_comes_back_is_found_again_by_a_qemu_that_reconnects() {
    let Some(image) = Image::for_story("a daemon that comes back") else { return };
    let directory = directory();
    let file = directory.path().join("image");
    std::fs::File::create(&file).and_then(|file| file.set_len(64 << 20)).expect("an image");
    let mut daemon =
        Daemon::start(directory.path(), &["--blk-file", file.to_str().expect("a UTF-8 path")]);
    let mut vm = Machine::new().disk_with(&daemon.socket("disk0"), reconnect(), "").boot(&image);
    vm.must(MAKE_KEEPSAKE);

    for _ in 0..3 {
        vm.must("umount /mnt 2>/dev/null || :; sync; echo 3 >/proc/sys/vm/drop_caches");
        daemon.kill_and_start_again();
        let mut operator = daemon.operator();
        wait_until("QEMU has connected again", || is_connected(&mut operator));
        vm.must(CHECK_KEEPSAKE);
        vm.must(
            "mount -t ext4 /dev/vda /mnt; dd if=/dev/urandom of=/mnt/more bs=1M count=4 conv=fsync",
        );
        assert_ne!(counter(&mut operator, "disk0", "wr_operations"), 0);
    }
    assert_eq!(vm.run("dmesg | grep 'I/O error'").output, "");
}

#[test]
fn disks_of_several_kinds_look_to_the_guest_as_they_were_ordered() {
    let Some(image) = Image::for_story("several kinds of disks") else { return };
    let directory = directory();
    let disks = [
        "id=ro,memory=32M,read-only=on",
        "id=blocks,memory=32M,block-size=4096",
        "id=named,memory=32M,serial=BF-0815",
    ];
    let daemon = Daemon::start_disks(directory.path(), &disks);
    let mut vm = Machine::new()
        .disk(&daemon.socket("ro"))
        .disk(&daemon.socket("blocks"))
        .disk(&daemon.socket("named"))
        .boot(&image);
    assert_eq!(vm.must("cat /sys/block/vd?/ro | xargs"), "1 0 0");
    assert_eq!(vm.must("cat /sys/block/vd?/queue/logical_block_size | xargs"), "512 4096 512");
    assert_eq!(vm.must("cat /sys/block/vdc/serial"), "BF-0815");
    assert_eq!(vm.must("cat /sys/block/vdb/queue/write_cache"), "write back");
    assert_ne!(vm.run("dd if=/dev/zero of=/dev/vda bs=4k count=1 oflag=direct").status, 0);
    vm.must("dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct");
    vm.must("dd if=/dev/zero of=/dev/vdb bs=4k count=1 oflag=direct");
    vm.must("mkfs.ext4 -qF /dev/vdb; mount -t ext4 /dev/vdb /mnt; cp /proc/cmdline /mnt; umount /mnt; e2fsck -fn /dev/vdb");
    vm.must("dd if=/dev/zero of=/dev/vdc bs=512 count=1 oflag=direct");

    let mut operator = daemon.operator();
    let listed = operator.must("query-block", json!({}));
    let ids: Vec<&Value> =
        listed.as_array().expect("a list").iter().map(|disk| &disk["device"]).collect();
    assert_eq!(ids, ["ro", "blocks", "named"]);
}
