//! What a worker takes up: requests that an earlier one took and did not answer.
//!
//! Knows: whom they wait for, and what becomes of them when the ring stops before they were done. Must not
//! know: how a request is done. Invariants: while a late worker is at the image none is submitted, because
//! its own older half may be what is late; a ring that stops answers them all, unless its log keeps them
//! for the next worker.

use std::time::Instant;

use super::super::chain::walk;
use super::super::disk::HeldOnStop;
#[cfg(feature = "fuzzing")]
use super::super::fuzzing::watch::{Event, tell};
use super::super::inflight::Taken;
use super::super::patience::Patience;
use super::super::redo::Redo;
use super::super::request::{Parsed, Terms, parse};
use super::super::round::ROUND_BYTES_MAX;
use super::Loop;

impl Loop {
    /// Whether they may be done, as far as others are concerned.
    fn may_finish(&self) -> bool {
        !self.is_abandoned() && self.ring.is_usable() && self.late.is_over()
    }

    /// Do some, up to [`ROUND_BYTES_MAX`].
    pub(super) fn finish(&mut self) {
        self.now = Instant::now();
        let mut asked_bytes = 0;
        while asked_bytes < ROUND_BYTES_MAX
            && !self.is_abandoned()
            && let Some(taken) = self.unfinished.pop()
        {
            asked_bytes += self.take_up(taken, self.redo);
        }
    }

    /// Do all of them, if they may be done.
    pub(super) fn finish_all(&mut self) {
        while self.may_finish() && !self.unfinished.is_empty() {
            self.finish();
        }
    }

    fn take_up(&mut self, Taken { head, ordinal }: Taken, redo: Redo) -> u64 {
        #[cfg(feature = "fuzzing")]
        tell(Event::Taking { queue: self.queue, head });
        let bytes = self.do_head(head, ordinal, Some(redo));
        #[cfg(feature = "fuzzing")]
        tell(Event::Taken);
        bytes
    }

    /// Whether the log keeps what a fault holds, or what cannot be done now, for the next worker.
    pub(super) fn keeps(&self) -> bool {
        let keeps = self.disk.options.held_on_stop == HeldOnStop::Keep;
        self.ring.has_log() && (keeps || self.is_abandoned())
    }

    /// Whether the ring stops and cannot yet, because some are still to be answered.
    pub(super) fn owes(&self) -> bool {
        !self.unfinished.is_empty() && !self.keeps() && self.ring.is_usable()
    }

    /// The ring stops: do them as soon as nobody is late any more, and fail those that have waited for that
    /// as long as for the image. True if there was one.
    pub(super) fn settle(&mut self, patience: Patience) -> bool {
        if !self.owes() {
            return false;
        }
        let before = self.unfinished.len();
        self.finish_all();
        if !self.late.is_over() {
            self.now = Instant::now();
            self.fail_undone(patience);
        }
        self.unfinished.len() < before
    }

    fn fail_undone(&mut self, patience: Patience) {
        if !patience.is_over(false, self.now) {
            return;
        }
        let before = self.given_up;
        for taken in std::mem::take(&mut self.unfinished).into_iter().rev() {
            if !patience.is_over(true, self.now) && self.is_read(taken.head) {
                self.unfinished.insert(0, taken);
                continue;
            }
            self.given_up += 1;
            self.take_up(taken, Redo::Fail);
        }
        if self.given_up > before {
            log::error!(
                "disk {} queue {}: {} requests wait for what was given up before: failed, for the ring \
                 stops",
                self.disk.options.id,
                self.queue,
                self.given_up - before
            );
        }
    }

    /// Whether a head's request has the image write to the guest's memory, as its older half may yet do.
    fn is_read(&self, head: u16) -> bool {
        let writeback = self.disk.options.writeback;
        let terms = Terms::of(self.features, writeback, writeback);
        let chain = walk(&self.memory, self.ring.table(), head, self.ring.indirect());
        chain.is_ok_and(|chain| {
            let parsed = parse(&self.disk, terms, &self.memory, head, chain, self.now);
            matches!(parsed, Parsed::Submit(request, _) if request.is_read())
        })
    }
}
