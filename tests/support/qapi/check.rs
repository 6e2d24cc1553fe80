//! What makes a schema valid beyond its grammar.
//!
//! Knows: the dialect's rules about names and about types that go together. Must not know: output.

use super::SchemaError;
use super::model::{Arguments, Branch, Entity, Kind, Member, Schema, Type};
use std::collections::BTreeSet;

/// A type that needs no definition.
pub(crate) struct Builtin {
    /// Its name in the schema.
    pub(crate) name: &'static str,
    /// What it is in Rust.
    pub(crate) rust: &'static str,
    /// What it is on the wire (`JSONType`).
    pub(crate) json: &'static str,
}

/// The built-in types of the dialect that have a counterpart in Rust.
pub(crate) const BUILTINS: &[Builtin] = &[
    Builtin { name: "str", rust: "String", json: "string" },
    Builtin { name: "bool", rust: "bool", json: "boolean" },
    Builtin { name: "number", rust: "f64", json: "number" },
    Builtin { name: "int", rust: "i64", json: "int" },
    Builtin { name: "uint16", rust: "u16", json: "int" },
    Builtin { name: "uint64", rust: "u64", json: "int" },
    Builtin { name: "size", rust: "u64", json: "int" },
    Builtin { name: "any", rust: "Value", json: "value" },
];

/// The built-in type of this name.
pub(crate) fn builtin(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|builtin| builtin.name == name)
}

/// Checks everything.
pub(crate) fn all(schema: &Schema) -> Result<(), SchemaError> {
    for entity in &schema.entities {
        entity_name(schema, entity)?;
        match &entity.kind {
            Kind::Enum(values) => {
                let names = values.iter().map(|value| value.name.as_str());
                unique(entity, names.clone())?;
                names.into_iter().try_for_each(|name| member_name(schema, entity, name))?;
            }
            Kind::Struct(own) => members(schema, entity, own)?,
            Kind::Union { base, tag, branches } => {
                members(schema, entity, base)?;
                union(schema, entity, base, tag, branches)?;
            }
            Kind::Alternate(branches) => alternate(schema, entity, branches)?,
            Kind::Command { arguments: data, returns, .. } => {
                arguments(schema, entity, data.as_ref())?;
                reply(schema, entity, returns.as_ref())?;
            }
            Kind::Event(data) => arguments(schema, entity, data.as_ref())?,
        }
        if contains(schema, &entity.name, &entity.name, &mut BTreeSet::new()) {
            let message = "contains itself; only an alternate or a list may lead back";
            return Err(entity.place.error(format!("'{}' {message}", entity.name)));
        }
    }
    Ok(())
}

fn entity_name(schema: &Schema, entity: &Entity) -> Result<(), SchemaError> {
    let name = entity.name.as_str();
    let (good, rule) = match entity.kind {
        Kind::Command { .. } => (
            is_word(name, |c| c.is_ascii_lowercase() || c == '-')
                || schema.pragma.command_names.contains(name),
            "small letters, digits and '-'",
        ),
        Kind::Event(_) => (
            is_word(name, |c| c.is_ascii_uppercase() || c == '_'),
            "capital letters, digits and '_'",
        ),
        _ => (
            builtin(name).is_none()
                && name.starts_with(|c: char| c.is_ascii_uppercase())
                && is_word(name, |c| c.is_ascii_alphabetic()),
            "CamelCase",
        ),
    };
    if good { Ok(()) } else { Err(entity.place.error(format!("'{name}' is not in {rule}"))) }
}

fn is_word(name: &str, letter: impl Fn(char) -> bool) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn member_name(schema: &Schema, entity: &Entity, name: &str) -> Result<(), SchemaError> {
    let excepted = schema.pragma.member_names.contains(&entity.name);
    let letter = |c: char| c.is_ascii_lowercase() || c == '-' || (excepted && c == '_');
    if is_word(name, letter) {
        return Ok(());
    }
    let rule = "not in small letters, digits and '-'";
    Err(entity.place.error(format!("'{name}' of '{}' is {rule}", entity.name)))
}

fn unique<'a>(entity: &Entity, names: impl Iterator<Item = &'a str>) -> Result<(), SchemaError> {
    let mut seen = BTreeSet::new();
    for name in names {
        // QEMU's C and Rust both write '-' as '_'.
        if !seen.insert(name.replace('-', "_")) {
            return Err(entity.place.error(format!("'{name}' is in '{}' twice", entity.name)));
        }
    }
    Ok(())
}

fn members(schema: &Schema, entity: &Entity, members: &[Member]) -> Result<(), SchemaError> {
    unique(entity, members.iter().map(|member| member.name.as_str()))?;
    for member in members {
        member_name(schema, entity, &member.name)?;
        let of = member.of.name();
        if builtin(of).is_none() && !schema.get(of).is_some_and(is_type) {
            return Err(member.place.error(format!("there is no type '{of}'")));
        }
    }
    Ok(())
}

