//! `examples/demo` does what it says, and leaves nothing behind.

#[path = "support"]
mod support {
    pub mod daemon;
    pub mod operator;
    pub mod vm;
}

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::vm::Image;

#[test]
fn the_demo_breaks_and_mends_a_disk_and_leaves_nothing_behind() {
    let Some(image) = Image::for_story("the demo") else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let programs = Path::new(env!("CARGO_BIN_EXE_blkfaultd")).parent().expect("a directory");
    // Should this test be killed, the demo's own trap cleans up.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "examples/demo"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("BLKFAULT_BIN", programs)
        .env("BLKFAULT_GUEST", image.directory())
        .env("TMPDIR", directory.path())
        .stdin(Stdio::null())
        .output()
        .expect("examples/demo");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaints}");
    assert!(said.contains("I/O error, dev vda, sector "), "the kernel's own lines:\n{said}");
    assert!(said.contains("letters: OK"), "what was written before is there:\n{said}");
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0, "files are left");
    assert_eq!(processes_that_name(directory.path()), Vec::<String>::new(), "processes are left");
}

/// The command lines of running processes that name a path.
fn processes_that_name(path: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc");
    let lines = processes.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(path.to_str().expect("a UTF-8 path"))).collect()
}
