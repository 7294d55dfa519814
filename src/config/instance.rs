//! Determines which of several monitors on one machine a file belongs to: the default names of that
//! monitor, and which files share a name that each monitor needs for itself.
//!
//! Whether a monitor runs is not considered. Each file stands for a monitor whether or not its unit
//! is enabled.

use super::report::ConfigReport;
use super::section::{Field, Section, field_of};
use super::{Environment, address, files};
use crate::mqtt::settings::BrokerAddress;
use iotmonitor_core::model::unit_name::DEFAULT_CLIENT_ID;
use std::fs;
use std::path::{Component, Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The base topic of the main monitor; all of its own topics lie below it.
const MAIN_BASE_TOPIC: &str = "home/monitoring";

/// The file of the main monitor, without its extension.
const MAIN_FILE: &str = "config";

/// One of several monitors on a machine: the main one, or `iotmonitor@NAME`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance(Option<String>);

/// Explains why a string does not name an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of an instance: it is what follows the @ in `iotmonitor@garden`")]
pub struct NoInstance(String);

impl Instance {
    /// The monitor of `iotmonitor.service`.
    pub const MAIN: Self = Self(None);

    /// # Errors
    /// Returns an error when the name is not a file name.
    pub fn new(name: &str) -> Result<Self, NoInstance> {
        let mut parts = Path::new(name).components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(only)), None) if only == name => Ok(Self(Some(name.into()))),
            _ => Err(NoInstance(name.to_owned())),
        }
    }

    /// The monitor that this file belongs to: `garden.toml` in the given directory belongs to
    /// `iotmonitor@garden`, every other file to the main monitor.
    #[must_use]
    pub fn of_file(file: &Path, directory: &Path) -> Self {
        // The file itself may be a link to another place.
        let Ok(file) = std::path::absolute(file) else { return Self::MAIN };
        let name = file.file_stem().and_then(|stem| stem.to_str());
        let is_named = file.extension().is_some_and(|extension| extension == "toml")
            && file.parent() == Some(directory);
        match name.filter(|name| is_named && *name != MAIN_FILE) {
            Some(name) => Self::new(name).unwrap_or_default(),
            None => Self::MAIN,
        }
    }

    /// The monitor of the unit that systemd has made this directory for (systemd.exec(5),
    /// RuntimeDirectory=), if it is one of iotmonitor's.
    #[must_use]
    pub fn of_directory(directory: &Path) -> Option<Self> {
        match directory.file_name()?.to_str()?.strip_prefix("iotmonitor")? {
            "" => Some(Self::MAIN),
            instance => Self::new(instance.strip_prefix('@')?).ok(),
        }
    }

    /// The part after the `@`; `None` for the main monitor.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The name of its unit and of its directories, `iotmonitor` or `iotmonitor@NAME`.
    #[must_use]
    pub fn unit_stem(&self) -> String {
        match self.name() {
            None => "iotmonitor".to_owned(),
            Some(name) => format!("iotmonitor@{name}"),
        }
    }

    pub(super) fn default_client_id(&self) -> String {
        match self.name() {
            None => DEFAULT_CLIENT_ID.to_owned(),
            Some(name) => format!("{DEFAULT_CLIENT_ID}-{name}"),
        }
    }

    pub(super) fn default_base_topic(&self) -> String {
        match self.name() {
            None => MAIN_BASE_TOPIC.to_owned(),
            Some(name) => format!("{MAIN_BASE_TOPIC}-{name}"),
        }
    }
}

/// The default clientid for this file.
pub(super) fn default_client_id(environment: &Environment) -> String {
    defaults_of(environment).default_client_id()
}

/// The default baseTopic for this file.
pub(super) fn default_base_topic(environment: &Environment) -> String {
    defaults_of(environment).default_base_topic()
}

fn defaults_of(environment: &Environment) -> &Instance {
    if environment.main_defaults { &Instance::MAIN } else { &environment.instance }
}

