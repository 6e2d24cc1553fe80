//! What a rule is called.
//!
//! Knows: which names there are, and that most are short: those need no memory of their own. Must not
//! know: rules. Invariant: two names are the same, and in the order, that their texts are.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::BadRule;

/// A rule's name, unique on its disk. Cheap to copy.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuleName(Text);

/// Longest name, bytes.
pub const NAME_BYTES_MAX: usize = 127;

/// Longest name that takes no more room than a long one's pointer, length and kind, bytes.
const SHORT_BYTES_MAX: usize = 22;

#[derive(Clone)]
enum Text {
    Short { bytes: u8, text: [u8; SHORT_BYTES_MAX] },
    Long(Arc<str>),
}

impl RuleName {
    /// A name, by QEMU's rule for ids.
    ///
    /// # Errors
    /// Anything but a letter and then letters, digits, '-', '.' and '_', or too long.
    pub fn new(name: &str) -> Result<Self, BadRule> {
        let follows = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let good = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(follows)
            && name.len() <= NAME_BYTES_MAX;
        if good { Ok(Self(Text::of(name))) } else { Err(BadRule::Name) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // It was a text.
            Text::Short { .. } => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Text::Long(text) => text,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Short { bytes, text } => text.get(..usize::from(*bytes)).unwrap_or_default(),
            Text::Long(text) => text.as_bytes(),
        }
    }
}

impl Text {
    fn of(name: &str) -> Self {
        let mut text = [0; SHORT_BYTES_MAX];
        match (text.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(room), Ok(bytes)) => {
                room.copy_from_slice(name.as_bytes());
                Self::Short { bytes, text }
            }
            _ => Self::Long(name.into()),
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RuleName").field(&self.as_str()).finish()
    }
}

impl PartialEq for RuleName {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for RuleName {}

impl PartialOrd for RuleName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RuleName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for RuleName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl TryFrom<String> for RuleName {
    type Error = BadRule;

    fn try_from(name: String) -> Result<Self, BadRule> {
        Self::new(&name)
    }
}

impl From<RuleName> for String {
    fn from(name: RuleName) -> Self {
        name.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of every length, alike but for it.
    fn names() -> impl Iterator<Item = (String, RuleName)> {
        (1..=NAME_BYTES_MAX).map(|bytes| {
            let text = "n".repeat(bytes);
            let name = RuleName::new(&text).unwrap();
            (text, name)
        })
    }

    #[test]
    fn a_name_says_what_it_was_made_of_however_long_it_is() {
        for (text, name) in names() {
            assert_eq!((name.as_str(), name.to_string()), (text.as_str(), text.clone()));
            assert_eq!(format!("{name:?}"), format!("RuleName({text:?})"));
        }
        assert!(RuleName::new(&"n".repeat(NAME_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn names_are_in_the_order_of_their_texts() {
        let later = RuleName::new("o").unwrap();
        let mut before = None;
        for (text, name) in names() {
            assert_eq!(name, RuleName::new(&text).unwrap());
            assert!(name < later, "{name}");
            assert!(before.is_none_or(|before| before < name), "{name}");
            before = Some(name);
        }
    }

    #[test]
    fn a_short_name_takes_no_more_room_than_a_long_one() {
        assert_eq!(size_of::<RuleName>(), 24);
    }
}
