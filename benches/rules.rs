//! What rules cost that match nothing: requests per second and CPU time per request with none, one, a
//! hundred and ten thousand of them. `cargo bench --bench rules`; `-- SECONDS ROUNDS WORD...` after it sets
//! how long each measurement takes, how often it is repeated, and a word that a kind of rules has in its
//! name, for a part of the table.
//!
//! The load is random reads of 4 KiB, 32 at a time, of a file in memory, by the test front end.
//! qemu-storage-daemon serves the same file under the same blkdebug rules and takes turns with us,
//! where it is installed. CPU time is that of the back end's whole process, user and system.

#[path = "../tests/support"]
mod support {
    pub mod daemon;
    pub mod front;
    pub mod operator;
    pub mod qsd;
}

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::front::{Front, Queue, Status, feature, kind};
use support::operator::Operator;
use support::qsd::Qsd;

const IMAGE_BYTES: u64 = 256 << 20;
/// Reads stay below this sector, rules about sectors above it.
const READ_SECTORS: u64 = IMAGE_BYTES / 512 / 2;
const DEPTH: u16 = 32;
const BLOCK_BYTES: u32 = 4096;
const COUNTS: [u64; 3] = [1, 100, 10_000];

/// Rules, none of which hits a read of the lower half.
struct Setup {
    name: &'static str,
    count: u64,
    rules: Vec<Value>,
    dialect: Dialect,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// `inject-error` rules, for both programs.
    Blkdebug,
    /// Our own rules.
    Native,
}

/// The n-th rule of a kind.
type Rule = fn(u64) -> Value;

const KINDS: [(&str, Dialect, Rule); 9] = [
    (
        "blkdebug: sector",
        Dialect::Blkdebug,
        |n| json!({ "event": "none", "sector": READ_SECTORS + n }),
    ),
    ("blkdebug: iotype", Dialect::Blkdebug, |_| json!({ "event": "none", "iotype": "write" })),
    ("blkdebug: state", Dialect::Blkdebug, |_| json!({ "event": "read_aio", "state": 2 })),
    (
        "native: sectors",
        Dialect::Native,
        |n| json!({ "sectors": [READ_SECTORS + n], "effect": "error" }),
    ),
    ("native: iotype", Dialect::Native, |_| json!({ "iotype": ["flush"], "effect": "error" })),
    ("native: content", Dialect::Native, |_| {
        let commit_block = json!({ "bytes": "c03b399800000002", "block-size": 4096 });
        json!({ "iotype": ["write"], "content": commit_block, "effect": "error" })
    }),
    (
        "native: queue depth",
        Dialect::Native,
        |_| json!({ "iotype": ["read"], "queue-depth": 1000, "effect": "error" }),
    ),
    (
        "native: schedule",
        Dialect::Native,
        |n| json!({ "schedule": { "start-ns": 3_600_000_000_000_u64 + n }, "effect": "error" }),
    ),
    ("native: state", Dialect::Native, |n| json!({ "state": 2 + n, "effect": "error" })),
];

fn setups() -> Vec<Setup> {
    let none = Setup { name: "no rule", count: 0, rules: Vec::new(), dialect: Dialect::Blkdebug };
    let some = KINDS.iter().flat_map(|(name, dialect, rule)| {
        COUNTS.map(|count| {
            let rules = (0..count).map(rule).collect();
            Setup { name, count, rules, dialect: *dialect }
        })
    });
    std::iter::once(none).chain(some).collect()
}

/// One measurement.
#[derive(Clone, Copy)]
struct Figures {
    requests_per_second: f64,
    cpu_us_per_request: f64,
}

/// A program that serves the image under a setup's rules, and a guest that uses it.
struct Rig {
    // In the order in which they go.
    queue: Queue,
    _front: Front,
    process_id: u32,
    _program: Program,
    _directory: tempfile::TempDir,
}

