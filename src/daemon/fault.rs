//! The commands that break a disk and tell how it is broken.
//!
//! Knows: how an operator writes a state, and how the engine does. Must not know: what a state does
//! to a request (`fault`). Invariant: nothing changes unless all of a command makes sense.

use std::time::{Duration, SystemTime};

use crate::block::{FaultPoint, FaultReport};
use crate::errno::Errno;
use crate::export::Stats;
use crate::fault::{IoType, IoTypes, ManualState, StateName};
use crate::qapi::QmpError;
use crate::qapi::types::{
    BlockFaultCounts, BlockFaultErrno, BlockFaultInfo, BlockFaultIoType, BlockFaultState,
    BlockFaultStateChangedData, BlockFaultTime, SetBlockFaultStateArguments,
};

/// The state that an operator asked for.
pub(super) fn parse_state(
    arguments: &SetBlockFaultStateArguments,
) -> Result<ManualState, QmpError> {
    match arguments.state {
        BlockFaultState::None => {
            let options =
                [("errno", arguments.errno.is_some()), ("iotype", arguments.iotype.is_some())];
            match options.iter().find(|(_, given)| *given) {
                Some((name, _)) => Err(QmpError::generic(format!(
                    "Parameter '{name}' goes with state 'error' only"
                ))),
                None => Ok(ManualState::None),
            }
        }
        BlockFaultState::Error => {
            let errno = arguments.errno.as_ref().map_or(Ok(Errno::EIO), parse_errno)?;
            let iotypes = arguments.iotype.as_deref().map_or(Ok(IoTypes::ALL), parse_iotypes)?;
            Ok(ManualState::Error { errno, iotypes })
        }
    }
}

fn parse_errno(errno: &BlockFaultErrno) -> Result<Errno, QmpError> {
    let bad = |text: String| QmpError::generic(format!("Parameter 'errno': {text}"));
    match errno {
        BlockFaultErrno::Name(name) => {
            name.parse().map_err(|error: crate::errno::BadErrno| bad(error.to_string()))
        }
        BlockFaultErrno::Number(number) => Errno::new(*number)
            .ok_or_else(|| bad(format!("{number} is not an error number from 1 to 4095"))),
    }
}

fn parse_iotypes(iotypes: &[BlockFaultIoType]) -> Result<IoTypes, QmpError> {
    if iotypes.is_empty() {
        return Err(QmpError::generic(
            "Parameter 'iotype' names no request: name some, or leave it out for all",
        ));
    }
    Ok(iotypes.iter().map(|iotype| parse_iotype(*iotype)).collect())
}

fn parse_iotype(iotype: BlockFaultIoType) -> IoType {
    match iotype {
        BlockFaultIoType::Read => IoType::Read,
        BlockFaultIoType::Write => IoType::Write,
        BlockFaultIoType::Flush => IoType::Flush,
        BlockFaultIoType::Discard => IoType::Discard,
        BlockFaultIoType::WriteZeroes => IoType::WriteZeroes,
    }
}

fn render_iotype(iotype: IoType) -> BlockFaultIoType {
    match iotype {
        IoType::Read => BlockFaultIoType::Read,
        IoType::Write => BlockFaultIoType::Write,
        IoType::Flush => BlockFaultIoType::Flush,
        IoType::Discard => BlockFaultIoType::Discard,
        IoType::WriteZeroes => BlockFaultIoType::WriteZeroes,
    }
}

fn render_state(name: StateName) -> BlockFaultState {
    match name {
        StateName::None => BlockFaultState::None,
        StateName::Error => BlockFaultState::Error,
    }
}

/// A change of state, as an event tells it.
pub(super) fn change(
    id: &str,
    point: &FaultPoint,
    state: &ManualState,
) -> BlockFaultStateChangedData {
    log::info!("disk {id}: state {:?}", state.name());
    BlockFaultStateChangedData {
        id: id.to_owned(),
        state: render_state(state.name()),
        previous: render_state(point.report().state.name()),
    }
}

