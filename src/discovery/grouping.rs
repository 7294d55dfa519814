//! Groups topics into devices: each topic is claimed once, and all topics with the same owner are
//! one device.

use super::conventions::home_assistant::{About, Described};
use super::conventions::{Claim, Convention, Facts, Roots};
use super::naming::{self, UniqueNames};
use super::role::TopicRole;
use super::timeout::{self, Speaks, Timeout};
use super::traffic::Traffic;
use super::{filters, ownership};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A device as it may be written into a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDevice {
    pub name: DeviceName,
    pub convention: Convention,
    /// The maker and the model, where a description gives them.
    pub model: Option<String>,
    pub watch: Vec<TopicFilter>,
    pub hello: Option<TopicName>,
    pub availability: Option<TopicName>,
    /// The payloads for "gone" and for "there", where only a description names them.
    pub words: [Option<String>; 2],
    /// The topic of an availability that should raise no alarm, and the reason.
    pub unused_availability: Option<(TopicName, UnusedAvailability)>,
    /// The devices through which it is heard, as far as these are watched themselves.
    pub depends_on: Vec<DeviceName>,
    /// The topics on which others only set its values.
    pub orders: Vec<TopicName>,
    pub timeout: Timeout,
    /// Its own topics, those with the most messages first.
    pub seen: Vec<Seen>,
    pub standing: DeviceStanding,
}

/// The reason why an availability should not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnusedAvailability {
    /// The device reports itself as gone whenever it sleeps.
    Sleeps,
    /// Its payloads are not among those that the monitor knows.
    UnknownWords,
}

/// A topic and the messages on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub topic: TopicName,
    /// Whether a message on it is a sign of life, which `watch` matches.
    pub is_contact: bool,
    pub live: u32,
    pub longest_gap: Duration,
    pub retained: bool,
}

/// Whether there is a device to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceStanding {
    /// It published something, or its availability says that it is there.
    Heard,
    /// Its availability says that it is not there.
    Gone,
    /// It is known only from retained messages or from a description.
    Remembered,
}

/// The result of the discovery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovered {
    /// The devices, in the order of their topics within their conventions.
    pub devices: Vec<FoundDevice>,
    /// The number of devices that came past by chance, or whose identifier changes.
    pub passing: BTreeMap<Convention, usize>,
}

/// Names a device within its convention.
type Key = (Convention, String);

/// The facts that are the same for all devices.
struct GroupingContext<'a> {
    facts: Facts<'a>,
    described: &'a Described,
    listened: Duration,
}

struct TopicGroup<'a> {
    name: String,
    behind: BTreeSet<Key>,
    is_passing: bool,
    topics: Vec<(&'a TopicName, &'a Traffic, TopicRole)>,
    /// Those of `topics` on which it passes on messages of others.
    passed_on: BTreeSet<&'a TopicName>,
}

impl<'a> TopicGroup<'a> {
    fn in_role(
        &self,
        wanted: impl Fn(TopicRole) -> bool,
    ) -> impl Iterator<Item = (&'a TopicName, &'a Traffic)> {
        let topics = self.topics.iter().filter(move |(_, _, role)| wanted(*role));
        topics.map(|(topic, traffic, _)| (*topic, *traffic))
    }
}

