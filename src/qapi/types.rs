//! The types, commands and events of `qapi/` in Rust.
//!
//! Generated: do not edit. Change `qapi/*.json`, run `UPDATE=1 cargo test --test qapi`, commit both.
//!
//! Knows: names, members and documentation of the schema. Must not know: how a value is read and
//! what errors say (`visit` does). Invariant: it says what `qapi/` says; a test compares.

// Commands are parsed, carried out and dropped one by one.
#![allow(clippy::large_enum_variant)]

use super::visit::{self, Members, Object, Visit};
use super::{Path, QmpError};
use serde_json::{Map, Value};

/// What is known about a command before its arguments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandSpec {
    /// Whether it may be sent with `exec-oob` and overtake others.
    pub allow_oob: bool,
}

/// A command, with arguments that were checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `qmp_capabilities`.
    ///
    /// End the negotiation that opens every session. Until then every other command is
    /// refused and no event is sent.
    ///
    /// Errors:
    ///
    /// - CommandNotFound, when negotiation is over.
    QmpCapabilities(QmpCapabilitiesArguments),
    /// `query-version`.
    ///
    /// Tell the version of this daemon.
    ///
    /// Returns `VersionInfo`: the version.
    QueryVersion,
    /// `query-commands`.
    ///
    /// List the commands, in no particular order.
    ///
    /// Returns `Vec<CommandInfo>`: every command of this daemon.
    QueryCommands,
    /// `quit`.
    ///
    /// End the daemon: front ends are disconnected, images closed, sockets removed. The reply
    /// is sent first.
    Quit,
    /// `query-qmp-schema`.
    ///
    /// Tell everything that can be said over this monitor: commands, events and their types.
    /// Types have numbers instead of names, because their names are no promise.
    ///
    /// Returns `Vec<SchemaInfo>`: commands and events first, then the types that they use.
    QueryQmpSchema,
    /// `blockdev-add`.
    ///
    /// Make a node.
    ///
    /// Errors:
    ///
    /// - GenericError, if the name is taken, or the image cannot be opened or locked.
    BlockdevAdd(BlockdevOptions),
    /// `blockdev-del`.
    ///
    /// Remove a node and close its image.
    ///
    /// Errors:
    ///
    /// - GenericError, if there is no such node, or something uses it.
    BlockdevDel(BlockdevDelArguments),
    /// `blockdev-reopen`.
    ///
    /// Open the images of nodes again, perhaps with other options. All are reopened, or none.
    /// A node whose flush has failed fails every flush until it is reopened, because nobody
    /// knows what the host has forgotten.
    ///
    /// A node that the command line made with --blk-file is a raw node over a nameless file
    /// node.
    ///
    /// Errors:
    ///
    /// - GenericError, if there is no such node, or a driver or an image cannot be changed.
    BlockdevReopen(BlockdevReopenArguments),
    /// `block_resize`.
    ///
    /// Give a disk another size while guests use it. Connected guests are told.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    /// - GenericError, if the image cannot have this size.
    BlockResize(BlockResizeArguments),
    /// `query-named-block-nodes`.
    ///
    /// List the nodes that have a name.
    ///
    /// Returns `Vec<BlockDeviceInfo>`: the nodes.
    QueryNamedBlockNodes(QueryNamedBlockNodesArguments),
    /// `query-block`.
    ///
    /// List the disks.
    ///
    /// Returns `Vec<BlockInfo>`: the disks, in the order in which they were made.
    QueryBlock,
    /// `query-blockstats`.
    ///
    /// Tell what disks have done since they exist, or nodes.
    ///
    /// Returns `Vec<BlockStats>`: one entry for each disk or node.
    QueryBlockstats(QueryBlockstatsArguments),
    /// `block-export-add`.
    ///
    /// Show a node to guests: make a disk. Front ends may connect after the reply.
    ///
    /// Errors:
    ///
    /// - GenericError, if the id is taken, the node does not exist, an option is out of
    ///   range, or the socket cannot be made.
    BlockExportAdd(BlockExportOptions),
    /// `block-export-del`.
    ///
    /// Stop showing a node. The export is gone when BLOCK_EXPORT_DELETED says so.
    ///
    /// Errors:
    ///
    /// - GenericError, if there is no such export, or it is in use and `mode` is safe.
    BlockExportDel(BlockExportDelArguments),
    /// `query-block-exports`.
    ///
    /// List the exports.
    ///
    /// Returns `Vec<BlockExportInfo>`: the exports, in the order in which they were made.
    QueryBlockExports,
    /// `set-block-fault-state`.
    ///
    /// Turn a disk bad, or good again. The state holds for every request that the disk takes
    /// from a queue after this reply, and for none that it took before the command.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    /// - GenericError, if an option does not go with the state.
    SetBlockFaultState(BlockFaultStateSetting),
    /// `query-block-fault-state`.
    ///
    /// Tell a disk's state in one word.
    ///
    /// Returns `BlockFaultState`: the state.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    QueryBlockFaultState(QueryBlockFaultStateArguments),
    /// `query-block-fault`.
    ///
    /// Tell all about a disk's faults but its rules.
    ///
    /// Returns `BlockFaultInfo`: its state with options, and counts.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    QueryBlockFault(QueryBlockFaultArguments),
    /// `block-fault-on-error-set`.
    ///
    /// Choose what becomes of requests that the image fails. Requests that are held stay
    /// held.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    BlockFaultOnErrorSet(BlockFaultOnErrorSetArguments),
    /// `block-fault-rule-add`.
    ///
    /// Add a rule. It is in force for every request that the disk takes from a queue after
    /// this reply.
    ///
    /// Returns `BlockFaultRuleName`: the rule's name.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    /// - GenericError, if the name is taken, or the rule makes no sense.
    BlockFaultRuleAdd(BlockFaultRuleAddArguments),
    /// `block-fault-rule-remove`.
    ///
    /// Remove a rule. Requests that it holds go on.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    /// - GenericError, if there is no such rule.
    BlockFaultRuleRemove(BlockFaultRuleRemoveArguments),
    /// `block-fault-rule-set`.
    ///
    /// Put a rule in or out of force, or make it new.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    /// - GenericError, if there is no such rule.
    BlockFaultRuleSet(BlockFaultRuleSetArguments),
    /// `query-block-fault-rules`.
    ///
    /// Tell a disk's rules and what they did.
    ///
    /// Returns `BlockFaultRules`: the rules.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    /// - GenericError, if there is no such rule.
    QueryBlockFaultRules(QueryBlockFaultRulesArguments),
    /// `block-fault-transaction`.
    ///
    /// Make several changes at once, or none. No request meets a part of them.
    ///
    /// Returns `BlockFaultAdded`: the names of the rules that were added.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    /// - GenericError, if one of the changes cannot be made.
    BlockFaultTransaction(BlockFaultTransactionArguments),
    /// `block-fault-engine-state-set`.
    ///
    /// Set the engine state of a disk.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    /// - GenericError, if the number does not fit.
    BlockFaultEngineStateSet(BlockFaultEngineStateSetArguments),
    /// `block-fault-break`.
    ///
    /// Hold requests at a point of their life until they are resumed. This adds a rule of the
    /// tag's name with effect break in front of all rules; `block-fault-rule-add` can say
    /// more.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    /// - GenericError, if there is a rule of that name, or an option makes no sense.
    BlockFaultBreak(BlockFaultBreakArguments),
    /// `block-fault-break-remove`.
    ///
    /// Remove breakpoints, native ones and blkdebug's, by their tag. Requests that they hold
    /// go on.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    /// - GenericError, if there is no such breakpoint.
    BlockFaultBreakRemove(BlockFaultBreakRemoveArguments),
    /// `query-block-fault-held`.
    ///
    /// List the requests that a disk holds now. Requests that wait for a time are not among
    /// them.
    ///
    /// Returns `Vec<BlockFaultHeld>`: the requests, in the order in which the disk took them.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    QueryBlockFaultHeld(QueryBlockFaultHeldArguments),
    /// `block-fault-wait`.
    ///
    /// Wait until a request is held at a breakpoint. The reply waits; other clients and
    /// out-of-band commands go on meanwhile.
    ///
    /// Returns `BlockFaultHeld`: the request.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    /// - GenericError, if the time is over, or the disk is gone.
    BlockFaultWait(BlockFaultWaitArguments),
    /// `block-fault-resume`.
    ///
    /// Let requests go on that are held, or that a rule or the disk's state makes wait for a
    /// time. Exactly one of `tag`, `rule`, `held-by` and `ordinals` says which.
    ///
    /// Returns `BlockFaultResumed`: how many; 0 if none was held.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    /// - GenericError, if it is not clear which are meant, or one of `ordinals` is not held.
    BlockFaultResume(BlockFaultResumeArguments),
    /// `block-fault-blkdebug-add`.
    ///
    /// Add blkdebug rules to a disk, behind those it has. Events arm them from now on.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    /// - GenericError, if there is no rule, or one makes no sense, or the file cannot be
    ///   read.
    BlockFaultBlkdebugAdd(BlockFaultBlkdebugAddArguments),
    /// `human-monitor-command`.
    ///
    /// Run one of the lines that test scripts send to a running QEMU to stop a request where
    /// they want it. Accepted is `qemu-io DISK "COMMAND"` with blkdebug's breakpoints: `break
    /// EVENT TAG`, `wait_break TAG`, `resume TAG` and `remove_break TAG`. The reply to
    /// `wait_break` comes when a request is held at the tag; other clients and out-of-band
    /// commands go on meanwhile.
    ///
    /// Returns `String`: what QEMU would have printed, on its monitor or its output.
    HumanMonitorCommand(HumanMonitorCommandArguments),
}

impl Command {
    /// The names of all commands, in the order of the schema.
    pub const NAMES: &[&str] = &[
        "qmp_capabilities",
        "query-version",
        "query-commands",
        "quit",
        "query-qmp-schema",
        "blockdev-add",
        "blockdev-del",
        "blockdev-reopen",
        "block_resize",
        "query-named-block-nodes",
        "query-block",
        "query-blockstats",
        "block-export-add",
        "block-export-del",
        "query-block-exports",
        "set-block-fault-state",
        "query-block-fault-state",
        "query-block-fault",
        "block-fault-on-error-set",
        "block-fault-rule-add",
        "block-fault-rule-remove",
        "block-fault-rule-set",
        "query-block-fault-rules",
        "block-fault-transaction",
        "block-fault-engine-state-set",
        "block-fault-break",
        "block-fault-break-remove",
        "query-block-fault-held",
        "block-fault-wait",
        "block-fault-resume",
        "block-fault-blkdebug-add",
        "human-monitor-command",
    ];

    /// Reads a command.
    ///
    /// # Errors
    /// There is no such command (class `CommandNotFound`), or an argument is missing, unknown or
    /// not of its type (class `GenericError`); the texts are QEMU's.
    pub fn parse(name: &str, members: Map<String, Value>) -> Result<Self, QmpError> {
        match name {
            "qmp_capabilities" => visit::arguments(members).map(Self::QmpCapabilities),
            "query-version" => visit::no_arguments(members).map(|()| Self::QueryVersion),
            "query-commands" => visit::no_arguments(members).map(|()| Self::QueryCommands),
            "quit" => visit::no_arguments(members).map(|()| Self::Quit),
            "query-qmp-schema" => visit::no_arguments(members).map(|()| Self::QueryQmpSchema),
            "blockdev-add" => visit::arguments(members).map(Self::BlockdevAdd),
            "blockdev-del" => visit::arguments(members).map(Self::BlockdevDel),
            "blockdev-reopen" => visit::arguments(members).map(Self::BlockdevReopen),
            "block_resize" => visit::arguments(members).map(Self::BlockResize),
            "query-named-block-nodes" => visit::arguments(members).map(Self::QueryNamedBlockNodes),
            "query-block" => visit::no_arguments(members).map(|()| Self::QueryBlock),
            "query-blockstats" => visit::arguments(members).map(Self::QueryBlockstats),
            "block-export-add" => visit::arguments(members).map(Self::BlockExportAdd),
            "block-export-del" => visit::arguments(members).map(Self::BlockExportDel),
            "query-block-exports" => visit::no_arguments(members).map(|()| Self::QueryBlockExports),
            "set-block-fault-state" => visit::arguments(members).map(Self::SetBlockFaultState),
            "query-block-fault-state" => visit::arguments(members).map(Self::QueryBlockFaultState),
            "query-block-fault" => visit::arguments(members).map(Self::QueryBlockFault),
            "block-fault-on-error-set" => visit::arguments(members).map(Self::BlockFaultOnErrorSet),
            "block-fault-rule-add" => visit::arguments(members).map(Self::BlockFaultRuleAdd),
            "block-fault-rule-remove" => visit::arguments(members).map(Self::BlockFaultRuleRemove),
            "block-fault-rule-set" => visit::arguments(members).map(Self::BlockFaultRuleSet),
            "query-block-fault-rules" => visit::arguments(members).map(Self::QueryBlockFaultRules),
            "block-fault-transaction" => visit::arguments(members).map(Self::BlockFaultTransaction),
            "block-fault-engine-state-set" => {
                visit::arguments(members).map(Self::BlockFaultEngineStateSet)
            }
            "block-fault-break" => visit::arguments(members).map(Self::BlockFaultBreak),
            "block-fault-break-remove" => {
                visit::arguments(members).map(Self::BlockFaultBreakRemove)
            }
            "query-block-fault-held" => visit::arguments(members).map(Self::QueryBlockFaultHeld),
            "block-fault-wait" => visit::arguments(members).map(Self::BlockFaultWait),
            "block-fault-resume" => visit::arguments(members).map(Self::BlockFaultResume),
            "block-fault-blkdebug-add" => {
                visit::arguments(members).map(Self::BlockFaultBlkdebugAdd)
            }
            "human-monitor-command" => visit::arguments(members).map(Self::HumanMonitorCommand),
            _ => Err(QmpError::command_not_found(name)),
        }
    }

    /// What is known about a command before its arguments are; `None` if there is none of this
    /// name.
    #[must_use]
    pub fn spec(name: &str) -> Option<CommandSpec> {
        match name {
            "qmp_capabilities" => Some(CommandSpec { allow_oob: false }),
            "query-version" => Some(CommandSpec { allow_oob: false }),
            "query-commands" => Some(CommandSpec { allow_oob: false }),
            "quit" => Some(CommandSpec { allow_oob: false }),
            "query-qmp-schema" => Some(CommandSpec { allow_oob: false }),
            "blockdev-add" => Some(CommandSpec { allow_oob: false }),
            "blockdev-del" => Some(CommandSpec { allow_oob: false }),
            "blockdev-reopen" => Some(CommandSpec { allow_oob: false }),
            "block_resize" => Some(CommandSpec { allow_oob: false }),
            "query-named-block-nodes" => Some(CommandSpec { allow_oob: false }),
            "query-block" => Some(CommandSpec { allow_oob: false }),
            "query-blockstats" => Some(CommandSpec { allow_oob: false }),
            "block-export-add" => Some(CommandSpec { allow_oob: false }),
            "block-export-del" => Some(CommandSpec { allow_oob: false }),
            "query-block-exports" => Some(CommandSpec { allow_oob: false }),
            "set-block-fault-state" => Some(CommandSpec { allow_oob: true }),
            "query-block-fault-state" => Some(CommandSpec { allow_oob: true }),
            "query-block-fault" => Some(CommandSpec { allow_oob: false }),
            "block-fault-on-error-set" => Some(CommandSpec { allow_oob: false }),
            "block-fault-rule-add" => Some(CommandSpec { allow_oob: false }),
            "block-fault-rule-remove" => Some(CommandSpec { allow_oob: false }),
            "block-fault-rule-set" => Some(CommandSpec { allow_oob: false }),
            "query-block-fault-rules" => Some(CommandSpec { allow_oob: false }),
            "block-fault-transaction" => Some(CommandSpec { allow_oob: false }),
            "block-fault-engine-state-set" => Some(CommandSpec { allow_oob: false }),
            "block-fault-break" => Some(CommandSpec { allow_oob: false }),
            "block-fault-break-remove" => Some(CommandSpec { allow_oob: false }),
            "query-block-fault-held" => Some(CommandSpec { allow_oob: true }),
            "block-fault-wait" => Some(CommandSpec { allow_oob: false }),
            "block-fault-resume" => Some(CommandSpec { allow_oob: true }),
            "block-fault-blkdebug-add" => Some(CommandSpec { allow_oob: false }),
            "human-monitor-command" => Some(CommandSpec { allow_oob: false }),
            _ => None,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::QmpCapabilities(_) => "qmp_capabilities",
            Self::QueryVersion => "query-version",
            Self::QueryCommands => "query-commands",
            Self::Quit => "quit",
            Self::QueryQmpSchema => "query-qmp-schema",
            Self::BlockdevAdd(_) => "blockdev-add",
            Self::BlockdevDel(_) => "blockdev-del",
            Self::BlockdevReopen(_) => "blockdev-reopen",
            Self::BlockResize(_) => "block_resize",
            Self::QueryNamedBlockNodes(_) => "query-named-block-nodes",
            Self::QueryBlock => "query-block",
            Self::QueryBlockstats(_) => "query-blockstats",
            Self::BlockExportAdd(_) => "block-export-add",
            Self::BlockExportDel(_) => "block-export-del",
            Self::QueryBlockExports => "query-block-exports",
            Self::SetBlockFaultState(_) => "set-block-fault-state",
            Self::QueryBlockFaultState(_) => "query-block-fault-state",
            Self::QueryBlockFault(_) => "query-block-fault",
            Self::BlockFaultOnErrorSet(_) => "block-fault-on-error-set",
            Self::BlockFaultRuleAdd(_) => "block-fault-rule-add",
            Self::BlockFaultRuleRemove(_) => "block-fault-rule-remove",
            Self::BlockFaultRuleSet(_) => "block-fault-rule-set",
            Self::QueryBlockFaultRules(_) => "query-block-fault-rules",
            Self::BlockFaultTransaction(_) => "block-fault-transaction",
            Self::BlockFaultEngineStateSet(_) => "block-fault-engine-state-set",
            Self::BlockFaultBreak(_) => "block-fault-break",
            Self::BlockFaultBreakRemove(_) => "block-fault-break-remove",
            Self::QueryBlockFaultHeld(_) => "query-block-fault-held",
            Self::BlockFaultWait(_) => "block-fault-wait",
            Self::BlockFaultResume(_) => "block-fault-resume",
            Self::BlockFaultBlkdebugAdd(_) => "block-fault-blkdebug-add",
            Self::HumanMonitorCommand(_) => "human-monitor-command",
        }
    }

    /// Its arguments as [`Command::parse`] reads them; `None` if it never has any.
    #[must_use]
    pub fn to_arguments(&self) -> Option<Value> {
        match self {
            Self::QmpCapabilities(members) => Some(members.to_value()),
            Self::QueryVersion => None,
            Self::QueryCommands => None,
            Self::Quit => None,
            Self::QueryQmpSchema => None,
            Self::BlockdevAdd(members) => Some(members.to_value()),
            Self::BlockdevDel(members) => Some(members.to_value()),
            Self::BlockdevReopen(members) => Some(members.to_value()),
            Self::BlockResize(members) => Some(members.to_value()),
            Self::QueryNamedBlockNodes(members) => Some(members.to_value()),
            Self::QueryBlock => None,
            Self::QueryBlockstats(members) => Some(members.to_value()),
            Self::BlockExportAdd(members) => Some(members.to_value()),
            Self::BlockExportDel(members) => Some(members.to_value()),
            Self::QueryBlockExports => None,
            Self::SetBlockFaultState(members) => Some(members.to_value()),
            Self::QueryBlockFaultState(members) => Some(members.to_value()),
            Self::QueryBlockFault(members) => Some(members.to_value()),
            Self::BlockFaultOnErrorSet(members) => Some(members.to_value()),
            Self::BlockFaultRuleAdd(members) => Some(members.to_value()),
            Self::BlockFaultRuleRemove(members) => Some(members.to_value()),
            Self::BlockFaultRuleSet(members) => Some(members.to_value()),
            Self::QueryBlockFaultRules(members) => Some(members.to_value()),
            Self::BlockFaultTransaction(members) => Some(members.to_value()),
            Self::BlockFaultEngineStateSet(members) => Some(members.to_value()),
            Self::BlockFaultBreak(members) => Some(members.to_value()),
            Self::BlockFaultBreakRemove(members) => Some(members.to_value()),
            Self::QueryBlockFaultHeld(members) => Some(members.to_value()),
            Self::BlockFaultWait(members) => Some(members.to_value()),
            Self::BlockFaultResume(members) => Some(members.to_value()),
            Self::BlockFaultBlkdebugAdd(members) => Some(members.to_value()),
            Self::HumanMonitorCommand(members) => Some(members.to_value()),
        }
    }
}

