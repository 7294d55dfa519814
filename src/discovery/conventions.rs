//! Finds the device and the role of a topic by the conventions of firmwares and bridges, each of
//! which has a file of its own.
//!
//! Each convention is recognised by certain topics, which are a sign of it and determine the roots
//! of its devices or of its bridge. A topic below a root is claimed for a device, in a role.

mod awtrix;
mod ebusd;
mod ems_esp;
mod espeasy;
mod esphome;
mod espresense;
mod espurna;
mod evcc;
mod frigate;
pub mod home_assistant;
mod homie;
mod iotmonitor;
mod mqtt_smarthome;
mod opendtu;
mod openmqttgateway;
mod ring_mqtt;
mod rtl_433;
mod shelly;
mod sparkplug;
mod tasmota;
mod teslamate;
mod valetudo;
mod wled;
pub mod zigbee2mqtt;
mod zwave_js_ui;

use super::role::TopicRole;
use super::traffic::Topics;
use iotmonitor_core::topic::TopicName;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// The convention by which a device was recognised, in the order in which devices are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Convention {
    Awtrix,
    Ebusd,
    EmsEsp,
    EspEasy,
    EspHome,
    EspResense,
    EspUrna,
    Evcc,
    Frigate,
    Homie,
    Iotmonitor,
    MqttSmarthome,
    OpenDtu,
    OpenMqttGateway,
    RingMqtt,
    Rtl433,
    Shelly,
    SparkplugB,
    Tasmota,
    TeslaMate,
    Valetudo,
    Wled,
    Zigbee2Mqtt,
    ZwaveJsUi,
    HomeAssistant,
    /// No convention: the device was recognised by what its topics have in common.
    Shape,
}

/// The device to which a topic belongs, and the role of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The key of the device within the convention, which includes the levels above its name.
    pub device: String,
    /// The name that a person would give it.
    pub name: String,
    pub role: TopicRole,
    /// The device of the same convention through which it is heard.
    pub behind: Option<String>,
    /// Whether the device came past by chance, or has an identifier that changes.
    pub is_passing: bool,
}

impl Claim {
    pub fn new(device: impl Into<String>, name: impl Into<String>, role: TopicRole) -> Self {
        let (device, name) = (device.into(), name.into());
        Self { device, name, role, behind: None, is_passing: false }
    }

    /// Claims a topic for a device whose name is the last level of its key.
    pub fn of(device: &str, role: TopicRole) -> Self {
        Self::new(device, last(device), role)
    }

    /// Claims a topic that belongs to no device.
    pub fn of_no_device() -> Self {
        Self::new("", "", TopicRole::Description)
    }

    pub fn behind(self, bridge: impl Into<String>) -> Self {
        Self { behind: Some(bridge.into()), ..self }
    }
}

/// A convention's knowledge about the silence of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsualSilence {
    /// The silence may last for this time, for the given reason.
    Lasts(Duration, &'static str),
    /// The silence means nothing, for the given reason.
    MeansNothing(&'static str),
}

/// The facts on which conventions base their decisions.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub topics: &'a Topics,
    pub roster: &'a zigbee2mqtt::Roster,
}

/// A convention of topics.
trait Ecosystem: Sync {
    /// Returns the root of which a topic is a sign.
    fn root(&self, topic: &str, topics: &Topics) -> Option<String>;

    /// Returns the root to which a topic belongs, and the rest of the topic.
    fn find<'t>(&self, topic: &'t str, roots: &BTreeSet<String>) -> Option<(String, &'t str)> {
        below(topic, roots).map(|(root, rest)| (root.to_owned(), rest))
    }

    /// Claims a topic below the root, or returns `None` if the convention does not know it.
    fn claim(&self, root: &str, rest: &str, facts: Facts<'_>) -> Option<Claim>;

    /// Returns filters that match everything that a device publishes, whether or not it was heard
    /// there, and as few as possible of the orders to it. `contacts` are the topics on which it was
    /// heard.
    fn filters(&self, _device: &str, _contacts: &[&TopicName]) -> Vec<String> {
        Vec::new()
    }

    /// Returns the filters that replace one that would match a log, a will or orders.
    fn narrow(&self, _device: &str) -> Vec<String> {
        Vec::new()
    }

    fn silence(&self, _device: &str, _facts: Facts<'_>) -> Option<UsualSilence> {
        None
    }

    /// Returns the reason why a device publishes again and again by itself, whatever was heard of
    /// it.
    fn reports(&self, _device: &str) -> Option<&'static str> {
        None
    }

    /// Returns the topic of its will, heard or not, where the convention defines it.
    fn will(&self, _device: &str) -> Option<String> {
        None
    }

    /// Returns whether a device sleeps between its messages, and reports itself as gone each time.
    fn sleeps(&self, _device: &str) -> bool {
        false
    }
}

