//! Every wrong command about faults is refused in words that help, and changes nothing.

use super::{Scene, Value, json};

/// A command without its `id`, and what the refusal says.
type Case = (&'static str, Value, &'static str);

fn rule(rule: Value) -> Value {
    json!({ "rule": rule })
}

fn about_rules() -> Vec<Case> {
    let add = "block-fault-rule-add";
    vec![
        (add, json!({}), "Parameter 'rule' is missing"),
        (add, rule(json!({})), "Parameter 'rule.effect' is missing"),
        (add, rule(json!({"effect": "explode"})), "'effect' does not accept value 'explode'"),
        (add, rule(json!({"effect": "error", "name": "r"})), "Fault rule 'r' exists already"),
        (add, rule(json!({"effect": "error", "name": "1"})), "'name' expects an identifier"),
        (add, rule(json!({"effect": "error", "tag": "A"})), "'rule.tag' is unexpected"),
        (add, rule(json!({"effect": "error", "every": 0})), "'every' expects 1 or more"),
        (add, rule(json!({"effect": "error", "errno": "EI0"})), "did you mean EIO?"),
        (add, rule(json!({"effect": "media"})), "'sectors' expects at least one range"),
        (
            add,
            json!({"rule": {"effect": "error"}, "place": {"before": "x"}}),
            "Fault rule 'x' not found",
        ),
        (
            add,
            json!({"rule": {"effect": "error"}, "place": {}}),
            "'place' expects one of 'before' and 'after'",
        ),
        (add, json!({"rule": {"effect": "error"}, "place": "middle"}), "value 'middle'"),
        ("block-fault-rule-remove", json!({"name": "x"}), "Fault rule 'x' not found"),
        ("block-fault-rule-set", json!({"name": "x", "action": "reset"}), "Fault rule 'x' not"),
        ("block-fault-rule-set", json!({"name": "r", "action": "stop"}), "value 'stop'"),
        ("query-block-fault-rules", json!({"name": "x"}), "Fault rule 'x' not found"),
        (
            "block-fault-transaction",
            json!({"actions": [{"type": "rule-remove", "name": "r"},
                               {"type": "rule-add", "rule": {"effect": "error", "times": 0}}]}),
            "actions[1]: Parameter 'times' expects 1 or more",
        ),
        ("block-fault-transaction", json!({"actions": [{"type": "x"}]}), "value 'x'"),
        ("block-fault-engine-state-set", json!({"state": 1_u64 << 40}), "fits 32 bits"),
    ]
}

fn about_the_rest() -> Vec<Case> {
    vec![
        ("set-block-fault-state", json!({"state": "none", "errno": 5}), "'errno' is unexpected"),
        ("set-block-fault-state", json!({"state": "slow"}), "'preset' or 'profiles' is missing"),
        ("set-block-fault-state", json!({"state": "hang", "errno": 5}), "'on-release' fail only"),
        ("set-block-fault-state", json!({"state": "drop-writes"}), "value 'drop-writes'"),
        ("block-fault-on-error-set", json!({"policy": "panic"}), "value 'panic'"),
        ("block-fault-blkdebug-add", json!({}), "'config', 'inject-error' or 'set-state'"),
        (
            "block-fault-blkdebug-add",
            json!({"inject-error": [{"event": "write_aio", "errno": -5}]}),
            "inject-error[0]: Parameter 'errno' expects",
        ),
        ("block-fault-blkdebug-add", json!({"config": "/none"}), "Could not read blkdebug config"),
        ("block-fault-break", json!({"tag": ""}), "'tag' expects a letter"),
        ("block-fault-break", json!({"tag": "r"}), "Fault rule 'r' exists already"),
        ("block-fault-break", json!({"tag": "A", "times": 0}), "'times' expects 1 or more"),
        ("block-fault-break-remove", json!({"tag": "A"}), "Breakpoint 'A' not found"),
        ("block-fault-wait", json!({"tag": "A", "timeout": -1}), "'timeout' expects seconds"),
        ("block-fault-resume", json!({}), "Exactly one of"),
        ("block-fault-resume", json!({"tag": "A", "rule": "r"}), "Exactly one of"),
        ("block-fault-resume", json!({"tag": "A", "errno": 5}), "'action' fail only"),
        ("block-fault-resume", json!({"ordinals": [7]}), "7 is not"),
    ]
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut scene = Scene::new();
    scene.must(
        "block-fault-rule-add",
        rule(json!({"name": "r", "sectors": [9], "effect": "error"})),
    );
    let everything = |scene: &mut Scene| {
        ["query-block-fault", "query-block-fault-rules", "query-block-fault-held"]
            .map(|command| scene.must(command, json!({})))
    };
    let before = everything(&mut scene);
    for (command, mut arguments, expected) in about_rules().into_iter().chain(about_the_rest()) {
        arguments["id"] = json!("disk0");
        let said = format!("{command} {arguments}");
        let error = scene.operator.execute(command, arguments.clone()).expect_err(&said);
        assert!(error["desc"].as_str().unwrap().contains(expected), "{said}: {error}");
        assert_eq!(error["class"], "GenericError", "{said}");
        assert_eq!(everything(&mut scene), before, "{said}");
    }
}

