//! What one client sends.

use serde_json::{Value, json};

use crate::clients::Client;
use crate::support::operator::Operator;
use crate::{Rig, times};

/// Everything that a command could have changed.
fn everything(operator: &mut Operator) -> [Value; 5] {
    let disk = json!({ "id": "disk0" });
    [
        operator.must("query-named-block-nodes", json!({})),
        operator.must("query-block-exports", json!({})),
        operator.must("query-block-fault-state", disk.clone()),
        operator.must("query-block-fault-rules", disk.clone()),
        operator.must("query-block-fault-held", disk),
    ]
}

pub(crate) fn endless_line(rig: &Rig) {
    let mut client = Client::new(rig);
    client.send("{\"execute\": \"");
    let piece = vec![b'x'; 1 << 20];
    (0..times(16, 1024)).for_each(|_| client.send(&piece));
    assert!(client.answer()["error"]["desc"].as_str().unwrap().contains("1048576 bytes at most"));
    assert_eq!(client.errors_until_understood(), 1, "the rest is one mistake");
}

pub(crate) fn deep(rig: &Rig) {
    let mut client = Client::new(rig);
    for open in ["[", "{\"a\":"] {
        assert!(client.errors_after(open.repeat(100_000).as_bytes()) > 0, "{open}");
    }
    assert_eq!(client.errors_after(&b"]".repeat(1000)), 1001);
}

pub(crate) fn odd(rig: &Rig) {
    let mut operator = rig.operator();
    let before = everything(&mut operator);
    let set = |value: &str| {
        format!(
            "{{\"execute\": \"set-block-fault-state\", \"arguments\": {{\"id\": \"disk0\", \
             \"state\": \"error\", \"errno\": {value}}}}}"
        )
        .into_bytes()
    };
    let mut bad: Vec<Vec<u8>> = [
        "1e400",
        "1E400",
        "-0",
        "18446744073709551616",
        "01",
        "+1",
        ".5",
        "1.",
        "0x1",
        "NaN",
        "nul",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"\\u12\"",
        "\"\\x\"",
        "[1,]",
        "{},}",
        "{\"a\": 1,}",
        "{\"a\" 1}",
        "{1: 2}",
        "[1 2]",
        "/* 1 */ 1",
        "// 1\n1",
        "\"\n\"",
        "\"\u{ffff}\"",
    ]
    .map(set)
    .to_vec();
    bad.push(set(&"9".repeat(10 << 20)));
    bad.push([b"\xef\xbb\xbf".to_vec(), set("\"EIO\"")].concat());
    for bytes in [&b"\"\xff\xfe\""[..], b"\"\xc3\x28\"", b"\"\xed\xa0\x80\"", b"\"a\0b\"", b"\0"] {
        let text = String::from_utf8(set("@")).unwrap();
        let (start, end) = text.split_once('@').unwrap();
        bad.push([start.as_bytes(), bytes, end.as_bytes()].concat());
    }
    bad.push(b"{\"execute\": \"quit\", \"execute\": \"query-block\"}".to_vec());
    bad.push(b"{\"execute\": \"quit\", \"arguments\": {\"a\": 1, \"a\": 2}}".to_vec());
    bad.push([b"[".to_vec(), b"1,".repeat(times(40_000, 1 << 20) as usize)].concat());
    let mut client = Client::new(rig);
    for input in &bad {
        let errors = client.errors_after(input);
        let shown = String::from_utf8_lossy(&input[..input.len().min(200)]);
        assert!(errors > 0, "{shown}");
        // Of a byte order mark QEMU and we make an error, and go on at the brace.
        operator.must("set-block-fault-state", json!({ "id": "disk0", "state": "none" }));
        assert_eq!(everything(&mut operator), before, "{shown}");
    }
}

/// The most memory for the least text: elements of one element, members of one member.
pub(crate) fn costly(rig: &Rig) {
    let mut client = Client::new(rig);
    for element in ["[1],", "[],", "{\"a\":1},", "\"\",", "{\"\":[1]},", "{\"a\":{\"a\":[]}},"] {
        let tokens = element.matches(['[', ']', '{', '}', ',', ':', '1']).count();
        let strings = element.matches('"').count() / 2;
        let many = element.repeat((32 << 10) / (tokens + strings) - 10);
        let answer =
            client.ask(&format!("{{'execute': 'query-block', 'arguments': {{'a': [{many}1]}}}}"));
        assert!(answer["error"]["desc"].as_str().unwrap().contains("'a'"), "{answer}");
        assert_eq!(client.errors_until_understood(), 1, "{element}");
    }
    let text = "\\u00e9".repeat((1 << 20) / 6 - 100);
    let answer = client.ask(&format!("{{'execute': 'query-block', 'arguments': {{'{text}': 1}}}}"));
    assert!(answer["error"].is_object());
    assert_eq!(client.errors_until_understood(), 1);
}

