//! Programs that serve a file over vhost-user-blk, each by the command that starts it.
//!
//! Knows: how to start ours, qemu-storage-daemon and whoever else is given, and with what in front of
//! the file. Must not know: what is asked of them. Invariants: a program is gone when its [`Running`] is
//! dropped; each is asked as its users would ask it, with nothing that its help does not tell.

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
}

/// Rules that hit nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// Blkdebug's, in a file that the command names.
    Blkdebug(u64),
    /// Ours, over the monitor.
    Native(u64),
    /// One of ours that delays each request by so long. It hits them all.
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
    /// Words with `{socket}`, `{image}`, `{queues}`, `{config}` and `{monitor}` in them.
    words: Vec<String>,
}

const OURS: &str = env!("CARGO_BIN_EXE_blkfaultd");
const SERVED: &str = "--socket-path {socket} --num-queues {queues} --monitor unix:{monitor}";

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn ours(name: &str, options: &str) -> BackEnd {
    let words = words(&format!("{OURS} {options} {SERVED}"));
    BackEnd { name: name.into(), whose: Whose::Ours, is_special: false, rules: None, words }
}

fn qsd(name: &str, aio: &str, direct: bool, iothread: bool, blkdebug: bool) -> BackEnd {
    let cache = if direct { ",cache.direct=on" } else { "" };
    let thread = if iothread { " --object iothread,id=io" } else { "" };
    let layer = if blkdebug {
        " --blockdev driver=blkdebug,node-name=bd,image=f,config={config}"
    } else {
        ""
    };
    let top = if blkdebug { "bd" } else { "f" };
    let export_thread = if iothread { ",iothread=io" } else { "" };
    let text = format!(
        "qemu-storage-daemon{thread} \
         --blockdev driver=file,node-name=f,filename={{image}},locking=off,aio={aio}{cache}{layer} \
         --export type=vhost-user-blk,id=e,node-name={top},addr.type=unix,addr.path={{socket}},\
         writable=on,num-queues={{queues}}{export_thread}"
    );
    BackEnd {
        name: name.into(),
        whose: Whose::Qemu,
        is_special: blkdebug,
        rules: None,
        words: words(&text),
    }
}

fn with_rules(mut back_end: BackEnd, rules: Rules) -> BackEnd {
    back_end.is_special = true;
    back_end.rules = Some(rules);
    back_end
}

/// All that are compared in a place.
pub fn all(place: Place, peers: &[BackEnd]) -> Vec<BackEnd> {
    let direct = place == Place::Direct;
    let cache = if direct { " --cache none" } else { "" };
    let file = format!("--blk-file {{image}}{cache}");
    let mut all = vec![
        ours("blkfaultd", &file),
        ours("blkfaultd, polling off", &format!("{file} --poll 0")),
        ours("blkfaultd, threads", &format!("{file} --aio threads")),
    ];
    all.push(qsd("qsd threads", "threads", direct, false, false));
    all.push(qsd("qsd threads + iothread", "threads", direct, true, false));
    all.push(qsd("qsd io_uring", "io_uring", direct, false, false));
    all.push(qsd("qsd io_uring + iothread", "io_uring", direct, true, false));
    if direct {
        all.push(qsd("qsd native", "native", direct, false, false));
        all.push(qsd("qsd native + iothread", "native", direct, true, false));
    }
    all.extend(peers.iter().cloned());
    if place == Place::Tmpfs {
        for (name, options) in [("memory", "--memory 256M"), ("null", "--format null --size 256M")]
        {
            let mut back_end = ours(&format!("blkfaultd {name}"), options);
            back_end.is_special = true;
            all.push(back_end);
        }
    }
    all
}

/// Ours and QEMU's with rules before the image.
pub fn with_all_rules() -> Vec<BackEnd> {
    let file = "--blk-file {image}";
    let armed = format!("{file} --blkdebug-config {{config}}");
    let mut all = vec![ours("blkfaultd", file)];
    for count in [1, 100, 10_000] {
        let name = format!("blkfaultd, {count} native rules");
        all.push(with_rules(ours(&name, file), Rules::Native(count)));
    }
    for count in [1, 100, 10_000] {
        let name = format!("blkfaultd, {count} rules");
        all.push(with_rules(ours(&name, &armed), Rules::Blkdebug(count)));
    }
    all.push(qsd("qsd io_uring + iothread", "io_uring", false, true, false));
    for count in [1, 100, 10_000] {
        let name = format!("qsd + blkdebug, {count} rules");
        let back_end = qsd(&name, "io_uring", false, true, true);
        all.push(with_rules(back_end, Rules::Blkdebug(count)));
    }
    all
}

/// Ours, with and without a delay that every request meets.
pub fn with_delays(delay: Duration) -> Vec<BackEnd> {
    let plain = ours("blkfaultd", "--blk-file {image}");
    let delayed = ours("blkfaultd, all delayed", "--blk-file {image}");
    vec![plain, with_rules(delayed, Rules::Delay(delay))]
}

/// `NAME=COMMAND` with placeholders, as on the command line.
pub fn peer(text: &str) -> Result<BackEnd, String> {
    let (name, command) = text
        .split_once('=')
        .ok_or("expected NAME=COMMAND, with {socket}, {image} and {queues} in COMMAND")?;
    if !command.contains("{socket}") || !command.contains("{image}") {
        return Err("COMMAND must say where {socket} and {image} belong".into());
    }
    let (name, words) = (name.to_owned(), words(command));
    Ok(BackEnd { name, whose: Whose::Another, is_special: false, rules: None, words })
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
    /// Start it and its queues; what it said if it does not serve.
    pub fn start(&self, image: &Path, queues: u16, queue_size: u16) -> Result<Running, String> {
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
                .replace("{config}", &text(&config))
                .replace("{queues}", &queues.to_string())
        };
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(self.words.iter().map(fill));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(&log).map_err(|error| error.to_string())?);
        let began = Instant::now();
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let mut process = Process(child);
        let Some(front) = connect(&socket, &mut process.0) else {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            return Err(format!("{command:?} does not serve: {}", said.trim_end()));
        };
        // The tests' front end and operator panic where a test would fail.
        let (front, queues) = attempt(|| started(front, queues, queue_size))?;
        let first_io = began.elapsed();
        attempt(|| {
            self.add_rules(&monitor);
            Ok(())
        })?;
        Ok(Running { queues, front, process, first_io, _directory: directory })
    }

    /// Rules that come over the monitor.
    fn add_rules(&self, monitor: &Path) {
        match self.rules {
            Some(Rules::Native(count)) => add_rules(monitor, sectors(count).map(one_sector)),
            Some(Rules::Delay(delay)) => {
                let nanoseconds = u64::try_from(delay.as_nanos()).expect("a short delay");
                let rule = json!({ "effect": "delay", "delay": nanoseconds });
                add_rules(monitor, std::iter::once(rule));
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
pub fn attempt<T>(what: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(what))
        .unwrap_or_else(|panic| Err(last_words(panic.as_ref())))
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
