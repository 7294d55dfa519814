//! Writes the configuration file: `[mqtt]` and a section for each device, with comments that give
//! the reasons.
//!
//! Topics and names come from anyone who may publish on the broker. Strings are therefore quoted as
//! TOML requires, and a comment holds no character that ends it or deceives its reader. No payload
//! is shown.

use super::Discovery;
use super::conventions::Convention;
use super::grouping::{DeviceStanding, Discovered, FoundDevice, Seen, UnusedAvailability};
use super::timeout::{HeardRhythm, Timeout};
use crate::config::time_span;
use crate::printable::{escaped_toml, is_printable};
use iotmonitor_core::model::words::{RoundedDuration, counted};
use iotmonitor_core::topic::{TopicFilter, TopicName};
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
    for device in &found.devices {
        section(&mut text, device);
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

fn section(text: &mut String, device: &FoundDevice) {
    line(text, "");
    let model =
        device.model.as_deref().map_or_else(String::new, |model| format!(", {}", plain(model)));
    let convention = match device.convention {
        Convention::Shape => "By the shape of its topics".to_owned(),
        convention => convention.to_string(),
    };
    line(text, &format!("# {convention}{model}."));
    for seen in device.seen.iter().take(MOST_SHOWN) {
        line(text, &format!("#   {}", passed(seen)));
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
    for entry in entries(device) {
        line(text, &format!("{off}{entry}"));
    }
    if let Some((topic, why)) = &device.unused_availability {
        let topic = quoted(topic.as_str());
        line(text, &format!("# availabilityTopic = {topic}  # {}", unused(*why)));
    }
    orders(text, &device.orders);
}

fn entries(device: &FoundDevice) -> Vec<String> {
    let mut entries = vec![format!("[{}]", key(&format!("device_{}", device.name)))];
    if !device.watch.is_empty() {
        entries.push(format!("watchTopics = {}", list(&device.watch)));
        entries.push(timeout(device.timeout));
    }
    if let Some(topic) = &device.availability {
        entries.push(format!(
            "availabilityTopic = {}  # its birth message and its will",
            quoted(topic.as_str())
        ));
    }
    for (key, word) in ["availabilityOffline", "availabilityOnline"].iter().zip(&device.words) {
        if let Some(word) = word {
            let word = quoted(word);
            entries.push(format!("{key} = {word}  # as described for Home Assistant"));
        }
    }
    let names: Vec<String> =
        device.depends_on.iter().map(|bridge| quoted(bridge.as_str())).collect();
    match names.as_slice() {
        [] => {}
        [bridge] => {
            entries.push(format!("dependsOn = {bridge}  # no alarm of its own while that is gone"));
        }
        _ => entries.push(format!(
            "dependsOn = [{}]  # no alarm of its own while one of them is gone",
            names.join(", ")
        )),
    }
    if let Some(topic) = &device.hello {
        entries
            .push(format!("helloTopic = {}  # what it says after a start", quoted(topic.as_str())));
    }
    entries
}

/// Writes the topics of orders as comments. Only a person knows whether an order may be repeated
/// after each start, since it may itself be an order to start something.
fn orders(text: &mut String, orders: &[TopicName]) {
    if orders.is_empty() {
        return;
    }
    line(
        text,
        "# Topics on which it received commands. What it forgets at a start can be recorded and restored:",
    );
    let shown: Vec<String> =
        orders.iter().take(MOST_SHOWN).map(|topic| quoted(topic.as_str())).collect();
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

fn passed(seen: &Seen) -> String {
    let what = match (seen.live, seen.retained) {
        (0, true) => "retained".to_owned(),
        (0, false) => "announced but not heard".to_owned(),
        (1, _) => "1 message".to_owned(),
        (live, _) => {
            format!("{live} messages, at most {} apart", RoundedDuration(seen.longest_gap))
        }
    };
    format!("{}: {what}", plain(seen.topic.as_str()))
}

fn list(filters: &[TopicFilter]) -> String {
    let filters: Vec<String> = filters.iter().map(|filter| quoted(filter.as_str())).collect();
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
