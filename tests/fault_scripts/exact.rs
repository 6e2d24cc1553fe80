//! Counters tell the truth: what rules say they hit is what guests met.
//!
//! `BLKFAULT_LONG=1` makes ten million requests of it, a hundred thousand trials, ten thousand toggles
//! and twenty thousand transactions.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, set_state};
use crate::support::front::{Front, Queue, SECTOR, Status, feature, kind, segment};
use crate::support::operator::Operator;

const QUEUES: u16 = 4;
const DEPTH: u16 = 16;
const IMAGE_SECTORS: u64 = 32768;

fn is_long() -> bool {
    std::env::var_os("BLKFAULT_LONG").is_some()
}

fn start(directory: &Path) -> (Daemon, Operator, Front, Vec<Queue>) {
    let queues = QUEUES.to_string();
    let daemon = Daemon::start(directory, &["--memory", "16M", "--num-queues", &queues]);
    let operator = daemon.operator();
    let mut front = Front::connect(&daemon.socket("disk0"));
    front.negotiate(feature::ALL);
    let queues = front.start_queues(QUEUES, 64);
    (daemon, operator, front, queues)
}

/// How many requests of a kind ended in a way.
#[derive(Debug, Default)]
struct Met(BTreeMap<(u32, &'static str), u64>);

impl Met {
    fn count(&self, kind: u32, status: &'static str) -> u64 {
        self.0.get(&(kind, status)).copied().unwrap_or(0)
    }
}

impl AddAssign for Met {
    fn add_assign(&mut self, other: Self) {
        for (key, count) in other.0 {
            *self.0.entry(key).or_default() += count;
        }
    }
}

fn name(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::IoErr => "error",
        Status::Unsupp => "unsupported",
        other => panic!("{other:?}"),
    }
}

/// A guest's random requests of every kind, deep.
fn load(queue: &mut Queue, requests: u64) -> Met {
    const KINDS: [u32; 8] = [
        kind::IN,
        kind::OUT,
        kind::IN,
        kind::OUT,
        kind::IN,
        kind::DISCARD,
        kind::WRITE_ZEROES,
        kind::FLUSH,
    ];
    let mut met = Met::default();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(queue.index);
    queue.prepare_slots(DEPTH, SECTOR as u64);
    let mut kinds = [0; DEPTH as usize];
    let (mut started, mut ended) = (0, 0);
    let mut free: Vec<u16> = (0..DEPTH).collect();
    while ended < requests {
        while let (true, Some(slot)) = (started < requests, free.pop()) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let kind = KINDS[usize::try_from(random % 8).expect("below 8")];
            let sector = (random >> 8) % IMAGE_SECTORS;
            let ranged = matches!(kind, kind::DISCARD | kind::WRITE_ZEROES);
            let (at, bytes) = match kind {
                _ if ranged => (0, 16),
                kind::FLUSH => (0, 0),
                _ => (sector, 512),
            };
            if ranged {
                queue.fill_slot(slot, &segment(sector, 1, 0));
            }
            queue.start(slot, kind, at, bytes);
            kinds[usize::from(slot)] = kind;
            started += 1;
        }
        queue.kick();
        let mut end = Some(queue.finish());
        while let Some(one) = end {
            *met.0.entry((kinds[usize::from(one.slot)], name(one.status))).or_default() += 1;
            free.push(one.slot);
            ended += 1;
            end = queue.try_finish();
        }
    }
    met
}

