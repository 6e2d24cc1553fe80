//! The daemon's command line: words in, the monitor's own commands out.
//!
//! Knows: flags, `--disk` lists and `--config` files, which are three spellings of the same options
//! ([`DiskSpec`]). Must not know: how a command is carried out. Invariant: a disk made here is made
//! by the same `blockdev-add` and `block-export-add` that an operator could send.

mod choices;
mod config;
mod disk;
mod log;
mod privilege;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

pub use choices::{AioChoice, CacheChoice, DiscardChoice, Format, HeldOnStopChoice, OnErrorChoice};
pub use disk::{DiskPlan, DiskSpec};
pub use log::{JOURNAL_VARIABLE, LOG_VARIABLE, LogChoice, goes_to_the_journal};

use self::privilege::PrivilegeOptions;
use crate::guard::GuardPlan;
use crate::monitor::Address;

/// What `--print-capabilities` prints: QEMU's docs/interop/vhost-user.rst, "Backend program
/// conventions", type "block".
pub const CAPABILITIES: &str = r#"{"type":"block","features":["read-only","blk-file"]}"#;

const EXAMPLES: &str = "\
Examples:
  A disk in memory, and a monitor to break it with:
    blkfaultd --memory 1G --socket-path /tmp/disk0.sock --monitor unix:/tmp/monitor

  An image around the host's page cache, four queues, monitors for programs and for telnet:
    openssl rand -hex 32 >token && chmod 600 token
    blkfaultd --blk-file disk.img --cache none --num-queues 4 --socket-path /tmp/disk0.sock \\
              --monitor unix:/tmp/monitor --monitor tcp:127.0.0.1:4444,token-file=token

  Two disks, and a second path to the first one's store:
    blkfaultd --monitor unix:/tmp/monitor \\
              --disk id=a,blk-file=a.img,socket-path=/tmp/a.sock \\
              --disk id=b,memory=64M,socket-path=/tmp/b.sock \\
              --disk id=a2,store=a,socket-path=/tmp/a2.sock

  The same from a file: {\"monitor\": [\"unix:/tmp/monitor\"],
                         \"disks\": [{\"id\": \"a\", \"blk-file\": \"a.img\", \"socket-path\": \"/tmp/a.sock\"}]}
    blkfaultd --config disks.json

  QEMU attaches a disk with:
    -object memory-backend-memfd,id=mem,size=1G,share=on -machine memory-backend=mem
    -chardev socket,id=c0,path=/tmp/disk0.sock,reconnect=1
    -device vhost-user-blk-pci,chardev=c0,num-queues=4

Exit status:
  0  ended on request (SIGTERM, SIGINT, SIGHUP or quit)
  1  something could not be opened, locked, bound or served
  2  wrong usage

The environment variable BLKFAULT_LOG chooses what is logged on standard error: off, error, warn (the
default), info, debug or trace; also for a part alone, such as warn,blkfault::export=debug.";

/// A disk that fails on command: serves images to guests over vhost-user-blk, and takes commands
/// that break them over QMP.
#[derive(Debug, Parser)]
#[command(name = "blkfaultd", version, max_term_width = 100, after_long_help = EXAMPLES)]
#[command(after_help = "More with --help, and examples.")]
pub struct Options {
    /// Print what this back end can do, as JSON, and exit.  Everything else is ignored.
    ///
    /// Example: blkfaultd --print-capabilities
    #[arg(long)]
    pub print_capabilities: bool,

    #[command(flatten)]
    disk: DiskSpec,

    /// One more disk: the disk options without dashes, separated by commas (a comma in a value is
    /// written twice).  May be repeated.
    ///
    /// Example: --disk id=b,memory=64M,socket-path=/tmp/b.sock
    #[arg(long = "disk", value_name = "KEY=VALUE,...", help_heading = "Several disks")]
    disks: Vec<String>,

    /// Read disks, monitors and the pidfile from a JSON file: an object with "disks" (a list of
    /// objects whose members are the disk options), "monitor" (a list of addresses), "pidfile" and
    /// "state-dir".
    ///
    /// Example: --config disks.json
    #[arg(long, value_name = "FILE", help_heading = "Several disks")]
    config: Option<PathBuf>,

    /// Take QMP commands here: unix:PATH or tcp:HOST:PORT,token-file=FILE.  May be repeated.  At a
    /// TCP port a client must say "AUTH TOKEN" first, where TOKEN is the one line of the file, which
    /// is its owner's alone: whoever reaches the port, and every user of this machine does, would
    /// command the disks.  An address beyond this machine needs ",remote=on" too.
    ///
    /// Example: --monitor unix:/tmp/monitor --monitor tcp:127.0.0.1:4444,token-file=token
    /// --monitor tcp:0.0.0.0:4445,remote=on,token-file=/etc/blkfault/token
    #[arg(long = "monitor", value_name = "ADDRESS", help_heading = "Control")]
    monitors: Vec<Address>,

    /// Write the process id here once ready, and hold a lock on the file until the end.
    ///
    /// Example: --pidfile /run/blkfaultd.pid
    #[arg(long, value_name = "FILE", help_heading = "Control")]
    pidfile: Option<PathBuf>,

    /// Keep the disks' fault states, rules with their counters, and held requests in this directory, so
    /// that they outlive the daemon, however it ends, but not a crash of the host: nothing is
    /// synced.  It is made if it is missing.  What is found
    /// there for a disk of that name counts; --blkdebug-config, --seed and --on-error are then not
    /// used, and where they say otherwise a warning names them.  A command whose change the host
    /// cannot write there is refused.
    ///
    /// Example: --state-dir /var/lib/blkfault
    #[arg(long, value_name = "DIR", help_heading = "Control")]
    state_dir: Option<PathBuf>,

    #[command(flatten)]
    privilege: PrivilegeOptions,
}

/// Everything the command line asked for.
#[derive(Debug)]
pub struct Plan {
    /// The disks, in order.
    pub disks: Vec<DiskPlan>,
    /// Where to take commands.
    pub monitors: Vec<Address>,
    /// Where to write the process id.
    pub pidfile: Option<PathBuf>,
    /// Where to keep the disks' faults.
    pub state_dir: Option<PathBuf>,
    /// The group that may use the disks' sockets.
    pub socket_group: Option<String>,
    /// What to give up before anything is served.
    pub guard: GuardPlan,
}

/// The command line as `clap` knows it, for help, completion and manual pages.
#[must_use]
pub fn command() -> clap::Command {
    Options::command()
}

/// Whether the arguments ask for the capabilities, whatever else they say.
#[must_use]
pub fn asks_for_capabilities<'a>(mut arguments: impl Iterator<Item = &'a std::ffi::OsStr>) -> bool {
    arguments.any(|argument| argument == "--print-capabilities")
}

