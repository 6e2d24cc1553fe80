//! Why a verb was not done, and the exit status that tells it.
//!
//! Knows: the exit status of each outcome. Must not know: verbs. Invariant: the numbers of [`Status`]
//! are a promise to scripts.

use std::io;

use super::ClientError;
use super::cli::MONITOR_VARIABLE;
use crate::monitor::BadAddress;

/// What became of a command line; the number is the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    /// Done.
    Done = 0,
    /// The daemon refused, or the output could not be written.
    Refused = 1,
    /// The command line is wrong; nothing was sent.
    Usage = 2,
    /// Nobody answers, or nobody any more.
    NoDaemon = 3,
    /// The time was over.
    TimedOut = 4,
}

/// Why a verb was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    #[error("which monitor? Say --monitor unix:PATH or set BLKFAULT_MONITOR")]
    NoMonitor,
    #[error("the environment variable {MONITOR_VARIABLE}: {0}")]
    BadVariable(BadAddress),
    #[error("there is no disk '{0}'")]
    NoDisk(String),
    #[error("timed out: {0}")]
    NotReady(ClientError),
    #[error("timed out: the daemon took the command and has not ended yet")]
    NotEnded,
    #[error("timed out: {0}")]
    NobodyCame(String),
    #[error("{0}: {1}")]
    BadFile(String, String),
    /// What was asked for has no words here.
    #[error("{0}")]
    CannotSay(String),
    /// Something was mistyped, and this may have been meant.
    #[error("{0}: did you mean '{1}'?")]
    Mistyped(String, String),
    /// The reply was printed and is an error.
    #[error("the daemon refused")]
    RefusedAndTold,
}

impl Failure {
    pub(super) fn status(&self) -> Status {
        match self {
            // `blkfault events | head -1` is done when head has enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Status::Done,
            Self::Output(_) | Self::NoDisk(_) | Self::RefusedAndTold | Self::Mistyped(..) => {
                Status::Refused
            }
            Self::NoMonitor | Self::BadVariable(_) | Self::BadFile(..) | Self::CannotSay(_) => {
                Status::Usage
            }
            Self::NotReady(_) | Self::NotEnded | Self::NobodyCame(_) => Status::TimedOut,
            Self::Client(error) => match error {
                ClientError::Refused { .. } => Status::Refused,
                ClientError::TimedOut | ClientError::NoGreeting(_) => Status::TimedOut,
                ClientError::Unreachable { .. }
                | ClientError::Gone
                | ClientError::Broken(_)
                | ClientError::NotQmp(_) => Status::NoDaemon,
            },
        }
    }

    /// What to tell people; `None` if they know.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Self::RefusedAndTold => None,
            _ => Some(self.to_string()),
        }
    }
}
