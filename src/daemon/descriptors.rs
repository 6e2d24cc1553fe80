//! How many descriptors the daemon may have, and how many it will want.
//!
//! Knows: the host's limit, and what a queue takes. Must not know: where descriptors come from.
//! Invariant: nothing is refused here: a ring for which there is none is refused when it starts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::options::{DiskPlan, Plan};
use crate::qapi::types::BlockExportOptionsVariant;

/// The most that a queue at work has: io_uring's ring, wakers, timers, and what the front end gives.
const PER_QUEUE: u64 = 9;
/// A disk's image, sockets, and the guest's memory.
const PER_DISK: u64 = 24;
/// Monitors with their clients, logs, signals.
const OTHER: u64 = 64;

/// Have as many descriptors as the host allows, and tell where that will not do. The limit that is
/// usual is for programs that cannot take numbers beyond 1023, and there is none here.
pub(super) fn raise_limit(plan: &Plan) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if let Err(error) = raised {
        log::warn!("the limit of open files (RLIMIT_NOFILE) stays as it is: {error}");
    }
    let limit = if raised.is_ok() { maximum } else { current };
    let wanted = wanted(plan);
    if let Some(limit) = limit.filter(|limit| *limit < wanted) {
        log::warn!(
            "the host allows {limit} open files (RLIMIT_NOFILE), and all queues of all disks may want \
             {wanted}: queues that start beyond that are refused"
        );
    }
}

/// What the disks on the command line may come to want.
fn wanted(plan: &Plan) -> u64 {
    let queues = |disk: &DiskPlan| {
        let BlockExportOptionsVariant::VhostUserBlk(disk) = &disk.export.variant;
        u64::from(disk.num_queues.unwrap_or(1))
    };
    plan.disks.iter().map(|disk| PER_DISK + PER_QUEUE * queues(disk)).sum::<u64>() + OTHER
}
