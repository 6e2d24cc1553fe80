//! What QEMU 7.2's qemu-io was seen to do with each of these texts.

use super::*;
use crate::errno::Errno;
use crate::fault::IoType;
use crate::fault::blkdebug::rule::IoTypeWord;

fn refused(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn qemus_own_example_is_read() {
    let text = "# ENOSPC at the second write\n[set-state]\nevent = \"write_aio\"\nstate = \"1\"\n\
                new_state = \"2\"\n\n[inject-error]\nevent = \"write_aio\"\nstate = \"2\"\n\
                iotype = \"write\"\nerrno = \"28\"\nonce = \"on\"\n\n[inject-error \"bad.sector\"]\n\
                event = \"read_aio\"\nsector = \"2048\"\n";
    let rules = parse(text).unwrap();
    assert_eq!(
        rules.inject_error,
        [
            InjectError {
                state: 2,
                iotype: Some(IoTypeWord::Io(IoType::Write)),
                errno: Some(Errno::ENOSPC),
                once: true,
                ..InjectError::on(Event::WriteAio)
            },
            InjectError { sector: Some(2048), ..InjectError::on(Event::ReadAio) },
        ]
    );
    assert_eq!(rules.set_state, [SetState { event: Event::WriteAio, state: 1, new_state: 2 }]);
    assert_eq!(rules.warnings(), []);
}

#[test]
fn odd_but_accepted_spellings_are_accepted() {
    let accepted = [
        "[inject-error] junk\nevent = \"write_aio\" junk\n",
        "[inject-error]\nevent = \"write_aio\"",
        "[inject-error]\r\nevent = \"write_aio\"\r\n",
        "[inject-error]\nevent =\"write_aio\"\n",
        "[inject-error]\n\tevent\t=\t \"write_aio\"\n",
        "[inject-error]\nevent = \"write_aio\"\nid = \"x\"\n",
        "[inject-error]\nevent = \"read_aio\"\nevent = \"write_aio\"\n",
        "[inject-error \"a\"]\nevent = \"write_aio\"\n",
    ];
    for text in accepted {
        let rules = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(rules.inject_error, [InjectError::on(Event::WriteAio)], "{text:?}");
    }
}

#[test]
fn numbers_are_c_numbers_and_booleans_are_words() {
    let errno = |value: &str| {
        let text = format!("[inject-error]\nevent = \"none\"\nerrno = \"{value}\"\n");
        parse(&text).unwrap().inject_error[0].errno
    };
    assert_eq!(errno("28"), Some(Errno::ENOSPC));
    assert_eq!(errno("0x1c"), Some(Errno::ENOSPC));
    assert_eq!(errno("034"), Some(Errno::ENOSPC));
    assert_eq!(errno(" +28"), Some(Errno::ENOSPC));
    assert_eq!(errno("0"), None);
    for (word, once) in [("on", true), ("y", true), ("true", true), ("no", false), ("off", false)] {
        let text = format!("[inject-error]\nevent = \"none\"\nonce = \"{word}\"\n");
        assert_eq!(parse(&text).unwrap().inject_error[0].once, once, "{word}");
    }
    let text = "[inject-error]\nevent = \"none\"\nsector = \"-1\"\ndelay-ns = \"1000\"\n";
    let rule = &parse(text).unwrap().inject_error[0];
    assert_eq!((rule.sector, rule.delay_ns), (None, 1000));
}

#[test]
fn what_is_wrong_is_refused_in_qemus_words() {
    let messages = [
        ("[inject-error]\nevnt = \"x\"\n", "Invalid parameter 'evnt'"),
        ("[inject-error]\nonce=\"on\"\n", "Invalid parameter 'once=\"on\"'"),
        ("[inject-error]\nxx\n", "Invalid parameter 'xx'"),
        ("[inject-error]\n  # x\n", "Invalid parameter '#'"),
        ("[foo]\nevent = \"write_aio\"\n", "There is no option group 'foo'"),
        ("[inject-error ]\n", "There is no option group 'inject-error '"),
        ("[inject-error\nevent = \"none\"\n", "There is no option group 'inject-error\n'"),
        ("event = \"write_aio\"\n", "no group defined"),
        ("[]\nx = \"1\"\n", "no group defined"),
        ("[inject-error]\nonce = \"1\"\n", "Parameter 'once' expects 'on' or 'off'"),
        ("[inject-error]\nevnt = \"x\"\nonce = \"1\"\n", "Parameter 'once' expects 'on' or 'off'"),
        ("[inject-error]\nonce = \"on\"\n", "Missing event name for rule"),
        ("[inject-error]\nonce = \"on\"\n[foo]\n", "There is no option group 'foo'"),
        ("[inject-error]\nevent = \"x.y\"\n", "invalid parameter value: x.y"),
        ("[inject-error]\nevent = none\n", "invalid parameter value: "),
        ("[inject-error]\nevent = \"none\niotype = \"read\"\n", "invalid parameter value: none\n"),
        ("[inject-error]\nevent = \"none\"\niotype = \"wr\"\n", "invalid parameter value: wr"),
        ("[set-state]\nnewstate = \"2\"\n", "Invalid parameter 'newstate'"),
        (
            "[set-state]\nstate = \"1\"\n[inject-error]\nevent = \"xx\"\n",
            "invalid parameter value: xx",
        ),
        ("[inject-error]\nerrno = \"5x\"\n", "Parameter 'errno' expects a number"),
        ("[inject-error]\nerrno = \"\"\n", "Parameter 'errno' expects a number"),
        (
            "[inject-error]\nerrno = \"99999999999999999999\"\n",
            "Value '99999999999999999999' is too large for parameter 'errno'",
        ),
        (
            "[inject-error \"a\"]\nevent = \"none\"\n[inject-error \"a\"]\n",
            "Duplicate ID 'a' for inject-error",
        ),
        (
            "[inject-error \"bad sector\"]\n",
            "Parameter 'id' expects an identifier\nIdentifiers consist of letters, digits, '-', \
             '.', '_', starting with a letter.",
        ),
    ];
    for (text, message) in messages {
        assert_eq!(refused(text), message, "{text:?}");
    }
    assert_eq!(refused("[inject-error]\n  \nevent = \"none\"\n"), "line 2: parse error");
}

#[test]
fn what_qemu_would_cut_off_or_lose_is_refused_by_us() {
    let with = |pair: &str| refused(&format!("[inject-error]\nevent = \"none\"\n{pair}\n"));
    assert!(with("errno = \"-5\"").contains("from 0 to 4095, not -5"));
    assert!(with("errno = \"4096\"").contains("from 0 to 4095"));
    assert!(with("state = \"4294967297\"").contains("fits 32 bits"));
    assert!(with("sector = \"36028797018963968\"").contains("-1 (any)"));
    assert!(with("sector = \"-2\"").contains("-1 (any)"));
    let long = format!("# {}\n", "x".repeat(1100));
    assert_eq!(refused(&long), "line 1 is longer than 1022 bytes");
}

#[test]
fn rules_that_can_never_run_are_accepted_with_a_warning() {
    let text = "[inject-error]\nevent = \"l2_load\"\n[inject-error]\nevent = \"read_aio\"\n\
                iotype = \"block-status\"\n[set-state]\nevent = \"cor_write\"\nnew_state = \"2\"\n";
    let warnings: Vec<String> =
        parse(text).unwrap().warnings().iter().map(ToString::to_string).collect();
    let [inject, status, set] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(
        inject.starts_with("of these rules, inject-error.0 never runs: event 'l2_load'"),
        "{inject}"
    );
    assert!(status.starts_with("inject-error.1 never hits"), "{status}");
    assert!(set.starts_with("of these rules, set-state.0 never runs: event 'cor_write'"), "{set}");
}

#[test]
fn any_text_gets_an_answer() {
    proptest::proptest!(|(text in "[\\[\\]\"=# \nael_\\-0-9é]{0,200}")| {
        let _ = parse(&text);
    });
}
