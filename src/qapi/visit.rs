//! From JSON to types and back, as strict as QEMU.
//!
//! Knows: which JSON value is which built-in type, and the error texts of QEMU's input visitor
//! (`qapi/qobject-input-visitor.c`, `qapi/qapi-visit-core.c`, checked against QEMU 7.2). Must not
//! know: the schema (`types` is made from it). Invariant: nothing in a value is ignored: what no
//! type asked for is an error.

use super::{Path, QmpError};
use serde_json::{Map, Value};

/// A type of the schema.
pub trait Visit: Sized {
    /// Reads a value; `at` names it in errors.
    ///
    /// # Errors
    /// The value is not of this type; the text is QEMU's.
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError>;

    /// Writes a value that [`Visit::parse`] reads.
    fn to_value(&self) -> Value;
}

/// A type that is a JSON object with known members.
pub trait Object: Sized {
    /// Takes this type's members and leaves the others.
    ///
    /// # Errors
    /// A member is missing or is not of its type.
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError>;

    /// Adds this type's members.
    fn add_to(&self, object: &mut Map<String, Value>);
}

impl<T: Object> Visit for T {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        match value {
            Value::Object(map) => parse_object(map, at),
            _ => Err(wrong_type(at, "object")),
        }
    }

    fn to_value(&self) -> Value {
        let mut object = Map::new();
        self.add_to(&mut object);
        Value::Object(object)
    }
}

fn parse_object<T: Object>(map: Map<String, Value>, at: &Path<'_>) -> Result<T, QmpError> {
    let mut members = Members { map, at };
    let parsed = T::take_from(&mut members)?;
    members.end()?;
    Ok(parsed)
}

/// Reads the arguments of a command, or the data of an event.
pub(super) fn arguments<T: Object>(arguments: Map<String, Value>) -> Result<T, QmpError> {
    parse_object(arguments, &Path::ROOT)
}

/// Refuses arguments of a command that has none.
pub(super) fn no_arguments(arguments: Map<String, Value>) -> Result<(), QmpError> {
    Members { map: arguments, at: &Path::ROOT }.end()
}

/// Members of an object that nobody has taken yet.
#[derive(Debug)]
pub struct Members<'a> {
    map: Map<String, Value>,
    at: &'a Path<'a>,
}

impl Members<'_> {
    /// Takes a member that must be there.
    ///
    /// # Errors
    /// It is missing or is not of its type.
    pub fn required<T: Visit>(&mut self, name: &str) -> Result<T, QmpError> {
        let at = self.at.member(name)?;
        match self.map.shift_remove(name) {
            Some(value) => T::parse(value, &at),
            None => Err(QmpError::generic(format_args!("Parameter '{at}' is missing"))),
        }
    }

    /// Takes a member that may be there.  `null` is a value, not an absence.
    ///
    /// # Errors
    /// It is not of its type.
    pub fn optional<T: Visit>(&mut self, name: &str) -> Result<Option<T>, QmpError> {
        let at = self.at.member(name)?;
        self.map.shift_remove(name).map(|value| T::parse(value, &at)).transpose()
    }

    /// Refuses what was not taken.
    fn end(self) -> Result<(), QmpError> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => {
                let at = self.at.member(name)?;
                Err(QmpError::generic(format_args!("Parameter '{at}' is unexpected")))
            }
        }
    }
}

/// Adds a member that is always there.
pub(super) fn add<T: Visit>(object: &mut Map<String, Value>, name: &str, value: &T) {
    object.insert(name.to_owned(), value.to_value());
}

/// Adds a member, if it is there.
pub(super) fn add_optional<T: Visit>(
    object: &mut Map<String, Value>,
    name: &str,
    value: Option<&T>,
) {
    if let Some(value) = value {
        add(object, name, value);
    }
}

/// Reads a value of an enumeration with these members.
pub(super) fn parse_enum<T: Copy>(
    value: Value,
    at: &Path<'_>,
    all: &[T],
    as_str: impl Fn(T) -> &'static str,
) -> Result<T, QmpError> {
    let text = String::parse(value, at)?;
    all.iter().copied().find(|member| as_str(*member) == text).ok_or_else(|| {
        let name = at.last();
        QmpError::generic(format_args!("Parameter '{name}' does not accept value '{text}'"))
    })
}

/// The same for an enumeration that QEMU has not, which says where the value is and what it may be.
pub(super) fn parse_own_enum<T: Copy>(
    value: Value,
    at: &Path<'_>,
    all: &[T],
    as_str: impl Fn(T) -> &'static str,
) -> Result<T, QmpError> {
    let words: Vec<&str> = all.iter().map(|member| as_str(*member)).collect();
    let text = match &value {
        Value::String(text) => text.clone(),
        _ => String::new(),
    };
    parse_enum(value, at, all, as_str).map_err(|error| {
        if text.is_empty() {
            return error;
        }
        QmpError::generic(format_args!("{error} (at '{at}'; it takes {})", words.join(", ")))
    })
}

/// The error for a value that is of no type of the alternate `expected`.
pub(super) fn no_alternative(at: &Path<'_>, expected: &str) -> QmpError {
    wrong_type(at.last(), expected)
}

fn wrong_type(name: impl std::fmt::Display, expected: &str) -> QmpError {
    QmpError::generic(format_args!("Invalid parameter type for '{name}', expected: {expected}"))
}

fn out_of_range(name: impl std::fmt::Display, expected: &str) -> QmpError {
    QmpError::generic(format_args!("Parameter '{name}' expects {expected}"))
}

impl Visit for String {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        match value {
            Value::String(text) => Ok(text),
            _ => Err(wrong_type(at, "string")),
        }
    }

    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }
}

impl Visit for bool {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        value.as_bool().ok_or_else(|| wrong_type(at, "boolean"))
    }

    fn to_value(&self) -> Value {
        Value::from(*self)
    }
}

impl Visit for f64 {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        value.as_f64().ok_or_else(|| wrong_type(at, "number"))
    }

    /// JSON has no infinities and no NaN: they become `null`.
    fn to_value(&self) -> Value {
        Value::from(*self)
    }
}

impl Visit for i64 {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        value.as_i64().ok_or_else(|| wrong_type(at, "integer"))
    }

    fn to_value(&self) -> Value {
        Value::from(*self)
    }
}

impl Visit for u64 {
    /// QEMU takes a negative number for a huge one (two's complement); this refuses it.
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        value.as_u64().ok_or_else(|| out_of_range(at, "uint64"))
    }

    fn to_value(&self) -> Value {
        Value::from(*self)
    }
}

impl Visit for u16 {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        let whole = value.is_i64() || value.is_u64();
        if !whole {
            return Err(out_of_range(at, "uint64"));
        }
        let narrow = value.as_u64().and_then(|wide| Self::try_from(wide).ok());
        narrow.ok_or_else(|| out_of_range(at.last(), "uint16_t"))
    }

    fn to_value(&self) -> Value {
        Value::from(*self)
    }
}

impl Visit for Value {
    fn parse(value: Value, _at: &Path<'_>) -> Result<Self, QmpError> {
        Ok(value)
    }

    fn to_value(&self) -> Value {
        self.clone()
    }
}

impl<T: Visit> Visit for Vec<T> {
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {
        let Value::Array(elements) = value else {
            return Err(wrong_type(at, "array"));
        };
        let parsed = elements.into_iter().enumerate();
        parsed.map(|(index, element)| T::parse(element, &at.element(index)?)).collect()
    }

    fn to_value(&self) -> Value {
        self.iter().map(Visit::to_value).collect()
    }
}
