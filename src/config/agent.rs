//! Reads the keys of a section `[agent_…]` that describe the agent's process.
//!
//! Users, directories and files need not exist yet; systemd reports missing ones when it starts the
//! unit.

use super::Environment;
use super::credentials;
use super::mqtt::MqttSection;
use super::report::ConfigReport;
use super::section::{Field, Section, Text, fields};
use super::size::{self, Limit};
use crate::mqtt::settings::MqttSettings;
use crate::time_span::MAX_TIME_SPAN;
use iotmonitor_core::model::spec::{AgentSpec, DYNAMIC_USER, Exec, Sandbox};
use iotmonitor_core::model::unit_name::UnitName;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

pub(super) const KEYS: &[&str] = &[
    "exec",
    "user",
    "group",
    "workingDirectory",
    "environment",
    "environmentFile",
    "restartSec",
    "restartMaxSec",
    "stopTimeout",
    "memoryMax",
    "cpuQuota",
    "tasksMax",
    "sandbox",
    "restartOnExpire",
    credentials::KEY,
];

/// Maps keys of supervisord, pm2 and systemd to the equivalent here.
pub(super) fn hint_for_others(key: &str) -> Option<String> {
    let own = match key.to_ascii_lowercase().as_str() {
        "command" | "cmd" | "script" | "execstart" => "exec",
        "directory" | "cwd" | "chdir" => "workingDirectory",
        "env" => "environment",
        "env_file" | "envfile" => "environmentFile",
        "stopwaitsecs" | "kill_timeout" | "timeoutstopsec" => "stopTimeout",
        "max_memory_restart" => "memoryMax",
        "autostart" => "enabled",
        "autorestart" | "restart" | "startretries" => {
            return Some("remove it: an agent is started again whatever ends it".to_owned());
        }
        "args" | "interpreter" => {
            return Some("write the whole command into `exec`".to_owned());
        }
        _ => return None,
    };
    Some(format!("the key for this is `{own}`"))
}

const DEFAULT_RESTART: Duration = Duration::from_secs(1);
const DEFAULT_RESTART_MAX: Duration = Duration::from_secs(60);

/// With a shorter delay, an agent that fails at once would keep the machine busy with starts.
const LEAST_RESTART: Duration = Duration::from_millis(100);

/// systemd treats a stop timeout of 0 as infinite (systemd.service(5), TimeoutStopSec=).
const LEAST_STOP_TIMEOUT: Duration = Duration::from_millis(1);

/// No process starts in less than this; such a value is probably a number whose unit is missing.
const LEAST_MEMORY: u64 = 1 << 20;

/// In percent: a thousand processors.
const MOST_CPU: u32 = 100_000;

/// The environment variable in which the monitor itself passes on arguments that systemd would
/// alter.
const OWN_VARIABLE: &str = "IOTMONITOR_EXEC";

/// `None` when the section names no valid program or unit; the error has then been reported.
pub(super) fn read(
    section: &Section<'_>,
    name: &str,
    mqtt: &MqttSection,
    environment: &Environment,
    report: &mut ConfigReport,
) -> Option<AgentSpec> {
    let unit = mqtt.client_id.as_deref().and_then(|id| unit(section, id, name, report));
    let user = account(section, "user", report);
    let exec = exec(section, report);
    if let Some(exec) = &exec {
        let has_home = user.as_deref().is_some_and(|user| user != DYNAMIC_USER);
        warn_of_homeless_tilde(section, exec, has_home, environment, report);
    }
    if environment.user_manager
        && let Some((user, field)) = user.as_ref().zip(section.field("user"))
    {
        let message = format!("user `{user}` cannot be taken on in a user manager");
        let hint = "remove the key, or run iotmonitor in the system manager";
        report.warning(&field.span, message, hint);
    }
    let (restart_delay, restart_max_delay) = restart_delays(section, report);
    let stop_limits = LEAST_STOP_TIMEOUT..=MAX_TIME_SPAN;
    let group = account(section, "group", report);
    let working_directory = working_directory(section, report);
    let variables = variables(section, report);
    let environment_file = section.absolute_path("environmentFile", report);
    let stop_timeout = section.time_span("stopTimeout", &stop_limits, report);
    let memory_max = memory_max(section, report);
    let cpu_quota_percent = cpu_quota(section, report);
    let tasks_max = tasks_max(section, report);
    let sandbox = sandbox(section, report);
    let restart_on_expire = section.boolean("restartOnExpire", false, report);
    let pass_credentials = section.boolean(credentials::KEY, false, report);
    // Without settings, an error has already been reported.
    let broker = mqtt.settings.as_ref()?;
    Some(AgentSpec {
        unit: unit?,
        exec: exec?,
        user,
        group,
        working_directory,
        environment: variables,
        environment_file,
        restart_delay,
        restart_max_delay,
        stop_timeout,
        memory_max,
        cpu_quota_percent,
        tasks_max,
        sandbox,
        restart_on_expire,
        mqtt_server: broker.server.to_string(),
        credentials: if pass_credentials {
            credentials_of(broker, environment)
        } else {
            BTreeMap::new()
        },
    })
}

