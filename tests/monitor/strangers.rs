//! Clients that are nobody's: browsers that a web page sends, and whoever does not know the token.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blkfault::client::{Client, ClientError, Deadline};
use blkfault::monitor::{Address, EventSink, Monitors};

use crate::support::{PATIENCE, RawClient, TOKEN, TestMonitor};

const COMMANDS: &str = "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-block\"}";
/// As OpenSSL begins.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x01\x2e\x01\x00\x01\x2a\x03\x03";

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What the daemon says until it closes the connection. A client that goes on writing may find it
/// reset.
fn said_until_closed(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(bytes @ 1..) = stream.read(&mut piece) {
        said.extend_from_slice(&piece[..bytes]);
    }
    String::from_utf8(said).unwrap()
}

fn request(method: &str) -> Vec<u8> {
    let head = "Host: localhost:4444\r\nContent-Type: text/plain\r\nOrigin: http://evil.example";
    format!("{method} / HTTP/1.1\r\n{head}\r\n\r\n{COMMANDS}").into_bytes()
}

#[test]
fn a_browser_is_hung_up_on_whatever_it_sends_and_however_slowly() {
    let monitor = TestMonitor::start();
    let methods = ["GET", "POST", "PUT", "HEAD", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let hello = [CLIENT_HELLO, COMMANDS.as_bytes()].concat();
    let requests = methods.iter().map(|method| request(method)).chain([preface, hello]);
    for request in requests {
        for piece_bytes in [1, request.len()] {
            let mut stream = connect(monitor.port());
            for piece in request.chunks(piece_bytes) {
                // It is closed somewhere on the way.
                if stream.write_all(piece).is_err() {
                    break;
                }
            }
            let said = said_until_closed(stream);
            let text = String::from_utf8_lossy(&request);
            assert!(!said.contains("return") && !said.contains("error"), "{text}: {said}");
        }
    }
    assert_eq!(*monitor.executor.begun.lock().unwrap(), [""; 0], "nothing was executed");
    assert!(monitor.client().ask("{'execute': 'query-block'}")["return"].is_array());
}

/// A monitor at a port that is closed to those who do not know the token, and the file that has it.
struct Locked {
    monitor: TestMonitor,
    monitors: Monitors,
    token: PathBuf,
}

impl Locked {
    fn start(address: &str) -> Self {
        let monitor = TestMonitor::start();
        let token = monitor.folder.path().join("to,ken");
        write_secret(&token, TOKEN);
        let escaped = token.display().to_string().replace(',', ",,");
        let address = format!("{address},token-file={escaped}").parse().unwrap();
        let events = EventSink::new().unwrap();
        let executor = Arc::clone(&monitor.executor);
        let monitors = Monitors::start(executor as _, &[address], events).unwrap();
        Self { monitor, monitors, token }
    }

    fn port(&self) -> u16 {
        match &self.monitors.addresses()[0] {
            Address::Tcp { port, .. } => *port,
            other @ Address::Unix(_) => panic!("{other}"),
        }
    }

    /// Connect as `blkfault` does.
    fn connect(&self, token: Option<&Path>) -> Result<Client, ClientError> {
        let address: Address = format!("tcp:127.0.0.1:{}", self.port()).parse().unwrap();
        let address = match token {
            Some(path) => address.with_token_file(path).unwrap(),
            None => address,
        };
        Client::connect(&address, Deadline::after(PATIENCE))
    }
}

fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn who_knows_the_token_commands_the_daemon() {
    for address in ["tcp:127.0.0.1:0", "tcp:0.0.0.0:0,remote=on"] {
        let locked = Locked::start(address);
        let mut client = locked.connect(Some(&locked.token)).unwrap();
        let deadline = Deadline::after(PATIENCE);
        let disks = client.call("query-block", serde_json::json!({}), deadline).unwrap();
        assert!(disks.is_array(), "{disks}");
        // By hand, as with telnet.
        let mut client = RawClient::over(connect(locked.port()));
        assert!(client.line().starts_with("{\"QMP\""));
        client.send(format!("AUTH {TOKEN}\r\n"));
        assert_eq!(client.line(), "{\"return\": {}}");
        client.send("{\"execute\": \"qmp_capabilities\"}\r\n");
        assert_eq!(client.line(), "{\"return\": {}}");
        assert!(client.ask("{'execute': 'query-block'}")["return"].is_array());
    }
}

#[test]
fn who_does_not_know_the_token_is_turned_away_and_has_executed_nothing() {
    let locked = Locked::start("tcp:127.0.0.1:0");
    let wrong = locked.monitor.folder.path().join("wrong");
    write_secret(&wrong, "4f6e652064617920746865206469736c");
    for (token, why) in [(Some(&*wrong), "The token is wrong"), (None, "wants its token first")] {
        let error = locked.connect(token).unwrap_err();
        assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
    for said in [COMMANDS.to_owned(), format!("AUTH x\r\n{COMMANDS}"), format!("\n\n{COMMANDS}")] {
        let mut stream = connect(locked.port());
        stream.write_all(said.as_bytes()).unwrap();
        let answer = said_until_closed(stream);
        assert!(!answer.contains("return"), "{answer}");
    }
    assert_eq!(*locked.monitor.executor.begun.lock().unwrap(), [""; 0]);
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(&locked.token, mode).unwrap();
    let error = locked.connect(Some(&locked.token)).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn strangers_do_not_keep_operators_out() {
    /// All the clients that a daemon serves at once.
    const CLIENTS: usize = 64;
    let locked = Locked::start("tcp:127.0.0.1:0");
    let mut operator = locked.connect(Some(&locked.token)).unwrap();
    let mut strangers: Vec<_> = (0..2 * CLIENTS)
        .map(|_| {
            let mut stranger = RawClient::over(connect(locked.port()));
            stranger.line();
            stranger
        })
        .collect();
    let mut other = locked.connect(Some(&locked.token)).unwrap();
    for client in [&mut operator, &mut other] {
        let deadline = Deadline::after(PATIENCE);
        client.call("query-block", serde_json::json!({}), deadline).unwrap();
    }
    assert!(strangers.remove(0).is_closed(), "the oldest made room");
}
