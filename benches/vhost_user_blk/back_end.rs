//! Programs that serve a file over vhost-user-blk, each by the command that starts it.
//!
//! Knows: how to start one, and how to put rules in front of its file. Must not know: what is asked of
//! it, and who there is. Invariant: a program is gone when its [`Running`] is dropped.

use std::any::Any;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::front::{Front, ONE_REGION, Queue, feature, protocol};
use crate::support::operator::Operator;

/// Longest that a program may take to serve.
const START_WAIT: Duration = Duration::from_secs(20);

/// Where the image lies, and how it is to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A file in memory.
    Tmpfs,
    /// A file on a disk's file system, through the page cache.
    Disk,
    /// The same, around the page cache (`O_DIRECT`).
    Direct,
}

impl Place {
    pub const ALL: [Self; 3] = [Self::Tmpfs, Self::Disk, Self::Direct];

    pub fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Disk => "disk",
            Self::Direct => "direct",
        }
    }

    /// Whether the page cache is to be avoided, in words that many programs take.
    pub fn direct(self) -> &'static str {
        if self == Self::Direct { "on" } else { "off" }
    }
}

/// How long flushes are delayed where all requests are: longer than a run.
const FLUSH_DELAY: Duration = Duration::from_secs(8);

/// Rules that a back end is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// So many of blkdebug's that hit nothing, in a file that the command names.
    Blkdebug(u64),
    /// So many of ours that hit nothing, over the monitor.
    Native(u64),
    /// Ours that delay each request by so long, and a flush for [`FLUSH_DELAY`].
    Delay(Duration),
}

/// Whose a program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Ours,
    Qemu,
    Another,
}

/// A program and its configuration.
#[derive(Debug, Clone)]
pub struct BackEnd {
    pub name: String,
    pub whose: Whose,
    /// It has something in the way that a plain disk has not, or less than a disk: no peer of plain ones.
    pub is_special: bool,
    pub rules: Option<Rules>,
    /// Words with `{socket}`, `{image}`, `{direct}`, `{queues}`, `{config}` and `{monitor}` in them.
    pub words: Vec<String>,
}

/// Why there is no sample.
#[derive(Debug)]
pub enum Failure {
    /// It does not come up: it will not in the next run either.
    Start(String),
    /// It failed under this load.
    Run(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Run(why)
    }
}

/// A program that serves.
pub struct Running {
    // In the order in which they go.
    pub queues: Vec<Queue>,
    pub front: Front,
    process: Process,
    /// From the start of the program to the first sector read.
    pub first_io: Duration,
    _directory: tempfile::TempDir,
}

impl Running {
    pub fn process_id(&self) -> u32 {
        self.process.0.id()
    }
}

