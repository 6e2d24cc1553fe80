//! A long load on one daemon with everything going on at once: what it keeps does not grow.
//!
//! Two minutes of it are part of every test run; `tests/soak SECONDS` runs it longer, on an optimised
//! build. Prints what it saw, line by line as it goes and in all.

#![allow(clippy::unwrap_used, reason = "a test panics when it fails")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "support"]
mod support {
    pub mod daemon;
    pub mod front;
    pub mod guest;
    pub mod load;
    pub mod operator;
    pub mod process;
}

use std::time::{Duration, Instant};

use serde_json::json;
use support::guest::Guest;
use support::load::Dice;
use support::operator::Operator;
use support::process::{Sample, Watched};

const QUEUES: u16 = 2;
const DEPTH: u16 = 32;
/// How long the load runs between two changes.
const TICK: Duration = Duration::from_millis(100);
/// How much memory may be kept in the second half that was not kept in the first.
const GROWTH_KIB_MAX: u64 = 1024;

fn seconds() -> u64 {
    let chosen = std::env::var("BLKFAULT_SOAK_SECONDS").ok();
    chosen.map_or(120, |text| text.parse().expect("BLKFAULT_SOAK_SECONDS is a number"))
}

/// Faults that come and go and fail nothing: the load must succeed whatever happens.
fn change_faults(operator: &mut Operator, dice: &mut Dice, number: u64) {
    let name = format!("churn{}", number % 8);
    remove_rule(operator, &name);
    let mut rule = match dice.below(4) {
        0 => json!({ "effect": "delay", "delay": 200_000 }),
        1 => json!({ "effect": "hang", "for-ns": 5_000_000 }),
        2 => json!({ "effect": "set-state", "new-state": 1 + dice.below(3) }),
        // Of sectors that the guest has not.
        _ => json!({ "effect": "error", "sectors": [ "4000000-4000007" ] }),
    };
    rule["name"] = json!(name);
    rule["probability"] = json!(0.02);
    operator.must("block-fault-rule-add", json!({ "id": "disk0", "rule": rule }));
}

/// Remove a rule, if it is there.
fn remove_rule(operator: &mut Operator, name: &str) {
    let _ = operator.execute("block-fault-rule-remove", json!({ "id": "disk0", "name": name }));
}

fn enter(operator: &mut Operator, state: &str) {
    operator.must("set-block-fault-state", json!({ "id": "disk0", "state": state }));
}

/// What happens in one round, besides the load.
fn happen(guest: &mut Guest, operator: &mut Operator, dice: &mut Dice, number: u64) {
    if number % 40 != 29 {
        change_faults(operator, dice, number);
    }
    match number % 40 {
        9 => {
            enter(operator, "hang");
            guest.load.run(TICK / 4);
            enter(operator, "none");
        }
        19 => {
            guest.lose_connection();
            guest.reconnect_until_taken();
        }
        29 => {
            // What is held when a ring stops fails, which is another story.
            (0..8).for_each(|name| remove_rule(operator, &format!("churn{name}")));
            guest.restart_queues();
        }
        39 => drop(operator.must("query-block-fault", json!({ "id": "disk0" }))),
        _ => {}
    }
}

#[test]
fn a_long_load_with_everything_going_on_keeps_nothing() {
    let mut guest = Guest::new(0x50ac, QUEUES, DEPTH, &[]);
    let watched = Watched::of(guest.daemon.id());
    let mut operator = guest.daemon.operator();
    let mut dice = Dice::new(1);
    let (began, whole) = (Instant::now(), Duration::from_secs(seconds()));
    let (mut samples, mut number) = (Vec::new(), 0);
    while began.elapsed() < whole {
        guest.load.run(TICK);
        happen(&mut guest, &mut operator, &mut dice, number);
        number += 1;
        // Comparable moments: a round after nothing special, everything connected.
        if number % 40 == 0 {
            samples.push((began.elapsed(), watched.sample()));
            let (at, sample) = samples.last().unwrap();
            eprintln!("soak: {:>6.0} s: {sample}", at.as_secs_f64());
        }
    }
    let told = operator.must("query-block-fault", json!({ "id": "disk0" }));
    let counted = |name: &str| told["counts"][name].as_u64().is_some_and(|count| count > 0);
    assert!(counted("delayed") && counted("held"), "the faults were met: {told}");
    let done = guest.load.done;
    let resubmitted = guest.conclude();
    eprintln!(
        "soak: {} s, {} requests, {} MiB written, {} MiB verified, {resubmitted} done again after \
         {number} rounds; {}",
        seconds(),
        done.requests,
        done.bytes_written >> 20,
        done.bytes_verified >> 20,
        trend(&samples)
    );
    judge(&samples);
}

/// Slope of the memory over the second half, in KiB an hour.
fn trend(samples: &[(Duration, Sample)]) -> String {
    let half = &samples[samples.len() / 2..];
    let count = half.len() as f64;
    let x = |at: &Duration| at.as_secs_f64() / 3600.0;
    let mean_x = half.iter().map(|(at, _)| x(at)).sum::<f64>() / count;
    let mean_y = half.iter().map(|(_, sample)| sample.anonymous_kib as f64).sum::<f64>() / count;
    let (mut over, mut under) = (0.0, 0.0);
    for (at, sample) in half {
        over += (x(at) - mean_x) * (sample.anonymous_kib as f64 - mean_y);
        under += (x(at) - mean_x).powi(2);
    }
    format!("memory {mean_y:.0} KiB, slope {:+.0} KiB/h", over / under.max(f64::MIN_POSITIVE))
}

fn judge(samples: &[(Duration, Sample)]) {
    let (first, second) = samples.split_at(samples.len() / 2);
    let most = |part: &[(Duration, Sample)]| {
        part.iter().map(|(_, sample)| sample.anonymous_kib).max().expect("samples in each half")
    };
    assert!(most(second) <= most(first) + GROWTH_KIB_MAX, "memory grows: {samples:#?}");
    let counts = |of: &Sample| (of.descriptors, of.threads);
    let (_, start) = &samples[0];
    for (at, sample) in samples {
        assert_eq!(counts(sample), counts(start), "descriptors and threads at {at:?}");
    }
}
