//! Requests that are held, and how an operator says which of them are meant.
//!
//! Knows: the schema's and the fault point's words for both. Must not know: how a request is
//! released. Invariant: a selection names exactly one kind of thing.

use std::time::Duration;

use super::rule::{parse_name, render_point};
use super::words::{bad, errno_or, render_iotype};
use crate::block::{HeldCause, HeldReport, Resume, Which};
use crate::errno::Errno;
use crate::fault::engine::Cause;
use crate::qapi::QmpError;
use crate::qapi::types::{
    BlockFaultCause, BlockFaultHeld, BlockFaultHolder, BlockFaultRelease, BlockFaultResumeArguments,
};

/// A held request.
pub(super) fn render(held: &HeldReport) -> BlockFaultHeld {
    let (cause, rule) = match &held.cause {
        HeldCause::Fault(cause) => render_cause(cause),
        HeldCause::ImageError(_) => (BlockFaultCause::OnError, None),
    };
    let held_for = held.since.elapsed().unwrap_or(Duration::ZERO);
    BlockFaultHeld {
        ordinal: held.ordinal,
        queue: held.queue,
        iotype: render_iotype(held.iotype),
        sector: held.sector,
        bytes: held.sector.map(|_| held.bytes),
        tags: held.tags.iter().map(ToString::to_string).collect(),
        point: held.point.map(render_point),
        cause,
        rule,
        for_ns: u64::try_from(held_for.as_nanos()).unwrap_or(u64::MAX),
    }
}

/// Who decided, and the name of the rule if it was one.
pub(in crate::daemon) fn render_cause(cause: &Cause) -> (BlockFaultCause, Option<String>) {
    match cause {
        Cause::State(_) => (BlockFaultCause::State, None),
        Cause::Rule(name) => (BlockFaultCause::Rule, Some(name.to_string())),
        Cause::InjectError(number) => {
            (BlockFaultCause::InjectError, Some(format!("inject-error.{number}")))
        }
        Cause::Breakpoint => (BlockFaultCause::Break, None),
    }
}

/// Which requests are meant.
pub(super) fn parse_which(given: &BlockFaultResumeArguments) -> Result<Which, QmpError> {
    match (&given.tag, &given.rule, given.held_by, &given.ordinals) {
        (Some(tag), None, None, None) => Ok(Which::Tag(tag.clone())),
        (None, Some(rule), None, None) => Ok(Which::Rule(parse_name(rule)?)),
        (None, None, Some(BlockFaultHolder::All), None) => Ok(Which::All),
        (None, None, Some(BlockFaultHolder::State), None) => Ok(Which::State),
        (None, None, Some(BlockFaultHolder::OnError), None) => Ok(Which::OnError),
        (None, None, None, Some(ordinals)) => Ok(Which::Ordinals(ordinals.clone())),
        _ => Err(QmpError::generic(
            "Exactly one of the parameters 'tag', 'rule', 'held-by' and 'ordinals' is needed",
        )),
    }
}

/// What is to become of them.
pub(super) fn parse_action(given: &BlockFaultResumeArguments) -> Result<Resume, QmpError> {
    match given.action.unwrap_or(BlockFaultRelease::Run) {
        BlockFaultRelease::Run if given.errno.is_some() => {
            Err(QmpError::generic("Parameter 'errno' goes with 'action' fail only"))
        }
        BlockFaultRelease::Run => Ok(Resume::Run),
        BlockFaultRelease::Fail => Ok(Resume::Fail(errno_or(given.errno.as_ref(), Errno::EIO)?)),
    }
}

/// Whether all of these ordinals, once each, are held.
pub(super) fn check_ordinals(ordinals: &[u64], held: &[HeldReport]) -> Result<(), QmpError> {
    let mut known: std::collections::BTreeSet<u64> = held.iter().map(|held| held.ordinal).collect();
    match ordinals.iter().find(|ordinal| !known.remove(ordinal)) {
        Some(ordinal) => Err(bad(
            "ordinals",
            format!("expects requests that are held, each once; {ordinal} is not"),
        )),
        None => Ok(()),
    }
}

/// How long to wait.
pub(super) fn parse_timeout(seconds: Option<f64>) -> Result<Option<Duration>, QmpError> {
    let parse = |seconds: f64| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| bad("timeout", format!("expects seconds, 0 or more, not {seconds}")))
    };
    seconds.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::qapi::{Path, Visit};

    fn given(mut value: Value) -> BlockFaultResumeArguments {
        value["id"] = json!("disk0");
        BlockFaultResumeArguments::parse(value, &Path::ROOT).unwrap()
    }

    #[test]
    fn a_selection_is_one_thing() {
        let cases = [
            (json!({"tag": "A"}), Which::Tag("A".to_owned())),
            (json!({"rule": "r"}), Which::Rule(parse_name("r").unwrap())),
            (json!({"held-by": "all"}), Which::All),
            (json!({"held-by": "state"}), Which::State),
            (json!({"held-by": "on-error"}), Which::OnError),
            (json!({"ordinals": [2, 1]}), Which::Ordinals(vec![2, 1])),
        ];
        for (value, which) in cases {
            assert_eq!(parse_which(&given(value)).unwrap(), which);
        }
        for value in [json!({}), json!({"tag": "A", "rule": "r"})] {
            let error = parse_which(&given(value)).unwrap_err().to_string();
            assert!(error.starts_with("Exactly one of"), "{error}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let run = parse_action(&given(json!({"tag": "A", "errno": 5}))).unwrap_err().to_string();
        assert!(run.contains("'errno' goes with 'action' fail"), "{run}");
        let fail = given(json!({"tag": "A", "action": "fail", "errno": "ENOSPC"}));
        assert_eq!(parse_action(&fail).unwrap(), Resume::Fail(Errno::ENOSPC));
        let held = check_ordinals(&[3], &[]).unwrap_err().to_string();
        assert!(held.contains("'ordinals' expects requests that are held"), "{held}");
        for bad in [-1.0, f64::INFINITY] {
            let error = parse_timeout(Some(bad)).unwrap_err().to_string();
            assert!(error.contains("'timeout' expects seconds"), "{error}");
        }
        assert_eq!(parse_timeout(Some(0.5)).unwrap(), Some(Duration::from_millis(500)));
    }
}
