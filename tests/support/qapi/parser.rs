//! From text to expressions: JSON with single quotes and `#` comments.
//!
//! Knows: the dialect's grammar. Must not know: what the expressions mean (`model` does).

use super::doc::Doc;
use super::{Place, SchemaError};
use std::rc::Rc;

/// A value, and where it begins.
#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

/// The values of the dialect; it has no numbers.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Object(Vec<(String, Expr)>),
    Array(Vec<Expr>),
    Text(String),
    Bool(bool),
}

/// A top-level expression with the doc comment before it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) doc: Option<Doc>,
    pub(crate) expr: Expr,
}

impl Expr {
    /// The text; anything else is an error that says what the text would be.
    pub(crate) fn text(&self, what: &str) -> Result<&str, SchemaError> {
        match &self.kind {
            Kind::Text(text) => Ok(text),
            _ => Err(self.place.error(format!("{what} must be a string"))),
        }
    }

    pub(crate) fn bool(&self, what: &str) -> Result<bool, SchemaError> {
        match self.kind {
            Kind::Bool(value) => Ok(value),
            _ => Err(self.place.error(format!("{what} must be true or false"))),
        }
    }

    pub(crate) fn array(&self, what: &str) -> Result<&[Expr], SchemaError> {
        match &self.kind {
            Kind::Array(elements) => Ok(elements),
            _ => Err(self.place.error(format!("{what} must be an array"))),
        }
    }

    pub(crate) fn object(&self, what: &str) -> Result<&[(String, Expr)], SchemaError> {
        match &self.kind {
            Kind::Object(members) => Ok(members),
            _ => Err(self.place.error(format!("{what} must be an object"))),
        }
    }
}

/// Everything a file says, in order.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Item>, SchemaError> {
    Parser { file: file.into(), rest: text, line: 1 }.items()
}

struct Parser<'a> {
    file: Rc<str>,
    rest: &'a str,
    line: usize,
}

impl Parser<'_> {
    fn items(mut self) -> Result<Vec<Item>, SchemaError> {
        let mut items = Vec::new();
        let mut doc: Option<Doc> = None;
        loop {
            let comment = self.skip_blanks()?;
            if let (Some(doc), true) = (&doc, comment.is_some() || self.rest.is_empty()) {
                return Err(doc.place.error("a doc comment without an expression after it"));
            }
            match comment {
                Some(comment) => doc = Some(comment),
                None if self.rest.is_empty() => return Ok(items),
                None => {
                    let expr = self.value()?;
                    expr.object("an expression")?;
                    items.push(Item { doc: doc.take(), expr });
                }
            }
        }
    }

    fn place(&self) -> Place {
        Place { file: self.file.clone(), line: self.line }
    }

    fn advance(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }

    fn take_line(&mut self) -> &str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.line += 1;
        self.rest = rest;
        line
    }

    /// Skips white space and comments, up to and including a doc comment if there is one.
    fn skip_blanks(&mut self) -> Result<Option<Doc>, SchemaError> {
        loop {
            self.advance(self.rest.len() - self.rest.trim_start().len());
            if !self.rest.starts_with('#') {
                return Ok(None);
            }
            if self.rest.lines().next() == Some("##") {
                return self.doc_comment().map(Some);
            }
            self.take_line();
        }
    }

    fn doc_comment(&mut self) -> Result<Doc, SchemaError> {
        let place = self.place();
        self.take_line();
        let mut lines = Vec::new();
        loop {
            let at = self.place();
            match self.take_line() {
                "##" => return Doc::parse(place, &lines),
                "#" => lines.push((at, String::new())),
                line => match line.strip_prefix("# ") {
                    Some(text) => lines.push((at, text.to_owned())),
                    None => return Err(at.error("a line of a doc comment begins with '# '")),
                },
            }
        }
    }

    /// The next token's first character, past comments; a doc comment has no place here.
    fn peek(&mut self) -> Result<Option<char>, SchemaError> {
        match self.skip_blanks()? {
            Some(doc) => Err(doc.place.error("a doc comment inside an expression")),
            None => Ok(self.rest.chars().next()),
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), SchemaError> {
        match self.peek()? {
            Some(found) if found == wanted => {
                self.advance(1);
                Ok(())
            }
            found => Err(self.unexpected(found, &format!("'{wanted}'"))),
        }
    }

    fn unexpected(&self, found: Option<char>, wanted: &str) -> SchemaError {
        let found = found.map_or("the end of the file".to_owned(), |c| format!("'{c}'"));
        self.place().error(format!("expected {wanted}, found {found}"))
    }

    fn value(&mut self) -> Result<Expr, SchemaError> {
        let first = self.peek()?;
        let place = self.place();
        let kind = match first {
            Some('{') => Kind::Object(self.object()?),
            Some('[') => Kind::Array(self.array()?),
            Some('\'') => Kind::Text(self.text()?),
            Some('t') if self.rest.starts_with("true") => {
                self.advance(4);
                Kind::Bool(true)
            }
            Some('f') if self.rest.starts_with("false") => {
                self.advance(5);
                Kind::Bool(false)
            }
            found => return Err(self.unexpected(found, "'{', '[', a string, true or false")),
        };
        Ok(Expr { place, kind })
    }

    fn text(&mut self) -> Result<String, SchemaError> {
        self.expect('\'')?;
        let length = self.rest.find(['\'', '\n', '\\']);
        let Some(length) = length.filter(|at| self.rest[*at..].starts_with('\'')) else {
            return Err(self.place().error("a string ends on its line and has no backslash"));
        };
        let text = self.rest[..length].to_owned();
        self.advance(length + 1);
        Ok(text)
    }

    fn object(&mut self) -> Result<Vec<(String, Expr)>, SchemaError> {
        let mut members: Vec<(String, Expr)> = Vec::new();
        self.list('{', '}', |parser| {
            parser.peek()?;
            let place = parser.place();
            let name = parser.text()?;
            if members.iter().any(|(other, _)| *other == name) {
                return Err(place.error(format!("duplicate key '{name}'")));
            }
            parser.expect(':')?;
            members.push((name, parser.value()?));
            Ok(())
        })?;
        Ok(members)
    }

    fn array(&mut self) -> Result<Vec<Expr>, SchemaError> {
        let mut elements = Vec::new();
        self.list('[', ']', |parser| {
            elements.push(parser.value()?);
            Ok(())
        })?;
        Ok(elements)
    }

    /// `open`, elements with commas between them, `close`.
    fn list(
        &mut self,
        open: char,
        close: char,
        mut element: impl FnMut(&mut Self) -> Result<(), SchemaError>,
    ) -> Result<(), SchemaError> {
        self.expect(open)?;
        if self.peek()? == Some(close) {
            self.advance(1);
            return Ok(());
        }
        loop {
            element(self)?;
            match self.peek()? {
                Some(',') => self.advance(1),
                Some(found) if found == close => {
                    self.advance(1);
                    return Ok(());
                }
                found => return Err(self.unexpected(found, &format!("',' or '{close}'"))),
            }
        }
    }
}
