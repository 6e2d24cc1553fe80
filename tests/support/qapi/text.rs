//! Names and prose of a schema, spelled for Rust.
//!
//! Knows: Rust's naming rules and rustdoc's markup. Must not know: what is named.

/// Columns of a doc comment; rustfmt leaves comments as they are.
const WIDTH: usize = 90;

/// Words that are no identifiers by themselves, and that the schema may want as members.
const KEYWORDS: [&str; 15] = [
    "as", "box", "const", "continue", "enum", "fn", "for", "in", "loop", "match", "mod", "move",
    "ref", "type", "use",
];

/// `node-name` to `node_name`, `type` to `r#type`.
pub(crate) fn field(name: &str) -> String {
    let name = name.replace('-', "_");
    if KEYWORDS.contains(&name.as_str()) { format!("r#{name}") } else { name }
}

/// `null-co`, `host_device` and `BLOCK_IO_ERROR` to `NullCo`, `HostDevice` and `BlockIoError`.
pub(crate) fn pascal(name: &str) -> String {
    let words = name.split(['-', '_']).map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + &rest.to_ascii_lowercase()
    });
    words.collect()
}

/// Paragraphs as a doc comment.  What the schema marks as a name (`@name`, two backticks) becomes
/// code.
pub(crate) fn doc(paragraphs: &[String]) -> String {
    let mut out = String::new();
    let mut in_list = false;
    for paragraph in paragraphs {
        let item = paragraph.starts_with("- ");
        if !(out.is_empty() || item && in_list) {
            out += "///\n";
        }
        in_list = item;
        let text = sentence(&paragraph.split(' ').map(markup).collect::<Vec<_>>());
        wrap(&text, if item { "  " } else { "" }, &mut out);
    }
    out
}

/// One word: `@node-name,` becomes `` `node-name`, ``.
fn markup(word: &str) -> String {
    let word = word.replace("``", "`");
    let Some((before, name)) = word.split_once('@') else { return word };
    let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)));
    let (name, after) = name.split_at(end.unwrap_or(name.len()));
    format!("{before}`{name}`{after}")
}

/// Capitalises the first word, and ends with a stop.
fn sentence(words: &[String]) -> String {
    let mut text = words.join(" ");
    let start = if text.starts_with("- ") { 2 } else { 0 };
    if let Some(first) = text.get_mut(start..=start) {
        first.make_ascii_uppercase();
    }
    if !text.ends_with(['.', ':']) {
        text.push('.');
    }
    text
}

/// Breaks a paragraph into lines; `hanging` indents all but the first.
fn wrap(text: &str, hanging: &str, out: &mut String) {
    let mut line = String::from("///");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = format!("///{hanging}");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
