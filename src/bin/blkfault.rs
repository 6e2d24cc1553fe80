//! The operator's command: makes the disks of a running `blkfaultd` fail, and tells what they do.

use std::process::ExitCode;

fn main() -> ExitCode {
    blkfault::client::cli::main(std::env::args_os())
}
