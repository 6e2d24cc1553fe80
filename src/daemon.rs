//! The daemon: nodes, disks, and what commands do to them.
//!
//! Knows: everything that exists, by name, and which function carries out which command. Must not
//! know: sockets of monitors, rings, or how a fault decides. Invariants: a command that fails has
//! changed nothing; the registry is locked for moments only, never while an image is opened or a
//! guest's requests are awaited, so that out-of-band commands always get through.

mod descriptors;
mod disks;
mod events;
mod fault;
mod identity;
mod journal;
mod leaving;
pub mod limits;
mod nodes;
mod report;
pub mod run;
mod state_dir;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

use serde_json::{Map, Value};

use self::disks::Disks;
use self::events::Events;
use self::identity::Place;
use self::leaving::Leaving;
use self::nodes::Nodes;
pub use self::state_dir::StateDir;
#[cfg(feature = "fuzzing")]
pub(crate) use self::state_dir::fuzzing;
use crate::export::{Disk, Inherited};
use crate::guard::Group;
use crate::monitor::{EventSink, Executor, Reply};
use crate::qapi::types::{
    BlockDeviceInfo, BlockExportDelArguments, BlockExportDeletedData, BlockExportInfo,
    BlockExportOptions, BlockExportRemoveMode, BlockInfo, BlockResizeArguments, BlockStats,
    BlockdevOptions, Command, CommandSpec, Event, ShutdownCause,
};
use crate::qapi::visit::Visit;
use crate::qapi::{QmpError, introspect};
use crate::retry::Retry;

/// Everything the daemon serves, and the one place that carries out commands.
#[derive(Debug)]
pub struct Daemon {
    registry: Mutex<Registry>,
    inherited: Inherited,
    /// May use the disks' sockets, besides the owner.
    socket_group: Option<Group>,
    events: Events,
    /// Tells whoever runs the daemon to end it.
    end: Sender<ShutdownCause>,
    /// Everything that was there from the start is made.
    is_ready: AtomicBool,
    /// Until then, what is held by somebody is waited for.
    at_start: Retry,
    /// Where the faults of disks are kept for the next process.
    state_dir: Option<StateDir>,
    place: Place,
    leaving: Leaving,
}

/// What exists now.
#[derive(Debug, Default)]
struct Registry {
    nodes: Nodes,
    disks: Disks,
}

impl Registry {
    /// The disks that show the store of this node, under whatever name.
    fn disks_over_store_of(&self, node_name: &str) -> impl Iterator<Item = &disks::DiskEntry> {
        let names = self.nodes.over_store_of(node_name);
        self.disks.iter().filter(move |disk| names.contains(&disk.node_name))
    }

    /// A node that may be opened again with these options.
    fn reopenable(&self, name: &str, options: &BlockdevOptions) -> Outcome<nodes::NodeEntry> {
        let node = self.nodes.get(name)?;
        let mut disks = self.disks_over_store_of(name);
        if options.read_only == Some(true)
            && let Some(disk) = disks.find(|disk| disk.disk.options.writable)
        {
            return Err(QmpError::generic(format!(
                "Node '{name}' cannot become read-only: the export '{}' writes to it",
                disk.id
            )));
        }
        Ok(node.clone())
    }

    /// The node that `block_resize` means, if it and all disks over it can have this size.
    fn resizable(
        &self,
        arguments: &BlockResizeArguments,
        size_bytes: u64,
    ) -> Outcome<nodes::NodeEntry> {
        let node = match (&arguments.device, &arguments.node_name) {
            (Some(device), None) => self.nodes.get(&self.disks.get(device)?.node_name)?,
            (None, Some(node_name)) => self.nodes.get(node_name)?,
            (None, None) => {
                return Err(QmpError::generic("Parameter 'device' or 'node-name' is missing"));
            }
            (Some(_), Some(_)) => {
                return Err(QmpError::generic(
                    "Parameters 'device' and 'node-name' name the same thing: give one of them",
                ));
            }
        };
        let refuses_it = |disk: &&disks::DiskEntry| !disk.takes_size(size_bytes);
        if let Some(disk) = self.disks_over_store_of(&node.name).find(refuses_it) {
            return Err(QmpError::generic(format!(
                "Parameter 'size' expects a multiple of the block size of the export '{}', {}, \
                 not {size_bytes}",
                disk.id, disk.disk.options.logical_block_bytes
            )));
        }
        if node.is_read_only() {
            return Err(QmpError::generic(format!("Node '{}' is read-only", node.name)));
        }
        Ok(node.clone())
    }
}

