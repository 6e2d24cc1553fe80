//! Three ways to carry out a request under blkdebug's rules.
//!
//! Knows: the engine alone, and programs with QEMU's monitor commands that serve a disk at a
//! vhost-user socket. Must not know: what a script expects. Invariant: a disk of an arm is fresh:
//! zeroes, written by nobody, and its rules have seen nothing but their node being opened.

use std::cell::{Cell, RefCell};

use blkfault::errno::Errno;
use blkfault::fault::blkdebug::{Limits, Rules, parse};
use blkfault::fault::engine::{BlkdebugSetup, Change, Engine, Verdict};
use blkfault::fault::rule::Request;
use blkfault::fault::{Io, IoType, NoPayload};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::script::{Ending, IMAGE_SECTORS, RulesText};
use crate::support::blkdebug::Asked;
use crate::support::daemon::Daemon;
use crate::support::front::{Config, Front, Queue, SECTOR, Status, feature};
use crate::support::operator::Operator;
use crate::support::qsd::Qsd;

/// Something that carries out requests one by one.
pub(crate) trait Arm {
    /// Carry out a request to its end. A write fills its sectors with `fill`.
    fn request(&mut self, asked: &Asked, fill: u8) -> Ending;
}

/// What a request does to an image that never fails.
pub(crate) fn carry_out(sectors: &mut [u8], asked: &Asked, fill: u8) -> Ending {
    let first = usize::try_from(asked.sector).expect("a small image");
    let length = usize::try_from(asked.sectors).expect("a small image");
    let sectors = &mut sectors[first..first + length];
    match asked.iotype {
        IoType::Read => return Ending::Ok(sectors.to_vec()),
        IoType::Write => sectors.fill(fill),
        IoType::WriteZeroes | IoType::Discard => sectors.fill(0),
        IoType::Flush | IoType::GetId => {}
    }
    Ending::Ok(Vec::new())
}

/// How a guest sees an error number; 0 is none.
pub(crate) fn seen_by_guests(errno: i32, image: &mut [u8], asked: &Asked, fill: u8) -> Ending {
    match errno {
        0 => carry_out(image, asked, fill),
        _ if errno == Errno::EOPNOTSUPP.number() => Ending::Unsupported,
        _ => Ending::Error,
    }
}

/// The engine, over sectors of one byte each.
#[derive(Debug)]
pub(crate) struct EngineArm {
    engine: Engine,
    image: Vec<u8>,
    ordinal: u64,
}

impl EngineArm {
    pub(crate) fn open(rules: &RulesText) -> Self {
        let (rules, limits) = parsed(rules);
        let setup = BlkdebugSetup { rules, limits, ..BlkdebugSetup::default() };
        let mut engine = Engine::new(0);
        let _ = engine.configure(vec![Change::OpenBlkdebug(setup)], 0).expect("rules");
        let sectors = usize::try_from(IMAGE_SECTORS).expect("a small image");
        Self { engine, image: vec![0; sectors], ordinal: 0 }
    }
}

impl Arm for EngineArm {
    fn request(&mut self, asked: &Asked, fill: u8) -> Ending {
        let (offset_bytes, bytes) = (asked.sector * 512, asked.sectors * 512);
        let io = Io { iotype: asked.iotype, offset_bytes, bytes, ordinal: self.ordinal, queue: 0 };
        self.ordinal += 1;
        let request = Request { io, now_ns: 0, depth: 1, payload: &NoPayload };
        let mut errno = 0;
        if self.engine.armed().may_match(&io) {
            let decision = self.engine.decide(&request);
            let result = match decision.verdict {
                Verdict::Pass => Ok(()),
                Verdict::Fail(errno, _) => Err(errno),
                other => panic!("a script that waits: {other:?}"),
            };
            let ended = self.engine.finished(&request, decision.passage, result);
            assert_eq!(ended.verdict, Verdict::Pass);
            errno = result.err().map_or(0, Errno::number);
        }
        seen_by_guests(errno, &mut self.image, asked, fill)
    }
}

/// Rules and limits for the engine. JSON goes by way of a config file's text, which says the same.
fn parsed(rules: &RulesText) -> (Rules, Limits) {
    let options = match rules {
        RulesText::Config(text) => return (parse(text).expect(text), Limits::default()),
        RulesText::Options(options) => options,
    };
    let mut text = String::new();
    for group in ["inject-error", "set-state"] {
        for rule in options.get(group).and_then(Value::as_array).into_iter().flatten() {
            text += &format!("[{group}]\n");
            for (key, value) in rule.as_object().expect("a rule") {
                let value = match value {
                    Value::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
                    Value::String(word) => word.clone(),
                    number => number.to_string(),
                };
                text += &format!("{key} = \"{value}\"\n");
            }
        }
    }
    let bytes = |name: &str| options.get(name).map_or(0, |value| value.as_u64().expect("bytes"));
    let limits = blkfault::fault::blkdebug::limits::LimitOptions {
        align: bytes("align"),
        max_transfer: bytes("max-transfer"),
        opt_write_zero: bytes("opt-write-zero"),
        max_write_zero: bytes("max-write-zero"),
        opt_discard: bytes("opt-discard"),
        max_discard: bytes("max-discard"),
    };
    (parse(&text).expect("rules"), Limits::new(&limits, 1).expect("limits"))
}

/// A program that makes nodes and exports by QEMU's commands.
#[derive(Debug)]
pub(crate) struct Program {
    operator: RefCell<Operator>,
    made: Cell<u64>,
    directory: TempDir,
    process: Process,
}

#[derive(Debug)]
enum Process {
    Blkfaultd { _daemon: Box<Daemon> },
    Qemu { _qsd: Qsd },
}

