//! From a descriptor chain to a request, and from its outcome to the used ring.
//!
//! Knows: virtio 1.3 section 5.2.6 (requests, status bytes, used lengths). Must not know: rings or
//! images. Invariants: guest bytes are read exactly once, here; everything is checked before
//! anything is done, the number of pieces of memory too; a [`Request`] ends by [`Request::finish`],
//! exactly once, and only that makes a [`Used`]; the used length never claims a byte that was not
//! written.

use std::sync::Arc;
use std::time::Instant;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_WRITE_ZEROES,
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vm_memory::{Bytes, GuestAddress, GuestMemory as _, Permissions};

use super::chain::{Chain, INDIRECT_MAX, Piece, PieceList};
use super::config::{DISCARD_SECTORS_MAX, DISCARD_SEGMENTS_MAX, has};
use super::disk::{Disk, SERIAL_BYTES};
use super::memory::{GuestMemory, MEMORY_SLOTS_MAX, mark_dirty};
use super::touch;
use crate::block::{Buffers, IoVecs, MemoryOwner, OpKind};
use crate::errno::Errno;
use crate::fault::IoType;

/// Bytes of `struct virtio_blk_outhdr`: type, ioprio, sector.
const HEADER_BYTES: usize = 16;
/// Bytes of `struct virtio_blk_discard_write_zeroes`.
const SEGMENT_BYTES: usize = 16;
/// `VIRTIO_BLK_T_FLUSH_OUT` of the legacy interface: a flush.
const LEGACY_FLUSH_OUT: u32 = 5;

/// The most pieces of host memory behind one request. Each descriptor is one, and one more wherever
/// its memory goes on in another slot. A driver that gives each place once crosses each border once;
/// where every descriptor crosses every border, a chain of 16 KiB would be a list of 8 MiB.
#[allow(clippy::cast_possible_truncation)] // hundreds
const IOVECS_MAX: usize = INDIRECT_MAX as usize + MEMORY_SLOTS_MAX as usize;

/// What the request layer needs to know about the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Feature bits that both sides agreed on.
    features: u64,
    /// Writes may be answered before they are durable.
    writeback: bool,
}

impl Terms {
    /// The terms of a driver that accepted these features and finds `writeback` in the
    /// configuration space. Without CONFIG_WCE it cannot look there, and has what the operator
    /// `chose`; what the byte says is left for the next driver.
    pub(super) fn of(features: u64, writeback: bool, chose: bool) -> Self {
        let can_choose = has(features, VIRTIO_BLK_F_CONFIG_WCE);
        Self { features, writeback: if can_choose { writeback } else { chose } }
    }

    /// Writes must be durable when they complete (5.2.6.2): write-through, or no FLUSH to ask for it.
    fn fua(self) -> bool {
        !self.writeback || !has(self.features, VIRTIO_BLK_F_FLUSH)
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of it was done.
    Done,
    /// The image or a fault failed it.
    Failed(Errno),
    /// The driver asked for what it may not have.
    Invalid,
    /// The device does not do that.
    Unsupported,
}

impl Outcome {
    /// The status byte. virtio-blk carries no errno: every error is an I/O error, except that what
    /// the image cannot do is unsupported.
    fn status(self) -> u32 {
        match self {
            Self::Done => VIRTIO_BLK_S_OK,
            Self::Unsupported | Self::Failed(Errno::EOPNOTSUPP) => VIRTIO_BLK_S_UNSUPP,
            Self::Failed(_) | Self::Invalid => VIRTIO_BLK_S_IOERR,
        }
    }
}

/// An entry for the used ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) struct Used {
    pub(super) head: u16,
    /// Bytes written, counted from the first writable byte without a gap (2.7.8.2).
    pub(super) bytes: u32,
}

/// A request that was taken from the ring and not answered yet.
#[derive(Debug)]
#[must_use]
pub(super) struct Request {
    head: u16,
    memory: Arc<GuestMemory>,
    /// Everything writable, the status byte last. Never empty.
    writable: PieceList,
    /// Writable bytes before the status byte.
    data_bytes: u32,
    /// Bytes of those that are written if all goes well.
    filled_bytes: u32,
    what: What,
    taken: Instant,
}

/// What a request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Io { iotype: IoType, offset_bytes: u64, bytes: u64 },
    GetId,
    Unknown,
}

