//! The adapter under test with its channel, and waiting for what it reports.

use iotmonitor::mqtt::settings::{BrokerAddress, MqttSettings, ProtocolChoice};
use iotmonitor::mqtt::{ConnectionOptions, MqttHandle, spawn};
use iotmonitor::pulse::Pulse;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{
    Connection, Delivery, FilterRefusal, Lifetime, LossReason, Message, Protocol, Publication, QoS,
    Subscription, Token,
};
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Longer than anything that works takes, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Client {
    pub handle: MqttHandle,
    pub events: mpsc::Receiver<Event>,
    pub pulse: Pulse,
    pub connection: Connection,
}

pub fn settings(port: u16, protocol: ProtocolChoice) -> MqttSettings {
    MqttSettings {
        server: BrokerAddress::Tcp { host: "127.0.0.1".into(), port },
        user: None,
        password: None,
        client_id: "under-test".into(),
        protocol,
        keep_alive: Duration::from_secs(30),
        ca_file: None,
        client_certificate: None,
    }
}

/// Both versions, each with the way to ask for it.
pub const VERSIONS: [(ProtocolChoice, Protocol); 2] =
    [(ProtocolChoice::V5, Protocol::V5), (ProtocolChoice::V311, Protocol::V311)];

pub fn topic(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

pub fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

pub fn at_least_once(text: &str) -> Subscription {
    Subscription { filter: filter(text), qos: QoS::AtLeastOnce, replay: false }
}

pub fn publication(connection: Connection, name: &str, payload: &[u8]) -> Publication {
    Publication {
        connection,
        topic: topic(name),
        payload: payload.to_vec().into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        restored: false,
        lifetime: Lifetime::UntilAnswered,
        token: None,
    }
}

pub fn with_token(publication: Publication, token: u64) -> Publication {
    Publication { token: Some(Token(token)), ..publication }
}

impl Client {
    pub fn new(connection: Connection, settings: MqttSettings) -> Self {
        Self::with(connection, settings, ConnectionOptions::default(), 1_024)
    }

    pub fn with(
        connection: Connection,
        settings: MqttSettings,
        options: ConnectionOptions,
        capacity: usize,
    ) -> Self {
        let (sender, events) = mpsc::channel(capacity);
        let pulse = Pulse::new();
        let handle = spawn(connection, settings, options, sender, pulse.clone());
        Self { handle, events, pulse, connection }
    }

    pub async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event was to come")
            .expect("the task lives")
    }

    /// The next event that satisfies a condition; others are passed over.
    pub async fn until<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            let event = self.next().await;
            if let Some(found) = pick(&event) {
                return found;
            }
        }
    }

    /// The next event, which must be `Connected`.
    pub async fn connected(&mut self) -> (Protocol, bool) {
        match self.next().await {
            Event::Connected { connection, protocol, session_present }
                if connection == self.connection =>
            {
                (protocol, session_present)
            }
            other => panic!("expected Connected, got {other:?}"),
        }
    }

    pub async fn disconnected(&mut self) -> LossReason {
        self.until(|event| match event {
            Event::Disconnected { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    pub async fn reconnected(&mut self) -> bool {
        self.until(|event| match event {
            Event::Connected { session_present, .. } => Some(*session_present),
            _ => None,
        })
        .await
    }

    /// The version of the next connection.
    pub async fn reconnected_with(&mut self) -> Protocol {
        self.until(|event| match event {
            Event::Connected { protocol, .. } => Some(*protocol),
            _ => None,
        })
        .await
    }

    pub async fn subscribe(&mut self, subscriptions: Vec<Subscription>) -> Vec<FilterRefusal> {
        self.handle.subscribe(subscriptions);
        self.until(|event| match event {
            Event::Subscribed { refused, .. } => Some(refused.clone()),
            _ => None,
        })
        .await
    }

    pub async fn published(&mut self, token: u64) {
        self.until(|event| match event {
            Event::Published { token: Token(number) } if *number == token => Some(()),
            _ => None,
        })
        .await;
    }

    /// The next message of either connection.
    pub async fn message(&mut self) -> (Option<Delivery>, Message) {
        self.until(|event| match event {
            Event::WatchMessage(message) => Some((None, message.clone())),
            Event::StateMessage { delivery, message, .. } => {
                Some((Some(*delivery), message.clone()))
            }
            _ => None,
        })
        .await
    }

    /// The next state that another monitor restores, with that monitor's clientid.
    pub async fn restored_by_another(&mut self) -> (String, TopicName) {
        self.until(|event| match event {
            Event::RestoredByAnother { by, topic } => Some((by.clone(), topic.clone())),
            _ => None,
        })
        .await
    }

    pub async fn close(self) {
        self.handle.close(Instant::now() + Duration::from_secs(5)).await;
    }
}
