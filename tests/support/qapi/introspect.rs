//! Renders `src/qapi/introspect.json`: what `query-qmp-schema` answers.
//!
//! Knows: the shape of QEMU's answer (`scripts/qapi/introspect.py` there). Must not know: Rust.
//! Invariant: commands and events come first, then every type that they lead to, each once.

use super::check::builtin;
use super::model::{Arguments, Branch, Entity, EnumMember, Kind, Member, Schema, Type};
use serde_json::{Map, Value, json};

/// The whole file: a JSON array, an entry a line.
pub(crate) fn render(schema: &Schema) -> String {
    let mut lines = Vec::new();
    let mut types = Types { schema, used: Vec::new(), names: Vec::new() };
    for entity in &schema.entities {
        let rest = match &entity.kind {
            Kind::Command { arguments, returns, allow_oob } => {
                types.command(entity, arguments.as_ref(), returns.as_ref(), *allow_oob)
            }
            Kind::Event(data) => json!({ "arg-type": types.arguments(entity, data.as_ref()) }),
            _ => continue,
        };
        let meta = if matches!(entity.kind, Kind::Event(_)) { "event" } else { "command" };
        lines.push(entry(&entity.name, meta, &entity.features, rest));
    }
    let mut next = 0;
    while let Some(used) = types.used.get(next).cloned() {
        lines.push(types.describe(&used));
        next += 1;
    }
    format!("[\n{}\n]\n", lines.join(",\n"))
}

fn entry(name: &str, meta: &str, features: &[String], rest: Value) -> String {
    let mut entry = Map::new();
    entry.insert("name".to_owned(), name.into());
    entry.insert("meta-type".to_owned(), meta.into());
    if let Value::Object(rest) = rest {
        entry.extend(rest);
    }
    if !features.is_empty() {
        entry.insert("features".to_owned(), features.into());
    }
    Value::Object(entry).to_string()
}

/// A type that some command or event leads to.
#[derive(Debug, Clone, PartialEq)]
enum Used {
    /// The object without members: arguments or replies that are not there.
    Empty,
    /// The arguments that the command or event of this name has of its own.
    Own(String),
    Of(Type),
}

struct Types<'a> {
    schema: &'a Schema,
    used: Vec<Used>,
    /// Types that wear a number: their place in this list.
    names: Vec<Used>,
}

impl<'a> Types<'a> {
    /// Notes that a type is used, and gives its name on the wire.  Names of types are no promise,
    /// so that the schema can be changed: clients see a number.
    fn name(&mut self, used: Used) -> String {
        let used = as_plain_int(used);
        if !self.used.contains(&used) {
            self.used.push(used.clone());
        }
        match used {
            Used::Of(Type::ListOf(of)) => format!("[{}]", self.name(Used::Of(Type::Named(of)))),
            Used::Of(Type::Named(of)) if builtin(&of).is_some() => of,
            other => self.number(other),
        }
    }

    fn number(&mut self, used: Used) -> String {
        let known = self.names.iter().position(|other| *other == used);
        let number = known.unwrap_or_else(|| {
            self.names.push(used);
            self.names.len() - 1
        });
        number.to_string()
    }

    fn arguments(&mut self, entity: &Entity, arguments: Option<&Arguments>) -> String {
        self.name(match arguments {
            None => Used::Empty,
            Some(Arguments::Own(_)) => Used::Own(entity.name.clone()),
            Some(Arguments::Named(name)) => Used::Of(Type::Named(name.clone())),
        })
    }

    fn command(
        &mut self,
        entity: &Entity,
        arguments: Option<&Arguments>,
        returns: Option<&Type>,
        allow_oob: bool,
    ) -> Value {
        let arguments = self.arguments(entity, arguments);
        let returns = self.name(returns.map_or(Used::Empty, |of| Used::Of(of.clone())));
        let mut rest = json!({ "arg-type": arguments, "ret-type": returns });
        if allow_oob {
            rest["allow-oob"] = true.into();
        }
        rest
    }

    fn describe(&mut self, used: &Used) -> String {
        let schema = self.schema;
        let name = self.name(used.clone());
        let of = match used {
            Used::Empty => return entry(&name, "object", &[], json!({ "members": [] })),
            Used::Of(Type::ListOf(of)) => {
                let element = self.name(Used::Of(Type::Named(of.clone())));
                return entry(&name, "array", &[], json!({ "element-type": element }));
            }
            Used::Own(of) | Used::Of(Type::Named(of)) => of,
        };
        let Some(entity) = schema.get(of) else {
            let json = builtin(of).map_or("value", |builtin| builtin.json);
            return entry(&name, "builtin", &[], json!({ "json-type": json }));
        };
        let (meta, rest) = self.definition(entity);
        let features = if matches!(used, Used::Own(_)) { &[] } else { &entity.features[..] };
        entry(&name, meta, features, rest)
    }

    /// Of a type, its meta-type and what it has; of a command or an event, that of its arguments.
    fn definition(&mut self, entity: &Entity) -> (&'static str, Value) {
        match &entity.kind {
            Kind::Enum(values) => ("enum", enumeration(values)),
            Kind::Struct(members)
            | Kind::Command { arguments: Some(Arguments::Own(members)), .. }
            | Kind::Event(Some(Arguments::Own(members))) => {
                ("object", json!({ "members": self.members(members) }))
            }
            Kind::Union { base, tag, branches } => {
                let members = self.members(base);
                let variants = branches
                    .iter()
                    .map(|branch| json!({ "case": branch.name, "type": self.branch(branch) }));
                let variants: Vec<_> = variants.collect();
                ("object", json!({ "members": members, "tag": tag, "variants": variants }))
            }
            Kind::Alternate(branches) => {
                let of = branches.iter().map(|branch| json!({ "type": self.branch(branch) }));
                ("alternate", json!({ "members": of.collect::<Vec<_>>() }))
            }
            Kind::Command { .. } | Kind::Event(_) => ("object", json!({ "members": [] })),
        }
    }

    fn members(&mut self, members: &[Member]) -> Vec<Value> {
        let members = members.iter().map(|member| {
            let of = self.name(Used::Of(member.of.clone()));
            let mut entry = json!({ "name": member.name, "type": of });
            if member.optional {
                entry["default"] = Value::Null;
            }
            entry
        });
        members.collect()
    }

    fn branch(&mut self, branch: &Branch) -> String {
        self.name(Used::Of(Type::Named(branch.of.clone())))
    }
}

/// Clients see one integer type, whatever its range.
fn as_plain_int(used: Used) -> Used {
    let int = |of: String| match builtin(&of) {
        Some(of) if of.json == "int" => "int".to_owned(),
        _ => of,
    };
    match used {
        Used::Of(Type::Named(of)) => Used::Of(Type::Named(int(of))),
        Used::Of(Type::ListOf(of)) => Used::Of(Type::ListOf(int(of))),
        other => other,
    }
}

fn enumeration(values: &[EnumMember]) -> Value {
    let names: Vec<_> = values.iter().map(|value| value.name.as_str()).collect();
    let members: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
    json!({ "members": members, "values": names })
}
