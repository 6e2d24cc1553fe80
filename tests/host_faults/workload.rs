//! A short fixed workload on a raw image, and what it may find.
//!
//! Knows: what every byte must be, also after a request that failed. Must not know: which call of
//! the host goes wrong. Invariant: what ended well is there at once, and after an `Ok` flush it is
//! durable; what failed left the old bytes or the new ones, and its neighbours alone.

use std::ops::Range;

use blkfault::block::{Aio, CacheMode, Node, OpKind, OwnedMemory, RawImage, RawOptions};
use blkfault::errno::Errno;

use crate::driver::{Driver, finish_all};
use crate::support::fuse::Host;

/// Bytes of the disk.
pub(crate) const DISK_BYTES: u64 = 256 * KIB;
const KIB: u64 = 1 << 10;
/// What a failed request may not have touched is looked at in units of this.
const NEIGHBOURHOOD: u64 = 4096;

/// What is done.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// From where, how much, durable, in memory that direct I/O does not take.
    Write(u64, u64, bool, bool),
    Read(u64, u64, bool),
    /// From where, how much, may be deallocated, durable.
    Zero(u64, u64, bool, bool),
    Discard(u64, u64),
    Flush,
    /// Writes side by side on two channels, from where and how much each.
    Together(&'static [(u64, u64)]),
    Resize(u64),
}

use Step::{Discard, Flush, Read, Resize, Together, Write, Zero};

const STEPS: &[Step] = &[
    Write(0, 4 * KIB, false, false),
    Write(4 * KIB + 512, 512, false, false),
    Write(15 * KIB + 512, 24 * KIB + 512, false, true),
    Read(8 * KIB, 32 * KIB + 512, true),
    Flush,
    Write(64 * KIB, 8 * KIB, true, false),
    Read(60 * KIB, 16 * KIB, false),
    Together(&[(80 * KIB, 512), (80 * KIB + 512, 512), (82 * KIB, 3 * KIB), (96 * KIB, 32 * KIB)]),
    Zero(0, 8 * KIB, true, false),
    Zero(20 * KIB + 512, 3 * KIB + 512, false, true),
    Discard(96 * KIB, 16 * KIB),
    Flush,
    Write(48 * KIB, 160 * KIB, false, false),
    Resize(DISK_BYTES + 64 * KIB),
    Write(DISK_BYTES + 32 * KIB, 32 * KIB, false, false),
    Flush,
    Resize(DISK_BYTES),
    Write(DISK_BYTES - 512, 512, true, false),
    Flush,
];

/// An engine and how it opens the image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Engine {
    pub(crate) aio: Aio,
    pub(crate) cache: CacheMode,
}

/// A request that ended in an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) errno: Errno,
    /// A flush, or a write that had to be durable and got as far as that.
    pub(crate) of_flush: bool,
}

/// The workload under way.
pub(crate) struct Story<'a> {
    host: &'a Host,
    options: RawOptions,
    image: RawImage,
    drivers: [Driver; 2],
    /// What the guest must read.
    model: Vec<u8>,
    pub(crate) failures: Vec<Failure>,
    /// From now on no flush may succeed.
    pub(crate) flush_failed: bool,
    /// What fails here is a sync, and nothing else.
    syncs_fail: bool,
    stamp: u8,
    pub(crate) checked_bytes: u64,
}

impl<'a> Story<'a> {
    /// Open the image; why not, if it does not open.
    pub(crate) fn open(host: &'a Host, engine: Engine, syncs_fail: bool) -> Result<Self, String> {
        let Engine { aio, cache } = engine;
        let options = RawOptions { aio, cache, discard: true, ..RawOptions::new(host.image()) };
        let image = RawImage::open(options.clone()).map_err(|error| error.to_string())?;
        Ok(Self {
            host,
            options,
            drivers: [Driver::new(&image), Driver::new(&image)],
            image,
            model: vec![0; DISK_BYTES as usize],
            failures: Vec::new(),
            flush_failed: false,
            syncs_fail,
            stamp: 0,
            checked_bytes: 0,
        })
    }

    /// Do all of it.
    pub(crate) fn run(&mut self) {
        STEPS.iter().for_each(|step| self.step(*step));
    }

    fn step(&mut self, step: Step) {
        match step {
            Write(at, bytes, fua, misaligned) => self.write(at, bytes, fua, misaligned),
            Read(at, bytes, misaligned) => self.read(at, bytes, misaligned),
            Zero(offset_bytes, bytes, may_unmap, fua) => {
                let op = OpKind::WriteZeroes { offset_bytes, bytes, may_unmap, fua };
                let result = self.drivers[0].run(op);
                self.wrote(offset_bytes, &vec![0; bytes as usize], fua, result);
            }
            Discard(offset_bytes, bytes) => {
                let result = self.drivers[0].run(OpKind::Discard { offset_bytes, bytes });
                self.note(result, false);
                // Even if it ended well: zeroes or what was there.
                self.look(offset_bytes, &vec![0; bytes as usize]);
            }
            Flush => self.flush(),
            Together(writes) => self.write_together(writes),
            Resize(bytes) => self.resize(bytes),
        }
    }

    /// Other content for every write, none of it zero.
    fn content(&mut self, bytes: u64) -> Vec<u8> {
        self.stamp += 1;
        let stamp = self.stamp;
        (0..bytes).map(|i| 0x80 | (stamp.wrapping_mul(29) ^ (i / 64) as u8)).collect()
    }

    fn memory(bytes: u64, misaligned: bool) -> OwnedMemory {
        OwnedMemory::new(bytes as usize, if misaligned { 8 } else { 0 })
    }

