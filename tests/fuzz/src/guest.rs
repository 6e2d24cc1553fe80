//! A guest's memory and what it puts there.
//!
//! Knows: descriptors, request headers, where memory is and where it is not. Must not know: what a
//! device makes of them. Invariant: a [`Put`] changes nothing but memory that is there.

use std::ops::Range;

use crate::input::{Reader, Writer};

/// Where memory is: two regions that touch, a hole, one more region.
pub const REGIONS: [(u64, usize); 3] = [(0, 0x8000), (0x8000, 0x4000), (0x1_0000, 0x4000)];
/// Where the first two regions touch.
pub const BORDER: u64 = 0x8000;
/// Where nothing is.
pub const HOLE: u64 = 0xC000;
/// Behind all memory.
pub const END: u64 = 0x1_4000;
/// The same as an index.
pub const BYTES: usize = 0x1_4000;

/// The buffer continues in another descriptor.
pub const NEXT: u16 = 1;
/// The device writes the buffer.
pub const WRITE: u16 = 2;
/// The buffer is a table.
pub const INDIRECT: u16 = 4;

/// Whether there is memory at an address.
pub fn is_there(at: u64) -> bool {
    at < HOLE || (0x1_0000..END).contains(&at)
}

/// The parts of a range where memory is.
pub fn present(range: Range<u64>) -> impl Iterator<Item = (u64, usize)> {
    REGIONS.into_iter().filter_map(move |(at, bytes)| {
        let (start, end) = (range.start.max(at), range.end.min(at + bytes as u64));
        let bytes = usize::try_from(end.checked_sub(start)?).ok()?;
        (bytes > 0).then_some((start, bytes))
    })
}

/// A descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desc {
    pub addr: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

/// A descriptor that the device reads, continued at `next`.
pub fn readable(addr: u64, len: u32, next: u16) -> Desc {
    Desc { addr, len, flags: NEXT, next }
}

/// A descriptor that the device writes, continued at `next`.
pub fn writable(addr: u64, len: u32, next: u16) -> Desc {
    Desc { addr, len, flags: NEXT | WRITE, next }
}

impl Desc {
    /// The last one of its chain.
    pub fn last(self) -> Self {
        Self { flags: self.flags & !NEXT, next: 0, ..self }
    }

    /// A table of descriptors.
    pub fn table(addr: u64, len: u32) -> Self {
        Self { addr, len, flags: INDIRECT, next: 0 }
    }

    pub fn bytes(self) -> [u8; 16] {
        let Self { addr, len, flags, next } = self;
        let raw = u128::from(addr) | u128::from(len) << 64;
        (raw | u128::from(flags) << 96 | u128::from(next) << 112).to_le_bytes()
    }
}

/// `struct virtio_blk_outhdr`.
pub fn header(kind: u32, sector: u64) -> [u8; 16] {
    (u128::from(kind) | u128::from(sector) << 64).to_le_bytes()
}

/// `struct virtio_blk_discard_write_zeroes`.
pub fn segment(sector: u64, sectors: u32, flags: u32) -> [u8; 16] {
    (u128::from(sector) | u128::from(sectors) << 64 | u128::from(flags) << 96).to_le_bytes()
}

/// Bytes that the guest puts into its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    Desc { at: u32, desc: Desc },
    Header { at: u32, kind: u32, sector: u64 },
    Bytes { at: u32, bytes: Vec<u8> },
}

impl Put {
    /// Kinds of puts; an input names one by a number below this.
    pub const KINDS: u8 = 3;

    pub fn read(kind: u8, input: &mut Reader<'_>) -> Self {
        let at = input.u32() % 0x1_4000;
        match kind {
            0 => {
                let (addr, len) = (input.u64(), input.u32());
                Self::Desc { at, desc: Desc { addr, len, flags: input.u16(), next: input.u16() } }
            }
            1 => Self::Header { at, kind: input.u32(), sector: input.u64() },
            _ => {
                let count = usize::from(input.u8());
                Self::Bytes { at, bytes: input.take(count).to_vec() }
            }
        }
    }

    pub fn write(&self, output: &mut Writer) {
        match self {
            Self::Desc { at, desc } => {
                output.u8(0);
                output.u32(*at);
                output.bytes(&desc.bytes());
            }
            Self::Header { at, kind, sector } => {
                output.u8(1);
                output.u32(*at);
                output.u32(*kind);
                output.u64(*sector);
            }
            Self::Bytes { at, bytes } => {
                let bytes = &bytes[..bytes.len().min(255)];
                output.u8(2);
                output.u32(*at);
                output.u8(u8::try_from(bytes.len()).unwrap_or(255));
                output.bytes(bytes);
            }
        }
    }

    /// Where it goes, and what.
    fn content(&self) -> (u64, Vec<u8>) {
        match self {
            Self::Desc { at, desc } => ((*at).into(), desc.bytes().to_vec()),
            Self::Header { at, kind, sector } => ((*at).into(), header(*kind, *sector).to_vec()),
            Self::Bytes { at, bytes } => ((*at).into(), bytes.clone()),
        }
    }

    /// Do it, in pieces that are there; returns where.
    pub fn apply(&self, memory: &mut impl FnMut(u64, &[u8])) -> Range<u64> {
        let (start, bytes) = self.content();
        let end = start + bytes.len() as u64;
        for (at, part) in present(start..end) {
            let from = usize::try_from(at - start).unwrap_or(0);
            memory(at, &bytes[from..from + part]);
        }
        start..end
    }
}
