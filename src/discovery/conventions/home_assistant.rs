//! Home Assistant's MQTT discovery: `PREFIX/COMPONENT/[NODE/]OBJECT/config` holds JSON that names
//! an entity's topics and its device, and `PREFIX/device/[NODE/]OBJECT/config` those of all
//! entities of a device. Keys may be abbreviated, and `~` in a topic stands for a base.
//! (home-assistant.io/integrations/mqtt)

use crate::discovery::role::TopicRole;
use iotmonitor_core::model::availability_words;
use iotmonitor_core::topic::index::TopicIndex;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// The length in bytes above which a payload is not read. An entity's has some hundred bytes.
const LONGEST_PAYLOAD: usize = 256 * 1024;

/// The limits of what is remembered of all payloads.
const MOST_TOPICS: usize = 20_000;
const MOST_BYTES: usize = 4 << 20;

/// The length in characters to which a name, or another string about a device, is cut.
const LONGEST_NAME: usize = 80;

const COMPONENTS: [&str; 29] = [
    "alarm_control_panel",
    "binary_sensor",
    "button",
    "camera",
    "climate",
    "cover",
    "device",
    "device_automation",
    "device_tracker",
    "event",
    "fan",
    "humidifier",
    "image",
    "lawn_mower",
    "light",
    "lock",
    "notify",
    "number",
    "scene",
    "select",
    "sensor",
    "siren",
    "switch",
    "tag",
    "text",
    "update",
    "vacuum",
    "valve",
    "water_heater",
];

/// Entities whose orders have something done, and set no value that could be restored.
const DOERS: [&str; 12] = [
    "alarm_control_panel",
    "button",
    "camera",
    "cover",
    "lawn_mower",
    "lock",
    "notify",
    "scene",
    "siren",
    "update",
    "vacuum",
    "valve",
];

/// Classes of binary sensors that report events.
const HAPPENING: [&str; 15] = [
    "carbon_monoxide",
    "door",
    "garage_door",
    "gas",
    "lock",
    "moisture",
    "motion",
    "occupancy",
    "opening",
    "presence",
    "smoke",
    "sound",
    "tamper",
    "vibration",
    "window",
];

/// The contents of the descriptions.
#[derive(Debug, Default)]
pub struct Described {
    devices: BTreeMap<String, About>,
    /// For each topic, the first device that names it.
    topics: BTreeMap<String, Named>,
    /// The topics that are named with wildcards, by their index in `patterns`.
    wild: TopicIndex<u32>,
    patterns: Vec<String>,
    /// The length of all strings that are kept.
    bytes: usize,
}

#[derive(Debug)]
struct Named {
    device: String,
    role: TopicRole,
    is_shared: bool,
}

/// The contents of the descriptions of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    pub name: String,
    /// The maker and the model, as far as they are given.
    pub model: Option<String>,
    /// The time after which Home Assistant calls an entity unavailable. Of several entities, the
    /// longest counts.
    pub expires_after: Option<Duration>,
    /// The payloads for "gone" and for "there", where the monitor does not know them by itself.
    pub words: [Option<String>; 2],
    /// An availability that other devices have too, which is that of the gateway.
    pub gateway: Option<String>,
}

/// Returns whether a topic is one of Home Assistant's and not a device's.
pub fn is_description(topic: &str) -> bool {
    let levels: Vec<&str> = topic.split('/').collect();
    match levels.as_slice() {
        ["homeassistant", "status"] => true,
        [_, component, .., "config"] => {
            levels.len() <= 5 && levels.len() >= 4 && COMPONENTS.contains(component)
        }
        _ => false,
    }
}

impl Described {
    /// Reads a description, and returns those of its topics that were not known.
    pub fn read(&mut self, topic: &str, payload: &[u8]) -> Vec<String> {
        if !is_description(topic) || payload.len() > LONGEST_PAYLOAD {
            return Vec::new();
        }
        let Ok(Value::Object(entity)) = serde_json::from_slice(payload) else { return Vec::new() };
        let about_device = get(&entity, "dev", "device").and_then(Value::as_object);
        let key = about_device.and_then(identity).unwrap_or_else(|| node(topic));
        self.introduce(&key, topic, about_device, &entity);
        let mut named = Vec::new();
        let component = topic.split('/').nth(1).unwrap_or_default();
        topics_of(&entity, component, "", &mut named);
        named
            .into_iter()
            .filter(|(topic, role)| self.file(&key, topic, *role))
            .map(|(topic, _)| topic)
            .collect()
    }

