//! Every script, along every arm.

use crate::arms::{Arm, CommandLineArm, EngineArm, Program};
use crate::script::{self, Ending, RulesText, Script};

/// Whose outcomes a script's arm must have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    Qemus,
}

/// What an arm does differently from the script, line by line.
fn differences(script: &Script, arm: &mut dyn Arm, whose: Whose) -> String {
    let mut text = String::new();
    for (place, step) in script.steps.iter().enumerate() {
        let theirs = step.differs.as_ref().filter(|_| whose == Whose::Qemus);
        let expected = theirs.map_or(&step.expected, |(_, ending)| ending);
        let met = arm.request(&step.asked, step.fill);
        if met != *expected {
            text += &format!("{}, {place}: {}\n    but: {met:?}\n", script.title, step.text);
        }
    }
    text
}

#[test]
fn the_engine_alone_follows_every_script() {
    let different: String = script::all()
        .iter()
        .map(|script| differences(script, &mut EngineArm::open(&script.rules), Whose::Ours))
        .collect();
    assert!(different.is_empty(), "\n{different}");
}

#[test]
fn the_daemon_follows_every_script() {
    follows_every_script(&Program::blkfaultd(), Whose::Ours);
}

#[test]
fn the_daemon_follows_every_script_whose_file_its_command_line_names() {
    let mut different = String::new();
    for script in script::all() {
        if let RulesText::Config(config) = &script.rules {
            let mut arm = CommandLineArm::start(config);
            different += &differences(&script, &mut arm, Whose::Ours);
        }
    }
    assert!(different.is_empty(), "\n{different}");
}

#[test]
fn qemus_storage_daemon_follows_every_script() {
    if let Some(qemu) = Program::qemu() {
        follows_every_script(&qemu, Whose::Qemus);
    }
}

fn follows_every_script(program: &Program, whose: Whose) {
    let different: String = script::all()
        .iter()
        .map(|script| differences(script, &mut program.disk(&script.rules), whose))
        .collect();
    assert!(different.is_empty(), "\n{different}");
}

#[test]
fn there_are_sixty_scripts_and_each_tells_a_story() {
    let scripts = script::all();
    assert!(scripts.len() >= 60, "{} scripts", scripts.len());
    let mut titles: Vec<&str> = scripts.iter().map(|script| script.title.as_str()).collect();
    titles.sort_unstable();
    for pair in titles.windows(2) {
        assert_ne!(pair[0], pair[1], "two scripts with one title");
    }
    for script in &scripts {
        assert!(script.steps.len() > 1, "{}", script.title);
        for step in &script.steps {
            let read = matches!(&step.expected, Ending::Ok(sectors) if !sectors.is_empty());
            assert!(!read || step.asked.iotype == blkfault::fault::IoType::Read, "{}", step.text);
        }
    }
}

/// The manual's numbers that scripts name are there.
#[test]
fn every_difference_that_a_script_names_is_in_the_manual() {
    let manual = include_str!("../../src/manual/qemu_differences.md");
    for script in script::all() {
        for (number, _) in script.steps.iter().filter_map(|step| step.differs.as_ref()) {
            let entry = format!("\n{number}. ");
            assert!(manual.contains(&entry), "{}: no difference {number}", script.title);
        }
    }
}
