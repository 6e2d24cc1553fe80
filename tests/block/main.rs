//! Images: one body for all of them, and what each must survive on its own.

mod arms;
mod conformance;
mod driver;
mod flush;
mod host;
mod life;
mod locks;
mod opening;
mod space;
