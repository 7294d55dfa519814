//! The configuration file: reads it, checks it as a whole, and turns it into the settings of the
//! other parts.
//!
//! A file written for the original iotmonitor is accepted unchanged. All errors of a file are
//! reported at once, each with its place and its correction. The result needs no further check.
//!
//! | module | duty |
//! |---|---|
//! | [`mqtt`], [`home_assistant`], [`alerts`], [`history`], [`recorder`], [`http`], [`cluster`], [`device`], [`agent`] | one kind of section each, key by key |
//! | [`devices`], [`fleet`] | all devices together, and the members of fleets |
//! | [`upstream`] | which device depends on which other one |
//! | [`placement`] | on which machines of a cluster an agent runs |
//! | [`shared`] | the sections that all nodes of a cluster share |
//! | [`instance`] | what a monitor is called where its file does not say |
//! | [`files`], [`sources`] | reading the files into one table, and their texts |
//! | [`syntax`] | files that are not TOML |
//! | [`tls_files`] | certificates and keys, wherever they are named |
//! | [`section`], [`secret`] | typed reading of one key, and of a secret wherever it is |
//! | [`address`], [`time_span`], [`size`] | syntax of single values |
//! | [`credentials`], [`public`], [`missing`] | what is allowed and hardly meant: secrets that others can read, names of what this machine does not have |
//! | [`report`], [`secrecy`], [`error`] | findings, what they must not show, and how they look |
//!
//! The file is walked as a tree that keeps its places in the source rather than deserialized into
//! structures, because deserialization stops at the first error. The caller passes in the process's
//! environment as [`Environment`].

mod access;
mod address;
mod agent;
mod alerts;
mod cluster;
mod credentials;
mod device;
mod devices;
pub mod error;
mod exposure;
mod files;
mod fleet;
mod history;
mod home_assistant;
mod http;
mod instance;
mod missing;
mod mqtt;
pub(crate) mod nearest;
mod placement;
mod public;
pub mod recorder;
mod report;
mod secrecy;
mod secret;
mod section;
mod shared;
pub mod size;
mod sources;
mod syntax;
mod tls_files;
mod upstream;

pub use error::{ConfigErrors, Diagnostic, Findings, Severity};
pub use files::MOST_BYTES;
pub use instance::{Instance, NoInstance};
pub use shared::{COPY, GivenSections, SharedPart, keep_copy, version_of_copy};

use crate::cluster::settings::ClusterSettings;
use crate::http::settings::HttpSettings;
use crate::mqtt::settings::MqttSettings;
use alerts::AlertsSection;
use device::SectionKind;
use devices::ConfiguredDevices;
use iotmonitor_core::model::cluster::sharing::ClusterSpec;
use iotmonitor_core::model::spec::Origin;
use iotmonitor_core::model::spec::{HomeAssistant, MonitorSpec};
use iotmonitor_core::model::unit_name::DEFAULT_CLIENT_ID;
use placement::OwnNode;
use recorder::RecorderSettings;
use report::{ByteSpan, ConfigReport};
use section::{Field, section_of};
use sources::Sources;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// Sections that may occur once.
const SECTIONS: [&str; 7] =
    ["mqtt", "alerts", "history", "recorder", "homeassistant", "http", "cluster"];

/// The sections that contain a secret, with the keys that they know.
const GUARDED: [(&str, &[&str]); 3] =
    [("mqtt", mqtt::KEYS), ("http", http::KEYS), ("cluster", cluster::KEYS)];