/// Something that the daemon tells unasked.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// `SHUTDOWN`.
    ///
    /// The daemon is about to end.
    Shutdown(ShutdownData),
    /// `BLOCK_IO_ERROR`.
    ///
    /// A request failed, at the image or by command. Of the errors of one disk and operation,
    /// one a second is told, and the last of that second at its end, which may be after the
    /// fault is gone. Statistics and `query-block-fault` count every one.
    BlockIoError(BlockIoErrorData),
    /// `BLOCK_EXPORT_DELETED`.
    ///
    /// An export is gone, and its id free.
    BlockExportDeleted(BlockExportDeletedData),
    /// `BLOCK_EXPORT_CONNECTED`.
    ///
    /// A front end connected to an export. Ours.
    BlockExportConnected(BlockExportConnectedData),
    /// `BLOCK_EXPORT_DISCONNECTED`.
    ///
    /// The front end of an export is gone: the guest ended, its VMM unplugged the disk, or
    /// the export was removed. Ours.
    BlockExportDisconnected(BlockExportDisconnectedData),
    /// `BLOCK_FAULT_STATE_CHANGED`.
    ///
    /// A disk's state was set, perhaps to what it was.
    BlockFaultStateChanged(BlockFaultStateChangedData),
    /// `BLOCK_FAULT_ENGINE_STATE_CHANGED`.
    ///
    /// The engine state of a disk changed. Limited to one a second for each disk, the last of
    /// them always.
    BlockFaultEngineStateChanged(BlockFaultEngineStateChangedData),
    /// `BLOCK_FAULT`.
    ///
    /// A rule hit a request. Limited to one a second for each rule, the last of them always.
    BlockFault(BlockFaultData),
    /// `BLOCK_FAULT_RULE_EXHAUSTED`.
    ///
    /// A rule hit for the last time.
    BlockFaultRuleExhausted(BlockFaultRuleExhaustedData),
    /// `BLOCK_FAULT_HEALED`.
    ///
    /// Sectors of a media fault became good again, or can no more. Limited to one a second
    /// for each rule and reason, the last of them always.
    BlockFaultHealed(BlockFaultHealedData),
    /// `BLOCK_FAULT_BREAK`.
    ///
    /// A request is held at a breakpoint.
    BlockFaultBreak(BlockFaultBreakData),
}

impl Event {
    /// The names of all events, in the order of the schema.
    pub const NAMES: &[&str] = &[
        "SHUTDOWN",
        "BLOCK_IO_ERROR",
        "BLOCK_EXPORT_DELETED",
        "BLOCK_EXPORT_CONNECTED",
        "BLOCK_EXPORT_DISCONNECTED",
        "BLOCK_FAULT_STATE_CHANGED",
        "BLOCK_FAULT_ENGINE_STATE_CHANGED",
        "BLOCK_FAULT",
        "BLOCK_FAULT_RULE_EXHAUSTED",
        "BLOCK_FAULT_HEALED",
        "BLOCK_FAULT_BREAK",
    ];

    /// Reads an event, as a client does.
    ///
    /// # Errors
    /// There is no such event, or its data are not of their type.
    pub fn parse(name: &str, members: Map<String, Value>) -> Result<Self, QmpError> {
        match name {
            "SHUTDOWN" => visit::arguments(members).map(Self::Shutdown),
            "BLOCK_IO_ERROR" => visit::arguments(members).map(Self::BlockIoError),
            "BLOCK_EXPORT_DELETED" => visit::arguments(members).map(Self::BlockExportDeleted),
            "BLOCK_EXPORT_CONNECTED" => visit::arguments(members).map(Self::BlockExportConnected),
            "BLOCK_EXPORT_DISCONNECTED" => {
                visit::arguments(members).map(Self::BlockExportDisconnected)
            }
            "BLOCK_FAULT_STATE_CHANGED" => {
                visit::arguments(members).map(Self::BlockFaultStateChanged)
            }
            "BLOCK_FAULT_ENGINE_STATE_CHANGED" => {
                visit::arguments(members).map(Self::BlockFaultEngineStateChanged)
            }
            "BLOCK_FAULT" => visit::arguments(members).map(Self::BlockFault),
            "BLOCK_FAULT_RULE_EXHAUSTED" => {
                visit::arguments(members).map(Self::BlockFaultRuleExhausted)
            }
            "BLOCK_FAULT_HEALED" => visit::arguments(members).map(Self::BlockFaultHealed),
            "BLOCK_FAULT_BREAK" => visit::arguments(members).map(Self::BlockFaultBreak),
            _ => Err(QmpError::generic(format_args!("The event {name} is unknown"))),
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shutdown(_) => "SHUTDOWN",
            Self::BlockIoError(_) => "BLOCK_IO_ERROR",
            Self::BlockExportDeleted(_) => "BLOCK_EXPORT_DELETED",
            Self::BlockExportConnected(_) => "BLOCK_EXPORT_CONNECTED",
            Self::BlockExportDisconnected(_) => "BLOCK_EXPORT_DISCONNECTED",
            Self::BlockFaultStateChanged(_) => "BLOCK_FAULT_STATE_CHANGED",
            Self::BlockFaultEngineStateChanged(_) => "BLOCK_FAULT_ENGINE_STATE_CHANGED",
            Self::BlockFault(_) => "BLOCK_FAULT",
            Self::BlockFaultRuleExhausted(_) => "BLOCK_FAULT_RULE_EXHAUSTED",
            Self::BlockFaultHealed(_) => "BLOCK_FAULT_HEALED",
            Self::BlockFaultBreak(_) => "BLOCK_FAULT_BREAK",
        }
    }

    /// Its data; `None` if it never has any.
    #[must_use]
    pub fn to_data(&self) -> Option<Value> {
        match self {
            Self::Shutdown(members) => Some(members.to_value()),
            Self::BlockIoError(members) => Some(members.to_value()),
            Self::BlockExportDeleted(members) => Some(members.to_value()),
            Self::BlockExportConnected(members) => Some(members.to_value()),
            Self::BlockExportDisconnected(members) => Some(members.to_value()),
            Self::BlockFaultStateChanged(members) => Some(members.to_value()),
            Self::BlockFaultEngineStateChanged(members) => Some(members.to_value()),
            Self::BlockFault(members) => Some(members.to_value()),
            Self::BlockFaultRuleExhausted(members) => Some(members.to_value()),
            Self::BlockFaultHealed(members) => Some(members.to_value()),
            Self::BlockFaultBreak(members) => Some(members.to_value()),
        }
    }
}

/// What a client may switch on while a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QMPCapability {
    /// Commands marked for it may be sent with `exec-oob` and overtake those in the queue.
    Oob,
}

impl QMPCapability {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Oob];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oob => "oob",
        }
    }
}

impl Visit for QMPCapability {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Arguments of `qmp_capabilities`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct QmpCapabilitiesArguments {
    /// Capabilities to switch on (default: none).
    pub enable: Option<Vec<QMPCapability>>,
}

impl Object for QmpCapabilitiesArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { enable: members.optional("enable")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "enable", self.enable.as_ref());
    }
}

/// A version as three numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionTriple {
    /// Changes when clients must change.
    pub major: i64,
    /// Changes when clients may do more.
    pub minor: i64,
    /// Changes when nothing changes for clients.
    pub micro: i64,
}

impl Object for VersionTriple {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            major: members.required("major")?,
            minor: members.required("minor")?,
            micro: members.required("micro")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "major", &self.major);
        visit::add(object, "minor", &self.minor);
        visit::add(object, "micro", &self.micro);
    }
}

/// Who answers.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionInfo {
    /// The version of this daemon; the member keeps the name under which clients look for it.
    pub qemu: VersionTriple,
    /// Name and version of this daemon in one string, for people.
    pub package: String,
}

impl Object for VersionInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { qemu: members.required("qemu")?, package: members.required("package")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "qemu", &self.qemu);
        visit::add(object, "package", &self.package);
    }
}

/// A command that exists.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandInfo {
    /// What to put into `execute`.
    pub name: String,
}

impl Object for CommandInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { name: members.required("name")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "name", &self.name);
    }
}

/// Why the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShutdownCause {
    /// Something it cannot live without failed.
    HostError,
    /// `quit` asked for it.
    HostQmpQuit,
    /// A signal asked for it, such as SIGTERM.
    HostSignal,
}

impl ShutdownCause {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::HostError, Self::HostQmpQuit, Self::HostSignal];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HostError => "host-error",
            Self::HostQmpQuit => "host-qmp-quit",
            Self::HostSignal => "host-signal",
        }
    }
}

impl Visit for ShutdownCause {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Data of `SHUTDOWN`, see [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub struct ShutdownData {
    /// Whether the guest asked for it; never true here, since a guest has no way to.
    pub guest: bool,
    /// What asked for it.
    pub reason: ShutdownCause,
}

impl Object for ShutdownData {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { guest: members.required("guest")?, reason: members.required("reason")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "guest", &self.guest);
        visit::add(object, "reason", &self.reason);
    }
}

/// The kinds of thing in a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaMetaType {
    /// A type that JSON has, such as a string.
    Builtin,
    /// A string out of a list.
    Enum,
    /// A list of things of one type.
    Array,
    /// A JSON object with known members.
    Object,
    /// One of several types, told apart by what JSON calls them.
    Alternate,
    /// What a client may ask.
    Command,
    /// What the daemon tells unasked.
    Event,
}

impl SchemaMetaType {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[
        Self::Builtin,
        Self::Enum,
        Self::Array,
        Self::Object,
        Self::Alternate,
        Self::Command,
        Self::Event,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Enum => "enum",
            Self::Array => "array",
            Self::Object => "object",
            Self::Alternate => "alternate",
            Self::Command => "command",
            Self::Event => "event",
        }
    }
}

impl Visit for SchemaMetaType {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// What a value is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JSONType {
    /// A JSON string.
    String,
    /// A JSON number.
    Number,
    /// A JSON number without fraction.
    Int,
    /// True or false.
    Boolean,
    /// Null.
    Null,
    /// A JSON object.
    Object,
    /// A JSON array.
    Array,
    /// Anything of the above.
    Value,
}

impl JSONType {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[
        Self::String,
        Self::Number,
        Self::Int,
        Self::Boolean,
        Self::Null,
        Self::Object,
        Self::Array,
        Self::Value,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Int => "int",
            Self::Boolean => "boolean",
            Self::Null => "null",
            Self::Object => "object",
            Self::Array => "array",
            Self::Value => "value",
        }
    }
}

impl Visit for JSONType {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// One thing in the schema.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfo {
    /// Of a command or event, its name; of a built-in type, its name in QEMU's dialect; of
    /// any other type, a number without meaning, or the element type's name in brackets.
    pub name: String,
    /// What makes it special, if anything.
    pub features: Option<Vec<String>>,
    /// What `meta-type` says it is, and the members that come with it.
    pub variant: SchemaInfoVariant,
}

/// What a [`SchemaInfo`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum SchemaInfoVariant {
    /// `meta-type` is `builtin`.
    Builtin(SchemaInfoBuiltin),
    /// `meta-type` is `enum`.
    Enum(SchemaInfoEnum),
    /// `meta-type` is `array`.
    Array(SchemaInfoArray),
    /// `meta-type` is `object`.
    Object(SchemaInfoObject),
    /// `meta-type` is `alternate`.
    Alternate(SchemaInfoAlternate),
    /// `meta-type` is `command`.
    Command(SchemaInfoCommand),
    /// `meta-type` is `event`.
    Event(SchemaInfoEvent),
}

impl SchemaInfoVariant {
    /// The value of the member `meta-type`.
    #[must_use]
    pub fn meta_type(&self) -> SchemaMetaType {
        match self {
            Self::Builtin(_) => SchemaMetaType::Builtin,
            Self::Enum(_) => SchemaMetaType::Enum,
            Self::Array(_) => SchemaMetaType::Array,
            Self::Object(_) => SchemaMetaType::Object,
            Self::Alternate(_) => SchemaMetaType::Alternate,
            Self::Command(_) => SchemaMetaType::Command,
            Self::Event(_) => SchemaMetaType::Event,
        }
    }
}

impl Object for SchemaInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        let name = members.required("name")?;
        let meta_type: SchemaMetaType = members.required("meta-type")?;
        let features = members.optional("features")?;
        let variant = match meta_type {
            SchemaMetaType::Builtin => {
                Object::take_from(members).map(SchemaInfoVariant::Builtin)?
            }
            SchemaMetaType::Enum => Object::take_from(members).map(SchemaInfoVariant::Enum)?,
            SchemaMetaType::Array => Object::take_from(members).map(SchemaInfoVariant::Array)?,
            SchemaMetaType::Object => Object::take_from(members).map(SchemaInfoVariant::Object)?,
            SchemaMetaType::Alternate => {
                Object::take_from(members).map(SchemaInfoVariant::Alternate)?
            }
            SchemaMetaType::Command => {
                Object::take_from(members).map(SchemaInfoVariant::Command)?
            }
            SchemaMetaType::Event => Object::take_from(members).map(SchemaInfoVariant::Event)?,
        };
        Ok(Self { name, features, variant })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "name", &self.name);
        visit::add(object, "meta-type", &self.variant.meta_type());
        visit::add_optional(object, "features", self.features.as_ref());
        match &self.variant {
            SchemaInfoVariant::Builtin(variant) => variant.add_to(object),
            SchemaInfoVariant::Enum(variant) => variant.add_to(object),
            SchemaInfoVariant::Array(variant) => variant.add_to(object),
            SchemaInfoVariant::Object(variant) => variant.add_to(object),
            SchemaInfoVariant::Alternate(variant) => variant.add_to(object),
            SchemaInfoVariant::Command(variant) => variant.add_to(object),
            SchemaInfoVariant::Event(variant) => variant.add_to(object),
        }
    }
}

/// A built-in type.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoBuiltin {
    /// What its values are on the wire.
    pub json_type: JSONType,
}

impl Object for SchemaInfoBuiltin {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { json_type: members.required("json-type")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "json-type", &self.json_type);
    }
}

/// An enumeration.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoEnum {
    /// Its members.
    pub members: Vec<SchemaInfoEnumMember>,
    /// The names of its members once more, for clients older than `members`.
    pub values: Vec<String>,
}

impl Object for SchemaInfoEnum {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { members: members.required("members")?, values: members.required("values")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "members", &self.members);
        visit::add(object, "values", &self.values);
    }
}

/// A value of an enumeration.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoEnumMember {
    /// The string on the wire.
    pub name: String,
    /// What makes it special, if anything.
    pub features: Option<Vec<String>>,
}

impl Object for SchemaInfoEnumMember {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { name: members.required("name")?, features: members.optional("features")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "name", &self.name);
        visit::add_optional(object, "features", self.features.as_ref());
    }
}

/// A list.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoArray {
    /// Name of the type of its elements.
    pub element_type: String,
}

impl Object for SchemaInfoArray {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { element_type: members.required("element-type")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "element-type", &self.element_type);
    }
}

/// A JSON object.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoObject {
    /// Members that it may always have.
    pub members: Vec<SchemaInfoObjectMember>,
    /// The member whose value picks one of `variants`.
    pub tag: Option<String>,
    /// What else it has, by the value of `tag`; a value that is not listed adds nothing.
    pub variants: Option<Vec<SchemaInfoObjectVariant>>,
}

impl Object for SchemaInfoObject {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            members: members.required("members")?,
            tag: members.optional("tag")?,
            variants: members.optional("variants")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "members", &self.members);
        visit::add_optional(object, "tag", self.tag.as_ref());
        visit::add_optional(object, "variants", self.variants.as_ref());
    }
}

/// A member of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoObjectMember {
    /// Its name.
    pub name: String,
    /// Name of its type.
    pub r#type: String,
    /// Present, and null, if the member may be left out.
    pub default: Option<Value>,
    /// What makes it special, if anything.
    pub features: Option<Vec<String>>,
}

impl Object for SchemaInfoObjectMember {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            name: members.required("name")?,
            r#type: members.required("type")?,
            default: members.optional("default")?,
            features: members.optional("features")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "name", &self.name);
        visit::add(object, "type", &self.r#type);
        visit::add_optional(object, "default", self.default.as_ref());
        visit::add_optional(object, "features", self.features.as_ref());
    }
}

/// What an object has besides, for one value of its tag.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoObjectVariant {
    /// The value of the tag.
    pub case: String,
    /// Name of the object type whose members are added.
    pub r#type: String,
}

impl Object for SchemaInfoObjectVariant {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { case: members.required("case")?, r#type: members.required("type")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "case", &self.case);
        visit::add(object, "type", &self.r#type);
    }
}

/// An alternate.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoAlternate {
    /// The types it may be.
    pub members: Vec<SchemaInfoAlternateMember>,
}

impl Object for SchemaInfoAlternate {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { members: members.required("members")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "members", &self.members);
    }
}

/// One type of an alternate.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoAlternateMember {
    /// Name of the type.
    pub r#type: String,
}

impl Object for SchemaInfoAlternateMember {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { r#type: members.required("type")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "type", &self.r#type);
    }
}

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoCommand {
    /// Name of the object type of its arguments.
    pub arg_type: String,
    /// Name of the type of its reply.
    pub ret_type: String,
    /// Whether it may be sent with `exec-oob` (default: false).
    pub allow_oob: Option<bool>,
}

impl Object for SchemaInfoCommand {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            arg_type: members.required("arg-type")?,
            ret_type: members.required("ret-type")?,
            allow_oob: members.optional("allow-oob")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "arg-type", &self.arg_type);
        visit::add(object, "ret-type", &self.ret_type);
        visit::add_optional(object, "allow-oob", self.allow_oob.as_ref());
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaInfoEvent {
    /// Name of the object type of its data.
    pub arg_type: String,
}

impl Object for SchemaInfoEvent {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { arg_type: members.required("arg-type")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "arg-type", &self.arg_type);
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockdevDriver {
    /// A regular file.
    File,
    /// A block device of the host.
    HostDevice,
    /// Another node, as it is.
    Raw,
    /// Nothing: reads give zeroes, writes are forgotten.
    NullCo,
    /// Memory of the daemon, gone when the node is. Ours.
    Memory,
    /// Another node, with rules that make requests fail.
    Blkdebug,
}

impl BlockdevDriver {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] =
        &[Self::File, Self::HostDevice, Self::Raw, Self::NullCo, Self::Memory, Self::Blkdebug];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::HostDevice => "host_device",
            Self::Raw => "raw",
            Self::NullCo => "null-co",
            Self::Memory => "memory",
            Self::Blkdebug => "blkdebug",
        }
    }
}

impl Visit for BlockdevDriver {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// What becomes of a request to give space back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockdevDiscardOptions {
    /// Nothing.
    Ignore,
    /// The image gives it back.
    Unmap,
}

impl BlockdevDiscardOptions {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Ignore, Self::Unmap];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Unmap => "unmap",
        }
    }
}

impl Visit for BlockdevDiscardOptions {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// How the host may cache an image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCacheOptions {
    /// Whether to go around the host's page cache (O_DIRECT; default: false).
    pub direct: Option<bool>,
    /// Whether to ignore flushes, which loses data when the host does (default: false).
    pub no_flush: Option<bool>,
}

impl Object for BlockdevCacheOptions {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { direct: members.optional("direct")?, no_flush: members.optional("no-flush")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "direct", self.direct.as_ref());
        visit::add_optional(object, "no-flush", self.no_flush.as_ref());
    }
}

/// A switch that can find its own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnOffAuto {
    /// The daemon chooses.
    Auto,
    /// On.
    On,
    /// Off.
    Off,
}

impl OnOffAuto {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Auto, Self::On, Self::Off];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl Visit for OnOffAuto {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// How to reach a file without waiting for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockdevAioOptions {
    /// Threads that wait instead.
    Threads,
    /// Io_uring of the host's kernel.
    IoUring,
}

impl BlockdevAioOptions {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Threads, Self::IoUring];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::IoUring => "io_uring",
        }
    }
}

impl Visit for BlockdevAioOptions {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// A file or a block device of the host.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsFile {
    /// Its path.
    pub filename: String,
    /// Whether to lock it as QEMU does, so that nobody else writes to it; auto locks where
    /// the host can (default: auto).
    pub locking: Option<OnOffAuto>,
    /// How to reach it (default: io_uring where the host has it, otherwise threads).
    pub aio: Option<BlockdevAioOptions>,
}

impl Object for BlockdevOptionsFile {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            filename: members.required("filename")?,
            locking: members.optional("locking")?,
            aio: members.optional("aio")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "filename", &self.filename);
        visit::add_optional(object, "locking", self.locking.as_ref());
        visit::add_optional(object, "aio", self.aio.as_ref());
    }
}

/// A node that passes everything to another.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsRaw {
    /// The other.
    pub file: BlockdevRef,
}

impl Object for BlockdevOptionsRaw {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { file: members.required("file")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "file", &self.file);
    }
}

/// A node without an image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsNull {
    /// Its size in bytes (default: 1 GiB).
    pub size: Option<i64>,
}

impl Object for BlockdevOptionsNull {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { size: members.optional("size")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "size", self.size.as_ref());
    }
}

/// A node in memory. Untouched parts take no memory.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsMemory {
    /// Its size in bytes.
    pub size: u64,
}

impl Object for BlockdevOptionsMemory {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { size: members.required("size")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "size", &self.size);
    }
}

/// A node to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptions {
    /// Its name; needed unless another node is made on top of it in the same command.
    pub node_name: Option<String>,
    /// Whether to refuse writes (default: false).
    pub read_only: Option<bool>,
    /// How the host may cache it.
    pub cache: Option<BlockdevCacheOptions>,
    /// What becomes of discards (default: ignore).
    pub discard: Option<BlockdevDiscardOptions>,
    /// What `driver` says it is, and the members that come with it.
    pub variant: BlockdevOptionsVariant,
}

