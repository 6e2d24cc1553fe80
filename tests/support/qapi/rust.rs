//! Renders `src/qapi/types.rs`.
//!
//! Knows: what each part of a schema is in Rust. Must not know: how JSON is read or written
//! (`src/qapi/visit.rs` does that for the rendered code). The text still needs rustfmt.

use super::check::{builtin, json_type};
use super::model::{Arguments, Branch, Entity, EnumMember, Kind, Member, Schema, Type};
use super::text::{doc, field, pascal};

const HEADER: &str = r#"//! The types, commands and events of `qapi/` in Rust.
//!
//! Generated: do not edit. Change `qapi/*.json`, run `UPDATE=1 cargo test --test qapi`, commit both.
//!
//! Knows: names, members and documentation of the schema. Must not know: how a value is read and
//! what errors say (`visit` does). Invariant: it says what `qapi/` says; a test compares.

// Commands are parsed, carried out and dropped one by one.
#![allow(clippy::large_enum_variant)]

use super::visit::{self, Members, Object, Visit};
use super::{Path, QmpError};
use serde_json::{Map, Value};

/// What is known about a command before its arguments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandSpec {
    /// Whether it may be sent with `exec-oob` and overtake others.
    pub allow_oob: bool,
}
"#;

/// The whole file.
pub(crate) fn render(schema: &Schema) -> String {
    let mut parts = vec![HEADER.to_owned(), commands(schema), events(schema)];
    parts.extend(schema.entities.iter().map(|entity| item(schema, entity)));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// The types that an entity needs.
fn item(schema: &Schema, entity: &Entity) -> String {
    let name = &entity.name;
    let docs = doc(&entity.docs.body);
    match &entity.kind {
        Kind::Enum(values) => enumeration(name, &docs, values),
        Kind::Struct(members) => structure(name, &docs, members),
        Kind::Union { base, tag, branches } => union(name, &docs, base, tag, branches),
        Kind::Alternate(branches) => alternate(schema, name, &docs, branches),
        Kind::Command { arguments: Some(Arguments::Own(members)), .. } => {
            let docs = doc(&[format!("Arguments of ``{name}``, see [`Command`].")]);
            structure(&own_type(entity), &docs, members)
        }
        Kind::Event(Some(Arguments::Own(members))) => {
            let docs = doc(&[format!("Data of ``{name}``, see [`Event`].")]);
            structure(&own_type(entity), &docs, members)
        }
        Kind::Command { .. } | Kind::Event(_) => String::new(),
    }
}

/// The name of the type of the arguments that a command or an event has of its own.
fn own_type(entity: &Entity) -> String {
    let suffix = if matches!(entity.kind, Kind::Event(_)) { "Data" } else { "Arguments" };
    format!("{}{suffix}", pascal(&entity.name))
}

fn enumeration(name: &str, docs: &str, values: &[EnumMember]) -> String {
    let variants = lines(values, |value| {
        let variant = pascal(&value.name);
        format!("{}{variant},", doc(&value.doc))
    });
    let all = lines(values, |value| format!("Self::{},", pascal(&value.name)));
    let words =
        lines(values, |value| format!("Self::{} => {:?},", pascal(&value.name), value.name));
    // QEMU's texts for what is QEMU's.
    let parse = if name.starts_with("BlockFault") { "parse_own_enum" } else { "parse_enum" };
    format!(
        "{docs}#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum {name} {{ {variants} }}

impl {name} {{
    /// Every value, in the order of the schema.
    pub const ALL: &[Self] = &[{all}];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {{ match self {{ {words} }} }}
}}

impl Visit for {name} {{
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {{
        visit::{parse}(value, at, Self::ALL, Self::as_str)
    }}

    fn to_value(&self) -> Value {{ Value::from(self.as_str()) }}
}}
"
    )
}

fn structure(name: &str, docs: &str, members: &[Member]) -> String {
    let fields = fields(members);
    let takes = lines(members, |member| format!("{}: {},", field(&member.name), take(member)));
    let adds = lines(members, add);
    // A struct without members is a branch of a union that adds nothing.
    let unused = if members.is_empty() { "_" } else { "" };
    format!(
        "{docs}#[derive(Debug, Clone, PartialEq)]
pub struct {name} {{ {fields} }}

impl Object for {name} {{
    fn take_from({unused}members: &mut Members<'_>) -> Result<Self, QmpError> {{
        Ok(Self {{ {takes} }})
    }}

    fn add_to(&self, {unused}object: &mut Map<String, Value>) {{ {adds} }}
}}
"
    )
}

