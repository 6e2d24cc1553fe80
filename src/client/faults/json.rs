//! What the options about faults are in the monitor's words.
//!
//! Knows: the members of `block-fault-rule-add` and its kin (`qapi/fault-rule.json`). Must not know:
//! who is asked. Pure. Invariant: an option that was not given is not sent, so the daemon's default
//! holds.

use serde_json::{Map, Value, json};

use super::args::{EffectArgs, RuleArgs, SlowArgs, StateArgs, TargetArgs, TriggerArgs};
use super::delay::{Delay, FailAfter};
use super::period::Period;
use super::shape::{Rate, Shape};
use crate::errno::Errno;
use crate::fault::SectorRange;
use crate::fault::blkdebug::{InjectError, Rules, SetState};

/// Members of an object, those that were given.
#[derive(Debug, Default)]
struct Members(Map<String, Value>);

impl Members {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn put_some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn put_if(&mut self, name: &str, given: bool) {
        if given {
            self.put(name, true);
        }
    }

    /// A list, unless it is empty.
    fn put_list(&mut self, name: &str, list: Vec<Value>) {
        if !list.is_empty() {
            self.put(name, list);
        }
    }

    /// An object, unless it is empty.
    fn put_members(&mut self, name: &str, members: Self) {
        if !members.0.is_empty() {
            self.put(name, members.0);
        }
    }
}

pub(super) fn errno(errno: Errno) -> Value {
    errno.name().map_or_else(|| json!(errno.number()), |name| json!(name))
}

fn ns(period: Option<Period>) -> Option<u64> {
    period.map(|Period(nanoseconds)| nanoseconds)
}

fn delay(delay: Option<&Delay>) -> Option<Value> {
    delay.map(|Delay(delay)| delay.clone())
}

fn words(list: &[String]) -> Vec<Value> {
    list.iter().map(|word| json!(word)).collect()
}

fn sectors(list: &[SectorRange]) -> Vec<Value> {
    list.iter().map(|range| json!(range.to_string())).collect()
}

/// The arguments of `set-block-fault-state`, with the profiles of the file where one was named.
pub(super) fn state(args: &StateArgs, state: &str, profiles: Option<Vec<Value>>) -> Value {
    let mut members = Members::default();
    members.put("id", args.disk.as_str());
    members.put("state", state);
    members.put_some("errno", args.errno.map(errno));
    members.put_some("on-release", args.on_release.as_deref());
    members.put_some("preset", args.slow.preset.as_deref());
    members.put_some("profiles", profiles);
    match profile(&args.slow) {
        Some(mut profile) => {
            profile.put_list("iotype", words(&args.iotype));
            members.put("profiles", vec![Value::Object(profile.0)]);
        }
        None => members.put_list("iotype", words(&args.iotype)),
    }
    Value::Object(members.0)
}

/// Whether an option says how slow.
pub(super) fn says_how_slow(args: &SlowArgs) -> bool {
    profile(args).is_some()
}

/// The one profile that options can describe.
fn profile(args: &SlowArgs) -> Option<Members> {
    let rate = |rate: &Option<Rate>| rate.as_ref().map(|Rate(rate)| rate.clone());
    let mut members = Members::default();
    members.put_list("sectors", sectors(&args.sectors));
    members.put_some("share", args.share);
    members.put_some("delay", delay(args.delay.as_ref()));
    members.put_some("bytes-per-second", rate(&args.bytes_per_second));
    members.put_some("requests-per-second", rate(&args.requests_per_second));
    members.put_some("speed", args.speed);
    members.put_some("shape", args.shape.as_ref().map(|Shape(shape)| shape.clone()));
    (!members.0.is_empty()).then_some(members)
}

/// The arguments of `block-fault-rule-add`.
pub(super) fn rule_add(args: &RuleArgs) -> Value {
    let mut members = Members::default();
    members.put("id", args.disk.as_str());
    members.put("rule", rule(args).0);
    let beside =
        |name: &str, rule: &Option<String>| rule.as_ref().map(|rule| json!({ name: rule }));
    members.put_some("place", args.first.then_some("first"));
    members.put_some("place", beside("before", &args.before));
    members.put_some("place", beside("after", &args.after));
    Value::Object(members.0)
}

