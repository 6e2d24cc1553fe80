//! The sandbox: what the command line names can be opened, and nothing else.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use blkfault::guard::{GuardPlan, SandboxError, SandboxMode};
use serde_json::json;

use crate::support::daemon::Daemon;
use crate::{export, file_node, folder, guest, image, leave_out, use_the_disk};

/// Whether this kernel has landlock. The thread that asks can open nothing afterwards.
fn has_landlock() -> bool {
    let plan = GuardPlan { sandbox: SandboxMode::Landlock, ..GuardPlan::default() };
    let renounced = std::thread::spawn(move || plan.renounce()).join().unwrap();
    match renounced {
        Ok(()) => true,
        Err(blkfault::guard::GuardError::Sandbox(SandboxError::Unsupported)) => {
            leave_out("the sandbox", "this kernel has no landlock");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// Files that everybody can read, on most machines, and every way to them that came to mind.
fn probes(outside: &Path) -> Vec<PathBuf> {
    let everywhere = [
        "/etc/passwd",
        "/etc/group",
        "/etc/shadow",
        "/etc/gshadow",
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/etc/nsswitch.conf",
        "/etc/os-release",
        "/etc/fstab",
        "/etc/profile",
        "/etc/ssl/openssl.cnf",
        "/etc/ld.so.cache",
        "/etc/ld.so.conf",
        "/etc/machine-id",
        "/etc/debian_version",
        "/etc/issue",
        "/etc/shells",
        "/etc/login.defs",
        "/etc/security/limits.conf",
        "/etc/pam.d/login",
        "/etc/../etc/passwd",
        "//etc//passwd",
        "/bin/sh",
        "/usr/bin/env",
        "/usr/bin/id",
        "/usr/lib/os-release",
        "/proc/self/status",
        "/proc/self/environ",
        "/proc/self/maps",
        "/proc/self/cmdline",
        "/proc/self/mountinfo",
        "/proc/self/exe",
        "/proc/self/root/etc/passwd",
        "/proc/self/auxv",
        "/proc/self/limits",
        "/proc/self/mounts",
        "/proc/1/status",
        "/proc/1/cmdline",
        "/proc/1/environ",
        "/proc/1/root/etc/passwd",
        "/proc/thread-self/status",
        "/proc/cpuinfo",
        "/proc/meminfo",
        "/proc/version",
        "/proc/cmdline",
        "/proc/kallsyms",
        "/proc/net/unix",
        "/proc/net/tcp",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/core_pattern",
        "/sys/kernel/uevent_seqnum",
        "/sys/power/state",
        "/sys/devices/system/cpu/online",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/fs/cgroup/cgroup.procs",
        "/var/log/dpkg.log",
        "/var/lib/dpkg/status",
        "/root/.bashrc",
        "/root/.profile",
    ];
    let own = [env!("CARGO_BIN_EXE_blkfaultd"), env!("CARGO_MANIFEST_DIR")];
    let own = [own[0].into(), Path::new(own[1]).join("Cargo.toml"), outside.to_owned()];
    everywhere.into_iter().map(PathBuf::from).chain(own).collect()
}

#[test]
fn a_daemon_in_its_sandbox_opens_nothing_that_was_not_named() {
    if !has_landlock() {
        return;
    }
    let (dir, elsewhere) = (folder(), folder());
    let disk = image(dir.path().join("disk.img"));
    let outside = image(elsewhere.path().join("outside.img"));
    let beside = image(dir.path().join("beside.img"));
    std::os::unix::fs::symlink(&outside, dir.path().join("link")).unwrap();
    fs::hard_link(&beside, dir.path().join("hard-link")).unwrap();
    let options = ["--blk-file", disk.to_str().unwrap(), "--sandbox", "landlock"];
    let daemon = Daemon::start(dir.path(), &options);
    let mut operator = daemon.operator();
    let up = Path::new("..").join(elsewhere.path().file_name().unwrap()).join("outside.img");
    let more = [beside, dir.path().join("link"), dir.path().join("hard-link"), dir.path().join(up)];
    let probes: Vec<PathBuf> = probes(&outside).into_iter().chain(more).collect();
    let mut denied = 0;
    for path in &probes {
        for read_only in [true, false] {
            let refused = operator.execute("blockdev-add", file_node("probe", path, read_only));
            let error = refused.expect_err(&path.display().to_string());
            let desc = error["desc"].as_str().unwrap();
            // What is not there, or what not even root may look at.
            if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
                continue;
            }
            // A program that runs, which the kernel looks at first.
            if desc.contains("Text file busy") {
                continue;
            }
            assert!(desc.contains("denied"), "{}: {desc}", path.display());
            assert!(desc.contains("--sandbox landlock, which lets it open"), "{desc}");
            assert!(desc.contains("disk.img' (an image)"), "{desc}");
            assert!(desc.contains("--allow-path PATH"), "{desc}");
            // Ours to read and write, by its mode: the sandbox alone refused it.
            let is_ours = path == &outside;
            assert!(!is_ours || !desc.contains("--modcaps"), "{desc}");
            denied += 1;
        }
    }
    assert!(denied >= 60, "{denied} of {} probes are files here", 2 * probes.len());
    println!("{denied} opens of {} paths: all denied", probes.len());
    let config = elsewhere.path().join("errors.conf");
    fs::write(&config, "[inject-error]\nevent = \"read_aio\"\n").unwrap();
    operator.must("blockdev-add", json!({"driver": "null-co", "node-name": "below", "size": 4096}));
    let node =
        json!({"driver": "blkdebug", "node-name": "bad", "image": "below", "config": config});
    let error = operator.execute("blockdev-add", node).unwrap_err();
    for part in ["Could not read blkdebug config file", "--sandbox landlock", "--allow-path PATH"] {
        assert!(error["desc"].as_str().unwrap().contains(part), "{error}");
    }
    let away = elsewhere.path().join("socket");
    let error = operator.execute("block-export-add", export("away", "disk0", &away)).unwrap_err();
    assert!(error["desc"].as_str().unwrap().contains("--allow-path PATH"), "{error}");
    assert!(!away.exists());
}

#[test]
fn a_daemon_in_its_sandbox_does_all_that_it_is_for() {
    if !has_landlock() {
        return;
    }
    let (dir, more) = (folder(), folder());
    let disk = image(dir.path().join("disk.img"));
    let pidfile = dir.path().join("pid");
    let options = [
        "--blk-file",
        disk.to_str().unwrap(),
        "--sandbox",
        "landlock",
        "--allow-path",
        more.path().to_str().unwrap(),
        "--pidfile",
        pidfile.to_str().unwrap(),
    ];
    let daemon = Daemon::start(dir.path(), &options);
    let mut operator = daemon.operator();
    let (_front, mut queue) = guest(&daemon.socket("disk0"));
    use_the_disk(&mut queue);
    operator.must("block_resize", json!({"device": "disk0", "size": 8 << 20}));
    assert_eq!(fs::metadata(&disk).unwrap().len(), 8 << 20);
    let node = json!({
        "driver": "raw", "node-name": "disk0", "discard": "unmap",
        "file": {"driver": "file", "filename": disk, "cache": {"direct": false}},
    });
    operator.must("blockdev-reopen", json!({"options": [node]}));
    use_the_disk(&mut queue);
    let late = image(more.path().join("late.img"));
    let (away, near) = (more.path().join("away"), dir.path().join("near"));
    operator.must("blockdev-add", file_node("late", &late, false));
    operator.must("block-export-add", export("away", "late", &away));
    operator.must("block-export-add", export("near", "late", &near));
    operator.must("block_resize", json!({"device": "away", "size": 16 << 20}));
    let (_front, mut queue) = guest(&away);
    use_the_disk(&mut queue);
    operator.must("block-export-del", json!({"id": "near"}));
    assert!(!near.exists());
    drop(operator);
    let monitor = daemon.monitor();
    assert_eq!(daemon.terminate().code(), Some(0));
    for path in [&away, &monitor, &pidfile, &dir.path().join("disk0")] {
        assert!(!path.exists(), "{} is left behind", path.display());
    }
}

#[test]
fn a_state_directory_is_written_in_the_sandbox_from_one_daemon_to_the_next() {
    if !has_landlock() {
        return;
    }
    for exists in [false, true] {
        let dir = folder();
        let disk = image(dir.path().join("disk.img"));
        let state = dir.path().join("state");
        if exists {
            fs::create_dir(&state).unwrap();
        }
        let (disk, state) = (disk.to_str().unwrap(), state.to_str().unwrap());
        let options = ["--blk-file", disk, "--sandbox", "landlock", "--state-dir", state];
        let mut daemon = Daemon::start(dir.path(), &options);
        let rule = json!({"effect": "error", "iotype": ["write"]});
        for count in 1..4 {
            let mut operator = daemon.operator();
            operator.must("block-fault-rule-add", json!({"id": "disk0", "rule": rule}));
            let info = operator.must("query-block-fault", json!({"id": "disk0"}));
            assert_eq!(info["state-kept"], true, "{info}");
            drop(operator);
            // The next daemon replaces the file, and so does a disk that is made once more.
            daemon.kill_and_start_again();
            let mut operator = daemon.operator();
            let rules = operator.must("query-block-fault-rules", json!({"id": "disk0"}));
            assert_eq!(rules["rules"].as_array().unwrap().len(), count, "{rules}");
        }
        let mut operator = daemon.operator();
        let late = dir.path().join("late");
        operator.must("block-export-add", export("late", "disk0", &late));
        operator.must("block-export-del", json!({"id": "late"}));
        let kept: Vec<_> = fs::read_dir(state).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(kept, ["disk0.state"], "one that was removed is forgotten");
        let log = daemon.log();
        assert!(!log.contains("ERROR") && !log.contains("denied"), "{log}");
    }
}

#[test]
fn a_state_file_that_may_not_be_opened_is_told_to_be_that() {
    if !has_landlock() {
        return;
    }
    let (dir, elsewhere) = (folder(), folder());
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    let outside = elsewhere.path().join("outside");
    fs::write(&outside, "").unwrap();
    std::os::unix::fs::symlink(&outside, state.join("disk0.state")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_blkfaultd"))
        .args(["--memory", "1M", "--sandbox", "landlock", "--state-dir"])
        .arg(&state)
        .arg("--socket-path")
        .arg(dir.path().join("disk0"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("denied") && said.contains("--sandbox landlock"), "{said}");
    assert!(said.contains("state' (the disks' faults)"), "{said}");
    assert!(!said.contains("move it away") && !said.contains("--modcaps"), "{said}");
}

#[test]
fn an_image_that_another_took_the_place_of_is_refused_for_that() {
    if !has_landlock() {
        return;
    }
    let dir = folder();
    let disk = image(dir.path().join("disk.img"));
    let options = ["--blk-file", disk.to_str().unwrap(), "--sandbox", "landlock"];
    let daemon = Daemon::start(dir.path(), &options);
    fs::rename(image(dir.path().join("new.img")), &disk).unwrap();
    let late = file_node("late", &disk, false);
    let error = daemon.operator().execute("blockdev-add", late).unwrap_err();
    let desc = error["desc"].as_str().unwrap();
    assert!(desc.contains("another has taken its place: --allow-path"), "{desc}");
    assert!(!desc.contains("(an image)") && !desc.contains("--modcaps"), "{desc}");
}

#[test]
fn a_path_that_does_not_exist_cannot_be_let_into_the_sandbox() {
    if !has_landlock() {
        return;
    }
    let dir = folder();
    let socket = dir.path().join("socket");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_blkfaultd"))
        .args(["--memory", "1M", "--sandbox", "landlock", "--allow-path", "/no/such"])
        .arg("--socket-path")
        .arg(&socket)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("'/no/such' cannot be let into the sandbox"), "{said}");
    assert!(!socket.exists());
}

/// The daemon's filter on system calls lets nobody get so far; this is what holds without one.
#[test]
fn a_thread_in_the_sandbox_reaches_no_file_port_or_process() {
    if !has_landlock() {
        return;
    }
    let dir = folder();
    let outside = image(dir.path().join("outside.img"));
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = port.local_addr().unwrap();
    let name = format!("blkfault-test-{}", std::process::id());
    let name = SocketAddr::from_abstract_name(name).unwrap();
    let _listener = UnixListener::bind_addr(&name).unwrap();
    let probes = probes(&outside);
    let denied = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    std::thread::spawn(move || {
        GuardPlan { sandbox: SandboxMode::Landlock, ..GuardPlan::default() }.renounce().unwrap();
        for path in probes {
            File::open(&path).map(|_| path).unwrap_err();
        }
        denied(File::create(dir.path().join("new")).unwrap_err());
        denied(fs::remove_file(&outside).unwrap_err());
        denied(TcpListener::bind("127.0.0.1:0").unwrap_err());
        denied(TcpStream::connect(to).unwrap_err());
        let abstract_socket = UnixStream::connect_addr(&name);
        let parent = rustix::process::getppid().unwrap();
        let signal = rustix::process::test_kill_process(parent);
        // Since Linux 6.12.
        match abstract_socket {
            Err(error) => {
                denied(error);
                assert_eq!(signal, Err(rustix::io::Errno::PERM));
            }
            Ok(_) => leave_out("abstract sockets in the sandbox", "this kernel does not know them"),
        }
    })
    .join()
    .unwrap();
}
