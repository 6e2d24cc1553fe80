//! The end, wished for by several at once and at bad moments (C-10).

use std::io::Write;

use serde_json::json;

use crate::clients::Client;
use crate::support::front::{Front, Queue, SECTOR, feature, kind};
use crate::{Rig, times};

fn guest(rig: &Rig) -> (Front, Queue) {
    let mut front = Front::with_memory(&rig.daemon.socket("disk0"), &[(0, 4 << 20)]);
    front.negotiate(feature::ALL);
    let mut queue = front.start_queues(1, 64).remove(0);
    queue.prepare_slots(16, SECTOR as u64);
    (front, queue)
}

/// How the disk is when the end comes.
const STATES: [&str; 4] = ["none", "hang", "error", "slow"];

#[test]
fn the_end_comes_once_whoever_wishes_for_it_and_whatever_is_on_its_way() {
    for round in 0..times(4, 100) {
        let mut rig = Rig::new();
        let (front, mut queue) = guest(&rig);
        let state = STATES[round as usize % STATES.len()];
        let mut arguments = json!({ "id": "disk0", "state": state });
        if state == "slow" {
            arguments["preset"] = json!("limplock");
        }
        rig.operator().must("set-block-fault-state", arguments);
        (0..16).for_each(|slot| queue.start(slot, kind::IN, 0, SECTOR as u32));
        queue.kick();
        let mut clients = [Client::new(&rig), Client::new(&rig), Client::oob(&rig)];
        for client in &mut clients {
            // The end may have come already.
            let twice = b"{'execute': 'quit', 'id': 1}{'execute': 'quit', 'id': 2}";
            let _ = client.stream.write_all(twice);
        }
        let mut answered = 0;
        for client in &mut clients {
            while let Some(line) = client.line() {
                answered += u32::from(line.contains("\"return\""));
            }
        }
        assert!(answered > 0, "{state}: somebody hears that it ends");
        assert!(rig.daemon.wait().success(), "{state}: {}", rig.daemon.log());
        assert!(!rig.daemon.monitor().exists() && !rig.daemon.socket("disk0").exists(), "{state}");
        drop((front, queue));
    }
}
