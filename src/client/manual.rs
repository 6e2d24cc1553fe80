//! Manual pages, one for each program.
//!
//! Knows: the sections of a page and their order, and how the help of `clap` becomes them. Must not
//! know: what the programs do. Invariant: a page points to no page that does not exist, so that the
//! verbs are told within it; lines that the help breaks on purpose stay broken.

use std::io::{self, Write};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

/// The page of a program with everything about its verbs.
pub(super) fn write(program: &Command, out: &mut dyn Write) -> io::Result<()> {
    let mut program = program.clone();
    program.build();
    let (man, mut page) = (Man::new(program.clone()), Vec::new());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if program.has_subcommands() {
        writeln!(page, ".SH COMMANDS")?;
    }
    for verb in program.get_subcommands() {
        write_verb(verb, verb.get_name(), &mut page)?;
    }
    for section in sections(&after_help(&program)) {
        Roff::new()
            .control("SH", [section.heading.to_uppercase().as_str()])
            .to_writer(&mut page)?;
        section.write(&mut page)?;
    }
    man.render_version_section(&mut page)?;
    out.write_all(without_repeated_preambles(&page).as_bytes())
}

/// Each part was rendered with the definitions with which a page begins; once is enough.
fn without_repeated_preambles(page: &[u8]) -> String {
    let page = String::from_utf8_lossy(page);
    let preamble: Vec<_> = page.lines().take_while(|line| !line.starts_with(".TH")).collect();
    let repeated =
        |(number, line): &(usize, &str)| *number >= preamble.len() && preamble.contains(line);
    let lines = page.lines().enumerate().filter(|line| !repeated(line));
    lines.map(|(_, line)| format!("{line}\n")).collect()
}

/// A verb, and then the verbs below it, each by its full name.
fn write_verb(verb: &Command, name: &str, page: &mut Vec<u8>) -> io::Result<()> {
    // What holds for every verb was told with the program's options.
    let common = |arg: &clap::Arg| arg.is_global_set() || arg.get_id() == "help";
    let shown = verb.clone().mut_args(|arg| if common(&arg) { arg.hide(true) } else { arg });
    let (man, mut sections_of_page) = (Man::new(shown.clone()), Vec::new());
    man.render_synopsis_section(&mut sections_of_page)?;
    man.render_description_section(&mut sections_of_page)?;
    if shown.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(&mut sections_of_page)?;
    }
    Roff::new().control("SS", [name]).to_writer(page)?;
    // Sections of a page of its own are paragraphs here.
    for line in String::from_utf8_lossy(&sections_of_page).lines() {
        writeln!(page, "{}", if line.starts_with(".SH ") { ".PP" } else { line })?;
    }
    for section in sections(&after_help(verb)) {
        Roff::new().control("PP", []).text([bold(section.heading)]).to_writer(page)?;
        section.write(page)?;
    }
    let mut below = verb.get_subcommands();
    below.try_for_each(|below| write_verb(below, &format!("{name} {}", below.get_name()), page))
}

fn after_help(command: &Command) -> String {
    let text = command.get_after_long_help().or_else(|| command.get_after_help());
    text.map(ToString::to_string).unwrap_or_default()
}

/// What stands after the options in a help.
#[derive(Debug, PartialEq, Eq)]
struct Section<'a> {
    heading: &'a str,
    /// Without blank lines at either end.
    lines: Vec<&'a str>,
}

/// Cut a help at the lines that are headings: `Exit status:`. A paragraph at the margin that follows
/// something else, and is no heading, is a note.
fn sections(help: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section> = Vec::new();
    for line in help.lines() {
        let at_margin = line.starts_with(|c: char| !c.is_whitespace());
        match (line.strip_suffix(':').filter(|_| at_margin), sections.last_mut()) {
            (Some("Example"), _) => sections.push(Section { heading: "Examples", lines: vec![] }),
            (Some(heading), _) => sections.push(Section { heading, lines: vec![] }),
            (None, Some(last)) if !at_margin || last.heading == "Notes" => last.lines.push(line),
            (None, _) if line.trim().is_empty() => {}
            (None, _) => sections.push(Section { heading: "Notes", lines: vec![line] }),
        }
    }
    for section in &mut sections {
        while section.lines.last().is_some_and(|line| line.trim().is_empty()) {
            section.lines.pop();
        }
    }
    sections
}

impl Section<'_> {
    /// Its lines as they are, without filling.
    fn write(&self, page: &mut Vec<u8>) -> io::Result<()> {
        let mut roff = Roff::new();
        roff.control("nf", []);
        for line in &self.lines {
            roff.text([roman(*line)] as [Inline; 1]);
        }
        roff.control("fi", []).to_writer(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_help_is_cut_at_its_headings() {
        let help = "\
Example:
  one
    more: of it

  two

Exit status:
  0  done

What stands alone
goes on here.";
        let cut: Vec<_> = sections(help).into_iter().map(|s| (s.heading, s.lines)).collect();
        assert_eq!(
            cut,
            [
                ("Examples", vec!["  one", "    more: of it", "", "  two"]),
                ("Exit status", vec!["  0  done"]),
                ("Notes", vec!["What stands alone", "goes on here."]),
            ]
        );
    }

    #[test]
    fn lines_keep_their_breaks_and_say_nothing_to_the_formatter() {
        let section = Section { heading: "Examples", lines: vec!["  a --b", ".x", "'y", "c \\"] };
        let mut page = Vec::new();
        section.write(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        let lines: Vec<_> = page.lines().skip_while(|line| *line != ".nf").collect();
        assert_eq!(lines, [".nf", "  a \\-\\-b", "\\&.x", "\\*(Aqy", "c \\\\", ".fi"], "{page}");
    }
}
