//! LEAST PRIVILEGE: what the daemon gives up once it has what it needs.
//!
//! Knows: the order of giving up. Must not know: disks, monitors or the guest. Invariants: all of it
//! is given up before the first byte of a guest or an operator is read, by every thread; nothing
//! comes back.
//!
//! Always: capabilities (but those of `--modcaps`), new privileges by executing a program, and core
//! dumps. As the operator says: system calls (`--seccomp`, on from the start) and files (`--sandbox`,
//! off from the start, because `blockdev-add` takes any path).

pub mod calls;
mod capabilities;
mod denial;
mod group;
mod paths;
mod seccomp;

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::CapabilitySet;

pub use capabilities::{BadCapability, Kept};
use denial::Denials;
pub use denial::Want;
pub use group::{Group, GroupError};
pub use paths::{Need, Permitted, SandboxError, SandboxMode};
pub use seccomp::{SeccompError, SeccompMode, install as install_seccomp};

/// What to give up.
#[derive(Debug, Clone, Default)]
pub struct GuardPlan {
    /// What becomes of system calls that are not needed.
    pub seccomp: SeccompMode,
    /// What keeps the daemon from files.
    pub sandbox: SandboxMode,
    /// What it may open all the same.
    pub permitted: Vec<Permitted>,
    /// Capabilities that are not given up.
    pub kept: Kept,
}

/// Why a privilege cannot be given up.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The system calls.
    #[error("--seccomp: {0}")]
    Seccomp(#[from] SeccompError),
    /// The files.
    #[error("--sandbox: {0}")]
    Sandbox(#[from] SandboxError),
    /// The capabilities.
    #[error("capabilities cannot be dropped: {0}")]
    Capabilities(io::Error),
    /// The core dumps.
    #[error("core dumps cannot be switched off: {0}")]
    Dumps(io::Error),
}

/// What refusals of the host have to do with us, for messages.
static DENIALS: OnceLock<Denials> = OnceLock::new();

impl GuardPlan {
    /// Keep a path open.
    pub fn permit(&mut self, path: &Path, need: Need) {
        let permitted = Permitted { path: path.to_owned(), need };
        if !self.permitted.contains(&permitted) {
            self.permitted.push(permitted);
        }
    }

    /// Keep the directory of a path open for sockets.
    pub fn permit_socket_at(&mut self, path: &Path) {
        self.permit(paths::directory(path), Need::Sockets);
    }

    /// Give it all up, in this thread and those it starts from now on; the system calls and core
    /// dumps for the whole process.
    ///
    /// # Errors
    /// [`GuardError`]; some of it may be given up by then.
    pub fn engage(&self) -> Result<(), GuardError> {
        let before = capabilities::held().map_err(GuardError::Capabilities)?;
        // While every path can still be looked at.
        let permitted = (self.sandbox == SandboxMode::Landlock).then_some(&*self.permitted);
        let mut denials = Denials::new(permitted);
        forbid_core_dumps().map_err(GuardError::Dumps)?;
        self.restrict_thread(&self.permitted, self.kept)?;
        let after = capabilities::held().map_err(GuardError::Capabilities)?;
        let is_dropped = before.difference(after).contains(CapabilitySet::DAC_OVERRIDE);
        denials.obeys_modes = is_dropped;
        let _ = DENIALS.set(denials);
        Ok(install_seccomp(self.seccomp)?)
    }

    /// Give up, in this thread alone, whatever it never needs: files and all capabilities.
    ///
    /// # Errors
    /// As [`GuardPlan::engage`].
    pub fn renounce(&self) -> Result<(), GuardError> {
        self.restrict_thread(&[], Kept::default())
    }

    fn restrict_thread(&self, permitted: &[Permitted], kept: Kept) -> Result<(), GuardError> {
        if self.sandbox == SandboxMode::Landlock {
            paths::restrict(permitted)?;
        }
        capabilities::drop_all_but(kept).map_err(GuardError::Capabilities)
    }
}

/// What to add to a message when the host has refused a path for want of permission: how the guard may
/// be the reason, and what would be accepted. Empty where it cannot be.
#[must_use]
pub fn explanation(path: &Path, want: Want) -> String {
    DENIALS.get().map_or_else(String::new, |denials| denials.explain(path, want))
}

/// Guest memory may hold anything. The mappings of it are left out of dumps besides (`export`), but
/// requests on their way and disks in memory are on the heap.
fn forbid_core_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // The limit does not hold for a core_pattern that is a program; this does.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
