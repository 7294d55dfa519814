//! The command line: one file for each command, and the exit code decided in one place.

mod check;

use clap::{CommandFactory, Parser, Subcommand};
use iotmonitor::config::Environment;
use std::path::PathBuf;
use std::process::ExitCode;

/// The file that is used unless another one is named.
const CONFIG_FILE: &str = "/etc/iotmonitor/config.toml";

/// Records MQTT messages as Parquet files.
#[derive(Debug, Parser)]
#[command(name = "iotmonitor-recorder", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: RecorderCommand,
}

#[derive(Debug, Subcommand)]
enum RecorderCommand {
    /// Check the sections [mqtt] and [recorder] of a configuration, and report every error in them.
    /// The exit code is 0 or 78.
    Check {
        /// The file to check [default: /etc/iotmonitor/config.toml].
        file: Option<PathBuf>,
    },
}

/// The command line as clap defines it, for generating manual pages and completions.
#[must_use]
pub fn definition() -> clap::Command {
    Arguments::command()
}

/// Parses the arguments, carries them out, and turns the outcome into the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    ExitCode::from(match command {
        RecorderCommand::Check { file } => {
            let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
            check::check(&config_file(file), &environment(), &mut out, &mut err)
        }
    })
}

fn config_file(file: Option<PathBuf>) -> PathBuf {
    file.unwrap_or_else(|| PathBuf::from(CONFIG_FILE))
}

/// What the reading of the configuration needs to know. In a service, systemd passes the files.
fn environment() -> Environment {
    let credentials_directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let files_are_credentials = credentials_directory.is_some();
    Environment { credentials_directory, files_are_credentials, ..Environment::default() }
}
