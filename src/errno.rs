//! The one error type that travels from the image to the status byte.
//!
//! Knows: host error numbers and their names. Must not know: virtio status bytes (`export::request`
//! maps them) or QMP errors. Invariant: an [`Errno`] is never zero, so `Result<(), Errno>` has no
//! third meaning.

use std::fmt;
use std::io;
use std::num::NonZeroI32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::nearest::nearest;

/// A host error number, 1 to 4095, as in `errno(3)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Errno(NonZeroI32);

/// Largest error number that the kernel returns (`MAX_ERRNO` in `include/linux/err.h`).
const ERRNO_MAX: i32 = 4095;

macro_rules! errnos {
    ($($name:ident)*) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "` of the host.")]
            pub const $name: Self = Self(NonZeroI32::new(libc::$name).unwrap());)*
        }
        /// Names by which an operator may write an error number, in the order of `errno(3)`.
        const NAMES: &[(&str, Errno)] = &[$((stringify!($name), Errno::$name)),*];
    };
}

errnos! {
    EPERM ENOENT EINTR EIO ENXIO EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST ENODEV ENOTDIR
    EISDIR EINVAL EMFILE EFBIG ENOSPC ESPIPE EROFS EPIPE ERANGE ENODATA ETIME EREMOTEIO EPROTO
    EOVERFLOW EILSEQ EOPNOTSUPP ETIMEDOUT ESTALE EDQUOT ENOMEDIUM ECANCELED ESHUTDOWN
}

impl Errno {
    /// The error with this number; `None` outside 1 to 4095.
    #[must_use]
    pub fn new(number: i64) -> Option<Self> {
        let number = i32::try_from(number).ok()?;
        if !(1..=ERRNO_MAX).contains(&number) {
            return None;
        }
        NonZeroI32::new(number).map(Self)
    }

    /// The error of a failed system call; `EIO` where the error carries no number.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Self {
        error.raw_os_error().and_then(|n| Self::new(i64::from(n))).unwrap_or(Self::EIO)
    }

    /// The number, 1 to 4095.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0.get()
    }

    /// The symbolic name, where this daemon knows one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(_, errno)| *errno == self).map(|(name, _)| *name)
    }

    /// Every name that [`FromStr`] accepts, for help texts.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// The error as the standard library knows it, for its text.
    #[must_use]
    pub fn to_io(self) -> io::Error {
        io::Error::from_raw_os_error(self.number())
    }
}

/// Why a text is not an error number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadErrno(String);

impl std::error::Error for BadErrno {}

impl fmt::Display for BadErrno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        write!(f, "'{text}' is not an error: ")?;
        if let Some(meant) = nearest(text, Errno::names()) {
            write!(f, "did you mean {meant}? Accepted is ")?;
        }
        write!(f, "a name such as EIO or ENOSPC, or a number from 1 to {ERRNO_MAX}")
    }
}

impl FromStr for Errno {
    type Err = BadErrno;

    /// Accepts a name in any case (`EIO`) or a decimal number (`5`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let by_name = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        by_name
            .map(|(_, errno)| *errno)
            .or_else(|| text.parse().ok().and_then(Self::new))
            .ok_or_else(|| BadErrno(text.to_owned()))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.number()),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<i32> for Errno {
    type Error = String;

    fn try_from(number: i32) -> Result<Self, String> {
        Self::new(number.into()).ok_or_else(|| format!("{number} is no error number"))
    }
}

impl From<Errno> for i32 {
    fn from(errno: Errno) -> Self {
        errno.number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_a_number_is_read_and_nothing_else() {
        assert_eq!("eio".parse(), Ok(Errno::EIO));
        assert_eq!("28".parse(), Ok(Errno::ENOSPC));
        for bad in ["", "0", "-5", "4096", "EWHAT", "5 "] {
            assert!(bad.parse::<Errno>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_mistyped_name_gets_the_nearest_right_one() {
        let error = "ENOSPCE".parse::<Errno>().unwrap_err().to_string();
        assert!(error.contains("did you mean ENOSPC?"), "{error}");
        let error = "zzz".parse::<Errno>().unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn an_error_without_a_number_is_eio() {
        assert_eq!(Errno::from_io(&io::Error::other("x")), Errno::EIO);
        assert_eq!(Errno::from_io(&io::Error::from_raw_os_error(libc::ENOSPC)), Errno::ENOSPC);
    }
}