    fn introduce(
        &mut self,
        key: &str,
        topic: &str,
        about_device: Option<&Map<String, Value>>,
        entity: &Map<String, Value>,
    ) {
        if !self.devices.contains_key(key) && !self.has_room_for(key.len() + 2 * LONGEST_NAME) {
            return;
        }
        let about = self.devices.entry(key.to_owned()).or_default();
        let text = |short, long| {
            let text = about_device
                .and_then(|about_device| get(about_device, short, long))
                .and_then(Value::as_str);
            text.map(|text| text.chars().take(LONGEST_NAME).collect::<String>())
        };
        if about.name.is_empty() {
            about.name = text("name", "name").unwrap_or_else(|| node(topic));
            let model = [text("mf", "manufacturer"), text("mdl", "model")];
            let model: Vec<String> = model.into_iter().flatten().collect();
            about.model = (!model.is_empty()).then(|| model.join(" "));
        }
        about.expires_after = about.expires_after.max(expires_after(entity));
        let keys = [("pl_not_avail", "payload_not_available"), ("pl_avail", "payload_available")];
        for ((word, (short, long)), means) in about.words.iter_mut().zip(keys).zip([false, true]) {
            let payload = get(entity, short, long).and_then(Value::as_str).map(str::trim);
            let payload =
                payload.filter(|payload| !payload.is_empty() && payload.len() <= LONGEST_NAME);
            let unknown = payload
                .filter(|payload| availability_words::says(payload.as_bytes()) != Some(means));
            *word = word.take().or_else(|| unknown.map(str::to_owned));
        }
        // One payload cannot mean both.
        if about.words[0].is_some() && about.words[0] == about.words[1] {
            about.words = [None, None];
        }
    }

    /// Files a topic, and returns whether it was not known. An availability that two devices name
    /// is a gateway's.
    fn file(&mut self, key: &str, topic: &str, role: TopicRole) -> bool {
        if let Some(named) = self.topics.get_mut(topic) {
            named.role = merged(named.role, role);
            if named.device != key && role == TopicRole::Availability {
                named.is_shared = true;
                let first = named.device.clone();
                for device in [first.as_str(), key] {
                    if let Some(about) = self.devices.get_mut(device) {
                        about.gateway.get_or_insert_with(|| topic.to_owned());
                    }
                }
            }
            return false;
        }
        if !self.has_room_for(topic.len() + key.len()) {
            return false;
        }
        let is_name = TopicName::new(topic).is_ok();
        if !is_name {
            let Ok(filter) = TopicFilter::new(topic) else { return false };
            let number = u32::try_from(self.patterns.len()).unwrap_or(u32::MAX);
            self.wild.insert(&filter, number);
            self.patterns.push(topic.to_owned());
        }
        let named = Named { device: key.to_owned(), role, is_shared: false };
        self.topics.insert(topic.to_owned(), named);
        is_name
    }

