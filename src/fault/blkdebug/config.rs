//! The blkdebug config file: text in, rules or QEMU's message out.
//!
//! Knows: the grammar of QEMU's `qemu_config_foreach` (`util/qemu-config.c`) and the option tables
//! of `block/blkdebug.c`, as QEMU 7.2 was seen to behave. Must not know: files. Invariant: where
//! QEMU accepts a text, this accepts it with the same rules, or refuses it for a value that QEMU
//! would silently cut off or turn into a lost write.

use super::event::Event;
use super::rule::{
    BadMember, InjectError, Rules, SetState, delay_of, errno_of, sector_of, state_of,
};

/// Longest line, in bytes without its end: QEMU reads lines into 1024 bytes.
pub const LINE_BYTES_MAX: usize = 1022;
/// Longest word of a section or key: QEMU scans `%63s`.
const WORD_BYTES_MAX: usize = 63;

/// Why a config file is refused; the texts are QEMU's where QEMU refuses it too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A line that is nothing at all.
    #[error("line {0}: parse error")]
    Parse(usize),
    /// A line that QEMU would take apart in the middle.
    #[error("line {0} is longer than {LINE_BYTES_MAX} bytes")]
    LineTooLong(usize),
    /// A pair before the first section.
    #[error("no group defined")]
    NoGroup,
    /// A section that is neither `inject-error` nor `set-state`.
    #[error("There is no option group '{0}'")]
    UnknownGroup(String),
    /// An id that is no identifier.
    #[error(
        "Parameter 'id' expects an identifier\nIdentifiers consist of letters, digits, '-', '.', \
         '_', starting with a letter."
    )]
    BadId,
    /// An id used twice among sections of a kind.
    #[error("Duplicate ID '{0}' for {1}")]
    DuplicateId(String, &'static str),
    /// A key that the section does not have.
    #[error("Invalid parameter '{0}'")]
    UnknownKey(String),
    /// A value that is no number.
    #[error("Parameter '{0}' expects a number")]
    NotANumber(&'static str),
    /// A number beyond 64 bits.
    #[error("Value '{1}' is too large for parameter '{0}'")]
    TooLarge(&'static str, String),
    /// A value that is no boolean.
    #[error("Parameter '{0}' expects 'on' or 'off'")]
    NotABoolean(&'static str),
    /// A rule without its event.
    #[error("Missing event name for rule")]
    MissingEvent,
    /// A word that is no event, or no I/O type.
    #[error("invalid parameter value: {0}")]
    BadWord(String),
    /// A number that a rule cannot have.
    #[error(transparent)]
    Member(#[from] BadMember),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    InjectError,
    SetState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Number,
    Boolean,
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Self::InjectError => "inject-error",
            Self::SetState => "set-state",
        }
    }

    fn find(name: &str) -> Result<Self, ConfigError> {
        [Self::InjectError, Self::SetState]
            .into_iter()
            .find(|group| group.name() == name)
            .ok_or_else(|| ConfigError::UnknownGroup(name.to_owned()))
    }

    /// `inject_error_opts` and `set_state_opts`, and QEMU 11.1's delay.
    fn keys(self) -> &'static [(&'static str, Kind)] {
        match self {
            Self::InjectError => &[
                ("event", Kind::Word),
                ("state", Kind::Number),
                ("iotype", Kind::Word),
                ("errno", Kind::Number),
                ("delay-ns", Kind::Number),
                ("sector", Kind::Number),
                ("once", Kind::Boolean),
                ("immediately", Kind::Boolean),
            ],
            Self::SetState => {
                &[("event", Kind::Word), ("state", Kind::Number), ("new_state", Kind::Number)]
            }
        }
    }
}

/// A section as written: pairs in order of their first mention, the last value of each.
#[derive(Debug)]
struct Section {
    group: String,
    pairs: Vec<(String, String)>,
}

impl Section {
    fn put(&mut self, key: &str, value: &str) {
        match self.pairs.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => value.clone_into(old),
            None => self.pairs.push((key.to_owned(), value.to_owned())),
        }
    }
}

/// A section whose keys and values are what its group takes.
#[derive(Debug)]
struct Options {
    group: Group,
    pairs: Vec<(&'static str, String)>,
}

/// Read a config file's text.
///
/// # Errors
/// The first thing that QEMU would refuse, in QEMU's order: the file section by section, then the
/// events and I/O types of all `inject-error` rules, then those of all `set-state` rules.
pub fn parse(text: &str) -> Result<Rules, ConfigError> {
    let mut ids: Vec<(Group, String)> = Vec::new();
    let mut options = Vec::new();
    sections(text, |section| {
        options.push(accept(section, &mut ids)?);
        Ok(())
    })?;
    let of = |group| options.iter().filter(move |options| options.group == group);
    Ok(Rules {
        inject_error: of(Group::InjectError).map(inject_error).collect::<Result<_, _>>()?,
        set_state: of(Group::SetState).map(set_state).collect::<Result<_, _>>()?,
    })
}

/// Cut the text into sections and hand each over when it ends, as `qemu_config_foreach` does.
fn sections(
    text: &str,
    mut take: impl FnMut(Section) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    let mut current: Option<Section> = None;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if line.len() > LINE_BYTES_MAX + 1 {
            return Err(ConfigError::LineTooLong(number));
        }
        if line == "\n" || line.starts_with('#') {
            continue;
        }
        if let Some((group, id)) = section_start(line) {
            if let Some(ended) = current.take() {
                take(ended)?;
            }
            let pairs = id.map(|id| ("id".to_owned(), id.to_owned())).into_iter().collect();
            current = Some(Section { group: group.to_owned(), pairs });
            continue;
        }
        let (key, value) = pair(line).ok_or(ConfigError::Parse(number))?;
        current.as_mut().ok_or(ConfigError::NoGroup)?.put(key, value);
    }
    current.map_or(Ok(()), take)
}

