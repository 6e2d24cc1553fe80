//! A file that tells, line by line, how something came to be as it is.
//!
//! Knows: files, and that a process may be killed between any two system calls. Must not know: what
//! the lines say. Invariants: what [`append`](Journal::append) wrote is read again after a SIGKILL at
//! any later moment, because the page cache outlives the process (a host that loses power may lose
//! it); a line that was cut off is not read; the file is one process's alone.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A journal is worth being replaced from this length on.
const LONG_BYTES: u64 = 1 << 20;
/// And from so many times what it was replaced by.
const LONG_FACTOR: u64 = 4;
/// The most that is read of one.
const BYTES_MAX: u64 = 1 << 30;

/// An open journal, to be written at its end.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Its length when it was last written anew.
    anew_bytes: u64,
    /// A write failed: nothing written later would make sense.
    is_broken: bool,
}

impl Journal {
    /// Open a journal, or begin one, and read its lines. Its directory must exist.
    ///
    /// # Errors
    /// What the host says; `WouldBlock` where another process has it; `InvalidData` where it is no
    /// regular file, too long or no text.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<String>)> {
        let mut file = private().read(true).append(true).create(true).open(path)?;
        if !file.metadata()?.is_file() {
            // A pipe or a device might have no end.
            return Err(invalid("not a regular file".to_owned()));
        }
        lock(&file)?;
        let bytes = file.metadata()?.len();
        if bytes > BYTES_MAX {
            return Err(invalid(format!("{bytes} bytes are too long")));
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let (whole, lines) = whole_lines(&text)?;
        if whole < text.len() {
            // The last line was cut off: what comes next must not be read as part of it.
            file.set_len(whole as u64)?;
        }
        let path = path.to_owned();
        let bytes = whole as u64;
        Ok((Self { path, file, bytes, anew_bytes: bytes, is_broken: false }, lines))
    }

    /// Add a line. The first failure is logged; from then on nothing is written until the journal
    /// is replaced.
    pub(super) fn append(&mut self, line: &str) {
        if self.is_broken {
            return;
        }
        // One write, so that it is there whole or can be told from one that is.
        let mut text = String::with_capacity(line.len() + 1);
        text.push_str(line);
        text.push('\n');
        match self.file.write_all(text.as_bytes()) {
            Ok(()) => self.bytes += text.len() as u64,
            Err(error) => self.fail(&error),
        }
    }

    /// Whether it has grown so long that it is worth being replaced.
    pub(super) fn is_long(&self) -> bool {
        self.is_broken || self.bytes > LONG_BYTES.max(self.anew_bytes * LONG_FACTOR)
    }

    /// Say it all anew in one line. Until that is done the old journal stays.
    pub(super) fn replace(&mut self, line: &str) {
        match self.try_replace(line) {
            Ok(file) => {
                self.file = file;
                self.bytes = line.len() as u64 + 1;
                self.anew_bytes = self.bytes;
                self.is_broken = false;
            }
            Err(error) => self.fail(&error),
        }
    }

    fn try_replace(&self, line: &str) -> io::Result<File> {
        let path = self.path.with_extension("new");
        let mut file = private().write(true).create(true).truncate(true).open(&path)?;
        lock(&file)?;
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
        std::fs::rename(&path, &self.path)?;
        Ok(file)
    }

    /// There is nothing to remember any more.
    pub(super) fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::warn!("state file {}: {error}", self.path.display());
        }
    }

    /// What is to be written cannot be.
    pub(super) fn fail(&mut self, error: &io::Error) {
        if !self.is_broken {
            log::error!(
                "state file {}: {error}: what happens from now on is forgotten when the daemon ends",
                self.path.display()
            );
        }
        self.is_broken = true;
    }
}

/// The lines of a file, and where they end: a line that was cut off, be it in the middle of a
/// character, is none.
pub(super) fn whole_lines(text: &[u8]) -> io::Result<(usize, Vec<String>)> {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let whole_text = text.get(..whole).unwrap_or_default();
    let whole_text = str::from_utf8(whole_text).map_err(|error| invalid(error.to_string()))?;
    Ok((whole, whole_text.lines().map(ToOwned::to_owned).collect()))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

fn private() -> std::fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.mode(0o600);
    options
}

fn lock(file: &File) -> io::Result<()> {
    flock(file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reopened(path: &Path) -> Vec<String> {
        Journal::open(path).unwrap().1
    }

    #[test]
    fn lines_are_read_again_and_one_that_was_cut_off_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk0.state");
        let (mut journal, before) = Journal::open(&path).unwrap();
        assert!(before.is_empty());
        journal.append("one");
        journal.append("two");
        drop(journal);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"thr").unwrap();
        let (mut journal, lines) = Journal::open(&path).unwrap();
        assert_eq!(lines, ["one", "two"]);
        journal.append("four");
        drop(journal);
        assert_eq!(reopened(&path), ["one", "two", "four"]);
    }

    #[test]
    fn a_long_journal_is_replaced_by_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk0.state");
        let (mut journal, _) = Journal::open(&path).unwrap();
        let line = "x".repeat(1000);
        let mut written = 0;
        while !journal.is_long() {
            journal.append(&line);
            written += 1;
        }
        assert!(written > 1000, "{written}");
        journal.replace("all of it");
        assert!(!journal.is_long());
        journal.append("and more");
        drop(journal);
        assert_eq!(reopened(&path), ["all of it", "and more"]);
    }

    #[test]
    fn a_journal_is_one_process_s_alone_and_can_be_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk0.state");
        let (mut journal, _) = Journal::open(&path).unwrap();
        assert_eq!(Journal::open(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
        journal.replace("still locked");
        assert_eq!(Journal::open(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
        journal.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_line_that_was_cut_off_in_a_character_is_not_read_either() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk0.state");
        let text = "häl\n🖴\n".as_bytes();
        for end in 0..=text.len() {
            std::fs::write(&path, &text[..end]).unwrap();
            let whole = [text.len(), 5, 0].into_iter().find(|whole| *whole <= end).unwrap();
            let expected: Vec<_> = str::from_utf8(&text[..whole]).unwrap().lines().collect();
            assert_eq!(reopened(&path), expected, "{end} bytes");
            assert_eq!(std::fs::read(&path).unwrap(), &text[..whole]);
        }
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk0.state");
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::InvalidData, "not a regular file")
        );
    }

    #[test]
    fn a_file_that_is_no_text_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk0.state");
        std::fs::write(&path, [0xff, b'\n']).unwrap();
        assert_eq!(Journal::open(&path).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
