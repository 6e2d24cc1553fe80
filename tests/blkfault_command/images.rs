//! The verbs about nodes and disks against a whole daemon.

use std::path::Path;

use blkfault::qapi::types::Command;
use serde_json::{Value, json};

use crate::support::front::{Front, Status, feature};
use crate::whole_daemon::Whole;

/// What is told of a node.
fn node(whole: &Whole, name: &str) -> Value {
    let nodes = whole.json("node list");
    let mut nodes = nodes.as_array().unwrap().iter();
    nodes.find(|node| node["node-name"] == name).unwrap_or(&Value::Null).clone()
}

#[test]
fn nodes_and_disks_come_and_go() {
    let whole = Whole::new();
    whole.run("node add mem --memory 64K").done();
    whole.run("node add twin --over mem").done();
    let listed = whole.run("node list").done();
    assert!(listed.contains("\nmem    memory  64 KiB  rw    -      memory\n"), "{listed}");
    assert_eq!(node(&whole, "twin")["drv"], "raw");
    let add = "export add second --node twin --socket-path DIR/second.sock --writable --num-queues 2 \
               --seed 7 --on-error hold --held-on-stop keep --poll 0 --serial S1 --block-size 4096";
    whole.run(add).done();
    let info = whole.json("show second");
    assert_eq!((&info["seed"], &info["on-error"]), (&json!(7), &json!("hold")));
    whole.run("node rm twin").failed(1, "in use");
    let socket = whole.socket("second.sock");
    let mut front = Front::connect(&socket);
    front.negotiate(feature::ALL);
    let mut guest = front.start_queues(1, 64).remove(0);
    assert_eq!(guest.write(8, &[3; 4096]).status, Status::Ok);
    let stats = whole.json("stats twin --nodes");
    assert_eq!(stats[0]["stats"]["wr_operations"], 1, "{stats}");
    assert!(whole.run("stats --nodes").done().starts_with("NODE"), "nodes, not disks");
    whole.run("export rm second").failed(1, "second");
    whole.run("export rm second --hard").done();
    assert!(!whole.run("list").done().contains("second"), "it is gone when the verb is done");
    for name in ["twin", "mem"] {
        whole.run(&format!("node rm {name}")).done();
        assert_eq!(node(&whole, name), Value::Null);
    }
    whole.run("export rm second").failed(1, "second");
}

#[test]
fn what_a_node_or_a_disk_cannot_be_is_refused() {
    let whole = Whole::new();
    for (line, status, why) in [
        ("node add n", 2, "--file <PATH>|--host-device <PATH>|--memory <SIZE>"),
        ("node add n --memory 1M --file x", 2, "cannot be used with"),
        ("node add n --memory 1M --direct=maybe", 2, "accepted are on and off"),
        ("node add n --memory 1M --discard umnap", 2, "a similar value exists: 'unmap'"),
        ("node add n --file /nowhere", 1, "/nowhere"),
        ("node ad n", 2, "'add'"),
        ("export add d --node n", 2, "--socket-path <PATH>|--fd <N>"),
        ("export add d --node n --socket-path s", 1, "n"),
        ("export add d --node disk0 --socket-path s --poll 101", 1, "poll"),
        ("export add d --node disk0 --socket-path s --held-on-stop kep", 2, "'keep'"),
        ("export rm dsik0", 1, "dsik0"),
        ("reopn disk0", 2, "'reopen'"),
        ("reopen dsik0", 1, "did you mean 'disk0'?"),
    ] {
        whole.run(line).failed(status, why);
    }
    assert_eq!(whole.json("node list").as_array().unwrap().len(), 1, "nothing came of it");
}

#[test]
fn a_node_may_have_the_rules_and_limits_of_blkdebug() {
    let whole = Whole::new();
    whole.write("errors.conf", "[inject-error]\nevent = \"read_aio\"\niotype = \"read\"\n");
    whole.run("node add below --memory 1M").done();
    let add = "node add bad --blkdebug below --config DIR/errors.conf --align 4K --max-transfer 64K \
               --opt-write-zero 4K --max-write-zero 1M --opt-discard 4K --max-discard 1M";
    whole.run(add).done();
    assert_eq!(node(&whole, "bad")["drv"], "blkdebug");
    whole.run("export add second --node bad --socket-path DIR/second.sock --writable").done();
    let mut front = Front::connect(&whole.socket("second.sock"));
    front.negotiate(feature::ALL);
    let mut guest = front.start_queues(1, 64).remove(0);
    assert_eq!(guest.read(8, 4096).status, Status::IoErr, "by the rule of the file");
    assert_eq!(guest.write(8, &[3; 4096]).status, Status::Ok);
    whole.run("node add worse --blkdebug below --align 3").failed(1, "align");
    whole.run("node add worse --memory 1M --align 4K").failed(2, "cannot be used with");
    whole.run("node add worse --align 4K").failed(2, "--blkdebug <NODE>");
}

