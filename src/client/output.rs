//! How things look on a terminal or in a pipe.
//!
//! Knows: tables, times, events. Must not know: where the values come from.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::monitor::message::to_line;

/// One JSON value on a line, as a monitor would write it.
pub(super) fn json_line(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    let line = to_line(value);
    out.write_all(line.trim_ascii_end())?;
    out.write_all(b"\n")
}

/// A value as a word: strings bare, what is missing as a dash, control characters visible.
pub(super) fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text
            .chars()
            .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() })
            .collect(),
        other => other.to_string(),
    }
}

/// A time in nanoseconds with a unit that keeps it short.
pub(super) fn duration(nanoseconds: u64) -> String {
    let (unit, name) = match nanoseconds {
        0..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    match nanoseconds % unit * 10 / unit {
        0 => format!("{} {name}", nanoseconds / unit),
        tenths => format!("{}.{tenths} {name}", nanoseconds / unit),
    }
}

/// A time as events tell it, in UTC.
pub(super) fn timestamp(value: &Value) -> String {
    match (value["seconds"].as_i64(), value["microseconds"].as_i64()) {
        (Some(seconds @ 0..), Some(micros @ 0..)) => utc(seconds, micros),
        // QEMU's way to say that it has no clock.
        _ => "-".to_owned(),
    }
}

/// An event on one line: its time in UTC, its name, its members.
pub(super) fn event(event: &Map<String, Value>) -> String {
    let mut line = timestamp(event.get("timestamp").unwrap_or(&Value::Null));
    let name = event.get("event").unwrap_or(&Value::Null);
    // Writing to a string cannot fail.
    let _ = write!(line, " {}", word(name));
    for (name, value) in event.get("data").and_then(Value::as_object).into_iter().flatten() {
        let text = word(value);
        let quote = if text.contains(' ') { "\"" } else { "" };
        let _ = write!(line, " {name}={quote}{text}{quote}");
    }
    line
}

/// A time after the beginning of 1970 as in RFC 3339. The calendar is that of Howard Hinnant's
/// `civil_from_days`: years begin in March, so that a leap day is the last of its year.
fn utc(seconds: i64, micros: i64) -> String {
    let (days, second_of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) =
        (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Columns of text.
#[derive(Debug)]
pub(super) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(super) fn new(heads: [&str; COLUMNS]) -> Self {
        Self { rows: vec![heads.map(str::to_owned)] }
    }

    pub(super) fn row(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row);
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_are_short_and_not_rounded_up() {
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(51_299), "51.2 µs");
        assert_eq!(duration(1_000_000), "1 ms");
        assert_eq!(duration(7_000_000_000_000), "7000 s");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(utc(951_782_399, 999_999), "2000-02-28T23:59:59.999999Z");
        assert_eq!(utc(951_782_400, 0), "2000-02-29T00:00:00.000000Z");
        assert_eq!(utc(1_401_385_907, 422_329), "2014-05-29T17:51:47.422329Z");
        assert_eq!(utc(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let line = event(
            json!({
                "timestamp": { "seconds": -1, "microseconds": -1 },
                "event": "X",
                "data": { "id": "a\n\u{1b}[b", "reason": "two words", "n": [1], "none": "" }
            })
            .as_object()
            .unwrap(),
        );
        let expected = "- X id=a\\n\\u{1b}[b reason=\"two words\" n=[1] none=\"\"";
        assert_eq!(line, expected);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["A", "LONG"]);
        table.row(["µµµ".to_owned(), "x".to_owned()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "A    LONG\nµµµ  x\n");
    }
}
