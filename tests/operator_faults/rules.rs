//! Rules as an operator adds and changes them, and as a guest meets them.

use super::support::front::{Status, kind};
use super::{Scene, Value, json};

const BLOCK: [u8; 512] = [7; 512];

#[test]
fn bad_sectors_fail_until_they_are_written() {
    let mut scene = Scene::new();
    let rule = json!({"name": "bad", "iotype": ["read"], "sectors": ["8-15"], "effect": "media",
                      "heal": "on-write"});
    scene.must("block-fault-rule-add", json!({"rule": rule}));
    assert_eq!(scene.guest.read(8, 512).status, Status::IoErr);
    assert_eq!(scene.guest.read(16, 512).status, Status::Ok);
    assert_eq!(scene.guest.write(8, &BLOCK).status, Status::Ok);
    assert_eq!(scene.guest.read(8, 512).status, Status::Ok);
    assert_eq!(scene.guest.read(9, 512).status, Status::IoErr);
    let told = scene.must("query-block-fault-rules", json!({"name": "bad"}));
    let info = &told["rules"][0];
    assert_eq!((&info["hits"], &info["last-hit"]["ordinal"]), (&json!(2), &json!(4)));
    assert_eq!(info["media"], json!({"bad": 7, "bad-sectors": ["9-15"], "healed": 1}));
    scene.must("block-fault-rule-set", json!({"name": "bad", "action": "reset"}));
    assert_eq!(scene.guest.read(8, 512).status, Status::IoErr, "as if just added");
    scene.must("block-fault-rule-set", json!({"name": "bad", "action": "disable"}));
    assert_eq!(scene.guest.read(8, 512).status, Status::Ok);
    scene.must("block-fault-rule-set", json!({"name": "bad", "action": "enable"}));
    assert_eq!(scene.guest.read(8, 512).status, Status::IoErr);
    scene.must("block-fault-rule-remove", json!({"name": "bad"}));
    assert_eq!(scene.guest.read(8, 512).status, Status::Ok);
}

#[test]
fn a_rule_hits_as_often_as_it_says_and_says_how_often_it_did() {
    let mut scene = Scene::new();
    let rule = json!({"iotype": ["write"], "skip": 1, "times": 2, "effect": "error",
                      "errno": "ENOSPC"});
    assert_eq!(scene.must("block-fault-rule-add", json!({"rule": rule})), json!({"name": "rule1"}));
    let statuses = [0; 5].map(|_| scene.guest.write(0, &BLOCK).status);
    let (ok, bad) = (Status::Ok, Status::IoErr);
    assert_eq!(statuses, [ok, bad, bad, ok, ok]);
    let told = scene.must("query-block-fault-rules", json!({}));
    let info = &told["rules"][0];
    assert_eq!((&info["hits"], &info["remaining"]), (&json!(2), &json!(0)));
    let counts = scene.must("query-block-fault", json!({}))["counts"].clone();
    assert_eq!(counts, json!({"passed": 3, "failed": 2, "delayed": 0, "held": 0}));
}

#[test]
fn rules_are_met_in_the_order_in_which_they_stand() {
    let mut scene = Scene::new();
    let rule = |name: &str| json!({"name": name, "effect": "error"});
    for (name, place) in [
        ("b", json!("last")),
        ("d", json!({"after": "b"})),
        ("a", json!("first")),
        ("c", json!({"before": "d"})),
    ] {
        scene.must("block-fault-rule-add", json!({"rule": rule(name), "place": place}));
    }
    let told = scene.must("query-block-fault-rules", json!({}));
    let names: Vec<_> = told["rules"].as_array().unwrap().iter().map(|r| &r["name"]).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert_eq!(scene.guest.read(0, 512).status, Status::IoErr);
    let told = scene.must("query-block-fault-rules", json!({}));
    let hits: Vec<_> = told["rules"].as_array().unwrap().iter().map(|r| &r["hits"]).collect();
    assert_eq!(hits, [1, 0, 0, 0], "the first that hits decides");
}

