//! The lines that test scripts send to a running QEMU: `qemu-io DISK "break write_aio A"`.
//!
//! Knows: QEMU's syntax for them (`hmp-commands.hx`, `qemu-io-cmds.c`) and its texts. Must not know:
//! disks. Invariant: what is not understood is answered in QEMU's words, and does nothing.

use crate::fault::blkdebug::Event;

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The disk.
    pub(super) disk: String,
    /// What to do with it.
    pub(super) command: IoCommand,
}

/// A command of `qemu-io`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IoCommand {
    /// Hold the next request that raises this event.
    Break {
        /// The event.
        event: Event,
        /// What to call the breakpoint.
        tag: String,
    },
    /// Wait until a request is held there.
    WaitBreak(String),
    /// Let it go on.
    Resume(String),
    /// Remove the breakpoint and let go on what it holds.
    RemoveBreak(String),
}

/// `strerror(ENOENT)`.
const NOT_FOUND: &str = "No such file or directory";

/// What QEMU prints when a request was stopped.
pub(super) fn suspended(tag: &str) -> String {
    format!("blkdebug: Suspended request '{tag}'\r\n")
}

/// What QEMU prints when a request goes on.
pub(super) fn resuming(tag: &str) -> String {
    format!("blkdebug: Resuming request '{tag}'\r\n")
}

/// What QEMU prints when nothing is held at the tag.
pub(super) fn cannot_resume() -> String {
    format!("Could not resume request: {NOT_FOUND}\r\n")
}

/// What QEMU prints when it cannot set a breakpoint, with a reason of ours.
pub(super) fn cannot_break(why: &dyn std::fmt::Display) -> String {
    format!("Could not set a breakpoint: {why}\r\n")
}

/// What QEMU prints when there is no such breakpoint.
pub(super) fn cannot_remove(tag: &str) -> String {
    format!("Could not remove a breakpoint {tag}: {NOT_FOUND}\r\n")
}

/// What QEMU prints when there is no such disk.
pub(super) fn no_disk(id: &str) -> String {
    format!("Error: Cannot find device='' nor node-name='{id}'\r\n")
}

/// Understand a line, or tell what QEMU would have printed.
pub(super) fn parse(line: &str) -> Result<Line, String> {
    let mut words = words(line)?.into_iter();
    match words.next() {
        None => return Err(String::new()),
        Some(word) if word != "qemu-io" => return Err(format!("unknown command: '{word}'\r\n")),
        Some(_) => {}
    }
    // `-d` says that a device is named by its qdev path; here disks have one name.
    let mut words = words.skip_while(|word| word == "-d");
    let expected = |what: &str| {
        format!("qemu-io: {what} expected\r\nTry \"help qemu-io\" for more information\r\n")
    };
    let disk = words.next().ok_or_else(|| expected("block device name"))?;
    let command = words.next().ok_or_else(|| expected("string"))?;
    if let Some(extra) = words.next() {
        return Err(format!("qemu-io: extraneous characters at the end of line: '{extra}'\r\n"));
    }
    Ok(Line { disk, command: parse_command(&command)? })
}

fn parse_command(command: &str) -> Result<IoCommand, String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let Some((name, arguments)) = words.split_first() else {
        return Err(String::new());
    };
    let count = |expected: usize| {
        let given = arguments.len();
        format!("bad argument count {given} to {name}, expected {expected} arguments\r\n")
    };
    let tag = |make: fn(String) -> IoCommand| match arguments {
        [tag] => Ok(make((*tag).to_owned())),
        _ => Err(count(1)),
    };
    match *name {
        "break" | "breakpoint" => match arguments {
            [event, tag] => match event.parse() {
                Ok(event) => Ok(IoCommand::Break { event, tag: (*tag).to_owned() }),
                Err(_) => Err(format!("Could not set a breakpoint: {NOT_FOUND}\r\n")),
            },
            _ => Err(count(2)),
        },
        "wait_break" => tag(IoCommand::WaitBreak),
        "resume" => tag(IoCommand::Resume),
        "remove_break" => tag(IoCommand::RemoveBreak),
        _ => Err(format!("command \"{name}\" not found\r\n")),
    }
}

/// Words of a line; double quotes hold one together, a backslash in them quotes a letter
/// (`get_str` in QEMU's `monitor/hmp.c`).
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut letters = line.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let mut word = String::new();
        match letters.peek() {
            None => return Ok(words),
            Some('"') => {
                letters.next();
                quoted(&mut letters, &mut word)?;
            }
            Some(_) => {
                while let Some(letter) = letters.next_if(|letter| !letter.is_whitespace()) {
                    word.push(letter);
                }
            }
        }
        words.push(word);
    }
}

fn quoted(letters: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), String> {
    loop {
        match letters.next() {
            None => return Err("unterminated string\r\n".to_owned()),
            Some('"') => return Ok(()),
            Some('\\') => match letters.next() {
                Some('n') => word.push('\n'),
                Some('r') => word.push('\r'),
                Some(letter @ ('\\' | '\'' | '"')) => word.push(letter),
                Some(letter) => return Err(format!("unsupported escape code: '\\{letter}'\r\n")),
                None => return Err("unterminated string\r\n".to_owned()),
            },
            Some(letter) => word.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_test_scripts_are_understood() {
        let of = |command| Ok(Line { disk: "disk0".to_owned(), command });
        let tag = || "A".to_owned();
        let event = Event::WriteAio;
        let cases = [
            (r#"qemu-io disk0 "break write_aio A""#, IoCommand::Break { event, tag: tag() }),
            (r#"  qemu-io  -d disk0 "wait_break  A" "#, IoCommand::WaitBreak(tag())),
            (r#"qemu-io disk0 "resume A""#, IoCommand::Resume(tag())),
            (r#"qemu-io disk0 "remove_break \"A\"""#, IoCommand::RemoveBreak("\"A\"".to_owned())),
        ];
        for (line, command) in cases {
            assert_eq!(parse(line), of(command), "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_answered_as_qemu_does() {
        let cases = [
            ("", ""),
            ("info block", "unknown command: 'info'\r\n"),
            ("qemu-io", "qemu-io: block device name expected"),
            ("qemu-io disk0", "qemu-io: string expected"),
            (r#"qemu-io disk0 "resume A" x"#, "qemu-io: extraneous characters"),
            (r#"qemu-io disk0 "break write_aio""#, "bad argument count 1 to break, expected 2"),
            (r#"qemu-io disk0 "resume""#, "bad argument count 0 to resume, expected 1"),
            (
                r#"qemu-io disk0 "break writing A""#,
                "Could not set a breakpoint: No such file or directory\r\n",
            ),
            (r#"qemu-io disk0 "read 0 512""#, "command \"read\" not found\r\n"),
            (r#"qemu-io disk0 "resume A"#, "unterminated string"),
            (r#"qemu-io disk0 "re\xsume A""#, "unsupported escape code: '\\x'"),
        ];
        for (line, expected) in cases {
            let said = parse(line).expect_err(line);
            assert!(said.starts_with(expected), "{line}: {said}");
        }
    }
}
