//! Reads a section `[fleet_…]`: many devices of one shape, whose names are listed or learned.
//!
//! A member is read by [`super::device`] like any other section, from a table that is made here: the
//! keys of the fleet with the name in place of `{name}`, and above them those of a section of the
//! member's own.

use super::device;
use super::report::{ByteSpan, ConfigReport};
use super::section::{self, Field, Section, Text};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::fleet::{DEFAULT_MAX_DEVICES, LONGEST_LEARNED_NAME, PLACEHOLDER};
use iotmonitor_core::model::name_pattern::NamePattern;
use iotmonitor_core::topic::{MAX_TOPIC_BYTES, TopicFilter};
use std::borrow::Cow;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Keys that belong to the fleet itself. All others are its members'.
const KEYS: [&str; 3] = ["names", "maxDevices", "ignore"];

/// The value that replaces a list of names: they are learned.
const AUTO: &str = "auto";

/// The most devices that a fleet may learn.
const MOST_DEVICES: u64 = 100_000;

/// Keys with topics that are each member's own.
const OWN_TOPICS: [&str; 2] = ["watchTopics", "stateTopics"];

/// The number of topics on which a fleet that learns names hears its members.
pub(super) const MOST_HEARD: usize = 16;

/// The key whose topics introduce no member.
const STATES: &str = "stateTopics";

/// What a string of a member costs beside its bytes, roughly.
const STRING_COST: usize = 64;

/// What a member costs beside its strings, roughly.
const MEMBER_COST: usize = 128;

/// One fleet as it is written.
pub(super) struct Fleet<'t> {
    pub name: &'t str,
    pub section: Section<'t>,
    pub names: Names<'t>,
}

/// The names of a fleet's members.
pub(super) enum Names<'t> {
    Listed(Vec<Text<'t>>),
    Learned {
        max_devices: usize,
        ignore: Vec<NamePattern>,
    },
    /// The key is missing or wrong, which has been reported.
    Unknown,
}

/// The name in the name of a section such as `fleet_esp`; `None` for any other section.
pub(super) fn name_of(section: &str) -> Option<&str> {
    section.strip_prefix("fleet_")
}

/// All fleets, by the names of their sections.
pub(super) fn read_all<'t>(
    root: &'t DeTable<'t>,
    report: &mut ConfigReport,
) -> BTreeMap<&'t str, Fleet<'t>> {
    let mut fleets = BTreeMap::new();
    for entry in section::fields(root) {
        let Some(name) = name_of(entry.key) else { continue };
        let Some(section) = section::section_of(&entry, report) else { continue };
        if let Err(error) = DeviceName::new(name) {
            let hint = "a name may hold anything but `/`, `+`, `#` and control characters";
            report.error(&section.header, error.to_string(), hint);
        }
        let names = names(&section, report);
        report_unknown_keys(&section, report);
        let fleet = Fleet { name, section, names };
        fleet.check_topics(report);
        fleets.insert(entry.key, fleet);
    }
    fleets
}

fn report_unknown_keys(section: &Section<'_>, report: &mut ConfigReport) {
    let known = [&KEYS[..], device::KEYS].concat();
    let elsewhere = |key: &str| {
        device::is_of_agents(key)
            .then(|| format!("remove `{key}`: an agent needs a section of its own"))
    };
    section.report_unknown_keys(&known, elsewhere, report);
}

fn names<'t>(section: &Section<'t>, report: &mut ConfigReport) -> Names<'t> {
    let Some(field) = section.field("names") else {
        let message = format!("{} has no `names`", section.title);
        let hint = "list them, as in names = [\"attic\", \"cellar\"], or write names = \"auto\"";
        report.error(&section.gap("names"), message, hint);
        return Names::Unknown;
    };
    match field.value {
        DeValue::Array(_) => {
            warn_of_learning(section, report);
            listed(section, &field, report)
        }
        DeValue::String(text) if text.as_ref() == AUTO => Names::Learned {
            max_devices: max_devices(section, report),
            ignore: ignore(section, report),
        },
        DeValue::String(_) => {
            let message = format!("names = {} is neither a list nor \"auto\"", field.shown());
            report.error(&field.span, message, "a single name is a list too: names = [\"attic\"]");
            Names::Unknown
        }
        _ => {
            let example = "names = [\"attic\", \"cellar\"]";
            field.report_type("a list of names or \"auto\"", example, report);
            Names::Unknown
        }
    }
}

