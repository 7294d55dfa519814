//! Describes each device to Home Assistant by MQTT discovery.
//!
//! One retained message for each device describes all of its entities (device discovery, Home
//! Assistant 2024.11 and later). Their values come from the retained `status/NAME`, so the only
//! further publications are a fresh status for each device that was heard, once a minute at most, and
//! for each whose uptime has changed, once an hour and soon after an incident. An
//! entity that a device does not have is listed with its platform alone, which makes Home Assistant
//! drop one that it may have had.
//!
//! There is no need to wait for Home Assistant's birth message, because a retained description is
//! there when it starts.

use super::device::Device;
use crate::model::action::Action;
use crate::model::cluster::NodeName;
use crate::model::description::{description_topic, discovery_id};
use crate::model::device_id::DeviceId;
use crate::model::device_name::DeviceName;
use crate::model::history::figures::PastFigures;
use crate::model::history::uptime::USUAL_WINDOW;
use crate::model::message::QoS;
use crate::model::time::Now;
use crate::monitor::publishing::publication;
use crate::monitor::sentences::noun;
use crate::monitor::turn::Turn;
use crate::monitor::{Monitor, Timer};
use crate::topic::TopicName;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

impl Monitor {
    /// Publishes the description of a device, where discovery is on.
    pub(super) fn announce(&self, turn: &mut Turn<'_>, id: DeviceId) {
        let Some(prefix) = self.discovery_prefix().filter(|_| self.speaks_for_house()) else {
            return;
        };
        let device = &self.devices[id];
        let Some(topic) = self.discovery_topic(prefix, &device.spec.name) else { return };
        let payload = Bytes::from(self.description(id, device).to_string());
        turn.out.push(publication(topic, payload, QoS::AtLeastOnce, true, None));
    }

    /// Publishes the descriptions of all devices again.
    pub(super) fn announce_all(&self, turn: &mut Turn<'_>) {
        for id in self.devices.ids() {
            self.announce(turn, id);
        }
    }

    /// Removes the description that a device had below the prefix `before`, if it no longer belongs
    /// there.
    pub(super) fn retract_if_stale(
        &self,
        turn: &mut Turn<'_>,
        before: Option<&str>,
        name: &DeviceName,
    ) {
        let Some(before) = before.filter(|_| self.speaks_for_house()) else { return };
        if self.discovery_prefix() == Some(before) && self.knows(name) {
            return;
        }
        turn.out.extend(
            self.discovery_topic(before, name)
                .map(|topic| publication(topic, Bytes::new(), QoS::AtLeastOnce, true, None)),
        );
    }

    /// The topic that descriptions are published below, where discovery is on.
    pub(super) fn discovery_prefix(&self) -> Option<&str> {
        self.home_assistant.discovery.as_ref().map(TopicName::as_str)
    }

    /// Remembers that the time of the last contact has moved.
    pub(super) fn contact_to_publish(&mut self, id: DeviceId) {
        let device = &mut self.devices[id];
        if self.home_assistant.discovery.is_some() && !device.status_stale {
            device.status_stale = true;
            self.stale_statuses.push(id);
        }
    }

    /// Publishes the status of each device that was heard since the last time.
    pub(super) fn refresh_statuses(&mut self, turn: &mut Turn<'_>) {
        for id in std::mem::take(&mut self.stale_statuses) {
            self.devices[id].status_stale = false;
            self.publish_status(turn, id);
        }
    }

    /// Publishes the status and the description of every device.
    pub(super) fn publish_all_statuses(&self, turn: &mut Turn<'_>) {
        for id in self.devices.ids() {
            self.publish_status(turn, id);
            self.announce(turn, id);
        }
    }

    /// Has uptimes read from now on where discovery is on, and nowhere else.
    pub(super) fn begin_uptimes(&mut self, now: Now) {
        if self.home_assistant.discovery.is_none() {
            self.uptimes.end();
        } else if let Some(due) = self.uptimes.begin(now.mono) {
            self.timers.push(due, Timer::Uptimes);
        }
    }

    /// An incident has ended, and with it a part of an uptime.
    pub(super) fn uptime_changed(&mut self, now: Now) {
        if let Some(due) = self.uptimes.hurry(now.mono) {
            self.timers.push(due, Timer::Uptimes);
        }
    }

    pub(super) fn uptimes_due(&mut self, turn: &mut Turn<'_>, due: Duration) {
        if let Some(next) = self.uptimes.take_due(due) {
            self.timers.push(next, Timer::Uptimes);
            turn.out.push(Action::ReadFigures);
        }
    }

    /// Publishes the status of each device whose uptime is another.
    pub(super) fn figures_read(&mut self, turn: &mut Turn<'_>, figures: &[PastFigures]) {
        for figures in figures {
            let Some(id) = self.devices.named_as(&figures.name) else { continue };
            let name = &self.devices[id].spec.name;
            if self.uptimes.read(name, figures.uptime(USUAL_WINDOW)) {
                self.publish_status(turn, id);
            }
        }
        let devices = &self.devices;
        self.uptimes.retain(|name| devices.named(name).is_some());
    }

