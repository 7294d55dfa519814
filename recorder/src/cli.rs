//! The command line: one file for each command, and the exit code decided in one place.

pub mod check;
mod contents;
mod run;

use crate::service::Options;
use clap::{CommandFactory, Parser, Subcommand};
use iotmonitor::config::Environment;
use std::path::PathBuf;
use std::process::ExitCode;

/// The file that is used unless another one is named.
const CONFIG_FILE: &str = "/etc/iotmonitor/config.toml";

/// Where the messages are unless another directory is named.
const STATE_DIRECTORY: &str = "/var/lib/iotmonitor-recorder";

/// Records MQTT messages as Parquet files.
#[derive(Debug, Parser)]
#[command(name = "iotmonitor-recorder", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: RecorderCommand,
}

#[derive(Debug, Subcommand)]
enum RecorderCommand {
    /// Record messages. The systemd service does this.
    Run {
        /// Configuration file.
        #[arg(long, value_name = "FILE", default_value = CONFIG_FILE)]
        config: PathBuf,
        /// Directory of the messages [default: $STATE_DIRECTORY, or /var/lib/iotmonitor-recorder].
        #[arg(long, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
    /// Check the sections [mqtt] and [recorder] of a configuration, and report every error in them.
    /// The exit code is 0 or 78.
    Check {
        /// The file to check.
        #[arg(default_value = CONFIG_FILE)]
        file: PathBuf,
    },
    /// List the Parquet files that count, which hold each message once.
    ///
    /// Messages of the last seconds are in none of them yet. Files that a compaction has replaced are
    /// left out.
    Files(contents::FilesQuery),
    /// List the recorded topics, with the number of their messages and the time of the last one.
    Topics(contents::TopicsQuery),
    /// Show the messages of a topic over time, or its numbers.
    Values(contents::ValuesQuery),
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
        RecorderCommand::Run { config, directory } => {
            let directory = directory.unwrap_or_else(state_directory);
            run::run(&Options { config_file: config, directory, environment: environment() })
        }
        // A person asks about the files, and not about what systemd has made of them at a start.
        RecorderCommand::Check { file } => {
            let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
            check::check(&file, &Environment::default(), &mut out, &mut err)
        }
        RecorderCommand::Files(query) => contents::files(&query),
        RecorderCommand::Topics(query) => contents::topics(&query),
        RecorderCommand::Values(query) => contents::values(&query),
    })
}

/// systemd's StateDirectory, or the same place without a unit. Several directories are separated by
/// colons (systemd.exec(5)); the first is the program's own.
fn state_directory() -> PathBuf {
    let directories = std::env::var_os("STATE_DIRECTORY").unwrap_or_default();
    match directories.to_string_lossy().split(':').next() {
        None | Some("") => PathBuf::from(STATE_DIRECTORY),
        Some(directory) => PathBuf::from(directory),
    }
}

/// What the reading of the configuration needs to know. In a service, systemd passes the files.
fn environment() -> Environment {
    let credentials_directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let files_are_credentials = credentials_directory.is_some();
    Environment { credentials_directory, files_are_credentials, ..Environment::default() }
}
