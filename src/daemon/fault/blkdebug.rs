//! blkdebug's rules as operators write them.
//!
//! Knows: QEMU's words for rules and size options, config files, and the engine's types for both.
//! Must not know: which disk gets them. Invariant: every `inject-error` rule comes before every
//! `set-state` rule, those of a file before those of a command, as QEMU loads them.

use std::{fs, io};

use super::words::within;
use crate::fault::blkdebug::limits::LimitOptions;
use crate::fault::blkdebug::rule::{delay_of, errno_of, sector_of, state_of};
use crate::fault::blkdebug::{Event, InjectError, IoTypeWord, Limits, Rules, SetState, parse};
use crate::fault::engine::BlkdebugSetup;
use crate::guard::{self, Want};
use crate::qapi::QmpError;
use crate::qapi::types::{
    BlkdebugEvent, BlkdebugIOType, BlkdebugInjectErrorOptions, BlkdebugSetStateOptions,
    BlockdevOptionsBlkdebug,
};

/// A config file is small; whoever names another file by mistake gets an answer at once.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// The rules of a file, if any, and those of a command.
pub(super) fn parse_rules(
    config: Option<&str>,
    inject_error: Option<&[BlkdebugInjectErrorOptions]>,
    set_state: Option<&[BlkdebugSetStateOptions]>,
) -> Result<Rules, QmpError> {
    let mut rules = config.map_or(Ok(Rules::default()), read_config)?;
    for (index, options) in inject_error.unwrap_or_default().iter().enumerate() {
        let rule = within("inject-error", index, parse_inject_error(options))?;
        rules.inject_error.push(rule);
    }
    for (index, options) in set_state.unwrap_or_default().iter().enumerate() {
        rules.set_state.push(within("set-state", index, parse_set_state(options))?);
    }
    Ok(rules)
}

/// What the author of rules ought to know, in the log.
pub(in crate::daemon) fn warn(of: &str, rules: &Rules) {
    for warning in rules.warnings() {
        log::warn!("{of}: {warning}");
    }
}

