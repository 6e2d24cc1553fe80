//! How long to wait.

use std::time::{Duration, Instant};

use super::ClientError;

/// The moment at which a client gives up, if it ever does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Wait for ever.
    pub const NEVER: Self = Self(None);

    /// Give up after this time. A time that no clock can tell is for ever.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(Instant::now().checked_add(time))
    }

    /// The time that is left; `None` if there is no end to it.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`] if none is left.
    pub fn left(self) -> Result<Option<Duration>, ClientError> {
        let Some(end) = self.0 else { return Ok(None) };
        // Sockets take a timeout below one microsecond for none at all.
        match end.saturating_duration_since(Instant::now()) {
            left if left < Duration::from_micros(1) => Err(ClientError::TimedOut),
            left => Ok(Some(left)),
        }
    }
}