/// A process that is gone when this is.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl BackEnd {
    /// What its rule delays each request by.
    pub fn delay(&self) -> Option<Duration> {
        match self.rules {
            Some(Rules::Delay(delay)) => Some(delay),
            _ => None,
        }
    }

    /// Start it and its queues; what it said if it does not serve.
    pub fn start(
        &self,
        (place, image): (Place, &Path),
        queues: u16,
        queue_size: u16,
    ) -> Result<Running, Failure> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (socket, monitor) = (directory.path().join("disk"), directory.path().join("monitor"));
        let config = directory.path().join("rules");
        if let Some(Rules::Blkdebug(count)) = self.rules {
            std::fs::write(&config, blkdebug_rules(count)).map_err(|error| error.to_string())?;
        }
        let log = directory.path().join("log");
        let fill = |word: &String| {
            word.replace("{socket}", &text(&socket))
                .replace("{monitor}", &text(&monitor))
                .replace("{image}", &text(image))
                .replace("{direct}", place.direct())
                .replace("{config}", &text(&config))
                .replace("{queues}", &queues.to_string())
        };
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(self.words.iter().map(fill));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(&log).map_err(|error| error.to_string())?);
        let began = Instant::now();
        let child = command.spawn();
        let child = child.map_err(|error| Failure::Start(format!("{command:?}: {error}")))?;
        let mut process = Process(child);
        let Some(front) = connect(&socket, &mut process.0) else {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            let said = if said.trim().is_empty() { "it says nothing" } else { said.trim() };
            let why = format!("{} does not serve: {said}", self.words.join(" "));
            return Err(Failure::Start(why));
        };
        // The tests' front end and operator panic where a test would fail.
        let (front, queues) = attempt(|| started(front, queues, queue_size))?;
        let first_io = began.elapsed();
        attempt(|| {
            self.add_rules(&monitor);
            Ok::<_, Failure>(())
        })?;
        Ok(Running { queues, front, process, first_io, _directory: directory })
    }

    /// Rules that come over the monitor.
    fn add_rules(&self, monitor: &Path) {
        match self.rules {
            Some(Rules::Native(count)) => add_rules(monitor, sectors(count).map(one_sector)),
            Some(Rules::Delay(delay)) => {
                let nanoseconds = u64::try_from(delay.as_nanos()).expect("a short delay");
                let flushes = json!({
                    "effect": "delay",
                    "delay": u64::try_from(FLUSH_DELAY.as_nanos()).expect("a short delay"),
                    "iotype": ["flush"],
                });
                let rest = json!({ "effect": "delay", "delay": nanoseconds });
                add_rules(monitor, [flushes, rest].into_iter());
            }
            Some(Rules::Blkdebug(_)) | None => {}
        }
    }
}

/// Queues that are served: one of them has read a sector.
fn started(mut front: Front, count: u16, size: u16) -> Result<(Front, Vec<Queue>), String> {
    front.negotiate(feature::ALL);
    if front.queues_max < u64::from(count) {
        return Err(format!("it has {} queues of the {count} wanted", front.queues_max));
    }
    if front.protocol_offered & protocol::INFLIGHT_SHMFD != 0 {
        // As QEMU does with every back end that can.
        let region = front.get_inflight(count, size).expect("GET_INFLIGHT_FD");
        front.set_inflight(&region).expect("SET_INFLIGHT_FD");
    }
    let mut queues = front.start_queues(count, size);
    let reply = queues[0].read(0, 512);
    match reply.data.len() {
        512 => Ok((front, queues)),
        _ => Err(format!("the first sector is not read: {reply:?}")),
    }
}

/// What came of something that may panic.
pub fn attempt<T, E: From<String>>(what: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(what))
        .unwrap_or_else(|panic| Err(last_words(panic.as_ref()).into()))
}

/// What a panic said.
pub fn last_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic").to_owned()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The first connection that it takes, unless it ends before.
fn connect(socket: &Path, child: &mut Child) -> Option<Front> {
    let deadline = Instant::now() + START_WAIT;
    while Instant::now() < deadline {
        if let Ok(front) = Front::try_connect(socket, ONE_REGION) {
            return Some(front);
        }
        if child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return None;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    None
}

/// Rules about sectors that nothing is asked of: the image's upper half.
fn sectors(count: u64) -> impl Iterator<Item = u64> {
    let first = crate::USED_BYTES / 512;
    (first..first + count).inspect(|sector| assert!(sector * 512 < crate::IMAGE_BYTES))
}

fn blkdebug_rules(count: u64) -> String {
    let rule = |sector| {
        format!("[inject-error]\nevent = \"none\"\nsector = \"{sector}\"\nerrno = \"5\"\n\n")
    };
    sectors(count).map(rule).collect()
}

fn one_sector(sector: u64) -> Value {
    json!({ "sectors": [sector], "effect": "error" })
}

fn add_rules(monitor: &Path, rules: impl Iterator<Item = Value>) {
    let mut operator = Operator::connect(monitor);
    let actions: Vec<Value> =
        rules.map(|rule| json!({ "type": "rule-add", "rule": rule })).collect();
    // One command has a limit.
    for actions in actions.chunks(500) {
        operator.must("block-fault-transaction", json!({ "id": "disk0", "actions": actions }));
    }
}
