//! Where a front end comes in: sockets made, and sockets inherited.
//!
//! Knows: paths and descriptors. Must not know: what is said over them. Invariants: a socket that a
//! live process listens on is never taken away from it; a path is removed only if it still is the
//! socket that was made there; an inherited descriptor is taken once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::serve::Door;

/// Connections that may wait to be refused.
const BACKLOG: i32 = 8;

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Somebody listens there.
    #[error("socket '{0}' is in use by a live process: stop it, or choose another path")]
    InUse(String),
    /// Something other than a socket is there, and it stays.
    #[error("'{0}' exists and is no socket: choose another path")]
    NotASocketThere(String),
    /// The path cannot be bound.
    #[error("socket '{0}' cannot be made: {1}")]
    Bind(String, io::Error),
    /// A number that is no descriptor of ours to give away.
    #[error("file descriptor {0} is no socket that this daemon was started with, or is taken")]
    NotInherited(RawFd),
    /// A descriptor of the wrong kind.
    #[error("file descriptor {0} is no unix stream socket: pass one that listens or is connected")]
    NotAUnixSocket(RawFd),
}

/// The path of a listening socket, removed at the end.
#[derive(Debug)]
#[must_use]
pub struct SocketPath {
    path: PathBuf,
    /// Device and inode, so that a successor's socket is left alone.
    identity: (u64, u64),
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if identity_of(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Door {
    /// Listen at a path, for this user only (mode 0600). A socket that nobody listens on is
    /// replaced.
    ///
    /// # Errors
    /// [`DoorError`], and whatever was at the path is still there.
    pub fn listen(path: &Path) -> Result<(Self, SocketPath), DoorError> {
        let name = || path.display().to_string();
        make_room(path)?;
        let bind = || -> io::Result<UnixListener> {
            let flags = SocketFlags::CLOEXEC;
            let socket =
                rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
            // Nobody can connect before `listen`, so the mode is in force for everybody.
            rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(socket.into())
        };
        let listener = bind().map_err(|error| DoorError::Bind(name(), error))?;
        let identity = identity_of(path).map_err(|error| DoorError::Bind(name(), error))?;
        Ok((Self::Listener(listener), SocketPath { path: path.to_owned(), identity }))
    }
}

/// Remove a stale socket.
fn make_room(path: &Path) -> Result<(), DoorError> {
    let name = || path.display().to_string();
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(DoorError::NotASocketThere(name()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| DoorError::Bind(name(), error))
        }
        _ => Err(DoorError::InUse(name())),
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
    use std::os::unix::fs::PermissionsExt;

    fn inherited(socket: impl Into<OwnedFd>) -> (RawFd, Inherited) {
        let socket = socket.into();
        let fd = socket.as_raw_fd();
        (fd, Inherited(Mutex::new([(fd, socket)].into())))
    }

    #[test]
    fn a_socket_is_for_its_owner_and_gone_with_its_door() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (door, socket_path) = Door::listen(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Door::listen(&path), Err(DoorError::InUse(_))), "a live socket stays");
        UnixStream::connect(&path).unwrap();
        drop((door, socket_path));
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_successor_s_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "stale");
        let (_door, ours) = Door::listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _successor = UnixListener::bind(&path).unwrap();
        drop(ours);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Door::listen(&path), Err(DoorError::NotASocketThere(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let nowhere = dir.path().join("no/such/dir");
        assert!(matches!(Door::listen(&nowhere), Err(DoorError::Bind(..))));
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
