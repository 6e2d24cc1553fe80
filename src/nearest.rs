//! The word that somebody who mistyped one may have meant.
//!
//! Pure. Invariant: nothing is suggested that is not much like what was written.

/// How much alike two words have to be, from 0 to 1; clap asks for as much.
const ALIKE: f64 = 0.7;

/// The word most like this one; `None` where none is much like it.
pub(crate) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = written.to_lowercase();
    let alike = |word: &'a str| (strsim::jaro(&written, &word.to_lowercase()), word);
    let best = known.into_iter().map(alike).max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(how_much, _)| *how_much > ALIKE).map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_finds_the_one_that_was_meant_and_a_strange_one_none() {
        let known = ["disk0", "db", "backup"];
        assert_eq!(nearest("dsik0", known), Some("disk0"));
        assert_eq!(nearest("BACKUPS", known), Some("backup"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
