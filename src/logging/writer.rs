//! The log's way to standard error, on which nobody waits.
//!
//! Knows: lines that wait, the thread that writes them, and when it is to flush the log. Must not know:
//! what they say. Invariants:
//! once the thread has taken over, no other waits for whoever reads standard error, which may be a full
//! pipe; a line for which there is no room is counted, and the count is told when there is room again;
//! the flags of standard error, which others share, stay as they are.
//!
//! Before the thread there is nobody to serve, and lines are written at once.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Bytes of lines that may wait.
const WAITING_BYTES_MAX: usize = 64 << 10;
/// How long the process may wait for lines that have not been written when it ends.
const FINISH_MAX: Duration = Duration::from_millis(500);

thread_local! {
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

static QUEUE: Queue = Queue::new();

/// Lines on their way.
#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Whole lines, the first one first.
    lines: Vec<u8>,
    /// How many there was no room for since that was last told.
    lost: u64,
    has_writer: bool,
    /// The writer has lines that it took from here.
    is_writing: bool,
    /// When the log is to be flushed.
    flush_at: Option<Instant>,
}

/// What the writer has to do.
#[derive(Debug, PartialEq, Eq)]
struct Work {
    /// Lines that are lost.
    lost: u64,
    /// The log is to be flushed.
    flushes: bool,
}

