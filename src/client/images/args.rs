//! The command line of the verbs about nodes and disks.
//!
//! Knows: their options, help and examples. Must not know: what is sent (`verbs`, `reopen`).
//! Invariant: options that exclude each other are refused here.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, Subcommand};

use crate::client::faults::args::Policy;
use crate::size::Size;

#[derive(Debug, Subcommand)]
pub(in crate::client) enum NodeVerb {
    /// List the nodes: images by name
    #[command(after_help = "Example:\n  blkfault node list")]
    List,

    /// Make a node, to be shown by `export add`
    #[command(after_help = "\
Examples:
  blkfault node add node1 --file /var/lib/blkfault/disk.img --discard unmap
  blkfault node add node2 --memory 1G
  blkfault node add node3 --over node1
  blkfault node add node4 --blkdebug node1 --config errors.conf --align 4K")]
    Add(Box<NodeArgs>),

    /// Remove a node and close its image
    #[command(after_help = "Example:\n  blkfault node rm node1")]
    Rm {
        /// The node
        node: String,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true)
    .args(["file", "host_device", "memory", "null", "over", "blkdebug"]))]
pub(in crate::client) struct NodeArgs {
    /// What to call the node
    pub(in crate::client) node: String,
    /// It is a file, at this path on the daemon's host
    #[arg(long, value_name = "PATH")]
    pub(in crate::client) file: Option<String>,
    /// It is a block device, at this path on the daemon's host
    #[arg(long, value_name = "PATH")]
    pub(in crate::client) host_device: Option<String>,
    /// It is memory of the daemon, of this size
    #[arg(long, value_name = "SIZE")]
    pub(in crate::client) memory: Option<Size>,
    /// It is nothing, of this size: reads give zeroes
    #[arg(long, value_name = "SIZE")]
    pub(in crate::client) null: Option<Size>,
    /// It is another name for this node
    #[arg(long, value_name = "NODE")]
    pub(in crate::client) over: Option<String>,
    #[command(flatten)]
    pub(in crate::client) blkdebug: BlkdebugArgs,
    #[command(flatten)]
    pub(in crate::client) image: ImageArgs,
}

/// What else a node may be; clap forgets what an option requires beside something that excludes it.
const NOT_BLKDEBUG: [&str; 5] = ["file", "host_device", "memory", "null", "over"];

#[derive(Debug, Args)]
#[command(next_help_heading = "With the rules and limits of QEMU's blkdebug")]
pub(in crate::client) struct BlkdebugArgs {
    /// It is this node, with blkdebug in front of it
    #[arg(long, value_name = "NODE")]
    pub(in crate::client) blkdebug: Option<String>,
    /// blkdebug's rules, a file on the daemon's host
    #[arg(long, value_name = "PATH", requires = "blkdebug", conflicts_with_all = NOT_BLKDEBUG)]
    pub(in crate::client) config: Option<String>,
    /// Requests are widened to multiples of this
    #[arg(long, value_name = "SIZE", requires = "blkdebug", conflicts_with_all = NOT_BLKDEBUG)]
    pub(in crate::client) align: Option<Size>,
    /// The longest read or write that is not split
    #[arg(long, value_name = "SIZE", requires = "blkdebug", conflicts_with_all = NOT_BLKDEBUG)]
    pub(in crate::client) max_transfer: Option<Size>,
    /// The preferred unit of requests to write zeroes
    #[arg(long, value_name = "SIZE", requires = "blkdebug", conflicts_with_all = NOT_BLKDEBUG)]
    pub(in crate::client) opt_write_zero: Option<Size>,
    /// The longest request to write zeroes that is not split
    #[arg(long, value_name = "SIZE", requires = "blkdebug", conflicts_with_all = NOT_BLKDEBUG)]
    pub(in crate::client) max_write_zero: Option<Size>,
    /// The preferred unit of discards
    #[arg(long, value_name = "SIZE", requires = "blkdebug", conflicts_with_all = NOT_BLKDEBUG)]
    pub(in crate::client) opt_discard: Option<Size>,
    /// The longest discard that is not split
    #[arg(long, value_name = "SIZE", requires = "blkdebug", conflicts_with_all = NOT_BLKDEBUG)]
    pub(in crate::client) max_discard: Option<Size>,
}

