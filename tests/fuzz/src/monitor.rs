//! F-07: what a monitor reads.
//!
//! However input is cut, the same comes of it; each complete piece is answered once, with its own id;
//! memory is bounded by the input and by the limits; and what another parser takes for a stream of
//! objects is as many pieces here.

use blkfault::monitor::CommandSpec;
use blkfault::monitor::framing::{Framer, JsonError, Limits};
use blkfault::monitor::session::{Session, Step};
use serde_json::{Deserializer, Value};

use crate::Seed;
use crate::heap;
use crate::input::Reader;

/// Small, so that inputs meet them.
const SMALL: Limits = Limits { token_bytes_max: 512, tokens_max: 64, nesting_max: 8 };
/// Bytes of memory for each of input: a token of one byte becomes a value of several words.
const BYTES_PER_BYTE: u64 = 400;
const BYTES_FOR_NOTHING: u64 = 16 << 10;

/// Try an input: a byte of flags, a byte that says how to cut, and what a client sends.
pub fn run(input: &[u8]) {
    let mut input = Reader::new(input);
    let (flags, cuts) = (input.u8(), input.u8());
    let text = input.rest();
    let limits = if flags & 1 != 0 { SMALL } else { Limits::QEMU };
    let whole = frame(text, limits, |rest| rest);
    let step = usize::from(cuts % 16) + 1;
    let in_pieces = frame(text, limits, |rest| rest.min(step));
    assert_eq!(in_pieces, whole, "cut in pieces of {step}");
    compare_with_serde(text, limits, whole.len());

    // Answers are counted where they wait, in the outbox.
    let ((), bytes) = heap::taken(|| converse(text, limits, usize::MAX, &mut drop));
    assert!(
        bytes < BYTES_FOR_NOTHING + text.len() as u64 * BYTES_PER_BYTE,
        "{bytes} bytes for {} of input",
        text.len()
    );
    let (mut steps, mut in_pieces) = (Vec::new(), Vec::new());
    converse(text, limits, usize::MAX, &mut |step| steps.push(step));
    converse(text, limits, step, &mut |step| in_pieces.push(step));
    assert_eq!(in_pieces, steps, "a session in pieces of {step}");
    check_answers(&steps, &whole);
}

type Pieces = Vec<Result<Value, JsonError>>;

fn frame(text: &[u8], limits: Limits, at_once: impl Fn(usize) -> usize) -> Pieces {
    let (mut framer, mut pieces, mut rest) = (Framer::new(limits), Vec::new(), text);
    while !rest.is_empty() {
        let now = &rest[..at_once(rest.len())];
        let (read, complete) = framer.feed(now);
        assert!(read <= now.len());
        assert!(complete.is_some() || read == now.len(), "nothing came of it, but it was not read");
        pieces.extend(complete);
        rest = &rest[read..];
    }
    pieces
}

/// Another parser's objects, where the limits are not at stake. Errors inside an object (a key twice,
/// a number too large) are pieces all the same.
fn compare_with_serde(text: &[u8], limits: Limits, pieces: usize) {
    if limits != Limits::QEMU {
        return;
    }
    let mut objects = 0;
    for value in Deserializer::from_slice(text).into_iter::<Value>() {
        match value {
            Ok(Value::Object(_)) => objects += 1,
            _ => return,
        }
    }
    assert_eq!(pieces, objects, "objects");
}

fn lookup(name: &str) -> Option<CommandSpec> {
    (!name.is_empty()).then_some(CommandSpec { allow_oob: name.len().is_multiple_of(2) })
}

/// A client that sends all of it, so many bytes at once.
fn converse(text: &[u8], limits: Limits, at_once: usize, take: &mut dyn FnMut(Step)) {
    let mut session = Session::new(Framer::new(limits), None);
    let mut rest = text.chunks(at_once.min(text.len()).max(1));
    loop {
        while let Some(step) = session.poll(&lookup) {
            let ended = matches!(step, Step::HangUp(_));
            if matches!(&step, Step::Run(call) if !call.oob) {
                session.answered();
            }
            take(step);
            if ended {
                return;
            }
        }
        assert!(session.wants_input(), "everything is answered, and no more is wanted");
        let Some(bytes) = rest.next() else { return };
        session.receive(bytes);
    }
}

