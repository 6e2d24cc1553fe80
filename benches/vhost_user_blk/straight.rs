//! The same requests by io_uring straight on the file: no virtqueue, no other process.
//!
//! Knows: io_uring, with nothing that would need another one's leave: no polling, no registered
//! buffers. Must not know: virtio. It is what a back end could reach at most that asks the kernel once
//! for each request.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};

use crate::cost::Cost;
use crate::workload::{Ask, Asks, Kind, Pattern, Workload};

const PAGE_BYTES: usize = 4096;

/// What was done in the time that was measured.
pub struct Done {
    pub operations: u64,
    pub elapsed: Duration,
    /// Of this process: what any back end spends that asks the kernel once for each request.
    pub cost: Cost,
}

/// Go on for a time, after a warm-up; `None` for a workload that keeps a pace.
pub fn run(file: &File, workload: Workload, image_bytes: u64, time: [Duration; 2]) -> Option<Done> {
    if matches!(workload.pattern, Pattern::Mixed { .. }) || workload.queues > 1 {
        return None;
    }
    let mut straight = Straight::new(file, workload, image_bytes);
    let [warm_up, time] = time;
    straight.go_on_for(warm_up);
    let (began, before) = (Instant::now(), Cost::so_far(std::process::id()));
    let operations = straight.go_on_for(time);
    let cost = Cost::so_far(std::process::id()).since(before);
    let elapsed = began.elapsed();
    straight.drain();
    Some(Done { operations, elapsed, cost })
}

struct Straight {
    ring: IoUring,
    file: types::Fd,
    asks: Asks,
    workload: Workload,
    memory: Vec<u8>,
    aligned_at: usize,
    in_flight: u16,
    free: Vec<u16>,
}

impl Straight {
    fn new(file: &File, workload: Workload, image_bytes: u64) -> Self {
        let bytes = usize::from(workload.depth) * workload.block_bytes as usize;
        let memory = vec![0xa5; bytes + PAGE_BYTES];
        Self {
            ring: IoUring::new(256).expect("io_uring"),
            file: types::Fd(file.as_raw_fd()),
            asks: Asks::new(workload, image_bytes, 0),
            aligned_at: memory.as_ptr().align_offset(PAGE_BYTES),
            memory,
            in_flight: 0,
            free: (0..workload.depth).collect(),
            workload,
        }
    }

    fn start(&mut self, ask: Ask) {
        let slot = self.free.pop().expect("a free slot");
        let at = self.aligned_at + usize::from(slot) * self.workload.block_bytes as usize;
        let memory = self.memory[at..].as_mut_ptr();
        let entry: squeue::Entry = match ask.kind {
            Kind::Read => {
                opcode::Read::new(self.file, memory, ask.bytes).offset(ask.offset_bytes).build()
            }
            Kind::Write => {
                opcode::Write::new(self.file, memory, ask.bytes).offset(ask.offset_bytes).build()
            }
            Kind::Flush => opcode::Fsync::new(self.file).flags(types::FsyncFlags::DATASYNC).build(),
        };
        // SAFETY: the buffer belongs to `self`, which is drained before it goes.
        unsafe { self.ring.submission().push(&entry.user_data(slot.into())).expect("room") };
        self.in_flight += 1;
    }

    /// Wait for an end at least; how many there were.
    fn finish(&mut self) -> u64 {
        self.ring.submit_and_wait(1).expect("io_uring_enter");
        let mut done = 0;
        for entry in self.ring.completion() {
            assert!(entry.result() >= 0, "{}", entry.result());
            self.free.push(u16::try_from(entry.user_data()).expect("a slot"));
            self.in_flight -= 1;
            done += 1;
        }
        done
    }

    fn go_on_for(&mut self, time: Duration) -> u64 {
        let (began, mut done) = (Instant::now(), 0);
        while began.elapsed() < time {
            if self.workload.pattern == Pattern::WriteFlush {
                for ask in [self.asks.next(), Ask::FLUSH] {
                    self.start(ask);
                    self.finish();
                }
                done += 1;
                continue;
            }
            while !self.free.is_empty() {
                let ask = self.asks.next();
                self.start(ask);
            }
            done += self.finish();
        }
        done
    }

    fn drain(&mut self) {
        while self.in_flight > 0 {
            self.finish();
        }
    }
}
