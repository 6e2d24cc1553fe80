//! A file that tells, line by line, how something came to be as it is.
//!
//! Knows: files, and that a process may be killed between any two system calls. Must not know: what
//! the lines say, but that each is a JSON object. Invariants: what [`append`](Journal::append) wrote is
//! read again after a SIGKILL at any later moment, because the page cache outlives the process (a host
//! that loses power may lose it); a line that was cut off is not read; a journal from which something
//! is missing says so, by a mark that takes no space; the file is one process's alone.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// A journal is worth being replaced from this length on.
const LONG_BYTES: u64 = 1 << 20;
/// And from so many times what it was replaced by.
const LONG_FACTOR: u64 = 4;
/// The most that is read of one.
const BYTES_MAX: u64 = 1 << 30;

/// How long until the next attempt to write it anew, where one failed and nobody waits for it.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The first byte of every line, and so of the file.
const BEGIN: u8 = b'{';
/// What is there instead once something is missing.
const MARK: u8 = b'!';

/// An open journal, to be written at its end.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Its length when it was last written anew.
    anew_bytes: u64,
    /// Something is missing: nothing written later would make sense.
    is_whole: bool,
    /// When it could not be written anew.
    failed_at: Option<Instant>,
}

/// What was in a journal.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) lines: Vec<String>,
    /// Nothing is missing behind the lines.
    pub(super) is_whole: bool,
}

impl Journal {
    /// Open a journal, or begin one, and read its lines. Its directory must exist.
    ///
    /// # Errors
    /// What the host says; `WouldBlock` where another process has it; `InvalidData` where it is no
    /// regular file, too long or no text.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Content)> {
        let mut file = open_locked(path)?;
        if !file.metadata()?.is_file() {
            // A pipe or a device might have no end.
            return Err(invalid("not a regular file".to_owned()));
        }
        let bytes = file.metadata()?.len();
        if bytes > BYTES_MAX {
            return Err(invalid(format!("{bytes} bytes are too long")));
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let is_whole = text.first() != Some(&MARK);
        if !is_whole {
            text[0] = BEGIN;
        }
        let (whole, lines) = whole_lines(&text)?;
        if whole < text.len() {
            // The last line was cut off: what comes next must not be read as part of it.
            file.set_len(whole as u64)?;
            file.seek(SeekFrom::End(0))?;
        }
        let path = path.to_owned();
        let bytes = whole as u64;
        let journal = Self { path, file, bytes, anew_bytes: bytes, is_whole, failed_at: None };
        Ok((journal, Content { lines, is_whole }))
    }

    /// Add a line.
    ///
    /// # Errors
    /// What the host says; then the journal is as it was.
    pub(super) fn append(&mut self, line: &str) -> io::Result<()> {
        debug_assert!(line.as_bytes().first() == Some(&BEGIN), "{line}");
        // One write, so that it is there whole or can be told from one that is.
        let mut text = String::with_capacity(line.len() + 1);
        text.push_str(line);
        text.push('\n');
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            // A part of it may be there. Where even that cannot be undone, it is a line cut off.
            let _ = self.file.set_len(self.bytes);
            let _ = self.file.seek(SeekFrom::Start(self.bytes));
            return Err(self.named(&error));
        }
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Whether it is worth being replaced: it has grown so long, or something is missing.
    pub(super) fn is_due(&self) -> bool {
        let is_long = self.bytes > LONG_BYTES.max(self.anew_bytes * LONG_FACTOR);
        let may_try = self.failed_at.is_none_or(|at| at.elapsed() >= AGAIN_AFTER);
        (is_long || !self.is_whole) && may_try
    }

    /// Whether nothing is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Say it all anew in one line. Until that is done the old journal stays.
    ///
    /// # Errors
    /// What the host says; then the journal is as it was.
    pub(super) fn replace(&mut self, line: &str) -> io::Result<()> {
        let replaced = self.try_replace(line);
        self.failed_at = replaced.is_err().then(Instant::now);
        self.file = replaced.map_err(|error| self.named(&error))?;
        self.bytes = line.len() as u64 + 1;
        self.anew_bytes = self.bytes;
        if !self.is_whole {
            log::warn!("state file {}: nothing is missing any more", self.path.display());
        }
        self.is_whole = true;
        Ok(())
    }

    fn try_replace(&self, line: &str) -> io::Result<File> {
        let path = new_path(&self.path);
        let write = || {
            let mut file = private().write(true).create(true).truncate(true).open(&path)?;
            lock(&file)?;
            file.write_all(line.as_bytes())?;
            file.write_all(b"\n")?;
            std::fs::rename(&path, &self.path)?;
            Ok(file)
        };
        // What is there of it takes space that may be what is missing.
        write().inspect_err(|_| drop(std::fs::remove_file(&path)))
    }

