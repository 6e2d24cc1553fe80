//! What happens, told to operators.
//!
//! Knows: which happening is which event. Must not know: who listens. Invariant: telling never
//! waits, so the data path may tell.

use crate::errno::Errno;
use crate::export::{IoFailure, Observer};
use crate::fault::IoType;
use crate::monitor::EventSink;
use crate::qapi::types::{
    BlockErrorAction, BlockExportConnectedData, BlockExportDisconnectedData, BlockIoErrorData,
    Event, IoOperationType,
};

/// Where events go.
#[derive(Debug, Clone)]
pub(super) struct Events(EventSink);

impl Events {
    pub(super) fn new(sink: EventSink) -> Self {
        Self(sink)
    }

    pub(super) fn emit(&self, event: &Event) {
        self.0.emit(event.name(), event.to_data());
    }

    /// The observer of a disk over this node.
    pub(super) fn of_node(&self, node_name: &str) -> DiskEvents {
        DiskEvents { events: self.clone(), node_name: node_name.to_owned() }
    }
}

/// Tells what happens to one disk.
#[derive(Debug)]
pub(super) struct DiskEvents {
    events: Events,
    node_name: String,
}

impl Observer for DiskEvents {
    fn connected(&self, disk_id: &str) {
        let data = BlockExportConnectedData { id: disk_id.to_owned() };
        self.events.emit(&Event::BlockExportConnected(data));
    }

    fn disconnected(&self, disk_id: &str) {
        let data = BlockExportDisconnectedData { id: disk_id.to_owned() };
        self.events.emit(&Event::BlockExportDisconnected(data));
    }

    fn io_failed(&self, disk_id: &str, failure: IoFailure) {
        self.events.emit(&Event::BlockIoError(BlockIoErrorData {
            device: disk_id.to_owned(),
            node_name: Some(self.node_name.clone()),
            operation: match failure.iotype {
                IoType::Read => IoOperationType::Read,
                _ => IoOperationType::Write,
            },
            action: BlockErrorAction::Report,
            nospace: Some(failure.errno == Errno::ENOSPC),
            reason: reason(failure.errno),
        }));
    }
}

/// `strerror(3)` without the number that Rust adds.
fn reason(errno: Errno) -> String {
    let text = errno.to_io().to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
