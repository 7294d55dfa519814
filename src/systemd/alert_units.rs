//! Starts units that people have written, one for each notification.
//!
//! The event is described in a file below the runtime directory that is named like the instance;
//! the unit's `EnvironmentFile=` reads it when it starts. The file is removed when the unit has
//! succeeded. After a failure it stays, because systemd (`Restart=`) or a person may start the unit
//! again.
//!
//! The core decides how many are started at a time, and when a failed one is tried again.

use super::jobs::{self, JobFailure};
use super::proxy::words;
use super::session::ManagerSession;
use crate::printable::replaced;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::unit::JobOutcome;
use iotmonitor_core::model::unit_name::{UnitName, UnitTemplate};
use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::sync::{mpsc, watch};

/// A unit whose start takes longer than this is stopped, and one that systemd restarts again and
/// again is left to it.
const PATIENCE: Duration = Duration::from_secs(60);

/// One notification in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertOrder {
    pub template: UnitTemplate,
    /// The instance, as [`iotmonitor_core::model::unit_name::instance_of`] builds it.
    pub instance: String,
    /// Names are ASCII; values may be any string.
    pub environment: Vec<(&'static str, String)>,
}

impl AlertOrder {
    fn unit(&self) -> UnitName {
        self.template.instance(&self.instance)
    }
}

/// Accepts orders without ever waiting; cheap to clone.
#[derive(Clone)]
pub(super) struct AlertUnits {
    current: watch::Receiver<Option<Arc<ManagerSession>>>,
    events: mpsc::Sender<Event>,
    directory: Arc<Path>,
}

impl fmt::Debug for AlertUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlertUnits").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl AlertUnits {
    /// The session carries out orders, or the next one where there is none.
    pub fn new(
        current: watch::Receiver<Option<Arc<ManagerSession>>>,
        events: mpsc::Sender<Event>,
        directory: PathBuf,
    ) -> Self {
        Self { current, events, directory: directory.into() }
    }

    /// The core has only a few in progress at a time, so there are few tasks.
    pub fn start(&self, order: AlertOrder) {
        let Self { current, events, directory } = self.clone();
        tokio::spawn(async move {
            let outcome = start(current, &order, &directory).await;
            // This fails only when the daemon ends; the core then starts again the notifications
            // whose end it has not received.
            let _ =
                events.send(Event::NotificationEnded { instance: order.instance, outcome }).await;
        });
    }

    /// The file of an instance is no longer needed.
    pub fn drop_file(&self, instance: &str) {
        let _ = fs::remove_file(self.directory.join(instance));
    }
}

async fn start(
    mut current: watch::Receiver<Option<Arc<ManagerSession>>>,
    order: &AlertOrder,
    directory: &Path,
) -> JobOutcome {
    let session = match tokio::time::timeout(PATIENCE, current.wait_for(Option::is_some)).await {
        Ok(Ok(session)) => session.clone(),
        Ok(Err(_closed)) => None,
        Err(_elapsed) => {
            return JobOutcome::Failed("there is no connection to systemd".to_owned());
        }
    };
    match session {
        Some(session) => start_by(&session, order, directory).await,
        None => JobOutcome::Failed("shutting down".to_owned()),
    }
}

async fn start_by(session: &ManagerSession, order: &AlertOrder, directory: &Path) -> JobOutcome {
    let file = directory.join(&order.instance);
    if let Err(error) = write(directory, &file, &environment_file(&order.environment)) {
        return JobOutcome::Failed(format!("{} cannot be written: {error}", file.display()));
    }
    let unit = order.unit();
    // This makes systemd keep the unit's result until it has been read.
    let path = session.manager.load_unit(unit.as_str()).await;
    let _ = session.manager.ref_unit(unit.as_str()).await;
    let outcome = tokio::select! {
        outcome = jobs::run_existing(session, &unit) => match outcome {
            Ok(()) => JobOutcome::Done,
            Err(JobFailure::Call(error)) => JobOutcome::Failed(words(&error)),
            Err(JobFailure::Final(sentence)) => JobOutcome::Failed(sentence),
        },
        () = session.inbox.lost() => JobOutcome::Failed("the bus was lost meanwhile".to_owned()),
        () = tokio::time::sleep(PATIENCE) => give_up(session, &unit).await,
    };
    if path.is_ok() {
        let _ = session.manager.unref_unit(unit.as_str()).await;
    }
    if outcome == JobOutcome::Done {
        let _ = fs::remove_file(&file);
    }
    outcome
}

async fn give_up(session: &ManagerSession, unit: &UnitName) -> JobOutcome {
    let state = jobs::state_of_existing(session, unit).await;
    if state.is_ok_and(|state| state.is_between_restarts()) {
        return JobOutcome::Failed(format!("{unit} keeps failing, and systemd starts it again"));
    }
    // The result is reported whether or not that works.
    let _ = session.manager.stop_unit(unit.as_str(), "replace").await;
    let seconds = PATIENCE.as_secs();
    JobOutcome::Failed(format!("{unit} has not ended within {seconds} s and was stopped"))
}

/// Writes the file atomically, and readable for the manager's user alone.
fn write(directory: &Path, file: &Path, text: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut draft = NamedTempFile::new_in(directory)?;
    draft.write_all(text.as_bytes())?;
    draft.persist(file)?;
    Ok(())
}

/// In the syntax of systemd.exec(5), EnvironmentFile=: values in double quotes may span several
/// lines. Control characters, for which systemd would drop the variable, are shown as U+FFFD.
fn environment_file(environment: &[(&'static str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in environment {
        // Writing to a string cannot fail.
        let _ = write!(text, "{name}=\"");
        for character in value.chars() {
            match character {
                '"' | '\\' | '$' | '`' => text.extend(['\\', character]),
                '\n' | '\t' => text.push(character),
                other => text.push(replaced(other)),
            }
        }
        text.push_str("\"\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_systemd_reads_them() {
        let text = environment_file(&[
            ("A", "one \"two\" $three `four` \\five".to_owned()),
            ("B", "line\nline\tä\u{7}".to_owned()),
        ]);
        assert_eq!(
            text,
            "A=\"one \\\"two\\\" \\$three \\`four\\` \\\\five\"\nB=\"line\nline\tä\u{fffd}\"\n"
        );
    }

    #[test]
    fn the_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("alerts");
        for text in ["one", "two"] {
            write(&directory, &directory.join("lamp"), text).unwrap();
            assert_eq!(fs::read_to_string(directory.join("lamp")).unwrap(), text);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join("lamp"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }
}
