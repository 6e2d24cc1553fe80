//! A disk's faults and rules, in the monitor's words.
//!
//! Knows: what the engine and the fault point tell. Must not know: how anything came about. Nothing
//! here changes anything.

use super::blkdebug::{render_event, render_inject_error, render_set_state};
use super::rule;
use super::state;
use super::words::{render_sectors, render_time};
use crate::block::{FaultCounts, FaultPoint, OnError, Overview};
use crate::export::Stats;
use crate::fault::IoType;
use crate::fault::engine::{BlkdebugReport, Engine, RuleReport};
use crate::qapi::types::{
    BlockFaultBreakpointInfo, BlockFaultCounts, BlockFaultInfo, BlockFaultInjectErrorInfo,
    BlockFaultLastHit, BlockFaultMediaInfo, BlockFaultOnError, BlockFaultRuleInfo, BlockFaultRules,
};

/// Most ranges of bad sectors that are told one by one.
const BAD_RANGES_MAX: usize = 1024;

/// All about a disk's faults but its rules.
pub(super) fn info(id: &str, point: &FaultPoint, stats: &Stats) -> BlockFaultInfo {
    let Overview { state, since, held, engine_state, seed, on_error, counts, is_kept } =
        point.overview();
    BlockFaultInfo {
        id: id.to_owned(),
        since: render_time(since),
        held: held as u64,
        engine_state: engine_state.into(),
        seed,
        on_error: render_on_error(on_error),
        counts: count(counts, stats),
        resubmitted: stats.resubmitted(),
        state_kept: is_kept,
        variant: state::render(&state),
    }
}

/// Every request that reached the filter ended at the image unless it ended by decision; but get-id
/// never goes there.
fn count(counts: FaultCounts, stats: &Stats) -> BlockFaultCounts {
    let ended: u64 = IoType::ALL.iter().map(|iotype| stats.of(*iotype).ended()).sum();
    BlockFaultCounts {
        passed: ended.saturating_sub(counts.failed.saturating_sub(counts.failed_get_ids)),
        failed: counts.failed,
        delayed: counts.delayed,
        held: counts.held_total,
    }
}

fn render_on_error(policy: OnError) -> BlockFaultOnError {
    match policy {
        OnError::Report => BlockFaultOnError::Report,
        OnError::Hold => BlockFaultOnError::Hold,
        OnError::HoldOnEnospc => BlockFaultOnError::HoldOnEnospc,
    }
}

pub(in crate::daemon) fn parse_on_error(policy: BlockFaultOnError) -> OnError {
    match policy {
        BlockFaultOnError::Report => OnError::Report,
        BlockFaultOnError::Hold => OnError::Hold,
        BlockFaultOnError::HoldOnEnospc => OnError::HoldOnEnospc,
    }
}

/// All rules and what they did. `now_ns`: the engine's time.
pub(super) fn rules(engine: &Engine, now_ns: u64) -> BlockFaultRules {
    let blkdebug = engine.blkdebug();
    BlockFaultRules {
        rules: engine.rules().map(|report| rule_info(&report, now_ns)).collect(),
        inject_error: inject_error(&blkdebug),
        set_state: blkdebug.set_state.iter().map(render_set_state).collect(),
        breakpoints: blkdebug
            .breakpoints
            .iter()
            .map(|(event, tag)| BlockFaultBreakpointInfo {
                event: render_event(*event),
                tag: tag.to_string(),
            })
            .collect(),
        engine_state: engine.engine_state().into(),
    }
}

/// One native rule and nothing else.
pub(super) fn one_rule(report: &RuleReport, engine: &Engine, now_ns: u64) -> BlockFaultRules {
    BlockFaultRules {
        rules: vec![rule_info(report, now_ns)],
        inject_error: Vec::new(),
        set_state: Vec::new(),
        breakpoints: Vec::new(),
        engine_state: engine.engine_state().into(),
    }
}

fn inject_error(blkdebug: &BlkdebugReport) -> Vec<BlockFaultInjectErrorInfo> {
    let info = |report: &crate::fault::engine::InjectErrorReport| BlockFaultInjectErrorInfo {
        rule: render_inject_error(&report.rule),
        hits: report.hits,
        left: report.is_left,
    };
    blkdebug.inject_error.iter().map(info).collect()
}

fn rule_info(report: &RuleReport, now_ns: u64) -> BlockFaultRuleInfo {
    BlockFaultRuleInfo {
        name: report.rule.name().to_string(),
        rule: rule::render(&report.rule),
        enabled: report.enabled,
        met: report.met,
        hits: report.hits,
        remaining: report.remaining,
        last_hit: report.last_hit.map(|hit| BlockFaultLastHit {
            ordinal: hit.ordinal,
            ago_ns: now_ns.saturating_sub(hit.at_ns),
        }),
        media: report.media.as_ref().map(|(bad, healed)| BlockFaultMediaInfo {
            bad: bad.sectors(),
            bad_sectors: render_sectors(bad.ranges().iter().take(BAD_RANGES_MAX)),
            healed: *healed,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::errno::Errno;
    use crate::fault::IoTypes;
    use crate::fault::engine::Change;
    use crate::fault::manual::DiskState;
    use crate::qapi::types::BlockFaultInfoVariant;

    #[test]
    fn a_state_is_told_with_the_moment_in_which_it_was_entered() {
        let (point, stats, stop) = (FaultPoint::new(0), Stats::new(1), AtomicBool::new(false));
        let enter = |number: u64| {
            let errno = Errno::new(i64::try_from(number % 4095).unwrap() + 1).unwrap();
            let state = DiskState::Error { errno, iotypes: IoTypes::ALL };
            point.configure(vec![Change::SetState(state)]).unwrap();
            // No two states in one microsecond, which is all that a reply tells.
            std::thread::sleep(Duration::from_micros(2));
        };
        enter(0);
        std::thread::scope(|scope| {
            scope.spawn(|| (1..).take_while(|_| !stop.load(Ordering::SeqCst)).for_each(enter));
            // Judged when the other thread has been told to stop, so that a failure ends the test.
            let (began, mut told) = (Instant::now(), Vec::new());
            while told.len() < 1000 && began.elapsed() < Duration::from_secs(30) {
                let info = info("disk0", &point, &stats);
                let BlockFaultInfoVariant::Error(error) = info.variant else {
                    break;
                };
                told.push((error.errno, info.since));
                told.dedup();
            }
            stop.store(true, Ordering::SeqCst);
            assert!(told.len() > 1, "the story happened");
            for pair in told.windows(2) {
                assert!(pair[0].0 != pair[1].0 && pair[0].1 != pair[1].1, "{pair:?}");
            }
        });
    }
}
