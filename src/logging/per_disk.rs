//! A log that guests and front ends cannot fill.
//!
//! Knows: which disk and queue a thread serves, and which line of the program wants to log. Must not
//! know: what is said, or where it goes. Invariants: the first of its kind is written at once; of those
//! left out the last is told, with the number of the others, once a second has passed or when the log
//! is flushed; what threads log that serve no disk is not limited here, because only operators and the
//! host can cause it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use log::{Level, Log, Metadata, Record};

use super::{LogLimit, writer};

thread_local! {
    static SERVES: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
    static QUEUE: Cell<Option<u16>> = const { Cell::new(None) };
}

/// From now on, what this thread logs may be caused by the guest or the front end of the disk.
pub(crate) fn this_thread_serves(disk_id: &str) {
    SERVES.set(Some(disk_id.into()));
}

/// The same, and it is about this queue: each has its say.
pub(crate) fn this_thread_serves_queue(disk_id: &str, queue: u16) {
    this_thread_serves(disk_id);
    QUEUE.set(Some(queue));
}

/// What is limited by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    disk_id: Arc<str>,
    queue: Option<u16>,
    /// The place in the program.
    file: &'static str,
    line: u32,
}

/// Most kinds that are remembered. Those that are silent make room.
const KINDS_MAX: usize = 4096;

/// The last line of its kind that was left out.
#[derive(Debug)]
struct LeftOut {
    level: Level,
    target: String,
    module_path: Option<&'static str>,
    text: String,
}

/// What is known of a kind.
#[derive(Debug, Default)]
struct Lines {
    limit: LogLimit,
    /// There whenever the limit has counted some.
    left_out: Option<LeftOut>,
}

impl Lines {
    /// Leave a line out: it takes the place of the one before.
    fn leave_out(&mut self, record: &Record<'_>) {
        let mut text = self.left_out.take().map(|before| before.text).unwrap_or_default();
        text.clear();
        let _ = write!(text, "{}", record.args());
        self.left_out = Some(LeftOut {
            level: record.level(),
            target: record.target().to_owned(),
            module_path: record.module_path_static(),
            text,
        });
    }

    /// The last line that was left out, to be written now, with the number of the others.
    fn take(&mut self, now: Instant) -> Option<(LeftOut, u64)> {
        let count = self.limit.tell_untold(now);
        Some((self.left_out.take()?, count.saturating_sub(1)))
    }
}

/// A line that is late.
type Late = (Kind, LeftOut, u64);

/// Another log, with a limit on what is written for each disk.
#[derive(Debug)]
pub struct LimitedLog<L> {
    inner: L,
    kinds: Mutex<HashMap<Kind, Lines>>,
}

/// A text, and how many like it were left out.
struct Counted<T>(T, u64);

impl<T: fmt::Display> fmt::Display for Counted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text, untold) = self;
        match untold {
            0 => write!(f, "{text}"),
            untold => write!(f, "{text} ({untold} more lately)"),
        }
    }
}

impl<L: Log> LimitedLog<L> {
    /// A limit on this log.
    pub fn new(inner: L) -> Self {
        Self { inner, kinds: Mutex::default() }
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<Kind, Lines>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the line may be written now, and after how many others. If not, it is kept.
    fn tell(&self, kind: Kind, record: &Record<'_>, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds();
        let mut late = Vec::new();
        if kinds.len() >= KINDS_MAX && !kinds.contains_key(&kind) {
            late = make_room(&mut kinds, now);
        }
        let lines = match kinds.entry(kind) {
            Entry::Occupied(lines) => lines.into_mut(),
            Entry::Vacant(place) => place.insert(Lines::default()),
        };
        let told = lines.limit.tell(now);
        match told {
            Some(_) => lines.left_out = None,
            None => {
                let is_first = lines.left_out.is_none();
                lines.leave_out(record);
                if let Some(due) = lines.limit.due().filter(|_| is_first) {
                    writer::flush_at(due);
                }
            }
        }
        drop(kinds);
        self.write_late(late);
        told
    }

    /// Write the lines that were left out and are due, or all of them. Tells when the next are due.
    fn tell_late(&self, now: Instant, all: bool) -> Option<Instant> {
        let mut kinds = self.kinds();
        let (mut late, mut next) = (Vec::new(), None);
        for (kind, lines) in &mut *kinds {
            let Some(due) = lines.limit.due() else { continue };
            if all || due <= now {
                late.extend(lines.take(now).map(|(line, more)| (kind.clone(), line, more)));
            } else {
                next = Some(next.map_or(due, |next: Instant| next.min(due)));
            }
        }
        drop(kinds);
        self.write_late(late);
        next
    }

    fn write_late(&self, late: Vec<Late>) {
        for (kind, line, more) in late {
            // In one expression: the text lives no longer than that.
            self.inner.log(
                &Record::builder()
                    .level(line.level)
                    .target(&line.target)
                    .module_path_static(line.module_path)
                    .file_static(Some(kind.file))
                    .line(Some(kind.line))
                    .args(format_args!("{}", Counted(&line.text, more)))
                    .build(),
            );
        }
    }
}

/// Forget what is silent, and where nothing is, all. What was left out of that is still to be told.
fn make_room(kinds: &mut HashMap<Kind, Lines>, now: Instant) -> Vec<Late> {
    kinds.retain(|_, lines| !lines.limit.is_forgettable(now));
    if kinds.len() < KINDS_MAX {
        return Vec::new();
    }
    let late = |(kind, mut lines): (Kind, Lines)| {
        let (line, more) = lines.take(now)?;
        Some((kind, line, more))
    };
    kinds.drain().filter_map(late).collect()
}

impl<L: Log> Log for LimitedLog<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.log_at(record, Instant::now());
    }

    /// Write what was left out: all of it, but for the writer, who comes again, what is due.
    fn flush(&self) {
        if let Some(next) = self.tell_late(Instant::now(), !writer::is_this_thread()) {
            writer::flush_at(next);
        }
        self.inner.flush();
    }
}

