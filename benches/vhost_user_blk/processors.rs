//! Which processors the load and the back end run on.
//!
//! Knows: the scheduler's masks. Must not know: what runs. Invariant: a thread that was put somewhere
//! takes what it starts with it, so that a back end is where it belongs from its first instruction.
//!
//! It is the largest difference between two runs of the same: where load and back end share a
//! processor, a wake is a switch of threads; where each has its own, it is an interrupt to a processor
//! that sleeps. The scheduler likes to change its mind between the two.

use clap::ValueEnum;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Who runs where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Processors {
    /// Wherever the scheduler puts them.
    Any,
    /// Load and back end on the same one.
    Shared,
    /// The load on the first one, the back end on the others.
    Apart,
}

impl Processors {
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Shared => "shared",
            Self::Apart => "apart",
        }
    }

    /// Where the load goes, and where the back end does.
    ///
    /// # Errors
    /// There are too few.
    pub fn places(self) -> Result<Places, String> {
        let all = sched_getaffinity(None).map_err(|error| error.to_string())?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|number| all.is_set(*number));
        let first = only(usable.next().into_iter());
        match self {
            Self::Any => Ok(Places { load: all, back_end: all }),
            Self::Shared => Ok(Places { load: first, back_end: first }),
            Self::Apart if all.count() < 2 => {
                Err("--processors apart needs two of them, and there is one".into())
            }
            Self::Apart => Ok(Places { load: first, back_end: only(usable) }),
        }
    }
}

fn only(numbers: impl Iterator<Item = usize>) -> CpuSet {
    let mut set = CpuSet::new();
    numbers.for_each(|number| set.set(number));
    set
}

/// Processors of the two sides.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    load: CpuSet,
    back_end: CpuSet,
}

impl Places {
    /// Start something as the back end; this thread is the load's again afterwards.
    pub fn as_back_end<T>(&self, start: impl FnOnce() -> T) -> T {
        go(&self.back_end);
        let started = start();
        go(&self.load);
        started
    }
}

fn go(to: &CpuSet) {
    sched_setaffinity(None, to).expect("processors that were there");
}