/// `[%63s "%63[^"]"]`, or else `[%63[^]]]`; neither needs what closes it.
fn section_start(line: &str) -> Option<(&str, Option<&str>)> {
    let rest = line.strip_prefix('[')?;
    if let Some((group, rest)) = word(rest)
        && let Some(id) = rest.trim_start_matches(is_space).strip_prefix('"')
        && let Some(id) = until(id, '"')
    {
        return Some((group, Some(id)));
    }
    until(rest, ']').map(|group| (group, None))
}

/// ` %63s = "%1023[^"]"`, or a word with nothing of the kind after it, whose value is empty.
fn pair(line: &str) -> Option<(&str, &str)> {
    let (key, rest) = word(line)?;
    let value = rest
        .trim_start_matches(is_space)
        .strip_prefix('=')
        .and_then(|rest| rest.trim_start_matches(is_space).strip_prefix('"'))
        .and_then(|rest| until(rest, '"'));
    Some((key, value.unwrap_or("")))
}

/// What C's `isspace` takes.
fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// `%63s`: skip space, then up to 63 bytes without space.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(is_space);
    let end = text.find(is_space).unwrap_or(text.len());
    let end = (0..=end.min(WORD_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end))?;
    (end > 0).then(|| text.split_at(end))
}

/// `%[^X]`: at least one byte, up to the letter or the end of the line.
fn until(text: &str, stop: char) -> Option<&str> {
    let part = text.split(stop).next().filter(|part| !part.is_empty())?;
    Some(part)
}

/// `qemu_config_do_parse`: the group, the id, the known keys' values, then the unknown keys.
fn accept(section: Section, ids: &mut Vec<(Group, String)>) -> Result<Options, ConfigError> {
    let group = Group::find(&section.group)?;
    let mut pairs = Vec::new();
    let mut unknown = None;
    for (key, value) in section.pairs {
        if key == "id" {
            accept_id(group, value, ids)?;
        } else if let Some((key, kind)) = group.keys().iter().find(|(known, _)| *known == key) {
            check_value(key, *kind, &value)?;
            pairs.push((*key, value));
        } else {
            unknown = unknown.or(Some(key));
        }
    }
    match unknown {
        Some(key) => Err(ConfigError::UnknownKey(key)),
        None => Ok(Options { group, pairs }),
    }
}

fn accept_id(group: Group, id: String, ids: &mut Vec<(Group, String)>) -> Result<(), ConfigError> {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !id.starts_with(|c: char| c.is_ascii_alphabetic()) || !id.chars().all(named) {
        return Err(ConfigError::BadId);
    }
    let entry = (group, id);
    if ids.contains(&entry) {
        return Err(ConfigError::DuplicateId(entry.1, group.name()));
    }
    ids.push(entry);
    Ok(())
}

fn check_value(key: &'static str, kind: Kind, value: &str) -> Result<(), ConfigError> {
    match kind {
        Kind::Word => Ok(()),
        Kind::Number => number(key, value).map(drop),
        Kind::Boolean => boolean(key, value).map(drop),
    }
}

/// `qemu_strtou64` in base 0, taken as signed: "-1" is 2^64 - 1 there and -1 again afterwards.
fn number(key: &'static str, value: &str) -> Result<i64, ConfigError> {
    let text = value.trim_start_matches(is_space);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match hex {
        Some(hex) => (hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(ConfigError::NotANumber(key));
    }
    let too_large = || ConfigError::TooLarge(key, value.to_owned());
    let magnitude = u64::from_str_radix(digits, radix).map_err(|_| too_large())?;
    let wrapped = if negative { magnitude.wrapping_neg() } else { magnitude };
    Ok(wrapped.cast_signed())
}

/// `qapi_bool_parse`.
fn boolean(key: &'static str, value: &str) -> Result<bool, ConfigError> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(ConfigError::NotABoolean(key)),
    }
}

impl Options {
    fn word(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
    }

    fn number(&self, key: &'static str) -> Result<Option<i64>, ConfigError> {
        self.word(key).map(|value| number(key, value)).transpose()
    }

    fn boolean(&self, key: &'static str) -> Result<bool, ConfigError> {
        self.word(key).map_or(Ok(false), |value| boolean(key, value))
    }

    fn event(&self) -> Result<Event, ConfigError> {
        let name = self.word("event").ok_or(ConfigError::MissingEvent)?;
        name.parse().map_err(|_| ConfigError::BadWord(name.to_owned()))
    }

    fn state(&self, key: &'static str) -> Result<i32, ConfigError> {
        Ok(self.number(key)?.map(|number| state_of(key, number)).transpose()?.unwrap_or(0))
    }
}

fn inject_error(options: &Options) -> Result<InjectError, ConfigError> {
    let mut rule = InjectError::on(options.event()?);
    rule.state = options.state("state")?;
    if let Some(name) = options.word("iotype") {
        rule.iotype = Some(name.parse().map_err(|_| ConfigError::BadWord(name.to_owned()))?);
    }
    if let Some(errno) = options.number("errno")? {
        rule.errno = errno_of(errno)?;
    }
    rule.delay_ns = delay_of(options.number("delay-ns")?.unwrap_or(0))?;
    rule.sector = sector_of(options.number("sector")?.unwrap_or(-1))?;
    rule.once = options.boolean("once")?;
    rule.immediately = options.boolean("immediately")?;
    Ok(rule)
}

fn set_state(options: &Options) -> Result<SetState, ConfigError> {
    Ok(SetState {
        event: options.event()?,
        state: options.state("state")?,
        new_state: options.state("new_state")?,
    })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
