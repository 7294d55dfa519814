//! Translates notices to signals on the bus.

use super::PATH;
use super::object::{AGENT, DEVICE, MONITOR, PROPERTIES, device_path};
use super::view::{Dictionary, agent_properties, device_properties, monitor_properties};
use iotmonitor_core::model::notice::Notice;
use std::time::Duration;
use zbus::Message;

/// Properties that change without a signal: with every message, beside another one that has a signal,
/// or with a reload alone.
const SILENT: [&str; 15] = [
    "Name",
    "Fleet",
    "Area",
    "DependsOn",
    "NamesRefused",
    "LastContact",
    "WatchTimeOut",
    "Hellos",
    "DisabledUntil",
    "SilencedUntil",
    "Unit",
    "LastExit",
    "LastExitTime",
    "NextStart",
    "Version",
];

/// The signal of a notice.
///
/// # Errors
/// Returns an error when it does not fit into a message.
pub(super) fn signal(notice: Notice) -> zbus::Result<Message> {
    let seconds = |time: Duration| time.as_secs();
    match notice {
        Notice::Expired { device, last_contact } => Message::signal(PATH, MONITOR, "Expired")
            .build(&(device, seconds(last_contact.unwrap_or_default()))),
        Notice::Recovered { device, contact } => {
            Message::signal(PATH, MONITOR, "Recovered").build(&(device, seconds(contact)))
        }
        Notice::AgentRestarted { device, main_pid } => {
            Message::signal(PATH, MONITOR, "AgentRestarted").build(&(device, main_pid))
        }
        Notice::StateChanged(view) => {
            changed(&device_path(&view.name), DEVICE, device_properties(&view))
        }
        Notice::UnitChanged(view) => {
            let properties = view.agent.as_ref().map(agent_properties).unwrap_or_default();
            changed(&device_path(&view.name), AGENT, properties)
        }
        Notice::SummaryChanged(summary) => changed(PATH, MONITOR, monitor_properties(&summary)),
    }
}

/// `PropertiesChanged` of an object (D-Bus specification).
fn changed(path: &str, interface: &str, mut properties: Dictionary) -> zbus::Result<Message> {
    properties.retain(|name, _| !SILENT.contains(&name.as_str()));
    let invalidated: &[&str] = &[];
    Message::signal(path, PROPERTIES, "PropertiesChanged").build(&(
        interface,
        properties,
        invalidated,
    ))
}
