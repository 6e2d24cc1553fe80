//! The verbs of `blkfault` about faults, against a whole daemon.

use std::process::Command;

use super::support::front::{Status, kind};
use super::{Scene, Value, json};

/// What a verb printed, and its exit status.
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn done(self) -> String {
        assert_eq!((self.status, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }
}

fn run(scene: &Scene, line: &str) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_blkfault"))
        .args(line.split_whitespace())
        .env("BLKFAULT_MONITOR", scene.daemon.monitor())
        .current_dir(scene.folder.path())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran {
        status: output.status.code().unwrap(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

#[test]
fn the_rule_of_the_manual_s_first_page_works() {
    let mut scene = Scene::new();
    let add = "rule add disk0 --on write --sectors 2040-2047 --errno EIO --heal-on-write";
    assert_eq!(run(&scene, add).done(), "rule1\n");
    assert_eq!(scene.guest.write(2040, &[1; 512]).status, Status::IoErr);
    let listed = run(&scene, "rule list disk0").done();
    let row = listed.lines().nth(1).unwrap();
    assert!(row.starts_with("rule1  yes  1"), "{listed}");
    let does = "iotype=[\"write\"] sectors=[\"2040-2047\"] effect=media errno=EIO heal=on-write \
                (7 bad, 1 healed)";
    assert!(row.ends_with(does), "{listed}");
    assert_eq!(scene.guest.write(2040, &[1; 512]).status, Status::Ok, "rewriting healed it");
    assert_eq!(scene.guest.write(2041, &[1; 512]).status, Status::IoErr, "its neighbour is bad");
    assert_eq!(run(&scene, "rule disable disk0 rule1").done(), "");
    assert_eq!(scene.guest.write(2042, &[1; 512]).status, Status::Ok);
    assert_eq!(run(&scene, "rule enable disk0 rule1").done(), "");
    assert_eq!(run(&scene, "rule reset disk0 rule1").done(), "");
    assert_eq!(scene.guest.write(2040, &[1; 512]).status, Status::IoErr);
    assert_eq!(run(&scene, "rule rm disk0 rule1").done(), "");
    assert_eq!(scene.guest.write(2040, &[1; 512]).status, Status::Ok);
}

#[test]
fn rule_files_are_loaded_whole_or_not_at_all() {
    let mut scene = Scene::new();
    let write =
        |name: &str, text: &str| std::fs::write(scene.folder.path().join(name), text).unwrap();
    write(
        "good.json",
        r#"[{"name": "a", "sectors": [1], "effect": "error"}, {"effect": "delay", "delay": 1}]"#,
    );
    write("bad.json", r#"[{"effect": "error"}, {"effect": "error", "every": 0}]"#);
    write("object.json", r#"{"effect": "error"}"#);
    write(
        "errors.conf",
        "[inject-error]\nevent = \"write_aio\"\niotype = \"write\"\nonce = \"on\"\n",
    );
    write("wrong.conf", "[inject-error]\nevnt = \"write_aio\"\n");
    assert_eq!(run(&scene, "rule load disk0 good.json").done(), "a\nrule2\n");
    let bad = run(&scene, "rule load disk0 bad.json");
    assert_eq!(bad.status, 1);
    assert!(bad.err.contains("actions[1]: Parameter 'every' expects 1 or more"), "{}", bad.err);
    let object = run(&scene, "rule load disk0 object.json");
    assert_eq!(object.status, 2);
    assert!(object.err.contains("object.json: expected a list of rules"), "{}", object.err);
    assert_eq!(run(&scene, "rule load disk0 --blkdebug errors.conf").done(), "");
    let wrong = run(&scene, "rule load disk0 --blkdebug wrong.conf");
    assert_eq!(wrong.status, 2);
    assert!(wrong.err.contains("wrong.conf: Invalid parameter 'evnt'"), "{}", wrong.err);
    let told: Value = serde_json::from_str(&run(&scene, "--json rule list disk0").done()).unwrap();
    assert_eq!(told["rules"].as_array().unwrap().len(), 2);
    assert_eq!(told["inject-error"][0]["rule"]["iotype"], "write");
    let statuses = [0; 2].map(|_| scene.guest.write(0, &[1; 512]).status);
    assert_eq!(statuses, [Status::IoErr, Status::Ok]);
}

#[test]
fn requests_are_stopped_listed_and_resumed() {
    let mut scene = Scene::new();
    assert_eq!(run(&scene, "break disk0 A --at after-image --on write").done(), "");
    let late = run(&scene, "wait --tag A --disk disk0 --timeout 0.1");
    assert_eq!((late.status, late.out.as_str()), (4, ""), "{}", late.err);
    scene.guest.start(0, kind::OUT, 8, 512);
    scene.guest.kick();
    let held = run(&scene, "wait --tag A --disk disk0 --timeout 60").done();
    let columns: Vec<&str> = held.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(columns[..7], ["0", "0", "write", "8", "512", "A", "A"]);
    let listed: Value = serde_json::from_str(&run(&scene, "held disk0 --json").done()).unwrap();
    assert_eq!((&listed[0]["point"], &listed[0]["bytes"]), (&json!("after-image"), &json!(512)));
    assert_eq!(run(&scene, "resume disk0 A --fail=ENOSPC").done(), "1\n");
    assert_eq!(scene.guest.finish().status, Status::IoErr);
    let nobody = run(&scene, "resume disk0 --held-by all");
    assert_eq!((nobody.status, nobody.out.as_str()), (0, "0\n"));
    assert_eq!(nobody.err, "blkfault: nothing was waiting there\n");
    assert_eq!(run(&scene, "break disk0 A --remove").done(), "");
}

#[test]
fn every_state_has_its_options() {
    let mut scene = Scene::new();
    let told = |scene: &mut Scene| scene.must("query-block-fault", json!({}));
    run(&scene, "state disk0 slow --preset limplock").done();
    assert_eq!(told(&mut scene)["preset"], "limplock");
    run(&scene, "state disk0 slow --delay 20ms --share 0.5 --iotype read").done();
    let profile = json!({"iotype": ["read"], "share": 0.5, "delay": 20_000_000});
    assert_eq!(told(&mut scene)["profiles"], json!([profile]));
    run(&scene, "state disk0 hang --on-release fail --errno ETIMEDOUT --iotype flush").done();
    assert_eq!(told(&mut scene)["errno-name"], "ETIMEDOUT");
    run(&scene, "state disk0 read-only").done();
    assert_eq!(scene.guest.write(0, &[1; 512]).status, Status::IoErr);
    run(&scene, "on-error disk0 hold-on-enospc").done();
    assert_eq!(told(&mut scene)["on-error"], "hold-on-enospc");
    run(&scene, "state disk0 offline").done();
    assert_eq!(run(&scene, "state disk0").done(), "offline\n");
}

#[test]
fn a_mistyped_word_gets_the_nearest_right_one() {
    let scene = Scene::new();
    run(&scene, "rule add disk0 --name slow-flush --delay 1s --on flush").done();
    let cases = [
        ("state dsik0 error", 1, "did you mean 'disk0'?"),
        ("rule rm disk0 slow-flsh", 1, "did you mean 'slow-flush'?"),
        ("rule add disk0 --before slowflush", 1, "did you mean 'slow-flush'?"),
        ("state disk0 hnag", 2, "a similar value exists: 'hang'"),
        ("state disk0 slow --preset limplok", 2, "a similar value exists: 'limplock'"),
        ("rule add disk0 --on wirte", 2, "a similar value exists: 'write'"),
        ("rule add disk0 --errno EI0", 2, "did you mean EIO?"),
        ("rule ad disk0", 2, "'add'"),
        ("resmue disk0 A", 2, "'resume'"),
    ];
    for (line, status, expected) in cases {
        let ran = run(&scene, line);
        assert_eq!(ran.status, status, "{line}: {}", ran.err);
        assert!(ran.err.contains(expected), "{line}: {}", ran.err);
    }
    let ran = run(&scene, "rule rm disk0 zzz");
    assert!(!ran.err.contains("did you mean"), "{}", ran.err);
}

#[test]
fn a_file_of_ten_thousand_rules_is_loaded_whole_or_not_at_all() {
    let scene = Scene::new();
    let rule = |number: usize| {
        let sector = 8 * (number % 1000);
        json!({ "name": format!("r{number}"), "effect": "error",
                "sectors": [ format!("{sector}-{}", sector + 7) ] })
    };
    let mut rules: Vec<Value> = (0..10_000).map(rule).collect();
    let write = |rules: &[Value]| {
        std::fs::write(scene.folder.path().join("many.json"), json!(rules).to_string()).unwrap();
    };
    rules[9_000]["name"] = json!("r5");
    write(&rules);
    let refused = run(&scene, "rule load disk0 many.json");
    assert_eq!(refused.status, 1, "{}", refused.out);
    assert!(refused.err.contains("'r5' exists already"), "{}", refused.err);
    assert!(!run(&scene, "rule list disk0").done().contains("r0"), "none of them is left");
    rules[9_000] = rule(9_000);
    write(&rules);
    let names = run(&scene, "rule load disk0 many.json").done();
    assert_eq!((names.lines().count(), names.lines().last()), (10_000, Some("r9999")));
    let listed = run(&scene, "rule list disk0").done();
    assert_eq!(listed.lines().count(), 10_001, "and a line of headings");
}
