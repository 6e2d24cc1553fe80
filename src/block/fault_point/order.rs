//! Releasing held requests one after the other.
//!
//! Knows: who comes next. Must not know: how a request ends. Invariant: the next one is released
//! when the one before it has ended, stopped again or is gone, whichever way: a [`Baton`] is handed on
//! by being dropped.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::Shared;
use super::held::{Key, Resume};

/// The right to be under way, in a given order. Must not be dropped under the point's lock.
#[derive(Debug)]
pub(in crate::block) struct Baton {
    shared: Weak<Shared>,
    next: VecDeque<Key>,
    action: Resume,
}

impl Baton {
    /// Release these, in this order.
    pub(super) fn start(shared: &Arc<Shared>, keys: VecDeque<Key>, action: Resume) {
        drop(Self { shared: Arc::downgrade(shared), next: keys, action });
    }
}

impl Drop for Baton {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        while let Some(key) = self.next.pop_front() {
            let mut core = shared.lock();
            let next = std::mem::take(&mut self.next);
            let baton = Self { shared: self.shared.clone(), next, action: self.action };
            match core.registry.hand_on(key, self.action, baton) {
                Ok(()) => {
                    shared.keep_freed(&mut core);
                    return;
                }
                // It was released otherwise; on to the next.
                Err(mut baton) => {
                    self.next = std::mem::take(&mut baton.next);
                    drop(core);
                }
            }
        }
    }
}
