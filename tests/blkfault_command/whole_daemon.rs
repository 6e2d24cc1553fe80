//! The verbs about faults against a whole daemon: what can be said over the monitor can be said here.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::scene::Ran;
use crate::support::daemon::Daemon;
use crate::support::front::{Front, Queue, Status, feature};

/// A daemon with one disk, and a guest with one queue.
pub(crate) struct Whole {
    guest: Queue,
    _front: Front,
    daemon: Daemon,
    folder: tempfile::TempDir,
}

impl Whole {
    /// With a disk in memory.
    pub(crate) fn new() -> Self {
        Self::with(tempfile::tempdir().unwrap(), &["--memory", "1M"])
    }

    /// With a disk over a file of this name.
    pub(crate) fn of_file(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join(name);
        File::create(&image).unwrap().set_len(1 << 20).unwrap();
        Self::with(folder, &["--blk-file", image.to_str().unwrap()])
    }

    fn with(folder: tempfile::TempDir, options: &[&str]) -> Self {
        let daemon = Daemon::start(folder.path(), options);
        let mut front = Front::connect(&daemon.socket("disk0"));
        front.negotiate(feature::ALL);
        let guest = front.start_queues(1, 64).remove(0);
        Self { guest, _front: front, daemon, folder }
    }

    /// What a verb prints; `DIR` stands for the folder.
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.run_words(&line.split_whitespace().collect::<Vec<_>>())
    }

    pub(crate) fn run_words(&self, words: &[&str]) -> Ran {
        let folder = self.folder.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_blkfault"));
        let word = |word: &&str| word.replace("DIR", folder.to_str().unwrap());
        command.args(words.iter().map(word)).current_dir(folder);
        Ran::from(command.env("BLKFAULT_MONITOR", self.daemon.monitor()).output().unwrap())
    }

    /// What a verb tells programs.
    pub(crate) fn json(&self, line: &str) -> Value {
        self.run(&format!("{line} --json")).json()
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.path().join(file), text).unwrap();
    }

    /// A socket in the folder.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What becomes of so many reads of the seventh sector.
    fn reads(&mut self, count: usize) -> Vec<Status> {
        (0..count).map(|_| self.guest.read(7, 512).status).collect()
    }
}

#[test]
fn a_rule_may_wait_for_every_distribution() {
    let whole = Whole::new();
    let delays = [
        ("20ms", json!(20_000_000)),
        ("fixed:delay=1us", json!(1000)),
        (
            "uniform:min=1us,max=2us",
            json!({"distribution": "uniform", "min-ns": 1000, "max-ns": 2000}),
        ),
        ("exponential:mean=1us", json!({"distribution": "exponential", "mean-ns": 1000})),
        (
            "lognormal:median=1us,sigma=1.2",
            json!({"distribution": "lognormal", "median-ns": 1000, "sigma": 1.2}),
        ),
        (
            "pareto:min=1us,alpha=1.5",
            json!({"distribution": "pareto", "min-ns": 1000, "alpha": 1.5}),
        ),
        (
            "quantiles:0=1us,0.5=2us,1=3us",
            json!({"distribution": "quantiles", "quantiles": [
                {"share": 0.0, "delay-ns": 1000}, {"share": 0.5, "delay-ns": 2000},
                {"share": 1.0, "delay-ns": 3000}]}),
        ),
    ];
    for (number, (written, expected)) in delays.iter().enumerate() {
        whole.run(&format!("rule add disk0 --delay {written}")).done();
        let name = format!("rule{}", number + 1);
        let told = whole.json(&format!("rule list disk0 {name}"));
        assert_eq!(
            told["rules"].as_array().unwrap().len(),
            1,
            "only the one that is meant: {told}"
        );
        assert_eq!(told["rules"][0]["rule"]["delay"], *expected, "{written}");
    }
    // Ranges are the daemon's to refuse, in its words.
    let beyond = whole.run("rule add disk0 --delay lognormal:median=1us,sigma=11");
    beyond.failed(1, "sigma");
    let unknown = whole.run("rule add disk0 --delay normal:mean=1us");
    unknown
        .failed(2, "uniform:min=1ms,max=5ms exponential:mean=2ms lognormal:median=2ms,sigma=1.2");
}

