//! What changes of a unit while it exists: its state, its main process and how the last one ended.
//!
//! systemd sends all of it when it is asked for a unit's properties, and also with each change:
//! first the properties of the service, and directly behind them those of the unit, which it has read
//! at the same moment (`bus_unit_send_change_signal` in systemd 252 and 257). Such a pair may show
//! the middle of a transition, which no answer shows; another one follows then.

use iotmonitor_core::model::unit::{ActiveState, SharedUnit, UnitReport};
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::HashMap;
use std::time::Duration;
use zbus::Variant;

pub(super) type Properties<'v> = HashMap<String, Variant<'v>>;

/// What a unit was given when it was created, beside what it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Markers {
    /// The definition hash.
    pub definition: Option<String>,
    pub shared: Option<SharedUnit>,
}

impl Markers {
    pub fn of(report: &UnitReport) -> Self {
        Self { definition: report.definition.clone(), shared: report.shared.clone() }
    }
}

/// The properties of a service alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServiceCondition {
    main_pid: u32,
    restarts: u32,
    result: String,
    last_exit: Option<String>,
    ended_at: Option<Duration>,
}

impl ServiceCondition {
    /// Reads what systemd has signalled; `None` unless it is complete.
    pub fn signalled(properties: &Properties<'_>) -> Option<Self> {
        let keys = [
            "MainPID",
            "NRestarts",
            "Result",
            "ExecMainCode",
            "ExecMainStatus",
            "ExecMainExitTimestamp",
        ];
        keys.iter().all(|key| properties.contains_key(*key)).then(|| Self::read(properties))
    }

    fn read(properties: &Properties<'_>) -> Self {
        let result = text_of(properties, "Result");
        Self {
            main_pid: number_of(properties, "MainPID"),
            restarts: number_of(properties, "NRestarts"),
            result: result.to_owned(),
            last_exit: match result {
                // No process was created, so the last one's exit is an older one.
                "resources" => Some(without_process(&environment_files(properties))),
                _ => last_exit(
                    signed_of(properties, "ExecMainCode"),
                    signed_of(properties, "ExecMainStatus"),
                ),
            },
            ended_at: match properties.get("ExecMainExitTimestamp") {
                Some(Variant::U64(0)) | None => None,
                Some(Variant::U64(microseconds)) => Some(Duration::from_micros(*microseconds)),
                Some(_) => None,
            },
        }
    }
}

/// All that changes of a service's unit, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitCondition {
    service: ServiceCondition,
    active: ActiveState,
    /// The path of its job, if it has one.
    job: Option<String>,
    invocation: String,
    /// When the unit last changed its state, in microseconds of the monotonic clock.
    changed_at: u64,
}

impl UnitCondition {
    /// Adds to the condition of the service what systemd has signalled of the unit; `None` unless
    /// that is complete.
    pub fn signalled(service: ServiceCondition, properties: &Properties<'_>) -> Option<Self> {
        let keys = ["ActiveState", "Job", "InvocationID", "StateChangeTimestampMonotonic"];
        let is_complete = keys.iter().all(|key| properties.contains_key(*key));
        is_complete.then(|| Self::of(service, properties))
    }

    /// Reads all properties; what is missing counts as empty.
    pub fn read(properties: &Properties<'_>) -> Self {
        Self::of(ServiceCondition::read(properties), properties)
    }

    fn of(service: ServiceCondition, properties: &Properties<'_>) -> Self {
        Self {
            service,
            active: active_state(text_of(properties, "ActiveState")),
            job: job_of(properties.get("Job")),
            invocation: hex(properties.get("InvocationID")),
            changed_at: changed_at(properties),
        }
    }

    /// The same after the end of this job.
    #[must_use]
    pub fn without_job(self, ended: &str) -> Self {
        Self { job: self.job.filter(|job| job != ended), ..self }
    }

    /// Whether the unit is up or about to be, with a main process, and nothing has failed. Of any
    /// other unit, a report takes more than what is signalled.
    pub fn is_running(&self) -> bool {
        let is_up = self.active.is_alive() && self.service.main_pid != 0;
        is_up && self.service.result == "success"
    }

