//! Tokens to a value.
//!
//! Knows: the grammar, QEMU's texts for what breaks it (qobject/json-parser.c), and its extensions:
//! strings in single quotes, `\'`, and NUL as the two bytes C0 80. Must not know: limits; the
//! framer keeps them, so the depth of the recursion here is bounded by its nesting limit.

use serde_json::{Map, Number, Value};

use super::{JsonError, Token, TokenKind};

/// The value that these tokens make.
pub(super) fn parse(tokens: &[Token], text: &[u8]) -> Result<Value, JsonError> {
    let mut parser = Parser { tokens, text, next: 0 };
    parser.value()
}

struct Parser<'a> {
    tokens: &'a [Token],
    text: &'a [u8],
    next: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<TokenKind> {
        self.tokens.get(self.next).map(|token| token.kind)
    }

    /// Take the next token, with its text.
    fn take(&mut self) -> Result<(TokenKind, &'a [u8]), JsonError> {
        let token = self.tokens.get(self.next).ok_or_else(|| JsonError::parse("premature EOI"))?;
        let begin = match self.next.checked_sub(1) {
            Some(previous) => self.tokens.get(previous).map_or(0, |token| token.end),
            None => 0,
        };
        self.next += 1;
        Ok((token.kind, self.text.get(begin..token.end).unwrap_or_default()))
    }

    fn value(&mut self) -> Result<Value, JsonError> {
        let (kind, text) = self.take()?;
        match kind {
            TokenKind::LeftCurly => self.object(),
            TokenKind::LeftSquare => self.array(),
            TokenKind::String => string(text).map(Value::String),
            TokenKind::Integer => integer(text),
            TokenKind::Float => float(text),
            TokenKind::Keyword => keyword(text),
            _ => Err(JsonError::parse("expecting value")),
        }
    }

    /// The rest of an object whose brace was taken.
    fn object(&mut self) -> Result<Value, JsonError> {
        let mut members = Map::new();
        if self.peek() == Some(TokenKind::RightCurly) {
            self.next += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.member(&mut members)?;
            match self.take()?.0 {
                TokenKind::RightCurly => return Ok(Value::Object(members)),
                TokenKind::Comma => {}
                _ => return Err(JsonError::parse("expected separator in dict")),
            }
        }
    }

    fn member(&mut self, members: &mut Map<String, Value>) -> Result<(), JsonError> {
        let Value::String(name) = self.value()? else {
            return Err(JsonError::parse("key is not a string in object"));
        };
        if self.take()?.0 != TokenKind::Colon {
            return Err(JsonError::parse("missing : in object pair"));
        }
        let value = self.value()?;
        if members.contains_key(&name) {
            return Err(JsonError::parse("duplicate key"));
        }
        members.insert(name, value);
        Ok(())
    }

    /// The rest of an array whose bracket was taken.
    fn array(&mut self) -> Result<Value, JsonError> {
        let mut elements = Vec::new();
        if self.peek() == Some(TokenKind::RightSquare) {
            self.next += 1;
            return Ok(Value::Array(elements));
        }
        loop {
            elements.push(self.value()?);
            match self.take()?.0 {
                TokenKind::RightSquare => return Ok(Value::Array(elements)),
                TokenKind::Comma => {}
                _ => return Err(JsonError::parse("expected separator in list")),
            }
        }
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