/// Returns all devices, in the order of their names within their conventions.
pub fn found(
    facts: Facts<'_>,
    described: &Described,
    listened: Duration,
    taken: BTreeSet<String>,
) -> Discovered {
    let context = GroupingContext { facts, described, listened };
    let mut groups = groups(&context);
    let mut passing = BTreeMap::new();
    groups.retain(|(convention, _), group| {
        let is_described =
            || group.topics.iter().any(|(topic, ..)| described.owner(topic).is_some());
        let is_kept = !group.is_passing || is_described();
        if !is_kept {
            *passing.entry(*convention).or_default() += 1;
        }
        is_kept
    });
    let behind: Vec<BTreeSet<Key>> = groups.values().map(|group| group.behind.clone()).collect();
    let keys: Vec<Key> = groups.keys().cloned().collect();
    let drafts: Vec<Option<Draft>> = groups
        .into_iter()
        .map(|((convention, key), group)| draft(convention, &key, group, &context))
        .collect();
    let named = drafts.iter().zip(&keys).filter_map(|(draft, (convention, key))| {
        let path = if *convention == Convention::HomeAssistant { "" } else { key };
        draft.as_ref().map(|draft| (draft.name.clone(), path.to_owned()))
    });
    let mut wishes = naming::wishes(&named.collect::<Vec<_>>()).into_iter();
    let mut names = UniqueNames::new(taken);
    let mut devices: Vec<(FoundDevice, &BTreeSet<Key>)> = Vec::new();
    let mut heard: BTreeMap<&Key, DeviceName> = BTreeMap::new();
    for ((draft, key), behind) in drafts.into_iter().zip(&keys).zip(&behind) {
        let Some(draft) = draft else { continue };
        let name = names.give(&wishes.next().unwrap_or_default());
        let device = draft.named(key.0, name);
        // A device that is not watched cannot be a dependency.
        if device.standing == DeviceStanding::Heard {
            heard.insert(key, device.name.clone());
        }
        devices.push((device, behind));
    }
    let devices = devices.into_iter().map(|(device, behind)| {
        let depends_on = behind.iter().filter_map(|bridge| heard.get(bridge).cloned());
        FoundDevice {
            depends_on: depends_on.filter(|name| *name != device.name).collect(),
            ..device
        }
    });
    Discovered { devices: devices.collect(), passing }
}

fn groups<'a>(context: &GroupingContext<'a>) -> BTreeMap<Key, TopicGroup<'a>> {
    let (facts, described) = (context.facts, context.described);
    let roots = Roots::find(facts.topics);
    let mut groups: BTreeMap<Key, TopicGroup<'a>> = BTreeMap::new();
    let mut unclaimed = Vec::new();
    for (topic, traffic) in facts.topics.iter() {
        let stated = described.role(topic);
        if let Some((convention, claim)) = roots.claim(topic.as_str(), facts) {
            if claim.device.is_empty() {
                continue;
            }
            let role = claim.role.decided_by(stated);
            add_to_bridge(&mut groups, convention, &claim, topic, traffic);
            add(&mut groups, convention, Claim { role, ..claim }, topic, traffic);
        } else if let (Some((key, about)), Some(role)) = (described.owner(topic), stated) {
            add_described(&mut groups, key, about, role, topic, traffic);
        } else {
            unclaimed.push((topic, traffic));
        }
    }
    for (owner, role, topic, traffic) in ownership::of(&unclaimed, described) {
        match owner {
            ownership::TopicOwner::Described(key, about) => {
                add_described(&mut groups, key, about, role, topic, traffic);
            }
            ownership::TopicOwner::Shape { device, name } => {
                let claim = Claim::new(device, name, role);
                add(&mut groups, Convention::Shape, claim, topic, traffic);
            }
        }
    }
    groups
}

/// Counts a message that a gateway publishes for one of its devices as a sign of life of the
/// gateway, too.
fn add_to_bridge<'a>(
    groups: &mut BTreeMap<Key, TopicGroup<'a>>,
    convention: Convention,
    claim: &Claim,
    topic: &'a TopicName,
    traffic: &'a Traffic,
) {
    let speaks_itself = matches!(convention, Convention::SparkplugB | Convention::OpenMqttGateway);
    if let Some(bridge) =
        claim.behind.as_deref().filter(|_| speaks_itself && claim.role.is_contact())
    {
        let claim = Claim::of(bridge, TopicRole::Telemetry);
        add(groups, convention, claim, topic, traffic).passed_on.insert(topic);
    }
}

fn add_described<'a>(
    groups: &mut BTreeMap<Key, TopicGroup<'a>>,
    key: &str,
    about: &About,
    role: TopicRole,
    topic: &'a TopicName,
    traffic: &'a Traffic,
) {
    let claim = Claim::new(key, about.name.as_str(), role);
    let group = add(groups, Convention::HomeAssistant, claim, topic, traffic);
    if let Some(gateway) = &about.gateway {
        group.behind.insert((Convention::Shape, ownership::device_of(gateway)));
    }
}

fn add<'a, 'g>(
    groups: &'g mut BTreeMap<Key, TopicGroup<'a>>,
    convention: Convention,
    claim: Claim,
    topic: &'a TopicName,
    traffic: &'a Traffic,
) -> &'g mut TopicGroup<'a> {
    let Claim { device, name, role, behind, is_passing } = claim;
    let group = groups.entry((convention, device)).or_insert_with(|| TopicGroup {
        name,
        behind: BTreeSet::new(),
        is_passing,
        topics: Vec::new(),
        passed_on: BTreeSet::new(),
    });
    group.behind.extend(behind.map(|bridge| (convention, bridge)));
    group.topics.push((topic, traffic, role));
    group
}

