//! SIGKILL, SIGTERM and SIGKILL again, at any moment.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::daemon::set_state;
use crate::support::guest::{Guest, spread};
use crate::support::load::Dice;
use crate::times;

/// How long the guest runs before the next kill, at most.
const LIFE_US: u64 = 15_000;

/// Kill the daemon so many times under a load; tell what was seen.
fn kill_many(name: &str, kills: u32, mut guest: Guest) {
    let mut dice = Dice::new(kills.into());
    let (mut outages, mut in_flight) = (Vec::new(), Vec::new());
    for _ in 0..kills {
        guest.load.run(Duration::from_micros(dice.below(LIFE_US)));
        guest.daemon.kill();
        in_flight.push(guest.load.in_flight());
        guest.lose_connection();
        guest.daemon.start_again();
        outages.push(guest.come_back());
    }
    let done = guest.load.done;
    let resubmitted = guest.conclude();
    in_flight.sort_unstable();
    let (median, most) = (in_flight[in_flight.len() / 2], in_flight[in_flight.len() - 1]);
    eprintln!(
        "{name}: {kills} SIGKILLs, {} requests, {} MiB verified, in flight at the kill: median \
         {median}, most {most}; {resubmitted} done again; from accept to the first answer: {}",
        done.requests,
        done.bytes_verified >> 20,
        spread(outages)
    );
    assert!(resubmitted > u64::from(kills), "the log of requests in flight was of use");
}

#[test]
fn four_deep_queues_survive_kills_over_io_uring() {
    kill_many("E-02 io_uring", times(60, 10_000), Guest::new(0xe02, 4, 128, &[]));
}

#[test]
fn four_deep_queues_survive_kills_over_threads() {
    let guest = Guest::new(0xe021, 4, 128, &["--aio", "threads"]);
    kill_many("E-02 threads", times(30, 1_000), guest);
}

/// What is done again is told queue by queue, and counted.
#[test]
fn what_is_done_again_is_told_for_each_queue_and_counted() {
    const QUEUES: u16 = 4;
    const DEPTH: u16 = 10;
    let mut guest = Guest::new(0xe02a, QUEUES, DEPTH, &[]);
    set_state(&mut guest.daemon.operator(), "disk0", "hang");
    guest.load.step();
    assert_eq!(guest.load.in_flight(), usize::from(QUEUES * DEPTH));
    wait_held(&guest, QUEUES * DEPTH);
    guest.daemon.kill();
    guest.lose_connection();
    guest.daemon.start_again();
    guest.come_back();
    for queue in 0..QUEUES {
        let words = format!("queue {queue}: {DEPTH} requests of an earlier connection are done");
        guest.daemon.wait_said(&words, 1);
    }
    assert_eq!(guest.conclude(), u64::from(QUEUES * DEPTH));
}

fn wait_held(guest: &Guest, requests: u16) {
    let mut operator = guest.daemon.operator();
    let until = Instant::now() + Duration::from_secs(20);
    while operator.must("query-block-fault", json!({ "id": "disk0" }))["held"] != requests {
        assert!(Instant::now() < until, "not all are held");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// E-04: the next kill comes before, in and just after the handshake that recovers from the last.
#[test]
fn kills_during_the_recovery_lose_nothing() {
    let rounds = times(40, 1_000);
    let mut guest = Guest::new(0xe04, 2, 64, &[]);
    let mut dice = Dice::new(4);
    let mut cut_off = 0;
    for _ in 0..rounds {
        guest.load.run(Duration::from_micros(dice.below(LIFE_US)));
        guest.daemon.kill();
        guest.lose_connection();
        for _ in 0..dice.below(4) {
            guest.daemon.start_again();
            let wait = Duration::from_micros(dice.below(20_000));
            let killer = guest.daemon.kill_after(wait);
            cut_off += u32::from(guest.reconnect().is_err());
            killer.join().unwrap();
            guest.lose_connection();
            guest.daemon.wait();
        }
        guest.daemon.start_again();
        guest.come_back();
    }
    let resubmitted = guest.conclude();
    eprintln!("E-04: {rounds} recoveries, {cut_off} handshakes cut off, {resubmitted} done again");
    assert!(cut_off > 0 && resubmitted > 0);
}

/// E-05: one request at a time, waited for by its interrupt alone.
#[test]
fn no_interrupt_is_lost_between_two_lives() {
    let rounds = times(60, 2_000);
    let mut guest = Guest::new(0xe05, 1, 1, &[]);
    let mut dice = Dice::new(5);
    for _ in 0..rounds {
        guest.load.queues[0].set_interrupts(true);
        for _ in 0..dice.below(20) {
            guest.load.step_by_interrupt();
        }
        // A request on its way, or one answered of which the driver has not heard.
        guest.load.step();
        std::thread::sleep(Duration::from_micros(dice.below(300)));
        guest.daemon.kill();
        guest.lose_connection();
        guest.daemon.start_again();
        guest.reconnect().unwrap();
        guest.load.step_by_interrupt();
    }
    guest.load.queues[0].set_interrupts(false);
    guest.conclude();
}

/// E-06: SIGTERM under load, and another binary takes over: an upgrade.
#[test]
fn an_upgrade_under_load_is_not_noticed() {
    let rounds = times(20, 500);
    let mut guest = Guest::new(0xe06, 4, 64, &[]);
    let mut dice = Dice::new(6);
    for _ in 0..rounds {
        guest.load.run(Duration::from_micros(dice.below(LIFE_US)));
        assert!(guest.daemon.end().success(), "it ends well");
        guest.lose_connection();
        guest.daemon.replace_binary();
        guest.daemon.start_again();
        guest.come_back();
    }
    guest.conclude();
}

/// The connection alone is lost, as when QEMU's own end fails: the same process goes on.
#[test]
fn a_connection_that_is_lost_under_load_is_taken_up_again() {
    let rounds = times(60, 2_000);
    let mut guest = Guest::new(0xe0a, 4, 64, &[]);
    let mut dice = Dice::new(10);
    for _ in 0..rounds {
        guest.load.run(Duration::from_micros(dice.below(LIFE_US)));
        guest.lose_connection();
        guest.reconnect_until_taken();
    }
    assert!(guest.conclude() > 0, "requests were in flight");
}

/// What the log of requests in flight is for: without it, a ring that goes on from its used index
/// takes the wrong requests, because they do not end in the order in which they came.
#[test]
fn without_the_log_requests_are_lost() {
    let tale = std::thread::spawn(|| {
        let mut dice = Dice::new(7);
        let mut guest = Guest::new(0xe0b, 4, 128, &[]);
        guest.forget_in_flight();
        for _ in 0..20 {
            guest.load.run(Duration::from_micros(5_000 + dice.below(LIFE_US)));
            guest.daemon.kill();
            guest.lose_connection();
            guest.daemon.start_again();
            // A slow start is no loss.
            guest.reconnect_until_taken();
            if guest.load.has_lost_one() {
                return;
            }
        }
        panic!("nothing was lost");
    });
    // The driver may also be given an answer to what it did not ask, or another block's data.
    if let Err(panic) = tale.join() {
        let said = panic.downcast_ref::<String>().map_or("", String::as_str);
        let lost = ["not offered", "HUNG", "LOST", "STALE", "TORN", "WRONG"];
        assert!(lost.iter().any(|word| said.contains(word)), "{said}");
    }
}