fn rule(args: &RuleArgs) -> Members {
    let mut rule = Members::default();
    rule.put_some("name", args.name.as_deref());
    put_trigger(&mut rule, &args.trigger);
    rule.put_if("continue", args.goes_on);
    rule.put_some("enabled", args.disabled.then_some(false));
    put_effect(&mut rule, &args.effect);
    rule
}

fn put_target(members: &mut Members, args: &TargetArgs) {
    members.put_list("iotype", words(&args.on));
    members.put_list("sectors", sectors(&args.sectors));
    members.put_some("skip", args.skip);
    members.put_some("times", args.times);
}

fn put_trigger(rule: &mut Members, args: &TriggerArgs) {
    put_target(rule, &args.target);
    rule.put_some("queue", args.queue);
    rule.put_some("state", args.state);
    rule.put_some("queue-depth", args.queue_depth);
    let mut schedule = Members::default();
    schedule.put_some("start-ns", ns(args.start));
    schedule.put_some("duration-ns", ns(args.duration));
    schedule.put_some("up-ns", ns(args.up));
    schedule.put_some("down-ns", ns(args.down));
    rule.put_members("schedule", schedule);
    let mut content = Members::default();
    content.put_some("bytes", args.content.as_deref());
    content.put_some("mask", args.content_mask.as_deref());
    content.put_some("offset", args.content_at.map(|size| size.0));
    content.put_some("block-size", args.content_block.map(|size| size.0));
    rule.put_members("content", content);
    rule.put_some("every", args.every);
    rule.put_some("probability", args.probability);
    rule.put_if("once", args.once);
}

fn put_effect(rule: &mut Members, args: &EffectArgs) {
    let effect = match args {
        EffectArgs { delay: Some(_), .. } => "delay",
        EffectArgs { hang: Some(_), .. } => "hang",
        EffectArgs { break_at: Some(_), .. } => "break",
        EffectArgs { set_state: Some(_), .. } => "set-state",
        EffectArgs { disconnect: true, .. } => "disconnect",
        EffectArgs { media: true, .. }
        | EffectArgs { heal_on_write: true, .. }
        | EffectArgs { retries: Some(_), .. }
        | EffectArgs { fail_after: Some(_), .. } => "media",
        _ => "error",
    };
    rule.put("effect", effect);
    rule.put_some("errno", args.errno.map(errno));
    rule.put_some("delay", delay(args.delay.as_ref()));
    rule.put_some("for-ns", ns(args.hang.flatten()));
    rule.put_some("tag", args.break_at.as_deref());
    rule.put_some("point", args.point.as_deref());
    rule.put_some("new-state", args.set_state);
    rule.put_some("heal", args.heal_on_write.then_some("on-write"));
    rule.put_some("remap-pool", args.remap_pool);
    rule.put_some("retries", args.retries);
    let fail_after = args.fail_after.as_ref().map(|FailAfter(fail_after)| fail_after.clone());
    rule.put_some("fail-after", fail_after);
}

/// The arguments of `block-fault-break`.
pub(super) fn breakpoint(disk: &str, tag: &str, at: Option<&str>, target: &TargetArgs) -> Value {
    let mut members = Members::default();
    members.put("id", disk);
    members.put("tag", tag);
    members.put_some("point", at);
    put_target(&mut members, target);
    Value::Object(members.0)
}

/// The arguments of `block-fault-blkdebug-add`.
pub(super) fn blkdebug(disk: &str, rules: &Rules) -> Value {
    json!({
        "id": disk,
        "inject-error": rules.inject_error.iter().map(inject_error).collect::<Vec<_>>(),
        "set-state": rules.set_state.iter().map(set_state).collect::<Vec<_>>(),
    })
}

