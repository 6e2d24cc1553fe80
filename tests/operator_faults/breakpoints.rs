//! Requests that are stopped and go on, by the native commands and by QEMU's lines.

use std::sync::mpsc;
use std::thread;

use super::support::front::{Status, kind};
use super::{Scene, Value, json};

/// Let another client wait for a request at a tag; what it is told comes through the channel.
fn wait_elsewhere(scene: &Scene, command: &str, arguments: Value) -> mpsc::Receiver<Value> {
    let (tell, told) = mpsc::channel();
    let (mut operator, command) = (scene.daemon.operator(), command.to_owned());
    thread::spawn(move || {
        // Nobody listens any more if the test has failed.
        let _ = tell.send(match operator.execute(&command, arguments) {
            Ok(value) => value,
            Err(error) => json!({ "error": error }),
        });
    });
    told
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
const AN_HOUR_NS: u64 = 3_600_000_000_000;

#[test]
fn a_request_is_stopped_waited_for_and_goes_on_or_fails() {
    let mut scene = Scene::new();
    for (action, expected) in [("run", Status::Ok), ("fail", Status::IoErr)] {
        let stop = json!({"tag": "A", "point": "before-image", "iotype": ["write"]});
        scene.must("block-fault-break", stop);
        let wait = json!({"id": "disk0", "tag": "A", "timeout": 60});
        let told = wait_elsewhere(&scene, "block-fault-wait", wait);
        // Commands of other clients and other requests go on while it waits.
        assert_eq!(scene.must("query-block-fault-state", json!({})), "none");
        assert_eq!(scene.guest.read(0, 512).status, Status::Ok);
        scene.guest.start(0, kind::OUT, 8, 512);
        scene.guest.kick();
        let held = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!((&held["iotype"], &held["sector"]), (&json!("write"), &json!(8)));
        assert_eq!((&held["point"], &held["rule"]), (&json!("before-image"), &json!("A")));
        let event = scene.operator.wait_event("BLOCK_FAULT_BREAK");
        assert_eq!(event["data"]["tag"], "A");
        assert_eq!(event["data"]["ordinal"], held["ordinal"]);
        let listed = scene.must("query-block-fault-held", json!({}));
        assert_eq!(listed[0]["ordinal"], held["ordinal"]);
        let resumed = scene.must("block-fault-resume", json!({"tag": "A", "action": action}));
        assert_eq!(resumed, json!({"resumed": 1, "reached": 1}));
        assert_eq!(scene.guest.finish().status, expected);
        // The next round sets it anew: one that was met is used up, and in nobody's way.
    }
    scene.must("block-fault-break-remove", json!({"tag": "A"}));
}

#[test]
fn a_delayed_request_is_released_with_its_state_or_rule_and_by_resume() {
    let mut scene = Scene::new();
    let wait = json!({"name": "wait", "iotype": ["read"], "effect": "delay", "delay": AN_HOUR_NS});
    scene.must("block-fault-rule-add", json!({"rule": wait}));
    let profile = json!({"iotype": ["write"], "delay": AN_HOUR_NS});
    scene.must("set-block-fault-state", json!({"state": "slow", "profiles": [profile]}));
    let mut delayed = 0;
    let mut delay = |scene: &mut Scene, kind| {
        scene.guest.start(0, kind, 8, 512);
        scene.guest.kick();
        delayed += 1;
        let patience = std::time::Instant::now() + PATIENCE;
        while scene.must("query-block-fault", json!({}))["counts"]["delayed"] != delayed {
            assert!(std::time::Instant::now() < patience, "it is not delayed");
            thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(scene.must("query-block-fault-held", json!({})), json!([]), "it is not held");
    };
    for (kind, which) in
        [(kind::IN, json!({"rule": "wait"})), (kind::OUT, json!({"held-by": "state"}))]
    {
        delay(&mut scene, kind);
        let resumed = scene.must("block-fault-resume", which);
        assert_eq!(resumed, json!({"resumed": 1, "reached": 1}));
        assert_eq!(scene.guest.finish().status, Status::Ok);
    }
    delay(&mut scene, kind::IN);
    scene.must("block-fault-rule-remove", json!({"name": "wait"}));
    assert_eq!(scene.guest.finish().status, Status::Ok);
    delay(&mut scene, kind::OUT);
    scene.must("set-block-fault-state", json!({"state": "none"}));
    assert_eq!(scene.guest.finish().status, Status::Ok);
}

#[test]
fn a_tag_is_resumed_though_another_holds_the_request_as_well() {
    let mut scene = Scene::new();
    let say = |scene: &mut Scene, text: &str| {
        let line = format!("qemu-io disk0 \"{text}\"");
        scene.operator.must("human-monitor-command", json!({ "command-line": line }))
    };
    for tag in ["A", "B", "C"] {
        assert_eq!(say(&mut scene, &format!("break write_aio {tag}")), "");
    }
    scene.guest.start(0, kind::OUT, 8, 512);
    scene.guest.kick();
    scene.operator.wait_event("BLOCK_FAULT_BREAK");
    assert_eq!(say(&mut scene, "resume A"), "blkdebug: Resuming request 'A'\r\n");
    let resumed = scene.must("block-fault-resume", json!({"tag": "B"}));
    assert_eq!(resumed, json!({"resumed": 0, "reached": 1}));
    let resumed = scene.must("block-fault-resume", json!({"tag": "B"}));
    assert_eq!(resumed, json!({"resumed": 0, "reached": 0}), "it was taken away");
    assert_eq!(scene.must("query-block-fault-held", json!({}))[0]["tags"], json!(["C"]));
    let resumed = scene.must("block-fault-resume", json!({"tag": "C"}));
    assert_eq!(resumed, json!({"resumed": 1, "reached": 1}));
    assert_eq!(scene.guest.finish().status, Status::Ok);
}

#[test]
fn whoever_is_released_from_a_hang_to_run_meets_the_rules() {
    let mut scene = Scene::new();
    let rule = json!({"name": "full", "iotype": ["write"], "effect": "error", "errno": "ENOSPC"});
    scene.must("block-fault-rule-add", json!({"rule": rule}));
    scene.must("set-block-fault-state", json!({"state": "hang", "on-release": "fail"}));
    scene.guest.start(0, kind::OUT, 8, 512);
    scene.guest.kick();
    while scene.must("query-block-fault-held", json!({})) == json!([]) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    scene.must("block-fault-resume", json!({"held-by": "state", "action": "run"}));
    assert_eq!(scene.guest.finish().status, Status::IoErr);
    let rules = scene.must("query-block-fault-rules", json!({}));
    assert_eq!(rules["rules"][0]["hits"], 1, "{rules}");
}

#[test]
fn a_wait_ends_with_its_time() {
    let mut scene = Scene::new();
    let wait = json!({"id": "disk0", "tag": "A", "timeout": 0.05});
    let error = scene.operator.execute("block-fault-wait", wait).unwrap_err();
    assert_eq!(error["desc"], "No request was held at 'A' within 0.05 s");
}

#[test]
fn a_wait_ends_with_its_disk() {
    let mut scene = Scene::new();
    let told = wait_elsewhere(&scene, "block-fault-wait", json!({"id": "disk0", "tag": "A"}));
    // The other client may not have asked yet; then it is told that there is no such disk.
    scene.operator.must("block-export-del", json!({"id": "disk0", "mode": "hard"}));
    let error = told.recv_timeout(PATIENCE).unwrap();
    let text = error["error"]["desc"].as_str().unwrap();
    assert!(text.contains("before the disk was gone") || text.contains("not found"), "{text}");
}

#[test]
fn held_requests_go_on_in_the_order_that_is_asked_for() {
    let mut scene = Scene::new();
    scene.must("block-fault-break", json!({"tag": "A", "times": 3}));
    for slot in 0..3 {
        scene.guest.start(slot, kind::IN, u64::from(slot), 512);
    }
    scene.guest.kick();
    for _ in 0..3 {
        scene.operator.wait_event("BLOCK_FAULT_BREAK");
    }
    let listed = scene.must("query-block-fault-held", json!({}));
    let ordinals: Vec<u64> =
        listed.as_array().unwrap().iter().map(|held| held["ordinal"].as_u64().unwrap()).collect();
    let order = json!([ordinals[2], ordinals[0], ordinals[1]]);
    let twice = json!({"id": "disk0", "ordinals": [ordinals[0], ordinals[0]]});
    let refused = scene.operator.execute("block-fault-resume", twice).unwrap_err();
    assert!(refused["desc"].as_str().unwrap().contains("each once"), "{refused}");
    let resumed = scene.must("block-fault-resume", json!({"ordinals": order}));
    assert_eq!(resumed, json!({"resumed": 3, "reached": 3}));
    let slots: Vec<u16> = scene.guest.finish_all().iter().map(|finished| finished.slot).collect();
    assert_eq!(slots, [2, 0, 1]);
}

#[test]
fn qemu_s_lines_stop_and_resume_requests() {
    let mut scene = Scene::new();
    let line = |text: &str| json!({ "command-line": format!("qemu-io disk0 \"{text}\"") });
    let say =
        |scene: &mut Scene, text: &str| scene.operator.must("human-monitor-command", line(text));
    assert_eq!(say(&mut scene, "break write_aio A"), "");
    let told = wait_elsewhere(&scene, "human-monitor-command", line("wait_break A"));
    scene.guest.start(0, kind::OUT, 8, 512);
    scene.guest.kick();
    let told = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(told, "blkdebug: Suspended request 'A'\r\n");
    assert_eq!(scene.must("query-block-fault-held", json!({}))[0]["tags"], json!(["A"]));
    assert_eq!(say(&mut scene, "resume A"), "blkdebug: Resuming request 'A'\r\n");
    assert_eq!(scene.guest.finish().status, Status::Ok);
    let nothing = "Could not resume request: No such file or directory\r\n";
    assert_eq!(say(&mut scene, "resume A"), nothing, "a breakpoint is met once");

    assert_eq!(say(&mut scene, "break pwritev B"), "");
    assert_eq!(say(&mut scene, "remove_break B"), "");
    let nothing = "Could not remove a breakpoint B: No such file or directory\r\n";
    assert_eq!(say(&mut scene, "remove_break B"), nothing);
    assert_eq!(scene.guest.write(0, &[1; 512]).status, Status::Ok);
    let nobody = json!({ "command-line": "qemu-io disk9 \"resume A\"" });
    let text = scene.operator.must("human-monitor-command", nobody);
    assert_eq!(text, "Error: Cannot find device='' nor node-name='disk9'\r\n");
}
