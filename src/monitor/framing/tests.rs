use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::message::to_line;
use super::{Budget, Framer, JsonError, Limits};

type Read = Vec<Result<Value, JsonError>>;

/// What a framer makes of input that comes in these pieces.
fn read_pieces<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let mut framer = Framer::new(limits);
    let mut read = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            let (bytes, value) = framer.feed(piece);
            assert!(bytes > 0 || value.is_some(), "no progress at {piece:?}");
            piece = &piece[bytes..];
            read.extend(value);
        }
    }
    read
}

fn read(input: &[u8]) -> Read {
    read_pieces(Limits::OURS, [input])
}

fn texts(read: Read) -> Vec<String> {
    read.into_iter().map(|value| value.map_or_else(|e| e.to_string(), |v| v.to_string())).collect()
}

#[test]
fn values_need_no_line_ends_between_them() {
    assert_eq!(
        texts(read(b"{'a':1}[2]\"3\"'4'{}\n\t null 5 ")),
        ["{\"a\":1}", "[2]", "\"3\"", "\"4\"", "{}", "null", "5"]
    );
}

#[test]
fn a_value_is_read_at_its_last_byte_and_not_before() {
    let mut framer = Framer::default();
    let input = b"{\"execute\": \"}\"}";
    let (last, before) = input.split_last().unwrap();
    assert_eq!(framer.feed(before), (before.len(), None));
    let (bytes, value) = framer.feed(&[*last]);
    assert_eq!((bytes, value.unwrap().unwrap()), (1, json!({ "execute": "}" })));
}

#[test]
fn the_rest_of_the_input_is_left_for_later() {
    let mut framer = Framer::default();
    assert_eq!(framer.feed(b"{}{}").0, 2);
    assert_eq!(framer.feed(b"7,").0, 1, "the comma ended the number and is read next");
}

#[test]
fn integers_keep_their_64_bits_and_larger_numbers_become_doubles() {
    assert_eq!(
        texts(read(b"[9223372036854775807, 18446744073709551615, -9223372036854775808, -0]")),
        ["[9223372036854775807,18446744073709551615,-9223372036854775808,0]"]
    );
    assert_eq!(read(b"18446744073709551616 "), [Ok(json!(18_446_744_073_709_551_616.0))]);
    assert_eq!(read(b"1e300 "), [Ok(json!(1e300))]);
}

#[test]
fn a_number_that_no_double_holds_is_an_error_and_costs_no_more_than_its_beginning() {
    let expected = "JSON parse error, number '1e400' is out of range";
    assert_eq!(texts(read(b"{\"id\": 1e400}")), [expected]);
    let huge = [b"9".repeat(1 << 20), b" {}".to_vec()].concat();
    let texts = texts(read(&huge));
    assert!(texts[0].starts_with("JSON parse error, number '999"), "{}", &texts[0][..60]);
    assert!(texts[0].len() < 1100, "{}", texts[0].len());
    assert_eq!(texts[1..], ["{}"]);
}

#[test]
fn a_stray_token_is_shown_up_to_a_bound() {
    let input = [b"\"".to_vec(), b"x".repeat(100_000), b"\x01".to_vec()].concat();
    let texts = texts(read(&input));
    assert_eq!(texts.len(), 1);
    assert!(texts[0].starts_with("JSON parse error, stray '\"xxx"));
    assert!(texts[0].len() < 1100, "{}", texts[0].len());
}

#[test]
fn nesting_is_limited_as_in_qemu() {
    let nested = |levels| [b"[".repeat(levels), b"]".repeat(levels)].concat();
    let deepest = read(&nested(1024));
    assert_eq!(deepest.len(), 1);
    assert_eq!(deepest[0].as_ref().unwrap().to_string().as_bytes(), nested(1024));
    let too_deep = texts(read(&nested(1025)));
    assert_eq!(too_deep[0], "JSON nesting depth limit exceeded");
    let flood = texts(read(&b"[".repeat(1 << 20)));
    assert_eq!(flood, vec!["JSON nesting depth limit exceeded"; (1 << 20) / 1025]);
}

