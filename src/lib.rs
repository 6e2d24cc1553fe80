//! A disk that fails on command.

pub mod block;
pub mod client;
pub mod errno;
pub mod export;
pub mod fault;
pub mod monitor;
pub mod qapi;
pub mod socket_path;
mod stream;
