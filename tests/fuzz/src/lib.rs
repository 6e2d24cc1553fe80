//! blkfault's fuzz targets.
//!
//! Each module is a target: what an input means, what must hold for every input, and seeds named by
//! the bugs of other programs that they are like ([`ids`] says which bug is where). The programs in
//! `fuzz_targets` feed them coverage-guided; `tests/seeds.rs` feeds them the seeds and chance's changes
//! to them.

#![allow(clippy::expect_used, reason = "a target that cannot go on has found something")]

pub mod blkdebug;
pub mod chain;
pub mod guest;
pub mod heap;
pub mod ids;
pub mod image;
pub mod inflight;
pub mod input;
pub mod messages;
pub mod model;
pub mod monitor;
pub mod options;
pub mod reads;
pub mod request;
pub mod rng;
pub mod rules;
pub mod session;
pub mod shared;
pub mod state;
pub mod wire;

/// A name and the input.
pub type Seed = (&'static str, Vec<u8>);

/// One way in.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The program's name.
    pub name: &'static str,
    /// Try an input; panics where something does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Seed>,
    /// Changed inputs that take a few seconds.
    pub few: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "f01_chain", run: chain::run, seeds: chain::seeds, few: 20000 },
    Target { name: "f02_request", run: request::run, seeds: request::seeds, few: 2000 },
    Target { name: "f03_messages", run: messages::run, seeds: messages::seeds, few: 2000 },
    Target { name: "f04_session", run: session::run, seeds: session::seeds, few: 1000 },
    Target { name: "f05_inflight", run: inflight::run, seeds: inflight::seeds, few: 2000 },
    Target { name: "f07_monitor", run: monitor::run, seeds: monitor::seeds, few: 1000 },
    Target { name: "f08_rules", run: rules::run, seeds: rules::seeds, few: 8000 },
    Target { name: "f10_options", run: options::run, seeds: options::seeds, few: 4000 },
];
