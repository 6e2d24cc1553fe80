//! E-07, the other way: what a killed daemon had asked of its image must not land in memory that its
//! guest uses for something else by then.
//!
//! As in [`late_writes`](super::late_writes), with reads that the host holds back. The successor reads
//! again what was in flight, the guest puts other content into the buffers, and the host lets the old
//! reads go. Readers do not exclude each other, so the fence is the disk's mark on its image; writers
//! have both. The control is the same story without locks, where the old reads must be seen on top.

use std::time::Duration;

use crate::host::lend;
use crate::support::front::request::{SECTOR, kind};
use crate::support::fuse::{Class, Host, Plan, Trouble, When};
use crate::support::load::Dice;
use crate::times;

use super::late_writes::{
    BLOCK_BYTES, BLOCKS, Guest, LET_GO_MS, SHAPE, START_WAITS_MS, Service, tell, wait_for,
};

const HOLD: Plan = Plan { class: Class::Read, when: When::Always, trouble: Trouble::Held };
/// What the guest has in its buffers after the successor has read into them. The image is zeroes.
const OTHER: [u8; BLOCK_BYTES] = [0xee; BLOCK_BYTES];

/// One death among reads; how many buffers were overwritten, and how many starts were refused.
fn die_reading(guest: &mut Guest<'_>, host: &Host, let_go_after: Duration) -> (usize, u32) {
    host.plan(Some(HOLD));
    for block in 0..BLOCKS {
        let sector = u64::from(block) * (BLOCK_BYTES / SECTOR) as u64;
        guest.queue.start(block, kind::IN, sector, BLOCK_BYTES as u32);
    }
    guest.queue.kick();
    let refused = guest.die_and_come_back(let_go_after);
    guest.finish();
    for block in 0..BLOCKS {
        guest.queue.fill_slot(block, &OTHER);
    }
    host.let_go();
    wait_for("the old reads", || host.late() == 0);
    let is_overwritten = |block: &u16| {
        let mut data = [0; BLOCK_BYTES];
        guest.queue.slot_into(*block, &mut data);
        data != OTHER
    };
    ((0..BLOCKS).filter(is_overwritten).count(), refused)
}

fn nothing_late_lands(aio: &'static str, is_read_only: bool) {
    let Some(host) = lend("late reads", Host::mount(SHAPE)) else { return };
    let mut guest = Guest::boot(&host, Service { aio, is_locked: true, is_read_only });
    let mut dice = Dice::new(11);
    let (mut overwritten, mut refused) = (0, 0);
    let rounds = times(3, 200);
    for round in 0..rounds {
        // Once it takes longer than a start waits for the locks.
        let wait_ms = if round == 0 { START_WAITS_MS + LET_GO_MS } else { dice.below(LET_GO_MS) };
        let seen = die_reading(&mut guest, &host, Duration::from_millis(wait_ms));
        overwritten += seen.0;
        refused += seen.1;
    }
    let what = if is_read_only { "read-only" } else { "writable" };
    tell(&format!(
        "E-07 {aio}, {what}: {rounds} kills with {BLOCKS} reads at the host, {refused} starts \
         refused, OVERWRITTEN {overwritten}"
    ));
    assert_eq!(overwritten, 0);
    assert!(refused > 0, "a start gives up in the end");
}

#[test]
fn no_read_of_a_dead_daemon_from_a_read_only_disk_lands_in_memory_that_is_used_again() {
    nothing_late_lands("io_uring", true);
}

#[test]
fn no_read_of_a_dead_daemon_over_threads_lands_in_memory_that_is_used_again() {
    nothing_late_lands("threads", true);
}

#[test]
fn no_read_of_a_dead_daemon_from_a_writable_disk_lands_in_memory_that_is_used_again() {
    nothing_late_lands("io_uring", false);
}

#[test]
fn without_locks_reads_of_a_dead_daemon_over_io_uring_land_in_memory_that_is_used_again() {
    let Some(host) = lend("late reads", Host::mount(SHAPE)) else { return };
    let service = Service { aio: "io_uring", is_locked: false, is_read_only: true };
    let mut guest = Guest::boot(&host, service);
    let (overwritten, _) = die_reading(&mut guest, &host, Duration::ZERO);
    tell(&format!(
        "E-07 io_uring, control without locks: OVERWRITTEN {overwritten} of {BLOCKS} buffers"
    ));
    assert!(overwritten > 0, "the stories above would show nothing");
}
