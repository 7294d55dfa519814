//! Warns of names in the file that do not exist on this machine: users, groups, programs,
//! directories, files and unit templates.
//!
//! Each may be created later, so these are warnings. Only `iotmonitor check` issues them: the
//! service sees a different file system than its agents, and a user lookup can wait for the
//! network.

use super::report::ConfigReport;
use super::section::{self, Field};
use super::{Environment, fleet};
use iotmonitor_core::model::fleet::PLACEHOLDER;
use iotmonitor_core::model::spec::{AgentSpec, DYNAMIC_USER, DeviceSpec, Exec};
use nix::unistd::{AccessFlags, Group, User, access};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// The program that runs an exec that is a string.
const SHELL: &str = "/bin/bash";

/// The directories in which systemd looks for a program named without one (systemd.service(5)).
const PROGRAMS: &[&str] =
    &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The directories of units that a person or a package has installed (systemd.unit(5)).
const SYSTEM_UNITS: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The same for user managers, besides the directories below the users' homes.
const USER_UNITS: &[&str] = &[
    "/etc/systemd/user",
    "/run/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
    "/usr/local/share/systemd/user",
    "/usr/share/systemd/user",
];

/// Warns of each missing name.
pub(super) fn warn(
    root: &DeTable<'_>,
    devices: &[DeviceSpec],
    environment: &Environment,
    report: &mut ConfigReport,
) {
    let mut look = Search { environment, seen: BTreeMap::new(), report };
    look.template(section::value_of(root, "alerts", "alertUnit"));
    for fleet in section::fields(root).iter().filter(|entry| fleet::name_of(entry.key).is_some()) {
        let template = section::value_of(root, fleet.key, "alertUnit");
        let is_whole = |field: &Field<'_>| {
            !field.value.as_str().is_some_and(|unit| unit.contains(PLACEHOLDER))
        };
        look.template(template.filter(is_whole));
    }
    for device in devices {
        let kind = if device.agent.is_some() { "agent" } else { "device" };
        let section = format!("{kind}_{}", device.name);
        let field = |key: &str| section::value_of(root, &section, key);
        look.template(field("alertUnit"));
        if let Some(agent) = device.agent.as_deref() {
            look.agent(agent, field);
        }
    }
}

struct Search<'a> {
    environment: &'a Environment,
    /// The results of earlier lookups, by kind and name, because many sections use the same names.
    seen: BTreeMap<(&'static str, String), bool>,
    report: &'a mut ConfigReport,
}

impl Search<'_> {
    fn agent<'t>(&mut self, agent: &AgentSpec, field: impl Fn(&str) -> Option<Field<'t>>) {
        if let Some(user) = agent.user.as_deref().filter(|user| *user != DYNAMIC_USER) {
            let exists = || is_number(user) || !matches!(User::from_name(user), Ok(None));
            let hint = format!("create it, as with `adduser --system {user}`, or name another one");
            self.look("user", user, field("user"), exists, &hint);
        }
        if let Some(group) = agent.group.as_deref() {
            let exists = || is_number(group) || !matches!(Group::from_name(group), Ok(None));
            let hint =
                format!("create it, as with `addgroup --system {group}`, or name another one");
            self.look("group", group, field("group"), exists, &hint);
        }
        let directory = agent.working_directory.as_deref().filter(|path| path.is_absolute());
        if let Some(directory) = directory {
            let exists = || !is_missing(directory) && !directory.is_file();
            let hint = "create it, or name another one: the agent does not start without it";
            self.look("directory", &shown(directory), field("workingDirectory"), exists, hint);
        }
        if let Some(file) = &agent.environment_file {
            let hint = "create it, or remove the key: the agent does not start without it";
            self.look("file", &shown(file), field("environmentFile"), || !is_missing(file), hint);
        }
        let program = program_of(&agent.exec);
        let hint = "install it, or correct its name: the agent cannot start without it";
        if let Some(program) = program.filter(|program| *program != SHELL) {
            self.look("program", program, field("exec"), || is_program(program), hint);
        }
        if matches!(agent.exec, Exec::Shell(_)) {
            self.look("program", SHELL, field("exec"), || is_program(SHELL), hint);
        }
    }

    fn template(&mut self, field: Option<Field<'_>>) {
        let Some(name) = field.as_ref().and_then(|field| field.value.as_str()) else { return };
        let directories = unit_directories(self.environment.user_manager);
        let exists = || directories.iter().any(|directory| !is_missing(&directory.join(name)));
        let hint =
            format!("write {}: no alert starts anything before", shown(&directories[0].join(name)));
        let name = name.to_owned();
        self.look("template", &name, field, exists, &hint);
    }

    fn look(
        &mut self,
        kind: &'static str,
        name: &str,
        field: Option<Field<'_>>,
        exists: impl FnOnce() -> bool,
        hint: &str,
    ) {
        let Some(field) = field.filter(|_| !name.is_empty()) else { return };
        if !*self.seen.entry((kind, name.to_owned())).or_insert_with(exists) {
            let shown = name.escape_debug();
            let message = format!("{}: there is no {kind} `{shown}` on this machine", field.key);
            self.report.warning(&field.span, message, hint);
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn is_number(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the path does not exist; a path that cannot be seen may exist.
fn is_missing(path: &Path) -> bool {
    path.metadata()
        .is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

/// The program to be executed, where the file names it plainly.
fn program_of(exec: &Exec) -> Option<&str> {
    match exec {
        Exec::Argv(words) => words.first().map(String::as_str),
        Exec::Shell(command) => {
            let first = command
                .split([' ', '\t', '\n', ';', '|', '&', '<', '>'])
                .find(|w| !w.is_empty())?;
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
            (first.starts_with('/') && first.chars().all(is_plain)).then_some(first)
        }
    }
}

fn is_program(name: &str) -> bool {
    let is_there = |path: &Path| {
        !is_missing(path) && !path.is_dir() && access(path, AccessFlags::X_OK).is_ok()
    };
    if name.contains('/') {
        return is_there(Path::new(name));
    }
    PROGRAMS.iter().any(|directory| is_there(&Path::new(directory).join(name)))
}

/// The directories of units; the first is the one that people write to.
fn unit_directories(user_manager: bool) -> Vec<PathBuf> {
    let fixed = |directories: &[&str]| directories.iter().map(PathBuf::from).collect::<Vec<_>>();
    if !user_manager {
        return fixed(SYSTEM_UNITS);
    }
    let own = |variable: &str, below_home: &str| {
        let home = || std::env::home_dir().unwrap_or_default().join(below_home);
        let set = std::env::var_os(variable).filter(|value| !value.is_empty());
        set.map_or_else(home, PathBuf::from).join("systemd/user")
    };
    let homes = [own("XDG_CONFIG_HOME", ".config"), own("XDG_DATA_HOME", ".local/share")];
    homes.into_iter().chain(fixed(USER_UNITS)).collect()
}
