//! A load that runs inside the guest and knows what every block must hold.
//!
//! Knows: what it asked of the disk, what was answered, and so what the disk may return. Must not know:
//! what happens to the disk meanwhile, or the crates of this package: guest-image compiles this file
//! alone, with the standard library. Invariants: a block is written by one thread at a time and not read
//! meanwhile, so its content is known whenever it is read; a wrong answer is named by what it is: LOST,
//! STALE, TORN or WRONG; a request without an answer is named too: HUNG; exit code 0 means that everything
//! was right.
//!
//! ```text
//! guest-load /dev/vda seed=1 threads=16 blocks=1024 until=/tmp/enough seconds=600 hung=60 errors=forbidden
//! ```
//!
//! It goes on until the file is there or the time is over, reads everything back, and ends with one line:
//!
//! ```text
//! guest-load: RIGHT requests=81022 verified=1203445760 errors=0 longest-ms=1204
//! ```

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Linux's flag on x86-64, past the page cache.
const O_DIRECT: i32 = 0o40_000;
const BLOCK_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;
/// Most blocks of one request.
const BLOCKS_MAX: usize = 16;
/// What every sector that this program wrote begins with.
const MAGIC: u64 = 0x626c_6b66_6175_6c74;
/// Most complaints that are printed.
const COMPLAINTS_MAX: usize = 8;

/// What the command line asked for.
#[derive(Debug, Clone)]
struct Options {
    device: PathBuf,
    seed: u64,
    threads: usize,
    blocks: usize,
    /// The load ends when this file is there, or when the time is over.
    until: PathBuf,
    time: Duration,
    /// Longest that a request may take before it counts as hung.
    hung: Duration,
    /// Requests may fail; what a failed write wrote is not known.
    errors_allowed: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let device = words.next().ok_or("which device? (guest-load DEVICE [NAME=VALUE...])")?;
        let mut options = Self {
            device: device.into(),
            seed: 1,
            threads: 16,
            blocks: 1024,
            until: "/tmp/enough".into(),
            time: Duration::from_secs(600),
            hung: Duration::from_secs(60),
            errors_allowed: false,
        };
        for word in words {
            let (name, value) = word.split_once('=').ok_or(format!("{word}: NAME=VALUE"))?;
            options.set(name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<u64>().map_err(|error| format!("{name}={value}: {error}"));
        let count = || usize::try_from(number()?).map_err(|error| format!("{name}: {error}"));
        match name {
            "seed" => self.seed = number()?,
            "threads" => self.threads = count()?.max(1),
            "blocks" => self.blocks = count()?.max(BLOCKS_MAX),
            "until" => self.until = value.into(),
            "seconds" => self.time = Duration::from_secs(number()?),
            "hung" => self.hung = Duration::from_secs(number()?),
            "errors" => self.errors_allowed = value == "allowed",
            _ => {
                return Err(format!("{name}: seed, threads, blocks, until, seconds, hung, errors"));
            }
        }
        Ok(())
    }
}

/// Numbers that look random; the same for the same seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        usize::try_from(drawn % limit as u64).unwrap_or(0)
    }
}

/// A buffer that `O_DIRECT` takes.
#[repr(align(4096))]
struct Buffer([u8; BLOCKS_MAX * BLOCK_BYTES]);

/// The bytes of one sector of one version of a block: who it is, and then a pattern of its own.
fn fill_sector(sector: &mut [u8], seed: u64, block: u64, version: u64, number: u64) {
    let mut word = seed ^ block.rotate_left(20) ^ version.rotate_left(40) ^ number;
    for (at, into) in sector.chunks_exact_mut(8).enumerate() {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let value = match at {
            0 => MAGIC,
            1 => seed,
            2 => block,
            3 => version,
            4 => number,
            _ => word,
        };
        into.copy_from_slice(&value.to_ne_bytes());
    }
}

fn fill(into: &mut [u8], seed: u64, block: usize, version: u64) {
    for (number, sector) in (0..).zip(into.chunks_exact_mut(SECTOR_BYTES)) {
        fill_sector(sector, seed, block as u64, version, number);
    }
}

/// What a sector turns out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sector {
    Zeroes,
    /// Whole, with the pattern that it was given.
    Version {
        block: u64,
        version: u64,
    },
    Garbage,
}

fn read_sector(sector: &[u8], seed: u64, number: u64) -> Sector {
    if sector.iter().all(|byte| *byte == 0) {
        return Sector::Zeroes;
    }
    let word = |at: usize| {
        let bytes = sector[8 * at..8 * at + 8].try_into().unwrap_or_default();
        u64::from_ne_bytes(bytes)
    };
    let mut wanted = [0; SECTOR_BYTES];
    let (block, version) = (word(2), word(3));
    fill_sector(&mut wanted, seed, block, version, number);
    if wanted == *sector { Sector::Version { block, version } } else { Sector::Garbage }
}

