//! The section `[cluster]`, by which several machines share agents and devices.

use super::Environment;
use super::report::ConfigReport;
use super::secret::{self, Source};
use super::section::Section;
use super::tls_files::{try_certificates, try_to_read};
use crate::cluster::settings::ClusterSettings;
use crate::etcd::settings::{EtcdAddress, EtcdLogin, EtcdSettings, PASSWORD};
use crate::time_span::MAX_TIME_SPAN;
use crate::tls::TlsFiles;
use iotmonitor_core::model::cluster::sharing::StandbyMode;
use iotmonitor_core::model::cluster::timing::Timing;
use iotmonitor_core::model::cluster::{NodeName, NodeNameError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every key of the section.
pub(super) const KEYS: &[&str] = &[
    "name",
    "endpoints",
    "caFile",
    "certFile",
    "keyFile",
    "user",
    "password",
    "passwordFile",
    "node",
    "failoverAfter",
    "standby",
    "allowRootAgents",
];

/// What TLS leads to here, in words.
const SERVER: &str = "etcd";

const DEFAULT_FAILOVER_AFTER: Duration = Duration::from_secs(8);

/// The longest `stopTimeout` of an agent that several machines share. The guard kills it soon after.
pub(super) const LONGEST_STOP_TIMEOUT: Duration = Duration::from_secs(1);

const STANDBYS: [(&str, StandbyMode); 2] = [("hot", StandbyMode::Hot), ("cold", StandbyMode::Cold)];

const PASSWORD_SOURCE: Source =
    Source { key: "password", file_key: "passwordFile", credential: PASSWORD, check: |_| Ok(()) };

/// Returns `None` only after an error has been reported.
pub(super) fn read(
    section: &Section<'_>,
    directory: &Path,
    environment: &Environment,
    report: &mut ConfigReport,
) -> Option<ClusterSettings> {
    section.report_unknown_keys(KEYS, |_| None, report);
    if environment.user_manager {
        report.error(
            &section.header,
            "a cluster needs the system's service manager: a user's cannot guard agents against a \
             machine that is cut off",
            "run iotmonitor as the system service, or remove the section [cluster]",
        );
    }
    let cluster = name(section, report);
    let node = node(section, environment, report);
    let password = secret::read(section, &PASSWORD_SOURCE, directory, environment, report);
    let user = section.text("user", report);
    let pairs = [("certFile", "keyFile"), ("keyFile", "certFile")];
    for (present, missing) in pairs {
        report_half(section, present, section.field(missing).is_some(), missing, report);
    }
    report_half(section, "user", password.is_some(), "passwordFile", report);
    let logs_in = section.field("certFile").is_some() || user.is_some();
    let endpoints = endpoints(section, logs_in, report);
    let timing = timing(section, report);
    let standby = standby(section, report);
    section.boolean("allowRootAgents", false, report);
    let mut file = |key| {
        let text = section.text(key, report)?;
        let path = environment.place_of(directory.join(text.value));
        try_to_read(section, key, &path, SERVER, environment, report);
        Some(path)
    };
    let (ca_file, certificate, key): (Option<PathBuf>, _, _) =
        (file("caFile"), file("certFile"), file("keyFile"));
    let client_certificate = certificate.zip(key);
    try_certificates(section, ca_file.as_deref(), client_certificate.as_ref(), SERVER, report);
    let login = user
        .zip(password)
        .map(|(user, password)| EtcdLogin { user: user.value.to_owned(), password });
    Some(ClusterSettings {
        etcd: EtcdSettings {
            cluster: cluster?,
            endpoints,
            tls: TlsFiles { ca_file, client_certificate },
            login,
        },
        node: node?,
        timing: timing?,
        standby,
    })
}

fn timing(section: &Section<'_>, report: &mut ConfigReport) -> Option<Timing> {
    let limits = Duration::ZERO..=MAX_TIME_SPAN;
    let failover_after = section.time_span("failoverAfter", &limits, report);
    let timing =
        Timing::new(failover_after.unwrap_or(DEFAULT_FAILOVER_AFTER), LONGEST_STOP_TIMEOUT);
    timing
        .map_err(|error| {
            let hint = "remove the key for the shortest time";
            report.error(&section.gap("failoverAfter"), error.to_string(), hint);
        })
        .ok()
}

fn standby(section: &Section<'_>, report: &mut ConfigReport) -> StandbyMode {
    let hint = "it is \"hot\" or \"cold\"";
    section.word("standby", &STANDBYS, hint, report).unwrap_or(StandbyMode::Hot)
}

fn name(section: &Section<'_>, report: &mut ConfigReport) -> Option<String> {
    let hint = "all machines of the cluster have the same: name = \"house\"";
    let Some(text) = section.text("name", report) else {
        if section.field("name").is_none() {
            report.error(&section.gap("name"), "[cluster] has no `name`", hint);
        }
        return None;
    };
    // It becomes a part of etcd's keys, as the name of a node becomes one.
    let problem = match NodeName::new(text.value) {
        Ok(_) => return Some(text.value.to_owned()),
        Err(NodeNameError::Character { character, .. }) => {
            format!("may not contain {character:?}")
        }
        Err(NodeNameError::Empty | NodeNameError::TooLong { .. }) => {
            format!("has {} bytes, which is too long", text.value.len())
        }
    };
    let message = format!("name: `{}` {problem}", text.value.escape_debug());
    report.error(&text.span, message, hint);
    None
}

/// The name of this node, by default the host name.
fn node(
    section: &Section<'_>,
    environment: &Environment,
    report: &mut ConfigReport,
) -> Option<NodeName> {
    let text = section.text("node", report);
    if text.is_none() && section.field("node").is_some() {
        return None;
    }
    let (name, span) = match (&text, &environment.host_name) {
        (Some(text), _) => (text.value, text.span.clone()),
        (None, Some(host)) => (host.as_str(), section.gap("node")),
        (None, None) => {
            let message = "[cluster] has no `node`, and this machine has no host name";
            report.error(&section.gap("node"), message, "name this machine: node = \"pi1\"");
            return None;
        }
    };
    NodeName::new(name)
        .map_err(|error| {
            let hint = match text {
                Some(_) => "without it, it is the host name",
                None => "the host name is used by default; write another one: node = \"pi1\"",
            };
            report.error(&span, format!("node: {error}"), hint);
        })
        .ok()
}

/// Reports a key that has no effect without another one.
fn report_half(
    section: &Section<'_>,
    present: &str,
    is_whole: bool,
    missing: &str,
    report: &mut ConfigReport,
) {
    if let Some(field) = section.field(present)
        && !is_whole
    {
        report.error(
            &field.span,
            format!("{present} is set without {missing}"),
            format!("one needs the other: add {missing}, or remove {present}"),
        );
    }
}

/// What travels between machines decides what runs on them. It is encrypted, and etcd knows from
/// whom it is.
fn endpoints(section: &Section<'_>, logs_in: bool, report: &mut ConfigReport) -> Vec<EtcdAddress> {
    const EXAMPLE: &str = "https://pi1:2379";
    if section.field("endpoints").is_none() {
        let hint = format!("name the client URLs of etcd: endpoints = [\"{EXAMPLE}\"]");
        report.error(&section.gap("endpoints"), "[cluster] has no `endpoints`", hint);
    }
    let mut addresses = Vec::new();
    for text in section.texts("endpoints", EXAMPLE, report) {
        let address = match EtcdAddress::new(text.value) {
            Err(error) => {
                let hint = format!("write it like \"{EXAMPLE}\"");
                report.error(&text.span, format!("endpoints: {error}"), hint);
                continue;
            }
            Ok(address) => address,
        };
        if !address.is_loopback() {
            if !address.has_tls {
                let message = format!("endpoints: {address} is on the network, and without TLS");
                let hint = "whoever can write there decides what runs on this machine: let etcd \
                            serve TLS, and write https://";
                report.error(&text.span, message, hint);
            } else if !logs_in {
                let message = format!("endpoints: {address} lets in everybody on the network");
                let hint = "let etcd ask for a client certificate and set certFile and keyFile, or \
                            for a password and set user and passwordFile";
                report.error(&text.span, message, hint);
            }
        }
        addresses.push(address);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::section;
    use crate::config::sources::Sources;
    use toml::de::DeTable;

    fn read_section(text: &str, host: Option<&str>) -> (Option<ClusterSettings>, Vec<String>) {
        let text = format!("[cluster]\n{text}");
        let root = DeTable::parse(&text).unwrap();
        let mut report = ConfigReport::default();
        let entry = section::field_of(root.get_ref(), "cluster").unwrap();
        let section = section::section_of(&entry, &mut report).unwrap();
        let environment =
            Environment { host_name: host.map(str::to_owned), ..Environment::default() };
        let settings = read(&section, Path::new("/etc/iotmonitor"), &environment, &mut report);
        let sources = Sources::of_text(Path::new("config.toml"), &text);
        let (errors, warnings) = report.into_diagnostics(&sources, Vec::new());
        let others = warnings.iter().filter(|it| !it.message.contains(": cannot read "));
        assert_eq!(others.count(), 0, "{warnings:?}");
        (settings, errors.iter().map(|error| error.message.clone()).collect())
    }

    #[test]
    fn every_key_of_the_section_arrives() {
        let text = "name = \"house\"\nendpoints = [\"https://pi1:2379\", \"https://nas\"]\n\
            caFile = \"ca.pem\"\ncertFile = \"/a.pem\"\nkeyFile = \"/b.pem\"\nuser = \"pi\"\n\
            password = \"hunter2\"\nnode = \"pi1\"\nfailoverAfter = \"12s\"\nstandby = \"cold\"\n";
        let (settings, errors) = read_section(text, Some("raspberrypi"));
        assert_eq!(errors, [""; 0]);
        let ClusterSettings { etcd, node, timing, standby } = settings.unwrap();
        assert_eq!((node.as_str(), standby), ("pi1", StandbyMode::Cold));
        assert_eq!(timing.evict_after(), Duration::from_secs(12));
        assert_eq!(etcd.cluster, "house");
        let endpoints: Vec<_> = etcd.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(endpoints, ["https://pi1:2379", "https://nas:2379"]);
        assert_eq!(etcd.tls.ca_file, Some("/etc/iotmonitor/ca.pem".into()));
        assert_eq!(etcd.tls.client_certificate, Some(("/a.pem".into(), "/b.pem".into())));
        let login = etcd.login.unwrap();
        assert_eq!((login.user.as_str(), login.password.reveal()), ("pi", "hunter2"));
    }

    #[test]
    fn a_node_is_called_like_its_host_unless_it_has_a_name() {
        let local = "name = \"house\"\nendpoints = \"http://localhost\"\n";
        let (settings, _) = read_section(local, Some("pi2.lan"));
        let settings = settings.unwrap();
        assert_eq!((settings.node.as_str(), settings.standby), ("pi2.lan", StandbyMode::Hot));
        assert_eq!(settings.timing.evict_after(), DEFAULT_FAILOVER_AFTER);
        let (settings, errors) = read_section(local, None);
        assert_eq!(settings, None);
        assert_eq!(errors, ["[cluster] has no `node`, and this machine has no host name"]);
        let (settings, errors) = read_section(local, Some("my pi"));
        assert!(
            settings.is_none() && errors[0].contains("the node name \"my pi\" may not contain")
        );
    }
}
