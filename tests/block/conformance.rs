//! One body for every image: what is written is read, whoever carries it out.

use std::ops::Range;

use blkfault::block::{Node, NullImage, OpKind, OwnedMemory};
use blkfault::errno::Errno;

use crate::arms::{Arm, arms};
use crate::driver::{Driver, cut_memory, finish_all};

const DISK_BYTES: usize = 4 << 20;
const SECTOR: usize = 512;

/// A small generator, so that a failure names all it needs: the seed.
struct Dice(u64);

impl Dice {
    /// A number below `bound` (xorshift64*).
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// A range of the disk in multiples of `unit`, mostly short, sometimes megabytes.
    fn range(&mut self, unit: usize) -> Range<usize> {
        let units = DISK_BYTES / unit;
        let longest = match self.below(20) {
            0 => units * 3 / 4,
            1..6 => (256 << 10) / unit,
            _ => (16 << 10) / unit,
        };
        let length = 1 + self.below(longest);
        let start = self.below(units - length + 1);
        start * unit..(start + length) * unit
    }

    fn memory(&mut self, bytes: usize) -> (OwnedMemory, blkfault::block::Buffers) {
        let misalignment = [0, 0, 512, 8, 1][self.below(5)];
        let first = [SECTOR, 4096, bytes, 100, bytes / 1500 + 1][self.below(5)];
        cut_memory(bytes, misalignment, first)
    }
}

/// Ops one by one, against a model of every byte.
fn one_by_one(arm: &Arm, seed: u64) {
    let story = format!("{} seed {seed}", arm.name);
    let unit = arm.disk.geometry().request_alignment as usize;
    let mut dice = Dice(seed);
    let mut model = vec![0u8; DISK_BYTES];
    // Two writes of one length have different content, and none has a zero.
    let pattern: Vec<u8> = (0..DISK_BYTES + 4096).map(|i| (i ^ i >> 8) as u8 | 1).collect();
    let mut driver = Driver::new(&*arm.disk);
    for step in 0..120 {
        let range = dice.range(unit);
        let (offset_bytes, bytes) = (range.start as u64, range.len());
        let (memory, buffers) = dice.memory(bytes);
        match dice.below(12) {
            0..4 => {
                assert_eq!(driver.run(OpKind::Read { offset_bytes, into: buffers }), Ok(()));
                assert!(memory.read() == model[range], "{story}: step {step} reads otherwise");
            }
            4..8 => {
                let content = &pattern[step * 7..step * 7 + bytes];
                memory.write(content);
                let fua = dice.chance(8);
                let write = OpKind::Write { offset_bytes, from: buffers, fua };
                assert_eq!(driver.run(write), Ok(()), "{story}");
                model[range].copy_from_slice(content);
            }
            8 => assert_eq!(driver.flush(), Ok(()), "{story}"),
            9 => {
                let bytes = bytes as u64;
                let discard = OpKind::Discard { offset_bytes, bytes };
                assert_eq!(driver.run(discard), Ok(()), "{story}");
                let now = driver.read(offset_bytes, range.len()).unwrap();
                let kept =
                    now.iter().zip(&model[range.clone()]).all(|(now, was)| *now == 0 || now == was);
                assert!(kept, "{story}: a discard left neither zeroes nor what was there");
                model[range].copy_from_slice(&now);
            }
            _ => {
                let (bytes, may_unmap, fua) = (bytes as u64, dice.chance(2), dice.chance(4));
                let zero = OpKind::WriteZeroes { offset_bytes, bytes, may_unmap, fua };
                assert_eq!(driver.run(zero), Ok(()), "{story}");
                model[range].fill(0);
            }
        }
    }
    assert!(driver.read(0, DISK_BYTES).unwrap() == model, "{story}: the disk differs in the end");
}

#[test]
fn what_is_written_is_read_byte_for_byte() {
    for arm in arms(DISK_BYTES as u64) {
        for seed in 1..=2 {
            let zero = OpKind::WriteZeroes {
                offset_bytes: 0,
                bytes: DISK_BYTES as u64,
                may_unmap: true,
                fua: false,
            };
            assert_eq!(Driver::new(&*arm.disk).run(zero), Ok(()), "{}", arm.name);
            one_by_one(&arm, seed);
        }
    }
}

/// By sector, what it may hold: the stamps of the writes that may have been the last.
type Allowed = Vec<Vec<u64>>;

fn check(allowed: [&Allowed; 2], range: Range<usize>, content: &[u8], story: &str) {
    for (sector, bytes) in (range.start / SECTOR..).zip(content.chunks_exact(SECTOR)) {
        let uniform = bytes[8..] == bytes[..SECTOR - 8];
        for word in bytes.chunks_exact(8).take(if uniform { 1 } else { SECTOR / 8 }) {
            let stamp = u64::from_le_bytes(word.try_into().unwrap());
            assert!(
                allowed.iter().any(|allowed| allowed[sector].contains(&stamp)),
                "{story}: sector {sector} holds {stamp}, allowed {:?} {:?}",
                allowed[0][sector],
                allowed[1][sector]
            );
        }
    }
}

