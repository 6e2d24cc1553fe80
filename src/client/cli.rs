//! The command line of `blkfault`.
//!
//! Knows: verbs, options and their help. Must not know: what a verb says to the daemon (`verbs`).
//! Invariant: what is wrong with the command line is found here, before anything is sent.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use serde_json::Value;

use super::failure::{Failure, Status};
use super::faults::args::{BreakArgs, Policy, ResumeArgs, RuleVerb, StateArgs};
use super::images::args::{ExportVerb, NodeVerb, ReopenArgs};
use super::parse::{event_name, json_object, monitor_address, seconds};
use super::{Deadline, verbs};
use crate::monitor::Address;
use crate::options;
use crate::size::Size;

/// Names the monitor where `--monitor` does not.
pub(super) const MONITOR_VARIABLE: &str = "BLKFAULT_MONITOR";

const EXIT_STATUS: &str = "\
Exit status:
  0  done
  1  the daemon refused
  2  wrong usage; nothing was sent
  3  no daemon answers, or it went away
  4  timed out

Environment:
  BLKFAULT_MONITOR  the monitor, where --monitor is not given

Example:
  export BLKFAULT_MONITOR=unix:/run/blkfault/monitor.sock
  blkfault state disk0 error && run-the-test; blkfault state disk0 none";

/// Make the disks of a running blkfaultd fail, and tell what they do.
#[derive(Debug, Parser)]
#[command(name = "blkfault", version, after_help = EXIT_STATUS, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub(super) verb: Verb,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Options of every verb.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// The daemon's monitor: unix:PATH, tcp:HOST:PORT, or the path of a unix socket
    /// [env: BLKFAULT_MONITOR]
    // Not clap's `env`: a bad value must not hinder verbs that need no monitor.
    #[arg(long, global = true, value_name = "ADDR", value_parser = monitor_address)]
    monitor: Option<Address>,

    /// The token of a TCP monitor, which wants one: a file of one line, with mode 0600
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Print JSON for programs instead of text for people
    #[arg(long, global = true)]
    pub(super) json: bool,

    /// Give up after this time; `events` stops listening instead [default: 30, for events none]
    #[arg(long, global = true, value_name = "SECONDS")]
    #[arg(value_parser = seconds, allow_negative_numbers = true)]
    pub(super) timeout: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Tell the state of a disk, or make it another
    #[command(after_help = "\
Examples:
  blkfault state disk0                tells the state in one word
  blkfault state disk0 error          every request fails from now on
  blkfault state disk0 error --errno ENOSPC --iotype write,flush
  blkfault state disk0 hang --on-release fail
  blkfault state disk0 slow --preset limplock
  blkfault state disk0 slow --delay 20ms --share 0.1 --iotype read
  blkfault state disk0 slow --delay lognormal:median=2ms,sigma=1.2 --shape transient:duration=5m
  blkfault state disk0 read-only
  blkfault state disk0 offline        the guest loses its disk
  blkfault state disk0 none           the disk works again")]
    State(Box<StateArgs>),

    /// Make, change and list rules: which requests fail, wait or stop
    #[command(
        subcommand,
        after_help = "\
Example:
  blkfault rule add disk0 --on write --sectors 2048-2055 --errno EIO --heal-on-write"
    )]
    Rule(RuleVerb),

    /// Make several changes at once, or none: rules, states, the engine's state
    #[command(after_help = "\
Example:
  blkfault transaction disk0 changes.json

