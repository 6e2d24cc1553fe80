//! A load that knows what every block must hold: VLOAD.
//!
//! Knows: what was asked, what was answered, and so what a disk may return. Must not know: what
//! happens to the disk meanwhile. Invariants: a block is written by one request at a time and not
//! read meanwhile, so its content is known whenever it is read; every request must succeed, unless
//! the story says otherwise; a wrong answer is named by what it is: lost, stale, torn or wrong.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::cast_possible_truncation, reason = "sizes here are the test's own and small")]

use std::time::{Duration, Instant};

use super::front::{Finished, Front, Queue, Status, feature, kind, segment};

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 4096;
const SECTORS: u64 = BLOCK_BYTES as u64 / 512;
/// Most blocks of one request.
const BLOCKS_MAX: u64 = 16;
/// Most descriptors that a request takes.
const DESCS: usize = 3;
/// Longest that a request may take before it counts as hung.
pub const HUNG: Duration = Duration::from_secs(60);

/// Numbers that look random; the same for the same seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One of `0..limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}

/// What a block may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Zeroes,
    Version(u64),
    /// Discarded: what it was, or zeroes.
    Discarded(u64),
}

#[derive(Debug, Clone, Copy)]
struct Block {
    content: Content,
    readers: u16,
    is_written: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Write(u64),
    Read,
    Zero,
    Discard,
    Flush,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    what: What,
    first: u64,
    count: u64,
    since: Instant,
}

/// What a load has done so far.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    pub requests: u64,
    pub failed: u64,
    pub bytes_written: u64,
    pub bytes_verified: u64,
}

/// A guest that writes and reads on several queues, deep.
#[derive(Debug)]
pub struct Load {
    seed: u64,
    dice: Dice,
    blocks: Vec<Block>,
    pub queues: Vec<Queue>,
    /// By queue and slot.
    asked: Vec<Vec<Option<Asked>>>,
    version_next: u64,
    depth: u16,
    /// Requests may fail; then what they wrote is not known and is written anew.
    pub may_fail: bool,
    pub done: Done,
    buffer: Vec<u8>,
}

impl Load {
    /// A load over a disk of zeroes, `depth` requests deep on each of these queues, which poll.
    pub fn new(seed: u64, disk_bytes: u64, depth: u16, mut queues: Vec<Queue>) -> Self {
        for queue in &mut queues {
            queue.prepare_slots(depth, BLOCKS_MAX * BLOCK_BYTES as u64);
            queue.set_interrupts(false);
        }
        let block = Block { content: Content::Zeroes, readers: 0, is_written: false };
        Self {
            seed,
            dice: Dice::new(seed),
            blocks: vec![block; disk_bytes as usize / BLOCK_BYTES],
            asked: queues.iter().map(|_| vec![None; depth.into()]).collect(),
            queues,
            version_next: 1,
            depth,
            may_fail: false,
            done: Done::default(),
            buffer: vec![0; BLOCKS_MAX as usize * BLOCK_BYTES],
        }
    }

    /// Requests that are on their way.
    pub fn in_flight(&self) -> usize {
        self.asked.iter().flatten().flatten().count()
    }

    /// Take what is answered and ask for more. Tells how many were answered.
    pub fn step(&mut self) -> usize {
        let answered = self.collect();
        for queue in 0..self.queues.len() {
            self.refill(queue);
        }
        answered
    }

