//! Rule files: many rules at once.
//!
//! Knows: how much one command of the daemon may hold. Must not know: what a rule says. Invariant: all
//! of a file's rules are added or none, though those of a long file not at one moment: what was added
//! is removed again when a later part is refused.

use std::io::{IsTerminal, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::file;
use crate::client::Client;
use crate::client::cli::Common;
use crate::client::failure::Failure;
use crate::client::verbs::connect;

/// Tokens of JSON in the rules of one command: well below what the daemon takes of one.
const TOKENS_MAX: usize = 24_000;
/// Bytes of the same.
const BYTES_MAX: usize = 768 << 10;
/// What a rule is wrapped in.
const ACTION_TOKENS: usize = 10;

/// Add the rules of a file; their names.
pub(super) fn load(common: &Common, disk: &str, path: &Path) -> Result<Vec<Value>, Failure> {
    let rules = file::list(path, "rules", r#"[{"effect": "error"}]"#)?;
    let (all, parts) = (rules.len(), parts(rules));
    let shows = parts.len() > 1 && std::io::stderr().is_terminal();
    let mut client = connect(common)?;
    let mut names = Vec::new();
    for part in parts {
        match add(&mut client, common, disk, part) {
            Ok(mut added) => names.append(&mut added),
            Err(failure) => {
                take_back(&mut client, common, disk, &names)?;
                return Err(failure);
            }
        }
        if shows {
            eprint!("\r{} of {all} rules", names.len());
            let _ = std::io::stderr().flush();
        }
    }
    if shows {
        eprintln!();
    }
    Ok(names)
}

fn add(
    client: &mut Client,
    common: &Common,
    disk: &str,
    rules: Vec<Value>,
) -> Result<Vec<Value>, Failure> {
    let action = |rule| json!({ "type": "rule-add", "rule": rule });
    let actions: Vec<_> = rules.into_iter().map(action).collect();
    let arguments = json!({ "id": disk, "actions": actions });
    let added = client.call("block-fault-transaction", arguments, common.deadline())?;
    Ok(added["names"].as_array().cloned().unwrap_or_default())
}

fn take_back(
    client: &mut Client,
    common: &Common,
    disk: &str,
    names: &[Value],
) -> Result<(), Failure> {
    for names in names.chunks(TOKENS_MAX / (2 * ACTION_TOKENS)) {
        let action = |name| json!({ "type": "rule-remove", "name": name });
        let actions: Vec<_> = names.iter().map(action).collect();
        let arguments = json!({ "id": disk, "actions": actions });
        client.call("block-fault-transaction", arguments, common.deadline())?;
    }
    Ok(())
}

/// The rules in their order, in parts that one command holds. A rule that is too large by itself is a
/// part, for the daemon to refuse.
fn parts(rules: Vec<Value>) -> Vec<Vec<Value>> {
    let mut parts: Vec<Vec<Value>> = Vec::new();
    let (mut tokens, mut bytes) = (0, 0);
    for rule in rules {
        let size = (ACTION_TOKENS + count(&rule), rule.to_string().len() + 64);
        let fits = tokens + size.0 <= TOKENS_MAX && bytes + size.1 <= BYTES_MAX;
        match parts.last_mut().filter(|_| fits) {
            Some(part) => part.push(rule),
            None => {
                (tokens, bytes) = (0, 0);
                parts.push(vec![rule]);
            }
        }
        (tokens, bytes) = (tokens + size.0, bytes + size.1);
    }
    parts
}

/// Tokens of a value, separators included.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 2 + items.iter().map(|item| 1 + count(item)).sum::<usize>(),
        Value::Object(members) => 2 + members.values().map(|value| 3 + count(value)).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_goes_in_parts_and_in_order() {
        let rule = |number: usize| json!({ "name": format!("r{number}"), "sectors": ["0-7"] });
        let rules: Vec<_> = (0..10_000).map(rule).collect();
        let parts = parts(rules.clone());
        assert!((5..40).contains(&parts.len()), "{}", parts.len());
        assert_eq!(parts.concat(), rules);
        for part in &parts {
            assert!(count(&json!(part)) + ACTION_TOKENS * part.len() < 32_000);
        }
    }

    #[test]
    fn a_short_file_is_one_part_and_a_huge_rule_is_one_by_itself() {
        let small = json!({ "effect": "error" });
        let huge = json!({ "sectors": vec!["0-7"; 60_000] });
        assert_eq!(parts(vec![small.clone(); 100]).len(), 1);
        let lengths: Vec<_> =
            parts(vec![small.clone(), huge, small]).iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 1, 1]);
    }
}