enum Program {
    Ours { _daemon: Daemon },
    Theirs { _qsd: Qsd },
}

impl Rig {
    fn ours(image: &Path, setup: &Setup) -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        let daemon = Daemon::start(directory.path(), &["--memory", "64K"]);
        let mut operator = daemon.operator();
        let blkdebug: &[Value] =
            if setup.dialect == Dialect::Blkdebug { &setup.rules } else { &[] };
        let socket = serve(&mut operator, directory.path(), image, blkdebug);
        if setup.dialect == Dialect::Native {
            let add = |rule: &Value| json!({ "type": "rule-add", "rule": rule });
            for rules in setup.rules.chunks(500) {
                let actions: Vec<Value> = rules.iter().map(add).collect();
                let arguments = json!({ "id": "bench", "actions": actions });
                operator.must("block-fault-transaction", arguments);
            }
        }
        let process_id = daemon.id();
        Self::connect(&socket, process_id, Program::Ours { _daemon: daemon }, directory)
    }

    fn theirs(image: &Path, setup: &Setup) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a folder");
        let qsd = Qsd::start(directory.path())?;
        let socket = serve(&mut qsd.operator(), directory.path(), image, &setup.rules);
        let process_id = qsd.id();
        Some(Self::connect(&socket, process_id, Program::Theirs { _qsd: qsd }, directory))
    }

    fn connect(
        socket: &Path,
        process_id: u32,
        program: Program,
        directory: tempfile::TempDir,
    ) -> Self {
        let mut front = Front::connect(socket);
        front.negotiate(feature::ALL);
        let mut queue = front.start_queues(1, 128).remove(0);
        queue.prepare_slots(DEPTH, BLOCK_BYTES.into());
        Self { queue, _front: front, process_id, _program: program, _directory: directory }
    }

    fn measure(&mut self, time: Duration) -> Figures {
        let cpu_before = cpu_time(self.process_id);
        let (requests, took) = load(&mut self.queue, time);
        let cpu = cpu_time(self.process_id) - cpu_before;
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let requests = requests as f64;
        Figures {
            requests_per_second: requests / took.as_secs_f64(),
            cpu_us_per_request: cpu.as_secs_f64() * 1e6 / requests,
        }
    }
}

/// Make raw over blkdebug over the image, and a disk of it.
fn serve(operator: &mut Operator, directory: &Path, image: &Path, rules: &[Value]) -> PathBuf {
    let socket = directory.join("bench");
    let file = json!({ "driver": "file", "filename": image, "locking": "off" });
    let file = match rules {
        [] => file,
        rules => {
            // In a file, because a command cannot be so long.
            let config = directory.join("rules");
            std::fs::write(&config, rules.iter().map(section).collect::<String>()).expect("a file");
            json!({ "driver": "blkdebug", "image": file, "config": config })
        }
    };
    operator.must("blockdev-add", json!({ "driver": "raw", "node-name": "node", "file": file }));
    let address = json!({ "type": "unix", "path": socket });
    operator.must(
        "block-export-add",
        json!({ "type": "vhost-user-blk", "id": "bench", "node-name": "node", "writable": true,
                "addr": address }),
    );
    socket
}

/// A rule as blkdebug's file has it.
fn section(rule: &Value) -> String {
    let fields = rule.as_object().expect("an object").iter();
    let lines = fields.map(|(key, value)| match value.as_str() {
        Some(text) => format!("{key} = \"{text}\"\n"),
        None => format!("{key} = \"{value}\"\n"),
    });
    format!("[inject-error]\n{}", lines.collect::<String>())
}

