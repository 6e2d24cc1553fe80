//! Scripts as text: rules, requests, outcomes.
//!
//! Knows: the form that `tests/data/fault_scripts/README.md` tells. Must not know: who runs them.
//! Invariant: a line that is no part of a script is an error, so no script silently says less than
//! it seems to.

use std::fmt;
use std::path::Path;

use blkfault::fault::IoType;
use serde_json::{Map, Value};

use crate::support::blkdebug::Asked;

/// Sectors of every script's image.
pub(crate) const IMAGE_SECTORS: u64 = 4096;

/// Rules, requests and what becomes of them.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) title: String,
    pub(crate) rules: RulesText,
    pub(crate) steps: Vec<Step>,
}

/// Rules as an operator writes them.
#[derive(Debug, Clone)]
pub(crate) enum RulesText {
    /// A blkdebug config file.
    Config(String),
    /// `BlockdevOptionsBlkdebug` without `image`.
    Options(Map<String, Value>),
}

/// A request with its outcomes.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) text: String,
    pub(crate) asked: Asked,
    /// What a write puts into its sectors.
    pub(crate) fill: u8,
    pub(crate) expected: Ending,
    /// Where QEMU differs: the number in the manual, and QEMU's outcome.
    pub(crate) differs: Option<(u32, Ending)>,
}

/// How a request ended.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Well; what each sector that was read holds, 0 for zeroes.
    Ok(Vec<u8>),
    Error,
    Unsupported,
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok(sectors) => {
                let show = |byte: &u8| if *byte == 0 { '.' } else { char::from(*byte) };
                write!(f, "ok {}", sectors.iter().map(show).collect::<String>())
            }
            Self::Error => f.write_str("error"),
            Self::Unsupported => f.write_str("unsupported"),
        }
    }
}

/// Every script there is, from all files of the data folder.
pub(crate) fn all() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fault_scripts");
    let entries = std::fs::read_dir(folder).expect("scripts").map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        entries.filter(|path| path.extension() == Some("txt".as_ref())).collect();
    paths.sort();
    paths.iter().flat_map(|path| parse(&std::fs::read_to_string(path).expect("a script"))).collect()
}

fn parse(text: &str) -> Vec<Script> {
    let mut pieces = text.split("\n== ");
    let head = pieces.next().expect("there is always one");
    let first = head.strip_prefix("== ");
    assert!(first.is_some() || head.lines().all(|line| line.starts_with('#')), "{head}");
    first.into_iter().chain(pieces).map(parse_script).collect()
}

fn parse_script(text: &str) -> Script {
    let (title, body) = text.split_once('\n').expect("a title line");
    let (rules, requests) = body.split_once("\nrequests\n").unwrap_or_else(|| panic!("{text}"));
    let rules: String = rules
        .lines()
        .skip_while(|line| line.starts_with('#'))
        .fold(String::new(), |text, line| text + line + "\n");
    let rules = if let Some(config) = rules.strip_prefix("config\n") {
        RulesText::Config(config.to_owned())
    } else {
        let options = rules.strip_prefix("options\n").unwrap_or_else(|| panic!("{title}: {rules}"));
        RulesText::Options(serde_json::from_str(options).unwrap_or_else(|e| panic!("{title}: {e}")))
    };
    let lines = requests.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    Script { title: title.to_owned(), rules, steps: lines.map(Step::parse).collect() }
}

impl Step {
    fn parse(line: &str) -> Self {
        let (ours, differs) = match line.split_once('(') {
            Some((ours, theirs)) => (ours, Some(parse_difference(theirs))),
            None => (line, None),
        };
        let mut words = ours.split_whitespace();
        let mut word = || words.next().unwrap_or_else(|| panic!("too short: {line}"));
        let name = word();
        let iotype = IoType::ALL.into_iter().find(|iotype| iotype.name() == name);
        let iotype = iotype.unwrap_or_else(|| panic!("no request: {line}"));
        let (mut sector, mut sectors, mut fill) = (0, 0, 0);
        if iotype != IoType::Flush {
            let (first, length) = word().split_once('+').unwrap_or_else(|| panic!("range: {line}"));
            (sector, sectors) = (first.parse().expect(line), length.parse().expect(line));
            assert!(sectors > 0 && sector + sectors <= IMAGE_SECTORS, "out of range: {line}");
        }
        if iotype == IoType::Write {
            fill = letter(word());
        }
        let rest: Vec<&str> = words.collect();
        let expected = Ending::parse(&rest);
        let asked = Asked { iotype, sector, sectors };
        Self { text: line.to_owned(), asked, fill, expected, differs }
    }
}

fn parse_difference(text: &str) -> (u32, Ending) {
    let inner = text.strip_suffix(')').unwrap_or_else(|| panic!("no closing bracket: {text}"));
    let (number, ending) = inner.split_once(": ").unwrap_or_else(|| panic!("no number: {text}"));
    let words: Vec<&str> = ending.split_whitespace().collect();
    (number.parse().expect(text), Ending::parse(&words))
}

fn letter(word: &str) -> u8 {
    match word.as_bytes() {
        [b'.'] => 0,
        [letter] if letter.is_ascii_alphabetic() => *letter,
        _ => panic!("not a letter: {word}"),
    }
}

impl Ending {
    fn parse(words: &[&str]) -> Self {
        match words {
            ["error"] => Self::Error,
            ["unsupported"] => Self::Unsupported,
            ["ok", sectors @ ..] => Self::Ok(sectors.iter().flat_map(|word| run(word)).collect()),
            _ => panic!("no outcome: {words:?}"),
        }
    }
}

/// `a*8`, or letters one by one.
fn run(word: &str) -> Vec<u8> {
    match word.split_once('*') {
        Some((what, times)) => vec![letter(what); times.parse().expect("a number of sectors")],
        None => word.split("").filter(|part| !part.is_empty()).map(letter).collect(),
    }
}

impl RulesText {
    /// The options for `blockdev-add`, with a config file's path where there is one.
    pub(crate) fn options(&self, config: &Path) -> Map<String, Value> {
        match self {
            Self::Options(options) => options.clone(),
            Self::Config(text) => {
                std::fs::write(config, text).expect("a config file");
                let pairs = [("driver", "blkdebug".into()), ("config", config.to_string_lossy())];
                pairs
                    .map(|(key, value)| (key.to_owned(), Value::from(value.into_owned())))
                    .into_iter()
                    .collect()
            }
        }
    }
}
