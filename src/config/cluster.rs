//! The section `[cluster]`, by which several machines will share agents and devices.
//!
//! It is checked, and refused all the same: this version takes no part in clusters, and a monitor
//! that ran without its cluster would run what another machine runs too.

use super::Environment;
use super::nearest::nearest;
use super::report::ConfigReport;
use super::secret::{self, Source};
use super::section::{self, Section};
use crate::etcd::settings::{EtcdAddress, PASSWORD};
use crate::time_span::MAX_TIME_SPAN;
use iotmonitor_core::model::cluster::NodeName;
use iotmonitor_core::model::cluster::timing::Timing;
use iotmonitor_core::model::spec::DeviceSpec;
use std::path::Path;
use std::time::Duration;
use toml::de::DeTable;

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

const DEFAULT_FAILOVER_AFTER: Duration = Duration::from_secs(8);

/// The longest `stopTimeout` of an agent that several machines share. The guard kills it soon after.
const LONGEST_STOP_TIMEOUT: Duration = Duration::from_secs(1);

const STANDBYS: [&str; 2] = ["hot", "cold"];

const PASSWORD_SOURCE: Source =
    Source { key: "password", file_key: "passwordFile", credential: PASSWORD, check: |_| Ok(()) };

/// Reports everything that is wrong with the section, and that it is there.
pub(super) fn refuse(
    section: &Section<'_>,
    directory: &Path,
    environment: &Environment,
    report: &mut ConfigReport,
) {
    section.report_unknown_keys(KEYS, |_| None, report);
    name(section, report);
    node(section, report);
    let password = secret::read(section, &PASSWORD_SOURCE, directory, environment, report);
    let user = section.text("user", report);
    let pairs = [("certFile", "keyFile"), ("keyFile", "certFile")];
    for (present, missing) in pairs {
        warn_of_half(section, present, section.field(missing).is_some(), missing, report);
    }
    warn_of_half(section, "user", password.is_some(), "passwordFile", report);
    let logs_in = section.field("certFile").is_some() || user.is_some();
    endpoints(section, logs_in, report);
    let limits = Duration::ZERO..=MAX_TIME_SPAN;
    let failover_after = section.time_span("failoverAfter", &limits, report);
    if let Err(error) =
        Timing::new(failover_after.unwrap_or(DEFAULT_FAILOVER_AFTER), LONGEST_STOP_TIMEOUT)
        && let Some(field) = section.field("failoverAfter")
    {
        report.error(&field.span, error.to_string(), "remove the key for the shortest time");
    }
    if let Some(text) = section.text("standby", report)
        && !STANDBYS.contains(&text.value)
    {
        let near = nearest(text.value, STANDBYS)
            .map_or(String::new(), |near| format!(", did you mean `{near}`?"));
        let message = format!("standby: `{}` is unknown{near}", text.value.escape_debug());
        report.error(&text.span, message, "it is \"hot\" or \"cold\"");
    }
    section.boolean("allowRootAgents", false, report);
    report.error(
        &section.header,
        "this version does not take part in clusters yet",
        "remove the section [cluster]",
    );
}

/// Reports agents that several machines cannot share.
pub(super) fn refuse_agents(root: &DeTable<'_>, devices: &[DeviceSpec], report: &mut ConfigReport) {
    if section::field_of(root, "cluster").is_none() {
        return;
    }
    let allows_root = section::value_of(root, "cluster", "allowRootAgents")
        .is_some_and(|field| field.value.as_bool() == Some(true));
    for device in devices {
        let Some(agent) = &device.agent else { continue };
        let title = format!("agent_{}", device.name);
        let stop_timeout = agent.stop_timeout.filter(|time| *time > LONGEST_STOP_TIMEOUT);
        if let Some(field) = section::value_of(root, &title, "stopTimeout")
            && stop_timeout.is_some()
        {
            let message = format!(
                "stopTimeout = {} is too long for an agent that machines share",
                field.shown()
            );
            report.error(&field.span, message, "another machine waits 1s at most");
        }
        let is_root = matches!(agent.user.as_deref(), Some("root" | "0"));
        if let Some(field) = section::value_of(root, &title, "user")
            && is_root
            && !allows_root
        {
            let message = format!("[{title}] would run as root on each machine of the cluster");
            let hint = "choose another user, or set allowRootAgents = true in [cluster] on each \
                        machine that is to allow it";
            report.error(&field.span, message, hint);
        }
    }
}

fn name(section: &Section<'_>, report: &mut ConfigReport) {
    let hint = "all machines of the cluster have the same: name = \"house\"";
    let Some(text) = section.text("name", report) else {
        if section.field("name").is_none() {
            report.error(&section.gap("name"), "[cluster] has no `name`", hint);
        }
        return;
    };
    // It becomes a part of etcd's keys, as the name of a node becomes one.
    if NodeName::new(text.value).is_err() {
        let message = format!(
            "name: `{}` may not contain /, +, # or control characters",
            text.value.escape_debug()
        );
        report.error(&text.span, message, hint);
    }
}

fn node(section: &Section<'_>, report: &mut ConfigReport) {
    if let Some(text) = section.text("node", report)
        && let Err(error) = NodeName::new(text.value)
    {
        report.error(&text.span, format!("node: {error}"), "without it, it is the host name");
    }
}

/// Reports a key that has no effect without another one.
fn warn_of_half(
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
fn endpoints(section: &Section<'_>, logs_in: bool, report: &mut ConfigReport) {
    const EXAMPLE: &str = "https://pi1:2379";
    if section.field("endpoints").is_none() {
        let hint = format!("name the client URLs of etcd: endpoints = [\"{EXAMPLE}\"]");
        report.error(&section.gap("endpoints"), "[cluster] has no `endpoints`", hint);
    }
    for text in section.texts("endpoints", EXAMPLE, report) {
        match EtcdAddress::new(text.value) {
            Err(error) => {
                let hint = format!("write it like \"{EXAMPLE}\"");
                report.error(&text.span, format!("endpoints: {error}"), hint);
            }
            Ok(address) if address.is_loopback() => {}
            Ok(address) if !address.has_tls => {
                let message = format!("endpoints: {address} is on the network, and without TLS");
                let hint = "whoever can write there decides what runs on this machine: let etcd \
                            serve TLS, and write https://";
                report.error(&text.span, message, hint);
            }
            Ok(address) if !logs_in => {
                let message = format!("endpoints: {address} lets in everybody on the network");
                let hint = "let etcd ask for a client certificate and set certFile and keyFile, or \
                            for a password and set user and passwordFile";
                report.error(&text.span, message, hint);
            }
            Ok(_) => {}
        }
    }
}
