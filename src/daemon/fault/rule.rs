//! Native rules as operators write them.
//!
//! Knows: the schema's and the engine's words for triggers and effects. Must not know: which rules
//! a disk has. Invariant: what is rendered is parsed back to the same rule.

use super::slow::{parse_delay, render_delay};
use super::words::{
    bad, errno_or, parse_engine_state, parse_errno, parse_rule_iotypes, parse_sectors, parse_share,
    refused, render_errno, render_some_iotypes, render_some_sectors,
};
use crate::errno::Errno;
use crate::fault::rule::{
    Content, Effect, Media, Point, Rule, RuleName, Schedule, SlowFirst, Trigger,
};
use crate::qapi::QmpError;
use crate::qapi::types::{
    BlockFaultContent, BlockFaultEffectBreak, BlockFaultEffectDelay, BlockFaultEffectDisconnect,
    BlockFaultEffectError, BlockFaultEffectHang, BlockFaultEffectMedia, BlockFaultEffectSetState,
    BlockFaultFailAfter, BlockFaultHeal, BlockFaultPoint, BlockFaultRule,
    BlockFaultRuleVariant as Variant, BlockFaultSchedule,
};

pub(in crate::daemon) fn parse_name(name: &str) -> Result<RuleName, QmpError> {
    RuleName::new(name).map_err(|error| refused(&error))
}

/// A rule of this name, whatever it calls itself.
pub(super) fn parse(given: &BlockFaultRule, name: RuleName) -> Result<Rule, QmpError> {
    let (trigger, effect) = (parse_trigger(given)?, parse_effect(&given.variant)?);
    let rule = Rule::new(name, trigger, effect, given.r#continue == Some(true));
    let rule = rule.map_err(|error| refused(&error))?;
    Ok(if given.enabled == Some(false) { rule.disabled() } else { rule })
}

fn parse_trigger(given: &BlockFaultRule) -> Result<Trigger, QmpError> {
    let every = Trigger::default();
    Ok(Trigger {
        iotypes: parse_rule_iotypes(given.iotype.as_deref())?,
        sectors: parse_sectors(given.sectors.as_deref())?,
        queue: given.queue,
        state: given.state.map(|state| parse_engine_state("state", state)).transpose()?,
        depth_min: given.queue_depth.map(parse_depth).transpose()?,
        schedule: given.schedule.as_ref().map(parse_schedule).transpose()?,
        content: given.content.as_ref().map(parse_content).transpose()?,
        skip: given.skip.unwrap_or(every.skip),
        every: given.every.unwrap_or(every.every),
        probability: given
            .probability
            .map(|share| parse_share("probability", Some(share)))
            .transpose()?,
        times: parse_times(given)?,
    })
}

fn parse_times(given: &BlockFaultRule) -> Result<Option<u64>, QmpError> {
    match (given.once, given.times) {
        (Some(_), Some(_)) => Err(QmpError::generic(
            "Parameters 'once' and 'times' say the same thing: give one of them",
        )),
        (Some(true), None) => Ok(Some(1)),
        (Some(false) | None, times) => Ok(times),
    }
}

fn parse_depth(given: u64) -> Result<u32, QmpError> {
    u32::try_from(given).map_err(|_| bad("queue-depth", format!("expects at most {}", u32::MAX)))
}

fn parse_schedule(given: &BlockFaultSchedule) -> Result<Schedule, QmpError> {
    let up_down_ns = match (given.up_ns, given.down_ns) {
        (Some(up_ns), Some(down_ns)) => Some((up_ns, down_ns)),
        (None, None) => None,
        _ => return Err(QmpError::generic("Parameters 'up-ns' and 'down-ns' go together")),
    };
    Ok(Schedule {
        start_ns: given.start_ns.unwrap_or(0),
        duration_ns: given.duration_ns,
        up_down_ns,
    })
}

fn parse_content(given: &BlockFaultContent) -> Result<Content, QmpError> {
    let bytes = parse_hex("content.bytes", &given.bytes)?;
    let mask = given.mask.as_deref().map(|mask| parse_hex("content.mask", mask)).transpose()?;
    Content::new(given.offset.unwrap_or(0), given.block_size, bytes, mask)
        .map_err(|error| refused(&error))
}

fn parse_hex(member: &str, text: &str) -> Result<Vec<u8>, QmpError> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes()
        .chunks(2)
        .map(pair)
        .collect::<Option<_>>()
        .ok_or_else(|| bad(member, "expects pairs of hexadecimal digits such as c03b3998"))
}