/// What a [`BlockdevOptions`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevOptionsVariant {
    /// `driver` is `file`.
    File(BlockdevOptionsFile),
    /// `driver` is `host_device`.
    HostDevice(BlockdevOptionsFile),
    /// `driver` is `raw`.
    Raw(BlockdevOptionsRaw),
    /// `driver` is `null-co`.
    NullCo(BlockdevOptionsNull),
    /// `driver` is `memory`.
    Memory(BlockdevOptionsMemory),
    /// `driver` is `blkdebug`.
    Blkdebug(BlockdevOptionsBlkdebug),
}

impl BlockdevOptionsVariant {
    /// The value of the member `driver`.
    #[must_use]
    pub fn driver(&self) -> BlockdevDriver {
        match self {
            Self::File(_) => BlockdevDriver::File,
            Self::HostDevice(_) => BlockdevDriver::HostDevice,
            Self::Raw(_) => BlockdevDriver::Raw,
            Self::NullCo(_) => BlockdevDriver::NullCo,
            Self::Memory(_) => BlockdevDriver::Memory,
            Self::Blkdebug(_) => BlockdevDriver::Blkdebug,
        }
    }
}

impl Object for BlockdevOptions {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        let driver: BlockdevDriver = members.required("driver")?;
        let node_name = members.optional("node-name")?;
        let read_only = members.optional("read-only")?;
        let cache = members.optional("cache")?;
        let discard = members.optional("discard")?;
        let variant = match driver {
            BlockdevDriver::File => Object::take_from(members).map(BlockdevOptionsVariant::File)?,
            BlockdevDriver::HostDevice => {
                Object::take_from(members).map(BlockdevOptionsVariant::HostDevice)?
            }
            BlockdevDriver::Raw => Object::take_from(members).map(BlockdevOptionsVariant::Raw)?,
            BlockdevDriver::NullCo => {
                Object::take_from(members).map(BlockdevOptionsVariant::NullCo)?
            }
            BlockdevDriver::Memory => {
                Object::take_from(members).map(BlockdevOptionsVariant::Memory)?
            }
            BlockdevDriver::Blkdebug => {
                Object::take_from(members).map(BlockdevOptionsVariant::Blkdebug)?
            }
        };
        Ok(Self { node_name, read_only, cache, discard, variant })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "driver", &self.variant.driver());
        visit::add_optional(object, "node-name", self.node_name.as_ref());
        visit::add_optional(object, "read-only", self.read_only.as_ref());
        visit::add_optional(object, "cache", self.cache.as_ref());
        visit::add_optional(object, "discard", self.discard.as_ref());
        match &self.variant {
            BlockdevOptionsVariant::File(variant) => variant.add_to(object),
            BlockdevOptionsVariant::HostDevice(variant) => variant.add_to(object),
            BlockdevOptionsVariant::Raw(variant) => variant.add_to(object),
            BlockdevOptionsVariant::NullCo(variant) => variant.add_to(object),
            BlockdevOptionsVariant::Memory(variant) => variant.add_to(object),
            BlockdevOptionsVariant::Blkdebug(variant) => variant.add_to(object),
        }
    }
}

/// A node, either made on the spot or named.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevRef {
    /// A node to be made.
    Definition(Box<BlockdevOptions>),
    /// The name of a node that exists.
    Reference(String),
}

impl Visit for BlockdevRef {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        match value {
            Value::Object(_) => Visit::parse(value, at).map(Box::new).map(Self::Definition),
            Value::String(_) => Visit::parse(value, at).map(Self::Reference),
            _ => Err(visit::no_alternative(at, "BlockdevRef")),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Definition(value) => value.to_value(),
            Self::Reference(value) => value.to_value(),
        }
    }
}

/// Arguments of `blockdev-del`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevDelArguments {
    /// The node.
    pub node_name: String,
}

impl Object for BlockdevDelArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { node_name: members.required("node-name")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "node-name", &self.node_name);
    }
}

/// Arguments of `blockdev-reopen`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevReopenArguments {
    /// The nodes, each with all its options as for `blockdev-add`; options that are left out
    /// go back to their defaults.
    pub options: Vec<BlockdevOptions>,
}

impl Object for BlockdevReopenArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { options: members.required("options")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "options", &self.options);
    }
}

/// Arguments of `block_resize`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockResizeArguments {
    /// The disk, by the id of its export; either this or `node-name` is needed.
    pub device: Option<String>,
    /// The node.
    pub node_name: Option<String>,
    /// The new size in bytes.
    pub size: i64,
}

impl Object for BlockResizeArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            device: members.optional("device")?,
            node_name: members.optional("node-name")?,
            size: members.required("size")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "device", self.device.as_ref());
        visit::add_optional(object, "node-name", self.node_name.as_ref());
        visit::add(object, "size", &self.size);
    }
}

/// What becomes of writes that consist of zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockdevDetectZeroesOptions {
    /// They are ordinary writes.
    Off,
}

impl BlockdevDetectZeroesOptions {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Off];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
        }
    }
}

impl Visit for BlockdevDetectZeroesOptions {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// An image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInfo {
    /// Its path, or a description of what has none.
    pub filename: String,
    /// Its driver.
    pub format: String,
    /// Bytes that it takes on the host; left out where the host cannot tell.
    pub actual_size: Option<i64>,
    /// Bytes that the guest sees.
    pub virtual_size: i64,
}

impl Object for ImageInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            filename: members.required("filename")?,
            format: members.required("format")?,
            actual_size: members.optional("actual-size")?,
            virtual_size: members.required("virtual-size")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "filename", &self.filename);
        visit::add(object, "format", &self.format);
        visit::add_optional(object, "actual-size", self.actual_size.as_ref());
        visit::add(object, "virtual-size", &self.virtual_size);
    }
}

/// How an image is cached.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCacheInfo {
    /// Whether a write may be answered before it is durable.
    pub writeback: bool,
    /// Whether the host's page cache is left out.
    pub direct: bool,
    /// Whether flushes are ignored.
    pub no_flush: bool,
}

impl Object for BlockdevCacheInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            writeback: members.required("writeback")?,
            direct: members.required("direct")?,
            no_flush: members.required("no-flush")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "writeback", &self.writeback);
        visit::add(object, "direct", &self.direct);
        visit::add(object, "no-flush", &self.no_flush);
    }
}

/// A node. Members about things that this daemon does not do are here because QEMU
/// promises them: they say that it is not done.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockDeviceInfo {
    /// The path of its image, or a description of what has none.
    pub file: String,
    /// Its name.
    pub node_name: Option<String>,
    /// Whether it refuses writes.
    pub ro: bool,
    /// Its driver.
    pub drv: String,
    /// Images below its own: 0.
    pub backing_file_depth: i64,
    /// Whether it may be used: always.
    pub active: bool,
    /// Whether its image is encrypted: never.
    pub encrypted: bool,
    /// What becomes of writes that consist of zeroes.
    pub detect_zeroes: BlockdevDetectZeroesOptions,
    /// Limit of bytes a second: 0, for none.
    pub bps: i64,
    /// The same for reads.
    pub bps_rd: i64,
    /// The same for writes.
    pub bps_wr: i64,
    /// Limit of requests a second: 0, for none.
    pub iops: i64,
    /// The same for reads.
    pub iops_rd: i64,
    /// The same for writes.
    pub iops_wr: i64,
    /// Its image.
    pub image: ImageInfo,
    /// How it is cached.
    pub cache: BlockdevCacheInfo,
    /// Byte from which on a write is reported: 0, for none.
    pub write_threshold: i64,
}

impl Object for BlockDeviceInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            file: members.required("file")?,
            node_name: members.optional("node-name")?,
            ro: members.required("ro")?,
            drv: members.required("drv")?,
            backing_file_depth: members.required("backing_file_depth")?,
            active: members.required("active")?,
            encrypted: members.required("encrypted")?,
            detect_zeroes: members.required("detect_zeroes")?,
            bps: members.required("bps")?,
            bps_rd: members.required("bps_rd")?,
            bps_wr: members.required("bps_wr")?,
            iops: members.required("iops")?,
            iops_rd: members.required("iops_rd")?,
            iops_wr: members.required("iops_wr")?,
            image: members.required("image")?,
            cache: members.required("cache")?,
            write_threshold: members.required("write_threshold")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "file", &self.file);
        visit::add_optional(object, "node-name", self.node_name.as_ref());
        visit::add(object, "ro", &self.ro);
        visit::add(object, "drv", &self.drv);
        visit::add(object, "backing_file_depth", &self.backing_file_depth);
        visit::add(object, "active", &self.active);
        visit::add(object, "encrypted", &self.encrypted);
        visit::add(object, "detect_zeroes", &self.detect_zeroes);
        visit::add(object, "bps", &self.bps);
        visit::add(object, "bps_rd", &self.bps_rd);
        visit::add(object, "bps_wr", &self.bps_wr);
        visit::add(object, "iops", &self.iops);
        visit::add(object, "iops_rd", &self.iops_rd);
        visit::add(object, "iops_wr", &self.iops_wr);
        visit::add(object, "image", &self.image);
        visit::add(object, "cache", &self.cache);
        visit::add(object, "write_threshold", &self.write_threshold);
    }
}

/// Arguments of `query-named-block-nodes`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct QueryNamedBlockNodesArguments {
    /// Whether to leave out the images below each image; there are none, so it changes
    /// nothing.
    pub flat: Option<bool>,
}

impl Object for QueryNamedBlockNodesArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { flat: members.optional("flat")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "flat", self.flat.as_ref());
    }
}

/// A disk.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockInfo {
    /// Its name: the id of its export.
    pub device: String,
    /// "unknown", as QEMU says of every disk.
    pub r#type: String,
    /// Whether the medium can be taken out of the device: never.
    pub removable: bool,
    /// Whether the guest has locked the medium: never.
    pub locked: bool,
    /// Its node, as the disk shows it: `ro` and the cache's `writeback` are the disk's.
    pub inserted: Option<BlockDeviceInfo>,
}

impl Object for BlockInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            device: members.required("device")?,
            r#type: members.required("type")?,
            removable: members.required("removable")?,
            locked: members.required("locked")?,
            inserted: members.optional("inserted")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "device", &self.device);
        visit::add(object, "type", &self.r#type);
        visit::add(object, "removable", &self.removable);
        visit::add(object, "locked", &self.locked);
        visit::add_optional(object, "inserted", self.inserted.as_ref());
    }
}

/// Latencies over an interval. QEMU keeps these for intervals that a device was
/// configured with; this daemon has no such option.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockDeviceTimedStats {
    /// Length of the interval in seconds.
    pub interval_length: i64,
    /// Shortest read.
    pub min_rd_latency_ns: i64,
    /// Longest read.
    pub max_rd_latency_ns: i64,
    /// Average read.
    pub avg_rd_latency_ns: i64,
    /// Shortest write.
    pub min_wr_latency_ns: i64,
    /// Longest write.
    pub max_wr_latency_ns: i64,
    /// Average write.
    pub avg_wr_latency_ns: i64,
    /// Shortest zone append.
    pub min_zone_append_latency_ns: i64,
    /// Longest zone append.
    pub max_zone_append_latency_ns: i64,
    /// Average zone append.
    pub avg_zone_append_latency_ns: i64,
    /// Shortest flush.
    pub min_flush_latency_ns: i64,
    /// Longest flush.
    pub max_flush_latency_ns: i64,
    /// Average flush.
    pub avg_flush_latency_ns: i64,
    /// Average number of reads under way.
    pub avg_rd_queue_depth: f64,
    /// Average number of writes under way.
    pub avg_wr_queue_depth: f64,
    /// Average number of zone appends under way.
    pub avg_zone_append_queue_depth: f64,
}

impl Object for BlockDeviceTimedStats {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            interval_length: members.required("interval_length")?,
            min_rd_latency_ns: members.required("min_rd_latency_ns")?,
            max_rd_latency_ns: members.required("max_rd_latency_ns")?,
            avg_rd_latency_ns: members.required("avg_rd_latency_ns")?,
            min_wr_latency_ns: members.required("min_wr_latency_ns")?,
            max_wr_latency_ns: members.required("max_wr_latency_ns")?,
            avg_wr_latency_ns: members.required("avg_wr_latency_ns")?,
            min_zone_append_latency_ns: members.required("min_zone_append_latency_ns")?,
            max_zone_append_latency_ns: members.required("max_zone_append_latency_ns")?,
            avg_zone_append_latency_ns: members.required("avg_zone_append_latency_ns")?,
            min_flush_latency_ns: members.required("min_flush_latency_ns")?,
            max_flush_latency_ns: members.required("max_flush_latency_ns")?,
            avg_flush_latency_ns: members.required("avg_flush_latency_ns")?,
            avg_rd_queue_depth: members.required("avg_rd_queue_depth")?,
            avg_wr_queue_depth: members.required("avg_wr_queue_depth")?,
            avg_zone_append_queue_depth: members.required("avg_zone_append_queue_depth")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "interval_length", &self.interval_length);
        visit::add(object, "min_rd_latency_ns", &self.min_rd_latency_ns);
        visit::add(object, "max_rd_latency_ns", &self.max_rd_latency_ns);
        visit::add(object, "avg_rd_latency_ns", &self.avg_rd_latency_ns);
        visit::add(object, "min_wr_latency_ns", &self.min_wr_latency_ns);
        visit::add(object, "max_wr_latency_ns", &self.max_wr_latency_ns);
        visit::add(object, "avg_wr_latency_ns", &self.avg_wr_latency_ns);
        visit::add(object, "min_zone_append_latency_ns", &self.min_zone_append_latency_ns);
        visit::add(object, "max_zone_append_latency_ns", &self.max_zone_append_latency_ns);
        visit::add(object, "avg_zone_append_latency_ns", &self.avg_zone_append_latency_ns);
        visit::add(object, "min_flush_latency_ns", &self.min_flush_latency_ns);
        visit::add(object, "max_flush_latency_ns", &self.max_flush_latency_ns);
        visit::add(object, "avg_flush_latency_ns", &self.avg_flush_latency_ns);
        visit::add(object, "avg_rd_queue_depth", &self.avg_rd_queue_depth);
        visit::add(object, "avg_wr_queue_depth", &self.avg_wr_queue_depth);
        visit::add(object, "avg_zone_append_queue_depth", &self.avg_zone_append_queue_depth);
    }
}

/// What a disk or a node has done. "Operations" counts requests that succeeded, "failed"
/// those that the image or a fault failed, "invalid" those that were refused unseen, such
/// as one beyond the end of the disk. Zoned disks and merged requests do not exist here:
/// their members, which QEMU promises, count nothing and are 0.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockDeviceStats {
    /// Bytes read.
    pub rd_bytes: u64,
    /// Bytes written.
    pub wr_bytes: u64,
    /// Bytes appended to zones.
    pub zone_append_bytes: u64,
    /// Bytes discarded.
    pub unmap_bytes: u64,
    /// Bytes zeroed by requests to write zeroes. Ours.
    pub wr_zeroes_bytes: u64,
    /// Reads.
    pub rd_operations: u64,
    /// Writes.
    pub wr_operations: u64,
    /// Appends to zones.
    pub zone_append_operations: u64,
    /// Flushes.
    pub flush_operations: u64,
    /// Discards.
    pub unmap_operations: u64,
    /// Requests to write zeroes. Ours.
    pub wr_zeroes_operations: u64,
    /// Requests for the serial number. Ours.
    pub get_id_operations: u64,
    /// Nanoseconds spent on reads, each counted from the queue to the answer.
    pub rd_total_time_ns: u64,
    /// The same for writes.
    pub wr_total_time_ns: u64,
    /// The same for zone appends.
    pub zone_append_total_time_ns: u64,
    /// The same for flushes.
    pub flush_total_time_ns: u64,
    /// The same for discards.
    pub unmap_total_time_ns: u64,
    /// The byte behind the highest that was ever written.
    pub wr_highest_offset: u64,
    /// Reads that were made part of another.
    pub rd_merged: u64,
    /// Writes that were made part of another.
    pub wr_merged: u64,
    /// Zone appends that were made part of another.
    pub zone_append_merged: u64,
    /// Discards that were made part of another.
    pub unmap_merged: u64,
    /// Nanoseconds since the last request; left out before the first.
    pub idle_time_ns: Option<u64>,
    /// Reads that failed.
    pub failed_rd_operations: u64,
    /// Writes that failed.
    pub failed_wr_operations: u64,
    /// Zone appends that failed.
    pub failed_zone_append_operations: u64,
    /// Flushes that failed.
    pub failed_flush_operations: u64,
    /// Discards that failed.
    pub failed_unmap_operations: u64,
    /// Requests to write zeroes that failed. Ours.
    pub failed_wr_zeroes_operations: u64,
    /// Reads that were refused.
    pub invalid_rd_operations: u64,
    /// Writes that were refused.
    pub invalid_wr_operations: u64,
    /// Zone appends that were refused.
    pub invalid_zone_append_operations: u64,
    /// Flushes that were refused.
    pub invalid_flush_operations: u64,
    /// Discards that were refused.
    pub invalid_unmap_operations: u64,
    /// Requests to write zeroes that were refused. Ours.
    pub invalid_wr_zeroes_operations: u64,
    /// Whether refused requests count for `idle_time_ns`.
    pub account_invalid: bool,
    /// Whether failed requests count for `idle_time_ns` and the total times.
    pub account_failed: bool,
    /// Latencies over intervals: none.
    pub timed_stats: Vec<BlockDeviceTimedStats>,
}

impl Object for BlockDeviceStats {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            rd_bytes: members.required("rd_bytes")?,
            wr_bytes: members.required("wr_bytes")?,
            zone_append_bytes: members.required("zone_append_bytes")?,
            unmap_bytes: members.required("unmap_bytes")?,
            wr_zeroes_bytes: members.required("wr_zeroes_bytes")?,
            rd_operations: members.required("rd_operations")?,
            wr_operations: members.required("wr_operations")?,
            zone_append_operations: members.required("zone_append_operations")?,
            flush_operations: members.required("flush_operations")?,
            unmap_operations: members.required("unmap_operations")?,
            wr_zeroes_operations: members.required("wr_zeroes_operations")?,
            get_id_operations: members.required("get_id_operations")?,
            rd_total_time_ns: members.required("rd_total_time_ns")?,
            wr_total_time_ns: members.required("wr_total_time_ns")?,
            zone_append_total_time_ns: members.required("zone_append_total_time_ns")?,
            flush_total_time_ns: members.required("flush_total_time_ns")?,
            unmap_total_time_ns: members.required("unmap_total_time_ns")?,
            wr_highest_offset: members.required("wr_highest_offset")?,
            rd_merged: members.required("rd_merged")?,
            wr_merged: members.required("wr_merged")?,
            zone_append_merged: members.required("zone_append_merged")?,
            unmap_merged: members.required("unmap_merged")?,
            idle_time_ns: members.optional("idle_time_ns")?,
            failed_rd_operations: members.required("failed_rd_operations")?,
            failed_wr_operations: members.required("failed_wr_operations")?,
            failed_zone_append_operations: members.required("failed_zone_append_operations")?,
            failed_flush_operations: members.required("failed_flush_operations")?,
            failed_unmap_operations: members.required("failed_unmap_operations")?,
            failed_wr_zeroes_operations: members.required("failed_wr_zeroes_operations")?,
            invalid_rd_operations: members.required("invalid_rd_operations")?,
            invalid_wr_operations: members.required("invalid_wr_operations")?,
            invalid_zone_append_operations: members.required("invalid_zone_append_operations")?,
            invalid_flush_operations: members.required("invalid_flush_operations")?,
            invalid_unmap_operations: members.required("invalid_unmap_operations")?,
            invalid_wr_zeroes_operations: members.required("invalid_wr_zeroes_operations")?,
            account_invalid: members.required("account_invalid")?,
            account_failed: members.required("account_failed")?,
            timed_stats: members.required("timed_stats")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "rd_bytes", &self.rd_bytes);
        visit::add(object, "wr_bytes", &self.wr_bytes);
        visit::add(object, "zone_append_bytes", &self.zone_append_bytes);
        visit::add(object, "unmap_bytes", &self.unmap_bytes);
        visit::add(object, "wr_zeroes_bytes", &self.wr_zeroes_bytes);
        visit::add(object, "rd_operations", &self.rd_operations);
        visit::add(object, "wr_operations", &self.wr_operations);
        visit::add(object, "zone_append_operations", &self.zone_append_operations);
        visit::add(object, "flush_operations", &self.flush_operations);
        visit::add(object, "unmap_operations", &self.unmap_operations);
        visit::add(object, "wr_zeroes_operations", &self.wr_zeroes_operations);
        visit::add(object, "get_id_operations", &self.get_id_operations);
        visit::add(object, "rd_total_time_ns", &self.rd_total_time_ns);
        visit::add(object, "wr_total_time_ns", &self.wr_total_time_ns);
        visit::add(object, "zone_append_total_time_ns", &self.zone_append_total_time_ns);
        visit::add(object, "flush_total_time_ns", &self.flush_total_time_ns);
        visit::add(object, "unmap_total_time_ns", &self.unmap_total_time_ns);
        visit::add(object, "wr_highest_offset", &self.wr_highest_offset);
        visit::add(object, "rd_merged", &self.rd_merged);
        visit::add(object, "wr_merged", &self.wr_merged);
        visit::add(object, "zone_append_merged", &self.zone_append_merged);
        visit::add(object, "unmap_merged", &self.unmap_merged);
        visit::add_optional(object, "idle_time_ns", self.idle_time_ns.as_ref());
        visit::add(object, "failed_rd_operations", &self.failed_rd_operations);
        visit::add(object, "failed_wr_operations", &self.failed_wr_operations);
        visit::add(object, "failed_zone_append_operations", &self.failed_zone_append_operations);
        visit::add(object, "failed_flush_operations", &self.failed_flush_operations);
        visit::add(object, "failed_unmap_operations", &self.failed_unmap_operations);
        visit::add(object, "failed_wr_zeroes_operations", &self.failed_wr_zeroes_operations);
        visit::add(object, "invalid_rd_operations", &self.invalid_rd_operations);
        visit::add(object, "invalid_wr_operations", &self.invalid_wr_operations);
        visit::add(object, "invalid_zone_append_operations", &self.invalid_zone_append_operations);
        visit::add(object, "invalid_flush_operations", &self.invalid_flush_operations);
        visit::add(object, "invalid_unmap_operations", &self.invalid_unmap_operations);
        visit::add(object, "invalid_wr_zeroes_operations", &self.invalid_wr_zeroes_operations);
        visit::add(object, "account_invalid", &self.account_invalid);
        visit::add(object, "account_failed", &self.account_failed);
        visit::add(object, "timed_stats", &self.timed_stats);
    }
}

