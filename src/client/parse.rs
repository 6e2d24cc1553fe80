//! Values of options as people write them: monitors, events, seconds, commands.
//!
//! Knows: their syntax. Must not know: the options. Pure. Invariant: what is refused is answered with
//! what would be accepted.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::Value;

use crate::monitor::framing::{Framer, Limits};
use crate::monitor::{Address, BadAddress};
use crate::qapi::Event;

pub(super) fn monitor_address(text: &str) -> Result<Address, BadAddress> {
    if text.starts_with("unix:") || text.starts_with("tcp:") {
        text.parse()
    } else {
        format!("unix:{text}").parse()
    }
}

/// The name of an event, in whatever case it is written.
pub(super) fn event_name() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(Event::NAMES).map(|name| name.to_ascii_uppercase())
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "accepted is a number of seconds above 0, such as 30 or 0.5".to_owned())
}

pub(super) fn json_object(text: &str) -> Result<Value, String> {
    let mut framer = Framer::new(Limits::QEMU);
    // The line end completes what only the next token would.
    let input = [text.as_bytes(), b"\n"].concat();
    match framer.feed(&input) {
        (_, None) => Err("the JSON object has no end".to_owned()),
        (_, Some(Err(error))) => Err(error.to_string()),
        (read, Some(Ok(value @ Value::Object(_)))) => {
            let rest = input.get(read..).unwrap_or_default();
            if rest.iter().all(u8::is_ascii_whitespace) {
                Ok(value)
            } else {
                Err("something follows the JSON object; one command is accepted".to_owned())
            }
        }
        (_, Some(Ok(_))) => Err("accepted is a JSON object".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_may_be_a_bare_path() {
        let unix = Address::Unix("/run/m.sock".into());
        assert_eq!(monitor_address("/run/m.sock"), Ok(unix.clone()));
        assert_eq!(monitor_address("unix:/run/m.sock"), Ok(unix));
        assert!(matches!(monitor_address("tcp:localhost:4444"), Ok(Address::Tcp { .. })));
        assert!(monitor_address("").is_err());
        assert!(monitor_address("tcp:localhost").is_err());
    }

    #[test]
    fn a_timeout_is_a_positive_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "nan", "inf", "1e30", "", "5s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_raw_command_is_one_json_object() {
        assert!(json_object("{'execute': 'quit'} ").is_ok());
        for (bad, why) in [
            ("{'execute': ", "no end"),
            ("", "no end"),
            ("[]", "JSON object"),
            ("7", "JSON object"),
            ("{}{}", "follows"),
            ("{'a' 1}", "missing :"),
        ] {
            let error = json_object(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
