//! The driver of one queue: as many requests in flight as the workload says, and how long each took.
//!
//! Knows: virtqueues, by the tests' front end, used as Linux uses them: an indirect descriptor for
//! each request, and an interrupt (an eventfd) for its end. Must not know: who serves. Invariants: a
//! request that fails ends the measurement, and so does a back end that is gone; time is taken only
//! within the measured part.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::cost;
use crate::support::front::{Desc, Memory, NEXT, Queue, WRITE, header, kind};
use crate::workload::{Ask, Asks, Kind, Pattern, Workload};

/// Longer than any back end may take for a request.
const WAIT: Duration = Duration::from_secs(30);
/// How often to look, meanwhile, whether it is still there.
const LOOK: Duration = Duration::from_millis(500);
const PAGE_BYTES: u64 = 4096;
/// Where a slot's parts lie in its first page.
const STATUS_AT: u64 = 64;
const TABLE_AT: u64 = 128;

/// What a queue's driver saw.
#[derive(Debug)]
pub struct Seen {
    pub operations: u64,
    pub bytes: u64,
    pub elapsed: Duration,
    /// In nanoseconds.
    pub latency: Histogram<u64>,
}

impl Seen {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
        Self { operations: 0, bytes: 0, elapsed: Duration::ZERO, latency }
    }

    /// Two queues' together.
    pub fn and(mut self, other: &Self) -> Self {
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latency.add(&other.latency).expect("the same bounds");
        self
    }
}

/// A request that is under way in a slot.
#[derive(Debug, Clone, Copy)]
struct UnderWay {
    ask: Ask,
    /// When it was asked, or should have been.
    since: Instant,
}

/// One queue and its buffers.
pub struct Driver {
    queue: Queue,
    memory: Memory,
    asks: Asks,
    workload: Workload,
    /// Of the back end.
    process_id: u32,
    /// The indirect table of the request that is made.
    table: Vec<u8>,
    slots: u64,
    stride: u64,
    under_way: Vec<Option<UnderWay>>,
    free: Vec<u16>,
    seen: Seen,
    measures: bool,
}

impl Driver {
    /// Use a started queue for this.
    pub fn new(queue: Queue, memory: &Memory, workload: Workload, process_id: u32) -> Self {
        let stride = PAGE_BYTES + u64::from(workload.block_bytes);
        let slots = memory.allocate(stride * u64::from(workload.depth), PAGE_BYTES);
        let driver = Self {
            asks: Asks::new(workload, crate::USED_BYTES, queue.index),
            memory: memory.clone(),
            workload,
            process_id,
            table: Vec::new(),
            slots,
            stride,
            under_way: vec![None; workload.depth.into()],
            free: (0..workload.depth).rev().collect(),
            seen: Seen::new(),
            measures: false,
            queue,
        };
        for slot in 0..workload.depth {
            let base = driver.base(slot);
            driver.memory.write(base + PAGE_BYTES, &vec![0xa5; workload.block_bytes as usize]);
        }
        driver
    }

    fn base(&self, slot: u16) -> u64 {
        self.slots + self.stride * u64::from(slot)
    }

    /// Offer a request, without a kick.
    fn start(&mut self, ask: Ask, since: Instant) {
        let slot = self.free.pop().expect("a free slot");
        let base = self.base(slot);
        let (kind, flags) = match ask.kind {
            Kind::Read => (kind::IN, WRITE),
            Kind::Write => (kind::OUT, 0),
            Kind::Flush => (kind::FLUSH, 0),
        };
        self.memory.write(base, &header(kind, ask.offset_bytes / 512));
        self.memory.write(base + STATUS_AT, &[0xff]);
        self.fill_table(base, ask.bytes, flags);
        self.memory.write(base + TABLE_AT, &self.table);
        let indirect = Desc::indirect(base + TABLE_AT, self.table.len() / 16);
        self.queue.put_desc(slot, indirect);
        self.under_way[usize::from(slot)] = Some(UnderWay { ask, since });
        self.queue.offer(slot);
    }

    /// Header, data and status. Pieces lie in memory from the last to the first, for neighbours would
    /// be one piece again.
    fn fill_table(&mut self, base: u64, bytes: u32, flags: u16) {
        let piece = self.workload.piece_bytes;
        let pieces = bytes.div_ceil(piece);
        let end = base + PAGE_BYTES + u64::from(bytes);
        let table = &mut self.table;
        table.clear();
        let mut put = |addr, len, flags| {
            let next = u16::try_from(table.len() / 16 + 1).expect("a short table");
            table.extend(Desc { addr, len, flags: flags | NEXT, next }.to_bytes());
        };
        put(base, 16, 0);
        for before in (0..pieces).map(|index| index * piece) {
            let length = piece.min(bytes - before);
            put(end - u64::from(before + length), length, flags);
        }
        self.table.extend(Desc::writable(base + STATUS_AT, 1).to_bytes());
    }

