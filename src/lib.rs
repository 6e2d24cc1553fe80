//! A disk that fails on command.

pub mod block;
pub mod errno;
pub mod export;
pub mod fault;
pub mod qapi;
pub mod size;