#[test]
fn a_slow_disk_may_have_every_shape_rate_and_place() {
    let whole = Whole::new();
    let second = 1_000_000_000_u64;
    let shapes = [
        // What is the default is not told.
        ("permanent", Value::Null),
        (
            "transient:start=1s,duration=2s",
            json!({"shape": "transient", "start-ns": second, "duration-ns": 2 * second}),
        ),
        (
            "stalls:period=3s,stall=1s",
            json!({"shape": "stalls", "period-ns": 3 * second, "stall-ns": second}),
        ),
        (
            "ramp:from=1,to=10,duration=1s",
            json!({"shape": "ramp", "from": 1.0, "to": 10.0, "duration-ns": second}),
        ),
        (
            "steps:1s=1,2s=5.5",
            json!({"shape": "steps", "steps": [
                {"duration-ns": second, "scale": 1.0}, {"duration-ns": 2 * second, "scale": 5.5}]}),
        ),
        (
            "spikes:share=0.5,delay=exponential:mean=1us",
            json!({"shape": "spikes", "spike-share": 0.5,
                   "spike-delay": {"distribution": "exponential", "mean-ns": 1000}}),
        ),
    ];
    for (written, expected) in shapes {
        whole.run(&format!("state disk0 slow --delay 1us --shape {written}")).done();
        let profile = &whole.json("state disk0")["profiles"][0];
        assert_eq!(profile["shape"], expected, "{written}");
    }
    let slow = "state disk0 slow --iotype read --sectors 7,16-31 --bytes-per-second 1M,burst=4M \
                --requests-per-second 100 --speed 0.5 --share 0.25";
    whole.run(slow).done();
    let expected = json!([{
        "iotype": ["read"], "sectors": [7, "16-31"], "share": 0.25,
        "bytes-per-second": {"per-second": 1 << 20, "burst": 4 << 20},
        "requests-per-second": {"per-second": 100, "burst": 10}, "speed": 0.5
    }]);
    assert_eq!(whole.json("state disk0")["profiles"], expected);
}

