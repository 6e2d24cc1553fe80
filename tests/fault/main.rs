//! The fault engine against things that were made without it: a naive model of blkdebug, QEMU's
//! own blkdebug, a scan over all rules, and itself.

mod model;
mod qemu;
mod rules;
mod script;
