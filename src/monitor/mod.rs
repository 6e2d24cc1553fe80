//! THE OPERATOR'S DOOR: a QMP server, as QEMU's.
//!
//! Knows: the protocol, from a byte on a socket to a command with a name, and back. Must not know:
//! what commands there are or do; an [`Executor`] does. Invariant: whatever clients send, fail to
//! read or leave unsaid, the daemon answers the others and serves its disks.
//!
//! ```text
//! bytes -> framing -> session -> Call -> Executor -> Reply -> outbox -> message -> bytes
//! ```
//!
//! Two threads: one for all sockets (`server`), which runs out-of-band commands too, and one that
//! runs the in-band commands of all clients, one at a time. A client that goes away has the command
//! finished that was begun, and the ones that were not begun are dropped, as in QEMU. A client that
//! only stops sending (`shutdown(SHUT_WR)`) gets all its answers.

mod address;
mod budget;
mod connection;
pub mod framing;
mod listener;
pub mod message;
mod outbox;
mod server;
pub mod session;
mod threads;
mod throttle;
mod token;

use serde_json::{Map, Value};

pub use crate::qapi::CommandSpec;

pub use address::{Address, BadAddress};
pub use listener::MonitorError;
pub use outbox::{AnswerFirst, EventSink, Listener, Reply};
pub use threads::{Monitors, OpenMonitors};
pub use token::{Token, TokenError};

/// Runs commands.
pub trait Executor: Send + Sync + 'static {
    /// The version object of the greeting.
    fn version(&self) -> Value;

    /// The command with this name, if there is one. `qmp_capabilities` is the session's own and is
    /// not asked for.
    fn lookup(&self, name: &str) -> Option<CommandSpec>;

    /// Run a command that [`Executor::lookup`] knows. `reply` may be kept and answered later; the
    /// client's next in-band command waits for it, other clients do not.
    fn execute(&self, name: &str, arguments: Map<String, Value>, reply: Reply);
}
