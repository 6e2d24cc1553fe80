//! One disk on the command line.
//!
//! Knows: the disk options, which of them go together, and the commands they stand for. Must not
//! know: whether an image exists or a socket can be made; that is found out when the commands run.
//! Invariant: one parser serves flags, `--disk` lists and configuration files.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use clap::{Args, Command, FromArgMatches, value_parser};

use super::choices::{
    AioChoice, CacheChoice, DiscardChoice, Format, HeldOnStopChoice, OnErrorChoice,
};
use crate::daemon::limits::{LOGICAL_BLOCK_BYTES, SIZE_MAX_BYTES, check_node_name};
use crate::export::{NUM_QUEUES_MAX, Serial};
use crate::qapi::types::{
    BlockExportHeldOnStop, BlockExportOptions, BlockExportOptionsVariant,
    BlockExportOptionsVhostUserBlk, BlockFaultOnError, BlockdevAioOptions, BlockdevCacheOptions,
    BlockdevDiscardOptions, BlockdevOptions, BlockdevOptionsBlkdebug, BlockdevOptionsFile,
    BlockdevOptionsMemory, BlockdevOptionsNull, BlockdevOptionsRaw, BlockdevOptionsVariant,
    BlockdevRef, FdSocketAddress, SocketAddress, SocketAddressVariant, UnixSocketAddress,
};
use crate::size::{BadSize, Size};

/// A disk as an operator writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "The disk")]
pub struct DiskSpec {
    /// The disk's name in commands and events, at most 31 characters, because its node has the same
    /// name [default: disk0, then disk1, ...].
    ///
    /// Example: --id db
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    id: Option<String>,

    /// Where a front end such as QEMU connects, one at a time.
    ///
    /// Example: --socket-path /tmp/disk0.sock
    #[arg(long, value_name = "PATH", conflicts_with = "fd")]
    socket_path: Option<PathBuf>,

    /// An inherited socket instead: listening, or connected to the only front end there will be.
    ///
    /// Example: --fd 3
    #[arg(long, value_name = "FDNUM", allow_negative_numbers = true, value_parser = parse_fd)]
    fd: Option<RawFd>,

    /// The image: a file or a block device.
    ///
    /// Example: --blk-file disk.img
    #[arg(long, value_name = "PATH")]
    blk_file: Option<PathBuf>,

    /// What is in the image; it is never guessed from its content [default: raw, or memory with
    /// --memory].
    ///
    /// Example: --format null
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,

    /// Keep the disk in memory, of this size; untouched parts take none.  It is gone when the daemon
    /// ends: a guest that was at work meets errors at the next one, until it is reset.
    ///
    /// Example: --memory 1G
    #[arg(long, value_name = "SIZE", value_parser = parse_disk_size, conflicts_with = "blk_file")]
    memory: Option<Size>,

    /// The size of a disk of --format null [default: 1G].
    ///
    /// Example: --format null --size 16G
    #[arg(long, value_name = "SIZE", value_parser = parse_disk_size)]
    size: Option<Size>,

    /// Serve the store of another disk: a second path to it, with faults of its own.
    ///
    /// Example: --disk id=a2,store=a,socket-path=/tmp/a2.sock
    #[arg(long, value_name = "ID", conflicts_with_all = ["blk_file", "format", "memory", "size", "aio", "discard", "blkdebug_config"])]
    store: Option<String>,

