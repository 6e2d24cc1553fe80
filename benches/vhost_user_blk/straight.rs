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
///
/// # Errors
/// The kernel gives no ring, or a request failed.
pub fn run(
    file: &File,
    workload: Workload,
    image_bytes: u64,
    [warm_up, time]: [Duration; 2],
) -> Result<Option<Done>, String> {
    if matches!(workload.pattern, Pattern::Mixed { .. }) || workload.queues > 1 {
        return Ok(None);
    }
    let mut straight = Straight::new(file, workload, image_bytes)?;
    let measured = straight.warm_up_and_go_on_for(warm_up, time);
    // The kernel must not write to memory that is given back, whatever came before.
    straight.drain();
    measured.map(Some)
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
    fn new(file: &File, workload: Workload, image_bytes: u64) -> Result<Self, String> {
        let bytes = usize::from(workload.depth) * workload.block_bytes as usize;
        let memory = vec![0xa5; bytes + PAGE_BYTES];
        Ok(Self {
            ring: IoUring::new(256).map_err(|error| format!("io_uring: {error}"))?,
            file: types::Fd(file.as_raw_fd()),
            asks: Asks::new(workload, image_bytes, 0),
            aligned_at: memory.as_ptr().align_offset(PAGE_BYTES),
            memory,
            in_flight: 0,
            free: (0..workload.depth).collect(),
            workload,
        })
    }

    fn warm_up_and_go_on_for(&mut self, warm_up: Duration, time: Duration) -> Result<Done, String> {
        self.go_on_for(warm_up)?;
        let (began, before) = (Instant::now(), Cost::so_far(std::process::id())?);
        let operations = self.go_on_for(time)?;
        let cost = Cost::so_far(std::process::id())?.since(before);
        Ok(Done { operations, elapsed: began.elapsed(), cost })
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
    fn finish(&mut self) -> Result<u64, String> {
        self.ring.submit_and_wait(1).map_err(|error| format!("io_uring_enter: {error}"))?;
        let (mut done, mut failed) = (0, None);
        for entry in self.ring.completion() {
            self.free.push(u16::try_from(entry.user_data()).expect("a slot"));
            self.in_flight -= 1;
            done += 1;
            if entry.result() < 0 {
                failed = Some(std::io::Error::from_raw_os_error(-entry.result()));
            }
        }
        failed.map_or(Ok(done), |error| Err(error.to_string()))
    }

    fn go_on_for(&mut self, time: Duration) -> Result<u64, String> {
        let (began, mut done) = (Instant::now(), 0);
        while began.elapsed() < time {
            if self.workload.pattern == Pattern::WriteFlush {
                for ask in [self.asks.next(), Ask::FLUSH] {
                    self.start(ask);
                    self.finish()?;
                }
                done += 1;
                continue;
            }
            while !self.free.is_empty() {
                let ask = self.asks.next();
                self.start(ask);
            }
            done += self.finish()?;
        }
        Ok(done)
    }

    fn drain(&mut self) {
        while self.in_flight > 0 {
            // What fails has ended too; a kernel that takes nothing any more holds nothing.
            let before = self.in_flight;
            if self.finish().is_err() && self.in_flight == before {
                return;
            }
        }
    }
}