impl<L: Log> LimitedLog<L> {
    fn log_at(&self, record: &Record<'_>, now: Instant) {
        if !self.inner.enabled(record.metadata()) {
            return;
        }
        let disk_id = SERVES.try_with(|serves| serves.borrow().clone()).ok().flatten();
        let kind = disk_id.map(|disk_id| Kind {
            disk_id,
            queue: QUEUE.get(),
            file: record.file_static().unwrap_or_default(),
            line: record.line().unwrap_or_default(),
        });
        match kind.map(|kind| self.tell(kind, record, now)) {
            None | Some(Some(0)) => self.inner.log(record),
            Some(None) => {}
            // In one expression: the text lives no longer than that.
            Some(Some(untold)) => self.inner.log(
                &Record::builder()
                    .metadata(record.metadata().clone())
                    .module_path(record.module_path())
                    .file(record.file())
                    .line(record.line())
                    .args(format_args!("{}", Counted(record.args(), untold)))
                    .build(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Keeps what is logged.
    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Log for Kept {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            self.0.lock().unwrap().push(record.args().to_string());
        }

        fn flush(&self) {}
    }

    fn log_at(log: &LimitedLog<Kept>, line: u32, count: usize) {
        (0..count).for_each(|_| log_then(log, line, Instant::now()));
    }

    fn log_then(log: &LimitedLog<Kept>, line: u32, now: Instant) {
        let mut record = Record::builder();
        record.file_static(Some("here.rs")).line(Some(line));
        log.log_at(&record.args(format_args!("at {line}")).build(), now);
    }

    #[test]
    fn a_disk_fills_no_log_and_keeps_nothing_of_others_out_of_it() {
        let log = LimitedLog::new(Kept::default());
        std::thread::scope(|scope| {
            for disk_id in ["a", "b"] {
                let log = &log;
                let serving = scope.spawn(move || {
                    this_thread_serves(disk_id);
                    log_at(log, 1, 1000);
                    log_at(log, 2, 1000);
                });
                serving.join().unwrap();
            }
        });
        let said = std::mem::take(&mut *log.inner.0.lock().unwrap());
        let of = |line: u32| said.iter().filter(|said| **said == format!("at {line}")).count();
        assert_eq!((of(1), of(2)), (2, 2), "the first of each kind and disk: {said:?}");
        // More only if this took longer than a second.
        assert!(said.len() < 100, "{said:?}");
        log_at(&log, 1, 1000);
        assert_eq!(log.inner.0.lock().unwrap().len(), 1000, "nobody's thread is not limited");
    }

    #[test]
    fn each_queue_has_its_say() {
        let log = LimitedLog::new(Kept::default());
        std::thread::scope(|scope| {
            for queue in 0..4 {
                let log = &log;
                scope.spawn(move || {
                    this_thread_serves_queue("disk", queue);
                    log_at(log, 1, 1);
                });
            }
        });
        assert_eq!(*log.inner.0.lock().unwrap(), ["at 1"; 4]);
    }

    #[test]
    fn what_is_left_out_is_told_once_it_is_due_and_at_an_end_at_once() {
        let log = LimitedLog::new(Kept::default());
        let said = || std::mem::take(&mut *log.inner.0.lock().unwrap());
        this_thread_serves("disk");
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        (0..3).for_each(|ms| log_then(&log, 1, at(ms)));
        (10..12).for_each(|ms| log_then(&log, 2, at(ms)));
        assert_eq!(log.tell_late(at(999), false), Some(at(1000)));
        assert_eq!(said(), ["at 1", "at 2"], "and nothing is due");
        assert_eq!(log.tell_late(at(1000), false), Some(at(1010)));
        assert_eq!(said(), ["at 1 (1 more lately)"]);
        assert_eq!(log.tell_late(at(1010), false), None);
        assert_eq!(said(), ["at 2"]);
        log_then(&log, 1, at(1500));
        assert!(said().is_empty(), "what was late counts");
        log.flush();
        assert_eq!(said(), ["at 1"]);
        log.flush();
        assert!(said().is_empty(), "told once");
    }

    #[test]
    fn kinds_that_are_many_are_forgotten_and_what_was_left_out_of_them_is_told() {
        let log = LimitedLog::new(Kept::default());
        this_thread_serves("disk");
        let lines = u32::try_from(KINDS_MAX).unwrap();
        let now = Instant::now();
        (0..lines).for_each(|line| (0..2).for_each(|_| log_then(&log, line, now)));
        assert_eq!(log.kinds().len(), KINDS_MAX);
        log_then(&log, lines, now);
        assert_eq!(log.kinds().len(), 1);
        // One of each at once, one late.
        assert_eq!(log.inner.0.lock().unwrap().len(), 2 * KINDS_MAX + 1);
    }

    #[test]
    fn the_next_line_tells_of_those_left_out() {
        let log = LimitedLog::new(Kept::default());
        this_thread_serves("disk");
        let began = Instant::now();
        let mut tried = 0;
        while log.inner.0.lock().unwrap().len() < 2 {
            log_at(&log, 1, 1);
            tried += 1;
        }
        assert!(began.elapsed().as_millis() >= 999);
        let expected = ["at 1".to_owned(), format!("at 1 ({} more lately)", tried - 2)];
        assert_eq!(*log.inner.0.lock().unwrap(), expected);
    }
}
