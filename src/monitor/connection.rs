//! One client: its socket, its session, and what it has not read yet.
//!
//! Knows: when to read, when to write, and when a client has had enough patience. Must not know:
//! other clients, but that they share memory. Invariant: what waits for a client is bounded: at
//! [`Connection::STALL_BYTES`] it hears of no more events and is read no further, earlier when other
//! clients do not read either, and beyond [`Connection::OUTPUT_BYTES_MAX`] it is dropped.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use serde_json::Value;

use super::budget::{Budget, Share};
use super::framing::{Framer, Limits};
use super::message;
use super::session::{Call, Lookup, Session, Step};
use super::token::Token;
use crate::stream::Stream;

/// Why a client is dropped.
#[derive(Debug)]
pub(super) enum Ended {
    /// It has gone, or has heard all it asked for.
    Gone,
    /// We drop it, for this reason.
    Dropped(String),
}

/// What one step of a session came to.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing is left to do.
    Nothing,
    /// A message was answered at once.
    Answered,
    /// This command is to be run.
    Run(Call),
}

/// The memory that all clients share.
#[derive(Debug)]
pub(super) struct Memory {
    inputs: Budget,
    outputs: Budget,
}

impl Default for Memory {
    fn default() -> Self {
        let inputs = Budget::new(Limits::ALL_CLIENTS_BYTES);
        Self { inputs, outputs: Budget::new(Connection::ALL_OUTPUT_BYTES) }
    }
}

/// A client.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    session: Session,
    /// Bytes to be sent, from `output_sent` on.
    output: Vec<u8>,
    output_sent: usize,
    /// What they take of the memory for all clients.
    output_share: Share,
    /// All clients' output.
    outputs: Budget,
    /// Events that this client did not hear of because it does not read.
    events_lost: u64,
    /// Whether it will send no more.
    input_ended: bool,
    /// What `epoll` was last told.
    watched: EventFlags,
}

impl Connection {
    const STALL_BYTES: usize = 1 << 20;
    /// While so much waits for all clients together, whoever has not read everything must read first.
    const ALL_OUTPUT_BYTES: usize = 2 << 20;
    const OUTPUT_BYTES_MAX: usize = 16 << 20;
    const READ_BYTES: usize = 8 << 10;

    pub(super) fn new(
        stream: Stream,
        token: Option<Arc<Token>>,
        greeting: &Value,
        memory: &Memory,
    ) -> Self {
        Self {
            stream,
            session: Session::new(Framer::sharing(Limits::OURS, &memory.inputs), token),
            output: message::to_line(greeting),
            output_share: Share::of(&memory.outputs),
            outputs: memory.outputs.clone(),
            output_sent: 0,
            events_lost: 0,
            input_ended: false,
            watched: EventFlags::empty(),
        }
    }

    /// What the socket should be watched for now, if that has changed.
    pub(super) fn watch_anew(&mut self) -> Option<EventFlags> {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, self.wants_input());
        wanted.set(EventFlags::OUT, self.waiting_bytes() > 0);
        let changed = wanted != self.watched;
        self.watched = wanted;
        changed.then_some(wanted)
    }

    /// Read what is there and of use.
    pub(super) fn read(&mut self) -> Result<(), Ended> {
        let mut buffer = [0; Self::READ_BYTES];
        if !self.wants_input() {
            return Ok(());
        }
        match self.stream.read(&mut buffer) {
            Ok(0) => self.input_ended = true,
            Ok(bytes) => self.session.receive(buffer.get(..bytes).unwrap_or_default()),
            Err(error) if is_not_now(&error) => {}
            Err(_) => return Err(Ended::Gone),
        }
        Ok(())
    }

    /// Go on with the session by one message, unless the client must read first.
    pub(super) fn step(&mut self, lookup: Lookup) -> Result<Progress, Ended> {
        if self.is_stalled() {
            return Ok(Progress::Nothing);
        }
        match self.session.poll(lookup) {
            None => Ok(Progress::Nothing),
            Some(Step::Send(message)) => {
                self.send(message::to_line(&message)).map(|()| Progress::Answered)
            }
            Some(Step::HangUp(why)) => Err(Ended::Dropped(why.to_owned())),
            Some(Step::TurnAway(message)) => {
                // As much as the socket takes now; nothing waits for such a client.
                let _ = self.send(message::to_line(&message)).and_then(|()| self.write());
                Err(Ended::Dropped("it did not tell the token".to_owned()))
            }
            Some(Step::Run(call)) => Ok(Progress::Run(call)),
        }
    }

    /// A command of this client is answered by this line.
    pub(super) fn answered(&mut self, answer: Vec<u8>, in_band: bool) -> Result<(), Ended> {
        if in_band {
            self.session.answered();
        }
        self.send(answer)
    }

    /// Something happened; `line` says it.
    pub(super) fn tell(&mut self, line: &[u8]) {
        if !self.session.wants_events() {
            return;
        }
        if self.is_stalled() {
            self.events_lost += 1;
            return;
        }
        self.output.extend_from_slice(line);
        self.output_share.set(self.waiting_bytes());
    }

    /// Write what the socket takes.
    pub(super) fn write(&mut self) -> Result<(), Ended> {
        let written = self.write_on();
        self.output_share.set(self.waiting_bytes());
        written
    }

    fn write_on(&mut self) -> Result<(), Ended> {
        while let Some(waiting @ [_, ..]) = self.output.get(self.output_sent..) {
            match self.stream.write(waiting) {
                Ok(0) => return Err(Ended::Gone),
                Ok(bytes) => self.output_sent += bytes,
                Err(error) if is_not_now(&error) => return Ok(()),
                Err(_) => return Err(Ended::Gone),
            }
        }
        self.output.clear();
        self.output.shrink_to(Self::READ_BYTES);
        self.output_sent = 0;
        if self.events_lost > 0 {
            log::warn!("a monitor client read too slowly for {} events", self.events_lost);
            self.events_lost = 0;
        }
        if self.input_ended && self.session.is_idle() { Err(Ended::Gone) } else { Ok(()) }
    }

    /// Whether the client has yet to tell the token.
    pub(super) fn is_locked(&self) -> bool {
        self.session.is_locked()
    }

    /// Bytes that wait for the client to read.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.output.len() - self.output_sent
    }

    /// Whether so much waits that the client must read before it is served any further.
    pub(super) fn is_stalled(&self) -> bool {
        let waiting = self.waiting_bytes();
        waiting >= Self::STALL_BYTES || (waiting > 0 && self.outputs.is_spent())
    }

    fn wants_input(&self) -> bool {
        !self.input_ended && self.session.wants_input()
    }

    fn send(&mut self, line: Vec<u8>) -> Result<(), Ended> {
        let waiting = self.waiting_bytes();
        if waiting > Self::OUTPUT_BYTES_MAX {
            return Err(Ended::Dropped(format!("it left {waiting} bytes of answers unread")));
        }
        self.output.drain(..self.output_sent);
        self.output_sent = 0;
        match self.output.is_empty() {
            true => self.output = line,
            false => self.output.extend(line),
        }
        self.output_share.set(self.waiting_bytes());
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
