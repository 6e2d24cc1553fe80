//! The laws of the house that a machine can check; src/lib.rs states them.
//!
//! Each failure says which law, where, and why the law is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest file that a reader takes in, in lines.
const FILE_LINES_MAX: usize = 500;

struct SourceFile {
    /// Relative to the project's root, with `/`.
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_under(folder: &str, extensions: &[&str]) -> Vec<SourceFile> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let wanted = |path: &PathBuf| {
                path.extension().is_some_and(|e| extensions.contains(&e.to_str().unwrap_or("")))
            };
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if wanted(&path) {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().display().to_string();
                found.push(SourceFile { path, text });
            }
        }
    }
    assert!(!found.is_empty(), "nothing was found under {folder}");
    found
}

fn rust_files() -> Vec<SourceFile> {
    ["src", "tests"].iter().flat_map(|folder| files_under(folder, &["rs"])).collect()
}

/// The code of a file: without its comments, and without its unit tests.
fn code(file: &SourceFile) -> String {
    let code = file.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let ends = word.ends_with(':') || !after.is_some_and(is_word);
        ends && !before.is_some_and(is_word)
    })
}

fn under(path: &str, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| path.starts_with(room))
}

/// Files of src/ outside `rooms` that name one of the words; a crate is named by its paths.
fn trespassers(words: &[&str], rooms: &[&str]) -> String {
    let mut found = String::new();
    for file in files_under("src", &["rs"]) {
        let code = code(&file);
        for word in words.iter().filter(|word| names(&code, word)) {
            if !under(&file.path, rooms) {
                writeln!(found, "{} names {word}", file.path).unwrap();
            }
        }
    }
    found
}

#[test]
fn only_the_guest_s_door_knows_vhost_user_and_virtqueues() {
    let found = trespassers(
        &["vhost::", "vhost_user_backend::", "virtio_queue::", "virtio_bindings::"],
        &["src/export/"],
    );
    assert!(found.is_empty(), "keep the protocol in src/export, so that it can change:\n{found}");
}

#[test]
fn only_the_raw_image_s_ring_knows_io_uring() {
    let found = trespassers(&["io_uring::"], &["src/block/raw/uring"]);
    assert!(found.is_empty(), "one place to get its lifetimes right:\n{found}");
}

#[test]
fn only_the_guard_gives_privileges_up() {
    let found = trespassers(&["seccompiler::", "landlock::", "nix::"], &["src/guard/"]);
    assert!(found.is_empty(), "one place tells what the daemon is left with:\n{found}");
}

#[test]
fn unsafe_code_lives_where_memory_is_shared() {
    let rooms = ["src/export/", "src/block/raw/", "src/block/buffers.rs", "src/bin/blkfaultd.rs"];
    let found = trespassers(&["unsafe"], &rooms);
    assert!(found.is_empty(), "everything else can be read without fear:\n{found}");
}

#[test]
fn the_decision_is_pure() {
    let words = [
        "Instant",
        "SystemTime",
        "thread",
        "File",
        "fs",
        "net",
        "env",
        "HashMap",
        "HashSet",
        "thread_rng",
        "static",
    ];
    let mut found = String::new();
    let rooms = ["src/fault", "src/monitor/framing", "src/monitor/session"];
    for file in rooms.iter().flat_map(|room| files_under(room, &["rs"])) {
        let code = code(&file).replace("'static", "");
        for word in words.iter().filter(|word| names(&code, word)) {
            writeln!(found, "{} names {word}", file.path).unwrap();
        }
    }
    assert!(
        found.is_empty(),
        "same seed, same requests, same faults: take it as an argument:\n{found}"
    );
}

#[test]
fn every_module_begins_by_saying_what_it_knows() {
    let mut found = String::new();
    for file in files_under("src", &["rs"]) {
        // A unit test beside its module, which has the header.
        if file.path.ends_with("/tests.rs") {
            continue;
        }
        let first = file.text.lines().next().unwrap_or("");
        if !first.starts_with("//! ") {
            writeln!(found, "{}: {first}", file.path).unwrap();
        }
    }
    assert!(found.is_empty(), "begin with //! and what the module knows:\n{found}");
}

#[test]
fn no_file_is_too_long_to_take_in() {
    let mut found = String::new();
    for file in rust_files() {
        let lines = file.text.lines().count();
        let generated = ["src/qapi/types.rs", "src/qapi/introspect.rs"].contains(&&file.path[..]);
        if lines > FILE_LINES_MAX && !generated {
            writeln!(found, "{}: {lines} lines", file.path).unwrap();
        }
    }
    assert!(found.is_empty(), "cut along what the parts know:\n{found}");
}

#[test]
fn nothing_unfinished_is_kept() {
    // Put together here, so that this file passes.
    let marks = ["FIX".to_owned() + "ME", "XX".to_owned() + "X", "#[ign".to_owned() + "ore"];
    let mut found = String::new();
    for file in rust_files() {
        for mark in marks.iter().filter(|mark| file.text.contains(mark.as_str())) {
            writeln!(found, "{}: {mark}", file.path).unwrap();
        }
    }
    assert!(found.is_empty(), "finish it, or write an issue:\n{found}");
}

#[test]
fn the_manual_names_files_that_are_there() {
    let mut found = String::new();
    let mut pages = files_under("src/manual", &["md"]);
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    pages.push(SourceFile { path: "README.md".to_owned(), text: readme });
    for page in pages {
        // What is between backquotes and begins with a folder of ours.
        for name in page.text.split('`').skip(1).step_by(2) {
            let ours = ["src/", "tests/", "examples/", "benches/", "qapi/"];
            let path = name.split_whitespace().next().unwrap_or("");
            if under(path, &ours) && !root().join(path).exists() {
                writeln!(found, "{}: {path}", page.path).unwrap();
            }
        }
    }
    assert!(found.is_empty(), "a reader looks for what the manual names:\n{found}");
}

fn cargo(arguments: &[&str]) {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .env("RUSTDOCFLAGS", "-D warnings")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "cargo {}:\n{text}", arguments.join(" "));
}

#[test]
fn the_code_is_formatted() {
    cargo(&["fmt", "--check"]);
}

/// Both in one test: they build the same crates and would wait for each other.
#[test]
fn clippy_and_rustdoc_have_nothing_to_say() {
    cargo(&["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]);
    cargo(&["doc", "--quiet", "--no-deps", "--document-private-items"]);
}
