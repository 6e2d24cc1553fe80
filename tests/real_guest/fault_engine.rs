//! Rules of the engine under file systems: one bad place, chosen by where it is or by what is in it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, set_state};
use crate::support::operator::Operator;
use crate::support::vm::{Image, Machine};
use crate::{directory, wait_until};

fn add_rule(operator: &mut Operator, id: &str, rule: Value) {
    operator.must("block-fault-rule-add", json!({ "id": id, "rule": rule }));
}

fn remove_rule(operator: &mut Operator, id: &str, name: &str) {
    operator.must("block-fault-rule-remove", json!({ "id": id, "name": name }));
}

/// What a rule has to say of itself.
fn rule(operator: &mut Operator, id: &str, name: &str) -> Value {
    let asked = json!({ "id": id, "name": name });
    operator.must("query-block-fault-rules", asked)["rules"][0].take()
}

fn hits(operator: &mut Operator, id: &str, name: &str) -> u64 {
    rule(operator, id, name)["hits"].as_u64().expect("hits")
}

/// How many requests a disk holds now.
fn held(operator: &mut Operator, id: &str) -> usize {
    let held = operator.must("query-block-fault-held", json!({ "id": id }));
    held.as_array().expect("a list").len()
}

/// How many of its sectors a media fault has lost to writes.
fn healed(operator: &mut Operator, id: &str, name: &str) -> u64 {
    rule(operator, id, name)["media"]["healed"].as_u64().expect("a media fault")
}

/// The first sector of a file's block, on a file system of 4096-byte blocks.
fn sector_of(file: &str, block: u32, device: &str) -> String {
    format!("echo $(($(debugfs -R 'bmap {file} {block}' {device} 2>/dev/null) * 8))")
}

#[test]
fn a_bad_sector_under_a_file_fails_reads_until_it_is_rewritten() {
    let Some(image) = Image::for_story("a bad sector under ext4") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "64M"]);
    let mut operator = daemon.operator();
    let mut vm = Machine::new().disk(&daemon.socket("disk0")).boot(&image);
    vm.must("mkfs.ext4 -qF -b 4096 /dev/vda; mount -t ext4 /dev/vda /mnt");
    vm.must("head -c 64k /dev/urandom >/tmp/data; cp /tmp/data /mnt/file; sync");
    let first: u64 = vm.must(&sector_of("/file", 5, "/dev/vda")).parse().expect("a sector");
    assert!(first > 0, "the file has a sixth block");
    add_rule(
        &mut operator,
        "disk0",
        json!({ "name": "bad", "iotype": ["read"], "sectors": [first + 3],
                "effect": "media", "heal": "on-write" }),
    );

    let read_block = |block: u32| {
        format!(
            "echo 3 >/proc/sys/vm/drop_caches
            dd if=/mnt/file bs=4k skip={block} count=1 iflag=direct of=/tmp/read"
        )
    };
    let read = vm.run(&read_block(5));
    assert!(read.output.contains("Input/output error"), "{}", read.output);
    vm.must(&read_block(4));
    vm.must(&read_block(6));
    assert!(hits(&mut operator, "disk0", "bad") > 0);
    assert_eq!(healed(&mut operator, "disk0", "bad"), 0);

    // Rewritten in place, as a file system does with a block that is all new.
    vm.must("dd if=/tmp/data of=/mnt/file bs=4k skip=5 seek=5 count=1 conv=notrunc oflag=direct");
    assert_eq!(healed(&mut operator, "disk0", "bad"), 1);
    let after = hits(&mut operator, "disk0", "bad");
    vm.must("echo 3 >/proc/sys/vm/drop_caches; cmp /tmp/data /mnt/file");
    assert_eq!(hits(&mut operator, "disk0", "bad"), after, "a healed sector is not met");
    vm.must("umount /mnt; e2fsck -fn /dev/vda");
}

/// The first bytes of a JBD2 commit block: its magic number and its type, 2.
const JBD2_COMMIT: &str = "c03b399800000002";

#[test]
fn ext4_goes_read_only_when_a_commit_block_cannot_be_written() {
    let Some(image) = Image::for_story("a failed JBD2 commit block") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "64M"]);
    let mut operator = daemon.operator();
    let mut vm = Machine::new().disk(&daemon.socket("disk0")).boot(&image);
    vm.must("mkfs.ext4 -qF -b 4096 /dev/vda; mount -t ext4 -o errors=remount-ro /dev/vda /mnt");
    vm.must("head -c 1m /dev/urandom >/mnt/keep; md5sum /mnt/keep >/tmp/sum; sync");
    add_rule(
        &mut operator,
        "disk0",
        json!({ "name": "commit", "iotype": ["write"], "once": true, "effect": "error",
                "content": { "bytes": JBD2_COMMIT, "block-size": 4096 } }),
    );

    let written = vm.run("echo more >/mnt/more; sync /mnt/more");
    assert_eq!(hits(&mut operator, "disk0", "commit"), 1, "{}", written.output);
    let refused = vm.run("echo again >/mnt/again");
    assert!(refused.output.contains("Read-only file system"), "{}", refused.output);
    let kernel = vm.kernel_log();
    assert!(kernel.contains("Aborting journal on device vda"), "{kernel}");

    // The disk itself is well: what was there is there, and the file system can be mended.
    vm.must("echo 3 >/proc/sys/vm/drop_caches; md5sum -c /tmp/sum; umount /mnt");
    let repaired = vm.run("e2fsck -fy /dev/vda");
    assert!(repaired.status <= 1, "{}", repaired.output);
    vm.must("mount -t ext4 /dev/vda /mnt; md5sum -c /tmp/sum; echo more >/mnt/more; sync");
}

