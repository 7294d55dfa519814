//! Derives a report from a unit's properties: pure, without a bus.

use super::proxy::UNIT_NAMESPACE;
use iotmonitor_core::model::cluster::store::Revision;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::unit::{ActiveState, SharedUnit, UnitReport};
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::HashMap;
use std::time::Duration;
use zbus::Variant;

/// Journal fields that mark a unit as an agent of this program. They are also part of every entry
/// that the agent writes.
pub(super) const FIELD_AGENT: &str = "IOTMONITOR_AGENT";
/// The clientid of the instance that the unit belongs to.
pub(super) const FIELD_INSTANCE: &str = "IOTMONITOR_INSTANCE";
/// The definition hash that the unit was started with.
pub(super) const FIELD_DEFINITION: &str = "IOTMONITOR_DEFINITION";
/// By what right an agent that several nodes share runs here.
pub(super) const FIELD_EPOCH: &str = "IOTMONITOR_EPOCH";

/// Escapes a string for a marker. systemd writes the marker into the unit's file and splits it at
/// the blanks when it reads the file again, at a daemon-reload; so each blank becomes `\xNN`, as in
/// the unit's name.
pub(super) fn marked(text: &str) -> String {
    let mut marked = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_whitespace() || character.is_ascii_control() {
            marked.push_str(&format!("\\x{:02x}", u32::from(character)));
        } else {
            marked.push(character);
        }
    }
    marked
}

/// The string behind what [`marked`] has written.
fn unmarked(field: &str) -> String {
    let mut parts = field.split("\\x");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code.filter(|code| code.is_ascii_whitespace() || code.is_ascii_control()) {
            Some(code) => {
                text.push(char::from(code));
                text.push_str(&part[2..]);
            }
            None => text.extend(["\\x", part]),
        }
    }
    text
}

/// Whether a marker names this instance. Up to 0.3 it contained the blanks, of which systemd keeps
/// only the part before the first one; the unit's name contains the rest.
fn names_instance(field: &str, unit: &UnitName, client_id: &str) -> bool {
    field == marked(client_id)
        || (client_id.split_ascii_whitespace().next() == Some(field) || field == client_id)
            && unit.is_of(client_id)
}

/// All units of all instances, for ListUnitsByPatterns.
pub(super) const UNIT_PATTERN: &str = "iotmonitor*-agent-*.service";

/// The object behind a unit's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UnitReading {
    /// Nothing: not loaded, or a name that other units mention without such a unit existing.
    Absent,
    /// A unit that does not belong to this monitor, with its file if there is one.
    Foreign {
        file: Option<String>,
    },
    Own(UnitReport),
}

/// Whether a name can be that of an agent's unit, of whatever instance.
pub(super) fn may_be_agent(name: &str) -> bool {
    name.starts_with("iotmonitor-") && name.contains("agent-") && name.ends_with(".service")
}

