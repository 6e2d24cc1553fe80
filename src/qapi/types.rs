//! The types, commands and events of `qapi/` in Rust.
//!
//! Generated: do not edit. Change `qapi/*.json`, run `UPDATE=1 cargo test --test qapi`, commit both.
//!
//! Knows: names, members and documentation of the schema. Must not know: how a value is read and
//! what errors say (`visit` does). Invariant: it says what `qapi/` says; a test compares.

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
    SetBlockFaultState(SetBlockFaultStateArguments),
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
    /// Tell all about a disk's faults.
    ///
    /// Returns `BlockFaultInfo`: its state with options, and counts.
    ///
    /// Errors:
    ///
    /// - DeviceNotFound, if there is no such disk.
    QueryBlockFault(QueryBlockFaultArguments),
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
}

impl BlockdevDriver {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::File, Self::HostDevice, Self::Raw, Self::NullCo, Self::Memory];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::HostDevice => "host_device",
            Self::Raw => "raw",
            Self::NullCo => "null-co",
            Self::Memory => "memory",
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

/// A node, and how to show it.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockExportOptions {
    /// The name of the export, and of the disk; no other export has it.
    pub id: String,
    /// The node.
    pub node_name: String,
    /// Whether the guest may write (default: false).
    pub writable: Option<bool>,
    /// Whether a write is durable before it is answered, so that the guest need not flush
    /// (default: false).
    pub writethrough: Option<bool>,
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
        let variant = match r#type {
            BlockExportType::VhostUserBlk => {
                Object::take_from(members).map(BlockExportOptionsVariant::VhostUserBlk)?
            }
        };
        Ok(Self { id, node_name, writable, writethrough, variant })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "type", &self.variant.r#type());
        visit::add(object, "id", &self.id);
        visit::add(object, "node-name", &self.node_name);
        visit::add_optional(object, "writable", self.writable.as_ref());
        visit::add_optional(object, "writethrough", self.writethrough.as_ref());
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
    /// An ordinary disk.
    None,
    /// Requests fail at once and never reach the image.
    Error,
}

impl BlockFaultState {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[Self::None, Self::Error];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Error => "error",
        }
    }
}

impl Visit for BlockFaultState {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
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
}

impl BlockFaultIoType {
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] =
        &[Self::Read, Self::Write, Self::Flush, Self::Discard, Self::WriteZeroes];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::WriteZeroes => "write-zeroes",
        }
    }
}

impl Visit for BlockFaultIoType {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        visit::parse_enum(value, at, Self::ALL, Self::as_str)
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

/// Arguments of `set-block-fault-state`, see [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub struct SetBlockFaultStateArguments {
    /// The disk, by the id of its export.
    pub id: String,
    /// What it becomes.
    pub state: BlockFaultState,
    /// With state error, the error of failed requests (default: EIO).
    pub errno: Option<BlockFaultErrno>,
    /// With state error, the requests that fail; others pass (default: all).
    pub iotype: Option<Vec<BlockFaultIoType>>,
}

impl Object for SetBlockFaultStateArguments {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            state: members.required("state")?,
            errno: members.optional("errno")?,
            iotype: members.optional("iotype")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "state", &self.state);
        visit::add_optional(object, "errno", self.errno.as_ref());
        visit::add_optional(object, "iotype", self.iotype.as_ref());
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

/// What became of a disk's requests at the fault filter since the disk exists. Each
/// request is in one count.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultCounts {
    /// Went on to the image, whatever the image made of it.
    pub passed: u64,
    /// Failed by command, never seen by the image.
    pub failed: u64,
}

impl Object for BlockFaultCounts {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self { passed: members.required("passed")?, failed: members.required("failed")? })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "passed", &self.passed);
        visit::add(object, "failed", &self.failed);
    }
}

/// A disk as its fault filter sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockFaultInfo {
    /// The disk, by the id of its export.
    pub id: String,
    /// Its state.
    pub state: BlockFaultState,
    /// The error of failed requests, as a number; with state error only.
    pub errno: Option<i64>,
    /// Its name, where this daemon knows one; with state error only.
    pub errno_name: Option<String>,
    /// The requests that fail; with state error only.
    pub iotype: Option<Vec<BlockFaultIoType>>,
    /// When the state was entered, or the disk made.
    pub since: BlockFaultTime,
    /// Requests that were taken and are held back now, to be answered later.
    pub held: u64,
    /// The number that `set-state` rules change; 1 at first, as in blkdebug.
    pub engine_state: i64,
    /// Requests so far.
    pub counts: BlockFaultCounts,
}

impl Object for BlockFaultInfo {
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {
        Ok(Self {
            id: members.required("id")?,
            state: members.required("state")?,
            errno: members.optional("errno")?,
            errno_name: members.optional("errno-name")?,
            iotype: members.optional("iotype")?,
            since: members.required("since")?,
            held: members.required("held")?,
            engine_state: members.required("engine-state")?,
            counts: members.required("counts")?,
        })
    }

    fn add_to(&self, object: &mut Map<String, Value>) {
        visit::add(object, "id", &self.id);
        visit::add(object, "state", &self.state);
        visit::add_optional(object, "errno", self.errno.as_ref());
        visit::add_optional(object, "errno-name", self.errno_name.as_ref());
        visit::add_optional(object, "iotype", self.iotype.as_ref());
        visit::add(object, "since", &self.since);
        visit::add(object, "held", &self.held);
        visit::add(object, "engine-state", &self.engine_state);
        visit::add(object, "counts", &self.counts);
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
