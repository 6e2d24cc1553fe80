//! Where in a command's arguments a value stands.
//!
//! Knows: member names and list indices on the way to a value, and how QEMU spells them in errors.
//! Must not know: types. Invariant: a path is never longer than [`DEPTH_MAX`], so whoever recurses
//! with it ends.

use super::QmpError;
use std::fmt;

/// Most members and elements that may be nested in each other.  A chain of nodes in one
/// `blockdev-add` is the only thing that nests at will, and its longest useful one has five.
pub const DEPTH_MAX: usize = 64;

/// The way to a value: a list on the stack, its head at the value.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
    depth: usize,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    /// The arguments themselves.
    Root,
    Member(&'a str),
    Element(usize),
}

impl<'a> Path<'a> {
    /// The arguments themselves.
    pub const ROOT: Self = Self { parent: None, step: Step::Root, depth: 0 };

    /// The way to a member of the object here.
    ///
    /// # Errors
    /// The path would be longer than [`DEPTH_MAX`].
    pub fn member(&'a self, name: &'a str) -> Result<Self, QmpError> {
        self.longer(Step::Member(name))
    }

    /// The way to an element of the list here, counted from 0.
    ///
    /// # Errors
    /// The path would be longer than [`DEPTH_MAX`].
    pub fn element(&'a self, index: usize) -> Result<Self, QmpError> {
        self.longer(Step::Element(index))
    }

    /// The name that QEMU prints where it knows the value by its last step only
    /// (`qapi/qapi-visit-core.c`): of a member, its name.  Of an element QEMU prints `null`, which
    /// helps nobody: it gets the whole path here.
    #[must_use]
    pub fn last(&self) -> String {
        match self.step {
            Step::Member(name) => name.to_owned(),
            Step::Root | Step::Element(_) => self.to_string(),
        }
    }

    fn longer(&'a self, step: Step<'a>) -> Result<Self, QmpError> {
        if self.depth >= DEPTH_MAX {
            return Err(QmpError::generic(format_args!(
                "Parameter '{}' is nested too deeply, at most {DEPTH_MAX} levels are accepted",
                self.outermost()
            )));
        }
        Ok(Self { parent: Some(self), step, depth: self.depth + 1 })
    }

    /// The argument that the value is a part of.
    fn outermost(&self) -> Path<'a> {
        match self.parent {
            Some(parent) if parent.parent.is_some() => parent.outermost(),
            _ => *self,
        }
    }
}

impl fmt::Display for Path<'_> {
    /// As `full_name` in QEMU's `qapi/qobject-input-visitor.c`: `options[0].file.driver`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let below_root = self.depth <= 1;
        match self.step {
            Step::Root => Ok(()),
            Step::Member(name) if below_root => f.write_str(name),
            Step::Member(name) => write!(f, ".{name}"),
            Step::Element(index) => write!(f, "[{index}]"),
        }
    }
}