/// What one disk or node has done.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockStats {
    /// The disk, by the id of its export; left out for a node.
    pub device: Option<String>,
    /// The node.
    pub node_name: Option<String>,
    /// What it has done.
    pub stats: BlockDeviceStats,
}

impl Object for BlockStats {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            device: members.optional("device")?,
            node_name: members.optional("node-name")?,
            stats: members.required("stats")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "device", self.device.as_ref());
        visit::add_optional(object, "node-name", self.node_name.as_ref());
        visit::add(object, "stats", &self.stats);
    }
}

/// Arguments of `query-blockstats`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct QueryBlockstatsArguments {
    /// Whether to tell of nodes instead of disks (default: false).
    pub query_nodes: Option<bool>,
}

impl Object for QueryBlockstatsArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { query_nodes: members.optional("query-nodes")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "query-nodes", self.query_nodes.as_ref());
    }
}

/// Which way data was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IoOperationType {
    /// From the image.
    Read,
    /// To the image; flushes, discards and requests to write zeroes count as writes.
    Write,
}

impl IoOperationType {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Read, Self::Write];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

impl Visit for IoOperationType {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// What was done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockErrorAction {
    /// The guest was told that all is well.
    Ignore,
    /// The guest was told.
    Report,
    /// The request is held until the operator decides.
    Stop,
}

impl BlockErrorAction {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Ignore, Self::Report, Self::Stop];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Report => "report",
            Self::Stop => "stop",
        }
    }
}

impl Visit for BlockErrorAction {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Data of `BLOCK_IO_ERROR`, see [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockIoErrorData {
    /// The disk, by the id of its export.
    pub device: String,
    /// Its node.
    pub node_name: Option<String>,
    /// Which way data was to go.
    pub operation: IoOperationType,
    /// What was done about it.
    pub action: BlockErrorAction,
    /// Whether the image had no space left.
    pub nospace: Option<bool>,
    /// The error, for people.
    pub reason: String,
}

impl Object for BlockIoErrorData {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            device: members.required("device")?,
            node_name: members.optional("node-name")?,
            operation: members.required("operation")?,
            action: members.required("action")?,
            nospace: members.optional("nospace")?,
            reason: members.required("reason")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "device", &self.device);
        visit::add_optional(object, "node-name", self.node_name.as_ref());
        visit::add(object, "operation", &self.operation);
        visit::add(object, "action", &self.action);
        visit::add_optional(object, "nospace", self.nospace.as_ref());
        visit::add(object, "reason", &self.reason);
    }
}

/// How a node is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockExportType {
    /// As a virtio disk, to a front end such as QEMU's vhost-user-blk-pci.
    VhostUserBlk,
}

impl BlockExportType {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::VhostUserBlk];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VhostUserBlk => "vhost-user-blk",
        }
    }
}

impl Visit for BlockExportType {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Where a socket comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketAddressType {
    /// Made at a path.
    Unix,
    /// Inherited.
    Fd,
}

impl SocketAddressType {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Unix, Self::Fd];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Fd => "fd",
        }
    }
}

impl Visit for SocketAddressType {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// A unix socket at a path.
#[derive(Debug, Clone, PartialEq)]
pub struct UnixSocketAddress {
    /// Where; a socket there on which nobody listens is replaced.
    pub path: String,
}

impl Object for UnixSocketAddress {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { path: members.required("path")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "path", &self.path);
    }
}

/// A socket that the daemon was started with.
#[derive(Debug, Clone, PartialEq)]
pub struct FdSocketAddress {
    /// Its file descriptor, as a decimal number.
    pub str: String,
}

impl Object for FdSocketAddress {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { str: members.required("str")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "str", &self.str);
    }
}

/// Where front ends connect.
#[derive(Debug, Clone, PartialEq)]
pub struct SocketAddress {
    /// What `type` says it is, and the members that come with it.
    pub variant: SocketAddressVariant,
}

/// What a [`SocketAddress`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum SocketAddressVariant {
    /// `type` is `unix`.
    Unix(UnixSocketAddress),
    /// `type` is `fd`.
    Fd(FdSocketAddress),
}

impl SocketAddressVariant {
    /// The value of the member `type`.
    #[must_use]
    pub fn r#type(&self) -> SocketAddressType {
        match self {
            Self::Unix(_) => SocketAddressType::Unix,
            Self::Fd(_) => SocketAddressType::Fd,
        }
    }
}

impl Object for SocketAddress {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        let r#type: SocketAddressType = members.required("type")?;
        let variant = match r#type {
            SocketAddressType::Unix => {
                Object::take_from(members).map(SocketAddressVariant::Unix)?
            }
            SocketAddressType::Fd => Object::take_from(members).map(SocketAddressVariant::Fd)?,
        };
        Ok(Self { variant })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "type", &self.variant.r#type());
        match &self.variant {
            SocketAddressVariant::Unix(variant) => variant.add_to(object),
            SocketAddressVariant::Fd(variant) => variant.add_to(object),
        }
    }
}

/// A virtio disk.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockExportOptionsVhostUserBlk {
    /// Where front ends connect, one at a time.
    pub addr: SocketAddress,
    /// The smallest unit the guest may read or write, in bytes: a power of two from 512 to
    /// 4096 (default: 512).
    pub logical_block_size: Option<u64>,
    /// How many virtqueues the guest may use, from 1 to 256 (default: 1).
    pub num_queues: Option<u16>,
    /// What the guest reads as the disk's serial number, at most 20 bytes (default: the
    /// export's id, cut to 20 bytes). Ours.
    pub serial: Option<String>,
}

impl Object for BlockExportOptionsVhostUserBlk {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            addr: members.required("addr")?,
            logical_block_size: members.optional("logical-block-size")?,
            num_queues: members.optional("num-queues")?,
            serial: members.optional("serial")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "addr", &self.addr);
        visit::add_optional(object, "logical-block-size", self.logical_block_size.as_ref());
        visit::add_optional(object, "num-queues", self.num_queues.as_ref());
        visit::add_optional(object, "serial", self.serial.as_ref());
    }
}

/// What becomes of requests that a fault holds when their queue stops (QEMU's stop,
/// system_reset, quit) and the front end stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockExportHeldOnStop {
    /// They fail with an I/O error.
    Fail,
    /// They stay unanswered and are held again when the queue starts; where the front end has
    /// no log of requests in flight (INFLIGHT_SHMFD) they fail. Never for a guest that
    /// migrates: the log stays behind, so that requests that were held are never answered
    /// where it goes.
    Keep,
}

impl BlockExportHeldOnStop {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Fail, Self::Keep];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Keep => "keep",
        }
    }
}

impl Visit for BlockExportHeldOnStop {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// A node, and how to show it.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockExportOptions {
    /// The name of the export, and of the disk, at most 127 bytes; no other export has it. (A
    /// disk of the command line has at most 31, because its node gets the same name.).
    pub id: String,
    /// The node.
    pub node_name: String,
    /// Whether the guest may write (default: false).
    pub writable: Option<bool>,
    /// Whether a write is durable before it is answered, so that the guest need not flush
    /// (default: false).
    pub writethrough: Option<bool>,
    /// Every random choice of the disk's faults is a function of this (default: a number made
    /// from the id). Not used where `--state-dir` has a file of this disk. Ours.
    pub seed: Option<u64>,
    /// What becomes of requests that the image fails (default: report). Not used where
    /// `--state-dir` has a file of this disk. Ours.
    pub on_error: Option<BlockFaultOnError>,
    /// What becomes of requests that a fault holds when their queue stops (default: fail).
    /// Ours.
    pub held_on_stop: Option<BlockExportHeldOnStop>,
    /// How much of each queue's thread's time may go into looking for the next request
    /// instead of sleeping until it comes, in percent from 0 to 100; an idle disk costs
    /// nothing (default: 50). Ours.
    pub poll: Option<u16>,
    /// What `type` says it is, and the members that come with it.
    pub variant: BlockExportOptionsVariant,
}

/// What a [`BlockExportOptions`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockExportOptionsVariant {
    /// `type` is `vhost-user-blk`.
    VhostUserBlk(BlockExportOptionsVhostUserBlk),
}

impl BlockExportOptionsVariant {
    /// The value of the member `type`.
    #[must_use]
    pub fn r#type(&self) -> BlockExportType {
        match self {
            Self::VhostUserBlk(_) => BlockExportType::VhostUserBlk,
        }
    }
}

impl Object for BlockExportOptions {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        let r#type: BlockExportType = members.required("type")?;
        let id = members.required("id")?;
        let node_name = members.required("node-name")?;
        let writable = members.optional("writable")?;
        let writethrough = members.optional("writethrough")?;
        let seed = members.optional("seed")?;
        let on_error = members.optional("on-error")?;
        let held_on_stop = members.optional("held-on-stop")?;
        let poll = members.optional("poll")?;
        let variant = match r#type {
            BlockExportType::VhostUserBlk => {
                Object::take_from(members).map(BlockExportOptionsVariant::VhostUserBlk)?
            }
        };
        Ok(Self {
            id,
            node_name,
            writable,
            writethrough,
            seed,
            on_error,
            held_on_stop,
            poll,
            variant,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "type", &self.variant.r#type());
        visit::add(object, "id", &self.id);
        visit::add(object, "node-name", &self.node_name);
        visit::add_optional(object, "writable", self.writable.as_ref());
        visit::add_optional(object, "writethrough", self.writethrough.as_ref());
        visit::add_optional(object, "seed", self.seed.as_ref());
        visit::add_optional(object, "on-error", self.on_error.as_ref());
        visit::add_optional(object, "held-on-stop", self.held_on_stop.as_ref());
        visit::add_optional(object, "poll", self.poll.as_ref());
        match &self.variant {
            BlockExportOptionsVariant::VhostUserBlk(variant) => variant.add_to(object),
        }
    }
}

/// What to do about a guest that uses the export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockExportRemoveMode {
    /// Refuse to remove the export while a front end is connected.
    Safe,
    /// Disconnect the front end.
    Hard,
}

impl BlockExportRemoveMode {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Safe, Self::Hard];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Hard => "hard",
        }
    }
}

impl Visit for BlockExportRemoveMode {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Arguments of `block-export-del`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockExportDelArguments {
    /// The export.
    pub id: String,
    /// What to do about a guest that uses it (default: safe).
    pub mode: Option<BlockExportRemoveMode>,
}

impl Object for BlockExportDelArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { id: members.required("id")?, mode: members.optional("mode")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add_optional(object, "mode", self.mode.as_ref());
    }
}

/// An export.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockExportInfo {
    /// Its name.
    pub id: String,
    /// How it shows its node.
    pub r#type: BlockExportType,
    /// Its node.
    pub node_name: String,
    /// Whether it is on its way out.
    pub shutting_down: bool,
    /// Whether a front end is connected now. Ours.
    pub connected: Option<bool>,
}

impl Object for BlockExportInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            r#type: members.required("type")?,
            node_name: members.required("node-name")?,
            shutting_down: members.required("shutting-down")?,
            connected: members.optional("connected")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "type", &self.r#type);
        visit::add(object, "node-name", &self.node_name);
        visit::add(object, "shutting-down", &self.shutting_down);
        visit::add_optional(object, "connected", self.connected.as_ref());
    }
}

/// Data of `BLOCK_EXPORT_DELETED`, see [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockExportDeletedData {
    /// The export.
    pub id: String,
}

impl Object for BlockExportDeletedData {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { id: members.required("id")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
    }
}

/// Data of `BLOCK_EXPORT_CONNECTED`, see [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockExportConnectedData {
    /// The export.
    pub id: String,
}

impl Object for BlockExportConnectedData {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { id: members.required("id")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
    }
}

/// Data of `BLOCK_EXPORT_DISCONNECTED`, see [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockExportDisconnectedData {
    /// The export.
    pub id: String,
}

impl Object for BlockExportDisconnectedData {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { id: members.required("id")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
    }
}

/// What the operator turned the whole disk into. It outranks everything else that decides
/// about requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultState {
    /// An ordinary disk: rules decide.
    None,
    /// Requests fail at once and never reach the image.
    Error,
    /// Requests are held until the state is left.
    Hang,
    /// A limping disk.
    Slow,
    /// Writes, discards and requests to write zeroes fail, reads work.
    ReadOnly,
    /// The front end is disconnected and refused until the state is left.
    Offline,
}

impl BlockFaultState {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] =
        &[Self::None, Self::Error, Self::Hang, Self::Slow, Self::ReadOnly, Self::Offline];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Error => "error",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::ReadOnly => "read-only",
            Self::Offline => "offline",
        }
    }
}

impl Visit for BlockFaultState {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultIoType {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To make what was written durable.
    Flush,
    /// To give space back.
    Discard,
    /// To write zeroes without sending them.
    WriteZeroes,
    /// To be told the serial number; met by those rules and breakpoints only that name it,
    /// never by states, and not meant where all is the default.
    GetId,
}

impl BlockFaultIoType {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] =
        &[Self::Read, Self::Write, Self::Flush, Self::Discard, Self::WriteZeroes, Self::GetId];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::WriteZeroes => "write-zeroes",
            Self::GetId => "get-id",
        }
    }
}

impl Visit for BlockFaultIoType {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// An error, either way people write one. virtio-blk has no word for it: the guest sees
/// an I/O error whatever it is (an unsupported request if it is EOPNOTSUPP), and events
/// and statistics tell it.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockFaultErrno {
    /// An error number of the host, from 1 to 4095, such as 5.
    Number(i64),
    /// Its name, such as "EIO".
    Name(String),
}

impl Visit for BlockFaultErrno {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        match value {
            Value::Number(_) => Visit::parse(value, at).map(Self::Number),
            Value::String(_) => Visit::parse(value, at).map(Self::Name),
            _ => Err(visit::no_alternative(at, "BlockFaultErrno")),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Number(value) => value.to_value(),
            Self::Name(value) => value.to_value(),
        }
    }
}

/// An ordinary disk has no options.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultOptionsNone {}

impl Object for BlockFaultOptionsNone {
    fn take_from(_members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {})
    }

    fn add_to(&self, _object: &mut Map<String, Value>) {}
}

/// A disk that errs.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultOptionsError {
    /// The error of failed requests (default: EIO).
    pub errno: Option<BlockFaultErrno>,
    /// The requests that fail; for others rules decide (default: all).
    pub iotype: Option<Vec<BlockFaultIoType>>,
}

impl Object for BlockFaultOptionsError {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { errno: members.optional("errno")?, iotype: members.optional("iotype")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "errno", self.errno.as_ref());
        visit::add_optional(object, "iotype", self.iotype.as_ref());
    }
}

/// What becomes of requests that were held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultRelease {
    /// They go on.
    Run,
    /// They fail.
    Fail,
}

impl BlockFaultRelease {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Run, Self::Fail];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Fail => "fail",
        }
    }
}

impl Visit for BlockFaultRelease {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// A disk that does not answer.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultOptionsHang {
    /// The requests that are held; for others rules decide (default: all).
    pub iotype: Option<Vec<BlockFaultIoType>>,
    /// What becomes of them when the state is left (default: run).
    pub on_release: Option<BlockFaultRelease>,
    /// With `on-release` fail, the error (default: EIO).
    pub errno: Option<BlockFaultErrno>,
}

impl Object for BlockFaultOptionsHang {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            iotype: members.optional("iotype")?,
            on_release: members.optional("on-release")?,
            errno: members.optional("errno")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "iotype", self.iotype.as_ref());
        visit::add_optional(object, "on-release", self.on_release.as_ref());
        visit::add_optional(object, "errno", self.errno.as_ref());
    }
}

/// A slow disk. The first profile that concerns a request slows it; then rules decide.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultOptionsSlow {
    /// One that was published; either this or `profiles` is needed.
    pub preset: Option<BlockFaultPreset>,
    /// 1 to 64 profiles of your own.
    pub profiles: Option<Vec<BlockFaultProfile>>,
}

impl Object for BlockFaultOptionsSlow {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { preset: members.optional("preset")?, profiles: members.optional("profiles")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "preset", self.preset.as_ref());
        visit::add_optional(object, "profiles", self.profiles.as_ref());
    }
}

/// A disk that cannot be written.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultOptionsReadOnly {
    /// The error of requests that would (default: EROFS).
    pub errno: Option<BlockFaultErrno>,
}

impl Object for BlockFaultOptionsReadOnly {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { errno: members.optional("errno")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "errno", self.errno.as_ref());
    }
}

/// A disk that is not there has no options.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultOptionsOffline {}

impl Object for BlockFaultOptionsOffline {
    fn take_from(_members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {})
    }

    fn add_to(&self, _object: &mut Map<String, Value>) {}
}

/// A state with its options.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultStateOptions {
    /// What `state` says it is, and the members that come with it.
    pub variant: BlockFaultStateOptionsVariant,
}

/// What a [`BlockFaultStateOptions`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockFaultStateOptionsVariant {
    /// `state` is `none`.
    None(BlockFaultOptionsNone),
    /// `state` is `error`.
    Error(BlockFaultOptionsError),
    /// `state` is `hang`.
    Hang(BlockFaultOptionsHang),
    /// `state` is `slow`.
    Slow(BlockFaultOptionsSlow),
    /// `state` is `read-only`.
    ReadOnly(BlockFaultOptionsReadOnly),
    /// `state` is `offline`.
    Offline(BlockFaultOptionsOffline),
}

impl BlockFaultStateOptionsVariant {
    /// The value of the member `state`.
    #[must_use]
    pub fn state(&self) -> BlockFaultState {
        match self {
            Self::None(_) => BlockFaultState::None,
            Self::Error(_) => BlockFaultState::Error,
            Self::Hang(_) => BlockFaultState::Hang,
            Self::Slow(_) => BlockFaultState::Slow,
            Self::ReadOnly(_) => BlockFaultState::ReadOnly,
            Self::Offline(_) => BlockFaultState::Offline,
        }
    }
}

impl Object for BlockFaultStateOptions {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        let state: BlockFaultState = members.required("state")?;
        let variant = match state {
            BlockFaultState::None => {
                Object::take_from(members).map(BlockFaultStateOptionsVariant::None)?
            }
            BlockFaultState::Error => {
                Object::take_from(members).map(BlockFaultStateOptionsVariant::Error)?
            }
            BlockFaultState::Hang => {
                Object::take_from(members).map(BlockFaultStateOptionsVariant::Hang)?
            }
            BlockFaultState::Slow => {
                Object::take_from(members).map(BlockFaultStateOptionsVariant::Slow)?
            }
            BlockFaultState::ReadOnly => {
                Object::take_from(members).map(BlockFaultStateOptionsVariant::ReadOnly)?
            }
            BlockFaultState::Offline => {
                Object::take_from(members).map(BlockFaultStateOptionsVariant::Offline)?
            }
        };
        Ok(Self { variant })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "state", &self.variant.state());
        match &self.variant {
            BlockFaultStateOptionsVariant::None(variant) => variant.add_to(object),
            BlockFaultStateOptionsVariant::Error(variant) => variant.add_to(object),
            BlockFaultStateOptionsVariant::Hang(variant) => variant.add_to(object),
            BlockFaultStateOptionsVariant::Slow(variant) => variant.add_to(object),
            BlockFaultStateOptionsVariant::ReadOnly(variant) => variant.add_to(object),
            BlockFaultStateOptionsVariant::Offline(variant) => variant.add_to(object),
        }
    }
}

/// A state for a disk.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultStateSetting {
    /// The disk, by the id of its export.
    pub id: String,

    /// What `state` says it is, and the members that come with it.
    pub variant: BlockFaultStateSettingVariant,
}

/// What a [`BlockFaultStateSetting`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockFaultStateSettingVariant {
    /// `state` is `none`.
    None(BlockFaultOptionsNone),
    /// `state` is `error`.
    Error(BlockFaultOptionsError),
    /// `state` is `hang`.
    Hang(BlockFaultOptionsHang),
    /// `state` is `slow`.
    Slow(BlockFaultOptionsSlow),
    /// `state` is `read-only`.
    ReadOnly(BlockFaultOptionsReadOnly),
    /// `state` is `offline`.
    Offline(BlockFaultOptionsOffline),
}

