//! The format of a [`DeviceView`] on the bus: a dictionary of properties, so that a new property
//! does not require a new interface.

use iotmonitor_core::model::view::{
    AgentView, DeviceView, Learned, Liveness, NotificationsSummary, Summary,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use zbus::Variant;

/// The type `a{sv}`; unknown values are left out.
pub(super) type Dictionary = HashMap<String, Variant<'static>>;

/// Properties that a dictionary leaves out where they are empty.
const OPTIONAL: [&str; 8] = [
    "Fleet",
    "Area",
    "DependsOn",
    "LastExit",
    "LastExitTime",
    "NextStart",
    "DisabledUntil",
    "SilencedUntil",
];

/// Everything about a device or agent; a contact that never happened is left out.
pub(super) fn to_dictionary(view: &DeviceView) -> Dictionary {
    let mut dictionary = device_properties(view);
    if view.last_contact.is_none() {
        dictionary.remove("LastContact");
    }
    dictionary.extend(view.agent.iter().flat_map(agent_properties));
    for key in OPTIONAL {
        let is_empty = match dictionary.get(key) {
            Some(Variant::Str(text)) => text.as_str().is_empty(),
            Some(Variant::U64(time)) => *time == 0,
            Some(Variant::Array(names)) => names.is_empty(),
            _ => true,
        };
        if is_empty {
            dictionary.remove(key);
        }
    }
    dictionary.insert("AutoTimeOut".to_owned(), Variant::from(view.auto_timeout));
    dictionary.extend(view.learned.iter().flat_map(learned));
    dictionary
        .extend(view.node.iter().map(|node| ("Node".to_owned(), Variant::from(node.clone()))));
    dictionary.extend(view.epoch.map(|epoch| ("Epoch".to_owned(), Variant::from(epoch))));
    dictionary
}

/// The learned values, in seconds; they change with each contact, so only lists include them.
fn learned(learned: &Learned) -> Dictionary {
    let seconds = |span: Duration| Variant::from(span.as_secs_f64());
    dictionary([
        ("Intervals", Variant::from(learned.intervals)),
        ("UsualSilence", seconds(learned.usual)),
        ("RareSilence", seconds(learned.rare)),
        ("LongestSilence", seconds(learned.longest)),
        ("ProposedTimeOut", seconds(learned.proposed.unwrap_or_default())),
    ])
}

/// The properties of `org.iotmonitor.Device1`.
pub(super) fn device_properties(view: &DeviceView) -> Dictionary {
    dictionary([
        ("Name", Variant::from(view.name.clone())),
        ("State", Variant::from(view.state.as_str())),
        ("Reason", Variant::from(view.reason.clone().unwrap_or_default())),
        ("Fleet", Variant::from(view.fleet.clone().unwrap_or_default())),
        ("Area", Variant::from(view.area.as_deref().unwrap_or_default().to_owned())),
        ("DependsOn", Variant::from(view.depends_on.clone())),
        ("Since", Variant::from(view.since.as_secs())),
        ("LastContact", Variant::from(view.last_contact.unwrap_or_default().as_secs())),
        ("WatchTimeOut", Variant::from(view.watch_timeout.unwrap_or_default().as_secs_f64())),
        ("Hellos", Variant::from(view.hellos)),
        ("DisabledUntil", Variant::from(view.disabled_until.unwrap_or_default().as_secs())),
        ("SilencedUntil", Variant::from(view.silenced_until.unwrap_or_default().as_secs())),
    ])
}

/// The properties of `org.iotmonitor.Agent1`.
pub(super) fn agent_properties(agent: &AgentView) -> Dictionary {
    dictionary([
        ("Unit", Variant::from(agent.unit.clone())),
        ("UnitState", Variant::from(agent.state.clone())),
        ("MainPID", Variant::from(agent.main_pid)),
        ("Restarts", Variant::from(agent.restarts)),
        ("LastExit", Variant::from(agent.last_exit.clone().unwrap_or_default())),
        ("LastExitTime", Variant::from(agent.last_exit_at.unwrap_or_default().as_secs())),
        ("NextStart", Variant::from(agent.next_start.unwrap_or_default().as_secs())),
    ])
}

/// The properties of `org.iotmonitor.Monitor1`.
pub(super) fn monitor_properties(summary: &Summary) -> Dictionary {
    let count = |count: usize| Variant::from(u64::try_from(count).unwrap_or(u64::MAX));
    dictionary([
        ("Version", Variant::from(env!("CARGO_PKG_VERSION"))),
        ("Watching", Variant::from(summary.watching)),
        ("Devices", count(summary.devices)),
        ("Expired", count(summary.expired)),
        ("Agents", count(summary.agents)),
        ("AgentsRunning", count(summary.agents_running)),
        ("StoreFails", Variant::from(summary.store_fails)),
        ("AlertsWaiting", count(summary.notifications.pending)),
        ("LastAlert", Variant::from(last_alert(summary.notifications))),
        ("NamesRefused", Variant::from(summary.names_refused)),
        ("Silenced", Variant::from(summary.notifications.silenced)),
    ])
}

/// Whether the last notification was delivered.
fn last_alert(summary: NotificationsSummary) -> &'static str {
    match summary.last_delivered {
        None => "",
        Some(true) => "told",
        Some(false) => "failed",
    }
}

