//! A daemon's life: everything on the command line made, ready said, signals heard, all ended.
//!
//! Knows: the order of things. Must not know: what a command does. Invariants: "ready" is said once
//! everything works; whatever was made is removed at the end, whichever way it comes.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::journal::open_locked;
use super::{Daemon, StateDir, descriptors};
use crate::export::{self, Inherited};
use crate::guard::{Group, GroupError, GuardError, GuardPlan};
use crate::logging::{self, Writer};
use crate::monitor::{EventSink, MonitorError, Monitors, OpenMonitors};
use crate::options::{DiskPlan, Plan};
use crate::qapi::types::{Command, ShutdownCause};
use crate::retry::Retry;

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
    /// The directory for the faults cannot be used.
    #[error("--state-dir {0}: {1}")]
    StateDir(String, io::Error),
    /// The sockets cannot be the group's.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// A privilege cannot be given up.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The host refuses something every process needs.
    #[error("{0}: {1}")]
    Host(&'static str, io::Error),
}

/// Serve what the plan says until a signal or `quit` comes.
///
/// # Errors
/// Something of the plan cannot be served; nothing is left behind.
pub fn run(plan: &Plan, inherited: Inherited) -> Result<(), StartError> {
    descriptors::raise_limit(plan);
    let group = plan.socket_group.as_deref().map(Group::join).transpose()?;
    let (end, ended) = mpsc::channel();
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| StartError::Host("signals cannot be handled", error))?;
    // Exceeding RLIMIT_FSIZE would end the process; with a handler the write fails with EFBIG.
    signal_hook::flag::register(libc::SIGXFSZ, Arc::default())
        .map_err(|error| StartError::Host("signals cannot be handled", error))?;
    let handle = signals.handle();
    let writer = Writer::take_over();
    // Goes on until the process ends: somebody may keep it waiting.
    start_alone("log", &plan.guard, || writer.write_on())?;
    let asked = end.clone();
    let listener = start_alone("signals", &plan.guard, move || hear(signals, &asked))?;
    let daemon = |events| Daemon::new(inherited, group, events, end);
    let result = serve(plan, daemon, &ended);
    handle.close();
    let _ = listener.join();
    result
}

/// Start a thread that gives up its privileges before this returns: others cannot do it for the
/// thread, and it could not do it any more under the filter on system calls.
fn start_alone(
    name: &str,
    guard: &GuardPlan,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let guard = guard.clone();
    let (tell, told) = mpsc::channel();
    let thread = Builder::new().name(name.to_owned()).spawn(move || {
        let renounced = guard.renounce();
        let is_alone = renounced.is_ok();
        let _ = tell.send(renounced);
        if is_alone {
            work();
        }
    });
    let thread = thread.map_err(|error| StartError::Host("a thread cannot be started", error))?;
    let gone = |_| StartError::Host("a thread has ended", io::ErrorKind::Other.into());
    told.recv().map_err(gone)??;
    Ok(thread)
}

fn serve(
    plan: &Plan,
    daemon: impl FnOnce(EventSink) -> Daemon,
    ended: &mpsc::Receiver<ShutdownCause>,
) -> Result<(), StartError> {
    let events =
        EventSink::new().map_err(|error| StartError::Host("events cannot be told", error))?;
    let state_dir = plan.state_dir.as_deref().map(open_state_dir).transpose()?;
    let daemon = Arc::new(daemon(events.clone()).remembering(state_dir));
    // What needs privileges, and serves nobody yet.
    plan.disks.iter().try_for_each(|disk| open_store(&daemon, disk))?;
    let monitors = OpenMonitors::open(&plan.monitors, daemon.retry())?;
    let pidfile = plan.pidfile.as_deref().map(|path| Pidfile::lock(path, daemon.retry()));
    let mut pidfile = pidfile.transpose()?;
    export::open_beforehand();
    plan.guard.engage()?;
    plan.disks.iter().try_for_each(|disk| show(&daemon, disk))?;
    daemon.set_ready();
    let monitors = monitors.serve(daemon.clone(), events)?;
    pidfile.as_mut().map(Pidfile::write).transpose()?;
    // Whoever waits for us to be ready can read by then what was wrong.
    logging::finish();
    say_ready(plan, &monitors);
    let cause = wait_for_end(plan, &daemon, ended);
    end_of(&daemon, cause);
    // The monitors last: a client that sees its connection end may start the next daemon.
    drop(pidfile);
    drop(monitors);
    Ok(())
}

fn open_state_dir(path: &Path) -> Result<StateDir, StartError> {
    StateDir::open(path).map_err(|error| StartError::StateDir(path.display().to_string(), error))
}

fn open_store(daemon: &Daemon, disk: &DiskPlan) -> Result<(), StartError> {
    disk.node.as_ref().map_or(Ok(()), |node| make(daemon, disk, Command::BlockdevAdd(node.clone())))
}

fn show(daemon: &Daemon, disk: &DiskPlan) -> Result<(), StartError> {
    make(daemon, disk, Command::BlockExportAdd(disk.export.clone()))
}

fn make(daemon: &Daemon, disk: &DiskPlan, command: Command) -> Result<(), StartError> {
    let named = |error| StartError::Disk(disk.export.id.clone(), error);
    daemon.execute(command).map(|_| ()).map_err(named)
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
                logging::finish();
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
    locked: File,
}

impl Pidfile {
    fn lock(path: &Path, retry: Retry) -> Result<Self, StartError> {
        let failed = |error| StartError::Pidfile(path.display().to_string(), error);
        let is_held = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        // As QEMU's, for its owner alone: whoever could open it could lock it, and keep the next
        // daemon from starting.
        let opened = retry.attempt(is_held, || open_locked(path));
        let locked = opened.map_err(|error| {
            failed(if is_held(&error) {
                io::Error::other("locked by a live process")
            } else {
                error
            })
        })?;
        locked.set_len(0).map_err(failed)?;
        Ok(Self { path: path.to_owned(), locked })
    }

    fn write(&mut self) -> Result<(), StartError> {
        let id = std::process::id();
        let failed = |error| StartError::Pidfile(self.path.display().to_string(), error);
        writeln!(self.locked, "{id}").map_err(failed)
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
