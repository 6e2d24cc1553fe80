//! A monitor with commands to test it by, and a client that sees every byte.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "support for tests, of which each binary uses a part"
)]

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use blkfault::monitor::{Address, CommandSpec, EventSink, Executor, Monitors, Reply};
use blkfault::qapi::{ErrorClass, QmpError};
use serde_json::{Map, Value, json};

/// How long a test waits for what must happen. Nothing is asserted about less.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Commands to test a monitor by.
#[derive(Debug)]
pub struct TestExecutor {
    pub events: EventSink,
    /// The commands that were begun, in order.
    pub begun: Mutex<Vec<String>>,
    states: Mutex<BTreeMap<String, String>>,
    stuck: Mutex<bool>,
    unstuck: Condvar,
    /// How many times `hold` may return.
    releases: Mutex<usize>,
    released: Condvar,
    kept: Mutex<Vec<Reply>>,
}

/// The name of a command, whether it may overtake, and what it does.
const COMMANDS: &[(&str, bool)] = &[
    ("query-version", false),
    ("query-block", false),
    ("query-block-fault-state", true),
    ("set-block-fault-state", true),
    ("echo", false),  // returns its arguments
    ("large", false), // returns a string of so many bytes
    ("emit", false),  // emits so many events, then returns
    ("stick", false), // never returns, until
    ("unstick", true),
    ("hold", true),  // keeps the thread of all sockets, once for each release
    ("keep", false), // is answered later, namely by
    ("let-go", true),
    ("forget", false), // is never answered
    ("panic", false),
    ("quit", false),
];

impl TestExecutor {
    fn new(events: EventSink) -> Self {
        Self {
            events,
            begun: Mutex::default(),
            states: Mutex::new([("disk0".to_owned(), "none".to_owned())].into()),
            stuck: Mutex::new(true),
            unstuck: Condvar::new(),
            releases: Mutex::default(),
            released: Condvar::new(),
            kept: Mutex::default(),
        }
    }

    /// Let every `stick` return, also those to come.
    pub fn unstick(&self) {
        *self.stuck.lock().unwrap() = false;
        self.unstuck.notify_all();
    }

    /// Let one `hold` return.
    pub fn release(&self) {
        *self.releases.lock().unwrap() += 1;
        self.released.notify_all();
    }

    fn run(&self, name: &str, arguments: &Map<String, Value>) -> Result<Value, QmpError> {
        match name {
            "query-version" => return Ok(self.version()),
            "query-block" => {
                let states = self.states.lock().unwrap();
                return Ok(states.keys().map(|id| json!({ "device": id })).collect());
            }
            "query-block-fault-state" => return Ok(json!(*self.state(arguments, |_| ())?)),
            "set-block-fault-state" => {
                let new = arguments["state"].as_str().unwrap().to_owned();
                self.state(arguments, |state| *state = new)?;
            }
            "echo" => return Ok(Value::Object(arguments.clone())),
            "large" => return Ok(json!("x".repeat(number(arguments, "bytes")))),
            "emit" => {
                for number in 0..number(arguments, "count") {
                    self.events.emit("TEST", Some(json!({ "number": number })));
                }
            }
            "stick" => {
                let stuck = self.stuck.lock().unwrap();
                let (_stuck, timeout) =
                    self.unstuck.wait_timeout_while(stuck, PATIENCE, |stuck| *stuck).unwrap();
                assert!(!timeout.timed_out(), "nobody freed the stuck command");
            }
            "unstick" => self.unstick(),
            "hold" => {
                let releases = self.releases.lock().unwrap();
                let (mut releases, timeout) = self
                    .released
                    .wait_timeout_while(releases, PATIENCE, |left| *left == 0)
                    .unwrap();
                assert!(!timeout.timed_out(), "nobody released the held thread");
                *releases -= 1;
            }
            "let-go" => {
                for reply in self.kept.lock().unwrap().drain(..) {
                    reply.send(Ok(json!("let go")));
                }
            }
            "panic" => panic!("as the test asked"),
            "quit" => {
                let data = json!({ "guest": false, "reason": "host-qmp-quit" });
                self.events.emit("SHUTDOWN", Some(data));
            }
            other => panic!("{other} is not in this list"),
        }
        Ok(json!({}))
    }

    fn state(
        &self,
        arguments: &Map<String, Value>,
        change: impl FnOnce(&mut String),
    ) -> Result<String, QmpError> {
        let id = arguments["id"].as_str().unwrap();
        let mut states = self.states.lock().unwrap();
        let state = states.get_mut(id).ok_or_else(|| {
            QmpError::new(ErrorClass::DeviceNotFound, format!("Cannot find device '{id}'"))
        })?;
        change(state);
        Ok(state.clone())
    }
}

fn number(arguments: &Map<String, Value>, name: &str) -> usize {
    arguments[name].as_u64().unwrap().try_into().unwrap()
}

impl Executor for TestExecutor {
    /// The one that the transcripts were recorded from.
    fn version(&self) -> Value {
        json!({
            "qemu": { "micro": 22, "minor": 2, "major": 7 },
            "package": "Debian 1:7.2+dfsg-7+deb12u18+b3"
        })
    }

