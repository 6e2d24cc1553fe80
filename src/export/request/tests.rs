//! Requests over memory of two regions, so that pieces are cut where these meet.

use vm_memory::VolatileMemory as _;

use super::*;
use crate::block::MemoryImage;
use crate::export::disk::example;

const BORDER: u64 = 0x3000;
const HEADER: u64 = 0x100;
const STATUS: u64 = 0x5000;

fn disk() -> Disk {
    example::disk(Arc::new(MemoryImage::new(1 << 20)))
}

fn memory() -> Arc<GuestMemory> {
    let regions = [(GuestAddress(0), 0x3000), (GuestAddress(BORDER), 0x3000)];
    let memory = GuestMemory::from_ranges(&regions).unwrap();
    memory.write_obj(0xffu8, GuestAddress(STATUS)).unwrap();
    Arc::new(memory)
}

fn pieces(pieces: &[(u64, u32)]) -> PieceList {
    pieces.iter().map(|&(addr, bytes)| Piece { addr, bytes }).collect()
}

/// A request for sector 1 in these pieces; the first begins with the header.
fn parsed(
    memory: &Arc<GuestMemory>,
    kind: u32,
    readable: &[(u64, u32)],
    writable: &[(u64, u32)],
) -> Parsed {
    let header = u128::from(kind) | 1 << 64;
    memory.write_slice(&header.to_le_bytes(), GuestAddress(HEADER)).unwrap();
    let chain = Chain { readable: pieces(readable), writable: pieces(writable) };
    let features = 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_FLUSH;
    parse(&disk(), Terms::of(features, true, true), memory, 3, chain, Instant::now())
}

fn content(bytes: usize) -> Vec<u8> {
    (0..=250).cycle().take(bytes).collect()
}

fn guest_has(memory: &GuestMemory, addr: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    memory.read_slice(&mut content, GuestAddress(addr)).unwrap();
    content
}

fn status(memory: &GuestMemory) -> u32 {
    u32::from(memory.read_obj::<u8>(GuestAddress(STATUS)).unwrap())
}

#[test]
fn a_read_fills_its_pieces_and_no_byte_beside_them() {
    let memory = memory();
    let writable = [(BORDER - 100, 512), (0x4001, 512), (STATUS, 1)];
    let parsed = parsed(&memory, VIRTIO_BLK_T_IN, &[(HEADER, 16)], &writable);
    let Parsed::Submit(request, OpKind::Read { offset_bytes: 512, into }) = parsed else {
        panic!("{parsed:?}")
    };
    let lengths: Vec<usize> = into.iovecs().iter().map(|iovec| iovec.iov_len).collect();
    assert_eq!(lengths, [100, 412, 512], "cut where the regions meet");
    let content = content(1024);
    let mut rest = &content[..];
    for slice in into.slices() {
        let (now, later) = rest.split_at(slice.len());
        slice.copy_from(now);
        rest = later;
    }
    assert_eq!(request.finish(Outcome::Done), Used { head: 3, bytes: 1025 });
    assert_eq!(status(&memory), VIRTIO_BLK_S_OK);
    let beside = |content: &[u8]| [&[0], content, &[0]].concat();
    assert_eq!(guest_has(&memory, BORDER - 101, 514), beside(&content[..512]));
    assert_eq!(guest_has(&memory, 0x4000, 514), beside(&content[512..]));
}

#[test]
fn a_write_has_what_lies_behind_its_header_however_that_is_cut() {
    let memory = memory();
    let content = content(512);
    memory.write_slice(&content[..200], GuestAddress(HEADER + 16)).unwrap();
    memory.write_slice(&content[200..], GuestAddress(BORDER - 12)).unwrap();
    let readable = [(HEADER, 9), (HEADER + 9, 207), (BORDER - 12, 312)];
    let parsed = parsed(&memory, VIRTIO_BLK_T_OUT, &readable, &[(STATUS, 1)]);
    let Parsed::Submit(request, OpKind::Write { offset_bytes: 512, from, .. }) = parsed else {
        panic!("{parsed:?}")
    };
    let mut had = vec![0; 512];
    assert!(from.read_at(0, &mut had));
    assert_eq!(had, content);
    assert_eq!(request.finish(Outcome::Failed(Errno::EIO)), Used { head: 3, bytes: 1 });
    assert_eq!(status(&memory), VIRTIO_BLK_S_IOERR);
}

#[test]
fn memory_that_an_op_has_stays_mapped_when_nobody_else_has_it() {
    let memory = memory();
    let writable = [(BORDER - 100, 512), (STATUS, 1)];
    let parsed = parsed(&memory, VIRTIO_BLK_T_IN, &[(HEADER, 16)], &writable);
    let Parsed::Submit(request, OpKind::Read { into, .. }) = parsed else { panic!("{parsed:?}") };
    assert_eq!(request.finish(Outcome::Failed(Errno::EIO)).bytes, 0);
    drop(memory);
    into.fill_zero();
    assert!(into.slices().all(|slice| slice.get_slice(0, 1).is_ok()));
}

#[test]
fn a_serial_is_written_into_pieces() {
    let memory = memory();
    let writable = [(0x1000, 5), (BORDER - 3, 15), (STATUS, 1)];
    let parsed = parsed(&memory, VIRTIO_BLK_T_GET_ID, &[(HEADER, 16)], &writable);
    let Parsed::Answer(request, Outcome::Done) = parsed else { panic!("{parsed:?}") };
    assert_eq!(request.finish(Outcome::Done), Used { head: 3, bytes: 21 });
    assert_eq!(guest_has(&memory, 0x1000, 6), b"SERIA\0");
    assert_eq!(guest_has(&memory, BORDER - 3, 15), b"L\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn a_segment_is_read_across_pieces() {
    let memory = memory();
    let segment = 8u128 | 16 << 64;
    memory.write_slice(&segment.to_le_bytes(), GuestAddress(BORDER - 8)).unwrap();
    let readable = [(HEADER, 16), (BORDER - 8, 3), (BORDER - 5, 13)];
    let parsed = parsed(&memory, VIRTIO_BLK_T_DISCARD, &readable, &[(STATUS, 1)]);
    let Parsed::Submit(request, OpKind::Discard { offset_bytes, bytes }) = parsed else {
        panic!("{parsed:?}")
    };
    assert_eq!((offset_bytes, bytes), (8 * 512, 16 * 512));
    assert_eq!(request.finish(Outcome::Done).bytes, 1);
}

#[test]
fn pieces_outside_the_guests_memory_make_no_buffers() {
    let memory = memory();
    for addr in [0x6000 - 511, 0x6000, u64::MAX - 10] {
        let writable = [(addr, 512), (STATUS, 1)];
        let parsed = parsed(&memory, VIRTIO_BLK_T_IN, &[(HEADER, 16)], &writable);
        let Parsed::Answer(request, Outcome::Invalid) = parsed else { panic!("{parsed:?}") };
        assert_eq!(request.finish(Outcome::Invalid), Used { head: 3, bytes: 0 });
        assert_eq!(status(&memory), VIRTIO_BLK_S_IOERR);
    }
}