fn fields(members: &[Member]) -> String {
    lines(members, |member| {
        let (docs, name) = (doc(&member.doc), field(&member.name));
        let of = rust_type(&member.of);
        let of = if member.optional { format!("Option<{of}>") } else { of };
        format!("{docs}pub {name}: {of},")
    })
}

fn take(member: &Member) -> String {
    let how = if member.optional { "optional" } else { "required" };
    format!("members.{how}({:?})?", member.name)
}

fn add(member: &Member) -> String {
    let (wire, name) = (&member.name, field(&member.name));
    if member.optional {
        format!("visit::add_optional(object, {wire:?}, self.{name}.as_ref());")
    } else {
        format!("visit::add(object, {wire:?}, &self.{name});")
    }
}

/// A struct with the members of the base but the tag, and an enum for the branches, whose variant
/// is the tag.
fn union(name: &str, docs: &str, base: &[Member], tag: &str, branches: &[Branch]) -> String {
    let variant_type = format!("{name}Variant");
    let is_tag = |member: &&Member| member.name == tag;
    let tag_type = base.iter().find(is_tag).map_or(String::new(), |tag| rust_type(&tag.of));
    let tag_field = field(tag);
    let fields = fields_but(base, tag);
    // The order of the schema, tag included, because it decides which error is told first.
    let takes = lines(base, |member| format!("let {} = {};", field(&member.name), take(member)))
        .replacen(&format!("let {tag_field} ="), &format!("let {tag_field}: {tag_type} ="), 1);
    let names = lines(base.iter().filter(|member| member.name != tag), |member| {
        format!("{},", field(&member.name))
    });
    let adds = lines(base, |member| match member.name == tag {
        true => format!("visit::add(object, {tag:?}, &self.variant.{tag_field}());"),
        false => add(member),
    });
    let variants = lines(branches, |branch| {
        let (variant, of) = (pascal(&branch.name), &branch.of);
        format!("/// `{tag}` is `{}`.\n{variant}({of}),", branch.name)
    });
    let each = |body: &dyn Fn(&str) -> String| lines(branches, |b| body(&pascal(&b.name)));
    let tags = each(&|v| format!("Self::{v}(_) => {tag_type}::{v},"));
    let picks = each(&|v| {
        format!("{tag_type}::{v} => Object::take_from(members).map({variant_type}::{v})?,")
    });
    let adds_variant =
        each(&|v| format!("{variant_type}::{v}(variant) => variant.add_to(object),"));
    format!(
        "{docs}#[derive(Debug, Clone, PartialEq)]
pub struct {name} {{
    {fields}
    /// What `{tag}` says it is, and the members that come with it.
    pub variant: {variant_type},
}}

/// What a [`{name}`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum {variant_type} {{ {variants} }}

impl {variant_type} {{
    /// The value of the member `{tag}`.
    #[must_use]
    pub fn {tag_field}(&self) -> {tag_type} {{ match self {{ {tags} }} }}
}}

impl Object for {name} {{
    fn take_from(members: &mut Members<'_>) -> Result<Self, QmpError> {{
        {takes}
        let variant = match {tag_field} {{ {picks} }};
        Ok(Self {{ {names} variant }})
    }}

    fn add_to(&self, object: &mut Map<String, Value>) {{
        {adds}
        match &self.variant {{ {adds_variant} }}
    }}
}}
"
    )
}

