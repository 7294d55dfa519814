//! Sentences of alerts on devices and connections.

use crate::machines::agent::Agent;
use crate::machines::flapping::Flaps;
use crate::model::alert::{AlertKind, Reason};
use crate::model::message::{FilterRefusal, LossReason};
use crate::model::words::{RoundedDuration, counted};
use crate::monitor::device::Device;
use std::time::Duration;

/// The word for a device: one with a process is an agent.
pub(super) fn noun(device: &Device) -> &'static str {
    if device.rare.agent().is_some() { "agent" } else { "device" }
}

/// The sentence of its expiry; `wall` is the present time.
pub(super) fn expired_sentence(device: &Device, wall: Duration) -> String {
    let (noun, name) = (noun(device), &device.spec.name);
    let contact = match device.silence.last_contact() {
        Some(contact) => {
            format!("last contact {} ago", RoundedDuration(wall.saturating_sub(contact)))
        }
        None => "no contact yet".to_owned(),
    };
    if device.is_gone() {
        return format!("{noun} `{name}` is gone, its availabilityTopic says: {contact}");
    }
    let timeout = RoundedDuration(device.silence.timeout().unwrap_or_default());
    let hung = |agent: &&Agent| device.episode.cause() == Reason::AgentHung && agent.is_running();
    match device.rare.agent().filter(hung).map(Agent::main_pid) {
        Some(pid) => format!(
            "agent `{name}` hangs: its process (PID {pid}) is running and silent: {contact}, \
             watchTimeOut is {timeout}"
        ),
        None => format!("{noun} `{name}` is silent: {contact}, watchTimeOut is {timeout}"),
    }
}

/// The sentence of its return.
pub(super) fn recovered_sentence(device: &Device, alarmed: Duration) -> String {
    format!(
        "{} `{}` is back after {} of alarm",
        noun(device),
        device.spec.name,
        RoundedDuration(alarmed)
    )
}

/// A sentence about the number of alarms; `what` describes the event.
pub(super) fn flapping_sentence(device: &Device, what: &str, watched: Duration) -> String {
    let none = Flaps::default();
    let (count, time) = device.rare.flaps().unwrap_or(&none).account(watched);
    let (noun, name, times) = (noun(device), &device.spec.name, counted(count, "time"));
    format!("{noun} `{name}` {what} {times} within {}", RoundedDuration(time))
}

/// The sentence of a lost connection.
pub(super) fn loss_sentence(client_id: &str, reason: &LossReason) -> String {
    match reason {
        LossReason::TakenOver => format!(
            "another program connects with the clientid `{client_id}`: give one of the two another \
             `clientid` in [mqtt]"
        ),
        LossReason::Refused(text)
        | LossReason::Silent { sentence: text, .. }
        | LossReason::Other(text) => text.clone(),
    }
}

/// The kind of alert for a lost connection.
pub(super) fn loss_kind(reason: &LossReason) -> AlertKind {
    match reason {
        LossReason::TakenOver => AlertKind::ClientIdTaken,
        LossReason::Refused(_) => AlertKind::BrokerRefused,
        LossReason::Silent { .. } | LossReason::Other(_) => AlertKind::BrokerLost,
    }
}

/// The sentence of a refused subscription.
pub(super) fn refusal_sentence(refusal: &FilterRefusal) -> String {
    format!(
        "the broker refused the subscription to `{}` ({}): check the access rights of the \
         monitor's user there",
        refusal.filter, refusal.reason
    )
}