    /// Go on for a time.
    pub fn run(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if self.step() == 0 {
                self.check_hung();
                std::thread::yield_now();
            }
        }
    }

    /// Ask for nothing more and wait for what is on its way.
    pub fn drain(&mut self) {
        while self.in_flight() > 0 {
            if self.collect() == 0 {
                self.check_hung();
                std::thread::yield_now();
            }
        }
    }

    /// One request after the other, each waited for by its interrupt: for a load that is one deep.
    pub fn step_by_interrupt(&mut self) {
        self.refill(0);
        let used = self.queues[0].wait_used(HUNG).expect("HUNG: no interrupt");
        let finished = self.queues[0].finished(used);
        self.finish(0, finished);
    }

    /// Whether one of the requests that are on their way is lost: many that were asked later, in a
    /// second and more, are answered before it.
    pub fn has_lost_one(&mut self) -> bool {
        const OVERTAKEN: usize = 5_000;
        let (began, mut answered) = (Instant::now(), 0);
        loop {
            let now = self.step();
            if now == 0 {
                self.check_hung();
                std::thread::yield_now();
            }
            answered += now;
            let waits = |asked: &Asked| asked.since < began;
            if !self.asked.iter().flatten().flatten().any(waits) {
                return false;
            }
            if answered > OVERTAKEN && began.elapsed() > Duration::from_secs(1) {
                return true;
            }
        }
    }

    /// Read all of the disk and look at every block.
    pub fn verify_all(&mut self) {
        self.drain();
        let blocks = self.blocks.len() as u64;
        let (mut next, mut verified) = (0, 0);
        while verified < blocks {
            for slot in 0..usize::from(self.depth) {
                if self.asked[0][slot].is_none() && next < blocks {
                    let count = BLOCKS_MAX.min(blocks - next);
                    self.ask(0, slot, What::Read, next, count);
                    next += count;
                }
            }
            self.queues[0].kick();
            let before = self.done.bytes_verified;
            if self.collect() == 0 {
                self.check_hung();
                std::thread::yield_now();
            }
            verified += (self.done.bytes_verified - before) / BLOCK_BYTES as u64;
        }
    }

    /// Nothing may take for ever.
    pub fn check_hung(&self) {
        for (queue, asked) in self.asked.iter().enumerate() {
            let hung = asked.iter().flatten().find(|asked| asked.since.elapsed() > HUNG);
            assert!(hung.is_none(), "HUNG on queue {queue}: {hung:?}; {:#?}", self.queues[queue]);
        }
    }

    fn collect(&mut self) -> usize {
        let mut answered = 0;
        for queue in 0..self.queues.len() {
            while let Some(finished) = self.queues[queue].try_finish() {
                self.finish(queue, finished);
                answered += 1;
            }
        }
        answered
    }

    fn refill(&mut self, queue: usize) {
        let mut any = false;
        for slot in 0..usize::from(self.depth) {
            if self.asked[queue][slot].is_none() && self.queues[queue].room() >= DESCS {
                any |= self.ask_something(queue, slot);
            }
        }
        if any {
            self.queues[queue].kick();
        }
    }

    fn ask_something(&mut self, queue: usize, slot: usize) -> bool {
        let what = match self.dice.below(100) {
            0..4 => What::Flush,
            4..7 => What::Zero,
            7..10 => What::Discard,
            10..45 => What::Read,
            _ => What::Write(self.version_next),
        };
        let most = if self.dice.below(4) == 0 { BLOCKS_MAX } else { 1 };
        let count = 1 + self.dice.below(most);
        let first = self.dice.below(self.blocks.len() as u64 - count + 1);
        let range = first as usize..(first + count) as usize;
        let is_busy = |block: &Block| block.is_written || (what != What::Read && block.readers > 0);
        if what != What::Flush && self.blocks[range].iter().any(is_busy) {
            return false;
        }
        self.version_next += 1;
        self.ask(queue, slot, what, first, count);
        true
    }

    fn ask(&mut self, queue: usize, slot: usize, what: What, first: u64, count: u64) {
        let count = if what == What::Flush { 0 } else { count };
        for block in &mut self.blocks[first as usize..(first + count) as usize] {
            match what {
                What::Read => block.readers += 1,
                _ => block.is_written = true,
            }
        }
        if let What::Write(version) = what {
            for (at, block) in (first..first + count).zip(self.buffer.chunks_exact_mut(BLOCK_BYTES))
            {
                fill(block, self.seed, at, version);
            }
        }
        let bytes = count as usize * BLOCK_BYTES;
        let to = &mut self.queues[queue];
        let place = slot as u16;
        let (sector, sectors) = (first * SECTORS, (count * SECTORS) as u32);
        match what {
            What::Write(_) => {
                to.fill_slot(place, &self.buffer[..bytes]);
                to.start(place, kind::OUT, sector, bytes as u32);
            }
            What::Read => to.start(place, kind::IN, sector, bytes as u32),
            What::Flush => to.start(place, kind::FLUSH, 0, 0),
            What::Zero | What::Discard => {
                to.fill_slot(place, &segment(sector, sectors, 0));
                let kind = if what == What::Zero { kind::WRITE_ZEROES } else { kind::DISCARD };
                to.start(place, kind, 0, 16);
            }
        }
        self.asked[queue][slot] = Some(Asked { what, first, count, since: Instant::now() });
    }

    fn finish(&mut self, queue: usize, finished: Finished) {
        let asked = self.asked[queue][usize::from(finished.slot)].take();
        let asked = asked.expect("an answer to a request that was made");
        self.done.requests += 1;
        let failed = finished.status != Status::Ok;
        assert!(!failed || self.may_fail, "queue {queue}: {asked:?} ended {finished:?}");
        if failed {
            self.done.failed += 1;
        } else if asked.what == What::Read {
            self.verify(queue, finished.slot, asked);
        }
        for block in &mut self.blocks[asked.first as usize..(asked.first + asked.count) as usize] {
            match asked.what {
                What::Read => block.readers -= 1,
                What::Flush => {}
                what => {
                    block.is_written = false;
                    block.content = after(what, block.content, failed);
                }
            }
        }
        if let (What::Write(_), false) = (asked.what, failed) {
            self.done.bytes_written += asked.count * BLOCK_BYTES as u64;
        }
    }

    fn verify(&mut self, queue: usize, slot: u16, asked: Asked) {
        let bytes = asked.count as usize * BLOCK_BYTES;
        self.queues[queue].slot_into(slot, &mut self.buffer[..bytes]);
        let mut wanted = [0; BLOCK_BYTES];
        for (at, found) in (asked.first..).zip(self.buffer[..bytes].chunks_exact(BLOCK_BYTES)) {
            let content = self.blocks[at as usize].content;
            let (version, may_be_zero) = match content {
                Content::Zeroes => (None, true),
                Content::Version(version) => (Some(version), false),
                Content::Discarded(version) => (Some(version), true),
            };
            let is_zero = may_be_zero && found.iter().all(|byte| *byte == 0);
            let is_version = version.is_some_and(|version| {
                fill(&mut wanted, self.seed, at, version);
                wanted == *found
            });
            assert!(
                is_zero || is_version,
                "block {at}: {}",
                diagnose(found, at, content, self.seed)
            );
            self.done.bytes_verified += BLOCK_BYTES as u64;
        }
    }
}

