//! Rules that hit, and rules that are refused.

use super::*;
use crate::errno::Errno;
use crate::fault::random::Stream;
use crate::fault::slow::{Distribution, Share};
use crate::fault::{Io, IoType, IoTypes, SectorRange, SectorSet};

fn only(iotype: IoType) -> IoTypes {
    [iotype].into_iter().collect()
}

fn sectors(first: u64, last: u64) -> SectorSet {
    SectorRange::new(first, last).into_iter().collect()
}

fn request(ordinal: u64) -> Request<'static> {
    let io = Io { iotype: IoType::Write, offset_bytes: 4096, bytes: 1024, ordinal, queue: 1 };
    Request { io, now_ns: 50, depth: 2, payload: &NoPayload }
}

/// The ordinals, of 0 to 29, that a trigger takes.
fn hits(trigger: &Trigger) -> Vec<u64> {
    trigger.check().unwrap();
    let conditions = Conditions::from(trigger.clone());
    let mut life = Life::new(true, 0);
    let mut taken = Vec::new();
    for ordinal in 0..30 {
        let request = request(ordinal);
        let stream = || Stream::new(1, "r", ordinal);
        if life.meet(&conditions, &request, 1, stream).is_some() {
            let _ = life.hit(&conditions, &request);
            taken.push(ordinal);
        }
    }
    assert_eq!(life.hits, taken.len() as u64);
    taken
}

#[test]
fn skip_every_and_times_count_in_this_order() {
    let trigger = Trigger { skip: 5, every: 3, times: Some(4), ..Trigger::default() };
    assert_eq!(hits(&trigger), [7, 10, 13, 16]);
    assert_eq!(hits(&Trigger { times: Some(1), ..Trigger::default() }), [0]);
}

#[test]
fn every_condition_must_be_met() {
    let met = Trigger {
        iotypes: only(IoType::Write),
        sectors: sectors(9, 9),
        queue: Some(1),
        state: Some(1),
        depth_min: Some(2),
        schedule: Some(Schedule { start_ns: 50, ..Schedule::default() }),
        ..Trigger::default()
    };
    assert_eq!(hits(&met).len(), 30);
    let content = Content::new(0, None, vec![0], None).ok();
    let unmet = [
        Trigger { iotypes: only(IoType::Read), ..met.clone() },
        Trigger { sectors: sectors(10, 99), ..met.clone() },
        Trigger { queue: Some(0), ..met.clone() },
        Trigger { state: Some(2), ..met.clone() },
        Trigger { depth_min: Some(3), ..met.clone() },
        Trigger { schedule: Some(Schedule { start_ns: 51, ..Schedule::default() }), ..met.clone() },
        Trigger { content, ..met },
    ];
    for trigger in unmet {
        assert_eq!(hits(&trigger), [0_u64; 0], "{trigger:?}");
    }
}

#[test]
fn probability_depends_on_the_ordinal_only() {
    let half = Trigger { probability: Share::new(0.5).ok(), ..Trigger::default() };
    let all = hits(&half);
    assert!((8..23).contains(&all.len()), "{all:?}");
    let later = Trigger { skip: 10, ..half };
    let expected: Vec<u64> = all.into_iter().filter(|ordinal| *ordinal >= 10).collect();
    assert_eq!(hits(&later), expected);
}

#[test]
fn a_probability_is_met_over_many_requests() {
    let tenth = Trigger { probability: Share::new(0.1).ok(), ..Trigger::default() };
    let tenth = Conditions::from(tenth);
    let mut life = Life::new(true, 0);
    let draw = |ordinal| Stream::new(3, "tenth", ordinal);
    let hits = (0..10_000)
        .filter(|ordinal| life.meet(&tenth, &request(*ordinal), 1, || draw(*ordinal)).is_some());
    // Binomial, n = 10 000, p = 0.1: five standard deviations are 150. The seed is fixed.
    let hits = hits.count();
    assert!((850..1150).contains(&hits), "{hits}");
}

#[test]
fn rules_that_make_no_sense_are_refused_by_member() {
    let any = Trigger::default;
    let error = || Effect::Error(Errno::EIO);
    let content = Content::new(0, None, vec![1], None).ok();
    let media = || Effect::Media(Media::failing(Errno::EIO).into());
    let flush_point = Effect::Break { tag: "t".into(), point: Point::FlushBeforeCommit };
    let bad = [
        (Trigger { iotypes: IoTypes::default(), ..any() }, error(), false, "'iotype'"),
        (
            Trigger { iotypes: only(IoType::Flush), sectors: sectors(0, 1), ..any() },
            error(),
            false,
            "'sectors'",
        ),
        (Trigger { every: 0, ..any() }, error(), false, "'every'"),
        (Trigger { times: Some(0), ..any() }, error(), false, "'times'"),
        (Trigger { depth_min: Some(0), ..any() }, error(), false, "'queue-depth'"),
        (Trigger { content, ..any() }, error(), false, "'content'"),
        (any(), error(), true, "'continue'"),
        (any(), media(), false, "'sectors'"),
        (any(), Effect::Hang { at_most_ns: Some(0), then: None }, false, "'for-ns'"),
        (any(), Effect::Break { tag: "".into(), point: Point::Received }, false, "'tag'"),
        (Trigger { iotypes: only(IoType::Read), ..any() }, flush_point, false, "'point'"),
        (
            any(),
            Effect::Delay { delay: Distribution::Exponential { mean_ns: 0 }, then: None },
            false,
            "'mean-ns'",
        ),
        (
            Trigger { sectors: sectors(0, 1), ..any() },
            Effect::Media(Box::new(Media { remap_pool: Some(1), ..Media::failing(Errno::EIO) })),
            false,
            "'remap-pool'",
        ),
    ];
    let name = RuleName::new("r").unwrap();
    for (trigger, effect, goes_on, member) in bad {
        let refused = Rule::new(name.clone(), trigger, effect, goes_on).unwrap_err().to_string();
        assert!(refused.starts_with(member), "{member}: {refused}");
    }
    for name in ["", "1a", "a b", "-a", "é", &"a".repeat(128)] {
        assert!(RuleName::new(name).is_err(), "{name}");
    }
}
