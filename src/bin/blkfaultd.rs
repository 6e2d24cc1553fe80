//! The daemon. See the library for everything.

use std::io::Write;
use std::process::ExitCode;

use blkfault::daemon::run::run;
use blkfault::export::Inherited;
use blkfault::logging::{LimitedLog, LogPipe, finish, say};
use blkfault::options::{
    CAPABILITIES, JOURNAL_VARIABLE, LOG_VARIABLE, LogChoice, Options, asks_for_capabilities,
    goes_to_the_journal,
};
use clap::Parser;

fn main() -> ExitCode {
    // SAFETY: the first thing that `main` does, so nothing owns a descriptor above 2 yet.
    let inherited = unsafe { Inherited::at_start() };
    let arguments: Vec<_> = std::env::args_os().collect();
    if asks_for_capabilities(arguments.iter().map(AsRef::as_ref)) {
        return match writeln!(std::io::stdout(), "{CAPABILITIES}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("blkfaultd: standard output: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let log = LogChoice::of(std::env::var_os(LOG_VARIABLE).as_deref());
    start_log(&log);
    // Both end the process with a message and status 2 where the arguments make no sense.
    let plan = Options::parse_from(arguments).plan().unwrap_or_else(|error| error.exit());
    let ended = run(&plan, inherited);
    if let Err(error) = &ended {
        say(&format!("blkfaultd: {error}"));
    }
    finish();
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn start_log(choice: &LogChoice) {
    let mut logger = env_logger::Builder::new();
    logger.parse_filters(&choice.directives).format_timestamp_micros();
    if goes_to_the_journal(std::env::var_os(JOURNAL_VARIABLE).as_deref(), std::io::stderr()) {
        logger.format_timestamp(None);
    }
    let logger = logger.target(env_logger::Target::Pipe(Box::new(LogPipe))).build();
    log::set_max_level(logger.filter());
    // It fails only where there is a log already.
    let _ = log::set_boxed_logger(Box::new(LimitedLog::new(logger)));
    if let Some(complaint) = &choice.complaint {
        log::warn!("{complaint}");
    }
}
