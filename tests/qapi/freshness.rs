//! Whether the committed code is what the schema says.  `UPDATE=1` makes it so.

use super::{generator, package, schema};
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn the_committed_types_are_what_the_schema_says() {
    compare("src/qapi/types.rs", &rustfmt(&generator::rust::render(&schema())));
}

#[test]
fn the_committed_introspection_is_what_the_schema_says() {
    compare("src/qapi/introspect.json", &generator::introspect::render(&schema()));
}

/// Compares a generated file with the committed one, or rewrites it with `UPDATE=1`.
fn compare(file: &str, generated: &str) {
    let path = package().join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, generated).expect("the file can be written");
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let same = committed.lines().zip(generated.lines()).take_while(|(old, new)| old == new);
    let line = same.count() + 1;
    assert!(
        committed == generated,
        "{file} is not what qapi/ says, from line {line} on; \
         run UPDATE=1 cargo test --test qapi and commit what it writes"
    );
}

/// Formats Rust as `cargo fmt` would.
fn rustfmt(text: &str) -> String {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024"])
        .current_dir(package())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("rustfmt runs (rustup component add rustfmt)");
    let mut input = child.stdin.take().expect("stdin is a pipe");
    input.write_all(text.as_bytes()).expect("rustfmt reads");
    drop(input);
    let output = child.wait_with_output().expect("rustfmt ends");
    assert!(output.status.success(), "rustfmt refuses what was generated:\n{text}");
    String::from_utf8(output.stdout).expect("Rust is UTF-8")
}
