//! Input as a stream of JSON values, as QEMU reads it (qobject/json-streamer.c and -lexer.c).
//!
//! Knows: where a value ends, how much a value may cost, and the texts of QEMU's JSON errors. Must
//! not know: sockets, or what a value asks for. Invariant: what comes out depends on the bytes and
//! not on how they were cut into pieces; input that makes no sense is an error that is told, and
//! the next sensible value is read again.

mod lexer;
mod parse;
#[cfg(test)]
mod tests;

use std::mem;

use serde_json::Value;

use lexer::{State, Step, TokenKind};
use parse::Parser;

use super::budget::{Budget, Share};

/// Why a piece of input is no JSON value, in QEMU's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl JsonError {
    /// Bytes of input that an error repeats, so that an error costs less than what caused it.
    const DETAIL_BYTES_MAX: usize = 1000;

    fn parse(detail: &str) -> Self {
        Self(format!("JSON parse error, {detail}"))
    }

    /// `token` is cut at its first NUL, as in QEMU, and at 1000 bytes, unlike there.
    fn stray(token: &[u8]) -> Self {
        let shown = token.split(|byte| *byte == 0).next().unwrap_or_default();
        Self::parse(&format!("stray '{}'", Self::detail(shown)))
    }

    fn detail(bytes: &[u8]) -> String {
        let cut = bytes.get(..Self::DETAIL_BYTES_MAX).unwrap_or(bytes);
        String::from_utf8_lossy(cut).into_owned()
    }
}

/// How much one value may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in all tokens together; white space is free.
    pub token_bytes_max: usize,
    /// Tokens.
    pub tokens_max: usize,
    /// Objects and arrays within each other.
    pub nesting_max: usize,
}

impl Limits {
    /// As deep as QEMU lets values be (1024 levels), and less long: 1 MiB and 32 Ki tokens, where QEMU
    /// allows 64 MiB and 2 Mi tokens. What a client sends must never take memory from the disks.
    pub const OURS: Self =
        Self { token_bytes_max: 1 << 20, tokens_max: 32 << 10, nesting_max: 1 << 10 };

    /// QEMU's own, which are good for what a daemon sends: it tells as much as there is.
    pub const QEMU: Self =
        Self { token_bytes_max: 64 << 20, tokens_max: 2 << 20, nesting_max: 1 << 10 };

    /// What all input may take that clients have not been answered to, in bytes of this process.
    pub(super) const ALL_CLIENTS_BYTES: usize = 4 << 20;
    /// What a client may take of it even if there is nothing left, so that short commands always pass.
    const OWN_BYTES: usize = 8 << 10;
    /// What a token takes, besides its text, where it takes most: an array of one element is room for
    /// four.
    const TOKEN_BYTES: usize = 96;
}

/// Reads values out of a stream of bytes.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    state: State,
    /// The token that is being read, as far as it came.
    text: Vec<u8>,
    /// The tokens before it in the same value, and the bytes of all of them.
    tokens: usize,
    token_bytes: usize,
    parser: Parser,
    curlies: isize,
    squares: isize,
    /// What this value takes of the memory for all clients, as far as it came.
    share: Share,
}

