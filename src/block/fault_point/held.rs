//! Who is held, why, and who is released.
//!
//! Knows: held requests by what holds them, and the delayed ones beside them. Must not know: where
//! their data is or how they go on; that is their channel's. Invariant: an entry is taken out exactly once, and whoever takes it out
//! posts the one letter that its channel gets about it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use super::delayed::{Delays, Released};
use super::link::{Go, Link, Mail};
use super::order::Baton;
use super::standing::LetGo;
use crate::errno::Errno;
use crate::fault::engine::{Cause, Release, Then};
use crate::fault::manual::DiskStateName;
use crate::fault::rule::{Point, RuleName};
use crate::fault::{Io, IoType, SECTOR_BYTES};

/// Why a request is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldCause {
    /// A state, a rule or a breakpoint holds it.
    Fault(Cause),
    /// The image failed it with this, and the on-error policy holds it.
    ImageError(Errno),
}

/// A held request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldReport {
    /// Its place in the order in which the disk took requests.
    pub ordinal: u64,
    /// The virtqueue it came from.
    pub queue: u16,
    /// What it asks for.
    pub iotype: IoType,
    /// Its first sector, if it is about sectors.
    pub sector: Option<u64>,
    /// Its length; 0 for a flush.
    pub bytes: u64,
    /// The tags that it still waits for; empty where it is not at a breakpoint.
    pub tags: Vec<Arc<str>>,
    /// Where it is, if a native breakpoint holds it.
    pub point: Option<Point>,
    /// Who holds it.
    pub cause: HeldCause,
    /// Since when.
    pub since: SystemTime,
}

impl HeldReport {
    pub(super) fn new(io: &Io, cause: HeldCause) -> Self {
        Self {
            ordinal: io.ordinal,
            queue: io.queue,
            iotype: io.iotype,
            sector: io.iotype.has_sectors().then_some(io.offset_bytes / SECTOR_BYTES),
            bytes: io.bytes,
            tags: Vec::new(),
            point: None,
            cause,
            since: SystemTime::now(),
        }
    }

    fn is_at(&self, tag: &str) -> bool {
        self.tags.iter().any(|known| **known == *tag)
    }
}

/// Which held requests to release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All at this tag.
    Tag(String),
    /// The one at this tag that was held last, as blkdebug's `resume` takes it.
    NewestAt(String),
    /// All that this rule holds or delays.
    Rule(RuleName),
    /// All that the manual state holds or delays.
    State,
    /// All that the image failed.
    OnError,
    /// Everyone, held or delayed.
    All,
    /// These, in this order.
    Ordinals(Vec<u64>),
}

/// What becomes of a released request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// It goes on where it stopped; one that the image failed is asked of the image again; one
    /// that waits for a time goes on as was decided for the end of it.
    Run,
    /// It fails with this.
    Fail(Errno),
}

impl From<Resume> for Go {
    fn from(resume: Resume) -> Self {
        match resume {
            Resume::Run => Self::On,
            Resume::Fail(errno) => Self::Fail(errno),
        }
    }
}

impl From<Then> for Go {
    fn from(then: Then) -> Self {
        match then {
            Then::GoOn => Self::On,
            Then::Fail(errno) => Self::Fail(errno),
        }
    }
}

/// A waiting request's name among all of its disk; later ones are larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(Default))]
pub(in crate::block) struct Key(u64);

/// A held request's entry.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) report: HeldReport,
    /// As was decided, for those whom their cause releases.
    pub(super) then: Then,
    pub(super) link: Arc<Link>,
    /// One of its tags was resumed to fail.
    pub(super) fails: Option<Errno>,
}

/// Everyone who waits on a disk.
#[derive(Debug, Default)]
pub(super) struct Registry {
    held: BTreeMap<Key, Held>,
    /// Whom it let go since somebody asked.
    freed: Vec<((u16, u64), LetGo)>,
    pub(super) delays: Delays,
    next_key: u64,
}

impl Held {
    /// The request's queue and ordinal.
    fn request(&self) -> (u16, u64) {
        (self.report.queue, self.report.ordinal)
    }
}

impl Registry {
    /// Whom it let go since the last call, and how.
    pub(super) fn take_freed(&mut self) -> Vec<((u16, u64), LetGo)> {
        let mut freed = std::mem::take(&mut self.freed);
        freed.append(&mut self.delays.freed);
        freed
    }

    /// A name for a request that is going to wait.
    pub(super) fn next_key(&mut self) -> Key {
        self.next_key += 1;
        Key(self.next_key)
    }

    pub(super) fn insert(&mut self, key: Key, held: Held) {
        self.held.insert(key, held);
    }

    /// Take one out whose time is over; false if it was released meanwhile.
    pub(super) fn take_back(&mut self, key: Key) -> bool {
        self.held.remove(&key).is_some() || self.delays.remove(key)
    }

    /// Forget everyone in this channel.
    pub(super) fn forget(&mut self, link: &Arc<Link>) {
        self.held.retain(|_, held| !Arc::ptr_eq(&held.link, link));
        self.delays.forget(link);
    }

    pub(super) fn held_count(&self) -> usize {
        self.held.len()
    }

    pub(super) fn reports(&self) -> Vec<HeldReport> {
        let mut reports: Vec<_> = self.held.values().map(|held| held.report.clone()).collect();
        reports.sort_by_key(|report| report.ordinal);
        reports
    }

