//! From a head to the pieces of guest memory that its descriptor chain names.
//!
//! Knows: descriptor tables, direct and indirect (virtio 1.3 section 2.7.5). Must not know: what
//! the bytes mean. Invariants: each descriptor is read exactly once; a malformed chain is an
//! error, never a shorter chain; the walk is bounded whatever the guest writes.

use smallvec::SmallVec;
use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};

use super::memory::GuestMemory;
use super::touch;

/// Bytes of one descriptor.
const DESCRIPTOR_BYTES: u32 = 16;
/// The most descriptors that an indirect table may have: QEMU's `VIRTQUEUE_MAX_SIZE`. Windows
/// drivers exceed the queue size there, which virtio forbids them and QEMU takes.
pub(super) const INDIRECT_MAX: u32 = 1024;
const NEXT: u16 = flag(VRING_DESC_F_NEXT);
const WRITE: u16 = flag(VRING_DESC_F_WRITE);
const INDIRECT: u16 = flag(VRING_DESC_F_INDIRECT);

#[allow(clippy::cast_possible_truncation)] // checked, at compile time
const fn flag(bits: u32) -> u16 {
    assert!(bits <= u16::MAX as u32);
    bits as u16
}

/// A piece of guest memory, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) addr: u64,
    pub(super) bytes: u32,
}

/// Pieces in order. So many take no memory of the allocator's: header, status and a little data.
pub(super) type PieceList = SmallVec<[Piece; 4]>;

/// What a well-formed chain names: first what the device may read, then what it may write.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) readable: PieceList,
    pub(super) writable: PieceList,
}

/// Why a chain is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadChain {
    #[error("descriptor index {0} is past the end of its table")]
    Index(u16),
    #[error("the chain is longer than its table: it loops")]
    Loop,
    #[error("a descriptor table is outside the guest's memory")]
    Unreadable,
    #[error("an indirect table of {0} bytes")]
    IndirectSize(u32),
    #[error("an indirect descriptor that the driver may not use here")]
    IndirectMisplaced,
    #[error("a readable descriptor behind a writable one")]
    Direction,
    #[error("more than 4 GiB in one chain")]
    TooLong,
}

/// A descriptor table: where it is and how many descriptors it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    pub(super) addr: u64,
    pub(super) size: u16,
}

#[derive(Debug, Clone, Copy)]
struct Descriptor {
    addr: u64,
    bytes: u32,
    flags: u16,
    next: u16,
}

impl Table {
    fn read(&self, memory: &GuestMemory, index: u16) -> Result<Descriptor, BadChain> {
        if index >= self.size {
            return Err(BadChain::Index(index));
        }
        let addr = self.addr.checked_add(u64::from(index) * u64::from(DESCRIPTOR_BYTES));
        let addr = addr.ok_or(BadChain::Unreadable)?;
        let raw = touch::read::<u128>(memory, addr).ok_or(BadChain::Unreadable)?;
        let raw = u128::from_le(raw);
        #[allow(clippy::cast_possible_truncation)] // the fields of struct virtq_desc
        Ok(Descriptor {
            addr: raw as u64,
            bytes: (raw >> 64) as u32,
            flags: (raw >> 96) as u16,
            next: (raw >> 112) as u16,
        })
    }
}

/// Walk the chain that starts at `head`.
pub(super) fn walk(
    memory: &GuestMemory,
    table: Table,
    head: u16,
    indirect_allowed: bool,
) -> Result<Chain, BadChain> {
    let mut walk = Walk { chain: Chain::default(), bytes: 0 };
    let mut index = head;
    for _ in 0..table.size {
        let descriptor = table.read(memory, index)?;
        if descriptor.flags & INDIRECT != 0 {
            if !indirect_allowed || descriptor.flags & NEXT != 0 {
                return Err(BadChain::IndirectMisplaced);
            }
            walk.indirect(memory, descriptor)?;
            return Ok(walk.chain);
        }
        walk.add(descriptor)?;
        if descriptor.flags & NEXT == 0 {
            return Ok(walk.chain);
        }
        index = descriptor.next;
    }
    Err(BadChain::Loop)
}

struct Walk {
    chain: Chain,
    bytes: u64,
}

impl Walk {
    /// The descriptors of an indirect table; its own WRITE flag means nothing (2.7.5.3.2).
    fn indirect(&mut self, memory: &GuestMemory, outer: Descriptor) -> Result<(), BadChain> {
        let bad_size = BadChain::IndirectSize(outer.bytes);
        let entries = outer.bytes / DESCRIPTOR_BYTES;
        let whole = outer.bytes.is_multiple_of(DESCRIPTOR_BYTES);
        if entries == 0 || entries > INDIRECT_MAX || !whole {
            return Err(bad_size);
        }
        let table = Table { addr: outer.addr, size: u16::try_from(entries).map_err(|_| bad_size)? };
        let mut index = 0;
        for _ in 0..table.size {
            let descriptor = table.read(memory, index)?;
            if descriptor.flags & INDIRECT != 0 {
                return Err(BadChain::IndirectMisplaced);
            }
            self.add(descriptor)?;
            if descriptor.flags & NEXT == 0 {
                return Ok(());
            }
            index = descriptor.next;
        }
        Err(BadChain::Loop)
    }

