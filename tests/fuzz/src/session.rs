//! F-04: a whole session: messages, what a guest writes, kicks.
//!
//! Every head that is taken is answered exactly once, by the time the workers rest; what a driver
//! offers on a sane ring is taken, counted in the used ring and told of; no guest byte that makes a
//! request is read more often than the reference reads it, also where bytes change as soon as they
//! were read; and nothing is left when the front end has gone.

mod seeds;
mod watcher;

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use blkfault::fuzzing::{run_workers, take_turns_here, watch};

use crate::guest::{Put, REGIONS};
use crate::input::{Reader, Writer};
use crate::messages::disk;
use crate::shared::Shared;
use crate::wire::{Link, Message, fd, leaves_nothing, make_fd, payload};
pub use seeds::seeds;
use watcher::Watcher;

/// Queues of the disk.
const QUEUES: usize = 2;
/// Where the front end has the guest's memory, in its own address space.
const USER: u64 = 0x7000_0000;
/// More steps only take time.
const STEPS_MAX: usize = 96;

/// Messages that may change what the reference goes by: features, memory, sizes and places of rings.
const RENEGOTIATES: [u8; 8] = [2, 4, 5, 8, 9, 34, 37, 38];

const EVENT_IDX: u64 = 1 << 29;
const INDIRECT_DESC: u64 = 1 << 28;
/// FLUSH, CONFIG_WCE, DISCARD, WRITE_ZEROES, INDIRECT_DESC, EVENT_IDX: by their bits in an input.
const FEATURES: [u64; 6] = [1 << 9, 1 << 11, 1 << 13, 1 << 14, INDIRECT_DESC, EVENT_IDX];

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Put(Put),
    /// The driver puts a head on the avail ring.
    Offer {
        queue: u8,
        head: u16,
    },
    Kick {
        queue: u8,
    },
    /// The driver says that so many heads are there.
    AvailIndex {
        queue: u8,
        index: u16,
    },
    Message(Message),
    Stop {
        queue: u8,
    },
    Start {
        queue: u8,
    },
    /// The memory file is cut here.
    Cut {
        bytes: u32,
    },
    /// Only these of the regions are left, by bits.
    Regions {
        kept: u8,
    },
}

/// An input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Bits of [`FEATURES`].
    pub features: u8,
    pub size_log2: u8,
    /// Bytes that make a request change as soon as they were read.
    pub flips: bool,
    /// Where the rings' indices start.
    pub base: u16,
    pub steps: Vec<Step>,
}

impl Case {
    pub fn decode(input: &[u8]) -> Self {
        let mut input = Reader::new(input);
        let (features, size_log2) = (input.u8(), input.u8() % 5);
        let (flips, base) = (input.u8() & 1 != 0, input.u16());
        let mut steps = Vec::new();
        while !input.is_empty() && steps.len() < STEPS_MAX {
            steps.push(Step::read(&mut input));
        }
        Self { features, size_log2, flips, base, steps }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut output = Writer::default();
        output.u8(self.features);
        output.u8(self.size_log2);
        output.u8(self.flips.into());
        output.u16(self.base);
        self.steps.iter().for_each(|step| step.write(&mut output));
        output.0
    }
}

impl Step {
    fn read(input: &mut Reader<'_>) -> Self {
        let kind = input.u8() % (Put::KINDS + 8);
        let Some(kind) = kind.checked_sub(Put::KINDS) else {
            return Self::Put(Put::read(kind, input));
        };
        if kind == 3 {
            return Self::Message(Message::read(input));
        }
        let queue = input.u8() & 1;
        match kind {
            0 => Self::Offer { queue, head: input.u16() },
            1 => Self::Kick { queue },
            2 => Self::AvailIndex { queue, index: input.u16() },
            4 => Self::Stop { queue },
            5 => Self::Start { queue },
            6 => Self::Cut { bytes: input.u32() },
            _ => Self::Regions { kept: input.u8() },
        }
    }

