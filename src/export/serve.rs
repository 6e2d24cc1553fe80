//! One thread per disk: accept a front end, serve its messages, refuse a second one.
//!
//! Knows: the listening socket, the connection being served, and whether faults leave the
//! [`Line`] to front ends up. Must not know: what messages mean. Invariant: at most one front end at
//! a time, none while the line is down; whatever a front end does, the next may connect after it,
//! and nothing of it is left behind, unless too much of what was [`passed`](super::passed) cannot be
//! closed; the owner, who asks for the end, does not wait for this thread for ever.
//!
//! That the one before has gone is not always known when the next connects: what it sent last may
//! not have been read, and a child that it forked has a copy of its socket until that child
//! executes. So the next waits in the backlog for a moment before it is refused.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::connection::{Connection, Served};
use super::disk::Disk;
use super::passed::open_beforehand;
use crate::block::Line;
use crate::logging::this_thread_serves;

/// How long to let the host recover after it could not give a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long the end of a service may take: a second, on a machine that has nothing else to do.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a front end may take to go once the next one is there.
const GOING: Duration = Duration::from_millis(200);
/// As many as a backlog has: front ends that are refused before the one that is served has its turn.
const REFUSED_AT_ONCE: usize = 128;

/// Where front ends come in.
#[derive(Debug)]
pub enum Door {
    /// Front ends connect here, one at a time, as often as they like.
    Listener(UnixListener),
    /// The one front end there will ever be.
    Connected(UnixStream),
}

/// A disk being served. Dropping it ends the service.
pub struct Export {
    disk: Arc<Disk>,
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
    /// Nothing is ever sent: the other end goes with the thread's work.
    ended: Mutex<Receiver<()>>,
}

/// What the owner tells the serving thread.
#[derive(Debug)]
struct Control {
    wake: EventFd,
    resized: AtomicBool,
}

impl Export {
    /// Serve a disk through a door.
    ///
    /// # Errors
    /// When the host has no descriptor or thread left.
    pub fn start(disk: Arc<Disk>, door: Door) -> io::Result<Self> {
        open_beforehand();
        let control = Arc::new(Control {
            wake: EventFd::new(EFD_NONBLOCK)?,
            resized: AtomicBool::new(false),
        });
        let line = disk.node().line().unwrap_or_default();
        line.watch(rustix::io::fcntl_dupfd_cloexec(&control, 0)?);
        let mut server = Server {
            disk: disk.clone(),
            control: control.clone(),
            line,
            listener: None,
            connection: None,
            contested_until: None,
        };
        match door {
            Door::Listener(listener) => {
                listener.set_nonblocking(true)?;
                server.listener = Some(listener);
            }
            Door::Connected(stream) => server.connect(stream)?,
        }
        let name = format!("{}/export", disk.options.id);
        let (ends, ended) = mpsc::channel();
        let serve = move || {
            // Dropped after the server.
            let _ends: mpsc::Sender<()> = ends;
            server.run();
        };
        let thread = std::thread::Builder::new().name(name).spawn(serve)?;
        Ok(Self { disk, control, thread: Some(thread), ended: Mutex::new(ended) })
    }

    /// The disk being served.
    #[must_use]
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Tell the guest that the disk has another size now.
    pub fn announce_resize(&self) {
        self.control.resized.store(true, Ordering::SeqCst);
        let _ = self.control.wake.write(1);
    }

    /// Whether front ends are still served: false once the only one there will ever be has gone.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// End the service: the front end is disconnected, its requests at the image are awaited.
    ///
    /// # Errors
    /// The thread that serves front ends does not end. Guests are served no more, but the image may
    /// still be used.
    pub fn stop(mut self) -> Result<(), LeftBehind> {
        self.end()
    }

    fn end(&mut self) -> Result<(), LeftBehind> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.disk.ending.ask();
        let _ = self.control.wake.write(1);
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(END_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            self.disk.ending.leave_behind();
            log::error!(
                "disk {}: the thread that serves front ends does not end: it is left behind",
                self.disk.options.id
            );
            return Err(LeftBehind(thread));
        }
        let _ = thread.join();
        Ok(())
    }
}

/// A serving thread that does not end.
#[derive(Debug)]
pub struct LeftBehind(JoinHandle<()>);

impl LeftBehind {
    #[cfg(test)]
    pub(crate) fn new(thread: JoinHandle<()>) -> Self {
        Self(thread)
    }

    /// Wait for it, as long as that may take.
    pub fn wait(self) {
        let _ = self.0.join();
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("disk", &self.disk).finish_non_exhaustive()
    }
}

/// What the serving thread owns.
struct Server {
    disk: Arc<Disk>,
    control: Arc<Control>,
    /// What the disk's faults say about front ends.
    line: Arc<Line>,
    listener: Option<UnixListener>,
    connection: Option<Connection>,
    /// Another front end is there: when it is refused, unless the connection ends.
    contested_until: Option<Instant>,
}

