//! Discovery: from observations to a configuration, for each convention and for hostile topics.

#[path = "discovery/conventions.rs"]
mod conventions;
#[path = "discovery/hostile.rs"]
mod hostile;
#[path = "discovery/month.rs"]
mod month;
#[path = "discovery/recorded.rs"]
mod recorded;
#[path = "discovery/rhythms.rs"]
mod rhythms;
#[path = "discovery/shapes.rs"]
mod shapes;

use iotmonitor::config::{self, Config, Environment};
use iotmonitor::discovery::configuration::{Head, write};
use iotmonitor::discovery::{Discovered, Discovery, FoundDevice, Observation};
use iotmonitor_core::model::spec::MonitorSpec;
use iotmonitor_core::topic::TopicName;
use std::path::Path;
use std::time::Duration;

/// How long each test listens.
const LISTENED: Duration = Duration::from_secs(120);

/// Messages of a test: what is retained comes at once, what is live in an interval in seconds.
#[derive(Default)]
pub struct Traffic {
    messages: Vec<(u64, String, Vec<u8>, bool)>,
}

impl Traffic {
    pub fn retained(mut self, topic: &str, payload: &str) -> Self {
        self.messages.push((0, topic.to_owned(), payload.as_bytes().to_vec(), true));
        self
    }

    pub fn once(mut self, at: u64, topic: &str, payload: &str) -> Self {
        self.messages.push((at, topic.to_owned(), payload.as_bytes().to_vec(), false));
        self
    }

    pub fn every(mut self, seconds: u64, topic: &str, payload: &str) -> Self {
        for at in (seconds..=LISTENED.as_secs()).step_by(usize::try_from(seconds).unwrap()) {
            self = self.once(at, topic, payload);
        }
        self
    }

    pub fn discovery(&self, existing: &MonitorSpec) -> Discovery {
        let mut discovery = Discovery::new(existing);
        let mut messages: Vec<_> = self.messages.iter().collect();
        messages.sort_by_key(|(at, ..)| *at);
        for (at, topic, payload, retained) in messages {
            let topic = TopicName::new(topic.as_str()).unwrap();
            let at = Duration::from_secs(*at);
            discovery.observe(&Observation { topic: &topic, payload, retained: *retained, at });
        }
        discovery
    }

    /// The whole file, after it has passed the reader.
    pub fn file(&self) -> (String, Config, Vec<FoundDevice>) {
        let discovery = self.discovery(&nothing().monitor);
        let found = discovery.found(LISTENED);
        let head = Head {
            mqtt: vec![("serverAddress", "\"tcp://localhost:1883\"".to_owned())],
            beside: None,
            has_password: false,
            listened: LISTENED,
        };
        let text = write(&head, &discovery, &found);
        let config = checked(&text);
        (text, config, found.devices)
    }

    pub fn found(&self) -> Discovered {
        self.discovery(&nothing().monitor).found(LISTENED)
    }

    /// The sections of the devices, without comments.
    pub fn sections(&self) -> String {
        let (text, ..) = self.file();
        let devices = text.split("serverAddress").nth(1).unwrap().lines().skip(1);
        let lines = devices.map(|line| line.split("  #").next().unwrap().trim_end());
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| format!("{line}\n")).collect()
    }
}

/// A configuration without devices.
pub fn nothing() -> Config {
    checked("[mqtt]\nserverAddress = \"tcp://localhost:1883\"\n")
}

/// The specification that the reader makes of a string, in which it finds no error.
pub fn checked(text: &str) -> Config {
    match config::parse(text, Path::new("config.toml"), &Environment::default()) {
        Ok(loaded) => {
            assert!(loaded.warnings.is_empty(), "{}\n{text}", loaded.warnings[0]);
            loaded.config
        }
        Err(errors) => panic!("{errors}\n{text}"),
    }
}
