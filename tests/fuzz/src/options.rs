//! F-10: command lines, `--config` files, blkdebug's config files, state files, and the small
//! languages in them.
//!
//! Nothing panics or takes more memory than its input accounts for; what is understood and can be
//! written down again is understood as the same.

use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use blkfault::export::Serial;
use blkfault::fault::blkdebug::config;
use blkfault::fault::{SectorRange, SectorSet};
use blkfault::fuzzing::{config_file, disk_list};
use blkfault::monitor::Address;
use blkfault::options::Options;
use blkfault::size::Size;
use clap::{CommandFactory, FromArgMatches};

use crate::blkdebug::config_text;
use crate::input::Reader;
use crate::{Seed, heap, state};

/// clap's own tables, and messages that repeat the input.
const BYTES_FOR_NOTHING: u64 = 4 << 20;
const BYTES_PER_BYTE: u64 = 2000;

/// Try an input: a byte that says what it is, and the text.
pub fn run(input: &[u8]) {
    let mut input = Reader::new(input);
    let kind = input.u8();
    let bytes = input.rest();
    let ((), taken) = heap::taken(|| match (kind % 6, str::from_utf8(bytes)) {
        (0, _) => command_line(bytes),
        (5, _) => state::run(bytes),
        (_, Err(_)) => {}
        (1, Ok(text)) => drop(config_file(text)),
        (2, Ok(text)) => blkdebug(text),
        (3, Ok(text)) => drop(disk_list(text)),
        (_, Ok(text)) => words(text),
    });
    let most = BYTES_FOR_NOTHING + bytes.len() as u64 * BYTES_PER_BYTE;
    assert!(taken < most, "{taken} bytes for {} of input", bytes.len());
}

/// Arguments, one a line. Those that name a file to be read are left out.
fn command_line(bytes: &[u8]) {
    let arguments: Vec<OsString> = bytes
        .split(|byte| *byte == b'\n')
        .take(40)
        .map(|word| std::ffi::OsStr::from_bytes(word).to_owned())
        .collect();
    let program = [OsString::from("blkfaultd")];
    let parsed = parse(program.into_iter().chain(arguments.iter().cloned()));
    let reads = arguments.iter().any(|word| word.as_bytes().starts_with(b"--c"));
    match parsed {
        Ok(options) if !reads => drop(options.plan()),
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// As [`Options::try_parse_from`], but that what is parsed is told to clap once only: that is dear.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Options, clap::Error> {
    thread_local! {
        static COMMAND: RefCell<clap::Command> = RefCell::new(Options::command());
    }
    COMMAND.with_borrow_mut(|command| {
        let mut matches = command.try_get_matches_from_mut(arguments)?;
        Options::from_arg_matches_mut(&mut matches).map_err(|error| error.format(command))
    })
}

/// What was read can be written, and is then read as the same.
fn blkdebug(text: &str) {
    let Ok(rules) = config::parse(text) else { return };
    let written = config_text(&rules);
    assert_eq!(config::parse(&written).as_ref(), Ok(&rules), "{written}");
}

fn words(text: &str) {
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse().as_ref(), Ok(&address));
    }
    if let Ok(range) = text.parse::<SectorRange>() {
        assert!(range.first() <= range.last());
        let set: SectorSet = [range].into_iter().collect();
        assert_eq!((set.sectors(), set.first_in(range)), (range.sectors(), Some(range.first())));
    }
    if let Ok(serial) = Serial::new(text) {
        assert_eq!(&serial.padded()[..text.len()], text.as_bytes());
    }
    let _ = text.parse::<Size>();
}

fn seed(kind: u8, text: &str) -> Vec<u8> {
    [&[kind], text.as_bytes()].concat()
}

const RULE: &str = "[inject-error \"a\"]\nevent = \"read_aio\"\nerrno = \"0x5\"\nonce = \"on\"\n";

/// Seeds by the ids of the bugs that they are like.
pub fn seeds() -> Vec<Seed> {
    let line = |words: &str| seed(0, &words.replace(' ', "\n"));
    let many_sections = "[set-state]\nevent = \"none\"\nnew_state = \"2\"\n".repeat(30);
    let json = "{\"disks\": [{\"id\": \"a\", \"memory\": \"64M\", \"socket-path\": \"/a\"}], \
                \"monitor\": [\"unix:/m\"], \"pidfile\": \"/p\"}";
    let of_state = |(name, text): Seed| (name, [&[5], text.as_slice()].concat());
    let mut seeds = vec![
        (
            "an-ordinary-command-line",
            line("--memory 1G --socket-path /tmp/d --monitor unix:/tmp/m"),
        ),
        ("an-ordinary-config-file", seed(1, json)),
        ("an-ordinary-blkdebug-file", seed(2, RULE)),
        ("an-ordinary-disk", seed(3, "id=a,blk-file=a.img,cache=none,num-queues=4,socket-path=/a")),
        (
            "several-disks",
            line("--disk id=a,memory=1M,socket-path=/a --disk id=b,store=a,socket-path=/b"),
        ),
        (
            "CVE-2024-4467-a-file-name-of-json",
            line("--blk-file json:{\"driver\":\"file\"} --socket-path /d"),
        ),
        (
            "CVE-2026-27211-a-format-that-is-not-said",
            line("--blk-file a.qcow2 --format qcow2 --socket-path /d"),
        ),
        ("CVE-2023-30612-descriptors-of-others", line("--fd 99999999999 --memory 1M --fd=-1")),
        ("CVE-2015-5162-sizes", line("--memory 18446744073709551615E --socket-path /d")),
        (
            "CVE-2018-10908-a-number-of-queues",
            line("--memory 1M --num-queues 65536 --socket-path /d"),
        ),
        ("SPDK_ERRLOG-escapes-in-messages", line("--disk \u{1b}[2J%s\u{7}=1 --monitor \u{202e}")),
        (
            "arguments-that-are-not-utf-8",
            [&[0][..], b"--memory\n\xFF\xFE\n--socket-path\n\xC0"].concat(),
        ),
        ("serde_json-recursion-128-in-a-config-file", seed(1, &"{\"disks\":[".repeat(150))),
        ("members-twice", seed(1, "{\"disks\": [{\"id\": \"a\", \"id\": \"b\"}], \"disks\": []}")),
        (
            "numbers-in-a-config-file",
            seed(1, "{\"disks\": [{\"memory\": 1e3, \"num-queues\": -1}]}"),
        ),
        ("blkdebug-sections-of-both-kinds", seed(2, &(RULE.to_owned() + &many_sections))),
        (
            "blkdebug-numbers",
            seed(
                2,
                "[inject-error]\nevent = \"none\"\nsector = \"-1\"\nstate = \"010\"\ndelay-ns = \"-0\"\n",
            ),
        ),
        (
            "blkdebug-a-line-too-long",
            seed(2, &format!("[inject-error]\nevent = \"{}\"\n", "x".repeat(1030))),
        ),
        ("blkdebug-half-a-section", seed(2, "[inject-error \"\n[set-state\n=\n[] \u{b}= \"\n")),
        ("an-address", seed(4, "tcp:[::1]:4444,remote=on")),
        ("an-address-of-a-path", seed(4, "unix:/tmp/m")),
        ("sectors", seed(4, "18446744073709551614-18446744073709551615")),
        ("a-size", seed(4, "16E")),
        ("a-serial", seed(4, "12345678901234567890")),
    ];
    seeds.extend(state::seeds().into_iter().map(of_state));
    seeds
}
