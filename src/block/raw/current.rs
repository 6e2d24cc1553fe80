//! The image that is open now.
//!
//! Knows: which description new ops go to. Must not know: what they ask for. Invariants: an op that is
//! submitted after [`Current::replace`] returned goes to the new one; the old one lives until its ops
//! have ended, and no longer, because nobody else keeps it; to find the image, a channel writes to no
//! memory that another channel uses, so that queues add up.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;

use super::open::Opened;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
pub(super) struct Current {
    now: ArcSwap<Opened>,
    seats: Mutex<Vec<Weak<Seat>>>,
}

impl Current {
    pub(super) fn new(opened: Opened) -> Self {
        Self { now: ArcSwap::from_pointee(opened), seats: Mutex::default() }
    }

    /// Keep it.
    pub(super) fn get(&self) -> Arc<Opened> {
        self.now.load_full()
    }

    /// Look at it.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Opened) -> R) -> R {
        look(&self.now.load())
    }

    /// Where a channel finds it, from now on.
    pub(super) fn seat(&self) -> Arc<Seat> {
        let mut seats = lock(&self.seats);
        let seat = Arc::new(Seat(Mutex::new(self.get().into())));
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Arc::downgrade(&seat));
        seat
    }

    pub(super) fn replace(&self, opened: Opened) {
        let opened = Arc::new(opened);
        let seats = lock(&self.seats);
        self.now.store(opened.clone());
        for seat in seats.iter().filter_map(Weak::upgrade) {
            *lock(&seat.0) = opened.clone().into();
        }
    }
}

/// One channel's way to the image. Processors fetch lines of 64 bytes by twos.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Seat(Mutex<Kept>);

impl Seat {
    /// What an op goes to that is submitted now.
    pub(super) fn image(&self) -> Kept {
        lock(&self.0).clone()
    }
}

/// An image that is kept open. Those of one seat have a count of their own.
#[allow(clippy::redundant_allocation)] // The image's own count is the seats'.
#[derive(Debug, Clone)]
pub(super) struct Kept(Arc<Arc<Opened>>);

impl From<Arc<Opened>> for Kept {
    fn from(opened: Arc<Opened>) -> Self {
        Self(Arc::new(opened))
    }
}

impl Deref for Kept {
    type Target = Opened;

    fn deref(&self) -> &Opened {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::raw::RawOptions;

    #[test]
    fn a_replaced_image_lives_in_no_seat_and_until_its_ops_have_ended() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let open = |before| Opened::open(RawOptions::new(named.path()), before).unwrap();
        let current = Current::new(open(None));
        let first = Arc::downgrade(&current.get());
        let (seat, idle, gone) = (current.seat(), current.seat(), current.seat());
        drop(gone);
        let op = seat.image();
        let next = open(Some(&current.get()));
        current.replace(next);
        let second = current.get();
        for image in [seat.image(), idle.image(), current.seat().image()] {
            assert!(Arc::ptr_eq(&*image.0, &second));
        }
        assert!(current.look(|image| std::ptr::eq(image, Arc::as_ptr(&second))));
        assert_eq!(first.strong_count(), 1, "the op's, beside two channels");
        drop(op);
        assert!(first.upgrade().is_none());
    }
}