type Outcome<T = ()> = Result<T, QmpError>;

/// What a command that makes sense comes to.
pub enum Answer {
    /// It is done, and returns this.
    Now(Value),
    /// It has to wait for something: this arranges that the reply is sent when that happens.
    Later(Box<dyn FnOnce(Reply) + Send>),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(value) => f.debug_tuple("Now").field(value).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

impl Daemon {
    /// A daemon that serves nothing yet. Its disks' sockets are for `socket_group` too. Operators
    /// hear of events through `events`; `end` hears of `quit`.
    #[must_use]
    pub fn new(
        inherited: Inherited,
        socket_group: Option<Group>,
        events: EventSink,
        end: Sender<ShutdownCause>,
    ) -> Self {
        let events = Events::new(events);
        let is_ready = AtomicBool::new(false);
        Self {
            registry: Mutex::default(),
            inherited,
            socket_group,
            events,
            end,
            is_ready,
            at_start: Retry::at_start(),
            state_dir: None,
            place: Place::look(),
            leaving: Leaving::default(),
        }
    }

    /// The same, keeping the faults of disks for the next process.
    #[must_use]
    pub fn remembering(self, state_dir: Option<StateDir>) -> Self {
        Self { state_dir, ..self }
    }

    /// Everything that was there from the start is made: from now on, operators wait for answers.
    pub fn set_ready(&self) {
        self.is_ready.store(true, Ordering::Relaxed);
    }

    /// How long what is held by somebody is waited for now.
    fn retry(&self) -> Retry {
        if self.is_ready.load(Ordering::Relaxed) { Retry::NEVER } else { self.at_start }
    }

    /// Tell everybody that the end has come and why.
    pub fn announce_shutdown(&self, reason: ShutdownCause) {
        let data = crate::qapi::types::ShutdownData { guest: false, reason };
        self.events.emit(&Event::Shutdown(data));
    }

    /// Whether a front end is served, or may yet come.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.registry().disks.iter().any(disks::DiskEntry::is_serving)
    }

    /// Stop serving everything, all disks at once: each may have to wait for its image. Then close
    /// the images.
    pub fn stop(&self) {
        let disks = self.registry().disks.take_all();
        if self.state_dir.is_none() {
            disks.iter().for_each(disks::DiskEntry::tell_what_is_forgotten);
        }
        std::thread::scope(|scope| {
            for disk in disks {
                // Where the host has no thread left, dropping the disk ends it here.
                let _ = Builder::new().spawn_scoped(scope, || self.end_disk(disk));
            }
        });
        let nodes = std::mem::take(&mut self.registry().nodes);
        drop(nodes);
    }