    fn write(&self, output: &mut Writer) {
        let mut begin = |kind, queue| {
            output.u8(Put::KINDS + kind);
            output.u8(queue);
        };
        match self {
            Self::Put(put) => put.write(output),
            Self::Offer { queue, head } => {
                begin(0, *queue);
                output.u16(*head);
            }
            Self::Kick { queue } => begin(1, *queue),
            Self::AvailIndex { queue, index } => {
                begin(2, *queue);
                output.u16(*index);
            }
            Self::Message(message) => {
                output.u8(Put::KINDS + 3);
                message.write(output);
            }
            Self::Stop { queue } => begin(4, *queue),
            Self::Start { queue } => begin(5, *queue),
            Self::Cut { bytes } => {
                begin(6, 0);
                output.u32(*bytes);
            }
            Self::Regions { kept } => {
                begin(7, 0);
                output.u8(*kept);
            }
        }
    }
}

/// Where a queue's parts are: table, avail ring, used ring.
pub fn place(queue: usize) -> [u64; 3] {
    let base = queue as u64 * 0x1000;
    [base, base + 0x800, base + 0xC00]
}

/// A queue as its driver sees it.
#[derive(Debug)]
struct Queue {
    kick: OwnedFd,
    call: OwnedFd,
    started: bool,
    /// Where the ring started.
    avail_base: u16,
    used_base: u16,
    /// Heads taken and answered before it started.
    taken_before: u64,
    answered_before: u64,
    /// The driver did what makes a device stop listening, or what makes it unknown.
    suspect: bool,
}

/// A session.
struct Scene {
    link: Link,
    memory: Rc<Shared>,
    watcher: Watcher,
    queues: Vec<Queue>,
    size: u16,
    event_idx: bool,
    /// The memory file is whole.
    whole: bool,
}

/// Try an input.
pub fn run(input: &[u8]) {
    leaves_nothing(input, |input| play(&Case::decode(input), None));
}

/// The same with a log of requests in flight, for so many descriptors, that was there before.
pub fn run_with_log(case: &Case, log: &OwnedFd, queue_size: u16) {
    play(case, Some((log, queue_size)));
}

fn play(case: &Case, log: Option<(&OwnedFd, u16)>) {
    take_turns_here(true);
    let mut scene = Scene::new(case);
    scene.begin(case, log);
    for step in &case.steps {
        if !scene.link.is_up() {
            break;
        }
        scene.step(step);
        if scene.whole {
            scene.watcher.check_answers();
        }
    }
    drop(scene.link);
    watch(None);
}

impl Scene {
    fn new(case: &Case) -> Self {
        let memory = Rc::new(Shared::new());
        let chosen = (0..).zip(FEATURES).filter(|(bit, _)| case.features & 1 << bit != 0);
        let features: u64 = chosen.map(|(_, feature)| feature).sum();
        let watcher = Watcher::new(memory.clone(), features, 1 << case.size_log2, case.flips);
        watcher.start();
        let queue = |_| Queue {
            kick: make_fd(fd::EVENT),
            call: make_fd(fd::EVENT),
            started: false,
            avail_base: case.base,
            used_base: case.base,
            taken_before: 0,
            answered_before: 0,
            suspect: false,
        };
        let mut scene = Self {
            link: Link::new(disk()),
            memory,
            watcher,
            queues: (0..QUEUES).map(queue).collect(),
            size: 1 << case.size_log2,
            event_idx: features & EVENT_IDX != 0,
            whole: true,
        };
        scene.negotiate(features);
        scene
    }

