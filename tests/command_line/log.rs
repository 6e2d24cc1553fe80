//! What the daemon writes to standard error: how much of it, and when that was.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::BLKFAULTD;

#[test]
fn a_log_level_that_means_nothing_is_told_and_the_default_holds() {
    let folder = tempfile::tempdir().unwrap();
    let log = |level: &str| {
        let mut command = Command::new(BLKFAULTD);
        command.args(["--blk-file", "/nowhere", "--socket-path", "x"]).current_dir(&folder);
        let output = command.env("BLKFAULT_LOG", level).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let told = log("verbose");
    for part in ["WARN", "BLKFAULT_LOG: 'verbose' is not a level", "debug and trace", "/nowhere"] {
        assert!(told.contains(part), "{told}");
    }
    for level in ["error", "INFO", "warn,blkfault::export=debug", ""] {
        assert!(!log(level).contains("BLKFAULT_LOG"), "{level}");
    }
    // [2026-01-01T00:00:00.000000Z WARN ...
    let time = told.strip_prefix('[').and_then(|told| told.split_once(' ')).unwrap().0;
    let as_digits = time.replace(|c: char| c.is_ascii_digit(), "0");
    assert_eq!(
        as_digits, "0000-00-00T00:00:00.000000Z",
        "whoever reads it without a journal: {told}"
    );
}

#[test]
fn the_journal_is_not_told_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let journal = File::create(&path).unwrap();
    let its = journal.metadata().unwrap();
    let mut command = Command::new(BLKFAULTD);
    command.args(["--blk-file", "/nowhere", "--socket-path", "x"]).current_dir(&folder);
    command.env("BLKFAULT_LOG", "verbose").stderr(journal);
    command.env("JOURNAL_STREAM", format!("{}:{}", its.dev(), its.ino()));
    assert_eq!(command.status().unwrap().code(), Some(1));
    let told = std::fs::read_to_string(path).unwrap();
    assert!(told.starts_with("[WARN "), "{told}");
}
