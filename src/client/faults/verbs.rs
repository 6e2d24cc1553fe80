//! What the verbs about faults say to the daemon, and what they print.
//!
//! Knows: the commands (`qapi/fault*.json`, `qapi/blkdebug.json`). Must not know: options (`args`).
//! Invariant: with `--json` every line of the output is one JSON value.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::args::{BreakArgs, NamedRules, Policy, ResumeArgs, RuleVerb, StateArgs};
use super::json;
use crate::client::cli::{Common, Failure};
use crate::client::output::{self, Table};
use crate::client::verbs::{connect, done};
use crate::client::{Client, ClientError, Deadline};
use crate::fault::blkdebug;

pub(in crate::client) fn set_or_tell_state(
    common: &Common,
    args: &StateArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut client = connect(common)?;
    let id = &args.disk;
    let Some(state) = &args.state else {
        if common.json {
            let info = client.call("query-block-fault", json!({ "id": id }), common.deadline())?;
            return Ok(output::json_line(out, &info)?);
        }
        let state = state_of(&mut client, id, common.deadline())?;
        return Ok(writeln!(out, "{state}")?);
    };
    let arguments = json::state(args, state);
    let set = client.call_oob("set-block-fault-state", arguments, common.deadline())?;
    done(common, &set, out)
}

pub(in crate::client) fn state_of(
    client: &mut Client,
    id: &str,
    deadline: Deadline,
) -> Result<String, ClientError> {
    let state = client.call_oob("query-block-fault-state", json!({ "id": id }), deadline)?;
    Ok(output::word(&state))
}

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
        RuleVerb::List { disk } => list(common, disk, out),
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

fn load(common: &Common, disk: &str, file: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let bad = |why: String| Failure::BadFile(file.display().to_string(), why);
    let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
    let rules: Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    let Value::Array(rules) = rules else {
        return Err(bad("expected a list of rules, such as [{\"effect\": \"error\"}]".to_owned()));
    };
    let action = |rule| json!({ "type": "rule-add", "rule": rule });
    let added = transact(common, disk, rules.into_iter().map(action).collect())?;
    let names = added["names"].as_array().cloned().unwrap_or_default();
    tell_names(common, &added, &names, out)
}

fn load_blkdebug(
    common: &Common,
    disk: &str,
    file: &Path,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let bad = |why: String| Failure::BadFile(file.display().to_string(), why);
    let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
    let rules = blkdebug::parse(&text).map_err(|error| bad(error.to_string()))?;
    for warning in rules.warnings() {
        eprintln!("blkfault: {}: {warning}", file.display());
    }
    let arguments = json::blkdebug(disk, &rules);
    let added = connect(common)?.call("block-fault-blkdebug-add", arguments, common.deadline())?;
    done(common, &added, out)
}

fn list(common: &Common, disk: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let rules = connect(common)?.call(
        "query-block-fault-rules",
        json!({ "id": disk }),
        common.deadline(),
    )?;
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

pub(in crate::client) fn set_break(
    common: &Common,
    args: &BreakArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let BreakArgs { disk, tag, at, target, remove } = args;
    let (command, arguments) = match remove {
        true => ("block-fault-break-remove", json!({ "id": disk, "tag": tag })),
        false => ("block-fault-break", json::breakpoint(disk, tag, at.as_deref(), target)),
    };
    let set = connect(common)?.call(command, arguments, common.deadline())?;
    done(common, &set, out)
}

/// Wait until a request is held at a tag.
pub(in crate::client) fn wait_held(
    common: &Common,
    disk: &str,
    tag: &str,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let deadline = common.deadline();
    let mut client = connect(common)?;
    let left = deadline.left()?.map(|left| left.as_secs_f64());
    let mut arguments = json!({ "id": disk, "tag": tag });
    if let Some(left) = left {
        arguments["timeout"] = json!(left);
    }
    // The daemon gives up in time, and says so.
    let held = client.call("block-fault-wait", arguments, common.a_little_later());
    let held = held.map_err(|error| match error {
        ClientError::Refused { desc, .. } if desc.starts_with("No request was held") => {
            Failure::NobodyCame(desc)
        }
        other => other.into(),
    })?;
    tell_held(common, std::slice::from_ref(&held), &held, out)
}

pub(in crate::client) fn held(
    common: &Common,
    disk: &str,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let arguments = json!({ "id": disk });
    let held = connect(common)?.call_oob("query-block-fault-held", arguments, common.deadline())?;
    tell_held(common, held.as_array().map_or(&[], Vec::as_slice), &held, out)
}

fn tell_held(
    common: &Common,
    requests: &[Value],
    returned: &Value,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if common.json {
        return Ok(output::json_line(out, returned)?);
    }
    let mut table =
        Table::new(["REQUEST", "QUEUE", "TYPE", "SECTOR", "BYTES", "HELD BY", "AT", "FOR"]);
    for held in requests {
        let by = if held["rule"].is_null() { &held["cause"] } else { &held["rule"] };
        let tags: Vec<_> =
            held["tags"].as_array().into_iter().flatten().map(output::word).collect();
        let at = if tags.is_empty() { "-".to_owned() } else { tags.join(",") };
        table.row([
            output::word(&held["ordinal"]),
            output::word(&held["queue"]),
            output::word(&held["iotype"]),
            output::word(&held["sector"]),
            output::word(&held["bytes"]),
            output::word(by),
            at,
            held["for-ns"].as_u64().map_or_else(|| "-".to_owned(), output::duration),
        ]);
    }
    Ok(table.write(out)?)
}

pub(in crate::client) fn resume(
    common: &Common,
    args: &ResumeArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut arguments = json!({ "id": args.disk });
    let given = [("tag", &args.tag), ("rule", &args.rule), ("held-by", &args.held_by)];
    for (name, value) in given {
        if let Some(value) = value {
            arguments[name] = json!(value);
        }
    }
    if !args.ordinals.is_empty() {
        arguments["ordinals"] = json!(args.ordinals);
    }
    if let Some(errno) = args.fail {
        arguments["action"] = json!("fail");
        if let Some(errno) = errno {
            arguments["errno"] = json::errno(errno);
        }
    }
    let resumed = connect(common)?.call_oob("block-fault-resume", arguments, common.deadline())?;
    if common.json {
        return Ok(output::json_line(out, &resumed)?);
    }
    Ok(writeln!(out, "{}", output::word(&resumed["resumed"]))?)
}

pub(in crate::client) fn on_error(
    common: &Common,
    disk: &str,
    policy: Policy,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let policy = match policy {
        Policy::Report => "report",
        Policy::Hold => "hold",
        Policy::HoldOnEnospc => "hold-on-enospc",
    };
    let arguments = json!({ "id": disk, "policy": policy });
    let set = connect(common)?.call("block-fault-on-error-set", arguments, common.deadline())?;
    done(common, &set, out)
}