/// The unit behind an object path, if it may be an agent's. systemd writes every byte of the name
/// that is not an ASCII letter or digit as `_` and two hex digits (sd_bus_path_encode(3)).
pub(super) fn agent_of_path(path: &str) -> Option<UnitName> {
    let label = path.strip_prefix(UNIT_NAMESPACE)?.strip_prefix('/')?;
    if !label.starts_with("iotmonitor") {
        return None;
    }
    let mut bytes = Vec::with_capacity(label.len());
    let mut rest = label.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'_' && tail.len() >= 2 {
            let digits = std::str::from_utf8(&tail[..2]).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    may_be_agent(&name).then(|| UnitName::from_systemd(name))
}

/// Interprets the properties of a loaded unit.
pub(super) fn interpret(
    unit: &UnitName,
    client_id: &str,
    properties: &HashMap<String, Variant<'_>>,
) -> UnitReading {
    let text = |name: &str| match properties.get(name) {
        Some(Variant::Str(text)) => text.as_str(),
        _ => "",
    };
    let number = |name: &str| match properties.get(name) {
        Some(Variant::U32(number)) => *number,
        _ => 0,
    };
    let signed = |name: &str| match properties.get(name) {
        Some(Variant::I32(number)) => *number,
        _ => 0,
    };
    let fields = byte_strings(properties.get("LogExtraFields"));
    let field = |name: &str| {
        fields.iter().find_map(|f| f.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };

    let is_ours = field(FIELD_INSTANCE).is_some_and(|id| names_instance(&id, unit, client_id));
    if !is_ours || field(FIELD_AGENT).is_none() {
        if text("LoadState") == "not-found" {
            return UnitReading::Absent;
        }
        let file = text("FragmentPath");
        return UnitReading::Foreign { file: (!file.is_empty()).then(|| file.to_owned()) };
    }
    UnitReading::Own(UnitReport {
        unit: unit.clone(),
        active: active_state(text("ActiveState")),
        has_job: has_job(properties.get("Job")),
        main_pid: number("MainPID"),
        invocation: hex(properties.get("InvocationID")),
        restarts: number("NRestarts"),
        result: text("Result").to_owned(),
        last_exit: match text("Result") {
            // No process was created, so the last one's exit is an older one.
            "resources" => Some(without_process(&environment_files(properties))),
            _ => last_exit(signed("ExecMainCode"), signed("ExecMainStatus")),
        },
        ended_at: match properties.get("ExecMainExitTimestamp") {
            Some(Variant::U64(0)) | None => None,
            Some(Variant::U64(microseconds)) => Some(Duration::from_micros(*microseconds)),
            Some(_) => None,
        },
        definition: field(FIELD_DEFINITION),
        shared: field(FIELD_EPOCH).and_then(|epoch| {
            let agent = agent_of(unit, client_id, field(FIELD_AGENT)?)?;
            Some(SharedUnit { agent, epoch: Revision(epoch.parse().ok()?) })
        }),
    })
}

/// The agent that a marker names. A name with a backslash may look like an escaped one, so the name of
/// the unit decides.
fn agent_of(unit: &UnitName, client_id: &str, field: String) -> Option<DeviceName> {
    let is_its = |name: &String| UnitName::for_agent(client_id, name).as_ref() == Ok(unit);
    let name = [unmarked(&field), field].into_iter().find(is_its)?;
    DeviceName::new(name).ok()
}

/// Whether the unit has a job, by its number.
fn has_job(value: Option<&Variant<'_>>) -> bool {
    match value {
        Some(Variant::Structure(job)) => {
            matches!(job.fields().first(), Some(Variant::U32(number)) if *number != 0)
        }
        Some(_) | None => false,
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

/// An `aay` whose elements are strings.
fn byte_strings(value: Option<&Variant<'_>>) -> Vec<String> {
    let Some(Variant::Array(array)) = value else { return Vec::new() };
    array
        .iter()
        .filter_map(|element| match element {
            Variant::Array(bytes) => String::from_utf8(bytes_of(bytes)).ok(),
            _ => None,
        })
        .collect()
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

fn bytes_of(array: &zbus::Array<'_>) -> Vec<u8> {
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

    fn properties(fields: &[&str]) -> HashMap<String, Variant<'static>> {
        let fields: Vec<Vec<u8>> = fields.iter().map(|f| f.as_bytes().to_vec()).collect();
        HashMap::from([
            ("LoadState".to_owned(), Variant::from("loaded")),
            ("ActiveState".to_owned(), Variant::from("active")),
            ("FragmentPath".to_owned(), Variant::from("/etc/systemd/system/x.service")),
            ("Job".to_owned(), job(0)),
            ("MainPID".to_owned(), Variant::from(17_u32)),
            ("NRestarts".to_owned(), Variant::from(2_u32)),
            ("InvocationID".to_owned(), Variant::from(vec![0x0a_u8, 0xff])),
            ("Result".to_owned(), Variant::from("signal")),
            ("ExecMainCode".to_owned(), Variant::from(2_i32)),
            ("ExecMainStatus".to_owned(), Variant::from(9_i32)),
            ("ExecMainExitTimestamp".to_owned(), Variant::from(1_700_000_000_500_000_u64)),
            ("LogExtraFields".to_owned(), Variant::from(fields)),
        ])
    }

    /// A unit's job, or none with the number 0.
    fn job(number: u32) -> Variant<'static> {
        let path = zbus::ObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{number}"));
        Variant::from((number, path.unwrap()))
    }

    #[test]
    fn a_unit_with_a_job_is_about_to_change() {
        assert!(has_job(Some(&job(7))));
        assert!(!has_job(Some(&job(0))) && !has_job(None));
    }

    fn lamp() -> UnitName {
        UnitName::for_agent("iotmonitor", "lamp").unwrap()
    }

    #[test]
    fn a_marked_unit_is_read_in_full() {
        let marked = properties(&[
            "IOTMONITOR_AGENT=lamp",
            "IOTMONITOR_INSTANCE=iotmonitor",
            "IOTMONITOR_DEFINITION=abc",
        ]);
        let report = UnitReport {
            unit: lamp(),
            active: ActiveState::Active,
            has_job: false,
            main_pid: 17,
            invocation: "0aff".to_owned(),
            restarts: 2,
            result: "signal".to_owned(),
            last_exit: Some("killed by SIGKILL".to_owned()),
            ended_at: Some(Duration::from_millis(1_700_000_000_500)),
            definition: Some("abc".to_owned()),
            shared: None,
        };
        assert_eq!(interpret(&lamp(), "iotmonitor", &marked), UnitReading::Own(report));
    }

    #[test]
    fn the_marker_says_by_what_right_a_shared_agent_runs() {
        let shared = |agent: &str, epoch: &str| {
            let (agent, epoch) =
                (format!("IOTMONITOR_AGENT={agent}"), format!("IOTMONITOR_EPOCH={epoch}"));
            let marked = properties(&[&agent, "IOTMONITOR_INSTANCE=iotmonitor", &epoch]);
            move |name: &str| {
                let unit = UnitName::for_agent("iotmonitor", name).unwrap();
                match interpret(&unit, "iotmonitor", &marked) {
                    UnitReading::Own(report) => report.shared,
                    other => panic!("{other:?}"),
                }
            }
        };
        for name in ["lamp", "my pump", "a\\x20b", "küche"] {
            let agent = DeviceName::new(name).unwrap();
            let expected = SharedUnit { agent, epoch: Revision(7) };
            assert_eq!(shared(&marked(name), "7")(name), Some(expected));
        }
        assert_eq!(shared("lamp", "x")("lamp"), None);
        assert_eq!(shared("pump", "7")("lamp"), None);
    }

    #[test]
    fn the_marker_decides_whose_a_unit_is() {
        let file = Some("/etc/systemd/system/x.service".to_owned());
        for fields in [
            &[][..],
            &["IOTMONITOR_AGENT=lamp"],
            &["IOTMONITOR_AGENT=lamp", "IOTMONITOR_INSTANCE=garden"],
            &["IOTMONITOR_AGENT=lamp", "IOTMONITOR_INSTANCE=iotmonitor2"],
            &["IOTMONITOR_INSTANCE=iotmonitor"],
        ] {
            assert_eq!(
                interpret(&lamp(), "iotmonitor", &properties(fields)),
                UnitReading::Foreign { file: file.clone() },
                "{fields:?}"
            );
        }
    }

    #[test]
    fn blanks_in_a_marker_are_kept_over_a_daemon_reload() {
        assert_eq!(marked("the house\t2"), "the\\x20house\\x092");
        assert_eq!(marked("küche-1"), "küche-1");
        let unit = UnitName::for_agent("the house", "my pump").unwrap();
        let is_own = |unit: &UnitName, instance: &str| {
            let instance = format!("IOTMONITOR_INSTANCE={instance}");
            let marked = properties(&["IOTMONITOR_AGENT=my", &instance]);
            matches!(interpret(unit, "the house", &marked), UnitReading::Own(_))
        };
        // As it is, as earlier versions wrote it, and as systemd altered that.
        assert!(is_own(&unit, "the\\x20house"));
        assert!(is_own(&unit, "the house") && is_own(&unit, "the"));
        assert!(!is_own(&UnitName::for_agent("the", "my pump").unwrap(), "the"));
        assert!(!is_own(&unit, "house"));
    }

    #[test]
    fn a_mentioned_name_without_a_unit_is_absent() {
        let mut stub = properties(&[]);
        stub.insert("LoadState".to_owned(), Variant::from("not-found"));
        assert_eq!(interpret(&lamp(), "iotmonitor", &stub), UnitReading::Absent);
    }

    #[test]
    fn object_paths_give_back_the_names_of_units() {
        let unit = |path: &str| agent_of_path(path).map(|unit| unit.as_str().to_owned());
        let below = |label: &str| format!("/org/freedesktop/systemd1/unit/{label}");
        assert_eq!(
            unit(&below("iotmonitor_2dagent_2dled_5cx2dbox_2eservice")).as_deref(),
            Some("iotmonitor-agent-led\\x2dbox.service")
        );
        assert_eq!(
            unit(&below("iotmonitor_2dgarden_2dagent_2dpump_2eservice")).as_deref(),
            Some("iotmonitor-garden-agent-pump.service")
        );
        assert_eq!(unit(&below("iotmonitor_2eservice")), None);
        assert_eq!(unit(&below("ssh_2eservice")), None);
        assert_eq!(unit(&below("iotmonitor_2dagent_2d_zz_2eservice")), None);
        assert_eq!(unit("/org/freedesktop/systemd1"), None);
    }

    #[test]
    fn a_start_without_a_process_names_what_it_wanted() {
        let mut refused = properties(&["IOTMONITOR_AGENT=lamp", "IOTMONITOR_INSTANCE=iotmonitor"]);
        refused.insert("Result".to_owned(), Variant::from("resources"));
        let exit = |properties: &HashMap<String, Variant<'static>>| {
            let UnitReading::Own(report) = interpret(&lamp(), "iotmonitor", properties) else {
                panic!("it is ours")
            };
            report.last_exit.unwrap()
        };
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
