//! Disks that were removed, and whose service does not end.
//!
//! Knows: what is left of them, until the thread that serves their front ends has ended. Must not know:
//! why it has not. Invariants: nothing else is served as the same disk meanwhile, neither by id nor, where
//! there are locks, at the same address; its end is told when it comes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::events::Events;
use crate::export::LeftBehind;
use crate::qapi::QmpError;
use crate::qapi::types::{BlockExportDeletedData, BlockExportInfo, Event};

/// What is left of a disk.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) info: BlockExportInfo,
    /// Its disk keeps others from serving it.
    pub(super) thread: LeftBehind,
}

/// All that have not ended.
#[derive(Debug, Default, Clone)]
pub(super) struct Leaving(Arc<Mutex<Vec<BlockExportInfo>>>);

impl Leaving {
    fn entries(&self) -> MutexGuard<'_, Vec<BlockExportInfo>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `query-block-exports` tells of them.
    pub(super) fn infos(&self) -> Vec<BlockExportInfo> {
        self.entries().clone()
    }

    /// Whether the id may be given to a new disk.
    pub(super) fn check_id(&self, id: &str) -> Result<(), QmpError> {
        match self.entries().iter().any(|entry| entry.id == id) {
            false => Ok(()),
            true => Err(QmpError::generic(format!(
                "Block export id '{id}' is still in use: what was asked of its image or its front \
                 end does not end (BLOCK_EXPORT_DELETED tells when it does)"
            ))),
        }
    }

    /// One more. Its end is awaited, and told, by a thread of its own.
    pub(super) fn add(&self, rest: Rest, events: &Events) {
        let Rest { info, thread } = rest;
        let id = info.id.clone();
        let info = BlockExportInfo { shutting_down: true, connected: Some(false), ..info };
        self.entries().push(info);
        let (all, events) = (self.clone(), events.clone());
        let wait = move || {
            thread.wait();
            all.entries().retain(|entry| entry.id != id);
            events.emit(&Event::BlockExportDeleted(BlockExportDeletedData { id }));
        };
        // Without a thread to be had, it is there for good.
        let _ = std::thread::Builder::new().name("leaving".to_owned()).spawn(wait);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::monitor::EventSink;
    use crate::qapi::types::BlockExportType;

    #[test]
    fn a_disk_that_does_not_end_keeps_its_id_until_it_does() {
        let (end, ended) = channel::<()>();
        let thread = LeftBehind::new(std::thread::spawn(move || _ = ended.recv()));
        let info = BlockExportInfo {
            id: "disk0".to_owned(),
            r#type: BlockExportType::VhostUserBlk,
            node_name: "node0".to_owned(),
            shutting_down: false,
            connected: Some(true),
        };
        let leaving = Leaving::default();
        let events = Events::new(EventSink::new().unwrap());
        leaving.add(Rest { info, thread }, &events);
        assert!(leaving.infos()[0].shutting_down);
        assert!(leaving.check_id("disk0").is_err() && leaving.check_id("disk1").is_ok());
        drop(end);
        while leaving.check_id("disk0").is_err() {
            std::thread::yield_now();
        }
        assert!(leaving.infos().is_empty());
    }
}
