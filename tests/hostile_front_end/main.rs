//! The guest's door against a hostile front end: the catalogue B.
//!
//! What a front end may not say is refused or ends its session; whichever it is, the daemon goes on,
//! the next front end is served, and nothing of the last is left behind: no descriptor, no thread, no
//! mapping, no memory.
//!
//! Every case is told a few times in each test run and a thousand times or for a minute with
//! `BLKFAULT_LONG=1`, which prints what was left behind, and for how much of the time a processor was at
//! work. `BLKFAULT_LONG_SECONDS=1200` makes twenty minutes of the minute, in which every case reaches its
//! thousand on an optimised build: one takes a second each, for a worker that waits in a call is given
//! 800 ms. `BLKFAULT_CASES=B-14,B-31` tells those, `B-14..` all from there on.
//! Other stories of the same number:
//!
//! | number | where |
//! | --- | --- |
//! | B-01 | here: `a_message_that_never_arrives_whole_ends_the_session_in_time` |
//! | B-16 | slots that touch, crossed again and again: `slots` |
//! | B-17 | `cut_memory`, `cut_payload` |
//! | B-22, of many rings at once | `deaf_rings` |
//! | B-24 | requests that never end, and those that faults hold: `tests/export/stopping.rs`, `held.rs` |
//! | B-28 | garbage in the region: `src/export/inflight/tests.rs` |
//! | B-34 | `tests/command_line.rs`, `src/socket_path.rs` |
//! | B-06, B-32, B-33 | what they make the daemon say: `log` |
//! | B-39, B-40 | `peers`; a killed QEMU: `tests/real_guest/lifecycle.rs` |

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test may fail")]

#[path = "../support"]
mod support {
    pub mod backend;
    pub mod daemon;
    pub mod front;
    pub mod load;
    pub mod nodes;
    pub mod operator;
    pub mod process;
}

mod cut_memory;
mod cut_payload;
mod deaf_rings;
mod doors;
mod inflight;
mod log;
mod memory;
mod messages;
mod peers;
mod rings;
mod slots;

use std::ops::Deref;
use std::time::{Duration, Instant};

use support::backend::{DISK_BYTES, Holdings, Served, alone, options, resident_bytes};
use support::front::{Front, Wire, feature, message};
use support::nodes::{HoldingNode, MemoryNode};

/// One entry of the catalogue.
struct Case {
    id: &'static str,
    story: &'static str,
    tell: fn(&Stage),
}

const fn case(id: &'static str, story: &'static str, tell: fn(&Stage)) -> Case {
    Case { id, story, tell }
}

const CASES: &[Case] = &[
    case("B-02", "an honest session, one byte at a time: served", messages::byte_by_byte),
    case("B-03", "two messages in one piece: both answered", messages::two_at_once),
    case("B-04", "lengths that do not fit", messages::lengths),
    case("B-05", "unknown versions and flags", messages::flags),
    case("B-06", "requests that are none", messages::unknown_requests),
    case("B-07", "rings before anything else", messages::rings_first),
    case("B-08", "features that were not offered, or change while rings run", rings::features),
    case("B-09", "protocol features that were not offered", messages::unoffered),
    case("B-10", "an answer to every message", messages::answer_to_all),
    case("B-11", "too few and too many descriptors", messages::descriptor_counts),
    case("B-12", "descriptors of the wrong kind", messages::descriptor_kinds),
    case("B-13", "memory tables that make no sense", messages::memory_tables),
    case("B-14", "memory that goes under requests", memory::goes_under_requests),
    case("B-15", "memory without the rings", memory::without_the_rings),
    case("B-16", "memory slots that make no sense", messages::memory_slots),
    case("B-18", "rings and sizes that there are not", rings::that_are_not_there),
    case("B-19", "rings where there is no memory", messages::ring_places),
    case("B-20", "rings that begin where nothing was offered", rings::bases),
    case("B-21", "kick descriptors of all kinds", messages::kicks),
    case("B-22", "descriptors to call on that are full", rings::full_descriptors),
    case("B-22", "a descriptor to call on that makes callers wait", rings::waiting_descriptor),
    case("B-22", "a descriptor to call on that is kept full", rings::descriptor_that_is_kept_full),
    case("B-23", "rings on and off under load", rings::enable_storm),
    case("B-24", "rings that stop with requests on their way", rings::stop_and_go),
    case("B-25", "rings that stop twice", rings::stop_twice),
    case("B-26", "configuration beyond the end", messages::configuration),
    case("B-26", "configuration that is not the driver's, and a cache that flips", rings::cache),
    case("B-27", "features of a back end that this one is not", messages::other_features),
    case("B-27", "regions of requests in flight that are too large", inflight::asked_for),
    case("B-28", "regions of requests in flight that make no sense", inflight::given),
    case("B-28", "a region of requests in flight full of lies", inflight::full_of_lies),
    case("B-29", "logs of pages that make no sense", memory::logs),
    case("B-30", "a device that is reset with requests on their way", rings::reset),
    case("B-31", "a session cut at every byte", messages::cut_everywhere),
    case("B-32", "a second front end", doors::second),
    case("B-33", "front ends that come and go", doors::come_and_go),
    case("B-34", "sockets where something else is", doors::places),
    case("B-35", "a flood of descriptors", messages::descriptor_flood),
    case("B-36", "a channel that nobody reads, or that is none", doors::deaf_channel),
    case("B-37", "memory that is copied later", doors::postcopy),
    case("B-38", "addresses of an IOMMU that there is not", doors::iotlb),
];

