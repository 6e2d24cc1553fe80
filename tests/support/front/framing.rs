//! A request cut into descriptors in any way, with a watch on all memory around it.
//!
//! Knows: bytes that go out, room for bytes that come back, and where to cut them. Must not know:
//! what the bytes mean. Invariant: pieces lie apart with watched bytes between them, so that a
//! device that writes where it may not is seen when the answer is [gathered](Queue::gather).

use super::ring::{Desc, Head, NEXT, Queue};

/// Value of the bytes around the pieces.
const WATCHED: u8 = 0xa5;
/// Value of writable bytes before the device writes them.
const BLANK: u8 = super::request::UNWRITTEN;
/// Watched bytes between two pieces.
const GAP_BYTES: u64 = 48;

/// Where the descriptors lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// All in the queue's own table.
    Direct,
    /// All in an indirect table.
    Indirect,
    /// This many in the queue's own table, the others in an indirect one behind them.
    Tail(usize),
}

/// How to cut a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut<'a> {
    /// Lengths of the first readable descriptors; one more takes the rest, if any.
    pub readable: &'a [u32],
    /// Lengths of the first writable descriptors; one more takes the rest, if any.
    pub writable: &'a [u32],
    /// Where the descriptors lie.
    pub tables: Tables,
}

impl Cut<'_> {
    /// One descriptor for all that is readable, one for all that is writable.
    pub const NONE: Self = Cut { readable: &[], writable: &[], tables: Tables::Direct };
}

/// A request on its way.
#[derive(Debug)]
pub struct Framed {
    /// Its head.
    pub head: Head,
    area: u64,
    before: Vec<u8>,
    /// Offset in the area and length of each writable piece.
    writable: Vec<(usize, usize)>,
}

fn lengths(cut: &[u32], total: u32) -> Vec<u32> {
    let mut left = total;
    let mut all: Vec<u32> = Vec::new();
    for length in cut {
        let here = (*length).min(left);
        // A cut behind the end is none; an empty descriptor is made only where it is asked for.
        if here > 0 || *length == 0 {
            all.push(here);
        }
        left -= here;
    }
    if left > 0 {
        all.push(left);
    }
    all
}

impl Queue {
    /// Offer a request of these readable bytes and this much room, cut as told. No kick.
    pub fn submit_cut(&mut self, readable: &[u8], writable_bytes: u32, cut: Cut<'_>) -> Framed {
        let out = lengths(cut.readable, readable.len() as u32);
        let back = lengths(cut.writable, writable_bytes);
        let count = out.len() + back.len();
        let table_bytes = (count * 16) as u64;
        let data_bytes = readable.len() as u64 + u64::from(writable_bytes);
        let area_bytes = table_bytes + data_bytes + GAP_BYTES * (count as u64 + 2);
        let area = self.memory.allocate(area_bytes, 16);
        let mut before = vec![WATCHED; area_bytes as usize];

        let mut at = table_bytes as usize + GAP_BYTES as usize;
        let mut descs = Vec::with_capacity(count);
        let mut rest = readable;
        for length in out {
            let (now, later) = rest.split_at(length as usize);
            before[at..at + now.len()].copy_from_slice(now);
            descs.push(Desc::readable(area + at as u64, length));
            (rest, at) = (later, at + now.len() + GAP_BYTES as usize);
        }
        let mut writable = Vec::new();
        for length in back {
            before[at..at + length as usize].fill(BLANK);
            descs.push(Desc::writable(area + at as u64, length));
            writable.push((at, length as usize));
            at += length as usize + GAP_BYTES as usize;
        }
        let direct = match cut.tables {
            Tables::Direct => descs.len(),
            Tables::Indirect => 0,
            Tables::Tail(direct) => direct.min(descs.len() - 1),
        };
        let mut indirect = descs.split_off(direct);
        if !indirect.is_empty() {
            descs.push(Desc::indirect(area, indirect.len()));
            let last = indirect.len() - 1;
            for (index, desc) in indirect.iter_mut().enumerate() {
                if index < last {
                    (desc.flags, desc.next) = (desc.flags | NEXT, index as u16 + 1);
                }
                before[index * 16..][..16].copy_from_slice(&desc.to_bytes());
            }
        }
        self.memory.write(area, &before);
        let head = self.submit_chain(&descs);
        Framed { head, area, before, writable }
    }

    /// What is in the writable pieces now. Fails the test if any byte around them has changed.
    pub fn gather(&self, framed: &Framed) -> Vec<u8> {
        let mut now = self.memory.read(framed.area, framed.before.len());
        let mut gathered = Vec::new();
        for (at, length) in &framed.writable {
            let piece = *at..at + length;
            gathered.extend(&now[piece.clone()]);
            now[piece.clone()].copy_from_slice(&framed.before[piece]);
        }
        let changed = now.iter().zip(&framed.before).position(|(now, before)| now != before);
        assert_eq!(
            changed, None,
            "the device wrote where it may not, at this offset of {framed:?}"
        );
        gathered
    }
}
