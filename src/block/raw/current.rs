//! The image that is open now.
//!
//! Knows: which description new ops go to. Invariant: an op that is submitted after
//! [`Current::replace`] returned goes to the new one; the old one lives until its ops have ended,
//! and no longer, because nobody else keeps it.

use std::sync::{Arc, PoisonError, RwLock};

use super::open::Opened;

#[derive(Debug)]
pub(super) struct Current(RwLock<Arc<Opened>>);

impl Current {
    pub(super) fn new(opened: Opened) -> Self {
        Self(RwLock::new(Arc::new(opened)))
    }

    pub(super) fn get(&self) -> Arc<Opened> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn replace(&self, opened: Opened) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(opened);
    }
}
