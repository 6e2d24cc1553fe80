//! Where a monitor is.
//!
//! Knows: how operators write addresses, the daemon's and the client's alike. Must not know:
//! whether anybody is there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket at this path: `unix:PATH`.
    Unix(PathBuf),
    /// A TCP port: `tcp:HOST:PORT[,remote=on|off]`, an IPv6 address in brackets.
    Tcp {
        /// A host name or an IP address, without brackets.
        host: String,
        /// The port; 0 lets the host choose one.
        port: u16,
        /// Whether clients on other hosts may connect. Anybody who can reach the monitor commands
        /// the daemon, so the operator must say so.
        remote: bool,
    },
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a monitor address: {why}; accepted are unix:PATH and tcp:HOST:PORT[,remote=on]"
)]
pub struct BadAddress {
    text: String,
    why: &'static str,
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = if let Some(path) = text.strip_prefix("unix:") {
            unix(path)
        } else if let Some(rest) = text.strip_prefix("tcp:") {
            tcp(rest)
        } else {
            Err("it begins neither with unix: nor with tcp:")
        };
        parsed.map_err(|why| BadAddress { text: text.to_owned(), why })
    }
}

/// The longest path of a socket, in bytes (`sun_path` of unix(7) without its NUL).
const PATH_BYTES_MAX: usize = 107;

fn unix(path: &str) -> Result<Address, &'static str> {
    match path.len() {
        0 => Err("the path is missing"),
        1..=PATH_BYTES_MAX if !path.contains('\0') => Ok(Address::Unix(path.into())),
        1..=PATH_BYTES_MAX => Err("the path has a NUL in it"),
        _ => Err("the path is longer than 107 bytes"),
    }
}

fn tcp(rest: &str) -> Result<Address, &'static str> {
    let (host_port, remote) = match rest.split_once(',') {
        None => (rest, false),
        Some((host_port, "remote=on")) => (host_port, true),
        Some((host_port, "remote=off")) => (host_port, false),
        Some(_) => return Err("after the comma only remote=on or remote=off may follow"),
    };
    let (host, port) = host_port.rsplit_once(':').ok_or("the port is missing")?;
    let port = port.parse().map_err(|_| "the port is not a number from 0 to 65535")?;
    let host = match host.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
        Some(Some(inner)) => inner,
        Some(None) => return Err("the bracket of the host is not closed"),
        None if host.contains(':') => return Err("an IPv6 address needs brackets"),
        None => host,
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    Ok(Address::Tcp { host: host.to_owned(), port, remote })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port, remote } => {
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "tcp:{open}{host}{close}:{port}")?;
                f.write_str(if *remote { ",remote=on" } else { "" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in [
            "unix:/run/blkfault/m.sock",
            "unix:relative,remote=on",
            "tcp:127.0.0.1:4444",
            "tcp:localhost:0",
            "tcp:[::1]:65535",
            "tcp:0.0.0.0:4444,remote=on",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let off = "tcp:h:1,remote=off".parse::<Address>().unwrap();
        assert_eq!(off, Address::Tcp { host: "h".into(), port: 1, remote: false });
    }

    #[test]
    fn a_bad_address_is_told_with_the_reason_and_what_is_accepted() {
        let long = format!("unix:{}", "x".repeat(108));
        for (text, why) in [
            ("/run/m.sock", "it begins neither with unix: nor with tcp:"),
            ("", "it begins neither with unix: nor with tcp:"),
            ("unix:", "the path is missing"),
            (long.as_str(), "the path is longer than 107 bytes"),
            ("unix:a\0b", "the path has a NUL in it"),
            ("tcp:localhost", "the port is missing"),
            ("tcp::4444", "the host is missing"),
            ("tcp:[]:4444", "the host is missing"),
            ("tcp:::1:4444", "an IPv6 address needs brackets"),
            ("tcp:[::1:4444", "the bracket of the host is not closed"),
            ("tcp:h:65536", "the port is not a number from 0 to 65535"),
            ("tcp:h:-1", "the port is not a number from 0 to 65535"),
            ("tcp:h:1,remote=yes", "after the comma only remote=on or remote=off may follow"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(error.contains("accepted are unix:PATH and tcp:HOST:PORT"), "{error}");
        }
    }
}
