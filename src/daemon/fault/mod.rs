//! The commands that break a disk and tell how it is broken.
//!
//! Knows: which change of a disk's fault point each command is. Must not know: how operators write
//! things (the modules here) or what a fault does to a request (`fault`). Invariants: nothing
//! changes unless all of a command makes sense; nothing here waits, a command that has to is
//! answered later.

pub(super) mod blkdebug;
pub(super) mod held;
mod hmp;
pub(super) mod report;
mod rule;
mod slow;
mod state;
pub(super) mod words;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::hmp::{IoCommand, Line};
use super::{Answer, Daemon, Outcome};
use crate::block::{FaultPoint, HeldCause, HeldReport, Released, Resume, TimedOut, Which};
use crate::fault::blkdebug::Rules;
use crate::fault::engine::{Cause, Change, Engine, Place};
use crate::fault::rule::{Effect, RuleName, TAG_BYTES_MAX};
use crate::monitor::Listener;
use crate::qapi::types::{
    BlockFaultAction, BlockFaultActionVariant, BlockFaultAdded, BlockFaultBlkdebugAddArguments,
    BlockFaultBreakArguments, BlockFaultEffectBreak, BlockFaultEngineStateSetArguments,
    BlockFaultHeld, BlockFaultInfo, BlockFaultOnErrorSetArguments, BlockFaultPlace,
    BlockFaultPlaceBeside, BlockFaultPlaceEnd, BlockFaultResumeArguments, BlockFaultResumed,
    BlockFaultRule, BlockFaultRuleAction, BlockFaultRuleAddArguments, BlockFaultRuleName,
    BlockFaultRuleSetArguments, BlockFaultRuleVariant, BlockFaultRules, BlockFaultState,
    BlockFaultStateChangedData, BlockFaultStateSetting, BlockFaultTransactionArguments,
    BlockFaultWaitArguments, Event, QueryBlockFaultRulesArguments,
};
use crate::qapi::{QmpError, Visit};

/// Changes that are being put together, with the names of rules that they add.
#[derive(Debug, Default)]
struct Changes {
    changes: Vec<Change>,
    added: Vec<RuleName>,
    names: BTreeSet<RuleName>,
    /// blkdebug rules that may name events which are never raised.
    to_warn_of: Vec<Rules>,
}

impl Changes {
    fn add_rule(
        &mut self,
        point: &FaultPoint,
        rule: &BlockFaultRule,
        place: Option<&BlockFaultPlace>,
    ) -> Outcome {
        let name = match &rule.name {
            Some(name) => rule::parse_name(name)?,
            None => self.free_name(point)?,
        };
        let rule = Box::new(rule::parse(rule, name.clone())?);
        self.changes.push(Change::AddRule { rule, place: parse_place(place)? });
        self.names.insert(name.clone());
        self.added.push(name);
        Ok(())
    }

    /// rule1 for the first rule of a disk, rule2 for the second, or the next that is free.
    fn free_name(&self, point: &FaultPoint) -> Outcome<RuleName> {
        let mut number = point.inspect(|engine| engine.rule_count()) + self.added.len();
        loop {
            number += 1;
            let name = rule::parse_name(&format!("rule{number}"))?;
            if !self.names.contains(&name) && !point.inspect(|engine| engine.has_rule(&name)) {
                return Ok(name);
            }
        }
    }

    fn add(&mut self, point: &FaultPoint, action: &BlockFaultAction) -> Outcome {
        let change = match &action.variant {
            BlockFaultActionVariant::RuleAdd(add) => {
                return self.add_rule(point, &add.rule, add.place.as_ref());
            }
            BlockFaultActionVariant::RuleRemove(remove) => {
                Change::RemoveRule(rule::parse_name(&remove.name)?)
            }
            BlockFaultActionVariant::RuleSet(set) => rule_set(&set.name, set.action)?,
            BlockFaultActionVariant::State(enter) => Change::SetState(state::parse(&enter.state)?),
            BlockFaultActionVariant::EngineState(set) => {
                Change::SetEngineState(words::parse_engine_state("state", set.state)?)
            }
            BlockFaultActionVariant::BlkdebugAdd(add) => {
                let (inject_error, set_state) =
                    (add.inject_error.as_deref(), add.set_state.as_deref());
                let rules = blkdebug::parse_rules(None, inject_error, set_state)?;
                self.to_warn_of.push(rules.clone());
                Change::AddBlkdebugRules(rules)
            }
        };
        self.changes.push(change);
        Ok(())
    }
}

