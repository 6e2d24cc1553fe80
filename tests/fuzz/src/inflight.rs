//! F-05: recovery from a log of requests in flight that somebody else wrote.
//!
//! Whatever the log and the used index say: the reference finds the same heads, each once and of this
//! ring; done once more it tells the same; and a session that is given the log answers each head that
//! it takes exactly once.

mod seeds;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use blkfault::fuzzing::{LogAt, Unanswered, recover};
use rustix::fs::MemfdFlags;

use crate::input::{Reader, Writer};
use crate::session::{Case as Session, Step, run_with_log};
use crate::wire::{leaves_nothing, memory};
pub use seeds::seeds;

/// Queues of the region, as of the disk.
const QUEUES: u16 = 2;

/// What a log says of one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    pub inflight: u8,
    pub next: u16,
    pub counter: u64,
}

/// An input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub queue_size_log2: u8,
    pub ring_size_log2: u8,
    pub used_idx: u16,
    pub version: u16,
    pub desc_num: u16,
    pub last_batch_head: u16,
    pub logged_used_idx: u16,
    /// Of the first descriptors; the others say nothing.
    pub states: Vec<State>,
    /// Descriptors, heads and kicks of the session.
    pub steps: Vec<Step>,
}

impl Case {
    pub fn decode(input: &[u8]) -> Self {
        let mut input = Reader::new(input);
        let (queue_size_log2, ring_size_log2) = (input.u8() % 5, input.u8() % 5);
        let mut case = Self {
            queue_size_log2,
            ring_size_log2,
            used_idx: input.u16(),
            version: input.u16(),
            desc_num: input.u16(),
            last_batch_head: input.u16(),
            logged_used_idx: input.u16(),
            states: Vec::new(),
            steps: Vec::new(),
        };
        for _ in 0..input.u8() % 17 {
            let (inflight, next, counter) = (input.u8(), input.u16(), input.u64());
            case.states.push(State { inflight, next, counter });
        }
        case.steps = Session::decode(&[&[0; 5], input.rest()].concat()).steps;
        case
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut output = Writer::default();
        output.u8(self.queue_size_log2);
        output.u8(self.ring_size_log2);
        for word in
            [self.used_idx, self.version, self.desc_num, self.last_batch_head, self.logged_used_idx]
        {
            output.u16(word);
        }
        output.u8(u8::try_from(self.states.len()).unwrap_or(16));
        for State { inflight, next, counter } in &self.states {
            output.u8(*inflight);
            output.u16(*next);
            output.u64(*counter);
        }
        let steps = self.steps.clone();
        let session = Session { features: 0, size_log2: 0, flips: false, base: 0, steps };
        output.bytes(&session.encode()[5..]);
        output.0
    }

    fn queue_size(&self) -> u16 {
        1 << self.queue_size_log2
    }

    /// The region, the same for each queue.
    fn region(&self) -> Vec<u8> {
        let mut part = Writer::default();
        part.u64(0);
        for word in [self.version, self.desc_num, self.last_batch_head, self.logged_used_idx] {
            part.u16(word);
        }
        let none = State::default();
        for head in 0..usize::from(self.queue_size()) {
            let State { inflight, next, counter } = *self.states.get(head).unwrap_or(&none);
            part.bytes(&[inflight, 0, 0, 0, 0, 0]);
            part.u16(next);
            part.u64(counter);
        }
        part.0.resize(part.0.len().next_multiple_of(64), 0);
        part.0.repeat(QUEUES.into())
    }
}

/// Try an input.
pub fn run(input: &[u8]) {
    leaves_nothing(input, play);
}

fn play(input: &[u8]) {
    let case = Case::decode(input);
    let region = case.region();
    let file = File::from(log_file(&region));
    let at = LogAt {
        num_queues: QUEUES,
        queue: 1,
        queue_size: case.queue_size(),
        ring_size: 1 << case.ring_size_log2,
        used_idx: case.used_idx,
    };
    let expected = reference(&case, at);
    let recovered = recover(&file, at).ok();
    assert_eq!(recovered, expected);
    if let Some(Some((_, heads))) = &recovered {
        let mut unique = heads.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), heads.len(), "no head twice");
        assert!(heads.iter().all(|head| *head < at.ring_size), "heads of this ring");
        assert_eq!(recover(&file, at).ok(), recovered, "done once more");
        assert_eq!(marks(&file, &case), unique, "marks");
    } else if recovered.is_none() {
        let mut now = vec![0; region.len()];
        file.read_exact_at(&mut now, 0).expect("the region");
        assert!(now == region, "a log that is refused is left as it is");
    }
    let session = Session {
        features: 0b1_1111,
        size_log2: case.ring_size_log2,
        flips: false,
        base: case.used_idx,
        steps: case.steps.clone(),
    };
    run_with_log(&session, &log_file(&region), case.queue_size());
}

/// A file with a region.
fn log_file(region: &[u8]) -> OwnedFd {
    let file = File::from(memory(region.len() as u64, MemfdFlags::ALLOW_SEALING));
    file.write_all_at(region, 0).expect("room");
    file.into()
}

/// Heads that the second queue's part marks.
fn marks(file: &File, case: &Case) -> Vec<u16> {
    let stride = case.region().len() as u64 / 2;
    let is_marked = |head: &u16| {
        let mut byte = [0];
        let at = stride + 16 + 16 * u64::from(*head);
        file.read_exact_at(&mut byte, at).is_ok() && byte != [0]
    };
    (0..case.queue_size()).filter(is_marked).collect()
}

/// Recovery as QEMU's vhost-user.rst tells it. `None`: refused.
fn reference(case: &Case, at: LogAt) -> Option<Unanswered> {
    let fits = at.ring_size <= at.queue_size;
    match case.version {
        0 if fits => return Some(None),
        1 if fits && case.desc_num == at.queue_size => {}
        _ => return None,
    }
    let known = case.states.iter().take(at.queue_size.into());
    let mut states: Vec<State> = known.copied().collect();
    states.resize(at.queue_size.into(), State::default());
    if states.iter().all(|state| state.counter == 0) {
        return Some(None);
    }
    // What was answered before its mark could be taken away is in the list, last one first.
    let answered = at.used_idx.wrapping_sub(case.logged_used_idx);
    states.truncate(at.ring_size.into());
    let mut next = case.last_batch_head;
    for _ in 0..if answered > at.ring_size { 0 } else { answered } {
        let Some(state) = states.get_mut(usize::from(next)) else { break };
        state.inflight = 0;
        next = state.next;
    }
    let marked = (0..).zip(&states).filter(|(_, state)| state.inflight != 0);
    let mut marked: Vec<(u64, u16)> = marked.map(|(head, state)| (state.counter, head)).collect();
    marked.sort_unstable();
    let heads: Vec<u16> = marked.into_iter().map(|(_, head)| head).collect();
    let count = u16::try_from(heads.len()).unwrap_or(0);
    Some(Some((at.used_idx.wrapping_add(count), heads)))
}