#[test]
fn profiles_are_read_from_a_file() {
    let whole = Whole::new();
    whole.write("slow.json", r#"[{"iotype": ["flush"], "delay": 5}, {"delay": 7}]"#);
    whole.write("object.json", r#"{"delay": 7}"#);
    whole.write("bad.json", r#"[{"delay": 7"#);
    whole.write("refused.json", r#"[{"share": 2, "delay": 7}]"#);
    whole.run("state disk0 slow --profiles slow.json").done();
    let info = whole.json("state disk0");
    assert_eq!(
        (&info["profiles"][0]["delay"], &info["profiles"][1]["delay"]),
        (&json!(5), &json!(7))
    );
    for (file, status, why) in [
        ("object.json", 2, "object.json: expected a list of profiles, such as [{"),
        ("bad.json", 2, "bad.json: EOF"),
        ("nowhere.json", 2, "nowhere.json: No such file"),
        ("refused.json", 1, "share"),
    ] {
        whole.run(&format!("state disk0 slow --profiles {file}")).failed(status, why);
    }
    for beside in ["--preset limplock", "--delay 1s", "--iotype read"] {
        let both = whole.run(&format!("state disk0 slow --profiles slow.json {beside}"));
        both.failed(2, "cannot be used with");
    }
    assert_eq!(whole.json("state disk0"), info, "what was refused changed nothing");
}

#[test]
fn a_sector_goes_bad_slowly_or_comes_back_at_the_third_try() {
    let (ok, bad) = (Status::Ok, Status::IoErr);
    let mut whole = Whole::new();
    whole.run("rule add disk0 --name dying --on read --sectors 7 --fail-after 2,uniform:min=1us,max=2us").done();
    assert_eq!(whole.reads(4), [ok, ok, bad, bad]);
    whole.run("rule rm disk0 dying").done();
    whole.run("rule add disk0 --name flaky --on read --sectors 7 --retries 2").done();
    assert_eq!(whole.reads(4), [bad, bad, ok, bad]);
    whole.run("rule rm disk0 flaky").done();
    whole.run("rule add disk0 --name bad --sectors 7 --media --errno EILSEQ").done();
    assert_eq!(whole.reads(2), [bad, bad]);
    let told = whole.json("rule list disk0 bad");
    assert_eq!(told["rules"][0]["media"]["bad"], 1, "{told}");
    let row = whole.run("rule list disk0 bad").done();
    assert!(row.contains("effect=media errno=EILSEQ (1 bad, 0 healed)"), "{row}");
}

#[test]
fn the_engine_s_state_is_told_and_set() {
    let mut whole = Whole::new();
    assert_eq!(whole.run("engine-state disk0").done(), "1\n");
    whole.run("rule add disk0 --on read --state -2").done();
    assert_eq!(whole.reads(1), [Status::Ok]);
    assert_eq!(whole.run("engine-state disk0 -2").done(), "");
    assert_eq!(whole.run("engine-state disk0").done(), "-2\n");
    assert_eq!(whole.reads(1), [Status::IoErr]);
    assert_eq!(whole.json("engine-state disk0 3"), json!({}));
    assert_eq!(whole.json("engine-state disk0")["engine-state"], 3);
    whole.run("engine-state disk0 4294967296").failed(1, "state");
    whole.run("engine-state disk0 two").failed(2, "invalid value 'two'");
    whole.run("engine-state dsik0").failed(1, "did you mean 'disk0'?");
}

#[test]
fn several_changes_are_made_at_once_or_none() {
    let mut whole = Whole::new();
    whole.run("rule add disk0 --name old --on write").done();
    whole.write(
        "changes.json",
        r#"[{"type": "rule-remove", "name": "old"},
            {"type": "rule-add", "rule": {"iotype": ["read"], "state": 2, "effect": "error"}},
            {"type": "engine-state", "state": 2}]"#,
    );
    assert_eq!(whole.run("transaction disk0 changes.json").done(), "rule2\n");
    assert_eq!(whole.reads(1), [Status::IoErr]);
    whole.run("transaction disk0 changes.json").failed(1, "'old' not found");
    assert_eq!(whole.json("rule list disk0")["rules"].as_array().unwrap().len(), 1);
    whole.write("object.json", "{}");
    whole.run("transaction disk0 object.json").failed(2, "expected a list of changes");
}

#[test]
fn all_about_a_disk_is_shown() {
    let mut whole = Whole::new();
    assert_eq!(whole.run("on-error disk0").done(), "report\n");
    whole.run("on-error disk0 hold").done();
    whole.run("state disk0 error --errno ENOSPC --iotype read").done();
    assert_eq!(whole.reads(1), [Status::IoErr]);
    let shown = whole.run("show disk0").done();
    for (what, is) in [
        ("WHAT", "IS"),
        ("state", "error"),
        ("errno-name", "ENOSPC"),
        ("engine-state", "1"),
        ("on-error", "hold"),
        ("requests failed", "1"),
    ] {
        let told = |line: &str| {
            let told = line.strip_prefix(what).map(str::trim);
            told == Some(is)
        };
        assert!(shown.lines().any(told), "{what} {is}: {shown}");
    }
    let since = shown.lines().find_map(|line| line.strip_prefix("since")).unwrap();
    assert!(since.trim().starts_with("20") && since.ends_with('Z'), "{shown}");
    assert_eq!(whole.json("show disk0"), whole.json("state disk0"));
    assert_eq!(whole.json("on-error disk0")["on-error"], "hold");
}

/// The lines of a text that are commands, as a shell would see them.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let line = |line: &str| {
        let line = line.split('#').next().unwrap().split(" && ").next().unwrap().trim();
        line.strip_prefix("blkfault ").map(str::to_owned)
    };
    joined.lines().filter_map(line).collect()
}

/// What people copy has to work.
#[test]
fn the_rules_and_states_of_the_manual_and_of_the_help_are_accepted() {
    let whole = Whole::new();
    whole.write("profiles.json", r#"[{"delay": 7}]"#);
    let mut lines = commands(include_str!("../../src/manual/fault_model.md"));
    lines.extend(commands(include_str!("../../README.md")));
    for verb in ["rule add", "state", "engine-state"] {
        let help = whole.run(&format!("{verb} --help")).done();
        let (_, examples) = help.split_once("\nExamples:\n").unwrap();
        lines.extend(commands(examples).iter().map(|line| {
            // What an example does stands behind it.
            line.split("   ").next().unwrap().to_owned()
        }));
    }
    let (mut rules, mut others) = (0, 0);
    for line in lines {
        if line.starts_with("rule add ") {
            let name = whole.run(&line).done();
            whole.run(&format!("rule rm disk0 {name}")).done();
            rules += 1;
        } else if ["state ", "engine-state ", "on-error "].iter().any(|verb| line.starts_with(verb))
        {
            whole.run(&line).done();
            others += 1;
        }
    }
    assert!(rules >= 20 && others >= 15, "only {rules} rules and {others} others were found");
}
