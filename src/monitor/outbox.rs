//! What threads have to say to clients, on its way to the thread that writes to them.
//!
//! Knows: the order in which things were said, and how much may wait. Must not know: who the
//! clients are. Invariants: nobody who says something ever waits for a client; what was said first
//! leaves first; every command is answered, even if its answer is forgotten.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{EventfdFlags, eventfd};
use serde_json::Value;

use super::message;
use super::throttle::{Event, Throttle};
use crate::qapi::QmpError;

/// Something for the writing thread.
#[derive(Debug)]
pub(super) enum Output {
    /// The answer to a command of one client.
    Answer(Answer),
    /// Something that every client hears that has negotiated.
    Event(Event),
}

/// The answer to a command.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) client: u64,
    /// Whether the client's next in-band command may begin now.
    pub(super) in_band: bool,
    /// As it goes on the wire: shorter than the value it is made of, and made where others do not wait
    /// for it.
    pub(super) line: Vec<u8>,
}

/// The way to the writing thread.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    output: VecDeque<Output>,
    events: usize,
    events_lost: u64,
    throttle: Throttle,
    /// Clients that are connected.
    clients: BTreeSet<u64>,
    stopping: bool,
}

/// What the writing thread finds.
#[derive(Debug)]
pub(super) struct Mail {
    pub(super) output: VecDeque<Output>,
    /// Events that found no room.
    pub(super) events_lost: u64,
    /// When to look again even if nobody rings.
    pub(super) look_again: Option<Instant>,
    pub(super) stopping: bool,
}

impl Outbox {
    /// Events that may wait for the writing thread, which empties the outbox whenever it is awake.
    const EVENTS_MAX: usize = 4096;

    fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { state: Mutex::default(), wake })
    }

    /// Readable when there is something to take.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Take everything.
    pub(super) fn take(&self, now: Instant) -> Mail {
        let mut bell = [0; 8];
        // An empty bell is no error: the thread may have come for its own reasons.
        let _ = rustix::io::read(&self.wake, &mut bell);
        let mut state = self.lock();
        let mut due = state.throttle.due(now);
        if state.stopping {
            due.extend(state.throttle.finish());
        }
        state.output.extend(due.into_iter().map(Output::Event));
        state.events = 0;
        Mail {
            output: mem::take(&mut state.output),
            events_lost: mem::take(&mut state.events_lost),
            look_again: state.throttle.next_end(),
            stopping: state.stopping,
        }
    }

    /// A client has come.
    pub(super) fn enter(&self, client: u64) {
        self.lock().clients.insert(client);
    }

    /// A client has gone: nobody reads what it is told.
    pub(super) fn leave(&self, client: u64) {
        self.lock().clients.remove(&client);
    }

    /// Ask the writing thread to say what is left and end.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.ring();
    }

    fn answer(&self, answer: Answer) {
        self.lock().output.push_back(Output::Answer(answer));
        self.ring();
    }

    fn emit(&self, event: Event, now: Instant) {
        let mut state = self.lock();
        let ring = if let Some(event) = state.throttle.offer(event, now) {
            state.push_event(event);
            true
        } else {
            false
        };
        drop(state);
        if ring {
            self.ring();
        }
    }

    fn ring(&self) {
        // It fails only when the bell already rings.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push_event(&mut self, event: Event) {
        if self.events == Outbox::EVENTS_MAX {
            self.events_lost += 1;
            return;
        }
        self.events += 1;
        self.output.push_back(Output::Event(event));
    }
}

/// Tells every client that listens what happened.
#[derive(Debug, Clone)]
pub struct EventSink {
    outbox: Arc<Outbox>,
}

impl EventSink {
    /// A sink whose events wait, up to a bound, until [`Monitors::start`](super::Monitors::start)
    /// is given it.
    ///
    /// # Errors
    /// When the host has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { outbox: Arc::new(Outbox::new()?) })
    }

    /// An event happened now. Never waits: an event that finds no room is counted and logged. Of
    /// `BLOCK_IO_ERROR`, one a second goes out for each `device` and `operation`, and the last.
    pub fn emit(&self, name: &'static str, data: Option<Value>) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.outbox.emit(Event { name, data, at }, Instant::now());
    }

    pub(super) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }
}

