//! Reads a section `[device_…]` or `[agent_…]`: the topics to watch, the states to record, and the
//! hello topics. The agent's process is read by [`super::agent`].

use super::mqtt::MqttSection;
use super::placement;
use super::report::ConfigReport;
use super::section::{Section, Text};
use super::{Environment, agent, alerts};
use crate::time_span::MAX_TIME_SPAN;
use iotmonitor_core::machines::orders::is_for_questions;
use iotmonitor_core::machines::silence::rhythm;
use iotmonitor_core::model::availability_words::{OwnWords, is_same};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::spec::DeviceSpec;
use iotmonitor_core::topic::{MAX_TOPIC_BYTES, TopicFilter, TopicName};
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Keys that devices and agents have in common.
pub(super) const KEYS: &[&str] = &[
    "area",
    "watchTimeOut",
    "helloTopic",
    "availabilityTopic",
    "availabilityOffline",
    "availabilityOnline",
    "watchTopics",
    "dependsOn",
    "stateTopics",
    "expireRepeat",
    "alertUnit",
    "restoreOnStart",
    "enabled",
];

/// Those that contain topics.
pub(super) const TOPIC_KEYS: [&str; 4] =
    ["watchTopics", "helloTopic", "stateTopics", "availabilityTopic"];

/// The value that replaces a time span: the timeout is derived from the silences of the device.
const AUTO: &str = "auto";

const DEFAULT_WATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Zero has a meaning of its own; a shorter timeout would only cause noise.
const WATCH_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=MAX_TIME_SPAN;
const EXPIRE_REPEAT: RangeInclusive<Duration> = Duration::from_secs(1)..=MAX_TIME_SPAN;

/// The index of all filters stores the state of a device's availability topics in one byte each.
const MOST_AVAILABILITY_TOPICS: usize = 16;

/// The longest name of an area, in characters.
const LONGEST_AREA: usize = 100;

/// The longest topic level that the monitor puts before a device's name, slashes included.
const LONGEST_OWN_LEVEL: usize = "/helloTopicCount/".len();

/// Which of the two a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SectionKind {
    Device,
    Agent,
}

impl SectionKind {
    /// Kind and name of a section such as `device_lamp`; `None` for any other section.
    pub fn of(section: &str) -> Option<(Self, &str)> {
        let device = section.strip_prefix("device_").map(|name| (Self::Device, name));
        device.or_else(|| section.strip_prefix("agent_").map(|name| (Self::Agent, name)))
    }
}

/// Returns `None` when the name is invalid, or the process could not be read; the error has then
/// been reported.
pub(super) fn read(
    section: &Section<'_>,
    kind: SectionKind,
    name: &str,
    mqtt: &MqttSection,
    environment: &Environment,
    report: &mut ConfigReport,
) -> Option<DeviceSpec> {
    report_unknown_keys(section, kind, name, report);
    let device_name = device_name(section, name, mqtt.base_topic.as_ref(), report);
    let area = area(section, report);
    let watch = filters(section, "watchTopics", mqtt.base_topic.as_ref(), report);
    let hello = hello(section, mqtt.base_topic.as_ref(), report);
    let availability = availability(section, mqtt.base_topic.as_ref(), report);
    let availability_words = availability_words(section, report);
    let state = filters(section, "stateTopics", mqtt.base_topic.as_ref(), report);
    let (watch_timeout, is_auto) = watch_timeout(section, report);
    let expire_repeat = zero_is_none(section, "expireRepeat", &EXPIRE_REPEAT, report).flatten();
    let restore_on_start = section.boolean("restoreOnStart", true, report);
    let enabled = section.boolean("enabled", true, report);
    report_missing_topics(section, kind, report);
    let agent = match kind {
        SectionKind::Device => None,
        SectionKind::Agent => {
            let name = device_name.as_ref().map(|_| name)?;
            Some(agent::read(section, name, mqtt, environment, report)?)
        }
    };
    Some(DeviceSpec {
        name: device_name?,
        area,
        watch_timeout: watch_timeout.filter(|_| !watch.is_empty()),
        auto_timeout: is_auto && !watch.is_empty(),
        expire_repeat,
        watch,
        hello,
        availability,
        availability_words,
        // The names are looked up when all of them are known.
        depends_on: Vec::new(),
        alert_unit: alerts::unit(section, report),
        state,
        restore_on_start,
        enabled,
        agent: agent.map(Box::new),
    })
}

