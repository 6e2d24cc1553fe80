//! THE OPERATOR'S DOOR, from outside: real sockets, every byte.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

#[path = "monitor/crowd.rs"]
mod crowd;
#[path = "monitor/strangers.rs"]
mod strangers;
#[path = "support/monitor.rs"]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use blkfault::client::{Client, ClientError, Deadline};
use blkfault::monitor::{Address, EventSink, MonitorError, Monitors};
use serde_json::{Value, json};

use support::{PATIENCE, RawClient, TOKEN, TestMonitor};

/// Bytes as the transcripts write them.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, special)) = rest.split_once('<') {
        bytes.extend_from_slice(plain.as_bytes());
        let (hex, behind) = special.split_once('>').unwrap();
        bytes.push(u8::from_str_radix(hex, 16).unwrap());
        rest = behind;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Hold the conversations of a transcript with a monitor, and compare every byte.
fn hold(name: &str, monitor: &TestMonitor) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/monitor").join(name);
    let transcript = fs::read_to_string(path).unwrap();
    let mut compared = 0;
    for conversation in transcript.split("\n\n") {
        let mut client = monitor.connect();
        let mut last_sent = "";
        for line in conversation.lines() {
            match line.split_at(line.len().min(3)) {
                ("-> ", sent) => {
                    client.send(bytes(sent));
                    last_sent = sent;
                }
                ("<- ", expected) => {
                    assert_eq!(client.line(), expected, "{name}, after: {last_sent}");
                    compared += 1;
                }
                _ => assert!(line.is_empty() || line.starts_with('#'), "{line}"),
            }
        }
        client.stream.shutdown(Shutdown::Write).unwrap();
        if conversation.contains("<- ") {
            assert!(client.is_closed(), "{name}: more was said than expected");
        }
    }
    assert!(compared > 3, "{name}");
}

#[test]
fn negotiation_is_that_of_qemu_to_the_byte() {
    hold("negotiation.txt", &TestMonitor::start());
}

#[test]
fn a_command_of_the_wrong_shape_is_answered_as_by_qemu() {
    hold("members.txt", &TestMonitor::start());
}

#[test]
fn an_id_of_any_type_comes_back_as_from_qemu() {
    hold("ids.txt", &TestMonitor::start());
}

#[test]
fn malformed_json_of_every_kind_is_answered_as_by_qemu_and_the_session_goes_on() {
    hold("malformed.txt", &TestMonitor::start());
}