/// What becomes of a chain.
#[derive(Debug)]
pub(super) enum Parsed {
    /// The node is asked.
    Submit(Request, OpKind),
    /// The answer is known.
    Answer(Request, Outcome),
    /// There is no status byte to answer with.
    Refuse(Used),
}

/// Make a request of a chain that was taken then. Nothing is done yet.
pub(super) fn parse(
    disk: &Disk,
    terms: Terms,
    memory: &Arc<GuestMemory>,
    head: u16,
    chain: Chain,
    taken: Instant,
) -> Parsed {
    let Some(data_bytes) = writable_bytes(&chain).checked_sub(1) else {
        return Parsed::Refuse(Used { head, bytes: 0 });
    };
    let mut request = Request {
        head,
        memory: memory.clone(),
        writable: chain.writable,
        data_bytes,
        filled_bytes: 0,
        what: What::Unknown,
        taken,
    };
    let mut readable = Pieces::new(&chain.readable);
    let mut header = [0; HEADER_BYTES];
    if !readable.read(memory, &mut header) {
        return Parsed::Answer(request, Outcome::Invalid);
    }
    let header = Header::parse(&header);
    let planned = plan(disk, terms, &mut request, header, readable);
    // The descriptors, the header or the segment may be zeroes that nobody wrote.
    if !memory.is_intact() {
        request.what = What::Unknown;
        return Parsed::Answer(request, Outcome::Failed(Errno::EIO));
    }
    match planned {
        Ok(kind) => Parsed::Submit(request, kind),
        Err(outcome) => Parsed::Answer(request, outcome),
    }
}

#[derive(Debug, Clone, Copy)]
struct Header {
    kind: u32,
    sector: u64,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Self {
        let raw = u128::from_le_bytes(*bytes);
        #[allow(clippy::cast_possible_truncation)] // type in the low, sector in the high bytes
        Self { kind: raw as u32, sector: (raw >> 64) as u64 }
    }
}

/// What the node is to be asked, or the answer that is known already.
fn plan(
    disk: &Disk,
    terms: Terms,
    request: &mut Request,
    header: Header,
    readable: Pieces<'_>,
) -> Result<OpKind, Outcome> {
    match header.kind {
        VIRTIO_BLK_T_IN => plan_read(disk, request, header),
        VIRTIO_BLK_T_OUT => plan_write(disk, terms, request, header, readable),
        VIRTIO_BLK_T_FLUSH | LEGACY_FLUSH_OUT => {
            request.what = What::Io { iotype: IoType::Flush, offset_bytes: 0, bytes: 0 };
            Ok(OpKind::Flush)
        }
        VIRTIO_BLK_T_GET_ID => Err(get_id(disk, request)),
        VIRTIO_BLK_T_DISCARD if has(terms.features, VIRTIO_BLK_F_DISCARD) => {
            plan_discard(disk, request, readable)
        }
        VIRTIO_BLK_T_WRITE_ZEROES if has(terms.features, VIRTIO_BLK_F_WRITE_ZEROES) => {
            plan_write_zeroes(disk, terms, request, readable)
        }
        _ => Err(Outcome::Unsupported),
    }
}

fn plan_read(disk: &Disk, request: &mut Request, header: Header) -> Result<OpKind, Outcome> {
    let bytes = u64::from(request.data_bytes);
    let offset_bytes = request.range(disk, IoType::Read, header.sector, bytes)?;
    let into = buffers(&request.memory, request.data(), Permissions::Write)?;
    request.filled_bytes = request.data_bytes;
    Ok(OpKind::Read { offset_bytes, into })
}

fn plan_write(
    disk: &Disk,
    terms: Terms,
    request: &mut Request,
    header: Header,
    readable: Pieces<'_>,
) -> Result<OpKind, Outcome> {
    let data = readable.rest();
    let bytes = data.iter().map(|piece| u64::from(piece.bytes)).sum();
    let offset_bytes = request.range(disk, IoType::Write, header.sector, bytes)?;
    let from = buffers(&request.memory, data.into_iter(), Permissions::Read)?;
    Ok(OpKind::Write { offset_bytes, from, fua: terms.fua() })
}

/// GET_ID (5.2.6): as much of the padded serial as there is room for.
fn get_id(disk: &Disk, request: &mut Request) -> Outcome {
    request.what = What::GetId;
    let room_bytes = request.data_bytes.min(SERIAL_BYTES);
    let mut serial = &disk.options.serial.padded()[..room_bytes as usize];
    for piece in request.data() {
        let (now, later) = serial.split_at(serial.len().min(piece.bytes as usize));
        if request.memory.write_slice(now, GuestAddress(piece.addr)).is_err() {
            return Outcome::Invalid;
        }
        serial = later;
    }
    request.filled_bytes = room_bytes;
    Outcome::Done
}

