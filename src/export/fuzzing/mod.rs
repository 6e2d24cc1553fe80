//! A door into this room for `tests/fuzz`, and for nobody else: built with the feature `fuzzing`.
//!
//! Knows: the steps of a request and of a front end that fuzz targets drive by themselves. Must not
//! know: what they expect. Invariant: what is driven here is the code that serves guests; what the
//! feature adds to it only watches ([`watch`]), or lets a worker take its turns on the thread that
//! feeds it, so that the same input does the same again ([`turns`]).

pub(super) mod turns;
pub(super) mod watch;

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::chain::{self, Table};
use super::connection::{Connection, Served};
use super::disk::Disk;
use super::inflight::{QueueLog, Recovered, Region, Shape};
use super::mapping::Sharer;
use super::memory::GuestMemory;
use super::request::{Outcome, Parsed, Terms, What, parse};
use crate::block::{Channel, Op, OpKind, Ticket};

pub use turns::{run_workers, take_turns_here};
pub use watch::{Event, watch};

/// Guest memory of this process's own.
#[derive(Debug, Clone)]
pub struct Memory(Arc<GuestMemory>);

impl Memory {
    /// Zeroes at these guest addresses: where each region starts and how long it is.
    ///
    /// # Panics
    /// When the regions overlap, or the host has no memory.
    #[must_use]
    pub fn new(regions: &[(u64, usize)]) -> Self {
        let ranges: Vec<_> =
            regions.iter().map(|(at, bytes)| (GuestAddress(*at), *bytes)).collect();
        let memory = GuestMemoryMmap::from_ranges(&ranges).expect("anonymous memory");
        Self(Arc::new(GuestMemory::from(memory)))
    }

    /// Copy bytes out; they must be there.
    ///
    /// # Panics
    /// When they are not.
    pub fn read(&self, at: u64, into: &mut [u8]) {
        self.0.read_slice(into, GuestAddress(at)).expect("guest memory");
    }

    /// Copy bytes in; there must be room for them.
    ///
    /// # Panics
    /// When there is none.
    pub fn write(&self, at: u64, from: &[u8]) {
        self.0.write_slice(from, GuestAddress(at)).expect("guest memory");
    }
}

/// Where a chain starts.
#[derive(Debug, Clone, Copy)]
pub struct ChainAt {
    /// Guest address of the descriptor table.
    pub table: u64,
    /// How many descriptors it has.
    pub size: u16,
    /// The chain's first.
    pub head: u16,
    /// The driver may use indirect tables.
    pub indirect: bool,
}

/// Address and length of each piece, those that the device may read and those that it may write.
pub type Pieces = (Vec<(u64, u32)>, Vec<(u64, u32)>);

/// Walk a chain.
///
/// # Errors
/// What is wrong with it.
pub fn walk(memory: &Memory, at: ChainAt) -> Result<Pieces, String> {
    let table = Table { addr: at.table, size: at.size };
    let chain = chain::walk(&memory.0, table, at.head, at.indirect).map_err(|e| e.to_string())?;
    let pairs = |pieces: &[chain::Piece]| pieces.iter().map(|p| (p.addr, p.bytes)).collect();
    Ok((pairs(&chain.readable), pairs(&chain.writable)))
}

/// What driver and device agreed on.
#[derive(Debug, Clone, Copy)]
pub struct Agreed {
    /// Feature bits.
    pub features: u64,
    /// The `writeback` byte.
    pub writeback: bool,
}

/// Take a chain from its ring to its used entry, whose length it returns, as a worker does.
pub fn serve(
    disk: &Disk,
    channel: &mut dyn Channel,
    agreed: Agreed,
    memory: &Memory,
    at: ChainAt,
) -> u32 {
    let table = Table { addr: at.table, size: at.size };
    let Ok(chain) = chain::walk(&memory.0, table, at.head, at.indirect) else {
        return 0;
    };
    let terms = Terms::of(agreed.features, agreed.writeback, disk.options.writeback);
    let parsed = match parse(disk, terms, &memory.0, at.head, chain, std::time::Instant::now()) {
        // A rule may have something to say about it.
        Parsed::Answer(request, Outcome::Done) if request.what() == What::GetId => {
            Parsed::Submit(request, OpKind::GetId)
        }
        other => other,
    };
    let used = match parsed {
        Parsed::Refuse(used) => used,
        Parsed::Answer(request, outcome) => request.finish(outcome),
        Parsed::Submit(request, kind) => {
            channel.submit(Op { ticket: Ticket(7), ordinal: 0, queue: 0, kind });
            let mut done = Vec::new();
            while done.is_empty() {
                channel.commit();
                channel.poll(&mut done);
            }
            assert_eq!((done.len(), done[0].ticket), (1, Ticket(7)), "one completion, of this op");
            let outcome = done[0].result.map_or_else(Outcome::Failed, |()| Outcome::Done);
            request.finish(outcome)
        }
    };
    assert_eq!(used.head, at.head, "the used entry is the chain's");
    used.bytes
}

/// A queue's log of requests in flight, and the ring that it is of.
#[derive(Debug, Clone, Copy)]
pub struct LogAt {
    /// Queues that the region has parts for, and this one.
    pub num_queues: u16,
    /// The queue.
    pub queue: u16,
    /// Descriptors that the region has states for.
    pub queue_size: u16,
    /// Descriptors of the ring.
    pub ring_size: u16,
    /// The ring's used index.
    pub used_idx: u16,
}

/// What a log tells: heads in the order they were taken, and the avail index behind them. Nothing of
/// one that was never used.
pub type Unanswered = Option<(u16, Vec<u16>)>;

/// Recover from a log in a file, as a ring that starts does.
///
/// # Errors
/// Why it cannot be used.
pub fn recover(file: &File, at: LogAt) -> Result<Unanswered, String> {
    let (socket, _) = UnixStream::pair().map_err(|error| error.to_string())?;
    let sharer = Arc::new(Sharer::new(socket.into()));
    let shape = Shape::new(at.num_queues, at.queue_size, at.num_queues);
    let shape = shape.map_err(|error| error.to_string())?;
    let region = Region::map(shape, file, 0, shape.bytes(), &sharer);
    let region = Arc::new(region.map_err(|error| error.to_string())?);
    let mut log = QueueLog::of(&region, at.queue).ok_or("no part for the queue")?;
    let recovered = log.recover(at.used_idx, at.ring_size).map_err(|error| error.to_string())?;
    Ok(match recovered {
        Recovered::Unused => None,
        Recovered::Unanswered { next_avail, taken }
        | Recovered::Contradicted { next_avail, taken } => {
            Some((next_avail, taken.into_iter().map(|taken| taken.head).collect()))
        }
    })
}

/// A front end that is connected to a disk.
pub struct FrontEnd(Connection);

impl FrontEnd {
    /// Serve this front end.
    ///
    /// # Errors
    /// When the host has no descriptor left.
    pub fn new(stream: UnixStream, disk: Arc<Disk>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Connection::new(stream, disk).map(Self)
    }

    /// Serve what it has sent. False when the connection is at its end.
    pub fn serve(&mut self) -> bool {
        self.0.serve() == Served::Message
    }
}

impl std::fmt::Debug for FrontEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrontEnd")
    }
}
