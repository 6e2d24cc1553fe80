//! One disk's faults, between those who command them and those who carry them out.
//!
//! Knows: the engine, who is held and where, and whom to tell. Must not know: how a verdict is
//! reached (`fault`), how a queue carries one out (`filter`), or who asked (`daemon`). Invariants
//! (promise 4 of the design): a configuration that was confirmed is met by every op submitted
//! later on any channel; whoever is held is released exactly once, because what is decided and
//! who is held change under one lock.

mod ask;
mod counts;
mod delayed;
mod held;
mod keep;
mod line;
mod link;
mod on_error;
mod order;
mod record;
mod standing;
mod waits;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

pub use counts::FaultCounts;
pub use delayed::Released;
pub use held::{HeldCause, HeldReport, Resume, Which};
pub use keep::{Keeper, NotChanged, NotKept};
pub use line::Line;
pub use on_error::OnError;
pub use record::{Record, Snapshot};
pub use waits::TimedOut;

pub(super) use ask::{Answer, Next, Question, Stopping, after};
pub(super) use held::Key;
pub(super) use link::{Go, Link, Mail};
pub(super) use order::Baton;
pub(super) use standing::Standing;

use super::Op;
use crate::fault::engine::{Armed, Change, Engine, Notice};
use crate::fault::manual::DiskState;
use counts::Counters;
use held::Registry;
use record::{at_1970, since_1970};
use standing::Standings;
use waits::Waits;

/// Who is told what a disk's faults do. Called on the data path, without a lock: must not block.
pub trait FaultObserver: Send + Sync {
    /// Rules hit, ended, healed; the engine's state changed. In the order of one request's life.
    fn noticed(&self, notices: &[Notice]);
    /// A request met a breakpoint and is held there.
    fn stopped_at(&self, held: &HeldReport);
    /// The front end is being disconnected by a rule or by state offline; the export knows already.
    fn disconnect(&self);
    /// The image failed a request, which is held by the on-error policy: BLOCK_IO_ERROR with
    /// action `stop`.
    fn held_on_error(&self, held: &HeldReport);
}

/// What a disk's faults are at one moment, but for its rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// The manual state.
    pub state: DiskState,
    /// When it was entered.
    pub since: SystemTime,
    /// How many requests are held.
    pub held: usize,
    /// The number that `set-state` rules change.
    pub engine_state: i32,
    /// What every random choice is a function of.
    pub seed: u64,
    /// What becomes of requests that the image fails.
    pub on_error: OnError,
    /// What was done so far.
    pub counts: FaultCounts,
    /// Whether the next process would find all of this, if anybody keeps it.
    pub is_kept: Option<bool>,
}

/// One disk's faults: what is armed now, who is held, and what it did so far.
pub struct FaultPoint {
    shared: Arc<Shared>,
}

/// What the point, the channels and the releases in order have together.
pub(super) struct Shared {
    /// Changes whenever a channel has to look again; the one load of an ordinary disk.
    generation: AtomicU64,
    core: Mutex<Core>,
    counters: Counters,
    observer: OnceLock<Arc<dyn FaultObserver>>,
    line: Arc<Line>,
    waits: Arc<Waits>,
    /// The engine's time counts from here, where it was `base_ns`.
    started: Instant,
    base_ns: u64,
}

/// What only changes under the lock.
struct Core {
    engine: Engine,
    since: SystemTime,
    on_error: OnError,
    registry: Registry,
    links: Vec<Arc<Link>>,
    standings: Standings,
    /// The engine was asked about no request of this ordinal or a higher one.
    ordinals_end: u64,
    keeper: Option<Box<dyn Keeper>>,
}

/// What a channel needs to know to let requests pass without the lock.
#[derive(Debug, Clone)]
pub(super) struct InForce {
    pub(super) generation: u64,
    /// `None` where every request passes.
    pub(super) armed: Option<Arc<Armed>>,
    pub(super) on_error: OnError,
}

impl Default for FaultPoint {
    /// The faults of a disk whose random choices are nobody's concern.
    fn default() -> Self {
        Self::new(0)
    }
}

