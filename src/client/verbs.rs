//! What each verb says to the daemon, and what it prints.
//!
//! Knows: the commands and events that the verbs need (qapi/*.json). Must not know: the command
//! line's syntax, or the wire. Invariant: with `--json` every line of the output is one JSON value.

use std::io::Write;
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::cli::{Cli, Common, Verb, WaitArgs};
use super::failure::Failure;
use super::faults::{held, rules, states};
use super::images::verbs as images;
use super::output::{self, Table};
use super::{Client, ClientError, Deadline, manual, mistyped};
use crate::size::Size;

/// How long to wait between two attempts to connect.
const RETRY: Duration = Duration::from_millis(50);

/// Do what the command line says. Who mistyped the name of a disk or a rule is told the nearest.
pub(super) fn run(cli: &Cli, out: &mut dyn Write) -> Result<(), Failure> {
    run_verb(cli, out).map_err(|failure| mistyped::explain(cli, failure))
}

fn run_verb(cli: &Cli, out: &mut dyn Write) -> Result<(), Failure> {
    let common = &cli.common;
    match &cli.verb {
        Verb::State(state) => states::state(common, state, out),
        Verb::Rule(rule) => rules::rule(common, rule, out),
        Verb::Transaction { disk, file } => rules::transaction(common, disk, file, out),
        Verb::EngineState { disk, state } => states::engine_state(common, disk, *state, out),
        Verb::Show { disk } => states::show(common, disk, out),
        Verb::Break(args) => held::set_break(common, args, out),
        Verb::Held { disk } => held::held(common, disk, out),
        Verb::Resume(args) => held::resume(common, args, out),
        Verb::OnError { disk, policy } => states::on_error(common, disk, *policy, out),
        Verb::List => list(common, out),
        Verb::Stats { disk, nodes } => stats(common, disk.as_deref(), *nodes, out),
        Verb::Node(verb) => images::node(common, verb, out),
        Verb::Export(verb) => images::export(common, verb, out),
        Verb::Reopen(args) => images::reopen(common, args, out),
        Verb::Resize { node, disk, size } => {
            let named = if *node { "node-name" } else { "device" };
            let arguments = json!({ named: disk, "size": size.0 });
            let resized = connect(common)?.call("block_resize", arguments, common.deadline());
            done(common, &resized.map_err(about(disk))?, out)
        }
        Verb::Wait(wait) => wait_for(common, wait, out),
        Verb::Events { events, disk } => {
            let filter = Filter { names: events, disk: disk.as_deref() };
            tell_events(common, &filter, out)
        }
        Verb::Qmp { command } => {
            let reply = connect(common)?.exchange(command, common.deadline())?;
            output::json_line(out, &reply)?;
            if reply.get("error").is_some() { Err(Failure::RefusedAndTold) } else { Ok(()) }
        }
        Verb::Hmp { line } => {
            let arguments = json!({ "command-line": line });
            let said =
                connect(common)?.call("human-monitor-command", arguments, common.deadline())?;
            print_text(common, &said, &said, out)?;
            if did_as_told(&said) { Ok(()) } else { Err(Failure::RefusedAndTold) }
        }
        Verb::DaemonVersion => {
            tell_text(common, "query-version", json!({}), |version| &version["package"], out)
        }
        Verb::Quit => quit(common, out),
        Verb::Completion { shell, program } => {
            let mut command = program.command();
            let name = command.get_name().to_owned();
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command, name, &mut script);
            Ok(out.write_all(&script)?)
        }
        Verb::Man { program } => Ok(manual::write(&program.command(), out)?),
    }
}

pub(super) fn connect(common: &Common) -> Result<Client, Failure> {
    connect_by(common, common.deadline())
}

fn connect_by(common: &Common, deadline: Deadline) -> Result<Client, Failure> {
    Ok(Client::connect(&common.address()?, deadline)?)
}

/// One wording, whichever command it was that did not find the disk.
fn about(disk: &str) -> impl Fn(ClientError) -> Failure {
    move |error| match error {
        ClientError::Refused { class, .. } if class == "DeviceNotFound" => {
            Failure::NoDisk(disk.to_owned())
        }
        other => other.into(),
    }
}

/// People need not be told that nothing is to be told.
pub(super) fn done(common: &Common, returned: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    if common.json {
        output::json_line(out, returned)?;
    }
    Ok(())
}

