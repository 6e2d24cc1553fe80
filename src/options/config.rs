//! The file that `--config` names.
//!
//! Knows: its JSON shape. Must not know: what a disk's options mean; each member of a disk is the
//! flag of that name. Invariant: a member that is not understood is an error, never ignored.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::DiskSpec;
use crate::monitor::Address;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    /// Each with where it stands, for messages.
    pub(super) disks: Vec<(String, DiskSpec)>,
    pub(super) monitors: Vec<Address>,
    pub(super) pidfile: Option<PathBuf>,
    pub(super) state_dir: Option<PathBuf>,
}

/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Read and understand a file.
pub(super) fn read(path: &Path) -> Result<ConfigFile, String> {
    let at = format!("--config {}", path.display());
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| format!("{at}: {error}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{at}: longer than {FILE_BYTES_MAX} bytes"));
    }
    parse(&text).map_err(|error| format!("{at}: {error}"))
}

/// The file's shape.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with \"disks\", \"monitor\" and \"pidfile\"")]
struct Shape {
    #[serde(default)]
    disks: Vec<Members>,
    #[serde(default)]
    monitor: Vec<String>,
    pidfile: Option<PathBuf>,
    #[serde(rename = "state-dir")]
    state_dir: Option<PathBuf>,
}

/// A disk's members, in order, none of them twice.
#[derive(Debug)]
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a disk: an object such as {\"memory\": \"64M\", ...}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members: Vec<(String, Value)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if members.iter().any(|(other, _)| *other == name) {
                return Err(A::Error::custom(format!("duplicate member `{name}`")));
            }
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

pub(super) fn parse(text: &str) -> Result<ConfigFile, String> {
    // A list would do for serde, which takes it for the members in order.
    if text.trim_start().starts_with('[') {
        return Err("expected an object with \"disks\", \"monitor\" and \"pidfile\"".to_owned());
    }
    let shape: Shape = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let disk = |(index, members): (usize, Members)| {
        let at = format!("disks[{index}]");
        let spec = arguments(&members).and_then(|arguments| DiskSpec::from_arguments(&arguments));
        Ok((at.clone(), spec.map_err(|error| format!("{at}: {error}"))?))
    };
    Ok(ConfigFile {
        disks: shape.disks.into_iter().enumerate().map(disk).collect::<Result<_, String>>()?,
        monitors: shape.monitor.iter().map(|text| parse_address(text)).collect::<Result<_, _>>()?,
        pidfile: shape.pidfile,
        state_dir: shape.state_dir,
    })
}

/// A disk's members as flags.
fn arguments(members: &Members) -> Result<Vec<String>, String> {
    let argument = |(name, value): &(String, Value)| match value {
        Value::String(text) => Ok(format!("--{name}={text}")),
        Value::Number(number) => Ok(format!("--{name}={number}")),
        Value::Bool(on) => Ok(format!("--{name}={}", if *on { "on" } else { "off" })),
        _ => Err(format!("\"{name}\" must be a string, a number or a boolean")),
    };
    members.0.iter().map(argument).collect()
}

fn parse_address(text: &str) -> Result<Address, String> {
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
                 "monitor": [ "unix:/m" ], "pidfile": "/p", "state-dir": "/s" }"#,
        )
        .unwrap();
        let by_list =
            DiskSpec::from_list("id=a,memory=1M,read-only,socket-path=/a,,b.sock,num-queues=4")
                .unwrap();
        assert_eq!(file.disks, [("disks[0]".to_owned(), by_list)]);
        assert_eq!(file.monitors, ["unix:/m".parse().unwrap()]);
        assert_eq!(file.pidfile, Some("/p".into()));
        assert_eq!(file.state_dir, Some("/s".into()));
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_says_where() {
        let cases = [
            ("", "EOF"),
            ("[1]", "an object with \"disks\""),
            (r#"{"disk": []}"#, "unknown field `disk`"),
            (r#"{"disks": [], "disks": []}"#, "duplicate field `disks`"),
            (r#"{"disks": {}}"#, "expected a sequence"),
            (r#"{"disks": [1]}"#, "expected a disk: an object"),
            (r#"{"disks": [{"id": "a", "id": "b"}]}"#, "duplicate member `id`"),
            (r#"{"disks": [{"id": null}]}"#, "disks[0]: \"id\" must be a string"),
            (r#"{"disks": [{"size": "x"}]}"#, "disks[0]: "),
            (r#"{"disks": [{"sise": "1M"}]}"#, "'--sise'"),
            (r#"{"monitor": [1]}"#, "expected a string"),
            (r#"{"monitor": ["telnet:4"]}"#, "monitor 'telnet:4'"),
            (r#"{"pidfile": 1}"#, "expected path string"),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
