//! Tokens to a value, one by one.
//!
//! Knows: the grammar, QEMU's texts for what breaks it (qobject/json-parser.c), and its extensions:
//! strings in single quotes, `\'`, and NUL as the two bytes C0 80. Must not know: where a value
//! ends, or limits; the framer does. Invariant: a token costs about the same wherever it stands, so
//! that the last one of a large value makes nobody wait.

use std::mem;

use serde_json::{Map, Number, Value};

use super::{JsonError, TokenKind};

/// Builds one value out of its tokens.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// Arrays and objects whose end has not come, each within the one before.
    open: Vec<Open>,
    next: Next,
    /// The first mistake, or the value once it is whole. What follows changes nothing.
    outcome: Option<Result<Value, JsonError>>,
}

#[derive(Debug)]
enum Open {
    Array(Vec<Value>),
    /// With the name of the member whose value has not come.
    Object(Map<String, Value>, Option<String>),
}

/// What may come next.
#[derive(Debug, Clone, Copy, Default)]
enum Next {
    /// A value, or the end of the array or object that has just begun.
    #[default]
    Value,
    /// The colon behind a member's name.
    Colon,
    /// A comma, or the end of the array or object.
    Separator,
}

impl Parser {
    /// Take the next token.
    pub(super) fn push(&mut self, kind: TokenKind, text: &[u8]) {
        if self.outcome.is_none()
            && let Err(error) = self.take(kind, text)
        {
            self.outcome = Some(Err(error));
        }
    }

    /// What the tokens amount to. The next token begins another value.
    pub(super) fn finish(&mut self) -> Result<Value, JsonError> {
        let outcome = mem::take(self).outcome;
        outcome.unwrap_or_else(|| Err(JsonError::parse("premature EOI")))
    }

    fn take(&mut self, kind: TokenKind, text: &[u8]) -> Result<(), JsonError> {
        match self.next {
            Next::Value => self.take_value(kind, text),
            Next::Separator => self.take_separator(kind),
            Next::Colon if kind == TokenKind::Colon => {
                self.next = Next::Value;
                Ok(())
            }
            Next::Colon => Err(JsonError::parse("missing : in object pair")),
        }
    }

    fn take_value(&mut self, kind: TokenKind, text: &[u8]) -> Result<(), JsonError> {
        match (kind, self.open.last()) {
            (TokenKind::LeftCurly, _) => self.open.push(Open::Object(Map::new(), None)),
            (TokenKind::LeftSquare, _) => self.open.push(Open::Array(Vec::new())),
            (TokenKind::RightCurly, Some(Open::Object(members, None))) if members.is_empty() => {
                return self.close();
            }
            (TokenKind::RightSquare, Some(Open::Array(elements))) if elements.is_empty() => {
                return self.close();
            }
            (TokenKind::String, _) => return self.complete(Value::String(string(text)?)),
            (TokenKind::Integer, _) => return self.complete(integer(text)?),
            (TokenKind::Float, _) => return self.complete(float(text)?),
            (TokenKind::Keyword, _) => return self.complete(keyword(text)?),
            _ => return Err(JsonError::parse("expecting value")),
        }
        Ok(())
    }

    fn take_separator(&mut self, kind: TokenKind) -> Result<(), JsonError> {
        match (kind, self.open.last()) {
            (TokenKind::Comma, _) => {
                self.next = Next::Value;
                Ok(())
            }
            (TokenKind::RightCurly, Some(Open::Object(..)))
            | (TokenKind::RightSquare, Some(Open::Array(_))) => self.close(),
            (_, Some(Open::Array(_))) => Err(JsonError::parse("expected separator in list")),
            _ => Err(JsonError::parse("expected separator in dict")),
        }
    }

    /// The innermost array or object is whole.
    fn close(&mut self) -> Result<(), JsonError> {
        match self.open.pop() {
            Some(Open::Array(elements)) => self.complete(Value::Array(elements)),
            Some(Open::Object(members, _)) => self.complete(Value::Object(members)),
            None => Ok(()),
        }
    }

    /// Put a whole value where it belongs.
    fn complete(&mut self, value: Value) -> Result<(), JsonError> {
        self.next = Next::Separator;
        match self.open.last_mut() {
            None => self.outcome = Some(Ok(value)),
            Some(Open::Array(elements)) => elements.push(value),
            Some(Open::Object(members, name)) => match (name.take(), value) {
                (Some(name), _) if members.contains_key(&name) => {
                    return Err(JsonError::parse("duplicate key"));
                }
                (Some(name), value) => _ = members.insert(name, value),
                (None, Value::String(new_name)) => {
                    *name = Some(new_name);
                    self.next = Next::Colon;
                }
                (None, _) => return Err(JsonError::parse("key is not a string in object")),
            },
        }
        Ok(())
    }
}

