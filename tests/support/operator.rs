//! An operator: one QMP connection, commands in turn, events kept.
//!
//! Knows: QMP over a unix socket. Must not know: the commands. Invariant: an answer comes within
//! [`WAIT`] or the test fails.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longest that an answer may take; far beyond what it needs on a busy machine.
const WAIT: Duration = Duration::from_secs(60);

/// A QMP client.
#[derive(Debug)]
pub struct Operator {
    stream: BufReader<UnixStream>,
    line: String,
    events: VecDeque<Value>,
}

impl Operator {
    /// Connect and negotiate.
    pub fn connect(monitor: &Path) -> Self {
        let stream = UnixStream::connect(monitor)
            .unwrap_or_else(|error| panic!("{}: {error}", monitor.display()));
        Self::over(stream)
    }

    /// Connect and negotiate commands that overtake others.
    pub fn connect_oob(monitor: &Path) -> Self {
        let stream = UnixStream::connect(monitor).expect("connect to the monitor");
        Self::negotiate(stream, json!({ "enable": ["oob"] }))
    }

    /// Negotiate over a connection that stands.
    pub fn over(stream: UnixStream) -> Self {
        Self::negotiate(stream, json!({}))
    }

    fn negotiate(stream: UnixStream, capabilities: Value) -> Self {
        let stream = BufReader::new(stream);
        let mut operator = Self { stream, line: String::new(), events: VecDeque::new() };
        let greeting = operator.receive(WAIT).expect("a greeting");
        assert!(greeting.get("QMP").is_some(), "greeting: {greeting}");
        operator.must("qmp_capabilities", capabilities);
        operator
    }

    /// The next message, or nothing once `wait` is over.
    fn receive(&mut self, wait: Duration) -> Option<Value> {
        let wait = wait.max(Duration::from_millis(1));
        self.stream.get_ref().set_read_timeout(Some(wait)).expect("timeout");
        // A time-out may leave a part of a line behind, to be completed by the next call.
        match self.stream.read_line(&mut self.line) {
            Ok(0) => panic!("the monitor closed the connection"),
            Ok(_) => Some(serde_json::from_str(&std::mem::take(&mut self.line)).expect("JSON")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("monitor: {error}"),
        }
    }

    /// Execute a command: what it returned, or the error object.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Value> {
        self.ask(json!({ "execute": command, "arguments": arguments }))
    }

    /// Execute a command before those that wait; it must succeed.
    pub fn must_at_once(&mut self, command: &str, arguments: Value) -> Value {
        let asked = self.ask(json!({ "exec-oob": command, "arguments": arguments }));
        asked.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    fn ask(&mut self, message: Value) -> Result<Value, Value> {
        let text = message.to_string();
        self.stream.get_mut().write_all(text.as_bytes()).expect("send a command");
        loop {
            let mut message =
                self.receive(WAIT).unwrap_or_else(|| panic!("no answer to {text} in {WAIT:?}"));
            if message.get("event").is_some() {
                self.events.push_back(message);
            } else if let Some(error) = message.get_mut("error") {
                return Err(error.take());
            } else {
                return Ok(message["return"].take());
            }
        }
    }

    /// Execute a command that must succeed.
    pub fn must(&mut self, command: &str, arguments: Value) -> Value {
        self.execute(command, arguments).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Take the events that have come so far, waiting `wait` for more.
    pub fn events(&mut self, wait: Duration) -> Vec<Value> {
        while let Some(event) = self.receive(wait) {
            self.events.push_back(event);
        }
        self.events.drain(..).collect()
    }

    /// Wait for an event of this name, leaving the others for later.
    pub fn wait_event(&mut self, name: &str) -> Value {
        let deadline = Instant::now() + WAIT;
        loop {
            if let Some(at) = self.events.iter().position(|event| event["event"] == name) {
                return self.events.remove(at).expect("it is there");
            }
            let event = self.receive(deadline.saturating_duration_since(Instant::now()));
            self.events.push_back(event.unwrap_or_else(|| panic!("no {name} in {WAIT:?}")));
        }
    }
}
