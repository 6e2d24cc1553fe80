//! Files that verbs read: lists in JSON.
//!
//! Knows: how to say what is wrong with a file. Must not know: what the lists are for. Invariant: a
//! file that cannot be meant is refused before anything is sent.

use std::path::Path;

use serde_json::Value;

use crate::client::failure::Failure;

/// The text of a file.
pub(super) fn text(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| bad(file, error))
}

/// The list that a file has; `of` and the example tell what it should be.
pub(super) fn list(file: &Path, of: &str, example: &str) -> Result<Vec<Value>, Failure> {
    match serde_json::from_str(&text(file)?).map_err(|error| bad(file, error))? {
        Value::Array(list) => Ok(list),
        _ => Err(bad(file, format!("expected a list of {of}, such as {example}"))),
    }
}

/// What is wrong with a file.
pub(super) fn bad(file: &Path, why: impl ToString) -> Failure {
    Failure::BadFile(file.display().to_string(), why.to_string())
}