/// Read at random for so long: how many reads, and how long it really took.
fn load(queue: &mut Queue, time: Duration) -> (u64, Duration) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut read = |queue: &mut Queue, slot| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let block = random % (READ_SECTORS * 512 / u64::from(BLOCK_BYTES));
        queue.start(slot, kind::IN, block * u64::from(BLOCK_BYTES / 512), BLOCK_BYTES);
    };
    let (started, mut done) = (Instant::now(), 0);
    (0..DEPTH).for_each(|slot| read(queue, slot));
    queue.kick();
    while started.elapsed() < time {
        let mut end = Some(queue.finish());
        while let Some(one) = end {
            assert_eq!(one.status, Status::Ok, "a rule that matches nothing has matched");
            done += 1;
            read(queue, one.slot);
            end = queue.try_finish();
        }
        queue.kick();
    }
    let took = started.elapsed();
    queue.finish_all();
    (done, took)
}

/// User and system time of a process so far.
fn cpu_time(process_id: u32) -> Duration {
    let path = format!("/proc/{process_id}/stat");
    let stat = std::fs::read_to_string(path).expect("the process is there");
    let after_name = stat.rsplit_once(") ").expect("a name in brackets").1;
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|word| word.parse::<u64>().expect("ticks"))
        .sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn medians(figures: &[Figures]) -> Figures {
    Figures {
        requests_per_second: median(figures.iter().map(|one| one.requests_per_second)),
        cpu_us_per_request: median(figures.iter().map(|one| one.cpu_us_per_request)),
    }
}

/// Arguments behind `--`: seconds of each measurement, rounds.
fn arguments() -> (f64, usize) {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<f64>().ok());
    let seconds = numbers.next().unwrap_or(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let rounds = numbers.next().unwrap_or(5.0) as usize;
    (seconds, rounds.max(1))
}

fn make_image() -> tempfile::NamedTempFile {
    let in_memory = Path::new("/dev/shm");
    let folder = if in_memory.is_dir() { in_memory.to_owned() } else { std::env::temp_dir() };
    let image = tempfile::NamedTempFile::new_in(folder).expect("an image");
    let block = vec![0x5a; 1 << 20];
    for at in (0..IMAGE_BYTES).step_by(block.len()) {
        std::os::unix::fs::FileExt::write_all_at(image.as_file(), &block, at).expect("room");
    }
    image
}

fn main() {
    let (seconds, rounds) = arguments();
    let time = Duration::from_secs_f64(seconds);
    let image = make_image();
    println!("{rounds} rounds of {seconds} s each, in turns; medians; CPU in us per request");
    println!(
        "{:<20} {:>6} | {:>9} {:>6} | {:>9} {:>6} | {:>6} {:>6}",
        "rules", "count", "ours/s", "CPU", "qsd/s", "CPU", "x req", "x CPU"
    );
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| word.starts_with(char::is_alphabetic)).collect();
    let is_wanted = |setup: &Setup| {
        words.is_empty() || words.iter().any(|word| setup.name.contains(word.as_str()))
    };
    for setup in setups().into_iter().filter(is_wanted) {
        let mut ours = Rig::ours(image.path(), &setup);
        let is_shared = setup.dialect == Dialect::Blkdebug;
        let mut theirs = is_shared.then(|| Rig::theirs(image.path(), &setup)).flatten();
        let (mut our_figures, mut their_figures) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            our_figures.push(ours.measure(time));
            their_figures.extend(theirs.as_mut().map(|rig| rig.measure(time)));
        }
        print_row(&setup, medians(&our_figures), &their_figures);
    }
}

fn print_row(setup: &Setup, ours: Figures, theirs: &[Figures]) {
    let Figures { requests_per_second: rate, cpu_us_per_request: cpu } = ours;
    print!("{:<20} {:>6} | {rate:>9.0} {cpu:>6.2} |", setup.name, setup.count);
    if theirs.is_empty() {
        println!();
        return;
    }
    let theirs = medians(theirs);
    println!(
        " {:>9.0} {:>6.2} | {:>6.2} {:>6.2}",
        theirs.requests_per_second,
        theirs.cpu_us_per_request,
        rate / theirs.requests_per_second,
        cpu / theirs.cpu_us_per_request
    );
}