    fn begin(&mut self, case: &Case, log: Option<(&OwnedFd, u16)>) {
        if let Some((log, queue_size)) = log {
            // What it takes and where it goes on is the log's to say; chains are put before.
            self.suspect_all();
            let puts = case.steps.iter().filter(|step| matches!(step, Step::Put(_)));
            puts.for_each(|step| self.step(step));
            let shape = [QUEUES as u16, queue_size].map(u16::to_ne_bytes).concat();
            let told = [payload(&[], &[1 << 20, 0]), shape, vec![0; 4]].concat();
            self.link.send(&Message::new(32, told), &[log.as_fd()]);
        }
        for queue in 0..QUEUES {
            let [_, avail, used] = place(queue);
            self.memory.put_word(avail + 2, case.base);
            self.memory.put_word(used + 2, case.base);
            self.set_up(queue);
            self.start(queue);
        }
    }

    fn tell(&mut self, request: u8, words: &[u32], numbers: &[u64]) {
        self.link.send(&Message::new(request, payload(words, numbers)), &[]);
    }

    fn negotiate(&mut self, features: u64) {
        self.tell(3, &[], &[]);
        self.tell(2, &[], &[features | 1 << 30 | 1 << 32]);
        self.tell(16, &[], &[1 << 3 | 1 << 12 | 1 << 15]);
        self.share(0b111);
    }

    fn share(&mut self, kept: u8) {
        let regions = (0..).zip(REGIONS).filter(|(bit, _)| kept & 1 << bit != 0);
        let regions: Vec<_> =
            regions.map(|(_, (at, bytes))| [at, bytes as u64, USER + at, at]).collect();
        let file = self.memory.file.try_clone().expect("a descriptor");
        let files = vec![file.as_fd(); regions.len()];
        self.link.send(&crate::messages::memory_table(&regions), &files);
    }

    fn set_up(&mut self, queue: usize) {
        let index = u32::try_from(queue).unwrap_or(0);
        let [table, avail, used] = place(queue).map(|at| USER + at);
        self.tell(8, &[index, self.size.into()], &[]);
        self.tell(9, &[index, 0], &[table, used, avail, 0]);
        let call = Message::new(13, payload(&[], &[queue as u64]));
        self.link.send(&call, &[self.queues[queue].call.as_fd()]);
        self.tell(18, &[index, 1], &[]);
    }

