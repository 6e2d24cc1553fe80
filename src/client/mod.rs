//! THE OPERATOR'S COMMAND: a QMP client, and the program `blkfault` around it.
//!
//! Knows: how to connect, negotiate, call and listen, and how long to wait for it. Must not know:
//! how the daemon does anything; it could as well talk to QEMU. Invariant: nothing waits longer
//! than its [`Deadline`], and an event that comes between a command and its answer is kept.

pub mod cli;
mod deadline;
mod failure;
mod faults;
mod images;
mod manual;
mod mistyped;
mod output;
mod parse;
mod verbs;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde_json::{Map, Value, json};

pub use self::deadline::Deadline;
use crate::monitor::framing::{Framer, Limits};
use crate::monitor::message::to_line;
use crate::monitor::{Address, Token, TokenError};
use crate::stream::Stream;

/// Why a client did not get what it wanted.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("no daemon at {address}: {error}")]
    Unreachable {
        /// Where.
        address: Address,
        /// What the host said.
        error: io::Error,
    },
    /// The connection ended before the answer came.
    #[error("the daemon closed the connection")]
    Gone,
    /// The connection failed.
    #[error("the connection to the daemon failed: {0}")]
    Broken(io::Error),
    /// Whoever is there does not speak QMP.
    #[error("this is no QMP monitor: {0}")]
    NotQmp(String),
    /// What the daemon wants to be told first cannot be had.
    #[error("the token-file '{}' {error}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: TokenError,
    },
    /// The daemon refused a command.
    #[error("{desc}")]
    Refused {
        /// The class of the error, such as `DeviceNotFound`.
        class: String,
        /// The error, for people.
        desc: String,
    },
    /// The time is over.
    #[error("timed out")]
    TimedOut,
    /// The time is over, and whoever is there has not said a word, as a monitor does at once.
    #[error("timed out: no QMP greeting from {0}: is this a disk's socket?")]
    NoGreeting(Address),
}

impl ClientError {
    /// Whether the same may succeed a little later, because the daemon is only just starting.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Gone | Self::Broken(_))
    }
}

/// A session with a monitor, after negotiation.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    framer: Framer,
    /// Bytes that came and were not looked at.
    received: Vec<u8>,
    events: VecDeque<Value>,
    oob: bool,
    calls: u64,
}

impl Client {
    /// Connect and negotiate, with OOB if the monitor has it.
    ///
    /// # Errors
    /// When nobody is there, or whoever is there does not speak QMP, or the time is over.
    pub fn connect(address: &Address, deadline: Deadline) -> Result<Self, ClientError> {
        let stream = open(address, deadline).map_err(|error| match is_timeout(&error) {
            true => ClientError::TimedOut,
            false => ClientError::Unreachable { address: address.clone(), error },
        })?;
        let mut client = Self {
            stream,
            framer: Framer::new(Limits::QEMU),
            received: Vec::new(),
            events: VecDeque::new(),
            oob: false,
            calls: 0,
        };
        let greeting = client.receive(deadline).map_err(|error| match error {
            ClientError::TimedOut => ClientError::NoGreeting(address.clone()),
            other => other,
        })?;
        client.tell_token(address, deadline)?;
        client.negotiate(&greeting, deadline)?;
        Ok(client)
    }

    /// Tell the token, if the address names one. A monitor without one takes it for a mistake.
    fn tell_token(&mut self, address: &Address, deadline: Deadline) -> Result<(), ClientError> {
        let Address::Tcp { token_file: Some(path), .. } = address else { return Ok(()) };
        let failed = |error| ClientError::Token { path: path.clone(), error };
        let token = Token::read(path).map_err(failed)?;
        self.send(&token.line(), deadline)?;
        let reply = self.reply(deadline)?;
        if reply.get("error").is_some() { Err(refusal(&reply)) } else { Ok(()) }
    }

    fn negotiate(&mut self, greeting: &Value, deadline: Deadline) -> Result<(), ClientError> {
        if greeting.get("error").is_some() {
            return Err(refusal(greeting));
        }
        let Some(capabilities) = greeting.pointer("/QMP/capabilities").and_then(Value::as_array)
        else {
            return Err(ClientError::NotQmp("it does not greet".to_owned()));
        };
        let oob = capabilities.iter().any(|capability| capability == "oob");
        let enable = if oob { json!(["oob"]) } else { json!([]) };
        self.call("qmp_capabilities", json!({ "enable": enable }), deadline)?;
        self.oob = oob;
        Ok(())
    }

    /// Run a command and wait for its return value.
    ///
    /// # Errors
    /// When the daemon refuses, goes away, or does not answer in time.
    pub fn call(
        &mut self,
        name: &str,
        arguments: Value,
        deadline: Deadline,
    ) -> Result<Value, ClientError> {
        self.call_as("execute", name, arguments, deadline)
    }

    /// Run a command that overtakes those in the queue, if the monitor can do that.
    ///
    /// # Errors
    /// When the daemon refuses, goes away, or does not answer in time.
    pub fn call_oob(
        &mut self,
        name: &str,
        arguments: Value,
        deadline: Deadline,
    ) -> Result<Value, ClientError> {
        let kind = if self.oob { "exec-oob" } else { "execute" };
        self.call_as(kind, name, arguments, deadline)
    }