#[test]
fn a_transaction_is_made_all_at_once_or_not_at_all() {
    let mut scene = Scene::new();
    let actions = json!([
        {"type": "rule-add", "rule": {"iotype": ["write"], "effect": "set-state", "new-state": 5}},
        {"type": "rule-add", "rule": {"state": 5, "iotype": ["read"], "effect": "error"}},
        {"type": "engine-state", "state": 4},
        {"type": "blkdebug-add", "inject-error": [{"event": "flush_to_disk", "state": 9}]},
        {"type": "state", "state": {"state": "read-only"}},
    ]);
    let added = scene.must("block-fault-transaction", json!({"actions": actions}));
    assert_eq!(added, json!({"names": ["rule1", "rule2"]}));
    assert_eq!(scene.guest.write(0, &BLOCK).status, Status::IoErr, "read-only outranks rules");
    scene.must("set-block-fault-state", json!({"state": "none"}));
    assert_eq!(scene.guest.read(0, 512).status, Status::Ok);
    assert_eq!(scene.guest.write(0, &BLOCK).status, Status::Ok);
    assert_eq!(scene.must("query-block-fault", json!({}))["engine-state"], 5);
    assert_eq!(scene.guest.read(0, 512).status, Status::IoErr);

    let before = scene.must("query-block-fault-rules", json!({}));
    let actions = json!([
        {"type": "rule-remove", "name": "rule1"},
        {"type": "state", "state": {"state": "offline"}},
        {"type": "rule-set", "name": "rule9", "action": "disable"},
    ]);
    let arguments = json!({"id": "disk0", "actions": actions});
    let refused = scene.operator.execute("block-fault-transaction", arguments).unwrap_err();
    assert_eq!(refused["desc"], "Fault rule 'rule9' not found");
    let mut after = scene.must("query-block-fault-rules", json!({}));
    // Time went on.
    for index in 0..2 {
        after["rules"][index]["last-hit"] = before["rules"][index]["last-hit"].clone();
    }
    assert_eq!(after, before);
    assert_eq!(scene.must("query-block-fault-state", json!({})), "none");
}

#[test]
fn a_slow_disk_is_slow_and_says_so() {
    let mut scene = Scene::new();
    let profiles = json!([{"iotype": ["read"], "delay": 20_000_000}]);
    scene.must("set-block-fault-state", json!({"state": "slow", "profiles": profiles}));
    let begin = std::time::Instant::now();
    assert_eq!(scene.guest.read(0, 512).status, Status::Ok);
    assert!(begin.elapsed() >= std::time::Duration::from_millis(20), "{:?}", begin.elapsed());
    assert_eq!(scene.guest.write(0, &BLOCK).status, Status::Ok);
    let told = scene.must("query-block-fault", json!({}));
    assert_eq!((&told["profiles"], &told["counts"]["delayed"]), (&profiles, &json!(1)));
    scene.must("set-block-fault-state", json!({"state": "slow", "preset": "limplock"}));
    assert_eq!(scene.must("query-block-fault", json!({}))["preset"], "limplock");
}

#[test]
fn a_hanging_disk_holds_requests_until_the_state_is_left() {
    let mut scene = Scene::new();
    for (on_release, expected) in [("run", Status::Ok), ("fail", Status::IoErr)] {
        let hang = json!({"state": "hang", "iotype": ["write"], "on-release": on_release});
        scene.must("set-block-fault-state", hang);
        scene.guest.start(0, super::support::front::kind::OUT, 0, 512);
        scene.guest.kick();
        assert_eq!(scene.guest.read(0, 512).status, Status::Ok, "reads go on");
        let held = scene.must("query-block-fault-held", json!({}));
        assert_eq!((&held[0]["iotype"], &held[0]["cause"]), (&json!("write"), &json!("state")));
        scene.must("set-block-fault-state", json!({"state": "none"}));
        assert_eq!(scene.guest.finish().status, expected, "{on_release}");
    }
}

