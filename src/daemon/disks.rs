//! Disks: nodes shown to guests, each with faults of its own.
//!
//! Knows: how `block-export-add` writes a disk, and which disks exist. Must not know: images.
//! Invariant: a disk's id is its own; a disk keeps its node.

use std::sync::Arc;

use super::events::Events;
use super::fault::report::parse_on_error;
use super::identity::Place;
use super::leaving::Rest;
use super::limits::LOGICAL_BLOCK_BYTES;
use super::nodes::{Blkdebug, NodeEntry, Store};
use super::state_dir::{Remembered, StateDir};
use crate::block::{FaultFilter, FaultPoint, Overview, Served, Snapshot};
use crate::export::{
    Disk, DiskOptions, Door, Export, HeldOnStop, Inherited, NUM_QUEUES_MAX, PollShare, Serial,
};
use crate::fault::engine::{Change, Engine};
use crate::fault::manual::DiskState;
use crate::fault::random::Stream;
use crate::guard::{self, Group, Want};
use crate::qapi::QmpError;
use crate::qapi::types::{
    BlockExportHeldOnStop, BlockExportInfo, BlockExportOptions, BlockExportOptionsVariant,
    BlockExportType, SocketAddress, SocketAddressVariant,
};
use crate::retry::Retry;
use crate::socket_path::{ListenError, SocketPath};

/// The longest id of a disk, far beyond QEMU's longest names. (On the command line a disk's node gets the
/// same name, and those have at most 31.)
const ID_MAX: usize = 127;

/// A disk being served.
#[derive(Debug)]
pub(super) struct DiskEntry {
    pub(super) id: String,
    pub(super) node_name: String,
    pub(super) disk: Arc<Disk>,
    pub(super) point: Arc<FaultPoint>,
    /// Goes before the export: while we listen nobody takes the path, and afterwards a successor's
    /// socket could not be told from ours.
    path: Option<SocketPath>,
    export: Export,
}

impl DiskEntry {
    /// The daemon ends, and what was set here ends with it.
    pub(super) fn tell_what_is_forgotten(&self) {
        let Overview { state, held, .. } = self.point.overview();
        let rules = self.point.inspect(Engine::rule_count);
        if state == DiskState::None && rules == 0 && held == 0 {
            return;
        }
        log::warn!(
            "disk {}: forgetting its state ({}), {rules} rules and {held} held requests (--state-dir \
             keeps them)",
            self.id,
            state.name().as_str()
        );
    }

    /// As `query-block-exports` tells it.
    pub(super) fn info(&self) -> BlockExportInfo {
        BlockExportInfo {
            id: self.id.clone(),
            r#type: BlockExportType::VhostUserBlk,
            node_name: self.node_name.clone(),
            shutting_down: false,
            connected: Some(self.disk.is_connected()),
        }
    }

    /// Whether the disk can have this size.
    pub(super) fn takes_size(&self, size_bytes: u64) -> bool {
        size_bytes.is_multiple_of(self.disk.options.logical_block_bytes.into())
    }

    /// Whether a front end is served, or may yet come.
    pub(super) fn is_serving(&self) -> bool {
        self.export.is_serving()
    }

    /// Tell the guest about a new size.
    pub(super) fn announce_resize(&self) {
        self.export.announce_resize();
    }

    /// Stop serving: the front end is disconnected, its requests at the image are awaited.
    ///
    /// # Errors
    /// What is left where the service does not end.
    pub(super) fn stop(self) -> Result<(), Rest> {
        let info = self.info();
        drop(self.path);
        self.export.stop().map_err(|thread| Rest { info, thread })
    }
}

/// The disks, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Disks(Vec<DiskEntry>);

impl Disks {
    pub(super) fn iter(&self) -> impl Iterator<Item = &DiskEntry> {
        self.0.iter()
    }

    /// The disk of this id; QEMU's text and class if there is none.
    pub(super) fn get(&self, id: &str) -> Result<&DiskEntry, QmpError> {
        self.0
            .iter()
            .find(|entry| entry.id == id)
            .ok_or_else(|| QmpError::device_not_found(format!("Device '{id}' not found")))
    }

