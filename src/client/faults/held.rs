//! The verbs about requests that are held: stopped, listed, waited for, resumed.
//!
//! Knows: the commands (`qapi/fault-break.json`). Must not know: options (`args`). Invariant: with
//! `--json` every line of the output is one JSON value.

use std::io::Write;

use serde_json::{Value, json};

use super::args::{BreakArgs, ResumeArgs};
use super::json;
use crate::client::ClientError;
use crate::client::cli::Common;
use crate::client::failure::Failure;
use crate::client::output::{self, Table};
use crate::client::verbs::{connect, done};

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
    writeln!(out, "{}", output::word(&resumed["resumed"]))?;
    if resumed["reached"] == 0 {
        // No error: who may wait there need not have come. A mistyped tag looks the same.
        eprintln!("blkfault: nothing was waiting there");
    }
    Ok(())
}
