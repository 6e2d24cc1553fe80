//! The filter on system calls.
//!
//! A filter cannot be taken off, so each call is made by a process of its own: this test program
//! again, told by the environment to install the daemon's filter and make the call.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use blkfault::guard::calls::{When, allowed};
use blkfault::guard::{SeccompMode, install_seccomp};
use serde_json::json;

use crate::support::daemon::Daemon;
use crate::{export, file_node, folder, guest, image, use_the_disk};

const CALL: &str = "BLKFAULT_TEST_CALL";
const MODE: &str = "BLKFAULT_TEST_MODE";
/// The status of a child that came through its call.
const CAME_THROUGH: i32 = 77;

/// What the child says when it comes through.
fn child() {
    let mode = match std::env::var(MODE).unwrap().as_str() {
        "kill" => SeccompMode::Kill,
        _ => SeccompMode::Log,
    };
    let words = std::env::var(CALL).unwrap();
    let words: Vec<i64> = words.split(' ').map(|word| word.parse().unwrap()).collect();
    let argument = |index: usize| words.get(index).copied().unwrap_or(-1);
    install_seccomp(mode).unwrap();
    // SAFETY: a call that fails for its arguments, or whose harm is this process's alone.
    let result = unsafe {
        libc::syscall(
            argument(0),
            argument(1),
            argument(2),
            argument(3),
            argument(4),
            argument(5),
            argument(6),
        )
    };
    let errno = std::io::Error::last_os_error().raw_os_error();
    eprintln!("result {result} errno {errno:?}");
    std::process::exit(CAME_THROUGH);
}

