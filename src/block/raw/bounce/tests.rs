//! Requests through aligned memory, to a disk that is a piece of memory and takes whole blocks.

use super::*;
use crate::block::OwnedMemory;

const BLOCK: usize = 4096;
const DISK: usize = 5 * BLOCK;
/// The parts of blocks that a request may cover: none, an end, a beginning, a middle, several.
const RANGES: [Range<usize>; 5] =
    [0..BLOCK, 10..BLOCK, BLOCK..BLOCK + 1, 3..5, BLOCK - 1..3 * BLOCK + 1];

fn disk() -> Vec<u8> {
    let mut content = (1..=250).collect::<Vec<u8>>().repeat(DISK / 250 + 1);
    content.truncate(DISK);
    content
}

/// Do a request, one block at a time.
fn run(memory: Memory, direction: Direction, range: &Range<usize>, disk: &mut [u8]) {
    let budget = Arc::new(Budget::new(WINDOW_BYTES_MAX));
    let range = range.start as u64..range.end as u64;
    let mut pending = Pending::new(memory, direction, range, 4096);
    assert!(pending.may_begin(&budget, None));
    let mut bounced = pending.begin().unwrap();
    loop {
        let (direction, piece, offset_bytes) = bounced.call();
        // Under Miri `vm-memory` has its memory from Rust's allocator, which aligns it to less.
        assert!(cfg!(miri) || piece.iov_base.addr().is_multiple_of(BLOCK));
        assert!(piece.iov_len.is_multiple_of(BLOCK));
        // SAFETY: the request keeps its region mapped.
        let memory = unsafe { VolatileSlice::new(piece.iov_base.cast(), BLOCK) };
        let start = usize::try_from(offset_bytes).unwrap();
        match direction {
            Direction::Read => memory.copy_from(&disk[start..start + BLOCK]),
            Direction::Write => {
                memory.copy_to(&mut disk[start..start + BLOCK]);
            }
        }
        match bounced.after(Ok(4096)) {
            Progress::More => {}
            Progress::Finished => break,
            Progress::Failed(errno) => panic!("{errno}"),
        }
    }
    drop(bounced);
    assert_eq!(budget.taken_bytes(), 0, "what was taken is given back");
}

#[test]
fn a_read_has_the_bytes_that_it_asked_for() {
    for range in RANGES {
        let memory = OwnedMemory::new(range.len(), 1);
        let guest = Memory::Guest(memory.pieces(&[1, range.len() - 1]));
        run(guest, Direction::Read, &range, &mut disk());
        assert_eq!(memory.read(), disk()[range]);
    }
}

#[test]
fn a_write_leaves_its_neighbours_in_the_block_as_they_are() {
    for range in RANGES {
        let content = vec![0xee; range.len()];
        let memory = OwnedMemory::new(range.len(), 1);
        memory.write(&content);
        let guest = Memory::Guest(memory.pieces(&[1, range.len() - 1]));
        let (mut after, mut expected) = (disk(), disk());
        run(guest, Direction::Write, &range, &mut after);
        expected[range].copy_from_slice(&content);
        assert!(after == expected);
    }
}

#[test]
fn zeroes_need_no_memory_of_the_guests() {
    for range in RANGES {
        let (mut after, mut expected) = (disk(), disk());
        run(Memory::Zeroes, Direction::Write, &range, &mut after);
        expected[range].fill(0);
        assert!(after == expected);
    }
}
