//! What a client must know before it may command the daemon.
//!
//! Knows: the file that holds it, for both ends. Must not know: how it is told. Invariants: a token is
//! never printed; how long a comparison takes tells nothing of the token but its length.

use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The length of a token in bytes.
const TOKEN_BYTES_MIN: usize = 16;
pub(super) const TOKEN_BYTES_MAX: usize = 1024;

/// A secret that operators share with the daemon.
pub struct Token(Vec<u8>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Why a file holds no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The host refuses.
    #[error("cannot be read: {0}")]
    Host(#[from] io::Error),
    /// It may be a FIFO or a device.
    #[error("is no regular file")]
    NotAFile,
    /// It is no secret.
    #[error("can be used by others than its owner (mode {0:04o}): chmod 600 makes it a secret")]
    NotSecret(u32),
    /// It is empty, too short to be a secret, or many lines.
    #[error(
        "holds no token: one line of {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} letters, digits and signs, \
         without spaces, is accepted; 'openssl rand -hex 32' makes one"
    )]
    NoToken,
}

impl Token {
    /// The token in a file, which nobody but its owner may use.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(TokenError::NotAFile);
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TokenError::NotSecret(mode));
        }
        let mut content = Vec::new();
        // Enough to see that it is too long.
        file.take(TOKEN_BYTES_MAX as u64 + 3).read_to_end(&mut content)?;
        Self::new(&content)
    }

    /// The token in a file with this content.
    pub(super) fn new(content: &[u8]) -> Result<Self, TokenError> {
        let line = content.strip_suffix(b"\n").unwrap_or(content);
        let token = line.strip_suffix(b"\r").unwrap_or(line);
        let fits = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len());
        if !fits || !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::NoToken);
        }
        Ok(Self(token.to_owned()))
    }

    /// Whether this is the token.
    #[must_use]
    pub fn is(&self, told: &[u8]) -> bool {
        let pairs = self.0.iter().zip(told.iter().chain(std::iter::repeat(&0)));
        let difference = pairs.fold(0, |sum, (own, told)| black_box(sum | (own ^ told)));
        (self.0.len() == told.len()) & (difference == 0)
    }

    /// The line that tells it.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        [b"AUTH ", self.0.as_slice(), b"\r\n"].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    const TEXT: &[u8] = b"0123456789abcdef";

    #[test]
    fn a_token_is_one_line_of_a_file_that_is_its_owners_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for end in ["", "\n", "\r\n"] {
            write(file.path(), [TEXT, end.as_bytes()].concat()).unwrap();
            let token = Token::read(file.path()).unwrap();
            assert!(token.is(TEXT));
            assert_eq!(token.line(), b"AUTH 0123456789abcdef\r\n");
            assert_eq!(format!("{token:?}"), "Token");
        }
        for mode in [0o640, 0o604, 0o610, 0o602] {
            set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            let error = Token::read(file.path()).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{mode:o}: {error}");
        }
        let error = Token::read(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(error, TokenError::NotAFile), "{error}");
        assert!(matches!(Token::read(Path::new("/no/such")), Err(TokenError::Host(_))));
    }

    #[test]
    fn what_is_no_secret_is_no_token() {
        let long = [b'a'; TOKEN_BYTES_MAX + 1];
        let cases: [&[u8]; 7] = [
            b"",
            b"\n",
            b"too-short",
            b"two words of sixteen",
            b"0123456789abcdef\n\n",
            b"0123456789abcd\xc3\xa9",
            &long,
        ];
        for content in cases {
            let error = Token::new(content).unwrap_err().to_string();
            assert!(error.contains("16 to 1024"), "{error}");
        }
        Token::new(&long[1..]).unwrap();
    }

    #[test]
    fn another_text_is_not_the_token() {
        let token = Token::new(TEXT).unwrap();
        let cases: [&[u8]; 6] = [
            b"",
            b"0",
            b"0123456789abcde",
            b"0123456789abcdeg",
            b"0123456789abcdef0",
            b"0123456789abcdef\0",
        ];
        for told in cases {
            assert!(!token.is(told), "{told:?}");
        }
    }
}
