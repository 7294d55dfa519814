//! Writes the configuration file: `[mqtt]` and a section for each device or fleet of devices of one
//! shape, with comments that give the reasons.
//!
//! Topics and names come from anyone who may publish on the broker. Strings are therefore quoted as
//! TOML requires, and a comment holds no character that ends it or deceives its reader. No payload
//! is shown.

use super::Discovery;
use super::conventions::Convention;
use super::fleets::{self, DraftSection, FoundFleet};
use super::grouping::{DeviceStanding, Discovered, FoundDevice, Seen, UnusedAvailability};
use super::timeout::{HeardRhythm, Timeout};
use crate::printable::{escaped_toml, is_printable};
use crate::time_span;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::words::{RoundedDuration, counted};
use std::collections::BTreeMap;
use std::time::Duration;
use toml_writer::{ToTomlKey as _, ToTomlValue as _, TomlKeyBuilder, TomlStringBuilder};

/// The number of topics of a device that are shown. Any others are only counted.
const MOST_SHOWN: usize = 6;

/// The length in characters to which a topic is shortened in a comment.
const LONGEST_SHOWN: usize = 100;

/// The contents of the head of the file.
#[derive(Debug, Clone)]
pub struct Head {
    /// The keys and values of `[mqtt]`.
    pub mqtt: Vec<(&'static str, String)>,
    /// The file that contains the devices that were left out and the login, if there is one.
    pub beside: Option<String>,
    pub has_password: bool,
    pub listened: Duration,
}

/// Writes the file.
#[must_use]
pub fn write(head: &Head, discovery: &Discovery, found: &Discovered) -> String {
    let mut text = String::new();
    heading(&mut text, head, discovery, found);
    mqtt(&mut text, head);
    for section in fleets::sections(&found.devices) {
        line(&mut text, "");
        match section {
            DraftSection::Device(device) => device_section(&mut text, device),
            DraftSection::Fleet(fleet) => fleet_section(&mut text, &fleet),
        }
    }
    text
}

/// Returns a line for each convention with the number of devices that were found and the number of
/// those that are commented out.
#[must_use]
pub fn summary(found: &Discovered) -> String {
    let mut counts: BTreeMap<Convention, (usize, usize)> = BTreeMap::new();
    for device in &found.devices {
        let (all, off) = counts.entry(device.convention).or_default();
        *all += 1;
        *off += usize::from(device.standing != DeviceStanding::Heard);
    }
    let lines = counts.into_iter().map(|(convention, (all, off))| {
        let behind = if off > 0 { format!(", {off} of them behind `#`") } else { String::new() };
        format!("  {convention}: {all}{behind}\n")
    });
    let passing = found.passing.iter().map(|(convention, count)| {
        format!("  {convention}: {count} that came past or change their address, left out\n")
    });
    lines.chain(passing).collect()
}

/// Returns a string as a basic string of TOML, in which unprintable characters can be escaped.
#[must_use]
pub fn quoted(text: &str) -> String {
    escaped_toml(TomlStringBuilder::new(text).as_basic().to_toml_value())
}

/// Returns a string as it may be shown inside a comment.
fn plain(text: &str) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST_SHOWN {
            shown.push('…');
            break;
        }
        if !is_printable(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn heading(text: &mut String, head: &Head, discovery: &Discovery, found: &Discovered) {
    let devices = found.devices.len();
    let listened = RoundedDuration(head.listened);
    let messages = counted_messages(discovery.messages());
    let topics = counted(discovery.topics(), "topic");
    line(
        text,
        &format!(
            "# Found by `iotmonitor discover` in {listened}: {messages}, {topics}, {}.",
            counted(devices, "device")
        ),
    );
    line(text, "# Review it; `iotmonitor check FILE` shows whether it can be used.");
    let again = discovery.heard_again();
    if let Some(file) = &head.beside
        && !again.is_empty()
    {
        let (shown, more) = again.split_at(again.len().min(MOST_SHOWN));
        let shown: Vec<String> = shown.iter().map(|name| plain(name)).collect();
        let more =
            if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        line(
            text,
            &format!("# Left out because {} has them: {}{more}.", plain(file), shown.join(", ")),
        );
    }
    for (convention, count) in &found.passing {
        line(
            text,
            &format!(
                "# Left out, as they come past or change their address: {count} of {convention}."
            ),
        );
    }
    if discovery.passed_over() > 0 {
        let count = counted_messages(discovery.passed_over());
        line(
            text,
            &format!(
                "# Not examined because there were too many topics, or too long ones: {count}."
            ),
        );
    }
}

fn counted_messages(count: u64) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), "message")
}

