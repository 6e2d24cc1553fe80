//! The blkdebug station: a request goes through its plan, step by step.
//!
//! Knows: the plan of events and checks, and what QEMU's block layer makes of their errors. Must
//! not know: other stations. Invariant: a wait or breakpoint remembers the step behind it, so
//! every event is raised once and every check made once per request.

use std::time::Duration;

use super::Engine;
use super::verdict::{Action, Cause, Notice, Then, Verdict, Waits};
use super::walk::{Passage, Seen, Station};
use crate::errno::Errno;
use crate::fault::blkdebug::machine::{Hit, Machine};
use crate::fault::blkdebug::plan::{self, Leg, Step};
use crate::fault::blkdebug::{Event, Limits};
use crate::fault::rule::{Point, Request};
use crate::fault::{Io, IoType};

/// The blkdebug node that the disk has on top, in effect.
#[derive(Debug, Clone, Default)]
pub(super) struct Blkdebug {
    pub(super) machine: Machine,
    pub(super) limits: Limits,
    /// Flushes reach blkdebug even if nothing was written.
    pub(super) flush_always: bool,
    /// Counts writes, write-zeroes and discards that ended (`BlockDriverState.write_gen`).
    pub(super) written: u64,
    /// What `written` was when the last good flush began (`flushed_gen`).
    pub(super) flushed: u64,
}

impl Blkdebug {
    /// Whether a flush reaches the rules.
    fn is_unflushed(&self) -> bool {
        self.flush_always || self.written != self.flushed
    }
}

impl Engine {
    /// Go through blkdebug's plan of a leg from this step on.
    pub(super) fn pass_blkdebug(
        &mut self,
        request: &Request<'_>,
        passage: &mut Passage,
        notices: &mut Vec<Notice>,
        (leg, step): (Leg, usize),
    ) -> Option<Verdict> {
        passage.station = Station::Rules(Point::BeforeImage, None);
        if self.blkdebug.machine.is_empty() || request.io.iotype == IoType::GetId {
            return None;
        }
        let io = &request.io;
        let Seen { unflushed, .. } = *passage.blkdebug.get_or_insert_with(|| Seen {
            written: self.blkdebug.written,
            unflushed: self.blkdebug.is_unflushed(),
        });
        let limits = self.blkdebug.limits;
        let steps = plan::plan(io, &limits, leg, unflushed);
        let mut at = step;
        while let Some(step) = steps.get(at) {
            at += 1;
            let verdict = match *step {
                Step::Raise(event) => self.raise(event, notices),
                Step::RmwRead { offset_bytes, bytes, left_out } => {
                    let met = self.check(io, (IoType::Read, offset_bytes, bytes), notices);
                    at += met.errno.map_or(0, |_| left_out);
                    met.wait()
                }
                Step::Check { iotype, offset_bytes, bytes } => {
                    let met = self.check_or_fall_back(io, (iotype, offset_bytes, bytes), notices);
                    let unsupported = met.errno == Some(Errno::EOPNOTSUPP);
                    if let Some(leg) = leg.instead(io).filter(|_| unsupported) {
                        passage.station = Station::Blkdebug(leg, 0);
                        return met.wait();
                    }
                    if let Some(failure) = met.failure() {
                        passage.station = Station::Failed;
                        return Some(failure);
                    }
                    met.wait()
                }
            };
            if verdict.is_some() {
                passage.station = Station::Blkdebug(leg, at);
                return verdict;
            }
        }
        if let Some(leg) = leg.next(io, &limits) {
            passage.station = Station::Blkdebug(leg, 0);
        }
        None
    }

    /// QEMU's block layer takes "not supported" from blkdebug as its own: a discard is then done
    /// with (`bdrv_co_pdiscard`), zeroes are written (`bdrv_co_do_pwrite_zeroes`).
    fn check_or_fall_back(
        &mut self,
        io: &Io,
        (iotype, mut offset_bytes, mut bytes): (IoType, u64, u64),
        notices: &mut Vec<Notice>,
    ) -> Met {
        let mut met = self.check(io, (iotype, offset_bytes, bytes), notices);
        if met.errno == Some(Errno::EOPNOTSUPP) && iotype == IoType::Discard {
            return Met { errno: None, ..met };
        }
        while met.errno == Some(Errno::EOPNOTSUPP) && iotype == IoType::WriteZeroes {
            let now_bytes = bytes.min(self.blkdebug.limits.max_transfer());
            met = met.then(self.check(io, (IoType::Write, offset_bytes, now_bytes), notices));
            if met.errno.is_some() || now_bytes == bytes {
                break;
            }
            offset_bytes += now_bytes;
            bytes -= now_bytes;
            met = met.then(self.check(io, (iotype, offset_bytes, bytes), notices));
        }
        met
    }

    /// Ask blkdebug's armed rules for a part of a request.
    fn check(
        &mut self,
        io: &Io,
        (iotype, offset_bytes, bytes): (IoType, u64, u64),
        notices: &mut Vec<Notice>,
    ) -> Met {
        let Some(hit) = self.blkdebug.machine.check(iotype, offset_bytes, bytes) else {
            return Met::default();
        };
        let Hit { number, errno, delay_ns, exhausted } = hit;
        let action = if errno.is_some() { Action::Error } else { Action::Delay };
        notices.push(Notice::hit(Cause::InjectError(number), io, errno, action));
        if exhausted {
            notices.push(Notice::Exhausted(Cause::InjectError(number)));
        }
        Met { number: Some(number), errno, delay_ns }
    }

    /// Raise an event; the verdict is for a request that met breakpoints.
    pub(super) fn raise(&mut self, event: Event, notices: &mut Vec<Notice>) -> Option<Verdict> {
        let from = self.engine_state();
        let tags = self.blkdebug.machine.raise(event);
        notices.extend(self.engine_state_notice(from));
        (!tags.is_empty()).then_some(Verdict::Break { tags, point: None, cause: Cause::Breakpoint })
    }
}

/// What blkdebug did to a part of a request.
#[derive(Debug, Clone, Copy, Default)]
struct Met {
    /// The rule that did it last; `None` if none did anything.
    number: Option<u32>,
    errno: Option<Errno>,
    delay_ns: u64,
}

impl Met {
    /// This, and afterwards another.
    fn then(self, later: Self) -> Self {
        let delay_ns = self.delay_ns.saturating_add(later.delay_ns);
        Self { number: later.number.or(self.number), errno: later.errno, delay_ns }
    }

    /// The wait before the request goes on.
    fn wait(self) -> Option<Verdict> {
        let cause = Cause::InjectError(self.number.filter(|_| self.delay_ns > 0)?);
        Some(Verdict::Delay { waits: self.waits(cause), then: Then::GoOn })
    }

    /// The end of a request that fails, perhaps after a wait.
    fn failure(self) -> Option<Verdict> {
        let (errno, cause) = (self.errno?, Cause::InjectError(self.number?));
        if self.delay_ns == 0 {
            return Some(Verdict::Fail(errno, cause));
        }
        Some(Verdict::Delay { waits: self.waits(cause), then: Then::Fail(errno) })
    }

    fn waits(self, cause: Cause) -> Waits {
        Waits::of(cause, Duration::from_nanos(self.delay_ns))
    }
}