    /// Carry out a command.
    ///
    /// # Errors
    /// The command's own; then nothing has changed.
    pub fn execute(&self, command: Command) -> Result<Answer, QmpError> {
        match command {
            // The session answers it before it gets here.
            Command::QmpCapabilities(_) => done(Ok(())),
            Command::QueryVersion => told(Ok(report::version())),
            Command::QueryCommands => told(Ok(report::commands())),
            Command::QueryQmpSchema => Ok(Answer::Now(introspect::schema())),
            // Whoever replies ends the daemon afterwards.
            Command::Quit => {
                self.announce_shutdown(ShutdownCause::HostQmpQuit);
                done(Ok(()))
            }
            Command::BlockdevAdd(options) => done(self.blockdev_add(&options)),
            Command::BlockdevDel(arguments) => done(self.blockdev_del(&arguments.node_name)),
            Command::BlockdevReopen(arguments) => done(self.blockdev_reopen(&arguments.options)),
            Command::BlockResize(arguments) => done(self.block_resize(&arguments)),
            Command::QueryNamedBlockNodes(_) => told(Ok(self.nodes())),
            Command::QueryBlock => told(Ok(self.disks())),
            Command::QueryBlockstats(arguments) => {
                told(Ok(self.stats(arguments.query_nodes == Some(true))))
            }
            Command::BlockExportAdd(options) => done(self.block_export_add(&options)),
            Command::BlockExportDel(arguments) => done(self.block_export_del(&arguments)),
            Command::QueryBlockExports => told(Ok(self.exports())),
            Command::SetBlockFaultState(setting) => done(self.set_fault_state(&setting)),
            Command::QueryBlockFaultState(arguments) => told(self.fault_state(&arguments.id)),
            Command::QueryBlockFault(arguments) => told(self.fault(&arguments.id)),
            Command::BlockFaultOnErrorSet(arguments) => done(self.on_error_set(&arguments)),
            Command::BlockFaultRuleAdd(arguments) => told(self.rule_add(&arguments)),
            Command::BlockFaultRuleRemove(arguments) => {
                done(self.rule_remove(&arguments.id, &arguments.name))
            }
            Command::BlockFaultRuleSet(arguments) => done(self.rule_set(&arguments)),
            Command::QueryBlockFaultRules(arguments) => told(self.rules(&arguments)),
            Command::BlockFaultTransaction(arguments) => told(self.fault_transaction(&arguments)),
            Command::BlockFaultEngineStateSet(arguments) => done(self.engine_state_set(&arguments)),
            Command::BlockFaultBlkdebugAdd(arguments) => done(self.blkdebug_add(&arguments)),
            Command::BlockFaultBreak(arguments) => done(self.fault_break(&arguments)),
            Command::BlockFaultBreakRemove(arguments) => {
                done(self.fault_break_remove(&arguments.id, &arguments.tag))
            }
            Command::QueryBlockFaultHeld(arguments) => told(self.held(&arguments.id)),
            Command::BlockFaultResume(arguments) => told(self.resume(&arguments)),
            Command::BlockFaultWait(arguments) => self.fault_wait(&arguments),
            Command::HumanMonitorCommand(arguments) => {
                self.human_monitor_command(&arguments.command_line)
            }
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn blockdev_add(&self, options: &BlockdevOptions) -> Outcome {
        let name = options
            .node_name
            .as_deref()
            .ok_or_else(|| QmpError::generic("'node-name' must be specified for the root node"))?;
        self.registry().nodes.check_name(name)?;
        let below = match nodes::below(options) {
            Some(below) => Some(self.registry().nodes.get(below)?.clone()),
            None => None,
        };
        let node = nodes::build(name, options, below.as_ref(), self.retry().left())?;
        let mut registry = self.registry();
        registry.nodes.check_name(name)?;
        registry.nodes.insert(node);
        Ok(())
    }

    fn blockdev_del(&self, name: &str) -> Outcome {
        let mut registry = self.registry();
        if let Some(disk) = registry.disks.iter().find(|disk| disk.node_name == name) {
            return Err(QmpError::generic(format!(
                "Node '{name}' is in use by the export '{}'",
                disk.id
            )));
        }
        let node = registry.nodes.remove(name)?;
        drop(registry);
        // Closing an image may take a while; nobody waits for the registry meanwhile.
        drop(node);
        Ok(())
    }

    fn blockdev_reopen(&self, all: &[BlockdevOptions]) -> Outcome {
        let mut reopenings = Vec::with_capacity(all.len());
        for options in all {
            let name = options
                .node_name
                .as_deref()
                .ok_or_else(|| QmpError::generic("node-name not specified"))?;
            let entry = self.registry().reopenable(name, options)?;
            reopenings.push(nodes::prepare_reopen(&entry, options)?);
        }
        for (options, reopening) in all.iter().zip(reopenings) {
            let name = options.node_name.as_deref().unwrap_or_default();
            if let Some(reopening) = reopening {
                reopening.commit();
                // It may have another size now.
                let registry = self.registry();
                registry.disks_over_store_of(name).for_each(disks::DiskEntry::announce_resize);
            }
            self.registry().nodes.set_read_only(name, options.read_only == Some(true));
        }
        Ok(())
    }

    fn block_resize(&self, arguments: &BlockResizeArguments) -> Outcome {
        let size_bytes = nodes::check_size("size", arguments.size)?;
        let node = self.registry().resizable(arguments, size_bytes)?;
        let resized = node.store.node().resize(size_bytes);
        resized.map_err(|errno| {
            let why = errno.to_io();
            QmpError::generic(format!("Node '{}' cannot have this size: {why}", node.name))
        })?;
        self.registry().disks_over_store_of(&node.name).for_each(disks::DiskEntry::announce_resize);
        Ok(())
    }

    fn nodes(&self) -> Vec<BlockDeviceInfo> {
        // The host is asked about each image, without the registry's lock: it may never answer.
        let nodes: Vec<_> = self.registry().nodes.iter().cloned().collect();
        nodes.iter().map(report::node).collect()
    }

    fn disks(&self) -> Vec<BlockInfo> {
        let disks: Vec<_> = {
            let registry = self.registry();
            let with_node = |entry: &disks::DiskEntry| {
                (entry.disk.clone(), registry.nodes.find(&entry.node_name).cloned())
            };
            registry.disks.iter().map(with_node).collect()
        };
        let of_disk = |(disk, node): &(Arc<Disk>, Option<nodes::NodeEntry>)| {
            report::disk(disk, node.as_ref().map(report::node))
        };
        disks.iter().map(of_disk).collect()
    }

    fn stats(&self, of_nodes: bool) -> Vec<BlockStats> {
        let registry = self.registry();
        if !of_nodes {
            let of_disk = |disk: &disks::DiskEntry| BlockStats {
                device: Some(disk.id.clone()),
                node_name: Some(disk.node_name.clone()),
                stats: report::stats([&disk.disk.stats]),
            };
            return registry.disks.iter().map(of_disk).collect();
        }
        let of_node = |node: &nodes::NodeEntry| {
            let over = registry.disks.iter().filter(|disk| disk.node_name == node.name);
            BlockStats {
                device: None,
                node_name: Some(node.name.clone()),
                stats: report::stats(over.map(|disk| &disk.disk.stats)),
            }
        };
        registry.nodes.iter().map(of_node).collect()
    }

    fn exports(&self) -> Vec<BlockExportInfo> {
        let there: Vec<_> = self.registry().disks.iter().map(disks::DiskEntry::info).collect();
        [there, self.leaving.infos()].concat()
    }

    fn block_export_add(&self, options: &BlockExportOptions) -> Outcome {
        let node = {
            let registry = self.registry();
            registry.disks.check_id(&options.id)?;
            self.leaving.check_id(&options.id)?;
            registry.nodes.get(&options.node_name)?.clone()
        };
        let state_dir = self.state_dir.as_ref();
        let disk = disks::start(options, &node, &self.doors(), &self.events, state_dir)?;
        self.registry().disks.insert(disk);
        Ok(())
    }

    fn doors(&self) -> disks::Doors<'_> {
        disks::Doors {
            inherited: &self.inherited,
            group: self.socket_group.as_ref(),
            place: &self.place,
            retry: self.retry(),
        }
    }

    fn block_export_del(&self, arguments: &BlockExportDelArguments) -> Outcome {
        let hard = arguments.mode == Some(BlockExportRemoveMode::Hard);
        let disk = self.registry().disks.remove(&arguments.id, hard)?;
        let point = disk.point.clone();
        self.end_disk(disk);
        if let Some(keeper) = point.take_keeper() {
            keeper.forget();
        }
        Ok(())
    }

    fn end_disk(&self, disk: disks::DiskEntry) {
        let id = disk.id.clone();
        match disk.stop() {
            Ok(()) => self.events.emit(&Event::BlockExportDeleted(BlockExportDeletedData { id })),
            Err(rest) => self.leaving.add(rest, &self.events),
        }
    }
}

impl Executor for Daemon {
    fn version(&self) -> Value {
        report::version().to_value()
    }

