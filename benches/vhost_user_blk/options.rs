//! What is to be measured, from the command line.
//!
//! Knows: words and what they choose. Must not know: how anything is measured. Invariant: a word that
//! chooses nothing is refused, with those that would be accepted.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::back_end::{BackEnd, Place};
use crate::entrants;
use crate::processors::Processors;
use crate::workload::{BESIDE_MANY, MANY_IN_FLIGHT, PIECE_BYTES_MIN, WORKLOADS, Workload};

/// The workload that shows what rules cost.
const RULES_WORKLOAD: &str = "randread-4k-d32";
/// The one that shows how exact delays are where requests do not wait for one another; [`BESIDE_MANY`] shows
/// it where many others are delayed, and [`MANY_IN_FLIGHT`] where requests wait for the processor.
const DELAYS_WORKLOAD: &str = "mixed-4k-2000ps";
const DELAY: Duration = Duration::from_millis(1);
/// The entrant that is no back end.
pub const STRAIGHT: &str = "io_uring straight";

/// An example of a peer, for the help.
const EXAMPLE: &str = "\
Example of a peer, in one line:
  --peer 'qsd, one more=qemu-storage-daemon
    --blockdev driver=file,node-name=f,filename={image},locking=off,cache.direct={direct}
    --export type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path={socket},\
writable=on,num-queues={queues}'";

/// Compare blkfaultd with other back ends, without a guest.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLE)]
pub struct Options {
    /// Length of each run in seconds.
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    pub seconds: f64,
    /// Runs of each back end under each workload.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Only workloads with one of these in their names.
    #[arg(long, value_name = "PART")]
    workload: Vec<String>,
    /// Only back ends with one of these in their names.
    #[arg(long, value_name = "PART")]
    back_end: Vec<String>,
    /// Only images there: tmpfs, disk (through the page cache), direct (around it).
    #[arg(long, value_name = "PLACE")]
    place: Vec<String>,
    /// Another back end: its name and the command that starts it, with {socket}, {image} and {queues}
    /// where those belong, and {direct} where it is told to avoid the page cache ("on") or not
    /// ("off"). Without {direct}, it does not meet the others on `direct`.
    #[arg(long, value_name = "NAME=COMMAND", value_parser = entrants::peer)]
    peer: Vec<BackEnd>,
    /// Which processors load and back end run on: any (as the scheduler likes), shared (the same
    /// one), apart (the load on one, the back end on the others).
    #[arg(long, value_name = "WHERE", default_value = "any", hide_possible_values = true)]
    pub processors: Processors,
    /// Data in pieces of so many bytes, each with a descriptor and apart from the others in memory, as
    /// Linux sends 64 and 128 KiB from a page cache whose memory is fragmented (4096). One piece if not
    /// given.
    #[arg(long, value_name = "BYTES", value_parser = pieces)]
    pub pieces: Option<u32>,
    /// What rules cost that hit nothing, and nothing else.
    #[arg(long)]
    rules: bool,
    /// How exact a delay of 1 ms is, and nothing else: at 2000 requests a second, where nothing waits
    /// for another; the same while 10 queues of 1024 requests each wait for a longer delay; and with as many
    /// requests of 1 ms in flight, where all wait for the processor.
    #[arg(long, conflicts_with = "rules")]
    delays: bool,
    /// A folder on the disk that is measured.
    #[arg(long, default_value = "target/bench")]
    pub disk: PathBuf,
    /// Where table, JSON and plots go, each with what is not the default in its name:
    /// figures-apart.json.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    /// What cargo says.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A contest of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    Rules,
    Delays,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().map_err(|error| format!("{error}"))?;
    match seconds {
        0.001..=3600.0 => Ok(seconds),
        _ => Err("expected 0.001 to 3600".into()),
    }
}

fn pieces(text: &str) -> Result<u32, String> {
    let bytes: u32 = text.parse().map_err(|error| format!("{error}"))?;
    match bytes {
        PIECE_BYTES_MIN.. if bytes.is_multiple_of(512) => Ok(bytes),
        _ => Err(format!("expected a multiple of 512, {PIECE_BYTES_MIN} or more")),
    }
}

fn wants(parts: &[String], name: &str) -> bool {
    parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()))
}

/// The same, where a whole name means itself, whatever begins with it.
fn wants_of(names: &[&str], parts: &[String], name: &str) -> bool {
    let is_meant = |part: &String| {
        part == name || (!names.contains(&part.as_str()) && name.contains(part.as_str()))
    };
    parts.is_empty() || parts.iter().any(is_meant)
}

