//! The operator's command, as a shell sees it: what it prints, and its exit status.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use blkfault::monitor::{Address, CommandSpec, EventSink, Executor, Monitors, Reply};
use blkfault::qapi::{ErrorClass, QmpError};
use serde_json::{Map, Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon with one disk, as far as the command can tell.
struct Daemon {
    events: EventSink,
    state: Mutex<Map<String, Value>>,
    size_bytes: Mutex<u64>,
    kept: Mutex<Vec<Reply>>,
    quit: Mutex<bool>,
}

impl Daemon {
    fn run(&self, name: &str, arguments: &Map<String, Value>) -> Result<Value, QmpError> {
        let id = arguments.get("id").or(arguments.get("device"));
        if let Some(id) = id
            && id != "disk0"
        {
            let text = format!("Cannot find device={id} nor node-name=''");
            return Err(QmpError::new(ErrorClass::DeviceNotFound, text));
        }
        let mut state = self.state.lock().unwrap();
        Ok(match name {
            "set-block-fault-state" => {
                state.clone_from(arguments);
                json!({})
            }
            "query-block-fault-state" => state["state"].clone(),
            "query-block-fault" => {
                let mut info = state.clone();
                info.insert("counts".into(), json!({ "passed": 7, "failed": 3 }));
                info.into()
            }
            "query-block" => json!([{
                "device": "disk0", "type": "unknown", "removable": false, "locked": false,
                "inserted": {
                    "file": "/images/a b.img", "node-name": "node0", "ro": false, "drv": "file",
                    "image": { "virtual-size": *self.size_bytes.lock().unwrap() }
                }
            }]),
            "query-block-exports" => json!([
                { "id": "other", "type": "vhost-user-blk", "node-name": "x", "connected": false },
                { "id": "disk0", "type": "vhost-user-blk", "node-name": "node0", "connected": true }
            ]),
            "query-blockstats" => json!([{ "device": "disk0", "node-name": "node0", "stats": {
                "rd_operations": 3, "rd_bytes": 1536, "failed_rd_operations": 1,
                "invalid_rd_operations": 0, "rd_total_time_ns": 204_936,
                "wr_operations": 0, "wr_bytes": 0, "failed_wr_operations": 0,
                "invalid_wr_operations": 2, "wr_total_time_ns": 0,
                "wr_zeroes_operations": 5, "wr_zeroes_bytes": 4096, "account_failed": true
            } }]),
            "block_resize" => {
                *self.size_bytes.lock().unwrap() = arguments["size"].as_u64().unwrap();
                json!({})
            }
            "quit" => {
                *self.quit.lock().unwrap() = true;
                json!({})
            }
            other => panic!("{other}"),
        })
    }
}

impl Executor for Daemon {
    fn version(&self) -> Value {
        json!({ "qemu": { "micro": 0, "minor": 1, "major": 0 }, "package": "test" })
    }

    fn lookup(&self, name: &str) -> Option<CommandSpec> {
        let oob = ["set-block-fault-state", "query-block-fault-state"].contains(&name);
        let known = [
            "query-block-fault",
            "query-block",
            "query-block-exports",
            "query-blockstats",
            "block_resize",
            "quit",
            "hang",
        ];
        (oob || known.contains(&name)).then_some(CommandSpec { allow_oob: oob })
    }

    fn execute(&self, name: &str, arguments: Map<String, Value>, reply: Reply) {
        if name == "hang" {
            self.kept.lock().unwrap().push(reply);
        } else {
            reply.send(self.run(name, &arguments));
        }
    }
}

/// A running daemon, or the place where one will be.
struct Scene {
    daemon: Arc<Daemon>,
    monitors: Option<Monitors>,
    folder: tempfile::TempDir,
}

impl Scene {
    fn without_daemon() -> Self {
        let daemon = Daemon {
            events: EventSink::new().unwrap(),
            state: Mutex::new(
                json!({ "id": "disk0", "state": "none" }).as_object().unwrap().clone(),
            ),
            size_bytes: Mutex::new(20 << 30),
            kept: Mutex::default(),
            quit: Mutex::default(),
        };
        let folder = tempfile::tempdir().unwrap();
        Self { daemon: Arc::new(daemon), monitors: None, folder }
    }

    fn new() -> Self {
        let mut scene = Self::without_daemon();
        scene.start_daemon();
        scene
    }

    fn start_daemon(&mut self) {
        let addresses = [Address::Unix(self.path()), "tcp:127.0.0.1:0".parse().unwrap()];
        let (daemon, events) = (self.daemon.clone(), self.daemon.events.clone());
        self.monitors = Some(Monitors::start(daemon, &addresses, events).unwrap());
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("monitor")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blkfault"));
        command.args(arguments).env("BLKFAULT_MONITOR", self.path()).env("COLUMNS", "100");
        command
    }

    /// Run the command to its end.
    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    /// Start the command and return when it listens to events, which it shows by printing one.
    fn listen(&self, arguments: &[&str]) -> (Child, BufReader<impl Read + use<>>, String) {
        let mut child = self.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let done = Arc::new(Mutex::new(false));
        let (events, ringing) = (self.daemon.events.clone(), done.clone());
        let bell = std::thread::spawn(move || {
            while !*ringing.lock().unwrap() {
                events.emit("BELL", Some(json!({ "id": "disk0" })));
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        *done.lock().unwrap() = true;
        bell.join().unwrap();
        (child, lines, line)
    }
}

/// What a finished command left.
#[derive(Debug)]
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().expect("no signal"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    #[track_caller]
    fn done(self) -> String {
        assert_eq!((self.status, self.err.as_str()), (0, ""), "{self:?}");
        self.out
    }

    #[track_caller]
    fn failed(self, status: i32, why: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.err.contains(why), "{self:?}");
        assert!(self.err.starts_with("blkfault: ") || status == 2, "{self:?}");
    }

    #[track_caller]
    fn json(self) -> Value {
        let out = self.done();
        assert_eq!(out.lines().count(), 1, "{out}");
        serde_json::from_str(&out).unwrap()
    }
}

#[test]
fn the_state_is_set_silently_and_told_in_one_word() {
    let scene = Scene::new();
    assert_eq!(scene.run(&["state", "disk0"]).done(), "none\n");
    assert_eq!(scene.run(&["state", "disk0", "error"]).done(), "");
    assert_eq!(scene.run(&["state", "disk0"]).done(), "error\n");
    assert_eq!(scene.run(&["--json", "state", "disk0", "none"]).json(), json!({}));
    let info = scene.run(&["state", "disk0", "--json"]).json();
    assert_eq!(info["state"], "none");
    assert_eq!(info["counts"]["failed"], 3);
}

#[test]
fn the_options_of_a_state_reach_the_daemon() {
    let scene = Scene::new();
    let set = |options: &[&str]| {
        scene.run(&[&["state", "disk0", "error"], options].concat()).done();
        Value::Object(scene.daemon.state.lock().unwrap().clone())
    };
    let mut expected = json!({ "id": "disk0", "state": "error" });
    assert_eq!(set(&[]), expected);
    expected["errno"] = json!("ENOSPC");
    expected["iotype"] = json!(["write", "write-zeroes"]);
    assert_eq!(set(&["--errno", "enospc", "--iotype", "write,write-zeroes"]), expected);
    expected["errno"] = json!(4000);
    assert_eq!(set(&["--errno=4000", "--iotype=write", "--iotype=write-zeroes"]), expected);
}

#[test]
fn disks_are_listed_for_people_and_for_programs() {
    let scene = Scene::new();
    assert_eq!(
        scene.run(&["list"]).done(),
        "DISK   STATE  SIZE    MODE  GUEST      NODE   IMAGE\n\
         disk0  none   20 GiB  rw    connected  node0  /images/a b.img\n"
    );
    let expected = json!([{
        "disk": "disk0", "state": "none", "size": 20_u64 << 30, "read-only": false,
        "connected": true, "node-name": "node0", "driver": "file", "image": "/images/a b.img"
    }]);
    assert_eq!(scene.run(&["list", "--json"]).json(), expected);
}

#[test]
fn statistics_are_told_for_people_and_for_programs() {
    let scene = Scene::new();
    let table = "\
DISK   REQUESTS      DONE  FAILED  REFUSED  BYTES  AVERAGE
disk0  read          3     1       0        1536   51.2 µs
disk0  write         0     0       2        0      -
disk0  flush         -     -       -        -      -
disk0  discard       -     -       -        -      -
disk0  write-zeroes  5     -       -        4096   -
";
    assert_eq!(scene.run(&["stats"]).done(), table);
    assert_eq!(scene.run(&["stats", "disk0"]).done(), table);
    assert_eq!(scene.run(&["--json", "stats", "disk0"]).json()[0]["stats"]["rd_bytes"], 1536);
    scene.run(&["stats", "nope"]).failed(1, "there is no disk 'nope'");
}

#[test]
fn a_disk_is_resized_with_a_suffix() {
    let scene = Scene::new();
    assert_eq!(scene.run(&["resize", "disk0", "30G"]).done(), "");
    assert_eq!(*scene.daemon.size_bytes.lock().unwrap(), 30 << 30);
    assert_eq!(scene.run(&["--json", "resize", "disk0", "512"]).json(), json!({}));
    assert_eq!(*scene.daemon.size_bytes.lock().unwrap(), 512);
}

#[test]
fn events_are_told_as_they_happen_until_the_daemon_goes() {
    let mut scene = Scene::new();
    let filter = ["events", "--disk", "disk0", "--event", "BELL", "--event", "STATE"];
    let (mut people, mut lines, bell) = scene.listen(&filter);
    assert!(bell.ends_with("Z BELL id=disk0\n"), "{bell}");
    let (mut programs, mut json_lines, bell) = scene.listen(&["events", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&bell).unwrap()["event"], "BELL");
    for (name, id) in [("STATE", "disk1"), ("OTHER", "disk0"), ("STATE", "disk0")] {
        scene.daemon.events.emit(name, Some(json!({ "id": id, "state": "error" })));
    }
    scene.monitors.take().unwrap().stop();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let rest: Vec<_> = rest.lines().filter(|line| !line.contains("BELL")).collect();
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert!(rest[0].ends_with("Z STATE id=disk0 state=error"), "{rest:?}");
    let mut rest = String::new();
    json_lines.read_to_string(&mut rest).unwrap();
    let told = |line: &str| serde_json::from_str::<Value>(line).unwrap()["event"].clone();
    let told: Vec<_> = rest.lines().map(told).filter(|name| name != "BELL").collect();
    assert_eq!(told, ["STATE", "OTHER", "STATE"]);
    for child in [&mut people, &mut programs] {
        assert_eq!(child.wait().unwrap().code(), Some(3), "the daemon went away");
    }
}

#[test]
fn listening_for_a_time_is_done_when_the_time_is_over() {
    assert_eq!(Scene::new().run(&["events", "--timeout", "0.05"]).done(), "");
}

#[test]
fn waiting_for_an_event_ends_with_it_or_with_the_time() {
    let scene = Scene::new();
    let (mut child, _, line) = scene.listen(&["wait", "--event", "BELL", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["data"]["id"], "disk0");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let (mut child, _, line) = scene.listen(&["wait", "--event", "BELL", "--disk", "disk0"]);
    assert!(line.ends_with(" BELL id=disk0\n"), "{line}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let never = ["wait", "--event", "NEVER", "--timeout", "0.1"];
    scene.run(&never).failed(4, "timed out");
}

#[test]
fn waiting_for_the_daemon_ends_when_it_answers_or_with_the_time() {
    let mut scene = Scene::without_daemon();
    let wait = ["wait", "--ready", "--timeout", "0.2"];
    scene.run(&wait).failed(4, "timed out: no daemon at unix:");
    let patient = ["wait", "--ready", "--timeout", "20"];
    let mut child = scene.command(&patient).spawn().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    scene.start_daemon();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(scene.run(&wait).done(), "");
}

#[test]
fn a_raw_command_gives_the_reply_as_it_came() {
    let scene = Scene::new();
    let query = "{'execute': 'query-block-fault-state', 'arguments': {'id': 'disk0'}, 'id': 7}";
    assert_eq!(scene.run(&["qmp", query]).done(), "{\"return\": \"none\", \"id\": 7}\n");
    let oob = query.replace("execute", "exec-oob");
    assert_eq!(scene.run(&["--json", "qmp", &oob]).done(), "{\"return\": \"none\", \"id\": 7}\n");
    let refused = scene.run(&["qmp", "{'execute': 'nope'}"]);
    let reply = "{\"error\": {\"class\": \"CommandNotFound\", \
                 \"desc\": \"The command nope has not been found\"}}\n";
    assert_eq!((refused.status, refused.out.as_str(), refused.err.as_str()), (1, reply, ""));
}

#[test]
fn quit_ends_the_daemon() {
    let scene = Scene::new();
    assert_eq!(scene.run(&["quit"]).done(), "");
    assert!(*scene.daemon.quit.lock().unwrap());
    assert_eq!(scene.run(&["--json", "quit"]).json(), json!({}));
}

#[test]
fn what_the_daemon_refuses_is_told_with_status_1() {
    let scene = Scene::new();
    for arguments in [
        &["state", "nope"][..],
        &["state", "nope", "error"],
        &["state", "nope", "--json"],
        &["resize", "nope", "1G"],
    ] {
        scene.run(arguments).failed(1, "Cannot find device=\"nope\"");
    }
}

#[test]
fn wrong_usage_is_told_with_status_2_and_what_would_be_accepted() {
    let scene = Scene::without_daemon();
    for (arguments, why) in [
        (&[][..], "Usage: blkfault"),
        (&["stat"], "unrecognized subcommand"),
        (&["state"], "<DISK>"),
        (&["state", "disk0", "bad"], "possible values: none, error"),
        (&["state", "disk0", "--errno", "EIO"], "<STATE>"),
        (&["state", "disk0", "error", "--errno", "EWHAT"], "a name such as EIO or ENOSPC"),
        (&["state", "disk0", "error", "--iotype", "scan"], "possible values: read, write, flush"),
        (&["resize", "disk0", "20X"], "suffix K, M, G or T"),
        (&["resize", "disk0", "-1"], "suffix K, M, G or T"),
        (&["wait"], "--ready"),
        (&["wait", "--ready", "--event", "X"], "cannot be used with"),
        (&["wait", "--ready", "--timeout", "-1"], "a number of seconds above 0"),
        (&["qmp", "{'execute': "], "the JSON object has no end"),
        (&["qmp", "quit"], "invalid keyword 'quit'"),
        (&["list", "--monitor", "tcp:nowhere"], "the port is missing"),
        (&["list", "--monitor", ""], "the path is missing"),
        (&["completion", "cmd"], "possible values: bash"),
    ] {
        scene.run(arguments).failed(2, why);
    }
    let mut unset = scene.command(&["list"]);
    Ran::from(unset.env_remove("BLKFAULT_MONITOR").output().unwrap())
        .failed(2, "--monitor unix:PATH or set BLKFAULT_MONITOR");
}

#[test]
fn a_daemon_that_is_not_there_is_told_with_status_3() {
    let scene = Scene::without_daemon();
    for arguments in [
        &["state", "disk0"][..],
        &["state", "disk0", "error"],
        &["list"],
        &["stats"],
        &["resize", "disk0", "1G"],
        &["wait", "--event", "X"],
        &["events"],
        &["qmp", "{}"],
        &["quit"],
    ] {
        scene.run(arguments).failed(3, "no daemon at unix:");
    }
    scene.run(&["list", "--monitor", "tcp:127.0.0.1:1"]).failed(3, "no daemon at tcp:127.0.0.1:1");
}

#[test]
fn whoever_is_there_and_is_no_monitor_is_told_with_status_3() {
    for (greeting, why) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "this is no QMP monitor"),
        (b"{\"hello\": 1}\r\n", "it does not greet"),
        (b"", "the daemon closed the connection"),
        (b"{\"QMP\": ", "the daemon closed the connection"),
    ] {
        let scene = Scene::without_daemon();
        let listener = UnixListener::bind(scene.path()).unwrap();
        let stranger = std::thread::spawn(move || {
            listener.accept().unwrap().0.write_all(greeting).unwrap();
        });
        scene.run(&["list"]).failed(3, why);
        stranger.join().unwrap();
    }
}

#[test]
fn a_daemon_that_does_not_answer_is_told_with_status_4() {
    let scene = Scene::new();
    let hang = ["qmp", "{'execute': 'hang'}", "--timeout", "0.2"];
    scene.run(&hang).failed(4, "timed out");
    assert_eq!(scene.daemon.kept.lock().unwrap().len(), 1);
    // Nor one that accepts nobody: the connection waits in the backlog.
    let silent = Scene::without_daemon();
    let _listener = UnixListener::bind(silent.path()).unwrap();
    silent.run(&["list", "--timeout", "0.2"]).failed(4, "timed out");
}

#[test]
fn a_state_is_set_while_another_command_is_stuck() {
    let scene = Scene::new();
    let mut stuck = scene.command(&["qmp", "{'execute': 'hang'}"]);
    let mut stuck = stuck.stdout(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while scene.daemon.kept.lock().unwrap().is_empty() {
        assert!(Instant::now() < deadline, "the command never came");
    }
    assert_eq!(scene.run(&["state", "disk0", "error"]).done(), "");
    scene.daemon.kept.lock().unwrap().pop().unwrap().send(Ok(json!("free")));
    assert!(stuck.wait().unwrap().success());
}

#[test]
fn the_monitor_may_be_given_as_path_unix_address_or_tcp_address() {
    let scene = Scene::new();
    let tcp = scene.monitors.as_ref().unwrap().addresses()[1].to_string();
    let path = scene.path().to_str().unwrap().to_owned();
    for monitor in [&tcp, &path, &format!("unix:{path}")] {
        let mut command = scene.command(&["state", "disk0", "--monitor", monitor]);
        command.env_remove("BLKFAULT_MONITOR");
        assert_eq!(Ran::from(command.output().unwrap()).done(), "none\n", "{monitor}");
    }
}

#[test]
fn output_that_nobody_reads_ends_the_command_quietly() {
    let scene = Scene::new();
    let (mut child, lines, _) = scene.listen(&["events"]);
    drop(lines);
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        scene.daemon.events.emit("X", None);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it goes on for nobody");
    };
    assert_eq!(status.code(), Some(0));
    for arguments in [&["list"][..], &["man"], &["completion", "bash"], &["--help"]] {
        let closed = Command::new("sh")
            .args(["-c", "\"$0\" \"$@\" >&-", env!("CARGO_BIN_EXE_blkfault")])
            .args(arguments)
            .env("BLKFAULT_MONITOR", scene.path())
            .output();
        let ran = Ran::from(closed.unwrap());
        assert!(!ran.err.contains("panicked"), "{ran:?}");
    }
    let mut full = scene.command(&["list"]);
    let full = full.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    Ran::from(full.output().unwrap()).failed(1, "cannot write the output");
}

#[test]
fn help_names_every_exit_status_and_shows_an_example_of_every_verb() {
    let scene = Scene::without_daemon();
    let help = scene.run(&["--help"]).done();
    for line in ["0  done", "1  the daemon refused", "2  wrong usage", "3  no daemon", "4  timed"] {
        assert!(help.contains(line), "{help}");
    }
    for verb in
        ["state", "list", "stats", "resize", "wait", "events", "qmp", "quit", "completion", "man"]
    {
        assert!(help.contains(&format!("\n  {verb} ")), "{help}");
        let help = scene.run(&[verb, "--help"]).done();
        let (_, examples) = help.split_once("\nExample").unwrap();
        assert!(examples.contains(&format!("\n  blkfault {verb}")), "{help}");
    }
}

#[test]
fn completion_scripts_and_the_manual_name_every_verb() {
    let scene = Scene::without_daemon();
    let page = scene.run(&["man"]).done();
    assert!(page.contains(".TH blkfault 1"), "{page}");
    let mut printed = vec![page];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        printed.push(scene.run(&["completion", shell, "--program", "blkfault"]).done());
    }
    for text in printed {
        for verb in ["state", "resize", "wait", "events", "completion"] {
            assert!(text.contains(verb), "{verb}: {text}");
        }
    }
}
