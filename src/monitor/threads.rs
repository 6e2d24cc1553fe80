//! The monitor as its owner sees it: started, told of events, ended.
//!
//! Knows: the two threads. Must not know: what they say to whom. Invariant: ending takes a bounded
//! time and leaves no path behind, even if a command never ends.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::listener::{Listener, MonitorError};
use super::outbox::EventSink;
use super::server::{Job, Server, Shared, execute};
use super::{Address, Executor};
use crate::retry::Retry;
use crate::socket_path::SocketPath;

/// Monitors at any number of addresses, for any number of clients. Dropping them ends them.
#[derive(Debug)]
pub struct Monitors {
    events: EventSink,
    addresses: Vec<Address>,
    /// In the order in which they end.
    threads: Vec<Worker>,
    /// Here, and not with the sockets, so that they go even if a thread does not.
    paths: Vec<SocketPath>,
}

/// Values nest as deep as QEMU lets them, and reading one takes a call for each level.
const STACK_BYTES: usize = 8 << 20;

/// Monitors where clients can come, and nobody serves them yet. Dropping them closes them.
#[derive(Debug, Default)]
pub struct OpenMonitors {
    listeners: Vec<Listener>,
    addresses: Vec<Address>,
    paths: Vec<SocketPath>,
}

impl OpenMonitors {
    /// Open monitors, all of them or none. Where somebody listens already, `retry` says how long to
    /// wait for his end.
    ///
    /// # Errors
    /// When an address cannot be had, or is not safe.
    pub fn open(addresses: &[Address], retry: Retry) -> Result<Self, MonitorError> {
        let mut all = Self::default();
        for address in addresses {
            let opened = retry.attempt(MonitorError::is_in_use, || Listener::open(address))?;
            all.listeners.push(opened.listener);
            all.addresses.push(opened.address);
            all.paths.extend(opened.path);
        }
        Ok(all)
    }

    /// Serve them. Commands go to `executor`; what `events` is told, from the beginning on, goes to
    /// the clients.
    ///
    /// # Errors
    /// When the host has no descriptor or thread left.
    pub fn serve(
        self,
        executor: Arc<dyn Executor>,
        events: EventSink,
    ) -> Result<Monitors, MonitorError> {
        let (jobs, queue) = mpsc::channel();
        let shared = Shared { executor: executor.clone(), outbox: events.outbox().clone(), jobs };
        let server = Server::new(shared, self.listeners)?;
        let commands = Worker::start("monitor/commands", move || run_jobs(&*executor, &queue))?;
        let sockets = Worker::start("monitor/sockets", move || server.run())?;
        let threads = vec![sockets, commands];
        Ok(Monitors { events, addresses: self.addresses, threads, paths: self.paths })
    }
}

impl Monitors {
    /// Open monitors, all of them or none, and serve them.
    ///
    /// # Errors
    /// When an address cannot be had, or is not safe, or the host has no descriptor or thread left.
    pub fn start(
        executor: Arc<dyn Executor>,
        addresses: &[Address],
        events: EventSink,
    ) -> Result<Self, MonitorError> {
        OpenMonitors::open(addresses, Retry::NEVER)?.serve(executor, events)
    }

    /// Where the monitors are, with the ports that the host chose.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What tells the clients of events.
    #[must_use]
    pub fn sink(&self) -> EventSink {
        self.events.clone()
    }

    /// End: what was said goes out, as far as clients read it within 200 ms; no further command
    /// begins; the sockets and their paths go.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // While we listen nobody takes a path; afterwards a successor's could not be told from ours.
        self.paths.clear();
        self.events.outbox().stop();
        for thread in self.threads.drain(..) {
            thread.end();
        }
    }
}

impl Drop for Monitors {
    fn drop(&mut self) {
        self.end();
    }
}

fn run_jobs(executor: &dyn Executor, queue: &Receiver<Job>) {
    for (call, reply) in queue {
        execute(executor, call, reply);
    }
}

/// A thread whose end is awaited, but not for ever.
#[derive(Debug)]
struct Worker {
    thread: JoinHandle<()>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

impl Worker {
    /// More than the sockets' thread takes to say farewell.
    const PATIENCE: Duration = Duration::from_millis(400);

    fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel();
        let body = move || {
            let _alive = alive;
            work();
        };
        let builder = Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        Ok(Self { thread: builder.spawn(body)?, ended })
    }

    fn end(self) {
        match self.ended.recv_timeout(Self::PATIENCE) {
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let name = self.thread.thread().name().unwrap_or_default().to_owned();
                log::warn!("{name}: still in a command, which is left to itself");
            }
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                // A panic was logged by the hook when it happened.
                let _ = self.thread.join();
            }
        }
    }
}
