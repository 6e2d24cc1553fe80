//! What the device says about itself: feature bits and the configuration space.
//!
//! Knows: virtio 1.3 section 5.2.3 (feature bits), 5.2.4 (configuration layout). Must not know:
//! sockets or rings. Invariants: a feature is offered only where the node really did it when the disk
//! was made; every limit on discard and write-zeroes is one that the request layer enforces.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_GEOMETRY, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::disk::Disk;

/// Largest data segment in bytes (`size_max`) that drivers should make; larger ones are served.
pub(super) const SEGMENT_BYTES_MAX: u32 = 0x10_0000;
/// Most data segments (`seg_max`) that drivers should make: what fits a queue of 128, QEMU's
/// default, with header and status. More are served.
pub(super) const SEGMENTS_MAX: u32 = 126;
/// Most sectors in one discard or write-zeroes segment: 2 GiB, in 512-byte sectors.
pub(super) const DISCARD_SECTORS_MAX: u32 = 0x40_0000;
/// Segments in one discard or write-zeroes request.
pub(super) const DISCARD_SEGMENTS_MAX: u32 = 1;

/// Bytes of `struct virtio_blk_config` up to and including the secure erase fields.
pub(super) const CONFIG_BYTES: usize = 72;
/// Offset of the `writeback` byte, the only one that a driver may write.
pub(super) const WRITEBACK_OFFSET: usize = 32;

/// The device feature bits.
pub(super) fn features(disk: &Disk) -> u64 {
    let geometry = disk.offered();
    let mut features = bits(&[
        VIRTIO_BLK_F_SIZE_MAX,
        VIRTIO_BLK_F_SEG_MAX,
        VIRTIO_BLK_F_GEOMETRY,
        VIRTIO_BLK_F_BLK_SIZE,
        VIRTIO_BLK_F_TOPOLOGY,
        VIRTIO_BLK_F_FLUSH,
        VIRTIO_BLK_F_CONFIG_WCE,
        VIRTIO_BLK_F_MQ,
        VIRTIO_F_VERSION_1,
        VIRTIO_RING_F_INDIRECT_DESC,
        VIRTIO_RING_F_EVENT_IDX,
    ]);
    if geometry.read_only {
        features |= bits(&[VIRTIO_BLK_F_RO]);
    } else {
        features |= bits(&[VIRTIO_BLK_F_WRITE_ZEROES]);
    }
    if geometry.can_discard {
        features |= bits(&[VIRTIO_BLK_F_DISCARD]);
    }
    features
}

/// Whether a set of feature bits has this one.
pub(super) fn has(features: u64, bit: u32) -> bool {
    features & (1 << bit) != 0
}

fn bits(numbers: &[u32]) -> u64 {
    numbers.iter().fold(0, |bits, number| bits | 1 << number)
}

/// The configuration space (virtio 1.3 section 5.2.4), little-endian.
pub(super) fn config_space(disk: &Disk, writeback: bool) -> [u8; CONFIG_BYTES] {
    let geometry = disk.offered();
    let capacity = disk.capacity_sectors();
    let block_bytes = disk.options.logical_block_bytes;
    let block_sectors = block_bytes / 512;
    let physical_bytes = geometry.physical_block_bytes.max(block_bytes);
    let chs = Chs::of(capacity);
    let discard_sectors = if geometry.can_discard { DISCARD_SECTORS_MAX } else { 0 };
    let discard_segments = if geometry.can_discard { DISCARD_SEGMENTS_MAX } else { 0 };

    let mut space = Space::default();
    space.u64(capacity);
    space.u32(SEGMENT_BYTES_MAX);
    space.u32(SEGMENTS_MAX);
    space.u16(chs.cylinders);
    space.u8(chs.heads);
    space.u8(chs.sectors);
    space.u32(block_bytes);
    space.u8(u8::try_from((physical_bytes / block_bytes).ilog2()).unwrap_or(0));
    space.u8(0); // alignment_offset
    space.u16(1); // min_io_size, in logical blocks
    space.u32(0); // opt_io_size: none preferred
    space.u8(u8::from(writeback));
    space.u8(0); // unused
    space.u16(disk.options.num_queues);
    space.u32(discard_sectors);
    space.u32(discard_segments);
    space.u32(block_sectors.max(geometry.request_alignment / 512).max(1)); // discard_sector_alignment
    let (zeroes_sectors, zeroes_segments) =
        if geometry.read_only { (0, 0) } else { (DISCARD_SECTORS_MAX, DISCARD_SEGMENTS_MAX) };
    space.u32(zeroes_sectors);
    space.u32(zeroes_segments);
    space.u8(u8::from(geometry.can_unmap_zeroes));
    space.bytes
}

/// The bytes of the space that a front end asks for, padded with zeroes.
///
/// cloud-hypervisor up to v46 counts from 0x100, as in virtio-mmio's register map.
pub(super) fn read_config(space: &[u8; CONFIG_BYTES], offset: u32, size: u32) -> Vec<u8> {
    const MMIO_CONFIG_OFFSET: usize = 0x100;
    let offset = offset as usize;
    let offset = offset.checked_sub(MMIO_CONFIG_OFFSET).unwrap_or(offset);
    (offset..offset + size as usize).map(|at| space.get(at).copied().unwrap_or(0)).collect()
}

#[derive(Debug)]
struct Space {
    bytes: [u8; CONFIG_BYTES],
    at: usize,
}

impl Default for Space {
    fn default() -> Self {
        Self { bytes: [0; CONFIG_BYTES], at: 0 }
    }
}

impl Space {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
}

/// Cylinders, heads and sectors, as QEMU guesses them for a disk without a partition table.
#[derive(Debug, PartialEq, Eq)]
struct Chs {
    cylinders: u16,
    heads: u8,
    sectors: u8,
}

impl Chs {
    /// `guess_chs_for_size` in QEMU's hw/block/hd-geometry.c.
    fn of(capacity_sectors: u64) -> Self {
        const HEADS: u8 = 16;
        const SECTORS: u8 = 63;
        let cylinders = capacity_sectors / (u64::from(HEADS) * u64::from(SECTORS));
        let cylinders = u16::try_from(cylinders.clamp(2, 16383)).unwrap_or(16383);
        Self { cylinders, heads: HEADS, sectors: SECTORS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_geometry_is_what_qemu_guesses() {
        assert_eq!(Chs::of(0).cylinders, 2);
        assert_eq!(Chs::of(2 * 1024 * 1024).cylinders, 2080);
        assert_eq!(Chs::of(u64::MAX), Chs { cylinders: 16383, heads: 16, sectors: 63 });
    }

    #[test]
    fn reads_past_the_space_are_zeroes_and_both_origins_are_known() {
        let mut space = [0; CONFIG_BYTES];
        space[..8].copy_from_slice(&7u64.to_le_bytes());
        assert_eq!(read_config(&space, 0, 8), 7u64.to_le_bytes());
        assert_eq!(read_config(&space, 0x100, 8), 7u64.to_le_bytes());
        assert_eq!(read_config(&space, 60, 256), vec![0; 256]);
    }
}
