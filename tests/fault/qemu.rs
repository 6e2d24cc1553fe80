//! The same scripts through QEMU's own blkdebug, by `qemu-io`. Left out, aloud, without one.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use blkfault::fault::IoType;
use blkfault::fault::blkdebug::Rules;
use blkfault::fault::blkdebug::limits::LimitOptions;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

use crate::script::EngineArm;
use crate::support::blkdebug::{Asked, SECTORS, asked, config, rules};

fn has_qemu_io() -> bool {
    let found = Command::new("qemu-io").arg("--version").stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// Size options of every kind.
fn limits() -> impl Strategy<Value = LimitOptions> {
    (0_usize..4, 0_u64..4, 0_u64..4, 0_u64..3, 1_u64..3, 0_u64..3).prop_map(
        |(align, transfer, zero, zero_max, discard, discard_max)| {
            let align = [0, 0, 2048, 4096][align];
            let unit = align.max(512);
            let opt_discard = if align == 0 { 0 } else { discard * unit };
            LimitOptions {
                align,
                max_transfer: transfer * unit,
                opt_write_zero: zero * unit,
                max_write_zero: zero_max * (zero * unit).max(unit),
                opt_discard,
                max_discard: discard_max * opt_discard.max(unit),
            }
        },
    )
}

fn options(limits: &LimitOptions, config: &str, image: &str) -> String {
    let mut options = format!(
        "driver=raw,discard=unmap,file.driver=blkdebug,file.discard=unmap,file.config={config},\
         file.image.driver=file,file.image.discard=unmap,file.image.filename={image}"
    );
    let named = [
        ("align", limits.align),
        ("max-transfer", limits.max_transfer),
        ("opt-write-zero", limits.opt_write_zero),
        ("max-write-zero", limits.max_write_zero),
        ("opt-discard", limits.opt_discard),
        ("max-discard", limits.max_discard),
    ];
    for (name, value) in named {
        if value > 0 {
            let _ = write!(options, ",file.{name}={value}");
        }
    }
    options
}

fn command(asked: &Asked) -> String {
    let (offset, bytes) = (asked.sector * 512, asked.sectors * 512);
    match asked.iotype {
        IoType::Read => format!("read {offset} {bytes}"),
        IoType::Write => format!("write {offset} {bytes}"),
        IoType::WriteZeroes => format!("write -z {offset} {bytes}"),
        IoType::Discard => format!("discard {offset} {bytes}"),
        IoType::Flush => "flush".to_owned(),
        IoType::GetId => unreachable!("the block layer is not asked for it"),
    }
}

/// What QEMU says to each request; `None` for one where `qemu-io` keeps quiet (a flush), and for all
/// where blkdebug's own assertions end it: some options make its block layer ask for what it
/// asserts never comes.
fn run(rules: &Rules, limits: &LimitOptions, asked: &[Asked]) -> Option<Vec<Option<i32>>> {
    let folder = tempfile::tempdir().expect("a folder");
    let (conf, image) = (folder.path().join("conf"), folder.path().join("image"));
    std::fs::write(&conf, config(rules)).expect("a config file");
    let file = std::fs::File::create(&image).expect("an image");
    file.set_len(SECTORS * 512 * 4).expect("room");
    let options = options(limits, &conf.display().to_string(), &image.display().to_string());
    let mut child = Command::new("qemu-io")
        .args(["-t", "writeback", "-d", "unmap", "--image-opts", &options])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("qemu-io");
    let script: String = asked.iter().map(|asked| command(asked) + "\n").collect();
    child.stdin.take().expect("stdin").write_all((script + "quit\n").as_bytes()).expect("a script");
    let output = child.wait_with_output().expect("an end");
    let text = String::from_utf8_lossy(&output.stdout);
    let code = output.status.code()?;
    assert!(code < 2, "{output:?}");
    let mut answers = text.lines().filter_map(answer);
    let said = asked.iter().map(|asked| match asked.iotype {
        IoType::Flush => None,
        _ => Some(answers.next().unwrap_or_else(|| panic!("too few answers: {text}"))),
    });
    Some(said.collect())
}

/// The error number that a line of output tells, 0 for success.
fn answer(line: &str) -> Option<i32> {
    let line = line.trim_start_matches("qemu-io> ");
    if let Some((_, why)) = line.split_once(" failed: ") {
        let known = [
            ("Input/output error", 5),
            ("No space left on device", 28),
            ("Operation not supported", 95),
        ];
        let found = known.iter().find(|(text, _)| *text == why);
        return Some(found.unwrap_or_else(|| panic!("{line}")).1);
    }
    let done = ["read ", "wrote ", "discard "].iter().any(|word| line.starts_with(word));
    done.then_some(0)
}

#[test]
fn the_engine_agrees_with_qemus_blkdebug() {
    if !has_qemu_io() {
        eprintln!("left out: qemu-io is not installed, so nothing was compared with QEMU");
        return;
    }
    let script = (rules(), limits(), prop::collection::vec(asked(), 10..60));
    let seeds = Box::new(FileFailurePersistence::Direct("tests/fault/qemu.seeds"));
    let config = Config { cases: cases(), failure_persistence: Some(seeds), ..Config::default() };
    let mut runner = TestRunner::new(config);
    let (errors, compared) = (Cell::new(0_u32), Cell::new(0_u32));
    let outcome = runner.run(&script, |(rules, limits, asked)| {
        let Some(said) = run(&rules, &limits, &asked) else { return Ok(()) };
        compared.set(compared.get() + 1);
        let mut engine = EngineArm::open(rules, &limits);
        for (place, (asked, said)) in asked.iter().zip(said).enumerate() {
            let decided = engine.request(asked);
            if let Some(said) = said {
                prop_assert_eq!(decided, said, "{}: {:?}", place, asked);
                errors.set(errors.get() + u32::from(said != 0));
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(compared.get() > cases() / 2, "QEMU ended itself too often: {}", compared.get());
    assert!(errors.get() > cases() / 2, "the scripts hardly met an error: {}", errors.get());
}

/// Each takes a process; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60)
}
