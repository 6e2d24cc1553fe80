//! An engine as it is written down.
//!
//! Knows: what of an engine does not follow from the rest. Must not know: files. Invariant: what is
//! read is an engine that changes could have led to; anything else is refused, because it would
//! decide otherwise than its operator believes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::blkdebug::Blkdebug;
use super::change::{BREAKPOINTS_MAX, RULES_MAX};
use super::entry::{Entry, Named};
use super::{Engine, Pacing};
use crate::fault::manual::{BadState, DiskState};
use crate::fault::rule::RuleName;

/// More rules than this were never added to any disk.
const IDS_MAX: u64 = 1 << 63;

/// What is written down of an engine; the rest follows from it.
#[derive(Serialize, Deserialize)]
pub(super) struct Written {
    seed: u64,
    state: DiskState,
    entered: u64,
    pacing: Vec<Pacing>,
    rules: Vec<Entry>,
    next_id: u64,
    blkdebug: Blkdebug,
}

/// Why what was read is no engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Incoherent {
    /// A state's options.
    #[error(transparent)]
    State(#[from] BadState),
    /// Not one for each profile.
    #[error("'pacing' expects one entry for each slow profile")]
    Pacing,
    /// More than a disk may have.
    #[error("a disk has at most {RULES_MAX} rules of each kind and {BREAKPOINTS_MAX} breakpoints")]
    TooMany,
    /// Names are unique.
    #[error("fault rule '{0}' is there twice")]
    Twice(RuleName),
    /// So are numbers.
    #[error("the 'id' of fault rule '{0}' expects a number of its own below 'next_id'")]
    Id(RuleName),
    /// There must be numbers left.
    #[error("'next_id' expects less than {IDS_MAX}")]
    Ids,
    /// Media faults have wounds, and nothing else has.
    #[error("the 'wounds' of fault rule '{0}' expect a media fault, and that them")]
    Wounds(RuleName),
}

impl Written {
    /// Check what is written against itself. Tells the rules by their names.
    pub(super) fn check(&self) -> Result<BTreeSet<Named>, Incoherent> {
        self.state.check()?;
        let profiles = match &self.state {
            DiskState::Slow { profiles } => profiles.len(),
            _ => 0,
        };
        if self.pacing.len() != profiles {
            return Err(Incoherent::Pacing);
        }
        let machine = &self.blkdebug.machine;
        let kinds =
            [self.rules.len(), machine.inject_error().len(), machine.set_state_rules().len()];
        let is_full = machine.breakpoints().len() > BREAKPOINTS_MAX;
        if is_full || kinds.into_iter().any(|rules| rules > RULES_MAX) {
            return Err(Incoherent::TooMany);
        }
        self.names()
    }

    fn names(&self) -> Result<BTreeSet<Named>, Incoherent> {
        if self.next_id >= IDS_MAX {
            return Err(Incoherent::Ids);
        }
        let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for entry in &self.rules {
            let name = entry.rule.name();
            if !names.insert(Named(entry.rule.clone())) {
                return Err(Incoherent::Twice(name.clone()));
            }
            if entry.id >= self.next_id || !ids.insert(entry.id) {
                return Err(Incoherent::Id(name.clone()));
            }
            if !entry.has_its_wounds() {
                return Err(Incoherent::Wounds(name.clone()));
            }
        }
        Ok(names)
    }
}

impl TryFrom<Written> for Engine {
    type Error = Incoherent;

    fn try_from(written: Written) -> Result<Self, Incoherent> {
        let names = written.check()?;
        let Written { seed, state, entered, pacing, rules, next_id, blkdebug } = written;
        let mut engine =
            Self { state, entered, pacing, rules, names, next_id, blkdebug, ..Self::new(seed) };
        engine.rebuild();
        Ok(engine)
    }
}

