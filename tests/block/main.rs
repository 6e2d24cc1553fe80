//! Images: one body for all of them, and what each must survive on its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "what cannot happen fails the test, and content is made of truncated numbers"
)]

mod arms;
mod conformance;
mod driver;
mod flush;
mod host;
mod life;
mod locks;
mod opening;
mod resizing;
mod space;