#[test]
fn hits_in_the_reply_are_the_errors_that_the_guest_met() {
    let requests = if is_long() { 10_000_000 } else { 100_000 };
    let directory = tempfile::tempdir().expect("a folder");
    let (_daemon, mut operator, _front, queues) = start(directory.path());
    // One rule for each kind of request and error, so that every error names its rule.
    let rules = [
        json!({ "name": "reads", "iotype": ["read"], "every": 3,
                "effect": "error", "errno": "EIO" }),
        json!({ "name": "writes", "iotype": ["write"], "sectors": ["0-20000"],
                "probability": 0.1, "effect": "error", "errno": "ENOSPC" }),
        json!({ "name": "discards", "iotype": ["discard"], "skip": 100,
                "effect": "error", "errno": "EOPNOTSUPP" }),
        json!({ "name": "zeroes", "iotype": ["write-zeroes"], "times": 500,
                "effect": "error", "errno": "EIO" }),
    ];
    let add = |rule: &Value| json!({ "type": "rule-add", "rule": rule });
    let mut actions: Vec<Value> = rules.iter().map(add).collect();
    let flushes = json!({ "event": "flush_to_disk", "iotype": "flush" });
    actions.push(json!({ "type": "blkdebug-add", "inject-error": [flushes] }));
    operator.must("block-fault-transaction", json!({ "id": "disk0", "actions": actions }));

    let mut met = Met::default();
    std::thread::scope(|scope| {
        let share = requests / u64::from(QUEUES);
        let guests: Vec<_> = queues
            .into_iter()
            .map(|mut queue| scope.spawn(move || load(&mut queue, share)))
            .collect();
        guests.into_iter().for_each(|guest| met += guest.join().expect("a guest's thread"));
    });

    assert_eq!(met.0.values().sum::<u64>(), requests);
    let told = operator.must("query-block-fault-rules", json!({ "id": "disk0" }));
    let hits = |name: &str| {
        let rules = told["rules"].as_array().expect("rules");
        rules.iter().find(|rule| rule["name"] == name).expect(name)["hits"].as_u64().expect(name)
    };
    let flush_hits = told["inject-error"][0]["hits"].as_u64().expect("hits");
    eprintln!("{requests} requests met {:?}", met.0);
    let pairs = [
        (hits("reads"), kind::IN, "error"),
        (hits("writes"), kind::OUT, "error"),
        (hits("discards"), kind::DISCARD, "unsupported"),
        (hits("zeroes"), kind::WRITE_ZEROES, "error"),
        (flush_hits, kind::FLUSH, "error"),
    ];
    let mut accounted = 0;
    for (hits, kind, status) in pairs {
        assert_eq!(hits, met.count(kind, status), "kind {kind}: {status}");
        assert!(hits > 0, "kind {kind} was never hit");
        accounted += hits;
    }
    let ok: u64 = met.0.iter().filter(|((_, end), _)| *end == "ok").map(|(_, count)| count).sum();
    assert_eq!(ok + accounted, requests, "no error came from elsewhere");
    assert_eq!(hits("zeroes"), 500);
    let reads = met.count(kind::IN, "ok") + met.count(kind::IN, "error");
    assert_eq!(hits("reads"), reads / 3);
}

#[test]
fn once_under_four_queues_fires_once_in_every_trial() {
    let trials = if is_long() { 100_000 } else { 2_000 };
    let directory = tempfile::tempdir().expect("a folder");
    let (_daemon, mut operator, _front, mut queues) = start(directory.path());
    let rule = json!({ "name": "one", "iotype": ["read"], "once": true, "effect": "error" });
    operator.must("block-fault-rule-add", json!({ "id": "disk0", "rule": rule }));
    queues.iter_mut().for_each(|queue| queue.prepare_slots(4, SECTOR as u64));
    let mut fired_on = [0_u64; QUEUES as usize];
    for trial in 0..trials {
        for queue in &mut queues {
            (0..4).for_each(|slot| queue.start(slot, kind::IN, u64::from(slot), SECTOR as u32));
        }
        // The last kick comes first every so often, so that each queue may win.
        queues.rotate_left(1);
        queues.iter_mut().for_each(Queue::kick);
        let mut fired = 0;
        for queue in &mut queues {
            let ends = queue.finish_all();
            let errors = ends.iter().filter(|end| end.status == Status::IoErr).count();
            fired += errors;
            fired_on[usize::from(queue.index)] += errors as u64;
        }
        assert_eq!(fired, 1, "trial {trial}");
        let reset = json!({ "id": "disk0", "name": "one", "action": "reset" });
        operator.must("block-fault-rule-set", reset);
    }
    eprintln!("fired on queues: {fired_on:?}");
    assert!(fired_on.iter().filter(|fired| **fired > 0).count() > 1, "{fired_on:?}");
}

/// How far the operator is: odd between a command and its reply. A guest that saw the same even
/// number before it made a request and after the answer knows the state that the request met.
type Epoch = AtomicU64;

/// Read and write without end until the last toggle; how many requests certainly met the state error,
/// and how many certainly not.
fn watch(queue: &mut Queue, epoch: &Epoch, last: u64) -> (u64, u64) {
    let (mut bad, mut good) = (0, 0);
    queue.prepare_slots(DEPTH, SECTOR as u64);
    while epoch.load(Ordering::SeqCst) < last {
        let before = epoch.load(Ordering::SeqCst);
        for slot in 0..DEPTH {
            let wanted = if slot % 2 == 0 { kind::IN } else { kind::OUT };
            queue.start(slot, wanted, u64::from(slot) * 8, SECTOR as u32);
        }
        queue.kick();
        let ends = queue.finish_all();
        if epoch.load(Ordering::SeqCst) != before || before % 2 == 1 {
            continue;
        }
        let (expected, count) = match before % 4 {
            2 => (Status::IoErr, &mut bad),
            _ => (Status::Ok, &mut good),
        };
        assert!(ends.iter().all(|end| end.status == expected), "{before}: {ends:?}");
        *count += ends.len() as u64;
    }
    (bad, good)
}