    /// `PREFIX/device/CLIENTID/NAME/config`. `None` when that is longer than a topic may be.
    fn discovery_topic(&self, prefix: &str, name: &DeviceName) -> Option<TopicName> {
        description_topic(prefix, &self.client_id, name)
    }

    fn description(&self, id: DeviceId, device: &Device) -> Value {
        let name = device.spec.name.as_str();
        let is_agent = device.rare.agent().is_some();
        let has_states = device.spec.records_states;
        let area = self.areas.of(id);
        let id = format!("{}_{}", discovery_id(&self.client_id), discovery_id(name));
        let commands = self.home_assistant.commands;
        let components: BTreeMap<&str, Value> = [
            ("connectivity", "binary_sensor", Some(connectivity())),
            ("last_contact", "sensor", Some(last_contact())),
            ("uptime", "sensor", Some(uptime())),
            ("restarts", "sensor", is_agent.then(restarts)),
            ("restart", "button", (is_agent && commands).then(restart_button)),
            ("restore", "button", (has_states && commands).then(restore_button)),
            ("monitoring", "switch", commands.then(monitoring_switch)),
        ]
        .into_iter()
        .map(|(key, platform, settings)| (key, entity(&id, key, platform, settings)))
        .collect();
        let mut about = json!({
            "identifiers": [id],
            "name": name,
            "model": format!("MQTT {}", noun(device)),
        });
        if let Some(area) = area {
            about["suggested_area"] = (&**area).into();
        }
        let mut description = json!({
            "device": about,
            "origin": { "name": "iotmonitor", "sw_version": env!("CARGO_PKG_VERSION") },
            "state_topic": self.own_topic(&format!("status/{name}")).as_str(),
            "command_topic": self.own_topic(&format!("command/{name}")).as_str(),
            "components": components,
        });
        match &self.nodes {
            None => {
                description["availability_topic"] = self.own_topic("availability").as_str().into();
            }
            // The wills of all nodes together show what no node could say: that none is there.
            Some(nodes) => {
                let of_node = |node: &NodeName| {
                    let topic = self.own_topic(&format!("nodes/{node}"));
                    json!({ "topic": topic.as_str(), "value_template": "{{ value_json.state }}" })
                };
                description["availability"] = nodes.names().map(of_node).collect();
                description["availability_mode"] = "any".into();
            }
        }
        description
    }
}

/// An entity, or its platform alone where it is not there.
fn entity(device: &str, key: &str, platform: &str, settings: Option<Value>) -> Value {
    let Some(mut entity) = settings else { return json!({ "platform": platform }) };
    entity["platform"] = platform.into();
    entity["unique_id"] = format!("{device}_{key}").into();
    entity
}

/// Without a name it takes that of its device class, in the user's language.
fn connectivity() -> Value {
    json!({
        "device_class": "connectivity",
        "entity_category": "diagnostic",
        "value_template": "{{ {'alive': 'ON', 'expired': 'OFF'}.get(value_json.state, 'None') }}",
    })
}

fn last_contact() -> Value {
    json!({
        "name": "Last contact",
        "device_class": "timestamp",
        "entity_category": "diagnostic",
        "value_template": "{{ as_datetime(value_json.lastContact).isoformat() \
                           if value_json.lastContact else 'None' }}",
    })
}

fn uptime() -> Value {
    json!({
        "name": "Uptime",
        "unit_of_measurement": "%",
        "state_class": "measurement",
        "suggested_display_precision": 2,
        "entity_category": "diagnostic",
        "icon": "mdi:heart-pulse",
        "value_template": "{{ (value_json.uptime * 100) | round(2) \
                           if value_json.uptime is defined else 'None' }}",
    })
}

fn restarts() -> Value {
    json!({
        "name": "Restarts",
        "state_class": "total_increasing",
        "entity_category": "diagnostic",
        "icon": "mdi:counter",
        "value_template": "{{ value_json.agent.restarts }}",
    })
}

fn restart_button() -> Value {
    json!({
        "name": "Restart",
        "device_class": "restart",
        "entity_category": "config",
        "payload_press": "restart",
        "qos": 1,
    })
}

fn restore_button() -> Value {
    json!({
        "name": "Restore states",
        "icon": "mdi:backup-restore",
        "entity_category": "config",
        "payload_press": "restore",
        "qos": 1,
    })
}

fn monitoring_switch() -> Value {
    json!({
        "name": "Monitoring",
        "icon": "mdi:eye",
        "entity_category": "config",
        "payload_on": "enable",
        "payload_off": "disable",
        "state_on": "on",
        "state_off": "off",
        "value_template": "{{ 'off' if value_json.state == 'disabled' else 'on' }}",
        "qos": 1,
    })
}
