//! Linux's md RAID1 over two disks, one of which fails after the other, in the patterns of NEC's fault
//! injection for SCSI (2008).

use serde_json::{Value, json};

use crate::directory;
use crate::support::daemon::Daemon;
use crate::support::operator::Operator;
use crate::support::vm::{Image, Machine, Vm};

/// Where md puts data on each disk, in sectors.
const DATA_OFFSET: u64 = 2048;

/// A disk of the mirror: its id here, its name in the guest.
type Disk = (&'static str, &'static str);
const DISKS: [Disk; 2] = [("left", "vda"), ("right", "vdb")];

/// What a pattern does to a member of the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survives {
    /// md heals it and keeps it.
    Kept,
    /// md keeps it and lists its bad blocks, which it uses no more.
    Listed,
    /// md drops it from the mirror.
    Dropped,
}

/// A pattern: its rule, which gets the sectors of the file, what the guest does, what md does.
struct Pattern {
    name: &'static str,
    rule: fn(Vec<String>) -> Value,
    guest: &'static str,
    member: Survives,
}

/// Read the file from the disk.
const READ: &str = "echo 3 >/proc/sys/vm/drop_caches; md5sum -c /tmp/sum";
/// Write another file, to the disk.
const WRITE: &str = "head -c 256k /dev/urandom >/mnt/new; sync; sync /mnt/new";

const PATTERNS: [Pattern; 9] = [
    Pattern {
        name: "read-error-corrected-by-writing",
        rule: |sectors| json!({ "iotype": ["read"], "sectors": sectors, "effect": "media", "heal": "on-write" }),
        guest: READ,
        member: Survives::Kept,
    },
    Pattern {
        name: "temporary-read-error",
        rule: |sectors| json!({ "iotype": ["read"], "sectors": sectors, "once": true, "effect": "error" }),
        guest: READ,
        member: Survives::Kept,
    },
    Pattern {
        name: "temporary-no-response-on-read",
        rule: |sectors| {
            json!({ "iotype": ["read"], "sectors": sectors, "once": true,
                    "effect": "hang", "for-ns": 2_000_000_000, "errno": "ETIMEDOUT" })
        },
        guest: READ,
        member: Survives::Kept,
    },
    Pattern {
        name: "permanent-read-error",
        rule: |sectors| json!({ "iotype": ["read"], "sectors": sectors, "effect": "error" }),
        guest: READ,
        member: Survives::Listed,
    },
    Pattern {
        name: "temporary-write-error",
        rule: |_| json!({ "iotype": ["write"], "once": true, "effect": "error" }),
        guest: WRITE,
        member: Survives::Dropped,
    },
    Pattern {
        name: "temporary-no-response-on-write",
        rule: |_| {
            json!({ "iotype": ["write"], "once": true,
                    "effect": "hang", "for-ns": 2_000_000_000, "errno": "ETIMEDOUT" })
        },
        guest: WRITE,
        member: Survives::Dropped,
    },
    Pattern {
        name: "write-error",
        rule: |_| json!({ "iotype": ["write"], "effect": "error" }),
        guest: WRITE,
        member: Survives::Dropped,
    },
    Pattern {
        name: "permanent-read-and-write-error",
        rule: |sectors| json!({ "iotype": ["read", "write"], "sectors": sectors, "effect": "media" }),
        guest: READ,
        member: Survives::Listed,
    },
    Pattern {
        name: "no-response-then-errors",
        rule: |_| json!({ "effect": "hang", "for-ns": 1_000_000_000, "errno": "ETIMEDOUT" }),
        guest: WRITE,
        member: Survives::Dropped,
    },
];

