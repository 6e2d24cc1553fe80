//! Pieces of memory and parts of them.

use super::*;

const LENGTHS: [usize; 4] = [3, 0, 5000, 97];

fn filled() -> (OwnedMemory, Vec<u8>) {
    let bytes: usize = LENGTHS.iter().sum();
    let mut content = (0..=250).collect::<Vec<u8>>().repeat(bytes / 251 + 1);
    content.truncate(bytes);
    let memory = OwnedMemory::new(content.len(), 13);
    memory.write(&content);
    (memory, content)
}

#[test]
fn any_part_is_read_however_the_memory_is_cut() {
    let (memory, content) = filled();
    let buffers = memory.pieces(&LENGTHS);
    for (start, bytes) in [(0, 5100), (2, 2), (3, 5000), (5002, 98), (5100, 0)] {
        let mut part = vec![0; bytes];
        assert!(buffers.read_at(start as u64, &mut part));
        assert_eq!(part, content[start..start + bytes]);
    }
    let mut part = [7; 2];
    assert!(!buffers.read_at(5099, &mut part) && !buffers.read_at(u64::MAX, &mut part));
    assert_eq!(part, [7; 2]);
}

#[test]
fn memory_that_is_shared_stays_mapped_without_its_first_owner() {
    let (memory, content) = filled();
    let buffers = memory.pieces(&LENGTHS);
    let shared = buffers.share();
    drop((memory, buffers));
    // Buffers go from thread to thread.
    let read = std::thread::spawn(move || {
        let mut all = vec![0; 5100];
        assert!(shared.read_at(0, &mut all));
        all
    });
    assert_eq!(read.join().unwrap(), content);
}

#[test]
fn zeroes_fill_the_pieces_and_nothing_beside_them() {
    let (memory, content) = filled();
    memory.pieces(&LENGTHS[..3]).fill_zero();
    assert_eq!(memory.read(), [&[0; 5003], &content[5003..]].concat());
}
