//! The eventfds by which a front end and a ring call each other.
//!
//! Knows: what an eventfd is, and how to add to one that its peer spoils. Must not know: rings, or
//! when anybody is called. Invariant: what is no eventfd is refused before it is asked anything. A
//! pipe or a socket can be filled and then made to wait for ever, and a file system of the front
//! end's own decides how long any question to its files takes.

use std::fs::{File, read_link};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::{ReadWriteFlags, preadv2};
use vhost::vhost_user::{Error, Result};

/// What the kernel calls a descriptor of an eventfd.
pub(super) const EVENTFD: &str = "anon_inode:[eventfd]";

/// Refuse what is no eventfd.
///
/// # Errors
/// `InvalidOperation`, which says so.
pub(super) fn check(file: Option<&File>) -> Result<()> {
    match file {
        Some(file) if can_tell() && !is_eventfd(file.as_fd()) => {
            Err(Error::InvalidOperation("a descriptor to kick, call or report on is no eventfd"))
        }
        _ => Ok(()),
    }
}

/// Another descriptor of the same.
pub(super) fn duplicate(file: Option<&File>) -> Result<Option<File>> {
    file.map(File::try_clone).transpose().map_err(Error::ReqHandlerError)
}

/// The name of a descriptor is the kernel's own, and told without a question to what is behind it.
fn is_eventfd(fd: BorrowedFd<'_>) -> bool {
    let name = read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    name.is_ok_and(|name| name.as_os_str() == EVENTFD)
}

/// Whether names can be asked for here: without /proc nothing can be refused.
pub(super) fn can_tell() -> bool {
    static CAN_TELL: OnceLock<bool> = OnceLock::new();
    *CAN_TELL.get_or_init(|| {
        let ours = rustix::event::eventfd(0, EventfdFlags::CLOEXEC);
        let can_tell = ours.is_ok_and(|ours| is_eventfd(ours.as_fd()));
        if !can_tell {
            log::warn!(
                "/proc does not tell what an eventfd is: front ends are trusted with the kind of \
                 descriptor that they give to call them"
            );
        }
        can_tell
    })
}

/// See that no worker ever waits in a write to a front end's eventfd that is full. Its description
/// is shared with the front end, who can undo this: see [`let_writers_go`].
pub(super) fn never_wait_for(eventfd: &File) {
    let flags = rustix::fs::fcntl_getfl(eventfd);
    let _ = flags.and_then(|flags| rustix::fs::fcntl_setfl(eventfd, flags | OFlags::NONBLOCK));
}

/// Make room in an eventfd that has none, so that a worker goes on who waits in a write to it. A call
/// that has not been heard stays in one that has room.
pub(super) fn let_writers_go(eventfd: &File) {
    never_wait_for(eventfd);
    let mut has_room = [PollFd::new(eventfd, PollFlags::OUT)];
    if poll(&mut has_room, Some(&Timespec::default())) == Ok(0) {
        // Never waits, even if the front end has made it empty and waiting since.
        let mut count = [0; 8];
        let at_its_place = u64::MAX;
        let _ = preadv2(
            eventfd,
            &mut [IoSliceMut::new(&mut count)],
            at_its_place,
            ReadWriteFlags::NOWAIT,
        );
    }
}

/// Add one to an eventfd. A full counter needs no more.
pub(super) fn signal(eventfd: &File) {
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    #[test]
    fn an_eventfd_is_one_and_nothing_else_is() {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        assert!(check(Some(&event.into())).is_ok());
        assert!(check(None).is_ok());
        let (out, into) = std::io::pipe().unwrap();
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC);
        let others: [OwnedFd; 6] = [
            out.into(),
            into.into(),
            one.into(),
            other.into(),
            epoll.unwrap(),
            File::open("/dev/null").unwrap().into(),
        ];
        for other in others {
            let name = read_link(format!("/proc/self/fd/{}", other.as_raw_fd())).unwrap();
            assert!(check(Some(&other.into())).is_err(), "{}", name.display());
        }
    }

    #[test]
    fn a_file_that_is_called_like_an_eventfd_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join(EVENTFD)).unwrap();
        assert!(check(Some(&file)).is_err());
    }
}
