//! The command line of the verbs about faults.
//!
//! Knows: their options, help and examples. Must not know: what is sent (`json`, `verbs`). Invariant:
//! options that exclude each other are refused here.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};

use super::delay::{Delay, FailAfter};
use super::period::Period;
use super::shape::{Rate, Shape, bytes_per_second, requests_per_second};
use crate::errno::Errno;
use crate::fault::manual::DiskStateName;
use crate::fault::rule::Point;
use crate::fault::slow::Preset;
use crate::fault::{IoType, SectorRange};
use crate::size::Size;

/// Those that states and profiles are about.
pub(in crate::client) fn iotypes() -> PossibleValuesParser {
    PossibleValuesParser::new(IoType::ALL.map(IoType::name))
}

/// Those that rules and breakpoints may name.
fn named_iotypes() -> PossibleValuesParser {
    PossibleValuesParser::new(IoType::NAMED.map(IoType::name))
}

fn points() -> PossibleValuesParser {
    PossibleValuesParser::new(Point::ALL.map(Point::name))
}

#[derive(Debug, Args)]
pub(in crate::client) struct StateArgs {
    /// The disk
    pub(in crate::client) disk: String,
    /// What it becomes; if left out, what it is is told
    #[arg(value_parser = PossibleValuesParser::new(DiskStateName::ALL.map(DiskStateName::as_str)))]
    pub(in crate::client) state: Option<String>,
    /// error, read-only, hang with --on-release fail: the error of failed requests, a name or a
    /// number [default: EIO; read-only: EROFS]
    #[arg(long, requires = "state", value_name = "ERROR")]
    pub(in crate::client) errno: Option<Errno>,
    /// error, hang, slow: the requests that are meant, separated by commas [default: all]
    #[arg(long, requires = "state", value_name = "TYPES", value_delimiter = ',')]
    #[arg(value_parser = iotypes())]
    pub(in crate::client) iotype: Vec<String>,
    /// hang: what becomes of held requests when the state is left [default: run]
    #[arg(long, requires = "state", value_name = "HOW")]
    #[arg(value_parser = PossibleValuesParser::new(["run", "fail"]))]
    pub(in crate::client) on_release: Option<String>,
    #[command(flatten)]
    pub(in crate::client) slow: SlowArgs,
}

/// How slow, where no preset or file says it.
const PROFILE: [&str; 7] =
    ["delay", "share", "bytes_per_second", "requests_per_second", "speed", "shape", "sectors"];

#[derive(Debug, Args)]
pub(in crate::client) struct SlowArgs {
    /// slow: a slow disk that was published
    #[arg(long, requires = "state", value_name = "NAME", conflicts_with_all = PROFILE)]
    #[arg(value_parser = PossibleValuesParser::new(Preset::ALL.map(Preset::name)))]
    pub(in crate::client) preset: Option<String>,
    /// slow: a file with a list of profiles, as set-block-fault-state takes them: [{"iotype":
    /// ["flush"], "delay": 2000000000}]
    #[arg(long, requires = "state", value_name = "FILE", conflicts_with_all = PROFILE)]
    #[arg(conflicts_with_all = ["preset", "iotype"])]
    pub(in crate::client) profiles: Option<PathBuf>,
    /// slow: wait so long before the image, such as 20ms or lognormal:median=2ms,sigma=1.2
    #[arg(long, requires = "state", value_name = "DELAY")]
    pub(in crate::client) delay: Option<Delay>,
    /// slow: the share of requests that are slow, above 0 and up to 1 [default: 1]
    #[arg(long, requires = "state", value_name = "SHARE")]
    pub(in crate::client) share: Option<f64>,
    /// slow: so many bytes a second and no more, such as 1M or 1M,burst=4M
    #[arg(long, requires = "state", value_name = "RATE", value_parser = bytes_per_second)]
    pub(in crate::client) bytes_per_second: Option<Rate>,
    /// slow: so many requests a second and no more, such as 100 or 100,burst=20
    #[arg(long, requires = "state", value_name = "RATE", value_parser = requests_per_second)]
    pub(in crate::client) requests_per_second: Option<Rate>,
    /// slow: the share of its full speed at which the disk works, above 0 and up to 1
    #[arg(long, requires = "state", value_name = "SHARE")]
    pub(in crate::client) speed: Option<f64>,
    /// slow: how it comes and goes, such as transient:duration=5m, stalls:period=30s,stall=2s,
    /// ramp:from=1,to=10,duration=5m, steps:3m=1,3m=10 or spikes:share=0.01,delay=200ms [default:
    /// permanent]
    #[arg(long, requires = "state", value_name = "SHAPE")]
    pub(in crate::client) shape: Option<Shape>,
    /// slow: requests that touch these sectors of 512 bytes, such as 7,2048-2055 [default: all]
    #[arg(long, requires = "state", value_name = "RANGES", value_delimiter = ',')]
    pub(in crate::client) sectors: Vec<SectorRange>,
}

