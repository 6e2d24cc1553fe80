//! The states of a whole disk as operators write them.
//!
//! Knows: the schema's options of each state, and the engine's. Must not know: what a state does to
//! a request. Invariant: nothing is left of an option that does not go with its state but an error.

use super::slow::{find_preset, parse_preset, parse_profiles, render_profile};
use super::words::{errno_or, parse_iotypes, refused, render_iotypes};
use crate::errno::Errno;
use crate::fault::manual::{DiskState, DiskStateName};
use crate::qapi::QmpError;
use crate::qapi::types::{
    BlockFaultInfoError, BlockFaultInfoHang, BlockFaultInfoReadOnly, BlockFaultInfoSlow,
    BlockFaultInfoVariant as Info, BlockFaultOptionsHang, BlockFaultOptionsNone,
    BlockFaultOptionsOffline, BlockFaultOptionsSlow, BlockFaultRelease, BlockFaultState,
    BlockFaultStateOptions, BlockFaultStateOptionsVariant as Options, BlockFaultStateSetting,
    BlockFaultStateSettingVariant as Setting,
};

/// The state that a command asks for.
pub(super) fn parse_setting(setting: &BlockFaultStateSetting) -> Result<DiskState, QmpError> {
    let variant = match setting.variant.clone() {
        Setting::None(options) => Options::None(options),
        Setting::Error(options) => Options::Error(options),
        Setting::Hang(options) => Options::Hang(options),
        Setting::Slow(options) => Options::Slow(options),
        Setting::ReadOnly(options) => Options::ReadOnly(options),
        Setting::Offline(options) => Options::Offline(options),
    };
    parse(&BlockFaultStateOptions { variant })
}

/// A state with its options.
pub(super) fn parse(options: &BlockFaultStateOptions) -> Result<DiskState, QmpError> {
    let state = match &options.variant {
        Options::None(_) => DiskState::None,
        Options::Error(options) => DiskState::Error {
            errno: errno_or(options.errno.as_ref(), Errno::EIO)?,
            iotypes: parse_iotypes(options.iotype.as_deref())?,
        },
        Options::Hang(options) => parse_hang(options)?,
        Options::Slow(options) => parse_slow(options)?,
        Options::ReadOnly(options) => {
            DiskState::ReadOnly { errno: errno_or(options.errno.as_ref(), Errno::EROFS)? }
        }
        Options::Offline(_) => DiskState::Offline,
    };
    state.check().map_err(|error| refused(&error))?;
    Ok(state)
}

fn parse_hang(options: &BlockFaultOptionsHang) -> Result<DiskState, QmpError> {
    let iotypes = parse_iotypes(options.iotype.as_deref())?;
    let on_release = match options.on_release.unwrap_or(BlockFaultRelease::Run) {
        BlockFaultRelease::Run if options.errno.is_some() => {
            return Err(QmpError::generic("Parameter 'errno' goes with 'on-release' fail only"));
        }
        BlockFaultRelease::Run => None,
        BlockFaultRelease::Fail => Some(errno_or(options.errno.as_ref(), Errno::EIO)?),
    };
    Ok(DiskState::Hang { iotypes, on_release })
}

fn parse_slow(options: &BlockFaultOptionsSlow) -> Result<DiskState, QmpError> {
    let profiles = match (options.preset, &options.profiles) {
        (Some(preset), None) => parse_preset(preset).profiles(),
        (None, Some(profiles)) => parse_profiles(profiles)?,
        (None, None) => {
            return Err(QmpError::generic("Parameter 'preset' or 'profiles' is missing"));
        }
        (Some(_), Some(_)) => {
            return Err(QmpError::generic(
                "Parameters 'preset' and 'profiles' say the same thing: give one of them",
            ));
        }
    };
    Ok(DiskState::Slow { profiles })
}

pub(super) fn render_name(name: DiskStateName) -> BlockFaultState {
    match name {
        DiskStateName::None => BlockFaultState::None,
        DiskStateName::Error => BlockFaultState::Error,
        DiskStateName::Hang => BlockFaultState::Hang,
        DiskStateName::Slow => BlockFaultState::Slow,
        DiskStateName::ReadOnly => BlockFaultState::ReadOnly,
        DiskStateName::Offline => BlockFaultState::Offline,
    }
}

