//! What operators hear of faults.

use super::support::front::Status;
use super::{Scene, json};

#[test]
fn the_first_hit_is_told_at_once_and_the_last_with_a_count_of_the_rest() {
    const HITS: u64 = 50;
    let mut scene = Scene::new();
    let rule = json!({"name": "r", "iotype": ["read"], "effect": "error", "errno": "EBADF",
                      "times": HITS});
    scene.must("block-fault-rule-add", json!({"rule": rule}));
    for _ in 0..HITS {
        assert_eq!(scene.guest.read(5, 512).status, Status::IoErr);
    }
    let exhausted = scene.operator.wait_event("BLOCK_FAULT_RULE_EXHAUSTED");
    assert_eq!(exhausted["data"], json!({"id": "disk0", "cause": "rule", "rule": "r"}));
    let first = scene.operator.wait_event("BLOCK_FAULT");
    let expected = json!({
        "id": "disk0", "cause": "rule", "rule": "r", "ordinal": 0, "iotype": "read", "sector": 5,
        "errno": 9, "errno-name": "EBADF", "verdict": "error", "untold": 0,
    });
    assert_eq!(first["data"], expected);
    // A machine that takes long for the reads sees more events, of fewer hits each.
    let mut known = 1;
    while known < HITS {
        let next = scene.operator.wait_event("BLOCK_FAULT")["data"].clone();
        known += next["untold"].as_u64().unwrap() + 1;
        assert_eq!(next["ordinal"], known - 1, "events stand for all hits up to theirs");
    }
    assert_eq!(known, HITS);
}

#[test]
fn healing_and_the_engine_s_state_are_told() {
    let mut scene = Scene::new();
    let bad = json!({"name": "bad", "iotype": ["read"], "sectors": [1, 2], "effect": "media",
                     "heal": "on-write", "remap-pool": 1});
    scene.must("block-fault-rule-add", json!({"rule": bad}));
    assert_eq!(scene.guest.write(1, &[0; 1024]).status, Status::Ok);
    let mut healed =
        [0; 2].map(|_| scene.operator.wait_event("BLOCK_FAULT_HEALED")["data"].clone());
    healed.sort_by_key(|data| data["reason"].to_string());
    let of = |reason: &str, sectors: u64| json!({"id": "disk0", "rule": "bad", "reason": reason, "sectors": sectors});
    assert_eq!(healed, [of("pool-empty", 0), of("written", 1)]);
    scene.must("block-fault-engine-state-set", json!({"state": 3}));
    let changed = scene.operator.wait_event("BLOCK_FAULT_ENGINE_STATE_CHANGED");
    assert_eq!(changed["data"], json!({"id": "disk0", "state": 3, "previous": 1}));
}

#[test]
fn an_offline_disk_loses_its_front_end_and_takes_none() {
    let mut scene = Scene::new();
    scene.operator.wait_event("BLOCK_EXPORT_CONNECTED");
    scene.must("set-block-fault-state", json!({"state": "offline"}));
    scene.operator.wait_event("BLOCK_EXPORT_DISCONNECTED");
    let exports = scene.operator.must("query-block-exports", json!({}));
    assert_eq!(exports[0]["connected"], false);
    let data = json!({"id": "disk0", "state": "offline", "previous": "none"});
    assert_eq!(scene.operator.wait_event("BLOCK_FAULT_STATE_CHANGED")["data"], data);
    scene.must("set-block-fault-state", json!({"state": "none"}));
    let mut front = super::Front::connect(&scene.daemon.socket("disk0"));
    front.negotiate(super::feature::ALL);
    let mut guest = front.start_queues(1, 64).remove(0);
    assert_eq!(guest.read(0, 512).status, Status::Ok);
}