/// The surroundings that the loader needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `$CREDENTIALS_DIRECTORY` (systemd.exec(5)); the credential `mqtt-password` is looked for
    /// in it.
    pub credentials_directory: Option<PathBuf>,
    /// Whether agents will run in a user manager, as their owner.
    pub user_manager: bool,
    /// Whether to warn of files that the system service could not read.
    pub for_service: bool,
    /// Whether to warn of names in the file that do not exist on this machine.
    pub look_around: bool,
    /// Where the broker's credentials are kept for agents, while the machine runs.
    pub runtime_directory: PathBuf,
    /// The instance that the file belongs to.
    pub instance: Instance,
    /// Whether an instance uses the main monitor's names by default, because its store was created
    /// with them.
    pub main_defaults: bool,
    /// The identifier of this machine; `None` where it has none.
    pub machine: Option<String>,
    /// The host name of this machine, by which it is known in a cluster.
    pub host_name: Option<String>,
    /// The directory with the files of all monitors of the machine, which are compared with this
    /// one.
    pub config_directory: Option<PathBuf>,
    /// Whether systemd passes the files as credentials, each under its own name, because the program
    /// runs as a user that may not read them.
    pub files_are_credentials: bool,
    /// Where a node of a cluster keeps its copy of the sections that all nodes share.
    pub shared_copy: Option<PathBuf>,
}

impl Environment {
    /// Whether systemd passes this file.
    #[must_use]
    pub fn passes(&self, path: &Path) -> bool {
        self.place_of(path.to_owned()) != path
    }

    /// Where the contents of a file are.
    fn place_of(&self, path: PathBuf) -> PathBuf {
        let directory = self.credentials_directory.as_ref().filter(|_| self.files_are_credentials);
        let credential =
            directory.zip(path.file_name()).map(|(directory, name)| directory.join(name));
        credential.filter(|credential| credential.is_file()).unwrap_or(path)
    }
}

/// A configuration that is ready for use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub mqtt: MqttSettings,
    pub monitor: MonitorSpec,
    /// The address of the status page, if it is enabled.
    pub http: Option<HttpSettings>,
    /// The cluster of which this machine is a node.
    pub cluster: Option<ClusterSettings>,
    /// The titles of the fleets whose names are listed, and the numbers of their members.
    pub listed: Vec<(String, usize)>,
    /// How long the past is kept.
    pub history_keep: Duration,
    /// What `iotmonitor-recorder` does; the monitor itself only checks it.
    pub recorder: RecorderSettings,
}

/// A configuration and its warnings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub config: Config,
    /// The warnings, in the order of the file.
    pub warnings: Findings,
    /// What it contains of the sections that nodes share, on a node that has some.
    pub shared: Option<SharedPart>,
}

/// Reads and checks a file, with those of the directory beside it: `config.d/*.toml` for
/// `config.toml`, in the order of their names. Relative paths in any of them are resolved from the
/// file at `path`.
///
/// # Errors
/// Returns [`ConfigErrors::Unreadable`] when the file does not exist, or one of the files or the
/// directory cannot be read, and [`ConfigErrors::Invalid`] with all errors otherwise.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, ConfigErrors> {
    let (mut secrets, mut report) = (Vec::new(), ConfigReport::default());
    let mut sources = files::read(path, environment, &mut secrets, &mut report)?;
    files::read_copy(environment, &mut sources, &mut secrets, &mut report);
    check(&sources, path, environment, secrets, report)
}

/// Does the same with other sections than those of which this node has a copy. A configuration
/// without `[cluster]` leaves them out.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    path: &Path,
    environment: &Environment,
    given: GivenSections<'_>,
) -> Result<Loaded, ConfigErrors> {
    let (mut secrets, mut report) = (Vec::new(), ConfigReport::default());
    let mut sources = files::read(path, environment, &mut secrets, &mut report)?;
    let text = sources::normal(given.text.to_owned());
    sources.push_shared(given.path.to_owned(), text, true);
    check(&sources, path, environment, secrets, report)
}

/// What `iotmonitor-recorder` needs of a configuration, and the warnings about that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecorderConfig {
    pub mqtt: MqttSettings,
    pub recorder: RecorderSettings,
    pub warnings: Findings,
}

