//! A daemon is started while the one before it is still being taken apart.

use std::any::Any;
use std::fs::{File, Permissions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::support::daemon::Daemon;
use crate::times;

/// Much longer than a start takes, much shorter than it waits.
const HELD: Duration = Duration::from_millis(300);

fn locked(path: &Path) -> File {
    let file = File::create(path).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    file
}

/// Start a daemon that needs what somebody holds, and is about to let go of.
fn is_waited_for(held: impl FnOnce(&Path) -> (Box<dyn Any + Send>, Vec<String>)) {
    let dir = tempfile::tempdir().unwrap();
    let (held, needs) = held(dir.path());
    let lets_go = std::thread::spawn(move || {
        std::thread::sleep(HELD);
        drop(held);
    });
    let mut options = vec!["--memory", "1M"];
    options.extend(needs.iter().map(String::as_str));
    let daemon = Daemon::start(dir.path(), &options);
    assert!(lets_go.is_finished(), "{needs:?}: what somebody has is not taken");
    lets_go.join().unwrap();
    assert!(daemon.terminate().success());
}

#[test]
fn a_start_waits_for_whatever_a_dying_daemon_still_holds() {
    is_waited_for(|dir| (Box::new(UnixListener::bind(dir.join("monitor")).unwrap()), vec![]));
    is_waited_for(|dir| (Box::new(UnixListener::bind(dir.join("disk0")).unwrap()), vec![]));
    is_waited_for(|dir| {
        let pidfile = dir.join("pid");
        let needs = vec!["--pidfile".to_owned(), pidfile.display().to_string()];
        (Box::new(locked(&pidfile)), needs)
    });
    is_waited_for(|dir| {
        let state = dir.join("state");
        std::fs::create_dir(&state).unwrap();
        let needs = vec!["--state-dir".to_owned(), state.display().to_string()];
        (Box::new(locked(&state.join("disk0.state"))), needs)
    });
    is_waited_for(|dir| {
        let token = dir.join("token");
        std::fs::write(&token, "0123456789abcdef\n").unwrap();
        std::fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
        // An address of the loopback network that no other test uses: it is free for a moment.
        let port = TcpListener::bind("127.7.3.1:0").unwrap();
        let address = port.local_addr().unwrap();
        let monitor = format!("tcp:{address},token-file={}", token.display());
        (Box::new(port), vec!["--monitor".to_owned(), monitor])
    });
}

/// A daemon over these options; what it said if it did not get ready.
fn start(dir: &Path, options: &[&str]) -> Result<Child, String> {
    let at = |name: &str| dir.join(name).display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_blkfaultd"));
    command.args(["--id", "disk0", "--socket-path", &at("disk0"), "--pidfile", &at("pid")]);
    command.args(["--monitor", &format!("unix:{}", at("monitor")), "--state-dir", &at("state")]);
    let options = options.iter().map(|option| option.replace("IMAGE", &at("image")));
    let piped = command.args(options).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    if ready.starts_with("ready") {
        return Ok(child);
    }
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    Err(said)
}

/// As a script does that says `kill -9` and starts the next in the next line.
fn kill_and_start_at_once(options: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    File::create(dir.path().join("image")).unwrap().set_len(1 << 20).unwrap();
    let mut daemon = start(dir.path(), options).unwrap();
    for round in 0..times(30, 500) {
        daemon.kill().unwrap();
        let next = start(dir.path(), options);
        // Heard of only now.
        daemon.wait().unwrap();
        daemon = next.unwrap_or_else(|said| panic!("{options:?}, round {round}: {said}"));
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn a_killed_daemon_is_followed_at_once_by_the_next() {
    kill_and_start_at_once(&["--memory", "64M"]);
    kill_and_start_at_once(&["--blk-file", "IMAGE"]);
    kill_and_start_at_once(&["--blk-file", "IMAGE", "--read-only"]);
}