impl From<Engine> for Written {
    fn from(engine: Engine) -> Self {
        let Engine { seed, state, entered, pacing, rules, next_id, blkdebug, .. } = engine;
        Self { seed, state, entered, pacing, rules, next_id, blkdebug }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::errno::Errno;
    use crate::fault::blkdebug::{Event, InjectError, Rules};
    use crate::fault::engine::{BlkdebugSetup, Change, Place};
    use crate::fault::rule::{Effect, Media, Rule, Trigger};
    use crate::fault::slow::{Profile, ProfileOptions, Shape};
    use crate::fault::{IoType, SectorRange};

    /// Two rules, one of them a media fault, blkdebug's rules, a slow disk.
    fn written() -> Value {
        let rule = |name, effect| {
            let sectors = SectorRange::new(8, 15).into_iter().collect();
            let trigger = Trigger { sectors, ..Trigger::default() };
            let rule = Rule::new(RuleName::new(name).unwrap(), trigger, effect, false).unwrap();
            Change::AddRule { rule: Box::new(rule), place: Place::Last }
        };
        let inject_error = vec![InjectError { sector: Some(9), ..InjectError::on(Event::ReadAio) }];
        let rules = Rules { inject_error, set_state: Vec::new() };
        let shape = Shape::Stalls { period_ns: 9, stall_ns: 1 };
        let profile = Profile::new(ProfileOptions { shape, ..ProfileOptions::default() }).unwrap();
        let changes = vec![
            rule("a", Effect::Error(Errno::EIO)),
            rule("b", Effect::Media(Media::failing(Errno::EIO).into())),
            Change::OpenBlkdebug(BlkdebugSetup { rules, ..BlkdebugSetup::default() }),
            Change::SetState(DiskState::Slow { profiles: vec![profile] }),
        ];
        let mut engine = Engine::new(7);
        let _ = engine.configure(changes, 0).unwrap();
        serde_json::to_value(&engine).unwrap()
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let engine: Engine = serde_json::from_value(written()).unwrap();
        assert_eq!(serde_json::to_value(&engine).unwrap(), written());
    }

    #[test]
    fn an_engine_that_no_changes_lead_to_is_refused() {
        let cases = [
            ("/rules/1/rule/name", json!("a"), "fault rule 'a' is there twice"),
            ("/rules/1/id", json!(0), "the 'id' of fault rule 'b'"),
            ("/rules/1/id", json!(2), "the 'id' of fault rule 'b'"),
            ("/rules/1/wounds", json!(null), "the 'wounds' of fault rule 'b'"),
            ("/next_id", json!(u64::MAX), "'next_id' expects less than"),
            ("/pacing", json!([]), "'pacing' expects one entry"),
            ("/state", json!({"Slow": {"profiles": []}}), "state 'slow' expects 1 to"),
            ("/blkdebug/machine/cells/0/rule/sector", json!(u64::MAX), "'sector' expects at most"),
            (
                "/blkdebug/machine/cells/0/rule/iotype",
                json!({"Io": IoType::GetId}),
                "'iotype' of blkdebug is never get-id",
            ),
        ];
        for (place, value, expected) in cases {
            let mut changed = written();
            *changed.pointer_mut(place).expect(place) = value;
            let error = serde_json::from_value::<Engine>(changed).expect_err(place).to_string();
            assert!(error.contains(expected), "{place}: {error}");
        }
    }

    #[test]
    fn counters_that_are_full_stay_full() {
        use crate::fault::rule::{NoPayload, Request};
        use crate::fault::{Io, IoType};
        let mut full = written();
        for place in ["/rules/0/life/met", "/rules/0/life/hits", "/entered"] {
            *full.pointer_mut(place).expect(place) = json!(u64::MAX);
        }
        let mut engine: Engine = serde_json::from_value(full).unwrap();
        let _ = engine.configure(vec![Change::SetState(DiskState::None)], 0).unwrap();
        let io = Io { iotype: IoType::Read, offset_bytes: 4096, bytes: 512, ordinal: 0, queue: 0 };
        let _ = engine.decide(&Request { io, now_ns: 0, depth: 1, payload: &NoPayload });
        assert_eq!(engine.rules().next().unwrap().hits, u64::MAX);
    }
}
