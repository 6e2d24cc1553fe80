//! Workers that were told to end and are still at the image.
//!
//! Knows: which threads have not ended, and what a front end may have them wait for. Must not know:
//! the rest of their reasons. Invariant: while one has not, no worker
//! that starts later takes a request, or what the old one asked of the image could land on what the
//! new one wrote.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::bell::let_writers_go;

/// Held by a worker's thread until it leaves the image for good.
pub(super) type Presence = Arc<()>;

/// The workers of one disk that are late.
#[derive(Debug, Default)]
pub(super) struct Late(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    workers: Vec<Weak<()>>,
    /// What some of them may be waiting to write to.
    bells: Vec<File>,
}

impl Late {
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.workers.retain(is_there);
        if state.workers.is_empty() {
            state.bells.clear();
        }
        state
    }

    /// The thread that holds this presence was not waited for.
    pub(super) fn add(&self, presence: Weak<()>) {
        self.state().workers.push(presence);
    }

    /// One that is late may be waiting in a write to these, which a front end filled and made blocking
    /// again: without help it would be there for the next front end too.
    pub(super) fn may_wait_for(&self, bells: impl IntoIterator<Item = File>) {
        let mut state = self.state();
        if !state.workers.is_empty() {
            state.bells.extend(bells);
        }
        state.bells.iter().for_each(let_writers_go);
    }

    /// Let those go who wait for a front end. It is asked for again and again, because a front end that
    /// is still there may undo it before they are gone.
    pub(super) fn let_go(&self) {
        self.state().bells.iter().for_each(let_writers_go);
    }

    /// Those that are late now.
    pub(super) fn now(&self) -> Vec<Weak<()>> {
        self.state().workers.clone()
    }
}

/// Whether a thread has not ended.
pub(super) fn is_there(presence: &Weak<()>) -> bool {
    presence.strong_count() > 0
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::OFlags;

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

    #[test]
    fn who_waits_for_a_front_end_is_let_go_as_often_as_it_is_made_to_wait() {
        let late = Late::default();
        let worker = Presence::default();
        let bell: File = eventfd(0, EventfdFlags::CLOEXEC).unwrap().into();
        late.may_wait_for([bell.try_clone().unwrap()]);
        assert!(late.state().bells.is_empty(), "nobody is late");
        late.add(Arc::downgrade(&worker));
        late.may_wait_for([bell.try_clone().unwrap()]);
        for _ in 0..3 {
            rustix::io::write(&bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
            rustix::fs::fcntl_setfl(&bell, OFlags::empty()).unwrap();
            late.let_go();
            assert_eq!(rustix::io::write(&bell, &1u64.to_ne_bytes()), Ok(8), "there is room");
            late.let_go();
            assert_eq!(rustix::io::read(&bell, &mut [0; 8]), Ok(8), "the call is still there");
        }
        drop(worker);
        late.let_go();
        assert!(late.state().bells.is_empty(), "nobody is late any more");
    }
}
