//! Orders of loads and stores that no test can wait for, tried one by one.
//!
//! RUSTFLAGS='--cfg loom' LOOM_MAX_PREEMPTIONS=3 cargo test --release --manifest-path tests/loom/Cargo.toml \
//!     --target-dir target/loom
//!
//! What is tried is the product's own files, built with loom's atomics, locks and condition variables.

#![cfg(all(test, loom))]

#[path = "../../../src/export/handoff.rs"]
mod handoff;
#[path = "../../../src/export/mapping/slot.rs"]
mod slot;

mod handoff_models;
mod slot_models;
