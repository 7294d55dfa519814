//! Finds the owners of the topics that no convention and no description names.
//!
//! A device with a birth message and a will owns everything below its prefix. Elsewhere, the levels
//! before the name of a reading name the device. Where none of several neighbouring topics names a
//! reading, each is a device of its own, because one must not hide the death of its neighbour.

use super::content;
use super::conventions::home_assistant::{About, Described};
use super::role::TopicRole;
use super::shape;
use super::traffic::Traffic;
use iotmonitor_core::topic::TopicName;
use std::collections::{BTreeMap, BTreeSet};

/// The owner of a topic.
#[derive(Debug, Clone)]
pub enum TopicOwner<'a> {
    /// A device that a description names, by its key.
    Described(&'a str, &'a About),
    Shape {
        device: String,
        name: String,
    },
}

type Unclaimed<'a> = (&'a TopicName, &'a Traffic);

/// Returns the device to which the availability of a gateway belongs.
pub fn device_of(availability: &str) -> String {
    let levels: Vec<&str> = availability.split('/').collect();
    levels[..shape::device_levels(&levels, false)].join("/")
}

/// Returns the owner and the role of each topic.
pub fn of<'a>(
    unclaimed: &[Unclaimed<'a>],
    described: &'a Described,
) -> Vec<(TopicOwner<'a>, TopicRole, &'a TopicName, &'a Traffic)> {
    let prefixes = described_prefixes(described);
    let classified: Vec<(Vec<&str>, TopicRole)> = unclaimed
        .iter()
        .map(|(topic, traffic)| {
            let levels: Vec<&str> = topic.as_str().split('/').collect();
            let role = role(&levels, traffic);
            (levels, role)
        })
        .collect();
    let wills = classified.iter().filter(|(_, role)| *role == TopicRole::Availability);
    let wills: BTreeSet<String> = wills
        .map(|(levels, _)| levels[..levels.len() - 1].join("/"))
        .filter(|it| !it.is_empty())
        .collect();
    let parents = parents(&classified);
    let firsts: Vec<String> = unclaimed
        .iter()
        .zip(&classified)
        .map(|((_, traffic), (levels, role))| first_owner(levels, *role, traffic, &wills, &parents))
        .collect();
    let said = unclaimed.iter().zip(&classified).zip(&firsts);
    let said: BTreeMap<&str, (&str, TopicRole)> = said
        .map(|(((topic, _), (_, role)), owner)| (topic.as_str(), (owner.as_str(), *role)))
        .collect();
    let speak = said.values().filter(|(_, role)| !role.is_said_to_it());
    let devices: BTreeSet<&str> = speak.map(|(owner, _)| *owner).collect();
    unclaimed
        .iter()
        .filter_map(|(topic, traffic)| {
            let (owner, role) = *said.get(topic.as_str())?;
            if let Some((key, about)) =
                above(topic.as_str(), |prefix| prefixes.get(prefix).copied())
            {
                return Some((TopicOwner::Described(key, about), role, *topic, *traffic));
            }
            // `home/lamp` beside `home/lamp/power` belongs to the device `home/lamp` and not to
            // `home`, and `home/lamp/power/set` is sent to the device that publishes
            // `home/lamp/power`.
            let device = if devices.contains(topic.as_str()) {
                topic.as_str()
            } else if role.is_said_to_it() {
                said.get(shape::answer(topic.as_str())).map_or(owner, |(owner, _)| *owner)
            } else {
                owner
            };
            let name = shape::name(device).to_owned();
            Some((TopicOwner::Shape { device: device.to_owned(), name }, role, *topic, *traffic))
        })
        .collect()
}

/// Returns the levels before each availability that was described for a single device.
fn described_prefixes(described: &Described) -> BTreeMap<&str, (&str, &About)> {
    let mut prefixes: BTreeMap<&str, Option<(&str, &About)>> = BTreeMap::new();
    for (topic, key) in described.availabilities() {
        let Some((prefix, _)) = topic.rsplit_once('/') else { continue };
        let about = TopicName::new(topic)
            .ok()
            .and_then(|topic| described.owner(&topic).map(|(_, about)| about));
        let owner = about.map(|about| (key, about));
        let before = prefixes.entry(prefix).or_insert(owner);
        if before.is_some_and(|(before, _)| before != key) {
            *before = None;
        }
    }
    prefixes.into_iter().filter_map(|(prefix, owner)| Some((prefix, owner?))).collect()
}

/// Returns what `find` returns for the longest possible levels above a topic.
fn above<'a, T>(topic: &'a str, find: impl Fn(&'a str) -> Option<T>) -> Option<T> {
    topic.rmatch_indices('/').find_map(|(end, _)| find(&topic[..end]))
}

/// Returns the levels that name a device, because a topic right below them names a reading or a
/// kind of message.
fn parents(classified: &[(Vec<&str>, TopicRole)]) -> BTreeSet<String> {
    classified
        .iter()
        .filter(|(levels, _)| levels.last().is_some_and(|last| shape::is_of_a_device(last)))
        .map(|(levels, _)| levels[..levels.len() - 1].join("/"))
        .collect()
}

fn first_owner(
    levels: &[&str],
    role: TopicRole,
    traffic: &Traffic,
    wills: &BTreeSet<String>,
    parents: &BTreeSet<String>,
) -> String {
    let topic = levels.join("/");
    if let Some(prefix) = above(&topic, |prefix| wills.contains(prefix).then(|| prefix.to_owned()))
    {
        return prefix;
    }
    let count = shape::device_levels(levels, traffic.content.object);
    let owner = levels[..count].join("/");
    let is_alone = count + 1 == levels.len()
        && !role.is_said_to_it()
        && !parents.contains(&owner)
        && levels.last().is_some_and(|last| !shape::is_of_a_device(last));
    if is_alone { topic } else { owner }
}

fn role(levels: &[&str], traffic: &Traffic) -> TopicRole {
    let last = levels.last().copied().unwrap_or_default();
    if shape::is_request(levels) {
        TopicRole::Request
    } else if shape::is_order(levels) || traffic.is_answered() {
        TopicRole::Order
    } else if shape::is_log(levels) {
        TopicRole::Log
    } else if shape::is_hello(levels) {
        TopicRole::Hello
    } else if shape::is_availability(levels) && traffic.in_words {
        TopicRole::Availability
    } else {
        by_content(last, traffic)
    }
}

fn by_content(last: &str, traffic: &Traffic) -> TopicRole {
    let content = traffic.content;
    if content.measures {
        TopicRole::Telemetry
    } else if content::is_event(last) || (content.events && !content.states) {
        TopicRole::Event
    } else if (content.states || content.word) && !content.number {
        TopicRole::State
    } else {
        TopicRole::Telemetry
    }
}