#[test]
fn the_session_of_2014_works_line_for_line_over_telnet() {
    let monitor = TestMonitor::start();
    let stream = TcpStream::connect(("localhost", monitor.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = RawClient::over(stream);
    assert!(client.line().starts_with("{\"QMP\": {\"version\": {\"qemu\": {"));
    for (typed, answer) in [
        (&*format!("AUTH {TOKEN}"), "{\"return\": {}}"),
        ("{ \"execute\": \"qmp_capabilities\" }", "{\"return\": {}}"),
        ("{\"execute\":\"query-block\"}", "{\"return\": [{\"device\": \"disk0\"}]}"),
        (
            "{\"execute\": \"set-block-fault-state\", \
             \"arguments\": {\"id\": \"disk0\", \"state\": \"error\"}}",
            "{\"return\": {}}",
        ),
        (
            "{\"execute\": \"query-block-fault-state\", \"arguments\": {\"id\": \"disk0\"}}",
            "{\"return\": \"error\"}",
        ),
    ] {
        client.send(format!("{typed}\r\n"));
        assert_eq!(client.line(), answer);
    }
}

#[test]
fn two_clients_see_one_state_and_each_its_own_answers() {
    let monitor = TestMonitor::start();
    let (mut one, mut two) = (monitor.client(), monitor.client());
    let set = |state: &str| {
        format!(
            "{{'execute': 'set-block-fault-state', 'id': '{state}', \
             'arguments': {{'id': 'disk0', 'state': '{state}'}}}}"
        )
    };
    let query = "{'execute': 'query-block-fault-state', 'arguments': {'id': 'disk0'}}";
    for round in 0..50 {
        let (mine, theirs) = (format!("one{round}"), format!("two{round}"));
        one.send(set(&mine));
        two.send(set(&theirs));
        assert_eq!(one.message(), json!({ "return": {}, "id": mine }));
        assert_eq!(two.message(), json!({ "return": {}, "id": theirs }));
        let seen = one.ask(query);
        assert_eq!(seen, two.ask(query));
        assert!([json!(mine), json!(theirs)].contains(&seen["return"]), "{seen}");
    }
}

#[test]
fn an_error_of_a_command_has_its_class_and_text() {
    let monitor = TestMonitor::start();
    let query = "{'execute': 'query-block-fault-state', 'arguments': {'id': 'nope'}, 'id': 1}";
    assert_eq!(
        monitor.client().ask(query),
        json!({ "id": 1, "error": { "class": "DeviceNotFound", "desc": "Cannot find device 'nope'" } })
    );
}

#[test]
fn an_oob_command_is_answered_while_another_is_stuck() {
    let monitor = TestMonitor::start();
    let (mut first, mut other) = (monitor.oob_client(), monitor.oob_client());
    first.send("{'execute': 'stick', 'id': 'stuck'}");
    first.send("{'execute': 'query-version', 'id': 'behind'}");
    let state = "{'exec-oob': 'query-block-fault-state', 'arguments': {'id': 'disk0'}, 'id': 1}";
    for client in [&mut first, &mut other] {
        assert_eq!(client.ask(state), json!({ "return": "none", "id": 1 }));
    }
    assert_eq!(other.ask("{'exec-oob': 'unstick', 'id': 2}"), json!({ "return": {}, "id": 2 }));
    assert_eq!(first.message()["id"], "stuck");
    assert_eq!(first.message()["id"], "behind");
}

#[test]
fn a_command_that_is_answered_later_delays_its_client_and_no_other() {
    let monitor = TestMonitor::start();
    let (mut waiting, mut other) = (monitor.oob_client(), monitor.oob_client());
    waiting.send("{'execute': 'keep', 'id': 1}{'execute': 'query-block', 'id': 2}");
    waiting.send("{'exec-oob': 'query-block-fault-state', 'arguments': {'id': 'disk0'}, 'id': 3}");
    assert_eq!(waiting.message()["id"], 3);
    assert_eq!(other.ask("{'execute': 'query-block', 'id': 4}")["id"], 4);
    assert_eq!(other.ask("{'exec-oob': 'let-go', 'id': 5}")["id"], 5);
    assert_eq!(waiting.message(), json!({ "return": "let go", "id": 1 }));
    assert_eq!(waiting.message()["id"], 2);
}

#[test]
fn a_command_that_panics_or_forgets_to_answer_costs_an_error_and_no_more() {
    let monitor = TestMonitor::start();
    let mut client = monitor.client();
    for command in ["forget", "panic"] {
        let answer = client.ask(&format!("{{'execute': '{command}', 'id': 1}}"));
        assert_eq!(answer["error"]["class"], "GenericError", "{command}");
        assert_eq!(answer["id"], 1);
    }
    assert_eq!(client.ask("{'execute': 'echo', 'arguments': {'a': 1}}")["return"]["a"], 1);
}

#[test]
fn events_reach_every_client_that_has_negotiated_and_no_other() {
    let monitor = TestMonitor::start();
    let (mut one, mut two) = (monitor.client(), monitor.oob_client());
    let mut shy = monitor.connect();
    shy.line();
    assert_eq!(one.ask("{'execute': 'emit', 'arguments': {'count': 2}}")["event"], "TEST");
    assert_eq!(one.message()["data"], json!({ "number": 1 }));
    assert_eq!(one.message(), json!({ "return": {} }));
    let event = two.line();
    let seconds = event.strip_prefix("{\"timestamp\": {\"seconds\": ").unwrap();
    let seconds = seconds.trim_start_matches(|c: char| c.is_ascii_digit());
    let micros = seconds.strip_prefix(", \"microseconds\": ").unwrap();
    let rest = micros.trim_start_matches(|c: char| c.is_ascii_digit());
    assert_eq!(rest, "}, \"event\": \"TEST\", \"data\": {\"number\": 0}}");
    assert_eq!(two.message()["data"]["number"], 1);
    assert_eq!(shy.ask("{'execute': 'qmp_capabilities', 'id': 1}"), json!({"return": {}, "id": 1}));
}

#[test]
fn our_own_client_keeps_events_that_come_before_an_answer() {
    let monitor = TestMonitor::start();
    let deadline = Deadline::after(PATIENCE);
    let mut client = Client::connect(&Address::Unix(monitor.path()), deadline).unwrap();
    for round in 0..2 {
        let emitted = client.call("emit", json!({ "count": 2 }), deadline);
        assert_eq!(emitted.unwrap(), json!({}), "{round}");
    }
    let mut number = || client.event(deadline).unwrap()["data"]["number"].clone();
    assert_eq!([number(), number(), number(), number()], [0, 1, 0, 1]);
    let refused = client.call("nope", json!({}), deadline).unwrap_err();
    assert!(matches!(refused, ClientError::Refused { class, .. } if class == "CommandNotFound"));
}

#[test]
fn of_a_storm_of_io_errors_the_first_and_the_last_are_told() {
    let monitor = TestMonitor::start();
    let mut client = monitor.client();
    let began = Instant::now();
    for number in 0..10_000 {
        let data = json!({ "device": "disk0", "operation": "read", "number": number });
        monitor.executor.events.emit("BLOCK_IO_ERROR", Some(data));
    }
    let mut numbers = Vec::new();
    while numbers.last() != Some(&9_999) {
        numbers.push(client.message()["data"]["number"].as_u64().unwrap());
    }
    assert_eq!(numbers[0], 0);
    let periods = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!(numbers.len() <= periods + 1, "{numbers:?} in {periods} s");
}

#[test]
fn a_thousand_commands_in_one_piece_are_answered_in_order() {
    let monitor = TestMonitor::start();
    for mut client in [monitor.client(), monitor.oob_client()] {
        let commands: String =
            (0..1000).map(|id| format!("{{'execute': 'query-block', 'id': {id}}}")).collect();
        client.send(commands);
        for id in 0..1000 {
            assert_eq!(client.message()["id"], id);
        }
    }
}

#[test]
fn a_session_sent_byte_by_byte_is_an_ordinary_session() {
    let monitor = TestMonitor::start();
    let mut client = monitor.connect();
    client.line();
    for byte in
        b"{'execute': 'qmp_capabilities'}{'execute': 'echo', 'arguments': {'a': '\xc3\xa9'}}"
    {
        client.send([*byte]);
    }
    assert_eq!(client.line(), "{\"return\": {}}");
    assert_eq!(client.line(), "{\"return\": {\"a\": \"\\u00E9\"}}");
}

#[test]
fn a_client_that_stops_sending_gets_all_its_answers() {
    let monitor = TestMonitor::start();
    let mut client = monitor.client();
    client.send("{'execute': 'keep', 'id': 1}{'execute': 'echo', 'id': 2}{'half': ");
    client.stream.shutdown(Shutdown::Write).unwrap();
    monitor.oob_client().ask("{'execute': 'query-block'}");
    monitor.oob_client().ask("{'exec-oob': 'let-go'}");
    assert_eq!(client.message()["id"], 1);
    assert_eq!(client.message()["id"], 2);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_goes_away_has_its_command_finished_and_the_others_dropped() {
    let monitor = TestMonitor::start();
    let mut gone = monitor.oob_client();
    gone.send("{'execute': 'stick'}");
    monitor.wait_for_begun(1);
    gone.send("{'execute': 'echo'}{'exec-oob': 'let-go', 'id': 'seen'}");
    assert_eq!(gone.message()["id"], "seen");
    drop(gone);
    let mut other = monitor.oob_client();
    other.send("{'execute': 'query-block', 'id': 1}");
    monitor.executor.unstick();
    assert_eq!(other.message()["id"], 1);
    let begun = monitor.executor.begun.lock().unwrap().clone();
    assert_eq!(begun, ["stick", "let-go", "query-block"]);
}

#[test]
fn values_as_deep_as_qemu_allows_pass_through_and_deeper_ones_are_refused() {
    let monitor = TestMonitor::start();
    let mut client = monitor.client();
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let (id, argument) = (nested(1023), nested(1022));
    client.send(format!("{{'execute': 'echo', 'arguments': {{'a': {argument}}}, 'id': {id}}}"));
    let expected = format!("{{\"return\": {{\"a\": {argument}}}, \"id\": {id}}}");
    assert_eq!(client.line(), expected);
    client.send("[".repeat(1025));
    assert!(client.line().contains("JSON nesting depth limit exceeded"));
    assert_eq!(client.ask("\n\u{1}{'execute': 'query-block'}")["error"]["class"], "GenericError");
}

#[test]
fn a_large_id_comes_back_whole_and_a_larger_one_is_refused() {
    let monitor = TestMonitor::start();
    let mut client = monitor.client();
    // Six bytes each on the wire, and the quotes.
    let characters = (65_536 - 2) / 6;
    let ask = |client: &mut RawClient<UnixStream>, id: &str| {
        client.ask(&format!("{{'execute': 'query-block', 'id': '{id}'}}"))
    };
    let id = "é".repeat(characters);
    assert_eq!(ask(&mut client, &id)["id"], Value::from(id));
    let refused = ask(&mut client, &"é".repeat(characters + 1));
    assert_eq!(refused["error"]["class"], "GenericError");
    let text = "QMP input member 'id' takes more than 65536 bytes to repeat";
    assert_eq!((&refused["error"]["desc"], refused.get("id")), (&json!(text), None));
    assert!(ask(&mut client, "1")["return"].is_array());
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_thousand_clients_leave_no_descriptor_behind() {
    // Alone in its process: descriptors of other tests would count.
    if std::env::var_os("BLKFAULT_TEST_ALONE").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_thousand_clients_leave_no_descriptor_behind"])
            .env("BLKFAULT_TEST_ALONE", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let monitor = TestMonitor::start();
    let mut watcher = monitor.client();
    let before = descriptors();
    for number in 0..1000 {
        match number % 4 {
            0 => drop(monitor.connect()),
            1 => drop(monitor.client()),
            2 => drop(UnixStream::connect(monitor.path()).unwrap().write_all(b"{'execute': ")),
            _ => drop(TcpStream::connect(("127.0.0.1", monitor.port())).unwrap().read(&mut [0])),
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while descriptors() > before && Instant::now() < deadline {
        watcher.ask("{'execute': 'query-block'}");
    }
    assert_eq!(descriptors(), before);
    drop(watcher);
    drop(monitor);
    let left = descriptors();
    assert!(left < before, "{left} of {before} are left after the end");
}

#[test]
fn the_end_lets_clients_read_what_was_said_and_removes_the_socket() {
    let mut monitor = TestMonitor::start();
    let mut clients = [monitor.client(), monitor.client()];
    clients[0].send("{'execute': 'large', 'arguments': {'bytes': 100000}}{'execute': 'quit'}");
    // Nobody reads until both commands are done.
    monitor.wait_for_begun(2);
    let mut reader = clients[1].stream.try_clone().unwrap();
    reader.read_exact(&mut [0]).unwrap();
    let path = monitor.path();
    assert!(path.exists());
    monitor.monitors.take().unwrap().stop();
    assert!(!path.exists());
    let [ref mut asker, _] = clients;
    assert!(asker.line().len() > 100_000);
    let event = asker.message();
    assert_eq!(
        (&event["event"], &event["data"]["reason"]),
        (&json!("SHUTDOWN"), &json!("host-qmp-quit"))
    );
    assert_eq!(asker.message(), json!({ "return": {} }));
    assert!(asker.is_closed());
}

#[test]
fn the_end_does_not_wait_for_a_command_that_never_ends_or_a_client_that_never_reads() {
    let mut monitor = TestMonitor::start();
    let mut client = monitor.client();
    client.send("{'execute': 'large', 'arguments': {'bytes': 10000000}}");
    monitor.client().send("{'execute': 'stick'}");
    monitor.wait_for_begun(2);
    monitor.monitors.take().unwrap().stop();
    assert!(!monitor.path().exists());
}

/// Why a monitor cannot be opened at these addresses.
fn refusal(addresses: &[Address]) -> MonitorError {
    let monitor = TestMonitor::start();
    let events = EventSink::new().unwrap();
    Monitors::start(Arc::clone(&monitor.executor) as _, addresses, events).unwrap_err()
}

#[test]
fn a_port_needs_a_token_and_one_that_other_hosts_reach_the_operators_word() {
    for address in
        ["tcp:127.0.0.1:0", "tcp:localhost:0", "tcp:[::1]:0", "tcp:127.0.0.1:0,remote=on"]
    {
        let error = refusal(&[address.parse().unwrap()]).to_string();
        assert!(error.contains("needs a token") && error.contains(",token-file=PATH"), "{error}");
        assert!(error.contains("openssl rand -hex 32") && error.contains("unix:PATH"), "{error}");
    }
    for address in ["tcp:0.0.0.0:0", "tcp:[::]:0"] {
        let error = refusal(&[address.parse().unwrap()]).to_string();
        assert!(error.contains("whoever reaches it commands the daemon"), "{error}");
        assert!(error.contains(",remote=on"), "{error}");
    }
    let error = refusal(&["tcp:0.0.0.0:0,remote=on".parse().unwrap()]).to_string();
    assert!(error.contains("needs a token") && error.contains(",token-file=PATH"), "{error}");
    let error = refusal(&["tcp:0.0.0.0:0,token-file=/no/such".parse().unwrap()]).to_string();
    assert!(error.contains(",remote=on"), "{error}");
    let error = refusal(&["tcp:0.0.0.0:0,remote=on,token-file=/no/such".parse().unwrap()]);
    assert!(error.to_string().contains("the token-file '/no/such' cannot be read"), "{error}");
}

#[test]
fn an_address_in_use_is_refused_and_none_of_the_others_opened() {
    let monitor = TestMonitor::start();
    let free = monitor.folder.path().join("free");
    let token = monitor.folder.path().join("token");
    let port: Address = format!("tcp:127.0.0.1:{}", monitor.port()).parse().unwrap();
    let port = port.with_token_file(&token).unwrap();
    for (taken, why) in [
        (Address::Unix(monitor.path()), "is in use by a running daemon"),
        (port, "Address already in use"),
    ] {
        let error = refusal(&[Address::Unix(free.clone()), taken]).to_string();
        assert!(error.contains(why), "{error}");
        assert!(!free.exists());
    }
    assert!(monitor.client().ask("{'execute': 'query-block'}")["return"].is_array());
}