fn run_again(test: &str, variables: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

const HELPER: &str = "calls::a_process_that_makes_one_call";

/// No test of its own: the other ones run it in a process of its own.
#[test]
fn a_process_that_makes_one_call() {
    if std::env::var_os(CALL).is_some() {
        child();
    }
}

fn make(call: &[i64], mode: &str) -> Output {
    let words: Vec<_> = call.iter().map(ToString::to_string).collect();
    run_again(HELPER, &[(CALL, &words.join(" ")), (MODE, mode)])
}

fn is_killed(output: &Output) -> bool {
    output.status.signal() == Some(libc::SIGSYS)
}

#[test]
fn every_system_call_that_is_not_in_the_table_ends_the_process() {
    let table: BTreeSet<i64> = allowed().map(|call| call.number).collect();
    /// Beyond all that the kernel has today, in its ordinary numbers.
    const LAST: i64 = 500;
    // The kernel's own, for probes in programs: no filter sees them, and they do nothing elsewhere.
    let is_probe = |number: i64| cfg!(target_arch = "x86_64") && [335, 336].contains(&number);
    let is_forbidden = |number: &i64| !table.contains(number) && !is_probe(*number);
    let forbidden: Vec<i64> = (0..=LAST).filter(is_forbidden).collect();
    assert!(forbidden.len() > 300, "{}", forbidden.len());
    // The numbers of x32 are another set of doors into the same kernel.
    for number in forbidden.into_iter().chain([0x4000_0000 + libc::SYS_getpid]) {
        let output = make(&[number], "kill");
        assert!(is_killed(&output), "system call {number}: {output:?}");
    }
}

#[test]
fn a_call_of_the_table_with_arguments_it_is_not_there_for_ends_the_process() {
    let exec = i64::from(libc::PROT_READ | libc::PROT_EXEC);
    let private = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let stream = i64::from(libc::SOCK_STREAM);
    let int = i64::from;
    let cases: &[(&str, &[i64])] = &[
        ("mmap of code", &[libc::SYS_mmap, 0, 4096, exec, private, -1, 0]),
        ("mprotect to code", &[libc::SYS_mprotect, 0, 0, exec]),
        ("a TCP socket", &[libc::SYS_socket, int(libc::AF_INET), stream, 0]),
        ("an IPv6 socket", &[libc::SYS_socket, int(libc::AF_INET6), stream, 0]),
        ("netlink", &[libc::SYS_socket, int(libc::AF_NETLINK), int(libc::SOCK_RAW), 0]),
        ("vsock", &[libc::SYS_socket, int(libc::AF_VSOCK), stream, 0]),
        ("fork", &[libc::SYS_clone, int(libc::SIGCHLD), 0]),
        ("a user namespace", &[libc::SYS_clone, int(libc::CLONE_NEWUSER), 0]),
        ("who gets signals", &[libc::SYS_fcntl, 0, int(libc::F_SETOWN), 1]),
        ("a lease", &[libc::SYS_fcntl, 0, int(libc::F_SETLEASE), 0]),
        ("typing into a terminal", &[libc::SYS_ioctl, 0, libc::TIOCSTI as i64, 0]),
        ("dumpable again", &[libc::SYS_prctl, int(libc::PR_SET_DUMPABLE), 1]),
        ("another limit", &[libc::SYS_prlimit64, 0, int(libc::RLIMIT_CORE as i32), 4096, 0]),
        ("a signal to init", &[libc::SYS_tgkill, 1, 1, 0]),
        ("a handler of our own", &[libc::SYS_rt_sigaction, int(libc::SIGSYS), 0, 0, 8]),
        (
            "a socket option",
            &[libc::SYS_setsockopt, 0, int(libc::SOL_SOCKET), int(libc::SO_REUSEADDR), 0, 0],
        ),
        ("files of a ring", &[libc::SYS_io_uring_register, -1, 2, 0, 0]),
    ];
    for (what, call) in cases {
        let output = make(call, "kill");
        assert!(is_killed(&output), "{what}: {output:?}");
    }
}

#[test]
fn a_call_of_the_table_is_made_and_clone3_is_none() {
    let said = |call: &[i64], mode| {
        let output = make(call, mode);
        assert_eq!(output.status.code(), Some(CAME_THROUGH), "{call:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(said(&[libc::SYS_close, -1], "kill").contains("errno Some(9)"), "EBADF");
    let clone3 = said(&[libc::SYS_clone3, 0, 0], "kill");
    assert!(clone3.contains("errno Some(38)"), "ENOSYS: {clone3}");
    // With `log`, what is forbidden is done all the same.
    let parent = said(&[libc::SYS_getppid], "log");
    assert!(parent.contains(&format!("result {}", std::process::id())), "{parent}");
}

/// On the machines that most readers have.
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
#[test]
fn the_readme_tells_how_many_calls_there_are() {
    let all = allowed().count();
    let some = allowed().filter(|call| !matches!(call.when, When::Always)).count();
    let readme = include_str!("../../README.md");
    let told = format!("{all} are allowed, {some} of them with certain arguments only");
    assert!(readme.contains(&told), "{told}");
}

/// What the standard library does besides calls of ours, until the very end.
#[test]
fn threads_panics_and_an_abort_are_what_they_always_were() {
    const ALONE: &str = "BLKFAULT_TEST_ABORT";
    if std::env::var_os(ALONE).is_some() {
        install_seccomp(SeccompMode::Kill).unwrap();
        let thread = std::thread::Builder::new().name("unhappy".into());
        let ended = thread.spawn(|| panic!("on purpose")).unwrap().join();
        assert!(ended.is_err());
        let mut map = std::collections::HashMap::new();
        map.insert(1, vec![0_u8; 64 << 20]);
        std::thread::sleep(std::time::Duration::from_millis(1));
        std::process::abort();
    }
    let name = "calls::threads_panics_and_an_abort_are_what_they_always_were";
    let output = run_again(name, &[(ALONE, "1"), ("RUST_BACKTRACE", "full")]);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("on purpose") && said.contains("stack backtrace"), "{said}");
}

#[test]
fn every_kind_of_disk_works_under_the_filter() {
    let dir = folder();
    let path = |name: &str| image(dir.path().join(name)).display().to_string();
    let disks = [
        "id=memory,memory=4M".to_owned(),
        "id=null,format=null,size=4M".to_owned(),
        format!("id=uring,blk-file={},cache=writethrough", path("uring.img")),
        format!("id=threads,blk-file={},aio=threads", path("threads.img")),
        format!("id=direct,blk-file={},cache=none,num-queues=2", path("direct.img")),
    ];
    let disks: Vec<&str> = disks.iter().map(String::as_str).collect();
    let daemon = Daemon::start_disks(dir.path(), &disks);
    for id in ["memory", "null", "uring", "threads", "direct"] {
        let (_front, mut queue) = guest(&daemon.socket(id));
        use_the_disk(&mut queue);
    }
    let mut operator = daemon.operator();
    let late = image(dir.path().join("late.img"));
    operator.must("blockdev-add", file_node("late", &late, false));
    operator.must("block-export-add", export("late", "late", &dir.path().join("late")));
    operator.must("block_resize", json!({"device": "late", "size": 8 << 20}));
    let (_front, mut queue) = guest(&daemon.socket("late"));
    use_the_disk(&mut queue);
    // Time passes in the kernel, and then in a thread of its own.
    let slow = json!({"id": "late", "rule": {"effect": "delay", "delay": 1_000_000}});
    operator.must("block-fault-rule-add", slow);
    use_the_disk(&mut queue);
    operator.must("block-fault-break", json!({"id": "late", "tag": "A"}));
    operator.must("block-fault-break-remove", json!({"id": "late", "tag": "A"}));
    operator.must("quit", json!({}));
}

#[test]
fn every_command_is_answered_under_the_filter_whatever_comes_of_it() {
    let dir = folder();
    let daemon = Daemon::start(dir.path(), &["--memory", "1M"]);
    let mut operator = daemon.operator();
    let commands = operator.must("query-commands", json!({}));
    let names: Vec<_> =
        commands.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names.into_iter().filter(|name| *name != "quit") {
        let _ = operator.execute(name, json!({}));
        let _ = operator.execute(name, json!({"id": "disk0", "device": "disk0"}));
    }
    // A call that a stop interrupts is begun again by a call of its own.
    let id = daemon.id().to_string();
    for signal in ["-STOP", "-CONT"] {
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
    operator.must("query-block", json!({}));
    drop(operator);
    assert_eq!(daemon.terminate().code(), Some(0));
}
