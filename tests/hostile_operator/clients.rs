//! Clients that say what they like, as bytes.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Rig;

/// Longest that an answer may take; far beyond what it needs on a busy machine.
const WAIT: Duration = Duration::from_secs(60);

/// A client that sees every line.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    received: Vec<u8>,
    searched: usize,
}

impl Client {
    /// Connected, with nothing read or said.
    pub(crate) fn silent(rig: &Rig) -> Self {
        let stream = UnixStream::connect(rig.daemon.monitor()).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream.set_write_timeout(Some(WAIT)).unwrap();
        Self { stream, received: Vec::new(), searched: 0 }
    }

    /// A client that has negotiated; `None` where there is no room for it.
    pub(crate) fn try_new(rig: &Rig, capabilities: &str) -> Option<Self> {
        let mut client = Self::silent(rig);
        if !client.line()?.starts_with("{\"QMP\"") {
            return None;
        }
        client.send(format!(
            "{{'execute': 'qmp_capabilities', 'arguments': {{'enable': [{capabilities}]}}}}"
        ));
        client.line().filter(|line| line == "{\"return\": {}}").map(|_| client)
    }

    pub(crate) fn new(rig: &Rig) -> Self {
        Self::eventually(rig, "")
    }

    pub(crate) fn oob(rig: &Rig) -> Self {
        Self::eventually(rig, "'oob'")
    }

    /// Those who went before may not be forgotten yet.
    fn eventually(rig: &Rig, capabilities: &str) -> Self {
        let deadline = Instant::now() + WAIT;
        loop {
            if let Some(client) = Self::try_new(rig, capabilities) {
                return client;
            }
            assert!(Instant::now() < deadline, "there is no room for a client");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the monitor reads");
    }

    /// Send as much as the monitor takes without waiting; tells how much that is.
    pub(crate) fn send_what_is_taken(&mut self, bytes: &[u8]) -> usize {
        self.stream.set_nonblocking(true).unwrap();
        let mut sent = 0;
        let until = Instant::now() + Duration::from_millis(20);
        while sent < bytes.len() && Instant::now() < until {
            match self.stream.write(&bytes[sent..]) {
                Ok(more) => sent += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("the monitor hung up: {error}"),
            }
        }
        self.stream.set_nonblocking(false).unwrap();
        sent
    }

    /// The next line; nothing at the end of the connection.
    pub(crate) fn line(&mut self) -> Option<String> {
        loop {
            let found = self.received[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(at) = found {
                let rest = self.received.split_off(self.searched + at + 1);
                let line = std::mem::replace(&mut self.received, rest);
                self.searched = 0;
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            self.searched = self.received.len();
            let mut piece = [0; 1 << 16];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(bytes) => self.received.extend_from_slice(&piece[..bytes]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// The next message that is no event.
    pub(crate) fn answer(&mut self) -> Value {
        loop {
            let line = self.line().expect("the monitor hung up");
            let message: Value = serde_json::from_str(&line).unwrap();
            if message.get("event").is_none() {
                return message;
            }
        }
    }

    pub(crate) fn ask(&mut self, command: &str) -> Value {
        self.send(command);
        self.answer()
    }

    /// Whatever was said before, the next command is understood: how many errors came before.
    pub(crate) fn errors_until_understood(&mut self) -> u64 {
        self.errors_after(&[])
    }

    /// Say something, reading what is answered meanwhile: how many errors that was.
    pub(crate) fn errors_after(&mut self, said: &[u8]) -> u64 {
        let mut sender = self.stream.try_clone().unwrap();
        let said = [said, b"\x01\n{'execute': 'query-version', 'id': 'understood'}"].concat();
        std::thread::scope(|scope| {
            scope.spawn(move || sender.write_all(&said).expect("the monitor reads"));
            self.count_errors()
        })
    }

    fn count_errors(&mut self) -> u64 {
        let mut errors = 0;
        loop {
            let answer = self.answer();
            if answer["id"] == "understood" {
                assert!(answer.get("return").is_some(), "{answer}");
                return errors;
            }
            errors += u64::from(answer.get("error").is_some());
        }
    }
}

/// Ask for something as an operator does: how long that took; `None` where there was no room.
pub(crate) fn ask_once(rig: &Rig) -> Option<Duration> {
    let began = Instant::now();
    let mut client = Client::try_new(rig, "")?;
    let answer = client.ask("{'execute': 'query-block'}");
    assert!(answer["return"].is_array(), "{answer}");
    Some(began.elapsed())
}