impl BlockFaultStateSettingVariant {
    /// The value of the member `state`.
    #[must_use]
    pub fn state(&self) -> BlockFaultState {
        match self {
            Self::None(_) => BlockFaultState::None,
            Self::Error(_) => BlockFaultState::Error,
            Self::Hang(_) => BlockFaultState::Hang,
            Self::Slow(_) => BlockFaultState::Slow,
            Self::ReadOnly(_) => BlockFaultState::ReadOnly,
            Self::Offline(_) => BlockFaultState::Offline,
        }
    }
}

impl Object for BlockFaultStateSetting {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        let id = members.required("id")?;
        let state: BlockFaultState = members.required("state")?;
        let variant = match state {
            BlockFaultState::None => {
                Object::take_from(members).map(BlockFaultStateSettingVariant::None)?
            }
            BlockFaultState::Error => {
                Object::take_from(members).map(BlockFaultStateSettingVariant::Error)?
            }
            BlockFaultState::Hang => {
                Object::take_from(members).map(BlockFaultStateSettingVariant::Hang)?
            }
            BlockFaultState::Slow => {
                Object::take_from(members).map(BlockFaultStateSettingVariant::Slow)?
            }
            BlockFaultState::ReadOnly => {
                Object::take_from(members).map(BlockFaultStateSettingVariant::ReadOnly)?
            }
            BlockFaultState::Offline => {
                Object::take_from(members).map(BlockFaultStateSettingVariant::Offline)?
            }
        };
        Ok(Self { id, variant })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "state", &self.variant.state());
        match &self.variant {
            BlockFaultStateSettingVariant::None(variant) => variant.add_to(object),
            BlockFaultStateSettingVariant::Error(variant) => variant.add_to(object),
            BlockFaultStateSettingVariant::Hang(variant) => variant.add_to(object),
            BlockFaultStateSettingVariant::Slow(variant) => variant.add_to(object),
            BlockFaultStateSettingVariant::ReadOnly(variant) => variant.add_to(object),
            BlockFaultStateSettingVariant::Offline(variant) => variant.add_to(object),
        }
    }
}

/// Arguments of `query-block-fault-state`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct QueryBlockFaultStateArguments {
    /// The disk, by the id of its export.
    pub id: String,
}

impl Object for QueryBlockFaultStateArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { id: members.required("id")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
    }
}

/// A moment, as events tell it.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultTime {
    /// Since the beginning of 1970, UTC.
    pub seconds: i64,
    /// Within that second.
    pub microseconds: i64,
}

impl Object for BlockFaultTime {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            seconds: members.required("seconds")?,
            microseconds: members.required("microseconds")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "seconds", &self.seconds);
        visit::add(object, "microseconds", &self.microseconds);
    }
}

/// What became of a disk's requests at the fault filter since the disk exists.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultCounts {
    /// Went on to the image, whatever the image made of it; get-id never does.
    pub passed: u64,
    /// Failed by command, never seen by the image; each request that is no get-id is in this
    /// count or the first.
    pub failed: u64,
    /// Of all these, those that had to wait for a time.
    pub delayed: u64,
    /// Of all these, those that were held.
    pub held: u64,
}

impl Object for BlockFaultCounts {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            passed: members.required("passed")?,
            failed: members.required("failed")?,
            delayed: members.required("delayed")?,
            held: members.required("held")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "passed", &self.passed);
        visit::add(object, "failed", &self.failed);
        visit::add(object, "delayed", &self.delayed);
        visit::add(object, "held", &self.held);
    }
}

/// What becomes of a request that the image fails, on its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultOnError {
    /// The guest is told.
    Report,
    /// It is held, and runs again on `block-fault-resume`, as with QEMU's werror=stop.
    Hold,
    /// It is held if the image had no space left, as with werror=enospc.
    HoldOnEnospc,
}

impl BlockFaultOnError {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Report, Self::Hold, Self::HoldOnEnospc];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Hold => "hold",
            Self::HoldOnEnospc => "hold-on-enospc",
        }
    }
}

impl Visit for BlockFaultOnError {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// A disk that errs.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultInfoError {
    /// The error of failed requests, as a number.
    pub errno: i64,
    /// Its name, where this daemon knows one.
    pub errno_name: Option<String>,
    /// The requests that fail.
    pub iotype: Vec<BlockFaultIoType>,
}

impl Object for BlockFaultInfoError {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            errno: members.required("errno")?,
            errno_name: members.optional("errno-name")?,
            iotype: members.required("iotype")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "errno", &self.errno);
        visit::add_optional(object, "errno-name", self.errno_name.as_ref());
        visit::add(object, "iotype", &self.iotype);
    }
}

/// A disk that does not answer.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultInfoHang {
    /// The requests that are held.
    pub iotype: Vec<BlockFaultIoType>,
    /// What becomes of them when the state is left.
    pub on_release: BlockFaultRelease,
    /// With `on-release` fail, the error, as a number.
    pub errno: Option<i64>,
    /// Its name, where this daemon knows one.
    pub errno_name: Option<String>,
}

impl Object for BlockFaultInfoHang {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            iotype: members.required("iotype")?,
            on_release: members.required("on-release")?,
            errno: members.optional("errno")?,
            errno_name: members.optional("errno-name")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "iotype", &self.iotype);
        visit::add(object, "on-release", &self.on_release);
        visit::add_optional(object, "errno", self.errno.as_ref());
        visit::add_optional(object, "errno-name", self.errno_name.as_ref());
    }
}

/// A slow disk.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultInfoSlow {
    /// The published disk that it is, if it is one.
    pub preset: Option<BlockFaultPreset>,
    /// How slow.
    pub profiles: Vec<BlockFaultProfile>,
}

impl Object for BlockFaultInfoSlow {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { preset: members.optional("preset")?, profiles: members.required("profiles")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "preset", self.preset.as_ref());
        visit::add(object, "profiles", &self.profiles);
    }
}

/// A disk that cannot be written.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultInfoReadOnly {
    /// The error of requests that would, as a number.
    pub errno: i64,
    /// Its name, where this daemon knows one.
    pub errno_name: Option<String>,
}

impl Object for BlockFaultInfoReadOnly {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { errno: members.required("errno")?, errno_name: members.optional("errno-name")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "errno", &self.errno);
        visit::add_optional(object, "errno-name", self.errno_name.as_ref());
    }
}

/// A disk as its fault filter sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultInfo {
    /// The disk, by the id of its export.
    pub id: String,
    /// When the state was entered, or the disk made.
    pub since: BlockFaultTime,
    /// Requests that are held back now, to be answered later.
    pub held: u64,
    /// The number that `set-state` rules change; 1 at first, as in blkdebug.
    pub engine_state: i64,
    /// Every random choice is a function of this, a rule's name and a request's ordinal.
    pub seed: u64,
    /// What becomes of a request that the image fails.
    pub on_error: BlockFaultOnError,
    /// Requests so far.
    pub counts: BlockFaultCounts,
    /// Requests that an earlier connection, or an earlier daemon, took and did not answer,
    /// and that this daemon has done again; counted when their ring starts.
    pub resubmitted: u64,
    /// Whether all of it, with the rules, is on file for the next daemon. False while the
    /// host cannot write what requests did to it (hits, requests held); commands that would
    /// change something fail then. Absent without `--state-dir`.
    pub state_kept: Option<bool>,
    /// What `state` says it is, and the members that come with it.
    pub variant: BlockFaultInfoVariant,
}

/// What a [`BlockFaultInfo`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockFaultInfoVariant {
    /// `state` is `none`.
    None(BlockFaultOptionsNone),
    /// `state` is `error`.
    Error(BlockFaultInfoError),
    /// `state` is `hang`.
    Hang(BlockFaultInfoHang),
    /// `state` is `slow`.
    Slow(BlockFaultInfoSlow),
    /// `state` is `read-only`.
    ReadOnly(BlockFaultInfoReadOnly),
    /// `state` is `offline`.
    Offline(BlockFaultOptionsOffline),
}

impl BlockFaultInfoVariant {
    /// The value of the member `state`.
    #[must_use]
    pub fn state(&self) -> BlockFaultState {
        match self {
            Self::None(_) => BlockFaultState::None,
            Self::Error(_) => BlockFaultState::Error,
            Self::Hang(_) => BlockFaultState::Hang,
            Self::Slow(_) => BlockFaultState::Slow,
            Self::ReadOnly(_) => BlockFaultState::ReadOnly,
            Self::Offline(_) => BlockFaultState::Offline,
        }
    }
}

impl Object for BlockFaultInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        let id = members.required("id")?;
        let state: BlockFaultState = members.required("state")?;
        let since = members.required("since")?;
        let held = members.required("held")?;
        let engine_state = members.required("engine-state")?;
        let seed = members.required("seed")?;
        let on_error = members.required("on-error")?;
        let counts = members.required("counts")?;
        let resubmitted = members.required("resubmitted")?;
        let state_kept = members.optional("state-kept")?;
        let variant = match state {
            BlockFaultState::None => Object::take_from(members).map(BlockFaultInfoVariant::None)?,
            BlockFaultState::Error => {
                Object::take_from(members).map(BlockFaultInfoVariant::Error)?
            }
            BlockFaultState::Hang => Object::take_from(members).map(BlockFaultInfoVariant::Hang)?,
            BlockFaultState::Slow => Object::take_from(members).map(BlockFaultInfoVariant::Slow)?,
            BlockFaultState::ReadOnly => {
                Object::take_from(members).map(BlockFaultInfoVariant::ReadOnly)?
            }
            BlockFaultState::Offline => {
                Object::take_from(members).map(BlockFaultInfoVariant::Offline)?
            }
        };
        Ok(Self {
            id,
            since,
            held,
            engine_state,
            seed,
            on_error,
            counts,
            resubmitted,
            state_kept,
            variant,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "state", &self.variant.state());
        visit::add(object, "since", &self.since);
        visit::add(object, "held", &self.held);
        visit::add(object, "engine-state", &self.engine_state);
        visit::add(object, "seed", &self.seed);
        visit::add(object, "on-error", &self.on_error);
        visit::add(object, "counts", &self.counts);
        visit::add(object, "resubmitted", &self.resubmitted);
        visit::add_optional(object, "state-kept", self.state_kept.as_ref());
        match &self.variant {
            BlockFaultInfoVariant::None(variant) => variant.add_to(object),
            BlockFaultInfoVariant::Error(variant) => variant.add_to(object),
            BlockFaultInfoVariant::Hang(variant) => variant.add_to(object),
            BlockFaultInfoVariant::Slow(variant) => variant.add_to(object),
            BlockFaultInfoVariant::ReadOnly(variant) => variant.add_to(object),
            BlockFaultInfoVariant::Offline(variant) => variant.add_to(object),
        }
    }
}

/// Arguments of `query-block-fault`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct QueryBlockFaultArguments {
    /// The disk, by the id of its export.
    pub id: String,
}

impl Object for QueryBlockFaultArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { id: members.required("id")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
    }
}

/// Arguments of `block-fault-on-error-set`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultOnErrorSetArguments {
    /// The disk, by the id of its export.
    pub id: String,
    /// What becomes of them.
    pub policy: BlockFaultOnError,
}

impl Object for BlockFaultOnErrorSetArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { id: members.required("id")?, policy: members.required("policy")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "policy", &self.policy);
    }
}

/// Data of `BLOCK_FAULT_STATE_CHANGED`, see [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultStateChangedData {
    /// The disk, by the id of its export.
    pub id: String,
    /// What it is now.
    pub state: BlockFaultState,
    /// What it was before.
    pub previous: BlockFaultState,
}

impl Object for BlockFaultStateChangedData {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            state: members.required("state")?,
            previous: members.required("previous")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "state", &self.state);
        visit::add(object, "previous", &self.previous);
    }
}

/// Data of `BLOCK_FAULT_ENGINE_STATE_CHANGED`, see [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultEngineStateChangedData {
    /// The disk, by the id of its export.
    pub id: String,
    /// What it is now.
    pub state: i64,
    /// What it was before.
    pub previous: i64,
}

impl Object for BlockFaultEngineStateChangedData {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            state: members.required("state")?,
            previous: members.required("previous")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "state", &self.state);
        visit::add(object, "previous", &self.previous);
    }
}

/// Who decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultCause {
    /// The disk's state.
    State,
    /// A native rule.
    Rule,
    /// A blkdebug rule.
    InjectError,
    /// A blkdebug breakpoint.
    Break,
    /// The image failed it, and the disk holds such requests.
    OnError,
}

impl BlockFaultCause {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] =
        &[Self::State, Self::Rule, Self::InjectError, Self::Break, Self::OnError];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Rule => "rule",
            Self::InjectError => "inject-error",
            Self::Break => "break",
            Self::OnError => "on-error",
        }
    }
}

impl Visit for BlockFaultCause {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// What was done to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultVerdict {
    /// It failed.
    Error,
    /// It had to wait.
    Delay,
    /// It was held.
    Hang,
    /// It was held at a breakpoint.
    Break,
    /// The engine state was set.
    SetState,
    /// The front end was disconnected.
    Disconnect,
}

impl BlockFaultVerdict {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] =
        &[Self::Error, Self::Delay, Self::Hang, Self::Break, Self::SetState, Self::Disconnect];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Delay => "delay",
            Self::Hang => "hang",
            Self::Break => "break",
            Self::SetState => "set-state",
            Self::Disconnect => "disconnect",
        }
    }
}

impl Visit for BlockFaultVerdict {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Data of `BLOCK_FAULT`, see [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultData {
    /// The disk, by the id of its export.
    pub id: String,
    /// What kind of rule.
    pub cause: BlockFaultCause,
    /// Its name, or "inject-error.N" for the N-th of blkdebug's, from 0.
    pub rule: String,
    /// The request, by its place in the order in which the disk took requests, from 0.
    pub ordinal: u64,
    /// What it wants.
    pub iotype: BlockFaultIoType,
    /// Its first sector; left out for flush and get-id.
    pub sector: Option<u64>,
    /// The error that it gets, at once or later, as a number.
    pub errno: Option<i64>,
    /// Its name, where this daemon knows one.
    pub errno_name: Option<String>,
    /// What was done.
    pub verdict: BlockFaultVerdict,
    /// Hits of the same rule since the last such event that no event tells.
    pub untold: u64,
}

impl Object for BlockFaultData {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            cause: members.required("cause")?,
            rule: members.required("rule")?,
            ordinal: members.required("ordinal")?,
            iotype: members.required("iotype")?,
            sector: members.optional("sector")?,
            errno: members.optional("errno")?,
            errno_name: members.optional("errno-name")?,
            verdict: members.required("verdict")?,
            untold: members.required("untold")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "cause", &self.cause);
        visit::add(object, "rule", &self.rule);
        visit::add(object, "ordinal", &self.ordinal);
        visit::add(object, "iotype", &self.iotype);
        visit::add_optional(object, "sector", self.sector.as_ref());
        visit::add_optional(object, "errno", self.errno.as_ref());
        visit::add_optional(object, "errno-name", self.errno_name.as_ref());
        visit::add(object, "verdict", &self.verdict);
        visit::add(object, "untold", &self.untold);
    }
}

/// Data of `BLOCK_FAULT_RULE_EXHAUSTED`, see [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultRuleExhaustedData {
    /// The disk, by the id of its export.
    pub id: String,
    /// What kind of rule.
    pub cause: BlockFaultCause,
    /// Its name, or "inject-error.N" for the N-th of blkdebug's, from 0.
    pub rule: String,
}

impl Object for BlockFaultRuleExhaustedData {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            cause: members.required("cause")?,
            rule: members.required("rule")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "cause", &self.cause);
        visit::add(object, "rule", &self.rule);
    }
}

/// What happened to a media fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultHealReason {
    /// A write healed sectors.
    Written,
    /// The last spare sector was used: what is bad stays bad.
    PoolEmpty,
}

impl BlockFaultHealReason {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Written, Self::PoolEmpty];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::PoolEmpty => "pool-empty",
        }
    }
}

impl Visit for BlockFaultHealReason {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Data of `BLOCK_FAULT_HEALED`, see [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultHealedData {
    /// The disk, by the id of its export.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// What happened.
    pub reason: BlockFaultHealReason,
    /// How many sectors this write healed; 0 with reason pool-empty.
    pub sectors: u64,
}

impl Object for BlockFaultHealedData {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            rule: members.required("rule")?,
            reason: members.required("reason")?,
            sectors: members.required("sectors")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "rule", &self.rule);
        visit::add(object, "reason", &self.reason);
        visit::add(object, "sectors", &self.sectors);
    }
}

/// A family of random delays. No delay is longer than an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultDistributionKind {
    /// Always the same.
    Fixed,
    /// Every delay between two, equally often.
    Uniform,
    /// Many short ones, few long ones.
    Exponential,
    /// The logarithm is normal.
    Lognormal,
    /// A heavy tail.
    Pareto,
    /// As measured.
    Quantiles,
}

impl BlockFaultDistributionKind {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[
        Self::Fixed,
        Self::Uniform,
        Self::Exponential,
        Self::Lognormal,
        Self::Pareto,
        Self::Quantiles,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Uniform => "uniform",
            Self::Exponential => "exponential",
            Self::Lognormal => "lognormal",
            Self::Pareto => "pareto",
            Self::Quantiles => "quantiles",
        }
    }
}

impl Visit for BlockFaultDistributionKind {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Always the same delay.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultDelayFixed {
    /// The delay.
    pub delay_ns: u64,
}

impl Object for BlockFaultDelayFixed {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { delay_ns: members.required("delay-ns")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "delay-ns", &self.delay_ns);
    }
}

/// A delay between two, both included.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultDelayUniform {
    /// The shortest.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Object for BlockFaultDelayUniform {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { min_ns: members.required("min-ns")?, max_ns: members.required("max-ns")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "min-ns", &self.min_ns);
        visit::add(object, "max-ns", &self.max_ns);
    }
}

/// An exponential delay.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultDelayExponential {
    /// The mean.
    pub mean_ns: u64,
}

impl Object for BlockFaultDelayExponential {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { mean_ns: members.required("mean-ns")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "mean-ns", &self.mean_ns);
    }
}

/// A lognormal delay.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultDelayLognormal {
    /// Half the delays are shorter.
    pub median_ns: u64,
    /// Standard deviation of the natural logarithm, above 0 and up to 10.
    pub sigma: f64,
}

impl Object for BlockFaultDelayLognormal {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { median_ns: members.required("median-ns")?, sigma: members.required("sigma")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "median-ns", &self.median_ns);
        visit::add(object, "sigma", &self.sigma);
    }
}

/// A Pareto delay.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultDelayPareto {
    /// The shortest.
    pub min_ns: u64,
    /// The tail index, above 0 and up to 1000: the smaller, the heavier.
    pub alpha: f64,
}

impl Object for BlockFaultDelayPareto {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { min_ns: members.required("min-ns")?, alpha: members.required("alpha")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "min-ns", &self.min_ns);
        visit::add(object, "alpha", &self.alpha);
    }
}

/// A point of a measured distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultQuantile {
    /// The share of requests, from 0 to 1.
    pub share: f64,
    /// That take at most this long.
    pub delay_ns: u64,
}

impl Object for BlockFaultQuantile {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { share: members.required("share")?, delay_ns: members.required("delay-ns")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "share", &self.share);
        visit::add(object, "delay-ns", &self.delay_ns);
    }
}

/// A measured distribution, with straight lines between its points.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultDelayQuantiles {
    /// 2 to 1024 points, with shares that rise from 0 to 1 and delays that never fall.
    pub quantiles: Vec<BlockFaultQuantile>,
}

impl Object for BlockFaultDelayQuantiles {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { quantiles: members.required("quantiles")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "quantiles", &self.quantiles);
    }
}

/// A distribution of delays.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultDistribution {
    /// What `distribution` says it is, and the members that come with it.
    pub variant: BlockFaultDistributionVariant,
}

/// What a [`BlockFaultDistribution`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockFaultDistributionVariant {
    /// `distribution` is `fixed`.
    Fixed(BlockFaultDelayFixed),
    /// `distribution` is `uniform`.
    Uniform(BlockFaultDelayUniform),
    /// `distribution` is `exponential`.
    Exponential(BlockFaultDelayExponential),
    /// `distribution` is `lognormal`.
    Lognormal(BlockFaultDelayLognormal),
    /// `distribution` is `pareto`.
    Pareto(BlockFaultDelayPareto),
    /// `distribution` is `quantiles`.
    Quantiles(BlockFaultDelayQuantiles),
}

impl BlockFaultDistributionVariant {
    /// The value of the member `distribution`.
    #[must_use]
    pub fn distribution(&self) -> BlockFaultDistributionKind {
        match self {
            Self::Fixed(_) => BlockFaultDistributionKind::Fixed,
            Self::Uniform(_) => BlockFaultDistributionKind::Uniform,
            Self::Exponential(_) => BlockFaultDistributionKind::Exponential,
            Self::Lognormal(_) => BlockFaultDistributionKind::Lognormal,
            Self::Pareto(_) => BlockFaultDistributionKind::Pareto,
            Self::Quantiles(_) => BlockFaultDistributionKind::Quantiles,
        }
    }
}

