//! What many clients do at once, and one that is many.

use std::net::Shutdown;

use serde_json::json;

use crate::clients::Client;
use crate::{Rig, times};

/// Clients that there is room for, besides those who look on.
const CROWD: usize = 56;

fn crowd(rig: &Rig, how: fn(&Rig) -> Client) -> Vec<Client> {
    (0..CROWD).map(|_| how(rig)).collect()
}

pub(crate) fn slow(rig: &Rig) {
    let mut slow = crowd(rig, Client::new);
    let command = b"{'execute': 'query-block-fault-state', 'arguments': {'id': 'disk0'}}";
    for byte in command {
        slow.iter_mut().for_each(|client| client.send([*byte]));
    }
    let mut operator = Client::new(rig);
    let mut refused = 0;
    let mut idle = Vec::new();
    for _ in 0..times(300, 10_000) {
        let mut client = Client::silent(rig);
        let line = client.line().unwrap_or_default();
        refused += u32::from(line.contains("Too many clients"));
        if line.starts_with("{\"QMP\"") {
            idle.push(client);
        }
    }
    assert!(refused > times(300, 10_000) / 2, "{refused} were refused");
    assert!(operator.ask("{'execute': 'query-block'}")["return"].is_array());
    for client in &mut slow {
        assert!(client.answer()["return"].is_string());
    }
}

/// None of them reads, while much is told and much was asked for.
pub(crate) fn deaf(rig: &Rig) {
    let mut deaf = crowd(rig, Client::new);
    let asked = b"{'execute': 'query-qmp-schema'}".repeat(20);
    deaf.iter_mut().for_each(|client| client.send(&asked));
    let mut operator = rig.operator();
    for _ in 0..times(60, 2_000) {
        for state in ["error", "none"] {
            operator.must("set-block-fault-state", json!({ "id": "disk0", "state": state }));
        }
    }
    // Who reads again is served again.
    let mut client = deaf.swap_remove(0);
    (0..20).for_each(|_| assert!(client.answer()["return"].is_array()));
}

pub(crate) fn deaf_and_hasty(rig: &Rig) {
    let mut deaf = crowd(rig, Client::oob);
    let id = "x".repeat(60 << 10);
    let command = format!(
        "{{'exec-oob': 'query-block-fault-state', 'arguments': {{'id': 'disk0'}}, 'id': '{id}'}}"
    );
    let heap = command.repeat(40);
    let mut taken = 0;
    for client in &mut deaf {
        taken += client.send_what_is_taken(heap.as_bytes());
    }
    assert!(taken > heap.len(), "the story happened: {taken} bytes");
}

/// Everybody sends half of what one may send and waits with the end.
pub(crate) fn greedy(rig: &Rig) {
    let mut greedy = crowd(rig, Client::oob);
    let begun =
        format!("{{'execute': 'query-block', 'arguments': {{'a': [{}1", "[1],".repeat(4000));
    let text = format!("{{'execute': 'query-block', 'arguments': {{'{}", "x".repeat(900 << 10));
    for (index, client) in greedy.iter_mut().enumerate() {
        client.send(if index % 2 == 0 { &begun } else { &text });
    }
    let mut operator = Client::new(rig);
    assert!(operator.ask("{'execute': 'query-block'}")["return"].is_array(), "short ones pass");
    let ends = |index: usize| if index.is_multiple_of(2) { "]}}" } else { "': 1}}" };
    let (mut room, mut none) = (0, 0);
    for (index, client) in greedy.iter_mut().enumerate() {
        client.send(ends(index));
        let answer = client.answer();
        let why = answer["error"]["desc"].as_str().unwrap().to_owned();
        none += u32::from(why.contains("send it again later"));
        room += u32::from(why.contains("is unexpected"));
    }
    assert!(room > 0 && none > 0, "{room} had room, {none} had none");
    greedy.truncate(1);
    greedy[0].errors_until_understood();
    // There is room again when the others are gone.
    while !greedy[0].ask(&format!("{text}': 1}}}}"))["error"]["desc"]
        .as_str()
        .unwrap()
        .contains("is unexpected")
    {
        greedy[0].errors_until_understood();
    }
}

pub(crate) fn heaps(rig: &Rig) {
    let commands = times(5_000, 100_000);
    let mut client = Client::oob(rig);
    let mut sender = client.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            use std::io::Write;
            for id in 0..commands {
                let command = format!("{{'execute': 'query-block-exports', 'id': {id}}}");
                sender.write_all(command.as_bytes()).unwrap();
            }
            sender.shutdown(Shutdown::Write).unwrap();
        });
        for id in 0..commands {
            assert_eq!(client.answer()["id"], id, "each once and in order, also after the end");
        }
    });
    assert_eq!(client.line(), None);
}

/// A command whose client has gone is done once or not at all.
pub(crate) fn hasty(rig: &Rig) {
    let rules = times(50, 1_000);
    for number in 0..rules {
        let mut client = Client::new(rig);
        let rule = format!("{{'name': 'hasty{number}', 'effect': 'error', 'sectors': ['4000']}}");
        client.send(format!(
            "{{'execute': 'block-fault-rule-add', 'arguments': {{'id': 'disk0', 'rule': {rule}}}}}"
        ));
    }
    let mut operator = rig.operator();
    let told = operator.must("query-block-fault-rules", json!({ "id": "disk0" }));
    let mut names: Vec<String> = told["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["name"].as_str().unwrap().to_owned())
        .collect();
    for name in &names {
        operator.must("block-fault-rule-remove", json!({ "id": "disk0", "name": name }));
    }
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "none twice");
    let told = operator.must("query-block-fault-rules", json!({ "id": "disk0" }));
    assert_eq!(told["rules"], json!([]), "and none later");
}

pub(crate) fn racing(rig: &Rig) {
    let rounds = times(200, 5_000);
    std::thread::scope(|scope| {
        for errno in ["EIO", "ENOSPC"] {
            let mut operator = rig.operator();
            scope.spawn(move || {
                for round in 0..rounds {
                    let state = if round % 3 == 2 { "none" } else { "error" };
                    let mut arguments = json!({ "id": "disk0", "state": state });
                    if state == "error" {
                        arguments["errno"] = json!(errno);
                    }
                    operator.must("set-block-fault-state", arguments);
                    let fault = operator.must("query-block-fault", json!({ "id": "disk0" }));
                    let seen = (&fault["state"], fault.get("errno-name"));
                    let whole = [
                        (&json!("none"), None),
                        (&json!("error"), Some(&json!("EIO"))),
                        (&json!("error"), Some(&json!("ENOSPC"))),
                    ];
                    assert!(whole.contains(&seen), "{fault}");
                }
            });
        }
    });
    let (mut one, mut two) = (rig.operator(), rig.operator());
    let disk = json!({ "id": "disk0" });
    let state = one.must("query-block-fault-state", disk.clone());
    assert_eq!(state, two.must("query-block-fault-state", disk));
    one.must("set-block-fault-state", json!({ "id": "disk0", "state": "none" }));
}