/// Warns of an instance that uses the main monitor's names because its store was created with them.
/// Returns whether it does.
pub(super) fn warn_of_main_defaults(
    section: &Section<'_>,
    environment: &Environment,
    report: &mut ConfigReport,
) -> bool {
    let instance = &environment.instance;
    let Some(name) = instance.name().filter(|_| environment.main_defaults) else { return false };
    let (mut missing, mut kept, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for (key, main, default) in [
        ("clientid", Instance::MAIN.default_client_id(), instance.default_client_id()),
        ("baseTopic", Instance::MAIN.default_base_topic(), instance.default_base_topic()),
    ] {
        if section.field(key).is_none() {
            missing.push(format!("`{key}`"));
            kept.push(format!("`{main}`"));
            own.push(format!("{key} = \"{default}\""));
        }
    }
    if missing.is_empty() {
        return false;
    }
    let message = format!(
        "[mqtt] has no {}: the instance `{name}` was begun by version 0.3.0 and goes on with {}, \
         which are the main monitor's",
        missing.join(" and no "),
        kept.join(" and ")
    );
    let hint = format!("for names of its own write {}", own.join(" and "));
    report.warning(&section.header, message, hint);
    true
}

/// The names in a file that must differ from those of every other monitor of the machine.
struct InstanceNames {
    client_id: String,
    base_topic: String,
    server: Option<BrokerAddress>,
}

impl InstanceNames {
    /// Reads a file that may contain any errors; a wrong value counts as missing.
    fn of(root: &DeTable<'_>, instance: &Instance) -> Option<Self> {
        let section = field_of(root, "mqtt")?;
        let DeValue::Table(table) = section.value else { return None };
        let string = |key| field_of(table, key)?.value.as_str().map(str::to_owned);
        let client_id = string("clientid").filter(|id| !id.is_empty());
        let base_topic = string("baseTopic").filter(|topic| !topic.is_empty());
        Some(Self {
            client_id: client_id.unwrap_or_else(|| instance.default_client_id()),
            base_topic: base_topic.unwrap_or_else(|| instance.default_base_topic()),
            server: string("serverAddress").and_then(|address| address::parse(&address).ok()),
        })
    }

    /// Reads the other monitor's files. Errors in them are left to its own check.
    fn of_file(file: &Path, directory: &Path) -> Option<Self> {
        let mut report = ConfigReport::default();
        let sources =
            files::read(file, &Environment::default(), &mut Vec::new(), &mut report).ok()?;
        let root = files::table(&sources, &[], &mut Vec::new(), &mut report)?;
        Self::of(&root, &Instance::of_file(file, directory))
    }

    /// The clientids of its two connections.
    fn client_ids(&self) -> [String; 2] {
        [self.client_id.clone(), format!("{}-states", self.client_id)]
    }
}

/// Warns of every other file in the directory of configurations that has the same clientid, or the
/// same baseTopic on the same broker. A file that cannot be read is skipped.
pub(super) fn warn_of_shared_names(
    root: &DeTable<'_>,
    path: &Path,
    environment: &Environment,
    report: &mut ConfigReport,
) {
    let Some(directory) = &environment.config_directory else { return };
    let Ok(path) = std::path::absolute(path) else { return };
    if path.parent() != Some(directory.as_path()) {
        return;
    }
    let Some(own) = InstanceNames::of(root, &environment.instance) else { return };
    for file in other_files(&path, directory) {
        let Some(other) = InstanceNames::of_file(&file, directory) else { continue };
        let shared = own.client_ids().into_iter().find(|id| other.client_ids().contains(id));
        if let Some(id) = shared {
            let message = format!(
                "the monitor of {} has the clientid `{id}` too: each would take the other's \
                 connection and stop its agents",
                file.display()
            );
            warn_at(root, "clientid", &message, report);
        }
        let same_broker = own.server == other.server;
        if same_broker && own.base_topic == other.base_topic {
            let message = format!(
                "the monitor of {} has the baseTopic `{}` on the same broker too: each would take the other's messages for its own",
                file.display(),
                own.base_topic
            );
            warn_at(root, "baseTopic", &message, report);
        }
    }
}

/// Reports the section `[cluster]` if another file of the machine has one too: one monitor alone can
/// be a node, since there is one guard.
pub(super) fn refuse_second_node(
    root: &DeTable<'_>,
    path: &Path,
    environment: &Environment,
    report: &mut ConfigReport,
) {
    let (Some(section), Some(directory)) =
        (field_of(root, "cluster"), &environment.config_directory)
    else {
        return;
    };
    let Ok(path) = std::path::absolute(path) else { return };
    let is_node = |file: &PathBuf| {
        let mut report = ConfigReport::default();
        let sources = files::read(file, &Environment::default(), &mut Vec::new(), &mut report);
        sources.ok().is_some_and(|sources| {
            let root = files::table(&sources, &[], &mut Vec::new(), &mut report);
            root.is_some_and(|root| field_of(&root, "cluster").is_some())
        })
    };
    let is_beside = path.parent() == Some(directory.as_path());
    let others = if is_beside { other_files(&path, directory) } else { Vec::new() };
    if let Some(other) = others.iter().find(|file| is_node(file)) {
        let message = format!(
            "the monitor of {} is a node of a cluster too, and a machine can only be one",
            other.display()
        );
        let hint = "remove the section [cluster] from one of the two files";
        report.error(&section.key_span, message, hint);
    }
}

fn other_files(path: &Path, directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| file != path && file.extension().is_some_and(|kind| kind == "toml"))
        .filter(|file| file.is_file())
        .collect();
    files.sort();
    files
}

fn warn_at(root: &DeTable<'_>, key: &str, message: &str, report: &mut ConfigReport) {
    let Some(section) = field_of(root, "mqtt") else { return };
    let table = section.value.as_table();
    let span = table
        .and_then(|table| field_of(table, key))
        .map_or_else(|| section.key_span.clone(), |Field { span, .. }| span);
    report.warning(&span, message, format!("change {key} in one of the two"));
}