fn mqtt(text: &mut String, head: &Head) {
    line(text, "");
    line(text, "[mqtt]");
    for (key, value) in &head.mqtt {
        line(text, &format!("{key} = {value}"));
    }
    if head.has_password {
        let place =
            head.beside.as_deref().map_or_else(|| "the file that was read".to_owned(), plain);
        line(
            text,
            &format!(
                "# The password is not repeated: take `password` or `passwordFile` from {place}."
            ),
        );
    }
}

fn device_section(text: &mut String, device: &FoundDevice) {
    let model =
        device.model.as_deref().map_or_else(String::new, |model| format!(", {}", plain(model)));
    line(text, &format!("# {}{model}.", recognised(device.convention)));
    for seen in device.seen.iter().take(MOST_SHOWN) {
        line(text, &format!("#   {}: {}", plain(seen.topic.as_str()), passed(seen)));
    }
    if device.seen.len() > MOST_SHOWN {
        line(text, &format!("#   and {} more", counted(device.seen.len() - MOST_SHOWN, "topic")));
    }
    // A device that may be gone would only raise an alarm.
    let off = match device.standing {
        DeviceStanding::Heard => "",
        DeviceStanding::Gone => {
            line(text, "# Its availability says that it is gone. Remove the `#` to watch it:");
            "# "
        }
        DeviceStanding::Remembered => {
            line(text, "# Nothing was heard from it. Remove the `#` if it still exists:");
            "# "
        }
    };
    line(text, &format!("{off}[{}]", key(&format!("device_{}", device.name))));
    for entry in SectionKeys::from(device).entries() {
        line(text, &format!("{off}{entry}"));
    }
    if let Some((topic, why)) = &device.unused_availability {
        unused_availability(text, topic.as_str(), *why);
    }
    orders(text, device.orders.iter().map(|topic| topic.as_str()));
}

fn fleet_section(text: &mut String, fleet: &FoundFleet<'_>) {
    let (recognised, count) = (recognised(fleet.shape.convention), fleet.members.len());
    line(text, &format!("# {recognised}: {count} devices of one shape."));
    line(text, &format!("[{}]", key(&format!("fleet_{}", fleet.name))));
    line(
        text,
        "# With names = \"auto\" instead, devices that are heard later become members as well.",
    );
    line(text, "names = [");
    for member in &fleet.members {
        let model = member.model.as_deref().map(plain);
        let heard = member.seen.first().map(passed);
        let about: Vec<String> = model.into_iter().chain(heard).collect();
        let about =
            if about.is_empty() { String::new() } else { format!("  # {}", about.join(", ")) };
        line(text, &format!("    {},{about}", quoted(member.name.as_str())));
    }
    line(text, "]");
    for entry in SectionKeys::from(fleet).entries() {
        line(text, &entry);
    }
    if let Some((topic, why)) = &fleet.shape.unused_availability {
        unused_availability(text, topic, *why);
    }
    orders(text, fleet.orders.iter().map(String::as_str));
}

fn recognised(convention: Convention) -> String {
    match convention {
        Convention::Shape => "By the shape of its topics".to_owned(),
        convention => convention.to_string(),
    }
}

fn unused_availability(text: &mut String, topic: &str, why: UnusedAvailability) {
    line(text, &format!("# availabilityTopic = {}  # {}", quoted(topic), unused(why)));
}

/// The keys of a section that describe a device, or each member of a fleet.
struct SectionKeys<'a> {
    watch: Vec<&'a str>,
    timeout: Timeout,
    availability: Option<&'a str>,
    words: &'a [Option<String>; 2],
    depends_on: &'a [DeviceName],
    hello: Option<&'a str>,
}

impl<'a> From<&'a FoundDevice> for SectionKeys<'a> {
    fn from(device: &'a FoundDevice) -> Self {
        Self {
            watch: device.watch.iter().map(|filter| filter.as_str()).collect(),
            timeout: device.timeout,
            availability: device.availability.as_ref().map(|topic| topic.as_str()),
            words: &device.words,
            depends_on: &device.depends_on,
            hello: device.hello.as_ref().map(|topic| topic.as_str()),
        }
    }
}

impl<'a> From<&'a FoundFleet<'a>> for SectionKeys<'a> {
    fn from(fleet: &'a FoundFleet<'a>) -> Self {
        Self {
            watch: fleet.shape.watch.iter().map(String::as_str).collect(),
            timeout: fleet.timeout,
            availability: fleet.shape.availability.as_deref(),
            words: fleet.shape.words,
            depends_on: fleet.shape.depends_on,
            hello: fleet.shape.hello.as_deref(),
        }
    }
}

