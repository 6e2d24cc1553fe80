//! What somebody may have meant who named a disk or a rule that does not exist.
//!
//! Knows: the daemon's texts for both, and how to ask for the names. Must not know: verbs beyond
//! the disk that they name. Invariant: a failure here changes nothing but the hint.

use serde_json::{Value, json};

use super::cli::{Common, Verb};
use super::faults::args::RuleVerb;
use super::verbs::connect;
use crate::nearest::nearest;

/// The name most like the one that the daemon did not find.
pub(super) fn meant(common: &Common, verb: &Verb, class: &str, desc: &str) -> Option<String> {
    // The name is in quotes; what comes before tells what was not found.
    let (_, quoted) = desc.split_once("Fault rule '").or_else(|| desc.split_once('\''))?;
    let (written, what) = quoted.split_once('\'')?;
    if class == "DeviceNotFound" {
        let blocks = ask(common, "query-block", json!({}))?;
        return find(written, &blocks, "device");
    }
    if !desc.contains("Fault rule '") || what.trim() != "not found" {
        return None;
    }
    let rules = ask(common, "query-block-fault-rules", json!({ "id": disk_of(verb)? }))?;
    find(written, &rules["rules"], "name")
}

fn ask(common: &Common, command: &str, arguments: Value) -> Option<Value> {
    connect(common).ok()?.call(command, arguments, common.deadline()).ok()
}

fn find(written: &str, list: &Value, member: &str) -> Option<String> {
    let names = list.as_array()?.iter().filter_map(|entry| entry[member].as_str());
    nearest(written, names).map(str::to_owned)
}

/// The disk of a verb that names rules.
fn disk_of(verb: &Verb) -> Option<&str> {
    match verb {
        Verb::Rule(RuleVerb::Add(args)) => Some(&args.disk),
        Verb::Rule(
            RuleVerb::Rm(rules)
            | RuleVerb::Enable(rules)
            | RuleVerb::Disable(rules)
            | RuleVerb::Reset(rules),
        ) => Some(&rules.disk),
        _ => None,
    }
}
