//! Those who wait until a request is held at a breakpoint.
//!
//! Knows: tags, deadlines and whom to tell. Must not know: what a breakpoint is. Invariants:
//! everyone who waits is told exactly once, never by the thread of a queue; the thread that tells
//! exists only while somebody waits.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::held::HeldReport;

/// Nobody was held there in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no request was held there in time")]
pub struct TimedOut;

pub(super) type Tell = Box<dyn FnOnce(Result<HeldReport, TimedOut>) + Send>;
/// Whether whoever is to be told still listens. Called under locks: must not block.
pub(super) type Listens = Box<dyn Fn() -> bool + Send>;

struct Waiter {
    tag: String,
    deadline: Option<Instant>,
    listens: Listens,
    tell: Tell,
}

/// Most who wait on a disk. Those who went away make room.
const WAITING_MAX: usize = 1000;

/// Everyone who waits on a disk.
#[derive(Default)]
pub(super) struct Waits {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiter>,
    /// To be told by the thread.
    met: Vec<(Waiter, HeldReport)>,
    /// Went away, and are to be told so by the thread.
    gone: Vec<Waiter>,
    /// Whether the thread exists.
    is_served: bool,
    closed: bool,
}

impl Waits {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Have somebody told when a request is held at a tag, or when time is over.
    pub(super) fn add(
        this: &Arc<Self>,
        tag: &str,
        deadline: Option<Instant>,
        listens: Listens,
        tell: Tell,
    ) {
        let mut state = this.lock();
        let (waiting, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.waiting).into_iter().partition(|waiter| (waiter.listens)());
        state.waiting = waiting;
        // The thread tells them as it tells others, in vain.
        state.gone.extend(gone);
        if state.waiting.len() >= WAITING_MAX {
            drop(state);
            log::warn!("more than {WAITING_MAX} wait for held requests: one more is told at once");
            return tell(Err(TimedOut));
        }
        state.waiting.push(Waiter { tag: tag.to_owned(), deadline, listens, tell });
        if !state.is_served {
            let waits = this.clone();
            let name = "fault/waits".to_owned();
            match std::thread::Builder::new().name(name).spawn(move || waits.serve()) {
                Ok(_) => state.is_served = true,
                Err(error) => {
                    log::error!("nobody can wait for a held request: {error}");
                    let waiter = state.waiting.pop();
                    drop(state);
                    if let Some(waiter) = waiter {
                        (waiter.tell)(Err(TimedOut));
                    }
                    return;
                }
            }
        }
        this.changed.notify_all();
    }

    /// A request is held at these tags.
    pub(super) fn met(&self, report: &HeldReport) {
        let mut state = self.lock();
        if state.waiting.is_empty() {
            return;
        }
        let all = std::mem::take(&mut state.waiting);
        let (met, waiting): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|waiter| report.tags.iter().any(|tag| **tag == *waiter.tag));
        state.waiting = waiting;
        state.met.extend(met.into_iter().map(|waiter| (waiter, report.clone())));
        self.changed.notify_all();
    }

    /// Nobody will be held any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let is_late = |waiter: &Waiter| waiter.deadline.is_some_and(|at| at <= now);
            let (met, closed) = (std::mem::take(&mut state.met), state.closed);
            let all = std::mem::take(&mut state.waiting);
            let (mut late, waiting): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|waiter| closed || is_late(waiter));
            late.append(&mut state.gone);
            state.waiting = waiting;
            if !met.is_empty() || !late.is_empty() {
                drop(state);
                met.into_iter().for_each(|(waiter, report)| (waiter.tell)(Ok(report)));
                late.into_iter().for_each(|waiter| (waiter.tell)(Err(TimedOut)));
                state = self.lock();
                continue;
            }
            if state.waiting.is_empty() {
                state.is_served = false;
                return;
            }
            let first = state.waiting.iter().filter_map(|waiter| waiter.deadline).min();
            state = match first.map(|at| at.saturating_duration_since(now)) {
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