/// The broker's credentials at the paths where the daemon writes them, and the client certificate
/// at its own path.
fn credentials_of(
    broker: &MqttSettings,
    environment: &Environment,
) -> BTreeMap<&'static str, PathBuf> {
    let kept = broker.credentials().into_keys();
    let mut files: BTreeMap<_, _> =
        kept.map(|name| (name, environment.runtime_directory.join(name))).collect();
    if let Some((certificate, key)) = &broker.client_certificate {
        files.insert("mqtt-cert", certificate.clone());
        files.insert("mqtt-key", key.clone());
    }
    files
}

fn unit(
    section: &Section<'_>,
    client_id: &str,
    name: &str,
    report: &mut ConfigReport,
) -> Option<UnitName> {
    UnitName::for_agent(client_id, name)
        .map_err(|error| {
            let hint =
                "characters other than letters, digits, `:`, `_` and `.` count four bytes each";
            report.error(&section.header, error.to_string(), hint);
        })
        .ok()
}

fn exec(section: &Section<'_>, report: &mut ConfigReport) -> Option<Exec> {
    const HINT: &str =
        "write exec = \"command for the shell\" or exec = [\"/usr/bin/program\", \"argument\"]";
    let Some(field) = section.field("exec") else {
        report.error(&section.gap("exec"), format!("{} has no `exec`", section.title), HINT);
        return None;
    };
    match field.value {
        DeValue::String(_) => {
            let text = field.text(report)?;
            if text.trim().is_empty() {
                report.error(&field.span, format!("exec of {} is empty", section.title), HINT);
                return None;
            }
            Some(Exec::Shell(text.to_owned()))
        }
        DeValue::Array(items) => {
            let words = section.texts("exec", "/usr/bin/true", report);
            if words.first().map_or(items.is_empty(), |word| word.value.is_empty()) {
                report.error(
                    &field.span,
                    format!("exec of {} does not name a program", section.title),
                    HINT,
                );
                return None;
            }
            let words: Vec<_> = words.iter().map(|word| word.value.to_owned()).collect();
            (words.len() == items.len()).then_some(Exec::Argv(words))
        }
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => {
            field.report_type(
                "a string or a list of strings",
                HINT.trim_start_matches("write "),
                report,
            );
            None
        }
    }
}

/// Warns of a `~` that is not the home of the file's author: it means the home of the user that
/// runs the agent.
fn warn_of_homeless_tilde(
    section: &Section<'_>,
    exec: &Exec,
    has_user: bool,
    environment: &Environment,
    report: &mut ConfigReport,
) {
    let has_tilde = match exec {
        Exec::Shell(command) => command.contains('~'),
        Exec::Argv(words) => words.iter().any(|word| word.contains('~')),
    };
    if has_tilde
        && !has_user
        && section
            .field("user")
            .is_none_or(|field| matches!(field.value.as_str(), Some("" | DYNAMIC_USER)))
        && !environment.user_manager
        && let Some(field) = section.field("exec")
    {
        let message =
            format!("exec of {} holds `~`, and no `user` says whose home it is", section.title);
        let hint = "add the user whose agent this is: user = \"pi\" (without it: iotmonitor)";
        report.warning(&field.span, message, hint);
    }
}

/// The name or number of a user or group, as strictly as systemd.exec(5) checks it.
fn account(section: &Section<'_>, key: &str, report: &mut ConfigReport) -> Option<String> {
    let text = section.text(key, report)?;
    let bad =
        text.value.chars().find(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control());
    if bad.is_none() && !text.value.starts_with('-') && text.value.len() < 256 {
        return Some(text.value.to_owned());
    }
    let message = format!("`{}` is not a valid {key} name for `{key}`", text.value.escape_debug());
    report.error(&text.span, message, format!("write a name or a number: {key} = \"pi\""));
    None
}

fn working_directory(section: &Section<'_>, report: &mut ConfigReport) -> Option<PathBuf> {
    let text = section.text("workingDirectory", report)?;
    if text.value == "~" || text.value.starts_with('/') {
        return Some(PathBuf::from(text.value));
    }
    let message = format!("workingDirectory must be an absolute path, found `{}`", text.value);
    let hint = "write the path from `/` on, or \"~\" alone for the home of the agent's user";
    report.error(&text.span, message, hint);
    None
}

/// The environment; no message shows a value, because secrets are often passed this way.
fn variables(section: &Section<'_>, report: &mut ConfigReport) -> BTreeMap<String, String> {
    const EXAMPLE: &str = "environment = { TZ = \"Europe/Paris\" }";
    let mut variables = BTreeMap::new();
    let Some(field) = section.field("environment") else { return variables };
    let DeValue::Table(table) = field.value else {
        field.report_type("a table", EXAMPLE, report);
        return variables;
    };
    for entry in fields(table) {
        if !is_variable_name(entry.key) {
            let message = format!(
                "`{}` is not a valid name of an environment variable",
                entry.key.escape_debug()
            );
            let hint = "names consist of letters, digits and `_`, and do not start with a digit";
            report.error(&entry.key_span, message, hint);
        } else if entry.key == OWN_VARIABLE {
            let message = format!("`{OWN_VARIABLE}` is set by iotmonitor to pass `exec` on");
            report.error(&entry.key_span, message, "remove it, or choose another name");
        } else if let Some(value) = variable_value(&entry, report) {
            variables.insert(entry.key.to_owned(), value);
        }
    }
    variables
}

