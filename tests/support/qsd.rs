//! QEMU's storage daemon as a process, commanded over its monitor.
//!
//! Knows: its command line. Must not know: what is compared with it. Invariant: the process is gone
//! when its [`Qsd`] is dropped, or when the thread that started it ends.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::front::{Front, ONE_REGION};
use super::operator::Operator;

const PROGRAM: &str = "qemu-storage-daemon";
/// Longest that it may take to have its monitor; far beyond what it needs on a busy machine.
const WAIT: Duration = Duration::from_secs(60);

/// A running storage daemon without nodes or exports.
#[derive(Debug)]
pub struct Qsd {
    child: Child,
    monitor: PathBuf,
}

impl Qsd {
    /// Start it; `None`, said aloud, where it is not installed.
    pub fn start(directory: &Path) -> Option<Self> {
        let version = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            eprintln!("left out: {PROGRAM} is not installed, so nothing was compared with it");
            return None;
        }
        let monitor = directory.join("qsd-monitor");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", PROGRAM, "--chardev"]);
        command.arg(format!("socket,id=c,path={},server=on,wait=off", monitor.display()));
        command.args(["--monitor", "chardev=c"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("setpriv");
        let mut qsd = Self { child, monitor };
        let deadline = Instant::now() + WAIT;
        while !qsd.monitor.exists() {
            let ended = qsd.child.try_wait().expect("wait");
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            assert!(Instant::now() < deadline, "{command:?} has no monitor");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(qsd)
    }

    /// Its monitor's one client.
    pub fn operator(&self) -> Operator {
        // The path is there a moment before it listens.
        let deadline = Instant::now() + WAIT;
        loop {
            match UnixStream::connect(&self.monitor) {
                Ok(stream) => return Operator::over(stream),
                Err(error) => assert!(Instant::now() < deadline, "{PROGRAM}'s monitor: {error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A front end of one of its exports.
    ///
    /// QEMU's export closes a connection now and then that comes just after it was made. Ours has to
    /// take the first.
    pub fn connect(socket: &Path) -> Front {
        let deadline = Instant::now() + WAIT;
        loop {
            match Front::try_connect(socket, ONE_REGION) {
                Ok(front) => return front,
                Err(refusal) => assert!(Instant::now() < deadline, "{refusal:?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Qsd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
