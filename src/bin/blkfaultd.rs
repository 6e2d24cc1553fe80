//! The daemon. See the library for everything.

use std::io::Write;
use std::process::ExitCode;

use blkfault::daemon::run::run;
use blkfault::export::Inherited;
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
    let mut logger = env_logger::Builder::new();
    logger.parse_filters(&log.directives).format_timestamp_micros();
    if goes_to_the_journal(std::env::var_os(JOURNAL_VARIABLE).as_deref(), std::io::stderr()) {
        logger.format_timestamp(None);
    }
    logger.init();
    if let Some(complaint) = log.complaint {
        log::warn!("{complaint}");
    }
    // Both end the process with a message and status 2 where the arguments make no sense.
    let plan = Options::parse_from(arguments).plan().unwrap_or_else(|error| error.exit());
    match run(&plan, inherited) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("blkfaultd: {error}");
            ExitCode::FAILURE
        }
    }
}
