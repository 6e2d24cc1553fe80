//! Doc comments: what they document, member by member, and their example transcripts.
//!
//! Knows: the layout of a doc comment. Must not know: whether it fits the expression after it
//! (`model` compares).

use super::{Place, SchemaError};
use serde_json::Value;

/// A parsed doc comment.
#[derive(Debug)]
pub(crate) struct Doc {
    pub(crate) place: Place,
    /// What it documents.
    pub(crate) name: String,
    /// What that is, in paragraphs.
    pub(crate) body: Vec<String>,
    /// Its members, in the order of the comment.
    pub(crate) members: Vec<(String, Vec<String>)>,
    /// Its features.
    pub(crate) features: Vec<(String, Vec<String>)>,
    /// What a command returns.
    pub(crate) returns: Vec<String>,
    /// What a command refuses.
    pub(crate) errors: Vec<String>,
    /// Example transcripts, in order.
    pub(crate) examples: Vec<Example>,
}

/// One message of a transcript.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Example {
    pub(crate) place: Place,
    pub(crate) direction: Direction,
    pub(crate) message: Value,
}

/// Who sends a message of a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// `->`
    FromClient,
    /// `<-`
    ToClient,
}

type Lines<'a> = &'a [(Place, String)];

impl Doc {
    /// Understands the lines between the two `##`, without their `# `.
    pub(crate) fn parse(place: Place, lines: Lines<'_>) -> Result<Self, SchemaError> {
        let name = match lines.first() {
            Some((_, first)) if first.starts_with('@') && first.ends_with(':') => {
                first[1..first.len() - 1].to_owned()
            }
            _ => return Err(place.error("a doc comment begins with '@NAME:'")),
        };
        let mut doc = Self {
            place,
            name,
            body: Vec::new(),
            members: Vec::new(),
            features: Vec::new(),
            returns: Vec::new(),
            errors: Vec::new(),
            examples: Vec::new(),
        };
        doc.sections(&lines[1..])?;
        if doc.body.is_empty() {
            return Err(doc.place.error(format!("nothing is said about '{}'", doc.name)));
        }
        Ok(doc)
    }

    fn sections(&mut self, mut lines: Lines<'_>) -> Result<(), SchemaError> {
        let body_length = lines.iter().position(|(_, line)| heading(line).is_some());
        let (body, rest) = lines.split_at(body_length.unwrap_or(lines.len()));
        self.body = paragraphs(body.iter().map(|(_, line)| line.as_str()));
        lines = rest;
        let mut features = false;
        while let Some(((place, first), rest)) = lines.split_first() {
            let Some((title, text)) = heading(first) else {
                return Err(place.error("expected '@NAME: ...', a section, or an indented line"));
            };
            let length = rest.iter().position(|(_, line)| is_flush(line)).unwrap_or(rest.len());
            let (more, after) = rest.split_at(length);
            let texts = || {
                paragraphs(std::iter::once(text).chain(more.iter().map(|(_, line)| line.as_str())))
            };
            match title {
                "Features" => features = true,
                "Returns" => self.returns = texts(),
                "Errors" => self.errors = texts(),
                "Since" => {}
                "Example" => self.examples.extend(examples(more)?),
                _ => {
                    let member = title.trim_start_matches('@').to_owned();
                    let list = if features { &mut self.features } else { &mut self.members };
                    if list.iter().any(|(other, _)| *other == member) {
                        return Err(place.error(format!("'@{member}' is documented twice")));
                    }
                    let texts = texts();
                    if texts.is_empty() {
                        return Err(place.error(format!("nothing is said about '@{member}'")));
                    }
                    list.push((member, texts));
                }
            }
            lines = after;
        }
        Ok(())
    }
}

fn is_flush(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(' ')
}

/// The title of the section that this line begins, and the text after the colon.
fn heading(line: &str) -> Option<(&str, &str)> {
    if line == "Example::" {
        return Some(("Example", ""));
    }
    let (title, text) = line.split_once(':')?;
    let known = matches!(title, "Features" | "Returns" | "Errors" | "Since");
    let member = title.starts_with('@') && !title.contains(' ');
    (known || member).then_some((title, text.trim_start()))
}

/// Joins lines into paragraphs; a list item is a paragraph.
fn paragraphs<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut paragraphs: Vec<String> = Vec::new();
    let mut open = false;
    for line in lines.map(str::trim) {
        if line.is_empty() {
            open = false;
        } else if let (true, Some(last), false) =
            (open, paragraphs.last_mut(), line.starts_with("- "))
        {
            last.push(' ');
            last.push_str(line);
        } else {
            paragraphs.push(line.to_owned());
            open = true;
        }
    }
    paragraphs
}

/// The messages of a transcript. Each begins with an arrow and may go on over several lines.
fn examples(lines: Lines<'_>) -> Result<Vec<Example>, SchemaError> {
    let mut messages: Vec<(Place, Direction, String)> = Vec::new();
    for (place, line) in lines {
        let line = line.trim();
        let arrow = [("-> ", Direction::FromClient), ("<- ", Direction::ToClient)];
        let arrow = arrow.iter().find_map(|(arrow, direction)| {
            line.strip_prefix(arrow).map(|message| (*direction, message))
        });
        match (arrow, messages.last_mut()) {
            (Some((direction, message)), _) => {
                messages.push((place.clone(), direction, message.to_owned()));
            }
            (None, Some((_, _, message))) => message.push_str(line),
            (None, None) if line.is_empty() => {}
            (None, None) => return Err(place.error("an example begins with '->' or '<-'")),
        }
    }
    let parsed = messages.into_iter().map(|(place, direction, text)| {
        let message = serde_json::from_str(&text)
            .map_err(|error| place.error(format!("not JSON: {error}: {text}")))?;
        Ok(Example { place, direction, message })
    });
    parsed.collect()
}