/// A device without its name.
struct Draft {
    name: String,
    model: Option<String>,
    watch: Vec<TopicFilter>,
    hello: Option<TopicName>,
    availability: Option<TopicName>,
    words: [Option<String>; 2],
    unused_availability: Option<(TopicName, UnusedAvailability)>,
    orders: Vec<TopicName>,
    timeout: Timeout,
    seen: Vec<Seen>,
    standing: DeviceStanding,
}

impl Draft {
    fn named(self, convention: Convention, name: DeviceName) -> FoundDevice {
        let Self {
            name: _,
            model,
            watch,
            hello,
            availability,
            words,
            unused_availability,
            orders,
            timeout,
            seen,
            standing,
        } = self;
        FoundDevice {
            name,
            convention,
            model,
            watch,
            hello,
            availability,
            words,
            unused_availability,
            depends_on: Vec::new(),
            orders,
            timeout,
            seen,
            standing,
        }
    }
}

/// Returns `None` for a device that cannot be watched, because only orders to it were heard or
/// because its topics cannot be subscribed to.
fn draft(
    convention: Convention,
    key: &str,
    mut group: TopicGroup<'_>,
    context: &GroupingContext<'_>,
) -> Option<Draft> {
    group.topics.sort_by_key(|(topic, traffic, _)| (Reverse(traffic.live), *topic));
    let own = group.topics.iter().filter(|(topic, ..)| !group.passed_on.contains(topic));
    let about = own.filter_map(|(topic, ..)| context.described.owner(topic));
    let about: Vec<&About> = about.map(|(_, about)| about).collect();
    let is_availability = |role| role == TopicRole::Availability;
    let mut said = group.in_role(is_availability);
    let comes_and_goes = said.any(|(_, traffic)| traffic.came_back);
    let sleeps = comes_and_goes || convention.sleeps(key);
    let best =
        group.in_role(is_availability).max_by_key(|(_, said)| (said.here, Reverse(said.retained)));
    let says = best.and_then(|(_, said)| said.here);
    let words = about.iter().find(|about| about.words.iter().any(Option::is_some));
    let words = words.map_or([None, None], |about| about.words.clone());
    // A retained payload that the monitor does not know is taken for one that a description names.
    let unknown_words = best.is_some_and(|(_, said)| said.passed() && said.here.is_none())
        && words.iter().all(Option::is_none);
    let availability = best.map(|(topic, _)| topic.clone()).or_else(|| convention.will(key));
    let availability = availability.as_ref().and_then(usable);
    let (availability, unused_availability) = match availability {
        Some(topic) if sleeps => (None, Some((topic, UnusedAvailability::Sleeps))),
        Some(topic) if unknown_words => (None, Some((topic, UnusedAvailability::UnknownWords))),
        availability => (availability, None),
    };
    let hello = group
        .in_role(|role| role == TopicRole::Hello)
        .map(|(topic, _)| topic)
        .next()
        .and_then(usable);
    let watch = watch(convention, key, &group, context, availability.is_some());
    if watch.is_empty() && availability.is_none() && hello.is_none() {
        return None;
    }
    let contacts = group.topics.iter().filter(|(_, _, role)| role.is_contact());
    let timeout = timeout::timeout(
        contacts.map(|(_, traffic, role)| (*traffic, *role)),
        context.listened,
        convention.silence(key, context.facts),
        about.iter().filter_map(|about| about.expires_after).max(),
        match convention.reports(key) {
            _ if sleeps => Speaks::WhenAwake,
            Some(why) => Speaks::ByItself(why),
            None => Speaks::AsHeard,
        },
    );
    let orders = group.in_role(|role| role == TopicRole::Order);
    let orders = orders.filter(|(_, traffic)| traffic.live > 0 && !traffic.does);
    // An address serves as the name only where there is no better one.
    let described = about.iter().map(|about| about.name.as_str()).find(|name| !name.is_empty());
    let name = if group.is_passing
        || convention == Convention::OpenMqttGateway && key.contains("toMQTT/")
    {
        described.map_or(group.name.clone(), str::to_owned)
    } else {
        group.name.clone()
    };
    Some(Draft {
        name,
        model: about.iter().find_map(|about| about.model.clone()),
        watch,
        hello,
        words: if availability.is_some() { words } else { [None, None] },
        availability,
        unused_availability,
        orders: orders.map(|(topic, _)| topic.clone()).collect(),
        timeout,
        standing: standing(&group, says),
        seen: group.topics.iter().filter(|(_, _, role)| !role.is_said_to_it()).map(seen).collect(),
    })
}