/// What is wrong with a block.
#[derive(Debug, PartialEq, Eq)]
struct Complaint {
    kind: &'static str,
    block: usize,
    wanted: u64,
    found: Vec<Sector>,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, block, wanted, found } = self;
        write!(f, "{kind}: block {block} must be of version {wanted}; its sectors are {found:?}")
    }
}

/// Look at a block that must be of this version; 0 is never written: zeroes.
fn judge(found: &[u8], seed: u64, block: usize, wanted: u64) -> Result<(), Complaint> {
    let read = |(number, sector)| read_sector(sector, seed, number);
    let found: Vec<Sector> = (0..).zip(found.chunks_exact(SECTOR_BYTES)).map(read).collect();
    let right = match wanted {
        0 => Sector::Zeroes,
        version => Sector::Version { block: block as u64, version },
    };
    if found.iter().all(|sector| *sector == right) {
        return Ok(());
    }
    let kind = match found[0] {
        first if found.iter().any(|sector| *sector != first) => "TORN",
        Sector::Zeroes => "LOST",
        Sector::Version { block: of, .. } if of == block as u64 => "STALE",
        Sector::Version { .. } | Sector::Garbage => "WRONG",
    };
    Err(Complaint { kind, block, wanted, found })
}

#[derive(Debug, Clone, Copy)]
struct Block {
    /// Nothing if nobody knows, after a write that failed.
    version: Option<u64>,
    claimed: bool,
}