#[test]
fn a_mirror_survives_every_pattern_on_one_disk_after_the_other() {
    let Some(image) = Image::for_story("md RAID1") else { return };
    let directory = directory();
    let daemon =
        Daemon::start_disks(directory.path(), &["id=left,memory=40M", "id=right,memory=40M"]);
    let mut operator = daemon.operator();
    let mut vm =
        Machine::new().disk(&daemon.socket("left")).disk(&daemon.socket("right")).boot(&image);
    vm.must(
        "modprobe raid1
        mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 \
            --data-offset=1M --bitmap=none --assume-clean /dev/vda /dev/vdb
        mkfs.ext4 -qF -b 4096 /dev/md0; mount -t ext4 /dev/md0 /mnt
        head -c 512k /dev/urandom >/mnt/file; md5sum /mnt/file >/tmp/sum; sync",
    );
    let sectors = file_sectors(&mut vm);
    for pattern in &PATTERNS {
        for (bad, good) in [(DISKS[0], DISKS[1]), (DISKS[1], DISKS[0])] {
            suffer(&mut vm, &mut operator, pattern, &sectors, bad, good);
        }
    }
    vm.must("umount /mnt; e2fsck -fn /dev/md0; mdadm --stop /dev/md0");
    // Each half alone has the data.
    for (_, disk) in DISKS {
        vm.must(&format!(
            "mdadm --assemble --run /dev/md0 /dev/{disk}
            mount -t ext4 -o ro /dev/md0 /mnt; {READ}; umount /mnt; mdadm --stop /dev/md0"
        ));
    }
}

/// What has become of a disk of the mirror.
fn member(vm: &mut Vm, disk: &str) -> Survives {
    let folder = format!("/sys/block/md0/md/dev-{disk}");
    if vm.must(&format!("cat {folder}/state")).contains("faulty") {
        return Survives::Dropped;
    }
    match vm.must(&format!("cat {folder}/bad_blocks")).as_str() {
        "" => Survives::Kept,
        _ => Survives::Listed,
    }
}

/// Where the file lies on each disk.
fn file_sectors(vm: &mut Vm) -> Vec<String> {
    let blocks = vm.must(
        "n=0; while [ $n -lt 128 ]; do
            debugfs -R \"bmap /file $n\" /dev/md0 2>/dev/null; n=$((n + 1))
        done",
    );
    let first = |block: &str| DATA_OFFSET + block.parse::<u64>().expect("a block") * 8;
    blocks.lines().map(|block| format!("{}-{}", first(block), first(block) + 7)).collect()
}

/// One pattern on one disk: the guest sees nothing of it, md does what it should, all is mended.
fn suffer(
    vm: &mut Vm,
    operator: &mut Operator,
    pattern: &Pattern,
    sectors: &[String],
    (bad_id, bad): Disk,
    (_, good): Disk,
) {
    let story = format!("{} on {bad_id}", pattern.name);
    // So that reads go where the fault is.
    let prefer = |state: &str| format!("echo {state} >/sys/block/md0/md/dev-{good}/state");
    vm.must(&prefer("writemostly"));
    let mut rule = (pattern.rule)(sectors.to_vec());
    rule["name"] = json!(pattern.name);
    operator.must("block-fault-rule-add", json!({ "id": bad_id, "rule": rule }));

    let guest = vm.run(pattern.guest);
    assert_eq!(guest.status, 0, "{story}: {}", guest.output);
    let asked = json!({ "id": bad_id, "name": pattern.name });
    let told = operator.must("query-block-fault-rules", asked)["rules"][0].take();
    assert!(told["hits"].as_u64().expect("hits") > 0, "{story}: never met: {told}");
    assert_eq!(member(vm, bad), pattern.member, "{story}");
    vm.must(READ);

    let removed = json!({ "id": bad_id, "name": pattern.name });
    operator.must("block-fault-rule-remove", removed);
    if pattern.member != Survives::Kept {
        vm.must(&format!(
            "mdadm /dev/md0 --fail /dev/{bad}; mdadm /dev/md0 --remove /dev/{bad}
            mdadm --zero-superblock /dev/{bad}; mdadm /dev/md0 --add /dev/{bad}
            mdadm --wait /dev/md0 || true"
        ));
    }
    vm.must(&format!("{}; [ $(cat /sys/block/md0/md/degraded) = 0 ]", prefer("-writemostly")));
    vm.must(READ);
}
