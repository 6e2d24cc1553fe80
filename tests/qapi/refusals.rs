//! What the daemon says about wrong arguments: what QEMU says.

use super::schema;
use blkfault::qapi::path::DEPTH_MAX;
use blkfault::qapi::types::BlockdevOptions;
use blkfault::qapi::{Command, ErrorClass, Path, Visit};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::process::{Command as Process, Stdio};

/// A wrong command: its name, its arguments and the text that refuses it.
type Refusal = (&'static str, &'static str, &'static str);

/// Arguments of `block-export-add` that are right but for the number of queues.
macro_rules! queues {
    ($queues:literal) => {
        concat!(
            r#"{"type":"vhost-user-blk","id":"e","node-name":"n","#,
            r#""addr":{"type":"unix","path":"s"},"num-queues":"#,
            $queues,
            "}"
        )
    };
}

/// Refusals that qemu-storage-daemon can be asked for, too.
#[rustfmt::skip]
const LIKE_QEMU: &[Refusal] = &[
    // A member of the arguments.
    ("blockdev-add", r#"{}"#,
        "Parameter 'driver' is missing"),
    ("blockdev-add", r#"{"driver":5}"#,
        "Invalid parameter type for 'driver', expected: string"),
    ("blockdev-add", r#"{"driver":"x"}"#,
        "Parameter 'driver' does not accept value 'x'"),
    ("blockdev-add", r#"{"driver":""}"#,
        "Parameter 'driver' does not accept value ''"),
    ("blockdev-add", r#"{"driver":"FILE"}"#,
        "Parameter 'driver' does not accept value 'FILE'"),
    ("blockdev-add", r#"{"driver":"file","node-name":"a"}"#,
        "Parameter 'filename' is missing"),
    ("blockdev-del", r#"{"node-name":"a","b":1}"#,
        "Parameter 'b' is unexpected"),
    ("blockdev-del", r#"{"node-name":"a","":1}"#,
        "Parameter '' is unexpected"),
    ("blockdev-del", r#"{"node_name":"a"}"#,
        "Parameter 'node-name' is missing"),
    ("blockdev-del", r#"{"node-name":["a"]}"#,
        "Invalid parameter type for 'node-name', expected: string"),
    ("block-export-del", r#"{"id":"e","mode":"x"}"#,
        "Parameter 'mode' does not accept value 'x'"),
    // A command without arguments.
    ("quit", r#"{"now":true}"#,
        "Parameter 'now' is unexpected"),
    // null is a value.
    ("block-export-del", r#"{"id":"e","mode":null}"#,
        "Invalid parameter type for 'mode', expected: string"),
    // Of two mistakes, the first in the order of the schema is told.
    ("block-export-add", r#"{"foo":3,"id":5}"#,
        "Parameter 'type' is missing"),
    // Booleans are no words and no numbers.
    ("query-named-block-nodes", r#"{"flat":1}"#,
        "Invalid parameter type for 'flat', expected: boolean"),
    ("query-named-block-nodes", r#"{"flat":"on"}"#,
        "Invalid parameter type for 'flat', expected: boolean"),
    // Integers are not rounded, cut or read from strings.
    ("block_resize", r#"{"size":5.0}"#,
        "Invalid parameter type for 'size', expected: integer"),
    ("block_resize", r#"{"size":5e0}"#,
        "Invalid parameter type for 'size', expected: integer"),
    ("block_resize", r#"{"size":"5"}"#,
        "Invalid parameter type for 'size', expected: integer"),
    ("block_resize", r#"{"size":9223372036854775808}"#,
        "Invalid parameter type for 'size', expected: integer"),
    ("block_resize", r#"{"size":99999999999999999999999}"#,
        "Invalid parameter type for 'size', expected: integer"),
    ("block-export-add", queues!("70000"),
        "Parameter 'num-queues' expects uint16_t"),
    ("block-export-add", queues!("-1"),
        "Parameter 'num-queues' expects uint16_t"),
    ("block-export-add", queues!("1.5"),
        "Parameter 'num-queues' expects uint64"),
    ("block-export-add", queues!("\"4\""),
        "Parameter 'num-queues' expects uint64"),
    // Deeper, most texts have the whole way to the mistake; those of enums and alternates its end.
    ("blockdev-add", r#"{"driver":"raw","file":{"driver":"file"}}"#,
        "Parameter 'file.filename' is missing"),
    ("blockdev-add", r#"{"driver":"raw","file":{"driver":true}}"#,
        "Invalid parameter type for 'file.driver', expected: string"),
    ("blockdev-add", r#"{"driver":"raw","file":{"driver":"x"}}"#,
        "Parameter 'driver' does not accept value 'x'"),
    ("blockdev-add", r#"{"driver":"raw","file":{"driver":"null-co","x":1}}"#,
        "Parameter 'file.x' is unexpected"),
    ("blockdev-add", r#"{"driver":"null-co","cache":[]}"#,
        "Invalid parameter type for 'cache', expected: object"),
    ("blockdev-add", r#"{"driver":"null-co","cache":{"direct":1}}"#,
        "Invalid parameter type for 'cache.direct', expected: boolean"),
    ("blockdev-reopen", r#"{"options":{}}"#,
        "Invalid parameter type for 'options', expected: array"),
    ("blockdev-reopen", r#"{"options":[7]}"#,
        "Invalid parameter type for 'options[0]', expected: object"),
    ("blockdev-reopen", r#"{"options":[{"driver":"null-co"},{}]}"#,
        "Parameter 'options[1].driver' is missing"),
    ("blockdev-reopen", r#"{"options":[{"driver":"null-co","cache":{"x":1}}]}"#,
        "Parameter 'options[0].cache.x' is unexpected"),
    // Alternates.
    ("blockdev-add", r#"{"driver":"raw","file":5}"#,
        "Invalid parameter type for 'file', expected: BlockdevRef"),
    ("blockdev-add", r#"{"driver":"raw","file":null}"#,
        "Invalid parameter type for 'file', expected: BlockdevRef"),
    ("blockdev-add", r#"{"driver":"raw"}"#,
        "Parameter 'file' is missing"),
    ("blockdev-add", r#"{"driver":"raw","file":{"driver":"raw","file":[]}}"#,
        "Invalid parameter type for 'file', expected: BlockdevRef"),
];

/// Refusals of what QEMU does not have, or where this daemon differs on purpose.
#[rustfmt::skip]
const OURS: &[Refusal] = &[
    ("set-block-fault-state", r#"{"id":"disk0"}"#,
        "Parameter 'state' is missing"),
    ("set-block-fault-state", r#"{"id":"disk0","state":"bad"}"#,
        "Parameter 'state' does not accept value 'bad' (at 'state'; it takes none, error, hang, slow, \
         read-only, offline)"),
    ("set-block-fault-state", r#"{"id":"disk0","state":"error","errno":5.5}"#,
        "Invalid parameter type for 'errno', expected: integer"),
    ("set-block-fault-state", r#"{"id":"disk0","state":"error","errno":true}"#,
        "Invalid parameter type for 'errno', expected: BlockFaultErrno"),
    ("set-block-fault-state", r#"{"id":"disk0","state":"error","iotype":"read"}"#,
        "Invalid parameter type for 'iotype', expected: array"),
    // QEMU calls an element of a list 'null' here.
    ("set-block-fault-state", r#"{"id":"disk0","state":"error","iotype":["read","x"]}"#,
        "Parameter 'iotype[1]' does not accept value 'x' (at 'iotype[1]'; it takes read, write, flush, \
         discard, write-zeroes, get-id)"),
    ("qmp_capabilities", r#"{"enable":["x"]}"#,
        "Parameter 'enable[0]' does not accept value 'x'"),
    // QEMU takes a negative size for a huge one.
    ("blockdev-add", r#"{"driver":"memory","size":-1}"#,
        "Parameter 'size' expects uint64"),
];

/// The words of a refusal.
fn refuse(name: &str, arguments: &str) -> String {
    let arguments: Map<String, Value> = serde_json::from_str(arguments).expect("an object");
    let error = Command::parse(name, arguments).expect_err("these arguments are wrong");
    assert_eq!(error.class, ErrorClass::GenericError);
    error.desc
}

#[test]
fn wrong_arguments_are_refused_in_these_words() {
    for (name, arguments, text) in LIKE_QEMU.iter().chain(OURS) {
        assert_eq!(refuse(name, arguments), *text, "{name} {arguments}");
    }
}

#[test]
fn qemu_refuses_them_in_the_same_words() {
    let Ok(mut qemu) = Process::new("qemu-storage-daemon")
        .args(["--chardev", "stdio,id=m", "--monitor", "chardev=m"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    else {
        eprintln!("LEFT OUT: comparison of error texts, since there is no qemu-storage-daemon");
        return;
    };
    let mut input = qemu.stdin.take().expect("stdin is a pipe");
    writeln!(input, r#"{{"execute":"qmp_capabilities"}}"#).expect("it listens");
    for (id, (name, arguments, _)) in LIKE_QEMU.iter().enumerate() {
        writeln!(input, r#"{{"execute":"{name}","id":{id},"arguments":{arguments}}}"#)
            .expect("it listens");
    }
    writeln!(input, r#"{{"execute":"quit"}}"#).expect("it listens");
    drop(input);
    let output = qemu.wait_with_output().expect("it ends");
    let mut compared = 0;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let reply: Value = serde_json::from_str(line).expect("QEMU speaks JSON");
        let Some((name, arguments, text)) =
            reply["id"].as_u64().and_then(|id| LIKE_QEMU.get(usize::try_from(id).ok()?))
        else {
            continue;
        };
        assert_eq!(reply["error"]["desc"], *text, "{name} {arguments}");
        compared += 1;
    }
    assert_eq!(compared, LIKE_QEMU.len(), "QEMU left some without an answer");
}

#[test]
fn a_command_that_does_not_exist_has_a_class_of_its_own() {
    let error = Command::parse("query-blocks", Map::new()).expect_err("it does not exist");
    assert_eq!(error.class, ErrorClass::CommandNotFound);
    assert_eq!(error.desc, "The command query-blocks has not been found");
}

/// Raw nodes upon each other, an alternate in each.
fn chain(nodes: usize) -> Value {
    let raw = |file| json!({ "driver": "raw", "file": file });
    (1..nodes).fold(raw(json!("node0")), |file, _| raw(file))
}

#[test]
fn a_chain_of_nodes_may_be_long_but_not_endless() {
    let longest = chain(DEPTH_MAX);
    let read = BlockdevOptions::parse(longest.clone(), &Path::ROOT).expect("not too long");
    assert_eq!(read.to_value(), longest);
    for nodes in [DEPTH_MAX + 1, 1000] {
        let error = BlockdevOptions::parse(chain(nodes), &Path::ROOT).expect_err("too long");
        assert_eq!(
            error.desc,
            "Parameter 'file' is nested too deeply, at most 64 levels are accepted"
        );
    }
}

/// Commands that are right, from the examples of the schema.
fn right_commands() -> Vec<(String, Value)> {
    let examples = schema().entities.into_iter().flat_map(|entity| entity.docs.examples);
    let commands = examples.filter_map(|example| {
        let name = example.message["execute"].as_str()?.to_owned();
        let arguments = example.message.get("arguments").cloned();
        Some((name, arguments.unwrap_or_else(|| json!({}))))
    });
    commands.collect()
}

/// Replaces what `way` leads to, which names a child at each level by its number.
fn graft(value: &mut Value, way: &[usize], scion: Value) {
    let child = match (way.split_first(), &mut *value) {
        (Some((at, rest)), Value::Array(elements)) if !elements.is_empty() => {
            let at = at % elements.len();
            elements.get_mut(at).map(|child| (child, rest))
        }
        (Some((at, rest)), Value::Object(members)) if !members.is_empty() => {
            let at = at % members.len();
            members.values_mut().nth(at).map(|child| (child, rest))
        }
        _ => None,
    };
    match child {
        Some((child, rest)) => graft(child, rest, scion),
        None => *value = scion,
    }
}

/// Whether two values say the same. Where the schema has a `number`, an integer is read as one.
fn is_same(written: &Value, sent: &Value) -> bool {
    match (written, sent) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() != b.is_f64() => {
            a.as_f64() == b.as_f64()
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// Any JSON, some of it made of the schema's words.
fn any_json() -> impl Strategy<Value = Value> {
    const WORDS: &[&str] = &[
        "driver", "file", "raw", "null-co", "size", "error", "EIO", "read", "unix", "oob", "hard",
    ];
    let word = || prop_oneof![prop::sample::select(WORDS).prop_map(str::to_owned), any::<String>()];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_right_command_with_one_part_changed_is_refused_or_read_to_the_last_bit(
        (name, mut arguments) in prop::sample::select(right_commands()),
        way in prop::collection::vec(any::<usize>(), 1..5),
        scion in any_json(),
    ) {
        graft(&mut arguments, &way, scion);
        // Arguments that are no object never get here: the monitor refuses them.
        let Value::Object(sent) = arguments else { return Ok(()) };
        match Command::parse(&name, sent.clone()) {
            Err(error) => prop_assert!(error.desc.contains("'"), "names nothing: {error}"),
            Ok(command) => {
                let written = command.to_arguments().unwrap_or_else(|| json!({}));
                let sent = Value::Object(sent);
                prop_assert!(is_same(&written, &sent), "{sent} was read as {written}");
            }
        }
    }
}
