//! The SQL engines: how one is found, and how it is given a statement or a prompt.

use super::{SqlError, SqlFormat};
use std::ffi::OsString;
use std::io::{IsTerminal as _, stdin};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// What the engines understand differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    DuckDb,
    DataFusion,
}

/// A program that is installed.
#[derive(Debug)]
pub struct Engine {
    dialect: Dialect,
    program: PathBuf,
}

/// In the order in which they are preferred.
const PROGRAMS: [(&str, Dialect); 2] =
    [("duckdb", Dialect::DuckDb), ("datafusion-cli", Dialect::DataFusion)];

impl Engine {
    /// The first engine of `PATH`.
    pub fn installed() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let find = |(name, dialect)| {
            let places = std::env::split_paths(&path).map(|directory| directory.join(name));
            let program = places.into_iter().find(|program| is_executable(program))?;
            Some(Self { dialect, program })
        };
        PROGRAMS.into_iter().find_map(find)
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Runs it to its end; returns its exit code.
    pub async fn run(
        &self,
        views: &Path,
        statement: Option<&str>,
        format: SqlFormat,
    ) -> Result<u8, SqlError> {
        let name = self.program.file_name().and_then(|it| it.to_str());
        let failed = |error| {
            SqlError::Run(if name == Some("duckdb") { "duckdb" } else { "datafusion-cli" }, error)
        };
        // Ctrl-C is for the engine, and this process has to stay until that has ended.
        let mut interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminations = signal(SignalKind::terminate()).map_err(failed)?;
        let mut command = Command::new(&self.program);
        command.args(self.arguments(views, statement, format)).kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        loop {
            tokio::select! {
                status = child.wait() => return Ok(code(status.map_err(failed)?)),
                _ = interrupts.recv() => {}
                _ = terminations.recv() => return Ok(128 + 15),
            }
        }
    }

    fn arguments(&self, views: &Path, statement: Option<&str>, format: SqlFormat) -> Vec<OsString> {
        match self.dialect {
            Dialect::DuckDb => for_duckdb(views, statement, format, stdin().is_terminal()),
            Dialect::DataFusion => for_datafusion(views, statement, format),
        }
    }
}

fn is_executable(program: &Path) -> bool {
    std::fs::metadata(program).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(super::super::EXIT_FAILURE)
}

/// The path is one of this program's own directory and contains no blank and no quote.
fn for_duckdb(
    views: &Path,
    statement: Option<&str>,
    format: SqlFormat,
    is_terminal: bool,
) -> Vec<OsString> {
    let mut read = OsString::from(".read ");
    read.push(views);
    let mut arguments: Vec<OsString> = match format {
        SqlFormat::Table => Vec::new(),
        SqlFormat::Csv => vec!["-csv".into()],
        SqlFormat::Json => vec!["-json".into()],
    };
    // A prompt goes on after a mistake, and a script does not.
    if statement.is_some() || !is_terminal {
        arguments.push("-bail".into());
    }
    arguments.extend(["-cmd".into(), read]);
    arguments.extend(statement.iter().flat_map(|it| ["-c".into(), OsString::from(it)]));
    arguments
}

fn for_datafusion(views: &Path, statement: Option<&str>, format: SqlFormat) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["--quiet".into()];
    match format {
        SqlFormat::Table => {}
        SqlFormat::Csv => arguments.extend(["--format".into(), "csv".into()]),
        SqlFormat::Json => arguments.extend(["--format".into(), "json".into()]),
    }
    match statement {
        Some(statement) => {
            let command = format!("--command={statement}").into();
            arguments.extend(["--file".into(), views.into(), command]);
        }
        None => arguments.extend(["--rc".into(), views.into()]),
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_one_argument_whatever_is_in_it() {
        let views = Path::new("/proc/1/fd/3/views.sql");
        let statement = "SELECT '; DROP \"' -- .shell";
        let arguments = for_duckdb(views, Some(statement), SqlFormat::Csv, true);
        let expected = ["-csv", "-bail", "-cmd", ".read /proc/1/fd/3/views.sql", "-c", statement];
        assert_eq!(arguments, expected);
        assert_eq!(for_duckdb(views, None, SqlFormat::Table, true), expected[2..4]);
        let arguments = for_datafusion(views, Some(statement), SqlFormat::Json);
        assert_eq!(arguments.last().unwrap(), &format!("--command={statement}")[..]);
    }
}
