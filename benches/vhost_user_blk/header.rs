//! What figures are of: the machine, the programs and how they were asked.
//!
//! Knows: where the system tells of itself. Must not know: any figure. Invariant: what cannot be found
//! out is null and blank, never guessed.

use std::process::Command;

use serde_json::{Map, Value, json};

use crate::back_end::BackEnd;
use crate::options::Options;
use crate::report::LEGEND;

/// One run of this program.
#[derive(Debug)]
pub struct Header {
    /// What is told, by name.
    facts: Vec<(&'static str, Value)>,
    /// Place, name and command of each back end.
    commands: Vec<(&'static str, String, String)>,
}

/// The first line of a file that begins so, without the beginning.
fn line_of(file: &str, beginning: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(beginning))?;
    Some(rest.trim_start_matches([' ', '\t', ':']).to_owned())
}

fn qsd_version() -> Option<String> {
    let output = Command::new("qemu-storage-daemon").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned)
}

/// A command with its placeholders, and ours without the folder that cargo built it in.
fn command(back_end: &BackEnd) -> String {
    let words = back_end.words.join(" ");
    words.replace(env!("CARGO_BIN_EXE_blkfaultd"), "blkfaultd")
}

impl Header {
    pub fn new(options: &Options) -> Self {
        let cpus = std::thread::available_parallelism().ok().map(std::num::NonZero::get);
        let facts = vec![
            ("processors", json!(options.processors.name())),
            ("seconds", json!(options.seconds)),
            ("rounds", json!(options.rounds)),
            ("piece-bytes", json!(options.pieces)),
            ("blkfaultd", json!(env!("CARGO_PKG_VERSION"))),
            ("qemu-storage-daemon", json!(qsd_version())),
            ("kernel", json!(line_of("/proc/sys/kernel/osrelease", ""))),
            ("cpu", json!(line_of("/proc/cpuinfo", "model name"))),
            ("cpus", json!(cpus)),
        ];
        let of = |place: crate::back_end::Place| {
            let entrants = options.entrants(place);
            entrants.into_iter().map(move |one| (place.name(), command(&one), one.name))
        };
        let commands = options.places().into_iter().flat_map(of);
        let commands = commands.map(|(place, command, name)| (place, name, command)).collect();
        Self { facts, commands }
    }

    /// For the top of a table.
    pub fn text(&self) -> String {
        let fact = |(name, value): &(&str, Value)| match value {
            Value::Null => format!("- {name}:\n"),
            Value::String(text) => format!("- {name}: {text}\n"),
            other => format!("- {name}: {other}\n"),
        };
        format!("{}\n{LEGEND}\n", self.facts.iter().map(fact).collect::<String>())
    }

    /// For its end.
    pub fn commands_text(&self) -> String {
        let line = |(place, name, command): &(&str, String, String)| {
            format!("- {place}, {name}: `{command}`\n")
        };
        format!("\n### Commands\n\n{}", self.commands.iter().map(line).collect::<String>())
    }

    pub fn to_json(&self) -> Value {
        let fact = |(name, value): &(&str, Value)| ((*name).to_owned(), value.clone());
        let mut object: Map<String, Value> = self.facts.iter().map(fact).collect();
        let one = |(place, name, command): &(&str, String, String)| json!({ "place": place, "back-end": name, "command": command });
        object.insert("commands".into(), self.commands.iter().map(one).collect());
        Value::Object(object)
    }
}
