use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Call, Framer, Session, Step, Token};
use crate::monitor::CommandSpec;

/// `slow` and `fast` exist; `fast` may overtake.
fn lookup(name: &str) -> Option<CommandSpec> {
    ["slow", "fast"].contains(&name).then(|| CommandSpec { allow_oob: name == "fast" })
}

fn session() -> Session {
    Session::new(Framer::default(), None)
}

/// A session after negotiation, with OOB or without.
fn negotiated(oob: bool) -> Session {
    let mut session = session();
    let enable = if oob { "'oob'" } else { "" };
    let negotiation =
        format!("{{'execute': 'qmp_capabilities', 'arguments': {{'enable': [{enable}]}}}}");
    session.receive(negotiation.as_bytes());
    assert_eq!(session.poll(&lookup), Some(Step::Send(json!({ "return": {} }))));
    assert_eq!(session.poll(&lookup), None);
    session
}

fn command(kind: &str, name: &str, id: u64) -> Vec<u8> {
    json!({ kind: name, "id": id }).to_string().into_bytes()
}

/// The id of the command that begins next, if one does.
fn next_id(session: &mut Session) -> Option<u64> {
    match session.poll(&lookup) {
        None => None,
        Some(Step::Run(Call { id, .. })) => id.unwrap().as_u64(),
        Some(other) => panic!("{other:?}"),
    }
}

