//! What happens, told to operators.
//!
//! Knows: which happening is which event. Must not know: who listens. Invariant: telling never
//! waits, so the data path may tell.

use std::sync::Arc;

use super::fault::held::render_cause;
use super::fault::words::render_iotype;
use crate::block::{FaultObserver, HeldCause, HeldReport};
use crate::errno::Errno;
use crate::export::{IoFailure, Observer};
use crate::fault::IoType;
use crate::fault::engine::{Action, Notice};
use crate::fault::rule::RuleName;
use crate::monitor::{AnswerFirst, EventSink};
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

    /// A command under way is answered before disks tell what it does to them.
    pub(super) fn answer_first(&self) -> AnswerFirst {
        self.0.answer_first()
    }

    /// What happened to a disk; the event is made if it is told.
    fn tell(
        &self,
        name: &'static str,
        same: Vec<String>,
        event: impl FnOnce() -> Option<Event> + Send + 'static,
    ) {
        self.0.tell(name, same, move || {
            let event = event()?;
            debug_assert_eq!(event.name(), name);
            event.to_data()
        });
    }

    /// What happened to a disk, always told.
    fn tell_now(&self, event: Event) {
        self.tell(event.name(), Vec::new(), move || Some(event));
    }

    fn io_error(
        &self,
        disk_id: &str,
        node_name: &Arc<str>,
        iotype: IoType,
        errno: Errno,
        action: BlockErrorAction,
    ) {
        let operation = operation(iotype);
        let (device, node_name) = (disk_id.to_owned(), node_name.clone());
        let same = vec![device.clone(), operation.as_str().to_owned()];
        self.tell("BLOCK_IO_ERROR", same, move || {
            Some(Event::BlockIoError(BlockIoErrorData {
                device,
                node_name: Some(node_name.to_string()),
                operation,
                action,
                nospace: Some(errno == Errno::ENOSPC),
                reason: reason(errno),
            }))
        });
    }

    /// The observer of a disk over this node.
    pub(super) fn of_node(&self, node_name: &str) -> DiskEvents {
        DiskEvents { events: self.clone(), node_name: node_name.into() }
    }

    /// The observer of the faults of a disk over this node.
    pub(super) fn of_faults(&self, disk_id: &str, node_name: &str) -> FaultEvents {
        let (disk_id, node_name) = (disk_id.into(), node_name.into());
        FaultEvents { events: self.clone(), disk_id, node_name }
    }
}

/// Tells what happens to one disk.
#[derive(Debug)]
pub(super) struct DiskEvents {
    events: Events,
    node_name: Arc<str>,
}

impl Observer for DiskEvents {
    fn connected(&self, disk_id: &str) {
        let data = BlockExportConnectedData { id: disk_id.to_owned() };
        self.events.tell_now(Event::BlockExportConnected(data));
    }

    fn disconnected(&self, disk_id: &str) {
        let data = BlockExportDisconnectedData { id: disk_id.to_owned() };
        self.events.tell_now(Event::BlockExportDisconnected(data));
    }

    fn io_failed(&self, disk_id: &str, failure: IoFailure) {
        let IoFailure { iotype, errno } = failure;
        self.events.io_error(disk_id, &self.node_name, iotype, errno, BlockErrorAction::Report);
    }
}

/// The direction that QEMU tells of.
fn operation(iotype: IoType) -> IoOperationType {
    match iotype {
        IoType::Read => IoOperationType::Read,
        _ => IoOperationType::Write,
    }
}

/// Tells what the faults of one disk do.
#[derive(Debug)]
pub(super) struct FaultEvents {
    events: Events,
    disk_id: Arc<str>,
    node_name: Arc<str>,
}

impl FaultObserver for FaultEvents {
    fn noticed(&self, notices: &[Notice]) {
        for notice in notices {
            if let Some((name, of)) = label(notice) {
                let same = std::iter::once(self.disk_id.to_string()).chain(of).collect();
                let (disk_id, notice) = (self.disk_id.clone(), notice.clone());
                self.events.tell(name, same, move || event(&disk_id, &notice));
            }
        }
    }

    fn stopped_at(&self, held: &HeldReport) {
        for tag in &held.tags {
            self.events.tell_now(Event::BlockFaultBreak(BlockFaultBreakData {
                id: self.disk_id.to_string(),
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
        self.events.io_error(&self.disk_id, &self.node_name, held.iotype, errno, action);
    }
}

/// The name of a notice's event and what of the disk it is about, by which events are the same; `None`
/// where the operator knows already: states tell of themselves.
fn label(notice: &Notice) -> Option<(&'static str, Vec<String>)> {
    Some(match notice {
        Notice::Hit { cause, .. } => ("BLOCK_FAULT", vec![render_cause(cause).1?]),
        Notice::Exhausted(cause) => ("BLOCK_FAULT_RULE_EXHAUSTED", vec![render_cause(cause).1?]),
        Notice::EngineState { .. } => ("BLOCK_FAULT_ENGINE_STATE_CHANGED", Vec::new()),
        Notice::Healed { rule, .. } => healed(rule, BlockFaultHealReason::Written),
        Notice::PoolEmpty { rule } => healed(rule, BlockFaultHealReason::PoolEmpty),
    })
}

fn healed(rule: &RuleName, reason: BlockFaultHealReason) -> (&'static str, Vec<String>) {
    ("BLOCK_FAULT_HEALED", vec![rule.to_string(), reason.as_str().to_owned()])
}

/// The event of a notice that has a [`label`].
fn event(disk_id: &str, notice: &Notice) -> Option<Event> {
    let id = disk_id.to_owned();
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