/// The duty to answer one command. It may be passed to another thread and done later; until then
/// the client's next in-band command waits. Forgetting it answers with an error.
#[must_use = "a command that is not answered answers with an error"]
pub struct Reply {
    outbox: Arc<Outbox>,
    client: u64,
    in_band: bool,
    id: Option<Value>,
    sent: bool,
}

impl Reply {
    pub(super) fn new(outbox: Arc<Outbox>, client: u64, in_band: bool, id: Option<Value>) -> Self {
        Self { outbox, client, in_band, id, sent: false }
    }

    /// Answer the command: with its return value, `{}` if it has none, or with an error.
    pub fn send(mut self, result: Result<Value, QmpError>) {
        self.answer(result);
    }

    /// Who waits for it.
    #[must_use]
    pub fn listener(&self) -> Listener {
        Listener { outbox: self.outbox.clone(), client: self.client }
    }

    fn answer(&mut self, result: Result<Value, QmpError>) {
        self.sent = true;
        let (client, in_band, id) = (self.client, self.in_band, self.id.take());
        let line = message::to_line(&message::response(result, id));
        self.outbox.answer(Answer { client, in_band, line });
    }
}

/// The client that waits for a reply.
#[derive(Debug, Clone)]
pub struct Listener {
    outbox: Arc<Outbox>,
    client: u64,
}

impl Listener {
    /// Whether it is still connected: else nobody misses the reply.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.outbox.lock().clients.contains(&self.client)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.sent {
            self.answer(Err(QmpError::generic("The command was given up without an answer")));
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("client", &self.client).field("id", &self.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use serde_json::json;

    fn events(mail: &Mail) -> Vec<&Event> {
        mail.output
            .iter()
            .filter_map(|output| match output {
                Output::Event(event) => Some(event),
                Output::Answer(_) => None,
            })
            .collect()
    }

    #[test]
    fn events_beyond_the_bound_are_counted_and_those_within_it_kept() {
        let sink = EventSink::new().unwrap();
        for number in 0..Outbox::EVENTS_MAX + 5 {
            sink.emit("X", Some(json!(number)));
        }
        let mail = sink.outbox().take(Instant::now());
        assert_eq!(events(&mail).len(), Outbox::EVENTS_MAX);
        assert_eq!(events(&mail)[0].data, Some(json!(0)));
        assert_eq!(mail.events_lost, 5);
        sink.emit("X", None);
        let mail = sink.outbox().take(Instant::now());
        assert_eq!((events(&mail).len(), mail.events_lost), (1, 0));
    }

    #[test]
    fn a_storm_of_errors_takes_the_room_of_one_event_and_its_last_is_told_at_the_stop() {
        let (sink, now) = (EventSink::new().unwrap(), Instant::now());
        for number in 0..100_000 {
            let data = json!({ "device": "a", "operation": "read", "number": number });
            let at = Duration::from_secs(number);
            sink.outbox().emit(Event { name: "BLOCK_IO_ERROR", data: Some(data), at }, now);
        }
        let mail = sink.outbox().take(now);
        assert_eq!(events(&mail).len(), 1);
        assert!(mail.look_again.is_some());
        sink.outbox().stop();
        let mail = sink.outbox().take(now);
        assert!(mail.stopping);
        assert_eq!(events(&mail)[0].data.as_ref().unwrap()["number"], 99_999);
    }

    #[test]
    fn a_forgotten_reply_is_an_error_and_a_sent_one_is_sent_once() {
        let sink = EventSink::new().unwrap();
        drop(Reply::new(sink.outbox().clone(), 7, true, Some(json!("id"))));
        Reply::new(sink.outbox().clone(), 8, false, None).send(Ok(json!({})));
        let mail = sink.outbox().take(Instant::now());
        let answers: Vec<_> = mail
            .output
            .iter()
            .map(|output| match output {
                Output::Answer(Answer { client, in_band, line }) => {
                    (*client, *in_band, line == b"{\"return\": {}}\r\n")
                }
                Output::Event(event) => panic!("{event:?}"),
            })
            .collect();
        assert_eq!(answers, [(7, true, false), (8, false, true)]);
    }
}