fn listed<'t>(section: &Section<'t>, field: &Field<'t>, report: &mut ConfigReport) -> Names<'t> {
    let (names, empty): (Vec<_>, Vec<_>) = section
        .texts("names", "attic", report)
        .into_iter()
        .partition(|name| !name.value.is_empty());
    for name in &empty {
        let message = format!("names of {} holds an empty name", section.title);
        report.error(&name.span, message, "remove it, or write the name");
    }
    if field.value.as_array().is_some_and(|items| items.is_empty()) {
        let message = format!("names of {} is empty", section.title);
        report.error(&field.span, message, "list the names, or write names = \"auto\"");
    }
    Names::Listed(names)
}

/// Warns of keys that say how names are learned, where they are listed.
fn warn_of_learning(section: &Section<'_>, report: &mut ConfigReport) {
    max_devices(section, report);
    for key in ["maxDevices", "ignore"] {
        if let Some(field) = section.field(key) {
            let message = format!("{key} has no effect with a list of names");
            report.warning(&field.key_span, message, "remove it, or write names = \"auto\"");
        }
    }
}

fn max_devices(section: &Section<'_>, report: &mut ConfigReport) -> usize {
    const KEY: &str = "maxDevices";
    let Some(field) = section.field(KEY) else { return DEFAULT_MAX_DEVICES };
    if !matches!(field.value, DeValue::Integer(_)) {
        field.report_type("a number", &format!("{KEY} = {DEFAULT_MAX_DEVICES}"), report);
        return DEFAULT_MAX_DEVICES;
    }
    match field.unsigned().filter(|count| (1..=MOST_DEVICES).contains(count)) {
        Some(count) => usize::try_from(count).unwrap_or(DEFAULT_MAX_DEVICES),
        None => {
            let message = format!("{KEY} = {} is out of range", field.shown());
            report.error(&field.span, message, format!("it must be from 1 to {MOST_DEVICES}"));
            DEFAULT_MAX_DEVICES
        }
    }
}

fn ignore(section: &Section<'_>, report: &mut ConfigReport) -> Vec<NamePattern> {
    let mut patterns = Vec::new();
    for text in section.texts("ignore", "guest*", report) {
        let without_stars = text.value.replace('*', "");
        if text.value.is_empty()
            || !without_stars.is_empty() && DeviceName::new(without_stars).is_err()
        {
            let message = format!("ignore: `{}` can match no name", text.value.escape_debug());
            report.error(
                &text.span,
                message,
                "write a name, or a part of it with `*` for the rest",
            );
            continue;
        }
        patterns.push(NamePattern::new(text.value));
    }
    patterns
}

impl<'t> Fleet<'t> {
    pub fn learns(&self) -> bool {
        matches!(self.names, Names::Learned { .. })
    }

    /// The keys of a member, for [`device::read`].
    pub fn table(&self, name: &str, own: Option<&DeTable<'t>>) -> DeTable<'t> {
        let is_set = |value: &DeValue<'_>| value.as_str() != Some("");
        let own = own.into_iter().flatten().filter(|(_, value)| is_set(value.get_ref()));
        let mut table: DeTable<'t> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
        for (key, value) in self.section.table {
            let text = key.get_ref().as_ref();
            if device::KEYS.contains(&text) && !table.contains_key(text) {
                table.insert(key.clone(), filled(value, name));
            }
        }
        table
    }

    /// The keys of the device whose topics contain `{name}` itself.
    pub fn template(&self) -> DeTable<'t> {
        let mut table = self.table(PLACEHOLDER, None);
        // No unit can be called so, but that of a member can.
        if let Some(value) = table.get_mut("alertUnit") {
            *value = filled(value, "name");
        }
        table
    }