fn read_config(path: &str) -> Result<Rules, QmpError> {
    let failed = |why: String| {
        QmpError::generic(format!("Could not read blkdebug config file '{path}': {why}"))
    };
    let refused = |error: io::Error| {
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
        let why = is_denied.then(|| guard::explanation(path.as_ref(), Want::Read));
        failed(format!("{error}{}", why.unwrap_or_default()))
    };
    let metadata = fs::metadata(path).map_err(refused)?;
    if !metadata.is_file() || metadata.len() > CONFIG_BYTES_MAX {
        return Err(failed(format!("expected a file of at most {CONFIG_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(refused)?;
    parse(&text).map_err(|error| QmpError::generic(format!("{path}: {error}")))
}

fn parse_inject_error(options: &BlkdebugInjectErrorOptions) -> Result<InjectError, QmpError> {
    let mut rule = InjectError::on(parse_event(options.event)?);
    rule.state = state_of("state", options.state.unwrap_or(0)).map_err(QmpError::generic)?;
    rule.iotype = options.iotype.map(parse_iotype).transpose()?;
    if let Some(errno) = options.errno {
        rule.errno = errno_of(errno).map_err(QmpError::generic)?;
    }
    rule.delay_ns = delay_of(options.delay_ns.unwrap_or(0)).map_err(QmpError::generic)?;
    rule.sector = sector_of(options.sector.unwrap_or(-1)).map_err(QmpError::generic)?;
    rule.once = options.once == Some(true);
    rule.immediately = options.immediately == Some(true);
    Ok(rule)
}

fn parse_set_state(options: &BlkdebugSetStateOptions) -> Result<SetState, QmpError> {
    Ok(SetState {
        event: parse_event(options.event)?,
        state: state_of("state", options.state.unwrap_or(0)).map_err(QmpError::generic)?,
        new_state: state_of("new_state", options.new_state).map_err(QmpError::generic)?,
    })
}

fn parse_event(event: BlkdebugEvent) -> Result<Event, QmpError> {
    event.as_str().parse().map_err(QmpError::generic)
}

fn parse_iotype(iotype: BlkdebugIOType) -> Result<IoTypeWord, QmpError> {
    iotype.as_str().parse().map_err(QmpError::generic)
}

pub(super) fn render_event(event: Event) -> BlkdebugEvent {
    let same = |known: &&BlkdebugEvent| known.as_str() == event.name();
    BlkdebugEvent::ALL.iter().find(same).copied().unwrap_or(BlkdebugEvent::None)
}

fn render_iotype(iotype: IoTypeWord) -> Option<BlkdebugIOType> {
    BlkdebugIOType::ALL.iter().find(|known| known.as_str() == iotype.name()).copied()
}

/// A rule without what is the default.
pub(super) fn render_inject_error(rule: &InjectError) -> BlkdebugInjectErrorOptions {
    BlkdebugInjectErrorOptions {
        event: render_event(rule.event),
        state: (rule.state != 0).then(|| rule.state.into()),
        iotype: rule.iotype.and_then(render_iotype),
        errno: Some(rule.errno.map_or(0, |errno| errno.number().into())),
        delay_ns: (rule.delay_ns != 0).then(|| i64::try_from(rule.delay_ns).unwrap_or(i64::MAX)),
        sector: rule.sector.map(|sector| i64::try_from(sector).unwrap_or(i64::MAX)),
        once: rule.once.then_some(true),
        immediately: rule.immediately.then_some(true),
    }
}

/// A rule without what is the default.
pub(super) fn render_set_state(rule: &SetState) -> BlkdebugSetStateOptions {
    BlkdebugSetStateOptions {
        event: render_event(rule.event),
        state: (rule.state != 0).then(|| rule.state.into()),
        new_state: rule.new_state.into(),
    }
}

/// What a `blkdebug` node does to the disks over it. `image_align_bytes` is the alignment of the
/// image below.
pub(in crate::daemon) fn parse_node(
    options: &BlockdevOptionsBlkdebug,
    image_align_bytes: u64,
) -> Result<BlkdebugSetup, QmpError> {
    let rules = parse_rules(
        options.config.as_deref(),
        options.inject_error.as_deref(),
        options.set_state.as_deref(),
    )?;
    let limits = LimitOptions {
        align: bytes("align", options.align)?,
        max_transfer: bytes("max-transfer", options.max_transfer)?,
        opt_write_zero: bytes("opt-write-zero", options.opt_write_zero)?,
        max_write_zero: bytes("max-write-zero", options.max_write_zero)?,
        opt_discard: bytes("opt-discard", options.opt_discard)?,
        max_discard: bytes("max-discard", options.max_discard)?,
    };
    let limits = Limits::new(&limits, image_align_bytes).map_err(QmpError::generic)?;
    Ok(BlkdebugSetup { rules, limits, flush_always: false, written_before: false })
}

/// QEMU reads a size with a sign and refuses it later with this text.
fn bytes(option: &str, given: Option<i64>) -> Result<u64, QmpError> {
    let given = given.unwrap_or(0);
    u64::try_from(given)
        .map_err(|_| QmpError::generic(format!("Cannot meet constraints with {option} {given}")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::qapi::{Path, Visit};

    fn node(mut value: Value) -> Result<BlkdebugSetup, QmpError> {
        value["image"] = json!("n");
        parse_node(&BlockdevOptionsBlkdebug::parse(value, &Path::ROOT)?, 1)
    }

    #[test]
    fn every_event_and_iotype_has_one_name_both_ways() {
        assert_eq!(BlkdebugEvent::ALL.len(), Event::ALL.len());
        for event in BlkdebugEvent::ALL {
            assert_eq!(render_event(parse_event(*event).unwrap()), *event);
        }
        for iotype in BlkdebugIOType::ALL {
            assert_eq!(render_iotype(parse_iotype(*iotype).unwrap()), Some(*iotype));
        }
    }

    #[test]
    fn rules_survive_the_way_out_and_back() {
        let inject = json!({
            "event": "pwritev", "state": 2, "iotype": "write", "errno": 28, "delay-ns": 5,
            "sector": 2048, "once": true, "immediately": true,
        });
        let set = json!({"event": "none", "state": 1, "new_state": 2});
        let setup = node(json!({"inject-error": [inject], "set-state": [set]})).unwrap();
        let rules = setup.rules;
        assert_eq!(render_inject_error(&rules.inject_error[0]).to_value(), inject);
        assert_eq!(render_set_state(&rules.set_state[0]).to_value(), set);
        let plain = node(json!({"inject-error": [{"event": "read_aio"}]})).unwrap();
        let told = json!({"event": "read_aio", "errno": 5});
        assert_eq!(render_inject_error(&plain.rules.inject_error[0]).to_value(), told);
    }

    #[test]
    fn a_file_s_rules_come_first() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "[inject-error]\nevent = \"read_aio\"\n").unwrap();
        let given = json!({
            "config": file.path().to_str().unwrap(), "inject-error": [{"event": "write_aio"}],
        });
        let events: Vec<Event> =
            node(given).unwrap().rules.inject_error.iter().map(|rule| rule.event).collect();
        assert_eq!(events, [Event::ReadAio, Event::WriteAio]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_member() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "[foo]\n").unwrap();
        let path = file.path().to_str().unwrap();
        let rule = |member: &str, value: Value| {
            let mut rule = json!({"event": "read_aio"});
            rule[member] = value;
            json!({"inject-error": [rule]})
        };
        let cases = [
            (rule("errno", json!(-5)), "inject-error[0]: Parameter 'errno' expects"),
            (rule("errno", json!(4096)), "inject-error[0]: Parameter 'errno' expects"),
            (rule("sector", json!(-2)), "inject-error[0]: Parameter 'sector' expects"),
            (rule("delay-ns", json!(-1)), "inject-error[0]: Parameter 'delay-ns' expects"),
            (rule("state", json!(1_u64 << 40)), "inject-error[0]: Parameter 'state' expects"),
            (rule("event", json!("l1_grow.alloc_table")), "does not accept value"),
            (json!({"set-state": [{"event": "none"}]}), "new_state' is missing"),
            (json!({"align": 3}), "Cannot meet constraints with align 3"),
            (json!({"align": -1}), "Cannot meet constraints with align -1"),
            (json!({"max-transfer": 1_u64 << 31}), "with max-transfer 2147483648"),
            (json!({"config": "/no/such/file"}), "Could not read blkdebug config file '/no/such"),
            (json!({"config": "/"}), "Could not read blkdebug config file '/': expected a file"),
            (json!({"config": path}), "There is no option group 'foo'"),
        ];
        for (given, expected) in cases {
            let error = node(given.clone()).map(drop).expect_err(expected).to_string();
            assert!(error.contains(expected), "{given}: {error}");
        }
    }
}
