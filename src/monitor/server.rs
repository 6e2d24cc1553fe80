//! The thread of all sockets.
//!
//! Knows: who is connected, and whose turn it is. Must not know: the protocol (`session`), or how a
//! command is run. Invariants: it waits in one place only, `epoll_wait`, except for an out-of-band
//! command, which has promised to be short; a client that has much to say waits for the next turn
//! after a bounded number of messages, and all others have theirs before.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::mem;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustix::event::epoll::{CreateFlags, Event, EventData, EventFlags};
use rustix::event::{Timespec, epoll};

use super::connection::{Connection, Ended, Memory, Progress};
use super::listener::{Client, Listener};
use super::outbox::{Mail, Outbox, Output, Reply};
use super::session::Call;
use super::{Executor, message};
use crate::logging::LogLimit;
use crate::qapi::QmpError;

/// An in-band command on its way to the thread that runs it.
pub(super) type Job = (Call, Reply);

/// What the thread owns.
pub(super) struct Server {
    shared: Shared,
    epoll: OwnedFd,
    /// Token `1 + index` in `epoll`; token 0 is the outbox.
    listeners: Vec<Listener>,
    /// By token, which is never used again.
    clients: BTreeMap<u64, Connection>,
    memory: Memory,
    next_token: u64,
    /// Clients that found no room since one found some: they may come as fast as they like.
    refused: u64,
    /// Clients with whose session to go on.
    due: BTreeSet<u64>,
    /// When to accept again after the host had no descriptor left.
    accept_again: Option<Instant>,
    /// When a delayed event is due.
    look_again: Option<Instant>,
    /// When to tell of clients that were refused or dropped.
    log_limit: LogLimit,
    /// Whether no further command may begin.
    stopping: bool,
}

/// What running a command takes.
pub(super) struct Shared {
    pub(super) executor: Arc<dyn Executor>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) jobs: Sender<Job>,
}

const OUTBOX_TOKEN: u64 = 0;

/// Clients at a time; each costs a descriptor and some memory.
const CLIENTS_MAX: usize = 64;

/// Messages of one client that are answered or begun in one turn.
const TURN_MESSAGES: usize = 64;

/// How long clients may take, when the daemon ends, to read what was said.
const FAREWELL: Duration = Duration::from_millis(200);

/// How long to leave clients in the backlog when the host has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

impl Server {
    pub(super) fn new(shared: Shared, listeners: Vec<Listener>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let outbox = EventData::new_u64(OUTBOX_TOKEN);
        epoll::add(&epoll, shared.outbox.wake_fd(), outbox, EventFlags::IN)?;
        for (token, listener) in (1..).zip(&listeners) {
            epoll::add(&epoll, listener, EventData::new_u64(token), EventFlags::IN)?;
        }
        let next_token = 1 + listeners.len() as u64;
        Ok(Self {
            shared,
            epoll,
            listeners,
            clients: BTreeMap::new(),
            memory: Memory::default(),
            next_token,
            refused: 0,
            due: BTreeSet::new(),
            accept_again: None,
            look_again: None,
            log_limit: LogLimit::default(),
            stopping: false,
        })
    }

    /// Serve until the outbox says stop.
    pub(super) fn run(mut self) {
        loop {
            for (token, flags) in self.wait(None) {
                self.handle(token, flags);
            }
            self.resume_accepting();
            self.deliver();
            for token in mem::take(&mut self.due) {
                self.take_turn(token);
            }
            if self.stopping {
                return self.say_farewell();
            }
        }
    }