    fn lookup(&self, name: &str) -> Option<CommandSpec> {
        Command::spec(name)
    }

    fn execute(&self, name: &str, arguments: Map<String, Value>, reply: Reply) {
        let command = Command::parse(name, arguments);
        let ends = matches!(command, Ok(Command::Quit));
        let _answer_first =
            command.as_ref().is_ok_and(sets_faults).then(|| self.events.answer_first());
        match command.and_then(|command| Self::execute(self, command)) {
            Ok(Answer::Now(value)) => reply.send(Ok(value)),
            Ok(Answer::Later(arrange)) => arrange(reply),
            Err(error) => reply.send(Err(error)),
        }
        if ends {
            // Only now, so that the end does not overtake the reply. A receiver that is gone is
            // ending already.
            let _ = self.end.send(ShutdownCause::HostQmpQuit);
        }
    }
}

/// Whether requests meet something new as soon as the command is done, and before it is answered.
fn sets_faults(command: &Command) -> bool {
    matches!(
        command,
        Command::SetBlockFaultState(_)
            | Command::BlockFaultOnErrorSet(_)
            | Command::BlockFaultRuleAdd(_)
            | Command::BlockFaultRuleRemove(_)
            | Command::BlockFaultRuleSet(_)
            | Command::BlockFaultTransaction(_)
            | Command::BlockFaultEngineStateSet(_)
            | Command::BlockFaultBlkdebugAdd(_)
            | Command::BlockFaultBreak(_)
            | Command::BlockFaultBreakRemove(_)
            | Command::HumanMonitorCommand(_)
    )
}

/// A command that only changes something answers `{}`.
fn done(outcome: Outcome) -> Outcome<Answer> {
    outcome.map(|()| Answer::Now(Value::Object(Map::new())))
}

fn told<T: Visit>(outcome: Outcome<T>) -> Outcome<Answer> {
    outcome.map(|answer| Answer::Now(answer.to_value()))
}