fn plan_discard(
    disk: &Disk,
    request: &mut Request,
    readable: Pieces<'_>,
) -> Result<OpKind, Outcome> {
    let segment = Segment::read(&request.memory, readable)?;
    if segment.flags != 0 {
        return Err(Outcome::Unsupported);
    }
    let (offset_bytes, bytes) = segment.range(disk, request, IoType::Discard)?;
    Ok(OpKind::Discard { offset_bytes, bytes })
}

fn plan_write_zeroes(
    disk: &Disk,
    terms: Terms,
    request: &mut Request,
    readable: Pieces<'_>,
) -> Result<OpKind, Outcome> {
    let segment = Segment::read(&request.memory, readable)?;
    if segment.flags & !VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0 {
        return Err(Outcome::Unsupported);
    }
    let (offset_bytes, bytes) = segment.range(disk, request, IoType::WriteZeroes)?;
    let may_unmap = segment.flags != 0;
    Ok(OpKind::WriteZeroes { offset_bytes, bytes, may_unmap, fua: terms.fua() })
}

/// `struct virtio_blk_discard_write_zeroes`.
#[derive(Debug, Clone, Copy)]
struct Segment {
    sector: u64,
    num_sectors: u32,
    flags: u32,
}

impl Segment {
    fn read(memory: &GuestMemory, mut readable: Pieces<'_>) -> Result<Self, Outcome> {
        let bytes = readable.bytes();
        if bytes > u64::from(DISCARD_SEGMENTS_MAX) * SEGMENT_BYTES as u64 {
            return Err(Outcome::Unsupported);
        }
        let mut raw = [0; SEGMENT_BYTES];
        if bytes != SEGMENT_BYTES as u64 || !readable.read(memory, &mut raw) {
            return Err(Outcome::Invalid);
        }
        let raw = u128::from_le_bytes(raw);
        #[allow(clippy::cast_possible_truncation)] // the fields of the segment
        Ok(Self { sector: raw as u64, num_sectors: (raw >> 64) as u32, flags: (raw >> 96) as u32 })
    }

    /// The segment's bytes on the disk, checked.
    fn range(
        self,
        disk: &Disk,
        request: &mut Request,
        iotype: IoType,
    ) -> Result<(u64, u64), Outcome> {
        let bytes = u64::from(self.num_sectors) * 512;
        let offset_bytes = request.range(disk, iotype, self.sector, bytes)?;
        if self.num_sectors > DISCARD_SECTORS_MAX {
            return Err(Outcome::Invalid);
        }
        Ok((offset_bytes, bytes))
    }
}

impl Request {
    /// Check the request's range against the disk and note what it is.
    fn range(
        &mut self,
        disk: &Disk,
        iotype: IoType,
        sector: u64,
        bytes: u64,
    ) -> Result<u64, Outcome> {
        let offset_bytes = sector.saturating_mul(512);
        self.what = What::Io { iotype, offset_bytes, bytes };
        if iotype != IoType::Read && disk.geometry().read_only {
            return Err(Outcome::Invalid);
        }
        let capacity_bytes = disk.capacity_sectors() * 512;
        let block_bytes = u64::from(disk.options.logical_block_bytes);
        let inside = sector.checked_mul(512).is_some()
            && offset_bytes.checked_add(bytes).is_some_and(|end| end <= capacity_bytes);
        let aligned = offset_bytes.is_multiple_of(block_bytes) && bytes.is_multiple_of(block_bytes);
        if !inside || !aligned {
            return Err(Outcome::Invalid);
        }
        Ok(offset_bytes)
    }

    /// The writable pieces without the status byte.
    fn data(&self) -> impl Iterator<Item = Piece> {
        let mut left = self.data_bytes;
        let data = self.writable.iter().map(move |piece| {
            let bytes = piece.bytes.min(left);
            left -= bytes;
            Piece { addr: piece.addr, bytes }
        });
        data.filter(|piece| piece.bytes > 0)
    }

    /// The ring entry it came from.
    pub(super) fn head(&self) -> u16 {
        self.head
    }

    /// What it is counted as.
    pub(super) fn what(&self) -> What {
        self.what
    }

