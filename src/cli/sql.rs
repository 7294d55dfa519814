//! `iotmonitor sql`: hands recorded messages and the monitor's past to an SQL engine that is installed.
//!
//! The engine gets views over the recorded Parquet files, and over files in a directory of this command
//! with what the running monitor knows. This process holds all of them open until the engine has
//! ended: a compaction meanwhile replaces no file that the engine reads.

mod engine;
mod files;
mod past;
mod views;

use super::command::{fail, in_runtime};
use super::output::say;
use crate::bus::{Addressee, CallError, Caller};
use crate::dbus::Bus;
use crate::recorder::RecorderError;
use engine::Engine;
use files::Files;
use std::io;

/// The requested statement and format.
#[derive(Debug)]
pub struct SqlQuery {
    /// `None` asks for a prompt.
    pub statement: Option<String>,
    pub format: SqlFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlFormat {
    /// The engine's own for people.
    Table,
    Csv,
    Json,
}

#[derive(Debug, thiserror::Error)]
enum SqlError {
    #[error(
        "no SQL engine is installed: `sudo pip install --break-system-packages duckdb-cli` installs \
         DuckDB, which is one program and depends on no other package"
    )]
    NoEngine,
    #[error("{0}")]
    Recorder(#[from] RecorderError),
    #[error("the recorded files cannot be read: {0}{hint}", hint = sudo_hint(.0))]
    Files(io::Error),
    #[error("the recorded files change faster than they can be opened: try again")]
    Changing,
    #[error("the files for the SQL engine cannot be written: {0}")]
    Write(io::Error),
    #[error("{0} cannot be run: {1}")]
    Run(&'static str, io::Error),
}

fn sudo_hint(error: &io::Error) -> &'static str {
    let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
    if is_denied { "; try again with sudo" } else { "" }
}

/// Runs a statement or a prompt; returns the engine's exit code.
pub fn sql(bus: Bus, addressee: Addressee, query: &SqlQuery) -> u8 {
    match in_runtime(run(bus, addressee, query)) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => fail(&error),
        Err(error) => fail(&error),
    }
}

async fn run(bus: Bus, addressee: Addressee, query: &SqlQuery) -> Result<u8, SqlError> {
    // It is missing more often than anything else, and all below takes time.
    let engine = Engine::installed().ok_or(SqlError::NoEngine)?;
    let files = Files::open()?;
    let statement = query.statement.as_deref();
    let past =
        if statement.is_none_or(past::is_mentioned) { past_of(bus, addressee).await } else { None };
    let views = views::of(engine.dialect(), &files, past.as_ref());
    files.write("views.sql", views.as_bytes()).map_err(SqlError::Write)?;
    if let Some(past) = &past {
        for (name, lines) in past.files() {
            files.write(name, lines.as_bytes()).map_err(SqlError::Write)?;
        }
    }
    engine.run(&files.path("views.sql"), statement, query.format).await
}

/// What the running monitor knows; a warning where there is none.
async fn past_of(bus: Bus, addressee: Addressee) -> Option<past::Past> {
    let asked = async {
        let caller = Caller::connect(bus, None, addressee).await?;
        past::ask(&caller).await
    };
    let outcome: Result<past::Past, CallError> = asked.await;
    outcome.inspect_err(|error| say!("iotmonitor: {error}; only the view `message` is there")).ok()
}