/// What all threads share.
struct Load {
    options: Options,
    file: File,
    began: Instant,
    blocks: Mutex<Vec<Block>>,
    version_next: AtomicU64,
    stop: AtomicBool,
    /// By thread: milliseconds from the beginning to its request, and one; 0 while it has none.
    since_ms: Vec<AtomicU64>,
    requests: AtomicU64,
    verified: AtomicU64,
    errors: AtomicU64,
    longest_ms: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    fn new(options: Options) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(O_DIRECT)
            .open(&options.device)?;
        let block = Block { version: None, claimed: false };
        Ok(Self {
            file,
            began: Instant::now(),
            blocks: Mutex::new(vec![block; options.blocks]),
            version_next: AtomicU64::new(1),
            stop: AtomicBool::new(false),
            since_ms: (0..=options.threads).map(|_| AtomicU64::new(0)).collect(),
            requests: AtomicU64::new(0),
            verified: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            longest_ms: AtomicU64::new(0),
            complaints: Mutex::new(Vec::new()),
            options,
        })
    }

    fn complain(&self, what: String) {
        lock(&self.complaints).push(what);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Do one request; false if it failed.
    fn request(&self, thread: usize, what: &str, ask: impl FnOnce() -> io::Result<()>) -> bool {
        let since = self.now_ms();
        self.since_ms[thread].store(since + 1, Ordering::Relaxed);
        let answer = ask();
        self.since_ms[thread].store(0, Ordering::Relaxed);
        self.longest_ms.fetch_max(self.now_ms() - since, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = &answer {
            self.errors.fetch_add(1, Ordering::Relaxed);
            if !self.options.errors_allowed {
                self.complain(format!("ERROR: {what}: {error}"));
            }
        }
        answer.is_ok()
    }

    /// Claim a run of blocks that nobody has; how long it became.
    fn claim(&self, first: usize, count: usize) -> usize {
        let mut blocks = lock(&self.blocks);
        let run = blocks[first..].iter_mut().take(count).take_while(|block| !block.claimed);
        run.map(|block| block.claimed = true).count()
    }

    /// Give a run back, written with this version or as it was.
    fn release(&self, first: usize, count: usize, written: Option<Option<u64>>) {
        for block in &mut lock(&self.blocks)[first..first + count] {
            block.claimed = false;
            block.version = written.unwrap_or(block.version);
        }
    }

    fn write(&self, thread: usize, first: usize, count: usize, buffer: &mut Buffer) {
        let version = self.version_next.fetch_add(1, Ordering::Relaxed);
        let bytes = &mut buffer.0[..count * BLOCK_BYTES];
        for (block, into) in (first..).zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
            fill(into, self.options.seed, block, version);
        }
        let at = (first * BLOCK_BYTES) as u64;
        let done = self.request(thread, "write", || self.file.write_all_at(bytes, at));
        self.release(first, count, Some(done.then_some(version)));
    }

    fn read(&self, thread: usize, first: usize, count: usize, buffer: &mut Buffer) {
        let bytes = &mut buffer.0[..count * BLOCK_BYTES];
        let at = (first * BLOCK_BYTES) as u64;
        if self.request(thread, "read", || self.file.read_exact_at(bytes, at)) {
            let wanted: Vec<Block> = lock(&self.blocks)[first..first + count].to_vec();
            let found = bytes.chunks_exact(BLOCK_BYTES);
            for ((block, found), wanted) in (first..).zip(found).zip(wanted) {
                let Some(version) = wanted.version else { continue };
                match judge(found, self.options.seed, block, version) {
                    Ok(()) => _ = self.verified.fetch_add(BLOCK_BYTES as u64, Ordering::Relaxed),
                    Err(complaint) => self.complain(complaint.to_string()),
                }
            }
        }
        self.release(first, count, None);
    }

    /// What one thread does until the end.
    fn work(&self, thread: usize) {
        let mut dice = Dice::new(self.options.seed ^ (thread as u64) << 32);
        let mut buffer = Box::new(Buffer([0; BLOCKS_MAX * BLOCK_BYTES]));
        while !self.stop.load(Ordering::Relaxed) {
            let what = dice.below(16);
            if what == 0 {
                self.request(thread, "flush", || self.file.sync_all());
                continue;
            }
            let first = dice.below(self.options.blocks);
            let wanted = if dice.below(2) == 0 { 1 } else { 1 + dice.below(BLOCKS_MAX) };
            match self.claim(first, wanted) {
                0 => {}
                count if what < 9 => self.write(thread, first, count, &mut buffer),
                count => self.read(thread, first, count, &mut buffer),
            }
        }
    }

    /// Go over all blocks in long requests, in the name of no thread.
    fn sweep(&self, each: impl Fn(usize, usize, &mut Buffer)) {
        let mut buffer = Box::new(Buffer([0; BLOCKS_MAX * BLOCK_BYTES]));
        for first in (0..self.options.blocks).step_by(BLOCKS_MAX) {
            let count = BLOCKS_MAX.min(self.options.blocks - first);
            each(first, count, &mut buffer);
        }
    }

    /// The longest that a request is waiting now.
    fn waiting_ms(&self) -> u64 {
        let now = self.now_ms();
        let since = self.since_ms.iter().map(|since| since.load(Ordering::Relaxed));
        since
            .filter(|since| *since > 0)
            .map(|since| (now + 1).saturating_sub(since))
            .max()
            .unwrap_or(0)
    }

    /// Write everything, work, read everything back.
    fn run(&self) {
        let sweeper = self.options.threads;
        self.sweep(|first, count, buffer| self.write(sweeper, first, count, buffer));
        std::thread::scope(|scope| {
            for thread in 0..self.options.threads {
                scope.spawn(move || self.work(thread));
            }
        });
        self.request(sweeper, "flush", || self.file.sync_all());
        self.sweep(|first, count, buffer| self.read(sweeper, first, count, buffer));
    }

    /// Print what is wrong and the verdict; true if nothing is.
    fn conclude(&self) -> bool {
        let complaints = lock(&self.complaints);
        for complaint in complaints.iter().take(COMPLAINTS_MAX) {
            println!("{complaint}");
        }
        let verdict = if complaints.is_empty() { "RIGHT" } else { "BAD" };
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        println!(
            "guest-load: {verdict} requests={} verified={} errors={} longest-ms={}",
            of(&self.requests),
            of(&self.verified),
            of(&self.errors),
            of(&self.longest_ms)
        );
        complaints.is_empty()
    }

    /// End the load when it is to end; the whole program, if a request hangs.
    fn watch(&self, is_over: &AtomicBool) {
        let hung_ms = u64::try_from(self.options.hung.as_millis()).unwrap_or(u64::MAX);
        while !is_over.load(Ordering::Relaxed) {
            if self.began.elapsed() > self.options.time || Path::new(&self.options.until).exists() {
                self.stop.store(true, Ordering::Relaxed);
            }
            let waiting_ms = self.waiting_ms();
            if waiting_ms > hung_ms {
                self.complain(format!("HUNG: a request has no answer for {waiting_ms} ms"));
                self.conclude();
                std::process::exit(1);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn main() {
    let load = Options::parse(std::env::args().skip(1)).and_then(|options| {
        let name = options.device.display().to_string();
        Load::new(options).map_err(|error| format!("{name}: {error}"))
    });
    let load = load.unwrap_or_else(|error| {
        eprintln!("guest-load: {error}");
        std::process::exit(2)
    });
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| load.watch(&is_over));
        load.run();
        is_over.store(true, Ordering::Relaxed);
    });
    std::process::exit(i32::from(!load.conclude()));
}