/// One answer for each piece, in order, with its id.
fn check_answers(steps: &[Step], pieces: &Pieces) {
    let ended = matches!(steps.last(), Some(Step::HangUp(_)));
    if ended {
        assert_eq!(steps.len(), 1, "HTTP is told by its first line");
        return;
    }
    assert_eq!(steps.len(), pieces.len(), "answers");
    for (step, piece) in steps.iter().zip(pieces) {
        let wanted = piece.as_ref().ok().and_then(|value| value.as_object()?.get("id"));
        let id = match step {
            Step::Send(message) => message.get("id"),
            Step::Run(call) => call.id.as_ref(),
            Step::HangUp(_) | Step::TurnAway(_) => None,
        };
        assert_eq!(id, wanted, "the id of {piece:?}");
    }
}

fn seed(flags: u8, cuts: u8, text: impl AsRef<[u8]>) -> Vec<u8> {
    [&[flags, cuts], text.as_ref()].concat()
}

const HELLO: &str = "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}\r\n";

/// Seeds by the ids of the bugs that they are like.
pub fn seeds() -> Vec<Seed> {
    let nested = |levels: usize| format!("{HELLO}{}{}", "[".repeat(levels), "]".repeat(levels));
    let pipelined = "{\"execute\":\"stop\",\"id\":1}".repeat(40);
    let oob =
        format!("{HELLO}{{\"exec-oob\":\"stop\",\"id\":[1]}}{{\"execute\":\"cont\",\"id\":{{}}}}");
    let log = "{\"execute\":\"a\\nERROR \\u001b[2J %s\",\"id\":\"\\r\\n\"}";
    vec![
        ("an-ordinary-session", seed(0, 3, format!("{HELLO}{{\"execute\":\"query-block\",\"id\":1}}\n"))),
        ("an-ordinary-session-with-oob", seed(0, 6, oob)),
        ("qemu-json-MAX_TOKEN_SIZE", seed(1, 7, format!("{{\"a\":\"{}\"}}{{}}", "x".repeat(600)))),
        ("qemu-json-MAX_TOKEN_COUNT", seed(1, 2, format!("[{}1]{{}}", "1,".repeat(40)))),
        ("qemu-json-MAX_NESTING", seed(1, 0, nested(9))),
        ("qemu-json-MAX_NESTING-of-1024", seed(0, 15, nested(1025))),
        ("serde_json-recursion-128", seed(0, 15, nested(130))),
        ("ubiblk-read_line-without-an-end", seed(1, 15, "\"".to_owned() + &"a".repeat(2000))),
        ("CVE-2024-7409-a-client-that-does-not-negotiate", seed(0, 1, "{\"execute\":\"quit\"}".repeat(9))),
        ("CVE-2023-30612-commands-of-a-web-page", seed(0, 4, "POST / HTTP/1.1\r\n\r\n{\"execute\":\"quit\"}")),
        ("CVE-2023-30612-http-behind-white-space", seed(0, 0, " \r\n\tgEt /")),
        ("SPDK_ERRLOG-log-injection", seed(0, 5, format!("{HELLO}{log}"))),
        ("pipelined-commands", seed(0, 15, format!("{HELLO}{pipelined}"))),
        ("key-twice", seed(0, 0, "{\"id\":1,\"id\":2}{\"execute\":\"a\",\"execute\":\"b\"}")),
        ("numbers", seed(0, 0, "{\"id\":[1e400,-0,18446744073709551616,-9223372036854775809,1.5e-3,01,+1]}")),
        ("strings", seed(0, 0, b"{\"id\":\"\\ud83d\\ude00 \\ud800 \xC0\x80 \xFF \\u0000 \xEF\xBF\xBE\"}{'a':'\\''}")),
        ("nul-and-bom-and-comment", seed(0, 0, b"\xEF\xBB\xBF{}\0{} // {}\n# {}\n/* {} */")),
        ("closed-too-often", seed(0, 0, "}]}{}[1,]{\"a\"}{\"a\":}{,}[}")),
        ("keywords", seed(0, 0, "true false null nul truefalse \u{e4} -")),
        ("no-object", seed(0, 0, format!("{HELLO}1 \"a\" [] {{}}"))),
        ("wrong-members", seed(0, 0, format!("{HELLO}{{\"execute\":1}}{{\"exec-oob\":\"a\",\"execute\":\"b\"}}{{\"x\":1,\"id\":2}}"))),
    ]
}
