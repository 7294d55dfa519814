//! Starts and stops units, and waits until the jobs end.
//!
//! An operation is repeated here only when systemd's absence interrupted it, because repeating
//! either operation is harmless. All other retries are decided by the core.

use super::condition::{Markers, Properties, text_of};
use super::inbox::{CreatedUnit, UnitWatch};
use super::proxy::{Meaning, Property, meaning, words};
use super::reading::UnitReading;
use super::session::ManagerSession;
use iotmonitor_core::model::unit::{ActiveState, JobOutcome, UnitReport};
use iotmonitor_core::model::unit_name::UnitName;
use std::time::Duration;
use zbus::{OwnedObjectPath, Variant};

/// The interval at which a job is checked whose end has not been reported.
const JOB_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The time for which systemd may be off the bus during an operation.
const ABSENCE_LIMIT: Duration = Duration::from_secs(10);

/// The number of tries to remove an ended unit and to repeat what systemd's absence interrupted.
const ATTEMPTS: usize = 4;

/// A unit to be created.
pub(super) struct NewUnit {
    pub properties: Vec<Property>,
    /// What these mark it with.
    pub markers: Markers,
}

/// The goal of an operation.
#[derive(Clone, Copy)]
enum JobGoal<'a> {
    Running(&'a NewUnit),
    Gone,
}

/// Explains why an operation did not complete.
pub(super) enum JobFailure {
    /// A call failed.
    Call(zbus::Error),
    /// The reason in words, for a person.
    Final(String),
}

impl From<zbus::Error> for JobFailure {
    fn from(error: zbus::Error) -> Self {
        JobFailure::Call(error)
    }
}

/// Starts a transient unit, unless it is alive already.
pub(super) async fn start(session: &ManagerSession, unit: &UnitName, new: &NewUnit) -> JobOutcome {
    repeat(session, unit, JobGoal::Running(new)).await
}

/// The result of starting a unit that does not belong to this monitor.
#[derive(Debug)]
pub(super) struct ExistingUnit {
    active: String,
    sub: String,
    result: String,
    condition: bool,
}

impl ExistingUnit {
    /// Whether it has failed, and systemd is about to restart it.
    pub fn is_between_restarts(&self) -> bool {
        self.sub.starts_with("auto-restart")
    }
}

/// Starts a unit that does not belong to this monitor, and waits until it has succeeded; a oneshot
/// service until it has ended. One that systemd restarts by itself has not failed yet.
pub(super) async fn run_existing(
    session: &ManagerSession,
    unit: &UnitName,
) -> Result<(), JobFailure> {
    let watch = session.inbox.watch(unit);
    let job = session.manager.start_unit(unit.as_str(), "replace").await?;
    let mut result = job_result(session, &watch, &job).await?;
    loop {
        // Most results mean the same, whatever was to be started.
        match result.as_str() {
            "done" | "gone" | "failed" => {}
            "skipped" => {
                return Err(JobFailure::Final(format!(
                    "{unit} is active already and was not started again: it should be \
                     Type=oneshot without RemainAfterExit="
                )));
            }
            other => start_outcome(unit, other)?,
        }
        let ended = watch.count();
        let state = state_of_existing(session, unit).await?;
        if state.is_between_restarts() || state.active == "activating" {
            result = watch.another(ended).await;
            continue;
        }
        if !state.condition {
            return Err(JobFailure::Final(format!(
                "{unit} was skipped, since a condition of it is not met"
            )));
        }
        if state.active != "failed" && matches!(state.result.as_str(), "" | "success") {
            return Ok(());
        }
        return Err(JobFailure::Final(format!(
            "{unit} ended as `failed` ({}), `systemctl status {unit}` shows more",
            state.result
        )));
    }
}

/// The properties of a loaded unit that does not belong to this monitor.
pub(super) async fn state_of_existing(
    session: &ManagerSession,
    unit: &UnitName,
) -> zbus::Result<ExistingUnit> {
    let path = session.manager.get_unit(unit.as_str()).await?;
    let reply = session.all_properties(&path).await?;
    let body = reply.body();
    let properties: Properties<'_> = body.deserialize()?;
    let text = |key: &str| text_of(&properties, key).to_owned();
    Ok(ExistingUnit {
        active: text("ActiveState"),
        sub: text("SubState"),
        result: text("Result"),
        condition: !matches!(properties.get("ConditionResult"), Some(Variant::Bool(false))),
    })
}