impl Object for BlockFaultDistribution {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        let distribution: BlockFaultDistributionKind = members.required("distribution")?;
        let variant = match distribution {
            BlockFaultDistributionKind::Fixed => {
                Object::take_from(members).map(BlockFaultDistributionVariant::Fixed)?
            }
            BlockFaultDistributionKind::Uniform => {
                Object::take_from(members).map(BlockFaultDistributionVariant::Uniform)?
            }
            BlockFaultDistributionKind::Exponential => {
                Object::take_from(members).map(BlockFaultDistributionVariant::Exponential)?
            }
            BlockFaultDistributionKind::Lognormal => {
                Object::take_from(members).map(BlockFaultDistributionVariant::Lognormal)?
            }
            BlockFaultDistributionKind::Pareto => {
                Object::take_from(members).map(BlockFaultDistributionVariant::Pareto)?
            }
            BlockFaultDistributionKind::Quantiles => {
                Object::take_from(members).map(BlockFaultDistributionVariant::Quantiles)?
            }
        };
        Ok(Self { variant })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "distribution", &self.variant.distribution());
        match &self.variant {
            BlockFaultDistributionVariant::Fixed(variant) => variant.add_to(object),
            BlockFaultDistributionVariant::Uniform(variant) => variant.add_to(object),
            BlockFaultDistributionVariant::Exponential(variant) => variant.add_to(object),
            BlockFaultDistributionVariant::Lognormal(variant) => variant.add_to(object),
            BlockFaultDistributionVariant::Pareto(variant) => variant.add_to(object),
            BlockFaultDistributionVariant::Quantiles(variant) => variant.add_to(object),
        }
    }
}

/// How long to wait.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockFaultDelay {
    /// Always so many nanoseconds.
    FixedNs(u64),
    /// A random time.
    Random(Box<BlockFaultDistribution>),
}

impl Visit for BlockFaultDelay {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        match value {
            Value::Number(_) => Visit::parse(value, at).map(Self::FixedNs),
            Value::Object(_) => Visit::parse(value, at).map(Box::new).map(Self::Random),
            _ => Err(visit::no_alternative(at, "BlockFaultDelay")),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::FixedNs(value) => value.to_value(),
            Self::Random(value) => value.to_value(),
        }
    }
}

/// How a slowdown comes and goes, counted from when it came into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultShapeKind {
    /// It stays.
    Permanent,
    /// It comes and goes.
    Transient,
    /// Again and again nothing moves until the stall is over; between stalls all is well.
    Stalls,
    /// Delays grow, or shrink, evenly, and stay.
    Ramp,
    /// One stage after the other; after the last all is well.
    Steps,
    /// Now and then a request takes this much longer.
    Spikes,
}

impl BlockFaultShapeKind {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] =
        &[Self::Permanent, Self::Transient, Self::Stalls, Self::Ramp, Self::Steps, Self::Spikes];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Transient => "transient",
            Self::Stalls => "stalls",
            Self::Ramp => "ramp",
            Self::Steps => "steps",
            Self::Spikes => "spikes",
        }
    }
}

impl Visit for BlockFaultShapeKind {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// A slowdown that stays.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultShapePermanent {}

impl Object for BlockFaultShapePermanent {
    fn take_from(_members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {})
    }

    fn add_to(&self, _object: &mut Map<String, Value>) {}
}

/// A slowdown for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultShapeTransient {
    /// When it starts (default: 0, at once).
    pub start_ns: Option<u64>,
    /// How long it lasts.
    pub duration_ns: u64,
}

impl Object for BlockFaultShapeTransient {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            start_ns: members.optional("start-ns")?,
            duration_ns: members.required("duration-ns")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "start-ns", self.start_ns.as_ref());
        visit::add(object, "duration-ns", &self.duration_ns);
    }
}

/// Stalls.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultShapeStalls {
    /// From one stall's start to the next one's.
    pub period_ns: u64,
    /// How long a stall lasts, less than the period.
    pub stall_ns: u64,
}

impl Object for BlockFaultShapeStalls {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            period_ns: members.required("period-ns")?,
            stall_ns: members.required("stall-ns")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "period-ns", &self.period_ns);
        visit::add(object, "stall-ns", &self.stall_ns);
    }
}

/// Delays that grow or shrink.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultShapeRamp {
    /// What delays are multiplied with at the start, up to a million.
    pub from: f64,
    /// And at the end.
    pub to: f64,
    /// How long the way takes.
    pub duration_ns: u64,
}

impl Object for BlockFaultShapeRamp {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            from: members.required("from")?,
            to: members.required("to")?,
            duration_ns: members.required("duration-ns")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "from", &self.from);
        visit::add(object, "to", &self.to);
        visit::add(object, "duration-ns", &self.duration_ns);
    }
}

/// A stage of `steps`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultShapeStage {
    /// How long it lasts.
    pub duration_ns: u64,
    /// What delays are multiplied with, up to a million.
    pub scale: f64,
}

impl Object for BlockFaultShapeStage {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            duration_ns: members.required("duration-ns")?,
            scale: members.required("scale")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "duration-ns", &self.duration_ns);
        visit::add(object, "scale", &self.scale);
    }
}

/// Stages.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultShapeSteps {
    /// 1 to 1024 stages.
    pub steps: Vec<BlockFaultShapeStage>,
}

impl Object for BlockFaultShapeSteps {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { steps: members.required("steps")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "steps", &self.steps);
    }
}

/// Spikes.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultShapeSpikes {
    /// The share of requests, above 0 and up to 1.
    pub spike_share: f64,
    /// How much longer they take.
    pub spike_delay: BlockFaultDelay,
}

impl Object for BlockFaultShapeSpikes {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            spike_share: members.required("spike-share")?,
            spike_delay: members.required("spike-delay")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "spike-share", &self.spike_share);
        visit::add(object, "spike-delay", &self.spike_delay);
    }
}

/// How a slowdown comes and goes.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultShape {
    /// What `shape` says it is, and the members that come with it.
    pub variant: BlockFaultShapeVariant,
}

/// What a [`BlockFaultShape`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockFaultShapeVariant {
    /// `shape` is `permanent`.
    Permanent(BlockFaultShapePermanent),
    /// `shape` is `transient`.
    Transient(BlockFaultShapeTransient),
    /// `shape` is `stalls`.
    Stalls(BlockFaultShapeStalls),
    /// `shape` is `ramp`.
    Ramp(BlockFaultShapeRamp),
    /// `shape` is `steps`.
    Steps(BlockFaultShapeSteps),
    /// `shape` is `spikes`.
    Spikes(BlockFaultShapeSpikes),
}

impl BlockFaultShapeVariant {
    /// The value of the member `shape`.
    #[must_use]
    pub fn shape(&self) -> BlockFaultShapeKind {
        match self {
            Self::Permanent(_) => BlockFaultShapeKind::Permanent,
            Self::Transient(_) => BlockFaultShapeKind::Transient,
            Self::Stalls(_) => BlockFaultShapeKind::Stalls,
            Self::Ramp(_) => BlockFaultShapeKind::Ramp,
            Self::Steps(_) => BlockFaultShapeKind::Steps,
            Self::Spikes(_) => BlockFaultShapeKind::Spikes,
        }
    }
}

impl Object for BlockFaultShape {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        let shape: BlockFaultShapeKind = members.required("shape")?;
        let variant = match shape {
            BlockFaultShapeKind::Permanent => {
                Object::take_from(members).map(BlockFaultShapeVariant::Permanent)?
            }
            BlockFaultShapeKind::Transient => {
                Object::take_from(members).map(BlockFaultShapeVariant::Transient)?
            }
            BlockFaultShapeKind::Stalls => {
                Object::take_from(members).map(BlockFaultShapeVariant::Stalls)?
            }
            BlockFaultShapeKind::Ramp => {
                Object::take_from(members).map(BlockFaultShapeVariant::Ramp)?
            }
            BlockFaultShapeKind::Steps => {
                Object::take_from(members).map(BlockFaultShapeVariant::Steps)?
            }
            BlockFaultShapeKind::Spikes => {
                Object::take_from(members).map(BlockFaultShapeVariant::Spikes)?
            }
        };
        Ok(Self { variant })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "shape", &self.variant.shape());
        match &self.variant {
            BlockFaultShapeVariant::Permanent(variant) => variant.add_to(object),
            BlockFaultShapeVariant::Transient(variant) => variant.add_to(object),
            BlockFaultShapeVariant::Stalls(variant) => variant.add_to(object),
            BlockFaultShapeVariant::Ramp(variant) => variant.add_to(object),
            BlockFaultShapeVariant::Steps(variant) => variant.add_to(object),
            BlockFaultShapeVariant::Spikes(variant) => variant.add_to(object),
        }
    }
}

/// A limit.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultRate {
    /// So many a second, from 1 to 10^12.
    pub per_second: u64,
    /// So many may pass at once after a pause (default: a tenth of a second's worth).
    pub burst: Option<u64>,
}

impl Object for BlockFaultRate {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { per_second: members.required("per-second")?, burst: members.optional("burst")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "per-second", &self.per_second);
        visit::add_optional(object, "burst", self.burst.as_ref());
    }
}

/// Whom a slow disk slows, by how much, and when. A request waits for the delay or for
/// the slowest rate, whichever is longer, and then takes longer at the image by `speed`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultProfile {
    /// The requests it slows (default: all).
    pub iotype: Option<Vec<BlockFaultIoType>>,
    /// The sectors it slows (default: all).
    pub sectors: Option<Vec<BlockFaultSectors>>,
    /// The share of those requests, above 0 and up to 1 (default: 1).
    pub share: Option<f64>,
    /// Waited before the image.
    pub delay: Option<BlockFaultDelay>,
    /// Limit of bytes.
    pub bytes_per_second: Option<BlockFaultRate>,
    /// Limit of requests.
    pub requests_per_second: Option<BlockFaultRate>,
    /// The share of its full speed at which the disk works, above 0 and up to 1: a request
    /// that takes the image t takes t divided by this (default: 1).
    pub speed: Option<f64>,
    /// When (default: from now on, for ever).
    pub shape: Option<BlockFaultShape>,
}

impl Object for BlockFaultProfile {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            iotype: members.optional("iotype")?,
            sectors: members.optional("sectors")?,
            share: members.optional("share")?,
            delay: members.optional("delay")?,
            bytes_per_second: members.optional("bytes-per-second")?,
            requests_per_second: members.optional("requests-per-second")?,
            speed: members.optional("speed")?,
            shape: members.optional("shape")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "iotype", self.iotype.as_ref());
        visit::add_optional(object, "sectors", self.sectors.as_ref());
        visit::add_optional(object, "share", self.share.as_ref());
        visit::add_optional(object, "delay", self.delay.as_ref());
        visit::add_optional(object, "bytes-per-second", self.bytes_per_second.as_ref());
        visit::add_optional(object, "requests-per-second", self.requests_per_second.as_ref());
        visit::add_optional(object, "speed", self.speed.as_ref());
        visit::add_optional(object, "shape", self.shape.as_ref());
    }
}

/// Slow disks that were published. Where a source gives no figure, the figure is ours;
/// the manual says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultPreset {
    /// Slow from now on ("Fail-Slow at Scale", FAST'18).
    FailSlowPermanent,
    /// Slow for five minutes (the same).
    FailSlowTransient,
    /// One read in ten is slow (the same).
    FailSlowPartial,
    /// Stops for two seconds in every thirty (the same).
    FailSlowStop,
    /// Everything at a hundredth of its speed, 1 MiB a second ("Limplock", SOCC'13).
    Limplock,
    /// Half of the reads and all writes take 500 ms for 15 minutes (AWS Fault Injection
    /// Service).
    AwsFisSustained,
    /// A tenth of the reads and a quarter of the writes take 50 ms to 15 s, in stages of
    /// three minutes (the same).
    AwsFisIncreasing,
}

impl BlockFaultPreset {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[
        Self::FailSlowPermanent,
        Self::FailSlowTransient,
        Self::FailSlowPartial,
        Self::FailSlowStop,
        Self::Limplock,
        Self::AwsFisSustained,
        Self::AwsFisIncreasing,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailSlowPermanent => "fail-slow-permanent",
            Self::FailSlowTransient => "fail-slow-transient",
            Self::FailSlowPartial => "fail-slow-partial",
            Self::FailSlowStop => "fail-slow-stop",
            Self::Limplock => "limplock",
            Self::AwsFisSustained => "aws-fis-sustained",
            Self::AwsFisIncreasing => "aws-fis-increasing",
        }
    }
}

impl Visit for BlockFaultPreset {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Sectors of 512 bytes, either way people write them.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockFaultSectors {
    /// One sector.
    Sector(u64),
    /// The first and the last, such as "2048-2055".
    Range(String),
}

impl Visit for BlockFaultSectors {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        match value {
            Value::Number(_) => Visit::parse(value, at).map(Self::Sector),
            Value::String(_) => Visit::parse(value, at).map(Self::Range),
            _ => Err(visit::no_alternative(at, "BlockFaultSectors")),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Sector(value) => value.to_value(),
            Self::Range(value) => value.to_value(),
        }
    }
}

/// What a write has to contain.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultContent {
    /// 1 to 512 bytes, as hexadecimal digits.
    pub bytes: String,
    /// The bits that count, as many bytes (default: all).
    pub mask: Option<String>,
    /// Where, in bytes from the start of the write or of the block (default: 0).
    pub offset: Option<u64>,
    /// Look in every block of this many bytes that the write has, instead of at its start.
    pub block_size: Option<u64>,
}

impl Object for BlockFaultContent {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            bytes: members.required("bytes")?,
            mask: members.optional("mask")?,
            offset: members.optional("offset")?,
            block_size: members.optional("block-size")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "bytes", &self.bytes);
        visit::add_optional(object, "mask", self.mask.as_ref());
        visit::add_optional(object, "offset", self.offset.as_ref());
        visit::add_optional(object, "block-size", self.block_size.as_ref());
    }
}

/// When a rule is in force, counted from when it was added, enabled or reset.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultSchedule {
    /// Not before (default: 0, at once).
    pub start_ns: Option<u64>,
    /// Then for so long (default: for ever).
    pub duration_ns: Option<u64>,
    /// From the start on, out of force for so long; goes with `down-ns`.
    pub up_ns: Option<u64>,
    /// Then in force for so long, and over again, as in dm-flakey; goes with `up-ns`.
    pub down_ns: Option<u64>,
}

impl Object for BlockFaultSchedule {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            start_ns: members.optional("start-ns")?,
            duration_ns: members.optional("duration-ns")?,
            up_ns: members.optional("up-ns")?,
            down_ns: members.optional("down-ns")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "start-ns", self.start_ns.as_ref());
        visit::add_optional(object, "duration-ns", self.duration_ns.as_ref());
        visit::add_optional(object, "up-ns", self.up_ns.as_ref());
        visit::add_optional(object, "down-ns", self.down_ns.as_ref());
    }
}

/// What happens to a request that a rule hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultEffect {
    /// It fails and never reaches the image.
    Error,
    /// It waits, then goes on or fails.
    Delay,
    /// It is held until it is released, then goes on or fails.
    Hang,
    /// It is held at a breakpoint.
    Break,
    /// The engine state changes, the request goes on.
    SetState,
    /// The front end is disconnected.
    Disconnect,
    /// The medium is bad there.
    Media,
}

impl BlockFaultEffect {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[
        Self::Error,
        Self::Delay,
        Self::Hang,
        Self::Break,
        Self::SetState,
        Self::Disconnect,
        Self::Media,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Delay => "delay",
            Self::Hang => "hang",
            Self::Break => "break",
            Self::SetState => "set-state",
            Self::Disconnect => "disconnect",
            Self::Media => "media",
        }
    }
}

impl Visit for BlockFaultEffect {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// The request fails.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultEffectError {
    /// With this (default: EIO).
    pub errno: Option<BlockFaultErrno>,
}

impl Object for BlockFaultEffectError {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { errno: members.optional("errno")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "errno", self.errno.as_ref());
    }
}

/// The request waits.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultEffectDelay {
    /// How long.
    pub delay: BlockFaultDelay,
    /// Then it fails with this (default: it goes on).
    pub errno: Option<BlockFaultErrno>,
}

impl Object for BlockFaultEffectDelay {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { delay: members.required("delay")?, errno: members.optional("errno")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "delay", &self.delay);
        visit::add_optional(object, "errno", self.errno.as_ref());
    }
}

/// The request is held until `block-fault-resume`, or the rule is removed or disabled.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultEffectHang {
    /// Or until so many nanoseconds have passed, 1 to an hour.
    pub for_ns: Option<u64>,
    /// Then it fails with this (default: it goes on).
    pub errno: Option<BlockFaultErrno>,
}

impl Object for BlockFaultEffectHang {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { for_ns: members.optional("for-ns")?, errno: members.optional("errno")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "for-ns", self.for_ns.as_ref());
        visit::add_optional(object, "errno", self.errno.as_ref());
    }
}

/// A point in a request's life at which it can be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultPoint {
    /// It was taken from its queue.
    Received,
    /// All rules let it pass and it is about to go to the image.
    BeforeImage,
    /// It is a flush about to go to the image.
    FlushBeforeCommit,
    /// The image has done it, or failed to.
    AfterImage,
    /// Its result is about to be told to the guest, whoever decided it.
    BeforeAnswer,
}

impl BlockFaultPoint {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[
        Self::Received,
        Self::BeforeImage,
        Self::FlushBeforeCommit,
        Self::AfterImage,
        Self::BeforeAnswer,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::BeforeImage => "before-image",
            Self::FlushBeforeCommit => "flush-before-commit",
            Self::AfterImage => "after-image",
            Self::BeforeAnswer => "before-answer",
        }
    }
}

impl Visit for BlockFaultPoint {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// The request is held at a breakpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultEffectBreak {
    /// What to call it in `block-fault-wait` and `block-fault-resume`, 1 to 255 bytes.
    pub tag: String,
    /// Where (default: received).
    pub point: Option<BlockFaultPoint>,
}

impl Object for BlockFaultEffectBreak {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { tag: members.required("tag")?, point: members.optional("point")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "tag", &self.tag);
        visit::add_optional(object, "point", self.point.as_ref());
    }
}

/// The engine state changes.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultEffectSetState {
    /// The state from the next rule on, a number that fits 32 bits.
    pub new_state: i64,
}

impl Object for BlockFaultEffectSetState {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { new_state: members.required("new-state")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "new-state", &self.new_state);
    }
}

/// The front end is disconnected, the request not answered.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultEffectDisconnect {}

impl Object for BlockFaultEffectDisconnect {
    fn take_from(_members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {})
    }

    fn add_to(&self, _object: &mut Map<String, Value>) {}
}

/// Whether bad sectors become good again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultHeal {
    /// Only by `block-fault-rule-set`.
    Never,
    /// A write heals the sectors it wrote, as a drive that remaps them does; a write that
    /// fails because of them too, unless `retries` counts such failures, so that the next
    /// write succeeds.
    OnWrite,
}

impl BlockFaultHeal {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Never, Self::OnWrite];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnWrite => "on-write",
        }
    }
}

impl Visit for BlockFaultHeal {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// A sector on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultFailAfter {
    /// The first so many requests that the rule hits succeed, but wait.
    pub requests: u64,
    /// How long.
    pub delay: BlockFaultDelay,
}

impl Object for BlockFaultFailAfter {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { requests: members.required("requests")?, delay: members.required("delay")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "requests", &self.requests);
        visit::add(object, "delay", &self.delay);
    }
}

/// The medium is bad at the rule's sectors; a rule with this effect has to name some.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultEffectMedia {
    /// What requests fail with (default: EIO).
    pub errno: Option<BlockFaultErrno>,
    /// Whether the sectors become good again (default: never).
    pub heal: Option<BlockFaultHeal>,
    /// How many sectors can heal before the spare ones run out (default: all).
    pub remap_pool: Option<u64>,
    /// Slow first, unreadable later.
    pub fail_after: Option<BlockFaultFailAfter>,
    /// Each sector fails so many times in a row, then once not, up to a million (default: it
    /// always fails).
    pub retries: Option<u64>,
}

impl Object for BlockFaultEffectMedia {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            errno: members.optional("errno")?,
            heal: members.optional("heal")?,
            remap_pool: members.optional("remap-pool")?,
            fail_after: members.optional("fail-after")?,
            retries: members.optional("retries")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "errno", self.errno.as_ref());
        visit::add_optional(object, "heal", self.heal.as_ref());
        visit::add_optional(object, "remap-pool", self.remap_pool.as_ref());
        visit::add_optional(object, "fail-after", self.fail_after.as_ref());
        visit::add_optional(object, "retries", self.retries.as_ref());
    }
}