#[test]
fn no_request_is_on_the_wrong_side_of_a_reply() {
    let toggles: u64 = if is_long() { 10_000 } else { 500 };
    let directory = tempfile::tempdir().expect("a folder");
    let (_daemon, mut operator, _front, queues) = start(directory.path());
    let epoch = Epoch::default();
    let (mut bad, mut good) = (0, 0);
    std::thread::scope(|scope| {
        let epoch = &epoch;
        let guests: Vec<_> = queues
            .into_iter()
            .map(|mut queue| scope.spawn(move || watch(&mut queue, epoch, 2 * toggles)))
            .collect();
        for toggle in 0..toggles {
            let state = if toggle % 2 == 0 { "error" } else { "none" };
            epoch.fetch_add(1, Ordering::SeqCst);
            set_state(&mut operator, "disk0", state);
            epoch.fetch_add(1, Ordering::SeqCst);
            // Long enough for whole batches in one state, short enough for many to meet two.
            std::thread::sleep(Duration::from_micros(500 + toggle % 7 * 100));
        }
        for guest in guests {
            let (more_bad, more_good) = guest.join().expect("a guest's thread");
            (bad, good) = (bad + more_bad, good + more_good);
        }
    });
    eprintln!("{toggles} toggles: {bad} requests met error for certain, {good} for certain not");
    assert!(bad > 0 && good > 0, "the story happened: {bad} bad, {good} good");
}

/// Read until it is enough; every read must fail. Tells how many did.
fn fail_on(queue: &mut Queue, enough: &AtomicBool) -> u64 {
    let mut failed = 0;
    queue.prepare_slots(DEPTH, SECTOR as u64);
    while !enough.load(Ordering::SeqCst) {
        (0..DEPTH).for_each(|slot| queue.start(slot, kind::IN, slot.into(), SECTOR as u32));
        queue.kick();
        let ends = queue.finish_all();
        let missed = ends.iter().find(|end| end.status != Status::IoErr);
        assert!(missed.is_none(), "met neither rule: {missed:?}");
        failed += ends.len() as u64;
    }
    failed
}

/// H-06: there are two rules, and always one of them is on.
#[test]
fn no_request_meets_half_of_a_transaction() {
    let transactions = if is_long() { 20_000 } else { 400 };
    let directory = tempfile::tempdir().expect("a folder");
    let (_daemon, mut operator, _front, queues) = start(directory.path());
    let set =
        |name: &str, action: &str| json!({ "type": "rule-set", "name": name, "action": action });
    let mut change = |actions: Value| {
        operator.must("block-fault-transaction", json!({ "id": "disk0", "actions": actions }));
    };
    let rule = |name: &str| {
        json!({ "type": "rule-add",
                "rule": { "name": name, "iotype": ["read"], "effect": "error", "errno": "EIO" } })
    };
    change(json!([rule("a"), rule("b"), set("b", "disable")]));
    let enough = AtomicBool::new(false);
    let mut failed = 0;
    std::thread::scope(|scope| {
        let enough = &enough;
        let guests: Vec<_> = queues
            .into_iter()
            .map(|mut queue| scope.spawn(move || fail_on(&mut queue, enough)))
            .collect();
        for number in 0..transactions {
            let (on, off) = if number % 2 == 0 { ("b", "a") } else { ("a", "b") };
            // Both orders: it must not matter which half comes first.
            let (enable, disable) = (set(on, "enable"), set(off, "disable"));
            change(if number % 4 < 2 {
                json!([disable, enable])
            } else {
                json!([enable, disable])
            });
        }
        enough.store(true, Ordering::SeqCst);
        failed = guests.into_iter().map(|guest| guest.join().expect("a guest's thread")).sum();
    });
    let told = operator.must("query-block-fault-rules", json!({ "id": "disk0" }));
    let hits = [0, 1].map(|index| told["rules"][index]["hits"].as_u64().expect("hits"));
    eprintln!("{transactions} transactions, {failed} requests, hits {hits:?}");
    assert_eq!(hits.iter().sum::<u64>(), failed, "each request met one rule");
    assert!(hits.iter().all(|hits| *hits > 0), "the story happened: {hits:?}");
}
