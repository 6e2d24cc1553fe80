//! A word with members, as people write one on a command line: `lognormal:median=2ms,sigma=1.2`.
//!
//! Knows: how a family's members are written, and what each is in the monitor's words. Must not know:
//! the families (`delay`, `shape`). Pure. Invariant: a text that is refused is answered with what
//! would be accepted.

use serde_json::{Map, Value, json};

use super::delay::Delay;
use super::period::Period;
use crate::nearest::nearest;

/// A word, and what may follow it.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    /// All of it, as an example.
    pub(super) example: &'static str,
    pub(super) members: Members,
}

/// What follows a family's name.
#[derive(Debug)]
pub(super) enum Members {
    /// Members with names, each at most once: `name=value`.
    Named(&'static [Member]),
    /// A list of pairs in the order that counts: `value=value`.
    Pairs { list: &'static str, left: Member, right: Member },
}

/// A member of a family.
#[derive(Debug)]
pub(super) struct Member {
    /// What people write.
    pub(super) word: &'static str,
    /// What the monitor calls it.
    pub(super) wire: &'static str,
    pub(super) written: Written,
    pub(super) needed: bool,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// A time with a unit.
    Time,
    /// A number.
    Number,
    /// A delay; it has members of its own, so it is all of the rest.
    Delay,
}

impl Member {
    pub(super) const fn new(word: &'static str, wire: &'static str, written: Written) -> Self {
        Self { word, wire, written, needed: true }
    }

    pub(super) const fn optional(self) -> Self {
        Self { needed: false, ..self }
    }

    fn read(&self, text: &str) -> Result<Value, String> {
        let read = match self.written {
            Written::Time => text.parse().map(|Period(nanoseconds)| json!(nanoseconds)),
            Written::Number => number(text).map(Value::from),
            Written::Delay => text.parse().map(|Delay(delay)| delay),
        };
        read.map_err(|why| format!("{}: {why}", self.word))
    }
}

fn number(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| format!("'{text}' is not a number: write one such as 0.5"))
}

/// What the text says, as an object whose member `tag` is the family; `what` names the thing for
/// people.
pub(super) fn read(
    text: &str,
    families: &[Family],
    tag: &str,
    what: &str,
) -> Result<Map<String, Value>, String> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let family = families.iter().find(|family| family.name == name).ok_or_else(|| {
        let meant = nearest(name, families.iter().map(|family| family.name));
        let meant = meant.map(|meant| format!(", did you mean '{meant}'?")).unwrap_or_default();
        let examples: Vec<_> = families.iter().map(|family| family.example).collect();
        format!("'{text}' is not {what}{meant}; accepted are, for example, {}", examples.join(" "))
    })?;
    let mut object = Map::from_iter([(tag.to_owned(), json!(family.name))]);
    match &family.members {
        Members::Named(members) => named(rest, members, &mut object),
        Members::Pairs { list, left, right } => {
            pairs(rest, left, right).map(|pairs| drop(object.insert((*list).to_owned(), pairs)))
        }
    }
    .map_err(|why| format!("{why}; write {}", family.example))?;
    Ok(object)
}

fn named(text: &str, members: &[Member], object: &mut Map<String, Value>) -> Result<(), String> {
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_once('=').ok_or_else(|| format!("'{rest}' has no '='"))?;
        let member = members.iter().find(|member| member.word == word).ok_or_else(|| {
            let meant = nearest(word, members.iter().map(|member| member.word));
            let meant = meant.map(|meant| format!(", did you mean '{meant}'?")).unwrap_or_default();
            format!("there is no '{word}' here{meant}")
        })?;
        let value;
        (value, rest) = match member.written {
            Written::Delay => (after, ""),
            Written::Time | Written::Number => after.split_once(',').unwrap_or((after, "")),
        };
        if object.insert(member.wire.to_owned(), member.read(value)?).is_some() {
            return Err(format!("'{word}' is given twice"));
        }
    }
    match members.iter().find(|member| member.needed && !object.contains_key(member.wire)) {
        Some(missing) => Err(format!("'{}' is missing", missing.word)),
        None => Ok(()),
    }
}

fn pairs(text: &str, left: &Member, right: &Member) -> Result<Value, String> {
    let one = |pair: &str| {
        let (first, second) = pair.split_once('=').ok_or_else(|| format!("'{pair}' has no '='"))?;
        Ok(json!({ left.wire: left.read(first)?, right.wire: right.read(second)? }))
    };
    text.split(',').map(one).collect::<Result<Vec<_>, String>>().map(Value::from)
}