impl Program {
    /// `blkfaultd`, with a disk that nobody uses.
    pub(crate) fn blkfaultd() -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        let daemon = Box::new(Daemon::start(directory.path(), &["--memory", "64K"]));
        let operator = RefCell::new(daemon.operator());
        let process = Process::Blkfaultd { _daemon: daemon };
        Self { operator, made: Cell::new(0), directory, process }
    }

    /// QEMU's storage daemon; `None`, said aloud, where it is not installed.
    pub(crate) fn qemu() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a folder");
        let qsd = Qsd::start(directory.path())?;
        let operator = RefCell::new(qsd.operator());
        let process = Process::Qemu { _qsd: qsd };
        Some(Self { operator, made: Cell::new(0), directory, process })
    }

    /// Make a fresh disk: raw over blkdebug with these rules over a file.
    pub(crate) fn disk(&self, rules: &RulesText) -> FrontArm<'_> {
        let number = self.made.replace(self.made.get() + 1);
        let path = |name: &str| self.directory.path().join(format!("{name}{number}"));
        let (image, socket) = (path("image"), path("socket"));
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(IMAGE_SECTORS * SECTOR as u64).expect("room");
        let mut blkdebug = rules.options(&path("config"));
        let (node, id) = (format!("node{number}"), format!("export{number}"));
        let file = json!({ "driver": "file", "filename": image, "discard": "unmap" });
        blkdebug.extend([("image".to_owned(), file), ("discard".to_owned(), json!("unmap"))]);
        let raw =
            json!({ "driver": "raw", "node-name": node, "file": blkdebug, "discard": "unmap" });
        let mut operator = self.operator.borrow_mut();
        operator.must("blockdev-add", raw);
        operator.must(
            "block-export-add",
            json!({ "type": "vhost-user-blk", "id": id, "node-name": node, "writable": true,
                    "addr": { "type": "unix", "path": socket } }),
        );
        drop(operator);
        let front = match self.process {
            Process::Qemu { .. } => Qsd::connect(&socket),
            Process::Blkfaultd { .. } => Front::connect(&socket),
        };
        FrontArm { session: Some(session(front)), program: self, node, id, image }
    }
}

/// Connect as a guest with a write-back cache does; without one, QEMU's device sees no flushes.
fn session(mut front: Front) -> (Front, Queue) {
    front.negotiate(feature::ALL);
    front.write_config(Config::WRITEBACK_AT, &[1]).expect("a write-back cache");
    let queue = front.start_queues(1, 128).remove(0);
    (front, queue)
}

/// A disk of a program, used through the test front end.
#[derive(Debug)]
pub(crate) struct FrontArm<'a> {
    session: Option<(Front, Queue)>,
    program: &'a Program,
    node: String,
    /// The export's id.
    pub(crate) id: String,
    image: std::path::PathBuf,
}

impl Arm for FrontArm<'_> {
    fn request(&mut self, asked: &Asked, fill: u8) -> Ending {
        let (_, queue) = self.session.as_mut().expect("until it is dropped");
        ask(queue, asked, fill)
    }
}

/// Make a request of a disk.
pub(crate) fn ask(queue: &mut Queue, asked: &Asked, fill: u8) -> Ending {
    let Asked { iotype, sector, sectors } = *asked;
    let count = u32::try_from(sectors).expect("a small image");
    let bytes = count as usize * SECTOR;
    let reply = match iotype {
        IoType::Read => queue.read(sector, bytes),
        IoType::Write => queue.write(sector, &vec![fill; bytes]),
        IoType::WriteZeroes => queue.write_zeroes(sector, count, 0),
        IoType::Discard => queue.discard(sector, count),
        IoType::Flush => queue.flush(),
        IoType::GetId => queue.get_id(),
    };
    match reply.status {
        Status::Ok => Ending::Ok(reply.data.chunks(SECTOR).map(whole).collect()),
        Status::IoErr => Ending::Error,
        Status::Unsupp => Ending::Unsupported,
        other => panic!("{asked:?} ended {other:?}"),
    }
}

/// What a sector holds all over.
fn whole(sector: &[u8]) -> u8 {
    assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector with two contents");
    sector[0]
}

impl Drop for FrontArm<'_> {
    fn drop(&mut self) {
        self.session = None;
        if std::thread::panicking() {
            return;
        }
        let mut operator = self.program.operator.borrow_mut();
        operator.must("block-export-del", json!({ "id": self.id, "mode": "hard" }));
        operator.wait_event("BLOCK_EXPORT_DELETED");
        operator.must("blockdev-del", json!({ "node-name": self.node }));
        let _ = std::fs::remove_file(&self.image);
    }
}

/// A daemon that was given its rules on its command line.
#[derive(Debug)]
pub(crate) struct CommandLineArm {
    // In the order in which they go.
    session: (Front, Queue),
    _daemon: Daemon,
    _directory: TempDir,
}

impl CommandLineArm {
    pub(crate) fn start(config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        let file = directory.path().join("blkdebug.conf");
        std::fs::write(&file, config).expect("a config file");
        let (bytes, file) = (IMAGE_SECTORS * SECTOR as u64, file.to_string_lossy());
        let options = ["--memory", &bytes.to_string(), "--blkdebug-config", &file];
        let daemon = Daemon::start(directory.path(), &options);
        let session = session(Front::connect(&daemon.socket("disk0")));
        Self { session, _daemon: daemon, _directory: directory }
    }
}

impl Arm for CommandLineArm {
    fn request(&mut self, asked: &Asked, fill: u8) -> Ending {
        ask(&mut self.session.1, asked, fill)
    }
}