fn variable_value(entry: &Field<'_>, report: &mut ConfigReport) -> Option<String> {
    let value = match entry.value {
        DeValue::String(_) => entry.text(report)?.to_owned(),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            let found = entry.type_name();
            let message = format!("{} must be a string, found {found}", entry.key.escape_debug());
            report.error(&entry.span, message, format!("write it like {} = \"…\"", entry.key));
            return None;
        }
    };
    // systemd refuses such a variable and the whole unit with it.
    if value.chars().any(|c| c.is_ascii_control() && c != '\t' && c != '\n') {
        let message = format!("the value of `{}` holds a control character", entry.key);
        report.error(&entry.span, message, "only tabs and newlines are allowed");
        return None;
    }
    Some(value)
}

fn is_variable_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

fn restart_delays(section: &Section<'_>, report: &mut ConfigReport) -> (Duration, Duration) {
    let limits = LEAST_RESTART..=MAX_TIME_SPAN;
    let first = section.time_span("restartSec", &limits, report).unwrap_or(DEFAULT_RESTART);
    let Some(most) = section.time_span("restartMaxSec", &limits, report) else {
        return (first, DEFAULT_RESTART_MAX.max(first));
    };
    if most < first
        && let Some(field) = section.field("restartMaxSec")
    {
        let first = crate::time_span::format(first);
        let message = format!("restartMaxSec = {} is less than restartSec, {first}", field.shown());
        report.error(&field.span, message, "the delay grows from restartSec to restartMaxSec");
    }
    (first, most)
}

fn memory_max(section: &Section<'_>, report: &mut ConfigReport) -> Option<u64> {
    const HINT: &str =
        "write bytes, or a size like \"64M\" or \"1G\", or \"infinity\"; 1 MiB at least";
    let field = section.field("memoryMax")?;
    let limit = match field.value {
        DeValue::String(text) => size::parse_memory(text),
        DeValue::Integer(_) => field.unsigned().map(Limit::At),
        DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => {
            field.report_type("a size", "memoryMax = \"64M\"", report);
            return None;
        }
    };
    match limit {
        Some(Limit::Infinity) => None,
        Some(Limit::At(bytes)) if bytes >= LEAST_MEMORY => Some(bytes),
        Some(Limit::At(bytes)) => {
            let message =
                format!("memoryMax = {} is {bytes} bytes, too few to start", field.shown());
            report.error(&field.span, message, HINT);
            None
        }
        None => {
            report.error(&field.span, format!("memoryMax = {} is not a size", field.shown()), HINT);
            None
        }
    }
}

fn cpu_quota(section: &Section<'_>, report: &mut ConfigReport) -> Option<u32> {
    let field = section.field("cpuQuota")?;
    let percent = match field.value {
        DeValue::String(text) => size::parse_percent(text),
        DeValue::Integer(_) => field.unsigned().and_then(|percent| u32::try_from(percent).ok()),
        DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => {
            field.report_type("a quota", "cpuQuota = \"50%\"", report);
            return None;
        }
    };
    if percent.is_none_or(|percent| !(1..=MOST_CPU).contains(&percent)) {
        let message = format!("cpuQuota = {} is not a quota", field.shown());
        let hint = "write percent of one processor, 1 to 100000: cpuQuota = \"50%\", or \"250%\" for two and a half";
        report.error(&field.span, message, hint);
        return None;
    }
    percent
}

fn tasks_max(section: &Section<'_>, report: &mut ConfigReport) -> Option<u64> {
    let field = section.field("tasksMax")?;
    if field.value.as_str() == Some("infinity") {
        return None;
    }
    let tasks = field.unsigned().filter(|tasks| *tasks > 0);
    if tasks.is_none() {
        let message = format!("tasksMax = {} is not a number of tasks", field.shown());
        report.error(
            &field.span,
            message,
            "write a number from 1 on, or \"infinity\": tasksMax = 20",
        );
    }
    tasks
}

fn sandbox(section: &Section<'_>, report: &mut ConfigReport) -> Sandbox {
    match section.text("sandbox", report) {
        Some(Text { value: "strict", .. }) => Sandbox::Strict,
        None | Some(Text { value: "none", .. }) => Sandbox::None,
        Some(Text { value, span }) => {
            let near = super::nearest::nearest(value, ["none", "strict"])
                .map(|near| format!(", did you mean \"{near}\"?"))
                .unwrap_or_default();
            let hint = "it is \"none\" or \"strict\"";
            report.error(&span, format!("unknown sandbox `{value}`{near}"), hint);
            Sandbox::None
        }
    }
}
