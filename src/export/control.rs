//! The control thread's end of a worker.
//!
//! Knows: how a [`worker`](super::worker) is started, told of changes by a [`handoff`] and stopped.
//! Must not know: what a worker does. Invariants: a change is in force when [`Worker::tell`] returns well;
//! nothing here waits longer than a [`Waiting`].

use std::fs::File;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::disk::Disk;
#[cfg(feature = "fuzzing")]
use super::fuzzing::turns;
use super::handoff::{self, Sent, Wake};
use super::late::Presence;
use super::memory::GuestMemory;
use super::patience::Patience;
use super::waiting::{HEAR_TIMEOUT, Waiting};
use super::worker::{Loop, WorkerSetup};
use crate::logging::this_thread_serves_queue;

/// The worker's end of what it shares with the control thread.
pub(super) type Listener = handoff::Listener<Change, EventFd>;

impl Wake for EventFd {
    fn wake(&self) {
        // Full, it wakes all the same.
        let _ = self.write(1);
    }
}

/// What the control thread may change about a running ring.
#[derive(Debug)]
pub(super) enum Change {
    /// SET_VRING_ENABLE.
    Enable(bool),
    /// SET_VRING_CALL.
    Call(Option<File>),
    /// SET_VRING_ERR.
    Err(Option<File>),
    /// The memory table changed.
    Memory(Arc<GuestMemory>),
    /// Take nothing more, and end when everything that was taken has ended or been given up.
    End(Patience),
}

/// What becomes of requests that were taken when a worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// GET_VRING_BASE: they are answered.
    Drain,
    /// The front end is gone or resets the device: the ring is not touched any more.
    Abandon,
}

/// How a ring stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped {
    /// The avail index that comes next.
    pub(super) next_avail: u16,
    /// Requests did not end in time: they were answered with an error.
    pub(super) is_stuck: bool,
}

/// The control thread's end of a running worker.
#[derive(Debug)]
pub(super) struct Worker {
    name: String,
    disk: Arc<Disk>,
    presence: Weak<()>,
    teller: handoff::Teller<Change, EventFd>,
    /// `None` where it has none of its own.
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Start a worker; returns when it serves, or with the reason why it cannot.
    pub(super) fn start(setup: WorkerSetup) -> io::Result<Self> {
        let name = format!("{}/{}", setup.disk.options.id, setup.ring.index);
        let (ready_in, ready) = sync_channel(1);
        let wake = EventFd::new(EFD_NONBLOCK)?;
        let (teller, listener) = handoff::ends(wake, setup.ring.next_avail);
        let disk = setup.disk.clone();
        let present = Presence::default();
        let presence = Arc::downgrade(&present);
        let worker_name = name.clone();
        let worker = |thread| Self { name, disk, presence, teller, thread };
        #[cfg(feature = "fuzzing")]
        if turns::are_here() {
            turns::adopt(setup, listener)?;
            return Ok(worker(None));
        }
        let thread = std::thread::Builder::new().name(worker_name).spawn(move || {
            this_thread_serves_queue(&setup.disk.options.id, setup.ring.index);
            // Dropped after the worker, the disk last: what it keeps goes when nothing is at the image.
            let _disk = setup.disk.clone();
            let _present = present;
            let mut serving = match Loop::new(setup, listener) {
                Ok(serving) => serving,
                Err(error) => {
                    let _ = ready_in.send(Err(error));
                    return;
                }
            };
            let _ = ready_in.send(Ok(()));
            while serving.turn() {}
            // Dropping the channel waits for the image, which nobody else has to do.
            serving.end();
        })?;
        let worker = worker(Some(thread));
        let heard = Waiting::for_change(&worker.disk.ending, &|| {}).wait(|until| {
            let left = until.saturating_duration_since(Instant::now());
            match ready.recv_timeout(left) {
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    Some(Err(io::Error::other("the worker ended while it started")))
                }
                Ok(started) => Some(started),
            }
        });
        match heard {
            Some(Ok(())) => Ok(worker),
            Some(Err(error)) => Err(error),
            None => {
                worker.end(End::Abandon, Patience::to_abandon(Instant::now()));
                worker.disk.late.add(worker.presence.clone());
                Err(worker.is_deaf())
            }
        }
    }

    /// Make a change; it is in force when this returns. `let_go` lets those go who wait for the front
    /// end.
    ///
    /// # Errors
    /// As of [`heard`](Self::heard).
    pub(super) fn tell(&self, change: Change, let_go: &dyn Fn()) -> io::Result<()> {
        let sent = self.send(change);
        self.heard(sent, &Waiting::for_change(&self.disk.ending, let_go))
    }

    /// Wait until a change is in force.
    ///
    /// # Errors
    /// When the worker does not hear of it in time. It does before it takes another request.
    pub(super) fn heard(&self, sent: Sent, waiting: &Waiting<'_>) -> io::Result<()> {
        let heard = waiting.wait(|until| self.teller.heard(sent, until));
        heard.map(drop).ok_or_else(|| self.is_deaf())
    }

    fn is_deaf(&self) -> io::Error {
        io::Error::other(format!("queue {} is inside the image and does not answer", self.name))
    }

    /// Ask for a change.
    pub(super) fn send(&self, change: Change) -> Sent {
        let sent = self.teller.send(change);
        #[cfg(feature = "fuzzing")]
        turns::run_workers();
        sent
    }

    /// Stop it; everything it took is answered. `let_go` lets those go who wait for the front end.
    ///
    /// # Errors
    /// As of [`ended`](Self::ended).
    pub(super) fn drain(self, patience: Patience, let_go: &dyn Fn()) -> io::Result<Stopped> {
        self.end(End::Drain, patience);
        if !self.ends(&Waiting::for_end(patience.end(), Some(&self.disk.ending), let_go)) {
            self.teller.abandon();
            // Between seeing the flag and the ring are a few instructions.
            let _ = self.teller.ended(Instant::now() + HEAR_TIMEOUT);
            self.disk.late.add(self.presence.clone());
            return Err(self.is_deaf());
        }
        self.ended()
    }

    /// Ask it to take nothing more and to end.
    pub(super) fn end(&self, how: End, patience: Patience) {
        if how == End::Abandon {
            self.teller.abandon();
        }
        self.send(Change::End(patience));
    }

    /// Wait until it has ended, as it was asked to. False if it does not.
    pub(super) fn ends(&self, waiting: &Waiting<'_>) -> bool {
        waiting.wait(|until| self.teller.ended(until)).is_some()
    }

    /// How it ended.
    ///
    /// # Errors
    /// When it has not: it is inside the image's code and does not come out. It never touches the ring
    /// again, and there are requests without an answer.
    pub(super) fn ended(self) -> io::Result<Stopped> {
        let Some(given_up) = self.teller.ended(Instant::now()) else {
            self.disk.late.add(self.presence.clone());
            return Err(self.is_deaf());
        };
        if given_up > 0 {
            self.disk.late.add(self.presence.clone());
        } else if let Some(thread) = self.thread {
            let _ = thread.join();
        }
        let next_avail = self.teller.next_avail();
        Ok(Stopped { next_avail, is_stuck: given_up > 0 })
    }
}
