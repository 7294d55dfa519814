//! Starts units that people have written, one for each alert that they want to hear of.
//!
//! What has happened is in a file below the runtime directory that is named like the instance; the
//! unit's `EnvironmentFile=` reads it when it starts, and it is removed when the start is over. Of an
//! instance one alert is under way at a time, of all [`MOST_RUNNING`]; [`MOST_WAITING`] wait, and
//! more than that are counted and dropped, for a burst must not start ten thousand programs.
//!
//! Deliberately absent: trying again. A unit that wants that has `Restart=`.

use super::jobs;
use super::units::ManagerSession;
use crate::printable::replaced;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::unit::JobOutcome;
use iotmonitor_core::model::unit_name::{UnitName, UnitTemplate};
use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Units that are started at a time.
const MOST_RUNNING: usize = 4;

/// Alerts that wait for their turn.
const MOST_WAITING: usize = 64;

/// A unit that has not come to the end of its start by then is stopped.
const PATIENCE: Duration = Duration::from_secs(60);

/// One alert on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertOrder {
    pub template: UnitTemplate,
    /// As [`iotmonitor_core::model::unit_name::instance_of`] makes it.
    pub instance: String,
    /// Names are ASCII; values may be any text.
    pub environment: Vec<(&'static str, String)>,
}

impl AlertOrder {
    fn unit(&self) -> UnitName {
        self.template.instance(&self.instance)
    }
}

/// Takes orders without ever waiting; cheap to clone. With the last one [`carry_out`] ends.
#[derive(Debug, Clone)]
pub(super) struct AlertUnits {
    backlog: Arc<Mutex<Backlog>>,
    /// Full when the look at the backlog that it asks for is due already.
    changed: mpsc::Sender<()>,
}

#[derive(Debug, Default)]
struct Backlog {
    waiting: VecDeque<AlertOrder>,
    running: BTreeSet<UnitName>,
    /// What was dropped since the last word on it.
    dropped: Option<(UnitTemplate, u64)>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Start(AlertOrder),
    TellDropped(UnitTemplate, u64),
}

impl Backlog {
    fn push(&mut self, order: AlertOrder) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back(order);
        } else {
            let before = self.dropped.take().map_or(0, |(_, count)| count);
            self.dropped = Some((order.template, before + 1));
        }
    }

    fn next(&mut self) -> Option<Next> {
        if self.waiting.is_empty() && self.running.is_empty() {
            return self.dropped.take().map(|(template, count)| Next::TellDropped(template, count));
        }
        if self.running.len() >= MOST_RUNNING {
            return None;
        }
        let free = |order: &AlertOrder| !self.running.contains(&order.unit());
        let order = self.waiting.remove(self.waiting.iter().position(free)?)?;
        self.running.insert(order.unit());
        Some(Next::Start(order))
    }
}

impl AlertUnits {
    pub fn push(&self, order: AlertOrder) {
        lock(&self.backlog).push(order);
        let _ = self.changed.try_send(());
    }
}

fn lock(backlog: &Mutex<Backlog>) -> MutexGuard<'_, Backlog> {
    // What is behind the lock is whole whenever it is let go.
    backlog.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries out what is ordered by the session, or the next one where there is none.
pub(super) fn spawn(
    current: watch::Receiver<Option<Arc<ManagerSession>>>,
    events: mpsc::Sender<Event>,
    directory: PathBuf,
) -> AlertUnits {
    let (changed, changes) = mpsc::channel(1);
    let backlog = Arc::new(Mutex::new(Backlog::default()));
    tokio::spawn(carry_out(Arc::clone(&backlog), changes, current, events, directory));
    AlertUnits { backlog, changed }
}