fn keyword(text: &[u8]) -> Result<Value, JsonError> {
    match text {
        b"true" => Ok(Value::Bool(true)),
        b"false" => Ok(Value::Bool(false)),
        b"null" => Ok(Value::Null),
        _ => Err(JsonError::parse(&format!("invalid keyword '{}'", JsonError::detail(text)))),
    }
}

/// An integer that fits in 64 bits, with or without sign, stays one; a larger one loses precision.
fn integer(text: &[u8]) -> Result<Value, JsonError> {
    let digits = str::from_utf8(text).unwrap_or_default();
    if let Ok(signed) = digits.parse::<i64>() {
        return Ok(signed.into());
    }
    match digits.parse::<u64>() {
        Ok(unsigned) => Ok(unsigned.into()),
        Err(_) => float(text),
    }
}

/// QEMU reads a number that no double can hold as infinity, which it cannot say in JSON: here it is
/// an error.
fn float(text: &[u8]) -> Result<Value, JsonError> {
    let parsed = str::from_utf8(text).unwrap_or_default().parse::<f64>().ok();
    parsed.and_then(Number::from_f64).map(Value::Number).ok_or_else(|| {
        JsonError::parse(&format!("number '{}' is out of range", JsonError::detail(text)))
    })
}

/// The string that a token with quotes stands for.
fn string(token: &[u8]) -> Result<String, JsonError> {
    let mut rest = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
    let mut string = String::with_capacity(rest.len());
    while let Some(escape) = rest.iter().position(|byte| *byte == b'\\') {
        let (plain, escaped) = rest.split_at(escape);
        push_utf8(&mut string, plain)?;
        rest = push_escape(&mut string, escaped, token)?;
    }
    push_utf8(&mut string, rest)?;
    Ok(string)
}

/// Append text without escapes. QEMU's "modified UTF-8" writes NUL as C0 80.
fn push_utf8(string: &mut String, mut bytes: &[u8]) -> Result<(), JsonError> {
    loop {
        let nul = bytes.windows(2).position(|pair| pair == [0xC0, 0x80]);
        let plain = bytes.get(..nul.unwrap_or(bytes.len())).unwrap_or_default();
        match str::from_utf8(plain) {
            Ok(text) if !text.chars().any(is_noncharacter) => string.push_str(text),
            _ => return Err(JsonError::parse("invalid UTF-8 sequence in string")),
        }
        let Some(nul) = nul else { return Ok(()) };
        string.push('\0');
        bytes = bytes.get(nul + 2..).unwrap_or_default();
    }
}

/// Append what an escape stands for; `escaped` begins at its backslash. Returns what follows it.
fn push_escape<'a>(
    string: &mut String,
    escaped: &'a [u8],
    token: &[u8],
) -> Result<&'a [u8], JsonError> {
    let character = match escaped.get(1) {
        Some(b'u') => return push_unicode_escape(string, escaped, token),
        Some(same @ (b'"' | b'\'' | b'\\' | b'/')) => char::from(*same),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        _ => return Err(JsonError::parse("invalid escape sequence in string")),
    };
    string.push(character);
    Ok(escaped.get(2..).unwrap_or_default())
}

fn push_unicode_escape<'a>(
    string: &mut String,
    escaped: &'a [u8],
    token: &[u8],
) -> Result<&'a [u8], JsonError> {
    let unit = hex4(escaped.get(2..6));
    let trailing = match escaped.get(6..8) {
        Some(b"\\u") => hex4(escaped.get(8..12)),
        _ => None,
    };
    let (code_point, length) = match (unit, trailing) {
        (Some(leading @ 0xD800..0xDC00), Some(trailing @ 0xDC00..0xE000)) => {
            (Some(0x1_0000 + ((leading & 0x3FF) << 10) + (trailing & 0x3FF)), 12)
        }
        _ => (unit, 6),
    };
    let character = code_point.and_then(char::from_u32).filter(|c| !is_noncharacter(*c));
    let Some(character) = character else {
        // QEMU shows the six bytes of the escape even where the closing quote is among them.
        let begin = token.len() - 1 - escaped.len();
        let shown = token.get(begin..token.len().min(begin + 6)).unwrap_or_default();
        let shown = JsonError::detail(shown);
        return Err(JsonError::parse(&format!("{shown} is not a valid Unicode character")));
    };
    string.push(character);
    Ok(escaped.get(length..).unwrap_or_default())
}

fn hex4(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// Code points that Unicode promises never to use (`is_valid_codepoint` of util/unicode.c).
fn is_noncharacter(character: char) -> bool {
    let code_point = u32::from(character);
    matches!(code_point, 0xFDD0..=0xFDEF) || code_point & 0xFFFE == 0xFFFE
}
