//! A reference device, written from virtio 1.3 (2.7.5, 5.2.6) and not from the code it is held
//! against: it walks a chain and serves its request over plain bytes.
//!
//! Knows: chains, block requests, and what this device offers. Must not know: how blkfaultd does it.
//! Invariant: it reads each guest byte that a chain names once, and says which.

use std::collections::BTreeMap;

use blkfault::fault::IoType;
use blkfault::fuzzing::{ChainAt, Pieces};

use crate::guest::{INDIRECT, NEXT, WRITE, is_there};

/// Feature bits that matter here.
pub const FLUSH: u64 = 1 << 9;
pub const CONFIG_WCE: u64 = 1 << 11;
pub const DISCARD: u64 = 1 << 13;
pub const WRITE_ZEROES: u64 = 1 << 14;

/// Which guest bytes were read: address and length of each access.
pub type Reads = Vec<(u64, u64)>;

fn read(memory: &[u8], at: u64, bytes: u64, reads: &mut Reads) -> Option<Vec<u8>> {
    reads.push((at, bytes));
    let byte = |offset| {
        let at = at.checked_add(offset).filter(|at| is_there(*at))?;
        memory.get(usize::try_from(at).ok()?).copied()
    };
    (0..bytes).map(byte).collect()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Walk a chain; `None` where it is none.
pub fn walk(memory: &[u8], at: ChainAt, reads: &mut Reads) -> Option<Pieces> {
    let mut pieces = Pieces::default();
    let (mut table, mut entries) = (at.table, u32::from(at.size));
    let (mut index, mut left, mut total, mut is_indirect) = (u32::from(at.head), entries, 0, false);
    loop {
        left = left.checked_sub(1)?;
        if index >= entries {
            return None;
        }
        let raw = read(memory, table.checked_add(16 * u64::from(index))?, 16, reads)?;
        let (addr, len) = (number(&raw[..8]), number(&raw[8..12]));
        let flags = u16::try_from(number(&raw[12..14])).ok()?;
        if flags & INDIRECT != 0 {
            let count = u32::try_from(len / 16).ok()?;
            let fits = len % 16 == 0 && (1..=1024).contains(&count);
            if is_indirect || !at.indirect || flags & NEXT != 0 || !fits {
                return None;
            }
            (table, entries, left, index, is_indirect) = (addr, count, count, 0, true);
            continue;
        }
        total += len;
        let is_writable = flags & WRITE != 0;
        if total > u64::from(u32::MAX) || (!is_writable && !pieces.1.is_empty()) {
            return None;
        }
        if len > 0 {
            let into = if is_writable { &mut pieces.1 } else { &mut pieces.0 };
            into.push((addr, u32::try_from(len).ok()?));
        }
        if flags & NEXT == 0 {
            return Some(pieces);
        }
        index = u32::try_from(number(&raw[14..])).ok()?;
    }
}

/// What was settled when the disk was made and the features were agreed on.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub features: u64,
    /// Writes may be answered before they are durable, as the driver sees it.
    pub writeback: bool,
    pub read_only: bool,
    pub capacity_bytes: u64,
    pub block_bytes: u64,
    /// What the image does not do, and what it says then.
    pub fails: [bool; 5],
    pub unsupported: bool,
    pub serial: [u8; 20],
}

/// A disk's content by sector; what is missing is zero.
pub type Content = BTreeMap<u64, [u8; 512]>;

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// What a device does with a chain.
#[derive(Debug, Default)]
pub struct Served {
    pub used_bytes: u32,
    /// What was asked of the image, and whether it must be durable.
    pub asked: Option<(IoType, bool)>,
    pub reads: Reads,
}

/// The device.
#[derive(Debug)]
pub struct Device<'a> {
    pub terms: Terms,
    pub memory: &'a mut [u8],
    pub content: &'a mut Content,
}