/// A state as `query-block-fault` tells it.
pub(super) fn render(state: &DiskState) -> Info {
    let number = |errno: Errno| i64::from(errno.number());
    let name = |errno: Errno| errno.name().map(str::to_owned);
    match state {
        DiskState::None => Info::None(BlockFaultOptionsNone {}),
        DiskState::Error { errno, iotypes } => Info::Error(BlockFaultInfoError {
            errno: number(*errno),
            errno_name: name(*errno),
            iotype: render_iotypes(*iotypes),
        }),
        DiskState::Hang { iotypes, on_release } => Info::Hang(BlockFaultInfoHang {
            iotype: render_iotypes(*iotypes),
            on_release: match on_release {
                None => BlockFaultRelease::Run,
                Some(_) => BlockFaultRelease::Fail,
            },
            errno: on_release.map(number),
            errno_name: on_release.and_then(name),
        }),
        DiskState::Slow { profiles } => Info::Slow(BlockFaultInfoSlow {
            preset: find_preset(profiles),
            profiles: profiles.iter().map(render_profile).collect(),
        }),
        DiskState::ReadOnly { errno } => Info::ReadOnly(BlockFaultInfoReadOnly {
            errno: number(*errno),
            errno_name: name(*errno),
        }),
        DiskState::Offline => Info::Offline(BlockFaultOptionsOffline {}),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fault::{IoType, IoTypes};
    use crate::qapi::{Path, Visit};

    fn state(value: Value) -> Result<DiskState, QmpError> {
        let with_id = BlockFaultStateSetting::parse(value, &Path::ROOT)?;
        parse_setting(&with_id)
    }

    #[test]
    fn an_error_state_is_eio_on_everything_unless_it_says_otherwise() {
        let plain = state(json!({"id": "disk0", "state": "error"})).unwrap();
        assert_eq!(plain, DiskState::Error { errno: Errno::EIO, iotypes: IoTypes::ALL });
        let chosen = json!({"id": "d", "state": "error", "errno": 28, "iotype": ["write"]});
        let iotypes = [IoType::Write].into_iter().collect();
        assert_eq!(state(chosen).unwrap(), DiskState::Error { errno: Errno::ENOSPC, iotypes });
    }

    #[test]
    fn every_state_has_one_name_and_is_told_with_its_options() {
        let cases = [
            (json!({"state": "none"}), json!({})),
            (
                json!({"state": "error", "errno": "ENOSPC", "iotype": ["flush"]}),
                json!({"errno": 28, "errno-name": "ENOSPC", "iotype": ["flush"]}),
            ),
            (
                json!({"state": "hang", "iotype": ["read"]}),
                json!({"iotype": ["read"], "on-release": "run"}),
            ),
            (
                json!({"state": "hang", "iotype": ["read"], "on-release": "fail"}),
                json!({"iotype": ["read"], "on-release": "fail", "errno": 5, "errno-name": "EIO"}),
            ),
            (
                json!({"state": "slow", "profiles": [{"delay": 5}]}),
                json!({"profiles": [{"delay": 5}]}),
            ),
            (json!({"state": "read-only"}), json!({"errno": 30, "errno-name": "EROFS"})),
            (json!({"state": "offline"}), json!({})),
        ];
        for (given, told) in cases {
            let options = BlockFaultStateOptions::parse(given.clone(), &Path::ROOT).unwrap();
            let state = parse(&options).unwrap();
            assert_eq!(given["state"], render_name(state.name()).as_str());
            assert_eq!(given["state"], state.name().as_str());
            let mut object = serde_json::Map::new();
            match render(&state) {
                Info::None(_) | Info::Offline(_) => {}
                Info::Error(info) => object = info.to_value().as_object().unwrap().clone(),
                Info::Hang(info) => object = info.to_value().as_object().unwrap().clone(),
                Info::Slow(info) => object = info.to_value().as_object().unwrap().clone(),
                Info::ReadOnly(info) => object = info.to_value().as_object().unwrap().clone(),
            }
            assert_eq!(Value::Object(object), told, "{given}");
        }
    }

    #[test]
    fn options_that_make_no_sense_are_refused_by_name() {
        let cases = [
            (json!({"state": "none", "errno": 5}), "Parameter 'errno' is unexpected"),
            (json!({"state": "none", "iotype": []}), "Parameter 'iotype' is unexpected"),
            (json!({"state": "offline", "errno": 5}), "Parameter 'errno' is unexpected"),
            (json!({"state": "read-only", "iotype": ["read"]}), "'iotype' is unexpected"),
            (json!({"state": "error", "errno": 0}), "from 1 to 4095"),
            (json!({"state": "error", "iotype": []}), "'iotype' names no request"),
            (json!({"state": "hang", "errno": 5}), "'errno' goes with 'on-release' fail only"),
            (json!({"state": "hang", "on-release": "drop"}), "does not accept value 'drop'"),
            (json!({"state": "slow"}), "'preset' or 'profiles' is missing"),
            (json!({"state": "slow", "preset": "limplock", "profiles": []}), "give one of them"),
            (json!({"state": "slow", "preset": "slowish"}), "does not accept value 'slowish'"),
            (json!({"state": "slow", "profiles": []}), "expects 1 to 64 profiles"),
            (json!({"state": "slow", "profiles": [{}]}), "profiles[0]: a slow profile expects"),
        ];
        for (mut given, expected) in cases {
            given["id"] = json!("disk0");
            let error = state(given.clone()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{given}: {error}");
        }
    }
}
