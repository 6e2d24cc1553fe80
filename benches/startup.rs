//! How long `blkfaultd` takes from start to ready and from SIGTERM to its end, and how much memory it
//! has with one untouched memory disk. `cargo bench --bench startup`.
//!
//! Beside it, in turns, qemu-storage-daemon with a null node of the same size, where it is installed:
//! its start ends when its monitor answers, as ours does when the ready line is out.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 15;

/// One life of a daemon.
struct Life {
    start: Duration,
    resident_kib: u64,
    end: Duration,
}

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut ours = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..RUNS {
        ours.push(live(start_blkfaultd(dir.path())));
        peers.extend(start_peer(dir.path()).map(live));
    }
    println!("{RUNS} runs each: median (min to max)");
    let ours = summary("blkfaultd", &ours);
    if peers.is_empty() {
        println!("qemu-storage-daemon is not installed: no comparison");
        return;
    }
    let peer = summary("qemu-storage-daemon", &peers);
    println!("ratio, ours to theirs: start {:.2}, memory {:.2}", ours.0 / peer.0, ours.1 / peer.1);
}

fn live((mut child, start): (Child, Duration)) -> Life {
    let resident_kib = resident_kib(child.id());
    let asked = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM");
    child.wait().expect("an end");
    Life { start, resident_kib, end: asked.elapsed() }
}

fn start_blkfaultd(dir: &Path) -> (Child, Duration) {
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_blkfaultd"))
        .args(["--memory", "1G", "--socket-path"])
        .arg(dir.join("disk.sock"))
        .arg("--monitor")
        .arg(format!("unix:{}", dir.join("monitor").display()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("blkfaultd");
    let mut line = String::new();
    let out = child.stdout.take().expect("standard output");
    BufReader::new(out).read_line(&mut line).expect("a line");
    assert!(line.starts_with("ready"), "{line:?}");
    (child, started.elapsed())
}

fn start_peer(dir: &Path) -> Option<(Child, Duration)> {
    let path = dir.join("peer-monitor");
    let _ = std::fs::remove_file(&path);
    let started = Instant::now();
    let mut child = Command::new("qemu-storage-daemon")
        .args(["--blockdev", "driver=null-co,node-name=n0,size=1073741824"])
        .args(["--chardev", &format!("socket,id=c,path={},server=on,wait=off", path.display())])
        .args(["--monitor", "chardev=c", "--export"])
        .arg(format!(
            "type=vhost-user-blk,id=e0,node-name=n0,addr.type=unix,addr.path={}",
            dir.join("peer.sock").display()
        ))
        .spawn()
        .ok()?;
    let mut monitor = loop {
        if let Ok(stream) = UnixStream::connect(&path) {
            break stream;
        }
        if child.try_wait().ok()?.is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_micros(200));
    };
    monitor.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").ok()?;
    let mut lines = BufReader::new(monitor).lines();
    lines.next().and_then(|_greeting| lines.next())?.ok()?;
    Some((child, started.elapsed()))
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// Prints a row; medians of start in milliseconds and of memory in MiB.
fn summary(name: &str, lives: &[Life]) -> (f64, f64) {
    let milliseconds = |d: Duration| d.as_secs_f64() * 1e3;
    let start = spread(lives.iter().map(|life| milliseconds(life.start)));
    let end = spread(lives.iter().map(|life| milliseconds(life.end)));
    #[allow(clippy::cast_precision_loss)]
    let memory = spread(lives.iter().map(|life| life.resident_kib as f64 / 1024.0));
    let row = |what: &str, unit: &str, (low, median, high): (f64, f64, f64)| {
        println!("{name:20} {what:16} {median:7.2} {unit} ({low:.2} to {high:.2})");
    };
    row("start to ready", "ms ", start);
    row("SIGTERM to end", "ms ", end);
    row("resident memory", "MiB", memory);
    (start.1, memory.1)
}

fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}