fn rule_set(name: &str, action: BlockFaultRuleAction) -> Outcome<Change> {
    let name = rule::parse_name(name)?;
    Ok(match action {
        BlockFaultRuleAction::Enable => Change::EnableRule(name),
        BlockFaultRuleAction::Disable => Change::DisableRule(name),
        BlockFaultRuleAction::Reset => Change::ResetRule(name),
    })
}

fn parse_place(place: Option<&BlockFaultPlace>) -> Outcome<Place> {
    match place {
        None | Some(BlockFaultPlace::End(BlockFaultPlaceEnd::Last)) => Ok(Place::Last),
        Some(BlockFaultPlace::End(BlockFaultPlaceEnd::First)) => Ok(Place::First),
        Some(BlockFaultPlace::Beside(beside)) => match &**beside {
            BlockFaultPlaceBeside { before: Some(name), after: None } => {
                Ok(Place::Before(rule::parse_name(name)?))
            }
            BlockFaultPlaceBeside { before: None, after: Some(name) } => {
                Ok(Place::After(rule::parse_name(name)?))
            }
            _ => Err(words::bad("place", "expects one of 'before' and 'after'")),
        },
    }
}

/// Whether a breakpoint of this tag has held all that it was to hold, and holds nobody now.
fn is_used_up(point: &FaultPoint, tag: &str) -> bool {
    let Ok(name) = rule::parse_name(tag) else {
        return false;
    };
    let used_up = point.inspect(|engine| engine.rule(&name)).is_some_and(|report| {
        matches!(report.rule.effect(), Effect::Break { .. }) && report.remaining == Some(0)
    });
    used_up && !point.held().iter().any(|held| held.tags.iter().any(|held| **held == *tag))
}

fn state_name(point: &FaultPoint) -> BlockFaultState {
    state::render_name(point.inspect(|engine| engine.state().name()))
}

impl Daemon {
    fn point(&self, id: &str) -> Outcome<Arc<FaultPoint>> {
        Ok(self.registry().disks.get(id)?.point.clone())
    }

    /// Change a disk's faults; `plan` says how, or why not.
    fn change<T>(
        &self,
        id: &str,
        plan: impl FnOnce(&FaultPoint, &mut Changes) -> Outcome<T>,
    ) -> Outcome<(T, Vec<RuleName>)> {
        // While the registry is locked nobody else changes anything: events tell of changes in
        // the order in which they were made.
        let registry = self.registry();
        let point = &registry.disks.get(id)?.point;
        let mut planned = Changes::default();
        let result = plan(point, &mut planned)?;
        let enters = planned.changes.iter().any(|change| matches!(change, Change::SetState(_)));
        let previous = state_name(point);
        // Told before it is so: no error that the state causes is told before the state.
        let tell = |engine: &Engine| {
            if enters {
                let state = state::render_name(engine.state().name());
                log::info!("disk {id}: state {}", state.as_str());
                let data = BlockFaultStateChangedData { id: id.to_owned(), state, previous };
                self.events.emit(&Event::BlockFaultStateChanged(data));
            }
        };
        point.configure_telling(planned.changes, tell).map_err(QmpError::generic)?;
        for rules in &planned.to_warn_of {
            blkdebug::warn(&format!("disk {id}"), rules);
        }
        Ok((result, planned.added))
    }

    fn change_once(&self, id: &str, change: Change) -> Outcome {
        self.change(id, |_, changes| {
            changes.changes.push(change);
            Ok(())
        })
        .map(drop)
    }

    pub(super) fn set_fault_state(&self, setting: &BlockFaultStateSetting) -> Outcome {
        // Who names no disk is told so first.
        self.point(&setting.id)?;
        self.change_once(&setting.id, Change::SetState(state::parse_setting(setting)?))
    }

    pub(super) fn fault_state(&self, id: &str) -> Outcome<BlockFaultState> {
        Ok(state_name(&*self.point(id)?))
    }

    pub(super) fn fault(&self, id: &str) -> Outcome<BlockFaultInfo> {
        let registry = self.registry();
        let disk = registry.disks.get(id)?;
        Ok(report::info(id, &disk.point, &disk.disk.stats))
    }

    pub(super) fn on_error_set(&self, arguments: &BlockFaultOnErrorSetArguments) -> Outcome {
        let policy = report::parse_on_error(arguments.policy);
        self.point(&arguments.id)?.set_on_error(policy).map_err(QmpError::generic)
    }

    pub(super) fn rule_add(
        &self,
        arguments: &BlockFaultRuleAddArguments,
    ) -> Outcome<BlockFaultRuleName> {
        let BlockFaultRuleAddArguments { id, rule, place } = arguments;
        let ((), added) =
            self.change(id, |point, changes| changes.add_rule(point, rule, place.as_ref()))?;
        let name = added.first().map(ToString::to_string).unwrap_or_default();
        Ok(BlockFaultRuleName { name })
    }

