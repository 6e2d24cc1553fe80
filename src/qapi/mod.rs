//! The contract with operators, in Rust.
//!
//! Knows: names, shapes and error texts of commands and events. Must not know: what they do.
//! Invariant: bytes from an operator become a [`Command`] in [`Command::parse`] and nowhere else.
//!
//! [`types`] is made from the schema in `qapi/` by `tests/support/qapi/`; [`visit`] is what it is
//! made of.

pub mod error;
pub mod introspect;
pub mod path;
pub mod types;
pub mod visit;

pub use error::{ErrorClass, QmpError};
pub use path::Path;
pub use types::{Command, CommandSpec, Event};
pub use visit::Visit;