    /// Refuse writes.
    ///
    /// Example: --read-only
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "on", value_parser = parse_switch)]
    read_only: Option<bool>,

    /// How many virtqueues the guest may use, from 1 to 256 [default: 1].
    ///
    /// Example: --num-queues 4
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=i64::from(NUM_QUEUES_MAX)))]
    num_queues: Option<u16>,

    /// What the guest reads as the serial number, 1 to 20 printable ASCII characters [default:
    /// the id].
    ///
    /// Example: --serial FAULTY-0001
    #[arg(long, value_name = "TEXT", value_parser = parse_serial)]
    serial: Option<String>,

    /// The smallest unit that the guest reads or writes: a power of two from 512 to 4096 bytes
    /// [default: 512].
    ///
    /// Example: --block-size 4096
    #[arg(long, value_name = "BYTES", value_parser = parse_block_size)]
    block_size: Option<Size>,

    /// How host and guest cache: none (around the host's page cache, O_DIRECT), writeback or
    /// writethrough [default: writeback].
    ///
    /// Example: --cache none
    #[arg(long, value_name = "MODE", hide_possible_values = true)]
    cache: Option<CacheChoice>,

    /// How to reach the image: io_uring or threads.  The filter on system calls lets rings be made
    /// whatever is chosen here; /proc/sys/kernel/io_uring_disabled forbids them [default: io_uring
    /// where the host has it].
    ///
    /// Example: --aio threads
    #[arg(long, value_name = "HOW", hide_possible_values = true)]
    aio: Option<AioChoice>,

    /// What becomes of discards: unmap gives the space back to the host, ignore does nothing
    /// [default: unmap].
    ///
    /// Example: --discard ignore
    #[arg(long, value_name = "HOW", hide_possible_values = true)]
    discard: Option<DiscardChoice>,

    /// Fault rules for this disk and those that share its store, from a file in the format of
    /// QEMU's blkdebug.  What --state-dir remembers of a disk counts instead.
    ///
    /// Example: --blkdebug-config errors.conf
    #[arg(long, value_name = "FILE")]
    blkdebug_config: Option<PathBuf>,

    /// Every random choice of the disk's faults is a function of this number.  What --state-dir
    /// remembers of the disk counts instead [default: a number made from the id].
    ///
    /// Example: --seed 7
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// What becomes of requests that the image fails, on its own account: report, hold (until they
    /// are resumed), or hold-on-enospc.  What --state-dir remembers of the disk counts instead
    /// [default: report].
    ///
    /// Example: --on-error hold-on-enospc
    #[arg(long, value_name = "POLICY", hide_possible_values = true)]
    on_error: Option<OnErrorChoice>,

    /// What becomes of requests that a fault holds when QEMU stops their queue (stop, system_reset,
    /// quit): fail (with an I/O error), or keep (held again when the queue starts).  Never keep where
    /// the guest migrates: the log with those requests stays behind, and they are never answered
    /// [default: fail].
    ///
    /// Example: --held-on-stop keep
    #[arg(long, value_name = "POLICY", hide_possible_values = true)]
    held_on_stop: Option<HeldOnStopChoice>,

    /// How much of each queue's thread's time may go into looking for the next request instead of
    /// sleeping until it comes, in percent; an idle disk costs nothing [default: 50].
    ///
    /// Example: --poll 0
    #[arg(long, value_name = "PERCENT", value_parser = value_parser!(u8).range(0..=100))]
    poll: Option<u8>,
}

/// A disk as the commands that make it.
#[derive(Debug, Clone, PartialEq)]
pub struct DiskPlan {
    /// Makes the store; none where the disk shares another's.
    pub node: Option<BlockdevOptions>,
    /// Shows the store to guests.
    pub export: BlockExportOptions,
}

/// QEMU's rule for node names, which a disk's id becomes.
fn parse_id(text: &str) -> Result<String, String> {
    check_node_name(text).map(|()| text.to_owned())
}

fn parse_fd(text: &str) -> Result<RawFd, String> {
    let number = text.parse().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| "expected the number of a file descriptor, such as 3".to_owned())
}

fn parse_disk_size(text: &str) -> Result<Size, String> {
    let size: Size = text.parse().map_err(|error: BadSize| error.to_string())?;
    if size.0 == 0 || size.0 > SIZE_MAX_BYTES || !size.0.is_multiple_of(512) {
        return Err(format!(
            "a disk's size is a multiple of 512 from 512 to {SIZE_MAX_BYTES} bytes"
        ));
    }
    Ok(size)
}

fn parse_block_size(text: &str) -> Result<Size, String> {
    let size: Size = text.parse().map_err(|error: BadSize| error.to_string())?;
    let [smallest, largest] = LOGICAL_BLOCK_BYTES;
    if !size.0.is_power_of_two() || !(smallest..=largest).contains(&size.0) {
        return Err(format!("expected a power of two from {smallest} to {largest}"));
    }
    Ok(size)
}

