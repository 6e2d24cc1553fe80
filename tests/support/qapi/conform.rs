//! Whether a value is what an introspection table says it is.
//!
//! Knows: the meaning of `SchemaInfo`. Must not know: the schema's files, or Rust's types; so it
//! can be a second opinion on both.

use serde_json::{Map, Value};

/// The answer of `query-qmp-schema`.
pub(crate) struct Table<'a>(pub(crate) &'a [Value]);

impl Table<'_> {
    /// The entry of this name: a command, an event or a type.
    pub(crate) fn entry(&self, name: &str) -> Result<&Value, String> {
        let entry = self.0.iter().find(|entry| entry["name"] == name);
        entry.ok_or_else(|| format!("the table has no '{name}'"))
    }

    /// Checks a value against the type that `entry` names under `key`.
    pub(crate) fn check(&self, entry: &Value, key: &str, value: &Value) -> Result<(), String> {
        let name = text(entry, key)?;
        let of = self.entry(name)?;
        match text(of, "meta-type")? {
            "builtin" => builtin(text(of, "json-type")?, value),
            "enum" => match list(of, "values")?.contains(value) {
                true => Ok(()),
                false => Err(format!("{value} is none of {}", of["values"])),
            },
            "array" => {
                let elements = value.as_array().ok_or_else(|| format!("{value} is no array"))?;
                elements.iter().try_for_each(|element| self.check(of, "element-type", element))
            }
            "object" => {
                let mut left =
                    value.as_object().cloned().ok_or_else(|| format!("{value} is no object"))?;
                self.object(of, &mut left)?;
                match left.keys().next() {
                    None => Ok(()),
                    Some(name) => Err(format!("'{name}' is unexpected in {value}")),
                }
            }
            "alternate" => {
                let mut branches = list(of, "members")?.iter();
                match branches.any(|branch| self.check(branch, "type", value).is_ok()) {
                    true => Ok(()),
                    false => Err(format!("{value} is no alternative of '{name}'")),
                }
            }
            meta => Err(format!("'{name}' is no type but of meta-type '{meta}'")),
        }
    }

    /// Takes out of `left` what an object of this type has.
    fn object(&self, of: &Value, left: &mut Map<String, Value>) -> Result<(), String> {
        let tag = of["tag"].as_str().and_then(|tag| left.get(tag).cloned());
        for member in list(of, "members")? {
            let name = text(member, "name")?;
            match left.remove(name) {
                Some(value) => self
                    .check(member, "type", &value)
                    .map_err(|error| format!("'{name}': {error}"))?,
                None if member.get("default") == Some(&Value::Null) => {}
                None => return Err(format!("'{name}' is missing")),
            }
        }
        let Some(tag) = tag else { return Ok(()) };
        let variant = list(of, "variants")?.iter().find(|variant| variant["case"] == tag);
        let variant = variant.ok_or_else(|| format!("no variant for {tag}"))?;
        self.object(self.entry(text(variant, "type")?)?, left)
    }
}

fn builtin(json_type: &str, value: &Value) -> Result<(), String> {
    let good = match json_type {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "int" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "value" => true,
        _ => return Err(format!("there is no JSON type '{json_type}'")),
    };
    if good { Ok(()) } else { Err(format!("{value} is no {json_type}")) }
}

fn text<'a>(entry: &'a Value, key: &str) -> Result<&'a str, String> {
    entry[key].as_str().ok_or_else(|| format!("no string '{key}' in {entry}"))
}

fn list<'a>(entry: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    entry[key].as_array().ok_or_else(|| format!("no array '{key}' in {entry}"))
}
