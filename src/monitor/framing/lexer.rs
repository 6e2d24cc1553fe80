//! Bytes to tokens.
//!
//! Knows: which bytes make a token, and how to find firm ground after bytes that make none. Must
//! not know: what a sequence of tokens means. Invariant: the next state depends on the state and
//! one byte alone, so that how the input was cut into pieces cannot matter.

/// What a token is, as far as its first byte and its shape tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    LeftCurly,
    RightCurly,
    LeftSquare,
    RightSquare,
    Colon,
    Comma,
    /// Digits, perhaps behind a minus sign.
    Integer,
    /// A number with a fraction or an exponent.
    Float,
    /// Small letters: `true`, `false`, `null`, or a mistake that the parser names.
    Keyword,
    /// A string with its quotes, single or double, and its escapes as they came.
    String,
}

/// Where in a token the lexer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Between tokens.
    Start,
    /// After bytes that make no token: skips to the next promising place.
    Recovery,
    /// In a string, until this quote.
    Quoted { quote: u8 },
    /// In a string, behind a backslash.
    Escape { quote: u8 },
    /// Behind a minus sign.
    Sign,
    /// Behind a zero that begins a number: JSON allows no digit here.
    Zero,
    /// In the digits of an integer.
    Digits,
    /// Behind the decimal point: a digit must follow.
    Point,
    /// In the digits of a fraction.
    Fraction,
    /// Behind `e`: a sign or a digit must follow.
    Exponent,
    /// Behind the sign of an exponent: a digit must follow.
    ExponentSign,
    /// In the digits of an exponent.
    ExponentDigits,
    /// In a keyword.
    Keyword,
}

/// What one byte does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It stands between tokens.
    Skip,
    /// It goes into the token that grows, and this is the state now.
    Grow(State),
    /// It is the last byte of a token.
    Last(TokenKind),
    /// It ended a token to which it does not belong; offer it again to [`State::Start`].
    Before(TokenKind),
    /// It ends the recovery; offer it again to [`State::Start`].
    Recovered,
    /// The token with this byte is none.
    Stray,
}

impl State {
    /// What this byte does in this state.
    pub(super) fn step(self, byte: u8) -> Step {
        match self {
            Self::Start => start(byte),
            Self::Recovery if resynchronises(byte) => Step::Recovered,
            Self::Recovery => Step::Skip,
            Self::Quoted { quote } => quoted(quote, byte),
            Self::Escape { quote } => match byte {
                0x20..=0xFD => Step::Grow(Self::Quoted { quote }),
                _ => Step::Stray,
            },
            Self::Sign => match byte {
                b'0' => Step::Grow(Self::Zero),
                b'1'..=b'9' => Step::Grow(Self::Digits),
                _ => Step::Stray,
            },
            Self::Zero => match byte {
                b'.' => Step::Grow(Self::Point),
                b'0'..=b'9' => Step::Stray,
                _ => Step::Before(TokenKind::Integer),
            },
            Self::Digits => match byte {
                b'0'..=b'9' => Step::Grow(Self::Digits),
                b'.' => Step::Grow(Self::Point),
                b'e' | b'E' => Step::Grow(Self::Exponent),
                _ => Step::Before(TokenKind::Integer),
            },
            Self::Point => digit_or_stray(byte, Self::Fraction),
            Self::Fraction => match byte {
                b'0'..=b'9' => Step::Grow(Self::Fraction),
                b'e' | b'E' => Step::Grow(Self::Exponent),
                _ => Step::Before(TokenKind::Float),
            },
            Self::Exponent if matches!(byte, b'+' | b'-') => Step::Grow(Self::ExponentSign),
            Self::Exponent | Self::ExponentSign => digit_or_stray(byte, Self::ExponentDigits),
            Self::ExponentDigits => match byte {
                b'0'..=b'9' => Step::Grow(Self::ExponentDigits),
                _ => Step::Before(TokenKind::Float),
            },
            Self::Keyword => match byte {
                b'a'..=b'z' => Step::Grow(Self::Keyword),
                _ => Step::Before(TokenKind::Keyword),
            },
        }
    }
}

fn start(byte: u8) -> Step {
    match byte {
        b' ' | b'\t' | b'\r' | b'\n' => Step::Skip,
        b'{' => Step::Last(TokenKind::LeftCurly),
        b'}' => Step::Last(TokenKind::RightCurly),
        b'[' => Step::Last(TokenKind::LeftSquare),
        b']' => Step::Last(TokenKind::RightSquare),
        b':' => Step::Last(TokenKind::Colon),
        b',' => Step::Last(TokenKind::Comma),
        b'"' | b'\'' => Step::Grow(State::Quoted { quote: byte }),
        b'-' => Step::Grow(State::Sign),
        b'0' => Step::Grow(State::Zero),
        b'1'..=b'9' => Step::Grow(State::Digits),
        b'a'..=b'z' => Step::Grow(State::Keyword),
        _ => Step::Stray,
    }
}

fn quoted(quote: u8, byte: u8) -> Step {
    match byte {
        b'\\' => Step::Grow(State::Escape { quote }),
        _ if byte == quote => Step::Last(TokenKind::String),
        0x20..=0xFD => Step::Grow(State::Quoted { quote }),
        _ => Step::Stray,
    }
}

fn digit_or_stray(byte: u8, next: State) -> Step {
    if byte.is_ascii_digit() { Step::Grow(next) } else { Step::Stray }
}

/// Whether the recovery ends before this byte: at structure, at the end of a line, and at the control
/// characters and the bytes that UTF-8 never has, with which clients force it on purpose
/// (docs/interop/qmp-spec.txt of QEMU).
fn resynchronises(byte: u8) -> bool {
    match byte {
        b'\t' => false,
        b'{' | b'}' | b'[' | b']' | b':' | b',' => true,
        _ => !(0x20..0xFE).contains(&byte),
    }
}