fn is_type(entity: &Entity) -> bool {
    !matches!(entity.kind, Kind::Command { .. } | Kind::Event(_))
}

fn union(
    schema: &Schema,
    entity: &Entity,
    base: &[Member],
    tag: &str,
    branches: &[Branch],
) -> Result<(), SchemaError> {
    let member = base.iter().find(|member| member.name == tag && !member.optional);
    let values = match member.map(|member| &member.of) {
        Some(Type::Named(of)) => schema.get(of).map(|of| &of.kind),
        _ => None,
    };
    let Some(Kind::Enum(values)) = values else {
        return Err(entity.place.error(format!("'{tag}' is no mandatory enum of the base")));
    };
    for value in values {
        if !branches.iter().any(|branch| branch.name == value.name) {
            return Err(entity.place.error(format!("no branch for '{}'", value.name)));
        }
    }
    for branch in branches {
        if !values.iter().any(|value| value.name == branch.name) {
            return Err(branch.place.error(format!("'{tag}' is never '{}'", branch.name)));
        }
        let Some(Kind::Struct(own)) = schema.get(&branch.of).map(|of| &of.kind) else {
            return Err(branch.place.error(format!("there is no struct '{}'", branch.of)));
        };
        unique(entity, base.iter().chain(own).map(|member| member.name.as_str()))?;
    }
    Ok(())
}

/// What a type is on the wire; `None` for what no alternate may hold.
pub(crate) fn json_type(schema: &Schema, name: &str) -> Option<&'static str> {
    match schema.get(name).map(|entity| &entity.kind) {
        Some(Kind::Enum(_)) => Some("string"),
        Some(Kind::Struct(_) | Kind::Union { .. }) => Some("object"),
        Some(_) => None,
        None => builtin(name).map(|builtin| builtin.json).filter(|json| *json != "value"),
    }
}

fn alternate(schema: &Schema, entity: &Entity, branches: &[Branch]) -> Result<(), SchemaError> {
    let mut seen = BTreeSet::new();
    for branch in branches {
        member_name(schema, entity, &branch.name)?;
        let Some(json) = json_type(schema, &branch.of) else {
            return Err(branch.place.error(format!("'{}' cannot be told apart", branch.of)));
        };
        let json = if json == "int" { "number" } else { json };
        if !seen.insert(json) {
            return Err(branch.place.error(format!("another branch is a JSON {json}, too")));
        }
    }
    Ok(())
}

fn arguments(
    schema: &Schema,
    entity: &Entity,
    arguments: Option<&Arguments>,
) -> Result<(), SchemaError> {
    match arguments {
        None => Ok(()),
        Some(Arguments::Own(own)) => members(schema, entity, own),
        Some(Arguments::Named(name)) => match json_type(schema, name) {
            Some("object") => Ok(()),
            _ => Err(entity.place.error(format!("there is no struct or union '{name}'"))),
        },
    }
}

fn reply(schema: &Schema, entity: &Entity, returns: Option<&Type>) -> Result<(), SchemaError> {
    let Some(of) = returns else { return Ok(()) };
    let known = builtin(of.name()).is_some() || schema.get(of.name()).is_some_and(is_type);
    if !known {
        return Err(entity.place.error(format!("there is no type '{}'", of.name())));
    }
    let extensible = json_type(schema, of.name()) == Some("object");
    if extensible || schema.pragma.command_returns.contains(&entity.name) {
        return Ok(());
    }
    Err(entity.place.error("a reply that is no object, nor a list of them, cannot grow"))
}

/// Whether a value of type `outer` holds a value of type `inner` in itself, with no alternate or
/// list in between; only these are boxes in Rust.
fn contains<'a>(
    schema: &'a Schema,
    outer: &'a str,
    inner: &str,
    seen: &mut BTreeSet<&'a str>,
) -> bool {
    let parts = match schema.get(outer).map(|entity| &entity.kind) {
        Some(Kind::Struct(members)) => plain(members),
        Some(Kind::Union { base, branches, .. }) => {
            let mut parts = plain(base);
            parts.extend(branches.iter().map(|branch| branch.of.as_str()));
            parts
        }
        _ => return false,
    };
    parts
        .into_iter()
        .any(|part| part == inner || (seen.insert(part) && contains(schema, part, inner, seen)))
}

fn plain(members: &[Member]) -> Vec<&str> {
    let plain = members.iter().filter_map(|member| match &member.of {
        Type::Named(of) => Some(of.as_str()),
        Type::ListOf(_) => None,
    });
    plain.collect()
}