    fn call_as(
        &mut self,
        kind: &str,
        name: &str,
        arguments: Value,
        deadline: Deadline,
    ) -> Result<Value, ClientError> {
        self.calls += 1;
        let id = json!(self.calls);
        let command = json!({ kind: name, "arguments": arguments, "id": id });
        self.send(&to_line(&command), deadline)?;
        loop {
            let mut reply = self.reply(deadline)?;
            // An answer without id is to something that the daemon could not read at all.
            if reply.get("id").is_some_and(|answered| *answered != id) {
                continue;
            }
            return match reply.get_mut("return") {
                Some(value) => Ok(value.take()),
                None => Err(refusal(&reply)),
            };
        }
    }

    /// Send a message as it is and wait for the next answer, which may be an error.
    ///
    /// # Errors
    /// When the daemon goes away or does not answer in time.
    pub fn exchange(&mut self, message: &Value, deadline: Deadline) -> Result<Value, ClientError> {
        self.send(&to_line(message), deadline)?;
        self.reply(deadline)
    }

    /// The next event, as it came; those that came between a command and its answer first.
    ///
    /// # Errors
    /// When the daemon goes away or nothing happens in time.
    pub fn event(&mut self, deadline: Deadline) -> Result<Map<String, Value>, ClientError> {
        loop {
            let message = match self.events.pop_front() {
                Some(event) => event,
                None => self.receive(deadline)?,
            };
            if let Value::Object(event) = message
                && event.contains_key("event")
            {
                return Ok(event);
            }
        }
    }

    /// Wait until the daemon closes the connection, whatever it says before.
    ///
    /// # Errors
    /// When it does not in time, or what it says is no QMP.
    pub fn wait_for_end(mut self, deadline: Deadline) -> Result<(), ClientError> {
        loop {
            match self.receive(deadline) {
                Ok(_) => {}
                Err(ClientError::Gone) => return Ok(()),
                Err(other) => return Err(other),
            }
        }
    }

    /// The next message that is no event.
    fn reply(&mut self, deadline: Deadline) -> Result<Value, ClientError> {
        loop {
            let message = self.receive(deadline)?;
            if message.get("event").is_none() {
                return Ok(message);
            }
            self.events.push_back(message);
        }
    }

    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), ClientError> {
        let mut unsent = bytes;
        while !unsent.is_empty() {
            set_timeout(&self.stream, Timeout::Send, deadline)?;
            let sent = self.stream.write(unsent).map_err(failed)?;
            unsent = unsent.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// The next message.
    fn receive(&mut self, deadline: Deadline) -> Result<Value, ClientError> {
        let mut piece = [0; 1 << 14];
        loop {
            let (read, message) = self.framer.feed(&self.received);
            self.received.drain(..read);
            if let Some(message) = message {
                return message.map_err(|error| ClientError::NotQmp(error.to_string()));
            }
            set_timeout(&self.stream, Timeout::Recv, deadline)?;
            match self.stream.read(&mut piece).map_err(failed)? {
                0 => return Err(ClientError::Gone),
                bytes => self.received.extend(piece.get(..bytes).unwrap_or_default()),
            }
        }
    }
}

/// The error in an answer that has one.
fn refusal(reply: &Value) -> ClientError {
    let member = |name: &str| reply.get("error")?.get(name)?.as_str().map(str::to_owned);
    match (member("class"), member("desc")) {
        (Some(class), Some(desc)) => ClientError::Refused { class, desc },
        _ => ClientError::NotQmp("an answer has neither a return value nor an error".to_owned()),
    }
}

fn set_timeout(stream: &Stream, direction: Timeout, deadline: Deadline) -> Result<(), ClientError> {
    let left = deadline.left()?;
    set_socket_timeout(stream, direction, left).map_err(|errno| ClientError::Broken(errno.into()))
}

fn failed(error: io::Error) -> ClientError {
    match error.kind() {
        _ if is_timeout(&error) => ClientError::TimedOut,
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::Gone,
        _ => ClientError::Broken(error),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn open(address: &Address, deadline: Deadline) -> io::Result<Stream> {
    match address {
        Address::Unix(path) => open_unix(path, deadline).map(Stream::Unix),
        Address::Tcp { host, port, .. } => {
            let mut failure = io::Error::from(io::ErrorKind::NotFound);
            for resolved in (host.as_str(), *port).to_socket_addrs()? {
                let left = deadline.left().map_err(|_| io::ErrorKind::TimedOut)?;
                let connected = match left {
                    Some(left) => TcpStream::connect_timeout(&resolved, left),
                    None => TcpStream::connect(resolved),
                };
                match connected {
                    Ok(stream) => return stream.set_nodelay(true).map(|()| Stream::Tcp(stream)),
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        }
    }
}

/// A daemon that is too busy to accept makes `connect` wait; only the send timeout ends that.
fn open_unix(path: &Path, deadline: Deadline) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let left = deadline.left().map_err(|_| io::ErrorKind::TimedOut)?;
    set_socket_timeout(&socket, Timeout::Send, left)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}