/// Decodes the same; values that a daemon of another version leaves out are empty.
pub(super) fn notifications_of(dictionary: &HashMap<String, Variant<'_>>) -> NotificationsSummary {
    NotificationsSummary {
        pending: match dictionary.get("AlertsWaiting") {
            Some(Variant::U64(count)) => usize::try_from(*count).unwrap_or(usize::MAX),
            _ => 0,
        },
        last_delivered: match dictionary.get("LastAlert") {
            Some(Variant::Str(word)) if word.as_str() == "told" => Some(true),
            Some(Variant::Str(word)) if word.as_str() == "failed" => Some(false),
            _ => None,
        },
        silenced: matches!(dictionary.get("Silenced"), Some(Variant::Bool(true))),
    }
}

fn dictionary<const N: usize>(entries: [(&str, Variant<'static>); N]) -> Dictionary {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Returns `None` if it has no name. Other values that a daemon of another version leaves out are
/// empty, and a state that only that version has is unknown.
pub(super) fn from_dictionary(dictionary: &HashMap<String, Variant<'_>>) -> Option<DeviceView> {
    let text = |key: &str| match dictionary.get(key) {
        Some(Variant::Str(text)) => Some(text.as_str().to_owned()),
        _ => None,
    };
    let number = |key: &str| match dictionary.get(key) {
        Some(Variant::U64(number)) => Some(*number),
        Some(Variant::U32(number)) => Some(u64::from(*number)),
        _ => None,
    };
    let names = |key: &str| match dictionary.get(key) {
        Some(Variant::Array(names)) => {
            let names = names.iter().filter_map(|name| match name {
                Variant::Str(name) => Some(name.as_str().to_owned()),
                _ => None,
            });
            names.collect()
        }
        _ => Vec::new(),
    };
    let span = |key: &str| match dictionary.get(key) {
        Some(Variant::F64(seconds)) => Duration::try_from_secs_f64(*seconds).ok(),
        _ => None,
    };
    let intervals = number("Intervals").and_then(|intervals| u32::try_from(intervals).ok());
    Some(DeviceView {
        name: text("Name")?,
        state: text("State").and_then(|state| Liveness::named(&state)).unwrap_or_default(),
        reason: text("Reason").filter(|reason| !reason.is_empty()),
        since: Duration::from_secs(number("Since").unwrap_or_default()),
        last_contact: number("LastContact").map(Duration::from_secs),
        fleet: text("Fleet").filter(|fleet| !fleet.is_empty()),
        area: text("Area").filter(|area| !area.is_empty()).map(Arc::from),
        depends_on: names("DependsOn"),
        watch_timeout: span("WatchTimeOut").filter(|timeout| !timeout.is_zero()),
        auto_timeout: matches!(dictionary.get("AutoTimeOut"), Some(Variant::Bool(true))),
        learned: intervals.map(|intervals| Learned {
            intervals,
            usual: span("UsualSilence").unwrap_or_default(),
            rare: span("RareSilence").unwrap_or_default(),
            longest: span("LongestSilence").unwrap_or_default(),
            proposed: span("ProposedTimeOut").filter(|proposed| !proposed.is_zero()),
        }),
        hellos: number("Hellos").unwrap_or_default(),
        disabled_until: number("DisabledUntil").map(Duration::from_secs),
        silenced_until: number("SilencedUntil").map(Duration::from_secs),
        node: text("Node"),
        epoch: number("Epoch"),
        // Only other nodes have to know it.
        is_unsent: false,
        agent: text("Unit").map(|unit| AgentView {
            unit,
            state: text("UnitState").unwrap_or_default(),
            main_pid: number("MainPID").and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
            restarts: number("Restarts").unwrap_or_default(),
            last_exit: text("LastExit"),
            last_exit_at: number("LastExitTime").map(Duration::from_secs),
            next_start: number("NextStart").map(Duration::from_secs),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_alerts_arrive_is_read_as_it_was_sent() {
        for last_delivered in [None, Some(true), Some(false)] {
            let notifications = NotificationsSummary { pending: 3, last_delivered, silenced: true };
            let sent = monitor_properties(&Summary { notifications, ..Summary::default() });
            assert_eq!(notifications_of(&sent), notifications);
        }
        assert_eq!(notifications_of(&Dictionary::new()), NotificationsSummary::default());
    }

    #[test]
    fn a_view_arrives_as_it_was_sent() {
        let device = DeviceView {
            name: "lamp".to_owned(),
            state: Liveness::Alive,
            reason: None,
            since: Duration::from_secs(5),
            last_contact: Some(Duration::from_secs(7)),
            fleet: Some("esp".to_owned()),
            area: Some(Arc::from("Kitchen")),
            depends_on: vec!["gateway".to_owned(), "bridge".to_owned()],
            watch_timeout: Some(Duration::from_millis(2_500)),
            auto_timeout: true,
            learned: Some(Learned {
                intervals: 9,
                usual: Duration::from_secs(2),
                rare: Duration::from_secs(4),
                longest: Duration::from_millis(3_500),
                proposed: Some(Duration::from_secs(60)),
            }),
            hellos: 3,
            disabled_until: Some(Duration::from_secs(11)),
            silenced_until: Some(Duration::from_secs(12)),
            node: Some("pi1".to_owned()),
            epoch: Some(7),
            is_unsent: false,
            agent: None,
        };
        let agent = DeviceView {
            state: Liveness::Expired,
            reason: Some("silent".to_owned()),
            last_contact: None,
            disabled_until: None,
            silenced_until: None,
            node: None,
            epoch: None,
            is_unsent: false,
            fleet: None,
            area: None,
            depends_on: Vec::new(),
            watch_timeout: None,
            auto_timeout: false,
            learned: None,
            agent: Some(AgentView {
                unit: "iotmonitor-agent-lamp.service".to_owned(),
                state: "active".to_owned(),
                main_pid: 17,
                restarts: 2,
                last_exit: Some("exited with 1".to_owned()),
                last_exit_at: Some(Duration::from_secs(8)),
                next_start: Some(Duration::from_secs(9)),
            }),
            ..device.clone()
        };
        for view in [device, agent] {
            assert_eq!(from_dictionary(&to_dictionary(&view)), Some(view));
        }
        assert_eq!(from_dictionary(&Dictionary::new()), None);
    }
}
