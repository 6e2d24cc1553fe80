//! The operator's command beside a daemon with one disk, as far as the command can tell.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "support for tests"
)]

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blkfault::monitor::{Address, CommandSpec, EventSink, Executor, Monitors, Reply};
use blkfault::qapi::{ErrorClass, QmpError};
use serde_json::{Map, Value, json};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The event that shows that a command listens.
pub const BELL: &str = "BLOCK_EXPORT_CONNECTED";

/// A daemon with one disk, as far as the command can tell.
pub struct Daemon {
    pub events: EventSink,
    pub state: Mutex<Map<String, Value>>,
    pub size_bytes: Mutex<u64>,
    pub kept: Mutex<Vec<Reply>>,
    pub quit: Mutex<bool>,
}

impl Daemon {
    fn run(&self, name: &str, arguments: &Map<String, Value>) -> Result<Value, QmpError> {
        let id = arguments.get("id").or(arguments.get("device"));
        if let Some(id) = id
            && id != "disk0"
        {
            let text = format!("Cannot find device={id} nor node-name=''");
            return Err(QmpError::new(ErrorClass::DeviceNotFound, text));
        }
        let mut state = self.state.lock().unwrap();
        Ok(match name {
            "set-block-fault-state" => {
                state.clone_from(arguments);
                json!({})
            }
            "query-block-fault-state" => state["state"].clone(),
            "query-block-fault" => {
                let mut info = state.clone();
                info.insert("counts".into(), json!({ "passed": 7, "failed": 3 }));
                info.into()
            }
            "query-block" => json!([{
                "device": "disk0", "type": "unknown", "removable": false, "locked": false,
                "inserted": {
                    "file": "/images/a b.img", "node-name": "node0", "ro": false, "drv": "file",
                    "image": { "virtual-size": *self.size_bytes.lock().unwrap() }
                }
            }]),
            "query-block-exports" => json!([
                { "id": "other", "type": "vhost-user-blk", "node-name": "x", "connected": false },
                { "id": "disk0", "type": "vhost-user-blk", "node-name": "node0", "connected": true }
            ]),
            "query-blockstats" => json!([{ "device": "disk0", "node-name": "node0", "stats": {
                "rd_operations": 3, "rd_bytes": 1536, "failed_rd_operations": 1,
                "invalid_rd_operations": 0, "rd_total_time_ns": 204_936,
                "wr_operations": 0, "wr_bytes": 0, "failed_wr_operations": 0,
                "invalid_wr_operations": 2, "wr_total_time_ns": 0,
                "wr_zeroes_operations": 5, "wr_zeroes_bytes": 4096, "account_failed": true
            } }]),
            "block_resize" => {
                let size_bytes = arguments["size"].as_u64().unwrap();
                if !size_bytes.is_multiple_of(512) {
                    return Err(QmpError::generic("The size must be a multiple of 512"));
                }
                *self.size_bytes.lock().unwrap() = size_bytes;
                json!({})
            }
            "quit" => json!({}),
            other => panic!("{other}"),
        })
    }
}

impl Executor for Daemon {
    fn version(&self) -> Value {
        json!({ "qemu": { "micro": 0, "minor": 1, "major": 0 }, "package": "test" })
    }

    fn lookup(&self, name: &str) -> Option<CommandSpec> {
        let oob = ["set-block-fault-state", "query-block-fault-state"].contains(&name);
        let known = [
            "query-block-fault",
            "query-block",
            "query-block-exports",
            "query-blockstats",
            "block_resize",
            "quit",
            "hang",
        ];
        (oob || known.contains(&name)).then_some(CommandSpec { allow_oob: oob })
    }

    fn execute(&self, name: &str, arguments: Map<String, Value>, reply: Reply) {
        if name == "hang" {
            self.kept.lock().unwrap().push(reply);
            // The thread of all in-band commands is stuck until the reply is taken away.
            while !self.kept.lock().unwrap().is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
        } else {
            reply.send(self.run(name, &arguments));
            // Only now, so that the end does not overtake the reply.
            *self.quit.lock().unwrap() |= name == "quit";
        }
    }
}

/// A running daemon, or the place where one will be.
pub struct Scene {
    pub daemon: Arc<Daemon>,
    pub monitors: Option<Monitors>,
    folder: tempfile::TempDir,
}

impl Scene {
    pub fn without_daemon() -> Self {
        let daemon = Daemon {
            events: EventSink::new().unwrap(),
            state: Mutex::new(
                json!({ "id": "disk0", "state": "none" }).as_object().unwrap().clone(),
            ),
            size_bytes: Mutex::new(20 << 30),
            kept: Mutex::default(),
            quit: Mutex::default(),
        };
        let folder = tempfile::tempdir().unwrap();
        Self { daemon: Arc::new(daemon), monitors: None, folder }
    }

    pub fn new() -> Self {
        let mut scene = Self::without_daemon();
        scene.start_daemon();
        scene
    }

    pub fn start_daemon(&mut self) {
        let token = self.folder.path().join("token");
        std::fs::write(&token, "4f6e652064617920746865206469736b").unwrap();
        std::fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
        let port: Address = "tcp:127.0.0.1:0".parse().unwrap();
        let addresses = [Address::Unix(self.path()), port.with_token_file(&token).unwrap()];
        let (daemon, events) = (self.daemon.clone(), self.daemon.events.clone());
        self.monitors = Some(Monitors::start(daemon, &addresses, events).unwrap());
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("monitor")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blkfault"));
        command.args(arguments).env("BLKFAULT_MONITOR", self.path()).env("COLUMNS", "100");
        command
    }

    /// Run the command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    /// Start the command and return when it listens to events, which it shows by printing one.
    pub fn listen(&self, arguments: &[&str]) -> (Child, BufReader<impl Read + use<>>, String) {
        let mut child = self.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let done = Arc::new(Mutex::new(false));
        let (events, ringing) = (self.daemon.events.clone(), done.clone());
        let bell = std::thread::spawn(move || {
            while !*ringing.lock().unwrap() {
                events.emit(BELL, Some(json!({ "id": "disk0" })));
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        *done.lock().unwrap() = true;
        bell.join().unwrap();
        (child, lines, line)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.daemon.kept.lock().unwrap().clear();
    }
}

/// What a finished command left.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().expect("no signal"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!((self.status, self.err.as_str()), (0, ""), "{self:?}");
        self.out
    }

    #[track_caller]
    pub fn failed(self, status: i32, why: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.err.contains(why), "{self:?}");
        assert!(self.err.starts_with("blkfault: ") || status == 2, "{self:?}");
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let out = self.done();
        assert_eq!(out.lines().count(), 1, "{out}");
        serde_json::from_str(&out).unwrap()
    }
}
