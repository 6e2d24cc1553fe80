//! What the daemon is left with.
//!
//! Knows: the options, and which paths the rest of the command line needs. Must not know: how a
//! privilege is given up. Invariant: whatever the command line names stays possible.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Plan;
use crate::guard::{GuardPlan, Kept, Need, SandboxMode, SeccompMode};
use crate::monitor::Address;
use crate::qapi::types::{BlockdevOptions, BlockdevOptionsVariant, BlockdevRef};

/// The options of least privilege.
#[derive(Debug, Args)]
#[command(next_help_heading = "Security")]
pub(super) struct PrivilegeOptions {
    /// What becomes of a system call that the daemon has no need of: kill (the daemon ends by
    /// SIGSYS, and the kernel's log tells the call), log (the kernel's log tells it), or none (no
    /// filter).  The word and the values are virtiofsd's [default: kill].
    ///
    /// Example: --seccomp log
    #[arg(long, value_name = "ACTION", hide_possible_values = true, default_value = "kill")]
    #[arg(hide_default_value = true)]
    seccomp: SeccompMode,

    /// What keeps the daemon from files: landlock (it opens only the images named on the command
    /// line, files in --state-dir, sockets in the directories of those named, and what --allow-path
    /// names; no TCP port is opened later), or none.  An image is the file that was there at the
    /// start: for another that takes its name, permit the directory.  virtiofsd has the option with other values, namespace and chroot [default: none].
    ///
    /// Example: --sandbox landlock
    #[arg(long, value_name = "HOW", hide_possible_values = true, default_value = "none")]
    #[arg(hide_default_value = true)]
    sandbox: SandboxMode,

    /// With --sandbox landlock: one more directory, below which existing images and blkdebug files may
    /// be opened and sockets made by command; or one more image.  No file is made there.  May be
    /// repeated.
    ///
    /// Example: --allow-path /var/lib/images
    #[arg(long = "allow-path", value_name = "PATH")]
    allow_paths: Vec<PathBuf>,

    /// Capabilities to keep when the daemon was started with them; all others are dropped before it
    /// serves.  As root, keep dac_override if images that other users own are added by command.
    ///
    /// Example: --modcaps=+dac_override
    #[arg(long, value_name = "+CAP[:+CAP...]")]
    modcaps: Option<Kept>,

    /// Let the members of this group connect to the disks' sockets (mode 0660): QEMU's group, for
    /// example.  Monitors stay the owner's.
    ///
    /// Example: --socket-group kvm
    #[arg(long, value_name = "GROUP")]
    pub(super) socket_group: Option<String>,
}

impl PrivilegeOptions {
    /// What is given up, and what must stay possible for the rest of the plan.
    pub(super) fn plan(&self, plan: &Plan) -> Result<GuardPlan, String> {
        if self.sandbox == SandboxMode::None && !self.allow_paths.is_empty() {
            return Err("--allow-path goes with --sandbox landlock only".to_owned());
        }
        let mut guard = GuardPlan {
            seccomp: self.seccomp,
            sandbox: self.sandbox,
            permitted: Vec::new(),
            kept: self.modcaps.unwrap_or_default(),
        };
        for disk in &plan.disks {
            if let Some(node) = &disk.node {
                permit_files(&mut guard, node);
            }
            if let Some(path) = disk.socket_path() {
                guard.permit_socket_at(Path::new(path));
            }
        }
        for address in &plan.monitors {
            if let Address::Unix(path) = address {
                guard.permit_socket_at(path);
            }
        }
        if let Some(path) = &plan.pidfile {
            guard.permit_socket_at(path);
        }
        if let Some(path) = &plan.state_dir {
            guard.permit(path, Need::State);
        }
        for path in &self.allow_paths {
            guard.permit(path, Need::Anything);
        }
        Ok(guard)
    }
}

/// The files of a node stay open to be opened again.
fn permit_files(guard: &mut GuardPlan, node: &BlockdevOptions) {
    match &node.variant {
        BlockdevOptionsVariant::File(file) | BlockdevOptionsVariant::HostDevice(file) => {
            let need = if node.read_only == Some(true) { Need::Read } else { Need::Image };
            guard.permit(Path::new(&file.filename), need);
        }
        BlockdevOptionsVariant::Raw(over) => permit_child(guard, &over.file),
        BlockdevOptionsVariant::Blkdebug(over) => {
            if let Some(config) = &over.config {
                guard.permit(Path::new(config), Need::Read);
            }
            permit_child(guard, &over.image);
        }
        BlockdevOptionsVariant::NullCo(_) | BlockdevOptionsVariant::Memory(_) => {}
    }
}

fn permit_child(guard: &mut GuardPlan, child: &BlockdevRef) {
    if let BlockdevRef::Definition(node) = child {
        permit_files(guard, node);
    }
}
