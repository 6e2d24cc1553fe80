//! The contract with operators, in Rust.
//!
//! Knows: names, shapes and error texts of commands and events. Must not know: what they do.

pub mod error;

pub use error::{ErrorClass, QmpError};