/// Reads and checks the sections `[mqtt]` and `[recorder]` alone: a mistake in another one does not
/// keep messages from being recorded.
///
/// # Errors
/// As [`load`].
pub fn load_for_recorder(
    path: &Path,
    environment: &Environment,
) -> Result<RecorderConfig, ConfigErrors> {
    let (mut secrets, mut report) = (Vec::new(), ConfigReport::default());
    let sources = files::read(path, environment, &mut secrets, &mut report)?;
    let settings = files::table(&sources, &GUARDED, &mut secrets, &mut report).and_then(|root| {
        let walk = Walk { root: &root, path, environment, shared_from: None };
        let (mqtt, recorder) = (walk.mqtt(&mut report), walk.recorder(&mut report));
        mqtt.settings.map(|settings| (settings, recorder))
    });
    let (errors, warnings) = report.into_diagnostics(&sources, secrets);
    match settings {
        Some((mqtt, recorder)) if errors.is_empty() => {
            Ok(RecorderConfig { mqtt, recorder, warnings })
        }
        Some(_) | None => Err(ConfigErrors::Invalid { errors, warnings }),
    }
}

/// Checks a string as the contents of the file at `path`, without any other file; relative paths in
/// it are resolved from there.
///
/// # Errors
/// Returns [`ConfigErrors::Invalid`] with all errors.
pub fn parse(text: &str, path: &Path, environment: &Environment) -> Result<Loaded, ConfigErrors> {
    let sources = Sources::of_text(path, text);
    check(&sources, path, environment, Vec::new(), ConfigReport::default())
}

fn check(
    sources: &Sources,
    path: &Path,
    environment: &Environment,
    mut secrets: Vec<ByteSpan>,
    mut report: ConfigReport,
) -> Result<Loaded, ConfigErrors> {
    let Some(root) = files::table(sources, &GUARDED, &mut secrets, &mut report) else {
        let (errors, warnings) = report.into_diagnostics(sources, secrets);
        return Err(ConfigErrors::Invalid { errors, warnings });
    };
    let shared = sources.shared().filter(|_| section::field_of(&root, "cluster").is_some());
    let shared_from = shared.map(|file| file.offset);
    let walk = Walk { root: &root, path, environment, shared_from };
    let config = walk.config(&mut report);
    warn_of_unread_copy(&root, sources, &mut report);
    instance::warn_of_shared_names(walk.root, path, environment, &mut report);
    instance::refuse_second_node(walk.root, path, environment, &mut report);
    warn_of_readable_secrets(walk.root, sources, &mut report);
    for file in sources.files().iter().skip(1).filter(|file| !file.is_shared) {
        access::warn_if_part_closed(environment, path, &file.path, file.offset, &mut report);
    }
    let shared = shared.map(|file| SharedPart {
        version: shared::version_of(&file.text),
        sections: root.iter().filter(|(key, _)| key.span().start >= file.offset).count(),
    });
    let (errors, warnings) = report.into_diagnostics(sources, secrets);
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded { config, warnings, shared }),
        Some(_) | None => Err(ConfigErrors::Invalid { errors, warnings }),
    }
}

/// One pass over files that are TOML.
struct Walk<'t> {
    root: &'t DeTable<'t>,
    /// The main file.
    path: &'t Path,
    environment: &'t Environment,
    /// The place behind which sections are shared with other nodes.
    shared_from: Option<usize>,
}

