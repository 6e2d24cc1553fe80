//! A place where a test lets the process die: everything stored before it is there, nothing after.

use std::cell::Cell;

thread_local! {
    /// Points until the crash; nothing if none is to come.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    /// Stores to guest memory are points too.
    static IN_GUEST: Cell<bool> = const { Cell::new(false) };
}

/// What a crash unwinds with.
pub(in crate::export) struct Crash;

/// Die here, if this is the point.
pub(in crate::export) fn point() {
    match LEFT.get() {
        Some(0) => {
            LEFT.set(None);
            std::panic::resume_unwind(Box::new(Crash));
        }
        Some(left) => LEFT.set(Some(left - 1)),
        None => {}
    }
}

/// Something was stored in guest memory.
pub(in crate::export) fn stored_in_guest() {
    if IN_GUEST.get() {
        point();
    }
}

/// Do what somebody else does meanwhile, who does not die.
pub(super) fn spared<T>(run: impl FnOnce() -> T) -> T {
    let left = LEFT.take();
    let ran = run();
    LEFT.set(left);
    ran
}

/// Like [`run_until`], with every store to guest memory a point too.
pub(super) fn run_until_store<T>(number: u32, run: impl FnOnce() -> T) -> Result<T, Crash> {
    IN_GUEST.set(true);
    let ran = run_until(number, run);
    IN_GUEST.set(false);
    ran
}

/// Run until the point of this number; nothing if it was not reached.
pub(in crate::export) fn run_until<T>(number: u32, run: impl FnOnce() -> T) -> Result<T, Crash> {
    LEFT.set(Some(number));
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    LEFT.set(None);
    ran.map_err(|panic| match panic.downcast::<Crash>() {
        Ok(crash) => *crash,
        Err(other) => std::panic::resume_unwind(other),
    })
}
