//! The operators' contract: `qapi/` against the code that is made from it, and both against QEMU.

#[path = "support/qapi/mod.rs"]
mod generator;

#[path = "qapi/examples.rs"]
mod examples;
#[path = "qapi/freshness.rs"]
mod freshness;
#[path = "qapi/introspection.rs"]
mod introspection;
#[path = "qapi/mistakes.rs"]
mod mistakes;
#[path = "qapi/refusals.rs"]
mod refusals;

use std::path::Path;

/// The directory of this package.
fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The schema of this package.
fn schema() -> generator::Schema {
    match generator::load(&package().join("qapi/qapi-schema.json")) {
        Ok(schema) => schema,
        Err(error) => panic!("{error}"),
    }
}
