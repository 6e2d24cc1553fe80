//! Block requests over a queue (virtio 1.3, 5.2.6), as an ordinary driver makes them.
//!
//! Knows: the request header, types, status bytes and where their buffers lie. Must not know: what
//! a test expects. Invariant: a status byte that the device did not write is seen as such, for it
//! holds [`UNWRITTEN`] before.

use super::ring::{Desc, Head, Queue};
use super::wire::WAIT;

/// Request types (virtio 1.3, 5.2.6).
pub mod kind {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// In a discard or write-zeroes segment: the range may be deallocated.
pub const UNMAP: u32 = 1;
/// What a status byte holds before the device writes it.
pub const UNWRITTEN: u8 = 0xee;
/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    IoErr,
    Unsupp,
    /// The device wrote no status.
    Unwritten,
    /// A number that the standard does not know.
    Unknown(u8),
}

impl From<u8> for Status {
    fn from(byte: u8) -> Self {
        match byte {
            0 => Self::Ok,
            1 => Self::IoErr,
            2 => Self::Unsupp,
            UNWRITTEN => Self::Unwritten,
            other => Self::Unknown(other),
        }
    }
}

/// The end of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// How it ended.
    pub status: Status,
    /// The used entry's length.
    pub len: u32,
    /// The bytes for the driver, as they are in memory now.
    pub data: Vec<u8>,
}

/// The end of a request that was made in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// The slot, free again.
    pub slot: u16,
    /// How it ended.
    pub status: Status,
    /// The used entry's length.
    pub len: u32,
}

/// Buffers for requests in flight, one per slot: header, status and data.
#[derive(Debug, Default)]
pub struct Slots {
    base: u64,
    stride: u64,
    count: u16,
    of_head: Vec<u16>,
    scratch: u64,
    scratch_bytes: u64,
}

/// The data begins here in a slot; header and status lie before. Direct I/O goes to it as it is.
const DATA_AT: u64 = 4096;
const STATUS_AT: u64 = 256;
/// Most descriptors of one request's data.
const SEGMENTS_MAX: usize = 64;

/// The 16 bytes that begin a request.
pub fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    bytes[8..].copy_from_slice(&sector.to_le_bytes());
    bytes
}

/// One segment of a discard or write-zeroes request.
pub fn segment(sector: u64, sectors: u32, flags: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&sector.to_le_bytes());
    bytes[8..12].copy_from_slice(&sectors.to_le_bytes());
    bytes[12..].copy_from_slice(&flags.to_le_bytes());
    bytes
}

impl Queue {
    /// Offer a request whose parts lie at `base`; returns its head. The data is `bytes` long.
    fn submit_at(
        &mut self,
        base: u64,
        kind: u32,
        sector: u64,
        bytes: u32,
        to_driver: bool,
    ) -> Head {
        self.memory.write(base, &header(kind, sector));
        self.memory.write(base + STATUS_AT, &[UNWRITTEN]);
        let mut chain = [Desc::default(); SEGMENTS_MAX + 2];
        chain[0] = Desc::readable(base, 16);
        let (mut used, mut done) = (1, 0);
        while done < bytes {
            let here = (bytes - done).min(self.segment_bytes);
            let address = base + DATA_AT + u64::from(done);
            chain[used] = if to_driver {
                Desc::writable(address, here)
            } else {
                Desc::readable(address, here)
            };
            (used, done) = (used + 1, done + here);
        }
        chain[used] = Desc::writable(base + STATUS_AT, 1);
        self.submit_chain(&chain[..=used])
    }

    fn scratch(&mut self, bytes: u64) -> u64 {
        if self.slots.scratch_bytes < bytes {
            self.slots.scratch = self.memory.allocate(bytes + DATA_AT, 4096);
            self.slots.scratch_bytes = bytes;
        }
        self.slots.scratch
    }

    fn finish_sync(&mut self, base: u64, head: Head, in_bytes: usize) -> Reply {
        self.kick();
        let used = self.wait(head);
        let status = self.memory.read(base + STATUS_AT, 1)[0].into();
        Reply { status, len: used.len, data: self.memory.read(base + DATA_AT, in_bytes) }
    }

    /// Make a request that gives bytes to the device and wait for its end.
    pub fn send(&mut self, kind: u32, sector: u64, data: &[u8]) -> Reply {
        let base = self.scratch(data.len() as u64);
        self.memory.write(base + DATA_AT, data);
        let head = self.submit_at(base, kind, sector, data.len() as u32, false);
        self.finish_sync(base, head, 0)
    }

