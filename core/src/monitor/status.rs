//! The retained `status/NAME`: what the monitor holds true of one device, as JSON.

use crate::model::action::Action;
use crate::model::alert::Reason;
use crate::model::device_id::DeviceId;
use crate::model::message::QoS;
use crate::monitor::Monitor;
use crate::monitor::turn::Turn;
use bytes::Bytes;
use serde::Serialize;
use std::time::Duration;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    name: &'a str,
    kind: &'static str,
    state: &'static str,
    /// Why there is an alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Unix seconds of the last change of `state`.
    since: u64,
    /// Unix seconds; `null` if there never was one.
    last_contact: Option<u64>,
    /// Seconds; 0 never expires.
    watch_time_out: Number,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<AgentStatus<'a>>,
}

/// Seconds, without a fraction where there is none.
#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    Whole(u64),
    Fraction(f64),
}

impl From<Duration> for Number {
    fn from(time: Duration) -> Self {
        if time.subsec_nanos() == 0 {
            Self::Whole(time.as_secs())
        } else {
            Self::Fraction(time.as_secs_f64())
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentStatus<'a> {
    unit: &'a str,
    /// systemd's ActiveState.
    state: &'static str,
    restarts: u64,
}

impl Monitor {
    pub(super) fn status_publication(&self, id: DeviceId) -> Action {
        let device = &self.devices[id];
        let agent = device.agent.as_ref().map(|agent| AgentStatus {
            unit: agent.unit().as_str(),
            state: agent.unit_state(),
            restarts: agent.restarts(),
        });
        let status = Status {
            name: device.spec.name.as_str(),
            kind: if agent.is_some() { "agent" } else { "device" },
            state: device.liveness().as_str(),
            reason: device.reason().map(Reason::as_str),
            since: device.since.as_secs(),
            last_contact: device.silence.last_contact().map(|contact| contact.as_secs()),
            watch_time_out: Number::from(device.silence.timeout().unwrap_or_default()),
            agent,
        };
        // Texts and numbers always serialize; an empty payload would clear the retained status.
        let payload = serde_json::to_string(&status).unwrap_or_else(|_| "{}".to_owned());
        self.device_publication("status", id, payload, true)
    }

    pub(super) fn publish_all_statuses(&self, turn: &mut Turn<'_>) {
        for id in self.devices.ids() {
            turn.out.push(self.status_publication(id));
            self.announce(turn, id);
        }
    }

    /// Clears a retained topic below the base (MQTT 5, 3.3.1.3).
    pub(super) fn clearing(&self, below: &str) -> Action {
        self.own_publication(below, Bytes::new(), QoS::AtLeastOnce, true, None)
    }
}