    pub(super) fn rule_remove(&self, id: &str, name: &str) -> Outcome {
        self.change_once(id, Change::RemoveRule(rule::parse_name(name)?))
    }

    pub(super) fn rule_set(&self, arguments: &BlockFaultRuleSetArguments) -> Outcome {
        self.change_once(&arguments.id, rule_set(&arguments.name, arguments.action)?)
    }

    pub(super) fn rules(
        &self,
        arguments: &QueryBlockFaultRulesArguments,
    ) -> Outcome<BlockFaultRules> {
        let point = self.point(&arguments.id)?;
        let now_ns = point.now_ns();
        let Some(name) = &arguments.name else {
            return Ok(point.inspect(|engine| report::rules(engine, now_ns)));
        };
        let known = rule::parse_name(name)?;
        point.inspect(|engine| {
            let found = engine.rule(&known);
            let found =
                found.ok_or_else(|| QmpError::generic(format!("Fault rule '{name}' not found")))?;
            Ok(report::one_rule(&found, engine, now_ns))
        })
    }

    pub(super) fn fault_transaction(
        &self,
        arguments: &BlockFaultTransactionArguments,
    ) -> Outcome<BlockFaultAdded> {
        let ((), added) = self.change(&arguments.id, |point, changes| {
            for (index, action) in arguments.actions.iter().enumerate() {
                words::within("actions", index, changes.add(point, action))?;
            }
            Ok(())
        })?;
        Ok(BlockFaultAdded { names: added.iter().map(ToString::to_string).collect() })
    }

    pub(super) fn engine_state_set(
        &self,
        arguments: &BlockFaultEngineStateSetArguments,
    ) -> Outcome {
        let state = words::parse_engine_state("state", arguments.state)?;
        self.change_once(&arguments.id, Change::SetEngineState(state))
    }

    pub(super) fn blkdebug_add(&self, arguments: &BlockFaultBlkdebugAddArguments) -> Outcome {
        let rules = blkdebug::parse_rules(
            arguments.config.as_deref(),
            arguments.inject_error.as_deref(),
            arguments.set_state.as_deref(),
        )?;
        if rules.is_empty() {
            return Err(QmpError::generic(
                "Parameter 'config', 'inject-error' or 'set-state' is needed, with a rule",
            ));
        }
        let added = self.change(&arguments.id, |_, changes| {
            changes.to_warn_of.push(rules.clone());
            changes.changes.push(Change::AddBlkdebugRules(rules));
            Ok(())
        });
        added.map(drop)
    }

    pub(super) fn fault_break(&self, arguments: &BlockFaultBreakArguments) -> Outcome {
        let BlockFaultBreakArguments { id, tag, point, iotype, sectors, skip, times } =
            arguments.clone();
        let rule = BlockFaultRule {
            name: Some(tag.clone()),
            iotype,
            sectors,
            queue: None,
            state: None,
            queue_depth: None,
            schedule: None,
            content: None,
            skip,
            every: None,
            probability: None,
            times: Some(times.unwrap_or(1)),
            once: None,
            r#continue: None,
            enabled: None,
            variant: BlockFaultRuleVariant::Break(BlockFaultEffectBreak { tag, point }),
        };
        rule::parse_name(&arguments.tag).map_err(|_| {
            words::bad(
                "tag",
                "expects a letter, then letters, digits, '-', '.' or '_', at most 127",
            )
        })?;
        let first = BlockFaultPlace::End(BlockFaultPlaceEnd::First);
        let set = self.change(&id, |point, changes| {
            if is_used_up(point, &arguments.tag) {
                changes.changes.push(Change::RemoveRule(rule::parse_name(&arguments.tag)?));
            }
            changes.add_rule(point, &rule, Some(&first))
        });
        set.map(drop)
    }

    pub(super) fn fault_break_remove(&self, id: &str, tag: &str) -> Outcome {
        let removed = self.change(id, |point, changes| {
            let named: Vec<RuleName> = point.inspect(|engine| {
                let breaks =
                    |effect: &Effect| matches!(effect, Effect::Break { tag: t, .. } if **t == *tag);
                engine
                    .rules()
                    .filter(|report| breaks(report.rule.effect()))
                    .map(|report| report.rule.name().clone())
                    .collect()
            });
            if named.is_empty() && !has_breakpoint(point, tag) {
                return Err(QmpError::generic(format!("Breakpoint '{tag}' not found")));
            }
            changes.changes.extend(named.into_iter().map(Change::RemoveRule));
            changes.changes.push(Change::RemoveBreakpoint { tag: tag.into() });
            Ok(())
        });
        removed.map(drop)
    }

