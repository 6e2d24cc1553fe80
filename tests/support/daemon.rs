//! `blkfaultd` as a process: started, ended, killed, started again.
//!
//! Knows: its command line, its ready line, the monitor's commands that many stories use. Must not
//! know: what is tested. Invariant: the process is gone when its [`Daemon`] is dropped, or when the
//! thread that started it ends.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::operator::Operator;

/// Longest that it may take to be ready or to end; far beyond what it needs on a busy machine.
const WAIT: Duration = Duration::from_secs(60);

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    command: Command,
    child: Child,
    directory: PathBuf,
}

impl Daemon {
    /// Serve one disk, `disk0`, with these options; sockets and log lie in the directory.
    pub fn start(directory: &Path, options: &[&str]) -> Self {
        Self::start_inside(directory, &[], options)
    }

    /// The same by another program, which must become the daemon (`nsenter`).
    pub fn start_inside(directory: &Path, wrapper: &[&str], options: &[&str]) -> Self {
        let mut command = program(directory, wrapper);
        command.args(["--id", "disk0", "--socket-path"]).arg(directory.join("disk0"));
        command.args(options);
        Self::spawn(command, directory)
    }

    /// Serve several disks, each given as `--disk` takes them, from `id=ID` on and without a socket:
    /// that is `ID` in the directory.
    pub fn start_disks(directory: &Path, disks: &[&str]) -> Self {
        Self::spawn(program_with_disks(directory, disks), directory)
    }

    /// The same, but what it says on stderr goes elsewhere than to its log.
    pub fn start_disks_saying_to(stderr: Stdio, directory: &Path, disks: &[&str]) -> Self {
        let mut command = program_with_disks(directory, disks);
        command.stderr(stderr);
        let child = wait_until_ready(&mut command, directory)
            .unwrap_or_else(|said| panic!("{command:?} ended: {said}"));
        Self { command, child, directory: directory.to_owned() }
    }

    fn spawn(mut command: Command, directory: &Path) -> Self {
        let child = spawn_until_ready(&mut command, directory);
        Self { command, child, directory: directory.to_owned() }
    }

    /// The vhost-user socket of the disk.
    pub fn socket(&self, id: &str) -> PathBuf {
        self.directory.join(id)
    }

    /// A new connection to the monitor.
    pub fn operator(&self) -> Operator {
        Operator::connect(&self.monitor())
    }

    /// The monitor's socket.
    pub fn monitor(&self) -> PathBuf {
        self.directory.join("monitor")
    }

    /// The port of its monitor on TCP, which the host has chosen. No test takes another's so.
    pub fn tcp_port(&self) -> u16 {
        let ready = read(&self.directory.join("daemon.out"));
        let (_, address) = ready.split_once("monitor tcp:").expect("a monitor on TCP");
        let address = address.split([',', '\n']).next().unwrap_or_default();
        let port = address.rsplit_once(':').and_then(|(_, port)| port.trim().parse().ok());
        port.unwrap_or_else(|| panic!("no port in {ready}"))
    }

    /// What the daemon has said on stderr so far, in all its lives.
    pub fn log(&self) -> String {
        read(&self.directory.join("daemon.log"))
    }