impl Device<'_> {
    /// Serve the chain.
    pub fn serve(&mut self, at: ChainAt) -> Served {
        let mut served = Served::default();
        let Some((readable, mut writable)) = walk(self.memory, at, &mut served.reads) else {
            return served;
        };
        // The status byte is the last writable one.
        let Some(last) = writable.last_mut() else { return served };
        last.1 -= 1;
        let status_at = last.0.checked_add(u64::from(last.1));
        writable.retain(|(_, bytes)| *bytes > 0);
        let room: u64 = writable.iter().map(|(_, bytes)| u64::from(*bytes)).sum();

        let (status, filled) = match self.request(readable, &writable, room, &mut served) {
            Ok(filled) => (Status::Ok, filled),
            Err(status) => (status, 0),
        };
        let told = status_at.is_some_and(|at| self.put(at, status as u8));
        let all = filled + u64::from(filled == room && told);
        served.used_bytes = u32::try_from(all).unwrap_or(u32::MAX);
        served
    }

    fn put(&mut self, at: u64, byte: u8) -> bool {
        let place = usize::try_from(at).ok().filter(|_| is_there(at));
        let place = place.and_then(|at| self.memory.get_mut(at));
        place.map(|place| *place = byte).is_some()
    }

    /// How many bytes of the writable ones were filled.
    fn request(
        &mut self,
        readable: Vec<(u64, u32)>,
        writable: &[(u64, u32)],
        room: u64,
        served: &mut Served,
    ) -> Result<u64, Status> {
        let (head, body) = split(readable, 16);
        let head = self.gather(&head, &mut served.reads).filter(|head| head.len() == 16);
        let head = head.ok_or(Status::IoError)?;
        let (kind, sector) = (number(&head[..4]), number(&head[8..]));
        let has = |feature| self.terms.features & feature != 0;
        let fua = !self.terms.writeback || !has(FLUSH);
        match kind {
            0 => {
                let start = self.range(sector, room)?;
                self.all_there(writable)?;
                self.image(IoType::Read, false, served)?;
                self.fill(start, writable);
                Ok(room)
            }
            1 => {
                let bytes = body.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
                self.may_write()?;
                let start = self.range(sector, bytes)?;
                // What lies before bytes that are not there may be looked up, too.
                let data = self.gather(&body, &mut served.reads).ok_or(Status::IoError)?;
                self.image(IoType::Write, fua, served)?;
                self.store(start, &data);
                Ok(0)
            }
            4 | 5 => self.image(IoType::Flush, false, served).map(|()| 0),
            8 => {
                let filled = self.get_id(writable, room)?;
                // It was done already, and passes the image as what nobody fails here.
                served.asked = Some((IoType::GetId, false));
                Ok(filled)
            }
            11 if has(DISCARD) => self.erase(body, IoType::Discard, false, served),
            13 if has(WRITE_ZEROES) => self.erase(body, IoType::WriteZeroes, fua, served),
            _ => Err(Status::Unsupported),
        }
    }

    fn erase(
        &mut self,
        body: Vec<(u64, u32)>,
        iotype: IoType,
        fua: bool,
        served: &mut Served,
    ) -> Result<u64, Status> {
        let bytes: u64 = body.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
        match bytes {
            16 => {}
            // Whole or broken, it is more than one segment.
            17.. => return Err(Status::Unsupported),
            _ => return Err(Status::IoError),
        }
        let raw = self.gather(&body, &mut served.reads).ok_or(Status::IoError)?;
        let (sector, sectors, flags) = (number(&raw[..8]), number(&raw[8..12]), number(&raw[12..]));
        // Unmapping is a wish of write-zeroes only.
        if flags > u64::from(iotype == IoType::WriteZeroes) {
            return Err(Status::Unsupported);
        }
        self.may_write()?;
        self.range(sector, sectors * 512)?;
        if sectors > 0x40_0000 {
            return Err(Status::IoError);
        }
        self.image(iotype, fua, served)?;
        self.content.retain(|at, _| !(sector..sector + sectors).contains(at));
        Ok(0)
    }

    /// The serial goes to the first bytes; nothing is written behind a byte that is not there.
    fn get_id(&mut self, writable: &[(u64, u32)], room: u64) -> Result<u64, Status> {
        let room = room.min(20);
        let serial = self.terms.serial;
        let places = writable
            .iter()
            .flat_map(|(at, bytes)| (0..u64::from(*bytes)).map(|offset| at.checked_add(offset)));
        for (place, byte) in places.take(usize::try_from(room).unwrap_or(20)).zip(serial) {
            if !place.is_some_and(|at| self.put(at, byte)) {
                return Err(Status::IoError);
            }
        }
        Ok(room)
    }

    fn may_write(&self) -> Result<(), Status> {
        if self.terms.read_only { Err(Status::IoError) } else { Ok(()) }
    }

    fn range(&self, sector: u64, bytes: u64) -> Result<u64, Status> {
        let (start, block) = (u128::from(sector) * 512, u128::from(self.terms.block_bytes));
        let (bytes, capacity) = (u128::from(bytes), u128::from(self.terms.capacity_bytes));
        let whole = start % block == 0 && bytes % block == 0;
        if !whole || start + bytes > capacity - capacity % block {
            return Err(Status::IoError);
        }
        Ok(sector)
    }

    fn all_there(&self, pieces: &[(u64, u32)]) -> Result<(), Status> {
        for (at, bytes) in pieces {
            let end = at.checked_add((*bytes).into()).ok_or(Status::IoError)?;
            let there: usize = crate::guest::present(*at..end).map(|(_, bytes)| bytes).sum();
            if there as u64 != u64::from(*bytes) {
                return Err(Status::IoError);
            }
        }
        Ok(())
    }

    fn gather(&self, pieces: &[(u64, u32)], reads: &mut Reads) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        for (at, bytes) in pieces {
            all.extend(read(self.memory, *at, (*bytes).into(), reads)?);
        }
        Some(all)
    }

    fn image(&self, iotype: IoType, fua: bool, served: &mut Served) -> Result<(), Status> {
        served.asked = Some((iotype, fua));
        if !self.terms.fails[iotype as usize] {
            return Ok(());
        }
        Err(if self.terms.unsupported { Status::Unsupported } else { Status::IoError })
    }

    fn fill(&mut self, sector: u64, writable: &[(u64, u32)]) {
        let places = writable.iter().flat_map(|(at, bytes)| *at..at + u64::from(*bytes));
        let mut content = [0; 512];
        for (offset, place) in (0_u64..).zip(places) {
            let within = usize::try_from(offset % 512).unwrap_or(0);
            if within == 0 {
                content = *self.content.get(&(sector + offset / 512)).unwrap_or(&[0; 512]);
            }
            self.put(place, content[within]);
        }
    }

    fn store(&mut self, sector: u64, data: &[u8]) {
        for (sector, bytes) in (sector..).zip(data.chunks(512)) {
            self.content.entry(sector).or_insert([0; 512])[..bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// The first `bytes` bytes of pieces, and the others.
fn split(pieces: Vec<(u64, u32)>, bytes: u32) -> Pieces {
    let (mut head, mut body, mut missing) = (Vec::new(), Vec::new(), bytes);
    for (at, bytes) in pieces {
        let now = bytes.min(missing);
        missing -= now;
        if now > 0 {
            head.push((at, now));
        }
        if bytes > now {
            body.push((at.wrapping_add(now.into()), bytes - now));
        }
    }
    (head, body)
}