fn render_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_effect(given: &Variant) -> Result<Effect, QmpError> {
    let errno = |given: &Option<_>| given.as_ref().map(parse_errno).transpose();
    Ok(match given {
        Variant::Error(effect) => Effect::Error(errno_or(effect.errno.as_ref(), Errno::EIO)?),
        Variant::Delay(effect) => {
            Effect::Delay { delay: parse_delay(&effect.delay), then: errno(&effect.errno)? }
        }
        Variant::Hang(effect) => {
            Effect::Hang { at_most_ns: effect.for_ns, then: errno(&effect.errno)? }
        }
        Variant::Break(effect) => Effect::Break {
            tag: effect.tag.as_str().into(),
            point: effect.point.map_or(Point::Received, parse_point),
        },
        Variant::SetState(effect) => {
            Effect::SetState(parse_engine_state("new-state", effect.new_state)?)
        }
        Variant::Disconnect(_) => Effect::Disconnect,
        Variant::Media(effect) => Effect::Media(Box::new(Media {
            errno: errno_or(effect.errno.as_ref(), Errno::EIO)?,
            heal_on_write: effect.heal == Some(BlockFaultHeal::OnWrite),
            remap_pool: effect.remap_pool,
            slow_first: effect.fail_after.as_ref().map(|after| SlowFirst {
                requests: after.requests,
                delay: parse_delay(&after.delay),
            }),
            // What is too large for the type is far too large for the engine, which says so.
            retries: effect.retries.map(|tries| u32::try_from(tries).unwrap_or(u32::MAX)),
        })),
    })
}

pub(super) fn parse_point(point: BlockFaultPoint) -> Point {
    match point {
        BlockFaultPoint::Received => Point::Received,
        BlockFaultPoint::BeforeImage => Point::BeforeImage,
        BlockFaultPoint::FlushBeforeCommit => Point::FlushBeforeCommit,
        BlockFaultPoint::AfterImage => Point::AfterImage,
        BlockFaultPoint::BeforeAnswer => Point::BeforeAnswer,
    }
}

pub(super) fn render_point(point: Point) -> BlockFaultPoint {
    match point {
        Point::Received => BlockFaultPoint::Received,
        Point::BeforeImage => BlockFaultPoint::BeforeImage,
        Point::FlushBeforeCommit => BlockFaultPoint::FlushBeforeCommit,
        Point::AfterImage => BlockFaultPoint::AfterImage,
        Point::BeforeAnswer => BlockFaultPoint::BeforeAnswer,
    }
}

/// A rule as it was added, without what is the default.
pub(super) fn render(rule: &Rule) -> BlockFaultRule {
    let trigger = rule.trigger();
    BlockFaultRule {
        name: Some(rule.name().to_string()),
        iotype: render_some_iotypes(trigger.iotypes),
        sectors: render_some_sectors(&trigger.sectors),
        queue: trigger.queue,
        state: trigger.state.map(Into::into),
        queue_depth: trigger.depth_min.map(Into::into),
        schedule: trigger.schedule.map(render_schedule),
        content: trigger.content.as_ref().map(render_content),
        skip: (trigger.skip != 0).then_some(trigger.skip),
        every: (trigger.every != 1).then_some(trigger.every),
        probability: trigger.probability.map(|share| share.get()),
        times: trigger.times,
        once: None,
        r#continue: rule.goes_on().then_some(true),
        enabled: (!rule.starts_enabled()).then_some(false),
        variant: render_effect(rule.effect()),
    }
}

fn render_schedule(schedule: Schedule) -> BlockFaultSchedule {
    BlockFaultSchedule {
        start_ns: (schedule.start_ns != 0).then_some(schedule.start_ns),
        duration_ns: schedule.duration_ns,
        up_ns: schedule.up_down_ns.map(|(up_ns, _)| up_ns),
        down_ns: schedule.up_down_ns.map(|(_, down_ns)| down_ns),
    }
}