fn fields_but(base: &[Member], tag: &str) -> String {
    let (before, after) = match base.iter().position(|member| member.name == tag) {
        Some(at) => (&base[..at], &base[at + 1..]),
        None => (base, &base[..0]),
    };
    fields(before) + "\n" + &fields(after)
}

fn alternate(schema: &Schema, name: &str, docs: &str, branches: &[Branch]) -> String {
    let variants = lines(branches, |branch| {
        let (docs, variant) = (doc(&branch.doc), pascal(&branch.name));
        let of = rust_type(&Type::Named(branch.of.clone()));
        let of = if is_object(schema, branch) { format!("Box<{of}>") } else { of };
        format!("{docs}{variant}({of}),")
    });
    let parses = lines(branches, |branch| {
        let (variant, pattern) = (pascal(&branch.name), json_pattern(schema, branch));
        let boxed = if is_object(schema, branch) { ".map(Box::new)" } else { "" };
        format!("{pattern} => Visit::parse(value, at){boxed}.map(Self::{variant}),")
    });
    let values = lines(branches, |branch| {
        format!("Self::{}(value) => value.to_value(),", pascal(&branch.name))
    });
    format!(
        "{docs}#[derive(Debug, Clone, PartialEq)]
pub enum {name} {{ {variants} }}

impl Visit for {name} {{
    fn parse(value: Value, at: &Path<'_>) -> Result<Self, QmpError> {{
        match value {{
            {parses}
            _ => Err(visit::no_alternative(at, {name:?})),
        }}
    }}

    fn to_value(&self) -> Value {{ match self {{ {values} }} }}
}}
"
    )
}

/// Whether a branch is boxed: only alternates lead from a type back to itself.
fn is_object(schema: &Schema, branch: &Branch) -> bool {
    json_type(schema, &branch.of) == Some("object")
}

fn json_pattern(schema: &Schema, branch: &Branch) -> &'static str {
    match json_type(schema, &branch.of) {
        Some("object") => "Value::Object(_)",
        Some("string") => "Value::String(_)",
        Some("boolean") => "Value::Bool(_)",
        _ => "Value::Number(_)",
    }
}

fn rust_type(of: &Type) -> String {
    let name = builtin(of.name()).map_or(of.name(), |builtin| builtin.rust);
    match of {
        Type::Named(_) => name.to_owned(),
        Type::ListOf(_) => format!("Vec<{name}>"),
    }
}

/// A command or an event as a variant: its name on the wire, in Rust, and what it carries.
struct Message<'a> {
    wire: &'a str,
    variant: String,
    carries: Option<String>,
    docs: String,
    allow_oob: bool,
}

fn message<'a>(entity: &'a Entity, data: Option<&Arguments>) -> Message<'a> {
    let carries = data.map(|data| match data {
        Arguments::Own(_) => own_type(entity),
        Arguments::Named(name) => name.clone(),
    });
    let mut paragraphs = vec![format!("``{}``.", entity.name)];
    paragraphs.extend(entity.docs.body.iter().cloned());
    if let Kind::Command { returns: Some(of), .. } = &entity.kind {
        let what = entity.docs.returns.join(" ");
        paragraphs.push(format!("Returns ``{}``: {what}.", rust_type(of)));
    }
    if !entity.docs.errors.is_empty() {
        paragraphs.push("Errors:".to_owned());
        paragraphs.extend(entity.docs.errors.iter().cloned());
    }
    Message {
        wire: &entity.name,
        variant: pascal(&entity.name),
        carries,
        docs: doc(&paragraphs),
        allow_oob: matches!(entity.kind, Kind::Command { allow_oob: true, .. }),
    }
}

