//! The first bytes of a client: no browser's, and where the monitor has a token, the token.
//!
//! Knows: what HTTP and TLS begin with, and the line that tells a token. Must not know: QMP. Invariants:
//! what is decided does not depend on how the bytes were cut into pieces; before the token was told,
//! no byte gets any further than here, and no more than a line of them is kept.
//!
//! A web page can make a browser of the same machine send a request to any port of it, and the body
//! of that request may hold commands.

use std::sync::Arc;

use crate::monitor::token::{TOKEN_BYTES_MAX, Token};

/// What a client has to get past.
#[derive(Debug, Default)]
pub(super) struct Prelude {
    /// The bytes so far may yet become another language than ours.
    is_over: bool,
    /// What is still to be told.
    token: Option<Arc<Token>>,
}

/// What the input so far amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// More is needed to tell.
    Undecided,
    /// This client must go, for this reason.
    Stranger(&'static str),
    /// This client must hear why, and go.
    Denied(&'static str),
    /// The token, and a line of this length.
    Token(usize),
    /// Input for the session.
    Session,
}

const METHODS: [&[u8]; 10] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"PATCH ",
    b"DELETE ",
    b"OPTIONS ",
    b"CONNECT ",
    b"TRACE ",
    // HTTP/2.
    b"PRI ",
];

/// The first byte of a TLS handshake, which nothing else begins with.
const TLS_HANDSHAKE: u8 = 0x16;

const AUTH: &[u8] = b"AUTH ";
const LINE_BYTES_MAX: usize = AUTH.len() + TOKEN_BYTES_MAX + 2;

impl Prelude {
    pub(super) fn with(token: Option<Arc<Token>>) -> Self {
        Self { is_over: false, token }
    }

    /// Whether nothing of the client has reached the session.
    pub(super) fn is_on(&self) -> bool {
        !self.is_over || self.is_locked()
    }

    /// Whether the client has not told the token.
    pub(super) fn is_locked(&self) -> bool {
        self.token.is_some()
    }

    /// White space in front means nothing to any language, and must neither hide one nor pile up.
    pub(super) fn leading_space(&self, input: &[u8]) -> usize {
        let is_space = |byte: &&u8| b" \t\r\n".contains(byte);
        if self.is_over { 0 } else { input.iter().take_while(is_space).count() }
    }

    pub(super) fn look_at(&mut self, input: &[u8]) -> Look {
        if !self.is_over {
            match is_foreign(input) {
                Some(Some(why)) => return Look::Stranger(why),
                Some(None) => return Look::Undecided,
                None => self.is_over = true,
            }
        }
        let Some(token) = &self.token else { return Look::Session };
        let look = look_for(token, input);
        if matches!(look, Look::Token(_)) {
            self.token = None;
        }
        look
    }
}

/// The foreign language that the input begins with, if it does or may yet.
fn is_foreign(input: &[u8]) -> Option<Option<&'static str>> {
    let begins = |text: &[u8], with: &[u8]| {
        text.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with))
    };
    if input.first() == Some(&TLS_HANDSHAKE) {
        return Some(Some("it speaks TLS"));
    }
    if METHODS.iter().any(|method| begins(input, method)) {
        return Some(Some("it speaks HTTP"));
    }
    METHODS.iter().any(|method| begins(method, input)).then_some(None)
}

fn look_for(token: &Token, input: &[u8]) -> Look {
    let begun = input.len().min(AUTH.len());
    if input.get(..begun) != AUTH.get(..begun) {
        return Look::Denied("This monitor wants its token first: a line 'AUTH TOKEN'");
    }
    let Some(length) = input.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        let is_too_long = input.len() >= LINE_BYTES_MAX;
        return if is_too_long { Look::Denied(WRONG) } else { Look::Undecided };
    };
    let line = input.get(AUTH.len()..length).unwrap_or_default();
    let told = line.strip_suffix(b"\r").unwrap_or(line);
    if token.is(told) { Look::Token(length + 1) } else { Look::Denied(WRONG) }
}

const WRONG: &str = "The token is wrong: it is in the token-file of the monitor";
