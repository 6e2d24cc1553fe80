//! The daemon as a shell sees it: options, bad input, readiness, and its end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/daemon.rs"]
mod daemon;
#[path = "command_line/log.rs"]
mod log;
#[path = "support/operator.rs"]
mod operator;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use daemon::Daemon;

/// Longer than a socket's path can be.
const LONG_PATH: &str = "DIR/a-name-of-a-socket-that-is-a-little-longer-than-the-kernel-lets-a-socket\
                         -be-called-which-is-not-much-at-all";
const BLKFAULTD: &str = env!("CARGO_BIN_EXE_blkfaultd");

/// Runs the daemon with arguments that must make it end by itself; `DIR` stands for the folder.
fn refused(dir: &Path, arguments: &[&str]) -> (i32, String) {
    let output = run(dir, arguments);
    assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    let message = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), message)
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    let dir = dir.to_str().unwrap();
    let arguments = arguments.iter().map(|argument| argument.replace("DIR", dir));
    let mut child = Command::new(BLKFAULTD)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it was started instead of refused: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap()
}

fn image(dir: &Path, name: &str, bytes: u64) {
    File::create(dir.join(name)).unwrap().set_len(bytes).unwrap();
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Start with options that are not a disk `disk0` of the support code's.
fn start(dir: &Path, arguments: &[&str]) -> Child {
    let dir = dir.to_str().unwrap();
    let arguments = arguments.iter().map(|argument| argument.replace("DIR", dir));
    let mut command = Command::new(BLKFAULTD);
    command.args(arguments).stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// The first line that it says.
fn ready_line(child: &mut Child) -> String {
    use std::io::BufRead;
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line
}

fn end(mut child: Child, signal: Signal) -> (Duration, Option<i32>) {
    let asked = Instant::now();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let status = child.wait().unwrap();
    (asked.elapsed(), status.code())
}

#[test]
fn what_cannot_be_served_is_refused_with_a_reason_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    image(dir, "good.img", 1 << 20);
    image(dir, "odd.img", 1000);
    image(dir, "512.img", 1536);
    std::fs::create_dir(dir.join("folder")).unwrap();
    let before = names_in(dir);
    let with_image = |image: &'static str| vec!["--blk-file", image, "--socket-path", "DIR/s"];
    let memory = || vec!["--memory", "1M", "--socket-path", "DIR/s"];
    let and = |mut base: Vec<&'static str>, more: &[&'static str]| {
        base.extend(more);
        base
    };
    let cases: Vec<(Vec<&str>, i32, &str)> = vec![
        (with_image("DIR/none.img"), 1, "none.img' does not exist"),
        (with_image("DIR/folder"), 1, "is a directory"),
        (with_image("DIR/odd.img"), 1, "1000 bytes long, which is not a multiple of"),
        (
            and(with_image("DIR/512.img"), &["--block-size", "4096"]),
            1,
            "not a multiple of the block size 4096",
        ),
        (
            and(with_image("DIR/good.img"), &["--block-size", "1000"]),
            2,
            "power of two from 512 to 4096",
        ),
        (
            and(with_image("DIR/good.img"), &["--format", "vmdk"]),
            2,
            "possible values: raw, memory, null",
        ),
        (
            and(memory(), &["--disk", "id=disk0,memory=1M,socket-path=DIR/t"]),
            2,
            "two disks have the id 'disk0'",
        ),
        (and(memory(), &["--id", "1st"]), 2, "expected a letter, then"),
        (and(memory(), &["--serial", "more than twenty characters"]), 2, "'--serial <TEXT>'"),
        (and(memory(), &["--monitor", "unix:DIR/none/m"]), 1, "none/m"),
        (and(memory(), &["--monitor", "unix:DIR/good.img"]), 1, "good.img"),
        (and(memory(), &["--monitor", "tcp:127.0.0.1:notaport"]), 2, "notaport"),
        (and(memory(), &["--monitor", "tcp:127.0.0.1:4444"]), 1, "add ,token-file=PATH"),
        (and(memory(), &["--monitor", "tcp:192.0.2.1:4444"]), 1, "remote=on"),
        (and(memory(), &["--monitor", "tcp:192.0.2.1:4444,remote=on"]), 1, "needs a token"),
        (and(memory(), &["--socket-group", "no-such-group"]), 1, "no group 'no-such-group'"),
        (and(memory(), &["--monitor", "carrier-pigeon:4"]), 2, "unix:PATH"),
        (and(memory(), &["--pidfile", "DIR/none/pid"]), 1, "--pidfile"),
        (vec!["--memory", "1M", "--socket-path", "DIR/none/s"], 1, "none/s"),
        (vec!["--memory", "1M", "--socket-path", "DIR/good.img"], 1, "is not a socket"),
        (vec!["--memory", "1000", "--socket-path", "DIR/s"], 2, "multiple of 512"),
        (vec!["--memory", "0", "--socket-path", "DIR/s"], 2, "multiple of 512"),
        (vec!["--memory", "1M", "--socket-path", LONG_PATH], 1, "at most 107 bytes"),
        (vec!["--memory", "1M", "--fd", "77"], 1, "file descriptor 77"),
        (vec!["--memory", "1M"], 2, "--socket-path"),
        (vec!["--config", "DIR/none.json"], 2, "none.json"),
        (vec!["--nonsense"], 2, "--nonsense"),
        (vec![], 2, "nothing to do"),
    ];
    for (arguments, status, expected) in cases {
        let (code, message) = refused(dir, &arguments);
        assert_eq!(code, status, "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(!message.contains("panicked"), "{message}");
        assert_eq!(names_in(dir), before, "{arguments:?}");
    }
}

#[test]
fn a_disk_that_fails_to_start_takes_the_ones_before_it_down_again() {
    let dir = tempfile::tempdir().unwrap();
    let (code, message) = refused(
        dir.path(),
        &[
            "--disk",
            "id=a,memory=1M,socket-path=DIR/a",
            "--disk",
            "id=b,blk-file=DIR/none,socket-path=DIR/b",
        ],
    );
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("disk b: "), "{message}");
    assert!(names_in(dir.path()).is_empty(), "the socket of disk a is gone");
}

