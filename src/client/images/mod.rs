//! The verbs that make, list and take away nodes and disks, and open images again.
//!
//! Knows: their options and what these are in the monitor's words. Must not know: how an image is
//! opened. Invariant: an option that was not given is not sent, but for `reopen`, which keeps what the
//! daemon tells of a node.

pub(super) mod args;
mod reopen;
pub(super) mod verbs;
