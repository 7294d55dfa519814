//! The answers as JSON: the keys of `status/NAME`, and the original's for its list.

use super::recent::Told;
use iotmonitor_core::model::alert::Priority;
use iotmonitor_core::model::view::{AgentView, DeviceView, Summary};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceJson<'a> {
    name: &'a str,
    kind: &'static str,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// Unix seconds of the last change of `state`.
    since: u64,
    /// Unix seconds; `null` if there never was one.
    last_contact: Option<u64>,
    /// Seconds; 0 never expires.
    watch_time_out: Seconds,
    hellos: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_until: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<AgentJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentJson<'a> {
    unit: &'a str,
    state: &'a str,
    main_pid: u32,
    restarts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_exit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_exit_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_start: Option<u64>,
}

/// Without a fraction where there is none.
struct Seconds(Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.subsec_nanos() == 0 {
            serializer.serialize_u64(self.0.as_secs())
        } else {
            serializer.serialize_f64(self.0.as_secs_f64())
        }
    }
}

impl<'a> From<&'a AgentView> for AgentJson<'a> {
    fn from(agent: &'a AgentView) -> Self {
        Self {
            unit: &agent.unit,
            state: &agent.state,
            main_pid: agent.main_pid,
            restarts: agent.restarts,
            last_exit: agent.last_exit.as_deref(),
            last_exit_at: agent.last_exit_at.map(|at| at.as_secs()),
            next_start: agent.next_start.map(|at| at.as_secs()),
        }
    }
}

/// A device or agent.
pub(super) fn device(view: &DeviceView) -> String {
    text(&DeviceJson {
        name: &view.name,
        kind: if view.agent.is_some() { "agent" } else { "device" },
        state: &view.state,
        reason: view.reason.as_deref(),
        since: view.since.as_secs(),
        last_contact: view.last_contact.map(|contact| contact.as_secs()),
        watch_time_out: Seconds(view.watch_timeout.unwrap_or_default()),
        hellos: view.hellos,
        disabled_until: view.disabled_until.map(|until| until.as_secs()),
        agent: view.agent.as_ref().map(AgentJson::from),
    })
}

/// A device or agent as the original iotmonitor listed it.
pub(super) fn in_the_originals_form(view: &DeviceView) -> String {
    #[derive(Serialize)]
    struct Original<'a> {
        name: &'a str,
        enabled: bool,
        expired: bool,
    }
    let (enabled, expired) = (view.state != "disabled", view.state == "expired");
    text(&Original { name: &view.name, enabled, expired })
}

pub(super) fn summary(summary: &Summary) -> Value {
    json!({
        "watching": summary.watching,
        "devices": summary.devices,
        "expired": summary.expired,
        "agents": summary.agents,
        "agentsRunning": summary.agents_running,
    })
}

pub(super) fn alert(told: &Told) -> String {
    #[derive(Serialize)]
    struct AlertJson<'a> {
        time: u64,
        event: &'static str,
        priority: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        device: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        message: &'a str,
    }
    let priority = match told.kind.priority() {
        Priority::Error => "error",
        Priority::Warning => "warning",
        Priority::Notice => "notice",
        Priority::Info => "info",
    };
    text(&AlertJson {
        time: told.time.as_secs(),
        event: told.kind.event(),
        priority,
        device: told.device.as_deref(),
        reason: told.reason.map(|reason| reason.as_str()),
        message: &told.message,
    })
}

/// Texts and numbers always serialize.
fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pump() -> DeviceView {
        DeviceView {
            name: "\"pump\"</script>".to_owned(),
            state: "expired".to_owned(),
            reason: Some("silent".to_owned()),
            since: Duration::from_millis(5_900),
            last_contact: None,
            watch_timeout: Some(Duration::from_millis(2_500)),
            auto_timeout: false,
            learned: None,
            hellos: 3,
            disabled_until: None,
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
            state: "alive".to_owned(),
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
        let of = |state: &str| {
            in_the_originals_form(&DeviceView {
                name: "esp04".to_owned(),
                state: state.to_owned(),
                ..pump()
            })
        };
        assert_eq!(of("expired"), r#"{"name":"esp04","enabled":true,"expired":true}"#);
        assert_eq!(of("alive"), r#"{"name":"esp04","enabled":true,"expired":false}"#);
        assert_eq!(of("unknown"), r#"{"name":"esp04","enabled":true,"expired":false}"#);
        assert_eq!(of("disabled"), r#"{"name":"esp04","enabled":false,"expired":false}"#);
    }
}
