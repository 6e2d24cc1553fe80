//! The operator's command, as a shell sees it: what it prints, and its exit status.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

#[path = "support/scene.rs"]
mod scene;
mod support {
    #[path = "../support/daemon.rs"]
    pub mod daemon;
    #[path = "../support/front/mod.rs"]
    pub mod front;
    #[path = "../support/operator.rs"]
    pub mod operator;
}
#[path = "blkfault_command/images.rs"]
mod images;
#[path = "blkfault_command/whole_daemon.rs"]
mod whole_daemon;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use scene::{BELL, PATIENCE, Ran, Scene};

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
    let filter = ["events", "--disk", "disk0", "--event", BELL, "--event", "SHUTDOWN"];
    let (mut people, mut lines, bell) = scene.listen(&filter);
    assert!(bell.ends_with(&format!("Z {BELL} id=disk0\n")), "{bell}");
    let (mut programs, mut json_lines, bell) = scene.listen(&["events", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&bell).unwrap()["event"], BELL);
    for (name, id) in [("SHUTDOWN", "disk1"), ("OTHER", "disk0"), ("SHUTDOWN", "disk0")] {
        scene.daemon.events.emit(name, Some(json!({ "id": id, "state": "error" })));
    }
    scene.monitors.take().unwrap().stop();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let rest: Vec<_> = rest.lines().filter(|line| !line.contains(BELL)).collect();
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert!(rest[0].ends_with("Z SHUTDOWN id=disk0 state=error"), "{rest:?}");
    let mut rest = String::new();
    json_lines.read_to_string(&mut rest).unwrap();
    let told = |line: &str| serde_json::from_str::<Value>(line).unwrap()["event"].clone();
    let told: Vec<_> = rest.lines().map(told).filter(|name| name != "BELL").collect();
    assert_eq!(told, ["SHUTDOWN", "OTHER", "SHUTDOWN"]);
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
    let (mut child, _, line) = scene.listen(&["wait", "--event", BELL, "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["data"]["id"], "disk0");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let (mut child, _, line) = scene.listen(&["wait", "--event", BELL, "--disk", "disk0"]);
    assert!(line.ends_with(&format!(" {BELL} id=disk0\n")), "{line}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let never = ["wait", "--event", "SHUTDOWN", "--timeout", "0.1"];
    scene.run(&never).failed(4, "timed out");
}

#[test]
fn an_event_may_be_named_in_small_letters_and_is_offered_by_completion() {
    let scene = Scene::new();
    let (mut child, _, line) = scene.listen(&["wait", "--event", &BELL.to_ascii_lowercase()]);
    assert!(line.contains(BELL), "{line}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(scene.run(&["completion", "bash"]).done().contains("BLOCK_FAULT_STATE_CHANGED"));
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
fn quit_returns_when_the_daemon_has_ended_and_not_before() {
    Scene::new().run(&["quit", "--timeout", "0.3"]).failed(4, "has not ended yet");
    for (arguments, printed) in [(&["quit"][..], ""), (&["--json", "quit"], "{}\n")] {
        let mut scene = Scene::new();
        let quit = scene.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !*scene.daemon.quit.lock().unwrap() {
            assert!(Instant::now() < deadline, "the command never came");
        }
        scene.monitors.take().unwrap().stop();
        assert_eq!(Ran::from(quit.wait_with_output().unwrap()).done(), printed);
    }
}

#[test]
fn what_the_daemon_refuses_is_told_with_status_1_and_a_missing_disk_in_one_wording() {
    let scene = Scene::new();
    for arguments in [
        &["state", "nope"][..],
        &["state", "nope", "error"],
        &["state", "nope", "--json"],
        &["resize", "nope", "1G"],
        &["stats", "nope"],
        &["events", "--disk", "nope"],
        &["wait", "--event", "SHUTDOWN", "--disk", "nope"],
    ] {
        scene.run(arguments).failed(1, "blkfault: there is no disk 'nope'\n");
    }
    // Other refusals are told in the daemon's words.
    scene.run(&["resize", "disk0", "1000"]).failed(1, "The size must be a multiple of 512");
}

#[test]
fn wrong_usage_is_told_with_status_2_and_what_would_be_accepted() {
    let scene = Scene::without_daemon();
    for (arguments, why) in [
        (&[][..], "Usage: blkfault"),
        (&["stat"], "unrecognized subcommand"),
        (&["state"], "<DISK>"),
        (&["state", "disk0", "bad"], "possible values: none, error, hang"),
        (&["state", "disk0", "--errno", "EIO"], "<STATE>"),
        (&["state", "disk0", "error", "--errno", "EWHAT"], "a name such as EIO or ENOSPC"),
        (&["state", "disk0", "error", "--iotype", "scan"], "possible values: read, write, flush"),
        (&["state", "disk0", "slow", "--shape", "stals:period=3s"], "did you mean 'stalls'?"),
        (&["state", "disk0", "error", "--sectors", "7"], "go with the state slow, not with error"),
        (&["rule", "add", "disk0", "--fail-after", "3"], "a comma and a delay: 100,20ms"),
        (&["state", "disk0", "slow", "--bytes-per-second", "1M,b=2"], "such as 1M,burst=4M"),
        (&["resize", "disk0", "20X"], "such as 64M"),
        (&["resize", "disk0", "-1"], "such as 64M"),
        (&["wait"], "--ready|--event <NAME>|--tag"),
        (&["wait", "--disk", "disk0"], "--ready|--event <NAME>|--tag"),
        (&["wait", "--ready", "--event", "SHUTDOWN"], "cannot be used with"),
        (&["wait", "--ready", "--disk", "disk0"], "cannot be used with"),
        (&["wait", "--event", "NOPE"], "possible values: SHUTDOWN, BLOCK_IO_ERROR"),
        (&["events", "--event", "BLOCK_IO_EROR"], "a similar value exists: 'BLOCK_IO_ERROR'"),
        (&["wait", "--ready", "--timeout", "-1"], "a number of seconds above 0"),
        (&["qmp", "{'execute': "], "the JSON object has no end"),
        (&["qmp", "quit"], "invalid keyword 'quit'"),
        (&["list", "--monitor", "tcp:nowhere"], "the port is missing"),
        (&["list", "--monitor", ""], "the path is missing"),
        (&["completion", "cmd"], "possible values: bash"),
    ] {
        scene.run(arguments).failed(2, why);
    }
}

#[test]
fn the_variable_for_the_monitor_is_named_where_it_is_wrong_and_ignored_where_it_is_not_needed() {
    let scene = Scene::new();
    let list = |change: fn(&mut Command) -> &mut Command| {
        Ran::from(change(&mut scene.command(&["list"])).output().unwrap())
    };
    let none = "--monitor unix:PATH or set BLKFAULT_MONITOR";
    list(|list| list.env_remove("BLKFAULT_MONITOR")).failed(2, none);
    list(|list| list.env("BLKFAULT_MONITOR", "")).failed(2, none);
    let bad = "the environment variable BLKFAULT_MONITOR: 'tcp:nowhere' is not a monitor address";
    list(|list| list.env("BLKFAULT_MONITOR", "tcp:nowhere")).failed(2, bad);
    let path = scene.path().to_str().unwrap().to_owned();
    for arguments in [&["man"][..], &["completion", "bash"], &["list", "--monitor", &path]] {
        for value in ["", "tcp:nowhere"] {
            let mut command = scene.command(arguments);
            Ran::from(command.env("BLKFAULT_MONITOR", value).output().unwrap()).done();
        }
    }
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
        &["wait", "--event", "SHUTDOWN"],
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
    // Nor one that waits for the other side to speak first, or accepts nobody.
    let silent = Scene::without_daemon();
    let _listener = UnixListener::bind(silent.path()).unwrap();
    for arguments in [&["list", "--timeout", "0.2"][..], &["wait", "--ready", "--timeout", "0.2"]] {
        let why = format!("no QMP greeting from unix:{}: is", silent.path().display());
        silent.run(arguments).failed(4, &why);
    }
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
    for verb in [
        "state",
        "rule",
        "transaction",
        "engine-state",
        "show",
        "break",
        "held",
        "resume",
        "on-error",
        "list",
        "stats",
        "resize",
        "wait",
        "events",
        "qmp",
        "quit",
        "completion",
        "man",
    ] {
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

/// The lines of a section of a manual page, as they are written.
fn section<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let wanted = [format!(".SH {heading}"), format!(".SH \"{heading}\"")];
    let mut lines = page.lines().skip_while(|line| !wanted.iter().any(|wanted| wanted == line));
    assert!(lines.next().is_some(), "no {heading}: {page}");
    lines.take_while(|line| !line.starts_with(".SH ")).collect()
}

#[test]
fn a_manual_page_is_complete_in_itself() {
    let scene = Scene::without_daemon();
    for program in ["blkfault", "blkfaultd"] {
        let page = scene.run(&["man", "--program", program]).done();
        for (heading, begins) in [("EXIT STATUS", "  0  "), ("EXAMPLES", "  ")] {
            let lines = section(&page, heading);
            assert_eq!((lines[0], lines[lines.len() - 1]), (".nf", ".fi"), "{lines:?}");
            assert!(lines[1].starts_with(begins), "{lines:?}");
        }
        assert!(!page.contains("SUBCOMMANDS") && !page.contains("EXTRA"), "{page}");
        let references = page.matches("(1)").count();
        assert_eq!(references, 0, "{program} points to pages that do not exist: {page}");
    }
    let page = scene.run(&["man"]).done();
    assert!(section(&page, "OPTIONS").concat().contains("BLKFAULT_MONITOR"), "{page}");
    let verbs = section(&page, "COMMANDS");
    for verb in ["state", "list", "wait", "man"] {
        assert!(verbs.contains(&format!(".SS {verb}").as_str()), "{verbs:?}");
    }
    for option in ["\\-\\-heal\\-on\\-write\\fR", "\\-\\-socket\\-path\\fR"] {
        assert!(verbs.concat().contains(option), "the verbs below verbs are told too: {verbs:?}");
    }
    let common = verbs.iter().filter(|line| line.contains("monitor\\fR \\fI"));
    assert_eq!(common.count(), 0, "{verbs:?}");
}

#[test]
fn the_help_of_wait_tells_what_it_cannot_hear() {
    let help = Scene::without_daemon().run(&["wait", "--help"]).done();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["after it has connected", "one a second", "query-block-fault"] {
        assert!(help.contains(part), "{help}");
    }
}

#[test]
fn the_daemon_has_a_manual_and_completion_too() {
    let scene = Scene::without_daemon();
    let page = scene.run(&["man", "--program", "blkfaultd"]).done();
    assert!(page.contains(".TH blkfaultd 1"), "{page}");
    let script = scene.run(&["completion", "bash", "--program", "blkfaultd"]).done();
    for text in [page.replace('\\', ""), script] {
        assert!(text.contains("--socket-path"), "{text}");
    }
}
