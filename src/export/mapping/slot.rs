//! What a signal handler may be told of one mapping, while other threads change it.
//!
//! Knows: atomics. Must not know: mappings or signals. Invariants: whoever asks is told of one mapping
//! or of none, never of parts of two; nobody waits; a slot is one owner's at a time.
//!
//! `tests/loom` tries this very file with every order of its loads and stores that the language allows.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};

use std::ptr::null_mut;

/// Room to tell of one mapping.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    /// Somebody owns it.
    taken: AtomicBool,
    /// Odd while the rest tells of a mapping; another number for each.
    generation: AtomicUsize,
    start: AtomicUsize,
    bytes: AtomicUsize,
    about: AtomicPtr<T>,
}

impl<T> Slot<T> {
    /// A slot that is the caller's and tells of nothing.
    pub(crate) fn new_taken() -> Self {
        Self {
            taken: AtomicBool::new(true),
            generation: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            about: AtomicPtr::new(null_mut()),
        }
    }

    /// Whether it was free, and is the caller's now.
    pub(crate) fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    /// Tell of a mapping. Only its owner does, when it tells of none.
    pub(crate) fn tell(&self, start: usize, bytes: usize, about: *const T) {
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.about.store(about.cast_mut(), Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Tell of nothing any more, and give it up. Only its owner does.
    pub(crate) fn give_back(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.taken.store(false, Ordering::Release);
    }

    /// The mapping that it tells of, if that holds this address. A slot that changes meanwhile tells
    /// of nothing.
    pub(crate) fn holding(&self, address: usize) -> Option<(usize, usize, *const T)> {
        let generation = self.generation.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Relaxed);
        let bytes = self.bytes.load(Ordering::Relaxed);
        let about = self.about.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let is_true = generation % 2 == 1 && self.generation.load(Ordering::Relaxed) == generation;
        let offset = address.checked_sub(start)?;
        (is_true && offset < bytes).then_some((start, bytes, about.cast_const()))
    }
}
