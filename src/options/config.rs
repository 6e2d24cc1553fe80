//! The file that `--config` names.
//!
//! Knows: its JSON shape. Must not know: what a disk's options mean; each member of a disk is the
//! flag of that name. Invariant: a member that is not understood is an error, never ignored.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::DiskSpec;
use crate::monitor::Address;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    /// Each with where it stands, for messages.
    pub(super) disks: Vec<(String, DiskSpec)>,
    pub(super) monitors: Vec<Address>,
    pub(super) pidfile: Option<PathBuf>,
}

/// Read and understand a file.
pub(super) fn read(path: &Path) -> Result<ConfigFile, String> {
    let at = format!("--config {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| format!("{at}: {error}"))?;
    parse(&text).map_err(|error| format!("{at}: {error}"))
}

fn parse(text: &str) -> Result<ConfigFile, String> {
    let Value::Object(members) = serde_json::from_str(text).map_err(|error| error.to_string())?
    else {
        return Err("expected an object with \"disks\", \"monitor\" and \"pidfile\"".to_owned());
    };
    let mut file = ConfigFile::default();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("disks", Value::Array(disks)) => file.disks = parse_disks(disks)?,
            ("monitor", Value::Array(addresses)) => {
                file.monitors =
                    addresses.into_iter().map(parse_address).collect::<Result<_, _>>()?;
            }
            ("monitor", address @ Value::String(_)) => {
                file.monitors = vec![parse_address(address)?]
            }
            ("pidfile", Value::String(path)) => file.pidfile = Some(path.into()),
            ("disks", _) => return Err("\"disks\" must be a list of objects".to_owned()),
            ("monitor", _) => return Err("\"monitor\" must be a list of addresses".to_owned()),
            ("pidfile", _) => return Err("\"pidfile\" must be a path".to_owned()),
            (other, _) => {
                return Err(format!(
                    "unknown member \"{other}\": expected \"disks\", \"monitor\" or \"pidfile\""
                ));
            }
        }
    }
    Ok(file)
}

fn parse_disks(disks: Vec<Value>) -> Result<Vec<(String, DiskSpec)>, String> {
    let parse_one = |(index, disk)| {
        let at = format!("disks[{index}]");
        let Value::Object(members) = disk else {
            return Err(format!("{at} must be an object such as {{\"memory\": \"64M\", ...}}"));
        };
        let arguments = arguments(&members).map_err(|error| format!("{at}: {error}"))?;
        let spec =
            DiskSpec::from_arguments(&arguments).map_err(|error| format!("{at}: {error}"))?;
        Ok((at, spec))
    };
    disks.into_iter().enumerate().map(parse_one).collect()
}

/// A disk's members as flags.
fn arguments(members: &Map<String, Value>) -> Result<Vec<String>, String> {
    let argument = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Ok(format!("--{name}={text}")),
        Value::Number(number) => Ok(format!("--{name}={number}")),
        Value::Bool(on) => Ok(format!("--{name}={}", if *on { "on" } else { "off" })),
        _ => Err(format!("\"{name}\" must be a string, a number or a boolean")),
    };
    members.iter().map(argument).collect()
}

fn parse_address(address: Value) -> Result<Address, String> {
    let Value::String(text) = address else {
        return Err("\"monitor\" must be a list of addresses such as \"unix:/tmp/m\"".to_owned());
    };
    text.parse().map_err(|error| format!("monitor '{text}': {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_flags_would() {
        let file = parse(
            r#"{ "disks": [ { "id": "a", "memory": 1048576, "read-only": true,
                              "socket-path": "/a,b.sock", "num-queues": 4 } ],
                 "monitor": [ "unix:/m" ], "pidfile": "/p" }"#,
        )
        .unwrap();
        let by_list =
            DiskSpec::from_list("id=a,memory=1M,read-only,socket-path=/a,,b.sock,num-queues=4")
                .unwrap();
        assert_eq!(file.disks, [("disks[0]".to_owned(), by_list)]);
        assert_eq!(file.monitors, ["unix:/m".parse().unwrap()]);
        assert_eq!(file.pidfile, Some("/p".into()));
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_says_where() {
        let cases = [
            ("", "EOF"),
            ("[]", "expected an object"),
            (r#"{"disk": []}"#, "unknown member \"disk\""),
            (r#"{"disks": {}}"#, "\"disks\" must be a list"),
            (r#"{"disks": [1]}"#, "disks[0] must be an object"),
            (r#"{"disks": [{"id": null}]}"#, "disks[0]: \"id\" must be a string"),
            (r#"{"disks": [{"size": "x"}]}"#, "disks[0]: "),
            (r#"{"disks": [{"sise": "1M"}]}"#, "'--sise'"),
            (r#"{"monitor": [1]}"#, "\"monitor\" must be a list of addresses"),
            (r#"{"monitor": ["telnet:4"]}"#, "monitor 'telnet:4'"),
            (r#"{"pidfile": 1}"#, "\"pidfile\" must be a path"),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