fn parse_serial(text: &str) -> Result<String, String> {
    Serial::new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// A node with rules from a file over another.
fn blkdebug(path: &Path, image: BlockdevRef) -> Result<BlockdevOptionsVariant, String> {
    let config = path.to_str().ok_or("--blkdebug-config is not valid UTF-8")?.to_owned();
    Ok(BlockdevOptionsVariant::Blkdebug(BlockdevOptionsBlkdebug {
        image,
        config: Some(config),
        align: None,
        max_transfer: None,
        opt_write_zero: None,
        max_write_zero: None,
        opt_discard: None,
        max_discard: None,
        inject_error: None,
        set_state: None,
    }))
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

impl DiskSpec {
    /// Whether any option of a disk was given.
    pub(super) fn is_given(&self) -> bool {
        *self != Self::default()
    }

    /// A disk from `key=value,key=value`; a comma in a value is written twice, as in QEMU.
    pub(super) fn from_list(list: &str) -> Result<Self, String> {
        let arguments: Vec<String> =
            split_list(list).into_iter().map(|item| format!("--{item}")).collect();
        Self::from_arguments(&arguments)
    }

    /// A disk from flags.
    pub(super) fn from_arguments(arguments: &[String]) -> Result<Self, String> {
        let command = Self::augment_args(Command::new("disk"))
            .no_binary_name(true)
            .disable_help_flag(true)
            .color(clap::ColorChoice::Never);
        let parse = |matches| Self::from_arg_matches(&matches);
        command.try_get_matches_from(arguments).and_then(parse).map_err(first_paragraph)
    }

    fn format(&self) -> Format {
        self.format.unwrap_or(if self.memory.is_some() { Format::Memory } else { Format::Raw })
    }

    fn node(&self, id: &str) -> Result<BlockdevOptions, String> {
        let discard = match self.discard.unwrap_or(DiscardChoice::Unmap) {
            DiscardChoice::Ignore => BlockdevDiscardOptions::Ignore,
            DiscardChoice::Unmap => BlockdevDiscardOptions::Unmap,
        };
        let variant = match &self.blkdebug_config {
            None => self.variant()?,
            Some(path) => blkdebug(
                path,
                BlockdevRef::Definition(Box::new(BlockdevOptions {
                    node_name: None,
                    read_only: self.read_only,
                    cache: None,
                    discard: None,
                    variant: self.variant()?,
                })),
            )?,
        };
        Ok(BlockdevOptions {
            node_name: Some(id.to_owned()),
            read_only: self.read_only,
            cache: None,
            discard: Some(discard),
            variant,
        })
    }

    fn variant(&self) -> Result<BlockdevOptionsVariant, String> {
        let format = self.format();
        let only_with = [
            ("--blk-file", self.blk_file.is_some(), Format::Raw),
            ("--aio", self.aio.is_some(), Format::Raw),
            ("--cache none", self.cache == Some(CacheChoice::None), Format::Raw),
            ("--memory", self.memory.is_some(), Format::Memory),
            ("--size", self.size.is_some(), Format::Null),
        ];
        for (flag, given, wanted) in only_with {
            if given && wanted != format {
                let wanted = format!("{wanted:?}").to_lowercase();
                return Err(format!("{flag} goes with --format {wanted} only"));
            }
        }
        match format {
            Format::Raw => self.raw().map(BlockdevOptionsVariant::Raw),
            Format::Memory => {
                let size = self.memory.ok_or("--format memory needs --memory SIZE")?;
                Ok(BlockdevOptionsVariant::Memory(BlockdevOptionsMemory { size: size.0 }))
            }
            Format::Null => {
                let size = self.size.map(|size| i64::try_from(size.0)).transpose();
                let size = size.map_err(|_| "--size is more than a disk can have")?;
                Ok(BlockdevOptionsVariant::NullCo(BlockdevOptionsNull { size }))
            }
        }
    }

    fn raw(&self) -> Result<BlockdevOptionsRaw, String> {
        let path = self
            .blk_file
            .as_ref()
            .ok_or("nothing to serve: give --blk-file PATH, --memory SIZE, or --format null")?;
        let filename = path.to_str().ok_or("--blk-file is not valid UTF-8")?.to_owned();
        let options = BlockdevOptionsFile {
            filename,
            locking: None,
            aio: self.aio.map(|aio| match aio {
                AioChoice::Threads => BlockdevAioOptions::Threads,
                AioChoice::IoUring => BlockdevAioOptions::IoUring,
            }),
        };
        let variant = if is_block_device(path) {
            BlockdevOptionsVariant::HostDevice(options)
        } else {
            BlockdevOptionsVariant::File(options)
        };
        let direct = self.cache == Some(CacheChoice::None);
        let cache = BlockdevCacheOptions { direct: Some(direct), no_flush: None };
        Ok(BlockdevOptionsRaw {
            file: BlockdevRef::Definition(Box::new(BlockdevOptions {
                node_name: None,
                read_only: self.read_only,
                cache: Some(cache),
                discard: None,
                variant,
            })),
        })
    }

    fn export(&self, id: &str, node_name: &str) -> Result<BlockExportOptions, String> {
        let variant = match (&self.socket_path, self.fd) {
            (Some(path), None) => SocketAddressVariant::Unix(UnixSocketAddress {
                path: path.to_str().ok_or("--socket-path is not valid UTF-8")?.to_owned(),
            }),
            (None, Some(fd)) => SocketAddressVariant::Fd(FdSocketAddress { str: fd.to_string() }),
            _ => {
                return Err(
                    "a front end has nowhere to connect: give --socket-path PATH or --fd FDNUM"
                        .to_owned(),
                );
            }
        };
        let disk = BlockExportOptionsVhostUserBlk {
            addr: SocketAddress { variant },
            logical_block_size: self.block_size.map(|size| size.0),
            num_queues: self.num_queues,
            serial: self.serial.clone(),
        };
        Ok(BlockExportOptions {
            id: id.to_owned(),
            node_name: node_name.to_owned(),
            writable: Some(self.read_only != Some(true)),
            writethrough: Some(self.cache == Some(CacheChoice::Writethrough)),
            seed: self.seed,
            on_error: self.on_error.map(|policy| match policy {
                OnErrorChoice::Report => BlockFaultOnError::Report,
                OnErrorChoice::Hold => BlockFaultOnError::Hold,
                OnErrorChoice::HoldOnEnospc => BlockFaultOnError::HoldOnEnospc,
            }),
            held_on_stop: self.held_on_stop.map(|policy| match policy {
                HeldOnStopChoice::Fail => BlockExportHeldOnStop::Fail,
                HeldOnStopChoice::Keep => BlockExportHeldOnStop::Keep,
            }),
            poll: self.poll.map(u16::from),
            variant: BlockExportOptionsVariant::VhostUserBlk(disk),
        })
    }
}

impl DiskPlan {
    /// Whether front ends come by an inherited descriptor, and not at a path.
    #[must_use]
    pub fn is_by_descriptor(&self) -> bool {
        self.socket_path().is_none()
    }

    /// Where front ends connect, unless they come by an inherited descriptor.
    pub(super) fn socket_path(&self) -> Option<&str> {
        let BlockExportOptionsVariant::VhostUserBlk(disk) = &self.export.variant;
        match &disk.addr.variant {
            SocketAddressVariant::Unix(unix) => Some(&unix.path),
            SocketAddressVariant::Fd(_) => None,
        }
    }
}

/// QEMU names the driver by what the file is; so does the command line, where nobody writes it.
fn is_block_device(path: &std::path::Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device())
}

fn split_list(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut letters = list.chars().peekable();
    while let Some(letter) = letters.next() {
        match items.last_mut() {
            Some(item) if letter != ',' => item.push(letter),
            Some(item) if letters.next_if_eq(&',').is_some() => item.push(','),
            _ => items.push(String::new()),
        }
    }
    items
}

/// What was wrong, without the usage of a program that does not exist.
fn first_paragraph(error: clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = text.find("\n\nUsage").or_else(|| text.find("\n\nFor more")).unwrap_or(text.len());
    text[..end].split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The disks' commands, once every disk has a name and every shared store an owner.
pub(super) fn plan(specs: Vec<(String, DiskSpec)>) -> Result<Vec<DiskPlan>, String> {
    let named = name_disks(specs)?;
    let mut plans = Vec::with_capacity(named.len());
    for (at, id, spec) in &named {
        let plan = plan_one(id, spec, &named).map_err(|error| format!("{at}: {error}"))?;
        plans.push(plan);
    }
    Ok(plans)
}

type Named = (String, String, DiskSpec);

fn name_disks(specs: Vec<(String, DiskSpec)>) -> Result<Vec<Named>, String> {
    let mut named: Vec<Named> = Vec::with_capacity(specs.len());
    for (index, (at, spec)) in specs.into_iter().enumerate() {
        let id = spec.id.clone().unwrap_or_else(|| format!("disk{index}"));
        if named.iter().any(|(_, other, _)| *other == id) {
            return Err(format!("{at}: two disks have the id '{id}': give each its own"));
        }
        named.push((at, id, spec));
    }
    Ok(named)
}

fn plan_one(id: &str, spec: &DiskSpec, all: &[Named]) -> Result<DiskPlan, String> {
    let Some(store) = &spec.store else {
        return Ok(DiskPlan { node: Some(spec.node(id)?), export: spec.export(id, id)? });
    };
    if spec.cache == Some(CacheChoice::None) {
        return Err(format!("--cache none belongs to the disk '{store}', whose store this is"));
    }
    match all.iter().find(|(_, other, _)| other == store) {
        Some((_, _, owner)) if owner.store.is_none() => {
            Ok(DiskPlan { node: None, export: spec.export(id, store)? })
        }
        Some(_) => {
            Err(format!("--store {store}: that disk has no store of its own; name its owner"))
        }
        None => Err(format!("--store {store}: no disk has that id")),
    }
}