impl Framer {
    /// A reader at the beginning of its stream, the only one there is.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::sharing(limits, &Budget::new(usize::MAX >> 1))
    }

    /// A reader at the beginning of its stream, one of several.
    pub(super) fn sharing(limits: Limits, budget: &Budget) -> Self {
        Self {
            share: Share::of(budget),
            limits,
            state: State::Start,
            text: Vec::new(),
            tokens: 0,
            token_bytes: 0,
            parser: Parser::default(),
            curlies: 0,
            squares: 0,
        }
    }

    /// Read until a value, or what is none, is complete. Tells how many bytes were read; all of
    /// them if nothing is complete. Bytes that were not read must be offered again.
    pub fn feed(&mut self, bytes: &[u8]) -> (usize, Option<Result<Value, JsonError>>) {
        let mut read = 0;
        while let Some(byte) = bytes.get(read) {
            let (consumed, complete) = self.feed_byte(*byte);
            read += usize::from(consumed);
            if complete.is_some() {
                return (read, complete);
            }
        }
        (read, None)
    }

    /// What the value takes that was last complete.
    pub(super) fn take_share(&mut self) -> Share {
        self.share.take()
    }

    /// Whether the byte was consumed, and what is complete.
    fn feed_byte(&mut self, byte: u8) -> (bool, Option<Result<Value, JsonError>>) {
        match self.state.step(byte) {
            Step::Skip => (true, None),
            Step::Recovered => {
                self.state = State::Start;
                (false, None)
            }
            Step::Grow(state) => {
                self.state = state;
                self.text.push(byte);
                let refused = self.check_token_bytes();
                if refused.is_some() {
                    // The rest of an endless token is one mistake, not a million.
                    self.state = State::Recovery;
                }
                (true, refused)
            }
            Step::Last(kind) => {
                self.text.push(byte);
                (true, self.end_token(kind))
            }
            Step::Before(kind) => (false, self.end_token(kind)),
            Step::Stray => {
                self.text.push(byte);
                let error = JsonError::stray(&self.text);
                self.reset();
                self.state = State::Recovery;
                (true, Some(Err(error)))
            }
        }
    }

    fn end_token(&mut self, kind: TokenKind) -> Option<Result<Value, JsonError>> {
        self.state = State::Start;
        self.parser.push(kind, &self.text);
        self.tokens += 1;
        self.token_bytes += self.text.len();
        self.forget_text();
        match kind {
            TokenKind::LeftCurly => self.curlies += 1,
            TokenKind::RightCurly => self.curlies -= 1,
            TokenKind::LeftSquare => self.squares += 1,
            TokenKind::RightSquare => self.squares -= 1,
            _ => {}
        }
        let open = self.curlies > 0 || self.squares > 0;
        if !open || self.curlies < 0 || self.squares < 0 {
            let value = self.parser.finish();
            let share = self.share.take();
            self.reset();
            self.share = share;
            return Some(value);
        }
        self.check_limits()
    }

    fn check_limits(&mut self) -> Option<Result<Value, JsonError>> {
        if self.tokens > self.limits.tokens_max {
            let most = self.limits.tokens_max;
            return self.refuse(format!("JSON token count limit exceeded: {most} at most"));
        }
        if (self.curlies + self.squares).unsigned_abs() > self.limits.nesting_max {
            return self.refuse("JSON nesting depth limit exceeded".to_owned());
        }
        self.check_token_bytes()
    }

    fn check_token_bytes(&mut self) -> Option<Result<Value, JsonError>> {
        if self.token_bytes + self.text.len() > self.limits.token_bytes_max {
            let most = self.limits.token_bytes_max;
            return self.refuse(format!("JSON token size limit exceeded: {most} bytes at most"));
        }
        self.check_share()
    }

    /// Whether there is room for what has come, besides what other clients have sent.
    fn check_share(&mut self) -> Option<Result<Value, JsonError>> {
        const STEP_BYTES: usize = 16 << 10;
        let tokens = self.tokens * Limits::TOKEN_BYTES;
        let wanted =
            (tokens + self.token_bytes + self.text.len()).saturating_sub(Limits::OWN_BYTES);
        if wanted <= self.share.bytes() || self.share.try_set(wanted.next_multiple_of(STEP_BYTES)) {
            return None;
        }
        let most = Limits::ALL_CLIENTS_BYTES >> 20;
        let text = format!("JSON input of all clients exceeds {most} MiB: send it again later");
        self.refuse(text)
    }

    fn refuse(&mut self, text: String) -> Option<Result<Value, JsonError>> {
        self.reset();
        Some(Err(JsonError(text)))
    }

    /// Forget the value that was being read.
    fn reset(&mut self) {
        self.share.set(0);
        let (text, share) = (mem::take(&mut self.text), self.share.take());
        *self = Self { text, share, ..Self::new(self.limits) };
        self.forget_text();
    }

    /// Begin a token, and give back the memory of a large one.
    fn forget_text(&mut self) {
        const KEPT_BYTES: usize = 4 << 10;
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES);
    }
}

impl Default for Framer {
    fn default() -> Self {
        Self::new(Limits::OURS)
    }
}
