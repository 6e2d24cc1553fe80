//! Faults that outlive the daemon: requests that are done again meet what they met before.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::front::{Front, Inflight, Memory, ONE_REGION, Queue, Status, kind};
use crate::support::load::{Dice, ready};
use crate::support::{daemon::Daemon, operator::Operator};
use crate::times;

/// Descriptors of the queue.
const QUEUE_SIZE: u16 = 128;

/// A guest with one queue, and a daemon that comes and goes.
struct Scene {
    daemon: Daemon,
    operator: Option<Operator>,
    front: Option<Front>,
    memory: Memory,
    features: u64,
    region: Inflight,
    queue: Vec<Queue>,
    _directory: TempDir,
}

impl Scene {
    fn new(options: &[&str]) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let image = directory.path().join("disk.img");
        std::fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
        let state = directory.path().join("state");
        let mut all = vec!["--blk-file", image.to_str().unwrap()];
        for option in options {
            all.push(if *option == "STATE" { state.to_str().unwrap() } else { option });
        }
        let daemon = Daemon::start(directory.path(), &all);
        let mut front = Front::with_memory(&daemon.socket("disk0"), ONE_REGION);
        let region = front.get_inflight(1, QUEUE_SIZE).unwrap();
        front.set_inflight(&region).unwrap();
        let mut queue = ready(&mut front, 1, QUEUE_SIZE);
        queue[0].prepare_slots(32, 4096);
        Self {
            operator: Some(daemon.operator()),
            memory: front.memory.clone(),
            features: front.accepted,
            front: Some(front),
            region,
            queue,
            daemon,
            _directory: directory,
        }
    }

    fn remembering() -> Self {
        Self::new(&["--state-dir", "STATE"])
    }

    fn operator(&mut self) -> &mut Operator {
        self.operator.as_mut().unwrap()
    }

    fn must(&mut self, command: &str, mut arguments: Value) -> Value {
        arguments["id"] = json!("disk0");
        self.operator().must(command, arguments)
    }

    fn write(&mut self, slot: u16) {
        self.queue[0].start(slot, kind::OUT, 8 * u64::from(slot), 4096);
        self.queue[0].kick();
    }

    fn status(&mut self) -> Status {
        self.queue[0].finish().status
    }

    fn is_quiet(&mut self) -> bool {
        self.queue[0].wait_used(Duration::from_millis(100)).is_none()
    }

    fn held(&mut self) -> Vec<Value> {
        let held = self.must("query-block-fault-held", json!({}));
        held.as_array().unwrap().clone()
    }

    fn wait_held(&mut self, count: usize) -> Vec<Value> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let held = self.held();
            if held.len() == count {
                return held;
            }
            assert!(Instant::now() < until, "{count} are to be held: {held:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn connect(&mut self) {
        let socket = self.daemon.socket("disk0");
        let until = Instant::now() + Duration::from_secs(30);
        self.front = None;
        loop {
            let region = Some(&self.region);
            match Front::resume(&socket, &self.memory, self.features, region, &self.queue) {
                Ok(front) => break self.front = Some(front),
                Err(refusal) => assert!(Instant::now() < until, "{refusal:?}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kill the daemon, start it again and connect.
    fn kill(&mut self) {
        self.daemon.kill();
        self.come_back();
    }

    fn come_back(&mut self) {
        (self.front, self.operator) = (None, None);
        self.daemon.start_again();
        self.operator = Some(self.daemon.operator());
        self.connect();
    }

    fn hits(&mut self, name: &str) -> u64 {
        let told = self.must("query-block-fault-rules", json!({ "name": name }));
        told["rules"][0]["hits"].as_u64().unwrap()
    }

    fn add(&mut self, rule: Value) {
        self.must("block-fault-rule-add", json!({ "rule": rule }));
    }
}

#[test]
fn requests_held_at_breakpoints_are_held_again_after_a_kill() {
    let mut scene = Scene::remembering();
    for (tag, point) in [("in", "received"), ("out", "before-answer")] {
        scene.add(json!({ "name": tag, "effect": "break", "tag": tag, "point": point, "times": 1,
                          "iotype": [ "write" ] }));
    }
    scene.write(0);
    scene.wait_held(1);
    scene.write(1);
    let before = scene.wait_held(2);
    for _ in 0..3 {
        scene.kill();
        let after = scene.wait_held(2);
        for (before, after) in before.iter().zip(&after) {
            for member in ["ordinal", "tags", "point", "queue", "sector"] {
                assert_eq!(after[member], before[member], "{member}: {after}");
            }
        }
        assert_eq!((scene.hits("in"), scene.hits("out")), (1, 1), "counted once");
        assert!(scene.is_quiet());
    }
    // One is let go, and dies before it is answered or after: either way it is not held again.
    scene.must("block-fault-resume", json!({ "tag": "in" }));
    scene.kill();
    scene.wait_held(1);
    assert_eq!(scene.status(), Status::Ok);
    scene.must("block-fault-resume", json!({ "tag": "out", "action": "fail", "errno": "EIO" }));
    assert_eq!(scene.status(), Status::IoErr);
    assert!(scene.held().is_empty());
}

#[test]
fn a_hang_outlives_the_daemon_and_so_does_who_hangs() {
    let mut scene = Scene::remembering();
    scene.must("set-block-fault-state", json!({ "state": "hang" }));
    (0..8).for_each(|slot| scene.write(slot));
    scene.wait_held(8);
    scene.kill();
    (8..16).for_each(|slot| scene.write(slot));
    scene.wait_held(16);
    assert!(scene.is_quiet());
    let info = scene.must("query-block-fault", json!({}));
    assert_eq!((&info["state"], &info["counts"]["held"]), (&json!("hang"), &json!(16)), "{info}");
    scene.must("set-block-fault-state", json!({ "state": "none" }));
    assert!((0..16).all(|_| scene.status() == Status::Ok));
    scene.kill();
    assert_eq!(scene.must("query-block-fault", json!({}))["state"], "none");
    assert!(scene.queue[0].is_alive());
}

#[test]
fn a_rule_hits_as_often_as_it_says_however_often_the_daemon_dies() {
    let rounds = times(15, 300);
    let mut scene = Scene::remembering();
    let mut dice = Dice::new(11);
    scene.queue[0].set_interrupts(false);
    scene.add(json!({ "name": "some", "effect": "error", "iotype": [ "write" ],
                      "probability": 0.2, "continue": false }));
    scene.add(json!({ "name": "five", "effect": "error", "iotype": [ "write" ], "skip": 40,
                      "times": 5 }));
    scene.add(json!({ "name": "late", "effect": "delay", "delay": 300_000, "every": 3 }));
    let (mut errors, mut answers, mut started) = (0, 0, 0);
    for _ in 0..rounds {
        let until = Instant::now() + Duration::from_micros(dice.below(20_000));
        let mut free: Vec<u16> = (0..32).collect();
        for slot in free.drain(..) {
            scene.write(slot);
            started += 1;
        }
        while Instant::now() < until {
            while let Some(ended) = scene.queue[0].try_finish() {
                errors += u64::from(ended.status == Status::IoErr);
                answers += 1;
                scene.write(ended.slot);
                started += 1;
            }
            std::thread::yield_now();
        }
        scene.kill();
        while scene.queue[0].in_flight() > 0 {
            errors += u64::from(scene.queue[0].finish().status == Status::IoErr);
            answers += 1;
        }
    }
    assert_eq!(answers, started);
    let (some, five) = (scene.hits("some"), scene.hits("five"));
    assert_eq!(some + five, errors, "{some} and {five} hits, {errors} errors in {answers} answers");
    assert_eq!(five, 5);
    eprintln!("{rounds} kills, {answers} answers, {errors} errors, as many hits");
}

#[test]
fn without_a_state_directory_the_daemon_says_what_it_forgot() {
    let mut scene = Scene::new(&[]);
    scene.must("set-block-fault-state", json!({ "state": "hang" }));
    scene.write(0);
    scene.wait_held(1);
    scene.kill();
    assert_eq!(scene.status(), Status::Ok, "nobody remembers the hang");
    scene.daemon.wait_said("is forgotten (--state-dir keeps it)", 1);
    scene.must("set-block-fault-state", json!({ "state": "hang" }));
    scene.write(0);
    scene.wait_held(1);
    scene.daemon.end();
    let log = scene.daemon.log();
    assert!(log.contains("forgetting its state (hang), 0 rules and 1 held requests"), "{log}");
}

#[test]
fn a_connection_that_is_lost_leaves_who_is_held_to_the_next() {
    let mut scene = Scene::new(&[]);
    scene.add(json!({ "name": "r", "effect": "hang", "times": 1 }));
    scene.write(0);
    scene.wait_held(1);
    scene.connect();
    scene.wait_held(1);
    assert_eq!(scene.hits("r"), 1);
    scene.must("block-fault-resume", json!({ "rule": "r" }));
    assert_eq!(scene.status(), Status::Ok);
}

#[test]
fn a_ring_that_stops_keeps_or_fails_who_is_held_as_was_chosen() {
    for (policy, is_kept) in [("keep", true), ("fail", false)] {
        let mut scene = Scene::new(&["--held-on-stop", policy]);
        scene.add(json!({ "name": "r", "effect": "hang", "times": 1 }));
        scene
            .add(json!({ "name": "d", "effect": "delay", "delay": 60_000_000_000u64, "times": 1 }));
        scene.write(0);
        scene.wait_held(1);
        scene.write(1);
        let until = Instant::now() + Duration::from_secs(30);
        while scene.hits("d") == 0 {
            assert!(Instant::now() < until, "the second request is delayed");
        }
        let began = Instant::now();
        let base = scene.front.as_ref().unwrap().stop_queue(0);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(10), "QEMU would stand for {took:?}");
        let front = scene.front.as_ref().unwrap();
        front.set_inflight(&scene.region).unwrap();
        front.restart_queue(&mut scene.queue[0], base);
        if is_kept {
            scene.wait_held(1);
            assert!(scene.is_quiet(), "held and delayed as before");
            scene.must("block-fault-resume", json!({ "held-by": "all" }));
            assert_eq!([scene.status(), scene.status()], [Status::Ok; 2]);
        } else {
            let mut ends = [scene.status(), scene.status()];
            ends.sort_by_key(|status| *status == Status::Ok);
            assert_eq!(ends, [Status::IoErr, Status::Ok], "held fails, delayed goes on");
        }
        assert_eq!((scene.hits("r"), scene.hits("d")), (1, 1));
        assert!(scene.queue[0].is_alive());
    }
}
