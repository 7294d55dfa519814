//! The answers as JSON: the keys of `status/NAME`, and the original's for its list.

use iotmonitor_core::model::status::DeviceStatus;
use iotmonitor_core::model::view::{DeviceView, Liveness, Summary};
use serde::Serialize;
use serde_json::{Value, json};

/// A device or agent.
pub(super) fn device(view: &DeviceView) -> String {
    DeviceStatus::of(view).to_json()
}

/// One device or agent, with its rhythm.
pub(super) fn one_device(view: &DeviceView) -> String {
    DeviceStatus::with_rhythm(view).to_json()
}

/// A device or agent in the original iotmonitor's format.
pub(super) fn in_the_originals_form(view: &DeviceView) -> String {
    #[derive(Serialize)]
    struct Original<'a> {
        name: &'a str,
        enabled: bool,
        expired: bool,
    }
    let (enabled, expired) = (view.state != Liveness::Disabled, view.state == Liveness::Expired);
    text(&Original { name: &view.name, enabled, expired })
}

pub(super) fn summary(summary: &Summary) -> Value {
    json!({
        "watching": summary.watching,
        "devices": summary.devices,
        "expired": summary.expired,
        "agents": summary.agents,
        "agentsRunning": summary.agents_running,
        "storeFails": summary.store_fails,
        "namesRefused": summary.names_refused,
        "alertsWaiting": summary.notifications.pending,
        "lastAlertTold": summary.notifications.last_delivered,
        "silenced": summary.notifications.silenced,
    })
}

/// Strings and numbers always serialize.
fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::view::AgentView;
    use std::time::Duration;

    fn pump() -> DeviceView {
        DeviceView {
            name: "\"pump\"</script>".to_owned(),
            state: Liveness::Expired,
            reason: Some("silent".to_owned()),
            since: Duration::from_millis(5_900),
            last_contact: None,
            fleet: None,
            area: None,
            depends_on: Vec::new(),
            watch_timeout: Some(Duration::from_millis(2_500)),
            auto_timeout: false,
            learned: None,
            hellos: 3,
            disabled_until: None,
            silenced_until: None,
            node: None,
            epoch: None,
            is_unsent: false,
            agent: Some(AgentView {
                unit: "iotmonitor-agent-pump.service".to_owned(),
                state: "active".to_owned(),
                main_pid: 17,
                restarts: 2,
                ..AgentView::default()
            }),
        }
    }

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_device_and_an_agent_are_answered_with_these_bytes() {
        let mut waiting = pump();
        let agent = waiting.agent.as_mut().unwrap();
        agent.last_exit = Some("exited with 7".to_owned());
        agent.last_exit_at = Some(Duration::from_secs(11));
        agent.next_start = Some(Duration::from_secs(12));
        waiting.disabled_until = Some(Duration::from_secs(13));
        assert_eq!(
            device(&waiting),
            r#"{"name":"\"pump\"</script>","kind":"agent","state":"expired","reason":"silent","since":5,"lastContact":null,"watchTimeOut":2.5,"hellos":3,"disabledUntil":13,"agent":{"unit":"iotmonitor-agent-pump.service","state":"active","mainPid":17,"restarts":2,"lastExit":"exited with 7","lastExitAt":11,"nextStart":12}}"#
        );
        let lamp = DeviceView { agent: None, last_contact: Some(Duration::from_secs(7)), ..pump() };
        assert_eq!(
            device(&DeviceView { watch_timeout: None, reason: None, ..lamp }),
            r#"{"name":"\"pump\"</script>","kind":"device","state":"expired","since":5,"lastContact":7,"watchTimeOut":0,"hellos":3}"#
        );
    }

    #[test]
    fn a_device_bears_the_keys_of_its_published_status() {
        let expected = json!({
            "name": "\"pump\"</script>", "kind": "agent", "state": "expired", "reason": "silent",
            "since": 5, "lastContact": null, "watchTimeOut": 2.5, "hellos": 3,
            "agent": {"unit": "iotmonitor-agent-pump.service", "state": "active", "mainPid": 17,
                      "restarts": 2},
        });
        assert_eq!(value(&device(&pump())), expected);
        let lamp = DeviceView {
            state: Liveness::Alive,
            reason: None,
            last_contact: Some(Duration::from_secs(7)),
            watch_timeout: Some(Duration::from_secs(60)),
            agent: None,
            ..pump()
        };
        let lamp = device(&lamp);
        assert!(lamp.contains("\"watchTimeOut\":60,\"hellos\":3}"), "{lamp}");
        assert!(lamp.contains("\"kind\":\"device\"") && lamp.contains("\"lastContact\":7"));
        assert!(!lamp.contains("reason"));
    }

    #[test]
    fn the_originals_list_has_its_three_keys_in_its_order() {
        let of = |state| {
            in_the_originals_form(&DeviceView { name: "esp04".to_owned(), state, ..pump() })
        };
        assert_eq!(of(Liveness::Expired), r#"{"name":"esp04","enabled":true,"expired":true}"#);
        assert_eq!(of(Liveness::Alive), r#"{"name":"esp04","enabled":true,"expired":false}"#);
        assert_eq!(of(Liveness::Unknown), r#"{"name":"esp04","enabled":true,"expired":false}"#);
        assert_eq!(of(Liveness::Disabled), r#"{"name":"esp04","enabled":false,"expired":false}"#);
    }
}
