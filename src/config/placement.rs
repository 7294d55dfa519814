//! The keys of an agent's section that say on which machines of a cluster it runs, and what machines
//! that share an agent demand of it.

use super::cluster::LONGEST_STOP_TIMEOUT;
use super::report::ConfigReport;
use super::section::{self, Section};
use iotmonitor_core::model::cluster::sharing::{Placement, WhenCut};
use iotmonitor_core::model::cluster::{Allowed, NodeName};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::spec::{AgentSpec, DeviceSpec};
use std::collections::BTreeMap;
use toml::de::DeTable;

/// The keys, which are known only beside `[cluster]`.
pub(super) const KEYS: [&str; 2] = ["nodes", "whenCut"];

const WHEN_CUT: [(&str, WhenCut); 2] = [("stop", WhenCut::Stop), ("keep", WhenCut::Keep)];

/// What the sections of agents are compared with.
pub(super) struct OwnNode<'t> {
    pub name: Option<&'t NodeName>,
    /// The place behind which sections are shared with other nodes.
    pub shared_from: Option<usize>,
}

/// Reads where each agent may run, and reports agents that several machines cannot share.
pub(super) fn read(
    root: &DeTable<'_>,
    own: &OwnNode<'_>,
    devices: &[DeviceSpec],
    report: &mut ConfigReport,
) -> BTreeMap<DeviceName, Placement> {
    let is_clustered = section::field_of(root, "cluster").is_some();
    let allows_root = section::value_of(root, "cluster", "allowRootAgents")
        .is_some_and(|field| field.value.as_bool() == Some(true));
    let mut placements = BTreeMap::new();
    for device in devices {
        let Some(agent) = &device.agent else { continue };
        let key = format!("agent_{}", device.name);
        let Some(entry) = section::field_of(root, &key) else { continue };
        let Some(section) = section::section_of(&entry, report) else { continue };
        if !is_clustered {
            refuse_keys(&section, report);
            continue;
        }
        let placement = placement(&section, report);
        let is_pinned = placement.allowed.pinned_to().is_some();
        let is_given = own.shared_from.is_some_and(|from| section.header.start >= from);
        if !is_pinned {
            refuse_slow(&section, agent, report);
        }
        // Whoever gives sections to all nodes is root on one of them, and not on this one.
        let may_run_here = own.name.is_none_or(|node| placement.allowed.includes(node));
        let needs_consent = if is_given { may_run_here } else { !is_pinned };
        if needs_consent && !allows_root {
            refuse_root(&section, agent, is_given, report);
        }
        placements.insert(device.name.clone(), placement);
    }
    placements
}

/// Reports the keys where there is no cluster.
fn refuse_keys(section: &Section<'_>, report: &mut ConfigReport) {
    for field in KEYS.iter().filter_map(|key| section.field(key)) {
        let message = format!("`{}` in {} needs the section [cluster]", field.key, section.title);
        report.error(
            &field.key_span,
            message,
            "remove it: a monitor by itself runs all its agents",
        );
    }
}

fn placement(section: &Section<'_>, report: &mut ConfigReport) -> Placement {
    let allowed = allowed(section, report);
    let when_cut = when_cut(section, report);
    if let Some(node) = allowed.pinned_to()
        && let Some(field) = section.field("whenCut")
    {
        let message = format!("whenCut has no effect on an agent that runs on {node} alone");
        report.error(&field.key_span, message, "remove it, or allow the agent on further nodes");
    }
    Placement { allowed, when_cut }
}

fn allowed(section: &Section<'_>, report: &mut ConfigReport) -> Allowed {
    const EXAMPLE: &str = "nodes = [\"pi1\"]";
    let Some(field) = section.field("nodes") else { return Allowed::Everywhere };
    let texts = section.texts("nodes", "pi1", report);
    if field.value.as_array().is_some_and(|nodes| nodes.is_empty()) {
        let message = format!("{} may run on no node", section.title);
        report.error(
            &field.span,
            message,
            format!("name some, as in {EXAMPLE}, or remove `nodes`"),
        );
    }
    let mut nodes = Vec::new();
    for text in texts {
        match NodeName::new(text.value) {
            Ok(node) if nodes.contains(&node) => {
                let message = format!("nodes: `{node}` is named twice");
                report.error(&text.span, message, "remove one of the two");
            }
            Ok(node) => nodes.push(node),
            Err(error) => report.error(
                &text.span,
                format!("nodes: {error}"),
                format!("write what `node` in [cluster] is on that machine: {EXAMPLE}"),
            ),
        }
    }
    Allowed::On(nodes)
}

fn when_cut(section: &Section<'_>, report: &mut ConfigReport) -> WhenCut {
    let hint = "it is \"stop\", or \"keep\" for an agent that may run twice";
    section.word("whenCut", &WHEN_CUT, hint, report).unwrap_or(WhenCut::Stop)
}

fn refuse_slow(section: &Section<'_>, agent: &AgentSpec, report: &mut ConfigReport) {
    let is_slow = agent.stop_timeout.is_some_and(|time| time > LONGEST_STOP_TIMEOUT);
    if let Some(field) = section.field("stopTimeout").filter(|_| is_slow) {
        let message =
            format!("stopTimeout = {} is too long for an agent that machines share", field.shown());
        report.error(&field.span, message, "another machine waits 1s at most");
    }
}

fn refuse_root(
    section: &Section<'_>,
    agent: &AgentSpec,
    is_given: bool,
    report: &mut ConfigReport,
) {
    let is_root = matches!(agent.user.as_deref(), Some("root" | "0"));
    if let Some(field) = section.field("user").filter(|_| is_root) {
        let message = if is_given {
            format!("{} would run as root, which this node does not allow", section.title)
        } else {
            format!("{} would run as root on each machine of the cluster", section.title)
        };
        let hint = "choose another user, or set allowRootAgents = true in [cluster] on each \
                    machine that is to allow it";
        report.error(&field.span, message, hint);
    }
}
