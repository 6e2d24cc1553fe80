//! The daemon dies under a guest that is at work, again and again: nobody notices.

use std::fs::File;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::lifecycle::{CHECK_KEEPSAKE, MAKE_KEEPSAKE, WRITE_ON, plug, unplug};
use crate::support::daemon::{Daemon, counter, resubmitted, set_state};
use crate::support::operator::Operator;
use crate::support::vm::{Image, Machine, Vm, reconnect};
use crate::verified::{GuestLoad, end_right};
use crate::{directory, times, wait_for_writes, wait_until};

/// Disks of the guest, each with a daemon of its own. QEMU 7.2 waits a second until it connects
/// again, so that only many at a time come to many kills.
const DISKS: usize = 8;
/// Longest that a disk may be without an answer.
const SERVED_WAIT: Duration = Duration::from_secs(60);
/// So many requests answered, and QEMU is through with the handshake: 7.2 has a flaw there, and a
/// back end that dies in it is not found again.
const ANSWERED_MIN: u64 = 50;
/// How long the guest runs before the next kill, at most.
const LIFE_MS: u64 = 300;

/// A disk and its daemon, which dies now and then.
struct Mortal {
    daemon: Daemon,
    operator: Operator,
    kills: u32,
    /// When it is killed next; nothing while it does not serve yet.
    next: Option<Instant>,
    since: Instant,
    outages: Vec<Duration>,
    /// Requests that were done again in the lives before this one.
    resubmitted_before: u64,
    _directory: tempfile::TempDir,
}

impl Mortal {
    fn new(bytes: u64) -> Self {
        let directory = directory();
        let image = directory.path().join("disk.img");
        File::create(&image).and_then(|file| file.set_len(bytes)).expect("an image");
        let options = ["--blk-file", image.to_str().expect("a UTF-8 path"), "--num-queues", "2"];
        let daemon = Daemon::start(directory.path(), &options);
        let operator = daemon.operator();
        let mut mortal = Self {
            daemon,
            operator,
            kills: 0,
            next: None,
            since: Instant::now(),
            outages: Vec::new(),
            resubmitted_before: 0,
            _directory: directory,
        };
        mortal.slow_down();
        mortal
    }

    /// Its life ends.
    fn kill(&mut self) {
        self.resubmitted_before = self.resubmitted();
        self.daemon.kill();
    }

    /// Its next life begins.
    fn start_again(&mut self) {
        self.daemon.start_again();
        self.operator = self.daemon.operator();
        self.slow_down();
    }

    /// Let most requests take their time, each its own: so there are always many on their way, and
    /// they end in another order than they came.
    fn slow_down(&mut self) {
        let delay = json!({ "distribution": "exponential", "mean-ns": 20_000_000 });
        let profiles = json!([{ "share": 0.7, "delay": delay }]);
        let slow = json!({ "id": "disk0", "state": "slow", "profiles": profiles });
        self.operator.must("set-block-fault-state", slow);
    }

    /// Requests that it has answered in this life.
    fn answered(&mut self) -> u64 {
        let names = ["rd_operations", "wr_operations"];
        names.into_iter().map(|name| counter(&mut self.operator, "disk0", name)).sum()
    }

    /// Kill it if its time has come, or see whether it serves.
    fn turn(&mut self) {
        let Some(next) = self.next else {
            return self.look();
        };
        if next <= Instant::now() {
            self.kill();
            self.start_again();
            self.kills += 1;
            self.next = None;
            self.since = Instant::now();
        }
    }

    /// Once it serves, it is given a life of any length, and none like the one before.
    fn look(&mut self) {
        if self.answered() >= ANSWERED_MIN {
            self.outages.push(self.since.elapsed());
            let life_ms = u64::from(self.kills) * 97 % LIFE_MS;
            self.next = Some(Instant::now() + Duration::from_millis(life_ms));
        }
        assert!(self.since.elapsed() < SERVED_WAIT, "QEMU does not come back");
    }

    /// How many requests were done again, in all lives.
    fn resubmitted(&mut self) -> u64 {
        self.resubmitted_before + resubmitted(&mut self.operator, "disk0")
    }
}

/// A file system at work: a load on a file of it, and files that come and go.
fn start_file_system(vm: &mut Vm, disk: &str, blocks: u32) -> GuestLoad {
    vm.must(&format!(
        "mkfs.ext4 -qF /dev/{disk}; mount -t ext4 /dev/{disk} /mnt
        dd if=/dev/zero of=/mnt/load bs=4k count={blocks} conv=fsync
        head -c 300k /dev/urandom >/tmp/data; rm -f /tmp/enough"
    ));
    vm.must(
        "(while [ ! -e /tmp/enough ]; do
            n=$((n + 1)); mkdir -p /mnt/$((n % 5)); cp /tmp/data /mnt/$((n % 5))/file$n; sync
            cmp /tmp/data /mnt/$((n % 5))/file$n || echo $n
            [ $((n % 10)) != 0 ] || rm -r /mnt/[0-4]
        done >/tmp/bad 2>&1; echo $n >/tmp/rounds) &",
    );
    GuestLoad::start(vm, "/mnt/load", &format!("blocks={blocks} threads=8"))
}

fn check_file_system(vm: &mut Vm, disk: &str) -> String {
    vm.must("until [ -e /tmp/rounds ]; do sleep 0.1; done; cat /tmp/bad; [ ! -s /tmp/bad ]");
    vm.must(&format!("umount /mnt; e2fsck -fn /dev/{disk}"));
    vm.must("cat /tmp/rounds")
}

