//! Determines which other users can read the credentials that `passCredentials` gives an agent, and
//! whether root alone controls their sources.
//!
//! A credential belongs to the user that the agent runs as, and is therefore readable by every
//! other agent of that user.

use super::Environment;
use super::report::{ByteSpan, ConfigReport};
use super::section;
use crate::trusted_path::swayed_part;
use iotmonitor_core::model::spec::{AgentSpec, DYNAMIC_USER, DeviceSpec};
use std::collections::BTreeMap;
use toml::de::DeTable;

pub(super) const KEY: &str = "passCredentials";

/// Agents without a user run as this one.
const SHARED_USER: &str = "iotmonitor";

/// Warns of credentials that other agents can read, and of those through which others could read
/// files as root. In a user manager all agents belong to its owner.
pub(super) fn warn(
    root: &DeTable<'_>,
    devices: &[DeviceSpec],
    environment: &Environment,
    report: &mut ConfigReport,
) {
    if environment.user_manager {
        return;
    }
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let agents = || devices.iter().filter_map(|d| Some((d.name.as_str(), d.agent.as_deref()?)));
    for (name, agent) in agents().filter(|(_, agent)| !agent.is_dynamic()) {
        users.entry(user_of(agent)).or_default().push(name);
    }
    for (name, agent) in agents() {
        let place = |key| Some(section::value_of(root, &format!("agent_{name}"), key)?.key_span);
        if let Some(span) = place(KEY).filter(|_| !agent.credentials.is_empty()) {
            warn_of_readers(name, agent, &users, &span, report);
            if environment.for_service {
                warn_of_swayed_credentials(name, agent, &span, report);
            }
        }
        if let Some((file, span)) = agent.environment_file.as_ref().zip(place("environmentFile"))
            && environment.for_service
            && let Some(swayed) = swayed_part(file)
        {
            let message = format!("environmentFile of [agent_{name}]: {swayed}");
            let hint = "systemd reads it as root, also where it is a link: keep the file and all \
                        directories above it in root's hands, such as below /etc/iotmonitor";
            report.warning(&span, message, hint);
        }
    }
}

fn user_of(agent: &AgentSpec) -> &str {
    agent.user.as_deref().unwrap_or(SHARED_USER)
}

fn warn_of_readers(
    name: &str,
    agent: &AgentSpec,
    users: &BTreeMap<&str, Vec<&str>>,
    span: &ByteSpan,
    report: &mut ConfigReport,
) {
    let user = user_of(agent);
    let all: &[&str] = users.get(user).map_or(&[], Vec::as_slice);
    // Only a few names are listed when many agents share a user.
    let others = |names: &[&str]| {
        let others = names.iter().filter(|other| **other != name);
        others.take(4).map(|other| format!("`{other}`")).collect::<Vec<_>>()
    };
    let count = all.len().saturating_sub(1);
    let others = others(&all[..all.len().min(5)]);
    // Root reads everything anyway, and a dynamic user is not shared.
    if agent.is_dynamic() || user == "root" || user == "0" {
        return;
    }
    let readers = match &others[..] {
        [] if user != SHARED_USER => return,
        [] => "every agent without a `user` can read".to_owned(),
        [first, second, ..] if count > 3 => {
            format!("{first}, {second}, … ({count} agents with the same user) can read")
        }
        some => format!("{} with the same user can read", some.join(", ")),
    };
    let message = format!("{readers} the credentials of [agent_{name}]");
    let hint = format!("give it a user that no other agent has: user = \"{DYNAMIC_USER}\"");
    report.warning(span, message, hint);
}

fn warn_of_swayed_credentials(
    name: &str,
    agent: &AgentSpec,
    span: &ByteSpan,
    report: &mut ConfigReport,
) {
    for (credential, file) in &agent.credentials {
        if let Some(swayed) = swayed_part(file) {
            let message =
                format!("[agent_{name}] will not be started with {credential}, because {swayed}");
            let hint = "systemd reads it as root, also where it is a link: keep the file and all \
                        directories above it in root's hands, such as below /etc/iotmonitor";
            report.warning(span, message, hint);
        }
    }
}