A file is a list of changes, as block-fault-transaction takes them:
  [ { \"type\": \"rule-remove\", \"name\": \"bad-spot\" },
    { \"type\": \"rule-add\", \"rule\": { \"iotype\": [\"flush\"], \"effect\": \"error\" } },
    { \"type\": \"engine-state\", \"state\": 2 },
    { \"type\": \"state\", \"state\": { \"state\": \"read-only\" } } ]")]
    Transaction {
        /// The disk
        disk: String,
        /// The file
        file: PathBuf,
    },

    /// Tell the state of a disk's fault engine, a number that rules look at, or make it another
    #[command(after_help = "\
Examples:
  blkfault engine-state disk0         tells the number
  blkfault engine-state disk0 2       rules with --state 2 count from now on")]
    EngineState {
        /// The disk
        disk: String,
        /// What it becomes; if left out, what it is is told
        #[arg(value_name = "N", allow_negative_numbers = true)]
        state: Option<i64>,
    },

    /// Tell all about a disk's faults but its rules: state, options, policy, seed, counts
    #[command(after_help = "Example:\n  blkfault show disk0")]
    Show {
        /// The disk
        disk: String,
    },

    /// Hold requests at a point of their life
    #[command(after_help = "\
Examples:
  blkfault break disk0 A --at after-image --on write
  blkfault wait --tag A --disk disk0
  blkfault resume disk0 A
  blkfault break disk0 A --remove")]
    Break(BreakArgs),

    /// List the requests that a disk holds
    #[command(after_help = "Example:\n  blkfault held disk0")]
    Held {
        /// The disk
        disk: String,
    },

    /// Let held requests go on, or have them fail, and tell how many
    #[command(after_help = "\
Examples:
  blkfault resume disk0 A
  blkfault resume disk0 A --fail=ENOSPC
  blkfault resume disk0 --held-by all
  blkfault resume disk0 --ordinals 4712,4711")]
    Resume(ResumeArgs),

    /// Tell, or choose, what becomes of requests that the image itself fails
    #[command(after_help = "\
Examples:
  blkfault on-error disk0             tells what becomes of them
  blkfault on-error disk0 hold-on-enospc")]
    OnError {
        /// The disk
        disk: String,
        /// What becomes of them; if left out, it is told
        policy: Option<Policy>,
    },

    /// List the disks
    #[command(after_help = "Example:\n  blkfault list --json | jq -r '.[].disk'")]
    List,

    /// Tell what disks have done
    #[command(after_help = "Examples:\n  blkfault stats disk0\n  blkfault stats --nodes")]
    Stats {
        /// The disk; all if left out
        disk: Option<String>,
        /// Tell what nodes have done instead
        #[arg(long)]
        nodes: bool,
    },

    /// Make, list and remove nodes: images by name
    #[command(
        subcommand,
        after_help = "Example:\n  blkfault node add node1 --file disk.img --discard unmap"
    )]
    Node(NodeVerb),

    /// Make disks of nodes, and take disks away
    #[command(
        subcommand,
        after_help = "Example:\n  blkfault export add disk1 --node node1 --socket-path /tmp/disk1.sock"
    )]
    Export(ExportVerb),

    /// Open the image of a disk again, after a failed flush or with other options
    ///
    /// Read-only, direct and no-flush stay as they are where nothing is said. The daemon does not tell
    /// the others, so they are what --discard, --aio and --locking say, or what --blk-file has: discards
    /// give space back.
    #[command(after_help = "\
Examples:
  blkfault reopen disk0               after a failed flush
  blkfault reopen disk0 --direct      around the host's page cache from now on")]
    Reopen(ReopenArgs),

    /// Give a disk another size while guests use it
    #[command(after_help = "\
Examples:
  blkfault resize disk0 20G
  blkfault resize --node node0 20G")]
    Resize {
        /// It is a node, not a disk
        #[arg(long)]
        node: bool,
        /// The disk
        disk: String,
        /// The new size: bytes, or a number with K, M, G, T or P (times 1024)
        #[arg(allow_negative_numbers = true)]
        size: Size,
    },

    /// Wait for the daemon, for a request to be held, or for an event
    ///
    /// Only what happens after it has connected is heard, so start it before the fault that is to
    /// happen. Of BLOCK_IO_ERROR, one a second is told for each disk and direction, and the last.
    /// Whether a disk has failed anything so far is in its counts, which query-block-fault (`blkfault
    /// state ID --json`) tells at any time.
    #[command(after_help = "\
