//! What the schema says: types, commands and events, checked against each other and their docs.
//!
//! Knows: which expressions the dialect has and what makes them valid. Must not know: Rust or JSON
//! output. Invariant: in a [`Schema`] every type name resolves and every member is documented.

use super::check;
use super::doc::{Doc, Example};
use super::parser::{self, Expr, Item, Kind as Syntax};
use super::{Place, SchemaError};
use std::collections::BTreeSet;

/// A whole schema.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    /// Everything it defines, in the order of the files.
    pub(crate) entities: Vec<Entity>,
    pub(crate) pragma: Pragma,
    files: BTreeSet<String>,
}

/// Exceptions from the rules, as the schema asks for them.
#[derive(Debug, Default)]
pub(crate) struct Pragma {
    pub(crate) doc_required: bool,
    pub(crate) command_names: BTreeSet<String>,
    pub(crate) member_names: BTreeSet<String>,
    pub(crate) command_returns: BTreeSet<String>,
}

/// A type, a command or an event.
#[derive(Debug)]
pub(crate) struct Entity {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) docs: Docs,
    pub(crate) features: Vec<String>,
    pub(crate) kind: Kind,
}

/// What is said about an entity as a whole.
#[derive(Debug, Default)]
pub(crate) struct Docs {
    pub(crate) body: Vec<String>,
    pub(crate) returns: Vec<String>,
    pub(crate) errors: Vec<String>,
    pub(crate) examples: Vec<Example>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Enum(Vec<EnumMember>),
    Struct(Vec<Member>),
    Union { base: Vec<Member>, tag: String, branches: Vec<Branch> },
    Alternate(Vec<Branch>),
    Command { arguments: Option<Arguments>, returns: Option<Type>, allow_oob: bool },
    Event(Option<Arguments>),
}

#[derive(Debug)]
pub(crate) struct EnumMember {
    pub(crate) name: String,
    pub(crate) doc: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) optional: bool,
    pub(crate) of: Type,
    pub(crate) doc: Vec<String>,
}

/// A branch of a union (its name is a value of the tag) or of an alternate.
#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) of: String,
    pub(crate) doc: Vec<String>,
}

/// What a command takes, or an event tells.
#[derive(Debug)]
pub(crate) enum Arguments {
    /// Members of its own.
    Own(Vec<Member>),
    /// The members of a type.
    Named(String),
}

/// A reference to a type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Type {
    Named(String),
    ListOf(String),
}

impl Type {
    /// The type itself, or that of its elements.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Named(name) | Self::ListOf(name) => name,
        }
    }

    fn parse(expr: &Expr) -> Result<Self, SchemaError> {
        match &expr.kind {
            Syntax::Array(elements) => match elements.as_slice() {
                [element] => Ok(Self::ListOf(element.text("an element type")?.to_owned())),
                _ => Err(expr.place.error("a list has one element type")),
            },
            _ => Ok(Self::Named(expr.text("a type")?.to_owned())),
        }
    }
}

