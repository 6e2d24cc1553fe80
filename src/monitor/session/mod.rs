//! One client's session: from bytes to commands, in the order and under the conditions of QEMU
//! (monitor/qmp.c, qapi/qmp-dispatch.c).
//!
//! Knows: negotiation, the shape of a command, which command may overtake which, and how much may
//! wait. Must not know: sockets, threads, clocks, or what a command does. Invariant: every complete
//! piece of input is answered exactly once; in-band commands begin one at a time, in the order in
//! which they came, each after the one before it was answered.

mod prelude;
mod request;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::prelude::{Look, Prelude};
use self::request::{Request, enabled_capabilities};
use super::CommandSpec;
use super::budget::Share;
use super::framing::{Framer, JsonError};
use super::message;
use super::token::Token;
use crate::qapi::{ErrorClass, QmpError};

/// Looks a command up by name.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<CommandSpec>;

/// A command to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Whether it runs at once, whatever else is running. Otherwise [`Session::answered`] is to be
    /// called when it is answered.
    pub oob: bool,
    /// Its name; [`Lookup`] knows it.
    pub name: String,
    /// Its arguments, unchecked.
    pub arguments: Map<String, Value>,
    /// What the answer must repeat.
    pub id: Option<Value>,
}

/// What is to be done for a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Send this message.
    Send(Value),
    /// Run this command.
    Run(Call),
    /// Close the connection, for this reason: this is no QMP client.
    HangUp(&'static str),
    /// Send this message and close the connection: this client may not command us.
    TurnAway(Value),
}

/// What the client has negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Negotiating,
    Commands { oob: bool },
}

/// The state of one client.
#[derive(Debug)]
pub struct Session {
    mode: Mode,
    prelude: Prelude,
    framer: Framer,
    /// Bytes that came and were not read yet, from `input_read` on.
    input: Vec<u8>,
    input_read: usize,
    /// In-band commands that wait for the one before them, with what they take.
    queue: VecDeque<(Result<Value, JsonError>, Share)>,
    /// Whether an in-band command has begun and is not answered.
    running: bool,
    /// What it takes.
    running_share: Option<Share>,
    /// What the last out-of-band command takes, until the next step.
    oob_share: Option<Share>,
}

impl Session {
    /// In-band commands that may wait while another runs, with OOB (`QMP_REQ_QUEUE_LEN_MAX`).
    /// Without OOB none may.
    pub const QUEUED_MAX: usize = 8;

    /// A client that has said nothing yet, and that must tell the token, if there is one, before
    /// anything else.
    #[must_use]
    pub fn new(framer: Framer, token: Option<Arc<Token>>) -> Self {
        Self {
            mode: Mode::Negotiating,
            prelude: Prelude::with(token),
            framer,
            input: Vec::new(),
            input_read: 0,
            queue: VecDeque::new(),
            running: false,
            running_share: None,
            oob_share: None,
        }
    }