    /// Whether the image writes the guest's memory for it.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.what, What::Io { iotype: IoType::Read, .. })
    }

    /// When it was taken from the ring.
    pub(super) fn taken(&self) -> Instant {
        self.taken
    }

    /// The outcome, unless it is success with memory that is not there any more.
    pub(super) fn judge(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Done if !self.memory.is_intact() => Outcome::Failed(Errno::EIO),
            outcome => outcome,
        }
    }

    /// Write the status byte and make the used entry, the two from one outcome.
    pub(super) fn finish(self, outcome: Outcome) -> Used {
        let [status, ..] = outcome.status().to_le_bytes();
        if self.is_read() {
            for piece in self.data() {
                mark_dirty(&self.memory, piece.addr, u64::from(piece.bytes));
            }
        }
        let filled_bytes = if outcome == Outcome::Done { self.filled_bytes } else { 0 };
        let status_written = self.writable.last().is_some_and(|last| {
            // A piece that runs past the last address has no last byte: it does not begin anew at 0.
            let addr = last.addr.checked_add(u64::from(last.bytes) - 1);
            addr.is_some_and(|addr| touch::write_byte(&self.memory, addr, status).is_some())
        });
        let gapless = filled_bytes == self.data_bytes && status_written;
        Used { head: self.head, bytes: filled_bytes + u32::from(gapless) }
    }
}

/// Host memory behind pieces of guest memory, unless it is in more than [`IOVECS_MAX`] places.
fn buffers(
    memory: &Arc<GuestMemory>,
    pieces: impl Iterator<Item = Piece>,
    access: Permissions,
) -> Result<Buffers, Outcome> {
    let mut iovecs = IoVecs::new();
    for piece in pieces {
        let slices = memory
            .get_slices(GuestAddress(piece.addr), piece.bytes as usize, access)
            .map_err(|_| Outcome::Invalid)?;
        for slice in slices {
            let slice = slice.map_err(|_| Outcome::Invalid)?;
            if iovecs.len() == IOVECS_MAX {
                return Err(Outcome::Invalid);
            }
            let iov_base = slice.ptr_guard_mut().as_ptr().cast();
            iovecs.push(libc::iovec { iov_base, iov_len: slice.len() });
        }
    }
    // SAFETY: the pointers come from slices of mapped guest memory; the `Arc` given along keeps it
    // mapped, and guest memory is never behind a Rust reference.
    Ok(unsafe { Buffers::new(iovecs, memory.clone()) })
}

fn writable_bytes(chain: &Chain) -> u32 {
    // The walk bounds a chain to u32::MAX bytes.
    chain.writable.iter().map(|piece| piece.bytes).sum()
}

/// A cursor over readable pieces, so that nobody depends on how they are cut.
#[derive(Debug, Clone, Copy)]
struct Pieces<'a> {
    pieces: &'a [Piece],
    /// Bytes of the first piece that were read already.
    consumed: u32,
}

impl<'a> Pieces<'a> {
    fn new(pieces: &'a [Piece]) -> Self {
        Self { pieces, consumed: 0 }
    }

    /// Fill `into`; false if there are fewer bytes or they are not in the guest's memory.
    fn read(&mut self, memory: &GuestMemory, mut into: &mut [u8]) -> bool {
        while !into.is_empty() {
            let Some(piece) = self.pieces.first() else {
                return false;
            };
            let left = piece.bytes - self.consumed;
            let bytes = u32::try_from(into.len()).map_or(left, |wanted| wanted.min(left));
            let (now, later) = into.split_at_mut(bytes as usize);
            let Some(addr) = piece.addr.checked_add(u64::from(self.consumed)) else {
                return false;
            };
            if touch::fill(memory, addr, now).is_none() {
                return false;
            }
            into = later;
            self.consumed += bytes;
            if self.consumed == piece.bytes {
                self.pieces = &self.pieces[1..];
                self.consumed = 0;
            }
        }
        true
    }

    fn bytes(&self) -> u64 {
        let all: u64 = self.pieces.iter().map(|piece| u64::from(piece.bytes)).sum();
        all - u64::from(self.consumed)
    }

    /// What has not been read.
    fn rest(self) -> PieceList {
        let mut rest = PieceList::from_slice(self.pieces);
        if let Some(first) = rest.first_mut() {
            first.addr = first.addr.wrapping_add(u64::from(self.consumed));
            first.bytes -= self.consumed;
        }
        rest
    }
}

#[cfg(test)]
mod tests;