/// All conventions, in the order in which they may claim a topic.
const ALL: [(Convention, &dyn Ecosystem); 24] = [
    (Convention::Iotmonitor, &iotmonitor::Iotmonitor),
    (Convention::SparkplugB, &sparkplug::SparkplugB),
    (Convention::Zigbee2Mqtt, &zigbee2mqtt::Zigbee2Mqtt),
    (Convention::ZwaveJsUi, &zwave_js_ui::ZwaveJsUi),
    (Convention::EspResense, &espresense::EspResense),
    (Convention::OpenMqttGateway, &openmqttgateway::OpenMqttGateway),
    (Convention::Rtl433, &rtl_433::Rtl433),
    (Convention::OpenDtu, &opendtu::OpenDtu),
    (Convention::Frigate, &frigate::Frigate),
    (Convention::TeslaMate, &teslamate::TeslaMate),
    (Convention::RingMqtt, &ring_mqtt::RingMqtt),
    (Convention::Evcc, &evcc::Evcc),
    (Convention::Ebusd, &ebusd::Ebusd),
    (Convention::EmsEsp, &ems_esp::EmsEsp),
    (Convention::Awtrix, &awtrix::Awtrix),
    (Convention::Tasmota, &tasmota::Tasmota),
    (Convention::Valetudo, &valetudo::Valetudo),
    (Convention::Homie, &homie::Homie),
    (Convention::Shelly, &shelly::Shelly),
    (Convention::EspHome, &esphome::EspHome),
    (Convention::EspUrna, &espurna::EspUrna),
    (Convention::EspEasy, &espeasy::EspEasy),
    (Convention::Wled, &wled::Wled),
    (Convention::MqttSmarthome, &mqtt_smarthome::MqttSmarthome),
];

/// The roots of each convention that were found among the topics.
pub struct Roots(Vec<BTreeSet<String>>);

impl Roots {
    pub fn find(topics: &Topics) -> Self {
        let mut roots = vec![BTreeSet::new(); ALL.len()];
        for (topic, _) in topics.iter() {
            for (found, (_, ecosystem)) in roots.iter_mut().zip(ALL) {
                found.extend(ecosystem.root(topic.as_str(), topics));
            }
        }
        Self(roots)
    }

    /// Returns the claim to a topic, or `None` if no convention claims it.
    pub fn claim(&self, topic: &str, facts: Facts<'_>) -> Option<(Convention, Claim)> {
        if home_assistant::is_description(topic) || is_description(topic) {
            return Some((Convention::HomeAssistant, Claim::of_no_device()));
        }
        ALL.iter().zip(&self.0).find_map(|((convention, ecosystem), roots)| {
            let (root, rest) = ecosystem.find(topic, roots)?;
            Some((*convention, ecosystem.claim(&root, rest, facts)?))
        })
    }
}

/// Returns whether a topic is a fixed one on which firmwares describe themselves to others.
fn is_description(topic: &str) -> bool {
    ["tasmota/discovery/", "esphome/discover/", "shellies/announce", "shellies/command"]
        .iter()
        .any(|place| topic.starts_with(place))
}