/// Times that a case is told in a short run, and in a long one if that takes no longer than
/// [`long_max`].
const SHORT: u32 = 3;
/// Times that it is told before it is looked at what it leaves in the allocator.
const WARM: u32 = 2;
const LONG: u32 = 1000;
/// What a case may leave in the allocator.
const KEPT_BYTES_MAX: u64 = 1 << 20;

/// A short number, or the one that the figures were measured with.
fn times(short: u32, long: u32) -> u32 {
    if std::env::var_os("BLKFAULT_LONG").is_some_and(|value| value == "1") { long } else { short }
}

/// How long a case may go on in a long run.
fn long_max() -> Duration {
    let given = std::env::var("BLKFAULT_LONG_SECONDS");
    Duration::from_secs(given.map_or(60, |seconds| seconds.parse().expect("a number of seconds")))
}

/// Whether `BLKFAULT_CASES` asks for a case.
fn is_chosen(id: &str, chosen: &str) -> bool {
    match chosen.strip_suffix("..") {
        Some(first) => id >= first,
        None => chosen.is_empty() || chosen.split(',').any(|one| one == id),
    }
}

/// A disk that is served, and the gate before its image.
struct Stage {
    served: Served,
    node: HoldingNode,
}

impl Case {
    /// Times that it is told in a long run, and how long that may take.
    fn long(&self) -> (u32, Duration) {
        match self.id {
            // Ten thousand changes of the table, ten thousand stops.
            "B-14" => (100, 5 * long_max()),
            "B-24" => (500, 5 * long_max()),
            _ => (LONG, long_max()),
        }
    }
}

impl Deref for Stage {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

impl Stage {
    fn new() -> Self {
        let node = HoldingNode::new(DISK_BYTES);
        Self { served: Served::over(node.clone(), options(2)), node }
    }

    /// Tell a case as often as asked for; nothing may be left of it.
    fn tell(&self, case: &Case, before: Holdings) {
        let Case { id, story, tell } = case;
        let (long, long_max) = case.long();
        let (began, worked) = (Instant::now(), processor_time());
        let wanted = times(WARM + SHORT, long);
        let (mut told, mut kept_before) = (0, 0);
        while told < wanted && (told < WARM + SHORT || began.elapsed() < long_max) {
            tell(self);
            next_is_served(self);
            self.forget();
            let wait = Instant::now() + Duration::from_secs(30);
            while Holdings::now() != before && Instant::now() < wait {
                std::thread::sleep(Duration::from_micros(200));
            }
            assert_eq!(Holdings::now(), before, "{id}: {story}");
            told += 1;
            if told == WARM {
                // By now the allocator has what the case needs.
                kept_before = resident_bytes();
            }
        }
        let kept = resident_bytes().saturating_sub(kept_before);
        let (took, work) = (began.elapsed().as_secs_f64(), processor_time() - worked);
        eprintln!(
            "{id} x {told}: {took:.1} s, {work:.1} at work, {} KiB kept: {story}",
            kept >> 10
        );
        assert!(told > WARM, "{id}: {story}: told too seldom to see what is kept");
        assert!(kept < KEPT_BYTES_MAX, "{id}: {story}: {kept} bytes are kept");
    }

    /// Forget what the test itself keeps of a case.
    fn forget(&self) {
        self.node.memory.asked();
        self.seen.failures.lock().unwrap().clear();
    }
}

/// Seconds that this process has used of processors, the kernel's work for it included.
fn processor_time() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(used).unwrap().as_secs_f64()
}

/// A front end that has connected and said nothing.
fn silent(served: &Served) -> Wire {
    Wire::connect(&served.socket).expect("connect")
}

/// A front end that is ready to set up rings.
fn ready(served: &Served) -> Front {
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    front
}

/// The next front end is served.
fn next_is_served(served: &Served) {
    served.wait_disconnected();
    let mut front = ready(served);
    assert!(front.start_queues(1, 16)[0].is_alive());
    drop(front);
    served.wait_disconnected();
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn halves(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

#[test]
fn every_hostile_front_end_is_survived_and_leaves_nothing_behind() {
    if !alone("every_hostile_front_end_is_survived_and_leaves_nothing_behind") {
        return;
    }
    let stage = Stage::new();
    next_is_served(&stage);
    let before = Holdings::now();
    let chosen = std::env::var("BLKFAULT_CASES").unwrap_or_default();
    let told: Vec<_> = CASES.iter().filter(|case| is_chosen(case.id, &chosen)).collect();
    assert!(!told.is_empty(), "BLKFAULT_CASES={chosen}: expected B-14, or B-14,B-31, or B-14..");
    told.into_iter().for_each(|case| stage.tell(case, before));
}

#[test]
fn a_message_that_never_arrives_whole_ends_the_session_in_time() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    for part in [&message(1, 0, &[])[..5], &message(2, 0, &[0; 8])[..15]] {
        let wire = silent(&served);
        let began = Instant::now();
        wire.send_bytes(part, &[]).unwrap();
        assert!(wire.closes_within(Duration::from_secs(10)), "B-01");
        assert!(began.elapsed() > Duration::from_secs(1), "slow is not wrong");
        next_is_served(&served);
    }
}