    fn lookup(&self, name: &str) -> Option<CommandSpec> {
        let (_, allow_oob) = COMMANDS.iter().find(|(known, _)| *known == name)?;
        Some(CommandSpec { allow_oob: *allow_oob })
    }

    fn execute(&self, name: &str, arguments: Map<String, Value>, reply: Reply) {
        self.begun.lock().unwrap().push(name.to_owned());
        match name {
            "keep" => self.kept.lock().unwrap().push(reply),
            "forget" => drop(reply),
            _ => reply.send(self.run(name, &arguments)),
        }
    }
}

/// What clients of a TCP port tell first.
pub const TOKEN: &str = "4f6e652064617920746865206469736b";

/// A port of this machine for those who know [`TOKEN`].
fn locked(folder: &Path) -> Address {
    let path = folder.join("token");
    std::fs::write(&path, TOKEN).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let port: Address = "tcp:127.0.0.1:0".parse().unwrap();
    port.with_token_file(&path).unwrap()
}

/// A monitor on a unix socket and on a TCP port, in a folder of its own.
pub struct TestMonitor {
    pub executor: Arc<TestExecutor>,
    pub monitors: Option<Monitors>,
    pub folder: tempfile::TempDir,
}

impl TestMonitor {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let events = EventSink::new().unwrap();
        let executor = Arc::new(TestExecutor::new(events.clone()));
        let addresses = [Address::Unix(folder.path().join("monitor")), locked(folder.path())];
        let monitors = Monitors::start(executor.clone(), &addresses, events).unwrap();
        Self { executor, monitors: Some(monitors), folder }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("monitor")
    }

    pub fn port(&self) -> u16 {
        match &self.monitors.as_ref().unwrap().addresses()[1] {
            Address::Tcp { port, .. } => *port,
            other @ Address::Unix(_) => panic!("{other}"),
        }
    }

    /// Wait until so many commands have begun.
    pub fn wait_for_begun(&self, commands: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.executor.begun.lock().unwrap().len() < commands {
            assert!(Instant::now() < deadline, "the commands never began");
            std::thread::yield_now();
        }
    }

    /// A client that has read nothing.
    pub fn connect(&self) -> RawClient<UnixStream> {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        RawClient { stream, received: Vec::new(), searched: 0 }
    }

    /// A client that has negotiated.
    pub fn client(&self) -> RawClient<UnixStream> {
        let mut client = self.connect();
        client.line();
        assert_eq!(client.ask("{'execute': 'qmp_capabilities'}"), json!({ "return": {} }));
        client
    }

    /// A client that has negotiated for OOB.
    pub fn oob_client(&self) -> RawClient<UnixStream> {
        let mut client = self.connect();
        client.line();
        let enable = "{'execute': 'qmp_capabilities', 'arguments': {'enable': ['oob']}}";
        assert_eq!(client.ask(enable), json!({ "return": {} }));
        client
    }
}

impl Drop for TestMonitor {
    fn drop(&mut self) {
        self.executor.unstick();
    }
}

/// A client that sees every byte.
pub struct RawClient<S> {
    pub stream: S,
    received: Vec<u8>,
    /// Bytes of `received` in which no line ends.
    searched: usize,
}

impl<S: Read + Write> RawClient<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, received: Vec::new(), searched: 0 }
    }

    pub fn send(&mut self, input: impl AsRef<[u8]>) {
        self.stream.write_all(input.as_ref()).unwrap();
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> String {
        self.try_line().expect("the monitor closed the connection")
    }

    /// The next line, without its end; `None` at the end of the connection.
    pub fn try_line(&mut self) -> Option<String> {
        loop {
            let unsearched = &self.received[self.searched..];
            if let Some(end) = unsearched.windows(2).position(|pair| pair == b"\r\n") {
                let end = self.searched + end;
                self.searched = 0;
                let line = self.received.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            self.searched = self.received.len().saturating_sub(1);
            let mut piece = [0; 1 << 16];
            match self.stream.read(&mut piece) {
                Ok(0) => {
                    assert_eq!(self.received, b"", "half a line");
                    return None;
                }
                Ok(bytes) => self.received.extend_from_slice(&piece[..bytes]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// The next message.
    pub fn message(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Send a command and receive a message.
    pub fn ask(&mut self, command: &str) -> Value {
        self.send(command);
        self.message()
    }

    /// How many lines are there without waiting.
    pub fn lines_at_hand(&mut self) -> usize
    where
        S: std::os::fd::AsFd,
    {
        let (mut piece, mut lines) = ([0; 1 << 16], 0);
        let flags = rustix::net::RecvFlags::DONTWAIT;
        while let Ok((bytes, _)) = rustix::net::recv(&self.stream, &mut piece, flags) {
            assert!(bytes > 0, "the monitor closed the connection");
            lines += piece[..bytes].iter().filter(|byte| **byte == b'\n').count();
        }
        lines
    }

    /// Whether the connection ends with nothing more said.
    pub fn is_closed(&mut self) -> bool {
        self.try_line().is_none()
    }
}
