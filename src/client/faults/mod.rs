//! The verbs that break disks: states, rules, breakpoints.
//!
//! Knows: their options and what these are in the monitor's words. Must not know: what a fault does.
//! Invariant: what the command line cannot mean is refused before anything is sent.

pub(super) mod args;
mod delay;
mod file;
pub(super) mod held;
mod json;
mod load;
mod period;
pub(super) mod rules;
mod shape;
mod spec;
pub(super) mod states;