fn render_content(content: &Content) -> BlockFaultContent {
    let all = content.mask().iter().all(|bits| *bits == 0xff);
    BlockFaultContent {
        bytes: render_hex(content.bytes()),
        mask: (!all).then(|| render_hex(content.mask())),
        offset: (content.offset_bytes() != 0).then(|| content.offset_bytes()),
        block_size: content.block_bytes(),
    }
}

fn render_effect(effect: &Effect) -> Variant {
    match effect {
        Effect::Error(errno) => {
            Variant::Error(BlockFaultEffectError { errno: Some(render_errno(*errno)) })
        }
        Effect::Delay { delay, then } => Variant::Delay(BlockFaultEffectDelay {
            delay: render_delay(delay),
            errno: then.map(render_errno),
        }),
        Effect::Hang { at_most_ns, then } => Variant::Hang(BlockFaultEffectHang {
            for_ns: *at_most_ns,
            errno: then.map(render_errno),
        }),
        Effect::Break { tag, point } => Variant::Break(BlockFaultEffectBreak {
            tag: tag.to_string(),
            point: Some(render_point(*point)),
        }),
        Effect::SetState(state) => {
            Variant::SetState(BlockFaultEffectSetState { new_state: i64::from(*state) })
        }
        Effect::Disconnect => Variant::Disconnect(BlockFaultEffectDisconnect {}),
        Effect::Media(media) => Variant::Media(BlockFaultEffectMedia {
            errno: Some(render_errno(media.errno)),
            heal: media.heal_on_write.then_some(BlockFaultHeal::OnWrite),
            remap_pool: media.remap_pool,
            fail_after: media.slow_first.as_ref().map(|first| BlockFaultFailAfter {
                requests: first.requests,
                delay: render_delay(&first.delay),
            }),
            retries: media.retries.map(Into::into),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::qapi::{Path, Visit};

    fn rule(value: Value) -> Result<Rule, QmpError> {
        parse(&BlockFaultRule::parse(value, &Path::ROOT)?, parse_name("r")?)
    }

    #[test]
    fn every_effect_and_condition_survives_the_way_out_and_back() {
        let effects = [
            json!({"effect": "error", "errno": "ENOSPC"}),
            json!({"effect": "delay", "delay": 5, "errno": "EIO"}),
            json!({"effect": "hang", "for-ns": 7, "errno": 1234}),
            json!({"effect": "break", "tag": "A", "point": "after-image"}),
            json!({"effect": "set-state", "new-state": -3}),
            json!({"effect": "disconnect"}),
            json!({
                "effect": "media", "errno": "EIO", "heal": "on-write", "remap-pool": 3,
                "fail-after": {"requests": 2, "delay": 9}, "retries": 4,
            }),
        ];
        for effect in effects {
            let mut given = json!({
                "name": "r", "iotype": ["write"], "sectors": [3, "8-15"], "queue": 2, "state": 4,
                "queue-depth": 5,
                "schedule": {"start-ns": 1, "duration-ns": 2, "up-ns": 3, "down-ns": 4},
                "content": {"bytes": "c03b3998", "mask": "ffff0fff", "offset": 4, "block-size": 64},
                "skip": 6, "every": 7, "probability": 0.5, "times": 8, "enabled": false,
            });
            given.as_object_mut().unwrap().extend(effect.as_object().unwrap().clone());
            let parsed = rule(given.clone()).unwrap();
            assert_eq!(render(&parsed).to_value(), given);
        }
        let given = json!({"name": "r", "continue": true, "effect": "set-state", "new-state": 2});
        assert_eq!(render(&rule(given.clone()).unwrap()).to_value(), given);
    }

    #[test]
    fn once_is_one_time() {
        let once = rule(json!({"once": true, "effect": "error"})).unwrap();
        assert_eq!(once.trigger().times, Some(1));
        let always = rule(json!({"once": false, "effect": "error"})).unwrap();
        assert_eq!(always.trigger().times, None);
    }

    #[test]
    fn every_point_has_one_name_both_ways() {
        for point in Point::ALL {
            assert_eq!(parse_point(render_point(point)), point);
            assert_eq!(render_point(point).as_str(), point.name());
        }
    }

    #[test]
    fn rules_that_make_no_sense_are_refused_by_member() {
        let cases = [
            (json!({}), "'effect' is missing"),
            (json!({"effect": "explode"}), "does not accept value 'explode'"),
            (json!({"effect": "delay"}), "'delay' is missing"),
            (json!({"effect": "error", "delay": 5}), "'delay' is unexpected"),
            (json!({"effect": "error", "errno": "EI0"}), "'errno': 'EI0'"),
            (json!({"effect": "error", "every": 0}), "Parameter 'every' expects 1 or more"),
            (json!({"effect": "error", "times": 0}), "Parameter 'times' expects 1 or more"),
            (json!({"effect": "error", "times": 2, "once": true}), "'once' and 'times'"),
            (json!({"effect": "error", "times": -1}), "'times' expects uint64"),
            (json!({"effect": "error", "queue-depth": 0}), "'queue-depth' expects 1 or more"),
            (
                json!({"effect": "error", "queue-depth": 1_u64 << 32}),
                "'queue-depth' expects at most",
            ),
            (json!({"effect": "error", "probability": 0}), "Parameter 'probability' expects"),
            (json!({"effect": "error", "probability": 1.1}), "Parameter 'probability' expects"),
            (json!({"effect": "error", "state": 1_u64 << 40}), "Parameter 'state' expects"),
            (json!({"effect": "error", "sectors": ["7-"]}), "'sectors[0]': '7-' is no range"),
            (json!({"effect": "error", "sectors": []}), "Parameter 'sectors' expects at least one"),
            (
                json!({"effect": "error", "iotype": ["flush"], "sectors": [1]}),
                "Parameter 'sectors' expects an 'iotype' other than flush",
            ),
            (json!({"effect": "error", "schedule": {"up-ns": 5}}), "go together"),
            (
                json!({"effect": "error", "schedule": {"up-ns": 5, "down-ns": 0}}),
                "Parameter 'down-ns' expects more than 0",
            ),
            (
                json!({"effect": "error", "content": {"bytes": "00"}}),
                "Parameter 'content' expects 'iotype' to be write",
            ),
            (
                json!({"effect": "error", "iotype": ["write"], "content": {"bytes": "0"}}),
                "Parameter 'content.bytes' expects pairs of hexadecimal digits",
            ),
            (
                json!({"effect": "error", "iotype": ["write"],
                       "content": {"bytes": "00", "mask": "ffff"}}),
                "Parameter 'mask' expects as many bytes",
            ),
            (
                json!({"effect": "error", "continue": true}),
                "Parameter 'continue' expects an effect",
            ),
            (json!({"effect": "hang", "for-ns": 0}), "Parameter 'for-ns' expects 1 to"),
            (json!({"effect": "break", "tag": ""}), "Parameter 'tag' expects 1 to 255 bytes"),
            (
                json!({"effect": "break", "tag": "A", "iotype": ["read"],
                       "point": "flush-before-commit"}),
                "Parameter 'point' flush-before-commit expects 'iotype' to have flush",
            ),
            (json!({"effect": "set-state", "new-state": 1_u64 << 40}), "'new-state' expects"),
            (json!({"effect": "media"}), "Parameter 'sectors' expects at least one range"),
            (
                json!({"effect": "media", "sectors": [1], "remap-pool": 5}),
                "Parameter 'remap-pool' expects 'heal'",
            ),
            (
                json!({"effect": "media", "sectors": [1], "retries": 1_u64 << 33}),
                "Parameter 'retries' expects 1 to",
            ),
            (
                json!({"effect": "media", "sectors": [1],
                       "fail-after": {"requests": 0, "delay": 5}}),
                "Parameter 'fail-after' expects 1 or more",
            ),
        ];
        for (given, expected) in cases {
            let error = rule(given.clone()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{given}: {error}");
        }
        for bad in ["", "1st", "a b", "ä"] {
            let error = parse_name(bad).expect_err(bad).to_string();
            assert!(error.starts_with("Parameter 'name' expects an identifier"), "{error}");
        }
    }
}