impl<'t> Walk<'t> {
    /// The directory from which relative paths are resolved.
    fn directory(&self) -> &'t Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Returns `None` only after an error has been reported.
    fn config(&self, report: &mut ConfigReport) -> Option<Config> {
        let mqtt = self.mqtt(report);
        let AlertsSection { unit: alert_unit, broker_grace } = self.alerts(report);
        let read = devices::read(self.root, &mqtt, self.environment, report);
        self.warn_of_unknown_sections(report);
        let ConfiguredDevices { mut devices, mut fleets, listed } = read;
        let members = fleets.iter_mut().flat_map(|fleet| {
            std::iter::once(&mut fleet.template).chain(fleet.exceptions.values_mut())
        });
        for device in devices.iter_mut().chain(members) {
            device.alert_unit = device.alert_unit.take().or_else(|| alert_unit.clone());
        }
        let cluster = self.cluster(report);
        let own = OwnNode {
            name: cluster.as_ref().map(|cluster| &cluster.node),
            shared_from: self.shared_from,
        };
        let placements = placement::read(self.root, &own, &devices, report);
        credentials::warn(self.root, &devices, self.environment, report);
        public::warn(self.root, &devices, report);
        if self.environment.look_around {
            missing::warn(self.root, &devices, self.environment, report);
        }
        let home_assistant = self.home_assistant(report);
        let history_keep = self.history(report);
        let recorder = self.recorder(report);
        let http = self.http(report);
        let settings = mqtt.settings?;
        let command = command_line(self.environment.user_manager, &settings.client_id);
        Some(Config {
            monitor: MonitorSpec {
                client_id: settings.client_id.clone(),
                base_topic: mqtt.base_topic?,
                devices,
                fleets,
                max_subscriptions: mqtt.max_subscriptions,
                home_assistant,
                alert_unit,
                broker_grace,
                origin: Origin {
                    machine: self.environment.machine.clone(),
                    server: settings.server.to_string(),
                    main_defaults: mqtt.main_defaults,
                },
                command,
                cluster: cluster.as_ref().map(|cluster| ClusterSpec {
                    node: cluster.node.clone(),
                    agents: placements,
                    standby: cluster.standby,
                }),
            },
            mqtt: settings,
            http,
            cluster,
            listed,
            history_keep,
            recorder,
        })
    }

    fn cluster(&self, report: &mut ConfigReport) -> Option<ClusterSettings> {
        let entry = section::field_of(self.root, "cluster")?;
        let section = section_of(&entry, report)?;
        cluster::read(&section, self.directory(), self.environment, report)
    }

    fn warn_of_unknown_sections(&self, report: &mut ConfigReport) {
        for entry in section::fields(self.root) {
            let is_known = SECTIONS.contains(&entry.key)
                || SectionKind::of(entry.key).is_some()
                || fleet::name_of(entry.key).is_some();
            if !is_known {
                warn_of_unknown_section(&entry, report);
            }
        }
    }

    fn mqtt(&self, report: &mut ConfigReport) -> mqtt::MqttSection {
        let nothing = mqtt::MqttSection::default();
        let Some(entry) = section::field_of(self.root, "mqtt") else {
            let hint = match files::main_file_of(self.path) {
                Some(main) => {
                    format!(
                        "this file is a part of another one: iotmonitor check {}",
                        main.display()
                    )
                }
                None => {
                    "add [mqtt] and below it serverAddress = \"tcp://localhost:1883\"".to_owned()
                }
            };
            report.error(&(0..0), "the section [mqtt] is missing", hint);
            return nothing;
        };
        match section_of(&entry, report) {
            Some(section) => mqtt::read(&section, self.directory(), self.environment, report),
            None => nothing,
        }
    }

    fn home_assistant(&self, report: &mut ConfigReport) -> HomeAssistant {
        section::field_of(self.root, "homeassistant")
            .and_then(|entry| section_of(&entry, report))
            .map(|section| home_assistant::read(&section, report))
            .unwrap_or_default()
    }

    fn alerts(&self, report: &mut ConfigReport) -> AlertsSection {
        section::field_of(self.root, "alerts")
            .and_then(|entry| section_of(&entry, report))
            .map_or_else(AlertsSection::default, |section| alerts::read(&section, report))
    }

    fn history(&self, report: &mut ConfigReport) -> Duration {
        section::field_of(self.root, "history")
            .and_then(|entry| section_of(&entry, report))
            .map_or(history::DEFAULT_KEEP, |section| history::read(&section, report))
    }

