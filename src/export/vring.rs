//! What a front end has said about one queue.
//!
//! Knows: its values until a worker takes them, and the worker. Must not know: the session. Invariant: every
//! descriptor in which the worker may be waiting is told by [`bells`](Vring::bells).

use std::fs::File;

use vhost::vhost_user::{Error, Result};

use super::bell::{check, duplicate};
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
        let all = self.call.iter().chain(&self.err).chain(&self.former);
        all.filter_map(|bell| bell.try_clone().ok())
    }

    /// Call the driver by this from now on.
    ///
    /// # Errors
    /// It is no eventfd, or the worker does not hear of it.
    pub(super) fn set_call(&mut self, call: Option<File>) -> Result<()> {
        check(call.as_ref())?;
        let change = Change::Call(duplicate(call.as_ref())?);
        let former = std::mem::replace(&mut self.call, call);
        self.tell(change, former)
    }

    /// Report errors by this from now on.
    ///
    /// # Errors
    /// As of [`set_call`](Self::set_call).
    pub(super) fn set_err(&mut self, err: Option<File>) -> Result<()> {
        check(err.as_ref())?;
        let change = Change::Err(duplicate(err.as_ref())?);
        let former = std::mem::replace(&mut self.err, err);
        self.tell(change, former)
    }

    /// Tell the worker, which may be waiting in the former descriptor or already in the new one.
    fn tell(&mut self, change: Change, former: Option<File>) -> Result<()> {
        let Some(worker) = &self.worker else {
            return Ok(());
        };
        worker.tell(change).map_err(|error| {
            self.former.extend(former);
            Error::ReqHandlerError(error)
        })
    }
}
