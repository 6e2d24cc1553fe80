//! The generator behind `src/qapi/`: reads `qapi/` and renders what is committed there.
//!
//! Knows: QEMU's schema dialect (docs/devel/qapi-code-gen), the part of it that this project uses,
//! and how the types look in Rust. Must not know: what any command does. Invariant: whatever is
//! wrong with a schema is an error with file and line; nothing is skipped.

pub(crate) mod check;
pub(crate) mod conform;
pub(crate) mod doc;
pub(crate) mod introspect;
pub(crate) mod model;
pub(crate) mod parser;
pub(crate) mod rust;
mod text;

pub(crate) use model::Schema;

use std::fmt;
use std::path::Path;
use std::rc::Rc;

/// A line of a schema file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file's name, without its directory.
    pub(crate) file: Rc<str>,
    /// Counted from 1.
    pub(crate) line: usize,
}

impl Place {
    /// An error here.
    pub(crate) fn error(&self, message: impl fmt::Display) -> SchemaError {
        SchemaError { place: self.clone(), message: message.to_string() }
    }
}

/// What is wrong with a schema, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SchemaError {
    place: Place,
    message: String,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.place.file, self.place.line, self.message)
    }
}

/// Reads a schema and everything it includes.
pub(crate) fn load(main: &Path) -> Result<Schema, SchemaError> {
    let name = main.file_name().unwrap_or_default().to_string_lossy();
    Schema::from_files(&name, &mut |file| {
        let path = main.with_file_name(file);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    })
}