/// Stops a unit and removes it; one that does not exist is stopped.
pub(super) async fn stop(session: &ManagerSession, unit: &UnitName) -> JobOutcome {
    repeat(session, unit, JobGoal::Gone).await
}

/// Continues an operation over a short absence of systemd, and ends it with a check of the unit, so
/// that its report comes before the operation's end.
async fn repeat(session: &ManagerSession, unit: &UnitName, goal: JobGoal<'_>) -> JobOutcome {
    let watch = session.inbox.watch(unit);
    let mut outcome = once(session, &watch, unit, goal).await;
    for _ in 1..ATTEMPTS {
        match &outcome {
            Err(JobFailure::Call(error)) if meaning(error) == Meaning::ManagerAway => {}
            Ok(_) | Err(JobFailure::Call(_) | JobFailure::Final(_)) => break,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _ = tokio::time::timeout(ABSENCE_LIMIT, session.inbox.manager_present()).await;
        outcome = once(session, &watch, unit, goal).await;
    }
    let created = outcome.as_mut().ok().and_then(Option::take);
    let report = watch.check(created).await.ok().flatten();
    match outcome {
        Ok(_) => JobOutcome::Done,
        Err(JobFailure::Call(error)) => {
            JobOutcome::Failed(format!("systemd refused {unit}: {}", words(&error)))
        }
        Err(JobFailure::Final(sentence)) => JobOutcome::Failed(with_last_exit(sentence, report)),
    }
}

/// Returns the unit if a job has just created it.
async fn once(
    session: &ManagerSession,
    watch: &UnitWatch<'_>,
    unit: &UnitName,
    goal: JobGoal<'_>,
) -> Result<Option<CreatedUnit>, JobFailure> {
    match goal {
        JobGoal::Running(new) => start_once(session, watch, unit, new).await,
        JobGoal::Gone => stop_once(session, watch, unit).await.map(|()| None),
    }
}

fn with_last_exit(sentence: String, report: Option<UnitReport>) -> String {
    match report.and_then(|report| report.last_exit) {
        Some(exit) => format!("{sentence}; its process {exit}"),
        None => sentence,
    }
}

async fn start_once(
    session: &ManagerSession,
    watch: &UnitWatch<'_>,
    unit: &UnitName,
    new: &NewUnit,
) -> Result<Option<CreatedUnit>, JobFailure> {
    let mut is_absent_and_exists = false;
    for attempt in 0..=ATTEMPTS {
        if attempt > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // It is read only if systemd refuses it, since each call costs systemd time in which it starts
        // nothing.
        if let Some((job, result)) = create(session, watch, unit, &new.properties).await? {
            start_outcome(unit, &result)?;
            let markers = new.markers.clone();
            return Ok((result == "done").then_some(CreatedUnit { markers, job }));
        }
        match session.read(unit).await? {
            // Either systemd has released the ended one meanwhile, or there is a unit file of that name
            // that nothing refers to: the next attempt shows which.
            UnitReading::Absent if is_absent_and_exists => return Err(foreign(unit, None)),
            UnitReading::Absent => is_absent_and_exists = true,
            UnitReading::Foreign { file } => return Err(foreign(unit, file)),
            UnitReading::Own(report) if report.active.is_alive() => return Ok(None),
            UnitReading::Own(report) => clear(session, watch, unit, report.active).await?,
        }
    }
    Err(JobFailure::Final(format!(
        "{unit} has ended, but systemd does not let go of it; `systemctl status {unit}` shows more"
    )))
}

/// Creates and starts a transient unit; returns its job with the result, or `None` if there is a unit
/// of that name.
async fn create(
    session: &ManagerSession,
    watch: &UnitWatch<'_>,
    unit: &UnitName,
    properties: &[Property],
) -> Result<Option<(OwnedObjectPath, String)>, JobFailure> {
    match session.manager.start_transient_unit(unit.as_str(), "fail", properties, &[]).await {
        Ok(job) => {
            let result = job_result(session, watch, &job).await?;
            Ok(Some((job, result)))
        }
        Err(error) if meaning(&error) == Meaning::UnitExists => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn stop_once(
    session: &ManagerSession,
    watch: &UnitWatch<'_>,
    unit: &UnitName,
) -> Result<(), JobFailure> {
    match session.read(unit).await? {
        UnitReading::Absent => Ok(()),
        UnitReading::Foreign { file } => Err(foreign(unit, file)),
        UnitReading::Own(report) => clear(session, watch, unit, report.active).await,
    }
}

/// Stops a unit of this monitor if it has not ended, and makes systemd forget its failure, upon
/// which it is unloaded.
pub(super) async fn clear(
    session: &ManagerSession,
    watch: &UnitWatch<'_>,
    unit: &UnitName,
    active: ActiveState,
) -> Result<(), JobFailure> {
    match active {
        // A failed unit stays loaded for `systemctl status`; nothing is left to stop.
        ActiveState::Failed => {}
        ActiveState::Active
        | ActiveState::Reloading
        | ActiveState::Activating
        | ActiveState::Deactivating
        | ActiveState::Inactive => {
            match session.manager.stop_unit(unit.as_str(), "replace").await {
                Ok(job) => stop_outcome(unit, &job_result(session, watch, &job).await?)?,
                Err(error) if meaning(&error) == Meaning::NoSuchUnit => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
    match session.manager.reset_failed_unit(unit.as_str()).await {
        Ok(()) => Ok(()),
        Err(error) if meaning(&error) == Meaning::NoSuchUnit => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits for a job's end. There is no time limit: a stop takes as long as the unit's
/// TimeoutStopUSec. When systemd no longer knows the job and its end was not reported (systemd
/// re-executed itself), the result is `gone`.
async fn job_result(
    session: &ManagerSession,
    watch: &UnitWatch<'_>,
    job: &OwnedObjectPath,
) -> Result<String, JobFailure> {
    loop {
        tokio::select! {
            result = watch.result(job) => return Ok(result),
            () = tokio::time::sleep(JOB_CHECK_INTERVAL) => {}
        }
        if !session.job_exists(job).await? {
            let last_chance = tokio::time::timeout(Duration::from_secs(1), watch.result(job));
            return Ok(last_chance.await.unwrap_or_else(|_elapsed| "gone".to_owned()));
        }
    }
}

/// All results that systemd 257 knows (org.freedesktop.systemd1(5), JobRemoved), and room for
/// those of a later one.
fn start_outcome(unit: &UnitName, result: &str) -> Result<(), JobFailure> {
    let why = match result {
        // `gone` counts as done: the report of the unit, which comes first, shows its state.
        "done" | "gone" => return Ok(()),
        "failed" => "it failed to start",
        "timeout" => "it did not start in time",
        "canceled" => "its start was canceled, by a stop or a shutdown",
        "dependency" => "a unit that it depends on failed",
        "skipped" => "systemd skipped the start",
        "invalid" => "a reload is not possible in its state",
        "assert" => "an assertion of the unit failed",
        "unsupported" => "this system does not support such a unit",
        "collected" => "the unit was unloaded before it started",
        "once" => "the unit may run only once and did",
        "frozen" => "the unit is frozen, `systemctl thaw` it first",
        "concurrency" => "its slice allows no more units at a time",
        other => {
            return Err(JobFailure::Final(format!("{unit}: systemd ended the start as {other}")));
        }
    };
    Err(JobFailure::Final(format!("{unit}: {why}")))
}

fn stop_outcome(unit: &UnitName, result: &str) -> Result<(), JobFailure> {
    let why = match result {
        // A unit that is unloaded, or whose stop has nothing to do, is stopped.
        "done" | "gone" | "collected" | "skipped" => return Ok(()),
        // The process had to be killed, or failed at its end: it is gone all the same.
        "failed" | "timeout" => return Ok(()),
        "canceled" => "its stop was canceled by a start",
        "frozen" => "the unit is frozen, `systemctl thaw` it first",
        other => {
            return Err(JobFailure::Final(format!("{unit}: systemd ended the stop as {other}")));
        }
    };
    Err(JobFailure::Final(format!("{unit}: {why}")))
}

fn foreign(unit: &UnitName, file: Option<String>) -> JobFailure {
    JobFailure::Final(match file {
        Some(file) => format!(
            "a unit {unit} that is not iotmonitor's exists already, from {file}: remove it or \
             rename the agent"
        ),
        None => format!(
            "a unit {unit} that is not iotmonitor's exists already: remove it or rename the agent \
             (`systemctl cat {unit}` shows it)"
        ),
    })
}