fn report_unknown_keys(
    section: &Section<'_>,
    kind: SectionKind,
    name: &str,
    report: &mut ConfigReport,
) {
    match kind {
        SectionKind::Agent => {
            // Those of clusters are checked elsewhere, and not offered.
            let placed = placement::KEYS.iter().filter(|key| section.field(key).is_some());
            let known: Vec<&str> =
                [KEYS, agent::KEYS].concat().into_iter().chain(placed.copied()).collect();
            section.report_unknown_keys(&known, agent::hint_for_others, report);
        }
        SectionKind::Device => {
            let elsewhere = |key: &str| {
                is_of_agents(key).then(|| {
                    format!(
                        "`{key}` belongs to an agent: remove it, or name the section [agent_{name}]"
                    )
                })
            };
            section.report_unknown_keys(KEYS, elsewhere, report);
        }
    }
}

/// Whether a key belongs to an agent.
pub(super) fn is_of_agents(key: &str) -> bool {
    agent::KEYS.contains(&key)
        || placement::KEYS.contains(&key)
        || agent::hint_for_others(key).is_some()
}

/// Whether a section contains any topic, right or wrong.
pub(super) fn has_topics(section: &Section<'_>) -> bool {
    TOPIC_KEYS.iter().any(|key| is_set(section, key))
}

/// Checks the name of a device.
pub(super) fn device_name(
    section: &Section<'_>,
    name: &str,
    base_topic: Option<&TopicName>,
    report: &mut ConfigReport,
) -> Option<DeviceName> {
    let name = DeviceName::new(name)
        .map_err(|error| {
            let hint = "a name may hold anything but `/`, `+`, `#` and control characters";
            report.error(&section.header, error.to_string(), hint);
        })
        .ok()?;
    let base_length = base_topic.map_or(0, |base| base.as_str().len());
    let topic_length = base_length + LONGEST_OWN_LEVEL + name.as_str().len();
    if topic_length > MAX_TOPIC_BYTES {
        let message = format!("a device name of {} bytes is too long", name.as_str().len());
        let hint = format!("it becomes part of a topic of {topic_length} bytes, MQTT allows 65535");
        report.error(&section.header, message, hint);
        return None;
    }
    Some(name)
}

/// The name of a room or another part of the house, as people read it.
fn area(section: &Section<'_>, report: &mut ConfigReport) -> Option<Arc<str>> {
    let text = section.text("area", report)?;
    let name = text.value.trim();
    let length = name.chars().count();
    if length > LONGEST_AREA || name.chars().any(char::is_control) {
        let shown: String = name.chars().take(LONGEST_AREA).collect();
        let message = format!("area: `{}` is not the name of a room", shown.escape_debug());
        let hint = format!(
            "write up to {LONGEST_AREA} characters in one line, as in area = \"Living room\""
        );
        report.error(&text.span, message, hint);
        return None;
    }
    (length > 0).then(|| name.into())
}

fn filters(
    section: &Section<'_>,
    key: &str,
    base_topic: Option<&TopicName>,
    report: &mut ConfigReport,
) -> Vec<TopicFilter> {
    let mut filters = Vec::new();
    let mut seen = HashSet::new();
    for text in section.texts(key, "home/lamp/#", report) {
        if let Some(filter) = filter(key, &text, base_topic, report)
            && !seen.contains(&text.value)
        {
            if key == "stateTopics" && is_for_questions(&filter) {
                let message = format!("nothing that matches `{}` is a state", text.value);
                let hint = "these topics ask devices: name the topics that set them";
                report.warning(&text.span, message, hint);
            }
            seen.insert(text.value);
            filters.push(filter);
        }
    }
    // There are many of these lists, and they never grow again.
    filters.shrink_to_fit();
    filters
}

fn hello(
    section: &Section<'_>,
    base_topic: Option<&TopicName>,
    report: &mut ConfigReport,
) -> Option<TopicFilter> {
    let text = section.text("helloTopic", report)?;
    filter("helloTopic", &text, base_topic, report)
}

/// The topics of a device's birth message and its will, which have no wildcards.
fn availability(
    section: &Section<'_>,
    base_topic: Option<&TopicName>,
    report: &mut ConfigReport,
) -> Vec<TopicName> {
    const KEY: &str = "availabilityTopic";
    let mut topics = Vec::new();
    for text in section.texts(KEY, "tele/lamp/LWT", report) {
        let Some(filter) = filter(KEY, &text, base_topic, report) else { continue };
        match TopicName::new(filter.as_str()) {
            Ok(topic) if topics.contains(&topic) => {}
            Ok(topic) if topics.len() < MOST_AVAILABILITY_TOPICS => topics.push(topic),
            Ok(_) => {
                let message = format!("{KEY} lists more than {MOST_AVAILABILITY_TOPICS} topics");
                report.error(&text.span, message, "name those of its birth message and its will");
                break;
            }
            Err(error) => {
                let hint = "name the topic of its birth message and its will, or a list of them";
                report.error(&text.span, format!("{KEY}: {error}"), hint);
            }
        }
    }
    topics
}