#[derive(Debug, Subcommand)]
pub(in crate::client) enum RuleVerb {
    /// Add a rule
    #[command(after_help = "\
Examples:
  Bad sectors that heal when they are written:
    blkfault rule add disk0 --on write --sectors 2048-2055 --errno EIO --heal-on-write
  A sector on its way out: a hundred slow reads, then none succeeds:
    blkfault rule add disk0 --on read --sectors 7 --fail-after 100,500ms
  A sector that is read at the fourth try:
    blkfault rule add disk0 --on read --sectors 7 --retries 3
  Every hundredth write finds no space:
    blkfault rule add disk0 --on write --every 100 --errno ENOSPC
  Flushes take two seconds; reads take what a busy disk takes:
    blkfault rule add disk0 --on flush --delay 2s
    blkfault rule add disk0 --on read --delay lognormal:median=2ms,sigma=1.2
  dm-flakey's 60 seconds up, 10 seconds down:
    blkfault rule add disk0 --up 60s --down 10s
  The third write of a JBD2 commit block fails:
    blkfault rule add disk0 --on write --content c03b399800000002 --content-block 4K \\
                            --skip 2 --once")]
    Add(Box<RuleArgs>),

    /// List the rules of a disk, and what they did
    #[command(after_help = "\
Examples:
  blkfault rule list disk0
  blkfault rule list disk0 bad-spot --json")]
    List {
        /// The disk
        disk: String,
        /// Only this rule [default: all, blkdebug's too]
        name: Option<String>,
    },

    /// Remove rules
    #[command(after_help = "Example:\n  blkfault rule rm disk0 rule1 rule2")]
    Rm(NamedRules),

    /// Put rules in force; the schedules of those that were not start now
    #[command(after_help = "Example:\n  blkfault rule enable disk0 rule1")]
    Enable(NamedRules),

    /// Put rules out of force
    #[command(after_help = "Example:\n  blkfault rule disable disk0 rule1")]
    Disable(NamedRules),

    /// Make rules as if they had just been added
    #[command(after_help = "Example:\n  blkfault rule reset disk0 rule1")]
    Reset(NamedRules),