    /// Make a request that takes bytes from the device and wait for its end.
    pub fn fetch(&mut self, kind: u32, sector: u64, bytes: usize) -> Reply {
        let base = self.scratch(bytes as u64);
        self.memory.write(base + DATA_AT, &vec![UNWRITTEN; bytes]);
        let head = self.submit_at(base, kind, sector, bytes as u32, true);
        self.finish_sync(base, head, bytes)
    }

    /// Read `bytes` from `sector` on.
    pub fn read(&mut self, sector: u64, bytes: usize) -> Reply {
        self.fetch(kind::IN, sector, bytes)
    }

    /// Write `data` from `sector` on.
    pub fn write(&mut self, sector: u64, data: &[u8]) -> Reply {
        self.send(kind::OUT, sector, data)
    }

    /// Make completed writes durable.
    pub fn flush(&mut self) -> Reply {
        self.send(kind::FLUSH, 0, &[])
    }

    /// Give up the content of a range.
    pub fn discard(&mut self, sector: u64, sectors: u32) -> Reply {
        self.send(kind::DISCARD, 0, &segment(sector, sectors, 0))
    }

    /// Make a range read as zeroes; `flags` is 0 or [`UNMAP`].
    pub fn write_zeroes(&mut self, sector: u64, sectors: u32, flags: u32) -> Reply {
        self.send(kind::WRITE_ZEROES, 0, &segment(sector, sectors, flags))
    }

    /// The disk's serial, 20 bytes.
    pub fn get_id(&mut self) -> Reply {
        self.fetch(kind::GET_ID, 0, 20)
    }

    /// Make room for `count` requests at once with up to `data_bytes` each.
    pub fn prepare_slots(&mut self, count: u16, data_bytes: u64) {
        let stride = (DATA_AT + data_bytes).next_multiple_of(4096);
        let base = self.memory.allocate(stride * u64::from(count), 4096);
        let (scratch, scratch_bytes) = (self.slots.scratch, self.slots.scratch_bytes);
        let of_head = vec![0; self.size.into()];
        self.slots = Slots { base, stride, count, of_head, scratch, scratch_bytes };
    }

    fn slot_base(&self, slot: u16) -> u64 {
        assert!(slot < self.slots.count, "slot {slot} was not prepared");
        self.slots.base + self.slots.stride * u64::from(slot)
    }

    /// Guest address of a slot's data.
    pub fn slot_data(&self, slot: u16) -> u64 {
        self.slot_base(slot) + DATA_AT
    }

    /// Copy bytes into a slot's data, to be written.
    pub fn fill_slot(&self, slot: u16, data: &[u8]) {
        self.memory.write(self.slot_data(slot), data);
    }

    /// Copy a slot's data out, as it was read.
    pub fn slot_into(&self, slot: u16, data: &mut [u8]) {
        self.memory.read_into(self.slot_data(slot), data);
    }

    /// Offer a request in a slot, without a kick. Its data is the slot's first `bytes`.
    pub fn start(&mut self, slot: u16, kind: u32, sector: u64, bytes: u32) {
        let to_driver = matches!(kind, kind::IN | kind::GET_ID);
        let head = self.submit_at(self.slot_base(slot), kind, sector, bytes, to_driver);
        self.slots.of_head[usize::from(head.0)] = slot;
    }

    /// Which slot an answer is for, and how it ended.
    pub fn finished(&self, used: super::ring::Used) -> Finished {
        let slot = self.slots.of_head[usize::from(used.head.0)];
        let mut status = [0];
        self.memory.read_into(self.slot_base(slot) + STATUS_AT, &mut status);
        Finished { slot, status: status[0].into(), len: used.len }
    }

    /// The end of some request in a slot, if there is one now.
    pub fn try_finish(&mut self) -> Option<Finished> {
        self.pop_used().map(|used| self.finished(used))
    }

    /// The end of some request in a slot, which must come.
    pub fn finish(&mut self) -> Finished {
        let used = self.answer();
        self.finished(used)
    }

    /// Collect the ends of everything that is in flight in slots.
    pub fn finish_all(&mut self) -> Vec<Finished> {
        (0..self.in_flight()).map(|_| self.finish()).collect()
    }

    /// Whether the queue still serves: a sector can be read.
    pub fn is_alive(&mut self) -> bool {
        let base = self.scratch(SECTOR as u64);
        let head = self.submit_at(base, kind::IN, 0, SECTOR as u32, true);
        self.kick();
        let answered = self.wait_used(WAIT).is_some_and(|used| used.head == head);
        answered && self.memory.read(base + STATUS_AT, 1)[0] == 0
    }
}