    /// Somebody who is held at this tag: the one that came first.
    pub(super) fn at_tag(&self, tag: &str) -> Option<HeldReport> {
        self.held.values().map(|held| &held.report).find(|report| report.is_at(tag)).cloned()
    }

    /// Release whom a change of the configuration releases, each as was decided for it.
    pub(super) fn release(&mut self, release: &Release) {
        match release {
            Release::State => self.release_decided(&Which::State),
            Release::Rule(name) => self.release_decided(&Which::Rule(name.clone())),
            Release::Tag(tag) => {
                for key in self.keys(|held| {
                    held.report.cause == HeldCause::Fault(Cause::Breakpoint)
                        && held.report.is_at(tag)
                }) {
                    self.take_tag(key, tag, Resume::Run);
                }
            }
        }
    }

    fn release_decided(&mut self, which: &Which) {
        for key in self.keys(|held| which.names(&held.report)) {
            if let Some(held) = self.held.remove(&key) {
                self.freed.push((held.request(), LetGo::Goes(held.then.into())));
                held.link.post(Mail::Released { key, go: held.then.into(), baton: None });
            }
        }
        self.delays.release(|cause| which.names_delay(cause));
    }

    /// Release by command. Tells whom it reached.
    pub(super) fn resume(&mut self, which: &Which, action: Resume) -> Released {
        let mut keys = self.keys(|held| which.names(&held.report));
        if let Which::NewestAt(_) = which {
            // Keys are given in the order in which requests are held, whatever their ordinals.
            keys = keys.into_iter().max().into_iter().collect();
        }
        let go = |this: &mut Self, key| match which {
            Which::Tag(tag) | Which::NewestAt(tag) => this.take_tag(key, tag, action),
            _ => this.hand_over(key, action, None).is_ok(),
        };
        let mut released = self.delays.resume(action, |cause| which.names_delay(cause));
        for key in keys {
            released.count(go(self, key));
        }
        released
    }

    /// The held requests of these ordinals, in their order.
    pub(super) fn in_order(&self, ordinals: &[u64]) -> VecDeque<Key> {
        let mut by_ordinal: BTreeMap<u64, Key> =
            self.held.iter().map(|(key, held)| (held.report.ordinal, *key)).collect();
        ordinals.iter().filter_map(|ordinal| by_ordinal.remove(ordinal)).collect()
    }

    /// Release one in its turn; gives the baton back if it is not held any more.
    pub(super) fn hand_on(&mut self, key: Key, action: Resume, baton: Baton) -> Result<(), Baton> {
        match self.hand_over(key, action, Some(baton)) {
            Ok(()) => Ok(()),
            Err(Some(baton)) => Err(baton),
            Err(None) => Ok(()),
        }
    }

    fn hand_over(
        &mut self,
        key: Key,
        action: Resume,
        baton: Option<Baton>,
    ) -> Result<(), Option<Baton>> {
        let Some(held) = self.held.remove(&key) else {
            return Err(baton);
        };
        self.freed.push((held.request(), LetGo::Goes(action.into())));
        held.link.post(Mail::Released { key, go: action.into(), baton });
        Ok(())
    }

    /// Resume one tag of one request, which goes if it was its last. True if it went.
    fn take_tag(&mut self, key: Key, tag: &str, action: Resume) -> bool {
        let Some(held) = self.held.get_mut(&key) else {
            return false;
        };
        if let Some(place) = held.report.tags.iter().position(|known| **known == *tag) {
            held.report.tags.remove(place);
        }
        if let Resume::Fail(errno) = action {
            held.fails = Some(errno);
        }
        self.freed.push((held.request(), LetGo::LessTag(tag.into(), held.fails)));
        let action = held.fails.map_or(Resume::Run, Resume::Fail);
        held.report.tags.is_empty() && self.hand_over(key, action, None).is_ok()
    }

    /// Whom something is true of, in the order of their ordinals.
    fn keys(&self, is_one: impl Fn(&Held) -> bool) -> Vec<Key> {
        let mut keys: Vec<_> = self
            .held
            .iter()
            .filter(|(_, held)| is_one(held))
            .map(|(key, held)| (held.report.ordinal, *key))
            .collect();
        if !keys.is_sorted() {
            keys.sort_unstable();
        }
        keys.into_iter().map(|(_, key)| key).collect()
    }
}

impl Which {
    /// Whether who waits for a time on this account is meant: where the cause is asked for, not the
    /// request.
    fn names_delay(&self, cause: &Cause) -> bool {
        match (self, cause) {
            (Self::All, _) | (Self::State, Cause::State(_)) => true,
            (Self::Rule(name), Cause::Rule(cause)) => name == cause,
            _ => false,
        }
    }

    fn names(&self, report: &HeldReport) -> bool {
        match (self, &report.cause) {
            (Self::All, _) | (Self::OnError, HeldCause::ImageError(_)) => true,
            (Self::Tag(tag) | Self::NewestAt(tag), _) => report.is_at(tag),
            (Self::Rule(name), HeldCause::Fault(Cause::Rule(cause))) => name == cause,
            (Self::State, HeldCause::Fault(Cause::State(state))) => *state == DiskStateName::Hang,
            (Self::Ordinals(ordinals), _) => ordinals.contains(&report.ordinal),
            (Self::Rule(_) | Self::State | Self::OnError, _) => false,
        }
    }
}