    fn write(&mut self, offset_bytes: u64, bytes: u64, fua: bool, misaligned: bool) {
        let content = self.content(bytes);
        let memory = Self::memory(bytes, misaligned);
        memory.write(&content);
        let op = OpKind::Write { offset_bytes, from: memory.buffers(), fua };
        if offset_bytes + bytes > self.model.len() as u64 {
            // The disk did not become larger.
            assert_eq!(self.drivers[0].run(op), Err(Errno::EIO), "beyond the end");
            return;
        }
        let result = self.drivers[0].run(op);
        self.wrote(offset_bytes, &content, fua, result);
    }

    fn write_together(&mut self, writes: &[(u64, u64)]) {
        let mut submitted = Vec::new();
        for (place, (offset_bytes, bytes)) in writes.iter().enumerate() {
            let content = self.content(*bytes);
            let memory = Self::memory(*bytes, false);
            memory.write(&content);
            let (from, offset_bytes) = (memory.buffers(), *offset_bytes);
            let op = OpKind::Write { offset_bytes, from, fua: false };
            let number = self.drivers[place % 2].submit(op);
            submitted.push((place % 2, number, offset_bytes, content));
        }
        let [one, two] = &mut self.drivers;
        finish_all(&mut [one, two]);
        let ends: Vec<_> = submitted
            .into_iter()
            .map(|(channel, number, at, content)| {
                (at, content, self.drivers[channel].ended(number).unwrap())
            })
            .collect();
        // First what ended well: a look at what failed looks at its neighbours, too.
        let (well, failed): (Vec<_>, Vec<_>) = ends.into_iter().partition(|end| end.2.is_ok());
        for (at, content, result) in well.into_iter().chain(failed) {
            self.wrote(at, &content, false, result);
        }
    }

    /// A request that writes has ended.
    fn wrote(&mut self, at: u64, content: &[u8], fua: bool, result: Result<(), Errno>) {
        let range = at as usize..at as usize + content.len();
        if result.is_ok() {
            assert!(!(fua && self.flush_failed), "durable although flushes fail");
            self.model[range.clone()].copy_from_slice(content);
            if fua {
                assert!(self.host.durable()[range] == *content, "acknowledged and not durable");
            }
            return;
        }
        // Of these two only the flush can have failed.
        self.flush_failed |= fua && self.syncs_fail;
        self.note(result, fua && self.flush_failed);
        self.look(at, content);
    }

    fn note(&mut self, result: Result<(), Errno>, of_flush: bool) {
        if let Err(errno) = result {
            self.failures.push(Failure { errno, of_flush });
        }
    }

    /// See what a request that may have written `content` left, and take that for granted.
    fn look(&mut self, at: u64, content: &[u8]) {
        let end = at + content.len() as u64;
        let around = at - at % NEIGHBOURHOOD..end.next_multiple_of(NEIGHBOURHOOD);
        let around = around.start as usize..(around.end as usize).min(self.model.len());
        let mut now = self.drivers[1].read(around.start as u64, around.len());
        if let Err(errno) = now {
            self.note(Err(errno), false);
            now = self.drivers[1].read(around.start as u64, around.len());
        }
        let now = now.expect("the host fails once");
        for (place, byte) in around.clone().zip(&now) {
            let new = content.get(place.wrapping_sub(at as usize)).unwrap_or(byte);
            let meant = (at..end).contains(&(place as u64)) && byte == new;
            assert!(meant || *byte == self.model[place], "byte {place} is neither old nor new");
        }
        self.model[around].copy_from_slice(&now);
    }

    fn read(&mut self, offset_bytes: u64, bytes: u64, misaligned: bool) {
        let memory = Self::memory(bytes, misaligned);
        let result = self.drivers[0].run(OpKind::Read { offset_bytes, into: memory.buffers() });
        self.note(result, false);
        if result.is_ok() {
            self.check(offset_bytes, &memory.read());
        }
    }

    fn check(&mut self, at: u64, read: &[u8]) {
        let range: Range<usize> = at as usize..at as usize + read.len();
        assert!(self.model[range] == *read, "acknowledged and wrong");
        self.checked_bytes += read.len() as u64;
    }

    fn flush(&mut self) {
        let result = self.drivers[0].flush();
        if self.flush_failed {
            assert_eq!(result, Err(Errno::EIO), "a failed flush stays failed");
            assert_eq!(self.drivers[1].flush(), Err(Errno::EIO), "on every channel");
            return;
        }
        self.note(result, true);
        self.flush_failed = result.is_err();
        if result.is_ok() {
            assert!(self.host.durable() == self.model, "flushed and not durable");
        }
    }

    fn resize(&mut self, bytes: u64) {
        let result = self.image.resize(bytes);
        self.note(result, false);
        if result.is_ok() {
            self.model.resize(bytes as usize, 0);
        }
        assert_eq!(self.image.geometry().size_bytes, self.model.len() as u64);
    }

    /// Read all of it, and once more past the engine.
    pub(crate) fn check_all(&mut self) {
        let whole = self.drivers[1].read(0, self.model.len()).expect("the host fails once");
        self.check(0, &whole);
        if !self.flush_failed {
            assert!(self.host.content() == self.model, "acknowledged and not on the host");
        }
    }

    /// Reopened, the image flushes again; the rest of what must be so in the end.
    pub(crate) fn check_reopened(&mut self) {
        self.image.reopen(self.options.clone()).unwrap();
        self.flush_failed = false;
        assert_eq!(self.drivers[0].write(0, &[0xaa; 4096]), Ok(()));
        assert_eq!(self.drivers[1].flush(), Ok(()), "reopened");
        assert_eq!(self.host.durable()[..4096], [0xaa; 4096]);
    }
}
