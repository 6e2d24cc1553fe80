//! What a process keeps: memory of its own, descriptors, threads, mappings.
//!
//! Knows: /proc. Must not know: what the process does. Invariant: kernel threads that serve its rings
//! (`iou-wrk`) are not its own; they come and go as the kernel likes.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A process that is watched.
#[derive(Debug)]
pub struct Watched(PathBuf);

/// What it keeps at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Memory that is neither a file's nor shared.
    pub anonymous_kib: u64,
    pub descriptors: usize,
    pub threads: usize,
    pub mappings: usize,
}

/// Memory at one moment, and the most there was before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub anonymous_kib: u64,
    /// A file's or shared.
    other_kib: u64,
    /// Of all kinds, since [`Watched::forget_peak`].
    peak_kib: u64,
}

impl Memory {
    /// How much more memory of its own there was at most than at an earlier moment.
    pub fn peak_since(self, before: Self) -> u64 {
        let others = self.other_kib.max(before.other_kib);
        self.peak_kib.saturating_sub(others).saturating_sub(before.anonymous_kib)
    }

    /// How much more memory of its own there is than at an earlier moment.
    pub fn kept_since(self, before: Self) -> u64 {
        self.anonymous_kib.saturating_sub(before.anonymous_kib)
    }
}

impl Watched {
    pub fn of(pid: u32) -> Self {
        Self(format!("/proc/{pid}").into())
    }

    /// Begin anew to look for the most memory.
    pub fn forget_peak(&self) {
        fs::write(self.0.join("clear_refs"), "5").expect("a process of ours");
    }

    pub fn memory(&self) -> Memory {
        let status = fs::read_to_string(self.0.join("status")).expect("it lives");
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).expect("KiB")
        };
        Memory {
            anonymous_kib: kib("RssAnon:"),
            other_kib: kib("RssFile:") + kib("RssShmem:"),
            peak_kib: kib("VmHWM:"),
        }
    }

    /// How long its threads, those that are there, have had a processor. One that has it right now may
    /// be some milliseconds behind.
    pub fn cpu_time(&self) -> Duration {
        let tasks = fs::read_dir(self.0.join("task")).expect("it lives");
        let on_cpu_ns = |task: fs::DirEntry| {
            let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            schedstat.split_whitespace().next().and_then(|word| word.parse::<u64>().ok())
        };
        Duration::from_nanos(tasks.filter_map(Result::ok).filter_map(on_cpu_ns).sum())
    }

    pub fn sample(&self) -> Sample {
        let read = |name: &str| fs::read_to_string(self.0.join(name)).expect("it lives");
        let status = read("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
        };
        let is_own = |task: &fs::DirEntry| {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            !name.starts_with("iou-")
        };
        let tasks = fs::read_dir(self.0.join("task")).expect("it lives");
        Sample {
            anonymous_kib: field("RssAnon:"),
            descriptors: fs::read_dir(self.0.join("fd")).expect("it lives").count(),
            threads: tasks.filter_map(Result::ok).filter(is_own).count(),
            mappings: read("maps").lines().count(),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { anonymous_kib, descriptors, threads, mappings } = self;
        write!(
            f,
            "{anonymous_kib} KiB, {descriptors} descriptors, {threads} threads, {mappings} mappings"
        )
    }
}
