//! Faults in numbers, out of season, and told in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::clients::Client;
use crate::support::front::{Front, Queue, SECTOR, Status, feature, kind};
use crate::{Rig, times};

fn guest(rig: &Rig) -> (Front, Queue) {
    let mut front = Front::with_memory(&rig.daemon.socket("disk0"), &[(0, 4 << 20)]);
    front.negotiate(feature::ALL);
    let queue = front.start_queues(1, 64).remove(0);
    (front, queue)
}

/// Rules in one command.
const HEAP: u32 = 500;

/// How many rules [`many_rules`] adds.
pub(crate) fn rules_count() -> u32 {
    times(4_000, 100_000)
}

pub(crate) fn many_rules(rig: &Rig) {
    let count = rules_count();
    let mut operator = rig.operator();
    let (_front, mut queue) = guest(rig);
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (enough, at_work) = (&enough, &mut queue);
        let worker = scope.spawn(move || {
            let mut requests = 0;
            while !enough.load(Ordering::SeqCst) {
                let end = at_work.read(requests % 64, SECTOR);
                assert!([Status::Ok, Status::IoErr].contains(&end.status));
                requests += 1;
            }
            requests
        });
        // Overlapping, and some of them against each other.
        let rule = |number: u32| {
            let sectors = format!("{}-{}", number % 90, 64 + number % 90);
            let mut rule = json!({ "name": format!("r{number}"), "sectors": [sectors],
                                   "probability": 0.001, "effect": "error" });
            if number % 2 == 1 {
                rule["effect"] = json!("delay");
                rule["delay"] = json!(1000);
            }
            rule
        };
        for first in (0..count).step_by(HEAP as usize) {
            let add = |number| json!({ "type": "rule-add", "rule": rule(number) });
            let actions: Vec<Value> = (first..first + HEAP).map(add).collect();
            let arguments = json!({ "id": "disk0", "actions": actions });
            operator.must("block-fault-transaction", arguments);
        }
        if count == 100_000 {
            let arguments = json!({ "id": "disk0", "rule": rule(count) });
            let refused = operator.execute("block-fault-rule-add", arguments).unwrap_err();
            assert!(refused["desc"].as_str().unwrap().contains("at most 100000"), "{refused}");
        }
        for first in (0..count).step_by(HEAP as usize) {
            let remove = |n: u32| json!({ "type": "rule-remove", "name": format!("r{n}") });
            let actions: Vec<Value> = (first..first + HEAP).map(remove).collect();
            let arguments = json!({ "id": "disk0", "actions": actions });
            operator.must("block-fault-transaction", arguments);
        }
        enough.store(true, Ordering::SeqCst);
        assert!(worker.join().unwrap() > 10, "the guest is at work");
    });
    assert_eq!(queue.read(0, SECTOR).status, Status::Ok);
}

/// Whoever switched a fault on hears that it is on, and then what it did.
pub(crate) fn order(rig: &Rig) {
    let (_front, mut queue) = guest(rig);
    let enough = AtomicBool::new(false);
    let mut client = Client::new(rig);
    let set = |state: &str| {
        format!(
            "{{'execute': 'set-block-fault-state', 'arguments': {{'id': 'disk0', 'state': '{state}'}}}}"
        )
    };
    std::thread::scope(|scope| {
        let enough = &enough;
        scope.spawn(move || {
            while !enough.load(Ordering::SeqCst) {
                queue.read(0, SECTOR);
            }
        });
        for _ in 0..times(3, 60) {
            let asked_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            client.send(set("error"));
            // One of the last round may come late.
            let is_error =
                |line: &str| line.contains("BLOCK_IO_ERROR") && happened_at(line) >= asked_at;
            let mut line = client.line().unwrap();
            while !line.contains("\"return\"") {
                assert!(!is_error(&line), "C-14: before the reply: {line}");
                line = client.line().unwrap();
            }
            while !is_error(&client.line().unwrap()) {}
            assert_eq!(client.ask(&set("none"))["return"], json!({}));
            // Of errors that are the same, one is told in a second.
            std::thread::sleep(Duration::from_millis(1100));
            client.errors_until_understood();
        }
        enough.store(true, Ordering::SeqCst);
    });
}

fn happened_at(event: &str) -> Duration {
    let event: Value = serde_json::from_str(event).unwrap();
    let part = |name: &str| event["timestamp"][name].as_u64().unwrap();
    Duration::from_secs(part("seconds")) + Duration::from_micros(part("microseconds"))
}

pub(crate) fn at_any_time(rig: &Rig) {
    let mut operator = rig.operator();
    let mut set = |state: &str| {
        operator.must("set-block-fault-state", json!({ "id": "disk0", "state": state }))
    };
    for _ in 0..times(5, 200) {
        set("error");
        let (mut front, mut queue) = guest(rig);
        assert_eq!(queue.read(0, SECTOR).status, Status::IoErr, "set before it came");
        front.reset_device().unwrap();
        queue.reset(0);
        front.accept_features(feature::ALL);
        front.start_queue(&queue, 0);
        assert_eq!(queue.read(0, SECTOR).status, Status::IoErr, "a reset is no repair");
        set("none");
        assert_eq!(queue.read(0, SECTOR).status, Status::Ok);
        set("hang");
        queue.prepare_slots(1, SECTOR as u64);
        queue.start(0, kind::IN, 0, SECTOR as u32);
        queue.kick();
        drop((front, queue));
        set("none");
        wait_until_gone(rig);
    }
    let (_front, mut queue) = guest(rig);
    let mut operator = rig.operator();
    let mut set = |state: &str| {
        operator.must("set-block-fault-state", json!({ "id": "disk0", "state": state }))
    };
    set("error");
    rig.operator().must("block_resize", json!({ "device": "disk0", "size": 8 << 20 }));
    assert_eq!(queue.read(9000, SECTOR).status, Status::IoErr, "new sectors are no better");
    set("none");
    assert_eq!(queue.read(9000, SECTOR).status, Status::Ok);
    drop((_front, queue));
    wait_until_gone(rig);
    rig.operator().must("block_resize", json!({ "device": "disk0", "size": 4 << 20 }));
}

fn wait_until_gone(rig: &Rig) {
    let mut operator = rig.operator();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let exports = operator.must("query-block-exports", json!({}));
        let disk = exports.as_array().unwrap().iter().find(|export| export["id"] == "disk0");
        if disk.unwrap()["connected"] == false {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "the front end is not seen to go");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