/// What a block holds after a request; after one that failed nobody knows, and stories in which
/// requests fail must not look.
fn after(what: What, before: Content, failed: bool) -> Content {
    match (what, before) {
        _ if failed => before,
        (What::Write(version), _) => Content::Version(version),
        (What::Zero, _) | (What::Discard, Content::Zeroes) => Content::Zeroes,
        (What::Discard, Content::Version(version) | Content::Discarded(version)) => {
            Content::Discarded(version)
        }
        (What::Read | What::Flush, before) => before,
    }
}

/// The bytes of one version of one block: who it is, and then a pattern of its own.
fn fill(into: &mut [u8], seed: u64, block: u64, version: u64) {
    let mark = (seed ^ block.rotate_left(32) ^ version.rotate_left(17)).wrapping_mul(0x9e37_79b9);
    for (at, word) in into.chunks_exact_mut(8).enumerate() {
        let value = match at % 64 {
            0 => seed,
            1 => block,
            2 => version,
            _ => mark,
        };
        word.copy_from_slice(&value.to_ne_bytes());
    }
}

/// What is wrong with a block.
fn diagnose(found: &[u8], block: u64, wanted: Content, seed: u64) -> String {
    let word = |at: usize| u64::from_ne_bytes(found[at..at + 8].try_into().expect("8 bytes"));
    let sectors: Vec<[u64; 3]> =
        (0..BLOCK_BYTES).step_by(512).map(|at| [word(at), word(at + 8), word(at + 16)]).collect();
    let kind = match sectors[0] {
        _ if sectors.iter().any(|sector| *sector != sectors[0]) => "TORN",
        [0, 0, 0] => "LOST",
        [of, at, _] if of == seed && at == block => "STALE",
        [of, ..] if of == seed => "WRONG: another block's",
        _ => "WRONG",
    };
    format!("{kind}: {wanted:?} was wanted, its sectors hold (seed, block, version) {sectors:?}")
}

/// Accept everything and start queues for a load.
pub fn ready(front: &mut Front, count: u16, size: u16) -> Vec<Queue> {
    front.negotiate(feature::ALL);
    front.start_queues(count, size)
}
