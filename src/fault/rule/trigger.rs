//! Which requests a rule matches.
//!
//! Knows: a request's shape, time, depth and the engine state. Must not know: what a match does, and
//! how rules keep their triggers (`conditions`). Invariant: what is checked can be met.

use serde::{Deserialize, Serialize};

use super::content::Content;
use super::schedule::{BadSchedule, Schedule};
use crate::fault::slow::Share;
use crate::fault::{Io, IoType, IoTypes, Payload, SectorSet};

/// A request and what the engine may know about its moment.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What it does.
    pub io: Io,
    /// The monotonic time, nanoseconds from any beginning that stays the same.
    pub now_ns: u64,
    /// Requests that the disk has taken and not answered, this one included.
    pub depth: u32,
    /// A write's data.
    pub payload: &'a dyn Payload,
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { io, now_ns, depth, .. } = self;
        write!(f, "{io:?} at {now_ns} ns, depth {depth}")
    }
}

/// A rule's conditions; all must be met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// These requests.
    pub iotypes: IoTypes,
    /// That touch these sectors; empty: any. A flush has no sectors.
    pub sectors: SectorSet,
    /// From this virtqueue.
    pub queue: Option<u16>,
    /// While the engine is in this state.
    pub state: Option<i32>,
    /// While at least so many requests are in flight, this one included.
    pub depth_min: Option<u32>,
    /// At these times.
    pub schedule: Option<Schedule>,
    /// That write this.
    pub content: Option<Content>,
    /// Not the first so many of those.
    pub skip: u64,
    /// After those, every so-manieth: 1 is each, 3 the third, the sixth and so on.
    pub every: u64,
    /// Of those, this share, by chance.
    pub probability: Option<Share>,
    /// And so many of those, then no more.
    pub times: Option<u64>,
}

impl Default for Trigger {
    /// Every request.
    fn default() -> Self {
        Self {
            iotypes: IoTypes::ALL,
            sectors: SectorSet::default(),
            queue: None,
            state: None,
            depth_min: None,
            schedule: None,
            content: None,
            skip: 0,
            every: 1,
            probability: None,
            times: None,
        }
    }
}

/// Why there is no such trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTrigger {
    /// No request.
    #[error("'iotype' expects at least one I/O type")]
    NoIoType,
    /// Sectors of requests that have none.
    #[error("'sectors' expects an 'iotype' other than flush and get-id, which have no sectors")]
    FlushSectors,
    /// Every zeroth.
    #[error("'every' expects 1 or more")]
    Every,
    /// Never.
    #[error("'times' expects 1 or more")]
    Times,
    /// No request at all in flight.
    #[error("'queue-depth' expects 1 or more")]
    Depth,
    /// Content of something that has none.
    #[error("'content' expects 'iotype' to be write and nothing else")]
    ContentOfNonWrite,
    /// Too many ranges.
    #[error("'sectors' expects at most {RANGES_MAX} ranges")]
    Ranges,
    /// A schedule.
    #[error(transparent)]
    Schedule(#[from] BadSchedule),
}

/// Most sector ranges of one rule.
pub const RANGES_MAX: usize = 65_536;

impl Trigger {
    /// Check the conditions against each other.
    ///
    /// # Errors
    /// The first that can never be met.
    pub fn check(&self) -> Result<(), BadTrigger> {
        let only = |iotype| self.iotypes == [iotype].into_iter().collect();
        let no_sectors = !self.iotypes.iter().any(IoType::has_sectors);
        let checks = [
            (self.iotypes.is_empty(), BadTrigger::NoIoType),
            (!self.sectors.is_empty() && no_sectors, BadTrigger::FlushSectors),
            (self.sectors.ranges().len() > RANGES_MAX, BadTrigger::Ranges),
            (self.every == 0, BadTrigger::Every),
            (self.times == Some(0), BadTrigger::Times),
            (self.depth_min == Some(0), BadTrigger::Depth),
            (self.content.is_some() && !only(IoType::Write), BadTrigger::ContentOfNonWrite),
        ];
        if let Some((_, bad)) = checks.into_iter().find(|(is_bad, _)| *is_bad) {
            return Err(bad);
        }
        Ok(self.schedule.map_or(Ok(()), |schedule| schedule.check())?)
    }
}
