//! Sockets on which clients come in.
//!
//! Knows: how to open what an [`Address`] names, that nobody gets in at a TCP port without a token, and
//! nobody from another host unless the operator said so. Must not know: the protocol. Invariant:
//! nothing here ever waits for a client.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::address::Address;
use super::token::{Token, TokenError};
use crate::socket_path::{ListenError, SocketPath};
use crate::stream::Stream;

/// Why a monitor cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The path of a unix socket cannot be had.
    #[error("monitor: {0}")]
    Path(#[from] ListenError),
    /// The port cannot be had.
    #[error("cannot open monitor {address}: {error}")]
    Port {
        /// What was asked for.
        address: Address,
        /// What the host said.
        error: io::Error,
    },
    /// Anybody on the network could command the daemon.
    #[error(
        "monitor {0} can be reached from other hosts, and whoever reaches it commands the daemon: \
         use a loopback address such as 127.0.0.1, or add ,remote=on,token-file=PATH"
    )]
    Remote(Address),
    /// Nothing would tell an operator from anybody else on the network, or from another user of this
    /// machine, who would open files by the daemon's rights.
    #[error(
        "monitor {0} needs a token, because every user of this machine reaches its port, and whoever \
         reaches it commands the daemon: add ,token-file=PATH, a file with one line of 16 or more \
         characters ('openssl rand -hex 32' makes one) and mode 0600, or use unix:PATH"
    )]
    NoToken(Address),
    /// The token cannot be had.
    #[error("monitor: the token-file '{}' {error}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: TokenError,
    },
    /// The host has no descriptor or thread left.
    #[error("cannot start the monitor: {0}")]
    Start(#[from] io::Error),
}

impl MonitorError {
    /// Whether somebody listens there, who may be about to end.
    pub(super) fn is_in_use(&self) -> bool {
        match self {
            Self::Path(error) => error.is_in_use(),
            Self::Port { error, .. } => error.kind() == io::ErrorKind::AddrInUse,
            _ => false,
        }
    }
}

/// A socket on which clients come in.
#[derive(Debug)]
pub(super) enum Listener {
    Unix(UnixListener),
    Tcp {
        socket: TcpListener,
        /// What its clients must tell.
        token: Arc<Token>,
    },
}

/// A client that has just come in.
#[derive(Debug)]
pub(super) struct Client {
    /// Reading from it and writing to it never wait.
    pub(super) stream: Stream,
    /// What it must tell before anything else.
    pub(super) token: Option<Arc<Token>>,
}

/// What opening an address gives.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) listener: Listener,
    /// Where it listens; the port is the one that the host chose if it was asked to.
    pub(super) address: Address,
    /// Removes the path of a unix socket when dropped.
    pub(super) path: Option<SocketPath>,
}

impl Listener {
    /// Open what this address names: for a name that stands for several addresses, the first that
    /// can be had.
    pub(super) fn open(address: &Address) -> Result<Opened, MonitorError> {
        match address {
            Address::Unix(path) => {
                let (socket, path) = SocketPath::listen(path)?;
                socket.set_nonblocking(true)?;
                let address = address.clone();
                Ok(Opened { listener: Self::Unix(socket), address, path: Some(path) })
            }
            Address::Tcp { host, port, remote, token_file } => {
                let failed = |error| MonitorError::Port { address: address.clone(), error };
                let resolved = (host.as_str(), *port).to_socket_addrs().map_err(failed)?;
                let resolved: Vec<SocketAddr> = resolved.collect();
                if !remote && !resolved.iter().all(|resolved| resolved.ip().is_loopback()) {
                    return Err(MonitorError::Remote(address.clone()));
                }
                let no_token = || MonitorError::NoToken(address.clone());
                let token = read_token(token_file.as_deref().ok_or_else(no_token)?)?;
                let socket = TcpListener::bind(resolved.as_slice()).map_err(failed)?;
                socket.set_nonblocking(true)?;
                let local = socket.local_addr().map_err(failed)?;
                let (host, port) = (local.ip().to_string(), local.port());
                let (remote, token_file) = (*remote, token_file.clone());
                let address = Address::Tcp { host, port, remote, token_file };
                Ok(Opened { listener: Self::Tcp { socket, token }, address, path: None })
            }
        }
    }

    /// The next client.
    pub(super) fn accept(&self) -> io::Result<Client> {
        let stream = match self {
            Self::Unix(socket) => Stream::Unix(socket.accept()?.0),
            Self::Tcp { socket, .. } => Stream::Tcp(socket.accept()?.0),
        };
        match &stream {
            Stream::Unix(stream) => stream.set_nonblocking(true)?,
            Stream::Tcp(stream) => {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
            }
        }
        let token = match self {
            Self::Unix(_) => None,
            Self::Tcp { token, .. } => Some(token.clone()),
        };
        Ok(Client { stream, token })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(socket) => socket.as_fd(),
            Self::Tcp { socket, .. } => socket.as_fd(),
        }
    }
}

fn read_token(path: &Path) -> Result<Arc<Token>, MonitorError> {
    let failed = |error| MonitorError::Token { path: path.to_owned(), error };
    Token::read(path).map(Arc::new).map_err(failed)
}