#[test]
fn a_disk_that_does_not_exist_is_not_found() {
    let mut scene = Scene::new();
    let commands = [
        ("set-block-fault-state", json!({"state": "none"})),
        ("query-block-fault-state", json!({})),
        ("query-block-fault", json!({})),
        ("block-fault-on-error-set", json!({"policy": "hold"})),
        ("block-fault-rule-add", rule(json!({"effect": "error"}))),
        ("block-fault-rule-remove", json!({"name": "r"})),
        ("block-fault-rule-set", json!({"name": "r", "action": "reset"})),
        ("query-block-fault-rules", json!({})),
        ("block-fault-transaction", json!({"actions": []})),
        ("block-fault-engine-state-set", json!({"state": 1})),
        ("block-fault-blkdebug-add", json!({"inject-error": [{"event": "none"}]})),
        ("block-fault-break", json!({"tag": "A"})),
        ("block-fault-break-remove", json!({"tag": "A"})),
        ("query-block-fault-held", json!({})),
        ("block-fault-wait", json!({"tag": "A"})),
        ("block-fault-resume", json!({"tag": "A"})),
    ];
    for (command, mut arguments) in commands {
        arguments["id"] = json!("disk9");
        let error = scene.operator.execute(command, arguments).expect_err(command);
        let expected = json!({"class": "DeviceNotFound", "desc": "Device 'disk9' not found"});
        assert_eq!(error, expected, "{command}");
    }
}

#[test]
fn a_blkdebug_node_that_makes_no_sense_is_not_made() {
    let mut scene = Scene::new();
    let image = json!({"driver": "memory", "size": 1 << 20});
    let node = |more: Value| {
        let mut options = json!({"driver": "blkdebug", "node-name": "n", "image": image});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        options
    };
    let rules = json!([{"event": "read_aio"}]);
    let inner = json!({"driver": "blkdebug", "image": image, "inject-error": rules});
    let cases = [
        (node(json!({"align": 3})), "Cannot meet constraints with align 3"),
        (node(json!({"max-transfer": -1})), "Cannot meet constraints with max-transfer -1"),
        (node(json!({"config": "/none"})), "Could not read blkdebug config file '/none'"),
        (node(json!({"inject-error": [{"event": "no"}]})), "does not accept value 'no'"),
        (node(json!({"image": "nobody"})), "nor node-name='nobody'"),
        (node(json!({"image": inner})), "put all rules into one"),
    ];
    let before = scene.operator.must("query-named-block-nodes", json!({}));
    for (options, expected) in cases {
        let error = scene.operator.execute("blockdev-add", options.clone()).expect_err(expected);
        assert!(error["desc"].as_str().unwrap().contains(expected), "{options}: {error}");
        assert_eq!(scene.operator.must("query-named-block-nodes", json!({})), before);
    }
    scene.operator.must("blockdev-add", node(json!({"inject-error": rules})));
    let other = json!({"options": [node(json!({"inject-error": []}))]});
    let error = scene.operator.execute("blockdev-reopen", other).unwrap_err();
    assert!(error["desc"].as_str().unwrap().contains("Cannot change the rules"), "{error}");
}