    /// Add the rules of a file, all of them or none
    #[command(after_help = "\
Examples:
  blkfault rule load disk0 rules.json
  blkfault rule load disk0 --blkdebug errors.conf

A file of more than a thousand rules or so goes in parts, which come into force one after the other.
It is a list of rules, as block-fault-rule-add takes them:
  [ { \"iotype\": [\"read\"], \"sectors\": [\"2048-2055\"], \"effect\": \"media\", \"heal\": \"on-write\" },
    { \"name\": \"slow-flush\", \"iotype\": [\"flush\"], \"effect\": \"delay\", \"delay\": 2000000000 } ]")]
    Load {
        /// The disk
        disk: String,
        /// The file
        file: PathBuf,
        /// The file is one for QEMU's blkdebug
        #[arg(long)]
        blkdebug: bool,
    },
}

#[derive(Debug, Args)]
pub(in crate::client) struct NamedRules {
    /// The disk
    pub(in crate::client) disk: String,
    /// The rules
    #[arg(required = true)]
    pub(in crate::client) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::client) struct RuleArgs {
    /// The disk
    pub(in crate::client) disk: String,
    /// The rule's name [default: rule1, rule2 and so on]
    #[arg(long)]
    pub(in crate::client) name: Option<String>,
    #[command(flatten)]
    pub(in crate::client) trigger: TriggerArgs,
    #[command(flatten)]
    pub(in crate::client) effect: EffectArgs,
    /// Look at later rules even when this one hits
    #[arg(long = "continue")]
    pub(in crate::client) goes_on: bool,
    /// Leave it out of force until it is enabled
    #[arg(long)]
    pub(in crate::client) disabled: bool,
    /// In front of all other rules [default: behind them]
    #[arg(long, conflicts_with_all = ["before", "after"])]
    pub(in crate::client) first: bool,
    /// In front of this rule
    #[arg(long, value_name = "RULE", conflicts_with = "after")]
    pub(in crate::client) before: Option<String>,
    /// Behind this rule
    #[arg(long, value_name = "RULE")]
    pub(in crate::client) after: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Which requests")]
pub(in crate::client) struct TriggerArgs {
    #[command(flatten)]
    pub(in crate::client) target: TargetArgs,
    /// From this virtqueue
    #[arg(long, value_name = "N")]
    pub(in crate::client) queue: Option<u16>,
    /// While the engine is in this state
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(in crate::client) state: Option<i64>,
    /// While at least so many requests are in flight
    #[arg(long, value_name = "N")]
    pub(in crate::client) queue_depth: Option<u64>,
    /// Writes with these bytes, hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub(in crate::client) content: Option<String>,
    /// The bits of --content that count
    #[arg(long, value_name = "HEX", requires = "content")]
    pub(in crate::client) content_mask: Option<String>,
    /// Where --content is, bytes from the start of the write or block [default: 0]
    #[arg(long, value_name = "SIZE", requires = "content")]
    pub(in crate::client) content_at: Option<Size>,
    /// Look for --content in every block of this size
    #[arg(long, value_name = "SIZE", requires = "content")]
    pub(in crate::client) content_block: Option<Size>,
    /// Not before so long from now, such as 10s
    #[arg(long, value_name = "TIME")]
    pub(in crate::client) start: Option<Period>,
    /// And then for so long
    #[arg(long, value_name = "TIME")]
    pub(in crate::client) duration: Option<Period>,
    /// In turns: out of force for so long ...
    #[arg(long, value_name = "TIME", requires = "down")]
    pub(in crate::client) up: Option<Period>,
    /// ... and in force for so long, as in dm-flakey
    #[arg(long, value_name = "TIME", requires = "up")]
    pub(in crate::client) down: Option<Period>,
    /// After those skipped, every N-th
    #[arg(long, value_name = "N")]
    pub(in crate::client) every: Option<u64>,
    /// Of those, this share, by chance
    #[arg(long, value_name = "SHARE")]
    pub(in crate::client) probability: Option<f64>,
    /// One time; the same as --times 1
    #[arg(long, conflicts_with = "times")]
    pub(in crate::client) once: bool,
}

#[derive(Debug, Args)]
pub(in crate::client) struct TargetArgs {
    /// These requests, separated by commas [default: all]
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_parser = named_iotypes())]
    pub(in crate::client) on: Vec<String>,
    /// That touch these sectors of 512 bytes, separated by commas, such as 7,2048-2055
    #[arg(long, value_name = "RANGES", value_delimiter = ',')]
    pub(in crate::client) sectors: Vec<SectorRange>,
    /// Not the first N of those
    #[arg(long, value_name = "N")]
    pub(in crate::client) skip: Option<u64>,
    /// N of those, then no more
    #[arg(long, value_name = "N")]
    pub(in crate::client) times: Option<u64>,
}

/// What makes the medium bad; an effect of its own.
const MEDIA: [&str; 5] = ["media", "heal_on_write", "remap_pool", "retries", "fail_after"];