Examples:
  blkfault wait --ready --timeout 10
  blkfault wait --tag A --disk disk0
  blkfault wait --event BLOCK_IO_ERROR --disk disk0 --timeout 60")]
    Wait(WaitArgs),

    /// Tell events as they happen
    #[command(after_help = "Example:\n  blkfault events --event BLOCK_IO_ERROR --json")]
    Events {
        /// Only events with this name; may be repeated
        #[arg(long = "event", value_name = "NAME", ignore_case = true)]
        #[arg(value_parser = event_name())]
        events: Vec<String>,
        /// Only events of this disk
        #[arg(long, value_name = "ID")]
        disk: Option<String>,
    },

    /// Send a QMP command as it is and print the reply
    #[command(after_help = "Example:\n  blkfault qmp '{\"execute\": \"query-block-exports\"}'")]
    Qmp {
        /// The command, a JSON object
        #[arg(value_parser = json_object)]
        command: Value,
    },

    /// Run a line for QEMU's human monitor: blkdebug's breakpoints
    ///
    /// What QEMU would print is printed. The exit status is 1 where that is an error, though QMP does
    /// not call it one.
    #[command(after_help = "Example:\n  blkfault hmp 'qemu-io disk0 \"break write_aio A\"'")]
    Hmp {
        /// The line
        line: String,
    },

    /// Tell the daemon's version; blkfault's own is in --version
    #[command(after_help = "Example:\n  blkfault daemon-version")]
    DaemonVersion,

    /// End the daemon, and wait until it has ended
    #[command(after_help = "Example:\n  blkfault quit")]
    Quit,

    /// Print a completion script
    #[command(after_help = "\
Example:
  blkfault completion bash > ~/.local/share/bash-completion/completions/blkfault")]
    Completion {
        /// For this shell
        shell: clap_complete::Shell,
        /// For this program
        #[arg(long, value_enum, default_value_t)]
        program: Program,
    },

    /// Print a manual page
    #[command(after_help = "Example:\n  blkfault man | man -l -")]
    Man {
        /// Of this program
        #[arg(long, value_enum, default_value_t)]
        program: Program,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["ready", "event", "tag"]).required(true))]
pub(super) struct WaitArgs {
    /// Wait until the monitor answers
    #[arg(long, conflicts_with = "disk")]
    pub(super) ready: bool,
    /// Wait until a request of the disk is held at this breakpoint, and tell it
    #[arg(long, requires = "disk")]
    pub(super) tag: Option<String>,
    /// Wait until this happens, and tell it
    #[arg(long, value_name = "NAME", ignore_case = true, value_parser = event_name())]
    pub(super) event: Option<String>,
    /// The disk of the breakpoint; or, an event only if it happens to this disk
    #[arg(long, value_name = "ID")]
    pub(super) disk: Option<String>,
}

/// A program of this package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// The operator's command
    #[default]
    Blkfault,
    /// The daemon
    Blkfaultd,
}

impl Program {
    /// Its command line.
    #[must_use]
    pub fn command(self) -> clap::Command {
        match self {
            Self::Blkfault => Cli::command(),
            Self::Blkfaultd => options::command(),
        }
    }
}

/// Run `blkfault` with these arguments, the first being the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help that nobody reads is no reason to fail.
            let _ = error.print();
            let asked_for = !error.use_stderr();
            return ExitCode::from(if asked_for { Status::Done } else { Status::Usage } as u8);
        }
    };
    let result = verbs::run(&cli, &mut io::stdout().lock());
    let status = match &result {
        Ok(()) => Status::Done,
        Err(failure) => failure.status(),
    };
    if let Err(failure) = result
        && let Some(text) = failure.text()
    {
        // Nobody is left to be told if even this fails.
        let _ = writeln!(io::stderr(), "blkfault: {text}");
    }
    ExitCode::from(status as u8)
}

impl Common {
    /// The monitor that is meant; a variable that is empty names none.
    pub(super) fn address(&self) -> Result<Address, Failure> {
        let address = self.monitor_meant()?;
        let Some(path) = &self.token_file else { return Ok(address) };
        address.with_token_file(path).ok_or(Failure::NoTcp)
    }

    fn monitor_meant(&self) -> Result<Address, Failure> {
        if let Some(address) = &self.monitor {
            return Ok(address.clone());
        }
        let variable = std::env::var_os(MONITOR_VARIABLE).filter(|value| !value.is_empty());
        let variable = variable.ok_or(Failure::NoMonitor)?;
        monitor_address(&variable.to_string_lossy()).map_err(Failure::BadVariable)
    }

    /// When to give up, if nothing else is said.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.patience())
    }

    /// When to give up on a daemon that was to give up at the deadline.
    pub(super) fn a_little_later(&self) -> Deadline {
        Deadline::after(self.patience().saturating_add(Duration::from_secs(5)))
    }

    fn patience(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_an_example() {
        fn check(above: &str, command: &clap::Command) {
            for verb in command.get_subcommands() {
                let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
                let example = format!("{above} {}", verb.get_name());
                assert!(help.contains(&example), "{example}: {help}");
                check(&example, verb);
            }
        }
        check("blkfault", &Cli::command());
    }
}
