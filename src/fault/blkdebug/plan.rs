//! Which events a request raises and what it asks of the image, in order.
//!
//! Knows: how QEMU's block layer takes a request to `raw` over `blkdebug` apart (`raw-format.c`
//! and `block/io.c`, 7.2). Must not know: rules. Invariant: a plan is a function of the request,
//! the limits and whether anything was written since the last good flush; it ends before the
//! image, and what comes after it is [`after`].

use serde::{Deserialize, Serialize};

use super::event::Event;
use super::limits::Limits;
use crate::fault::{Io, IoType};

/// One step on the way to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fault) enum Step {
    /// An event is raised.
    Raise(Event),
    /// blkdebug is asked for a part of the request (`rule_check`).
    Check {
        /// What it is asked for, which is not always what the guest asked for.
        iotype: IoType,
        /// First byte.
        offset_bytes: u64,
        /// Length; 0 for a flush.
        bytes: u64,
    },
    /// blkdebug is asked to read what surrounds an unaligned write. QEMU ignores the error and
    /// leaves out the steps that follow (`bdrv_padding_rmw_read` in `bdrv_co_pwritev_part`).
    RmwRead {
        /// First byte.
        offset_bytes: u64,
        /// Length.
        bytes: u64,
        /// How many steps are left out when it fails.
        left_out: usize,
    },
}

/// The event after the image, whatever the image said (`bdrv_aligned_pwritev`).
pub(in crate::fault) fn after(iotype: IoType) -> Option<Event> {
    match iotype {
        IoType::Write | IoType::WriteZeroes => Some(Event::PwritevDone),
        IoType::Read | IoType::Flush | IoType::Discard | IoType::GetId => None,
    }
}

/// How far a request has come through what raw makes of it.
///
/// raw writes zeroes itself, a piece at a time, where blkdebug says that it cannot
/// (`bdrv_co_do_pwrite_zeroes` of the raw node); everything else it asks for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::fault) struct Leg {
    /// Bytes that are done with.
    done_bytes: u64,
    /// The next piece is written.
    written: bool,
}

impl Leg {
    /// The leg after one that went well; `None` if it was the last.
    pub(in crate::fault) fn next(self, io: &Io, limits: &Limits) -> Option<Self> {
        let done_bytes = self.done_bytes.saturating_add(self.part(io, limits).bytes);
        (self.written && done_bytes < io.bytes).then_some(Self { done_bytes, written: false })
    }

    /// The leg after one that is not supported; `None` where that is the request's error.
    pub(in crate::fault) fn instead(self, io: &Io) -> Option<Self> {
        let zeroes = io.iotype == IoType::WriteZeroes && !self.written;
        zeroes.then_some(Self { written: true, ..self })
    }

    fn part(self, io: &Io, limits: &Limits) -> Io {
        let done_bytes = self.done_bytes.min(io.bytes);
        let left_bytes = io.bytes - done_bytes;
        let offset_bytes = io.offset_bytes.saturating_add(done_bytes);
        if self.written {
            let bytes = left_bytes.min(limits.max_transfer());
            return Io { iotype: IoType::Write, offset_bytes, bytes, ..*io };
        }
        Io { offset_bytes, bytes: left_bytes, ..*io }
    }
}

/// The steps of a leg. `unflushed`: something was written since the last good flush.
pub(in crate::fault) fn plan(io: &Io, limits: &Limits, leg: Leg, unflushed: bool) -> Vec<Step> {
    let io = &leg.part(io, limits);
    let mut steps = Steps { limits, steps: Vec::with_capacity(4) };
    if leg != Leg::default() {
        steps.raise(Event::PwritevDone);
    }
    match io.iotype {
        IoType::Read => steps.read(io),
        IoType::Write => steps.write(io),
        IoType::WriteZeroes => steps.write_zeroes(io.offset_bytes, io.bytes),
        IoType::Discard => steps.discard(io.offset_bytes, io.bytes),
        IoType::Flush => steps.flush(unflushed),
        // QEMU's device answers it without asking the block layer.
        IoType::GetId => {}
    }
    steps.steps
}

struct Steps<'a> {
    limits: &'a Limits,
    steps: Vec<Step>,
}