    /// Whether the id may be given to a new disk.
    pub(super) fn check_id(&self, id: &str) -> Result<(), QmpError> {
        let letter = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let first = id.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
        if !first || !id.chars().all(letter) || id.len() > ID_MAX {
            return Err(QmpError::generic(format!(
                "Invalid block export id '{id}': expected a letter, then letters, digits, '-', \
                 '.' or '_', at most {ID_MAX}"
            )));
        }
        match self.get(id) {
            Ok(_) => Err(QmpError::generic(format!("Block export id '{id}' is already in use"))),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn insert(&mut self, entry: DiskEntry) {
        self.0.push(entry);
    }

    /// Take a disk out, to be stopped; a guest that uses it keeps it unless `even_if_connected`.
    pub(super) fn remove(
        &mut self,
        id: &str,
        even_if_connected: bool,
    ) -> Result<DiskEntry, QmpError> {
        let index = self.0.iter().position(|entry| entry.id == id);
        let index =
            index.ok_or_else(|| QmpError::generic(format!("Export '{id}' is not found")))?;
        if self.0[index].disk.is_connected() && !even_if_connected {
            return Err(QmpError::generic(format!(
                "export '{id}' still in use; use mode='hard' to disconnect its front end"
            )));
        }
        Ok(self.0.remove(index))
    }

    /// Take all disks out.
    pub(super) fn take_all(&mut self) -> Vec<DiskEntry> {
        std::mem::take(&mut self.0)
    }
}

/// Where disks' doors come from.
#[derive(Debug)]
pub(super) struct Doors<'a> {
    /// The sockets that the process was started with.
    pub(super) inherited: &'a Inherited,
    /// May use the others, besides the owner.
    pub(super) group: Option<&'a Group>,
    /// What tells its disks from others.
    pub(super) place: &'a Place,
    /// How long to wait for what a dead daemon left behind at a disk.
    pub(super) retry: Retry,
}

/// Make a disk of a node and open its door.
pub(super) fn start(
    options: &BlockExportOptions,
    node: &NodeEntry,
    doors: &Doors<'_>,
    events: &Events,
    state_dir: Option<&StateDir>,
) -> Result<DiskEntry, QmpError> {
    let BlockExportOptionsVariant::VhostUserBlk(blk) = &options.variant;
    let writable = options.writable.unwrap_or(false);
    if writable && node.is_read_only() {
        return Err(QmpError::generic(format!(
            "Block node '{}' is read-only: export it with writable=false",
            node.name
        )));
    }
    let disk_options = DiskOptions {
        id: options.id.clone(),
        serial: serial(&options.id, blk.serial.as_deref())?,
        logical_block_bytes: logical_block_bytes(blk.logical_block_size, node)?,
        num_queues: num_queues(blk.num_queues)?,
        writable,
        writeback: !options.writethrough.unwrap_or(false),
        held_on_stop: match options.held_on_stop {
            Some(BlockExportHeldOnStop::Keep) => HeldOnStop::Keep,
            Some(BlockExportHeldOnStop::Fail) | None => HeldOnStop::Fail,
        },
        remembers_faults: state_dir.is_some(),
        poll: poll_share(options.poll)?,
    };
    let remembered =
        state_dir.map(|directory| directory.recall(&options.id, doors.retry)).transpose()?;
    let parts = |Remembered { snapshot, is_whole, keeper }| {
        (snapshot.map(|snapshot| (snapshot, is_whole)), keeper)
    };
    let (snapshot, keeper) = remembered.map(parts).unzip();
    let snapshot = snapshot.flatten();
    let was_known = snapshot.is_some();
    let ordinals_end = snapshot.as_ref().map_or(0, |(snapshot, _)| snapshot.ordinals_end());
    let point = Arc::new(fault_point(options, node, events, snapshot)?);
    let filter = Arc::new(FaultFilter::new(node.store.node(), point.clone()));
    let observer = events.of_node(&options.node_name);
    let served = doors.serve(node, &blk.addr)?;
    let disk = Disk::new(disk_options, filter, Arc::new(observer));
    let disk = Arc::new(disk.sharing(node.late.clone()).keeping(served));
    disk.skip_ordinals_below(ordinals_end);
    let (door, path) = doors.open(&blk.addr)?;
    if let Some(keeper) = keeper
        && let Err(error) = point.set_keeper(keeper)
        && !was_known
    {
        // Where the file knows the disk it goes on from there.
        return Err(QmpError::generic(error));
    }
    let export = Export::start(disk.clone(), door).map_err(|error| {
        QmpError::generic(format!("Export '{}' cannot be served: {error}", options.id))
    })?;
    Ok(DiskEntry {
        id: options.id.clone(),
        node_name: node.name.clone(),
        disk,
        point,
        path,
        export,
    })
}

/// The disk's faults, as they are before the first request, or as an earlier process left them.
fn fault_point(
    options: &BlockExportOptions,
    node: &NodeEntry,
    events: &Events,
    snapshot: Option<(Snapshot, bool)>,
) -> Result<FaultPoint, QmpError> {
    let observer = Arc::new(events.of_faults(&options.id, &options.node_name));
    if let Some((snapshot, is_whole)) = snapshot {
        tell_remembered(&options.id, &snapshot, is_whole);
        let overruled = overruled(options, node, &snapshot);
        if !overruled.is_empty() {
            log::warn!(
                "disk {}: {} not used, because the state file knows other faults of it: move \
                 '{}.state' out of --state-dir to begin anew",
                options.id,
                overruled.join(" and "),
                options.id
            );
        }
        let point = FaultPoint::from_snapshot(snapshot);
        point.set_observer(observer);
        return Ok(point);
    }
    let seed = options.seed.unwrap_or_else(|| seed_of(&options.id));
    let point = FaultPoint::new(seed);
    if let Some(blkdebug) = &node.blkdebug {
        let opened = vec![Change::OpenBlkdebug(blkdebug.setup.clone())];
        point.configure(opened).map_err(QmpError::generic)?;
    }
    if let Some(policy) = options.on_error {
        point.set_on_error(parse_on_error(policy)).map_err(QmpError::generic)?;
    }
    point.set_observer(observer);
    Ok(point)
}

fn tell_remembered(id: &str, snapshot: &Snapshot, is_whole: bool) {
    let engine = snapshot.engine();
    let what = format!(
        "state {}, {} rules, engine state {}, {} requests held",
        engine.state().name().as_str(),
        engine.rule_count(),
        engine.engine_state(),
        snapshot.held()
    );
    if is_whole {
        log::warn!("disk {id}: its faults are as they were: {what}");
    } else {
        log::error!(
            "disk {id}: its faults are NOT as they were, because the host could not write all that \
             happened: counters, rules that were used up and requests held may be those of an \
             earlier moment: {what}"
        );
    }
}

/// The fault options that say otherwise than what is remembered, which counts.
fn overruled(
    options: &BlockExportOptions,
    node: &NodeEntry,
    snapshot: &Snapshot,
) -> Vec<&'static str> {
    let engine = snapshot.engine();
    let known = engine.blkdebug();
    let is_known = |blkdebug: &Arc<Blkdebug>| {
        let rules = &blkdebug.setup.rules;
        let errors = known.inject_error.iter().map(|report| &report.rule);
        errors.take(rules.inject_error.len()).eq(&rules.inject_error)
            && known.set_state.starts_with(&rules.set_state)
    };
    let overruled = [
        ("--seed", options.seed.is_some_and(|seed| seed != engine.seed())),
        (
            "--on-error",
            options.on_error.is_some_and(|policy| parse_on_error(policy) != snapshot.on_error()),
        ),
        ("--blkdebug-config", node.blkdebug.as_ref().is_some_and(|blkdebug| !is_known(blkdebug))),
    ];
    overruled.into_iter().filter(|(_, is_so)| *is_so).map(|(name, _)| name).collect()
}