#[derive(Debug, Args)]
#[command(next_help_heading = "What happens to them (if nothing is said, they fail with EIO)")]
pub(in crate::client) struct EffectArgs {
    /// They fail with this error, a name or a number
    #[arg(long, value_name = "ERROR")]
    pub(in crate::client) errno: Option<Errno>,
    /// They wait so long, then they fail if there is an --errno: 20ms, uniform:min=1ms,max=5ms,
    /// exponential:mean=2ms, lognormal:median=2ms,sigma=1.2, pareto:min=1ms,alpha=1.5 or
    /// quantiles:0=1ms,0.5=2ms,1=500ms
    #[arg(long, value_name = "DELAY", conflicts_with_all = MEDIA)]
    #[arg(conflicts_with_all = ["hang", "break_at", "set_state", "disconnect"])]
    pub(in crate::client) delay: Option<Delay>,
    /// They are held until they are resumed, or for this time; then they fail if there is an --errno
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true)]
    #[arg(conflicts_with_all = MEDIA)]
    #[arg(conflicts_with_all = ["break_at", "set_state", "disconnect"])]
    pub(in crate::client) hang: Option<Option<Period>>,
    /// They are held at a breakpoint of this name
    #[arg(long = "break", id = "break_at", value_name = "TAG", conflicts_with_all = MEDIA)]
    #[arg(conflicts_with_all = ["set_state", "disconnect", "errno"])]
    pub(in crate::client) break_at: Option<String>,
    /// Where the breakpoint is [default: received]
    // clap forgets what an option requires beside something that excludes it.
    #[arg(long, value_name = "POINT", requires = "break_at", value_parser = points())]
    #[arg(conflicts_with_all = MEDIA)]
    #[arg(conflicts_with_all = ["delay", "hang", "set_state", "disconnect", "errno"])]
    pub(in crate::client) point: Option<String>,
    /// The engine's state becomes this
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with_all = MEDIA)]
    #[arg(conflicts_with_all = ["disconnect", "errno"])]
    pub(in crate::client) set_state: Option<i64>,
    /// The front end is disconnected
    #[arg(long, conflicts_with = "errno", conflicts_with_all = MEDIA)]
    pub(in crate::client) disconnect: bool,
    /// The sectors are bad, and stay bad if nothing else is said
    #[arg(long)]
    pub(in crate::client) media: bool,
    /// The sectors are bad until they are written
    #[arg(long)]
    pub(in crate::client) heal_on_write: bool,
    /// So many sectors can heal, then no more
    #[arg(long, value_name = "N", requires = "heal_on_write")]
    pub(in crate::client) remap_pool: Option<u64>,
    /// Each sector fails so many times in a row, then once not
    #[arg(long, value_name = "N")]
    pub(in crate::client) retries: Option<u64>,
    /// The sectors are slow first: N requests succeed after DELAY, later ones fail: 100,20ms
    #[arg(long, value_name = "N,DELAY")]
    pub(in crate::client) fail_after: Option<FailAfter>,
}

#[derive(Debug, Args)]
pub(in crate::client) struct BreakArgs {
    /// The disk
    pub(in crate::client) disk: String,
    /// What to call the breakpoint
    pub(in crate::client) tag: String,
    /// Where in a request's life [default: received]
    #[arg(long, value_name = "POINT", value_parser = points())]
    pub(in crate::client) at: Option<String>,
    #[command(flatten)]
    pub(in crate::client) target: TargetArgs,
    /// Remove the breakpoint instead; requests that it holds go on
    #[arg(long, conflicts_with_all = ["at", "on", "sectors", "skip", "times"])]
    pub(in crate::client) remove: bool,
}

#[derive(Debug, Args)]
pub(in crate::client) struct ResumeArgs {
    /// The disk
    pub(in crate::client) disk: String,
    /// Requests held at this breakpoint
    #[arg(required_unless_present_any = ["rule", "held_by", "ordinals"])]
    #[arg(conflicts_with_all = ["rule", "held_by", "ordinals"])]
    pub(in crate::client) tag: Option<String>,
    /// Requests held by this rule
    #[arg(long, conflicts_with_all = ["held_by", "ordinals"])]
    pub(in crate::client) rule: Option<String>,
    /// Requests held by the disk's state, by its on-error policy, or by anything
    #[arg(long, value_name = "WHOM", conflicts_with = "ordinals")]
    #[arg(value_parser = PossibleValuesParser::new(["all", "state", "on-error"]))]
    pub(in crate::client) held_by: Option<String>,
    /// These requests, in this order, separated by commas
    #[arg(long, value_name = "ORDINALS", value_delimiter = ',')]
    pub(in crate::client) ordinals: Vec<u64>,
    /// Have them fail with this error [default: EIO] instead of going on
    #[arg(long, value_name = "ERROR", num_args = 0..=1, require_equals = true)]
    pub(in crate::client) fail: Option<Option<Errno>>,
}

/// What becomes of requests that the image fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::client) enum Policy {
    /// The guest is told
    Report,
    /// They are held until they are resumed
    Hold,
    /// They are held if the image has no space left
    HoldOnEnospc,
}

impl Policy {
    /// The monitor's word.
    pub(in crate::client) fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Hold => "hold",
            Self::HoldOnEnospc => "hold-on-enospc",
        }
    }
}
