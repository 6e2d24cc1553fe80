//! F-10's state files: what a daemon reads of a disk's faults when it starts.
//!
//! Any bytes are refused with a reason, or make faults that can be used, that are written down and read
//! again as they were, and that then decide the same.

mod seeds;

use blkfault::block::{FaultPoint, Snapshot};
use blkfault::fault::engine::{Change, Engine, Then, Verdict};
use blkfault::fault::manual::DiskState;
use blkfault::fault::rule::Request;
use blkfault::fault::{Io, IoType};
use blkfault::fuzzing::{state_file, state_line};

pub use seeds::seeds;

/// Try the bytes of a state file.
pub fn run(bytes: &[u8]) {
    let snapshot = match state_file(bytes) {
        Ok(Some(snapshot)) => snapshot,
        Ok(None) => return,
        Err(why) => return assert!(!why.is_empty()),
    };
    let line = state_line(&snapshot).expect("what was read can be written");
    let again = state_file(line.as_bytes()).expect("what was written can be read");
    let again = again.expect("a line is there");
    assert_eq!(state_line(&again).as_ref(), Ok(&line));
    assert_eq!((again.held(), again.ordinals_end()), (snapshot.held(), snapshot.ordinals_end()));
    assert_eq!(answers(&again), answers(&snapshot));
    let point = FaultPoint::from_snapshot(snapshot);
    let state = point.overview().state;
    point.configure(vec![Change::SetState(DiskState::None)]).expect("any state can be left");
    assert_eq!(point.overview().state, DiskState::None, "after {state:?}");
}

/// What comes of requests of every type.
fn answers(snapshot: &Snapshot) -> Vec<String> {
    let mut engine = snapshot.engine().clone();
    let asked = IoType::NAMED.into_iter().flat_map(|iotype| [(iotype, 0), (iotype, 9)]);
    let ordinals = snapshot.ordinals_end()..u64::MAX;
    asked.zip(ordinals).map(|(at, ordinal)| answer(&mut engine, at, ordinal)).collect()
}

fn answer(engine: &mut Engine, (iotype, sector): (IoType, u64), ordinal: u64) -> String {
    let (offset_bytes, bytes) = if iotype.has_sectors() { (sector * 512, 4096) } else { (0, 0) };
    let io = Io { iotype, offset_bytes, bytes, ordinal, queue: 0 };
    let payload: &[u8] = &[7; 4096];
    let request = Request { io, now_ns: sector * 1000, depth: 2, payload: &payload };
    let mut told = String::new();
    let mut decision = engine.decide(&request);
    let mut result = None;
    // Its waits, in and out. No request of a page meets so many.
    for _ in 0..100_000 {
        told += &format!("{:?}; ", decision.verdict);
        let passage = decision.passage;
        let failed = match decision.verdict {
            Verdict::Pass if result.is_some() => return told,
            Verdict::Pass => Ok(()),
            Verdict::Fail(errno, _)
            | Verdict::Delay { then: Then::Fail(errno), .. }
            | Verdict::Hold { then: Then::Fail(errno), .. } => Err(errno),
            Verdict::Disconnect(_) => return told,
            _ => {
                decision = engine.go_on(&request, passage);
                continue;
            }
        };
        decision = engine.finished(&request, passage, *result.insert(failed));
    }
    panic!("a request that never ends");
}