/// Two disks with the same rules do not fail in step, and fail alike in every run. A seed is a number
/// that every JSON parser reads exactly.
fn seed_of(id: &str) -> u64 {
    Stream::new(0, id, 0).next_u64() >> 11
}

fn poll_share(percent: Option<u16>) -> Result<PollShare, QmpError> {
    let Some(percent) = percent else {
        return Ok(PollShare::default());
    };
    u8::try_from(percent).ok().and_then(PollShare::percent).ok_or_else(|| {
        QmpError::generic(format!("Parameter 'poll' expects 0 to 100, and got {percent}"))
    })
}

fn serial(id: &str, given: Option<&str>) -> Result<Serial, QmpError> {
    let Some(text) = given else {
        return Ok(Serial::from_id(id));
    };
    Serial::new(text).map_err(|error| QmpError::generic(format!("Parameter 'serial': {error}")))
}

fn num_queues(given: Option<u16>) -> Result<u16, QmpError> {
    match given.unwrap_or(1) {
        n if (1..=NUM_QUEUES_MAX).contains(&n) => Ok(n),
        n => Err(QmpError::generic(format!(
            "Parameter 'num-queues' expects a number from 1 to {NUM_QUEUES_MAX}, not {n}"
        ))),
    }
}

fn logical_block_bytes(given: Option<u64>, node: &NodeEntry) -> Result<u32, QmpError> {
    let bytes = given.unwrap_or(512);
    let [smallest, largest] = LOGICAL_BLOCK_BYTES;
    if !bytes.is_power_of_two() || !(smallest..=largest).contains(&bytes) {
        return Err(QmpError::generic(format!(
            "Parameter 'logical-block-size' expects a power of two from {smallest} to {largest}, \
             not {bytes}"
        )));
    }
    let geometry = node.store.node().geometry();
    if geometry.size_bytes == 0 {
        log::warn!(
            "image '{}' is empty: the guest sees a disk without a sector until block_resize",
            node.store.description()
        );
    }
    if !geometry.size_bytes.is_multiple_of(bytes) {
        return Err(QmpError::generic(format!(
            "Image '{}' is {} bytes long, which is not a multiple of the block size {bytes}: \
             extend it, or choose another block size",
            node.store.description(),
            geometry.size_bytes
        )));
    }
    u32::try_from(bytes).map_err(QmpError::generic)
}