/// A rule: which requests it hits, and what happens to them. All conditions have to be
/// met; those that count (`skip`, `every`, `probability`, `times`) look only at requests
/// that meet the others.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultRule {
    /// Its name, unique on the disk: a letter, then letters, digits, '-', '.' or '_', at most
    /// 127 (default: rule1 for a disk's first rule, rule2 for the second and so on).
    pub name: Option<String>,
    /// These requests (default: all).
    pub iotype: Option<Vec<BlockFaultIoType>>,
    /// That touch one of these sectors, at most 65536 ranges (default: all).
    pub sectors: Option<Vec<BlockFaultSectors>>,
    /// From this virtqueue.
    pub queue: Option<u16>,
    /// While the engine is in this state.
    pub state: Option<i64>,
    /// While at least so many requests are in flight, this one included.
    pub queue_depth: Option<u64>,
    /// At these times.
    pub schedule: Option<BlockFaultSchedule>,
    /// That write this; goes with `iotype` write alone.
    pub content: Option<BlockFaultContent>,
    /// Not the first so many of those (default: 0).
    pub skip: Option<u64>,
    /// After those, every so-manieth: 3 is the third, the sixth and so on (default: 1).
    pub every: Option<u64>,
    /// Of those, this share, by chance: above 0 and up to 1 (default: 1).
    pub probability: Option<f64>,
    /// Of those, so many, then no more (default: no limit).
    pub times: Option<u64>,
    /// The same as `times` with 1, if true.
    pub once: Option<bool>,
    /// Whether later rules are looked at even when this one hits; goes with effects that let
    /// the request go on (default: false).
    pub r#continue: Option<bool>,
    /// Whether it is in force (default: true).
    pub enabled: Option<bool>,

    /// What `effect` says it is, and the members that come with it.
    pub variant: BlockFaultRuleVariant,
}

/// What a [`BlockFaultRule`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockFaultRuleVariant {
    /// `effect` is `error`.
    Error(BlockFaultEffectError),
    /// `effect` is `delay`.
    Delay(BlockFaultEffectDelay),
    /// `effect` is `hang`.
    Hang(BlockFaultEffectHang),
    /// `effect` is `break`.
    Break(BlockFaultEffectBreak),
    /// `effect` is `set-state`.
    SetState(BlockFaultEffectSetState),
    /// `effect` is `disconnect`.
    Disconnect(BlockFaultEffectDisconnect),
    /// `effect` is `media`.
    Media(BlockFaultEffectMedia),
}

impl BlockFaultRuleVariant {
    /// The value of the member `effect`.
    #[must_use]
    pub fn effect(&self) -> BlockFaultEffect {
        match self {
            Self::Error(_) => BlockFaultEffect::Error,
            Self::Delay(_) => BlockFaultEffect::Delay,
            Self::Hang(_) => BlockFaultEffect::Hang,
            Self::Break(_) => BlockFaultEffect::Break,
            Self::SetState(_) => BlockFaultEffect::SetState,
            Self::Disconnect(_) => BlockFaultEffect::Disconnect,
            Self::Media(_) => BlockFaultEffect::Media,
        }
    }
}

impl Object for BlockFaultRule {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        let name = members.optional("name")?;
        let iotype = members.optional("iotype")?;
        let sectors = members.optional("sectors")?;
        let queue = members.optional("queue")?;
        let state = members.optional("state")?;
        let queue_depth = members.optional("queue-depth")?;
        let schedule = members.optional("schedule")?;
        let content = members.optional("content")?;
        let skip = members.optional("skip")?;
        let every = members.optional("every")?;
        let probability = members.optional("probability")?;
        let times = members.optional("times")?;
        let once = members.optional("once")?;
        let r#continue = members.optional("continue")?;
        let enabled = members.optional("enabled")?;
        let effect: BlockFaultEffect = members.required("effect")?;
        let variant = match effect {
            BlockFaultEffect::Error => {
                Object::take_from(members).map(BlockFaultRuleVariant::Error)?
            }
            BlockFaultEffect::Delay => {
                Object::take_from(members).map(BlockFaultRuleVariant::Delay)?
            }
            BlockFaultEffect::Hang => {
                Object::take_from(members).map(BlockFaultRuleVariant::Hang)?
            }
            BlockFaultEffect::Break => {
                Object::take_from(members).map(BlockFaultRuleVariant::Break)?
            }
            BlockFaultEffect::SetState => {
                Object::take_from(members).map(BlockFaultRuleVariant::SetState)?
            }
            BlockFaultEffect::Disconnect => {
                Object::take_from(members).map(BlockFaultRuleVariant::Disconnect)?
            }
            BlockFaultEffect::Media => {
                Object::take_from(members).map(BlockFaultRuleVariant::Media)?
            }
        };
        Ok(Self {
            name,
            iotype,
            sectors,
            queue,
            state,
            queue_depth,
            schedule,
            content,
            skip,
            every,
            probability,
            times,
            once,
            r#continue,
            enabled,
            variant,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "name", self.name.as_ref());
        visit::add_optional(object, "iotype", self.iotype.as_ref());
        visit::add_optional(object, "sectors", self.sectors.as_ref());
        visit::add_optional(object, "queue", self.queue.as_ref());
        visit::add_optional(object, "state", self.state.as_ref());
        visit::add_optional(object, "queue-depth", self.queue_depth.as_ref());
        visit::add_optional(object, "schedule", self.schedule.as_ref());
        visit::add_optional(object, "content", self.content.as_ref());
        visit::add_optional(object, "skip", self.skip.as_ref());
        visit::add_optional(object, "every", self.every.as_ref());
        visit::add_optional(object, "probability", self.probability.as_ref());
        visit::add_optional(object, "times", self.times.as_ref());
        visit::add_optional(object, "once", self.once.as_ref());
        visit::add_optional(object, "continue", self.r#continue.as_ref());
        visit::add_optional(object, "enabled", self.enabled.as_ref());
        visit::add(object, "effect", &self.variant.effect());
        match &self.variant {
            BlockFaultRuleVariant::Error(variant) => variant.add_to(object),
            BlockFaultRuleVariant::Delay(variant) => variant.add_to(object),
            BlockFaultRuleVariant::Hang(variant) => variant.add_to(object),
            BlockFaultRuleVariant::Break(variant) => variant.add_to(object),
            BlockFaultRuleVariant::SetState(variant) => variant.add_to(object),
            BlockFaultRuleVariant::Disconnect(variant) => variant.add_to(object),
            BlockFaultRuleVariant::Media(variant) => variant.add_to(object),
        }
    }
}

/// An end of the list of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultPlaceEnd {
    /// In front of all others.
    First,
    /// Behind all others.
    Last,
}

impl BlockFaultPlaceEnd {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::First, Self::Last];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Last => "last",
        }
    }
}

impl Visit for BlockFaultPlaceEnd {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// A place beside another rule. One of the two is needed.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultPlaceBeside {
    /// Just in front of this rule.
    pub before: Option<String>,
    /// Just behind this rule.
    pub after: Option<String>,
}

impl Object for BlockFaultPlaceBeside {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { before: members.optional("before")?, after: members.optional("after")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "before", self.before.as_ref());
        visit::add_optional(object, "after", self.after.as_ref());
    }
}

/// Where a rule goes among the others.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockFaultPlace {
    /// At an end.
    End(BlockFaultPlaceEnd),
    /// Beside another rule.
    Beside(Box<BlockFaultPlaceBeside>),
}

impl Visit for BlockFaultPlace {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        match value {
            Value::String(_) => Visit::parse(value, at).map(Self::End),
            Value::Object(_) => Visit::parse(value, at).map(Box::new).map(Self::Beside),
            _ => Err(visit::no_alternative(at, "BlockFaultPlace")),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::End(value) => value.to_value(),
            Self::Beside(value) => value.to_value(),
        }
    }
}

/// A rule's name.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultRuleName {
    /// The name.
    pub name: String,
}

impl Object for BlockFaultRuleName {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { name: members.required("name")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "name", &self.name);
    }
}

/// Arguments of `block-fault-rule-add`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultRuleAddArguments {
    /// The disk, by the id of its export.
    pub id: String,
    /// The rule.
    pub rule: BlockFaultRule,
    /// Where (default: last).
    pub place: Option<BlockFaultPlace>,
}

impl Object for BlockFaultRuleAddArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            rule: members.required("rule")?,
            place: members.optional("place")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "rule", &self.rule);
        visit::add_optional(object, "place", self.place.as_ref());
    }
}

/// Arguments of `block-fault-rule-remove`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultRuleRemoveArguments {
    /// The disk, by the id of its export.
    pub id: String,
    /// The rule.
    pub name: String,
}

impl Object for BlockFaultRuleRemoveArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { id: members.required("id")?, name: members.required("name")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "name", &self.name);
    }
}

/// What to do to a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultRuleAction {
    /// Put it in force; the schedule of one that was not starts now.
    Enable,
    /// Put it out of force; requests that it holds go on.
    Disable,
    /// Make it as if it had just been added: no hits, nothing healed.
    Reset,
}

impl BlockFaultRuleAction {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::Enable, Self::Disable, Self::Reset];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Reset => "reset",
        }
    }
}

impl Visit for BlockFaultRuleAction {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Arguments of `block-fault-rule-set`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultRuleSetArguments {
    /// The disk, by the id of its export.
    pub id: String,
    /// The rule.
    pub name: String,
    /// What to do.
    pub action: BlockFaultRuleAction,
}

impl Object for BlockFaultRuleSetArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            name: members.required("name")?,
            action: members.required("action")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "name", &self.name);
        visit::add(object, "action", &self.action);
    }
}

/// The last hit of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultLastHit {
    /// The request, by its place in the order in which the disk took requests, from 0.
    pub ordinal: u64,
    /// How long ago, in nanoseconds.
    pub ago_ns: u64,
}

impl Object for BlockFaultLastHit {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { ordinal: members.required("ordinal")?, ago_ns: members.required("ago-ns")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "ordinal", &self.ordinal);
        visit::add(object, "ago-ns", &self.ago_ns);
    }
}

/// What a media fault is like now.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultMediaInfo {
    /// How many sectors are bad.
    pub bad: u64,
    /// Which, the first 1024 ranges.
    pub bad_sectors: Vec<BlockFaultSectors>,
    /// How many sectors were healed.
    pub healed: u64,
}

impl Object for BlockFaultMediaInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            bad: members.required("bad")?,
            bad_sectors: members.required("bad-sectors")?,
            healed: members.required("healed")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "bad", &self.bad);
        visit::add(object, "bad-sectors", &self.bad_sectors);
        visit::add(object, "healed", &self.healed);
    }
}

/// A rule and what it did.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultRuleInfo {
    /// Its name.
    pub name: String,
    /// The rule, as it was added.
    pub rule: BlockFaultRule,
    /// Whether it is in force.
    pub enabled: bool,
    /// Requests that met its conditions, not counting skip, every, probability and times,
    /// while it could still hit.
    pub met: u64,
    /// Requests that it hit.
    pub hits: u64,
    /// Hits that are left; left out without a limit.
    pub remaining: Option<u64>,
    /// Its last hit, if there was one.
    pub last_hit: Option<BlockFaultLastHit>,
    /// What its sectors are like; with effect media only.
    pub media: Option<BlockFaultMediaInfo>,
}

impl Object for BlockFaultRuleInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            name: members.required("name")?,
            rule: members.required("rule")?,
            enabled: members.required("enabled")?,
            met: members.required("met")?,
            hits: members.required("hits")?,
            remaining: members.optional("remaining")?,
            last_hit: members.optional("last-hit")?,
            media: members.optional("media")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "name", &self.name);
        visit::add(object, "rule", &self.rule);
        visit::add(object, "enabled", &self.enabled);
        visit::add(object, "met", &self.met);
        visit::add(object, "hits", &self.hits);
        visit::add_optional(object, "remaining", self.remaining.as_ref());
        visit::add_optional(object, "last-hit", self.last_hit.as_ref());
        visit::add_optional(object, "media", self.media.as_ref());
    }
}

/// A blkdebug rule and what it did.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultInjectErrorInfo {
    /// The rule.
    pub rule: BlkdebugInjectErrorOptions,
    /// Requests that it hit.
    pub hits: u64,
    /// Whether it can hit again; false once a rule with `once` has hit.
    pub left: bool,
}

impl Object for BlockFaultInjectErrorInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            rule: members.required("rule")?,
            hits: members.required("hits")?,
            left: members.required("left")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "rule", &self.rule);
        visit::add(object, "hits", &self.hits);
        visit::add(object, "left", &self.left);
    }
}

/// A blkdebug breakpoint that was not met yet.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultBreakpointInfo {
    /// Where.
    pub event: BlkdebugEvent,
    /// What it is called.
    pub tag: String,
}

impl Object for BlockFaultBreakpointInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { event: members.required("event")?, tag: members.required("tag")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "event", &self.event);
        visit::add(object, "tag", &self.tag);
    }
}

/// All rules of a disk, and what they did.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultRules {
    /// Native rules, in order.
    pub rules: Vec<BlockFaultRuleInfo>,
    /// Blkdebug's rules that arm errors, in order.
    pub inject_error: Vec<BlockFaultInjectErrorInfo>,
    /// Blkdebug's rules that change the state, in order.
    pub set_state: Vec<BlkdebugSetStateOptions>,
    /// Blkdebug's breakpoints.
    pub breakpoints: Vec<BlockFaultBreakpointInfo>,
    /// The number that rules change; 1 at first.
    pub engine_state: i64,
}

impl Object for BlockFaultRules {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            rules: members.required("rules")?,
            inject_error: members.required("inject-error")?,
            set_state: members.required("set-state")?,
            breakpoints: members.required("breakpoints")?,
            engine_state: members.required("engine-state")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "rules", &self.rules);
        visit::add(object, "inject-error", &self.inject_error);
        visit::add(object, "set-state", &self.set_state);
        visit::add(object, "breakpoints", &self.breakpoints);
        visit::add(object, "engine-state", &self.engine_state);
    }
}

/// Arguments of `query-block-fault-rules`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct QueryBlockFaultRulesArguments {
    /// The disk, by the id of its export.
    pub id: String,
    /// Only this native rule, and nothing of blkdebug.
    pub name: Option<String>,
}

impl Object for QueryBlockFaultRulesArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { id: members.required("id")?, name: members.optional("name")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add_optional(object, "name", self.name.as_ref());
    }
}

/// One change of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultActionType {
    /// As `block-fault-rule-add`.
    RuleAdd,
    /// As `block-fault-rule-remove`.
    RuleRemove,
    /// As `block-fault-rule-set`.
    RuleSet,
    /// As `set-block-fault-state`.
    State,
    /// As `block-fault-engine-state-set`.
    EngineState,
    /// As `block-fault-blkdebug-add`, without a file.
    BlkdebugAdd,
}

impl BlockFaultActionType {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[
        Self::RuleAdd,
        Self::RuleRemove,
        Self::RuleSet,
        Self::State,
        Self::EngineState,
        Self::BlkdebugAdd,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RuleAdd => "rule-add",
            Self::RuleRemove => "rule-remove",
            Self::RuleSet => "rule-set",
            Self::State => "state",
            Self::EngineState => "engine-state",
            Self::BlkdebugAdd => "blkdebug-add",
        }
    }
}

impl Visit for BlockFaultActionType {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Add a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultActionRuleAdd {
    /// The rule.
    pub rule: BlockFaultRule,
    /// Where (default: last).
    pub place: Option<BlockFaultPlace>,
}

impl Object for BlockFaultActionRuleAdd {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { rule: members.required("rule")?, place: members.optional("place")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "rule", &self.rule);
        visit::add_optional(object, "place", self.place.as_ref());
    }
}

/// Remove a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultActionRuleRemove {
    /// The rule.
    pub name: String,
}

impl Object for BlockFaultActionRuleRemove {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { name: members.required("name")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "name", &self.name);
    }
}

/// Put a rule in or out of force, or make it new.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultActionRuleSet {
    /// The rule.
    pub name: String,
    /// What to do.
    pub action: BlockFaultRuleAction,
}

impl Object for BlockFaultActionRuleSet {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { name: members.required("name")?, action: members.required("action")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "name", &self.name);
        visit::add(object, "action", &self.action);
    }
}

/// Enter a state.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultActionState {
    /// The state with its options.
    pub state: BlockFaultStateOptions,
}

impl Object for BlockFaultActionState {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { state: members.required("state")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "state", &self.state);
    }
}

/// Set the engine state.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultActionEngineState {
    /// A number that fits 32 bits.
    pub state: i64,
}

impl Object for BlockFaultActionEngineState {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { state: members.required("state")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "state", &self.state);
    }
}

/// Add blkdebug rules.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultActionBlkdebugAdd {
    /// Rules that arm errors.
    pub inject_error: Option<Vec<BlkdebugInjectErrorOptions>>,
    /// Rules that change the state.
    pub set_state: Option<Vec<BlkdebugSetStateOptions>>,
}

impl Object for BlockFaultActionBlkdebugAdd {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            inject_error: members.optional("inject-error")?,
            set_state: members.optional("set-state")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add_optional(object, "inject-error", self.inject_error.as_ref());
        visit::add_optional(object, "set-state", self.set_state.as_ref());
    }
}

/// One change of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultAction {
    /// What `type` says it is, and the members that come with it.
    pub variant: BlockFaultActionVariant,
}

/// What a [`BlockFaultAction`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockFaultActionVariant {
    /// `type` is `rule-add`.
    RuleAdd(BlockFaultActionRuleAdd),
    /// `type` is `rule-remove`.
    RuleRemove(BlockFaultActionRuleRemove),
    /// `type` is `rule-set`.
    RuleSet(BlockFaultActionRuleSet),
    /// `type` is `state`.
    State(BlockFaultActionState),
    /// `type` is `engine-state`.
    EngineState(BlockFaultActionEngineState),
    /// `type` is `blkdebug-add`.
    BlkdebugAdd(BlockFaultActionBlkdebugAdd),
}

impl BlockFaultActionVariant {
    /// The value of the member `type`.
    #[must_use]
    pub fn r#type(&self) -> BlockFaultActionType {
        match self {
            Self::RuleAdd(_) => BlockFaultActionType::RuleAdd,
            Self::RuleRemove(_) => BlockFaultActionType::RuleRemove,
            Self::RuleSet(_) => BlockFaultActionType::RuleSet,
            Self::State(_) => BlockFaultActionType::State,
            Self::EngineState(_) => BlockFaultActionType::EngineState,
            Self::BlkdebugAdd(_) => BlockFaultActionType::BlkdebugAdd,
        }
    }
}

impl Object for BlockFaultAction {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        let r#type: BlockFaultActionType = members.required("type")?;
        let variant = match r#type {
            BlockFaultActionType::RuleAdd => {
                Object::take_from(members).map(BlockFaultActionVariant::RuleAdd)?
            }
            BlockFaultActionType::RuleRemove => {
                Object::take_from(members).map(BlockFaultActionVariant::RuleRemove)?
            }
            BlockFaultActionType::RuleSet => {
                Object::take_from(members).map(BlockFaultActionVariant::RuleSet)?
            }
            BlockFaultActionType::State => {
                Object::take_from(members).map(BlockFaultActionVariant::State)?
            }
            BlockFaultActionType::EngineState => {
                Object::take_from(members).map(BlockFaultActionVariant::EngineState)?
            }
            BlockFaultActionType::BlkdebugAdd => {
                Object::take_from(members).map(BlockFaultActionVariant::BlkdebugAdd)?
            }
        };
        Ok(Self { variant })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "type", &self.variant.r#type());
        match &self.variant {
            BlockFaultActionVariant::RuleAdd(variant) => variant.add_to(object),
            BlockFaultActionVariant::RuleRemove(variant) => variant.add_to(object),
            BlockFaultActionVariant::RuleSet(variant) => variant.add_to(object),
            BlockFaultActionVariant::State(variant) => variant.add_to(object),
            BlockFaultActionVariant::EngineState(variant) => variant.add_to(object),
            BlockFaultActionVariant::BlkdebugAdd(variant) => variant.add_to(object),
        }
    }
}

/// What a transaction added.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultAdded {
    /// The names of the rules, in order.
    pub names: Vec<String>,
}

impl Object for BlockFaultAdded {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { names: members.required("names")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "names", &self.names);
    }
}

/// Arguments of `block-fault-transaction`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultTransactionArguments {
    /// The disk, by the id of its export.
    pub id: String,
    /// The changes, in order.
    pub actions: Vec<BlockFaultAction>,
}

impl Object for BlockFaultTransactionArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { id: members.required("id")?, actions: members.required("actions")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "actions", &self.actions);
    }
}

/// Arguments of `block-fault-engine-state-set`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultEngineStateSetArguments {
    /// The disk, by the id of its export.
    pub id: String,
    /// A number that fits 32 bits.
    pub state: i64,
}

impl Object for BlockFaultEngineStateSetArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { id: members.required("id")?, state: members.required("state")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "state", &self.state);
    }
}

/// Arguments of `block-fault-break`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultBreakArguments {
    /// The disk, by the id of its export.
    pub id: String,
    /// What to call the breakpoint: a name for a rule.
    pub tag: String,
    /// Where (default: received).
    pub point: Option<BlockFaultPoint>,
    /// These requests (default: all).
    pub iotype: Option<Vec<BlockFaultIoType>>,
    /// That touch one of these sectors (default: all).
    pub sectors: Option<Vec<BlockFaultSectors>>,
    /// Not the first so many of those (default: 0).
    pub skip: Option<u64>,
    /// So many of those, then no more (default: 1).
    pub times: Option<u64>,
}

impl Object for BlockFaultBreakArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            tag: members.required("tag")?,
            point: members.optional("point")?,
            iotype: members.optional("iotype")?,
            sectors: members.optional("sectors")?,
            skip: members.optional("skip")?,
            times: members.optional("times")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "tag", &self.tag);
        visit::add_optional(object, "point", self.point.as_ref());
        visit::add_optional(object, "iotype", self.iotype.as_ref());
        visit::add_optional(object, "sectors", self.sectors.as_ref());
        visit::add_optional(object, "skip", self.skip.as_ref());
        visit::add_optional(object, "times", self.times.as_ref());
    }
}

