//! Workers that were told to end and are still at the image.
//!
//! Knows: which threads have not ended. Must not know: why. Invariant: while one has not, no worker
//! that starts later takes a request, or what the old one asked of the image could land on what the
//! new one wrote.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Held by a worker's thread until it leaves the image for good.
pub(super) type Presence = Arc<()>;

/// The workers of one disk that are late.
#[derive(Debug, Default)]
pub(super) struct Late(Mutex<Vec<Weak<()>>>);

impl Late {
    /// The thread that holds this presence was not waited for.
    pub(super) fn add(&self, presence: Weak<()>) {
        let mut late = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        late.retain(is_there);
        late.push(presence);
    }

    /// Those that are late now.
    pub(super) fn now(&self) -> Vec<Weak<()>> {
        let late = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        late.iter().filter(|presence| is_there(presence)).cloned().collect()
    }
}

/// Whether a thread has not ended.
pub(super) fn is_there(presence: &Weak<()>) -> bool {
    presence.strong_count() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_late_until_its_thread_is_gone() {
        let late = Late::default();
        let (slow, slower) = (Presence::default(), Presence::default());
        late.add(Arc::downgrade(&slow));
        late.add(Arc::downgrade(&slower));
        assert_eq!(late.now().len(), 2);
        drop(slow);
        assert_eq!(late.now().len(), 1);
        drop(slower);
        assert!(late.now().is_empty());
    }
}
