//! A driver's side of one split virtqueue (virtio 1.3, 2.7).
//!
//! Knows: the descriptor table, both rings, notification suppression and event indices. Must not
//! know: block requests. Invariant: every used entry belongs to a head that is outstanding, or the
//! test fails: an answer too many cannot pass unseen. Chains are written as told, however wrong;
//! the hot path (submit, kick, pop) allocates nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;

use super::memory::{Memory, Region};
use super::request::Slots;
use super::wire::{WAIT, wait_readable};

/// The buffer continues in the descriptor `next`.
pub const NEXT: u16 = 1;
/// The device writes the buffer.
pub const WRITE: u16 = 2;
/// The buffer is a table of descriptors.
pub const INDIRECT: u16 = 4;

/// Longest that a call may come after its answer; far beyond what it takes on a busy machine.
const CALL_WAIT: Duration = Duration::from_secs(5);

const AVAIL_NO_INTERRUPT: u16 = 1;
const USED_NO_NOTIFY: u16 = 1;

/// One descriptor, as in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Desc {
    /// Guest address of the buffer.
    pub addr: u64,
    /// Length of the buffer in bytes.
    pub len: u32,
    /// [`NEXT`], [`WRITE`], [`INDIRECT`].
    pub flags: u16,
    /// Index of the next descriptor, with [`NEXT`].
    pub next: u16,
}

impl Desc {
    /// A buffer that the device reads.
    pub fn readable(addr: u64, len: u32) -> Self {
        Self { addr, len, ..Self::default() }
    }

    /// A buffer that the device writes.
    pub fn writable(addr: u64, len: u32) -> Self {
        Self { addr, len, flags: WRITE, next: 0 }
    }

    /// A table of `count` descriptors.
    pub fn indirect(addr: u64, count: usize) -> Self {
        Self { addr, len: (count * 16) as u32, flags: INDIRECT, next: 0 }
    }

    /// The descriptor as 16 little-endian bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// Index of a chain's first descriptor: its name on both rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head(pub u16);

/// An answered chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// The chain.
    pub head: Head,
    /// Bytes that the device says it wrote, from the first writable byte on.
    pub len: u32,
}

/// What became of notifications, to prove that suppression happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notifications {
    /// Kicks written to the kick eventfd.
    pub kicks: u64,
    /// Kicks that the device said it does not need.
    pub kicks_saved: u64,
    /// Times that the call eventfd was signalled (reads of it, each of which may cover several).
    pub calls: u64,
}

/// Where the parts of a queue lie in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The descriptor table, 16 bytes each, 16-byte aligned.
    pub table: u64,
    /// The ring of what the driver offers, 2-byte aligned.
    pub avail: u64,
    /// The ring of what the device has used, 4-byte aligned.
    pub used: u64,
}

impl Layout {
    /// Fresh memory for a queue of `size` descriptors.
    pub fn allocate(memory: &Memory, size: u16) -> Self {
        let size = u64::from(size);
        Self {
            table: memory.allocate(16 * size, 4096),
            avail: memory.allocate(6 + 2 * size, 2),
            used: memory.allocate(6 + 8 * size, 4096),
        }
    }
}

/// One virtqueue as its driver sees it.
#[derive(Debug)]
pub struct Queue {
    /// The queue's number.
    pub index: u16,
    /// Descriptors in the table, a power of two.
    pub size: u16,
    /// Where it lies.
    pub layout: Layout,
    /// What became of notifications.
    pub notifications: Notifications,
    /// Largest buffer per descriptor that the requests of this queue use, in bytes.
    pub segment_bytes: u32,
    pub(super) memory: Memory,
    pub(super) slots: Slots,
    pub(super) event_idx: bool,
    rings: Arc<Region>,
    kick: OwnedFd,
    call: OwnedFd,
    err: OwnedFd,
    interrupts: bool,
    avail_idx: u16,
    used_idx: u16,
    kicked_idx: u16,
    free: Vec<u16>,
    /// Each descriptor's successor in the chain that the queue built; the driver's own copy, for
    /// the device must not be believed.
    chained: Vec<Option<u16>>,
    /// For each head: how often it is offered and not yet answered.
    outstanding: Vec<u16>,
    /// For each head: its descriptors return to `free` with its answer.
    managed: Vec<bool>,
}

fn eventfd() -> OwnedFd {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("eventfd")
}

impl Queue {
    /// A queue with zeroed rings, unknown to the back end as yet.
    pub fn new(memory: &Memory, index: u16, size: u16, event_idx: bool) -> Self {
        let layout = Layout::allocate(memory, size);
        let mut queue = Self {
            index,
            size,
            layout,
            notifications: Notifications::default(),
            segment_bytes: 1 << 20,
            slots: Slots::default(),
            event_idx,
            rings: memory.region(layout.table).clone(),
            memory: memory.clone(),
            kick: eventfd(),
            call: eventfd(),
            err: eventfd(),
            interrupts: true,
            avail_idx: 0,
            used_idx: 0,
            kicked_idx: 0,
            free: Vec::with_capacity(size.into()),
            chained: vec![None; size.into()],
            outstanding: vec![0; size.into()],
            managed: vec![false; size.into()],
        };
        queue.reset(0);
        queue
    }

