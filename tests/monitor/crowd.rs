//! Many clients at once: none keeps the monitor from the others.

use std::io::Write;
use std::time::Instant;

use crate::support::{PATIENCE, TestMonitor};

#[test]
fn a_client_that_never_reads_is_stalled_and_hinders_nobody() {
    let monitor = TestMonitor::start();
    let mut lazy = monitor.client();
    let mut other = monitor.client();
    lazy.stream.set_nonblocking(true).unwrap();
    let command = b"{'execute': 'large', 'arguments': {'bytes': 500000}}".repeat(20);
    let mut sent = 0;
    // Twenty times what may wait for it; it can send until the socket is full.
    while let Ok(bytes) = lazy.stream.write(&command) {
        sent += bytes;
        if sent > 100 << 20 {
            panic!("the monitor reads what it cannot answer");
        }
    }
    for _ in 0..5 {
        other.send("{'execute': 'emit', 'arguments': {'count': 3000}, 'id': 'done'}");
        let mut events = 0;
        while other.message()["id"] != "done" {
            events += 1;
        }
        assert_eq!(events, 3000);
    }
    let begun = monitor.executor.begun.lock().unwrap();
    let large = begun.iter().filter(|name| *name == "large").count();
    assert!((1..20).contains(&large), "{large} answers of 500 kB wait for it");
    drop(begun);
    // Once it reads, it is served again, and has missed events.
    lazy.stream.set_nonblocking(false).unwrap();
    let (mut answers, mut events) = (0, 0);
    while answers < 20 {
        match lazy.message().get("return") {
            Some(_) => answers += 1,
            None => events += 1,
        }
    }
    assert!(events < 5 * 3000, "events waited for a client that does not read");
}

#[test]
fn a_flood_of_mistakes_leaves_the_others_their_turns() {
    for flood in ["]".repeat(1000), "1,".repeat(500), "{} ".repeat(1000)] {
        let monitor = TestMonitor::start();
        let [mut holding, mut flooding, mut other] = [(); 3].map(|()| monitor.oob_client());
        holding.send("{'exec-oob': 'hold'}");
        monitor.wait_for_begun(1);
        // The flood is there before the other's command.
        flooding.send(&flood);
        other.send("{'exec-oob': 'hold', 'id': 'other'}");
        monitor.executor.release();
        monitor.wait_for_begun(2);
        let before = flooding.lines_at_hand();
        assert!(before < 1000, "the other's command begins after the whole flood was answered");
        monitor.executor.release();
        assert_eq!(other.message()["id"], "other");
        for _ in before..1000 {
            assert!(flooding.message().get("error").is_some());
        }
    }
}

#[test]
fn too_many_clients_are_told_so_and_the_others_served() {
    let monitor = TestMonitor::start();
    let mut clients: Vec<_> = (0..64).map(|_| monitor.client()).collect();
    let mut refused = monitor.connect();
    assert!(refused.line().contains("Too many clients"));
    assert!(refused.is_closed());
    assert!(clients[63].ask("{'execute': 'query-block'}")["return"].is_array());
    clients.pop();
    let deadline = Instant::now() + PATIENCE;
    while !monitor.connect().line().starts_with("{\"QMP\"") {
        assert!(Instant::now() < deadline, "no room is made");
    }
}