/// Arguments of `block-fault-break-remove`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultBreakRemoveArguments {
    /// The disk, by the id of its export.
    pub id: String,
    /// What they are called.
    pub tag: String,
}

impl Object for BlockFaultBreakRemoveArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { id: members.required("id")?, tag: members.required("tag")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "tag", &self.tag);
    }
}

/// A request that is held.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultHeld {
    /// Its place in the order in which the disk took requests, from 0.
    pub ordinal: u64,
    /// The virtqueue it came from.
    pub queue: u16,
    /// What it wants.
    pub iotype: BlockFaultIoType,
    /// Its first sector; left out for flush and get-id.
    pub sector: Option<u64>,
    /// Its length; left out for flush and get-id.
    pub bytes: Option<u64>,
    /// The breakpoints that hold it.
    pub tags: Vec<String>,
    /// Where a native breakpoint holds it.
    pub point: Option<BlockFaultPoint>,
    /// Who holds it.
    pub cause: BlockFaultCause,
    /// The rule's name, or "inject-error.N" for the N-th of blkdebug's, from 0.
    pub rule: Option<String>,
    /// How long it has been held, in nanoseconds.
    pub for_ns: u64,
}

impl Object for BlockFaultHeld {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            ordinal: members.required("ordinal")?,
            queue: members.required("queue")?,
            iotype: members.required("iotype")?,
            sector: members.optional("sector")?,
            bytes: members.optional("bytes")?,
            tags: members.required("tags")?,
            point: members.optional("point")?,
            cause: members.required("cause")?,
            rule: members.optional("rule")?,
            for_ns: members.required("for-ns")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "ordinal", &self.ordinal);
        visit::add(object, "queue", &self.queue);
        visit::add(object, "iotype", &self.iotype);
        visit::add_optional(object, "sector", self.sector.as_ref());
        visit::add_optional(object, "bytes", self.bytes.as_ref());
        visit::add(object, "tags", &self.tags);
        visit::add_optional(object, "point", self.point.as_ref());
        visit::add(object, "cause", &self.cause);
        visit::add_optional(object, "rule", self.rule.as_ref());
        visit::add(object, "for-ns", &self.for_ns);
    }
}

/// Arguments of `query-block-fault-held`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct QueryBlockFaultHeldArguments {
    /// The disk, by the id of its export.
    pub id: String,
}

impl Object for QueryBlockFaultHeldArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { id: members.required("id")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
    }
}

/// Arguments of `block-fault-wait`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultWaitArguments {
    /// The disk, by the id of its export.
    pub id: String,
    /// The breakpoint, a native one or blkdebug's.
    pub tag: String,
    /// Give up after so many seconds (default: wait for ever).
    pub timeout: Option<f64>,
}

impl Object for BlockFaultWaitArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            tag: members.required("tag")?,
            timeout: members.optional("timeout")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "tag", &self.tag);
        visit::add_optional(object, "timeout", self.timeout.as_ref());
    }
}

/// What was resumed.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultResumed {
    /// How many requests went on.
    pub resumed: u64,
    /// How many were waiting for what was resumed; those that wait for something else as
    /// well, such as another breakpoint that they met at once, are in this number only.
    pub reached: u64,
}

impl Object for BlockFaultResumed {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { resumed: members.required("resumed")?, reached: members.required("reached")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "resumed", &self.resumed);
        visit::add(object, "reached", &self.reached);
    }
}

/// Who holds requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFaultHolder {
    /// Everybody.
    All,
    /// The disk's state.
    State,
    /// The policy for requests that the image failed.
    OnError,
}

impl BlockFaultHolder {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::All, Self::State, Self::OnError];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::State => "state",
            Self::OnError => "on-error",
        }
    }
}

impl Visit for BlockFaultHolder {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_own_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Arguments of `block-fault-resume`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultResumeArguments {
    /// The disk, by the id of its export.
    pub id: String,
    /// Those held at this breakpoint.
    pub tag: Option<String>,
    /// Those held or delayed by this native rule.
    pub rule: Option<String>,
    /// Those held or delayed by this.
    pub held_by: Option<BlockFaultHolder>,
    /// These, in this order; all of them have to be held.
    pub ordinals: Option<Vec<u64>>,
    /// What becomes of them (default: run); one that waits for a time and is to run goes on
    /// as if its time were over.
    pub action: Option<BlockFaultRelease>,
    /// With `action` fail, the error (default: EIO).
    pub errno: Option<BlockFaultErrno>,
}

impl Object for BlockFaultResumeArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            tag: members.optional("tag")?,
            rule: members.optional("rule")?,
            held_by: members.optional("held-by")?,
            ordinals: members.optional("ordinals")?,
            action: members.optional("action")?,
            errno: members.optional("errno")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add_optional(object, "tag", self.tag.as_ref());
        visit::add_optional(object, "rule", self.rule.as_ref());
        visit::add_optional(object, "held-by", self.held_by.as_ref());
        visit::add_optional(object, "ordinals", self.ordinals.as_ref());
        visit::add_optional(object, "action", self.action.as_ref());
        visit::add_optional(object, "errno", self.errno.as_ref());
    }
}

/// Data of `BLOCK_FAULT_BREAK`, see [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultBreakData {
    /// The disk, by the id of its export.
    pub id: String,
    /// The breakpoint.
    pub tag: String,
    /// The request, by its place in the order in which the disk took requests, from 0.
    pub ordinal: u64,
    /// The virtqueue it came from.
    pub queue: u16,
    /// What it wants.
    pub iotype: BlockFaultIoType,
    /// Its first sector; left out for flush and get-id.
    pub sector: Option<u64>,
    /// Its length; left out for flush and get-id.
    pub bytes: Option<u64>,
}

impl Object for BlockFaultBreakData {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            tag: members.required("tag")?,
            ordinal: members.required("ordinal")?,
            queue: members.required("queue")?,
            iotype: members.required("iotype")?,
            sector: members.optional("sector")?,
            bytes: members.optional("bytes")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "tag", &self.tag);
        visit::add(object, "ordinal", &self.ordinal);
        visit::add(object, "queue", &self.queue);
        visit::add(object, "iotype", &self.iotype);
        visit::add_optional(object, "sector", self.sector.as_ref());
        visit::add_optional(object, "bytes", self.bytes.as_ref());
    }
}

/// A moment in a request's life in QEMU's block layer. A disk here raises what a raw node
/// over a blkdebug node raises; rules on other events are accepted and never run, which a
/// warning in the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlkdebugEvent {
    /// An image format writes an entry of its first table; never raised here.
    L1Update,
    /// It finds room for a larger first table; never raised here.
    L1GrowAllocTable,
    /// It writes the larger first table; never raised here.
    L1GrowWriteTable,
    /// It makes the larger first table valid; never raised here.
    L1GrowActivateTable,
    /// It reads a second table; never raised here.
    L2Load,
    /// It writes an entry of a second table; never raised here.
    L2Update,
    /// The same for a compressed cluster; never raised here.
    L2UpdateCompressed,
    /// It reads a second table to copy it; never raised here.
    L2AllocCowRead,
    /// It writes a new second table; never raised here.
    L2AllocWrite,
    /// A read begins.
    ReadAio,
    /// A read of a backing image begins; never raised here.
    ReadBackingAio,
    /// A compressed cluster is read; never raised here.
    ReadCompressed,
    /// A write begins.
    WriteAio,
    /// A compressed cluster is written; never raised here.
    WriteCompressed,
    /// A state of a machine is read; never raised here.
    VmstateLoad,
    /// A state of a machine is written; never raised here.
    VmstateSave,
    /// A cluster is read to be copied; never raised here.
    CowRead,
    /// A copied cluster is written; never raised here.
    CowWrite,
    /// The table of reference counts is read; never raised here.
    ReftableLoad,
    /// The table of reference counts becomes larger; never raised here.
    ReftableGrow,
    /// An entry of the table of reference counts is written; never raised here.
    ReftableUpdate,
    /// A block of reference counts is read; never raised here.
    RefblockLoad,
    /// A block of reference counts is written; never raised here.
    RefblockUpdate,
    /// A part of a block of reference counts is written; never raised here.
    RefblockUpdatePart,
    /// A block of reference counts is needed; never raised here.
    RefblockAlloc,
    /// A new block of reference counts is linked; never raised here.
    RefblockAllocHookup,
    /// A new block of reference counts is written; never raised here.
    RefblockAllocWrite,
    /// New blocks of reference counts are written; never raised here.
    RefblockAllocWriteBlocks,
    /// A new table of reference counts is written; never raised here.
    RefblockAllocWriteTable,
    /// A new table of reference counts becomes valid; never raised here.
    RefblockAllocSwitchTable,
    /// A cluster is needed; never raised here.
    ClusterAlloc,
    /// A part of a cluster is needed; never raised here.
    ClusterAllocBytes,
    /// A cluster is given back; never raised here.
    ClusterFree,
    /// A flush begins.
    FlushToOs,
    /// A flush reaches the image.
    FlushToDisk,
    /// An unaligned write needs what is in front of it.
    PwritevRmwHead,
    /// That was read.
    PwritevRmwAfterHead,
    /// An unaligned write needs what is behind it.
    PwritevRmwTail,
    /// That was read.
    PwritevRmwAfterTail,
    /// A write reaches the image.
    Pwritev,
    /// A request to write zeroes reaches the image.
    PwritevZero,
    /// A write, or a request to write zeroes, was done.
    PwritevDone,
    /// An image is emptied; never raised here.
    EmptyImagePrepare,
    /// A smaller first table is written; never raised here.
    L1ShrinkWriteTable,
    /// Second tables are given back; never raised here.
    L1ShrinkFreeL2Clusters,
    /// What was read is copied into the image; never raised here.
    CorWrite,
    /// Room for a cluster is found; never raised here.
    ClusterAllocSpace,
    /// The node is opened.
    None,
}

impl BlkdebugEvent {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[
        Self::L1Update,
        Self::L1GrowAllocTable,
        Self::L1GrowWriteTable,
        Self::L1GrowActivateTable,
        Self::L2Load,
        Self::L2Update,
        Self::L2UpdateCompressed,
        Self::L2AllocCowRead,
        Self::L2AllocWrite,
        Self::ReadAio,
        Self::ReadBackingAio,
        Self::ReadCompressed,
        Self::WriteAio,
        Self::WriteCompressed,
        Self::VmstateLoad,
        Self::VmstateSave,
        Self::CowRead,
        Self::CowWrite,
        Self::ReftableLoad,
        Self::ReftableGrow,
        Self::ReftableUpdate,
        Self::RefblockLoad,
        Self::RefblockUpdate,
        Self::RefblockUpdatePart,
        Self::RefblockAlloc,
        Self::RefblockAllocHookup,
        Self::RefblockAllocWrite,
        Self::RefblockAllocWriteBlocks,
        Self::RefblockAllocWriteTable,
        Self::RefblockAllocSwitchTable,
        Self::ClusterAlloc,
        Self::ClusterAllocBytes,
        Self::ClusterFree,
        Self::FlushToOs,
        Self::FlushToDisk,
        Self::PwritevRmwHead,
        Self::PwritevRmwAfterHead,
        Self::PwritevRmwTail,
        Self::PwritevRmwAfterTail,
        Self::Pwritev,
        Self::PwritevZero,
        Self::PwritevDone,
        Self::EmptyImagePrepare,
        Self::L1ShrinkWriteTable,
        Self::L1ShrinkFreeL2Clusters,
        Self::CorWrite,
        Self::ClusterAllocSpace,
        Self::None,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::L1Update => "l1_update",
            Self::L1GrowAllocTable => "l1_grow_alloc_table",
            Self::L1GrowWriteTable => "l1_grow_write_table",
            Self::L1GrowActivateTable => "l1_grow_activate_table",
            Self::L2Load => "l2_load",
            Self::L2Update => "l2_update",
            Self::L2UpdateCompressed => "l2_update_compressed",
            Self::L2AllocCowRead => "l2_alloc_cow_read",
            Self::L2AllocWrite => "l2_alloc_write",
            Self::ReadAio => "read_aio",
            Self::ReadBackingAio => "read_backing_aio",
            Self::ReadCompressed => "read_compressed",
            Self::WriteAio => "write_aio",
            Self::WriteCompressed => "write_compressed",
            Self::VmstateLoad => "vmstate_load",
            Self::VmstateSave => "vmstate_save",
            Self::CowRead => "cow_read",
            Self::CowWrite => "cow_write",
            Self::ReftableLoad => "reftable_load",
            Self::ReftableGrow => "reftable_grow",
            Self::ReftableUpdate => "reftable_update",
            Self::RefblockLoad => "refblock_load",
            Self::RefblockUpdate => "refblock_update",
            Self::RefblockUpdatePart => "refblock_update_part",
            Self::RefblockAlloc => "refblock_alloc",
            Self::RefblockAllocHookup => "refblock_alloc_hookup",
            Self::RefblockAllocWrite => "refblock_alloc_write",
            Self::RefblockAllocWriteBlocks => "refblock_alloc_write_blocks",
            Self::RefblockAllocWriteTable => "refblock_alloc_write_table",
            Self::RefblockAllocSwitchTable => "refblock_alloc_switch_table",
            Self::ClusterAlloc => "cluster_alloc",
            Self::ClusterAllocBytes => "cluster_alloc_bytes",
            Self::ClusterFree => "cluster_free",
            Self::FlushToOs => "flush_to_os",
            Self::FlushToDisk => "flush_to_disk",
            Self::PwritevRmwHead => "pwritev_rmw_head",
            Self::PwritevRmwAfterHead => "pwritev_rmw_after_head",
            Self::PwritevRmwTail => "pwritev_rmw_tail",
            Self::PwritevRmwAfterTail => "pwritev_rmw_after_tail",
            Self::Pwritev => "pwritev",
            Self::PwritevZero => "pwritev_zero",
            Self::PwritevDone => "pwritev_done",
            Self::EmptyImagePrepare => "empty_image_prepare",
            Self::L1ShrinkWriteTable => "l1_shrink_write_table",
            Self::L1ShrinkFreeL2Clusters => "l1_shrink_free_l2_clusters",
            Self::CorWrite => "cor_write",
            Self::ClusterAllocSpace => "cluster_alloc_space",
            Self::None => "none",
        }
    }
}

impl Visit for BlkdebugEvent {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlkdebugIOType {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To write zeroes without sending them.
    WriteZeroes,
    /// To give space back.
    Discard,
    /// To make what was written durable.
    Flush,
    /// To know which parts are allocated; guests never ask.
    BlockStatus,
}

impl BlkdebugIOType {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[
        Self::Read,
        Self::Write,
        Self::WriteZeroes,
        Self::Discard,
        Self::Flush,
        Self::BlockStatus,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteZeroes => "write-zeroes",
            Self::Discard => "discard",
            Self::Flush => "flush",
            Self::BlockStatus => "block-status",
        }
    }
}

impl Visit for BlkdebugIOType {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// When this event comes in this state, arm an error. It stays armed for later requests,
/// of any kind, until another event that arms something takes its place.
#[derive(Debug, Clone, PartialEq)]
pub struct BlkdebugInjectErrorOptions {
    /// What arms it.
    pub event: BlkdebugEvent,
    /// The engine state in which the event arms it; 0 is any (default: 0).
    pub state: Option<i64>,
    /// The requests it hits (default: all but block-status).
    pub iotype: Option<BlkdebugIOType>,
    /// The error as a number, from 0 to 4095; 0 lets the request go on and hides the rules
    /// after this one (default: 5, EIO).
    pub errno: Option<i64>,
    /// Nanoseconds to wait before the request ends, or with errno 0 before it goes on
    /// (default: 0). As in QEMU 11.1.
    pub delay_ns: Option<i64>,
    /// Hit only requests that have the first byte of this sector; -1 is any (default: -1).
    pub sector: Option<i64>,
    /// Whether the rule is gone after its first hit (default: false).
    pub once: Option<bool>,
    /// Whether to fail without going round QEMU's event loop; no difference here (default:
    /// false).
    pub immediately: Option<bool>,
}

impl Object for BlkdebugInjectErrorOptions {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            event: members.required("event")?,
            state: members.optional("state")?,
            iotype: members.optional("iotype")?,
            errno: members.optional("errno")?,
            delay_ns: members.optional("delay-ns")?,
            sector: members.optional("sector")?,
            once: members.optional("once")?,
            immediately: members.optional("immediately")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "event", &self.event);
        visit::add_optional(object, "state", self.state.as_ref());
        visit::add_optional(object, "iotype", self.iotype.as_ref());
        visit::add_optional(object, "errno", self.errno.as_ref());
        visit::add_optional(object, "delay-ns", self.delay_ns.as_ref());
        visit::add_optional(object, "sector", self.sector.as_ref());
        visit::add_optional(object, "once", self.once.as_ref());
        visit::add_optional(object, "immediately", self.immediately.as_ref());
    }
}

/// When this event comes in this state, change the state.
#[derive(Debug, Clone, PartialEq)]
pub struct BlkdebugSetStateOptions {
    /// What changes it.
    pub event: BlkdebugEvent,
    /// The engine state in which the event does; 0 is any (default: 0).
    pub state: Option<i64>,
    /// The state after the event.
    pub new_state: i64,
}

impl Object for BlkdebugSetStateOptions {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            event: members.required("event")?,
            state: members.optional("state")?,
            new_state: members.required("new_state")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "event", &self.event);
        visit::add_optional(object, "state", self.state.as_ref());
        visit::add(object, "new_state", &self.new_state);
    }
}

/// A node with blkdebug's rules. Every disk over it meets them, each with a state number
/// and counters of its own; requests raise the events of a raw node over a blkdebug node.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsBlkdebug {
    /// The node below.
    pub image: BlockdevRef,
    /// A file with rules, in the format of QEMU's blkdebug; they come before those given
    /// here.
    pub config: Option<String>,
    /// Requests are widened to multiples of this, a power of two in bytes; 0 leaves them
    /// (default: 0).
    pub align: Option<i64>,
    /// The longest read or write that is not split, in bytes; 0 for none (default: 0).
    pub max_transfer: Option<i64>,
    /// The preferred unit of requests to write zeroes, in bytes; 0 for none (default: 0).
    pub opt_write_zero: Option<i64>,
    /// The longest such request that is not split, in bytes; 0 for none (default: 0).
    pub max_write_zero: Option<i64>,
    /// The preferred unit of discards, in bytes; 0 for none (default: 0).
    pub opt_discard: Option<i64>,
    /// The longest discard that is not split, in bytes; 0 for none (default: 0).
    pub max_discard: Option<i64>,
    /// Rules that arm errors, in order.
    pub inject_error: Option<Vec<BlkdebugInjectErrorOptions>>,
    /// Rules that change the state; the first that matches an event wins.
    pub set_state: Option<Vec<BlkdebugSetStateOptions>>,
}

impl Object for BlockdevOptionsBlkdebug {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            image: members.required("image")?,
            config: members.optional("config")?,
            align: members.optional("align")?,
            max_transfer: members.optional("max-transfer")?,
            opt_write_zero: members.optional("opt-write-zero")?,
            max_write_zero: members.optional("max-write-zero")?,
            opt_discard: members.optional("opt-discard")?,
            max_discard: members.optional("max-discard")?,
            inject_error: members.optional("inject-error")?,
            set_state: members.optional("set-state")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "image", &self.image);
        visit::add_optional(object, "config", self.config.as_ref());
        visit::add_optional(object, "align", self.align.as_ref());
        visit::add_optional(object, "max-transfer", self.max_transfer.as_ref());
        visit::add_optional(object, "opt-write-zero", self.opt_write_zero.as_ref());
        visit::add_optional(object, "max-write-zero", self.max_write_zero.as_ref());
        visit::add_optional(object, "opt-discard", self.opt_discard.as_ref());
        visit::add_optional(object, "max-discard", self.max_discard.as_ref());
        visit::add_optional(object, "inject-error", self.inject_error.as_ref());
        visit::add_optional(object, "set-state", self.set_state.as_ref());
    }
}

/// Arguments of `block-fault-blkdebug-add`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultBlkdebugAddArguments {
    /// The disk, by the id of its export.
    pub id: String,
    /// A file with rules, in the format of QEMU's blkdebug; they come before those given
    /// here.
    pub config: Option<String>,
    /// Rules that arm errors.
    pub inject_error: Option<Vec<BlkdebugInjectErrorOptions>>,
    /// Rules that change the state.
    pub set_state: Option<Vec<BlkdebugSetStateOptions>>,
}

impl Object for BlockFaultBlkdebugAddArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            config: members.optional("config")?,
            inject_error: members.optional("inject-error")?,
            set_state: members.optional("set-state")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add_optional(object, "config", self.config.as_ref());
        visit::add_optional(object, "inject-error", self.inject_error.as_ref());
        visit::add_optional(object, "set-state", self.set_state.as_ref());
    }
}

/// Arguments of `human-monitor-command`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct HumanMonitorCommandArguments {
    /// The line.
    pub command_line: String,
    /// Accepted and ignored.
    pub cpu_index: Option<i64>,
}

impl Object for HumanMonitorCommandArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            command_line: members.required("command-line")?,
            cpu_index: members.optional("cpu-index")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "command-line", &self.command_line);
        visit::add_optional(object, "cpu-index", self.cpu_index.as_ref());
    }
}
