//! A guest at work, whose requests are timed.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::front::{Front, Queue, Status, feature, kind};

const DEPTH: u16 = 4;
const BLOCK_BYTES: u32 = 4096;

#[derive(Debug, Default)]
struct Shared {
    times: Mutex<Vec<Duration>>,
    enough: AtomicBool,
}

/// The guest; every request of it succeeds, or the test fails.
pub(crate) struct Guest {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Guest {
    pub(crate) fn start(socket: &Path) -> Self {
        let mut front = Front::with_memory(socket, &[(0, 4 << 20)]);
        front.negotiate(feature::ALL);
        let queue = front.start_queues(1, 64).remove(0);
        let shared = Arc::<Shared>::default();
        let its = shared.clone();
        let thread = std::thread::spawn(move || {
            let _front = front;
            work(queue, &its);
        });
        Self { shared, thread }
    }

    /// Requests since the last call, the 99th percentile of their times, and the longest.
    pub(crate) fn take(&self) -> (usize, Duration, Duration) {
        let times = self.take_times();
        let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
        (times.len(), p99, times.last().copied().unwrap_or_default())
    }

    /// The times of the requests since the last call, the shortest first.
    pub(crate) fn take_times(&self) -> Vec<Duration> {
        assert!(!self.thread.is_finished(), "a request of the guest failed, or was not answered");
        let mut times = std::mem::take(&mut *self.shared.times.lock().unwrap());
        times.sort_unstable();
        times
    }

    /// How many there were.
    pub(crate) fn count(&self) -> usize {
        assert!(!self.thread.is_finished(), "a request of the guest failed, or was not answered");
        self.shared.times.lock().unwrap().len()
    }

    pub(crate) fn end(self) {
        self.shared.enough.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

fn work(mut queue: Queue, shared: &Shared) {
    queue.prepare_slots(DEPTH, BLOCK_BYTES.into());
    while !shared.enough.load(Ordering::SeqCst) {
        let began = Instant::now();
        for slot in 0..DEPTH {
            let wanted = if slot % 2 == 0 { kind::IN } else { kind::OUT };
            queue.start(slot, wanted, u64::from(slot) * 8, BLOCK_BYTES);
        }
        queue.kick();
        for _ in 0..DEPTH {
            let end = queue.finish();
            assert_eq!(end.status, Status::Ok);
            shared.times.lock().unwrap().push(began.elapsed());
        }
        // It is not the only one on this machine.
        std::thread::sleep(Duration::from_micros(500));
    }
}
