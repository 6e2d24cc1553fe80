//! Where a front end comes in: sockets made, and sockets inherited.
//!
//! Knows: paths and descriptors. Must not know: what is said over them. Invariants: a socket that a
//! live process listens on is never taken away from it; an inherited descriptor is taken once.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::Gid;

use super::serve::Door;
use crate::socket_path::{ListenError, SocketPath};

/// Why there is no door behind a descriptor.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// A number that is no descriptor of ours to give away.
    #[error("file descriptor {0} is no socket that this daemon was started with, or is taken")]
    NotInherited(RawFd),
    /// A descriptor of the wrong kind.
    #[error("file descriptor {0} is no unix stream socket: pass one that listens or is connected")]
    NotAUnixSocket(RawFd),
}

impl Door {
    /// Listen at a path, for this user and a group's members only. A socket that nobody listens on
    /// is replaced; the path goes with the [`SocketPath`].
    ///
    /// # Errors
    /// [`ListenError`], and whatever was at the path is still there.
    pub fn listen(path: &Path, group: Option<Gid>) -> Result<(Self, SocketPath), ListenError> {
        let (listener, ours) = SocketPath::listen_for(path, group)?;
        Ok((Self::Listener(listener), ours))
    }
}

/// The sockets that the process was started with.
#[derive(Debug, Default)]
pub struct Inherited(Mutex<BTreeMap<RawFd, OwnedFd>>);

impl Inherited {
    /// Take over the sockets among the process's descriptors, except standard input, output and
    /// error.
    ///
    /// # Safety
    /// To be called once, at the start of `main`, before anything else owns a descriptor above 2.
    #[must_use]
    pub unsafe fn at_start() -> Self {
        let numbers: Vec<RawFd> = fs::read_dir("/proc/self/fd")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|fd| *fd > 2)
            .collect();
        let mut sockets = BTreeMap::new();
        for fd in numbers {
            // SAFETY: borrowed for one look; a number that is closed by now (the directory's own)
            // answers EBADF.
            let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
            if is_socket(borrowed) {
                let _ = rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC);
                // SAFETY: open, and the caller promises that nothing else owns it.
                sockets.insert(fd, unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        Self(Mutex::new(sockets))
    }

    /// The door behind an inherited socket.
    ///
    /// # Errors
    /// [`DoorError`]; a socket of the wrong kind can be asked for again.
    pub fn door(&self, fd: RawFd) -> Result<Door, DoorError> {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = sockets.get(&fd).ok_or(DoorError::NotInherited(fd))?;
        if !is_unix_stream(socket.as_fd()) {
            return Err(DoorError::NotAUnixSocket(fd));
        }
        let listening = sockopt::socket_acceptconn(socket).unwrap_or(false);
        let socket = sockets.remove(&fd).ok_or(DoorError::NotInherited(fd))?;
        Ok(if listening { Door::Listener(socket.into()) } else { Door::Connected(socket.into()) })
    }
}

fn is_socket(fd: BorrowedFd<'_>) -> bool {
    sockopt::socket_type(fd).is_ok()
}

/// Whether it is a unix stream socket that listens or is connected.
fn is_unix_stream(fd: BorrowedFd<'_>) -> bool {
    let stream = sockopt::socket_type(fd) == Ok(SocketType::STREAM);
    let unix = sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX);
    let listening = sockopt::socket_acceptconn(fd).unwrap_or(false);
    stream && unix && (listening || rustix::net::getpeername(fd).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn inherited(socket: impl Into<OwnedFd>) -> (RawFd, Inherited) {
        let socket = socket.into();
        let fd = socket.as_raw_fd();
        (fd, Inherited(Mutex::new([(fd, socket)].into())))
    }

    #[test]
    fn an_inherited_socket_is_taken_once() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (fd, sockets) = inherited(ours);
        assert!(matches!(sockets.door(fd), Ok(Door::Connected(_))));
        assert!(matches!(sockets.door(fd), Err(DoorError::NotInherited(_))));
        let dir = tempfile::tempdir().unwrap();
        let (fd, sockets) = inherited(UnixListener::bind(dir.path().join("s")).unwrap());
        assert!(matches!(sockets.door(fd), Ok(Door::Listener(_))));
    }

    #[test]
    fn an_inherited_descriptor_of_another_kind_is_refused() {
        let (fd, sockets) = inherited(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        assert!(matches!(sockets.door(fd), Err(DoorError::NotAUnixSocket(_))));
        let (fd, sockets) = inherited(std::os::unix::net::UnixDatagram::unbound().unwrap());
        assert!(matches!(sockets.door(fd), Err(DoorError::NotAUnixSocket(_))));
    }
}