impl SectionKeys<'_> {
    fn entries(&self) -> Vec<String> {
        let mut entries = Vec::new();
        if !self.watch.is_empty() {
            entries.push(format!("watchTopics = {}", list(&self.watch)));
            entries.push(timeout(self.timeout));
        }
        if let Some(topic) = self.availability {
            entries.push(format!(
                "availabilityTopic = {}  # its birth message and its will",
                quoted(topic)
            ));
        }
        for (key, word) in ["availabilityOffline", "availabilityOnline"].iter().zip(self.words) {
            if let Some(word) = word {
                let word = quoted(word);
                entries.push(format!("{key} = {word}  # as described for Home Assistant"));
            }
        }
        entries.extend(depends_on(self.depends_on));
        if let Some(topic) = self.hello {
            entries.push(format!("helloTopic = {}  # what it says after a start", quoted(topic)));
        }
        entries
    }
}

fn depends_on(names: &[DeviceName]) -> Option<String> {
    let names: Vec<String> = names.iter().map(|bridge| quoted(bridge.as_str())).collect();
    match names.as_slice() {
        [] => None,
        [bridge] => Some(format!("dependsOn = {bridge}  # no alarm of its own while that is gone")),
        _ => Some(format!(
            "dependsOn = [{}]  # no alarm of its own while one of them is gone",
            names.join(", ")
        )),
    }
}

/// Writes the topics of orders as comments. Only a person knows whether an order may be repeated
/// after each start, since it may itself be an order to start something.
fn orders<'a>(text: &mut String, orders: impl Iterator<Item = &'a str>) {
    let shown: Vec<String> = orders.take(MOST_SHOWN).map(quoted).collect();
    if shown.is_empty() {
        return;
    }
    line(
        text,
        "# Topics on which it received commands. What it forgets at a start can be recorded and restored:",
    );
    line(text, &format!("# stateTopics = [{}]", shown.join(", ")));
}

fn timeout(timeout: Timeout) -> String {
    match timeout {
        Timeout::Auto(HeardRhythm::Intervals { longest, intervals }) => format!(
            "watchTimeOut = \"auto\"  # so far silent for at most {} in {}",
            RoundedDuration(longest),
            counted(intervals as usize, "interval")
        ),
        Timeout::Auto(HeardRhythm::TooLittle) => {
            "watchTimeOut = \"auto\"  # too little was heard to know its rhythm".to_owned()
        }
        Timeout::Auto(HeardRhythm::Expected(why)) => {
            format!("watchTimeOut = \"auto\"  # {why}")
        }
        Timeout::Lasts(span, why) => {
            format!("watchTimeOut = {}  # {why}", quoted(&time_span::format(span)))
        }
        Timeout::Never(why) => format!("watchTimeOut = 0  # {why}"),
    }
}

fn unused(why: UnusedAvailability) -> &'static str {
    match why {
        UnusedAvailability::Sleeps => "it sleeps, and says each time that it is gone",
        UnusedAvailability::UnknownWords => "it says that in words which are not known here",
    }
}

/// Says how often messages passed on a topic.
fn passed(seen: &Seen) -> String {
    match (seen.live, seen.retained) {
        (0, true) => "retained".to_owned(),
        (0, false) => "announced but not heard".to_owned(),
        (1, _) => "1 message".to_owned(),
        (live, _) => {
            format!("{live} messages, at most {} apart", RoundedDuration(seen.longest_gap))
        }
    }
}

fn list(filters: &[&str]) -> String {
    let filters: Vec<String> = filters.iter().map(|filter| quoted(filter)).collect();
    if let [filter] = filters.as_slice() {
        filter.clone()
    } else {
        format!("[{}]", filters.join(", "))
    }
}

/// Returns a key, in quotes only where it needs them.
fn key(text: &str) -> String {
    let key = TomlKeyBuilder::new(text);
    escaped_toml(key.as_unquoted().unwrap_or_else(|| key.as_basic()).to_toml_key())
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_quoted_is_printable_and_read_back(
            text in "\\PC*|[a-z_\"'\\\\\u{7f}\u{85}\u{ad}\u{202e}\u{e0041}\t\r\n\0]{0,20}"
        ) {
            let entry = format!("{} = {}", key(&text), quoted(&text));
            prop_assert!(entry.chars().all(is_printable), "{entry:?}");
            let table: toml::Table = entry.parse().unwrap();
            prop_assert_eq!(table.get(&text).and_then(toml::Value::as_str), Some(text.as_str()));
        }
    }
}