fn list(common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let (mut client, deadline) = (connect(common)?, common.deadline());
    let blocks = client.call("query-block", json!({}), deadline)?;
    let exports = client.call("query-block-exports", json!({}), deadline)?;
    let mut disks = Vec::new();
    for block in blocks.as_array().into_iter().flatten() {
        let Some(id) = block["device"].as_str() else { continue };
        let mut exports = exports.as_array().into_iter().flatten();
        let export = exports.find(|export| export["id"] == id).unwrap_or(&Value::Null);
        let node = &block["inserted"];
        disks.push(json!({
            "disk": id,
            "state": states::state_of(&mut client, id, deadline)?,
            "size": node["image"]["virtual-size"],
            "read-only": node["ro"],
            "connected": export["connected"],
            "node-name": node["node-name"],
            "driver": node["drv"],
            "image": node["file"],
        }));
    }
    if common.json {
        return Ok(output::json_line(out, &Value::Array(disks))?);
    }
    let mut table = Table::new(["DISK", "STATE", "SIZE", "MODE", "GUEST", "NODE", "IMAGE"]);
    for disk in &disks {
        let mode = if disk["read-only"] == true { "ro" } else { "rw" };
        let guest = if disk["connected"] == true { "connected" } else { "-" };
        table.row([
            output::word(&disk["disk"]),
            output::word(&disk["state"]),
            disk["size"].as_u64().map_or_else(|| "-".to_owned(), |bytes| Size(bytes).to_string()),
            mode.to_owned(),
            guest.to_owned(),
            output::word(&disk["node-name"]),
            output::word(&disk["image"]),
        ]);
    }
    Ok(table.write(out)?)
}

/// A text that the daemon returns, or a part of what it returns, as it is.
fn tell_text(
    common: &Common,
    command: &str,
    arguments: Value,
    text: impl Fn(&Value) -> &Value,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let returned = connect(common)?.call(command, arguments, common.deadline())?;
    print_text(common, text(&returned), &returned, out)
}

/// What the daemon returned: to people, only what it says.
fn print_text(
    common: &Common,
    text: &Value,
    returned: &Value,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match text.as_str() {
        Some("") if !common.json => Ok(()),
        Some(text) if !common.json => Ok(writeln!(out, "{}", text.trim_end())?),
        _ => Ok(output::json_line(out, returned)?),
    }
}

/// Whether a line for QEMU's monitor was carried out. The command itself never fails, as in QEMU; but
/// a daemon that did as it was told says nothing, or what blkdebug says of a request.
fn did_as_told(said: &Value) -> bool {
    said.as_str().is_some_and(|said| said.is_empty() || said.starts_with("blkdebug: "))
}

fn stats(
    common: &Common,
    disk: Option<&str>,
    nodes: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let arguments = json!({ "query-nodes": nodes });
    let member = if nodes { "node-name" } else { "device" };
    let all = connect(common)?.call("query-blockstats", arguments, common.deadline())?;
    let Value::Array(mut disks) = all else {
        return Err(ClientError::NotQmp("query-blockstats returns no list".to_owned()).into());
    };
    if let Some(disk) = disk {
        disks.retain(|stats| stats[member] == disk);
        if disks.is_empty() {
            return Err(Failure::NoDisk(disk.to_owned()));
        }
    }
    if common.json {
        return Ok(output::json_line(out, &Value::Array(disks))?);
    }
    let mut table = Table::new([
        if nodes { "NODE" } else { "DISK" },
        "REQUESTS",
        "DONE",
        "FAILED",
        "REFUSED",
        "BYTES",
        "AVERAGE",
    ]);
    for disk in &disks {
        for (requests, infix) in REQUESTS {
            table.row(stats_row(disk, member, requests, infix));
        }
    }
    Ok(table.write(out)?)
}

/// The kinds of request, and what the members of `BlockDeviceStats` call them.
const REQUESTS: [(&str, &str); 5] = [
    ("read", "rd"),
    ("write", "wr"),
    ("flush", "flush"),
    ("discard", "unmap"),
    ("write-zeroes", "wr_zeroes"),
];