/// What a batch does to the disk, noted when it is submitted.
enum Change {
    Set(u64),
    /// It may become zero or stay.
    Maybe,
}

/// What may be where after a batch that ended well, in whatever order.
fn after(before: &Allowed, changes: &[(Range<usize>, Change)]) -> Allowed {
    let mut sets: Allowed = vec![Vec::new(); before.len()];
    let mut maybe = vec![false; before.len()];
    for (range, change) in changes {
        for sector in range.start / SECTOR..range.end / SECTOR {
            match change {
                Change::Set(stamp) => sets[sector].push(*stamp),
                Change::Maybe => maybe[sector] = true,
            }
        }
    }
    let merge = |((mut set, maybe), before): ((Vec<u64>, bool), &Vec<u64>)| {
        if set.is_empty() {
            set.clone_from(before);
        }
        if maybe {
            set.push(0);
        }
        set
    };
    sets.into_iter().zip(maybe).zip(before).map(merge).collect()
}

/// Many ops at once on two channels, overlapping as they like: nothing is assumed about their
/// order, but every sector holds what one of the last to touch it wrote.
fn side_by_side(arm: &Arm, seed: u64) {
    let story = format!("{} seed {seed}", arm.name);
    let mut dice = Dice(seed);
    let mut allowed: Allowed = vec![vec![0]; DISK_BYTES / SECTOR];
    let mut drivers = [Driver::new(&*arm.disk), Driver::new(&*arm.disk)];
    let mut stamp_next = 1u64;
    for batch in 0..8 {
        let mut submitted = Vec::new();
        let mut reads = Vec::new();
        let mut changes: Vec<(Range<usize>, Change)> = Vec::new();
        // More than a ring holds, once.
        let ops = if batch == 5 { 600 } else { 1 + dice.below(40) };
        for _ in 0..ops {
            let range = dice.range(SECTOR);
            let (offset_bytes, bytes) = (range.start as u64, range.len());
            let kind = match dice.below(10) {
                0..3 => {
                    let (memory, into) = dice.memory(bytes);
                    reads.push((range, memory));
                    OpKind::Read { offset_bytes, into }
                }
                3..7 => {
                    let (memory, from) = dice.memory(bytes);
                    memory.write(&stamp_next.to_le_bytes().repeat(bytes / 8));
                    changes.push((range, Change::Set(stamp_next)));
                    stamp_next += 1;
                    OpKind::Write { offset_bytes, from, fua: dice.chance(16) }
                }
                7 => OpKind::Flush,
                8 => {
                    changes.push((range, Change::Maybe));
                    OpKind::Discard { offset_bytes, bytes: bytes as u64 }
                }
                _ => {
                    changes.push((range, Change::Set(0)));
                    let (bytes, may_unmap) = (bytes as u64, dice.chance(2));
                    OpKind::WriteZeroes { offset_bytes, bytes, may_unmap, fua: dice.chance(8) }
                }
            };
            let channel = dice.below(2);
            submitted.push((channel, drivers[channel].submit(kind)));
        }
        let [one, two] = &mut drivers;
        finish_all(&mut [one, two]);
        for (channel, number) in submitted {
            assert_eq!(drivers[channel].ended(number), Some(Ok(())), "{story}");
        }
        let now = after(&allowed, &changes);
        for (range, memory) in reads {
            check([&allowed, &now], range, &memory.read(), &story);
        }
        allowed = now;
        let whole = drivers[0].read(0, DISK_BYTES).unwrap();
        check([&allowed, &allowed], 0..DISK_BYTES, &whole, &story);
        assert!(drivers[1].read(0, DISK_BYTES).unwrap() == whole, "{story}: two reads differ");
    }
    assert!(stamp_next > 100, "{story}: hardly anything was written");
}

#[test]
fn ops_in_flight_together_leave_what_one_of_them_wrote() {
    for arm in arms(DISK_BYTES as u64) {
        side_by_side(&arm, 7);
    }
}