    fn recorder(&self, report: &mut ConfigReport) -> RecorderSettings {
        section::field_of(self.root, "recorder")
            .and_then(|entry| section_of(&entry, report))
            .map_or_else(RecorderSettings::default, |section| recorder::read(&section, report))
    }

    fn http(&self, report: &mut ConfigReport) -> Option<HttpSettings> {
        let entry = section::field_of(self.root, "http")?;
        let section = section_of(&entry, report)?;
        Some(http::read(&section, self.directory(), self.environment, report))
    }
}

const INCLUDE: &str = "there is no `include`: the files config.d/*.toml beside config.toml are read too, \
     and garden.d/*.toml beside garden.toml";

fn warn_of_unknown_section(entry: &Field<'_>, report: &mut ConfigReport) {
    let shown = entry.key.escape_debug();
    let is_include = ["include", "includes", "import", "imports"].contains(&entry.key);
    if !is_section(entry.value) {
        let message = format!("the key `{shown}` is outside any section and is ignored");
        let hint = if is_include { INCLUDE } else { "move it into the section it belongs to" };
        report.warning(&entry.key_span, message, hint);
        return;
    }
    let prefix = entry.key.split(['_', '-', '.']).next().unwrap_or(entry.key);
    let hint =
        match nearest::nearest(prefix, SECTIONS.into_iter().chain(["device", "agent", "fleet"])) {
            Some(kind @ ("device" | "agent" | "fleet")) => format!("did you mean [{kind}_NAME]?"),
            Some(section) => format!("did you mean [{section}]?"),
            None => {
                let list: Vec<_> = SECTIONS.iter().map(|section| format!("[{section}]")).collect();
                let list = list.join(", ");
                format!("sections are {list}, [device_NAME], [agent_NAME] and [fleet_NAME]")
            }
        };
    report.warning(
        &entry.key_span,
        format!("the section [{shown}] is unknown and is ignored"),
        if is_include { INCLUDE.to_owned() } else { hint },
    );
}

fn is_section(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(items) => items.iter().any(|item| item.get_ref().is_table()),
        _ => false,
    }
}

/// The command line that reaches the monitor with this clientid, as typed in a shell.
fn command_line(user_manager: bool, client_id: &str) -> String {
    let mut line = "iotmonitor".to_owned();
    if user_manager {
        line.push_str(" --user");
    }
    if client_id == DEFAULT_CLIENT_ID {
        return line;
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./@:".contains(&byte);
    if client_id.bytes().all(is_plain) {
        format!("{line} --clientid {client_id}")
    } else {
        format!("{line} --clientid '{}'", client_id.replace('\'', r"'\''"))
    }
}

/// The rest is used without the shared sections, which etcd has as well.
fn warn_of_unread_copy(root: &DeTable<'_>, sources: &Sources, report: &mut ConfigReport) {
    let Some((reason, entry)) =
        sources.unread_copy.as_ref().zip(section::field_of(root, "cluster"))
    else {
        return;
    };
    let message = format!("the sections that all nodes share are left out: {reason}");
    let hint = "root can read them; a copy that is damaged may be removed, and is made again";
    report.warning(&entry.key_span, message, hint);
}

fn warn_of_readable_secrets(root: &DeTable<'_>, sources: &Sources, report: &mut ConfigReport) {
    for (section, key) in [("mqtt", "password"), ("http", "token"), ("cluster", "password")] {
        let Some(secret) = section::value_of(root, section, key) else { continue };
        let file = sources.at(secret.key_span.start);
        let mode = file.mode.filter(|mode| mode & 0o077 != 0);
        if let Some(mode) = mode
            && secret.value.as_str().is_some_and(|text| !text.is_empty())
        {
            let message =
                format!("others can read the {key} in this file (mode {:04o})", mode & 0o7777);
            report.warning(
                &secret.key_span,
                message,
                format!("chmod 0600 {}", file.path.display()),
            );
        }
    }
}