/// Which of the descriptors want attention.
#[derive(Debug, Default)]
struct Ready {
    control: bool,
    listener: bool,
    connection: bool,
}

impl Server {
    fn run(mut self) {
        this_thread_serves(&self.disk.options.id);
        // A front end that was there before the service is cut off by what was decided before it.
        self.cut();
        loop {
            let ready = self.wait();
            if ready.control {
                let _ = self.control.wake.read();
                if self.disk.ending.asked().is_some() {
                    break;
                }
                self.cut();
                self.pass_on_resize();
            }
            if ready.connection {
                self.serve();
            }
            if ready.listener {
                self.answer_those_who_wait();
            }
            if self.listener.is_none() && self.connection.is_none() {
                break;
            }
        }
        self.disconnect();
    }

    fn wait(&self) -> Ready {
        let listener = self.listener.as_ref().filter(|_| self.contested_until.is_none());
        let mut fds = vec![PollFd::new(&self.control, PollFlags::IN)];
        if let Some(listener) = listener {
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        if let Some(connection) = &self.connection {
            fds.push(PollFd::new(connection.stream(), PollFlags::IN));
        }
        // Of a message that does not go on arriving.
        let late_at = self.connection.as_ref().and_then(Connection::late_at);
        let alarm = [late_at, self.contested_until].into_iter().flatten().min();
        let timeout = alarm
            .and_then(|at| Timespec::try_from(at.saturating_duration_since(Instant::now())).ok());
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return Ready::default();
        }
        let mut attention = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = |present| present && attention.next().unwrap_or(false);
        let control = next(true);
        let (knocks, speaks) = (next(listener.is_some()), next(self.connection.is_some()));
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        Ready {
            control,
            listener: knocks || is_past(self.contested_until),
            connection: speaks || is_past(late_at),
        }
    }

    fn answer_those_who_wait(&mut self) {
        if self.connection.is_none() {
            if let Some(stream) = self.accept() {
                self.admit(stream);
            }
        } else if self.is_to_refuse() {
            let id = &self.disk.options.id;
            for _refused in (0..REFUSED_AT_ONCE).map_while(|_| self.accept()) {
                log::warn!("disk {id}: a second front end was refused while one is connected");
            }
            self.contested_until = None;
        }
    }

    /// Whether the front end that is connected has had its time to go, and stays.
    fn is_to_refuse(&mut self) -> bool {
        let until = *self.contested_until.get_or_insert_with(|| Instant::now() + GOING);
        let has_left = self.connection.as_ref().is_none_or(Connection::is_hung_up);
        until <= Instant::now() && !has_left
    }

    fn accept(&self) -> Option<UnixStream> {
        match self.listener.as_ref()?.accept() {
            Ok((stream, _)) => Some(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                log::error!("disk {}: accept: {error}", self.disk.options.id);
                // Out of descriptors, most likely: the listener stays readable.
                std::thread::sleep(ACCEPT_PAUSE);
                None
            }
        }
    }

    fn admit(&mut self, stream: UnixStream) {
        if self.line.is_down() {
            log::info!("disk {}: offline: a front end was refused", self.disk.options.id);
            return;
        }
        if self.disk.closers.are_stuck() {
            log::error!(
                "disk {}: a front end was refused: descriptors that others passed cannot be closed, \
                 because what is behind them does not answer",
                self.disk.options.id
            );
            return;
        }
        if let Err(error) = self.connect(stream) {
            log::error!("disk {}: a front end could not be served: {error}", self.disk.options.id);
        }
    }

    fn connect(&mut self, stream: UnixStream) -> io::Result<()> {
        self.connection = Some(Connection::new(stream, self.disk.clone())?);
        log::info!("disk {}: front end connected", self.disk.options.id);
        self.disk.set_connected(true);
        Ok(())
    }

    fn serve(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if connection.serve() == Served::Ended {
            self.disconnect();
        }
    }

    fn disconnect(&mut self) {
        self.contested_until = None;
        if self.connection.take().is_some() {
            log::info!("disk {}: front end disconnected", self.disk.options.id);
            self.disk.set_connected(false);
            // What its own requests wished for is done with them.
            let _ = self.line.take_cut();
        }
    }

    /// Disconnect the front end if a fault says so.
    fn cut(&mut self) {
        if self.line.take_cut() && self.connection.is_some() {
            log::info!("disk {}: the front end is disconnected by a fault", self.disk.options.id);
            self.disconnect();
        }
    }

    fn pass_on_resize(&self) {
        if !self.control.resized.swap(false, Ordering::SeqCst) {
            return;
        }
        if let Some(connection) = &self.connection {
            connection.announce_config_change();
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        // SAFETY: the eventfd is open as long as `self`, which the result borrows.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(self.wake.as_raw_fd()) }
    }
}
