//! The part of the file system that is left to the daemon.
//!
//! Knows: landlock(7). Must not know: what the files are for. Invariants: what is not named cannot be
//! opened, made or removed, and no TCP port connected to or listened at anew; descriptors that are
//! open already stay as they are.

use std::fmt::Write;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Once;

use clap::ValueEnum;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// What keeps the daemon from other files. virtiofsd's option, with another mechanism: a daemon that
/// cannot leave its directories does not need other ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum SandboxMode {
    /// Only what the command line names can be opened.
    Landlock,
    /// Whatever the user of the daemon may open.
    #[default]
    None,
}

/// What a path is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To read a file.
    Read,
    /// To read, write and resize an image.
    Image,
    /// To make and remove sockets, and remove the pidfile, in a directory.
    Sockets,
    /// To make, write, replace and remove files in a directory.
    State,
    /// Images and sockets, in a directory and below.
    Anything,
}

/// A path that stays open to the daemon, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permitted {
    /// The path.
    pub path: PathBuf,
    /// What for.
    pub need: Need,
}

/// Why the sandbox cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A path that must stay open is not there.
    #[error("'{}' cannot be let into the sandbox: {error}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What the host says.
        error: io::Error,
    },
    /// The kernel cannot do it.
    #[error(
        "the kernel has no landlock (since Linux 5.13, and where lsm= names it): use --sandbox none"
    )]
    Unsupported,
    /// The kernel does not do it.
    #[error("landlock: {0}")]
    Kernel(#[from] RulesetError),
}

/// The newest rights that are handled; older kernels handle those they know.
const FILES: ABI = ABI::V5;

/// Leave this thread, and those that it starts, with these paths.
///
/// # Errors
/// [`SandboxError`]; nothing is restricted then.
pub(super) fn restrict(permitted: &[Permitted]) -> Result<(), SandboxError> {
    let mut rules = ruleset()?;
    for permitted in permitted {
        rules = permit(rules, permitted)?;
    }
    match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        RulesetStatus::PartiallyEnforced => {
            tell_partial();
            Ok(())
        }
        RulesetStatus::NotEnforced => Err(SandboxError::Unsupported),
    }
}

/// Say once, whatever the number of threads.
fn tell_partial() {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        log::warn!(
            "--sandbox landlock: this kernel knows only a part of it (all of it since Linux 6.12)"
        );
    });
}

fn ruleset() -> Result<RulesetCreated, RulesetError> {
    let files = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(FILES))?
        .handle_access(AccessNet::from_all(ABI::V4))?;
    let scoped = match speaks_to_abstract_sockets() {
        true => files.scope(Scope::Signal)?,
        false => files.scope(Scope::from_all(ABI::V6))?,
    };
    scoped.create()
}

/// systemd may want to be told of our state at such a socket.
fn speaks_to_abstract_sockets() -> bool {
    std::env::var("NOTIFY_SOCKET").is_ok_and(|socket| socket.starts_with('@'))
}

fn permit(rules: RulesetCreated, permitted: &Permitted) -> Result<RulesetCreated, SandboxError> {
    let path = &permitted.path;
    let failed = |error| SandboxError::Path { path: path.clone(), error };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    let opened = PathFd::new(path).map_err(|error| failed(io::Error::other(error.to_string())))?;
    let of_file = !metadata.is_dir();
    let rights = rights(permitted.need);
    let rights = if of_file { rights & AccessFs::from_file(FILES) } else { rights };
    let mut rules = rules.add_rule(PathBeneath::new(opened, rights))?;
    if metadata.file_type().is_block_device() {
        for limits in queue_limits(&metadata) {
            let limits = PathBeneath::new(limits, BitFlags::from(AccessFs::ReadFile));
            rules = rules.add_rule(limits)?;
        }
    }
    Ok(rules)
}

fn rights(need: Need) -> BitFlags<AccessFs> {
    use AccessFs::{
        IoctlDev, MakeReg, MakeSock, ReadDir, ReadFile, RemoveFile, Truncate, WriteFile,
    };
    match need {
        Need::Read => ReadFile.into(),
        Need::Image => ReadFile | WriteFile | Truncate | IoctlDev,
        Need::Sockets => ReadDir | MakeSock | RemoveFile,
        // A file that replaces another in its directory is made there and removed elsewhere.
        Need::State => ReadFile | WriteFile | Truncate | ReadDir | MakeReg | RemoveFile,
        Need::Anything => {
            ReadFile | WriteFile | Truncate | IoctlDev | ReadDir | MakeSock | RemoveFile
        }
    }
}

/// Where sysfs tells what a block device can do: the device's own directory, and for a partition its
/// disk's.
fn queue_limits(metadata: &std::fs::Metadata) -> Vec<PathFd> {
    use std::os::unix::fs::MetadataExt;
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let device = format!("/sys/dev/block/{major}:{minor}");
    let queues = [format!("{device}/queue"), format!("{device}/../queue")];
    queues.iter().filter_map(|queue| PathFd::new(queue).ok()).collect()
}

/// The directory that a path is in.
pub(super) fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// What is left, in words for a message.
pub(super) fn tell<'a>(permitted: impl IntoIterator<Item = &'a Permitted>) -> String {
    let mut text = String::new();
    for Permitted { path, need } in permitted {
        let what = match need {
            Need::Read => "reading",
            Need::Image => "an image",
            Need::Sockets => "sockets",
            Need::State => "the disks' faults",
            Need::Anything => "images and sockets",
        };
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}'{}' ({what})", path.display());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_in_its_directory() {
        for (path, expected) in [("a", "."), ("/a", "/"), ("b/a", "b"), ("/b/a", "/b")] {
            assert_eq!(directory(Path::new(path)), Path::new(expected));
        }
    }

    #[test]
    fn a_message_tells_what_is_left_and_for_what() {
        let all = [
            Permitted { path: "/i".into(), need: Need::Image },
            Permitted { path: "/s".into(), need: Need::Sockets },
        ];
        assert_eq!(tell(&all), "'/i' (an image), '/s' (sockets)");
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let error = std::thread::spawn(|| {
            restrict(&[Permitted { path: "/no/such".into(), need: Need::Anything }]).unwrap_err()
        });
        let error = error.join().unwrap().to_string();
        assert!(error.starts_with("'/no/such' cannot be let into the sandbox"), "{error}");
    }
}
