//! The properties of an agent's transient unit: a pure function from a definition to the arguments
//! of StartTransientUnit.
//!
//! The unit has no BindsTo=, PartOf= or After= on the monitor's unit, because an agent outlives the
//! monitor, and no DefaultDependencies=no, because an agent ends with the system.

use super::command::{CommandLine, environment};
use super::proxy::Property;
use super::reading::{FIELD_AGENT, FIELD_DEFINITION, FIELD_EPOCH, FIELD_INSTANCE, marked};
use crate::trusted_path::{Swayed, swayed_part};
use iotmonitor_core::model::cluster::sharing::{Tenure, WhenCut};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::spec::{AgentSpec, Exec, Sandbox};
use std::time::Duration;
use zbus::Variant;

/// The slice of all agents of all instances.
pub const SLICE: &str = "iotmonitor.slice";

/// The slice of agents that several machines share, in which the guard kills everything at the end
/// of the lease.
const SHARED_SLICE: &str = "iotmonitor-shared.slice";

/// The guard, to which those agents are bound.
pub(super) const GUARD: &str = "iotmonitor-guard.service";

/// How long an agent that several machines share may take to stop.
const SHARED_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The user that an agent runs as in the system manager when the file does not name one.
pub const DEFAULT_USER: &str = "iotmonitor";

/// systemd itself restarts an agent this often within [`START_LIMIT_INTERVAL`]; after that the core
/// takes over with growing delays.
const START_LIMIT_BURST: u32 = 3;
const START_LIMIT_INTERVAL: Duration = Duration::from_secs(10);

/// The unit that ends after the agents when the system goes down, so that their last messages still
/// reach the broker. It has no effect where no broker is installed.
const LAST_TO_END: [&str; 2] = ["network.target", "mosquitto.service"];

/// The owner of a user manager and of all its units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ManagerOwner {
    pub uid: u32,
    /// `None` when the user database does not know the user.
    pub name: Option<String>,
}

impl ManagerOwner {
    /// Queries the user database, which may be slow where it is remote.
    pub fn of_this_process() -> Self {
        let uid = nix::unistd::Uid::current();
        let user = nix::unistd::User::from_uid(uid).ok().flatten();
        Self { uid: uid.as_raw(), name: user.map(|user| user.name) }
    }

    fn is(&self, user: &str) -> bool {
        self.name.as_deref() == Some(user) || user.parse() == Ok(self.uid)
    }
}

/// A definition that systemd would reject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PropertyError {
    #[error("`{key}` of the agent contains a NUL character, which no process can be given")]
    Nul { key: &'static str },
    #[error(
        "`user = \"{user}\"`: agents of a user manager run as its own user; leave `user` out or \
         run iotmonitor as a system service"
    )]
    OtherUser { user: String },
    #[error(
        "the credential {name} is read by systemd as root, and {swayed}: keep the file and all \
         directories above it in root's hands"
    )]
    SwayedCredential { name: &'static str, swayed: Swayed },
    #[error(
        "`group = \"{group}\"`: a user manager cannot change the group; leave `group` out or run \
         iotmonitor as a system service"
    )]
    OtherGroup { group: String },
}