    /// Take an answer, if there is one now or within `wait`.
    fn finish(&mut self, wait: Option<Duration>) -> Result<Option<Ask>, String> {
        let used = match wait {
            Some(wait) => self.queue.wait_used(wait),
            None => self.queue.pop_used(),
        };
        let Some(used) = used else { return Ok(None) };
        let slot = used.head.0;
        let under_way = self.under_way.get_mut(usize::from(slot)).and_then(Option::take);
        let UnderWay { ask, since } = under_way.ok_or("an answer to what was not asked")?;
        let mut status = [0xff];
        self.memory.read_into(self.base(slot) + STATUS_AT, &mut status);
        if status != [0] {
            return Err(format!("{ask:?} ended with status {}", status[0]));
        }
        self.free.push(slot);
        let ends_operation = self.workload.pattern != Pattern::WriteFlush || ask.bytes == 0;
        if self.measures {
            self.seen.bytes += u64::from(ask.bytes);
            if ends_operation {
                self.seen.operations += 1;
                let took = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.seen.latency.saturating_record(took);
            }
        }
        Ok(Some(ask))
    }

    /// Take an answer, which must come.
    fn must_finish(&mut self) -> Result<(), String> {
        let began = Instant::now();
        while self.finish(Some(LOOK))?.is_none() {
            if !cost::is_there(self.process_id) {
                return Err("it ended with requests in flight".into());
            }
            if began.elapsed() > WAIT {
                return Err(format!("no answer in {WAIT:?}"));
            }
        }
        Ok(())
    }

    /// Load the queue for so long, without measuring and then measuring; between the two, `at_start`
    /// waits for the others.
    ///
    /// # Errors
    /// A request failed, or no answer came, or `at_start` says that it is over.
    pub fn run(
        mut self,
        warm_up: Duration,
        time: Duration,
        at_start: impl FnOnce() -> Result<(), String>,
    ) -> Result<Seen, String> {
        self.go_on_for(warm_up)?;
        at_start()?;
        self.measures = true;
        let began = Instant::now();
        self.go_on_for(time)?;
        self.seen.elapsed = began.elapsed();
        self.measures = false;
        while self.free.len() < usize::from(self.workload.depth) {
            self.must_finish()?;
        }
        Ok(self.seen)
    }

    fn go_on_for(&mut self, time: Duration) -> Result<(), String> {
        match self.workload.pattern {
            Pattern::Beside { .. } if self.queue.index > 0 => {
                self.wait_beside(time);
                Ok(())
            }
            Pattern::Mixed { per_second } | Pattern::Beside { per_second } => {
                self.keep_pace(time, per_second)
            }
            Pattern::WriteFlush => self.write_and_flush(time),
            _ => self.keep_full(time),
        }
    }

    /// Closed loop: a request for each that ends.
    fn keep_full(&mut self, time: Duration) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let now = Instant::now();
            while !self.free.is_empty() {
                let ask = self.asks.next();
                self.start(ask, now);
            }
            self.queue.kick();
            if now - began >= time {
                return Ok(());
            }
            self.must_finish()?;
            while self.finish(None)?.is_some() {}
        }
    }

    /// All requests are under way and nobody asks what becomes of them.
    fn wait_beside(&mut self, time: Duration) {
        while !self.free.is_empty() {
            self.start(Ask::FLUSH, Instant::now());
        }
        self.queue.kick();
        std::thread::sleep(time);
    }

    /// A flush after each write; their time is one.
    fn write_and_flush(&mut self, time: Duration) -> Result<(), String> {
        let began = Instant::now();
        while began.elapsed() < time {
            let since = Instant::now();
            for ask in [self.asks.next(), Ask::FLUSH] {
                self.start(ask, since);
                self.queue.kick();
                self.must_finish()?;
            }
        }
        Ok(())
    }

    /// Open loop: requests come when they come, at exponential distances, and one that has to wait for
    /// a slot has waited.
    fn keep_pace(&mut self, time: Duration, per_second: u32) -> Result<(), String> {
        let began = Instant::now();
        let mut due = Duration::ZERO;
        while due < time {
            while let Some(left) = due.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
                self.finish(Some(left))?;
            }
            if self.free.is_empty() {
                self.must_finish()?;
            }
            let ask = self.asks.next();
            self.start(ask, began + due);
            self.queue.kick();
            #[allow(clippy::cast_precision_loss, reason = "53 bits of randomness")]
            let uniform = ((self.asks.random() >> 11) + 1) as f64 / (1u64 << 53) as f64;
            due += Duration::from_secs_f64(-uniform.ln() / f64::from(per_second));
        }
        Ok(())
    }
}
