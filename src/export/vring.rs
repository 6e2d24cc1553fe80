//! What a front end has said about one queue.
//!
//! Knows: its values until a worker takes them, and the worker. Must not know: the session. Invariant: every
//! descriptor in which the worker may be waiting is told by [`bells`](Vring::bells).

use std::fs::File;

use vhost::vhost_user::{Error, Result};

use super::bell::{check, duplicate, let_writers_go};
use super::control::{Change, Worker};

/// One queue.
#[derive(Debug, Default)]
pub(super) struct Vring {
    pub(super) size: Option<u16>,
    /// In the front end's address space: descriptor table, avail ring, used ring.
    pub(super) user_addrs: Option<[u64; 3]>,
    pub(super) next_avail: u16,
    pub(super) enabled: bool,
    pub(super) call: Option<File>,
    pub(super) err: Option<File>,
    /// Those that a worker was to give up, and did not say that it has.
    former: Vec<File>,
    /// Present while the ring is started.
    pub(super) worker: Option<Worker>,
}

impl Vring {
    /// What the worker may wait to write to, for good if the front end wants it.
    pub(super) fn bells(&self) -> impl Iterator<Item = File> {
        self.all_bells().filter_map(|bell| bell.try_clone().ok())
    }

    fn all_bells(&self) -> impl Iterator<Item = &File> {
        self.call.iter().chain(&self.err).chain(&self.former)
    }

    /// Let the worker go if it waits in one of [`bells`](Self::bells).
    pub(super) fn let_worker_go(&self) {
        if self.worker.is_some() {
            self.all_bells().for_each(let_writers_go);
        }
    }

    /// SET_VRING_ENABLE.
    ///
    /// # Errors
    /// The worker does not hear of it.
    pub(super) fn set_enabled(&mut self, enabled: bool) -> Result<()> {
        self.enabled = enabled;
        self.tell(Change::Enable(enabled))
    }

    /// Call the driver by this from now on.
    ///
    /// # Errors
    /// It is no eventfd, or the worker does not hear of it.
    pub(super) fn set_call(&mut self, call: Option<File>) -> Result<()> {
        check(call.as_ref())?;
        let change = Change::Call(duplicate(call.as_ref())?);
        let former = std::mem::replace(&mut self.call, call);
        self.tell_in_place_of(former, change)
    }

    /// Report errors by this from now on.
    ///
    /// # Errors
    /// As of [`set_call`](Self::set_call).
    pub(super) fn set_err(&mut self, err: Option<File>) -> Result<()> {
        check(err.as_ref())?;
        let change = Change::Err(duplicate(err.as_ref())?);
        let former = std::mem::replace(&mut self.err, err);
        self.tell_in_place_of(former, change)
    }

    /// Tell the worker, which may be waiting in the former descriptor or already in the new one.
    fn tell_in_place_of(&mut self, former: Option<File>, change: Change) -> Result<()> {
        let count = self.former.len();
        self.former.extend(former);
        self.tell(change)?;
        self.former.truncate(count);
        Ok(())
    }

    fn tell(&self, change: Change) -> Result<()> {
        let told = self.worker.as_ref().map(|worker| worker.tell(change, &|| self.let_worker_go()));
        told.unwrap_or(Ok(())).map_err(Error::ReqHandlerError)
    }
}
