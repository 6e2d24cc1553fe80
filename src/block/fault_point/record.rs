//! What a disk's faults have met, one thing after the other, and what they came to.
//!
//! Knows: everything the engine is told, in the order it is told. Must not know: where it is
//! written. Invariant: the engine decides alike whenever it is told alike, so a [`Snapshot`] and the
//! [`Record`]s behind it make the same engine and the same standings once more.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::standing::{LetGo, Standings};
use super::{FaultCounts, OnError};
use crate::errno::Errno;
use crate::fault::Io;
use crate::fault::engine::{Change, Engine};
use crate::fault::rule::{Payload, Request};

/// One thing that the faults of a disk met.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "what")]
pub enum Record {
    /// The configuration was changed.
    Configured {
        /// The engine's time.
        now_ns: u64,
        /// When a state was entered, if one was, since 1970.
        entered_ns: Option<u64>,
        /// In order.
        changes: Vec<Change>,
    },
    /// The policy for errors of the image was set.
    OnError {
        /// It.
        policy: OnError,
    },
    /// The engine was asked.
    Asked(Asked),
    /// A request that waits was let go, or waits for less.
    LetGo(Freed),
}

/// A question to the engine.
#[derive(Debug, Serialize, Deserialize)]
pub struct Asked {
    pub(super) now_ns: u64,
    pub(super) depth: u32,
    pub(super) io: Io,
    pub(super) step: Step,
    /// What was read of the payload.
    pub(super) reads: Vec<Read>,
}

/// What was asked.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Step {
    Decide,
    GoOn,
    /// The result, and whether it was decided.
    Finished(Result<(), Errno>, bool),
}

/// Whom what happened to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Freed {
    pub(super) now_ns: u64,
    pub(super) queue: u16,
    pub(super) ordinal: u64,
    pub(super) how: LetGo,
}

/// What the faults of a disk are at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    pub(super) engine: Engine,
    pub(super) on_error: OnError,
    /// When the manual state was entered, since 1970.
    pub(super) entered_ns: u64,
    /// The engine's time, and what time it was then, since 1970.
    pub(super) now_ns: u64,
    pub(super) at_ns: u64,
    pub(super) counts: FaultCounts,
    pub(super) standings: Standings,
    /// No request was numbered this or higher.
    pub(super) ordinals_end: u64,
}

impl Snapshot {
    /// The faults of a disk of which nothing was asked yet.
    #[must_use]
    pub fn of(engine: Engine) -> Self {
        let at_ns = since_1970(SystemTime::now());
        Self {
            engine,
            on_error: OnError::Report,
            entered_ns: at_ns,
            now_ns: 0,
            at_ns,
            counts: FaultCounts::default(),
            standings: Standings::default(),
            ordinals_end: 0,
        }
    }

    /// Let what happened next happen. What was told then is told to nobody.
    pub fn meet(&mut self, record: Record) {
        match record {
            Record::Configured { now_ns, entered_ns, changes } => {
                self.pass_until(now_ns);
                // What was changed then can be changed now, and what was refused is refused: the
                // engine is the same.
                if let Ok(applied) = self.engine.configure(changes, now_ns) {
                    self.entered_ns = entered_ns.unwrap_or(self.entered_ns);
                    self.standings.release(&applied.released, now_ns);
                }
            }
            Record::OnError { policy } => self.on_error = policy,
            Record::Asked(asked) => self.ask(&asked),
            Record::LetGo(Freed { now_ns, queue, ordinal, how }) => {
                self.pass_until(now_ns);
                self.standings.let_go((queue, ordinal), &how, now_ns);
            }
        }
    }

    /// The engine's time goes on, and so does the world's.
    fn pass_until(&mut self, now_ns: u64) {
        let passed_ns = now_ns.saturating_sub(self.now_ns);
        self.now_ns += passed_ns;
        self.at_ns = self.at_ns.saturating_add(passed_ns);
    }

    fn ask(&mut self, asked: &Asked) {
        let Asked { now_ns, depth, io, step, reads } = asked;
        self.pass_until(*now_ns);
        self.ordinals_end = self.ordinals_end.max(io.ordinal.saturating_add(1));
        let request =
            Request { io: *io, now_ns: *now_ns, depth: *depth, payload: &reads.as_slice() };
        let passage = self.standings.passage(io);
        let decision = match (step, passage) {
            (Step::Decide, _) => self.engine.decide(&request),
            (Step::GoOn, Some(passage)) => self.engine.go_on(&request, passage),
            (Step::Finished(result, _), Some(passage)) => {
                self.engine.finished(&request, passage, *result)
            }
            // Forgotten among too many: as if it had never been.
            (_, None) => return,
        };
        self.counts.count(&decision.verdict);
        if let Step::Finished(Err(_), true) = step {
            self.counts.count_failed(io.iotype);
        }
        self.standings.note(io, &decision, step.result(), *now_ns);
    }

    /// How many requests wait to be let go.
    #[must_use]
    pub fn held(&self) -> usize {
        self.standings.held_count()
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What becomes of requests that the image fails.
    #[must_use]
    pub fn on_error(&self) -> OnError {
        self.on_error
    }

    /// Ordinals below this were given.
    #[must_use]
    pub fn ordinals_end(&self) -> u64 {
        self.ordinals_end
    }

    /// The engine's time now, if it was `at_ns` since 1970 when it was taken.
    pub(super) fn base_ns(&self) -> u64 {
        let passed = since_1970(SystemTime::now()).saturating_sub(self.at_ns);
        self.now_ns.saturating_add(passed)
    }
}

impl Step {
    pub(super) fn result(self) -> Option<(Result<(), Errno>, bool)> {
        match self {
            Self::Finished(result, decided) => Some((result, decided)),
            Self::Decide | Self::GoOn => None,
        }
    }
}

/// A moment as nanoseconds since 1970.
pub(super) fn since_1970(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The moment so many nanoseconds after 1970.
pub(super) fn at_1970(ns: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(ns)
}

/// One read of a payload: where, and what was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Read(u64, usize, Option<Vec<u8>>);

/// A payload that remembers what was read of it.
pub(super) struct Heard<'a> {
    payload: &'a dyn Payload,
    reads: RefCell<Vec<Read>>,
}

impl<'a> Heard<'a> {
    pub(super) fn new(payload: &'a dyn Payload) -> Self {
        Self { payload, reads: RefCell::default() }
    }

    pub(super) fn into_reads(self) -> Vec<Read> {
        self.reads.into_inner()
    }
}

impl Payload for Heard<'_> {
    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> bool {
        let is_there = self.payload.read(offset_bytes, into);
        let found = is_there.then(|| into.to_vec());
        self.reads.borrow_mut().push(Read(offset_bytes, into.len(), found));
        is_there
    }
}

impl Payload for &[Read] {
    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> bool {
        let same = |read: &&Read| read.0 == offset_bytes && read.1 == into.len();
        match self.iter().find(same).and_then(|read| read.2.as_deref()) {
            Some(found) if found.len() == into.len() => {
                into.copy_from_slice(found);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_passed_before_the_last_record_does_not_pass_again() {
        let mut snapshot = Snapshot::of(Engine::new(0));
        let ago = Duration::from_secs(100);
        snapshot.at_ns = since_1970(SystemTime::now() - ago);
        snapshot.meet(Record::Configured {
            now_ns: 90_000_000_000,
            entered_ns: None,
            changes: vec![],
        });
        let now_s = Duration::from_nanos(snapshot.base_ns()).as_secs();
        assert!((100..150).contains(&now_s), "the engine's time is {now_s} s");
    }
}