/// A range widened to the alignment, and how its surroundings are read (`BdrvRequestPadding`).
struct Padding {
    offset_bytes: u64,
    bytes: u64,
    head: bool,
    tail: bool,
    /// Head and tail are read at once.
    merged: bool,
}

impl Padding {
    fn of(offset_bytes: u64, bytes: u64, align: u64) -> Self {
        let head = offset_bytes % align;
        let end = offset_bytes.saturating_add(bytes);
        let tail = (align - end % align) % align;
        let sum = head + bytes + tail;
        let buffer = if sum > align && head != 0 && tail != 0 { 2 * align } else { align };
        let merged = (head != 0 || tail != 0) && sum == buffer;
        Self {
            offset_bytes: offset_bytes - head,
            bytes: sum,
            head: head != 0,
            tail: tail != 0,
            merged,
        }
    }
}

/// Cut a range into pieces of at most this length.
fn pieces(offset_bytes: u64, bytes: u64, bytes_max: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..bytes.div_ceil(bytes_max)).map(move |piece| {
        let start = piece * bytes_max;
        (offset_bytes.saturating_add(start), bytes_max.min(bytes - start))
    })
}

impl Steps<'_> {
    fn raise(&mut self, event: Event) {
        self.steps.push(Step::Raise(event));
    }

    fn check(&mut self, iotype: IoType, offset_bytes: u64, bytes: u64) {
        self.steps.push(Step::Check { iotype, offset_bytes, bytes });
    }

    /// `raw_co_preadv` for each piece, then `bdrv_aligned_preadv` of what it was widened to.
    fn read(&mut self, io: &Io) {
        let longest = self.limits.max_transfer();
        for (offset_bytes, bytes) in pieces(io.offset_bytes, io.bytes, longest) {
            self.raise(Event::ReadAio);
            let padded = Padding::of(offset_bytes, bytes, self.limits.align());
            for (offset_bytes, bytes) in pieces(padded.offset_bytes, padded.bytes, longest) {
                self.check(IoType::Read, offset_bytes, bytes);
            }
        }
    }

    /// `raw_co_pwritev` for each piece, then `bdrv_co_pwritev_part`. The last piece's
    /// `pwritev_done` comes after the image.
    fn write(&mut self, io: &Io) {
        let longest = self.limits.max_transfer();
        for (piece, (offset_bytes, bytes)) in pieces(io.offset_bytes, io.bytes, longest).enumerate()
        {
            if piece > 0 {
                self.raise(Event::PwritevDone);
            }
            self.raise(Event::WriteAio);
            let padding = Padding::of(offset_bytes, bytes, self.limits.align());
            self.read_surroundings(&padding);
            self.write_aligned(padding.offset_bytes, padding.bytes);
        }
    }

    /// `bdrv_padding_rmw_read`.
    fn read_surroundings(&mut self, padding: &Padding) {
        use Event::{PwritevRmwAfterHead, PwritevRmwAfterTail, PwritevRmwHead, PwritevRmwTail};
        let align = self.limits.align();
        let start = self.steps.len();
        let end_bytes = padding.offset_bytes + padding.bytes;
        if padding.merged || padding.head {
            let bytes = if padding.merged { padding.bytes } else { align };
            let with_tail = padding.merged && padding.tail;
            self.raise_if(padding.head, PwritevRmwHead);
            self.raise_if(with_tail, PwritevRmwTail);
            self.rmw_read(padding.offset_bytes, bytes);
            self.raise_if(padding.head, PwritevRmwAfterHead);
            self.raise_if(with_tail, PwritevRmwAfterTail);
        }
        if padding.tail && !padding.merged {
            self.raise(PwritevRmwTail);
            self.rmw_read(end_bytes - align, align);
            self.raise(PwritevRmwAfterTail);
        }
        let end = self.steps.len();
        for (place, step) in self.steps.iter_mut().enumerate().skip(start) {
            if let Step::RmwRead { left_out, .. } = step {
                *left_out = end - place - 1;
            }
        }
    }

    fn raise_if(&mut self, raised: bool, event: Event) {
        if raised {
            self.raise(event);
        }
    }

    fn rmw_read(&mut self, offset_bytes: u64, bytes: u64) {
        self.steps.push(Step::RmwRead { offset_bytes, bytes, left_out: 0 });
    }

    /// `bdrv_aligned_pwritev` up to the image.
    fn write_aligned(&mut self, offset_bytes: u64, bytes: u64) {
        self.raise(Event::Pwritev);
        for (offset_bytes, bytes) in pieces(offset_bytes, bytes, self.limits.max_transfer()) {
            self.check(IoType::Write, offset_bytes, bytes);
        }
    }

    /// `bdrv_co_do_zero_pwritev`: unaligned ends are written, the middle is zeroed.
    fn write_zeroes(&mut self, offset_bytes: u64, bytes: u64) {
        let align = self.limits.align();
        let padding = Padding::of(offset_bytes, bytes, align);
        let mut offset_bytes = padding.offset_bytes;
        let mut left_bytes = padding.bytes;
        self.read_surroundings(&padding);
        let mut first = true;
        let mut next = |steps: &mut Self| {
            if !std::mem::take(&mut first) {
                steps.raise(Event::PwritevDone);
            }
        };
        if padding.merged || padding.head {
            let written = if padding.merged { padding.bytes } else { align };
            next(self);
            self.write_aligned(offset_bytes, written);
            offset_bytes += written;
            left_bytes -= written;
        }
        let tail_bytes = if padding.tail && !padding.merged { align } else { 0 };
        let middle_bytes = left_bytes - tail_bytes;
        if middle_bytes > 0 {
            next(self);
            self.zero_aligned(offset_bytes, middle_bytes);
        }
        if tail_bytes > 0 {
            next(self);
            self.write_aligned(offset_bytes + middle_bytes, tail_bytes);
        }
    }

    /// `bdrv_co_do_pwrite_zeroes`: what is shorter than the unit is written instead.
    fn zero_aligned(&mut self, offset_bytes: u64, bytes: u64) {
        self.raise(Event::PwritevZero);
        let unit = self.limits.zero_align();
        let mut head = offset_bytes % unit;
        let end_bytes = offset_bytes + bytes;
        let tail = end_bytes % unit;
        let mut at_bytes = offset_bytes;
        while at_bytes < end_bytes {
            let left = end_bytes - at_bytes;
            let mut now = left;
            if head != 0 {
                now = left.min(self.limits.max_transfer()).min(unit - head);
                head = (head + now) % unit;
            } else if tail != 0 && left > unit {
                now -= tail;
            }
            now = now.min(self.limits.max_write_zero());
            if now < unit {
                now = now.min(self.limits.max_transfer());
                self.check(IoType::Write, at_bytes, now);
            } else {
                self.check(IoType::WriteZeroes, at_bytes, now);
            }
            at_bytes += now;
        }
    }

    /// `bdrv_co_pdiscard`: ends that are shorter than the alignment are left alone.
    fn discard(&mut self, offset_bytes: u64, bytes: u64) {
        let (unit, align) = (self.limits.discard_align(), self.limits.align());
        let mut head = offset_bytes % unit;
        let end_bytes = offset_bytes.saturating_add(bytes);
        let tail = end_bytes % unit;
        let mut at_bytes = offset_bytes;
        while at_bytes < end_bytes {
            let left = end_bytes - at_bytes;
            let mut now = left;
            if head != 0 {
                now = left.min(unit - head);
                if now > align {
                    now = if now.is_multiple_of(align) { now } else { now % align };
                }
                head = (head + now) % unit;
            } else if tail != 0 && left > unit {
                now -= tail;
            } else if left > align && !tail.is_multiple_of(align) {
                now -= tail % align;
            }
            now = now.min(self.limits.max_discard());
            if now >= align {
                self.check(IoType::Discard, at_bytes, now);
            }
            at_bytes += now;
        }
    }

    /// `bdrv_co_flush` of the raw node, then of the blkdebug node.
    fn flush(&mut self, unflushed: bool) {
        self.raise(Event::FlushToOs);
        if unflushed {
            self.raise(Event::FlushToDisk);
            self.check(IoType::Flush, 0, 0);
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