fn watch(
    convention: Convention,
    key: &str,
    group: &TopicGroup<'_>,
    context: &GroupingContext<'_>,
    has_availability: bool,
) -> Vec<TopicFilter> {
    let contacts: Vec<&TopicName> =
        group.in_role(TopicRole::is_contact).map(|(topic, _)| topic).collect();
    // A will that is configured as the availability is not a contact; any other will would be.
    let is_other = |role: TopicRole| {
        !role.is_contact()
            && role != TopicRole::Hello
            && !(role == TopicRole::Availability && has_availability)
    };
    let others: Vec<&TopicName> = group
        .in_role(|role| is_other(role) && role != TopicRole::Description)
        .map(|(topic, _)| topic)
        .collect();
    match convention {
        Convention::Shape => {
            let own = group.topics.iter().filter(|(_, _, role)| !is_other(*role));
            filters::by_shape(
                &contacts,
                &own.map(|(topic, ..)| *topic).collect(),
                context.facts.topics,
            )
        }
        convention => {
            let patterns = convention.filters(key, &contacts);
            filters::by_convention(patterns, convention.narrow(key), &contacts, &others)
        }
    }
}

fn standing(group: &TopicGroup<'_>, says: Option<bool>) -> DeviceStanding {
    let spoke = group
        .in_role(|role| role.is_contact() || role == TopicRole::Hello)
        .any(|(_, traffic)| traffic.live > 0);
    match says {
        _ if spoke => DeviceStanding::Heard,
        Some(true) => DeviceStanding::Heard,
        Some(false) => DeviceStanding::Gone,
        None => DeviceStanding::Remembered,
    }
}

fn seen((topic, traffic, role): &(&TopicName, &Traffic, TopicRole)) -> Seen {
    let Traffic { live, longest_gap, retained, .. } = **traffic;
    Seen { topic: (*topic).clone(), is_contact: role.is_contact(), live, longest_gap, retained }
}

/// Returns the topic unless it looks like a shared subscription and cannot be subscribed to.
fn usable(topic: &TopicName) -> Option<TopicName> {
    topic.as_filter().map(|_| topic.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Observation;
    use crate::discovery::conventions::zigbee2mqtt::Roster;
    use crate::discovery::traffic::Topics;

    /// Returns how many topics are looked at for this number of devices.
    fn steps(devices: u64, topics_of: fn(u64) -> [String; 3]) -> u64 {
        let mut topics = Topics::default();
        for topic in (0..devices).flat_map(topics_of) {
            let topic = TopicName::new(topic).unwrap();
            let at = Duration::from_secs(1);
            let observation = Observation { topic: &topic, payload: b"1", retained: false, at };
            topics.note(&observation);
            topics.enter(&observation);
        }
        let (described, roster) = (Described::default(), Roster::default());
        let facts = Facts { topics: &topics, roster: &roster };
        let found = found(facts, &described, Duration::from_secs(120), BTreeSet::new());
        assert_eq!(found.devices.len() as u64, devices);
        topics.steps.get()
    }

    #[test]
    fn twice_as_many_devices_of_one_kind_cost_twice_as_much() {
        let by_shape = |number| {
            ["temperature", "humidity", "pressure"]
                .map(|what| format!("home/{number}/node/sensor/{what}"))
        };
        let by_convention =
            |number| ["SENSOR", "STATE", "LWT"].map(|what| format!("tele/{number}/node/{what}"));
        let named =
            |number| ["a", "b", "hello"].map(|what| format!("{number}/lamp/sensors/{what}"));
        for topics_of in [by_shape, by_convention, named] {
            let (few, many) = (steps(200, topics_of), steps(2_000, topics_of));
            assert!(many <= few * 11, "{few} for 200, {many} for 2000");
        }
    }
}