/// The properties of an agent's unit (systemd.service(5), systemd.exec(5),
/// systemd.resource-control(5)). `owner` is present for a user manager, and absent for the system
/// manager.
pub(super) fn transient(
    owner: Option<&ManagerOwner>,
    client_id: &str,
    device: &DeviceName,
    agent: &AgentSpec,
    definition: &str,
    tenure: Option<Tenure>,
) -> Result<Vec<Property>, PropertyError> {
    refuse_nul(agent)?;
    let mut command = CommandLine::new(&agent.exec);
    let carried = command.carried.take();
    let is_guarded = tenure.is_some_and(|tenure| tenure.when_cut == WhenCut::Stop);
    let mut properties: Vec<Property> = vec![
        ("Description", text(format!("iotmonitor agent {device}"))),
        ("Slice", text(if is_guarded { SHARED_SLICE } else { SLICE })),
        // `exec`: the start itself fails when the program cannot be executed, not a moment later.
        ("Type", text("exec")),
        ("ExecStart", exec_start(command)),
        ("Restart", text("always")),
        ("RestartUSec", Variant::from(0_u64)),
        ("StartLimitBurst", Variant::from(START_LIMIT_BURST)),
        ("StartLimitIntervalUSec", microseconds(START_LIMIT_INTERVAL)),
        ("Environment", Variant::from(environment(device, agent, carried, tenure))),
        ("SyslogIdentifier", text(device.as_str())),
        ("LogExtraFields", marker(client_id, device, definition, tenure)),
    ];
    let mut after = if owner.is_none() { LAST_TO_END.to_vec() } else { Vec::new() };
    if is_guarded {
        after.push(GUARD);
        properties.push(("BindsTo", strings(&[GUARD])));
    }
    if !after.is_empty() {
        properties.push(("After", strings(&after)));
    }
    identity(owner, agent, &mut properties)?;
    if let Some(file) = &agent.environment_file {
        // false: a missing file is an error.
        let files = vec![(file.to_string_lossy().into_owned(), false)];
        properties.push(("EnvironmentFiles", Variant::from(files)));
    }
    if !agent.credentials.is_empty() {
        let credentials = agent.credentials.iter();
        let loaded: Vec<(String, String)> = credentials
            .map(|(name, file)| ((*name).to_owned(), file.to_string_lossy().into_owned()))
            .collect();
        properties.push(("LoadCredential", Variant::from(loaded)));
    }
    let stop_timeout = agent.stop_timeout.or(is_guarded.then_some(SHARED_STOP_TIMEOUT));
    properties.extend(stop_timeout.map(|timeout| ("TimeoutStopUSec", microseconds(timeout))));
    limits(agent, &mut properties);
    match agent.sandbox {
        Sandbox::None => {}
        Sandbox::Strict => strict(owner, agent, &mut properties),
    }
    Ok(properties)
}

/// Refuses credentials that users other than root could turn into links to files that only root may
/// read. Only the system manager reads them as root. The check accesses the files, which may take
/// time.
pub(super) fn refuse_swayed(agent: &AgentSpec) -> Result<(), PropertyError> {
    for (&name, file) in &agent.credentials {
        if let Some(swayed) = swayed_part(file) {
            return Err(PropertyError::SwayedCredential { name, swayed });
        }
    }
    Ok(())
}

fn refuse_nul(agent: &AgentSpec) -> Result<(), PropertyError> {
    let check = |key, value: &str| match value.contains('\0') {
        true => Err(PropertyError::Nul { key }),
        false => Ok(()),
    };
    match &agent.exec {
        Exec::Shell(script) => check("exec", script)?,
        Exec::Argv(argv) => argv.iter().try_for_each(|word| check("exec", word))?,
    }
    for (name, value) in &agent.environment {
        check("environment", name)?;
        check("environment", value)?;
    }
    check("user", agent.user.as_deref().unwrap_or_default())?;
    check("group", agent.group.as_deref().unwrap_or_default())?;
    for (key, path) in [
        ("workingDirectory", &agent.working_directory),
        ("environmentFile", &agent.environment_file),
    ] {
        check(key, &path.as_deref().unwrap_or("".as_ref()).to_string_lossy())?;
    }
    Ok(())
}

/// A program without a slash is searched for in systemd's own search path (systemd.exec(5)).
fn exec_start(command: CommandLine) -> Variant<'static> {
    let program = command.argv.first().cloned().unwrap_or_default();
    // false: a failure counts as one.
    Variant::from(vec![(program, command.argv, false)])
}

/// The marker that distinguishes this program's units, and appears in each of the agent's journal
/// entries.
fn marker(
    client_id: &str,
    device: &DeviceName,
    definition: &str,
    tenure: Option<Tenure>,
) -> Variant<'static> {
    let mut fields = vec![
        format!("{FIELD_AGENT}={}", marked(device.as_str())),
        format!("{FIELD_INSTANCE}={}", marked(client_id)),
        format!("{FIELD_DEFINITION}={definition}"),
    ];
    fields.extend(tenure.map(|tenure| format!("{FIELD_EPOCH}={}", tenure.epoch)));
    Variant::from(fields.into_iter().map(String::into_bytes).collect::<Vec<_>>())
}