    /// Wait for something to happen, at most until `deadline`.
    fn wait(&self, deadline: Option<Instant>) -> Vec<(u64, EventFlags)> {
        let until = [deadline, self.look_again, self.accept_again].into_iter().flatten().min();
        let mut timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 })
        });
        if !self.due.is_empty() {
            timeout = Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 64];
        match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Ok(ready) => {
                events.iter().take(ready).map(|event| (event.data.u64(), event.flags)).collect()
            }
            Err(rustix::io::Errno::INTR) => Vec::new(),
            Err(error) => {
                log::error!("monitor: epoll_wait: {error}");
                std::thread::sleep(ACCEPT_PAUSE);
                Vec::new()
            }
        }
    }

    fn handle(&mut self, token: u64, flags: EventFlags) {
        let listeners = self.listeners.len() as u64;
        match token {
            OUTBOX_TOKEN => {}
            _ if token <= listeners => self.accept(token),
            _ => self.serve(token, |connection| {
                if flags.contains(EventFlags::IN) {
                    connection.read()?;
                }
                Ok(())
            }),
        }
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) && token > listeners {
            // What it said before it went is still looked at.
            self.take_turn(token);
            self.remove(token, &Ended::Gone);
        }
    }

    /// Do something with a client, and have it get a turn. Drops it if it must go.
    fn serve(&mut self, token: u64, first: impl FnOnce(&mut Connection) -> Result<(), Ended>) {
        let Some(connection) = self.clients.get_mut(&token) else { return };
        match first(connection) {
            Ok(()) => _ = self.due.insert(token),
            Err(ended) => self.remove(token, &ended),
        }
    }

    /// Go on with the session of a client for a while. Drops it if it must go.
    fn take_turn(&mut self, token: u64) {
        let Some(connection) = self.clients.get_mut(&token) else { return };
        let more = match self.stopping {
            false => go_on(connection, token, &self.shared),
            true => connection.write().map(|()| false),
        };
        match more {
            Ok(true) => _ = self.due.insert(token),
            Ok(false) => {}
            Err(ended) => return self.remove(token, &ended),
        }
        let Some(flags) = connection.watch_anew() else { return };
        if let Err(error) =
            epoll::modify(&self.epoll, &*connection, EventData::new_u64(token), flags)
        {
            self.remove(token, &Ended::Dropped(format!("epoll_ctl: {error}")));
        }
    }

    fn remove(&mut self, token: u64, ended: &Ended) {
        let Some(connection) = self.clients.remove(&token) else { return };
        self.shared.outbox.leave(token);
        if let Ended::Dropped(why) = ended {
            self.tell(&format!("monitor client dropped: {why}"));
        }
        // Closing the socket would do, but says nothing if it went wrong.
        if let Err(error) = epoll::delete(&self.epoll, &connection) {
            log::error!("monitor: epoll_ctl: {error}");
        }
    }

    fn accept(&mut self, token: u64) {
        let Some(listener) = usize::try_from(token - 1).ok().and_then(|i| self.listeners.get(i))
        else {
            return;
        };
        match listener.accept() {
            Ok(client) => self.welcome(client),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                log::warn!("monitor: cannot accept a client: {error}");
                self.set_accepting(false);
                self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
            }
        }
    }

    /// A warning that strangers and guests can cause as often as they like.
    fn tell(&mut self, what: &str) {
        match self.log_limit.tell(Instant::now()) {
            None => {}
            Some(0) => log::warn!("{what}"),
            Some(untold) => log::warn!("{what} ({untold} more lately)"),
        }
    }

    /// Clients that may be nobody's make room for others, the oldest first.
    fn make_room(&mut self) {
        if self.clients.len() >= CLIENTS_MAX {
            let stranger = self.clients.iter().find(|(_, client)| client.is_locked());
            if let Some(token) = stranger.map(|(token, _)| *token) {
                self.remove(token, &Ended::Dropped("another wants its place".to_owned()));
            }
        }
    }

    fn welcome(&mut self, Client { mut stream, token: secret }: Client) {
        self.make_room();
        if self.clients.len() >= CLIENTS_MAX {
            if self.refused == 0 {
                log::warn!("monitor clients are refused: {CLIENTS_MAX} are connected");
            }
            self.refused += 1;
            let error = QmpError::generic(format!("Too many clients: {CLIENTS_MAX} are connected"));
            // The buffer of a new socket takes a line; if not, the client has gone.
            let _ = stream.write(&message::to_line(&message::response(Err(error), None)));
            return;
        }
        match mem::take(&mut self.refused) {
            0 => {}
            refused => log::warn!("{refused} monitor clients were refused; there is room again"),
        }
        let token = self.next_token;
        self.next_token += 1;
        let connection = Connection::new(
            stream,
            secret,
            &message::greeting(self.shared.executor.version()),
            &self.memory,
        );
        let data = EventData::new_u64(token);
        if let Err(error) = epoll::add(&self.epoll, &connection, data, EventFlags::empty()) {
            log::error!("monitor: epoll_ctl: {error}");
            return;
        }
        self.clients.insert(token, connection);
        self.shared.outbox.enter(token);
        self.serve(token, |_| Ok(()));
    }

    fn resume_accepting(&mut self) {
        if self.accept_again.is_some_and(|at| at <= Instant::now()) {
            self.accept_again = None;
            self.set_accepting(true);
        }
    }

    fn set_accepting(&self, accepting: bool) {
        let flags = if accepting { EventFlags::IN } else { EventFlags::empty() };
        for (token, listener) in (1..).zip(&self.listeners) {
            if let Err(error) =
                epoll::modify(&self.epoll, listener, EventData::new_u64(token), flags)
            {
                log::error!("monitor: epoll_ctl: {error}");
            }
        }
    }

    /// Pass on what the outbox holds; before the end, until it is empty.
    fn deliver(&mut self) {
        loop {
            let mail = self.shared.outbox.take(Instant::now());
            self.look_again = mail.look_again;
            self.stopping = mail.stopping;
            let empty = mail.output.is_empty();
            self.deliver_mail(mail);
            if empty || !self.stopping {
                return;
            }
        }
    }

    fn deliver_mail(&mut self, mail: Mail) {
        if mail.events_lost > 0 {
            self.tell(&format!("monitor: {} events came too fast and are lost", mail.events_lost));
        }
        for output in mail.output {
            match output {
                Output::Answer(answer) => {
                    self.serve(answer.client, |connection| {
                        connection.answered(answer.line, answer.in_band)?;
                        connection.write()
                    });
                }
                Output::Event(event) => {
                    let event = message::event(event.name, event.data, event.at);
                    let line = message::to_line(&event);
                    let tokens: Vec<u64> = self.clients.keys().copied().collect();
                    for token in tokens {
                        self.serve(token, |connection| {
                            connection.tell(&line);
                            connection.write()
                        });
                    }
                }
            }
        }
    }

    /// Let clients read what was said, for a bounded time.
    fn say_farewell(mut self) {
        let deadline = Instant::now() + FAREWELL;
        (self.look_again, self.accept_again) = (None, None);
        self.due.clear();
        self.listeners.clear();
        if let Err(error) = epoll::delete(&self.epoll, self.shared.outbox.wake_fd()) {
            log::error!("monitor: epoll_ctl: {error}");
        }
        self.clients.retain(|_, connection| connection.waiting_bytes() > 0);
        while !self.clients.is_empty() && Instant::now() < deadline {
            for (token, flags) in self.wait(Some(deadline)) {
                let Some(connection) = self.clients.get_mut(&token) else { continue };
                let left = connection.write().is_ok() && connection.waiting_bytes() > 0;
                if !left || flags.intersects(EventFlags::HUP | EventFlags::ERR) {
                    self.remove(token, &Ended::Gone);
                }
            }
        }
    }
}

