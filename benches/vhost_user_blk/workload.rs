//! What is asked of a back end.
//!
//! Knows: mixtures, sizes and depths of requests. Must not know: who serves them. Invariant: what a
//! workload asks for next is a function of its random numbers and of what was asked before.

/// How a queue's next request is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Anywhere.
    RandomRead,
    /// Anywhere.
    RandomWrite,
    /// One behind the other.
    SequentialRead,
    /// One behind the other.
    SequentialWrite,
    /// A write anywhere and a flush, which are one operation together.
    WriteFlush,
    /// Seven reads for three writes, anywhere, at an average of so many a second.
    Mixed { per_second: u32 },
    /// The same of the first queue, while all requests of the others wait, which are flushes.
    Beside { per_second: u32 },
}

/// One load.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    pub name: &'static str,
    pub pattern: Pattern,
    pub block_bytes: u32,
    /// Requests in flight of each queue.
    pub depth: u16,
    pub queues: u16,
    /// Most bytes of one descriptor.
    pub piece_bytes: u32,
}

const fn row(
    name: &'static str,
    pattern: Pattern,
    block_bytes: u32,
    depth: u16,
    queues: u16,
) -> Workload {
    Workload { name, pattern, block_bytes, depth, queues, piece_bytes: block_bytes }
}

/// Fewest bytes that a piece of data may have: the largest block is then of 64 pieces, and every back
/// end takes 126 (`seg_max`).
pub const PIECE_BYTES_MIN: u32 = 2048;

impl Workload {
    /// The same with data in pieces of so many bytes.
    pub fn in_pieces(self, bytes: Option<u32>) -> Self {
        Self { piece_bytes: bytes.unwrap_or(self.block_bytes).min(self.block_bytes), ..self }
    }

    /// Descriptors of a request's data.
    pub fn pieces(&self) -> u32 {
        self.block_bytes.div_ceil(self.piece_bytes)
    }
}

/// As much in flight as ten queues of the largest size allow.
pub const MANY_IN_FLIGHT: Workload =
    row("randread-4k-d1024-q10", Pattern::RandomRead, 4 << 10, 1024, 10);

/// Requests that do not wait for one another, while as many as that wait for their time.
pub const BESIDE_MANY: Workload =
    row("mixed-4k-2000ps-beside-10k", Pattern::Beside { per_second: 2000 }, 4 << 10, 1024, 11);

/// All of them.
pub const WORKLOADS: [Workload; 12] = [
    row("randread-4k-d1", Pattern::RandomRead, 4 << 10, 1, 1),
    row("randread-4k-d32", Pattern::RandomRead, 4 << 10, 32, 1),
    row("randread-4k-d128", Pattern::RandomRead, 4 << 10, 128, 1),
    row("randwrite-4k-d1", Pattern::RandomWrite, 4 << 10, 1, 1),
    row("randwrite-4k-d32", Pattern::RandomWrite, 4 << 10, 32, 1),
    row("randwrite-4k-d128", Pattern::RandomWrite, 4 << 10, 128, 1),
    row("seqread-128k-d8", Pattern::SequentialRead, 128 << 10, 8, 1),
    row("seqwrite-64k-d8", Pattern::SequentialWrite, 64 << 10, 8, 1),
    row("randread-4k-d16-q2", Pattern::RandomRead, 4 << 10, 16, 2),
    row("randwrite-4k-d16-q2", Pattern::RandomWrite, 4 << 10, 16, 2),
    row("writeflush-4k-d1", Pattern::WriteFlush, 4 << 10, 1, 1),
    row("mixed-4k-2000ps", Pattern::Mixed { per_second: 2000 }, 4 << 10, 32, 1),
];

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    Flush,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub kind: Kind,
    pub offset_bytes: u64,
    pub bytes: u32,
}

/// The requests of one queue, one after the other.
#[derive(Debug)]
pub struct Asks {
    workload: Workload,
    blocks: u64,
    next_block: u64,
    random: u64,
}

impl Asks {
    /// Requests within the first `image_bytes`.
    pub fn new(workload: Workload, image_bytes: u64, queue: u16) -> Self {
        let blocks = image_bytes / u64::from(workload.block_bytes);
        let random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(u64::from(queue) + 1);
        let next_block = blocks / u64::from(workload.queues) * u64::from(queue);
        Self { workload, blocks, next_block, random }
    }

    /// A random number (xorshift64).
    pub fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn block(&mut self) -> u64 {
        match self.workload.pattern {
            Pattern::SequentialRead | Pattern::SequentialWrite => {
                let block = self.next_block;
                self.next_block = (block + 1) % self.blocks;
                block
            }
            _ => self.random() % self.blocks,
        }
    }

    /// The next one. A [`Pattern::WriteFlush`]'s flush is up to whoever asks.
    pub fn next(&mut self) -> Ask {
        let bytes = self.workload.block_bytes;
        let offset_bytes = self.block() * u64::from(bytes);
        let reads_of_ten = match self.workload.pattern {
            Pattern::RandomRead | Pattern::SequentialRead => 10,
            Pattern::Mixed { .. } => 7,
            _ => 0,
        };
        let kind = if self.random() % 10 < reads_of_ten { Kind::Read } else { Kind::Write };
        Ask { kind, offset_bytes, bytes }
    }
}

impl Ask {
    /// Make what was written durable.
    pub const FLUSH: Self = Self { kind: Kind::Flush, offset_bytes: 0, bytes: 0 };
}
