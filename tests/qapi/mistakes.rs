//! Whether the generator refuses what is wrong with a schema, and says where.

use super::generator::Schema;

/// Reads a schema of one file.
fn read(text: &str) -> Result<Schema, String> {
    let read = &mut |file: &str| match file {
        "main.json" => Ok(text.to_owned()),
        _ => Err(format!("no file '{file}'")),
    };
    Schema::from_files("main.json", read).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(text: &str, with: &str) {
    assert_eq!(read(text).expect_err("this is wrong"), with, "{text}");
}

#[test]
fn what_is_no_json_of_the_dialect_is_refused() {
    refused("{ 'enum': 'E' ", "main.json:1: expected ',' or '}', found the end of the file");
    refused("{ \"enum\": 'E' }", "main.json:1: expected ''', found '\"'");
    refused(
        "\n{ 'enum': 5 }",
        "main.json:2: expected '{', '[', a string, true or false, found '5'",
    );
    refused("{ 'enum': 'E', 'enum': 'F' }", "main.json:1: duplicate key 'enum'");
    refused("[ 'E' ]", "main.json:1: an expression must be an object");
}

#[test]
fn what_the_generator_does_not_know_is_not_skipped() {
    refused("{ 'enum': 'E', 'data': [ 'a' ], 'if': 'X' }", "main.json:1: 'if' has no meaning here");
    refused("{ 'pragma': { 'x': true } }", "main.json:1: unknown pragma 'x'");
    refused(
        "{ 'thing': 'X' }",
        "main.json:1: expected one of [\"enum\", \"struct\", \"union\", \"alternate\", \
         \"command\", \"event\"], 'include' or 'pragma'",
    );
    refused("{ 'include': 'other.json' }", "main.json:1: no file 'other.json'");
}

#[test]
fn types_that_do_not_exist_or_do_not_fit_are_refused() {
    refused("{ 'struct': 'S',\n  'data': { 'a': 'T' } }", "main.json:2: there is no type 'T'");
    refused(
        "{ 'command': 'c', 'data': 'E' } { 'enum': 'E', 'data': [ 'a' ] }",
        "main.json:1: there is no struct or union 'E'",
    );
    refused("{ 'command': 'c', 'returns': 'T' }", "main.json:1: there is no type 'T'");
    refused(
        "{ 'command': 'c', 'returns': 'str' }",
        "main.json:1: a reply that is no object, nor a list of them, cannot grow",
    );
    refused(
        "{ 'struct': 'S', 'data': { 'a': 'T' } } { 'struct': 'T', 'data': { '*b': 'S' } }",
        "main.json:1: 'S' contains itself; only an alternate or a list may lead back",
    );
    refused(
        "{ 'alternate': 'A', 'data': { 'a': 'int', 'b': 'number' } }",
        "main.json:1: another branch is a JSON number, too",
    );
}

#[test]
fn a_union_has_one_branch_for_each_value_of_its_tag() {
    let union = |base: &str, branches: &str| {
        format!(
            "{{ 'enum': 'E', 'data': [ 'a', 'b' ] }}\n\
             {{ 'struct': 'S', 'data': {{ 'x': 'str' }} }}\n\
             {{ 'union': 'U', 'base': {{ {base} }}, 'discriminator': 't',\n'data': {{ {branches} }} }}"
        )
    };
    assert!(read(&union("'t': 'E'", "'a': 'S', 'b': 'S'")).is_ok());
    let (good, tag) = ("'a': 'S', 'b': 'S'", "'t': 'E'");
    refused(&union(tag, "'a': 'S'"), "main.json:3: no branch for 'b'");
    refused(&union(tag, &format!("{good}, 'c': 'S'")), "main.json:4: 't' is never 'c'");
    refused(&union("'*t': 'E'", good), "main.json:3: 't' is no mandatory enum of the base");
    refused(&union("'t': 'str'", good), "main.json:3: 't' is no mandatory enum of the base");
    refused(&union(tag, "'a': 'str', 'b': 'S'"), "main.json:4: there is no struct 'str'");
    refused(&union("'t': 'E', 'x': 'int'", good), "main.json:3: 'x' is in 'U' twice");
}

#[test]
fn names_follow_the_rules_unless_a_pragma_excepts_them() {
    refused("{ 'command': 'A_b' }", "main.json:1: 'A_b' is not in small letters, digits and '-'");
    refused("{ 'event': 'Ab' }", "main.json:1: 'Ab' is not in capital letters, digits and '_'");
    refused("{ 'enum': 'ab', 'data': [] }", "main.json:1: 'ab' is not in CamelCase");
    let members = "{ 'enum': 'E', 'data': [ 'a_b' ] }";
    refused(members, "main.json:1: 'a_b' of 'E' is not in small letters, digits and '-'");
    assert!(
        read(&format!("{{ 'pragma': {{ 'member-name-exceptions': ['E'] }} }}{members}")).is_ok()
    );
    refused("{ 'enum': 'E', 'data': [ 'a', 'a' ] }", "main.json:1: 'a' is in 'E' twice");
    refused("{ 'event': 'E' }\n{ 'event': 'E' }", "main.json:2: 'E' is also at main.json:1");
}

/// A documented enumeration with the members `a` and `b`.
fn documented(doc: &str) -> String {
    format!(
        "{{ 'pragma': {{ 'doc-required': true }} }}\n##\n{doc}##\n\
         {{ 'enum': 'E', 'data': [ 'a', 'b' ] }}\n"
    )
}

#[test]
fn everything_is_documented_and_nothing_else_is() {
    assert!(read(&documented("# @E:\n#\n# Text.\n#\n# @a: one\n#\n# @b: two\n")).is_ok());
    let start = "# @E:\n#\n# Text.\n#\n# @a: one\n";
    refused(&documented(start), "main.json:9: 'b' is not documented");
    refused(
        &documented(&format!("{start}#\n# @b: two\n#\n# @c: three\n")),
        "main.json:2: '@c' is documented, but does not exist",
    );
    refused(&documented(&format!("{start}#\n# @b:\n")), "main.json:9: nothing is said about '@b'");
    refused(
        &documented(&format!("{start}#\n# @a: again\n")),
        "main.json:9: '@a' is documented twice",
    );
    refused(&documented("# @E:\n"), "main.json:2: nothing is said about 'E'");
    refused(
        &documented("# @F:\n#\n# Text.\n"),
        "main.json:2: this documents 'F', but 'E' comes after it",
    );
    refused(
        "{ 'pragma': { 'doc-required': true } }\n{ 'event': 'E' }",
        "main.json:2: 'E' has no doc comment",
    );
}

#[test]
fn an_example_that_is_no_json_is_refused() {
    let text = "##\n# @c:\n#\n# Text.\n#\n# Example::\n#\n#     -> { \"execute\": }\n##\n\
                { 'command': 'c' }";
    let error = read(text).expect_err("this is wrong");
    assert!(error.starts_with("main.json:8: not JSON: "), "{error}");
}