    /// The memory that each member takes, roughly.
    pub fn cost(&self) -> usize {
        let strings = self.section.table.iter().filter(|(key, _)| *key.get_ref() != "names");
        let strings = strings.flat_map(|(_, value)| strings_of(value));
        MEMBER_COST + strings.map(|(_, text)| text.len() + STRING_COST).sum::<usize>()
    }

    fn topics(&self) -> impl Iterator<Item = (&'static str, ByteSpan, &'t str)> {
        let table = self.section.table;
        device::TOPIC_KEYS.into_iter().flat_map(move |key| {
            let strings = table.get(key).map(strings_of).unwrap_or_default();
            strings.into_iter().map(move |(span, text)| (key, span, text))
        })
    }

    fn check_topics(&self, report: &mut ConfigReport) {
        let title = &self.section.title;
        let mut has_name: BTreeMap<&str, bool> = BTreeMap::new();
        for (key, span, text) in self.topics() {
            *has_name.entry(key).or_default() |= text.contains(PLACEHOLDER);
            warn_of_other_braces(key, &span, text, report);
        }
        if has_name.is_empty() {
            // A section without topics is reported like that of a device.
            return;
        }
        if !has_name.values().any(|has| *has) {
            let message = format!("no topic of {title} contains `{PLACEHOLDER}`");
            let hint =
                "it stands for the name of each member, as in watchTopics = \"home/{name}/#\"";
            report.error(&self.section.header, message, hint);
            return;
        }
        if self.learns() {
            self.check_learnable(report);
            return;
        }
        for key in OWN_TOPICS {
            if has_name.get(key) == Some(&false)
                && let Some(field) = self.section.field(key)
            {
                let message = format!("{key} of {title} has no `{PLACEHOLDER}`");
                let hint = match key {
                    "stateTopics" => "all members record the same states: put the name into it",
                    _ => "a message of any member counts for all of them: put the name into it",
                };
                report.warning(&field.span, message, hint);
            }
        }
    }

    /// Checks that a message has its name at one place, and is not an order as well.
    fn check_places(&self, report: &mut ConfigReport) {
        let has_name = |text: &str| text.split('/').any(|level| level == PLACEHOLDER);
        let topics = self.topics().filter(|(_, _, text)| has_name(text));
        let templates = topics.filter_map(|(key, span, text)| {
            let filter = TopicFilter::new(text.replace(PLACEHOLDER, "+")).ok()?;
            Some(Template { key, span, text, filter })
        });
        let (states, heard): (Vec<_>, Vec<_>) =
            templates.partition(|template| template.key == STATES);
        if heard.len() > MOST_HEARD {
            // That is an error by itself, and each would be compared with each.
            return;
        }
        for (at, topic) in heard.iter().enumerate() {
            let is_other = |other: &&Template<'_>| {
                topic.filter.overlaps(&other.filter) && !topic.shares_name_with(other)
            };
            if let Some(other) = heard[..at].iter().find(is_other) {
                let message = format!(
                    "{}: `{}` and `{}` have the name at different levels of the same topic",
                    topic.key, topic.text, other.text
                );
                let hint = "one message would have two names: choose topics that differ";
                report.error(&topic.span, message, hint);
            }
        }
        for state in &states {
            let is_both = |topic: &&Template<'_>| topic.filter.overlaps(&state.filter);
            if let Some(topic) = heard.iter().find(is_both) {
                let message = format!(
                    "{STATES}: a state on `{}` is a message on `{}` as well",
                    state.text, topic.text
                );
                let hint = "an order for a device that does not exist would make it one: choose \
                            topics that differ";
                report.warning(&state.span, message, hint);
            }
        }
    }

    /// Checks what must hold for names that are learned from topics.
    fn check_learnable(&self, report: &mut ConfigReport) {
        for (key, span, text) in self.topics() {
            if !text.contains(PLACEHOLDER) {
                let message = format!("{key}: `{text}` does not contain `{PLACEHOLDER}`");
                let hint = "names are learned from topics: each topic needs it, or names a list";
                report.error(&span, message, hint);
            } else if text
                .split('/')
                .any(|level| level != PLACEHOLDER && level.contains(PLACEHOLDER))
            {
                let message = format!("{key}: `{PLACEHOLDER}` is not a whole level of `{text}`");
                let hint = "a subscription can leave only a whole level open: list the names, or \
                            change the topic";
                report.error(&span, message, hint);
            } else {
                let count = text.matches(PLACEHOLDER).count();
                let length = text.len() + count * (LONGEST_LEARNED_NAME - PLACEHOLDER.len());
                if length > MAX_TOPIC_BYTES {
                    let message =
                        format!("{key}: a topic of {} bytes is too long for a name", text.len());
                    let hint = format!(
                        "with a name of {LONGEST_LEARNED_NAME} bytes it has {length}, MQTT allows 65535"
                    );
                    report.error(&span, message, hint);
                }
            }
        }
        self.check_places(report);
        let is_heard = self.topics().any(|(key, ..)| key != STATES);
        if !is_heard {
            let message = format!("no message shows which members {} has", self.section.title);
            let hint = "add watchTopics or helloTopic, or list the names";
            report.error(&self.section.header, message, hint);
        }
        for (key, value) in self.section.table {
            let key = key.get_ref().as_ref();
            if device::TOPIC_KEYS.contains(&key) || !device::KEYS.contains(&key) {
                continue;
            }
            if let Some((span, _)) = strings_of(value).iter().find(|(_, t)| t.contains(PLACEHOLDER))
            {
                let message = format!("{key} of {} contains `{PLACEHOLDER}`", self.section.title);
                let hint = "with names that are learned it can stand in topics only";
                report.error(span, message, hint);
            }
        }
    }
}

