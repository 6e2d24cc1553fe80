//! What the verbs about nodes and disks say to the daemon, and what they print.
//!
//! Knows: the commands (`qapi/block.json`, `qapi/export.json`). Must not know: options (`args`).
//! Invariant: with `--json` every line of the output is one JSON value.

use std::io::Write;

use serde_json::{Value, json};

use super::args::{BlkdebugArgs, ExportArgs, ExportVerb, NodeArgs, NodeVerb, ReopenArgs};
use super::reopen;
use crate::client::cli::Common;
use crate::client::failure::Failure;
use crate::client::output::{self, Table};
use crate::client::verbs::{connect, done};
use crate::client::{Client, ClientError};
use crate::size::Size;

pub(in crate::client) fn node(
    common: &Common,
    verb: &NodeVerb,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (command, arguments) = match verb {
        NodeVerb::List => return list(common, out),
        NodeVerb::Add(args) => ("blockdev-add", node_options(args)),
        NodeVerb::Rm { node } => ("blockdev-del", json!({ "node-name": node })),
    };
    done(common, &connect(common)?.call(command, arguments, common.deadline())?, out)
}

fn list(common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let arguments = json!({ "flat": true });
    let nodes = connect(common)?.call("query-named-block-nodes", arguments, common.deadline())?;
    if common.json {
        return Ok(output::json_line(out, &nodes)?);
    }
    let mut table = Table::new(["NODE", "DRIVER", "SIZE", "MODE", "CACHE", "IMAGE"]);
    for node in nodes.as_array().into_iter().flatten() {
        let size = node["image"]["virtual-size"].as_u64();
        let flags =
            [("direct", &node["cache"]["direct"]), ("no-flush", &node["cache"]["no-flush"])];
        let flags: Vec<_> =
            flags.iter().filter(|(_, on)| **on == true).map(|(name, _)| *name).collect();
        table.row([
            output::word(&node["node-name"]),
            output::word(&node["drv"]),
            size.map_or_else(|| "-".to_owned(), |bytes| Size(bytes).to_string()),
            if node["ro"] == true { "ro" } else { "rw" }.to_owned(),
            if flags.is_empty() { "-".to_owned() } else { flags.join(",") },
            output::word(&node["file"]),
        ]);
    }
    Ok(table.write(out)?)
}

fn node_options(args: &NodeArgs) -> Value {
    let mut options = match (&args.file, &args.host_device, args.memory, args.null, &args.over) {
        (Some(path), ..) => json!({ "driver": "file", "filename": path }),
        (_, Some(path), ..) => json!({ "driver": "host_device", "filename": path }),
        (_, _, Some(size), ..) => json!({ "driver": "memory", "size": size.0 }),
        (_, _, _, Some(size), _) => json!({ "driver": "null-co", "size": size.0 }),
        (.., Some(over)) => json!({ "driver": "raw", "file": over }),
        _ => blkdebug_options(&args.blkdebug),
    };
    options["node-name"] = json!(args.node);
    reopen::put_image(&mut options, &args.image);
    reopen::put_access(&mut options, &args.image);
    options
}

fn blkdebug_options(args: &BlkdebugArgs) -> Value {
    let mut options = json!({ "driver": "blkdebug", "image": args.blkdebug });
    if let Some(config) = &args.config {
        options["config"] = json!(config);
    }
    let limits = [
        ("align", args.align),
        ("max-transfer", args.max_transfer),
        ("opt-write-zero", args.opt_write_zero),
        ("max-write-zero", args.max_write_zero),
        ("opt-discard", args.opt_discard),
        ("max-discard", args.max_discard),
    ];
    for (member, limit) in limits {
        if let Some(Size(bytes)) = limit {
            options[member] = json!(bytes);
        }
    }
    options
}

/// Open the image of a disk, or a node, again.
pub(in crate::client) fn reopen(
    common: &Common,
    args: &ReopenArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut client = connect(common)?;
    let node = find_node(common, &mut client, &args.name)?;
    let node = node.ok_or_else(|| Failure::NoDisk(args.name.clone()))?;
    let options = reopen::options(&node, args).map_err(Failure::CannotSay)?;
    let arguments = json!({ "options": [options] });
    done(common, &client.call("blockdev-reopen", arguments, common.deadline())?, out)
}

/// What is told of the node that a disk shows; or of the node of this name.
fn find_node(
    common: &Common,
    client: &mut Client,
    name: &str,
) -> Result<Option<Value>, ClientError> {
    let disks = client.call("query-block", json!({}), common.deadline())?;
    let disk = disks.as_array().into_iter().flatten().find(|disk| disk["device"] == name);
    let node_name = disk.map_or_else(|| json!(name), |disk| disk["inserted"]["node-name"].clone());
    let nodes = client.call("query-named-block-nodes", json!({}), common.deadline())?;
    Ok(nodes.as_array().into_iter().flatten().find(|node| node["node-name"] == node_name).cloned())
}

pub(in crate::client) fn export(
    common: &Common,
    verb: &ExportVerb,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (mut client, deadline) = (connect(common)?, common.deadline());
    let returned = match verb {
        ExportVerb::Add(args) => client.call("block-export-add", export_options(args), deadline)?,
        ExportVerb::Rm { disk, hard } => {
            let mode = if *hard { "hard" } else { "safe" };
            let arguments = json!({ "id": disk, "mode": mode });
            let returned = client.call("block-export-del", arguments, deadline)?;
            while !is_end_of(disk, &Value::Object(client.event(deadline)?)) {}
            returned
        }
    };
    done(common, &returned, out)
}

fn is_end_of(disk: &str, event: &Value) -> bool {
    event["event"] == "BLOCK_EXPORT_DELETED" && event["data"]["id"] == disk
}

fn export_options(args: &ExportArgs) -> Value {
    let addr = match (&args.socket_path, args.fd) {
        (None, Some(fd)) => json!({ "type": "fd", "str": fd.to_string() }),
        (path, _) => json!({ "type": "unix", "path": path }),
    };
    let mut options = json!({
        "type": "vhost-user-blk", "id": args.disk, "node-name": args.node, "addr": addr,
        "writable": args.writable, "writethrough": args.writethrough,
    });
    let given = [
        ("num-queues", args.num_queues.map(Value::from)),
        ("logical-block-size", args.block_size.map(|size| json!(size.0))),
        ("serial", args.serial.as_deref().map(Value::from)),
        ("seed", args.seed.map(Value::from)),
        ("on-error", args.on_error.map(|policy| json!(policy.name()))),
        ("held-on-stop", args.held_on_stop.as_deref().map(Value::from)),
        ("poll", args.poll.map(Value::from)),
    ];
    for (member, value) in given {
        if let Some(value) = value {
            options[member] = value;
        }
    }
    options
}