async fn carry_out(
    backlog: Arc<Mutex<Backlog>>,
    mut changes: mpsc::Receiver<()>,
    current: watch::Receiver<Option<Arc<ManagerSession>>>,
    events: mpsc::Sender<Event>,
    directory: PathBuf,
) {
    // What a run before has left there belongs to no start any more.
    let _ = fs::remove_dir_all(&directory);
    let mut starts: JoinSet<(AlertOrder, JobOutcome)> = JoinSet::new();
    loop {
        let next = lock(&backlog).next();
        let event = match next {
            Some(Next::Start(order)) => {
                starts.spawn(start(current.clone(), order, directory.clone()));
                continue;
            }
            Some(Next::TellDropped(template, count)) => Event::AlertsDropped { count, template },
            None => tokio::select! {
                change = changes.recv() => match change {
                    Some(()) => continue,
                    None => return,
                },
                Some(ended) = starts.join_next() => {
                    let Ok((order, outcome)) = ended else { continue };
                    lock(&backlog).running.remove(&order.unit());
                    Event::AlertUnitFinished { template: order.template, outcome }
                }
            },
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

async fn start(
    mut current: watch::Receiver<Option<Arc<ManagerSession>>>,
    order: AlertOrder,
    directory: PathBuf,
) -> (AlertOrder, JobOutcome) {
    let session = match current.wait_for(Option::is_some).await {
        Ok(session) => session.clone(),
        Err(_closed) => None,
    };
    let outcome = match session {
        Some(session) => start_by(&session, &order, &directory).await,
        None => JobOutcome::Failed("shutting down".to_owned()),
    };
    (order, outcome)
}

async fn start_by(session: &ManagerSession, order: &AlertOrder, directory: &Path) -> JobOutcome {
    let file = directory.join(&order.instance);
    if let Err(error) = write(directory, &file, &environment_file(&order.environment)) {
        return JobOutcome::Failed(format!("{} cannot be written: {error}", file.display()));
    }
    let unit = order.unit();
    let outcome = tokio::select! {
        outcome = jobs::start_existing(session, &unit) => outcome,
        () = session.inbox.lost() => JobOutcome::Failed("the bus was lost meanwhile".to_owned()),
        () = tokio::time::sleep(PATIENCE) => {
            // Whether or not that works, it is told.
            let _ = session.manager.stop_unit(unit.as_str(), "replace").await;
            let seconds = PATIENCE.as_secs();
            JobOutcome::Failed(format!("{unit} has not ended within {seconds} s and was stopped"))
        }
    };
    let _ = fs::remove_file(&file);
    outcome
}

/// Whole or not at all, and for the manager's user alone.
fn write(directory: &Path, file: &Path, text: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let draft = directory.join(".new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(&draft)?.write_all(text.as_bytes())?;
    fs::rename(&draft, file)
}

/// In the syntax of systemd.exec(5), EnvironmentFile=: values between double quotes may have several
/// lines. Control characters, for which systemd would drop the variable, are shown as U+FFFD.
fn environment_file(environment: &[(&'static str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in environment {
        // Writing to a text cannot fail.
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

    fn order(instance: &str) -> AlertOrder {
        let template = UnitTemplate::new("notify@.service").unwrap();
        AlertOrder { template, instance: instance.to_owned(), environment: Vec::new() }
    }

    fn started(backlog: &mut Backlog) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(next) = backlog.next() {
            match next {
                Next::Start(order) => names.push(order.instance),
                Next::TellDropped(_, count) => names.push(format!("dropped {count}")),
            }
        }
        names
    }

    #[test]
    fn four_are_started_at_a_time_and_of_an_instance_one() {
        let mut backlog = Backlog::default();
        for instance in ["a", "a", "b", "c", "d", "e"] {
            backlog.push(order(instance));
        }
        assert_eq!(started(&mut backlog), ["a", "b", "c", "d"]);
        backlog.running.remove(&order("b").unit());
        assert_eq!(started(&mut backlog), ["e"], "the second of `a` waits for the first");
        backlog.running.remove(&order("a").unit());
        assert_eq!(started(&mut backlog), ["a"]);
    }

    #[test]
    fn a_burst_is_bounded_and_what_was_dropped_is_told_at_its_end() {
        let mut backlog = Backlog::default();
        (0..10_000).for_each(|number| backlog.push(order(&format!("d{number}"))));
        let mut all = Vec::new();
        loop {
            let names = started(&mut backlog);
            if names.is_empty() {
                break;
            }
            all.extend(names);
            backlog.running.clear();
        }
        assert_eq!(all.len(), MOST_WAITING + 1);
        assert_eq!(all[MOST_WAITING], format!("dropped {}", 10_000 - MOST_WAITING));
        backlog.push(order("later"));
        assert_eq!(started(&mut backlog), ["later"]);
    }

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