    /// Forget everything and begin with empty rings whose indices are `index`, as a driver does
    /// after a device reset. The back end must not serve the queue now.
    pub fn reset(&mut self, index: u16) {
        let size = usize::from(self.size);
        self.memory.write(self.layout.table, &vec![0; 16 * size]);
        self.memory.write(self.layout.avail, &vec![0; 6 + 2 * size]);
        self.memory.write(self.layout.used, &vec![0; 6 + 8 * size]);
        self.word(self.layout.avail + 2).store(index, Ordering::SeqCst);
        self.word(self.layout.used + 2).store(index, Ordering::SeqCst);
        (self.avail_idx, self.used_idx, self.kicked_idx) = (index, index, index);
        self.free.clear();
        self.free.extend((0..self.size).rev());
        self.outstanding.fill(0);
        self.managed.fill(false);
        self.set_interrupts(true);
        self.drain_call();
    }

    fn word(&self, address: u64) -> &std::sync::atomic::AtomicU16 {
        self.rings.word16(address)
    }

    /// Where kicks are written.
    pub fn kick_fd(&self) -> BorrowedFd<'_> {
        self.kick.as_fd()
    }

    /// Where the device calls.
    pub fn call_fd(&self) -> BorrowedFd<'_> {
        self.call.as_fd()
    }

    /// Where the device reports a broken queue.
    pub fn err_fd(&self) -> BorrowedFd<'_> {
        self.err.as_fd()
    }

    /// Chains offered and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.outstanding.iter().map(|count| usize::from(*count)).sum()
    }

    /// Index that the next offered chain gets.
    pub fn avail_index(&self) -> u16 {
        self.avail_idx
    }

    /// Used entries taken so far, modulo 2^16.
    pub fn used_index(&self) -> u16 {
        self.used_idx
    }

    /// The used index as it stands in guest memory.
    pub fn used_index_in_memory(&self) -> u16 {
        self.word(self.layout.used + 2).load(Ordering::Acquire)
    }

    /// Descriptors that a chain can still take.
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// Write a descriptor as it is.
    pub fn put_desc(&self, index: u16, desc: Desc) {
        self.rings.write(self.layout.table + 16 * u64::from(index), &desc.to_bytes());
    }

    /// Offer a head as it is, whatever it is, and however often it was offered before.
    pub fn offer(&mut self, head: u16) {
        if let Some(count) = self.outstanding.get_mut(usize::from(head)) {
            *count += 1;
        }
        let slot = self.layout.avail + 4 + 2 * u64::from(self.avail_idx % self.size);
        self.word(slot).store(head, Ordering::Relaxed);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        self.word(self.layout.avail + 2).store(self.avail_idx, Ordering::Release);
    }

    /// Let the device see any available index.
    pub fn put_avail_index(&mut self, index: u16) {
        self.word(self.layout.avail + 2).store(index, Ordering::SeqCst);
    }

    /// Write the used ring's index and flags, which are the device's to write.
    pub fn scribble_used(&mut self, flags: u16, index: u16) {
        self.word(self.layout.used).store(flags, Ordering::SeqCst);
        self.word(self.layout.used + 2).store(index, Ordering::SeqCst);
    }

    /// Write the index at which the driver wants to be called (EVENT_IDX), or any other.
    pub fn put_used_event(&self, index: u16) {
        let used_event = self.layout.avail + 4 + 2 * u64::from(self.size);
        self.word(used_event).store(index, Ordering::SeqCst);
    }

    /// Write the available ring's flags.
    pub fn put_avail_flags(&self, flags: u16) {
        self.word(self.layout.avail).store(flags, Ordering::SeqCst);
    }

    /// Take descriptors for a chain that the test writes by hand; [`reset`](Self::reset) returns
    /// them.
    pub fn take_descs<const N: usize>(&mut self) -> [u16; N] {
        std::array::from_fn(|_| self.free.pop().expect("descriptors left"))
    }

    /// Link descriptors into a chain and offer it. `NEXT` and `next` are set here, all else is
    /// written as it is.
    pub fn submit_chain(&mut self, chain: &[Desc]) -> Head {
        assert!(chain.len() <= self.free.len(), "the descriptor table is full");
        let mut following: Option<u16> = None;
        for desc in chain.iter().rev() {
            let index = self.free.pop().expect("counted above");
            let mut desc = *desc;
            if let Some(next) = following {
                (desc.flags, desc.next) = (desc.flags | NEXT, next);
            }
            self.put_desc(index, desc);
            self.chained[usize::from(index)] = following;
            following = Some(index);
        }
        let head = following.expect("a chain has a descriptor");
        self.managed[usize::from(head)] = true;
        self.offer(head);
        Head(head)
    }

    /// Tell the device about offered chains, unless it said that it looks by itself.
    pub fn kick(&mut self) {
        fence(Ordering::SeqCst);
        let (old, new) = (self.kicked_idx, self.avail_idx);
        self.kicked_idx = new;
        let wanted = if self.event_idx {
            let avail_event = self.layout.used + 4 + 8 * u64::from(self.size);
            let event = self.word(avail_event).load(Ordering::Relaxed);
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.word(self.layout.used).load(Ordering::Relaxed) & USED_NO_NOTIFY == 0
        };
        if wanted {
            self.kick_always();
        } else {
            self.notifications.kicks_saved += 1;
        }
    }

    /// Write to the kick eventfd.
    pub fn kick_always(&mut self) {
        self.notifications.kicks += 1;
        // A full counter is a pending kick.
        let _ = rustix::io::write(&self.kick, &1u64.to_ne_bytes());
    }

    /// Whether the driver wants to be called; without, it polls.
    pub fn set_interrupts(&mut self, wanted: bool) {
        self.interrupts = wanted;
        let flags = if wanted || self.event_idx { 0 } else { AVAIL_NO_INTERRUPT };
        self.put_avail_flags(flags);
        if self.event_idx {
            // Half the index space away is as good as never.
            let event = if wanted { self.used_idx } else { self.used_idx.wrapping_add(0x8000) };
            self.put_used_event(event);
        }
    }

    /// The next answer, if there is one now.
    pub fn pop_used(&mut self) -> Option<Used> {
        if self.used_index_in_memory() == self.used_idx {
            return None;
        }
        let slot = self.layout.used + 4 + 8 * u64::from(self.used_idx % self.size);
        let mut entry = [0; 8];
        self.rings.read(slot, &mut entry);
        let id = u32::from_le_bytes(entry[..4].try_into().expect("4 bytes"));
        let len = u32::from_le_bytes(entry[4..].try_into().expect("4 bytes"));
        let head = u16::try_from(id).unwrap_or(u16::MAX);
        match self.outstanding.get_mut(usize::from(head)) {
            Some(count) if *count > 0 => *count -= 1,
            _ => panic!("queue {}: used entry for head {id}, which is not offered", self.index),
        }
        self.used_idx = self.used_idx.wrapping_add(1);
        if std::mem::take(&mut self.managed[usize::from(head)]) {
            let mut link = Some(head);
            while let Some(index) = link {
                self.free.push(index);
                link = self.chained[usize::from(index)].take();
            }
        }
        Some(Used { head: Head(head), len })
    }

    /// The next answer; `None` when none came in time. With interrupts on, an answer without a
    /// call fails the test.
    pub fn wait_used(&mut self, wait: Duration) -> Option<Used> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(used) = self.pop_used() {
                return Some(used);
            }
            if !self.interrupts {
                if Instant::now() > deadline {
                    return None;
                }
                std::thread::yield_now();
                continue;
            }
            if self.event_idx {
                self.put_used_event(self.used_idx);
            }
            fence(Ordering::SeqCst);
            if self.used_index_in_memory() != self.used_idx {
                continue;
            }
            if !wait_readable(self.call.as_fd(), deadline) {
                if self.used_index_in_memory() == self.used_idx {
                    return None;
                }
                // It may have come just now, and its call is on the way.
                let called = wait_readable(self.call.as_fd(), Instant::now() + CALL_WAIT);
                assert!(called, "queue {}: an answer came without a call: {self:#?}", self.index);
            }
            self.drain_call();
        }
    }

    /// The next answer, which must come.
    pub fn answer(&mut self) -> Used {
        match self.wait_used(WAIT) {
            Some(used) => used,
            None => panic!(
                "queue {}: no answer in {WAIT:?}; {} chains are offered, available index {}, used \
                 index {}",
                self.index,
                self.in_flight(),
                self.avail_idx,
                self.used_idx
            ),
        }
    }

    /// The answer to this chain, which must be the next.
    pub fn wait(&mut self, head: Head) -> Used {
        let used = self.answer();
        assert_eq!(used.head, head, "queue {}: another chain was answered", self.index);
        used
    }

    fn drain_call(&mut self) {
        let mut count = [0; 8];
        if rustix::io::read(&self.call, &mut count).is_ok() {
            self.notifications.calls += 1;
        }
    }

    /// Whether the call eventfd was signalled since it was last read.
    pub fn was_called(&mut self) -> bool {
        let before = self.notifications.calls;
        self.drain_call();
        self.notifications.calls > before
    }

    /// Whether the device reports the queue broken, or does so within `wait`.
    pub fn broken_within(&self, wait: Duration) -> bool {
        let broken = wait_readable(self.err.as_fd(), Instant::now() + wait);
        let _ = rustix::io::read(&self.err, &mut [0; 8]);
        broken
    }
}