#[test]
fn blkdebug_rules_come_from_a_file_a_node_and_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("errors.conf");
    let text = "[inject-error]\nevent = \"read_aio\"\nsector = \"3\"\n";
    std::fs::write(&config, text).unwrap();
    let path = config.to_str().unwrap().to_owned();
    let mut scene = Scene::in_folder(folder, &["--blkdebug-config", &path, "--seed", "7"]);
    assert_eq!(scene.must("query-block-fault", json!({}))["seed"], 7);
    assert_eq!(scene.guest.read(3, 512).status, Status::IoErr);
    assert_eq!(scene.guest.read(4, 512).status, Status::Ok);
    let more = json!([{"event": "write_aio", "iotype": "write", "errno": 28, "once": true}]);
    scene.must("block-fault-blkdebug-add", json!({"inject-error": more}));
    let statuses = [0; 2].map(|_| scene.guest.write(0, &BLOCK).status);
    assert_eq!(statuses, [Status::IoErr, Status::Ok]);
    let told = scene.must("query-block-fault-rules", json!({}));
    let rules = &told["inject-error"];
    assert_eq!((&rules[0]["hits"], &rules[0]["left"]), (&json!(1), &json!(true)));
    assert_eq!((&rules[1]["hits"], &rules[1]["left"]), (&json!(1), &json!(false)));

    let node = json!({
        "driver": "blkdebug", "node-name": "broken",
        "image": {"driver": "memory", "size": 1 << 20}, "align": 4096,
        "inject-error": [{"event": "none"}],
    });
    scene.operator.must("blockdev-add", node.clone());
    let listed = scene.operator.must("query-named-block-nodes", json!({}));
    assert_eq!(listed[1]["drv"], "blkdebug");
    let reopened = scene.operator.must("blockdev-reopen", json!({"options": [node]}));
    assert_eq!(reopened, json!({}), "nothing changes");
    let over = json!({"driver": "raw", "node-name": "over", "file": "broken"});
    scene.operator.must("blockdev-add", over);
    let socket = scene.daemon.socket("disk1");
    let export = json!({
        "type": "vhost-user-blk", "id": "disk1", "node-name": "over", "writable": true,
        "addr": {"type": "unix", "path": socket.to_str().unwrap()},
    });
    scene.operator.must("block-export-add", export);
    let told = scene.operator.must("query-block-fault-rules", json!({"id": "disk1"}));
    assert_eq!(told["inject-error"][0]["rule"]["event"], "none");
    let mut front = super::Front::connect(&socket);
    front.negotiate(super::feature::ALL);
    let mut guest = front.start_queues(1, 64).remove(0);
    assert_eq!(guest.read(0, 512).status, Status::IoErr, "armed when the node was opened");
}

#[test]
fn a_request_for_the_serial_number_meets_rules_that_name_it_and_no_state() {
    let mut scene = Scene::new();
    scene.must("block-fault-rule-add", json!({"rule": {"name": "all", "effect": "error"}}));
    scene.must("set-block-fault-state", json!({"state": "hang"}));
    assert_eq!(scene.guest.get_id().status, Status::Ok, "neither is about it");
    scene.must("set-block-fault-state", json!({"state": "none"}));
    let named = |name: &str, effect: Value| {
        let mut rule = json!({"name": name, "iotype": ["get-id"], "once": true});
        rule.as_object_mut().unwrap().extend(effect.as_object().unwrap().clone());
        json!({ "rule": rule })
    };
    scene.must("block-fault-rule-add", named("fail", json!({"effect": "error", "errno": "EIO"})));
    assert_eq!(scene.guest.get_id().status, Status::IoErr);
    scene.must("block-fault-rule-add", named("wait", json!({"effect": "delay", "delay": 1000})));
    assert_eq!(scene.guest.get_id().status, Status::Ok);
    let stop = json!({"tag": "stop", "iotype": ["get-id"], "point": "after-image"});
    scene.must("block-fault-break", stop);
    scene.guest.start(0, kind::GET_ID, 0, 20);
    scene.guest.kick();
    scene.operator.wait_event("BLOCK_FAULT_BREAK");
    let held = scene.must("query-block-fault-held", json!({}));
    assert_eq!((&held[0]["iotype"], held[0].get("sector")), (&json!("get-id"), None));
    scene.must("block-fault-resume", json!({"tag": "stop"}));
    assert_eq!(scene.guest.finish().status, Status::Ok);
    let counts = scene.must("query-block-fault", json!({}))["counts"].clone();
    assert_eq!(counts, json!({"passed": 0, "failed": 1, "delayed": 1, "held": 1}));
    let told = scene.must("query-block-fault-rules", json!({"name": "fail"}));
    assert_eq!(told["rules"][0]["rule"]["iotype"], json!(["get-id"]));
    let state = json!({"id": "disk0", "state": "error", "iotype": ["get-id"]});
    let error = scene.operator.execute("set-block-fault-state", state).unwrap_err();
    assert!(error["desc"].as_str().unwrap().contains("get-id is for rules"), "{error}");
}