#[test]
fn an_endless_token_is_refused_once_and_the_next_line_read() {
    let limits = Limits { token_bytes_max: 1000, ..Limits::OURS };
    for begin in ["\"", "{\"a\": \"", "{\"a\": 1", "t"] {
        let fill = if begin.ends_with('"') {
            b"x"
        } else if begin == "t" {
            b"r"
        } else {
            b"7"
        };
        let input = [begin.as_bytes(), &fill.repeat(100_000), b"\n{}"].concat();
        let expected = ["JSON token size limit exceeded: 1000 bytes at most", "{}"];
        assert_eq!(texts(read_pieces(limits, [&input[..]])), expected, "{begin}");
    }
}

#[test]
fn tokens_are_limited_in_number_and_white_space_is_free() {
    let limits = Limits { tokens_max: 100, ..Limits::OURS };
    let many = [b"[".to_vec(), b"1,".repeat(200), b"\n".to_vec()].concat();
    let texts_of_many = texts(read_pieces(limits, [&many[..]]));
    assert_eq!(texts_of_many[0], "JSON token count limit exceeded: 100 at most");
    let spacious = [b"[".to_vec(), b" \n".repeat(1 << 20), b"1]".to_vec()].concat();
    let limits = Limits { token_bytes_max: 10, ..limits };
    assert_eq!(texts(read_pieces(limits, [&spacious[..]])), ["[1]"]);
}

#[test]
fn a_large_value_gives_its_memory_back() {
    let mut framer = Framer::default();
    let input = [b"[\"".to_vec(), b"x".repeat((1 << 20) - 10), b"\"]".to_vec()].concat();
    assert!(framer.feed(&input).1.unwrap().is_ok());
    assert!(framer.text.capacity() <= 1 << 16, "{}", framer.text.capacity());
}

#[test]
fn readers_share_what_memory_there_is_and_short_commands_always_pass() {
    let budget = Budget::new(1 << 20);
    let [mut one, mut two] = [(); 2].map(|()| Framer::sharing(Limits::OURS, &budget));
    let large = [b"[\"".to_vec(), b"x".repeat(900 << 10)].concat();
    assert_eq!(one.feed(&large), (large.len(), None), "it takes its share before it is whole");
    let (_, refused) = two.feed(&large);
    let refused = refused.expect("an answer").unwrap_err().to_string();
    assert!(refused.starts_with("JSON input of all clients"), "{refused}");
    let (_, short) = two.feed(b"\n{\"execute\": \"x\"}");
    assert_eq!(short, Some(Ok(json!({ "execute": "x" }))));
    assert!(one.feed(b"\"]").1.expect("a value").is_ok());
    let share = one.take_share();
    assert!(share.bytes() > 800 << 10, "it is kept until the value is done with");
    drop(share);
    assert_eq!(two.feed(&large), (large.len(), None));
}

/// Bytes that often make tokens, and sometimes none.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(b"{}[]:,\"' \n\t\\".to_vec()),
        3 => prop::sample::select(b"0123456789-+.eEtrufalsn".to_vec()),
        1 => any::<u8>(),
    ];
    let word = prop::sample::select(vec![
        "true",
        "false",
        "null",
        "{\"execute\":\"x\"}",
        "\\ud83d\\ude00",
        "\\u00",
        "1.5e-3",
        "é",
        "\u{FFFF}",
        "[1,2]",
        "{'a':{}}",
    ]);
    let piece = prop_oneof![3 => byte.prop_map(|b| vec![b]), 2 => word.prop_map(|w| w.into())];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Text without the code points that QEMU refuses.
fn text() -> impl Strategy<Value = String> {
    any::<String>()
        .prop_map(|text| text.chars().filter(|c| u32::from(*c) & 0xFFFE != 0xFFFE).collect())
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        input in input(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]);
        prop_assert_eq!(read_pieces(Limits::OURS, pieces), read(&input));
        prop_assert_eq!(read_pieces(Limits::OURS, input.chunks(1)), read(&input));
    }

    #[test]
    fn after_any_input_a_control_character_makes_the_next_value_readable(input in input()) {
        let input = [&input[..], b"\x01\n{\"execute\": \"x\"}"].concat();
        prop_assert_eq!(read(&input).pop(), Some(Ok(json!({ "execute": "x" }))));
    }

    #[test]
    fn what_is_written_is_read(value in value()) {
        let line = to_line(&value);
        prop_assert!(line.is_ascii());
        prop_assert_eq!(read(&line), [Ok(value)]);
    }
}
