//! Who may connect, and what strangers leave in the log.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::{am_root, export, folder, guest, use_the_disk};

/// The mode and group of a socket.
fn of_socket(path: &Path) -> (u32, u32) {
    let metadata = fs::metadata(path).unwrap();
    assert!(metadata.file_type().is_socket(), "{}", path.display());
    (metadata.mode() & 0o7777, metadata.gid())
}

/// A group that this process may give files to, and is not the one it gives them anyway.
fn other_group() -> (String, u32) {
    let own = rustix::process::getegid().as_raw();
    let mine: Vec<u32> = rustix::process::getgroups().unwrap().iter().map(|g| g.as_raw()).collect();
    let groups = fs::read_to_string("/etc/group").unwrap();
    let all: Vec<(String, u32)> = groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((name, fields.nth(1)?.parse().ok()?))
        })
        .collect();
    let is_other = |id: u32| id != own && (am_root() || mine.contains(&id));
    let other = all.iter().find(|(_, id)| is_other(*id));
    // A user with one group: then that.
    other.or(all.iter().find(|(_, id)| *id == own)).expect("a group").clone()
}

/// A daemon by a shell that sets the umask first.
fn start(dir: &Path, umask: &str, options: &[&str]) -> Daemon {
    let script = format!("umask {umask}; exec \"$@\"");
    Daemon::start_inside(dir, &["sh", "-c", &script, "sh"], options)
}

/// A file with a token.
fn token(dir: &Path) -> std::path::PathBuf {
    let token = dir.join("token");
    fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    token
}

#[test]
fn sockets_are_the_owners_alone_whatever_the_umask() {
    for umask in ["000", "022", "077"] {
        let dir = folder();
        let daemon = start(dir.path(), umask, &["--memory", "4M"]);
        let late = dir.path().join("late");
        let mut operator = daemon.operator();
        operator.must("block-export-add", export("late", "disk0", &late));
        for path in [&daemon.socket("disk0"), &daemon.monitor(), &late] {
            assert_eq!(of_socket(path).0, 0o600, "umask {umask}: {}", path.display());
        }
    }
}

#[test]
fn a_group_gets_the_disks_sockets_and_not_the_monitors() {
    let (name, group) = other_group();
    for umask in ["000", "077"] {
        let dir = folder();
        let daemon = start(dir.path(), umask, &["--memory", "4M", "--socket-group", &name]);
        let late = dir.path().join("late");
        // The capabilities are gone by now.
        daemon.operator().must("block-export-add", export("late", "disk0", &late));
        for path in [&daemon.socket("disk0"), &late] {
            assert_eq!(of_socket(path), (0o660, group), "umask {umask}: {}", path.display());
        }
        assert_eq!(of_socket(&daemon.monitor()).0, 0o600, "umask {umask}");
        let (_front, mut queue) = guest(&late);
        use_the_disk(&mut queue);
        assert_eq!(daemon.terminate().code(), Some(0));
        assert!(!late.exists(), "the socket went with the daemon");
    }
}

#[test]
fn browsers_and_port_scans_leave_a_line_a_second() {
    let dir = folder();
    let token = token(dir.path());
    let monitor = format!("tcp:127.0.0.1:0,token-file={}", token.display());
    let daemon = Daemon::start(dir.path(), &["--memory", "1M", "--monitor", &monitor]);
    let port = daemon.tcp_port();
    let begun = std::time::Instant::now();
    for index in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = match index % 3 {
            0 => stream.write_all(b"POST / HTTP/1.1\r\n\r\n{\"execute\":\"quit\"}"),
            1 => stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
            _ => stream.write_all(b"OPTIONS * HTTP/1.1\r\n\r\n"),
        };
        // Until it is closed.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let seconds = begun.elapsed().as_secs() as usize;
    daemon.wait_said("monitor client", 1);
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("monitor client")).count();
    assert!(lines >= 1 && lines <= seconds + 2, "{lines} lines in {seconds} s: {log}");
    daemon.operator().must("query-block", json!({}));
}

#[test]
fn blkfault_tells_the_token() {
    let dir = folder();
    let token = token(dir.path());
    let with_token = |port| format!("tcp:127.0.0.1:{port},token-file={}", token.display());
    let daemon = Daemon::start(dir.path(), &["--memory", "1M", "--monitor", &with_token(0)]);
    let port = daemon.tcp_port();
    let monitor = with_token(port);
    let blkfault = |address: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blkfault"));
        command.args(["--monitor", address]).args(more).args(["state", "disk0"]).output().unwrap()
    };
    let plain = format!("tcp:127.0.0.1:{port}");
    let token = token.to_str().unwrap();
    for output in [blkfault(&monitor, &[]), blkfault(&plain, &["--token-file", token])] {
        assert_eq!(String::from_utf8_lossy(&output.stdout), "none\n", "{output:?}");
    }
    let refused = blkfault(&plain, &[]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("wants its token first"));
    let unix = format!("unix:{}", dir.path().join("monitor").display());
    let usage = blkfault(&unix, &["--token-file", token]);
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
}
