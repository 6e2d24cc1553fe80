//! What a process keeps: memory of its own, descriptors, threads, mappings.
//!
//! Knows: /proc. Must not know: what the process does. Invariant: kernel threads that serve its rings
//! (`iou-wrk`) are not its own; they come and go as the kernel likes.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]

use std::fmt;
use std::fs;
use std::path::PathBuf;

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

impl Watched {
    pub fn of(pid: u32) -> Self {
        Self(format!("/proc/{pid}").into())
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
