//! The small words of fault commands: errors, request types, sectors, shares, moments.
//!
//! Knows: how the schema writes each, and what the engine calls it. Must not know: what is said with
//! them. Invariant: what is rendered is parsed back to the same; a word that is refused is named by
//! its member, with what would be accepted.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use crate::errno::Errno;
use crate::fault::slow::Share;
use crate::fault::{IoType, IoTypes, SectorRange, SectorSet};
use crate::qapi::QmpError;
use crate::qapi::types::{BlockFaultErrno, BlockFaultIoType, BlockFaultSectors, BlockFaultTime};

/// An error about a member, as QEMU begins them.
pub(super) fn bad(member: &str, why: impl Display) -> QmpError {
    QmpError::generic(format!("Parameter '{member}' {why}"))
}

/// An error of the engine, which names the member itself.
pub(super) fn refused(error: &impl Display) -> QmpError {
    let text = error.to_string();
    let named = text.starts_with('\'');
    QmpError::generic(if named { format!("Parameter {text}") } else { text })
}

/// An error in an element of a list, which is named, too.
pub(super) fn within<T>(
    list: &str,
    index: usize,
    result: Result<T, QmpError>,
) -> Result<T, QmpError> {
    result.map_err(|error| QmpError::generic(format!("{list}[{index}]: {error}")))
}

pub(super) fn parse_errno(errno: &BlockFaultErrno) -> Result<Errno, QmpError> {
    let bad = |text: String| QmpError::generic(format!("Parameter 'errno': {text}"));
    match errno {
        BlockFaultErrno::Name(name) => {
            name.parse().map_err(|error: crate::errno::BadErrno| bad(error.to_string()))
        }
        BlockFaultErrno::Number(number) => Errno::new(*number)
            .ok_or_else(|| bad(format!("{number} is not an error number from 1 to 4095"))),
    }
}

/// The error that was given, or another.
pub(super) fn errno_or(given: Option<&BlockFaultErrno>, default: Errno) -> Result<Errno, QmpError> {
    given.map_or(Ok(default), parse_errno)
}

pub(super) fn render_errno(errno: Errno) -> BlockFaultErrno {
    match errno.name() {
        Some(name) => BlockFaultErrno::Name(name.to_owned()),
        None => BlockFaultErrno::Number(errno.number().into()),
    }
}

/// The request types that were given to a state, or all.
pub(super) fn parse_iotypes(given: Option<&[BlockFaultIoType]>) -> Result<IoTypes, QmpError> {
    let iotypes = parse_rule_iotypes(given)?;
    if iotypes.contains(IoType::GetId) {
        return Err(QmpError::generic(
            "Parameter 'iotype': get-id is for rules and breakpoints, states leave it alone",
        ));
    }
    Ok(iotypes)
}

/// The request types that were given to a rule, or all but get-id.
pub(super) fn parse_rule_iotypes(given: Option<&[BlockFaultIoType]>) -> Result<IoTypes, QmpError> {
    match given {
        None => Ok(IoTypes::ALL),
        Some([]) => Err(QmpError::generic(
            "Parameter 'iotype' names no request: name some, or leave it out for all",
        )),
        Some(given) => Ok(given.iter().map(|iotype| parse_iotype(*iotype)).collect()),
    }
}

pub(super) fn render_iotypes(iotypes: IoTypes) -> Vec<BlockFaultIoType> {
    iotypes.iter().map(render_iotype).collect()
}

/// All request types are left out.
pub(super) fn render_some_iotypes(iotypes: IoTypes) -> Option<Vec<BlockFaultIoType>> {
    (iotypes != IoTypes::ALL).then(|| render_iotypes(iotypes))
}

fn parse_iotype(iotype: BlockFaultIoType) -> IoType {
    match iotype {
        BlockFaultIoType::Read => IoType::Read,
        BlockFaultIoType::Write => IoType::Write,
        BlockFaultIoType::Flush => IoType::Flush,
        BlockFaultIoType::Discard => IoType::Discard,
        BlockFaultIoType::WriteZeroes => IoType::WriteZeroes,
        BlockFaultIoType::GetId => IoType::GetId,
    }
}

pub(in crate::daemon) fn render_iotype(iotype: IoType) -> BlockFaultIoType {
    match iotype {
        IoType::Read => BlockFaultIoType::Read,
        IoType::Write => BlockFaultIoType::Write,
        IoType::Flush => BlockFaultIoType::Flush,
        IoType::Discard => BlockFaultIoType::Discard,
        IoType::WriteZeroes => BlockFaultIoType::WriteZeroes,
        IoType::GetId => BlockFaultIoType::GetId,
    }
}

