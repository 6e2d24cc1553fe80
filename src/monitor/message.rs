//! The shapes of what a monitor says, and how they look on the wire.
//!
//! Knows: QEMU's order of members and its spelling of JSON: ASCII only, one message a line, CR and
//! LF at its end, a space behind each colon and comma (docs/interop/qmp-spec.txt; monitor/qmp.c).
//! Must not know: who says it, or to whom.

use std::io;
use std::time::Duration;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};
use serde_json::{Value, json};

use crate::qapi::QmpError;

/// What a client hears first.
pub(super) fn greeting(version: Value) -> Value {
    json!({ "QMP": { "version": version, "capabilities": ["oob"] } })
}

/// The answer to a command; the id is the client's.
pub(super) fn response(result: Result<Value, QmpError>, id: Option<Value>) -> Value {
    match (result, id) {
        (Ok(value), None) => json!({ "return": value }),
        (Ok(value), Some(id)) => json!({ "return": value, "id": id }),
        (Err(error), id) => {
            let error = json!({ "class": error.class.name(), "desc": error.desc });
            match id {
                None => json!({ "error": error }),
                Some(id) => json!({ "id": id, "error": error }),
            }
        }
    }
}

/// Something that happened, `at` after the beginning of 1970 (UTC).
pub(super) fn event(name: &str, data: Option<Value>, at: Duration) -> Value {
    let timestamp = json!({ "seconds": at.as_secs(), "microseconds": at.subsec_micros() });
    match data {
        None => json!({ "timestamp": timestamp, "event": name }),
        Some(data) => json!({ "timestamp": timestamp, "event": name, "data": data }),
    }
}

/// A message as a line on the wire, with its end.
#[must_use]
pub fn to_line(message: &Value) -> Vec<u8> {
    let mut line = Vec::with_capacity(128);
    let mut serializer = Serializer::with_formatter(&mut line, Wire);
    if let Err(error) = message.serialize(&mut serializer) {
        // A value has only string keys and a vector takes every write, so this cannot be; half a
        // message would confuse a client more than none.
        log::error!("a message cannot be written as JSON: {error}");
        return Vec::new();
    }
    line.extend_from_slice(b"\r\n");
    // It may wait for long.
    line.shrink_to_fit();
    line
}

/// Whether a value is no longer than this on the wire.
pub(super) fn fits(value: &Value, bytes_max: usize) -> bool {
    let left = Left(bytes_max);
    value.serialize(&mut Serializer::with_formatter(left, Wire)).is_ok()
}

/// Counts what is written, and takes no more than this.
struct Left(usize);

impl io::Write for Left {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// QEMU's spelling of JSON (qobject/json-writer.c).
struct Wire;

impl Formatter for Wire {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.begin_array_value(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| !c.is_ascii() || c == '\u{7f}') {
            let (plain, special) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut characters = special.chars();
            if let Some(character) = characters.next() {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04X}")?;
                }
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let letter = match escape {
            CharEscape::Quote => b'"',
            CharEscape::ReverseSolidus => b'\\',
            CharEscape::Solidus => b'/',
            CharEscape::Backspace => b'b',
            CharEscape::FormFeed => b'f',
            CharEscape::LineFeed => b'n',
            CharEscape::CarriageReturn => b'r',
            CharEscape::Tab => b't',
            CharEscape::AsciiControl(byte) => return write!(writer, "\\u{byte:04X}"),
        };
        writer.write_all(&[b'\\', letter])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &Value) -> String {
        String::from_utf8(to_line(message)).unwrap()
    }

    #[test]
    fn a_line_is_ascii_spaced_as_in_qemu_and_ends_in_cr_lf() {
        let message = json!({ "a": [1, true, null, {}, []], "b": { "c": -1.5, "d": "x" } });
        let expected = "{\"a\": [1, true, null, {}, []], \"b\": {\"c\": -1.5, \"d\": \"x\"}}\r\n";
        assert_eq!(line(&message), expected);
    }

    #[test]
    fn characters_beyond_ascii_and_control_characters_are_escaped_in_capitals() {
        let message = json!("é😀\u{7f}\u{1f}\u{0}\u{8}\u{c}\n\r\t\"\\/'");
        let expected =
            r#""\u00E9\uD83D\uDE00\u007F\u001F\u0000\b\f\n\r\t\"\\/'""#.to_owned() + "\r\n";
        assert_eq!(line(&message), expected);
    }

    #[test]
    fn what_fits_is_as_long_as_it_is_on_the_wire() {
        for value in [json!("é😀\n"), json!([1, { "a": [] }]), json!(null)] {
            let bytes = to_line(&value).len() - 2;
            assert!(fits(&value, bytes) && !fits(&value, bytes - 1), "{value}");
        }
    }

    #[test]
    fn an_id_stands_behind_a_return_and_before_an_error() {
        let done = response(Ok(json!({})), Some(json!(7)));
        assert_eq!(line(&done), "{\"return\": {}, \"id\": 7}\r\n");
        let refused = response(Err(QmpError::generic("no")), Some(Value::Null));
        let expected =
            "{\"id\": null, \"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\r\n";
        assert_eq!(line(&refused), expected);
    }

    #[test]
    fn an_event_has_its_time_first_and_no_data_member_without_data() {
        let at = Duration::new(1_401_385_907, 422_329_999);
        let bare = event("STOP", None, at);
        let expected = "{\"timestamp\": {\"seconds\": 1401385907, \"microseconds\": 422329}, \
                        \"event\": \"STOP\"}\r\n";
        assert_eq!(line(&bare), expected);
        let full = event("SHUTDOWN", Some(json!({ "guest": false })), at);
        assert!(
            line(&full).ends_with("\"event\": \"SHUTDOWN\", \"data\": {\"guest\": false}}\r\n")
        );
    }
}