    pub(super) fn held(&self, id: &str) -> Outcome<Vec<BlockFaultHeld>> {
        Ok(self.point(id)?.held().iter().map(held::render).collect())
    }

    pub(super) fn resume(
        &self,
        arguments: &BlockFaultResumeArguments,
    ) -> Outcome<BlockFaultResumed> {
        let point = self.point(&arguments.id)?;
        let (which, action) = (held::parse_which(arguments)?, held::parse_action(arguments)?);
        if let Which::Ordinals(ordinals) = &which {
            held::check_ordinals(ordinals, &point.held())?;
        }
        let Released { reached, gone } = point.resume(&which, action);
        Ok(BlockFaultResumed { resumed: gone as u64, reached: reached as u64 })
    }

    pub(super) fn fault_wait(&self, arguments: &BlockFaultWaitArguments) -> Outcome<Answer> {
        let point = self.point(&arguments.id)?;
        let timeout = held::parse_timeout(arguments.timeout)?;
        let tag = arguments.tag.clone();
        if tag.is_empty() || tag.len() > TAG_BYTES_MAX {
            return Err(words::bad("tag", format!("expects 1 to {TAG_BYTES_MAX} bytes")));
        }
        Ok(Answer::Later(Box::new(move |reply| {
            let told_tag = tag.clone();
            let listener = reply.listener();
            wait(&point, &tag, timeout, listener, move |result| {
                let held = result.map(|report| held::render(&report));
                reply.send(
                    held.map(|held| held.to_value()).map_err(|_| nobody_came(&told_tag, timeout)),
                );
            });
        })))
    }

    /// A line for QEMU's monitor, which is answered in its words whatever happens.
    pub(super) fn human_monitor_command(&self, line: &str) -> Outcome<Answer> {
        let said = |text: String| Ok(Answer::Now(text.to_value()));
        let Line { disk, command } = match hmp::parse(line) {
            Ok(line) => line,
            Err(text) => return said(text),
        };
        let Ok(point) = self.point(&disk) else {
            return said(hmp::no_disk(&disk));
        };
        match command {
            IoCommand::Break { event, tag } => {
                let set = self.change_once(&disk, Change::SetBreakpoint { event, tag: tag.into() });
                said(set.map_or_else(|error| hmp::cannot_break(&error), |()| String::new()))
            }
            IoCommand::WaitBreak(tag) => Ok(Answer::Later(Box::new(move |reply| {
                let told_tag = tag.clone();
                let listener = reply.listener();
                wait(&point, &tag, None, listener, move |result| {
                    let text = result.map(|_| hmp::suspended(&told_tag));
                    reply.send(
                        text.map(|text| text.to_value()).map_err(|_| nobody_came(&told_tag, None)),
                    );
                });
            }))),
            IoCommand::Resume(tag) => {
                // One that other tags hold as well is resumed all the same, as in QEMU.
                match point.resume(&Which::NewestAt(tag.clone()), Resume::Run).reached {
                    0 => said(hmp::cannot_resume()),
                    _ => said(hmp::resuming(&tag)),
                }
            }
            IoCommand::RemoveBreak(tag) => {
                if !has_breakpoint(&point, &tag) {
                    return said(hmp::cannot_remove(&tag));
                }
                self.change_once(&disk, Change::RemoveBreakpoint { tag: tag.into() })?;
                said(String::new())
            }
        }
    }
}

/// Whether blkdebug has a breakpoint with this tag, or holds a request there.
fn has_breakpoint(point: &FaultPoint, tag: &str) -> bool {
    let is_there = |held: &HeldReport| {
        held.cause == HeldCause::Fault(Cause::Breakpoint) && held.tags.iter().any(|t| **t == *tag)
    };
    point.inspect(|engine| engine.blkdebug().breakpoints.iter().any(|(_, t)| **t == *tag))
        || point.held().iter().any(is_there)
}

fn wait(
    point: &FaultPoint,
    tag: &str,
    timeout: Option<Duration>,
    listener: Listener,
    tell: impl FnOnce(Result<HeldReport, TimedOut>) + Send + 'static,
) {
    // A time that no clock can tell is for ever.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    point.on_held(tag, deadline, Box::new(move || listener.is_there()), Box::new(tell));
}

/// How long that was is the client's to tell: it may have asked for what was left of a longer time.
fn nobody_came(tag: &str, timeout: Option<Duration>) -> QmpError {
    QmpError::generic(match timeout {
        Some(_) => format!("No request was held at '{tag}' in time"),
        None => format!("No request was held at '{tag}' before the disk was gone"),
    })
}