fn sent(session: &mut Session) -> Value {
    match session.poll(&lookup) {
        Some(Step::Send(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_begins_with_its_arguments_after_negotiation() {
    let mut session = negotiated(false);
    session.receive(b"{\"execute\": \"slow\", \"arguments\": {\"a\": [1]}, \"id\": null}");
    let arguments = json!({ "a": [1] }).as_object().unwrap().clone();
    let call = Call { oob: false, name: "slow".into(), arguments, id: Some(Value::Null) };
    assert_eq!(session.poll(&lookup), Some(Step::Run(call)));
    assert!(!session.is_idle());
    session.answered();
    assert!(session.is_idle());
}

#[test]
fn events_are_wanted_from_the_end_of_negotiation() {
    assert!(!session().wants_events());
    assert!(negotiated(false).wants_events());
}

#[test]
fn without_oob_one_command_is_looked_at_at_a_time() {
    let mut session = negotiated(false);
    let input = [command("execute", "slow", 1), command("execute", "slow", 2)].concat();
    session.receive(&input);
    assert_eq!(next_id(&mut session), Some(1));
    assert_eq!(next_id(&mut session), None);
    assert!(!session.wants_input());
    session.answered();
    assert_eq!(next_id(&mut session), Some(2));
    assert_eq!(next_id(&mut session), None);
    assert!(!session.wants_input());
    session.answered();
    assert!(session.wants_input());
}

#[test]
fn with_oob_eight_commands_wait_and_the_ninth_stops_the_reading() {
    let mut session = negotiated(true);
    session.receive(&command("execute", "slow", 0));
    assert_eq!(next_id(&mut session), Some(0));
    for id in 1..=8 {
        assert!(session.wants_input(), "{id}");
        session.receive(&command("execute", "slow", id));
        assert_eq!(next_id(&mut session), None);
    }
    assert!(!session.wants_input());
    session.receive(&command("exec-oob", "fast", 100));
    assert_eq!(next_id(&mut session), None, "the ninth would overtake unread ones");
    session.answered();
    assert_eq!(next_id(&mut session), Some(1), "in the order in which they came");
    assert_eq!(next_id(&mut session), Some(100));
    for id in 2..=8 {
        session.answered();
        assert_eq!(next_id(&mut session), Some(id));
    }
    session.answered();
    assert_eq!(next_id(&mut session), None);
    assert!(session.is_idle());
}

#[test]
fn an_oob_command_overtakes_and_its_answer_lets_no_other_begin() {
    let mut session = negotiated(true);
    let commands = [
        command("execute", "slow", 1),
        command("execute", "slow", 2),
        command("exec-oob", "fast", 3),
    ];
    session.receive(&commands.concat());
    assert_eq!(next_id(&mut session), Some(1));
    assert_eq!(next_id(&mut session), Some(3));
    assert_eq!(next_id(&mut session), None);
    session.answered();
    assert_eq!(next_id(&mut session), Some(2));
}

#[test]
fn a_mistake_is_answered_in_its_turn() {
    let mut session = negotiated(true);
    session.receive(&[&command("execute", "slow", 1)[..], b"{\"id\": 2}!\n"].concat());
    assert_eq!(next_id(&mut session), Some(1));
    assert_eq!(next_id(&mut session), None);
    session.answered();
    assert_eq!(sent(&mut session)["id"], 2);
    let text = "JSON parse error, stray '!'";
    assert_eq!(sent(&mut session)["error"]["desc"], text);
}

#[test]
fn http_is_hung_up_on_before_it_can_say_anything() {
    for request in [
        "GET / HTTP/1.1\r\n",
        "POST /x HTTP/1.1\r\n\r\n{\"execute\":\"quit\"}",
        " \r\n\tPOST /x HTTP/1.1\r\n",
        "options / HTTP/1.1\r\n",
        "\nPatch / HTTP/1.1\r\n",
    ] {
        let mut whole = session();
        whole.receive(request.as_bytes());
        assert_eq!(whole.poll(&lookup), Some(Step::HangUp("it speaks HTTP")));
        let mut bytewise = session();
        let hung_up = request.bytes().position(|byte| {
            assert!(bytewise.wants_input());
            bytewise.receive(&[byte]);
            bytewise.poll(&lookup).is_some()
        });
        let blanks = request.len() - request.trim_ascii_start().len();
        assert_eq!(hung_up, request.trim_ascii_start().find(' ').map(|at| blanks + at));
    }
}

#[test]
fn tls_is_hung_up_on_at_its_first_byte() {
    for hello in [&b"\x16"[..], b"\x16\x03\x01\x02\x00\x01", b"\r\n\x16\x03\x03"] {
        let mut session = session();
        session.receive(hello);
        assert_eq!(session.poll(&lookup), Some(Step::HangUp("it speaks TLS")));
    }
}

const TOKEN: &str = "a-token-of-sixteen-or-more";

fn locked() -> Session {
    let token = Arc::new(Token::new(TOKEN.as_bytes()).unwrap());
    Session::new(Framer::default(), Some(token))
}

#[test]
fn a_client_that_tells_the_token_has_a_session_like_any_other() {
    for line in [format!("AUTH {TOKEN}\n"), format!("\r\n AUTH {TOKEN}\r\n")] {
        let commands = "{'execute': 'qmp_capabilities'}{'execute': 'slow', 'id': 7}";
        let input = format!("{line}{commands}");
        for piece_bytes in [1, 2, input.len()] {
            let mut session = locked();
            let mut steps = Vec::new();
            for piece in input.as_bytes().chunks(piece_bytes) {
                assert!(session.wants_input());
                session.receive(piece);
                steps.extend(std::iter::from_fn(|| session.poll(&lookup)));
            }
            let done = || Step::Send(json!({ "return": {} }));
            let [first, second, Step::Run(call)] = &steps[..] else { panic!("{steps:?}") };
            assert_eq!((first, second), (&done(), &done()));
            assert_eq!(call.id, Some(json!(7)));
            assert!(!session.is_locked());
        }
    }
}

#[test]
fn a_client_that_does_not_tell_the_token_is_turned_away_before_anything_else() {
    let too_long = format!("AUTH {}", "x".repeat(4096));
    for (input, why) in [
        ("{'execute': 'qmp_capabilities'}", "wants its token first"),
        ("x", "wants its token first"),
        ("auth a-token-of-sixteen-or-more\n", "wants its token first"),
        ("AUTH\n", "wants its token first"),
        ("AUTH \n", "token is wrong"),
        ("AUTH a-token-of-sixteen-or-mor\n", "token is wrong"),
        ("AUTH a-token-of-sixteen-or-more \n", "token is wrong"),
        ("AUTH  a-token-of-sixteen-or-more\n", "token is wrong"),
        (too_long.as_str(), "token is wrong"),
    ] {
        let mut session = locked();
        session.receive(input.as_bytes());
        session.receive(b"{'execute': 'qmp_capabilities'}");
        match session.poll(&lookup) {
            Some(Step::TurnAway(message)) => {
                let desc = message["error"]["desc"].as_str().unwrap();
                assert!(desc.contains(why), "{input}: {desc}");
                assert!(!desc.contains(TOKEN));
            }
            other => panic!("{input}: {other:?}"),
        }
        assert!(session.is_locked() && !session.wants_events());
    }
    let mut http = locked();
    http.receive(b"GET / HTTP/1.1\r\n");
    assert_eq!(http.poll(&lookup), Some(Step::HangUp("it speaks HTTP")));
    let mut unfinished = locked();
    unfinished.receive(b"AUTH a-token");
    assert_eq!(unfinished.poll(&lookup), None);
    assert!(unfinished.wants_input() && unfinished.is_idle());
}

#[test]
fn words_that_only_begin_like_http_are_ordinary_mistakes() {
    let mut session = session();
    session.receive(b"POT");
    assert_eq!(sent(&mut session)["error"]["desc"], "JSON parse error, stray 'P'");
    session.receive(b"\nGET ");
    assert_eq!(sent(&mut session)["error"]["desc"], "JSON parse error, stray 'G'");
}

/// Everything that happens to a session whose commands are answered at once.
fn steps<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Step> {
    let mut session = session();
    let mut steps = Vec::new();
    for piece in pieces {
        session.receive(piece);
        while let Some(step) = session.poll(&lookup) {
            let ended = matches!(step, Step::HangUp(_));
            if matches!(step, Step::Run(Call { oob: false, .. })) {
                session.answered();
            }
            steps.push(step);
            if ended {
                return steps;
            }
        }
        assert!(session.wants_input(), "everything was answered");
    }
    steps
}

fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "{'execute': 'qmp_capabilities'}",
        "{'execute': 'qmp_capabilities', 'arguments': {'enable': ['oob']}}",
        "{'execute': 'slow', 'id': 1}",
        "{'execute': 'fast', 'arguments': {}}",
        "{'exec-oob': 'fast', 'id': [2]}",
        "{'exec-oob': 'slow'}",
        "{'execute': 'none'}",
        "{}",
        "[]",
        "1",
        "nul",
        "}",
        "\n",
        " \t",
        "\u{1}",
        "\"",
        "GET ",
        "put ",
        "P",
        "OST ",
        "é",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn pieces_make_no_difference_to_a_conversation(
        input in conversation(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let whole = steps([&input[..]]);
        prop_assert_eq!(&steps(cuts.windows(2).map(|cut| &input[cut[0]..cut[1]])), &whole);
        prop_assert_eq!(&steps(input.chunks(1)), &whole);
    }
}
