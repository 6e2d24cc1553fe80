//! The engine as an arm that runs scripts, against a naive blkdebug.

use blkfault::errno::Errno;
use blkfault::fault::blkdebug::limits::LimitOptions;
use blkfault::fault::blkdebug::{Limits, Rules, parse};
use blkfault::fault::engine::{BlkdebugSetup, Change, Engine, Verdict};
use blkfault::fault::rule::Request;
use blkfault::fault::{Io, NoPayload};
use proptest::prelude::*;

use crate::support::blkdebug::model::Model;
use crate::support::blkdebug::{Asked, asked, config, rules};

/// The engine over an image that never fails.
pub(crate) struct EngineArm {
    engine: Engine,
    ordinal: u64,
}

impl EngineArm {
    pub(crate) fn open(rules: Rules, limits: &LimitOptions) -> Self {
        let limits = Limits::new(limits, 1).expect("limits that hold together");
        let setup = BlkdebugSetup { rules, limits, ..BlkdebugSetup::default() };
        let mut engine = Engine::new(0);
        let _ = engine.configure(vec![Change::OpenBlkdebug(setup)], 0).expect("rules");
        Self { engine, ordinal: 0 }
    }

    pub(crate) fn state(&self) -> i32 {
        self.engine.engine_state()
    }

    /// A request, to its end: 0 or an error number. Requests that need not ask do not.
    pub(crate) fn request(&mut self, asked: &Asked) -> i32 {
        let io = Io {
            iotype: asked.iotype,
            offset_bytes: asked.sector * 512,
            bytes: asked.sectors * 512,
            ordinal: self.ordinal,
            queue: 0,
        };
        self.ordinal += 1;
        if !self.engine.armed().may_match(&io) {
            return 0;
        }
        let request = Request { io, now_ns: 0, depth: 1, payload: &NoPayload };
        let decision = self.engine.decide(&request);
        let result = match decision.verdict {
            Verdict::Pass => Ok(()),
            Verdict::Fail(errno, _) => Err(errno),
            other => panic!("{other:?}"),
        };
        let ended = self.engine.finished(&request, decision.passage, result);
        assert_eq!(ended.verdict, Verdict::Pass);
        result.err().map_or(0, Errno::number)
    }
}

#[test]
fn a_config_file_says_what_the_rules_say() {
    proptest!(|(rules in rules())| {
        prop_assert_eq!(parse(&config(&rules)), Ok(rules));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_engine_agrees_with_a_naive_blkdebug(
        rules in rules(),
        asked in prop::collection::vec(asked(), 1..40),
    ) {
        let mut model = Model::open(&rules);
        let mut engine = EngineArm::open(rules, &LimitOptions::default());
        prop_assert_eq!(engine.state(), model.state());
        for (place, asked) in asked.iter().enumerate() {
            prop_assert_eq!(engine.request(asked), model.request(asked), "{}: {:?}", place, asked);
            prop_assert_eq!(engine.state(), model.state(), "{}: {:?}", place, asked);
        }
    }
}
