//! What somebody may have meant who named a disk or a rule that does not exist.
//!
//! Knows: the daemon's texts for both, and how to ask for the names. Must not know: verbs beyond
//! the disk that they name. Invariant: a failure here changes nothing but the hint.

use serde_json::{Value, json};

use super::ClientError;
use super::cli::{Cli, Common, Verb};
use super::failure::Failure;
use super::faults::args::RuleVerb;
use super::images::args::ExportVerb;
use super::verbs::connect;
use crate::nearest::nearest;

/// The failure in this command's words, with the name that may have been meant. A missing disk is
/// told in one wording, whichever command it was that did not find it.
pub(super) fn explain(cli: &Cli, failure: Failure) -> Failure {
    let missing = match (&failure, disk_of(&cli.verb)) {
        (Failure::NoDisk(disk), _) => Some(disk.clone()),
        (Failure::Client(ClientError::Refused { class, .. }), Some(disk)) => {
            (class == "DeviceNotFound").then(|| disk.to_owned())
        }
        _ => None,
    };
    if let Some(disk) = missing {
        return match meant_disk(&cli.common, &disk) {
            Some(meant) => Failure::Mistyped(Failure::NoDisk(disk).to_string(), meant),
            None => Failure::NoDisk(disk),
        };
    }
    match &failure {
        Failure::Client(ClientError::Refused { desc, .. }) => {
            let meant = disk_of(&cli.verb).and_then(|disk| meant_rule(&cli.common, disk, desc));
            match meant {
                Some(meant) => Failure::Mistyped(desc.clone(), meant),
                None => failure,
            }
        }
        _ => failure,
    }
}

fn meant_disk(common: &Common, written: &str) -> Option<String> {
    find(written, &ask(common, "query-block", json!({}))?, "device")
}

/// The rule most like the one that the daemon did not find.
fn meant_rule(common: &Common, disk: &str, desc: &str) -> Option<String> {
    let (_, quoted) = desc.split_once("Fault rule '")?;
    let (written, what) = quoted.split_once('\'')?;
    if what.trim() != "not found" {
        return None;
    }
    let rules = ask(common, "query-block-fault-rules", json!({ "id": disk }))?;
    find(written, &rules["rules"], "name")
}

fn ask(common: &Common, command: &str, arguments: Value) -> Option<Value> {
    connect(common).ok()?.call(command, arguments, common.deadline()).ok()
}

fn find(written: &str, list: &Value, member: &str) -> Option<String> {
    let names = list.as_array()?.iter().filter_map(|entry| entry[member].as_str());
    nearest(written, names).map(str::to_owned)
}

/// The disk that a verb names.
fn disk_of(verb: &Verb) -> Option<&str> {
    match verb {
        Verb::State(args) => Some(&args.disk),
        Verb::Rule(rule) => Some(match rule {
            RuleVerb::Add(args) => &args.disk,
            RuleVerb::List { disk, .. } | RuleVerb::Load { disk, .. } => disk,
            RuleVerb::Rm(rules)
            | RuleVerb::Enable(rules)
            | RuleVerb::Disable(rules)
            | RuleVerb::Reset(rules) => &rules.disk,
        }),
        Verb::Break(args) => Some(&args.disk),
        Verb::Resume(args) => Some(&args.disk),
        Verb::Held { disk }
        | Verb::Show { disk }
        | Verb::EngineState { disk, .. }
        | Verb::Transaction { disk, .. }
        | Verb::OnError { disk, .. }
        | Verb::Resize { disk, .. } => Some(disk),
        Verb::Reopen(args) => Some(&args.name),
        Verb::Export(ExportVerb::Rm { disk, .. }) => Some(disk),
        Verb::Stats { disk, .. } | Verb::Events { disk, .. } => disk.as_deref(),
        Verb::Wait(args) => args.disk.as_deref(),
        Verb::Node(_)
        | Verb::Export(ExportVerb::Add(_))
        | Verb::Hmp { .. }
        | Verb::DaemonVersion
        | Verb::List
        | Verb::Qmp { .. }
        | Verb::Quit
        | Verb::Completion { .. }
        | Verb::Man { .. } => None,
    }
}