impl Options {
    /// Refuse words that choose nothing.
    ///
    /// # Errors
    /// There is such a word; what would have chosen something.
    pub fn check(&self) -> Result<(), String> {
        let mut back_ends: Vec<String> = Vec::new();
        for name in self.places().into_iter().flat_map(|place| self.all(place)).map(|one| one.name)
        {
            if !back_ends.contains(&name) {
                back_ends.push(name);
            }
        }
        if self.only().is_none() {
            back_ends.push(STRAIGHT.into());
        }
        let workloads: Vec<_> = WORKLOADS.iter().map(|one| one.name.to_owned()).collect();
        let places = Place::ALL.map(|one| one.name().to_owned()).to_vec();
        chooses("--place", &self.place, &places)?;
        chooses("--workload", &self.workload, &workloads)?;
        chooses("--back-end", &self.back_end, &back_ends)
    }

    /// The one contest that is wanted, if it is one of those that no other compares with.
    pub fn only(&self) -> Option<Only> {
        let rules = self.rules.then_some(Only::Rules);
        rules.or(self.delays.then_some(Only::Delays))
    }

    fn all(&self, place: Place) -> Vec<BackEnd> {
        match self.only() {
            Some(Only::Rules) => entrants::with_all_rules(),
            Some(Only::Delays) => entrants::with_delays(DELAY),
            None => entrants::all(place, &self.peer),
        }
    }

    /// The back ends that meet.
    pub fn entrants(&self, place: Place) -> Vec<BackEnd> {
        let all = self.all(place);
        let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        let is_meant = |one: &&BackEnd| wants_of(&names, &self.back_end, &one.name);
        all.iter().filter(is_meant).cloned().collect()
    }

    /// The peers that cannot be there, for their commands do not tell how to avoid the page cache.
    pub fn kept_away(&self, place: Place) -> impl Iterator<Item = &str> {
        let is_kept = move |peer: &&BackEnd| {
            place == Place::Direct && self.only().is_none() && !entrants::knows_direct(peer)
        };
        self.peer.iter().filter(is_kept).map(|peer| peer.name.as_str())
    }

    /// Whether the kernel's ring itself is among those that meet.
    pub fn wants_straight(&self) -> bool {
        self.only().is_none() && wants(&self.back_end, STRAIGHT)
    }

    pub fn workloads(&self) -> Vec<Workload> {
        let is_meant = |workload: &&Workload| match self.only() {
            Some(Only::Rules) => workload.name == RULES_WORKLOAD,
            Some(Only::Delays) => workload.name == DELAYS_WORKLOAD,
            None => wants_of(&WORKLOADS.map(|one| one.name), &self.workload, workload.name),
        };
        let many = [BESIDE_MANY, MANY_IN_FLIGHT];
        let many = many.into_iter().filter(|_| self.only() == Some(Only::Delays));
        let all = WORKLOADS.iter().filter(is_meant).copied().chain(many);
        all.map(|workload| workload.in_pieces(self.pieces)).collect()
    }

    /// Where somebody meets, or could if the back ends that are wanted were there.
    pub fn places(&self) -> Vec<Place> {
        let is_meant = |place: &Place| match self.only() {
            Some(_) => *place == Place::Tmpfs,
            None => wants(&self.place, place.name()),
        };
        Place::ALL.into_iter().filter(is_meant).collect()
    }

    /// A file's name that tells what sort of run it is of: `name-rules-apart.extension`.
    pub fn file(&self, name: &str, extension: &str) -> PathBuf {
        let only = match self.only() {
            Some(Only::Rules) => "-rules",
            Some(Only::Delays) => "-delays",
            None => "",
        };
        let processors = match self.processors {
            Processors::Any => String::new(),
            other => format!("-{}", other.name()),
        };
        self.output.join(format!("{name}{only}{processors}.{extension}"))
    }

    /// Warm-up and measured part.
    pub fn times(&self) -> [Duration; 2] {
        [self.seconds / 5.0, self.seconds].map(Duration::from_secs_f64)
    }
}

/// Whether each part is in one of these names.
fn chooses(option: &str, parts: &[String], names: &[String]) -> Result<(), String> {
    let is_idle = |part: &&String| !names.iter().any(|name| name.contains(part.as_str()));
    match parts.iter().find(is_idle) {
        Some(part) => Err(format!("{option} {part} chooses nothing of: {}", names.join("; "))),
        None => Ok(()),
    }
}