/// The sectors that were given; none for all.
pub(super) fn parse_sectors(given: Option<&[BlockFaultSectors]>) -> Result<SectorSet, QmpError> {
    let Some(given) = given else {
        return Ok(SectorSet::default());
    };
    if given.is_empty() {
        return Err(bad("sectors", "expects at least one range, or to be left out for all"));
    }
    let one = |(index, sectors): (usize, &BlockFaultSectors)| match sectors {
        BlockFaultSectors::Sector(sector) => SectorRange::new(*sector, *sector)
            .ok_or_else(|| bad(&format!("sectors[{index}]"), "expects a sector")),
        BlockFaultSectors::Range(text) => text.parse().map_err(|error: crate::fault::BadRange| {
            QmpError::generic(format!("Parameter 'sectors[{index}]': {error}"))
        }),
    };
    given.iter().enumerate().map(one).collect()
}

pub(super) fn render_sectors<'a>(
    ranges: impl IntoIterator<Item = &'a SectorRange>,
) -> Vec<BlockFaultSectors> {
    let render = |range: &SectorRange| match range.sectors() {
        1 => BlockFaultSectors::Sector(range.first()),
        _ => BlockFaultSectors::Range(range.to_string()),
    };
    ranges.into_iter().map(render).collect()
}

/// All sectors are left out.
pub(super) fn render_some_sectors(sectors: &SectorSet) -> Option<Vec<BlockFaultSectors>> {
    (!sectors.is_empty()).then(|| render_sectors(sectors.ranges()))
}

/// The share that was given, or all.
pub(super) fn parse_share(member: &str, given: Option<f64>) -> Result<Share, QmpError> {
    given.map_or(Ok(Share::ALL), |share| Share::new(share).map_err(|error| bad(member, error)))
}

/// All is left out.
pub(super) fn render_share(share: Share) -> Option<f64> {
    (share != Share::ALL).then(|| share.get())
}

/// A number of the engine's state.
pub(super) fn parse_engine_state(member: &str, given: i64) -> Result<i32, QmpError> {
    i32::try_from(given)
        .map_err(|_| bad(member, format!("expects a state number that fits 32 bits, not {given}")))
}

pub(super) fn render_time(at: SystemTime) -> BlockFaultTime {
    let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    BlockFaultTime {
        seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
        microseconds: since_epoch.subsec_micros().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_type_has_one_name_both_ways() {
        for iotype in IoType::NAMED {
            assert_eq!(parse_iotype(render_iotype(iotype)), iotype);
            assert_eq!(render_iotype(iotype).as_str(), iotype.name());
        }
    }

    #[test]
    fn sectors_are_numbers_or_ranges_and_come_back_as_such() {
        let given = [
            BlockFaultSectors::Range("8-15".to_owned()),
            BlockFaultSectors::Sector(3),
            BlockFaultSectors::Range("16".to_owned()),
        ];
        let sectors = parse_sectors(Some(&given)).unwrap();
        let rendered = render_some_sectors(&sectors).unwrap();
        let merged = [BlockFaultSectors::Sector(3), BlockFaultSectors::Range("8-16".to_owned())];
        assert_eq!(rendered, merged);
        assert_eq!(parse_sectors(Some(&rendered)).unwrap(), sectors);
        assert_eq!(render_some_sectors(&parse_sectors(None).unwrap()), None);
    }

    #[test]
    fn words_that_make_no_sense_are_refused_by_name() {
        let range = |text: &str| [BlockFaultSectors::Range(text.to_owned())];
        let cases = [
            (parse_errno(&BlockFaultErrno::Number(0)).map(drop), "from 1 to 4095"),
            (parse_errno(&BlockFaultErrno::Number(-5)).map(drop), "from 1 to 4095"),
            (parse_errno(&BlockFaultErrno::Number(4096)).map(drop), "from 1 to 4095"),
            (parse_errno(&BlockFaultErrno::Name("EWHAT".to_owned())).map(drop), "'errno': 'EWHAT'"),
            (parse_iotypes(Some(&[])).map(drop), "'iotype' names no request"),
            (parse_iotypes(Some(&[BlockFaultIoType::GetId])).map(drop), "get-id is for rules"),
            (parse_sectors(Some(&[])).map(drop), "'sectors' expects at least one range"),
            (parse_sectors(Some(&range("9-8"))).map(drop), "'sectors[0]': '9-8' is no range"),
            (parse_share("share", Some(0.0)).map(drop), "'share' expects a number above 0"),
            (parse_engine_state("state", 1 << 31).map(drop), "'state' expects a state number"),
        ];
        for (result, expected) in cases {
            let error = result.expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