    /// Something could not be written, and has happened all the same.
    pub(super) fn miss(&mut self, why: &io::Error) {
        if !self.is_whole {
            return;
        }
        self.is_whole = false;
        self.failed_at = Some(Instant::now());
        let marked = self.mark();
        log::error!(
            "{why}: what requests do to the faults is not kept until it can be written again"
        );
        if let Err(error) = marked {
            log::error!(
                "state file {}: cannot be marked as incomplete either ({error}): do not believe it \
                 if the daemon dies now",
                self.path.display()
            );
        }
    }

    /// Over a byte that is there, because there may be no space for another.
    fn mark(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&[MARK])?;
        self.file.seek(SeekFrom::Start(self.bytes))?;
        Ok(())
    }

    /// An error of the host with the file's name.
    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("state file {}: {error}", self.path.display()))
    }

    /// There is nothing to remember any more.
    pub(super) fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::warn!("state file {}: {error}", self.path.display());
        }
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

/// Where a journal is written that is going to replace another.
fn new_path(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Open the file at a path and lock it. A daemon that was still at work may have put another file
/// there between the two.
///
/// # Errors
/// What the host says; `WouldBlock` where another process has it.
pub(super) fn open_locked(path: &Path) -> io::Result<File> {
    open_locked_after(path, || ())
}

/// The same; `opened` comes between the two.
fn open_locked_after(path: &Path, mut opened: impl FnMut()) -> io::Result<File> {
    loop {
        let file = private().read(true).write(true).create(true).truncate(false).open(path)?;
        opened();
        lock(&file)?;
        let (locked, there) = (file.metadata()?, path.metadata());
        match there {
            Ok(there) if (there.dev(), there.ino()) == (locked.dev(), locked.ino()) => {
                return Ok(file);
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

fn lock(file: &File) -> io::Result<()> {
    flock(file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reopened(path: &Path) -> Vec<String> {
        Journal::open(path).unwrap().1.lines
    }

    #[test]
    fn lines_are_read_again_and_one_that_was_cut_off_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk0.state");
        let (mut journal, before) = Journal::open(&path).unwrap();
        assert!(before.lines.is_empty() && before.is_whole);
        journal.append("{1}").unwrap();
        journal.append("{2}").unwrap();
        drop(journal);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{3").unwrap();
        let (mut journal, content) = Journal::open(&path).unwrap();
        assert_eq!(content.lines, ["{1}", "{2}"]);
        journal.append("{4}").unwrap();
        drop(journal);
        assert_eq!(reopened(&path), ["{1}", "{2}", "{4}"]);
    }

    #[test]
    fn a_long_journal_is_replaced_by_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk0.state");
        let (mut journal, _) = Journal::open(&path).unwrap();
        let line = format!("{{{}}}", "x".repeat(1000));
        let mut written = 0;
        while !journal.is_due() {
            journal.append(&line).unwrap();
            written += 1;
        }
        assert!(written > 1000, "{written}");
        journal.replace("{all of it}").unwrap();
        assert!(!journal.is_due());
        journal.append("{and more}").unwrap();
        drop(journal);
        assert_eq!(reopened(&path), ["{all of it}", "{and more}"]);
    }

    #[test]
    fn what_is_missing_is_marked_until_all_of_it_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk0.state");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append("{1}").unwrap();
        journal.miss(&io::Error::other("as the test says"));
        assert!(!journal.is_whole());
        drop(journal);
        // Still so in another process, and in the one after it.
        for _ in 0..2 {
            let (journal, content) = Journal::open(&path).unwrap();
            assert_eq!(content.lines, ["{1}"]);
            assert!(!content.is_whole && !journal.is_whole() && journal.is_due());
        }
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.replace("{2}").unwrap();
        assert!(journal.is_whole() && !journal.is_due());
        journal.append("{3}").unwrap();
        drop(journal);
        let (_, content) = Journal::open(&path).unwrap();
        assert_eq!(content.lines, ["{2}", "{3}"]);
        assert!(content.is_whole);
    }

    #[test]
    fn a_file_that_was_replaced_between_opening_and_locking_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk0.state");
        std::fs::write(&path, "{old}\n").unwrap();
        let mut replaced = 0;
        let mut file = open_locked_after(&path, || {
            if replaced < 3 {
                // A living daemon replaces its journal and ends, by death or by forgetting it.
                std::fs::write(new_path(&path), format!("{{new {replaced}}}\n")).unwrap();
                std::fs::rename(new_path(&path), &path).unwrap();
                replaced += 1;
            } else if replaced == 3 {
                std::fs::remove_file(&path).unwrap();
                std::fs::write(&path, "{newest}\n").unwrap();
                replaced += 1;
            }
        })
        .unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), replaced), ("{newest}\n", 4));
    }

    #[test]
    fn a_journal_is_one_process_s_alone_and_can_be_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk0.state");
        let (mut journal, _) = Journal::open(&path).unwrap();
        assert_eq!(Journal::open(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
        journal.replace("{still locked}").unwrap();
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
