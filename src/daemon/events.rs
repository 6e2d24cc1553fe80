//! What happens, told to operators.
//!
//! Knows: which happening is which event. Must not know: who listens. Invariant: telling never
//! waits, so the data path may tell.

use super::fault::held::render_cause;
use super::fault::words::render_iotype;
use crate::block::{FaultObserver, HeldCause, HeldReport};
use crate::errno::Errno;
use crate::export::{IoFailure, Observer};
use crate::fault::IoType;
use crate::fault::engine::{Action, Notice};
use crate::monitor::EventSink;
use crate::qapi::types::{
    BlockErrorAction, BlockExportConnectedData, BlockExportDisconnectedData, BlockFaultBreakData,
    BlockFaultData, BlockFaultEngineStateChangedData, BlockFaultHealReason, BlockFaultHealedData,
    BlockFaultRuleExhaustedData, BlockFaultVerdict, BlockIoErrorData, Event, IoOperationType,
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

    /// The observer of the faults of a disk over this node.
    pub(super) fn of_faults(&self, disk_id: &str, node_name: &str) -> FaultEvents {
        let (disk_id, node_name) = (disk_id.to_owned(), node_name.to_owned());
        FaultEvents { events: self.clone(), disk_id, node_name }
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
        let IoFailure { iotype, errno } = failure;
        let data = io_error(disk_id, &self.node_name, iotype, errno, BlockErrorAction::Report);
        self.events.emit(&Event::BlockIoError(data));
    }
}

fn io_error(
    disk_id: &str,
    node_name: &str,
    iotype: IoType,
    errno: Errno,
    action: BlockErrorAction,
) -> BlockIoErrorData {
    BlockIoErrorData {
        device: disk_id.to_owned(),
        node_name: Some(node_name.to_owned()),
        operation: match iotype {
            IoType::Read => IoOperationType::Read,
            _ => IoOperationType::Write,
        },
        action,
        nospace: Some(errno == Errno::ENOSPC),
        reason: reason(errno),
    }
}

/// Tells what the faults of one disk do.
#[derive(Debug)]
pub(super) struct FaultEvents {
    events: Events,
    disk_id: String,
    node_name: String,
}

impl FaultObserver for FaultEvents {
    fn noticed(&self, notices: &[Notice]) {
        for notice in notices {
            if let Some(event) = self.event(notice) {
                self.events.emit(&event);
            }
        }
    }

    fn stopped_at(&self, held: &HeldReport) {
        for tag in &held.tags {
            self.events.emit(&Event::BlockFaultBreak(BlockFaultBreakData {
                id: self.disk_id.clone(),
                tag: tag.to_string(),
                ordinal: held.ordinal,
                queue: held.queue,
                iotype: render_iotype(held.iotype),
                sector: held.sector,
                bytes: held.sector.map(|_| held.bytes),
            }));
        }
    }

    /// The export tells when the front end has gone.
    fn disconnect(&self) {}

    fn held_on_error(&self, held: &HeldReport) {
        let HeldCause::ImageError(errno) = held.cause else {
            return;
        };
        let action = BlockErrorAction::Stop;
        let data = io_error(&self.disk_id, &self.node_name, held.iotype, errno, action);
        self.events.emit(&Event::BlockIoError(data));
    }
}

impl FaultEvents {
    /// `None` where the operator knows already: states tell of themselves.
    fn event(&self, notice: &Notice) -> Option<Event> {
        let id = self.disk_id.clone();
        Some(match notice {
            Notice::Hit { cause, ordinal, iotype, sector, errno, action } => {
                let (cause, rule) = render_cause(cause);
                Event::BlockFault(BlockFaultData {
                    id,
                    cause,
                    rule: rule?,
                    ordinal: *ordinal,
                    iotype: render_iotype(*iotype),
                    sector: *sector,
                    errno: errno.map(|errno| errno.number().into()),
                    errno_name: errno.and_then(Errno::name).map(str::to_owned),
                    verdict: render_action(*action),
                    // The monitor counts those that it does not tell.
                    untold: 0,
                })
            }
            Notice::Exhausted(cause) => {
                let (cause, rule) = render_cause(cause);
                let rule = rule?;
                Event::BlockFaultRuleExhausted(BlockFaultRuleExhaustedData { id, cause, rule })
            }
            Notice::EngineState { from, to } => {
                let (state, previous) = (i64::from(*to), i64::from(*from));
                Event::BlockFaultEngineStateChanged(BlockFaultEngineStateChangedData {
                    id,
                    state,
                    previous,
                })
            }
            Notice::Healed { rule, sectors } => Event::BlockFaultHealed(BlockFaultHealedData {
                id,
                rule: rule.to_string(),
                reason: BlockFaultHealReason::Written,
                sectors: *sectors,
            }),
            Notice::PoolEmpty { rule } => Event::BlockFaultHealed(BlockFaultHealedData {
                id,
                rule: rule.to_string(),
                reason: BlockFaultHealReason::PoolEmpty,
                sectors: 0,
            }),
        })
    }
}

fn render_action(action: Action) -> BlockFaultVerdict {
    match action {
        Action::Error => BlockFaultVerdict::Error,
        Action::Delay => BlockFaultVerdict::Delay,
        Action::Hang => BlockFaultVerdict::Hang,
        Action::Break => BlockFaultVerdict::Break,
        Action::SetState => BlockFaultVerdict::SetState,
        Action::Disconnect => BlockFaultVerdict::Disconnect,
    }
}

/// `strerror(3)` without the number that Rust adds.
fn reason(errno: Errno) -> String {
    let text = errno.to_io().to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
