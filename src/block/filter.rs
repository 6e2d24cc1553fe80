//! The fault filter: the shell around the fault engine.
//!
//! Knows: which snapshot of the operator's wishes is in force, and how to apply a verdict. Must
//! not know: how a verdict is reached (`fault`) or who asked (`monitor`).
//!
//! Invariant (promise 4 of the design): once [`FaultPoint::set_state`] has returned, every op
//! submitted on any channel meets the new state. The caller replies to the operator after it
//! returns, and workers submit after they took a request from the ring, so no request that was
//! taken from a ring after the reply is on the wrong side of it.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use super::{Channel, Completion, Geometry, Node, Op};
use crate::errno::Errno;
use crate::fault::{ManualState, Snapshot, Verdict};

/// One disk's faults: what is armed now, and what it did so far.
#[derive(Debug)]
pub struct FaultPoint {
    /// Whether anything but [`Snapshot::IDLE`] is in force; the one load of an ordinary disk.
    armed: AtomicBool,
    current: RwLock<InForce>,
    failed: AtomicU64,
}

#[derive(Debug, Clone)]
struct InForce {
    snapshot: Arc<Snapshot>,
    since: SystemTime,
}

/// What an operator may ask about a disk's faults.
#[derive(Debug, Clone)]
pub struct FaultReport {
    /// The manual state with its options.
    pub state: ManualState,
    /// When it was entered.
    pub since: SystemTime,
    /// Requests that failed by decision.
    pub failed: u64,
}

impl Default for FaultPoint {
    fn default() -> Self {
        Self {
            armed: AtomicBool::new(false),
            current: RwLock::new(InForce {
                snapshot: Arc::new(Snapshot::IDLE),
                since: SystemTime::now(),
            }),
            failed: AtomicU64::new(0),
        }
    }
}

impl FaultPoint {
    /// Enter a state, in force for every op submitted after this returns. Tells the one left.
    pub fn set_state(&self, state: ManualState) -> ManualState {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let previous = current.snapshot.state;
        let snapshot = Arc::new(Snapshot { state });
        let armed = !snapshot.is_idle();
        *current = InForce { snapshot, since: SystemTime::now() };
        self.armed.store(armed, Ordering::SeqCst);
        previous
    }

    /// What is in force and what it did.
    #[must_use]
    pub fn report(&self) -> FaultReport {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        FaultReport {
            state: current.snapshot.state,
            since: current.since,
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// The snapshot to consult; `None` where every op passes.
    ///
    /// The load is relaxed: the op's ring entry was read with acquire ordering from memory that a
    /// guest wrote after the operator had the reply, so the store is already visible.
    fn armed(&self) -> Option<Arc<Snapshot>> {
        if !self.armed.load(Ordering::Relaxed) {
            return None;
        }
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(current.snapshot.clone())
    }
}

/// A node whose ops the fault engine sees first.
#[derive(Debug)]
pub struct FaultFilter {
    below: Arc<dyn Node>,
    point: Arc<FaultPoint>,
}

impl FaultFilter {
    /// Put a disk's faults in front of a node.
    #[must_use]
    pub fn new(below: Arc<dyn Node>, point: Arc<FaultPoint>) -> Self {
        Self { below, point }
    }
}

impl Node for FaultFilter {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    fn channel(&self) -> io::Result<Box<dyn Channel>> {
        let below = self.below.channel()?;
        Ok(Box::new(FilterChannel { below, point: self.point.clone(), decided: Vec::new() }))
    }

    fn resize(&self, size_bytes: u64) -> Result<(), Errno> {
        self.below.resize(size_bytes)
    }
}

struct FilterChannel {
    below: Box<dyn Channel>,
    point: Arc<FaultPoint>,
    /// Ops that ended by decision since the last poll.
    decided: Vec<Completion>,
}

impl Channel for FilterChannel {
    fn submit(&mut self, op: Op) {
        let Some(snapshot) = self.point.armed() else {
            return self.below.submit(op);
        };
        match snapshot.decide(&op.io()) {
            Verdict::Pass => self.below.submit(op),
            Verdict::Fail(errno, _) => {
                self.point.failed.fetch_add(1, Ordering::Relaxed);
                self.decided.push(op.complete(Err(errno)));
            }
        }
    }

    fn commit(&mut self) {
        self.below.commit();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.decided);
        self.below.poll(done);
    }

    /// Decided ops need no waking: the worker polls after it submits and before it sleeps.
    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.below.wake_fd()
    }
}
