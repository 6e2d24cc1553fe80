//! What a disk is in all its lives.
//!
//! Knows: what stays the same when a daemon is started again, and differs between two disks. Must not
//! know: what the number is locked with (`block`). Invariant: the number depends on where front ends
//! find the disk, and on nothing that an operator gives two disks alike, such as an id.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::fault::random::Stream;
use crate::qapi::types::{SocketAddress, SocketAddressVariant};

/// The host, and the container if there is one: the same path elsewhere is another disk, although
/// both may serve one image that they share.
#[derive(Debug)]
pub(super) struct Place(String);

/// A disk, whoever serves it.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) number: u64,
    /// For messages.
    pub(super) name: String,
}

impl Place {
    /// Where this process is, asked before it gives up to ask.
    pub(super) fn look() -> Self {
        // What a kernel does late for a dead process ends with the kernel.
        let known = ["random/boot_id", "hostname"]
            .map(|name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default());
        Self(known.concat())
    }

    /// The disk at this address; nothing where no successor could have its socket.
    pub(super) fn disk_at(&self, address: &SocketAddress) -> Option<Identity> {
        let (name, where_) = match &address.variant {
            SocketAddressVariant::Unix(unix) => {
                let path = std::path::absolute(&unix.path).ok()?;
                (format!("the disk at '{}'", unix.path), format!("path {}", path.display()))
            }
            SocketAddressVariant::Fd(fd) => {
                // Whoever hands a socket from daemon to daemon has the same one all the time.
                let socket = fs::metadata(format!("/proc/self/fd/{}", fd.str)).ok()?;
                let (device, inode) = (socket.dev(), socket.ino());
                (format!("the disk of socket {inode}"), format!("socket {device} {inode}"))
            }
        };
        let number = Stream::new(0, &format!("{} {where_}", self.0), 0).next_u64();
        Some(Identity { number, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qapi::types::{FdSocketAddress, UnixSocketAddress};

    fn at(path: &str) -> SocketAddress {
        let path = path.to_owned();
        SocketAddress { variant: SocketAddressVariant::Unix(UnixSocketAddress { path }) }
    }

    fn number(place: &str, address: &SocketAddress) -> u64 {
        Place(place.to_owned()).disk_at(address).unwrap().number
    }

    #[test]
    fn a_disk_is_where_front_ends_find_it() {
        let here = number("boot host", &at("/run/a"));
        assert_eq!(here, number("boot host", &at("/run/./a")));
        assert_ne!(here, number("boot host", &at("/run/b")));
        assert_ne!(here, number("boot pod", &at("/run/a")));
        assert_ne!(here, number("other host", &at("/run/a")));
    }

    #[test]
    fn an_inherited_socket_is_the_same_under_every_number() {
        use std::os::fd::AsRawFd;
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let of = |socket: &std::os::unix::net::UnixStream| {
            let str = socket.as_raw_fd().to_string();
            let variant = SocketAddressVariant::Fd(FdSocketAddress { str });
            number("boot host", &SocketAddress { variant })
        };
        assert_eq!(of(&one), of(&one.try_clone().unwrap()));
        assert_ne!(of(&one), of(&other));
    }
}
