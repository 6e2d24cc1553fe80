//! Workers that take their turns on the thread that feeds them.
//!
//! Knows: when a worker has come to rest. Must not know: what it does. Invariant: when
//! [`run_workers`] returns, every worker of this thread has seen all that was told and offered to it
//! and would wait for more.

use std::cell::{Cell, RefCell};
use std::io;

use vmm_sys_util::eventfd::EventFd;

use crate::export::control::Listener;
use crate::export::worker::{Loop, WorkerSetup};

/// A worker without a thread.
struct Inline {
    serving: Loop,
    wake: EventFd,
    /// It has had no turn yet.
    is_fresh: bool,
}

thread_local! {
    static HERE: Cell<bool> = const { Cell::new(false) };
    static WORKERS: RefCell<Vec<Inline>> = const { RefCell::new(Vec::new()) };
}

/// Turns until a worker that does not come to rest is taken to spin.
const TURNS_MAX: usize = 100_000;

/// Whether workers that are started by this thread take their turns here, in [`run_workers`].
pub fn take_turns_here(here: bool) {
    HERE.set(here);
}

pub(in crate::export) fn are_here() -> bool {
    HERE.get()
}

/// Take over a worker; it serves when this returns well.
pub(in crate::export) fn adopt(setup: WorkerSetup, listener: Listener) -> io::Result<()> {
    let wake = listener.wake().try_clone()?;
    let serving = Loop::new(setup, listener)?;
    WORKERS.with_borrow_mut(|workers| workers.push(Inline { serving, wake, is_fresh: true }));
    Ok(())
}

/// Let every worker of this thread that something wakes take turns until it would wait again.
///
/// # Panics
/// When one never does.
pub fn run_workers() {
    // What a target found is told by its panic, and not by another on the way out.
    if std::thread::panicking() {
        return;
    }
    WORKERS.with_borrow_mut(|workers| workers.retain_mut(Inline::run));
}

impl Inline {
    /// False when it has ended.
    fn run(&mut self) -> bool {
        if !std::mem::take(&mut self.is_fresh) && !self.serving.would_wake() {
            return true;
        }
        for _ in 0..TURNS_MAX {
            // It finds this when it waits, and takes it away only then.
            let _ = self.wake.write(1);
            if !self.serving.turn() {
                self.serving.end();
                return false;
            }
            if self.wake.read().is_err() {
                return true;
            }
        }
        panic!("a worker spins");
    }
}
