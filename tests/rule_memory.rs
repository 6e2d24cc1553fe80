//! What a fault rule costs in memory: at most 300 bytes once it is armed, if it is an ordinary one.
//!
//! The rules are added as operators' transactions add them, some hundred at a time, through the engine's own
//! interface. A binary of its own, because the allocator is everybody's, and with one test, so that nobody
//! else asks it meanwhile.

#![allow(clippy::unwrap_used, reason = "a test panics when it fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use blkfault::errno::Errno;
use blkfault::fault::SectorRange;
use blkfault::fault::blkdebug::{Event, InjectError, Rules};
use blkfault::fault::engine::{Change, Engine, Place};
use blkfault::fault::rule::{Effect, Media, Rule, RuleName, Trigger};
use blkfault::fault::slow::{Distribution, Share};

/// The system's allocator, which tells how much of its memory is in use.
struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

/// What the allocator of the GNU C library takes for so many bytes: a word of its own, in steps of 16.
fn taken_for(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16).max(32)
}

fn count_taken(bytes: usize) {
    let live_bytes = LIVE_BYTES.fetch_add(taken_for(bytes), Ordering::Relaxed) + taken_for(bytes);
    PEAK_BYTES.fetch_max(live_bytes, Ordering::Relaxed);
}

fn count_given_back(bytes: usize) {
    LIVE_BYTES.fetch_sub(taken_for(bytes), Ordering::Relaxed);
}

// SAFETY: everything is done by the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_taken(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count_given_back(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count_given_back(layout.size());
        count_taken(bytes);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RULES: u64 = 10_000;
/// Rules in one transaction.
const HEAP: u64 = 500;
const RULE_BYTES_MAX: usize = 300;

/// A rule of its own sectors.
fn native(number: u64, trigger: Trigger, effect: Effect) -> Change {
    let sectors = SectorRange::new(number * 16, number * 16 + 7).into_iter().collect();
    // As the daemon names them that have no name.
    let name = RuleName::new(&format!("rule{}", number + 1)).unwrap();
    let rule = Rule::new(name, Trigger { sectors, ..trigger }, effect, false).unwrap();
    Change::AddRule { rule: Box::new(rule), place: Place::Last }
}

fn delay() -> Effect {
    Effect::Delay { delay: Distribution::Fixed { delay_ns: 1_000_000 }, then: None }
}

fn blkdebug(number: u64) -> Change {
    let rule = InjectError { sector: Some(number), ..InjectError::on(Event::ReadAio) };
    Change::AddBlkdebugRules(Rules { inject_error: vec![rule], set_state: Vec::new() })
}

/// Its name, what it may take, the n-th rule of it.
type Kind = (&'static str, usize, fn(u64) -> Change);

const KINDS: [Kind; 7] = [
    ("sectors, error", RULE_BYTES_MAX, |n| {
        native(n, Trigger::default(), Effect::Error(Errno::EIO))
    }),
    ("sectors, delay", RULE_BYTES_MAX, |n| native(n, Trigger::default(), delay())),
    ("sectors, once", RULE_BYTES_MAX, |n| {
        native(n, Trigger { times: Some(1), ..Trigger::default() }, Effect::Error(Errno::EIO))
    }),
    ("sectors, by chance", RULE_BYTES_MAX, |n| {
        let probability = Share::new(0.001).ok();
        native(n, Trigger { probability, ..Trigger::default() }, delay())
    }),
    ("nothing but an error", RULE_BYTES_MAX, |n| {
        let Change::AddRule { rule, place } = native(n, Trigger::default(), delay()) else {
            unreachable!("it adds a rule")
        };
        let anywhere = Rule::new(rule.name().clone(), Trigger::default(), delay(), true).unwrap();
        Change::AddRule { rule: Box::new(anywhere), place }
    }),
    ("blkdebug's, of a sector", RULE_BYTES_MAX, blkdebug),
    // It remembers what was healed.
    ("a bad medium", 450, |n| {
        native(n, Trigger::default(), Effect::Media(Media::failing(Errno::EIO).into()))
    }),
];

/// What rules of a kind cost each: that they are there, and while the last ones are added.
fn bytes_each(rule: fn(u64) -> Change) -> (usize, usize) {
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    let mut engine = Engine::new(0);
    for first in (0..RULES).step_by(usize::try_from(HEAP).unwrap()) {
        let changes: Vec<Change> = (first..first + HEAP).map(rule).collect();
        PEAK_BYTES.store(LIVE_BYTES.load(Ordering::Relaxed), Ordering::Relaxed);
        let _ = engine.configure(changes, 0).unwrap();
    }
    let each = |bytes: usize| (bytes - before) / usize::try_from(RULES).unwrap();
    let costs = [&LIVE_BYTES, &PEAK_BYTES].map(|bytes| each(bytes.load(Ordering::Relaxed)));
    assert!(!engine.armed().is_idle(), "they are armed");
    costs.into()
}

#[test]
fn a_rule_takes_at_most_300_bytes() {
    for (name, bytes_max, rule) in KINDS {
        let (kept, peak) = bytes_each(rule);
        eprintln!("{name}: {kept} bytes each, {peak} while the last are added");
        assert!(kept <= bytes_max, "{name}: {kept} bytes each");
        assert!(kept > 100, "the story happened: {name}: {kept} bytes each");
    }
}
