//! Tasks against a kernel that is made up: it moves as little as it likes, interrupts, refuses,
//! and insists on alignment.

#![expect(clippy::cast_possible_truncation, reason = "content is made of truncated numbers")]

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::block::OwnedMemory;
use crate::block::raw::probe::Alignment;
use crate::block::raw::{Locking, RawOptions};

const BLOCK: usize = 4096;
const SECTOR: usize = 512;
const DISK: usize = 16 * BLOCK;

/// An image whose description asks for `alignment`; its content is the [`Kernel`]'s.
fn opened(alignment: Alignment) -> Arc<Opened> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(DISK as u64).unwrap();
    let options = RawOptions { discard: true, ..RawOptions::new(file.path()) };
    #[cfg(miri)]
    let mut opened = Opened::unprobed(file.into_file(), options, DISK as u64);
    #[cfg(not(miri))]
    let mut opened = Opened::open(options, None).unwrap();
    opened.alignment = alignment;
    Arc::new(opened)
}

/// What is at a path, opened in the place of `before`. Not locked, so that an image may come back
/// while its ops are under way.
fn reopened(path: &std::path::Path, before: Option<&Opened>, alignment: Alignment) -> Arc<Opened> {
    let options = RawOptions { locking: Locking::Off, ..RawOptions::new(path) };
    let mut opened = Opened::open(options, before).unwrap();
    opened.alignment = alignment;
    Arc::new(opened)
}

const FINE: Alignment = Alignment { memory_bytes: 1, offset_bytes: 1 };
/// Under Miri memory of our own is aligned to no more than 8 bytes.
const COARSE: Alignment =
    Alignment { memory_bytes: if cfg!(miri) { 8 } else { 512 }, offset_bytes: 4096 };

/// What the kernel does with the next call.
#[derive(Debug, Clone, Copy)]
enum Mood {
    /// Move at most so many units.
    Move(u16),
    Interrupt,
    Again,
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        6 => (1u16..40).prop_map(Mood::Move),
        1 => Just(Mood::Interrupt),
        1 => Just(Mood::Again),
    ]
}

struct Kernel {
    disk: Vec<u8>,
    alignment: Alignment,
    fallocate: Result<(), Errno>,
    datasync: Result<(), Errno>,
    calls: Vec<String>,
}

impl Kernel {
    fn new(alignment: Alignment) -> Self {
        let sectors = (0..DISK / SECTOR).map(|sector| [sector as u8 | 0x80; SECTOR]);
        let disk = sectors.collect::<Vec<_>>().concat();
        Self { disk, alignment, fallocate: Ok(()), datasync: Ok(()), calls: Vec::new() }
    }

    fn carry_out(&mut self, call: &Call<'_>, mood: Mood) -> Result<u32, Errno> {
        let units = match mood {
            Mood::Interrupt => return Err(Errno::EINTR),
            Mood::Again => return Err(Errno::EAGAIN),
            Mood::Move(units) => usize::from(units),
        };
        let unit = self.alignment.offset_bytes as usize;
        let limit = if unit == 1 { units * 100 } else { units * unit };
        match *call {
            Call::Datasync => {
                self.calls.push("datasync".into());
                self.datasync.map(|()| 0)
            }
            Call::Allocate { mode, offset_bytes, bytes } => {
                self.calls.push(format!("fallocate {mode}"));
                self.fallocate?;
                let (start, bytes) = (offset_bytes as usize, bytes as usize);
                self.disk[start..start + bytes].fill(0);
                Ok(0)
            }
            Call::Read { pieces, offset_bytes } => {
                self.transfer(pieces, offset_bytes, limit, |disk, memory| memory.copy_from(disk))
            }
            Call::Write { pieces, offset_bytes } => {
                self.calls.push("write".into());
                self.transfer(pieces, offset_bytes, limit, |disk, memory| {
                    memory.copy_to(disk);
                })
            }
        }
    }

