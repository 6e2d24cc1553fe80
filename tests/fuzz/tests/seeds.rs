//! The seeds as files, and every target over them and over chance's changes to them.
//!
//! Story: the files in `seeds/` are what the code says (`UPDATE=1` writes them); no seed and none of a
//! fixed number of changed ones makes a target fail, on any toolchain.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use blkfault_fuzz::ids::IDS;
use blkfault_fuzz::rng::Chance;
use blkfault_fuzz::{TARGETS, Target};

/// All seeds together, so that nobody minds them in the repository.
const BYTES_MAX: u64 = 200 << 10;

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.name)
}

/// How many changed inputs a target is fed; `FUZZ_RUNS` asks for another number.
fn runs(target: &Target) -> usize {
    std::env::var("FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(target.few)
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let paths = entries.map(|entry| entry.expect("a file").path());
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    paths.map(|path| (name(&path), fs::read(&path).expect("a seed"))).collect()
}

/// One test at a time: targets count what the whole process holds.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn the_seeds_in_files_are_those_of_the_code() {
    let _alone = alone();
    let mut bytes = 0;
    for target in TARGETS {
        let wanted: BTreeMap<String, Vec<u8>> =
            (target.seeds)().into_iter().map(|(name, seed)| (name.to_owned(), seed)).collect();
        assert_eq!(wanted.len(), (target.seeds)().len(), "{}: two of one name", target.name);
        let folder = folder(target);
        if std::env::var_os("UPDATE").is_some() {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).expect("a folder");
            for (name, seed) in &wanted {
                fs::write(folder.join(name), seed).expect("a file");
            }
        }
        let stale =
            "UPDATE=1 cargo test --manifest-path tests/fuzz/Cargo.toml --no-default-features";
        assert!(files(&folder) == wanted, "seeds/{} is stale: {stale}", target.name);
        bytes += wanted.values().map(|seed| seed.len() as u64).sum::<u64>();
    }
    assert!(bytes < BYTES_MAX, "{bytes} bytes of seeds");
}

#[test]
fn every_bug_of_the_catalogue_has_a_seed_that_is_like_it_or_a_reason() {
    let names: Vec<_> =
        TARGETS.iter().flat_map(|target| (target.seeds)()).map(|(name, _)| name).collect();
    for (id, reason) in IDS {
        let has_seed = names.iter().any(|name| name.starts_with(id));
        assert_eq!(has_seed, reason.is_none(), "{id}: {reason:?}");
    }
}

fn feed(target: &Target) {
    let _alone = alone();
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    let started = Instant::now();
    let try_input = |name: &str, input: &[u8]| {
        let failed = std::panic::catch_unwind(|| (target.run)(input)).is_err();
        if failed {
            let kept = std::env::temp_dir().join(format!("{}-failed", target.name));
            let _ = fs::write(&kept, input);
            panic!("{}: {name} fails; the input is in {}", target.name, kept.display());
        }
    };
    for (name, seed) in &seeds {
        try_input(name, seed);
    }
    let mut chance = Chance::new(1);
    for run in 0..runs(target) {
        let (first, other) = (chance.below(seeds.len()), chance.below(seeds.len()));
        let input = chance.change(&seeds[first].1, &seeds[other].1);
        try_input(&format!("change {run} of {}", seeds[first].0), &input);
    }
    let (seeds, runs, took) = (seeds.len(), runs(target), started.elapsed());
    println!("{}: {seeds} seeds, {runs} changed, {took:?}", target.name);
}

fn feed_by_name(name: &str) {
    feed(TARGETS.iter().find(|target| target.name == name).expect("a target"));
}

macro_rules! targets {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                feed_by_name($name);
            }
        )*

        #[test]
        fn every_target_is_fed() {
            let fed = [$($name),*];
            assert!(TARGETS.iter().map(|target| target.name).eq(fed));
        }
    };
}

targets! {
    a_chain_is_walked_as_by_the_reference: "f01_chain",
    a_request_is_served_as_by_the_reference: "f02_request",
    a_front_end_leaves_nothing_behind: "f03_messages",
    every_head_of_a_session_is_answered_once: "f04_session",
    a_log_is_recovered_as_by_the_reference: "f05_inflight",
    a_monitor_reads_the_same_however_it_is_cut: "f07_monitor",
    the_rule_engine_agrees_with_a_scan: "f08_rules",
    options_are_understood_or_refused: "f10_options",
}