impl Queue {
    const fn new() -> Self {
        let state = State {
            lines: Vec::new(),
            lost: 0,
            has_writer: false,
            is_writing: false,
            flush_at: None,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take a line along. False if it is for the caller to write, because nobody else does.
    fn push(&self, line: &[u8]) -> bool {
        let mut state = self.lock();
        if !state.has_writer {
            return false;
        }
        // The writer itself tells little, and mostly of lines that were lost or left out.
        if state.lines.len() + line.len() > WAITING_BYTES_MAX && !IS_WRITER.get() {
            state.lost += 1;
            return true;
        }
        state.lines.extend_from_slice(line);
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Have the writer flush the log at that time, if not before.
    fn flush_at(&self, at: Instant) {
        let mut state = self.lock();
        if state.has_writer && state.flush_at.is_none_or(|earlier| at < earlier) {
            state.flush_at = Some(at);
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Wait for lines and take them all, or until the log is to be flushed; the last ones taken are
    /// written.
    fn take(&self, lines: &mut Vec<u8>) -> Work {
        let mut state = self.lock();
        state.is_writing = false;
        self.changed.notify_all();
        let flushes = loop {
            let wait = state.flush_at.map(|at| at.saturating_duration_since(Instant::now()));
            let flushes = wait == Some(Duration::ZERO);
            if flushes || !state.lines.is_empty() || state.lost > 0 {
                break flushes;
            }
            state = match wait {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => {
                    let waited = self.changed.wait_timeout(state, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        };
        if flushes {
            state.flush_at = None;
        }
        lines.clear();
        std::mem::swap(lines, &mut state.lines);
        state.is_writing = true;
        Work { lost: std::mem::take(&mut state.lost), flushes }
    }

    /// Wait until all is written, but no longer than this.
    fn finish(&self, within: Duration) {
        let is_busy = |state: &mut State| {
            state.has_writer && (state.is_writing || state.lost > 0 || !state.lines.is_empty())
        };
        drop(self.changed.wait_timeout_while(self.lock(), within, is_busy));
    }
}

/// Where a logger writes whole lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogPipe;

impl Write for LogPipe {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !QUEUE.push(line) {
            write_all(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Say something on standard error, after all that was logged before.
pub fn say(text: &str) {
    let _ = LogPipe.write_all(format!("{text}\n").as_bytes());
}

/// Have the log flushed at that time, if somebody writes it.
pub(super) fn flush_at(at: Instant) {
    QUEUE.flush_at(at);
}

/// Whether this thread is the one who writes.
pub(super) fn is_this_thread() -> bool {
    IS_WRITER.get()
}

/// Say what was left out, and wait for what is not written yet, but only for a moment: the process
/// ends.
pub fn finish() {
    log::logger().flush();
    QUEUE.finish(FINISH_MAX);
}

/// The one who writes.
#[derive(Debug)]
pub(crate) struct Writer(());

impl Writer {
    /// From now on, lines wait for [`write_on`](Self::write_on).
    pub(crate) fn take_over() -> Self {
        QUEUE.lock().has_writer = true;
        Self(())
    }

    /// Write, in a thread of its own, until the process ends.
    pub(crate) fn write_on(self) -> ! {
        IS_WRITER.set(true);
        let mut lines = Vec::new();
        loop {
            let Work { lost, flushes } = QUEUE.take(&mut lines);
            write_all(&lines);
            if flushes {
                log::logger().flush();
            }
            if lost > 0 {
                log::error!(
                    "{lost} lines of the log are lost: they came faster than they were read"
                );
            }
        }
    }
}

impl Drop for Writer {
    /// Where there is no thread, lines are written at once again.
    fn drop(&mut self) {
        let mut state = QUEUE.lock();
        state.has_writer = false;
        let lines = std::mem::take(&mut state.lines);
        drop(state);
        write_all(&lines);
    }
}

/// Write it all, however long that takes. What standard error refuses is gone.
///
/// Without the lock of [`io::stderr`], so that a panic elsewhere is not kept waiting for it.
fn write_all(mut bytes: &[u8]) {
    let stderr = io::stderr();
    while !bytes.is_empty() {
        match rustix::io::write(&stderr, bytes) {
            Ok(written @ 1..) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Somebody who shares it does not want to wait; we do.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None);
            }
            Ok(0) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_writer() -> Queue {
        let queue = Queue::new();
        queue.lock().has_writer = true;
        queue
    }

    #[test]
    fn lines_are_the_callers_until_somebody_writes_them() {
        let queue = Queue::new();
        assert!(!queue.push(b"one\n"));
        queue.lock().has_writer = true;
        assert!(queue.push(b"two\n") && queue.push(b"three\n"));
        let mut lines = Vec::new();
        assert_eq!(queue.take(&mut lines), Work { lost: 0, flushes: false });
        assert_eq!(lines, b"two\nthree\n");
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_that_is_always_told() {
        let queue = with_writer();
        let line = [b'x'; 1024];
        (0..70).for_each(|_| assert!(queue.push(&line)));
        assert_eq!(queue.lock().lines.len(), WAITING_BYTES_MAX);
        IS_WRITER.set(true);
        assert!(queue.push(b"told\n"));
        IS_WRITER.set(false);
        let mut lines = Vec::new();
        assert_eq!(queue.take(&mut lines).lost, 6);
        assert!(lines.ends_with(b"xtold\n"));
    }

    #[test]
    fn the_log_is_flushed_in_time_though_nobody_logs() {
        let queue = Queue::new();
        queue.flush_at(Instant::now());
        assert!(queue.lock().flush_at.is_none(), "nobody would do it");
        queue.lock().has_writer = true;
        let soon = Instant::now() + Duration::from_millis(20);
        queue.flush_at(soon + Duration::from_secs(60));
        queue.flush_at(soon);
        queue.flush_at(soon + Duration::from_secs(60));
        assert_eq!(queue.take(&mut Vec::new()), Work { lost: 0, flushes: true });
        assert!(Instant::now() >= soon);
        assert!(queue.push(b"line\n"));
        assert_eq!(queue.take(&mut Vec::new()), Work { lost: 0, flushes: false }, "once");
    }

    #[test]
    fn an_end_waits_for_what_is_written_and_not_for_ever() {
        let queue = with_writer();
        let began = std::time::Instant::now();
        queue.finish(Duration::from_secs(60));
        assert!(queue.push(b"line\n"));
        queue.finish(Duration::from_millis(20));
        assert!(began.elapsed() >= Duration::from_millis(20));
        assert_eq!(queue.take(&mut Vec::new()).lost, 0);
        assert!(queue.lock().is_writing, "taken is not written");
        queue.finish(Duration::from_millis(20));
        assert!(began.elapsed() >= Duration::from_millis(40));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Comes back for more once it has written.
                queue.take(&mut Vec::new());
            });
            queue.finish(Duration::from_secs(60));
            assert!(queue.push(b"the end of the thread\n"));
        });
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