/// How an image is opened.
#[derive(Debug, Args)]
#[command(next_help_heading = "How it is opened")]
pub(in crate::client) struct ImageArgs {
    /// Refuse writes
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "on", value_parser = switch)]
    pub(in crate::client) read_only: Option<bool>,
    /// Go around the host's page cache (O_DIRECT)
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "on", value_parser = switch)]
    pub(in crate::client) direct: Option<bool>,
    /// Ignore flushes, which loses data when the host goes down
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "on", value_parser = switch)]
    pub(in crate::client) no_flush: Option<bool>,
    /// What becomes of discards [default: ignore; of reopen: unmap]
    #[arg(long, value_name = "HOW", value_parser = PossibleValuesParser::new(["ignore", "unmap"]))]
    pub(in crate::client) discard: Option<String>,
    /// How to reach a file [default: io_uring where the host has it]
    #[arg(long, value_name = "HOW")]
    #[arg(value_parser = PossibleValuesParser::new(["threads", "io_uring"]))]
    pub(in crate::client) aio: Option<String>,
    /// Whether to lock a file as QEMU does [default: auto]
    #[arg(long, value_name = "HOW", value_parser = PossibleValuesParser::new(["auto", "on", "off"]))]
    pub(in crate::client) locking: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::client) struct ReopenArgs {
    /// The disk whose image is meant, or a node
    pub(in crate::client) name: String,
    #[command(flatten)]
    pub(in crate::client) image: ImageArgs,
    /// The image below a raw node is a block device
    #[arg(long)]
    pub(in crate::client) host_device: bool,
}

#[derive(Debug, Subcommand)]
pub(in crate::client) enum ExportVerb {
    /// Show a node to guests: make a disk
    #[command(after_help = "\
Examples:
  blkfault export add disk1 --node node1 --socket-path /run/blkfault/disk1.sock --writable
  blkfault export add disk2 --node node1 --socket-path /run/disk2.sock --num-queues 4 --seed 7
  blkfault export add disk3 --node node1 --socket-path /run/disk3.sock --poll 0 --held-on-stop keep")]
    Add(Box<ExportArgs>),

    /// Take a disk away, and wait until it is gone; its node stays
    #[command(after_help = "Example:\n  blkfault export rm disk1 --hard")]
    Rm {
        /// The disk
        disk: String,
        /// Disconnect the guest that uses it [default: refuse]
        #[arg(long)]
        hard: bool,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where").required(true).args(["socket_path", "fd"]))]
pub(in crate::client) struct ExportArgs {
    /// What to call the disk
    pub(in crate::client) disk: String,
    /// The node that it shows
    #[arg(long)]
    pub(in crate::client) node: String,
    /// Where front ends connect, one at a time
    #[arg(long, value_name = "PATH")]
    pub(in crate::client) socket_path: Option<PathBuf>,
    /// A socket that the daemon was started with instead
    #[arg(long, value_name = "N")]
    pub(in crate::client) fd: Option<u32>,
    /// Let the guest write
    #[arg(long)]
    pub(in crate::client) writable: bool,
    /// Make each write durable before it is answered
    #[arg(long)]
    pub(in crate::client) writethrough: bool,
    /// How many virtqueues the guest may use [default: 1]
    #[arg(long, value_name = "N")]
    pub(in crate::client) num_queues: Option<u16>,
    /// The smallest unit that the guest reads or writes: 512 to 4096 bytes [default: 512]
    #[arg(long, value_name = "SIZE")]
    pub(in crate::client) block_size: Option<Size>,
    /// What the guest reads as the serial number [default: the disk's name]
    #[arg(long, value_name = "TEXT")]
    pub(in crate::client) serial: Option<String>,
    /// Every random choice of the disk's faults is a function of this [default: made from its name]
    #[arg(long, value_name = "N")]
    pub(in crate::client) seed: Option<u64>,
    /// What becomes of requests that the image fails [default: report]
    #[arg(long, value_name = "POLICY")]
    pub(in crate::client) on_error: Option<Policy>,
    /// What becomes of requests that a fault holds when the guest's queue stops: they fail, or are
    /// held again when it starts [default: fail]
    #[arg(long, value_name = "POLICY", value_parser = PossibleValuesParser::new(["fail", "keep"]))]
    pub(in crate::client) held_on_stop: Option<String>,
    /// How much of each queue's thread's time may go into looking for the next request instead of
    /// sleeping until it comes, in percent from 0 to 100 [default: 50]
    #[arg(long, value_name = "PERCENT")]
    pub(in crate::client) poll: Option<u16>,
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("accepted are on and off".to_owned()),
    }
}
