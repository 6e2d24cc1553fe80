//! What a process costs, from the outside.
//!
//! Knows: Linux' accounts of a process and of all its threads, the kernel's for its I/O among them.
//! Must not know: what it does.

use std::time::Duration;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub cpu: Duration,
    /// Context switches of the threads that are there now.
    pub switches: u64,
}

impl Cost {
    /// Of this process until now.
    ///
    /// # Errors
    /// It is gone.
    pub fn so_far(process_id: u32) -> Result<Self, String> {
        Ok(Self { cpu: cpu(process_id)?, switches: switches(process_id)? })
    }

    /// What was used since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            switches: self.switches.saturating_sub(before.switches),
        }
    }
}

/// User and system time of all threads that are or were, to the nanosecond.
fn cpu(process_id: u32) -> Result<Duration, String> {
    let process_id = libc::pid_t::try_from(process_id).expect("a process id");
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both write to the variable that they are given.
    let failed = unsafe {
        libc::clock_getcpuclockid(process_id, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    if failed {
        return Err(gone(process_id.unsigned_abs()));
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Ok(Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0)))
}

fn gone(process_id: u32) -> String {
    format!("process {process_id} is gone")
}

/// Whether a process runs: it has not ended, be it that nobody has asked how.
pub fn is_there(process_id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat")).unwrap_or_default();
    // The state follows the name, which stands in parentheses.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn switches(process_id: u32) -> Result<u64, String> {
    let tasks = std::fs::read_dir(format!("/proc/{process_id}/task"));
    let tasks = tasks.map_err(|_| gone(process_id))?;
    let of = |task: std::path::PathBuf| {
        let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
        ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"]
            .map(|name| number(&status, name))
            .iter()
            .sum::<u64>()
    };
    Ok(tasks.flatten().map(|task| of(task.path())).sum())
}

/// Memory that is there for this process: its own and its program's, not the guest's that it maps.
///
/// # Errors
/// It is gone.
pub fn resident_kib(process_id: u32) -> Result<u64, String> {
    let status = std::fs::read_to_string(format!("/proc/{process_id}/status"));
    let status = status.map_err(|_| gone(process_id))?;
    Ok(number(&status, "RssAnon:") + number(&status, "RssFile:"))
}

fn number(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
