//! `iotmonitor check [FILE]`: reports whether a configuration can be used, and changes nothing.

use crate::config::{self, Config, ConfigErrors, Environment, Findings, SharedPart};
use iotmonitor_core::model::words::{counted, devices_and_agents};
use std::io::Write;
use std::path::Path;

/// The configuration cannot be used (sysexits.h, EX_CONFIG; systemd.exec(5)).
pub const EXIT_CONFIG: u8 = 78;

/// The number of fleets that are named.
const MOST_FLEETS: usize = 8;

/// Checks the file; findings go to `err`, one line about a good file to `out`. Returns the exit
/// code: 0, also with warnings, or [`EXIT_CONFIG`].
pub fn check(
    path: &Path,
    environment: &Environment,
    out: &mut impl Write,
    err: &mut impl Write,
) -> u8 {
    // A reader that closed the other end does not want more: write errors change no outcome.
    match config::load(path, environment) {
        Ok(loaded) => {
            show(&loaded.warnings, err);
            let shared = loaded.shared.as_ref().map_or_else(String::new, share);
            let summary = summary(&loaded.config);
            let _ = writeln!(out, "{}: ok, {summary}{shared}", path.display());
            0
        }
        Err(ConfigErrors::Invalid { errors, warnings }) => {
            show(&warnings, err);
            show(&errors, err);
            let _ = writeln!(err, "{}: {}", path.display(), counted(errors.total(), "error"));
            EXIT_CONFIG
        }
        Err(unreadable @ ConfigErrors::Unreadable { .. }) => {
            let _ = writeln!(err, "{unreadable}");
            EXIT_CONFIG
        }
    }
}

/// Each with an empty line behind it.
pub fn show(findings: &Findings, err: &mut impl Write) {
    if !findings.is_empty() {
        let _ = writeln!(err, "{findings}\n");
    }
}

/// How much of it all nodes of the cluster share.
fn share(part: &SharedPart) -> String {
    let sections = counted(part.sections, "section");
    match &part.version {
        Some(version) => {
            format!("; {sections} of version {} of those that all nodes share", version.number)
        }
        None => format!("; {sections} of those that all nodes share"),
    }
}

fn summary(config: &Config) -> String {
    let agents = config.monitor.devices.iter().filter(|device| device.agent.is_some()).count();
    let devices = config.monitor.devices.len() - agents;
    let mut summary = devices_and_agents(devices, agents);
    let listed = config.listed.iter().map(|(fleet, members)| format!("{members} of {fleet}"));
    if let Some(listed) = shortened(listed.collect()) {
        summary.push_str(&format!(" ({listed})"));
    }
    let learned = config.monitor.fleets.iter().map(|fleet| format!("[fleet_{}]", fleet.name));
    if let Some(learned) = shortened(learned.collect()) {
        summary.push_str(&format!(", and the devices that join {learned}"));
    }
    summary
}

/// The first entries of a list, and how many more there are.
fn shortened(entries: Vec<String>) -> Option<String> {
    let (shown, more) = entries.split_at(entries.len().min(MOST_FLEETS));
    let shown = (!shown.is_empty()).then(|| shown.join(", "))?;
    Some(if more.is_empty() { shown } else { format!("{shown} and {} more", more.len()) })
}