    fn transfer(
        &mut self,
        pieces: &[libc::iovec],
        offset_bytes: u64,
        limit: usize,
        copy: impl Fn(&mut [u8], vm_memory::VolatileSlice<'_>),
    ) -> Result<u32, Errno> {
        if !self.alignment.fits(offset_bytes, pieces) {
            return Err(Errno::EINVAL);
        }
        let start = offset_bytes as usize;
        let mut moved = 0;
        for piece in pieces {
            let step = piece.iov_len.min(limit - moved);
            // SAFETY: the task that the call is of keeps its pieces mapped.
            let memory = unsafe { vm_memory::VolatileSlice::new(piece.iov_base.cast(), step) };
            copy(&mut self.disk[start + moved..start + moved + step], memory);
            moved += step;
        }
        Ok(u32::try_from(moved).unwrap())
    }
}

fn task(kind: OpKind, image: &Arc<Opened>) -> Task {
    Task::new(Op { ticket: Ticket(0), ordinal: 0, queue: 0, kind }, image.clone().into())
}

/// Run one task to its end.
fn run(task: &mut Task, kernel: &mut Kernel) -> Result<(), Errno> {
    loop {
        match task.next(None) {
            Next::Ended(result) => return result,
            Next::Wait => panic!("it has nobody to wait for"),
            Next::Call(_, call) => {
                let result = kernel.carry_out(&call, Mood::Move(1000));
                task.advance(result);
            }
        }
    }
}

fn write(offset_bytes: usize, content: &[u8], fua: bool) -> OpKind {
    let memory = OwnedMemory::new(content.len(), 8);
    memory.write(content);
    OpKind::Write { offset_bytes: offset_bytes as u64, from: memory.buffers(), fua }
}

fn zero(may_unmap: bool) -> OpKind {
    OpKind::WriteZeroes { offset_bytes: 512, bytes: 10240, may_unmap, fua: true }
}

/// With `EINTR` the host may have told that what it wrote back is lost, and it tells that once.
#[test]
fn a_flush_that_was_interrupted_is_not_tried_again_as_if_nothing_was_lost() {
    for errno in [Errno::EINTR, Errno::EAGAIN] {
        let image = opened(FINE);
        let mut kernel = Kernel::new(FINE);
        kernel.datasync = Err(errno);
        assert_eq!(run(&mut task(OpKind::Flush, &image), &mut kernel), Err(errno));
        kernel.datasync = Ok(());
        assert_eq!(run(&mut task(OpKind::Flush, &image), &mut kernel), Err(Errno::EIO));
        assert_eq!(kernel.calls, ["datasync"]);
    }
}

#[test]
fn a_durable_write_ends_after_its_flush() {
    let (image, mut kernel) = (opened(FINE), Kernel::new(FINE));
    assert_eq!(run(&mut task(write(0, &[1; 512], true), &image), &mut kernel), Ok(()));
    assert_eq!(kernel.calls, ["write", "datasync"]);
}

#[test]
fn a_full_file_system_is_not_remembered_but_a_failed_flush_is() {
    let (image, mut kernel) = (opened(FINE), Kernel::new(FINE));
    let mut full = task(write(0, &[1; 512], true), &image);
    assert!(matches!(full.next(None), Next::Call(_, Call::Write { .. })));
    full.advance(Err(Errno::ENOSPC));
    assert!(matches!(full.next(None), Next::Ended(Err(Errno::ENOSPC))));
    assert_eq!(run(&mut task(OpKind::Flush, &image), &mut kernel), Ok(()));

    for errno in [Errno::EIO, Errno::ENOSPC, Errno::EDQUOT] {
        let (image, mut kernel) = (opened(FINE), Kernel::new(FINE));
        kernel.datasync = Err(errno);
        assert_eq!(run(&mut task(write(0, &[1; 512], true), &image), &mut kernel), Err(errno));
        kernel.datasync = Ok(());
        for _ in 0..3 {
            assert_eq!(run(&mut task(OpKind::Flush, &image), &mut kernel), Err(Errno::EIO));
        }
        assert_eq!(run(&mut task(write(0, &[1; 512], false), &image), &mut kernel), Ok(()));
    }
}

#[test]
fn a_flush_that_ran_beside_a_failed_one_fails_too() {
    let image = opened(FINE);
    let waker = Arc::new(Waker::new().unwrap());
    let (mut first, mut second) = (task(OpKind::Flush, &image), task(OpKind::Flush, &image));
    assert!(matches!(first.next(Some(&waker)), Next::Call(_, Call::Datasync)));
    assert!(matches!(second.next(Some(&waker)), Next::Wait));
    first.advance(Err(Errno::EIO));
    assert!(matches!(second.next(Some(&waker)), Next::Ended(Err(Errno::EIO))));
}

#[test]
fn a_flush_that_is_dropped_while_under_way_lets_others_pass() {
    let (image, mut kernel) = (opened(FINE), Kernel::new(FINE));
    let mut first = task(OpKind::Flush, &image);
    assert!(matches!(first.next(None), Next::Call(_, Call::Datasync)));
    drop(first);
    assert_eq!(run(&mut task(OpKind::Flush, &image), &mut kernel), Ok(()));
    assert_eq!(kernel.calls, ["datasync"]);
}

#[test]
fn zeroes_are_written_where_the_host_cannot_allocate() {
    for alignment in [FINE, COARSE] {
        for may_unmap in [false, true] {
            let (image, mut kernel) = (opened(alignment), Kernel::new(alignment));
            kernel.fallocate = Err(Errno::EOPNOTSUPP);
            let mut expected = kernel.disk.clone();
            expected[512..512 + 10240].fill(0);
            assert_eq!(run(&mut task(zero(may_unmap), &image), &mut kernel), Ok(()));
            assert_eq!(kernel.disk, expected);
            assert_eq!(kernel.calls.last().map(String::as_str), Some("datasync"));
            let tried = kernel.calls.iter().filter(|call| call.starts_with("fallocate")).count();
            assert_eq!(tried, 1 + usize::from(may_unmap));
            assert!(!image.can_zero_range());

            kernel.calls.clear();
            assert_eq!(run(&mut task(zero(false), &image), &mut kernel), Ok(()));
            assert!(!kernel.calls.iter().any(|call| call.starts_with("fallocate")), "asked once");
        }
    }
}

#[test]
fn a_discard_that_the_host_cannot_do_is_harmless_and_no_longer_offered() {
    let (image, mut kernel) = (opened(FINE), Kernel::new(FINE));
    kernel.fallocate = Err(Errno::EOPNOTSUPP);
    let before = kernel.disk.clone();
    let discard = OpKind::Discard { offset_bytes: 0, bytes: 4096 };
    assert_eq!(run(&mut task(discard, &image), &mut kernel), Ok(()));
    assert_eq!(kernel.disk, before);
    assert!(!image.geometry().can_discard);
}

#[test]
fn a_failed_allocation_is_a_failure() {
    let (image, mut kernel) = (opened(FINE), Kernel::new(FINE));
    kernel.fallocate = Err(Errno::EIO);
    assert_eq!(run(&mut task(zero(true), &image), &mut kernel), Err(Errno::EIO));
    assert_eq!(kernel.calls.len(), 1);
}

#[test]
fn what_lies_outside_or_between_units_is_refused() {
    let image = opened(COARSE);
    let mut kernel = Kernel::new(COARSE);
    let beyond = write(DISK - 512, &[1; 1024], false);
    assert_eq!(run(&mut task(beyond, &image), &mut kernel), Err(Errno::EIO));
    let between = write(100, &[1; 512], false);
    assert_eq!(run(&mut task(between, &image), &mut kernel), Err(Errno::EINVAL));
    let wraps = OpKind::Discard { offset_bytes: u64::MAX - 511, bytes: 1024 };
    assert_eq!(run(&mut task(wraps, &image), &mut kernel), Err(Errno::EIO));
    assert!(kernel.calls.is_empty());
}

#[test]
#[cfg_attr(miri, ignore = "it takes Miri too long")]
fn thousands_of_bounced_requests_take_no_more_memory_than_their_image_allows() {
    const LIMIT_BYTES: u64 = 16 << 20;
    let (image, mut kernel) = (opened(COARSE), Kernel::new(COARSE));
    let waker = Arc::new(Waker::new().unwrap());
    let memory = OwnedMemory::new(DISK, 8);
    let mut running: Vec<_> = (0..2000)
        .map(|_| task(OpKind::Read { offset_bytes: 0, into: memory.buffers() }, &image))
        .collect();
    assert_eq!(image.bounces.taken_bytes(), 0, "what was only submitted takes nothing");
    let (mut most_bytes, mut ended) = (0, 0);
    for round in 0.. {
        assert!(round < 1000, "tasks wait for each other");
        running.retain_mut(|task| match task.next(Some(&waker)) {
            Next::Ended(result) => {
                assert_eq!(result, Ok(()));
                ended += 1;
                false
            }
            Next::Wait => true,
            Next::Call(_, call) => {
                // Slowly, so that as many as may be are under way at once.
                let result = kernel.carry_out(&call, Mood::Move(1));
                task.advance(result);
                most_bytes = most_bytes.max(image.bounces.taken_bytes());
                true
            }
        });
        if running.is_empty() {
            break;
        }
    }
    assert_eq!(ended, 2000);
    assert_eq!(most_bytes, LIMIT_BYTES);
    assert_eq!(image.bounces.taken_bytes(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "Miri opens no image")]
fn a_write_under_way_when_its_image_is_reopened_keeps_the_new_ones_from_its_block() {
    let directory = tempfile::tempdir().unwrap();
    let (path, other) = (directory.path().join("disk.img"), directory.path().join("other.img"));
    std::fs::write(&path, vec![0; DISK]).unwrap();
    std::fs::write(&other, vec![0; DISK]).unwrap();
    let waker = Arc::new(Waker::new().unwrap());
    let old = reopened(&path, None, FINE);
    let mut first = task(write(512, &[1; 512], false), &old);
    assert!(matches!(first.next(Some(&waker)), Next::Call(_, Call::Write { .. })));

    let elsewhere = reopened(&other, Some(&old), COARSE);
    let mut unrelated = task(write(1024, &[2; 512], false), &elsewhere);
    assert!(matches!(unrelated.next(Some(&waker)), Next::Call(_, Call::Read { .. })));
    drop(old);
    for before in [&elsewhere, &reopened(&other, Some(&elsewhere), FINE)] {
        let new = reopened(&path, Some(before), COARSE);
        let mut second = task(write(1024, &[2; 512], false), &new);
        assert!(matches!(second.next(Some(&waker)), Next::Wait), "it would lose the first's bytes");
    }
    let new = reopened(&path, Some(&elsewhere), COARSE);
    let mut second = task(write(1024, &[2; 512], false), &new);
    assert!(matches!(second.next(Some(&waker)), Next::Wait));
    first.advance(Ok(512));
    assert!(waker.is_awake());
    assert!(matches!(second.next(Some(&waker)), Next::Call(_, Call::Read { .. })));
}

#[test]
#[cfg_attr(miri, ignore = "Miri opens no image")]
fn a_write_that_had_not_begun_when_its_image_shrank_fails_on_every_description() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    std::fs::write(&path, vec![0; DISK]).unwrap();
    let old = reopened(&path, None, FINE);
    let mut late = task(write(DISK - 512, &[1; 512], false), &old);
    let new = reopened(&path, Some(&old), FINE);
    new.set_size_bytes(DISK as u64 / 2);
    assert!(matches!(late.next(None), Next::Ended(Err(Errno::EIO))));
}

/// An op on a range of sectors that no other op of the case touches.
#[derive(Debug, Clone)]
enum Deed {
    Read,
    Write,
    Zero { may_unmap: bool },
}

#[derive(Debug, Clone)]
struct Case {
    /// Lengths in sectors of the ops, which lie one behind the other, and what they do.
    deeds: Vec<(usize, Deed)>,
    misalignment: usize,
    fallocate: bool,
    schedule: Vec<(usize, Mood)>,
}

fn case() -> impl Strategy<Value = Case> {
    let deed = prop_oneof![
        1 => Just(Deed::Read),
        3 => Just(Deed::Write),
        1 => any::<bool>().prop_map(|may_unmap| Deed::Zero { may_unmap }),
    ];
    (
        prop::collection::vec((1usize..12, deed), 1..10),
        prop::sample::select(vec![0usize, 8, 512]),
        any::<bool>(),
        prop::collection::vec((0usize..10, mood()), 1..200),
    )
        .prop_map(|(deeds, misalignment, fallocate, schedule)| Case {
            deeds,
            misalignment,
            fallocate,
            schedule,
        })
}

/// Run the ops of a case side by side, in the order of its schedule.
fn check(case: &Case, alignment: Alignment) -> Result<(), TestCaseError> {
    let (image, mut kernel) = (opened(alignment), Kernel::new(alignment));
    if !case.fallocate {
        kernel.fallocate = Err(Errno::EOPNOTSUPP);
    }
    let waker = Arc::new(Waker::new().unwrap());
    let mut expected = kernel.disk.clone();
    let (mut running, mut reads, mut at) = (Vec::new(), Vec::new(), 0);
    for (number, (sectors, deed)) in case.deeds.iter().enumerate() {
        let bytes = (sectors * SECTOR).min(DISK - at);
        let memory = OwnedMemory::new(bytes, case.misalignment);
        let (offset_bytes, range) = (at as u64, at..at + bytes);
        at += bytes;
        let kind = match deed {
            Deed::Read => {
                reads.push((range.clone(), memory.clone()));
                OpKind::Read { offset_bytes, into: memory.buffers() }
            }
            Deed::Write => {
                let content = vec![number as u8 + 1; bytes];
                memory.write(&content);
                expected[range].copy_from_slice(&content);
                OpKind::Write { offset_bytes, from: memory.buffers(), fua: false }
            }
            Deed::Zero { may_unmap } => {
                expected[range].fill(0);
                let (bytes, may_unmap) = (bytes as u64, *may_unmap);
                OpKind::WriteZeroes { offset_bytes, bytes, may_unmap, fua: false }
            }
        };
        running.push(task(kind, &image));
    }
    // After the schedule everybody in turn, so that every op gets to its end.
    let fair = (0..).map(|index| (index, Mood::Move(7)));
    let mut turns = case.schedule.iter().copied().chain(fair);
    let mut patience = 10_000;
    while !running.is_empty() {
        patience -= 1;
        prop_assert!(patience > 0, "tasks wait for each other");
        let (index, mood) = turns.next().unwrap();
        let index = index % running.len();
        match running[index].next(Some(&waker)) {
            Next::Ended(result) => {
                prop_assert_eq!(result, Ok(()));
                running.remove(index);
            }
            Next::Wait => {}
            Next::Call(_, call) => {
                let result = kernel.carry_out(&call, mood);
                running[index].advance(result);
            }
        }
    }
    prop_assert!(kernel.disk == expected, "the disk differs");
    for (range, memory) in reads {
        prop_assert_eq!(memory.read(), &expected[range]);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 3 } else { 150 }, ..ProptestConfig::default() })]

    #[test]
    fn ops_side_by_side_do_what_they_say_however_the_kernel_drags_its_feet(case in case()) {
        check(&case, FINE)?;
    }

    /// The kernel only takes blocks of 4096 bytes, the ops are in sectors: neighbours share blocks,
    /// and neither may lose the other's bytes.
    #[test]
    fn neighbours_in_one_block_do_not_lose_each_others_bytes(case in case()) {
        check(&case, COARSE)?;
    }
}