/// Four workers, each with every fourth sector, so that every block belongs to all of them.
#[test]
fn workers_that_share_blocks_keep_their_own_sectors() {
    const WORKERS: usize = 4;
    const SHARED_BYTES: usize = 256 << 10;
    for arm in arms(DISK_BYTES as u64) {
        let worker = |worker: usize| {
            let mut driver = Driver::new(&*arm.disk);
            let mut dice = Dice(worker as u64 + 1);
            let mut own = vec![0u64; SHARED_BYTES / SECTOR];
            for stamp in 1..100 {
                let mut writes = Vec::new();
                for _ in 0..4 {
                    let sector = dice.below(own.len() / WORKERS) * WORKERS + worker;
                    // Two writes to one sector in flight together would leave either.
                    if own[sector] == stamp {
                        continue;
                    }
                    own[sector] = stamp;
                    let memory = OwnedMemory::new(SECTOR, 0);
                    memory.write(&stamp.to_le_bytes().repeat(SECTOR / 8));
                    let (offset_bytes, from) = ((sector * SECTOR) as u64, memory.buffers());
                    let fua = dice.chance(100);
                    writes.push(driver.submit(OpKind::Write { offset_bytes, from, fua }));
                }
                driver.finish();
                assert!(writes.iter().all(|n| driver.ended(*n) == Some(Ok(()))), "{}", arm.name);
            }
            own
        };
        let owned: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS).map(|n| scope.spawn(move || worker(n))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        let now = Driver::new(&*arm.disk).read(0, SHARED_BYTES).unwrap();
        for (sector, content) in now.chunks_exact(SECTOR).enumerate() {
            let stamp = owned[sector % WORKERS][sector].to_le_bytes();
            let right = content.chunks_exact(8).all(|word| word == stamp);
            assert!(right, "{}: sector {sector} lost its worker's bytes", arm.name);
        }
    }
}

#[test]
fn ops_outside_the_disk_fail_and_change_nothing() {
    let disk_bytes = 1 << 20;
    for arm in arms(disk_bytes) {
        let mut driver = Driver::new(&*arm.disk);
        let memory = OwnedMemory::new(1024, 0);
        memory.write(&[9; 1024]);
        let (bytes, may_unmap, fua) = (1024, true, false);
        for offset_bytes in [disk_bytes - 512, disk_bytes, u64::MAX - 511, u64::MAX - 1023] {
            for kind in [
                OpKind::Read { offset_bytes, into: memory.buffers() },
                OpKind::Write { offset_bytes, from: memory.buffers(), fua },
                OpKind::Discard { offset_bytes, bytes },
                OpKind::WriteZeroes { offset_bytes, bytes, may_unmap, fua },
            ] {
                let said = format!("{} {kind:?}", arm.name);
                assert_eq!(driver.run(kind), Err(Errno::EIO), "{said}");
            }
        }
        let tail = driver.read(disk_bytes - 512, 512).unwrap();
        assert!(tail.iter().all(|byte| *byte == 0), "{}: a refused op changed the disk", arm.name);
        assert_eq!(arm.disk.geometry().size_bytes, disk_bytes);
    }
}

#[test]
fn an_op_of_more_pieces_than_the_kernel_takes_moves_all_of_them() {
    const PIECES: usize = 3000;
    for arm in arms(4 << 20) {
        let mut driver = Driver::new(&*arm.disk);
        for (misalignment, offset_bytes) in [(0, 0), (0, 512), (8, 4096)] {
            let memory = || OwnedMemory::new(PIECES * SECTOR, misalignment);
            let (from, into) = (memory(), memory());
            let content: Vec<u8> = (0..PIECES * SECTOR).map(|i| (i ^ i >> 9) as u8).collect();
            from.write(&content);
            let pieces = from.pieces(&[SECTOR; PIECES]);
            let write = OpKind::Write { offset_bytes, from: pieces, fua: false };
            assert_eq!(driver.run(write), Ok(()), "{}", arm.name);
            let pieces = into.pieces(&[SECTOR; PIECES]);
            let read = OpKind::Read { offset_bytes, into: pieces };
            assert_eq!(driver.run(read), Ok(()), "{}", arm.name);
            assert!(into.read() == content, "{}: {misalignment} {offset_bytes}", arm.name);
        }
    }
}

#[test]
fn an_op_of_no_length_ends_well() {
    for arm in arms(1 << 20) {
        let mut driver = Driver::new(&*arm.disk);
        let into = OwnedMemory::new(0, 0).buffers();
        assert_eq!(driver.run(OpKind::Read { offset_bytes: 0, into }), Ok(()), "{}", arm.name);
        let from = OwnedMemory::new(0, 0).buffers();
        let write = OpKind::Write { offset_bytes: 1 << 20, from, fua: true };
        assert_eq!(driver.run(write), Ok(()), "{}", arm.name);
    }
}

#[test]
fn the_null_disk_reads_zeroes_and_knows_its_end() {
    let disk = NullImage::new(1 << 20);
    let mut driver = Driver::new(&disk);
    assert_eq!(driver.write(4096, &[1; 512]), Ok(()));
    let memory = OwnedMemory::new(512, 1);
    memory.write(&[5; 512]);
    assert_eq!(driver.run(OpKind::Read { offset_bytes: 4096, into: memory.buffers() }), Ok(()));
    assert_eq!(memory.read(), [0; 512]);
    assert_eq!(driver.write((1 << 20) - 511, &[1; 512]), Err(Errno::EIO));
    disk.resize(2 << 20).unwrap();
    assert_eq!(driver.write(1 << 20, &[1; 512]), Ok(()));
    assert_eq!(driver.flush(), Ok(()));
}