    pub fn changed_at(&self) -> u64 {
        self.changed_at
    }

    pub fn report(self, unit: UnitName, markers: Markers) -> UnitReport {
        let ServiceCondition { main_pid, restarts, result, last_exit, ended_at } = self.service;
        let Markers { definition, shared } = markers;
        UnitReport {
            unit,
            active: self.active,
            has_job: self.job.is_some(),
            main_pid,
            invocation: self.invocation,
            restarts,
            result,
            last_exit,
            ended_at,
            definition,
            shared,
        }
    }
}

/// When the unit last changed its state, in microseconds of the monotonic clock.
pub(super) fn changed_at(properties: &Properties<'_>) -> u64 {
    match properties.get("StateChangeTimestampMonotonic") {
        Some(Variant::U64(microseconds)) => *microseconds,
        Some(_) | None => 0,
    }
}

pub(super) fn text_of<'p>(properties: &'p Properties<'_>, name: &str) -> &'p str {
    match properties.get(name) {
        Some(Variant::Str(text)) => text.as_str(),
        Some(_) | None => "",
    }
}

fn number_of(properties: &Properties<'_>, name: &str) -> u32 {
    match properties.get(name) {
        Some(Variant::U32(number)) => *number,
        Some(_) | None => 0,
    }
}

fn signed_of(properties: &Properties<'_>, name: &str) -> i32 {
    match properties.get(name) {
        Some(Variant::I32(number)) => *number,
        Some(_) | None => 0,
    }
}

/// The path of a unit's job; without one, its number is 0.
fn job_of(value: Option<&Variant<'_>>) -> Option<String> {
    let Some(Variant::Structure(job)) = value else { return None };
    match job.fields() {
        [Variant::U32(number), Variant::ObjectPath(path)] if *number != 0 => Some(path.to_string()),
        _ => None,
    }
}

/// systemd's word for an active state. `maintenance` and states that later versions may add count
/// as failed: not running, and not about to run.
pub(super) fn active_state(word: &str) -> ActiveState {
    match word {
        "active" | "refreshing" => ActiveState::Active,
        "reloading" => ActiveState::Reloading,
        "inactive" => ActiveState::Inactive,
        "activating" => ActiveState::Activating,
        "deactivating" => ActiveState::Deactivating,
        _ => ActiveState::Failed,
    }
}

/// The reason why systemd created no process, as far as its result `resources` shows.
fn without_process(environment_files: &[&str]) -> String {
    match environment_files {
        [] => "was not started: systemd had no resources for it".to_owned(),
        files => format!(
            "was not started: systemd could not read {}, or had no resources for it",
            files.join(", ")
        ),
    }
}