/// The magic number that begins each record of an XFS log.
const XFS_LOG_RECORD: &str = "feedbabe";

#[test]
fn xfs_shuts_down_on_a_failed_log_write_and_the_revived_disk_mounts_again() {
    let Some(image) = Image::for_story("a failed XFS log write") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "320M"]);
    let mut operator = daemon.operator();
    let mut vm = Machine::new().disk(&daemon.socket("disk0")).boot(&image);
    vm.must("mkfs.xfs -q -f /dev/vda; modprobe xfs; mount -t xfs /dev/vda /mnt");
    vm.must("head -c 1m /dev/urandom >/mnt/keep; md5sum /mnt/keep >/tmp/sum; sync");
    add_rule(
        &mut operator,
        "disk0",
        json!({ "name": "log", "iotype": ["write"], "effect": "error",
                "content": { "bytes": XFS_LOG_RECORD, "block-size": 512 } }),
    );

    let written = vm.run("mkdir /mnt/more; sync");
    assert!(hits(&mut operator, "disk0", "log") > 0, "{}", written.output);
    let refused = vm.run("ls /mnt");
    assert!(refused.output.contains("Input/output error"), "{}", refused.output);
    let kernel = vm.kernel_log();
    assert!(kernel.contains("Filesystem has been shut down"), "{kernel}");

    remove_rule(&mut operator, "disk0", "log");
    // The log is replayed by a mount; only then is there nothing left to repair.
    vm.must("umount /mnt; mount -t xfs /dev/vda /mnt; md5sum -c /tmp/sum; umount /mnt");
    vm.must("xfs_repair /dev/vda; mount -t xfs /dev/vda /mnt");
    vm.must("md5sum -c /tmp/sum; mkdir /mnt/more; umount /mnt; xfs_repair -n /dev/vda");
}

/// Wait for a while until a script in the background has made /tmp/done.
const WAIT_UNTIL_DONE: &str = "n=0
    while [ ! -e /tmp/done ] && [ $n -lt 300 ]; do sleep 0.2; n=$((n + 1)); done
    [ -e /tmp/done ]";

#[test]
fn a_hang_shows_as_blocked_tasks_and_everything_goes_on_when_it_ends() {
    let Some(image) = Image::for_story("the state hang") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "64M"]);
    let mut operator = daemon.operator();
    let mut vm = Machine::new().disk(&daemon.socket("disk0")).boot(&image);
    vm.must("mkfs.ext4 -qF /dev/vda; mount -t ext4 /dev/vda /mnt");
    vm.must("head -c 1m /dev/urandom >/tmp/data; echo 3 >/proc/sys/kernel/hung_task_timeout_secs");
    set_state(&mut operator, "disk0", "hang");

    vm.must("(cp /tmp/data /mnt/file; sync; echo written >/tmp/done) >/dev/null 2>&1 &");
    wait_until("the kernel complains", || {
        std::thread::sleep(Duration::from_millis(200));
        vm.kernel_log().contains("blocked for more than 3 seconds")
    });
    assert_eq!(vm.run("[ -e /tmp/done ]").status, 1, "the guest waits");
    assert!(held(&mut operator, "disk0") > 0);

    set_state(&mut operator, "disk0", "none");
    vm.must(WAIT_UNTIL_DONE);
    vm.must("echo 3 >/proc/sys/vm/drop_caches; cmp /tmp/data /mnt/file");
    vm.must("umount /mnt; e2fsck -fn /dev/vda");
}

#[test]
fn qemu_stops_while_the_disk_hangs_and_what_was_held_fails() {
    let Some(image) = Image::for_story("stop during a hang") else { return };
    let directory = directory();
    let daemon = Daemon::start(directory.path(), &["--memory", "64M"]);
    let mut operator = daemon.operator();
    let mut vm = Machine::new().disk(&daemon.socket("disk0")).boot(&image);
    set_state(&mut operator, "disk0", "hang");
    let write = "dd if=/dev/zero of=/dev/vda bs=4k count=1 oflag=direct";
    vm.must(&format!("({write} || echo failed; echo >/tmp/done) >/tmp/said 2>&1 &"));
    wait_until("a request is held", || held(&mut operator, "disk0") > 0);

    // QEMU would wait here, its monitor with it, for a back end that waits for its requests.
    vm.qemu.must("stop", json!({}));
    assert_eq!(held(&mut operator, "disk0"), 0, "nothing is held for a ring that stands still");
    set_state(&mut operator, "disk0", "none");
    vm.qemu.must("cont", json!({}));
    vm.must(WAIT_UNTIL_DONE);
    let said = vm.must("cat /tmp/said");
    assert!(said.contains("Input/output error"), "{said}");
    vm.must(write);
}