#[test]
fn an_image_that_another_daemon_writes_to_is_refused_and_free_once_that_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "a.img", 1 << 20);
    let path = dir.path().join("a.img");
    let first = Daemon::start(dir.path(), &["--blk-file", path.to_str().unwrap()]);
    let arguments = ["--blk-file", "DIR/a.img", "--socket-path", "DIR/other"];
    let (code, message) = refused(dir.path(), &arguments);
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("Is another process using the image"), "{message}");
    assert!(first.terminate().success());
    let mut second = start(dir.path(), &arguments);
    assert!(ready_line(&mut second).starts_with("ready"));
    assert_eq!(end(second, Signal::TERM).1, Some(0));
}

#[test]
fn a_read_only_image_is_served_by_many_daemons_at_sockets_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.img");
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    let _first = Daemon::start(dir.path(), &["--blk-file", path.to_str().unwrap(), "--read-only"]);
    let image = ["--blk-file", "DIR/a.img", "--read-only"];
    let mut second = start(dir.path(), &[&image[..], &["--socket-path", "DIR/other"]].concat());
    assert!(ready_line(&mut second).starts_with("ready"));
    let same = [&image[..], &["--socket-path", "DIR/disk0"]].concat();
    let (_, message) = refused(dir.path(), &same);
    assert!(message.contains("Another daemon serves it there"), "{message}");
    assert_eq!(end(second, Signal::TERM).1, Some(0));
}

#[test]
fn a_live_socket_is_left_alone_and_a_stale_one_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Daemon::start(dir.path(), &["--memory", "1M"]);
    let again = ["--memory", "1M", "--socket-path", "DIR/disk0"];
    let (code, message) = refused(dir.path(), &again);
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("in use by a running daemon"), "{message}");
    let again = ["--memory", "1M", "--socket-path", "DIR/s", "--monitor", "unix:DIR/monitor"];
    let (code, message) = refused(dir.path(), &again);
    assert_eq!(code, 1, "{message}");
    UnixStream::connect(first.socket("disk0")).expect("the first daemon still listens");
    // SIGKILL leaves both sockets behind; the next start replaces them.
    first.kill_and_start_again();
    UnixStream::connect(first.socket("disk0")).expect("a new socket");
    first.operator().must("query-block", json!({}));
}

#[test]
fn capabilities_are_printed_whatever_else_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["--blk-file", "/none", "--print-capabilities", "--nonsense"]);
    assert_eq!(output.status.code(), Some(0));
    let capabilities: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(capabilities, json!({"type": "block", "features": ["read-only", "blk-file"]}));
}