impl Schema {
    /// Reads the main file and what it includes; `read` gets a file's name.
    pub(crate) fn from_files(
        main: &str,
        read: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<Self, SchemaError> {
        let mut schema = Self::default();
        let nowhere = Place { file: main.into(), line: 0 };
        schema.include(main, &nowhere, read)?;
        check::all(&schema)?;
        Ok(schema)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entity> {
        self.entities.iter().find(|entity| entity.name == name)
    }

    fn include(
        &mut self,
        file: &str,
        from: &Place,
        read: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<(), SchemaError> {
        if !self.files.insert(file.to_owned()) {
            return Ok(());
        }
        let text = read(file).map_err(|error| from.error(error))?;
        for Item { doc, expr } in parser::parse(file, &text)? {
            let mut keys = Keys::new(&expr)?;
            if let Some(included) = keys.take("include") {
                self.include(included.text("'include'")?, &expr.place, read)?;
            } else if let Some(pragma) = keys.take("pragma") {
                self.pragma.read(pragma)?;
            } else {
                let entity = self.entity(doc, &expr.place, &mut keys)?;
                if let Some(other) = self.get(&entity.name) {
                    let (file, line) = (&other.place.file, other.place.line);
                    let name = &entity.name;
                    return Err(expr.place.error(format!("'{name}' is also at {file}:{line}")));
                }
                self.entities.push(entity);
            }
            keys.end()?;
        }
        Ok(())
    }

    fn entity(
        &self,
        doc: Option<Doc>,
        place: &Place,
        keys: &mut Keys<'_>,
    ) -> Result<Entity, SchemaError> {
        const METAS: [&str; 6] = ["enum", "struct", "union", "alternate", "command", "event"];
        let meta = METAS.iter().find_map(|meta| keys.take(meta).map(|name| (*meta, name)));
        let Some((meta, name)) = meta else {
            return Err(place.error(format!("expected one of {METAS:?}, 'include' or 'pragma'")));
        };
        let name = name.text("a name")?.to_owned();
        let mut doc = MemberDocs::new(doc, &name, place, self.pragma.doc_required)?;
        let kind = match meta {
            "enum" => Kind::Enum(enum_members(keys.need("data")?, &mut doc)?),
            "struct" => Kind::Struct(members(keys.need("data")?, &mut doc)?),
            "union" => Kind::Union {
                base: members(keys.need("base")?, &mut doc)?,
                tag: keys.need("discriminator")?.text("'discriminator'")?.to_owned(),
                branches: branches(keys.need("data")?, |_| Ok(Vec::new()))?,
            },
            "alternate" => {
                Kind::Alternate(branches(keys.need("data")?, |branch| doc.take(branch, place))?)
            }
            "command" => Kind::Command {
                arguments: arguments(keys, &mut doc)?,
                returns: keys.take("returns").map(Type::parse).transpose()?,
                allow_oob: keys.flag("allow-oob")?,
            },
            _ => Kind::Event(arguments(keys, &mut doc)?),
        };
        let features = keys.take("features").map(|list| texts(list, "'features'")).transpose()?;
        let features = features.unwrap_or_default();
        let docs = doc.end(&features, matches!(meta, "command" | "event"))?;
        Ok(Entity { place: place.clone(), name, docs, features, kind })
    }
}

impl Pragma {
    fn read(&mut self, expr: &Expr) -> Result<(), SchemaError> {
        for (key, value) in expr.object("'pragma'")? {
            let exceptions = match key.as_str() {
                "doc-required" => {
                    self.doc_required = value.bool(key)?;
                    continue;
                }
                "command-name-exceptions" => &mut self.command_names,
                "member-name-exceptions" => &mut self.member_names,
                "command-returns-exceptions" => &mut self.command_returns,
                _ => return Err(value.place.error(format!("unknown pragma '{key}'"))),
            };
            exceptions.extend(texts(value, key)?);
        }
        Ok(())
    }
}

fn texts(list: &Expr, what: &str) -> Result<Vec<String>, SchemaError> {
    let elements = list.array(what)?.iter();
    elements.map(|element| element.text("an element").map(str::to_owned)).collect()
}

fn enum_members(data: &Expr, doc: &mut MemberDocs) -> Result<Vec<EnumMember>, SchemaError> {
    let members = data.array("the members of an enum")?.iter().map(|member| {
        let name = member.text("a member")?.to_owned();
        let doc = doc.take(&name, &member.place)?;
        Ok(EnumMember { name, doc })
    });
    members.collect()
}

fn members(data: &Expr, doc: &mut MemberDocs) -> Result<Vec<Member>, SchemaError> {
    let members = data.object("members")?.iter().map(|(key, of)| {
        let name = key.strip_prefix('*').unwrap_or(key).to_owned();
        let doc = doc.take(&name, &of.place)?;
        let optional = key.starts_with('*');
        Ok(Member { place: of.place.clone(), name, optional, of: Type::parse(of)?, doc })
    });
    members.collect()
}

fn branches(
    data: &Expr,
    mut doc: impl FnMut(&str) -> Result<Vec<String>, SchemaError>,
) -> Result<Vec<Branch>, SchemaError> {
    let branches = data.object("branches")?.iter().map(|(name, of)| {
        Ok(Branch {
            place: of.place.clone(),
            name: name.clone(),
            of: of.text("the type of a branch")?.to_owned(),
            doc: doc(name)?,
        })
    });
    branches.collect()
}

/// What `data` says. `boxed` is about QEMU's C: a union needs it there, and nothing changes here.
fn arguments(keys: &mut Keys<'_>, doc: &mut MemberDocs) -> Result<Option<Arguments>, SchemaError> {
    keys.flag("boxed")?;
    match keys.take("data") {
        None => Ok(None),
        Some(data) => match &data.kind {
            Syntax::Text(name) => Ok(Some(Arguments::Named(name.clone()))),
            _ => members(data, doc).map(Arguments::Own).map(Some),
        },
    }
}

/// The keys of an expression that nobody has taken yet.
struct Keys<'a> {
    place: &'a Place,
    left: Vec<(&'a str, &'a Expr)>,
}

impl<'a> Keys<'a> {
    fn new(expr: &'a Expr) -> Result<Self, SchemaError> {
        let keys = expr.object("an expression")?;
        let left = keys.iter().map(|(key, value)| (key.as_str(), value)).collect();
        Ok(Self { place: &expr.place, left })
    }

    fn take(&mut self, key: &str) -> Option<&'a Expr> {
        let at = self.left.iter().position(|(other, _)| *other == key)?;
        Some(self.left.remove(at).1)
    }

    fn need(&mut self, key: &str) -> Result<&'a Expr, SchemaError> {
        self.take(key).ok_or_else(|| self.place.error(format!("'{key}' is missing")))
    }