impl Convention {
    fn ecosystem(self) -> Option<&'static dyn Ecosystem> {
        ALL.iter().find(|(convention, _)| *convention == self).map(|(_, ecosystem)| *ecosystem)
    }

    pub fn filters(self, device: &str, contacts: &[&TopicName]) -> Vec<String> {
        self.ecosystem().map_or_else(Vec::new, |ecosystem| ecosystem.filters(device, contacts))
    }

    pub fn narrow(self, device: &str) -> Vec<String> {
        self.ecosystem().map_or_else(Vec::new, |ecosystem| ecosystem.narrow(device))
    }

    pub fn sleeps(self, device: &str) -> bool {
        self.ecosystem().is_some_and(|ecosystem| ecosystem.sleeps(device))
    }

    pub fn reports(self, device: &str) -> Option<&'static str> {
        self.ecosystem()?.reports(device)
    }

    pub fn will(self, device: &str) -> Option<TopicName> {
        TopicName::new(self.ecosystem()?.will(device)?).ok()
    }

    pub fn silence(self, device: &str, facts: Facts<'_>) -> Option<UsualSilence> {
        self.ecosystem()?.silence(device, facts)
    }
}

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Awtrix => "AWTRIX",
            Self::Ebusd => "ebusd",
            Self::EmsEsp => "EMS-ESP",
            Self::EspEasy => "ESPEasy",
            Self::EspHome => "ESPHome",
            Self::EspResense => "ESPresense",
            Self::EspUrna => "ESPurna",
            Self::Evcc => "evcc",
            Self::Frigate => "Frigate",
            Self::Homie => "Homie",
            Self::Iotmonitor => "iotmonitor",
            Self::MqttSmarthome => "mqtt-smarthome",
            Self::OpenDtu => "OpenDTU",
            Self::OpenMqttGateway => "OpenMQTTGateway",
            Self::RingMqtt => "ring-mqtt",
            Self::Rtl433 => "rtl_433",
            Self::Shelly => "Shelly",
            Self::SparkplugB => "Sparkplug B",
            Self::Tasmota => "Tasmota",
            Self::TeslaMate => "TeslaMate",
            Self::Valetudo => "Valetudo",
            Self::Wled => "WLED",
            Self::Zigbee2Mqtt => "Zigbee2MQTT",
            Self::ZwaveJsUi => "Z-Wave JS UI",
            Self::HomeAssistant => "Home Assistant discovery",
            Self::Shape => "by the shape of its topics",
        })
    }
}

/// Returns the longest root that is the topic or lies above it, and the rest of the topic.
fn below<'a>(topic: &'a str, roots: &BTreeSet<String>) -> Option<(&'a str, &'a str)> {
    if roots.is_empty() {
        return None;
    }
    if roots.contains(topic) {
        return Some((topic, ""));
    }
    let mut ends = topic.rmatch_indices('/').map(|(at, _)| at);
    let end = ends.find(|&end| roots.contains(&topic[..end]))?;
    Some((&topic[..end], &topic[end + 1..]))
}

/// Returns the last level.
fn last(topic: &str) -> &str {
    topic.rsplit('/').next().unwrap_or(topic)
}

fn first(topic: &str) -> &str {
    topic.split('/').next().unwrap_or(topic)
}

/// Returns whether a level is a number.
fn is_number(level: &str) -> bool {
    !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns whether a level is a hardware address that its owner made up, as phones do. In such an
/// address, the bit for local administration is set (IEEE 802, 8.2), which is also true of most of
/// Bluetooth's random addresses.
fn is_made_up_address(level: &str) -> bool {
    let digits: String = level.chars().filter(|c| !matches!(c, ':' | '-')).collect();
    digits.len() == 12
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && digits
            .get(..2)
            .and_then(|octet| u8::from_str_radix(octet, 16).ok())
            .is_some_and(|octet| octet & 0b10 != 0)
}

/// Returns filters for the contacts below the device, in which `+` replaces each number.
fn generalised(device: &str, contacts: &[&TopicName]) -> Vec<String> {
    let filters = contacts.iter().filter_map(|topic| {
        let rest = topic.as_str().strip_prefix(device)?;
        let levels: Vec<&str> =
            rest.split('/').map(|level| if is_number(level) { "+" } else { level }).collect();
        levels.contains(&"+").then(|| format!("{device}{}", levels.join("/")))
    });
    filters.collect::<BTreeSet<_>>().into_iter().collect()
}