/// Reads words that no convention defines.
fn availability_words(section: &Section<'_>, report: &mut ConfigReport) -> Option<Box<OwnWords>> {
    let mut words = |key: &str, example: &str| {
        let texts = section.texts(key, example, report);
        if let Some(field) = section.field(key)
            && !texts.is_empty()
            && !is_set(section, "availabilityTopic")
        {
            let message =
                format!("{key} = {} has no effect without availabilityTopic", field.shown());
            let hint = "add the topic on which the device says so";
            report.warning(&field.key_span, message, hint);
        }
        texts
    };
    let offline = words("availabilityOffline", "gone");
    let online = words("availabilityOnline", "here");
    let is_gone = |word: &Text<'_>| offline.iter().any(|gone| is_same(gone.value, word.value));
    if let Some(both) = online.iter().find(|word| is_gone(word)) {
        let message =
            format!("`{}` is in availabilityOffline and in availabilityOnline", both.value);
        report.error(&both.span, message, "a word means one of the two: remove the other");
    }
    let owned = |texts: Vec<Text<'_>>| texts.iter().map(|text| text.value.trim().into()).collect();
    let words = OwnWords { offline: owned(offline), online: owned(online) };
    (words != OwnWords::default()).then(|| Box::new(words))
}

fn filter(
    key: &str,
    text: &Text<'_>,
    base_topic: Option<&TopicName>,
    report: &mut ConfigReport,
) -> Option<TopicFilter> {
    let filter = TopicFilter::new(text.value)
        .map_err(|error| {
            let hint =
                "`+` stands for one whole level, `#` at the end for the rest: \"home/+/sensors/#\"";
            report.error(&text.span, format!("{key}: {error}"), hint);
        })
        .ok()?;
    let own = base_topic.and_then(|base| TopicFilter::new(format!("{base}/#")).ok());
    if let Some(own) = own.filter(|own| own.covers(&filter)) {
        let message = format!("{key} `{filter}` is below baseTopic, where no message counts");
        let hint = format!("messages on `{own}` are iotmonitor's own: choose another topic");
        report.warning(&text.span, message, hint);
    }
    Some(filter)
}

/// The timeout, and whether it is derived from learned silences.
fn watch_timeout(section: &Section<'_>, report: &mut ConfigReport) -> (Option<Duration>, bool) {
    let field = section.field("watchTimeOut");
    let is_auto = field.as_ref().is_some_and(|field| field.value.as_str() == Some(AUTO));
    let timeout = if is_auto {
        Some(Some(rhythm::UNLEARNED))
    } else {
        zero_is_none(section, "watchTimeOut", &WATCH_TIMEOUT, report)
    };
    if let Some(field) = field
        && timeout.flatten().is_some()
        && !is_set(section, "watchTopics")
    {
        let message = format!("watchTimeOut = {} has no effect without watchTopics", field.shown());
        report.warning(&field.span, message, "add the topics whose messages show that it is alive");
    }
    (timeout.unwrap_or(Some(DEFAULT_WATCH_TIMEOUT)), is_auto)
}

/// A time span for which 0 means none; the outer `None` means that the key is absent or wrong.
fn zero_is_none(
    section: &Section<'_>,
    key: &str,
    limits: &RangeInclusive<Duration>,
    report: &mut ConfigReport,
) -> Option<Option<Duration>> {
    let zero_too = Duration::ZERO..=*limits.end();
    let span = section.time_span(key, &zero_too, report)?;
    if span.is_zero() {
        return Some(None);
    }
    if !limits.contains(&span)
        && let Some(field) = section.field(key)
    {
        let least = crate::time_span::format(*limits.start());
        let message = format!("{key} = {} is too short", field.shown());
        report.error(&field.span, message, format!("it is at least {least}, or 0 for never"));
    }
    Some(Some(span))
}

/// Reports a device without topics, which could never be heard. An agent is known by its process at
/// least.
fn report_missing_topics(section: &Section<'_>, kind: SectionKind, report: &mut ConfigReport) {
    if kind == SectionKind::Device && !has_topics(section) {
        let message = format!("{} has no topics", section.title);
        let hint =
            "add watchTopics, helloTopic or stateTopics, as in watchTopics = \"home/lamp/#\"";
        report.error(&section.header, message, hint);
    }
    if !is_set(section, "watchTopics")
        && let Some(field) = section.field("restartOnExpire")
        && field.value.as_bool() == Some(true)
    {
        let message =
            format!("restartOnExpire of {} has no effect without watchTopics", section.title);
        report.warning(
            &field.key_span,
            message,
            "add the topics whose messages show that it is alive",
        );
    }
}

/// Whether a key is present and not empty, right or wrong.
fn is_set(section: &Section<'_>, key: &str) -> bool {
    let items = section.field(key).map(|field| field.value.as_array());
    items.is_some_and(|items| items.is_none_or(|items| !items.is_empty()))
}