/// Run what the session of a client wants run, within the bounds of a turn, and send what there is
/// to send. Tells whether there is more to do already.
fn go_on(connection: &mut Connection, token: u64, shared: &Shared) -> Result<bool, Ended> {
    let lookup = |name: &str| shared.executor.lookup(name);
    let mut more = true;
    for _ in 0..TURN_MESSAGES {
        match connection.step(&lookup)? {
            Progress::Run(call) => shared.run(token, call),
            Progress::Answered => {}
            Progress::Nothing => {
                // A client that reads what stalls it may have more to say.
                more = connection.is_stalled();
                break;
            }
        }
    }
    connection.write()?;
    Ok(more && !connection.is_stalled())
}

impl Shared {
    fn run(&self, token: u64, mut call: Call) {
        let reply = Reply::new(self.outbox.clone(), token, !call.oob, call.id.take());
        if call.oob {
            execute(self.executor.as_ref(), call, reply);
        } else {
            // It fails only when the daemon ends; the reply that is dropped then answers.
            let _ = self.jobs.send((call, reply));
        }
    }
}

/// Run a command. A panic in it costs its client an error and nobody else anything.
pub(super) fn execute(executor: &dyn Executor, call: Call, reply: Reply) {
    let Call { name, arguments, .. } = call;
    let run = AssertUnwindSafe(|| executor.execute(&name, arguments, reply));
    if catch_unwind(run).is_err() {
        log::error!("the command {name} panicked");
    }
}