/// A topic of a fleet whose names are learned.
struct Template<'t> {
    key: &'static str,
    span: ByteSpan,
    text: &'t str,
    /// With `+` in place of the name.
    filter: TopicFilter,
}

impl Template<'_> {
    /// Whether the name in a topic that matches both is the same one.
    fn shares_name_with(&self, other: &Self) -> bool {
        let mut levels = self.text.split('/').zip(other.text.split('/'));
        levels.any(|(one, another)| one == PLACEHOLDER && another == PLACEHOLDER)
    }
}

/// Warns of the placeholder in a section that is not a fleet's.
pub(super) fn warn_of_placeholder(section: &Section<'_>, report: &mut ConfigReport) {
    for key in device::TOPIC_KEYS {
        let Some(value) = section.table.get(key) else { continue };
        for (span, _) in strings_of(value).iter().filter(|(_, text)| text.contains(PLACEHOLDER)) {
            let message =
                format!("`{PLACEHOLDER}` in {key} of {} is taken literally", section.title);
            let hint = "it stands for a name in a section [fleet_NAME] only";
            report.warning(span, message, hint);
        }
    }
}

/// Warns of what looks like the placeholder.
fn warn_of_other_braces(key: &str, span: &ByteSpan, text: &str, report: &mut ConfigReport) {
    let braced = text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
    for other in braced.filter(|braced| *braced != "name") {
        let message = format!("`{{{}}}` in {key} is taken literally", other.escape_debug());
        report.warning(span, message, "the name of a member is `{name}`");
    }
}

/// The strings of a value that is a string or a list.
fn strings_of<'v>(value: &'v Spanned<DeValue<'_>>) -> Vec<(ByteSpan, &'v str)> {
    match value.get_ref() {
        DeValue::String(text) => vec![(value.span(), text.as_ref())],
        DeValue::Array(items) => {
            let strings =
                items.iter().filter_map(|item| Some((item.span(), item.get_ref().as_str()?)));
            strings.collect()
        }
        _ => Vec::new(),
    }
}

/// A value with the name in place of `{name}`.
fn filled<'t>(value: &Spanned<DeValue<'t>>, name: &str) -> Spanned<DeValue<'t>> {
    let inner = match value.get_ref() {
        DeValue::String(text) if text.contains(PLACEHOLDER) => {
            DeValue::String(Cow::Owned(text.replace(PLACEHOLDER, name)))
        }
        DeValue::Array(items) => {
            DeValue::Array(items.iter().map(|item| filled(item, name)).collect())
        }
        other => other.clone(),
    };
    Spanned::new(value.span(), inner)
}