fn inject_error(rule: &InjectError) -> Value {
    let mut members = Members::default();
    members.put("event", rule.event.name());
    members.put("state", rule.state);
    members.put_some("iotype", rule.iotype.map(|iotype| iotype.name()));
    members.put("errno", rule.errno.map_or(0, Errno::number));
    members.put("delay-ns", rule.delay_ns);
    members.put_some("sector", rule.sector);
    members.put("once", rule.once);
    members.put("immediately", rule.immediately);
    Value::Object(members.0)
}

fn set_state(rule: &SetState) -> Value {
    json!({ "event": rule.event.name(), "state": rule.state, "new_state": rule.new_state })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(flatten)]
        rule: RuleArgs,
    }

    fn rule_of(line: &str) -> Value {
        let line = Line::try_parse_from(line.split_whitespace()).unwrap();
        rule_add(&line.rule)
    }

    #[test]
    fn a_rule_says_what_its_options_say_and_nothing_else() {
        let cases = [
            ("d", json!({"effect": "error"})),
            (
                "d --on write --sectors 2048-2055 --errno EIO --heal-on-write",
                json!({"iotype": ["write"], "sectors": ["2048-2055"], "effect": "media",
                       "errno": "EIO", "heal": "on-write"}),
            ),
            (
                "d --name n --every 3 --skip 2 --once --delay 20ms --errno 4000",
                json!({"name": "n", "skip": 2, "every": 3, "once": true, "effect": "delay",
                       "errno": 4000, "delay": 20_000_000}),
            ),
            (
                "d --on read --delay lognormal:median=2ms,sigma=1.2",
                json!({"iotype": ["read"], "effect": "delay", "delay": {
                    "distribution": "lognormal", "median-ns": 2_000_000, "sigma": 1.2}}),
            ),
            ("d --sectors 7 --media", json!({"sectors": ["7"], "effect": "media"})),
            (
                "d --sectors 7 --fail-after 100,20ms --errno EILSEQ",
                json!({"sectors": ["7"], "effect": "media", "errno": "EILSEQ",
                       "fail-after": {"requests": 100, "delay": 20_000_000}}),
            ),
            (
                "d --sectors 7 --heal-on-write --remap-pool 3 --retries 2",
                json!({"sectors": ["7"], "effect": "media", "heal": "on-write",
                       "remap-pool": 3, "retries": 2}),
            ),
            ("d --hang", json!({"effect": "hang"})),
            ("d --hang=2s", json!({"effect": "hang", "for-ns": 2_000_000_000_u64})),
            (
                "d --break A --point after-image",
                json!({"effect": "break", "tag": "A", "point": "after-image"}),
            ),
            (
                "d --set-state -2 --state 1 --continue",
                json!({"state": 1, "continue": true, "effect": "set-state", "new-state": -2}),
            ),
            (
                "d --up 60s --down 10s --disabled --disconnect",
                json!({"schedule": {"up-ns": 60_000_000_000_u64, "down-ns": 10_000_000_000_u64},
                       "enabled": false, "effect": "disconnect"}),
            ),
            (
                "d --on write --content c03b --content-block 4K --content-at 4",
                json!({"iotype": ["write"], "effect": "error",
                       "content": {"bytes": "c03b", "offset": 4, "block-size": 4096}}),
            ),
        ];
        for (line, rule) in cases {
            assert_eq!(rule_of(line), json!({"id": "d", "rule": rule}), "{line}");
        }
        assert_eq!(rule_of("d --first")["place"], "first");
        assert_eq!(rule_of("d --after r")["place"], json!({"after": "r"}));
    }

    #[test]
    fn effects_exclude_each_other() {
        for line in [
            "d --delay 1s --hang",
            "d --disconnect --errno EIO",
            "d --remap-pool 3",
            "d --media --delay 1s",
            "d --fail-after 3,1s --break A",
            "d --delay 1s --point received",
            "d --point received",
        ] {
            assert!(Line::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
