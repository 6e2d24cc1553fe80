//! What the daemon tells about its own contract.
//!
//! Knows: the answer of `query-qmp-schema`, made from the schema in `qapi/` by
//! `tests/support/qapi/`. Must not know: what any of it means. Invariant: it says what `qapi/` says; a
//! test compares.

use serde_json::Value;

/// The answer as JSON, an array of `SchemaInfo` with an entry a line.
pub const SCHEMA_JSON: &str = include_str!("introspect.json");

/// The answer of `query-qmp-schema`.
///
/// # Panics
/// Never: [`SCHEMA_JSON`] is generated, and a test reads it.
#[must_use]
pub fn schema() -> Value {
    serde_json::from_str(SCHEMA_JSON).expect("generated JSON is JSON")
}
