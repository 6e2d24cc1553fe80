//! The directory in which a daemon keeps the faults of its disks for the next one.
//!
//! Knows: one [`Journal`] per disk, whose first line is a snapshot and whose others are records.
//! Must not know: what they say. Invariants: what was replied to an operator is on file before the
//! reply, or is refused; where the host could not write what a request did, the file says so itself; a
//! file that cannot be understood is left alone and the disk is not made, because its faults would be
//! others than the operator believes.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::journal::Journal;
use crate::block::{Keeper, Record, Snapshot};
use crate::guard::{self, Want};
use crate::qapi::QmpError;
use crate::retry::Retry;

/// Which way of writing a snapshot and its records this is.
const VERSION: u32 = 1;

/// The directory.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

/// The first line of a file.
#[derive(Serialize, Deserialize)]
struct Head<S> {
    #[serde(rename = "blkfault-state")]
    version: u32,
    snapshot: S,
}

/// What is known of a disk's faults from before, and where to write what comes.
pub(super) struct Remembered {
    pub(super) snapshot: Option<Snapshot>,
    /// Nothing happened that the snapshot does not know of.
    pub(super) is_whole: bool,
    pub(super) keeper: Box<dyn Keeper>,
}

impl StateDir {
    /// A directory that exists and may be written; it is made if its parent is there.
    ///
    /// # Errors
    /// What the host says.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Found out now, not when the first disk is made.
        std::fs::read_dir(path)?;
        Ok(Self(path.canonicalize()?))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What is known of this disk's faults.
    pub(super) fn recall(&self, id: &str, retry: Retry) -> Result<Remembered, QmpError> {
        let path = self.0.join(format!("{id}.state"));
        let named = |why: String| format!("State file '{}': {why}", path.display());
        let refused = |why: String| {
            let why = named(why);
            QmpError::generic(format!("{why}: move it away to forget the faults of disk '{id}'"))
        };
        let is_held = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
        let opened = retry.attempt(is_held, || Journal::open(&path));
        let (journal, content) = opened.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => {
                QmpError::generic(named("another process uses it: stop that one first".to_owned()))
            }
            ErrorKind::InvalidData => refused(error.to_string()),
            ErrorKind::PermissionDenied => {
                let why = guard::explanation(&path, Want::All);
                QmpError::generic(named(format!("{error}{why}")))
            }
            _ => QmpError::generic(named(error.to_string())),
        })?;
        let snapshot = replay(&content.lines).map_err(refused)?;
        let is_whole = content.is_whole;
        Ok(Remembered { snapshot, is_whole, keeper: Box::new(InJournal(journal)) })
    }
}

/// What the lines of a file come to; nothing if there are none.
pub(super) fn replay(lines: &[String]) -> Result<Option<Snapshot>, String> {
    let Some((first, rest)) = lines.split_first() else {
        return Ok(None);
    };
    let head: Head<serde_json::Value> =
        serde_json::from_str(first).map_err(|error| format!("line 1: {error}"))?;
    if head.version != VERSION {
        return Err(format!("line 1: version {}: only {VERSION} is known", head.version));
    }
    let snapshot = serde_json::from_value(head.snapshot);
    let mut snapshot: Snapshot = snapshot.map_err(|error| format!("line 1: {error}"))?;
    for (number, line) in (2..).zip(rest) {
        let record: Record =
            serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))?;
        snapshot.meet(record);
    }
    Ok(Some(snapshot))
}

/// The first line of a file that says this.
fn first_line(snapshot: &Snapshot) -> serde_json::Result<String> {
    serde_json::to_string(&Head { version: VERSION, snapshot })
}

/// Writes a disk's faults into a journal.
#[derive(Debug)]
struct InJournal(Journal);

impl Keeper for InJournal {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        self.0.append(&serde_json::to_string(record)?)
    }

    fn miss(&mut self, why: &io::Error) {
        self.0.miss(why);
    }

    fn is_whole(&self) -> bool {
        self.0.is_whole()
    }

    fn wants_all(&self) -> bool {
        self.0.is_due()
    }

    fn replace(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.0.replace(&first_line(snapshot)?)
    }

    fn forget(self: Box<Self>) {
        self.0.remove();
    }
}

/// A door for `tests/fuzz`.
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use super::{Snapshot, first_line, replay};
    use crate::daemon::journal::whole_lines;

    /// What a state file of these bytes comes to; nothing if it has no line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn state_file(bytes: &[u8]) -> Result<Option<Snapshot>, String> {
        let (_, lines) = whole_lines(bytes).map_err(|error| error.to_string())?;
        replay(&lines)
    }

    /// The line that such a file begins with.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn state_line(snapshot: &Snapshot) -> Result<String, String> {
        first_line(snapshot).map(|line| line + "\n").map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::FaultPoint;
    use crate::errno::Errno;
    use crate::fault::IoTypes;
    use crate::fault::engine::{Change, Place};
    use crate::fault::manual::DiskState;
    use crate::fault::rule::{Effect, Rule, RuleName, Trigger};
    use crate::fault::slow::Share;

    fn rule(name: &str) -> Change {
        let trigger =
            Trigger { times: Some(3), probability: Share::new(0.1).ok(), ..Trigger::default() };
        let name = RuleName::new(name).unwrap();
        let rule = Rule::new(name, trigger, Effect::Error(Errno::ENOSPC), false).unwrap();
        Change::AddRule { rule: Box::new(rule), place: Place::Last }
    }

    fn remembered(directory: &Path) -> Remembered {
        StateDir::open(directory).unwrap().recall("disk0", Retry::NEVER).unwrap()
    }

    #[test]
    fn what_an_operator_was_told_is_there_after_a_kill() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let Remembered { snapshot, is_whole, keeper } = remembered(&path);
        assert!(snapshot.is_none() && is_whole);
        let point = FaultPoint::new(7);
        point.set_keeper(keeper).unwrap();
        point.configure(vec![rule("a"), rule("b")]).unwrap();
        let hang = DiskState::Hang { iotypes: IoTypes::ALL, on_release: Some(Errno::EIO) };
        point.configure(vec![Change::SetState(hang.clone())]).unwrap();
        let before = point.overview();
        // The file as a killed process leaves it, read by another one.
        let copy = directory.path().join("copy");
        std::fs::create_dir(&copy).unwrap();
        std::fs::copy(path.join("disk0.state"), copy.join("disk0.state")).unwrap();
        let again = FaultPoint::from_snapshot(remembered(&copy).snapshot.unwrap());
        let after = again.overview();
        assert_eq!((after.state, after.seed), (hang, 7));
        let apart = after.since.duration_since(before.since).unwrap_or_default();
        assert!(apart.as_micros() < 1, "{apart:?}");
        let names: Vec<_> = again.inspect(|engine| {
            engine.rules().map(|report| report.rule.name().to_string()).collect()
        });
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_named_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk0.state");
        let cases = [
            ("nonsense\n", "line 1: expected"),
            ("{\"blkfault-state\":2,\"snapshot\":{}}\n", "version 2: only 1 is known"),
            ("{\"blkfault-state\":1,\"snapshot\":{}}\n", "line 1: missing field"),
        ];
        for (text, expected) in cases {
            std::fs::write(&path, text).unwrap();
            let state = StateDir::open(directory.path()).unwrap();
            let error = state.recall("disk0", Retry::NEVER).err().unwrap().to_string();
            assert!(error.contains(expected) && error.contains("move it away"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