    fn flag(&mut self, key: &str) -> Result<bool, SchemaError> {
        self.take(key).map_or(Ok(false), |value| value.bool(key))
    }

    fn end(self) -> Result<(), SchemaError> {
        match self.left.first() {
            None => Ok(()),
            Some((key, _)) => Err(self.place.error(format!("'{key}' has no meaning here"))),
        }
    }
}

/// A doc comment whose members are handed out one by one, so that none is left or missing.
struct MemberDocs {
    doc: Option<Doc>,
}

impl MemberDocs {
    fn new(
        doc: Option<Doc>,
        name: &str,
        place: &Place,
        required: bool,
    ) -> Result<Self, SchemaError> {
        match &doc {
            None if required => Err(place.error(format!("'{name}' has no doc comment"))),
            Some(doc) if doc.name != name => Err(doc
                .place
                .error(format!("this documents '{}', but '{name}' comes after it", doc.name))),
            _ => Ok(Self { doc }),
        }
    }

    fn take(&mut self, member: &str, place: &Place) -> Result<Vec<String>, SchemaError> {
        let Some(doc) = &mut self.doc else { return Ok(Vec::new()) };
        match doc.members.iter().position(|(name, _)| name == member) {
            Some(at) => Ok(doc.members.remove(at).1),
            None => Err(place.error(format!("'{member}' is not documented"))),
        }
    }

    fn end(self, features: &[String], speaks: bool) -> Result<Docs, SchemaError> {
        let Some(doc) = self.doc else { return Ok(Docs::default()) };
        if let Some((name, _)) = doc.members.first() {
            return Err(doc.place.error(format!("'@{name}' is documented, but does not exist")));
        }
        let documented: Vec<_> = doc.features.iter().map(|(name, _)| name).collect();
        if documented != features.iter().collect::<Vec<_>>() {
            return Err(doc.place.error("features are not those that are documented"));
        }
        let Doc { place, body, returns, errors, examples, .. } = doc;
        let says_more = !returns.is_empty() || !errors.is_empty() || !examples.is_empty();
        if says_more && !speaks {
            return Err(place.error("only commands and events have replies and examples"));
        }
        Ok(Docs { body, returns, errors, examples })
    }
}
