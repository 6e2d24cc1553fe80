//! The command line of `blkfault`.
//!
//! Knows: verbs, options, their help, and the exit status of each outcome. Must not know: what a
//! verb says to the daemon (`verbs`). Invariant: what is wrong with the command line is found here,
//! before anything is sent.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use serde_json::Value;

use super::faults::args::{BreakArgs, Policy, ResumeArgs, RuleVerb, StateArgs};
use super::{ClientError, Deadline, verbs};
use crate::monitor::framing::Framer;
use crate::monitor::{Address, BadAddress};
use crate::options;
use crate::qapi::Event;
use crate::size::Size;

/// What became of a command line; the number is the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Done = 0,
    /// The daemon refused, or the output could not be written.
    Refused = 1,
    /// The command line is wrong; nothing was sent.
    Usage = 2,
    /// Nobody answers, or nobody any more.
    NoDaemon = 3,
    /// The time was over.
    TimedOut = 4,
}

/// Names the monitor where `--monitor` does not.
const MONITOR_VARIABLE: &str = "BLKFAULT_MONITOR";

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

    /// The token of a TCP monitor that wants one: a file of one line, with mode 0600
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
  blkfault state disk0 read-only
  blkfault state disk0 offline        the guest loses its disk
  blkfault state disk0 none           the disk works again")]
    State(StateArgs),

    /// Make, change and list rules: which requests fail, wait or stop
    #[command(
        subcommand,
        after_help = "\
Example:
  blkfault rule add disk0 --on write --sectors 2048-2055 --errno EIO --heal-on-write"
    )]
    Rule(RuleVerb),

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

    /// Choose what becomes of requests that the image itself fails
    #[command(after_help = "Example:\n  blkfault on-error disk0 hold-on-enospc")]
    OnError {
        /// The disk
        disk: String,
        /// What becomes of them
        policy: Policy,
    },

    /// List the disks
    #[command(after_help = "Example:\n  blkfault list --json | jq -r '.[].disk'")]
    List,

    /// Tell what disks have done
    #[command(after_help = "Example:\n  blkfault stats disk0")]
    Stats {
        /// The disk; all if left out
        disk: Option<String>,
    },

    /// Give a disk another size while guests use it
    #[command(after_help = "Example:\n  blkfault resize disk0 20G")]
    Resize {
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

/// Why a verb was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    #[error("which monitor? Say --monitor unix:PATH or set BLKFAULT_MONITOR")]
    NoMonitor,
    #[error("the environment variable {MONITOR_VARIABLE}: {0}")]
    BadVariable(BadAddress),
    #[error("--token-file goes with a monitor at tcp:HOST:PORT only")]
    NoTcp,
    #[error("there is no disk '{0}'")]
    NoDisk(String),
    #[error("timed out: {0}")]
    NotReady(ClientError),
    #[error("timed out: the daemon took the command and has not ended yet")]
    NotEnded,
    #[error("timed out: {0}")]
    NobodyCame(String),
    #[error("{0}: {1}")]
    BadFile(String, String),
    /// Something was mistyped, and this may have been meant.
    #[error("{0}: did you mean '{1}'?")]
    Mistyped(String, String),
    /// The reply was printed and is an error.
    #[error("the daemon refused")]
    RefusedAndTold,
}

impl Failure {
    fn status(&self) -> Status {
        match self {
            // `blkfault events | head -1` is done when head has enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Status::Done,
            Self::Output(_) | Self::NoDisk(_) | Self::RefusedAndTold | Self::Mistyped(..) => {
                Status::Refused
            }
            Self::NoMonitor | Self::BadVariable(_) | Self::BadFile(..) | Self::NoTcp => {
                Status::Usage
            }
            Self::NotReady(_) | Self::NotEnded | Self::NobodyCame(_) => Status::TimedOut,
            Self::Client(error) => match error {
                ClientError::Refused { .. } => Status::Refused,
                ClientError::Token { .. } => Status::Usage,
                ClientError::TimedOut | ClientError::NoGreeting(_) => Status::TimedOut,
                ClientError::Unreachable { .. }
                | ClientError::Gone
                | ClientError::Broken(_)
                | ClientError::NotQmp(_) => Status::NoDaemon,
            },
        }
    }

    /// What to tell people; `None` if they know.
    fn text(&self) -> Option<String> {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Self::RefusedAndTold => None,
            _ => Some(self.to_string()),
        }
    }
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

fn monitor_address(text: &str) -> Result<Address, BadAddress> {
    if text.starts_with("unix:") || text.starts_with("tcp:") {
        text.parse()
    } else {
        format!("unix:{text}").parse()
    }
}

/// The name of an event, in whatever case it is written.
fn event_name() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(Event::NAMES).map(|name| name.to_ascii_uppercase())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "accepted is a number of seconds above 0, such as 30 or 0.5".to_owned())
}

fn json_object(text: &str) -> Result<Value, String> {
    let mut framer = Framer::default();
    // The line end completes what only the next token would.
    let input = [text.as_bytes(), b"\n"].concat();
    match framer.feed(&input) {
        (_, None) => Err("the JSON object has no end".to_owned()),
        (_, Some(Err(error))) => Err(error.to_string()),
        (read, Some(Ok(value @ Value::Object(_)))) => {
            let rest = input.get(read..).unwrap_or_default();
            if rest.iter().all(u8::is_ascii_whitespace) {
                Ok(value)
            } else {
                Err("something follows the JSON object; one command is accepted".to_owned())
            }
        }
        (_, Some(Ok(_))) => Err("accepted is a JSON object".to_owned()),
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

    #[test]
    fn a_monitor_may_be_a_bare_path() {
        let unix = Address::Unix("/run/m.sock".into());
        assert_eq!(monitor_address("/run/m.sock"), Ok(unix.clone()));
        assert_eq!(monitor_address("unix:/run/m.sock"), Ok(unix));
        assert!(matches!(monitor_address("tcp:localhost:4444"), Ok(Address::Tcp { .. })));
        assert!(monitor_address("").is_err());
        assert!(monitor_address("tcp:localhost").is_err());
    }

    #[test]
    fn a_timeout_is_a_positive_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "nan", "inf", "1e30", "", "5s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_raw_command_is_one_json_object() {
        assert!(json_object("{'execute': 'quit'} ").is_ok());
        for (bad, why) in [
            ("{'execute': ", "no end"),
            ("", "no end"),
            ("[]", "JSON object"),
            ("7", "JSON object"),
            ("{}{}", "follows"),
            ("{'a' 1}", "missing :"),
        ] {
            let error = json_object(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
