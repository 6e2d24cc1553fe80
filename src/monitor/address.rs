//! Where a monitor is.
//!
//! Knows: how operators write addresses, the daemon's and the client's alike. Must not know:
//! whether anybody is there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The address of a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket at this path: `unix:PATH`.
    Unix(PathBuf),
    /// A TCP port: `tcp:HOST:PORT[,remote=on|off][,token-file=PATH]`, an IPv6 address in brackets.
    Tcp {
        /// A host name or an IP address, without brackets.
        host: String,
        /// The port; 0 lets the host choose one.
        port: u16,
        /// Whether clients on other hosts may connect. Anybody who can reach the monitor commands
        /// the daemon, so the operator must say so.
        remote: bool,
        /// A file with what clients must tell first, for both ends; a daemon needs one. A comma in its
        /// path is written twice.
        token_file: Option<PathBuf>,
    },
}

impl Address {
    /// The same with this file for its token; none where an address has no token.
    #[must_use]
    pub fn with_token_file(self, path: &Path) -> Option<Self> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp { host, port, remote, .. } => {
                Some(Self::Tcp { host, port, remote, token_file: Some(path.to_owned()) })
            }
        }
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a monitor address: {why}; accepted are unix:PATH and \
     tcp:HOST:PORT[,remote=on][,token-file=PATH]"
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
    let (host_port, options) = rest.split_once(',').unwrap_or((rest, ""));
    let (mut remote, mut token_file) = (false, None);
    for option in split_options(options) {
        match option.split_once('=') {
            Some(("remote", "on")) => remote = true,
            Some(("remote", "off")) => remote = false,
            Some(("token-file", "")) => return Err("the path of the token-file is missing"),
            Some(("token-file", path)) => token_file = Some(path.into()),
            _ => {
                return Err(
                    "after the comma only remote=on, remote=off or token-file=PATH may follow",
                );
            }
        }
    }
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
    Ok(Address::Tcp { host: host.to_owned(), port, remote, token_file })
}

/// What single commas separate; a comma in an option is written twice.
fn split_options(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    // NUL is in no path.
    let pieces = text.replace(",,", "\0");
    pieces.split(',').map(|option| option.replace('\0', ",")).collect()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port, remote, token_file } => {
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "tcp:{open}{host}{close}:{port}")?;
                f.write_str(if *remote { ",remote=on" } else { "" })?;
                let Some(path) = token_file else { return Ok(()) };
                write!(f, ",token-file={}", path.display().to_string().replace(',', ",,"))
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
            "tcp:0.0.0.0:4444,remote=on,token-file=/etc/blkfault/token",
            "tcp:[::1]:4444,token-file=a,,b",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let off = "tcp:h:1,remote=off".parse::<Address>().unwrap();
        let expected = |token_file: Option<&str>| {
            let token_file = token_file.map(PathBuf::from);
            Address::Tcp { host: "h".into(), port: 1, remote: false, token_file }
        };
        assert_eq!(off, expected(None));
        let token = "tcp:h:1,token-file=/a,,b,remote=off".parse::<Address>().unwrap();
        assert_eq!(token, expected(Some("/a,b")));
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
            ("tcp:h:1,remote=yes", "after the comma only remote=on, remote=off or token-file=PATH"),
            (
                "tcp:h:1,token=secret",
                "after the comma only remote=on, remote=off or token-file=PATH",
            ),
            ("tcp:h:1,remote=on,", "after the comma only remote=on, remote=off or token-file=PATH"),
            ("tcp:h:1,token-file=", "the path of the token-file is missing"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(error.contains("accepted are unix:PATH and tcp:HOST:PORT"), "{error}");
        }
    }
}