    /// Wait until it has said something as often as this, in all its lives.
    pub fn wait_said(&self, words: &str, times: usize) {
        let deadline = Instant::now() + WAIT;
        while self.log().matches(words).count() < times {
            assert!(Instant::now() < deadline, "not {times} times {words:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kill it without a warning and start it again.
    pub fn kill_and_start_again(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Kill it without a warning, and wait until the process is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Kill it when some time has passed, whatever the caller does meanwhile.
    pub fn kill_after(&self, wait: Duration) -> JoinHandle<()> {
        let pid = Pid::from_child(&self.child);
        std::thread::spawn(move || {
            std::thread::sleep(wait);
            kill_process(pid, Signal::KILL).expect("kill");
        })
    }

    /// Start another copy of the program from now on, as after an upgrade.
    pub fn replace_binary(&mut self) {
        let upgraded = self.directory.join("blkfaultd");
        let _ = fs::remove_file(&upgraded);
        fs::copy(env!("CARGO_BIN_EXE_blkfaultd"), &upgraded).expect("copy the program");
        let arguments = self.command.get_args().map(ToOwned::to_owned).collect::<Vec<_>>();
        let is_program = |argument: &OsString| {
            Path::new(argument).file_name().is_some_and(|name| name == "blkfaultd")
        };
        let place = arguments.iter().position(is_program).expect("the program is started");
        let mut command = Command::new(self.command.get_program());
        command.args(&arguments[..place]).arg(upgraded).args(&arguments[place + 1..]);
        self.command = command;
    }

    /// Ask it to end and wait for that; it can be started again.
    pub fn end(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("SIGTERM");
        self.wait()
    }

    /// Wait until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + WAIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < deadline, "the daemon does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Start it again after it has ended, as a supervisor does: what the dead one asked of its image
    /// may keep the image's lock for longer than a start waits for it.
    pub fn start_again(&mut self) {
        let deadline = Instant::now() + WAIT;
        while let Err(said) = self.try_start_again() {
            let waits = said.contains("lock") && Instant::now() < deadline;
            assert!(waits, "the daemon does not start again: {said}");
        }
    }

    /// Try to start it again, whatever has become of it; if it ends at once, what it said.
    pub fn try_start_again(&mut self) -> Result<(), String> {
        self.child = try_spawn_until_ready(&mut self.command, &self.directory)?;
        Ok(())
    }

    /// Ask it to end (SIGTERM) and wait for that.
    pub fn terminate(mut self) -> ExitStatus {
        self.end()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon's last words:\n{}", tail(&self.log()));
        }
    }
}

/// The last part of a long text.
pub fn tail(text: &str) -> &str {
    const CHARACTERS: usize = 4000;
    let at = text.char_indices().nth_back(CHARACTERS).map_or(0, |(at, _)| at);
    &text[at..]
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn program(directory: &Path, wrapper: &[&str]) -> Command {
    // The signal ends it with the thread that started it, however that ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(wrapper).arg(env!("CARGO_BIN_EXE_blkfaultd"));
    command.arg("--monitor").arg(format!("unix:{}", directory.join("monitor").display()));
    command
}

fn program_with_disks(directory: &Path, disks: &[&str]) -> Command {
    let mut command = program(directory, &[]);
    for disk in disks {
        let id = disk.strip_prefix("id=").expect("id= comes first").split(',').next();
        let socket = directory.join(id.expect("an id"));
        command.arg("--disk").arg(format!("{disk},socket-path={}", socket.display()));
    }
    command
}

/// Start it and wait for the line on stdout that says it is ready.
fn spawn_until_ready(command: &mut Command, directory: &Path) -> Child {
    try_spawn_until_ready(command, directory)
        .unwrap_or_else(|said| panic!("{command:?} ended: {said}"))
}

/// The same; if it ends instead, what it said.
fn try_spawn_until_ready(command: &mut Command, directory: &Path) -> Result<Child, String> {
    let log = File::options().create(true).append(true).open(directory.join("daemon.log"));
    command.stderr(log.expect("a log file"));
    wait_until_ready(command, directory)
}

fn wait_until_ready(command: &mut Command, directory: &Path) -> Result<Child, String> {
    let (stdout, log) = (directory.join("daemon.out"), directory.join("daemon.log"));
    command.stdin(Stdio::null()).stdout(File::create(&stdout).expect("a file for stdout"));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let deadline = Instant::now() + WAIT;
    while !read(&stdout).contains('\n') {
        let ended = child.try_wait().expect("wait");
        let said = tail(&read(&log)).to_owned();
        if let Some(status) = ended {
            return Err(format!("{status}: {said}"));
        }
        assert!(Instant::now() < deadline, "{command:?} is not ready: {said}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(child)
}

/// What every story about states does.
pub fn set_state(operator: &mut Operator, id: &str, state: &str) {
    operator.must("set-block-fault-state", json!({ "id": id, "state": state }));
}

/// A counter of a disk in `query-blockstats`.
pub fn counter(operator: &mut Operator, id: &str, name: &str) -> u64 {
    let all = operator.must("query-blockstats", json!({}));
    let disks = all.as_array().expect("a list");
    let disk = disks.iter().find(|disk| disk["device"] == id);
    let value: &Value = &disk.unwrap_or_else(|| panic!("no {id} in {all}"))["stats"][name];
    value.as_u64().unwrap_or_else(|| panic!("{name} is {value}"))
}

/// Requests of earlier connections and lives that the daemon has done again in this life.
pub fn resubmitted(operator: &mut Operator, id: &str) -> u64 {
    let told = operator.must("query-block-fault", json!({ "id": id }));
    told["resubmitted"].as_u64().unwrap_or_else(|| panic!("no count in {told}"))
}

/// How many lines of a log say something, and how often that was to be said, those left out included.
pub fn told(log: &str, words: &str) -> (usize, usize) {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(words)).collect();
    let more = |line: &&str| {
        let (_, more) = line.strip_suffix(" more lately)")?.rsplit_once('(')?;
        more.parse::<usize>().ok()
    };
    (lines.len(), lines.len() + lines.iter().filter_map(more).sum::<usize>())
}