/// User, group and working directory.
fn identity(
    owner: Option<&ManagerOwner>,
    agent: &AgentSpec,
    properties: &mut Vec<Property>,
) -> Result<(), PropertyError> {
    match owner {
        None => {
            if agent.is_dynamic() {
                properties.push(("DynamicUser", Variant::from(true)));
            } else {
                let user = agent.user.as_deref().unwrap_or(DEFAULT_USER);
                properties.push(("User", text(user)));
            }
            if let Some(group) = &agent.group {
                properties.push(("Group", text(group.as_str())));
            }
        }
        Some(owner) => {
            if let Some(user) = agent.user.as_ref().filter(|user| !owner.is(user)) {
                return Err(PropertyError::OtherUser { user: user.clone() });
            }
            if let Some(group) = &agent.group {
                return Err(PropertyError::OtherGroup { group: group.clone() });
            }
        }
    }
    let directory = match (&agent.working_directory, &agent.user, owner) {
        (Some(directory), _, _) => Some(directory.to_string_lossy().into_owned()),
        // A named user has a home to start in; with `-`, a user without one starts in `/`.
        (None, Some(_), None) if !agent.is_dynamic() => Some("-~".to_owned()),
        // systemd's default: `/` in the system manager, the home in a user's.
        (None, _, _) => None,
    };
    properties.extend(directory.map(|directory| ("WorkingDirectory", text(directory))));
    Ok(())
}

fn limits(agent: &AgentSpec, properties: &mut Vec<Property>) {
    if let Some(bytes) = agent.memory_max {
        properties.push(("MemoryMax", Variant::from(bytes)));
    }
    if let Some(percent) = agent.cpu_quota_percent {
        // Microseconds of processor time in each second: 1 % is 10,000.
        properties.push(("CPUQuotaPerSecUSec", Variant::from(u64::from(percent) * 10_000)));
    }
    if let Some(tasks) = agent.tasks_max {
        properties.push(("TasksMax", Variant::from(tasks)));
    }
}

/// The strict sandbox: the agent reads the system and writes only its state directory
/// (`$STATE_DIRECTORY`) and its private `/tmp`; it speaks IP and unix sockets, sees no devices but
/// `/dev/null` and its like, and cannot gain privileges.
fn strict(owner: Option<&ManagerOwner>, agent: &AgentSpec, properties: &mut Vec<Property>) {
    for name in [
        "NoNewPrivileges",
        "PrivateTmp",
        "ProtectKernelTunables",
        "ProtectControlGroups",
        "LockPersonality",
        "RestrictRealtime",
        "RestrictSUIDSGID",
    ] {
        properties.push((name, Variant::from(true)));
    }
    match owner {
        None => {
            for name in [
                "PrivateDevices",
                "ProtectKernelModules",
                "ProtectKernelLogs",
                "ProtectClock",
                "ProtectHostname",
            ] {
                properties.push((name, Variant::from(true)));
            }
            properties.push(("CapabilityBoundingSet", Variant::from(0_u64)));
        }
        // A user manager has no privilege of its own to build the rest of the sandbox with; inside
        // a user namespace it has.
        Some(_) => properties.push(("PrivateUsers", Variant::from(true))),
    }
    // A colon would separate the directory's name from that of a link to it.
    let state = agent.unit.as_str().trim_end_matches(".service");
    let state = state.replace('\\', "_").replace(':', "_x3a");
    properties.extend([
        ("ProtectSystem", text("strict")),
        ("ProtectHome", text("read-only")),
        ("RestrictNamespaces", Variant::from(0_u64)),
        ("SystemCallArchitectures", strings(&["native"])),
        ("SystemCallFilter", allowed(&["@system-service"])),
        ("SystemCallErrorNumber", Variant::from(nix::errno::Errno::EPERM as i32)),
        ("RestrictAddressFamilies", allowed(&["AF_UNIX", "AF_INET", "AF_INET6"])),
        ("StateDirectory", strings(&[&format!("iotmonitor-agents/{state}")])),
        ("StateDirectoryMode", Variant::from(0o700_u32)),
        ("UMask", Variant::from(0o077_u32)),
    ]);
}

