//! File systems made, filled and checked, and every request type on its way.

use serde_json::json;

use crate::directory;
use crate::support::daemon::{Daemon, counter};
use crate::support::operator::Operator;
use crate::support::vm::{Image, Machine, Vm};

/// Fill what is mounted at /mnt to the last block, file by file, and note the sums in /tmp/sums.
const FILL: &str = r#"
    head -c 4000000 /dev/urandom >/tmp/random
    n=0
    while { echo $n; cat /tmp/random; } >/mnt/file$n 2>/tmp/refusal; do
        { echo $n; cat /tmp/random; } | md5sum | sed "s,-,/mnt/file$n," >>/tmp/sums
        n=$((n + 1))
    done
    grep 'No space left on device' /tmp/refusal
    rm /mnt/file$n
    sync
    [ $n -ge 10 ]"#;

/// Read back from the disk, not from the page cache, what [`FILL`] wrote.
const CHECK_SUMS: &str = "echo 3 >/proc/sys/vm/drop_caches; md5sum -c /tmp/sums >/tmp/checked";

#[test]
fn ext4_is_made_filled_and_checked() {
    let Some(image) = Image::for_story("ext4") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "96M"]);
    let mut vm = Machine::new().disk(&daemon.socket("disk0")).boot(&image);
    vm.must("mkfs.ext4 -qF /dev/vda; mount -t ext4 -o discard /dev/vda /mnt");
    vm.must(FILL);
    vm.must(CHECK_SUMS);
    vm.must("rm /mnt/file3 /mnt/file5; sed -i '/file[35]$/d' /tmp/sums; umount /mnt");
    vm.must("e2fsck -fn /dev/vda");
    vm.must("mount -t ext4 /dev/vda /mnt");
    vm.must(CHECK_SUMS);
    vm.must("umount /mnt");
    let mut operator = daemon.operator();
    assert_ne!(
        counter(&mut operator, "disk0", "unmap_operations"),
        0,
        "removed files are discarded"
    );
    assert!(vm.power_off().success());
    assert!(daemon.terminate().success());
}

#[test]
fn xfs_is_made_filled_checked_and_repaired_on_two_queues() {
    let Some(image) = Image::for_story("XFS") else { return };
    let directory = directory();
    // mkfs.xfs makes nothing smaller than 300 MB.
    let daemon = Daemon::start(directory.path(), &["--memory", "320M", "--num-queues", "2"]);
    let mut vm = Machine::new().cpus(2).disk(&daemon.socket("disk0")).boot(&image);
    assert_eq!(vm.must("ls /sys/block/vda/mq | wc -l"), "2");
    vm.must("mkfs.xfs -q -f /dev/vda; modprobe xfs; mount -t xfs /dev/vda /mnt");
    vm.must(FILL);
    vm.must("umount /mnt; xfs_repair -n /dev/vda");
    vm.must("mount -t xfs /dev/vda /mnt");
    vm.must(CHECK_SUMS);
    vm.must("umount /mnt; xfs_repair /dev/vda; mount -t xfs /dev/vda /mnt; umount /mnt");
}

#[test]
fn four_queues_carry_the_load_of_four_processors() {
    let Some(image) = Image::for_story("four queues") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "64M", "--num-queues", "4"]);
    let mut vm = Machine::new().cpus(4).disk(&daemon.socket("disk0")).boot(&image);
    assert_eq!(vm.must("ls /sys/block/vda/mq | wc -l"), "4");
    vm.must(
        r#"for cpu in 0 1 2 3; do
            head -c 8m /dev/urandom >/tmp/data$cpu
            taskset -c $cpu dd if=/tmp/data$cpu of=/dev/vda bs=32k seek=$((cpu * 256)) oflag=direct &
        done
        wait
        for cpu in 0 1 2 3; do
            dd if=/dev/vda bs=32k skip=$((cpu * 256)) count=256 iflag=direct | cmp - /tmp/data$cpu &
        done
        wait
        cat /tmp/data[0-3] >/tmp/all
        dd if=/dev/vda bs=1M count=32 iflag=direct | cmp - /tmp/all"#,
    );
    for queue in 0..4 {
        let interrupts = interrupts_of(&mut vm, queue);
        assert!(interrupts > 50, "queue {queue} completed its share: {interrupts} interrupts");
    }
}

/// How often a queue of the first disk has interrupted the guest.
fn interrupts_of(vm: &mut Vm, queue: u32) -> u64 {
    let line = vm.must(&format!("grep 'virtio[0-9]*-req.{queue}$' /proc/interrupts"));
    line.split_whitespace().skip(1).map_while(|count| count.parse::<u64>().ok()).sum()
}

#[test]
fn every_request_type_reaches_the_daemon_and_is_counted() {
    let Some(image) = Image::for_story("all request types") else { return };
    let directory = directory();
    let options = ["--memory", "64M", "--serial", "BF-0815"];
    let daemon = Daemon::start(directory.path(), &options);
    let mut vm = Machine::new().disk(&daemon.socket("disk0")).boot(&image);
    let mut operator = daemon.operator();
    let stories = [
        ("wr_operations", "dd if=/dev/urandom of=/dev/vda bs=64k count=16 oflag=direct"),
        ("rd_operations", "dd if=/dev/vda of=/tmp/read bs=64k count=16 iflag=direct"),
        ("flush_operations", "dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync"),
        ("unmap_operations", "blkdiscard -o 1M -l 1M /dev/vda"),
        ("wr_zeroes_operations", "blkdiscard -z -o 2M -l 1M /dev/vda"),
        ("get_id_operations", "[ $(cat /sys/block/vda/serial) = BF-0815 ]"),
    ];
    for (name, script) in stories {
        let before = counter(&mut operator, "disk0", name);
        vm.must(script);
        let after = counter(&mut operator, "disk0", name);
        assert!(after > before, "{name} was {before} and is {after} after {script}");
    }
    assert_eq!(no_failure(&mut operator), json!([0, 0, 0, 0, 0]));
    zeroes_are_read_back(&mut vm);
    the_guest_chooses_the_cache(&mut vm, &mut operator);
}

fn no_failure(operator: &mut Operator) -> serde_json::Value {
    let kinds = ["rd", "wr", "flush", "unmap", "wr_zeroes"];
    kinds
        .map(|kind| counter(operator, "disk0", &format!("failed_{kind}_operations")))
        .into_iter()
        .collect()
}

fn zeroes_are_read_back(vm: &mut Vm) {
    vm.must(
        "dd if=/dev/urandom of=/dev/vda bs=1M count=4 oflag=direct
        blkdiscard -z -o 2M -l 1M /dev/vda
        blkdiscard -o 1M -l 1M /dev/vda
        dd if=/dev/vda bs=1M skip=1 count=2 iflag=direct of=/tmp/read
        head -c 2m /dev/zero | cmp - /tmp/read",
    );
}

/// A guest that is told of no volatile cache sends no flushes, and the other way round.
fn the_guest_chooses_the_cache(vm: &mut Vm, operator: &mut Operator) {
    for (cache, flushes) in [("write through", false), ("write back", true)] {
        vm.must(&format!("echo '{cache}' >/sys/block/vda/cache_type"));
        assert_eq!(vm.must("cat /sys/block/vda/queue/write_cache"), cache);
        let before = counter(operator, "disk0", "flush_operations");
        vm.must("dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync");
        let after = counter(operator, "disk0", "flush_operations");
        assert_eq!(after > before, flushes, "{cache}: {before} flushes, then {after}");
    }
}
