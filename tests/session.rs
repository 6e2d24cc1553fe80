//! An operator's session with a whole daemon: every command, the errors, the events.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/operator.rs"]
mod operator;

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use daemon::Daemon;
use operator::Operator;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn the_session_that_was_proposed_in_2014_works_line_for_line() {
    let dir = folder();
    let token = dir.path().join("token");
    std::fs::write(&token, "4f6e652064617920746865206469736b\n").unwrap();
    std::fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
    let monitor = format!("tcp:127.0.0.1:0,token-file={}", token.display());
    let daemon = Daemon::start(dir.path(), &["--memory", "1M", "--monitor", &monitor]);
    let mut stream = TcpStream::connect(("localhost", daemon.tcp_port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    assert!(line.starts_with(r#"{"QMP": {"version": {"qemu": {"#), "{line}");

    let dialogue = [
        ("AUTH 4f6e652064617920746865206469736b", r#"{"return": {}}"#),
        (r#"{ "execute": "qmp_capabilities" }"#, r#"{"return": {}}"#),
        (r#"{"execute":"query-block"}"#, r#"{"return": [{"device": "disk0", "#),
        (
            r#"{"execute": "set-block-fault-state", "arguments": {"id": "disk0", "state": "error"}}"#,
            r#"{"return": {}}"#,
        ),
        (
            r#"{"execute": "query-block-fault-state", "arguments": {"id": "disk0"}}"#,
            r#"{"return": "error"}"#,
        ),
    ];
    for (said, expected) in dialogue {
        // telnet ends a line with CR LF.
        stream.write_all(format!("{said}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        while answer.is_empty() || answer.contains("\"event\"") {
            answer.clear();
            answers.read_line(&mut answer).unwrap();
        }
        assert!(answer.starts_with(expected) && answer.ends_with("\r\n"), "{said}: {answer}");
    }
}

/// Every command once, in an order that makes sense, ending with `quit`.
fn every_command(dir: &std::path::Path) -> Vec<(&'static str, Value)> {
    let image = dir.join("late.img").display().to_string();
    let socket = dir.join("late").display().to_string();
    File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let node = json!({"driver": "file", "node-name": "late", "filename": image});
    let export = json!({
        "type": "vhost-user-blk", "id": "disk1", "node-name": "late", "writable": true,
        "num-queues": 2, "logical-block-size": 4096, "serial": "LATE",
        "addr": {"type": "unix", "path": socket},
    });
    vec![
        ("query-version", json!({})),
        ("query-commands", json!({})),
        ("query-qmp-schema", json!({})),
        ("blockdev-add", node.clone()),
        ("block-export-add", export),
        ("query-named-block-nodes", json!({"flat": true})),
        ("query-block", json!({})),
        ("query-blockstats", json!({"query-nodes": true})),
        ("query-block-exports", json!({})),
        ("block_resize", json!({"device": "disk1", "size": 2 << 20})),
        (
            "set-block-fault-state",
            json!({"id": "disk1", "state": "error", "errno": "ENOSPC", "iotype": ["write"]}),
        ),
        ("query-block-fault-state", json!({"id": "disk1"})),
        ("query-block-fault", json!({"id": "disk1"})),
        ("set-block-fault-state", json!({"id": "disk1", "state": "none"})),
        ("block-fault-on-error-set", json!({"id": "disk1", "policy": "hold"})),
        (
            "block-fault-rule-add",
            json!({"id": "disk1", "place": "first",
                   "rule": {"name": "r", "sectors": ["8-15"], "effect": "error"}}),
        ),
        ("block-fault-rule-set", json!({"id": "disk1", "name": "r", "action": "disable"})),
        ("block-fault-engine-state-set", json!({"id": "disk1", "state": 3})),
        (
            "block-fault-blkdebug-add",
            json!({"id": "disk1", "inject-error": [{"event": "read_aio", "sector": 7}]}),
        ),
        ("human-monitor-command", json!({"command-line": "qemu-io disk1 \"break write_aio B\""})),
        ("query-block-fault-rules", json!({"id": "disk1"})),
        (
            "block-fault-transaction",
            json!({"id": "disk1", "actions": [
                {"type": "rule-remove", "name": "r"},
                {"type": "rule-add", "rule": {"effect": "delay", "delay": 5}},
            ]}),
        ),
        ("block-fault-rule-remove", json!({"id": "disk1", "name": "rule2"})),
        ("block-fault-break", json!({"id": "disk1", "tag": "A"})),
        ("query-block-fault-held", json!({"id": "disk1"})),
        ("block-fault-resume", json!({"id": "disk1", "tag": "A"})),
        ("block-fault-break-remove", json!({"id": "disk1", "tag": "A"})),
        ("blockdev-reopen", json!({"options": [node]})),
        ("block-export-del", json!({"id": "disk1", "mode": "hard"})),
        ("blockdev-del", json!({"node-name": "late"})),
        ("quit", json!({})),
    ]
}

#[test]
fn every_command_works() {
    let dir = folder();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let mut operator = daemon.operator();
    let known = operator.must("query-commands", json!({}));
    let known: BTreeSet<String> =
        known.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect();
    // Waiting needs a guest; another test has one.
    let mut said = BTreeSet::from(["qmp_capabilities", "block-fault-wait"].map(str::to_owned));
    let mut answers = Vec::new();
    for (command, arguments) in every_command(dir.path()) {
        let answer = operator.must(command, arguments);
        said.insert(command.to_owned());
        answers.push((command, answer));
    }
    assert_eq!(said, known, "every command is part of the session");
    let answer = |name: &str| &answers.iter().find(|(command, _)| *command == name).unwrap().1;
    assert_eq!(answer("query-block-fault-state"), "error");
    let fault = answer("query-block-fault");
    assert_eq!((&fault["errno"], &fault["errno-name"]), (&json!(28), &json!("ENOSPC")));
    assert_eq!(fault["iotype"], json!(["write"]));
    let rules = answer("query-block-fault-rules");
    assert_eq!(rules["engine-state"], 3);
    assert_eq!(
        (&rules["rules"][0]["name"], &rules["rules"][0]["enabled"]),
        (&json!("r"), &json!(false))
    );
    let inject_error = json!({"event": "read_aio", "errno": 5, "sector": 7});
    assert_eq!(rules["inject-error"][0]["rule"], inject_error);
    assert_eq!(rules["breakpoints"], json!([{"event": "write_aio", "tag": "B"}]));
    assert_eq!(answer("block-fault-transaction"), &json!({"names": ["rule2"]}));
    assert_eq!(answer("block-fault-resume"), &json!({"resumed": 0, "reached": 0}));
    let exports = answer("query-block-exports").as_array().unwrap();
    assert_eq!(exports.len(), 2);
    assert_eq!(exports[1]["connected"], json!(false));
    let grown = std::fs::metadata(dir.path().join("late.img")).unwrap().len();
    assert_eq!(grown, 2 << 20, "block_resize");
    assert!(!dir.path().join("late").exists(), "the socket went with the export");
}

/// As a word of qmp-shell's language: a Python literal without spaces.
fn shell_word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string().replace(' ', ""),
    }
}

#[test]
fn qmp_shell_runs_a_session_of_every_command() {
    let Ok(qmp_shell) = std::env::var("BLKFAULT_QMP_SHELL") else {
        // Past the test harness, which hides what passing tests say.
        let why = "left out: qmp-shell: BLKFAULT_QMP_SHELL names none; tests/run installs one\n";
        let _ = std::io::stderr().write_all(why.as_bytes());
        return;
    };
    let dir = folder();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let mut shell = Command::new(qmp_shell)
        .arg("-v")
        .arg(daemon.monitor())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut session = every_command(dir.path());
    // Its line has spaces, which qmp-shell's language does not take.
    session.retain(|(command, _)| *command != "human-monitor-command");
    let mut script = String::new();
    for (command, arguments) in &session {
        script.push_str(command);
        for (name, value) in arguments.as_object().unwrap() {
            script.push_str(&format!(" {name}={}", shell_word(value)));
        }
        script.push('\n');
    }
    shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let returns = said.matches("\"return\":").count();
    assert_eq!(returns, session.len(), "{said}");
    for trouble in ["\"error\":", "Error", "Traceback", "rror while parsing", "Invalid"] {
        assert!(!said.contains(trouble), "{trouble}: {said}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let dir = folder();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M", "--read-only"]);
    let mut operator = daemon.operator();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let export = |id: &str, more: Value| {
        let mut options = json!({
            "type": "vhost-user-blk", "id": id, "node-name": "disk0",
            "addr": {"type": "unix", "path": at("new")},
        });
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        options
    };
    let state = |arguments: Value| ("set-block-fault-state", arguments);
    let cases = vec![
        ("nonsense", json!({}), "The command nonsense has not been found"),
        ("query-block", json!({"x": 1}), "Parameter 'x' is unexpected"),
        state(json!({"id": "disk9", "state": "error"})).with("Device 'disk9' not found"),
        state(json!({"state": "error"})).with("Parameter 'id' is missing"),
        state(json!({"id": "disk0", "state": "broken"})).with("does not accept value 'broken'"),
        state(json!({"id": "disk0", "state": "error", "errno": "EWHAT"}))
            .with("'EWHAT' is not an error"),
        state(json!({"id": "disk0", "state": "error", "errno": 0})).with("from 1 to 4095"),
        state(json!({"id": "disk0", "state": "error", "errno": true})).with("errno"),
        state(json!({"id": "disk0", "state": "error", "iotype": []}))
            .with("'iotype' names no request"),
        state(json!({"id": "disk0", "state": "error", "iotype": ["sync"]})).with("'sync'"),
        state(json!({"id": "disk0", "state": "none", "errno": 5})).with("'errno' is unexpected"),
        (
            "blockdev-add",
            json!({"driver": "memory", "node-name": "disk0", "size": 512}),
            "Duplicate nodes with node-name='disk0'",
        ),
        ("blockdev-add", json!({"driver": "memory", "node-name": "n", "size": 0}), ">0 size"),
        ("blockdev-add", json!({"driver": "memory", "size": 512}), "node-name"),
        (
            "blockdev-add",
            json!({"driver": "file", "node-name": "n", "filename": at("none")}),
            "does not exist",
        ),
        (
            "blockdev-add",
            json!({"driver": "host_device", "node-name": "n", "filename": "/dev/null"}),
            "a block device is needed",
        ),
        (
            "blockdev-add",
            json!({"driver": "raw", "node-name": "n", "file": "nobody"}),
            "nor node-name='nobody'",
        ),
        (
            "blockdev-add",
            json!({"driver": "vmdk", "node-name": "n"}),
            "does not accept value 'vmdk'",
        ),
        ("blockdev-del", json!({"node-name": "disk0"}), "in use by the export 'disk0'"),
        (
            "blockdev-del",
            json!({"node-name": "nobody"}),
            "Failed to find node with node-name='nobody'",
        ),
        (
            "blockdev-reopen",
            json!({"options": [{"driver": "null-co", "node-name": "disk0"}]}),
            "Cannot change the option 'driver'",
        ),
        (
            "blockdev-reopen",
            json!({"options": [{"driver": "memory", "size": 512}]}),
            "node-name not specified",
        ),
        (
            "block-export-add",
            export("disk0", json!({})),
            "Block export id 'disk0' is already in use",
        ),
        ("block-export-add", export("e", json!({"node-name": "nobody"})), "nor node-name='nobody'"),
        ("block-export-add", export("e", json!({"num-queues": 0})), "from 1 to 256"),
        ("block-export-add", export("e", json!({"num-queues": 70000})), "num-queues"),
        ("block-export-add", export("e", json!({"logical-block-size": 513})), "power of two"),
        ("block-export-add", export("e", json!({"serial": ""})), "'serial'"),
        ("block-export-add", export("e", json!({"poll": 101})), "'poll' expects 0 to 100"),
        (
            "block-export-add",
            export("e", json!({"addr": {"type": "fd", "str": "x"}})),
            "file descriptor number",
        ),
        (
            "block-export-add",
            export("e", json!({"addr": {"type": "unix", "path": at("disk0")}})),
            "in use by a running daemon",
        ),
        ("block-export-del", json!({"id": "nobody"}), "Export 'nobody' is not found"),
        ("block_resize", json!({"size": 1 << 20}), "'device' or 'node-name' is missing"),
        (
            "block_resize",
            json!({"device": "disk0", "node-name": "disk0", "size": 1 << 20}),
            "give one",
        ),
        ("block_resize", json!({"device": "disk0", "size": 1000}), "multiple of 512"),
        ("block_resize", json!({"device": "disk0", "size": -1}), ">0 size"),
        ("block_resize", json!({"node-name": "disk0", "size": 2 << 20}), "is read-only"),
    ];
    let everything = |operator: &mut Operator| {
        ["query-named-block-nodes", "query-block", "query-block-exports", "query-blockstats"]
            .map(|command| operator.must(command, json!({})))
    };
    let before = everything(&mut operator);
    for (command, arguments, expected) in cases {
        let said = format!("{command} {arguments}");
        let error = operator.execute(command, arguments).expect_err(&said);
        assert!(error["desc"].as_str().unwrap().contains(expected), "{said}: {error}");
        let class = match expected {
            "The command nonsense has not been found" => "CommandNotFound",
            "Device 'disk9' not found" => "DeviceNotFound",
            _ => "GenericError",
        };
        assert_eq!(error["class"], class, "{said}");
        assert_eq!(everything(&mut operator), before, "{said}");
    }
    assert!(!dir.path().join("new").exists());
}

/// Reads better than a tuple in a tuple.
trait With {
    fn with(self, expected: &'static str) -> (&'static str, Value, &'static str);
}

impl With for (&'static str, Value) {
    fn with(self, expected: &'static str) -> (&'static str, Value, &'static str) {
        (self.0, self.1, expected)
    }
}

#[test]
fn events_tell_of_front_ends_states_and_the_end() {
    let dir = folder();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let mut operator = daemon.operator();
    let front_end = UnixStream::connect(daemon.socket("disk0")).unwrap();
    assert_eq!(operator.wait_event("BLOCK_EXPORT_CONNECTED")["data"], json!({"id": "disk0"}));
    let mut other = daemon.operator();
    other.must("set-block-fault-state", json!({"id": "disk0", "state": "error"}));
    let data = json!({"id": "disk0", "state": "error", "previous": "none"});
    assert_eq!(
        operator.wait_event("BLOCK_FAULT_STATE_CHANGED")["data"],
        data,
        "every client hears"
    );
    let safe = operator.execute("block-export-del", json!({"id": "disk0"})).unwrap_err();
    assert!(safe["desc"].as_str().unwrap().contains("still in use"), "{safe}");
    drop(front_end);
    assert_eq!(operator.wait_event("BLOCK_EXPORT_DISCONNECTED")["data"], json!({"id": "disk0"}));
    operator.must("block-export-del", json!({"id": "disk0"}));
    assert_eq!(operator.wait_event("BLOCK_EXPORT_DELETED")["data"], json!({"id": "disk0"}));
    other.must("quit", json!({}));
    let data = json!({"guest": false, "reason": "host-qmp-quit"});
    assert_eq!(operator.wait_event("SHUTDOWN")["data"], data);
}

#[test]
fn two_disks_over_one_store_fail_apart() {
    let dir = folder();
    let daemon = Daemon::start_disks(dir.path(), &["id=a,memory=1M", "id=b,store=a"]);
    let mut operator = daemon.operator();
    operator.must("set-block-fault-state", json!({"id": "b", "state": "error"}));
    let state =
        |operator: &mut Operator, id| operator.must("query-block-fault-state", json!({"id": id}));
    assert_eq!(state(&mut operator, "a"), "none");
    assert_eq!(state(&mut operator, "b"), "error");
    operator.must("block_resize", json!({"device": "b", "size": 2 << 20}));
    let disks = operator.must("query-block", json!({}));
    for disk in disks.as_array().unwrap() {
        assert_eq!(disk["inserted"]["image"]["virtual-size"], 2 << 20, "{disk}");
    }
}

#[test]
fn a_raw_node_may_stand_on_another_and_keeps_it() {
    let dir = folder();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let mut operator = daemon.operator();
    operator.must("blockdev-add", json!({"driver": "raw", "node-name": "above", "file": "disk0"}));
    operator.must("block-export-del", json!({"id": "disk0", "mode": "hard"}));
    let error = operator.execute("blockdev-del", json!({"node-name": "disk0"})).unwrap_err();
    assert!(error["desc"].as_str().unwrap().contains("in use by the node 'above'"), "{error}");
    operator.must("blockdev-del", json!({"node-name": "above"}));
    operator.must("blockdev-del", json!({"node-name": "disk0"}));
    assert_eq!(operator.must("query-named-block-nodes", json!({})), json!([]));
}

#[test]
fn a_disk_tells_what_its_guest_may_do_with_the_node() {
    let dir = folder();
    let daemon = Daemon::start_disks(
        dir.path(),
        &["id=a,memory=1M,cache=writethrough", "id=b,store=a,read-only=on"],
    );
    let disks = daemon.operator().must("query-block", json!({}));
    let facts = |disk: &Value| {
        let node = &disk["inserted"];
        (node["ro"].as_bool().unwrap(), node["cache"]["writeback"].as_bool().unwrap())
    };
    assert_eq!(facts(&disks[0]), (false, false), "{disks}");
    assert_eq!(facts(&disks[1]), (true, true), "{disks}");
}

#[test]
fn quit_is_always_answered() {
    for _ in 0..50 {
        let dir = folder();
        let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
        assert_eq!(daemon.operator().must("quit", json!({})), json!({}));
    }
}
