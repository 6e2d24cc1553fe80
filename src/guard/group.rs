//! The group that may use the disks' sockets.
//!
//! Knows: the host's list of groups, and how a process may give files to one. Must not know: sockets.
//! Invariant: a group that exists here can be given to files later, after capabilities are dropped,
//! if the host allows it at all.

use std::io;

use nix::unistd;
use rustix::process::{Gid, getgroups};
use rustix::thread::{CapabilitySet, set_thread_groups};

use super::capabilities;

/// A group of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// As the operator wrote it.
    pub name: String,
    id: u32,
}

/// Why sockets cannot be a group's.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The host has none of this name.
    #[error("--socket-group: there is no group '{0}': name one that 'getent group' lists")]
    Unknown(String),
    /// The host does not tell.
    #[error("--socket-group: the group '{0}' cannot be looked up: {1}")]
    Lookup(String, io::Error),
    /// Only a member, or root, may give files to it.
    #[error("--socket-group: this user is no member of the group '{0}' and cannot give it sockets")]
    NoMember(String),
    /// The host refuses.
    #[error("--socket-group: the group '{0}' cannot be joined: {1}")]
    Join(String, io::Error),
}

impl Group {
    /// The group of this name, which this process is a member of from now on. To be called before
    /// there are other threads.
    ///
    /// # Errors
    /// [`GroupError`]
    pub fn join(name: &str) -> Result<Self, GroupError> {
        let found = unistd::Group::from_name(name)
            .map_err(|errno| GroupError::Lookup(name.to_owned(), errno.into()))?
            .ok_or_else(|| GroupError::Unknown(name.to_owned()))?;
        let group = Self { name: name.to_owned(), id: found.gid.as_raw() };
        let failed = |error| GroupError::Join(name.to_owned(), error);
        let mut groups = getgroups().map_err(|errno| failed(errno.into()))?;
        if groups.contains(&group.id()) || rustix::process::getegid() == group.id() {
            return Ok(group);
        }
        // What a member may do needs no capability, so it can be done after they are dropped.
        if !capabilities::held().map_err(failed)?.contains(CapabilitySet::SETGID) {
            return Err(GroupError::NoMember(name.to_owned()));
        }
        groups.push(group.id());
        set_thread_groups(&groups).map_err(|errno| failed(errno.into()))?;
        Ok(group)
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> Gid {
        Gid::from_raw(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_does_not_exist_is_refused_by_name() {
        let error = Group::join("no-such-group-here").unwrap_err().to_string();
        assert!(error.contains("there is no group 'no-such-group-here'"), "{error}");
    }
}
