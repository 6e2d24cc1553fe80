//! QMP errors: a class from QEMU's closed list and a text.

use std::fmt;

/// The error classes of QMP (`QapiErrorClass` in QEMU's qapi/error.json).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Everything that has no class of its own.
    GenericError,
    /// The command does not exist, or not in this phase of the session.
    CommandNotFound,
    /// A device is not active.
    DeviceNotActive,
    /// A device does not exist.
    DeviceNotFound,
}

impl ErrorClass {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GenericError => "GenericError",
            Self::CommandNotFound => "CommandNotFound",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::DeviceNotFound => "DeviceNotFound",
        }
    }
}

/// An error as a QMP client sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{desc}")]
pub struct QmpError {
    /// Its class.
    pub class: ErrorClass,
    /// What was wrong with which argument, and what would be accepted.
    pub desc: String,
}

impl QmpError {
    /// An error of this class.
    pub fn new(class: ErrorClass, desc: impl fmt::Display) -> Self {
        Self { class, desc: desc.to_string() }
    }

    /// An error of class `GenericError`.
    pub fn generic(desc: impl fmt::Display) -> Self {
        Self::new(ErrorClass::GenericError, desc)
    }

    /// The error for a command that does not exist.
    pub fn command_not_found(name: &str) -> Self {
        let desc = format_args!("The command {name} has not been found");
        Self::new(ErrorClass::CommandNotFound, desc)
    }

    /// An error of class `DeviceNotFound`.
    pub fn device_not_found(desc: impl fmt::Display) -> Self {
        Self::new(ErrorClass::DeviceNotFound, desc)
    }
}