#[test]
fn a_descriptor_is_a_socket_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let passed = |fd: &dyn AsFd| {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
        fd.as_fd().as_raw_fd().to_string()
    };
    let file = tempfile::tempfile().unwrap();
    let (code, message) = refused(dir.path(), &["--memory", "1M", "--fd", &passed(&file)]);
    assert_eq!(code, 1);
    assert!(message.contains("is no socket that this daemon was started with"), "{message}");
    let datagram = UnixDatagram::unbound().unwrap();
    let (code, message) = refused(dir.path(), &["--memory", "1M", "--fd", &passed(&datagram)]);
    assert_eq!(code, 1);
    assert!(message.contains("no unix stream socket"), "{message}");

    let path = dir.path().join("inherited");
    let listener = UnixListener::bind(&path).unwrap();
    let mut child = start(dir.path(), &["--memory", "1M", "--fd", &passed(&listener)]);
    assert!(ready_line(&mut child).starts_with("ready"));
    drop(listener);
    assert!(
        answers_vhost_user(UnixStream::connect(&path).unwrap()),
        "a listening socket is served"
    );
    end(child, Signal::TERM);

    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut child = start(dir.path(), &["--memory", "1M", "--fd", &passed(&theirs)]);
    assert!(ready_line(&mut child).starts_with("ready"));
    drop(theirs);
    assert!(answers_vhost_user(ours), "a connected socket is served");
    end(child, Signal::TERM);
}

/// Sends VHOST_USER_GET_FEATURES (1) and looks for the answer's header.
fn answers_vhost_user(mut stream: UnixStream) -> bool {
    use std::io::Write;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let header = [1u32, 1, 0].map(u32::to_ne_bytes).concat();
    stream.write_all(&header).unwrap();
    let mut answer = [0; 20];
    stream.read_exact(&mut answer).is_ok() && answer[..4] == header[..4] && answer[8] == 8
}

#[test]
fn every_signal_that_asks_for_the_end_gets_it_within_a_second() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = start(
            dir.path(),
            &[
                "--memory",
                "1M",
                "--socket-path",
                "DIR/s",
                "--monitor",
                "unix:DIR/m",
                "--pidfile",
                "DIR/pid",
            ],
        );
        let line = ready_line(&mut child);
        assert!(line.starts_with("ready: disk disk0") && !line.contains("DIR"), "{line}");
        assert_eq!(names_in(dir.path()), ["m", "pid", "s"]);
        let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
        assert_eq!(pid, format!("{}\n", child.id()));
        let _front_end = UnixStream::connect(dir.path().join("s")).unwrap();
        let _operator = UnixStream::connect(dir.path().join("m")).unwrap();
        let (took, code) = end(child, signal);
        assert_eq!(code, Some(0), "{signal:?}");
        assert!(took < Duration::from_secs(5), "{signal:?} took {took:?}");
        assert!(names_in(dir.path()).is_empty(), "{signal:?}: {:?}", names_in(dir.path()));
    }
}

#[test]
fn a_pidfile_belongs_to_one_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = |socket| ["--memory", "1M", "--socket-path", socket, "--pidfile", "DIR/pid"];
    let mut first = start(dir.path(), &arguments("DIR/a"));
    ready_line(&mut first);
    let (_, message) = refused(dir.path(), &arguments("DIR/b"));
    assert!(message.contains("locked by a live process"), "{message}");
    let mode = std::os::unix::fs::MetadataExt::mode(&dir.path().join("pid").metadata().unwrap());
    assert_eq!(mode & 0o777, 0o600, "whoever can open it can keep daemons from starting");
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
    assert_eq!(pid, format!("{}\n", first.id()), "untouched");
    end(first, Signal::TERM);
}

#[test]
fn systemd_is_told_when_it_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let notify = UnixDatagram::bind(&path).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let child = Command::new(BLKFAULTD)
        .args(["--memory", "1M", "--socket-path"])
        .arg(dir.path().join("s"))
        .env("NOTIFY_SOCKET", &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut message = [0; 64];
    let length = notify.recv(&mut message).unwrap();
    assert!(message[..length].starts_with(b"READY=1"));
    UnixStream::connect(dir.path().join("s")).expect("ready means that front ends may connect");
    end(child, Signal::TERM);
    let length = notify.recv(&mut message).unwrap();
    assert!(message[..length].starts_with(b"STOPPING=1"));
}

