//! Unix sockets at paths.
//!
//! Knows: how to listen at a path that a dead process left behind, without taking one from a living
//! process, and how to leave nothing behind. Must not know: what is said on the socket. Invariant:
//! the socket is never open to another user, not even between two system calls, and whatever the
//! process's umask is; where it is for a group, it is that group's before anybody can connect.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, chownat, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::process::Gid;

/// A path at which this process listens. Dropping it removes the path, if it still is ours.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Why a process cannot listen at a path.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error("'{}' is in use by a running daemon", .0.display())]
    InUse(PathBuf),
    /// Something is there that is no socket.
    #[error("'{}' exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// No socket can be there.
    #[error("cannot listen at '{}': a socket's path has at most {PATH_BYTES_MAX} bytes", .0.display())]
    TooLong(PathBuf),
    /// It cannot be for a group.
    #[error("'{}' cannot be given to the socket group: {error}", path.display())]
    Group {
        /// The path.
        path: PathBuf,
        /// What the host said.
        error: io::Error,
    },
    /// The host refused.
    #[error("cannot listen at '{}': {error}", path.display())]
    Host {
        /// The path.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

impl ListenError {
    /// Whether somebody listens there, who may be about to end.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse(_))
    }

    /// The path at which the host says this process may not listen.
    #[must_use]
    pub fn denied(&self) -> Option<&Path> {
        match self {
            Self::Host { path, error } if error.kind() == io::ErrorKind::PermissionDenied => {
                Some(path)
            }
            _ => None,
        }
    }
}

/// Bytes of `sockaddr_un.sun_path` without its NUL.
const PATH_BYTES_MAX: usize = 107;
/// How often to ask for the directory, and how long to wait in between.
const TURN_TRIES: u32 = 200;
const TURN_PAUSE: Duration = Duration::from_millis(5);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

impl SocketPath {
    /// Listen at a path with mode 0600. A socket there on which nobody listens is replaced.
    ///
    /// # Errors
    /// When somebody listens there, something else is there, or the host refuses.
    pub fn listen(path: &Path) -> Result<(UnixListener, Self), ListenError> {
        Self::listen_for(path, None)
    }

    /// The same for the members of a group too: with that group and mode 0660.
    ///
    /// # Errors
    /// As [`SocketPath::listen`].
    pub fn listen_for(
        path: &Path,
        group: Option<Gid>,
    ) -> Result<(UnixListener, Self), ListenError> {
        let host = |error: io::Error| ListenError::Host { path: path.to_owned(), error };
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(ListenError::TooLong(path.to_owned()));
        }
        let _turn = turn(path);
        let socket = bound(path).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                bound(path).map_err(host)
            }
            _ => Err(host(error)),
        })?;
        let metadata = fs::symlink_metadata(path).map_err(host)?;
        let ours = Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() };
        if let Some(group) = group {
            ours.give_to(group).map_err(|error| ListenError::Group { path: path.into(), error })?;
        }
        listen(&socket, BACKLOG).map_err(|errno| host(errno.into()))?;
        Ok((UnixListener::from(socket), ours))
    }

    /// Let the members of a group connect, once somebody listens. What is at the path by now, if it
    /// is not our socket, is left as it is.
    fn give_to(&self, group: Gid) -> io::Result<()> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let file = File::options().read(true).custom_flags(flags).open(&self.path)?;
        let metadata = file.metadata()?;
        if (metadata.dev(), metadata.ino()) != (self.device, self.inode) {
            return Err(io::Error::other("somebody has replaced it"));
        }
        chownat(&file, c"", None, Some(group), AtFlags::EMPTY_PATH)?;
        // There is no way to change the mode by such a descriptor on kernels before 6.6.
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(name, Permissions::from_mode(0o660))
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let Ok(metadata) = fs::symlink_metadata(&self.path) else { return };
        if (metadata.dev(), metadata.ino()) == (self.device, self.inode) {
            // Nobody is left to be told of a failure, and a stale path is replaced by the next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The right to replace what is stale in the path's directory. Without it a process could take a
/// socket for stale that another has bound and not begun to listen on. Where the directory cannot be
/// locked, or somebody holds it for a second, nobody else is kept out.
fn turn(path: &Path) -> Option<File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(parent.unwrap_or(Path::new("."))).ok()?;
    for _ in 0..TURN_TRIES {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(directory),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(TURN_PAUSE),
            Err(_) => return None,
        }
    }
    None
}

/// A socket at the path on which nobody can connect yet.
fn bound(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The kernel gives the path the mode of the socket (`unix_bind_bsd`), less the umask.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let host = |error: io::Error| ListenError::Host { path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(host(error)),
    }
    match try_connect(path) {
        Err(Errno::CONNREFUSED) => {
            log::info!("replacing '{}', on which nobody listens", path.display());
            fs::remove_file(path).map_err(host)
        }
        Err(Errno::NOENT) => Ok(()),
        // A full backlog, for example: somebody is there.
        Ok(()) | Err(_) => Err(ListenError::InUse(path.to_owned())),
    }
}

/// Whether somebody listens, without waiting for a listener that is too busy to accept.
fn try_connect(path: &Path) -> rustix::io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_socket_is_for_its_owner_only_and_gone_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (_listener, ours) = SocketPath::listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(ours);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let (listener, _ours) = SocketPath::listen(&path).unwrap();
        let error = SocketPath::listen(&path).unwrap_err();
        assert!(matches!(error, ListenError::InUse(_)), "{error}");
        assert!(error.to_string().ends_with("is in use by a running daemon"), "{error}");
        assert!(path.exists());
        // The one that asked whether somebody is there is the only one who came.
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_ok());
        assert!(listener.accept().is_err());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "precious").unwrap();
        let error = SocketPath::listen(&path).unwrap_err();
        assert!(matches!(error, ListenError::NotASocket(_)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let error = SocketPath::listen(&folder.path().join("no/such/folder")).unwrap_err();
        assert!(matches!(error, ListenError::Host { .. }), "{error}");
    }

    #[test]
    fn a_path_that_is_somebody_elses_by_now_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (_listener, ours) = SocketPath::listen(&path).unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        let (_other, _theirs) = SocketPath::listen(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }

    #[test]
    fn of_many_that_find_a_stale_socket_one_gets_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        for _ in 0..50 {
            drop(UnixListener::bind(&path).unwrap());
            let listen = || SocketPath::listen(&path);
            let all: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(listen)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let got: Vec<_> = all.into_iter().filter_map(Result::ok).collect();
            assert_eq!(got.len(), 1);
            UnixStream::connect(&path).expect("the one that got it listens there");
        }
    }
}