impl FaultPoint {
    /// An ordinary disk. Every random choice will be a function of the seed, a rule's name and a
    /// request's ordinal.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::from_snapshot(Snapshot::of(Engine::new(seed)))
    }

    /// Faults as they were in another process, or at another time. Schedules and waits went on
    /// meanwhile.
    #[must_use]
    pub fn from_snapshot(snapshot: Snapshot) -> Self {
        let base_ns = snapshot.base_ns();
        let Snapshot { engine, on_error, entered_ns, counts, standings, ordinals_end, .. } =
            snapshot;
        let line = Line::default();
        line.set_down(*engine.state() == DiskState::Offline);
        let core = Core {
            engine,
            since: at_1970(entered_ns),
            on_error,
            registry: Registry::default(),
            links: Vec::new(),
            standings,
            ordinals_end,
            keeper: None,
        };
        Self {
            shared: Arc::new(Shared {
                generation: AtomicU64::new(0),
                core: Mutex::new(core),
                counters: Counters::from(counts),
                observer: OnceLock::new(),
                line: Arc::new(line),
                waits: Arc::default(),
                started: Instant::now(),
                base_ns,
            }),
        }
    }

    /// Have everything written down from now on.
    ///
    /// # Errors
    /// What the faults are now cannot be: what the keeper had before is as it was, and goes on.
    pub fn set_keeper(&self, mut keeper: Box<dyn Keeper>) -> Result<(), NotKept> {
        let mut core = self.shared.lock();
        let kept = keeper.replace(&self.shared.snapshot(&core));
        core.keeper = Some(keeper);
        kept.map_err(NotKept)
    }

    /// Have nothing written down any more.
    pub fn take_keeper(&self) -> Option<Box<dyn Keeper>> {
        self.shared.lock().keeper.take()
    }

    /// What the faults are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot(&self.shared.lock())
    }

    /// Have somebody told. The first one stays; false for any later one.
    pub fn set_observer(&self, observer: Arc<dyn FaultObserver>) -> bool {
        self.shared.observer.set(observer).is_ok()
    }

    /// Make changes, all or none. They are in force for every op submitted after this returns;
    /// requests that they release go on or fail, as was decided when their wait began.
    ///
    /// # Errors
    /// The first change that cannot be made, or cannot be kept; then nothing has changed.
    pub fn configure(&self, changes: Vec<Change>) -> Result<(), NotChanged> {
        self.configure_telling(changes, |_| ())
    }

    /// The same; `tell` hears of it before any request meets it, and must not block.
    ///
    /// # Errors
    /// The first change that cannot be made, or cannot be kept; then nothing has changed, and nobody
    /// heard.
    pub fn configure_telling(
        &self,
        changes: Vec<Change>,
        tell: impl FnOnce(&Engine),
    ) -> Result<(), NotChanged> {
        let enters = changes.iter().any(|change| matches!(change, Change::SetState(_)));
        let shared = &self.shared;
        let mut core = shared.lock();
        let was_offline = *core.engine.state() == DiskState::Offline;
        let (now_ns, since) = (shared.now_ns(), SystemTime::now());
        let entered_ns = enters.then(|| since_1970(since));
        shared.keep_first(&mut core, || Record::Configured {
            now_ns,
            entered_ns,
            changes: changes.clone(),
        })?;
        let applied = core.engine.configure(changes, now_ns)?;
        tell(&core.engine);
        if enters {
            core.since = since;
        }
        for release in &applied.released {
            core.registry.release(release);
        }
        shared.keep_freed(&mut core);
        // Those whose channel is gone. Nothing is written down: whoever reads of the change does the same.
        core.standings.release(&applied.released, now_ns);
        let is_offline = *core.engine.state() == DiskState::Offline;
        shared.line.set_down(is_offline);
        shared.generation.fetch_add(1, Ordering::SeqCst);
        drop(core);
        shared.notice(&applied.notices);
        if is_offline && !was_offline {
            shared.disconnect();
        }
        Ok(())
    }

    /// Look at the engine, as of one moment. Requests that have to ask wait meanwhile.
    pub fn inspect<R>(&self, look: impl FnOnce(&Engine) -> R) -> R {
        look(&self.shared.lock().engine)
    }

    /// The engine's time, nanoseconds since the point was made: that of reports.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.shared.now_ns()
    }

    /// A disk's faults but its rules, as of one moment.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let core = self.shared.lock();
        Overview {
            state: core.engine.state().clone(),
            since: core.since,
            held: core.registry.held_count(),
            engine_state: core.engine.engine_state(),
            seed: core.engine.seed(),
            on_error: core.on_error,
            counts: self.counts(),
            is_kept: core.keeper.as_ref().map(|keeper| keeper.is_whole()),
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        self.shared.counters.now()
    }

    /// Requests that the disk has taken and not answered now.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.shared.lock().depth()
    }

    /// The requests that are held now, in the order of their ordinals.
    #[must_use]
    pub fn held(&self) -> Vec<HeldReport> {
        self.shared.lock().registry.reports()
    }

    /// Release waiting requests; tells how many. One that has other tags left stays until those are
    /// resumed too, one that is delayed for others as well until then.
    ///
    /// [`Which::Ordinals`] are released one after the other: each when the one before it has ended
    /// or has stopped again.
    pub fn resume(&self, which: &Which, action: Resume) -> Released {
        let mut core = self.shared.lock();
        if let Which::Ordinals(ordinals) = which {
            let keys = core.registry.in_order(ordinals);
            let count = keys.len();
            drop(core);
            Baton::start(&self.shared, keys, action);
            return Released { reached: count, gone: count };
        }
        let released = core.registry.resume(which, action);
        self.shared.keep_freed(&mut core);
        released
    }

    /// Tell once, when a request is held at this tag: at once if one is, else when one comes, or
    /// that the time is over. `tell` is never called on the data path. `listens` says whether anybody
    /// still wants to know, and must not block: others who wait get the place of one who does not.
    pub fn on_held(
        &self,
        tag: &str,
        deadline: Option<Instant>,
        listens: Box<dyn Fn() -> bool + Send>,
        tell: Box<dyn FnOnce(Result<HeldReport, TimedOut>) + Send>,
    ) {
        let core = self.shared.lock();
        if let Some(report) = core.registry.at_tag(tag) {
            drop(core);
            return tell(Ok(report));
        }
        Waits::add(&self.shared.waits, tag, deadline, listens, tell);
    }

    /// What becomes, from now on, of requests that the image fails.
    ///
    /// # Errors
    /// It cannot be kept; then nothing has changed.
    pub fn set_on_error(&self, policy: OnError) -> Result<(), NotKept> {
        let mut core = self.shared.lock();
        self.shared.keep_first(&mut core, || Record::OnError { policy })?;
        core.on_error = policy;
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        let elapsed_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.base_ns.saturating_add(elapsed_ns)
    }

    fn snapshot(&self, core: &Core) -> Snapshot {
        Snapshot {
            engine: core.engine.clone(),
            on_error: core.on_error,
            entered_ns: since_1970(core.since),
            now_ns: self.now_ns(),
            at_ns: since_1970(SystemTime::now()),
            counts: self.counters.now(),
            standings: core.standings.clone(),
            ordinals_end: core.ordinals_end,
        }
    }

    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// Whether a channel has to look again.
    ///
    /// The load is relaxed: an op's ring entry was read with acquire ordering from memory that a
    /// guest wrote after the operator had the reply, so the new number is already visible.
    pub(super) fn is_newer_than(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Relaxed) != generation
    }

    /// What is in force now.
    pub(super) fn in_force(&self) -> InForce {
        let core = self.lock();
        let armed = core.engine.armed();
        InForce {
            generation: self.generation.load(Ordering::SeqCst),
            armed: (!armed.is_idle()).then_some(armed),
            on_error: core.on_error,
        }
    }

    /// A new channel's end of it.
    pub(super) fn add_link(&self, link: &Arc<Link>) {
        self.lock().links.push(link.clone());
    }

    /// A channel is gone, and so is everyone who waits in it.
    pub(super) fn remove_link(&self, link: &Arc<Link>) {
        let mut core = self.lock();
        core.registry.forget(link);
        core.links.retain(|known| !Arc::ptr_eq(known, link));
    }

    /// Forget who waits in a channel.
    pub(super) fn forget(&self, link: &Arc<Link>) {
        self.lock().registry.forget(link);
    }

    /// Of this channel's queue, an earlier channel left these and no others.
    pub(super) fn take_up(&self, link: &Arc<Link>, queue: u16, ordinals: &[u64]) {
        link.set_resumed();
        self.lock().standings.retain(queue, ordinals);
    }

    /// Where a request stands that an earlier channel had.
    pub(super) fn standing(&self, op: &Op) -> Option<Standing> {
        self.lock().standings.find(&op.io())
    }

    /// These were answered.
    pub(super) fn forget_standings(&self, answered: &[(u16, u64)]) {
        self.lock().standings.forget(answered);
    }

    /// Take one request back whose time is over; false if it was released meanwhile.
    pub(super) fn take_back(&self, key: Key) -> bool {
        self.lock().registry.take_back(key)
    }

    pub(super) fn count_failed(&self, op: &Op) {
        self.counters.count_failed(op.io().iotype);
    }

    fn notice(&self, notices: &[Notice]) {
        if let Some(observer) = self.observer.get().filter(|_| !notices.is_empty()) {
            observer.noticed(notices);
        }
    }

    fn disconnect(&self) {
        self.line.cut();
        if let Some(observer) = self.observer.get() {
            observer.disconnect();
        }
    }
}

impl Core {
    fn depth(&self) -> u32 {
        self.links.iter().map(|link| link.depth()).sum()
    }
}

impl Drop for FaultPoint {
    fn drop(&mut self) {
        self.shared.waits.close();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl fmt::Debug for FaultPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.shared.lock();
        let state = core.engine.state();
        f.debug_struct("FaultPoint").field("state", state).finish_non_exhaustive()
    }
}
