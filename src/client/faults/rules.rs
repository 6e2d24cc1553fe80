//! The verbs about rules: added, listed, changed, loaded from files.
//!
//! Knows: the commands (`qapi/fault-change.json`, `qapi/blkdebug.json`). Must not know: options
//! (`args`). Invariant: with `--json` every line of the output is one JSON value.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::args::{NamedRules, RuleVerb};
use super::{file, json, load};
use crate::client::cli::Common;
use crate::client::failure::Failure;
use crate::client::output::{self, Table};
use crate::client::verbs::{connect, done};
use crate::fault::blkdebug;

pub(in crate::client) fn rule(
    common: &Common,
    verb: &RuleVerb,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match verb {
        RuleVerb::Add(args) => {
            let added = connect(common)?.call(
                "block-fault-rule-add",
                json::rule_add(args),
                common.deadline(),
            )?;
            tell_names(common, &added, std::slice::from_ref(&added["name"]), out)
        }
        RuleVerb::List { disk, name } => list(common, disk, name.as_deref(), out),
        RuleVerb::Rm(rules) => {
            change(common, rules, |name| json!({ "type": "rule-remove", "name": name }), out)
        }
        RuleVerb::Enable(rules) => set(common, rules, "enable", out),
        RuleVerb::Disable(rules) => set(common, rules, "disable", out),
        RuleVerb::Reset(rules) => set(common, rules, "reset", out),
        RuleVerb::Load { disk, file, blkdebug: false } => load(common, disk, file, out),
        RuleVerb::Load { disk, file, blkdebug: true } => load_blkdebug(common, disk, file, out),
    }
}

fn set(
    common: &Common,
    rules: &NamedRules,
    action: &str,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let one = |name: &str| json!({ "type": "rule-set", "name": name, "action": action });
    change(common, rules, one, out)
}

/// The same for several rules, all or none.
fn change(
    common: &Common,
    rules: &NamedRules,
    one: impl Fn(&str) -> Value,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let actions: Vec<_> = rules.names.iter().map(|name| one(name)).collect();
    transact(common, &rules.disk, actions)?;
    done(common, &json!({}), out)
}

fn transact(common: &Common, disk: &str, actions: Vec<Value>) -> Result<Value, Failure> {
    let arguments = json!({ "id": disk, "actions": actions });
    Ok(connect(common)?.call("block-fault-transaction", arguments, common.deadline())?)
}

/// The names of new rules, one a line.
fn tell_names(
    common: &Common,
    returned: &Value,
    names: &[Value],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if common.json {
        return Ok(output::json_line(out, returned)?);
    }
    for name in names {
        writeln!(out, "{}", output::word(name))?;
    }
    Ok(())
}

fn load(common: &Common, disk: &str, path: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let names = load::load(common, disk, path)?;
    tell_added(common, &json!({ "names": names }), out)
}

/// Several changes at once, or none.
pub(in crate::client) fn transaction(
    common: &Common,
    disk: &str,
    path: &Path,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let example = r#"[{"type": "rule-remove", "name": "rule1"}]"#;
    let actions = file::list(path, "changes", example)?;
    tell_added(common, &transact(common, disk, actions)?, out)
}

fn tell_added(common: &Common, added: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    tell_names(common, added, added["names"].as_array().map_or(&[], Vec::as_slice), out)
}

fn load_blkdebug(
    common: &Common,
    disk: &str,
    path: &Path,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let rules = blkdebug::parse(&file::text(path)?).map_err(|error| file::bad(path, error))?;
    for warning in rules.warnings() {
        eprintln!("blkfault: {}: {warning}", path.display());
    }
    let arguments = json::blkdebug(disk, &rules);
    let added = connect(common)?.call("block-fault-blkdebug-add", arguments, common.deadline())?;
    done(common, &added, out)
}

fn list(
    common: &Common,
    disk: &str,
    name: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut arguments = json!({ "id": disk });
    if let Some(name) = name {
        arguments["name"] = json!(name);
    }
    let rules = connect(common)?.call("query-block-fault-rules", arguments, common.deadline())?;
    if common.json {
        return Ok(output::json_line(out, &rules)?);
    }
    let mut table = Table::new(["RULE", "ON", "HITS", "LEFT", "LAST HIT", "DOES"]);
    for info in rules["rules"].as_array().into_iter().flatten() {
        table.row(native_row(info));
    }
    for (number, info) in rules["inject-error"].as_array().into_iter().flatten().enumerate() {
        table.row(inject_error_row(number, info));
    }
    for (number, rule) in rules["set-state"].as_array().into_iter().flatten().enumerate() {
        let name = format!("set-state.{number}");
        let dash = || "-".to_owned();
        table.row([name, dash(), dash(), dash(), dash(), members(rule, &[])]);
    }
    for point in rules["breakpoints"].as_array().into_iter().flatten() {
        let dash = || "-".to_owned();
        let does = members(point, &["tag"]);
        table.row([output::word(&point["tag"]), dash(), dash(), dash(), dash(), does]);
    }
    Ok(table.write(out)?)
}

fn native_row(info: &Value) -> [String; 6] {
    let ago = info["last-hit"]["ago-ns"].as_u64();
    let on = if info["enabled"] == true { "yes" } else { "no" };
    let mut does = members(&info["rule"], &["name", "enabled"]);
    if let Some(bad) = info["media"]["bad"].as_u64() {
        does.push_str(&format!(" ({bad} bad, {} healed)", info["media"]["healed"]));
    }
    [
        output::word(&info["name"]),
        on.to_owned(),
        output::word(&info["hits"]),
        output::word(&info["remaining"]),
        ago.map_or_else(|| "-".to_owned(), |ns| format!("{} ago", output::duration(ns))),
        does,
    ]
}

fn inject_error_row(number: usize, info: &Value) -> [String; 6] {
    let left = if info["left"] == true { "yes" } else { "no" };
    let hits = output::word(&info["hits"]);
    let (dash, does) = ("-".to_owned(), members(&info["rule"], &[]));
    [format!("inject-error.{number}"), left.to_owned(), hits, dash.clone(), dash, does]
}

/// An object's members as words, but for some.
fn members(object: &Value, but: &[&str]) -> String {
    let shown = object.as_object().into_iter().flatten();
    let shown = shown.filter(|(name, _)| !but.contains(&name.as_str()));
    let words: Vec<_> =
        shown.map(|(name, value)| format!("{name}={}", output::word(value))).collect();
    words.join(" ")
}