    /// Take bytes from the client. [`Session::poll`] tells what they amount to.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.drain(..mem::take(&mut self.input_read));
        if self.input.is_empty() {
            // No more than came now: many clients may be in the middle of a command.
            self.input.shrink_to(bytes.len());
        }
        self.input.extend_from_slice(bytes);
    }

    /// Whether more input would be looked at now. While not, reading on would only take memory.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.has_room() && self.is_drained()
    }

    /// Whether the client has yet to tell the token.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.prelude.is_locked()
    }

    /// Whether the client has negotiated, and so hears of events.
    #[must_use]
    pub fn wants_events(&self) -> bool {
        self.mode != Mode::Negotiating
    }

    /// Whether everything that came complete has been answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.running && self.queue.is_empty() && self.is_drained()
    }

    /// The in-band command that [`Session::poll`] began is answered.
    pub fn answered(&mut self) {
        self.running = false;
        self.running_share = None;
    }

    /// What is to be done next, if anything.
    pub fn poll(&mut self, lookup: Lookup) -> Option<Step> {
        self.oob_share = None;
        loop {
            if !self.running
                && let Some((input, share)) = self.queue.pop_front()
            {
                let step = self.begin(input, lookup);
                self.running_share = Some(share).filter(|_| self.running);
                return Some(step);
            }
            if !self.has_room() {
                return None;
            }
            match self.read_value()? {
                Err(step) => return Some(step),
                Ok(Ok(value)) if request::is_oob(&value) => {
                    self.oob_share = Some(self.framer.take_share());
                    return Some(self.oob(value, lookup));
                }
                Ok(in_band) => self.queue.push_back((in_band, self.framer.take_share())),
            }
        }
    }

    /// Whether [`Session::poll`] can make nothing of the input so far.
    fn is_drained(&self) -> bool {
        self.input_read == self.input.len() || self.prelude.is_on()
    }

    fn has_room(&self) -> bool {
        match self.mode {
            Mode::Commands { oob: true } => self.queue.len() < Self::QUEUED_MAX,
            _ => !self.running && self.queue.is_empty(),
        }
    }

    /// The next complete piece of input, or what to do before there can be one.
    fn read_value(&mut self) -> Option<Result<Result<Value, JsonError>, Step>> {
        let unread = self.input.get(self.input_read..).unwrap_or_default();
        self.input_read += self.prelude.leading_space(unread);
        let unread = self.input.get(self.input_read..).unwrap_or_default();
        match self.prelude.look_at(unread) {
            Look::Undecided => return None,
            Look::Stranger(why) => return Some(Err(Step::HangUp(why))),
            Look::Denied(why) => {
                let refusal = message::response(Err(QmpError::generic(why)), None);
                return Some(Err(Step::TurnAway(refusal)));
            }
            Look::Token(bytes) => {
                self.input_read += bytes;
                return Some(Err(Step::Send(message::response(Ok(json!({})), None))));
            }
            Look::Session => {}
        }
        let unread = self.input.get(self.input_read..).unwrap_or_default();
        let (read, value) = self.framer.feed(unread);
        self.input_read += read;
        value.map(Ok)
    }

    fn begin(&mut self, input: Result<Value, JsonError>, lookup: Lookup) -> Step {
        let value = match input {
            Ok(value) => value,
            Err(error) => return refuse(QmpError::generic(error), None),
        };
        let (id, request) = request::read(value, self.has_oob());
        match request.and_then(|request| self.dispatch(request, lookup)) {
            Err(error) => refuse(error, id),
            Ok(None) => Step::Send(message::response(Ok(json!({})), id)),
            Ok(Some(Request { name, arguments })) => {
                self.running = true;
                Step::Run(Call { oob: false, name, arguments, id })
            }
        }
    }

    fn oob(&mut self, value: Value, lookup: Lookup) -> Step {
        let (id, request) = request::read(value, self.has_oob());
        let checked = request.and_then(|request| {
            let spec = self.spec(&request.name, lookup)?;
            if !spec.allow_oob {
                let name = &request.name;
                return Err(QmpError::generic(format!("The command {name} does not support OOB")));
            }
            Ok(request)
        });
        match checked {
            Err(error) => refuse(error, id),
            Ok(Request { name, arguments }) => Step::Run(Call { oob: true, name, arguments, id }),
        }
    }

    fn has_oob(&self) -> bool {
        self.mode == Mode::Commands { oob: true }
    }

    fn spec(&self, name: &str, lookup: Lookup) -> Result<CommandSpec, QmpError> {
        if name == OWN_COMMAND {
            return Ok(CommandSpec { allow_oob: false });
        }
        let not_found = |text: String| Err(QmpError::new(ErrorClass::CommandNotFound, text));
        if self.mode == Mode::Negotiating {
            let text = "Expecting capabilities negotiation with 'qmp_capabilities'";
            return not_found(text.to_owned());
        }
        lookup(name).map_or_else(|| not_found(format!("The command {name} has not been found")), Ok)
    }

    /// Check an in-band command, and run it here if it is the session's own. Returns it otherwise.
    fn dispatch(&mut self, request: Request, lookup: Lookup) -> Result<Option<Request>, QmpError> {
        self.spec(&request.name, lookup)?;
        if request.name != OWN_COMMAND {
            return Ok(Some(request));
        }
        let capabilities = enabled_capabilities(&request.arguments)?;
        if self.mode != Mode::Negotiating {
            return Err(QmpError::new(
                ErrorClass::CommandNotFound,
                "Capabilities negotiation is already complete, command ignored",
            ));
        }
        self.mode = Mode::Commands { oob: capabilities.oob };
        Ok(None)
    }
}

/// The command that the session runs itself.
const OWN_COMMAND: &str = "qmp_capabilities";

fn refuse(error: QmpError, id: Option<Value>) -> Step {
    Step::Send(message::response(Err(error), id))
}