    fn add(&mut self, descriptor: Descriptor) -> Result<(), BadChain> {
        self.bytes += u64::from(descriptor.bytes);
        if self.bytes > u64::from(u32::MAX) {
            return Err(BadChain::TooLong);
        }
        let writable = descriptor.flags & WRITE != 0;
        if !writable && !self.chain.writable.is_empty() {
            return Err(BadChain::Direction);
        }
        if descriptor.bytes == 0 {
            return Ok(());
        }
        let piece = Piece { addr: descriptor.addr, bytes: descriptor.bytes };
        if writable { &mut self.chain.writable } else { &mut self.chain.readable }.push(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

    const MEMORY_BYTES: usize = 0x10000;

    fn memory() -> GuestMemory {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap()
    }

    fn put(memory: &GuestMemory, table: u64, index: u64, d: (u64, u32, u16, u16)) {
        let (addr, bytes, flags, next) = d;
        let raw = u128::from(addr)
            | u128::from(bytes) << 64
            | u128::from(flags) << 96
            | u128::from(next) << 112;
        memory.write_obj(raw.to_le_bytes(), GuestAddress(table + index * 16)).unwrap();
    }

    fn walk_of(descriptors: &[(u64, u32, u16, u16)]) -> Result<Chain, BadChain> {
        let memory = memory();
        for (index, descriptor) in (0..).zip(descriptors) {
            put(&memory, 0, index, *descriptor);
        }
        walk(&memory, Table { addr: 0, size: 8 }, 0, true)
    }

    #[test]
    fn pieces_come_in_order_and_empty_ones_are_left_out() {
        let chain = walk_of(&[
            (0x1000, 16, NEXT, 3),
            (0, 0, 0, 0),
            (0x3000, 1, WRITE, 0),
            (0x9000, 0, NEXT, 4),
            (0x2000, 512, NEXT | WRITE, 2),
        ]);
        let piece = |addr, bytes| Piece { addr, bytes };
        let expected = Chain {
            readable: smallvec::smallvec![piece(0x1000, 16)],
            writable: smallvec::smallvec![piece(0x2000, 512), piece(0x3000, 1)],
        };
        assert_eq!(chain, Ok(expected));
    }

    #[test]
    fn each_malformation_has_its_name() {
        assert_eq!(walk_of(&[(0, 1, NEXT, 0)]), Err(BadChain::Loop));
        assert_eq!(walk_of(&[(0, 1, NEXT, 8)]), Err(BadChain::Index(8)));
        assert_eq!(walk_of(&[(0, 1, WRITE | NEXT, 1), (0, 1, 0, 0)]), Err(BadChain::Direction));
        let huge = (0, u32::MAX, NEXT, 1);
        assert_eq!(walk_of(&[huge, (0, 1, 0, 0)]), Err(BadChain::TooLong));
        assert_eq!(walk_of(&[(0, 8, INDIRECT, 0)]), Err(BadChain::IndirectSize(8)));
        assert_eq!(walk_of(&[(0, 0, INDIRECT, 0)]), Err(BadChain::IndirectSize(0)));
        let indirect_next = (64, 16, INDIRECT | NEXT, 1);
        assert_eq!(walk_of(&[indirect_next, (0, 1, 0, 0)]), Err(BadChain::IndirectMisplaced));
        assert_eq!(walk_of(&[(u64::MAX - 64, 16, INDIRECT, 0)]), Err(BadChain::Unreadable));
        let nested = [(16, 16, INDIRECT, 0), (32, 16, INDIRECT, 0)];
        assert_eq!(walk_of(&nested), Err(BadChain::IndirectMisplaced));
    }

    #[test]
    fn a_direct_part_may_end_in_an_indirect_one_whose_write_flag_is_ignored() {
        let chain = walk_of(&[
            (0x1000, 16, NEXT, 1),
            (32, 32, INDIRECT | WRITE, 0),
            (0x2000, 512, NEXT, 1),
            (0x3000, 1, WRITE, 0),
        ])
        .unwrap();
        assert_eq!((chain.readable.len(), chain.writable.len()), (2, 1));
    }

    #[test]
    fn an_indirect_table_needs_the_feature() {
        let memory = memory();
        put(&memory, 0, 0, (32, 16, INDIRECT, 0));
        let bad = walk(&memory, Table { addr: 0, size: 8 }, 0, false);
        assert_eq!(bad, Err(BadChain::IndirectMisplaced));
    }
}
