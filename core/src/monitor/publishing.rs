//! Publications below the base topic, and alerts that concern a device.

use super::Monitor;
use crate::model::action::Action;
use crate::model::alert::{Alert, AlertKind, Reason};
use crate::model::device_id::DeviceId;
use crate::model::message::{Connection, Lifetime, Publication, QoS, Token};
use crate::topic::{TopicFilter, TopicName};
use bytes::Bytes;

/// The first levels below the base topic that are used.
pub const OWN_LEVELS: [&str; 10] = [
    "availability",
    "command",
    "expire",
    "helloTopicCount",
    "marker",
    "nodes",
    "recover",
    "startedprocess",
    "status",
    "up",
];

impl Monitor {
    /// Filters that match all of the monitor's own publications.
    pub(super) fn own_filters(&self) -> Vec<TopicFilter> {
        let below_base = OWN_LEVELS.map(|level| format!("{}/{level}/#", self.base_topic));
        let discovery = self.home_assistant.discovery.as_ref().map(|prefix| format!("{prefix}/#"));
        below_base.into_iter().chain(discovery).flat_map(TopicFilter::new).collect()
    }

    /// A publication on the watch connection on `BASE/below`.
    pub(super) fn own_publication(
        &self,
        below: &str,
        payload: Bytes,
        qos: QoS,
        retain: bool,
        token: Option<Token>,
    ) -> Action {
        publication(self.own_topic(below), payload, qos, retain, token)
    }

    /// A QoS 1 publication on `BASE/kind/NAME`.
    pub(super) fn device_publication(
        &self,
        kind: &str,
        id: DeviceId,
        payload: String,
        retain: bool,
    ) -> Action {
        let below = format!("{kind}/{}", self.devices[id].spec.name);
        // It may wait for as long as the broker is away, and without the room in which it was written.
        let payload = Bytes::from(payload.into_bytes().into_boxed_slice());
        self.own_publication(&below, payload, QoS::AtLeastOnce, retain, None)
    }

    /// The topic `BASE/below`. Both parts were checked when the configuration was read; if they
    /// were too long together, the base alone is a harmless topic.
    pub(super) fn own_topic(&self, below: &str) -> TopicName {
        TopicName::new(format!("{}/{below}", self.base_topic))
            .unwrap_or_else(|_| self.base_topic.clone())
    }

    pub(super) fn new_token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// Clears a retained topic below the base (MQTT 5, 3.3.1.3).
    pub(super) fn clearing(&self, below: &str) -> Action {
        self.own_publication(below, Bytes::new(), QoS::AtLeastOnce, true, None)
    }

    pub(super) fn device_alert(&self, id: DeviceId, kind: AlertKind, message: String) -> Action {
        self.episode_alert(id, kind, None, message)
    }

    /// The beginning or the end of an episode.
    pub(super) fn episode_alert(
        &self,
        id: DeviceId,
        kind: AlertKind,
        reason: Option<Reason>,
        message: String,
    ) -> Action {
        let device = &self.devices[id];
        let unit = device.rare.agent().map(|agent| agent.unit().clone());
        let name = Some(device.spec.name.clone());
        let account = device.account().filter(|_| kind.wants_account()).map(Box::new);
        Action::Raise(Alert { kind, device: name, unit, reason, account, message })
    }
}

/// A publication on the watch connection.
pub(super) fn publication(
    topic: TopicName,
    payload: Bytes,
    qos: QoS,
    retain: bool,
    token: Option<Token>,
) -> Action {
    let (connection, lifetime) = (Connection::Watch, Lifetime::UntilAnswered);
    Action::Publish(Publication {
        connection,
        topic,
        payload,
        qos,
        retain,
        restored: false,
        lifetime,
        token,
    })
}
