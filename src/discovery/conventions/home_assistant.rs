//! Home Assistant's MQTT discovery: `PREFIX/COMPONENT/[NODE/]OBJECT/config` holds JSON that names
//! an entity's topics and its device; `PREFIX/device/[NODE/]OBJECT/config` those of all entities of
//! a device. Keys may be abbreviated, and `~` in a topic stands for a base.
//! (home-assistant.io/integrations/mqtt)

use super::{Claim, Convention, Role};
use iotmonitor_core::topic::TopicName;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// A longer payload is not read, in bytes: an entity's has some hundred.
const LONGEST_PAYLOAD: usize = 256 * 1024;

/// What is remembered of all payloads.
const MOST_TOPICS: usize = 20_000;
const MOST_BYTES: usize = 4 << 20;

/// A longer name, or another text about a device, is cut, in characters.
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

/// What the descriptions say.
#[derive(Debug, Default)]
pub struct Described {
    devices: BTreeMap<String, About>,
    /// The first device that names a topic.
    topics: BTreeMap<String, Named>,
    /// Of all texts that are kept.
    bytes: usize,
}

#[derive(Debug)]
struct Named {
    device: String,
    role: Role,
    is_shared: bool,
}

/// What a description says about a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    pub name: String,
    /// Maker and model, as far as they are told.
    pub model: Option<String>,
    /// Home Assistant calls an entity unavailable after so long; of several the longest.
    pub expires_after: Option<Duration>,
}

/// Whether a topic is one of Home Assistant's, and no device's.
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
    /// Reads a description; returns the topics that it names and that were not known.
    pub fn read(&mut self, topic: &str, payload: &[u8]) -> Vec<String> {
        if !is_description(topic) || payload.len() > LONGEST_PAYLOAD {
            return Vec::new();
        }
        let Ok(Value::Object(entity)) = serde_json::from_slice(payload) else { return Vec::new() };
        let told = get(&entity, "dev", "device").and_then(Value::as_object);
        let key = told.and_then(identity).unwrap_or_else(|| node(topic));
        self.introduce(&key, topic, told, &entity);
        let mut named = Vec::new();
        topics_of(&entity, "", &mut named);
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
        told: Option<&Map<String, Value>>,
        entity: &Map<String, Value>,
    ) {
        if !self.devices.contains_key(key) && !self.has_room_for(key.len() + 2 * LONGEST_NAME) {
            return;
        }
        let about = self.devices.entry(key.to_owned()).or_default();
        let text = |short, long| {
            let text = told.and_then(|told| get(told, short, long)).and_then(Value::as_str);
            text.map(|text| text.chars().take(LONGEST_NAME).collect::<String>())
        };
        if about.name.is_empty() {
            about.name = text("name", "name").unwrap_or_else(|| node(topic));
            let model = [text("mf", "manufacturer"), text("mdl", "model")];
            let model: Vec<String> = model.into_iter().flatten().collect();
            about.model = (!model.is_empty()).then(|| model.join(" "));
        }
        let after = get(entity, "exp_aft", "expire_after").and_then(Value::as_u64);
        about.expires_after =
            about.expires_after.max(after.filter(|after| *after > 0).map(Duration::from_secs));
    }

    /// Whether the topic was not known. An availability that two devices name is a bridge's.
    fn file(&mut self, key: &str, topic: &str, role: Role) -> bool {
        if let Some(named) = self.topics.get_mut(topic) {
            named.is_shared |= named.device != key && role == Role::Availability;
            return false;
        }
        if !self.has_room_for(topic.len() + key.len()) {
            return false;
        }
        let named = Named { device: key.to_owned(), role, is_shared: false };
        self.topics.insert(topic.to_owned(), named);
        true
    }

    fn has_room_for(&mut self, bytes: usize) -> bool {
        let fits = self.topics.len() < MOST_TOPICS && self.bytes + bytes <= MOST_BYTES;
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    pub fn claim(&self, topic: &str) -> Option<Claim> {
        let Named { device, role, .. } = self.topics.get(topic).filter(|named| !named.is_shared)?;
        let name = self.devices.get(device).map_or_else(String::new, |about| about.name.clone());
        let device = device.clone();
        Some(Claim { convention: Convention::HomeAssistant, device, name, role: *role })
    }

    /// What was told about the device that names a topic.
    pub fn about(&self, topic: &str) -> Option<&About> {
        let named = self.topics.get(topic).filter(|named| !named.is_shared)?;
        self.devices.get(&named.device)
    }
}

/// The first identifier, or the first connection.
fn identity(told: &Map<String, Value>) -> Option<String> {
    let first = |value: &Value| match value {
        Value::Array(values) => values.first().and_then(Value::as_str).map(str::to_owned),
        value => value.as_str().map(str::to_owned),
    };
    let identifier = get(told, "ids", "identifiers").and_then(first);
    identifier.or_else(|| {
        let connections = get(told, "cns", "connections")?.as_array()?;
        let pair: Vec<&str> =
            connections.first()?.as_array()?.iter().filter_map(Value::as_str).collect();
        (!pair.is_empty()).then(|| pair.join("-"))
    })
}

/// What stands for the device in a topic: the node, or the object where there is none.
fn node(topic: &str) -> String {
    topic.split('/').nth(2).unwrap_or_default().to_owned()
}

/// The topics of an entity and of those inside it.
fn topics_of(entity: &Map<String, Value>, outer_base: &str, named: &mut Vec<(String, Role)>) {
    let base = entity.get("~").and_then(Value::as_str).unwrap_or(outer_base);
    let mut name = |text: &str, role| {
        let topic = match (text.strip_prefix('~'), text.strip_suffix('~')) {
            (Some(rest), _) => format!("{base}{rest}"),
            (None, Some(rest)) => format!("{rest}{base}"),
            (None, None) => text.to_owned(),
        };
        if TopicName::new(topic.as_str()).is_ok() {
            named.push((topic, role));
        }
    };
    for (key, value) in entity {
        if let (Some(role), Some(text)) = (role(key), value.as_str()) {
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
            name(text, Role::Availability);
        }
    }
    let components = get(entity, "cmps", "components").and_then(Value::as_object);
    for component in components.into_iter().flatten().filter_map(|(_, value)| value.as_object()) {
        topics_of(component, base, named);
    }
}

/// What the topic under a key is for; `None` for a key that holds no topic.
fn role(key: &str) -> Option<Role> {
    let is = |short: &str, long: &str| key.ends_with(short) || key.ends_with(long);
    if is("cmd_t", "command_topic") || is("set_pos_t", "set_position_topic") {
        Some(Role::Order)
    } else if is("avty_t", "availability_topic") {
        Some(Role::Availability)
    } else {
        (is("_t", "_topic") || key == "t" || key == "topic").then_some(Role::Contact)
    }
}

fn get<'a>(map: &'a Map<String, Value>, short: &str, long: &str) -> Option<&'a Value> {
    map.get(short).or_else(|| map.get(long))
}
