//! What is logged, as the environment variable `BLKFAULT_LOG` says it.
//!
//! Knows: levels, the directives of `env_logger`, how systemd says where its journal is. Must not know:
//! who logs. Invariant: a value that means nothing never silences the log; it is complained about, and
//! the default holds.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use log::LevelFilter;

use crate::nearest::nearest;

/// Names what is logged.
pub const LOG_VARIABLE: &str = "BLKFAULT_LOG";

const DEFAULT: &str = "warn";

/// Names the stream that systemd has connected to its journal: its device and inode.
pub const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";

/// Whether what is written there goes to the journal, which says itself when that was. `named` is the
/// value of [`JOURNAL_VARIABLE`], which a process inherits even if its output goes elsewhere.
#[must_use]
pub fn goes_to_the_journal(named: Option<&OsStr>, stream: impl AsFd) -> bool {
    let Ok(found) = rustix::fs::fstat(stream) else { return false };
    let found = format!("{}:{}", found.st_dev, found.st_ino);
    named.is_some_and(|named| *named == *found)
}

/// What to log, and what was wrong with what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChoice {
    /// Directives for `env_logger`.
    pub directives: String,
    /// What to tell people, if the value meant nothing.
    pub complaint: Option<String>,
}

impl LogChoice {
    /// What a value of the variable means; an empty one is none.
    ///
    /// ```
    /// use blkfault::options::LogChoice;
    ///
    /// assert_eq!(LogChoice::of(Some("debug".as_ref())).directives, "debug");
    /// assert!(LogChoice::of(Some("verbose".as_ref())).complaint.is_some());
    /// ```
    #[must_use]
    pub fn of(value: Option<&OsStr>) -> Self {
        let value = value.unwrap_or_default().to_string_lossy();
        let default = |complaint| Self { directives: DEFAULT.to_owned(), complaint };
        if value.trim().is_empty() {
            return default(None);
        }
        match value.split(',').map(str::trim).find(|directive| !means_something(directive)) {
            None => Self { directives: value.into_owned(), complaint: None },
            Some(bad) => default(Some(complaint(bad))),
        }
    }
}

/// A level, or a module with one. A module alone is not accepted, since every mistyped level is one.
fn means_something(directive: &str) -> bool {
    let is_level = |text: &str| text.parse::<LevelFilter>().is_ok();
    let is_path = |text: &str| {
        let may_be_in_it = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
        !text.is_empty() && text.chars().all(may_be_in_it)
    };
    match directive.split_once('=') {
        None => is_level(directive),
        Some((module, level)) => is_path(module) && is_level(level),
    }
}

fn complaint(bad: &str) -> String {
    let levels = LevelFilter::iter().map(|level| level.as_str());
    let level = bad.rsplit('=').next().unwrap_or(bad);
    let meant = nearest(level, levels).map(str::to_lowercase);
    let meant = meant.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default();
    let bad = bad.escape_debug();
    format!(
        "the environment variable {LOG_VARIABLE}: '{bad}' is not a level{meant}: accepted are off, \
         error, warn, info, debug and trace, also for a part, such as warn,blkfault::export=debug; \
         taking {DEFAULT}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> LogChoice {
        LogChoice::of(Some(value.as_ref()))
    }

    #[test]
    fn levels_and_levels_of_parts_are_taken_as_they_are() {
        for value in
            ["off", "error", "warn", "INFO", "debug", "trace", "warn, blkfault::export=debug"]
        {
            let directives = value.to_owned();
            assert_eq!(of(value), LogChoice { directives, complaint: None });
        }
    }

    #[test]
    fn what_is_not_said_is_the_default_without_a_word() {
        let default = LogChoice { directives: "warn".to_owned(), complaint: None };
        assert_eq!(LogChoice::of(None), default);
        assert_eq!(of(""), default);
        assert_eq!(of(" "), default);
    }

    #[test]
    fn only_the_very_stream_that_is_named_goes_to_the_journal() {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        let name = |dev: u64, ino: u64| format!("{dev}:{ino}");
        let its = name(metadata.dev(), metadata.ino());
        assert!(goes_to_the_journal(Some(its.as_ref()), &file));
        for other in [&name(metadata.dev(), metadata.ino() + 1), "", "1:2:3", "x"] {
            assert!(!goes_to_the_journal(Some(other.as_ref()), &file), "{other}");
        }
        assert!(!goes_to_the_journal(None, &file));
    }

    #[test]
    fn what_means_nothing_is_the_default_with_a_complaint() {
        for (value, part) in [
            ("verbose", "'verbose' is not a level: accepted are off, error, warn, info"),
            ("wran", "(did you mean warn?)"),
            ("blkfault=debgu", "'blkfault=debgu' is not a level (did you mean debug?)"),
            ("blkfault", "'blkfault' is not a level"),
            ("info,", "'' is not a level"),
            ("=info", "'=info'"),
            ("7", "'7' is not a level"),
            ("a\nb", "'a\\nb'"),
        ] {
            let choice = of(value);
            assert_eq!(choice.directives, "warn", "{value}");
            let complaint = choice.complaint.unwrap();
            assert!(complaint.contains(part), "{value}: {complaint}");
        }
    }
}