impl Message<'_> {
    fn declaration(&self) -> String {
        let (docs, variant) = (&self.docs, &self.variant);
        match &self.carries {
            Some(of) => format!("{docs}{variant}({of}),"),
            None => format!("{docs}{variant},"),
        }
    }

    fn parse(&self) -> String {
        let (wire, variant) = (self.wire, &self.variant);
        match &self.carries {
            Some(_) => format!("{wire:?} => visit::arguments(members).map(Self::{variant}),"),
            None => format!("{wire:?} => visit::no_arguments(members).map(|()| Self::{variant}),"),
        }
    }

    fn name(&self) -> String {
        let rest = if self.carries.is_some() { "(_)" } else { "" };
        format!("Self::{}{rest} => {:?},", self.variant, self.wire)
    }

    fn to_value(&self) -> String {
        let variant = &self.variant;
        match &self.carries {
            Some(_) => format!("Self::{variant}(members) => Some(members.to_value()),"),
            None => format!("Self::{variant} => None,"),
        }
    }

    fn spec(&self) -> String {
        format!("{:?} => Some(CommandSpec {{ allow_oob: {} }}),", self.wire, self.allow_oob)
    }
}

fn commands(schema: &Schema) -> String {
    let commands = schema.entities.iter().filter_map(|entity| match &entity.kind {
        Kind::Command { arguments, .. } => Some(message(entity, arguments.as_ref())),
        _ => None,
    });
    let commands: Vec<_> = commands.collect();
    let variants = lines(&commands, Message::declaration);
    let wire_names = lines(&commands, |command| format!("{:?},", command.wire));
    let parses = lines(&commands, Message::parse);
    let specs = lines(&commands, Message::spec);
    let names = lines(&commands, Message::name);
    let values = lines(&commands, Message::to_value);
    format!(
        "/// A command, with arguments that were checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {{ {variants} }}

impl Command {{
    /// The names of all commands, in the order of the schema.
    pub const NAMES: &[&str] = &[{wire_names}];

    /// Reads a command.
    ///
    /// # Errors
    /// There is no such command (class `CommandNotFound`), or an argument is missing, unknown or
    /// not of its type (class `GenericError`); the texts are QEMU's.
    pub fn parse(name: &str, members: Map<String, Value>) -> Result<Self, QmpError> {{
        match name {{
            {parses}
            _ => Err(QmpError::command_not_found(name)),
        }}
    }}

    /// What is known about a command before its arguments are; `None` if there is none of this
    /// name.
    #[must_use]
    pub fn spec(name: &str) -> Option<CommandSpec> {{ match name {{ {specs} _ => None, }} }}

    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {{ match self {{ {names} }} }}

    /// Its arguments as [`Command::parse`] reads them; `None` if it never has any.
    #[must_use]
    pub fn to_arguments(&self) -> Option<Value> {{ match self {{ {values} }} }}
}}
"
    )
}

fn events(schema: &Schema) -> String {
    let events = schema.entities.iter().filter_map(|entity| match &entity.kind {
        Kind::Event(data) => Some(message(entity, data.as_ref())),
        _ => None,
    });
    let events: Vec<_> = events.collect();
    let variants = lines(&events, Message::declaration);
    let wire_names = lines(&events, |event| format!("{:?},", event.wire));
    let parses = lines(&events, Message::parse);
    let names = lines(&events, Message::name);
    let values = lines(&events, Message::to_value);
    format!(
        "/// Something that the daemon tells unasked.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {{ {variants} }}

impl Event {{
    /// The names of all events, in the order of the schema.
    pub const NAMES: &[&str] = &[{wire_names}];

    /// Reads an event, as a client does.
    ///
    /// # Errors
    /// There is no such event, or its data are not of their type.
    pub fn parse(name: &str, members: Map<String, Value>) -> Result<Self, QmpError> {{
        match name {{
            {parses}
            _ => Err(QmpError::generic(format_args!(\"The event {{name}} is unknown\"))),
        }}
    }}

    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {{ match self {{ {names} }} }}

    /// Its data; `None` if it never has any.
    #[must_use]
    pub fn to_data(&self) -> Option<Value> {{ match self {{ {values} }} }}
}}
"
    )
}

/// One line, or several, for each.
fn lines<T>(items: impl IntoIterator<Item = T>, line: impl Fn(T) -> String) -> String {
    items.into_iter().map(line).collect::<Vec<_>>().join("\n")
}
