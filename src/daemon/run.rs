//! A daemon's life: everything on the command line made, ready said, signals heard, all ended.
//!
//! Knows: the order of things. Must not know: what a command does. Invariants: "ready" is said once
//! everything works; whatever was made is removed at the end, whichever way it comes.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Daemon;
use crate::export::Inherited;
use crate::monitor::{EventSink, MonitorError, Monitors};
use crate::options::{DiskPlan, Plan};
use crate::qapi::types::{Command, ShutdownCause};

/// How often to look whether a daemon without monitors has lost its last front end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A disk cannot be made.
    #[error("disk {0}: {1}")]
    Disk(String, crate::qapi::QmpError),
    /// A monitor cannot be opened.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// The file for the process id cannot be written.
    #[error("--pidfile {0}: {1}")]
    Pidfile(String, io::Error),
    /// The host refuses something every process needs.
    #[error("{0}: {1}")]
    Host(&'static str, io::Error),
}

/// Serve what the plan says until a signal or `quit` comes.
///
/// # Errors
/// Something of the plan cannot be served; nothing is left behind.
pub fn run(plan: &Plan, inherited: Inherited) -> Result<(), StartError> {
    let (end, ended) = mpsc::channel();
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| StartError::Host("signals cannot be handled", error))?;
    // Exceeding RLIMIT_FSIZE would end the process; with a handler the write fails with EFBIG.
    signal_hook::flag::register(libc::SIGXFSZ, Arc::default())
        .map_err(|error| StartError::Host("signals cannot be handled", error))?;
    let handle = signals.handle();
    let end_by_signal = end.clone();
    let listener = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || hear(signals, &end_by_signal))
        .map_err(|error| StartError::Host("a thread cannot be started", error))?;
    let result = serve(plan, inherited, end, &ended);
    handle.close();
    let _ = listener.join();
    result
}

fn serve(
    plan: &Plan,
    inherited: Inherited,
    end: mpsc::Sender<ShutdownCause>,
    ended: &mpsc::Receiver<ShutdownCause>,
) -> Result<(), StartError> {
    let events =
        EventSink::new().map_err(|error| StartError::Host("events cannot be told", error))?;
    let daemon = Arc::new(Daemon::new(inherited, events.clone(), end));
    for disk in &plan.disks {
        make(&daemon, disk)?;
    }
    daemon.set_ready();
    let monitors = Monitors::start(daemon.clone(), &plan.monitors, events)?;
    let pidfile = plan.pidfile.as_deref().map(Pidfile::write).transpose()?;
    say_ready(plan, &monitors);
    let cause = wait_for_end(plan, &daemon, ended);
    end_of(&daemon, cause);
    // The monitors last: a client that sees its connection end may start the next daemon.
    drop(pidfile);
    drop(monitors);
    Ok(())
}

fn make(daemon: &Daemon, disk: &DiskPlan) -> Result<(), StartError> {
    let named = |error| StartError::Disk(disk.export.id.clone(), error);
    if let Some(node) = &disk.node {
        daemon.execute(Command::BlockdevAdd(node.clone())).map_err(named)?;
    }
    daemon.execute(Command::BlockExportAdd(disk.export.clone())).map_err(named)?;
    Ok(())
}

/// How long an end that was asked for is left alone.
const INSISTING_AFTER: Duration = Duration::from_secs(2);

/// The first signal asks for the end. Others often come with it, to a whole process group. One that
/// comes much later insists, in case the host holds an image fast.
fn hear(mut signals: Signals, end: &mpsc::Sender<ShutdownCause>) {
    let mut asked: Option<Instant> = None;
    for signal in signals.forever() {
        match asked {
            None => {
                log::info!("signal {signal}: ending");
                let _ = end.send(ShutdownCause::HostSignal);
                asked = Some(Instant::now());
            }
            Some(asked) if asked.elapsed() < INSISTING_AFTER => {}
            Some(_) => {
                log::error!("signal {signal} again: ending at once, sockets stay behind");
                std::process::exit(1);
            }
        }
    }
}

/// Until somebody asks for the end, or nobody can ever come again.
fn wait_for_end(
    plan: &Plan,
    daemon: &Daemon,
    ended: &mpsc::Receiver<ShutdownCause>,
) -> ShutdownCause {
    let by_connection = |disk: &DiskPlan| disk.is_by_descriptor();
    if !plan.monitors.is_empty() || !plan.disks.iter().all(by_connection) {
        return ended.recv().unwrap_or(ShutdownCause::HostError);
    }
    // Without a monitor or a path, the daemon is of no use once the doors it inherited have closed.
    loop {
        match ended.recv_timeout(LOOK_EVERY) {
            Ok(cause) => return cause,
            Err(mpsc::RecvTimeoutError::Timeout) if daemon.is_serving() => {}
            Err(_) => return ShutdownCause::HostError,
        }
    }
}

fn end_of(daemon: &Daemon, cause: ShutdownCause) {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    // `quit` has announced itself, before its reply.
    if cause != ShutdownCause::HostQmpQuit {
        daemon.announce_shutdown(cause);
    }
    daemon.stop();
}

/// One line for whoever waits on our output, and a message for systemd.
fn say_ready(plan: &Plan, monitors: &Monitors) {
    let disks = plan.disks.iter().map(|disk| format!("disk {}", disk.export.id));
    let monitors = monitors.addresses().iter().map(|address| format!("monitor {address}"));
    let all: Vec<String> = disks.chain(monitors).collect();
    // Nobody may be listening, which is no reason to end.
    let _ = writeln!(io::stdout(), "ready: {}", all.join(", "));
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// The process id in a file, locked while the process lives and removed at its end.
#[derive(Debug)]
struct Pidfile {
    path: PathBuf,
    _locked: File,
}

impl Pidfile {
    fn write(path: &Path) -> Result<Self, StartError> {
        let failed = |error| StartError::Pidfile(path.display().to_string(), error);
        let mut file =
            File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| failed(io::Error::other("locked by a live process")))?;
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _locked: file })
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
