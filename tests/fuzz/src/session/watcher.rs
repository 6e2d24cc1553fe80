//! Who takes, reads and answers what.
//!
//! Knows: the events of workers on this thread. Must not know: messages. Invariant: between taking a
//! head and having parsed it, every byte is read at most as often as the reference reads it.

use std::cell::RefCell;
use std::rc::Rc;

use blkfault::fuzzing::{ChainAt, Event, watch};

use super::{INDIRECT_DESC, QUEUES, place};
use crate::guest::BYTES;
use crate::model::{Content, Device, Reads, Terms};
use crate::shared::Shared;

thread_local! {
    /// The guest's memory, for the reference to change; kept, because to make one is dear.
    static COPY: RefCell<Box<[u8; BYTES]>> = RefCell::new(Box::new([0; BYTES]));
}

/// What is known of one queue.
#[derive(Debug, Default)]
struct Seen {
    taken: u64,
    answered: u64,
    announced: u64,
    unanswered: Vec<u16>,
    /// Somebody wrote its used ring who is not the used ring.
    wrote_used: bool,
}

#[derive(Debug)]
struct State {
    memory: Rc<Shared>,
    features: u64,
    size: u16,
    flips: bool,
    reads_memory: bool,
    queues: [Seen; QUEUES],
    /// What the reference reads for the head that is being taken.
    allowed: Option<Reads>,
    reads: Reads,
    /// Bytes that were read and change now.
    changing: Option<(u64, u64)>,
}

/// The watcher.
#[derive(Debug, Clone)]
pub(super) struct Watcher(Rc<RefCell<State>>);

impl Watcher {
    pub(super) fn new(memory: Rc<Shared>, features: u64, size: u16, flips: bool) -> Self {
        Self(Rc::new(RefCell::new(State {
            memory,
            features,
            size,
            flips,
            reads_memory: true,
            queues: Default::default(),
            allowed: None,
            reads: Reads::new(),
            changing: None,
        })))
    }

    pub(super) fn start(&self) {
        let state = self.0.clone();
        watch(Some(Box::new(move |event| state.borrow_mut().see(event))));
    }

    /// The memory is not there any more.
    pub(super) fn stop_reading(&self) {
        let mut state = self.0.borrow_mut();
        state.reads_memory = false;
        state.changing = None;
    }

    /// Heads taken, heads answered.
    pub(super) fn counts(&self, queue: usize) -> (u64, u64) {
        let state = self.0.borrow();
        (state.queues[queue].taken, state.queues[queue].answered)
    }

    pub(super) fn announced(&self, queue: usize) -> u64 {
        self.0.borrow().queues[queue].announced
    }

    pub(super) fn announce(&self, queue: usize) {
        let seen = &mut self.0.borrow_mut().queues[queue];
        seen.announced = seen.answered;
    }

    pub(super) fn wrote_used(&self, queue: usize) -> bool {
        self.0.borrow().queues[queue].wrote_used
    }

    pub(super) fn forget_used_writes(&self, queue: usize) {
        self.0.borrow_mut().queues[queue].wrote_used = false;
    }

    /// Every head was answered.
    pub(super) fn check_answers(&self) {
        for (queue, seen) in self.0.borrow().queues.iter().enumerate() {
            let unanswered = &seen.unanswered;
            assert!(unanswered.is_empty(), "queue {queue}: no answer to {unanswered:?}");
        }
    }
}

impl State {
    fn see(&mut self, event: Event) {
        if let Some((at, bytes)) = self.changing.take() {
            for at in at..at.saturating_add(bytes).min(crate::guest::END) {
                self.memory.put(at, !self.memory.get(at));
            }
        }
        match event {
            Event::Taking { queue, head } => self.taking(queue, head),
            Event::Taken => {
                let (allowed, reads) = (self.allowed.take(), std::mem::take(&mut self.reads));
                if let Some(allowed) = allowed {
                    crate::reads::check(&reads, &allowed);
                }
            }
            Event::Read { at, bytes } if self.allowed.is_some() => {
                self.reads.push((at, bytes as u64));
                self.changing = self.flips.then_some((at, bytes as u64));
            }
            Event::Read { .. } => {}
            Event::Write { at, bytes } => self.written(at, bytes),
            Event::Answered { queue, head } => {
                let seen = &mut self.queues[usize::from(queue)];
                let taken = seen.unanswered.iter().position(|taken| *taken == head);
                let taken = taken.unwrap_or_else(|| panic!("an answer to {head}, not taken"));
                seen.unanswered.remove(taken);
                seen.answered += 1;
            }
        }
    }

    fn taking(&mut self, queue: u16, head: u16) {
        let seen = &mut self.queues[usize::from(queue)];
        seen.taken += 1;
        seen.unanswered.push(head);
        if !self.reads_memory {
            return;
        }
        let table = place(queue.into())[0];
        let indirect = self.features & INDIRECT_DESC != 0;
        let at = ChainAt { table, size: self.size, head, indirect };
        let terms = Terms {
            features: self.features,
            writeback: true,
            read_only: false,
            capacity_bytes: 64 << 10,
            block_bytes: 512,
            fails: [false; 5],
            unsupported: false,
            serial: [0; 20],
        };
        let mut content = Content::new();
        COPY.with_borrow_mut(|copy| {
            self.memory.copy(copy);
            let served = Device { terms, memory: &mut copy[..], content: &mut content }.serve(at);
            self.allowed = Some(served.reads);
        });
        self.reads.clear();
    }

    /// The used ring's own writes are two bytes of index, two of event index, eight of an element.
    fn written(&mut self, at: u64, bytes: usize) {
        for (queue, seen) in self.queues.iter_mut().enumerate() {
            let used = place(queue)[2];
            let elements = used + 4..used + 4 + 8 * u64::from(self.size);
            let event = elements.end;
            let own = match bytes {
                2 => [used, used + 2, event].contains(&at),
                4 | 8 => elements.contains(&at) && (at - elements.start).is_multiple_of(4),
                _ => false,
            };
            let end = at.saturating_add(bytes as u64);
            seen.wrote_used |= !own && at < used + 0x400 && end > used;
        }
    }
}
