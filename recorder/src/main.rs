//! The program: arguments in, exit code out. Everything else is in the library.

#![deny(clippy::print_stdout, clippy::print_stderr)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::ExitCode;

fn main() -> ExitCode {
    iotmonitor_recorder::cli::main()
}