/// The paths of an `a(sb)`.
fn environment_files<'v>(properties: &'v HashMap<String, Variant<'_>>) -> Vec<&'v str> {
    let Some(Variant::Array(files)) = properties.get("EnvironmentFiles") else { return Vec::new() };
    files
        .iter()
        .filter_map(|file| match file {
            Variant::Structure(fields) => match fields.fields().first() {
                Some(Variant::Str(path)) => Some(path.as_str()),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

/// Describes how a main process ended; `None` when none has ended yet. The code is the `si_code` of
/// waitid(2).
fn last_exit(code: i32, status: i32) -> Option<String> {
    const CLD_EXITED: i32 = 1;
    const CLD_KILLED: i32 = 2;
    const CLD_DUMPED: i32 = 3;
    match code {
        CLD_EXITED => Some(match systemd_exit_status(status) {
            Some(meaning) => format!("exited with {status} ({meaning})"),
            None => format!("exited with {status}"),
        }),
        CLD_KILLED => Some(format!("killed by {}", signal_name(status))),
        CLD_DUMPED => Some(format!("killed by {} (core dumped)", signal_name(status))),
        _ => None,
    }
}

fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_real_time) => format!("signal {number}"),
    }
}

/// Exit statuses of systemd itself for a process that it could not set up (systemd.exec(5),
/// "Process Exit Codes").
fn systemd_exit_status(status: i32) -> Option<&'static str> {
    Some(match status {
        127 => "the shell or `env` did not find a program",
        200 => "CHDIR: the working directory does not exist or may not be entered",
        202 => "FDS: file descriptors could not be set up",
        203 => "EXEC: the program does not exist or cannot be executed",
        204 => "MEMORY: out of memory",
        205 => "LIMITS: a resource limit could not be set",
        214 => "SETSCHEDULER: the scheduling could not be set",
        215 => "CPUAFFINITY: the CPU affinity could not be set",
        216 => "GROUP: the group does not exist",
        217 => "USER: the user does not exist",
        218 => "CAPABILITIES: the capabilities could not be set",
        219 => "CGROUP: the control group could not be set up",
        224 => "PAM: a PAM session could not be opened",
        226 => "NAMESPACE: the sandbox could not be set up",
        228 => "SECCOMP: the system call filter could not be set",
        233 => "RUNTIME_DIRECTORY: a runtime directory could not be set up",
        238 => "STATE_DIRECTORY: the state directory could not be set up",
        243 => "CREDENTIALS: a credential is missing",
        _ => return None,
    })
}

/// An `ay` as lower-case hex digits.
fn hex(value: Option<&Variant<'_>>) -> String {
    match value {
        Some(Variant::Array(array)) => {
            bytes_of(array).iter().map(|byte| format!("{byte:02x}")).collect()
        }
        _ => String::new(),
    }
}

pub(super) fn bytes_of(array: &zbus::Array<'_>) -> Vec<u8> {
    array
        .iter()
        .filter_map(|element| match element {
            Variant::U8(byte) => Some(*byte),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit's job, or none with the number 0.
    fn job(number: u32) -> Variant<'static> {
        let path = zbus::ObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{number}"));
        Variant::from((number, path.unwrap()))
    }

    #[test]
    fn a_unit_with_a_job_is_about_to_change() {
        let report = |condition: UnitCondition| {
            let unit = UnitName::from_systemd("iotmonitor-agent-box.service");
            condition.report(unit, Markers { definition: None, shared: None }).has_job
        };
        let with =
            |number| UnitCondition::read(&Properties::from([("Job".to_owned(), job(number))]));
        assert!(report(with(7)) && !report(with(0)));
        assert!(!report(UnitCondition::read(&Properties::new())));
        assert!(!report(with(7).without_job("/org/freedesktop/systemd1/job/7")));
        assert!(report(with(8).without_job("/org/freedesktop/systemd1/job/7")), "another one");
    }

    #[test]
    fn a_start_without_a_process_names_what_it_wanted() {
        let mut refused = Properties::from([("Result".to_owned(), Variant::from("resources"))]);
        let exit =
            |properties: &Properties<'_>| ServiceCondition::read(properties).last_exit.unwrap();
        assert_eq!(exit(&refused), "was not started: systemd had no resources for it");
        let files = Variant::from(vec![("/srv/env".to_owned(), false)]);
        refused.insert("EnvironmentFiles".to_owned(), files);
        assert!(exit(&refused).contains("could not read /srv/env"), "{}", exit(&refused));
    }

    #[test]
    fn exits_are_described_in_words() {
        assert_eq!(last_exit(0, 0), None);
        assert_eq!(last_exit(1, 0).as_deref(), Some("exited with 0"));
        assert_eq!(last_exit(1, 1).as_deref(), Some("exited with 1"));
        assert_eq!(last_exit(2, 15).as_deref(), Some("killed by SIGTERM"));
        assert_eq!(last_exit(3, 11).as_deref(), Some("killed by SIGSEGV (core dumped)"));
        assert_eq!(last_exit(2, 40).as_deref(), Some("killed by signal 40"));
        assert_eq!(
            last_exit(1, 217).as_deref(),
            Some("exited with 217 (USER: the user does not exist)")
        );
    }
}
