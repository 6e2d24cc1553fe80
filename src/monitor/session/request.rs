//! The shape of a command (`qmp_dispatch_check_obj` of QEMU), and the arguments of the one command
//! that is the session's own.
//!
//! Knows: the members a command may have, and QEMU's texts for those it may not. Must not know: the
//! state of the session.

use serde_json::{Map, Value};

use crate::monitor::message;
use crate::qapi::QmpError;

/// A well-formed command.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) name: String,
    pub(super) arguments: Map<String, Value>,
}

/// Bytes on the wire that an id may have, which every answer repeats.
const ID_BYTES_MAX: usize = 64 << 10;

/// Whether this asks to overtake (`qmp_is_oob`).
pub(super) fn is_oob(value: &Value) -> bool {
    value.get("exec-oob").is_some() && value.get("execute").is_none()
}

/// The id to answer with, and the command or what is wrong with it.
pub(super) fn read(value: Value, oob_enabled: bool) -> (Option<Value>, Result<Request, QmpError>) {
    let Value::Object(mut members) = value else {
        return (None, Err(QmpError::generic("QMP input must be a JSON object")));
    };
    let id = members.shift_remove("id");
    if id.as_ref().is_some_and(|id| !message::fits(id, ID_BYTES_MAX)) {
        let text = format!("takes more than {ID_BYTES_MAX} bytes to repeat");
        return (None, Err(wrong("id", &text)));
    }
    (id, read_members(members, oob_enabled))
}

fn read_members(members: Map<String, Value>, oob_enabled: bool) -> Result<Request, QmpError> {
    let mut name = None;
    let mut arguments = Map::new();
    for (member, value) in members {
        match (member.as_str(), value) {
            ("execute", Value::String(value)) => set_name(&mut name, value)?,
            ("exec-oob", Value::String(value)) if oob_enabled => set_name(&mut name, value)?,
            ("execute", _) => return Err(wrong(&member, "must be a string")),
            ("exec-oob", _) if oob_enabled => return Err(wrong(&member, "must be a string")),
            ("arguments", Value::Object(value)) => arguments = value,
            ("arguments", _) => return Err(wrong(&member, "must be an object")),
            _ => return Err(wrong(&member, "is unexpected")),
        }
    }
    let name = name.ok_or_else(|| QmpError::generic("QMP input lacks member 'execute'"))?;
    Ok(Request { name, arguments })
}

fn set_name(name: &mut Option<String>, value: String) -> Result<(), QmpError> {
    match name.replace(value) {
        None => Ok(()),
        Some(_) => Err(wrong("execute", "clashes with 'exec-oob'")),
    }
}

fn wrong(member: &str, how: &str) -> QmpError {
    QmpError::generic(format!("QMP input member '{member}' {how}"))
}

/// What a client may switch on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) oob: bool,
}

/// Read the arguments of `qmp_capabilities`.
pub(super) fn enabled_capabilities(
    arguments: &Map<String, Value>,
) -> Result<Capabilities, QmpError> {
    let mut capabilities = Capabilities::default();
    for (index, capability) in array_argument(arguments, "enable")?.iter().enumerate() {
        match capability.as_str() {
            Some("oob") => capabilities.oob = true,
            Some(other) => {
                return Err(QmpError::generic(format!(
                    "Parameter 'enable[{index}]' does not accept value '{other}'"
                )));
            }
            None => return Err(wrong_type(&format!("enable[{index}]"), "string")),
        }
    }
    if let Some(unexpected) = arguments.keys().find(|name| *name != "enable") {
        return Err(QmpError::generic(format!("Parameter '{unexpected}' is unexpected")));
    }
    Ok(capabilities)
}

fn array_argument<'a>(
    arguments: &'a Map<String, Value>,
    name: &str,
) -> Result<&'a [Value], QmpError> {
    match arguments.get(name) {
        None => Ok(&[]),
        Some(Value::Array(elements)) => Ok(elements),
        Some(_) => Err(wrong_type(name, "array")),
    }
}

fn wrong_type(name: &str, expected: &str) -> QmpError {
    QmpError::generic(format!("Invalid parameter type for '{name}', expected: {expected}"))
}
