//! What the kernel says of the running daemon.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::{am_root, file_node, folder, guest, image, leave_out, status_line};

fn of_process(daemon: &Daemon) -> PathBuf {
    PathBuf::from(format!("/proc/{}", daemon.id()))
}

/// Every thread of a process.
fn threads(process: &Path) -> Vec<PathBuf> {
    let tasks = fs::read_dir(process.join("task")).unwrap();
    tasks.map(|task| task.unwrap().path()).collect()
}

#[test]
fn no_thread_has_a_capability_or_can_get_one_and_all_are_filtered() {
    let dir = folder();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let (_front, mut queue) = guest(&daemon.socket("disk0"));
    queue.flush();
    let threads = threads(&of_process(&daemon));
    // Main, signals, monitor (2), export, worker.
    assert!(threads.len() >= 6, "{threads:?}");
    for thread in threads {
        let line = |name| status_line(&thread, name);
        let who = format!("{} ({})", line("Name"), thread.display());
        assert_eq!(line("Seccomp"), "2", "{who}");
        assert_eq!(line("NoNewPrivs"), "1", "{who}");
        let mut sets = vec!["CapEff", "CapPrm", "CapInh", "CapAmb"];
        // Only root can empty it; for others no_new_privs stands before it.
        sets.extend(am_root().then_some("CapBnd"));
        for set in sets {
            assert_eq!(line(set), "0000000000000000", "{who}: {set}");
        }
    }
}

#[test]
fn a_daemon_whose_operator_says_so_is_not_filtered_and_keeps_what_is_named() {
    let dir = folder();
    let options = ["--memory", "1M", "--seccomp", "none", "--modcaps=+dac_override:+chown"];
    let daemon = Daemon::start(dir.path(), &options);
    let process = of_process(&daemon);
    assert_eq!(status_line(&process, "Seccomp"), "0");
    assert_eq!(status_line(&process, "NoNewPrivs"), "1");
    let kept = if am_root() { "0000000000000003" } else { "0000000000000000" };
    assert_eq!(status_line(&process, "CapEff"), kept);
    let logged = folder();
    let daemon = Daemon::start(logged.path(), &["--memory", "1M", "--seccomp", "log"]);
    assert_eq!(status_line(&of_process(&daemon), "Seccomp"), "2");
}

#[test]
fn an_image_of_another_user_is_served_if_it_was_named_at_the_start() {
    if !am_root() {
        return leave_out("images of other users", "only root opens them");
    }
    let dir = folder();
    let [named, late] = ["named.img", "late.img"].map(|name| image(dir.path().join(name)));
    for path in [&named, &late] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let named = named.to_str().unwrap();
    let daemon = Daemon::start(dir.path(), &["--blk-file", named]);
    let (_front, mut queue) = guest(&daemon.socket("disk0"));
    crate::use_the_disk(&mut queue);
    let error = daemon.operator().execute("blockdev-add", file_node("late", &late, false));
    let error = error.unwrap_err()["desc"].as_str().unwrap().to_owned();
    assert!(error.contains("late.img") && error.contains("dropped its capabilities"), "{error}");
    assert!(error.contains("--modcaps +dac_override"), "{error}");
    drop(daemon);
    let other = folder();
    let options = ["--memory", "1M", "--modcaps", "+dac_override"];
    let daemon = Daemon::start(other.path(), &options);
    daemon.operator().must("blockdev-add", file_node("late", &late, false));
}

/// How a program ends by SIGABRT that was allowed to leave a core dump, and whether it did.
fn dumps_core(directory: &Path, program: &mut Command) -> Option<bool> {
    program.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = program.spawn().unwrap();
    // The daemon says that it is ready, and the other program says something too.
    let mut line = String::new();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert!(line.ends_with('\n'), "{program:?} said {line:?}");
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::ABORT).unwrap();
    let status = child.wait().unwrap();
    (status.signal() == Some(libc::SIGABRT)).then(|| status.core_dumped())
}

#[test]
fn a_crash_leaves_no_core_dump() {
    let dir = folder();
    let unlimited = || {
        let mut command = Command::new("prlimit");
        command.args(["--core=unlimited:unlimited"]);
        command
    };
    let ordinary = dumps_core(dir.path(), unlimited().args(["sh", "-c", "echo; exec sleep 600"]));
    let socket = dir.path().join("disk0");
    let daemon = dumps_core(
        dir.path(),
        unlimited()
            .arg(env!("CARGO_BIN_EXE_blkfaultd"))
            .args(["--memory", "1M", "--socket-path"])
            .arg(socket),
    );
    assert_eq!(daemon, Some(false), "the daemon");
    match ordinary {
        Some(true) => {}
        // Then the daemon shows nothing here.
        other => leave_out("core dumps", &format!("this host makes none ({other:?})")),
    }
}

#[test]
fn guest_memory_is_left_out_of_dumps() {
    let dir = folder();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let (_front, mut queue) = guest(&daemon.socket("disk0"));
    queue.flush();
    let smaps = match fs::read_to_string(of_process(&daemon).join("smaps")) {
        Ok(smaps) => smaps,
        // Not even its own user sees the memory of a process that is not dumpable.
        Err(error) => {
            assert!(!am_root(), "{error}");
            return assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        }
    };
    let mut mappings = 0;
    let mut is_guests = false;
    for line in smaps.lines() {
        if line.contains(" rw-s ") {
            is_guests = line.contains("/memfd:");
        }
        if let Some(flags) = line.strip_prefix("VmFlags:")
            && std::mem::take(&mut is_guests)
        {
            assert!(flags.split_whitespace().any(|flag| flag == "dd"), "{flags}");
            mappings += 1;
        }
    }
    assert!(mappings > 0, "{smaps}");
}

#[test]
fn a_path_that_is_no_image_is_refused_at_once() {
    let dir = folder();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let mut operator = daemon.operator();
    let at = |name: &str| dir.path().join(name);
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    std::os::unix::fs::symlink(at("fifo"), at("link")).unwrap();
    std::os::unix::fs::symlink("loop", at("loop")).unwrap();
    let cases = [
        (at("fifo"), "is a FIFO"),
        (at("link"), "is a FIFO"),
        (at("loop"), "cannot be opened"),
        (at("disk0"), "is a socket"),
        (dir.path().to_owned(), "is a directory"),
        ("/dev/zero".into(), "is a character device"),
        ("/dev/tty".into(), "is a character device"),
        ("/dev/ptmx".into(), "is a character device"),
        ("/proc/self/mem".into(), "cannot be opened"),
        (at("none/../fifo"), "does not exist"),
        ("".into(), "does not exist"),
    ];
    for (path, why) in cases {
        for read_only in [true, false] {
            let error = operator.execute("blockdev-add", file_node("n", &path, read_only));
            let error = error.unwrap_err()["desc"].as_str().unwrap().to_owned();
            assert!(error.contains(why), "{}: {error}", path.display());
        }
        let node = json!({
            "driver": "blkdebug", "node-name": "n", "config": path,
            "image": {"driver": "null-co"},
        });
        let error = operator.execute("blockdev-add", node).unwrap_err();
        assert!(error["desc"].as_str().unwrap().contains("blkdebug"), "{error}");
    }
    assert_eq!(operator.must("query-named-block-nodes", json!({})).as_array().unwrap().len(), 1);
}