#[test]
fn an_image_is_opened_again_as_it_was_but_for_what_is_said() {
    let whole = Whole::of_file("disk.img");
    let before = node(&whole, "disk0");
    whole.run("reopen disk0").done();
    assert_eq!(node(&whole, "disk0"), before);
    whole.run("reopen disk0 --no-flush --aio threads --discard ignore").done();
    assert_eq!(node(&whole, "disk0")["cache"]["no-flush"], true);
    whole.run("reopen disk0").done();
    assert_eq!(node(&whole, "disk0")["cache"]["no-flush"], true, "it stays");
    whole.run("reopen disk0 --no-flush=off").done();
    assert_eq!(node(&whole, "disk0"), before);
    whole.run("reopen disk0 --read-only").failed(1, "cannot become read-only");
    whole.run("reopen disk0 --host-device").failed(1, "disk.img");
    assert_eq!(node(&whole, "disk0"), before);
    // A node of its own, by its name.
    whole.write("other.img", &"x".repeat(4096));
    whole.run("node add other --file DIR/other.img --read-only").done();
    whole.run("reopen other --read-only=off").done();
    assert_eq!(node(&whole, "other")["ro"], false);
    assert_eq!(whole.json("reopen other"), json!({}));
    whole.run("resize --node other 8K").done();
    assert_eq!(node(&whole, "other")["image"]["virtual-size"], 8192);
}

#[test]
fn lines_for_qemu_are_run_and_the_daemon_tells_its_version() {
    let whole = Whole::new();
    let hmp = |line: &str| whole.run_words(&["hmp", line]);
    assert_eq!(hmp("qemu-io disk0 \"break write_aio A\"").done(), "");
    let told = whole.json("rule list disk0");
    assert_eq!(told["breakpoints"], json!([{"event": "write_aio", "tag": "A"}]));
    assert_eq!(hmp("qemu-io disk0 \"remove_break A\"").done(), "");
    // QMP calls none of these an error; a script wants to know.
    for (line, said) in [
        ("qemu-io nowhere \"resume A\"", "Error: Cannot find device='' nor node-name='nowhere'"),
        ("qemu-io disk0 \"resume A\"", "Could not resume request: No such file or directory"),
        ("qemu-io disk0 \"break nothing A\"", "Could not set a breakpoint: No such file"),
        ("qemu-io disk0 \"remove_break A\"", "Could not remove a breakpoint A"),
        ("qemu-io disk0 \"resume\"", "bad argument count 0 to resume"),
        ("qemu-io disk0 \"read 0 512\"", "command \"read\" not found"),
        ("qemu-io disk0 \"resume A", "unterminated string"),
        ("qemu-io", "qemu-io: block device name expected"),
        ("info block", "unknown command: 'info'"),
    ] {
        let refused = hmp(line);
        assert!(refused.out.starts_with(said), "{line}: {refused:?}");
        assert_eq!((refused.status, refused.err.as_str()), (1, ""), "{line}");
    }
    assert_eq!(
        whole.run("daemon-version").done(),
        format!("blkfaultd {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(whole.json("daemon-version")["qemu"]["minor"], 1);
}

/// What the monitor can be told, the command can tell it, but for what is in another verb.
#[test]
fn every_command_of_the_schema_has_a_verb() {
    // By `qmp`, for programs that ask what there is; the last two within a transaction.
    let elsewhere =
        ["query-commands", "query-qmp-schema", "block-fault-rule-remove", "block-fault-rule-set"];
    let mut sources = String::new();
    let folders = ["src/client", "src/client/faults", "src/client/images"];
    for folder in folders.map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let unsaid = |name: &&&str| !sources.contains(&format!("\"{name}\""));
    let mut unsaid: Vec<_> = Command::NAMES.iter().filter(unsaid).copied().collect();
    unsaid.sort_unstable();
    let mut elsewhere = elsewhere.to_vec();
    elsewhere.sort_unstable();
    assert_eq!(unsaid, elsewhere);
}