fn text(text: impl Into<String>) -> Variant<'static> {
    Variant::from(text.into())
}

fn strings(texts: &[&str]) -> Variant<'static> {
    Variant::from(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
}

/// An allow-list, `(bas)`.
fn allowed(names: &[&str]) -> Variant<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Variant::from((true, names))
}

fn microseconds(duration: Duration) -> Variant<'static> {
    Variant::from(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use iotmonitor_core::model::cluster::store::Revision;
    use iotmonitor_core::model::unit_name::UnitName;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    pub fn agent(exec: Exec) -> AgentSpec {
        AgentSpec {
            unit: UnitName::for_agent("iotmonitor", "led-box").unwrap(),
            exec,
            user: None,
            group: None,
            working_directory: None,
            environment: BTreeMap::new(),
            environment_file: None,
            restart_delay: Duration::from_secs(1),
            restart_max_delay: Duration::from_secs(60),
            stop_timeout: None,
            memory_max: None,
            cpu_quota_percent: None,
            tasks_max: None,
            sandbox: Sandbox::None,
            restart_on_expire: false,
            mqtt_server: "tcp://localhost:1883".to_owned(),
            credentials: BTreeMap::new(),
        }
    }

    pub fn shell() -> AgentSpec {
        agent(Exec::Shell("true".to_owned()))
    }

    fn build(
        owner: Option<&ManagerOwner>,
        agent: &AgentSpec,
    ) -> BTreeMap<&'static str, Variant<'static>> {
        let device = DeviceName::new("led-box").unwrap();
        transient(owner, "iotmonitor", &device, agent, "abc", None).unwrap().into_iter().collect()
    }

    fn pi() -> ManagerOwner {
        ManagerOwner { uid: 1000, name: Some("pi".to_owned()) }
    }

    #[test]
    fn without_a_user_it_is_the_unprivileged_one_and_never_root_by_default() {
        let unit = build(None, &shell());
        assert_eq!(unit["User"], Variant::from("iotmonitor"));
        assert!(!unit.contains_key("WorkingDirectory"));

        let root = AgentSpec { user: Some("root".to_owned()), ..shell() };
        assert_eq!(build(None, &root)["User"], Variant::from("root"));
    }

    #[test]
    fn a_dynamic_user_has_no_name_and_no_home() {
        let unit = build(None, &AgentSpec { user: Some("dynamic".to_owned()), ..shell() });
        assert_eq!(unit["DynamicUser"], Variant::from(true));
        assert!(!unit.contains_key("User") && !unit.contains_key("WorkingDirectory"));
    }

    #[test]
    fn a_named_user_starts_at_home_unless_the_file_says_where() {
        let named = AgentSpec { user: Some("pi".to_owned()), ..shell() };
        assert_eq!(build(None, &named)["WorkingDirectory"], Variant::from("-~"));

        let directory = Some(PathBuf::from("/srv"));
        let placed = AgentSpec { working_directory: directory, ..named };
        assert_eq!(build(None, &placed)["WorkingDirectory"], Variant::from("/srv"));
    }

    #[test]
    fn a_user_manager_runs_everything_as_its_owner() {
        for user in [None, Some("pi"), Some("1000")] {
            let unit = build(Some(&pi()), &AgentSpec { user: user.map(str::to_owned), ..shell() });
            assert!(!unit.contains_key("User") && !unit.contains_key("WorkingDirectory"));
        }
        let device = DeviceName::new("led-box").unwrap();
        let refused =
            |agent: AgentSpec| transient(Some(&pi()), "iotmonitor", &device, &agent, "", None);
        assert_eq!(
            refused(AgentSpec { user: Some("root".to_owned()), ..shell() }),
            Err(PropertyError::OtherUser { user: "root".to_owned() })
        );
        assert_eq!(
            refused(AgentSpec { group: Some("gpio".to_owned()), ..shell() }),
            Err(PropertyError::OtherGroup { group: "gpio".to_owned() })
        );
    }

    #[test]
    fn limits_are_in_systemds_units() {
        let unit = build(
            None,
            &AgentSpec {
                stop_timeout: Some(Duration::from_millis(1500)),
                memory_max: Some(64 << 20),
                cpu_quota_percent: Some(250),
                tasks_max: Some(7),
                ..shell()
            },
        );
        assert_eq!(unit["TimeoutStopUSec"], Variant::from(1_500_000_u64));
        assert_eq!(unit["MemoryMax"], Variant::from(67_108_864_u64));
        assert_eq!(unit["CPUQuotaPerSecUSec"], Variant::from(2_500_000_u64));
        assert_eq!(unit["TasksMax"], Variant::from(7_u64));
    }

    #[test]
    fn an_agent_that_machines_share_ends_with_the_guard_unless_it_may_run_twice() {
        let device = DeviceName::new("led-box").unwrap();
        let build = |spec: &AgentSpec, when_cut| -> BTreeMap<_, _> {
            let tenure = Some(Tenure { epoch: Revision(7), when_cut });
            let properties = transient(None, "iotmonitor", &device, spec, "abc", tenure).unwrap();
            properties.into_iter().collect()
        };
        let guarded = build(&shell(), WhenCut::Stop);
        assert_eq!(guarded["Slice"], text("iotmonitor-shared.slice"));
        assert_eq!(guarded["BindsTo"], strings(&["iotmonitor-guard.service"]));
        let after = ["network.target", "mosquitto.service", "iotmonitor-guard.service"];
        assert_eq!(guarded["After"], strings(&after));
        assert_eq!(guarded["TimeoutStopUSec"], Variant::from(1_000_000_u64));
        assert_eq!(guarded["Restart"], text("always"));
        let epoch = "IOTMONITOR_EPOCH=7".to_owned();
        let shown = format!("{:?}", guarded["Environment"]);
        assert!(shown.contains(&epoch), "{shown}");
        let quick = AgentSpec { stop_timeout: Some(Duration::from_millis(300)), ..shell() };
        let unit = build(&quick, WhenCut::Stop);
        assert_eq!(unit["TimeoutStopUSec"], Variant::from(300_000_u64));

        let kept = build(&shell(), WhenCut::Keep);
        assert_eq!(kept["Slice"], text(SLICE));
        assert!(!kept.contains_key("BindsTo") && !kept.contains_key("TimeoutStopUSec"));
        assert!(format!("{:?}", kept["Environment"]).contains(&epoch));
    }

    #[test]
    fn an_undeclared_limit_or_sandbox_is_left_to_systemd() {
        let unit = build(None, &shell());
        for name in ["TimeoutStopUSec", "MemoryMax", "NoNewPrivileges", "ProtectSystem", "Group"] {
            assert!(!unit.contains_key(name), "{name}");
        }
    }

    #[test]
    fn the_strict_sandbox_is_complete_in_either_manager() {
        let strict = AgentSpec { sandbox: Sandbox::Strict, ..shell() };
        let system = build(None, &strict);
        assert_eq!(system["CapabilityBoundingSet"], Variant::from(0_u64));
        assert_eq!(system["NoNewPrivileges"], Variant::from(true));
        assert_eq!(
            system["StateDirectory"],
            strings(&["iotmonitor-agents/iotmonitor-agent-led_x2dbox"])
        );
        let user = build(Some(&pi()), &strict);
        assert_eq!(system["StateDirectoryMode"], Variant::from(0o700_u32));
        assert_eq!(user["PrivateUsers"], Variant::from(true));
        assert!(!user.contains_key("PrivateDevices"));
    }

    #[test]
    fn a_nul_never_reaches_the_bus() {
        let device = DeviceName::new("led-box").unwrap();
        let spec = agent(Exec::Argv(vec!["true".to_owned(), "a\0b".to_owned()]));
        assert_eq!(
            transient(None, "iotmonitor", &device, &spec, "", None),
            Err(PropertyError::Nul { key: "exec" })
        );
    }
}
