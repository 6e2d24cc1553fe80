//! What threads have to say to clients, on its way to the thread that writes to them.
//!
//! Knows: the order in which things were said, and how much may wait. Must not know: who the
//! clients are. Invariants: nobody who says something ever waits for a client; what was said first
//! leaves first, but for what disks say while a command is under way that asked for it: that follows its
//! answer; every command is answered, even if its answer is forgotten.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{EventfdFlags, eventfd};
use serde_json::Value;

use super::message;
use super::throttle::{Event, News, Throttle};
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
    /// Commands under way whose answers go before what disks have to say.
    answering: usize,
    /// What disks had to say since then.
    behind: VecDeque<Event>,
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
        if state.stopping || state.answering == 0 {
            let mut due = mem::take(&mut state.behind);
            due.extend(state.throttle.due(now));
            if state.stopping {
                due.extend(state.throttle.finish());
            }
            state.output.extend(due.into_iter().map(Output::Event));
            state.events = 0;
        }
        Mail {
            output: mem::take(&mut state.output),
            events_lost: mem::take(&mut state.events_lost),
            // The end of the last command rings.
            look_again: state.throttle.next_end().filter(|_| state.answering == 0),
            stopping: state.stopping,
        }
    }

    fn begin_answering(&self) {
        self.lock().answering += 1;
    }

    fn end_answering(&self) {
        let mut state = self.lock();
        state.answering -= 1;
        let ring = state.answering == 0;
        drop(state);
        if ring {
            self.ring();
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

    fn emit(&self, news: News, from: From, now: Instant) {
        let mut state = self.lock();
        let event = state.throttle.offer(news, now);
        let ring = event.is_some();
        if let Some(event) = event {
            state.push_event(event, from);
        }
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
    fn push_event(&mut self, event: Event, from: From) {
        if self.events == Outbox::EVENTS_MAX {
            self.events_lost += 1;
            return;
        }
        self.events += 1;
        if from == From::Disk && self.answering > 0 {
            self.behind.push_back(event);
        } else {
            self.output.push_back(Output::Event(event));
        }
    }
}

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// A command, of itself; or the daemon.
    Command,
    /// A disk, of what its guest met.
    Disk,
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
        self.outbox.emit(News::made(name, data, time_of_day()), From::Command, Instant::now());
    }

    /// Something happened to a disk. As [`EventSink::emit`], but the event is made only if it goes out,
    /// and it follows the answers to commands under way that [answer first](EventSink::answer_first).
    /// `same` are the members by which events of this name are limited.
    pub fn tell(
        &self,
        name: &'static str,
        same: Vec<String>,
        data: impl FnOnce() -> Option<Value> + Send + 'static,
    ) {
        let news = News::unmade(name, same, time_of_day(), data);
        self.outbox.emit(news, From::Disk, Instant::now());
    }

    /// Until this is dropped a command is under way, and what disks say waits for its end: whoever
    /// sets a fault hears that it is set before he hears what it did.
    #[must_use]
    pub fn answer_first(&self) -> AnswerFirst {
        self.outbox.begin_answering();
        AnswerFirst { outbox: self.outbox.clone() }
    }

    pub(super) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }
}

fn time_of_day() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A command that is answered before what disks have to say meanwhile.
#[derive(Debug)]
pub struct AnswerFirst {
    outbox: Arc<Outbox>,
}

impl Drop for AnswerFirst {
    fn drop(&mut self) {
        self.outbox.end_answering();
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
            let news = News::made("BLOCK_IO_ERROR", Some(data), at);
            sink.outbox().emit(news, From::Disk, now);
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
    fn what_a_disk_says_follows_the_answer_to_the_command_under_way() {
        let (sink, now) = (EventSink::new().unwrap(), Instant::now());
        let tell = |number: u64| {
            let same = vec!["a".to_owned(), "read".to_owned()];
            let data = json!({ "device": "a", "operation": "read", "number": number });
            sink.tell("BLOCK_IO_ERROR", same, move || Some(data));
        };
        let names = |mail: &Mail| -> Vec<_> {
            let name = |output: &Output| match output {
                Output::Event(event) => event.name,
                Output::Answer(_) => "answer",
            };
            mail.output.iter().map(name).collect()
        };
        tell(1);
        assert_eq!(names(&sink.outbox().take(now)), ["BLOCK_IO_ERROR"], "nobody asks for anything");
        let command = sink.answer_first();
        tell(2);
        sink.tell("BLOCK_FAULT_BREAK", Vec::new(), || None);
        sink.emit("BLOCK_FAULT_STATE_CHANGED", None);
        let late = sink.outbox().take(now + Throttle::PERIOD * 2);
        assert_eq!(names(&late), ["BLOCK_FAULT_STATE_CHANGED"], "the command's own");
        assert_eq!(late.look_again, None, "else the writing thread would look all the time");
        Reply::new(sink.outbox().clone(), 7, true, None).send(Ok(json!({})));
        drop(command);
        let mail = sink.outbox().take(now + Throttle::PERIOD * 2);
        assert_eq!(names(&mail), ["answer", "BLOCK_FAULT_BREAK", "BLOCK_IO_ERROR"]);
        assert!(mail.look_again.is_some());
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