impl Doors<'_> {
    /// Make sure that nothing else serves the disk at this address from the node's image.
    fn serve(&self, node: &NodeEntry, addr: &SocketAddress) -> Result<Option<Served>, QmpError> {
        let (Store::Raw(image), Some(disk)) = (&node.store, self.place.disk_at(addr)) else {
            return Ok(None);
        };
        let served = image.serve(disk.number, &disk.name, self.retry.left());
        served.map(Some).map_err(QmpError::generic)
    }

    fn open(&self, addr: &SocketAddress) -> Result<(Door, Option<SocketPath>), QmpError> {
        match &addr.variant {
            SocketAddressVariant::Unix(unix) => {
                let group = self.group.map(Group::id);
                let listen = || Door::listen(unix.path.as_ref(), group);
                let listening = self.retry.attempt(ListenError::is_in_use, listen);
                let (door, path) = listening.map_err(|error| cannot_listen(&error))?;
                Ok((door, Some(path)))
            }
            SocketAddressVariant::Fd(fd) => {
                let number = fd.str.parse().map_err(|_| {
                    QmpError::generic(format!(
                        "Parameter 'addr.str' expects a file descriptor number, not '{}'",
                        fd.str
                    ))
                })?;
                Ok((self.inherited.door(number).map_err(QmpError::generic)?, None))
            }
        }
    }
}

fn cannot_listen(error: &ListenError) -> QmpError {
    let why = error.denied().map(|path| guard::explanation(path, Want::All)).unwrap_or_default();
    QmpError::generic(format!("{error}{why}"))
}
