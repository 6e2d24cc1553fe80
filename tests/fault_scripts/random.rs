//! Random rule sets and random requests, along every arm, against a naive blkdebug.
//!
//! A failure is kept in `tests/proptest-regressions` and tried first from then on. `PROPTEST_CASES`
//! asks for more than the usual number of cases.

use blkfault::fault::blkdebug::Rules;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::arms::{Arm, EngineArm, Program, seen_by_guests};
use crate::script::{Ending, IMAGE_SECTORS, RulesText};
use crate::support::blkdebug::model::Model;
use crate::support::blkdebug::{Asked, asked, config, rules};

/// Whose disk the naive blkdebug is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    /// With differences 28 and 29.
    Qemus,
}

/// The naive blkdebug over an image that never fails.
#[derive(Debug)]
struct ModelArm {
    model: Model,
    image: Vec<u8>,
    whose: Whose,
}

impl ModelArm {
    fn open(rules: &Rules, whose: Whose) -> Self {
        let sectors = usize::try_from(IMAGE_SECTORS).expect("a small image");
        Self { model: Model::open(rules), image: vec![0; sectors], whose }
    }
}

impl Arm for ModelArm {
    fn request(&mut self, asked: &Asked, fill: u8) -> Ending {
        let errno = self.model.request(asked);
        if self.whose == Whose::Qemus && self.model.left_out {
            return Ending::Ok(Vec::new());
        }
        match seen_by_guests(errno, &mut self.image, asked, fill) {
            Ending::Unsupported if self.whose == Whose::Qemus => Ending::Error,
            ending => ending,
        }
    }
}

/// Where an arm and the naive blkdebug part.
fn compare(
    rules: &Rules,
    asked: &[Asked],
    arm: &mut dyn Arm,
    whose: Whose,
) -> Result<(), TestCaseError> {
    let mut model = ModelArm::open(rules, whose);
    for ((place, asked), fill) in asked.iter().enumerate().zip((b'a'..=b'z').cycle()) {
        let expected = model.request(asked, fill);
        prop_assert_eq!(arm.request(asked, fill), expected, "{}: {:?}", place, asked);
    }
    Ok(())
}

/// Try random scripts on fresh disks; `cases` unless the environment says otherwise.
fn try_random_scripts(
    cases: u32,
    name: &'static str,
    check: impl Fn(&Rules, &[Asked]) -> Result<(), TestCaseError>,
) {
    let asked_for = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = Config {
        cases: asked_for.unwrap_or(cases),
        source_file: Some(file!()),
        test_name: Some(name),
        ..Config::default()
    };
    let script = (rules(), prop::collection::vec(asked(), 1..40));
    let outcome = TestRunner::new(config).run(&script, |(rules, asked)| check(&rules, &asked));
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn the_engine_agrees_with_a_naive_blkdebug_to_the_sector() {
    try_random_scripts(1000, "engine", |rules, asked| {
        let mut arm = EngineArm::open(&RulesText::Config(config(rules)));
        compare(rules, asked, &mut arm, Whose::Ours)
    });
}

#[test]
fn the_daemon_agrees_with_a_naive_blkdebug_to_the_sector() {
    let daemon = Program::blkfaultd();
    try_random_scripts(200, "daemon", |rules, asked| {
        let mut disk = daemon.disk(&RulesText::Config(config(rules)));
        compare(rules, asked, &mut disk, Whose::Ours)
    });
}

#[test]
fn qemus_storage_daemon_agrees_with_a_naive_blkdebug_to_the_sector() {
    let Some(qemu) = Program::qemu() else { return };
    try_random_scripts(100, "qemu", |rules, asked| {
        let mut disk = qemu.disk(&RulesText::Config(config(rules)));
        compare(rules, asked, &mut disk, Whose::Qemus)
    });
}