/// The state in one word.
pub(super) fn state_name(point: &FaultPoint) -> BlockFaultState {
    render_state(point.report().state.name())
}

/// All about a disk's faults.
pub(super) fn info(id: &str, point: &FaultPoint, stats: &Stats) -> BlockFaultInfo {
    let report = point.report();
    let (errno, iotypes) = match report.state {
        ManualState::None => (None, None),
        ManualState::Error { errno, iotypes } => (Some(errno), Some(iotypes)),
    };
    BlockFaultInfo {
        id: id.to_owned(),
        state: render_state(report.state.name()),
        errno: errno.map(|errno| errno.number().into()),
        errno_name: errno.and_then(Errno::name).map(str::to_owned),
        iotype: iotypes.map(|iotypes| iotypes.iter().map(render_iotype).collect()),
        since: time(report.since),
        held: 0,
        engine_state: 1,
        counts: counts(&report, stats),
    }
}

/// Every request that reached the filter ended at the image unless it ended by decision.
fn counts(report: &FaultReport, stats: &Stats) -> BlockFaultCounts {
    let ended: u64 = IoType::ALL.iter().map(|iotype| stats.of(*iotype).ended()).sum();
    BlockFaultCounts { passed: ended.saturating_sub(report.failed), failed: report.failed }
}

fn time(at: SystemTime) -> BlockFaultTime {
    let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    BlockFaultTime {
        seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
        microseconds: since_epoch.subsec_micros().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(state: BlockFaultState) -> SetBlockFaultStateArguments {
        SetBlockFaultStateArguments { id: "disk0".to_owned(), state, errno: None, iotype: None }
    }

    #[test]
    fn an_error_state_is_eio_on_everything_unless_it_says_otherwise() {
        let plain = parse_state(&arguments(BlockFaultState::Error)).unwrap();
        assert_eq!(plain, ManualState::Error { errno: Errno::EIO, iotypes: IoTypes::ALL });
        let chosen = parse_state(&SetBlockFaultStateArguments {
            errno: Some(BlockFaultErrno::Number(28)),
            iotype: Some(vec![BlockFaultIoType::Write]),
            ..arguments(BlockFaultState::Error)
        })
        .unwrap();
        let iotypes = [IoType::Write].into_iter().collect();
        assert_eq!(chosen, ManualState::Error { errno: Errno::ENOSPC, iotypes });
    }

    #[test]
    fn options_that_make_no_sense_are_refused_by_name() {
        let base = || arguments(BlockFaultState::Error);
        let none = || arguments(BlockFaultState::None);
        let number = |n| Some(BlockFaultErrno::Number(n));
        let cases = [
            (SetBlockFaultStateArguments { errno: number(5), ..none() }, "'errno' goes with state"),
            (SetBlockFaultStateArguments { iotype: Some(vec![]), ..none() }, "'iotype' goes with"),
            (SetBlockFaultStateArguments { errno: number(0), ..base() }, "from 1 to 4095"),
            (SetBlockFaultStateArguments { errno: number(-5), ..base() }, "from 1 to 4095"),
            (SetBlockFaultStateArguments { errno: number(4096), ..base() }, "from 1 to 4095"),
            (SetBlockFaultStateArguments { iotype: Some(vec![]), ..base() }, "'iotype' names no"),
            (
                SetBlockFaultStateArguments {
                    errno: Some(BlockFaultErrno::Name("EWHAT".to_owned())),
                    ..base()
                },
                "'errno': 'EWHAT' is not an error",
            ),
        ];
        for (arguments, expected) in cases {
            let error = parse_state(&arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn every_request_type_has_one_name_both_ways() {
        for iotype in IoType::ALL {
            assert_eq!(parse_iotype(render_iotype(iotype)), iotype);
            assert_eq!(render_iotype(iotype).as_str(), iotype.name());
        }
    }
}
