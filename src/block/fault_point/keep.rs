//! Having everything that happens to a disk's faults written down, where it can be.
//!
//! Knows: what a command changes may be refused, and what a request did may not. Must not know: where
//! it is written. Invariants: a change that was made by command was written down before; what happened
//! and could not be written is never passed over: the keeper knows that something is missing until it
//! has written all of it anew.

use std::io;

use super::record::{Freed, Record, Snapshot};
use super::{Core, Shared};
use crate::fault::engine::Refused;

/// Who writes down what the faults of a disk meet. Called under their lock: must be quick.
pub trait Keeper: Send {
    /// The next thing.
    ///
    /// # Errors
    /// It cannot be written; then what was written before is as it was.
    fn record(&mut self, record: &Record) -> io::Result<()>;
    /// Something happened that could not be recorded: from now on something is missing.
    fn miss(&mut self, why: &io::Error);
    /// Whether nothing is missing.
    fn is_whole(&self) -> bool;
    /// Whether it would rather have it all anew.
    fn wants_all(&self) -> bool;
    /// All of it; what was recorded before does not matter any more, and nothing is missing.
    ///
    /// # Errors
    /// It cannot be written; then what was written before is as it was.
    fn replace(&mut self, snapshot: &Snapshot) -> io::Result<()>;
    /// Nobody needs any of it any more.
    fn forget(self: Box<Self>);
}

/// A change cannot be written down, so that it was not made.
#[derive(Debug, thiserror::Error)]
#[error("nothing was changed, because the next daemon could not know of it: {0}")]
pub struct NotKept(pub(super) io::Error);

/// Why a disk's faults were not changed.
#[derive(Debug, thiserror::Error)]
pub enum NotChanged {
    /// The engine refuses.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Whoever keeps the faults cannot.
    #[error(transparent)]
    NotKept(#[from] NotKept),
}

impl Shared {
    /// Have a change written down that is about to be made. One that is then refused may stay
    /// written: it is refused again.
    pub(super) fn keep_first(
        &self,
        core: &mut Core,
        record: impl FnOnce() -> Record,
    ) -> Result<(), NotKept> {
        let Some(mut keeper) = core.keeper.take() else {
            return Ok(());
        };
        let mut kept = Ok(());
        if !keeper.is_whole() || keeper.wants_all() {
            let replaced = keeper.replace(&self.snapshot(core));
            kept = if keeper.is_whole() { Ok(()) } else { replaced };
        }
        let kept = kept.and_then(|()| keeper.record(&record()));
        core.keeper = Some(keeper);
        kept.map_err(NotKept)
    }

    /// Have something written down that has happened, if anybody does.
    pub(super) fn keep(&self, core: &mut Core, record: impl FnOnce() -> Record) {
        let Some(mut keeper) = core.keeper.take() else {
            return;
        };
        // Behind what is missing nothing makes sense.
        if keeper.is_whole()
            && let Err(error) = keeper.record(&record())
        {
            keeper.miss(&error);
        }
        if keeper.wants_all() {
            // If not, it asks again.
            let _ = keeper.replace(&self.snapshot(core));
        }
        core.keeper = Some(keeper);
    }

    /// Note whom the registry let go.
    pub(super) fn keep_freed(&self, core: &mut Core) {
        let now_ns = self.now_ns();
        for ((queue, ordinal), how) in core.registry.take_freed() {
            core.standings.let_go((queue, ordinal), &how, now_ns);
            self.keep(core, || Record::LetGo(Freed { now_ns, queue, ordinal, how }));
        }
    }
}
