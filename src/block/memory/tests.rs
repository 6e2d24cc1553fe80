//! Ops of a disk in memory, without a channel.

use super::*;
use crate::block::OwnedMemory;

const BORDER: usize = CHUNK_BYTES;

fn done(image: &MemoryImage, kind: &OpKind) {
    let served = image.chunks.serve(kind, 0, u64::MAX).unwrap();
    assert_eq!(served.done_bytes, None, "all of it in one go");
}

fn read(image: &MemoryImage, offset_bytes: usize, bytes: usize) -> Vec<u8> {
    let memory = OwnedMemory::new(bytes, 1);
    let into = memory.pieces(&[bytes / 3, bytes - bytes / 3]);
    done(image, &OpKind::Read { offset_bytes: offset_bytes as u64, into });
    memory.read()
}

/// A disk with this many bytes around the border of its first two chunks.
fn written(bytes: usize) -> (MemoryImage, usize, Vec<u8>) {
    let image = MemoryImage::new(4 * CHUNK_BYTES as u64);
    let mut content = (1..=250).collect::<Vec<u8>>().repeat(bytes / 250 + 1);
    content.truncate(bytes);
    let (memory, start) = (OwnedMemory::new(bytes, 3), BORDER - bytes / 2);
    memory.write(&content);
    let from = memory.pieces(&[1, bytes - 1]);
    done(&image, &OpKind::Write { offset_bytes: start as u64, from, fua: false });
    (image, start, content)
}

#[test]
fn what_was_written_across_chunks_is_read_and_nothing_beside_it() {
    let (image, start, content) = written(1000);
    assert_eq!(image.actual_size_bytes(), 2 * CHUNK_BYTES as u64);
    assert_eq!(read(&image, start - 2, 1004), [&[0; 2], &content[..], &[0; 2]].concat());
}

#[test]
fn a_range_is_zeroed_and_a_whole_chunk_of_it_is_freed() {
    let (image, start, content) = written(1000);
    let bytes = CHUNK_BYTES as u64 + 10;
    done(&image, &OpKind::Discard { offset_bytes: BORDER as u64 - 10, bytes });
    assert_eq!(image.actual_size_bytes(), CHUNK_BYTES as u64);
    assert_eq!(read(&image, start, 1000), [&content[..490], &[0; 510]].concat());
}

#[test]
fn what_lay_behind_the_end_of_a_disk_does_not_come_back() {
    let (image, start, content) = written(1000);
    image.resize(start as u64 + 9).unwrap();
    image.resize(4 * CHUNK_BYTES as u64).unwrap();
    assert_eq!(read(&image, start, 1000), [&content[..9], &[0; 991]].concat());
}
