//! Whose a topic is and what it means, by the conventions of firmwares and bridges: one file each.
//!
//! Each convention has a sign by which it is recognised among all topics, the roots of its devices or
//! of its bridge; a topic below a root is claimed for a device, in a role.

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

/// How a device was recognised, in the order in which devices are listed.
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
    /// None of them: by what its topics have in common.
    Shape,
}

/// Whose a topic is, and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Names the device within the convention; the levels above its name are part of it.
    pub device: String,
    /// What a person would call it.
    pub name: String,
    pub role: TopicRole,
    /// The device of the same convention by whose way it is heard.
    pub behind: Option<String>,
    /// The device has an identifier that changes, or came past by chance.
    pub is_passing: bool,
}

impl Claim {
    pub fn new(device: impl Into<String>, name: impl Into<String>, role: TopicRole) -> Self {
        let (device, name) = (device.into(), name.into());
        Self { device, name, role, behind: None, is_passing: false }
    }

    /// A device that has the last level of its topic as its name.
    pub fn of(device: &str, role: TopicRole) -> Self {
        Self::new(device, last(device), role)
    }

    /// What is no device's.
    pub fn nobody() -> Self {
        Self::new("", "", TopicRole::Description)
    }

    pub fn behind(self, bridge: impl Into<String>) -> Self {
        Self { behind: Some(bridge.into()), ..self }
    }
}

/// What a convention knows of the silence of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsualSilence {
    /// It may last so long, and why.
    Lasts(Duration, &'static str),
    /// It means nothing, and why.
    MeansNothing(&'static str),
}

/// What was learned, by which conventions decide.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub topics: &'a Topics,
    pub roster: &'a zigbee2mqtt::Roster,
}

/// A convention of topics.
trait Ecosystem: Sync {
    /// The root that a topic is a sign of.
    fn root(&self, topic: &str, topics: &Topics) -> Option<String>;

    /// The root whose topic this is, and the rest of it.
    fn find<'t>(&self, topic: &'t str, roots: &BTreeSet<String>) -> Option<(String, &'t str)> {
        below(topic, roots).map(|(root, rest)| (root.to_owned(), rest))
    }

    /// `None` when the topic is below the root and not of the convention.
    fn claim(&self, root: &str, rest: &str, facts: Facts<'_>) -> Option<Claim>;

    /// Filters that take all a device says, whether or not it was heard there, and as little as
    /// possible of what is said to it. `contacts` are the topics on which it was heard.
    fn filters(&self, _device: &str, _contacts: &[&TopicName]) -> Vec<String> {
        Vec::new()
    }

    /// Filters instead of one that would take a log, a will or orders.
    fn narrow(&self, _device: &str) -> Vec<String> {
        Vec::new()
    }

    fn silence(&self, _device: &str, _facts: Facts<'_>) -> Option<UsualSilence> {
        None
    }

    /// Why a device speaks by itself again and again, whatever was heard of it.
    fn reports(&self, _device: &str) -> Option<&'static str> {
        None
    }

    /// The topic of its will, heard or not, where the convention says it.
    fn will(&self, _device: &str) -> Option<String> {
        None
    }

    /// Whether such a device sleeps between its messages, and says each time that it goes.
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

/// The signs of each convention among the topics.
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

    /// Whose a topic is; `None` when no convention says so.
    pub fn claim(&self, topic: &str, facts: Facts<'_>) -> Option<(Convention, Claim)> {
        if home_assistant::is_description(topic) || is_description(topic) {
            return Some((Convention::HomeAssistant, Claim::nobody()));
        }
        ALL.iter().zip(&self.0).find_map(|((convention, ecosystem), roots)| {
            let (root, rest) = ecosystem.find(topic, roots)?;
            Some((*convention, ecosystem.claim(&root, rest, facts)?))
        })
    }
}

/// Topics on which firmwares describe themselves to others, at fixed places.
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

/// The longest of the roots that a topic is or lies below, and the rest of the topic.
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

/// The last level.
fn last(topic: &str) -> &str {
    topic.rsplit('/').next().unwrap_or(topic)
}

fn first(topic: &str) -> &str {
    topic.split('/').next().unwrap_or(topic)
}

/// Whether a level is a number.
fn is_number(level: &str) -> bool {
    !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a level is a hardware address that its owner made up, as phones do: the bit for locally
/// administered ones is set (IEEE 802, 8.2). Bluetooth's random addresses mostly have it.
fn is_made_up_address(level: &str) -> bool {
    let digits: String = level.chars().filter(|c| !matches!(c, ':' | '-')).collect();
    digits.len() == 12
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && digits
            .get(..2)
            .and_then(|octet| u8::from_str_radix(octet, 16).ok())
            .is_some_and(|octet| octet & 0b10 != 0)
}

/// Filters for contacts below the device, in which numbers stand for any number.
fn generalised(device: &str, contacts: &[&TopicName]) -> Vec<String> {
    let filters = contacts.iter().filter_map(|topic| {
        let rest = topic.as_str().strip_prefix(device)?;
        let levels: Vec<&str> =
            rest.split('/').map(|level| if is_number(level) { "+" } else { level }).collect();
        levels.contains(&"+").then(|| format!("{device}{}", levels.join("/")))
    });
    filters.collect::<BTreeSet<_>>().into_iter().collect()
}