fn stats_row(disk: &Value, member: &str, requests: &str, infix: &str) -> [String; 7] {
    let stats = &disk["stats"];
    let count = |name: String| stats[name].as_u64();
    let done = count(format!("{infix}_operations"));
    let failed = count(format!("failed_{infix}_operations"));
    let timed = match stats["account_failed"] == true {
        true => done.unwrap_or(0) + failed.unwrap_or(0),
        false => done.unwrap_or(0),
    };
    let total_ns = count(format!("{infix}_total_time_ns"));
    let average_ns = total_ns.and_then(|total_ns| total_ns.checked_div(timed));
    let number = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |n| n.to_string());
    [
        output::word(&disk[member]),
        requests.to_owned(),
        number(done),
        number(failed),
        number(count(format!("invalid_{infix}_operations"))),
        number(count(format!("{infix}_bytes"))),
        average_ns.map_or_else(|| "-".to_owned(), output::duration),
    ]
}

fn wait_for(common: &Common, args: &WaitArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let deadline = common.deadline();
    if let (Some(tag), Some(disk)) = (&args.tag, &args.disk) {
        return held::wait_held(common, disk, tag, out);
    }
    if let Some(event) = &args.event {
        let names = std::slice::from_ref(event);
        let filter = Filter { names, disk: args.disk.as_deref() };
        let event = filter.next(&mut listen(common, &filter, deadline)?, deadline)?;
        return tell_event(common, &event, out);
    }
    let mut why_not = None;
    loop {
        match (connect_by(common, deadline), why_not) {
            (Ok(_), _) => return Ok(()),
            (Err(Failure::Client(ClientError::TimedOut)), Some(why)) => {
                return Err(Failure::NotReady(why));
            }
            (Err(Failure::Client(why)), _) if why.may_pass() => why_not = Some(why),
            (Err(other), _) => return Err(other),
        }
        thread::sleep(RETRY.min(deadline.left().ok().flatten().unwrap_or(RETRY)));
    }
}

/// The daemon closes its monitors last, so that another may be started when this returns.
fn quit(common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let (mut client, deadline) = (connect(common)?, common.deadline());
    let returned = client.call("quit", json!({}), deadline)?;
    client.wait_for_end(deadline).map_err(|error| match error {
        ClientError::TimedOut => Failure::NotEnded,
        other => other.into(),
    })?;
    done(common, &returned, out)
}

fn tell_events(common: &Common, filter: &Filter, out: &mut dyn Write) -> Result<(), Failure> {
    let mut client = listen(common, filter, common.deadline())?;
    let deadline = common.timeout.map_or(Deadline::NEVER, Deadline::after);
    loop {
        match filter.next(&mut client, deadline) {
            Ok(event) => tell_event(common, &event, out)?,
            // Listening for a time is what was asked for, and done.
            Err(ClientError::TimedOut) => return Ok(()),
            Err(other) => return Err(other.into()),
        }
    }
}

/// Connect, and see to it that what the filter waits for can happen.
fn listen(common: &Common, filter: &Filter, deadline: Deadline) -> Result<Client, Failure> {
    let mut client = connect_by(common, deadline)?;
    if let Some(disk) = filter.disk {
        states::state_of(&mut client, disk, deadline).map_err(about(disk))?;
    }
    Ok(client)
}

fn tell_event(
    common: &Common,
    event: &Map<String, Value>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if common.json {
        output::json_line(out, &Value::Object(event.clone()))?;
    } else {
        writeln!(out, "{}", output::event(event))?;
    }
    Ok(out.flush()?)
}

/// Which events are of interest.
struct Filter<'a> {
    /// With one of these names; with any, if there is none.
    names: &'a [String],
    /// Of this disk; of any, or of none, if there is none.
    disk: Option<&'a str>,
}

impl Filter<'_> {
    fn next(
        &self,
        client: &mut Client,
        deadline: Deadline,
    ) -> Result<Map<String, Value>, ClientError> {
        loop {
            let event = client.event(deadline)?;
            if self.takes(&event) {
                return Ok(event);
            }
        }
    }

    /// QEMU's events call a disk `device`, those about exports and faults `id`.
    fn takes(&self, event: &Map<String, Value>) -> bool {
        let name = event.get("event").and_then(Value::as_str).unwrap_or_default();
        let data = event.get("data").unwrap_or(&Value::Null);
        let named = self.names.is_empty() || self.names.iter().any(|wanted| wanted == name);
        named && self.disk.is_none_or(|disk| data["device"] == disk || data["id"] == disk)
    }
}
