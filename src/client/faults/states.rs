//! The verbs about a disk as a whole: its state, its engine's state, its policy for errors.
//!
//! Knows: the commands (`qapi/fault.json`). Must not know: options (`args`). Invariant: a verb that is
//! given nothing to set tells what is set; with `--json`, all that `query-block-fault` tells.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::args::{Policy, StateArgs};
use super::{file, json};
use crate::client::cli::Common;
use crate::client::failure::Failure;
use crate::client::output::{self, Table};
use crate::client::verbs::{connect, done};
use crate::client::{Client, ClientError, Deadline};

pub(in crate::client) fn state(
    common: &Common,
    args: &StateArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let id = &args.disk;
    let Some(state) = &args.state else {
        if common.json {
            return tell(common, id, "state", out);
        }
        let state = state_of(&mut connect(common)?, id, common.deadline())?;
        return Ok(writeln!(out, "{state}")?);
    };
    if state != "slow" && json::says_how_slow(&args.slow) {
        return Err(Failure::CannotSay(format!(
            "--delay, --share, --bytes-per-second, --requests-per-second, --speed, --shape and \
             --sectors go with the state slow, not with {state}"
        )));
    }
    let example = r#"[{"iotype": ["flush"], "delay": 2000000000}]"#;
    let profiles = args.slow.profiles.as_deref().map(|path| file::list(path, "profiles", example));
    let arguments = json::state(args, state, profiles.transpose()?);
    let set = connect(common)?.call_oob("set-block-fault-state", arguments, common.deadline())?;
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

pub(in crate::client) fn engine_state(
    common: &Common,
    disk: &str,
    state: Option<i64>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Some(state) = state else {
        return tell(common, disk, "engine-state", out);
    };
    let arguments = json!({ "id": disk, "state": state });
    let set = connect(common)?.call("block-fault-engine-state-set", arguments, common.deadline());
    done(common, &set?, out)
}

pub(in crate::client) fn on_error(
    common: &Common,
    disk: &str,
    policy: Option<Policy>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Some(policy) = policy else {
        return tell(common, disk, "on-error", out);
    };
    let arguments = json!({ "id": disk, "policy": policy.name() });
    let set = connect(common)?.call("block-fault-on-error-set", arguments, common.deadline())?;
    done(common, &set, out)
}

/// One member of what is known about a disk's faults; all of it for programs.
fn tell(common: &Common, disk: &str, member: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let info = info(common, disk)?;
    if common.json {
        return Ok(output::json_line(out, &info)?);
    }
    Ok(writeln!(out, "{}", output::word(&info[member]))?)
}

fn info(common: &Common, disk: &str) -> Result<Value, Failure> {
    let arguments = json!({ "id": disk });
    Ok(connect(common)?.call("query-block-fault", arguments, common.deadline())?)
}

/// All that is known about a disk's faults but its rules.
pub(in crate::client) fn show(
    common: &Common,
    disk: &str,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let info = info(common, disk)?;
    if common.json {
        return Ok(output::json_line(out, &info)?);
    }
    let mut table = Table::new(["WHAT", "IS"]);
    for (name, value) in info.as_object().unwrap_or(&Map::new()) {
        match (name.as_str(), value) {
            ("since", since) => table.row([name.clone(), output::timestamp(since)]),
            ("counts", Value::Object(counts)) => {
                for (count, value) in counts {
                    table.row([format!("requests {count}"), output::word(value)]);
                }
            }
            (_, value) => table.row([name.clone(), output::word(value)]),
        }
    }
    Ok(table.write(out)?)
}
