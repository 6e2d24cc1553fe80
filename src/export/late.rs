//! Workers that were told to end and are still at the image.
//!
//! Knows: which threads have not ended, and what a front end may have them wait for. Must not know:
//! the rest of their reasons. Invariant: while one has not, no worker over the same image that starts
//! later takes a request, whichever disk it is of, or what the old one asked of the image could land on
//! what the new one wrote.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::bell::let_writers_go;

/// How long until another look whether late workers have left the image.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Held by a worker's thread until it leaves the image for good.
pub(super) type Presence = Arc<()>;

/// The workers over one image that are late, whichever of its disks they are of.
#[derive(Debug, Default)]
pub struct Late(Mutex<State>);

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

/// The late workers that one waits for who started after them.
#[derive(Debug)]
pub(super) struct Wait {
    late: Arc<Late>,
    workers: Vec<Weak<()>>,
}

impl Wait {
    /// Wait for those that are late now.
    pub(super) fn begin(late: &Arc<Late>) -> Self {
        Self { workers: late.now(), late: late.clone() }
    }

    /// Whether they were all gone at the last look.
    pub(super) fn is_over(&self) -> bool {
        self.workers.is_empty()
    }

    /// Look who is gone, and let those go who wait for a front end.
    pub(super) fn look(&mut self) {
        if !self.is_over() {
            self.late.let_go();
            self.workers.retain(is_there);
        }
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Duration> {
        (!self.is_over()).then_some(LOOK_AGAIN)
    }
}

/// Whether a thread has not ended.
fn is_there(presence: &Weak<()>) -> bool {
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
        let late = Arc::new(late);
        let mut wait = Wait::begin(&late);
        drop(slow);
        assert_eq!(late.now().len(), 1);
        let later = Presence::default();
        late.add(Arc::downgrade(&later));
        wait.look();
        assert!(wait.next().is_some());
        drop(slower);
        wait.look();
        assert!(
            wait.is_over() && wait.next().is_none(),
            "what is late since then is not waited for"
        );
        assert_eq!(late.now().len(), 1);
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