    fn has_room_for(&mut self, bytes: usize) -> bool {
        let fits = self.topics.len() < MOST_TOPICS && self.bytes + bytes <= MOST_BYTES;
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    fn named(&self, topic: &TopicName) -> Option<&Named> {
        self.topics.get(topic.as_str()).or_else(|| {
            let mut first = None;
            self.wild.for_each_match(topic, |number| first = first.or(Some(number)));
            self.topics.get(self.patterns.get(first? as usize)?)
        })
    }

    /// Returns the role that a description gives a topic.
    pub fn role(&self, topic: &TopicName) -> Option<TopicRole> {
        self.named(topic).filter(|named| !named.is_shared).map(|named| named.role)
    }

    /// Returns the key of the device to which a topic belongs, and the contents of its
    /// descriptions.
    pub fn owner(&self, topic: &TopicName) -> Option<(&str, &About)> {
        let named = self.named(topic).filter(|named| !named.is_shared)?;
        Some((named.device.as_str(), self.devices.get(&named.device)?))
    }

    /// Returns the availabilities that belong to a single device each, with the key of the device.
    pub fn availabilities(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self.topics.iter().filter(|(_, named)| !named.is_shared);
        own.filter(|(_, named)| named.role == TopicRole::Availability)
            .map(|(topic, named)| (topic.as_str(), named.device.as_str()))
    }
}

/// Returns the role of a topic that two descriptions name. An order stays an order, an availability
/// stays an availability, and of two kinds of contacts, readings prevail, since they make a rhythm.
fn merged(before: TopicRole, role: TopicRole) -> TopicRole {
    if before.is_contact() && role.is_contact() { before.min(role) } else { before.max(role) }
}

/// Returns the longest time for which any entity waits.
fn expires_after(entity: &Map<String, Value>) -> Option<Duration> {
    let seconds = get(entity, "exp_aft", "expire_after").and_then(Value::as_u64);
    let own = seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let components = get(entity, "cmps", "components").and_then(Value::as_object);
    let inner = components.into_iter().flatten().filter_map(|(_, value)| value.as_object());
    inner.filter_map(expires_after).max().max(own)
}

/// Returns the first identifier, or the first connection.
fn identity(about_device: &Map<String, Value>) -> Option<String> {
    let first = |value: &Value| match value {
        Value::Array(values) => values.first().and_then(Value::as_str).map(str::to_owned),
        value => value.as_str().map(str::to_owned),
    };
    let identifier = get(about_device, "ids", "identifiers").and_then(first);
    identifier.or_else(|| {
        let connections = get(about_device, "cns", "connections")?.as_array()?;
        let pair: Vec<&str> =
            connections.first()?.as_array()?.iter().filter_map(Value::as_str).collect();
        (!pair.is_empty()).then(|| pair.join("-"))
    })
}

/// Returns the level that identifies the device in a topic, which is the node or, where there is
/// none, the object.
fn node(topic: &str) -> String {
    topic.split('/').nth(2).unwrap_or_default().to_owned()
}

/// Returns the topics of an entity and of the entities inside it.
fn topics_of(
    entity: &Map<String, Value>,
    component: &str,
    outer_base: &str,
    named: &mut Vec<(String, TopicRole)>,
) {
    let base = entity.get("~").and_then(Value::as_str).unwrap_or(outer_base);
    let mut name = |text: &str, role| {
        let topic = match (text.strip_prefix('~'), text.strip_suffix('~')) {
            (Some(rest), _) => format!("{base}{rest}"),
            (None, Some(rest)) => format!("{rest}{base}"),
            (None, None) => text.to_owned(),
        };
        if TopicFilter::new(topic.as_str()).is_ok() {
            named.push((topic, role));
        }
    };
    for (key, value) in entity {
        if let (Some(role), Some(text)) = (role(key, component, entity), value.as_str()) {
            name(text, role);
        }
    }
    let availability = get(entity, "avty", "availability");
    let listed = match availability {
        Some(Value::Array(items)) => items.as_slice(),
        Some(item) => std::slice::from_ref(item),
        None => &[],
    };
    for item in listed.iter().filter_map(Value::as_object) {
        if let Some(text) = get(item, "t", "topic").and_then(Value::as_str) {
            name(text, TopicRole::Availability);
        }
    }
    let components = get(entity, "cmps", "components").and_then(Value::as_object);
    for inner in components.into_iter().flatten().filter_map(|(_, value)| value.as_object()) {
        let component = get(inner, "p", "platform").and_then(Value::as_str).unwrap_or_default();
        topics_of(inner, component, base, named);
    }
}

/// Returns the role of the topic under a key, or `None` for a key that holds no topic.
fn role(key: &str, component: &str, entity: &Map<String, Value>) -> Option<TopicRole> {
    let is_plain = key == "t" || key == "topic";
    if !is_plain && !key.ends_with("_t") && !key.ends_with("_topic") {
        return None;
    }
    let is_order = key.starts_with("set_") || key.contains("cmd_t") || key.contains("command");
    if is_order {
        let sets_a_value = key.contains("fan_sp") || !DOERS.contains(&component);
        return Some(if sets_a_value { TopicRole::Order } else { TopicRole::Request });
    }
    if key == "avty_t" || key == "availability_topic" {
        return Some(TopicRole::Availability);
    }
    let kind = get(entity, "dev_cla", "device_class").and_then(Value::as_str).unwrap_or_default();
    let category = get(entity, "ent_cat", "entity_category").and_then(Value::as_str);
    Some(match component {
        "device_automation" | "device_tracker" | "event" | "tag" => TopicRole::Event,
        "binary_sensor" if HAPPENING.contains(&kind) => TopicRole::Event,
        "sensor" if expires_after(entity).is_some() => TopicRole::Telemetry,
        "sensor" if kind == "battery" || category == Some("diagnostic") => TopicRole::State,
        // The entities of a device share the topics of the whole device.
        "sensor" | "device" | "" => TopicRole::Telemetry,
        "binary_sensor" if expires_after(entity).is_some() => TopicRole::Telemetry,
        _ => TopicRole::State,
    })
}

fn get<'a>(map: &'a Map<String, Value>, short: &str, long: &str) -> Option<&'a Value> {
    map.get(short).or_else(|| map.get(long))
}