impl Options {
    /// Everything that was asked for, from flags and files together.
    ///
    /// # Errors
    /// Options that make no sense together, and files that cannot be read or understood.
    pub fn plan(self) -> Result<Plan, clap::Error> {
        self.into_plan().map_err(|message| command().error(ErrorKind::ValueValidation, message))
    }

    fn into_plan(self) -> Result<Plan, String> {
        let mut specs = Vec::new();
        let mut monitors = self.monitors;
        let mut pidfile = self.pidfile;
        let mut state_dir = self.state_dir;
        if self.disk.is_given() {
            specs.push(("the disk".to_owned(), self.disk));
        }
        for text in &self.disks {
            let at = format!("--disk '{text}'");
            let spec = DiskSpec::from_list(text).map_err(|error| format!("{at}: {error}"))?;
            specs.push((at, spec));
        }
        if let Some(path) = &self.config {
            let file = config::read(path)?;
            let name = path.display();
            let located = |(at, spec)| (format!("--config {name}: {at}"), spec);
            specs.extend(file.disks.into_iter().map(located));
            monitors.extend(file.monitors);
            pidfile = pidfile.or(file.pidfile);
            state_dir = state_dir.or(file.state_dir);
        }
        if specs.is_empty() && monitors.is_empty() {
            return Err("nothing to do: give a disk (--memory SIZE or --blk-file PATH, with \
                        --socket-path PATH) or a --monitor to add disks by command"
                .to_owned());
        }
        let mut plan = Plan {
            disks: disk::plan(specs)?,
            monitors,
            pidfile,
            state_dir,
            socket_group: self.privilege.socket_group.clone(),
            guard: GuardPlan::default(),
        };
        plan.check_paths()?;
        plan.guard = self.privilege.plan(&plan)?;
        Ok(plan)
    }
}

impl Plan {
    /// No path is asked for twice.
    fn check_paths(&self) -> Result<(), String> {
        let mut users: BTreeMap<&Path, String> = BTreeMap::new();
        let disks = self.disks.iter().filter_map(|disk| {
            let path = Path::new(disk.socket_path()?);
            Some((path, format!("the disk '{}'", disk.export.id)))
        });
        let monitors = self.monitors.iter().filter_map(|address| match address {
            Address::Unix(path) => Some((path.as_path(), format!("the monitor {address}"))),
            Address::Tcp { .. } => None,
        });
        let pidfile = self.pidfile.iter().map(|path| (path.as_path(), "the pidfile".to_owned()));
        for (path, user) in disks.chain(monitors).chain(pidfile) {
            if let Some(other) = users.insert(path, user.clone()) {
                return Err(format!("{other} and {user} cannot both be at '{}'", path.display()));
            }
        }
        Ok(())
    }
}

/// A door for `tests/fuzz`.
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use super::{DiskPlan, DiskSpec, config, disk};

    /// What the file that `--config` names says: the disks planned, how many monitors.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn config_file(text: &str) -> Result<(Vec<DiskPlan>, usize), String> {
        let file = config::parse(text)?;
        Ok((disk::plan(file.disks)?, file.monitors.len()))
    }

    /// A disk as `--disk` says it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn disk_list(list: &str) -> Result<DiskSpec, String> {
        DiskSpec::from_list(list)
    }
}

#[cfg(test)]
mod tests;