    fn start(&mut self, queue: usize) {
        let index = u32::try_from(queue).unwrap_or(0);
        let used_base = if self.whole { self.memory.word(place(queue)[2] + 2) } else { 0 };
        self.tell(10, &[index, self.queues[queue].avail_base.into()], &[]);
        let taken = self.watcher.counts(queue);
        let state = &mut self.queues[queue];
        state.used_base = used_base;
        (state.taken_before, state.answered_before) = taken;
        state.started = true;
        self.watcher.forget_used_writes(queue);
        let kick = Message::new(12, payload(&[], &[queue as u64]));
        self.link.send(&kick, &[self.queues[queue].kick.as_fd()]);
        self.rest(queue, true);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(put) if self.whole => {
                let memory = self.memory.clone();
                let at = put.apply(&mut |at, bytes| {
                    (at..).zip(bytes).for_each(|(at, byte)| memory.put(at, *byte));
                });
                self.suspect_where(&at);
            }
            Step::Offer { queue, head } if self.whole => self.offer((*queue).into(), *head),
            Step::Kick { queue } => self.kick((*queue).into()),
            Step::AvailIndex { queue, index } if self.whole => {
                self.memory.put_word(place((*queue).into())[1] + 2, *index);
            }
            Step::Message(message) => {
                self.suspect_all();
                // One whose length is not its own makes others of what follows.
                if RENEGOTIATES.contains(&message.request) || message.length.is_some() {
                    self.watcher.stop_reading();
                }
                self.link.send_made(message);
                run_workers();
            }
            Step::Stop { queue } => self.stop((*queue).into()),
            Step::Start { queue } if !self.queues[usize::from(*queue)].started => {
                self.start((*queue).into());
            }
            Step::Cut { bytes } => {
                self.suspect_all();
                self.whole = false;
                self.watcher.stop_reading();
                let _ = rustix::fs::ftruncate(&self.memory.file, (*bytes).into());
                run_workers();
            }
            Step::Regions { kept } => {
                self.suspect_all();
                self.share(*kept);
            }
            _ => {}
        }
    }

    fn suspect_all(&mut self) {
        self.queues.iter_mut().for_each(|queue| queue.suspect = true);
    }

    /// A guest that writes over a used ring gets what it asked for.
    fn suspect_where(&mut self, at: &std::ops::Range<u64>) {
        for (queue, state) in self.queues.iter_mut().enumerate() {
            let used = place(queue)[2];
            state.suspect |= at.start < used + 0x400 && at.end > used;
        }
    }

    fn offer(&mut self, queue: usize, head: u16) {
        let avail = place(queue)[1];
        let index = self.memory.word(avail + 2);
        self.memory.put_word(avail + 4 + 2 * u64::from(index % self.size), head);
        self.memory.put_word(avail + 2, index.wrapping_add(1));
    }

    fn kick(&mut self, queue: usize) {
        let _ = rustix::io::write(&self.queues[queue].kick, &1_u64.to_ne_bytes());
        run_workers();
        (0..QUEUES).for_each(|other| self.rest(other, other == queue));
    }

    /// What must be so once the workers rest.
    fn rest(&mut self, queue: usize, kicked: bool) {
        if !self.whole || !self.link.is_up() {
            return;
        }
        let (taken, answered) = self.watcher.counts(queue);
        let [_, avail, used] = place(queue);
        let state = &mut self.queues[queue];
        let taken = u16::try_from((taken - state.taken_before) & 0xFFFF).unwrap_or(0);
        let told = u16::try_from((answered - state.answered_before) & 0xFFFF).unwrap_or(0);
        let next = state.avail_base.wrapping_add(taken);
        let waiting = self.memory.word(avail + 2).wrapping_sub(next);
        let heads = (0..waiting.min(self.size))
            .map(|n| self.memory.word(avail + 4 + 2 * u64::from(next.wrapping_add(n) % self.size)));
        state.suspect |= waiting > self.size || heads.into_iter().any(|head| head >= self.size);
        state.suspect |= self.watcher.wrote_used(queue);
        if state.suspect || !state.started {
            return;
        }
        assert!(
            !kicked || waiting == 0,
            "queue {queue}: heads are available and nobody takes them"
        );
        let index = self.memory.word(used + 2);
        assert_eq!(index, state.used_base.wrapping_add(told), "queue {queue}: used index");
        let quiet = self.event_idx || self.memory.word(avail) & 1 != 0;
        if told > 0 && !quiet {
            let mut count = [0; 8];
            let called = rustix::io::read(&state.call, &mut count).is_ok();
            let news = answered > self.watcher.announced(queue);
            assert!(called || !news, "queue {queue}: nobody was told");
        }
        self.watcher.announce(queue);
    }

    fn stop(&mut self, queue: usize) {
        let index = u32::try_from(queue).unwrap_or(0);
        let message = Message::new(11, payload(&[index, 0], &[]));
        let answer = self.link.send(&message, &[]).pop();
        self.rest(queue, false);
        let (taken, _) = self.watcher.counts(queue);
        let state = &mut self.queues[queue];
        let Some(answer) = answer.filter(|answer| answer.payload.len() == 8) else { return };
        let base = u16::from_ne_bytes([answer.payload[4], answer.payload[5]]);
        let taken = u16::try_from((taken - state.taken_before) & 0xFFFF).unwrap_or(0);
        if !state.suspect && state.started {
            assert_eq!(base, state.avail_base.wrapping_add(taken), "where the ring stopped");
        }
        state.avail_base = base;
        state.started = false;
        // GET_VRING_BASE takes the call descriptor away; what is told from then on is told to nobody.
        state.suspect = true;
    }
}