/// The middle and the most of some times.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    format!("median {:?}, most {:?}", times[times.len() / 2], times[times.len() - 1])
}

#[test]
fn a_guest_at_work_does_not_notice_that_its_daemons_are_killed() {
    let Some(image) = Image::for_story("SIGKILL under a real guest") else { return };
    let kills = times(200, 1_000);
    let mut disks: Vec<Mortal> = (0..DISKS).map(|_| Mortal::new(24 << 20)).collect();
    let mut machine = Machine::new().cpus(2);
    for disk in &disks {
        machine = machine.disk_with(&disk.daemon.socket("disk0"), reconnect(), "");
    }
    let mut vm = machine.boot(&image);
    let names: Vec<String> = ('a'..='z').take(DISKS).map(|letter| format!("vd{letter}")).collect();
    let (file_system, raw) = names.split_last().expect("a disk");
    let mut loads = vec![start_file_system(&mut vm, file_system, 512)];
    for (seed, name) in (1..).zip(raw) {
        let options = format!("seed={seed} blocks=512 threads=16");
        loads.push(GuestLoad::start(&mut vm, &format!("/dev/{name}"), &options));
    }

    let began = Instant::now();
    disks.iter_mut().for_each(|disk| disk.since = began);
    while disks.iter().map(|disk| disk.kills).sum::<u32>() < kills {
        disks.iter_mut().for_each(Mortal::turn);
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = began.elapsed();
    disks.iter_mut().for_each(|disk| set_state(&mut disk.operator, "disk0", "none"));

    let all = end_right(&mut vm, &loads);
    let rounds = check_file_system(&mut vm, file_system);
    let resubmitted: u64 = disks.iter_mut().map(Mortal::resubmitted).sum();
    let kills: u32 = disks.iter().map(|disk| disk.kills).sum();
    let outages = disks.iter_mut().flat_map(|disk| std::mem::take(&mut disk.outages)).collect();
    eprintln!(
        "E-03: {kills} SIGKILLs in {took:.0?} under QEMU, {all}; {rounds} rounds of files; \
         {resubmitted} requests done again; from the kill to {ANSWERED_MIN} answers: {}; \
         0 lost, stale, torn, wrong, hung",
        spread(outages)
    );
    assert!(resubmitted > u64::from(kills) / 10, "the log of requests in flight was of use");
    assert_eq!(vm.run("dmesg | grep 'I/O error'").output, "");
}

/// The device itself comes and goes: what a driver had in flight then is nobody's any more.
#[test]
fn reboots_plugging_and_a_killed_qemu_between_two_lives_of_the_daemon() {
    let Some(image) = Image::for_story("reboot, plug and kill QEMU while the daemon dies") else {
        return;
    };
    let mut disk = Mortal::new(64 << 20);
    let machine =
        Machine::new().cpus(2).with(&["-device", "pcie-root-port,id=port0,chassis=1,slot=1"]);
    let mut vm = machine.boot(&image);
    plug(&mut vm, &disk.daemon);
    vm.must(MAKE_KEEPSAKE);

    // The daemon dies, and then the guest starts anew: in its next life, or before that begins.
    for resets_first in [false, true] {
        vm.must(WRITE_ON);
        wait_for_writes(&mut disk.operator, "disk0", 50);
        disk.kill();
        if resets_first {
            vm.qemu.must("system_reset", json!({}));
        }
        disk.start_again();
        if !resets_first {
            wait_until("QEMU has connected again", || disk.answered() >= ANSWERED_MIN);
            vm.start("reboot -f");
        }
        vm.wait_until_up();
        vm.must(CHECK_KEEPSAKE);
        vm.must("mount -t ext4 /dev/vda /mnt");
    }

    // Unplugged with requests on their way, some of them done again for an earlier daemon.
    vm.must("umount /mnt; mknod /tmp/disk b $(sed 's/:/ /' /sys/block/vda/dev)");
    vm.must(
        "for n in 1 2 3 4 5 6 7 8; do
            (until [ -e /tmp/enough ]; do dd if=/tmp/disk of=/dev/null bs=64k iflag=direct; done) &
        done >/dev/null 2>&1",
    );
    wait_until("the guest reads", || disk.answered() >= ANSWERED_MIN);
    disk.kill();
    disk.start_again();
    wait_until("QEMU has connected again", || disk.answered() >= ANSWERED_MIN);
    unplug(&mut vm);
    vm.must("touch /tmp/enough");
    plug(&mut vm, &disk.daemon);
    vm.must(CHECK_KEEPSAKE);

    // QEMU is killed while requests are held, and the daemon before the next QEMU comes.
    vm.must("mount -t ext4 /dev/vda /mnt");
    vm.must(WRITE_ON);
    wait_for_writes(&mut disk.operator, "disk0", 50);
    set_state(&mut disk.operator, "disk0", "hang");
    wait_until("requests are held", || {
        let held = disk.operator.must("query-block-fault-held", json!({ "id": "disk0" }));
        held.as_array().is_some_and(|held| !held.is_empty())
    });
    vm.kill();
    disk.kill();
    disk.start_again();
    let mut vm = machine.boot(&image);
    plug(&mut vm, &disk.daemon);
    vm.must(CHECK_KEEPSAKE);
    let load = GuestLoad::start(&mut vm, "/dev/vda", "blocks=1024");
    wait_for_writes(&mut disk.operator, "disk0", 200);
    let all = end_right(&mut vm, &[load]);
    let resubmitted = disk.resubmitted();
    eprintln!("E-10: {all}; {resubmitted} requests done again; 0 lost, stale, torn, wrong, hung");
    assert!(resubmitted > 0, "the log of requests in flight was of use");
}