pub(crate) fn senseless(rig: &Rig) {
    let mut operator = rig.operator();
    let before = everything(&mut operator);
    let mut early = Client::silent(rig);
    early.line();
    let refused = early.ask(
        "{'execute': 'set-block-fault-state', 'arguments': {'id': 'disk0', 'state': 'error'}}",
    );
    assert_eq!(refused["error"]["class"], "CommandNotFound");
    let rule = |rule: Value| ("block-fault-rule-add", json!({ "id": "disk0", "rule": rule }));
    let state = |name: &str, value: Value| {
        ("set-block-fault-state", json!({ "id": "disk0", "state": "error", name: value }))
    };
    for (command, arguments) in [
        ("no-such-command", json!({})),
        ("set-block-fault-state", json!({ "id": "disk0" })),
        ("set-block-fault-state", json!({ "id": 7, "state": "error" })),
        ("set-block-fault-state", json!({ "id": "disk0", "state": "Error" })),
        state("errno", json!("EWHAT")),
        state("iotype", json!("read")),
        state("iotype", json!(["read", "raed"])),
        state("surplus", json!(1)),
        rule(json!({ "effect": "error", "probability": 1.1 })),
        rule(json!({ "effect": "error", "probability": -0.1 })),
        rule(json!({ "effect": "error", "sectors": ["5-4"] })),
        rule(json!({ "effect": "error", "sectors": ["-1"] })),
        rule(
            json!({ "effect": "error", "sectors": ["18446744073709551615-18446744073709551616"] }),
        ),
        rule(json!({ "effect": "error", "times": -1 })),
        rule(json!({ "effect": "error", "times": 18_446_744_073_709_551_615_u64, "once": true })),
        rule(json!({ "effect": "delay" })),
        rule(json!({ "effect": "delay", "delay": -5 })),
        rule(json!({ "effect": "nothing" })),
        ("block_resize", json!({ "device": "disk0", "size": -512 })),
        ("block_resize", json!({ "device": "disk0", "size": u64::MAX })),
    ] {
        let told = operator.execute(command, arguments.clone());
        assert!(told.is_err(), "{command} {arguments}: {told:?}");
        assert_eq!(everything(&mut operator), before, "{command} {arguments}");
    }
}

/// Text that would do something to a terminal, a log or a format string.
const ROUGH: &str = "a\\nb\\r\\u001b[31m\\u001b]0;x\\u0007%s%n\\u0000\\u0008\\u202e{}";

pub(crate) fn text(rig: &Rig) {
    let mut client = Client::new(rig);
    let long = "x".repeat(60 << 10);
    for text in [ROUGH, &format!("{ROUGH}{long}")] {
        for command in [
            format!("{{'execute': '{text}', 'id': '{text}'}}"),
            format!("{{'execute': 'query-block-fault-state', 'arguments': {{'id': '{text}'}}}}"),
            format!("{{'execute': 'query-block', 'arguments': {{'{text}': 1}}}}"),
            format!(
                "{{'execute': 'blockdev-add', 'arguments': {{'driver': 'file', 'node-name': 'n', 'filename': '/nowhere/{text}'}}}}"
            ),
            format!(
                "{{'execute': 'blockdev-add', 'arguments': {{'driver': 'null-co', 'node-name': '{text}'}}}}"
            ),
            format!(
                "{{'execute': 'block-fault-rule-add', 'arguments': {{'id': 'disk0', 'rule': {{'name': '{text}', 'effect': 'error'}}}}}}"
            ),
            format!(
                "{{'execute': 'block-export-add', 'arguments': {{'type': 'vhost-user-blk', 'id': '{text}', 'node-name': 'disk0', 'addr': {{'type': 'unix', 'path': '/nowhere/{text}'}}}}}}"
            ),
            format!(
                "{{'execute': 'block-fault-break', 'arguments': {{'id': 'disk0', 'tag': '{text}'}}}}"
            ),
        ] {
            let answer = client.ask(&command);
            assert!(
                answer["error"].is_object(),
                "{}: {answer}",
                &command[..command.len().min(300)]
            );
        }
    }
}

pub(crate) fn ids(rig: &Rig) {
    let mut client = Client::oob(rig);
    // Seven bytes an element on the wire.
    let flat = |elements: usize| format!("[{}12345]", "12345,".repeat(elements - 1));
    for (id, fits) in [
        (flat(1_000), true),
        (flat(9_362), true),
        (flat(9_363), false),
        (format!("\"{}\"", "x".repeat(65_534)), true),
        (format!("\"{}\"", "x".repeat(65_535)), false),
        (format!("\"{}\"", "x".repeat(1_000_000)), false),
        (format!("{{\"a\": {}}}", flat(9_000)), true),
        (format!("{}{}", "[".repeat(100), "]".repeat(100)), true),
    ] {
        for how in ["execute", "exec-oob"] {
            for _ in 0..times(1, 50) {
                let name = "query-block-fault-state";
                let arguments = "{\"id\": \"disk0\"}";
                let answer = client.ask(&format!(
                    "{{\"{how}\": \"{name}\", \"arguments\": {arguments}, \"id\": {id}}}"
                ));
                assert_eq!(answer.get("return").is_some(), fits, "an id of {} bytes", id.len());
                let echoed = answer.get("id").map(|id| id.to_string().replace(' ', ""));
                assert_eq!(echoed, fits.then(|| id.replace(' ', "")));
            }
        }
    }
}
