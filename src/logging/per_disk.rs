//! A log that guests and front ends cannot fill.
//!
//! Knows: which disk a thread serves, and which line of the program wants to log. Must not know: what
//! is said, or where it goes. Invariants: the first of its kind is written at once; what threads log
//! that serve no disk is not limited here, because only operators and the host can cause it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use log::{Log, Metadata, Record};

use super::LogLimit;

thread_local! {
    static SERVES: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// From now on, what this thread logs may be caused by the guest or the front end of the disk.
pub(crate) fn this_thread_serves(disk_id: &str) {
    SERVES.set(Some(disk_id.into()));
}

/// The disk, and the place in the program.
type Kind = (Arc<str>, &'static str, u32);

/// Most kinds that are remembered; beyond are disks that are gone, since a disk has few.
const KINDS_MAX: usize = 4096;

/// Another log, with a limit on what is written for each disk.
#[derive(Debug)]
pub struct LimitedLog<L> {
    inner: L,
    limits: Mutex<HashMap<Kind, LogLimit>>,
}

impl<L: Log> LimitedLog<L> {
    /// A limit on this log.
    pub fn new(inner: L) -> Self {
        Self { inner, limits: Mutex::default() }
    }

    fn tell(&self, kind: Kind, now: Instant) -> Option<u64> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        if limits.len() >= KINDS_MAX && !limits.contains_key(&kind) {
            limits.clear();
        }
        limits.entry(kind).or_default().tell(now)
    }
}

impl<L: Log> Log for LimitedLog<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.inner.enabled(record.metadata()) {
            return;
        }
        let place = (record.file_static().unwrap_or_default(), record.line().unwrap_or_default());
        let disk_id = SERVES.try_with(|serves| serves.borrow().clone()).ok().flatten();
        let told = disk_id.map(|disk_id| self.tell((disk_id, place.0, place.1), Instant::now()));
        match told {
            None | Some(Some(0)) => self.inner.log(record),
            Some(None) => {}
            // In one expression: the text lives no longer than that.
            Some(Some(untold)) => self.inner.log(
                &Record::builder()
                    .metadata(record.metadata().clone())
                    .module_path(record.module_path())
                    .file(record.file())
                    .line(record.line())
                    .args(format_args!("{} ({untold} more lately)", record.args()))
                    .build(),
            ),
        }
    }

    fn flush(&self) {
        self.inner.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for _ in 0..count {
            let mut record = Record::builder();
            record.file_static(Some("here.rs")).line(Some(line));
            log.log(&record.args(format_args!("at {line}")).build());
        }
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