#[test]
fn a_configuration_file_makes_what_flags_would() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let config = json!({
        "disks": [
            { "id": "a", "memory": "2M", "socket-path": at("a"), "num-queues": 2, "read-only": true },
            { "id": "b", "store": "a", "socket-path": at("b"), "read-only": true },
            { "format": "null", "size": 4 << 20, "socket-path": at("c") },
        ],
        "monitor": [format!("unix:{}", at("m"))],
        "pidfile": at("pid"),
    });
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let mut child = start(dir.path(), &["--config", "DIR/config.json"]);
    assert_eq!(
        ready_line(&mut child),
        format!("ready: disk a, disk b, disk disk2, monitor unix:{}\n", at("m"))
    );
    let mut operator = operator::Operator::connect(&dir.path().join("m"));
    let disks = operator.must("query-block", json!({}));
    let facts: Vec<_> = disks
        .as_array()
        .unwrap()
        .iter()
        .map(|disk| {
            let node = &disk["inserted"];
            json!([disk["device"], node["node-name"], node["drv"], node["image"]["virtual-size"]])
        })
        .collect();
    assert_eq!(
        facts,
        [
            json!(["a", "a", "memory", 2 << 20]),
            json!(["b", "a", "memory", 2 << 20]),
            json!(["disk2", "disk2", "null-co", 4 << 20]),
        ]
    );
    operator.must("quit", json!({}));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(names_in(dir.path()), ["config.json"]);
}

#[test]
fn a_limit_on_file_sizes_fails_what_exceeds_it_and_not_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "a.img", 1 << 20);
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -f 4096; exec \"$0\" \"$@\"", BLKFAULTD, "--blk-file"])
        .arg(dir.path().join("a.img"))
        .arg("--socket-path")
        .arg(dir.path().join("s"))
        .arg("--monitor")
        .arg(format!("unix:{}", dir.path().join("m").display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    ready_line(&mut child);
    let mut operator = operator::Operator::connect(&dir.path().join("m"));
    let error = operator.execute("block_resize", json!({"device": "disk0", "size": 1_i64 << 40}));
    let error = error.unwrap_err();
    assert!(error["desc"].as_str().unwrap().contains("File too large"), "{error}");
    let disks = operator.must("query-block", json!({}));
    assert_eq!(disks[0]["inserted"]["image"]["virtual-size"], 1 << 20, "unchanged");
    end(child, Signal::TERM);
}

#[test]
fn two_signals_at_once_are_one_wish() {
    for _ in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = start(
            dir.path(),
            &["--memory", "1M", "--socket-path", "DIR/s", "--monitor", "unix:DIR/m"],
        );
        ready_line(&mut child);
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        std::thread::sleep(Duration::from_micros(300));
        // It may be gone by now.
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(names_in(dir.path()).is_empty(), "{:?}", names_in(dir.path()));
    }
}

#[test]
fn once_quit_is_over_the_image_is_free() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "a.img", 1 << 20);
    let arguments = [
        "--blk-file",
        "DIR/a.img",
        "--socket-path",
        "DIR/s",
        "--monitor",
        "unix:DIR/m",
        "--pidfile",
        "DIR/p",
    ];
    let mut before: Option<Reaped> = None;
    for _ in 0..20 {
        let mut child = Reaped(start(dir.path(), &arguments));
        assert!(ready_line(&mut child.0).starts_with("ready"));
        before = Some(child);
        let mut operator = UnixStream::connect(dir.path().join("m")).unwrap();
        let quit = b"{'execute': 'qmp_capabilities'} {'execute': 'quit'}";
        std::io::Write::write_all(&mut operator, quit).unwrap();
        // The monitor goes last: when the connection ends, everything is gone.
        operator.read_to_end(&mut Vec::new()).unwrap();
    }
    drop(before);
}

/// A process that is killed and awaited when the test is over, whichever way.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_daemon_that_nobody_can_reach_any_more_ends() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).unwrap();
    let fd = theirs.as_raw_fd().to_string();
    let mut child = start(Path::new("/"), &["--memory", "1M", "--fd", &fd]);
    ready_line(&mut child);
    drop(theirs);
    assert!(child.try_wait().unwrap().is_none(), "its front end is there");
    drop(ours);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_full_standard_output_is_an_error_and_no_panic() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(BLKFAULTD)
        .arg("--print-capabilities")
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("No space left") && !message.contains("panicked"), "{message}");
}
