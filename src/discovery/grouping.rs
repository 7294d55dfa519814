//! Topics become devices: each topic is claimed once, and what has the same owner is one device.

use super::conventions::{Claim, Convention, Role, Roots, home_assistant, zigbee2mqtt};
use super::naming::UniqueNames;
use super::rhythm::{self, Timeout};
use super::traffic::{Topics, Traffic};
use super::{filters, shape};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A device as it may stand in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDevice {
    pub name: DeviceName,
    pub convention: Convention,
    /// Maker and model, where it was told.
    pub model: Option<String>,
    pub watch: Vec<TopicFilter>,
    pub hello: Option<TopicName>,
    pub availability: Option<TopicName>,
    /// The bridge by whose way it is heard, where that is watched itself.
    pub depends_on: Option<DeviceName>,
    /// Where others told it what to do.
    pub orders: Vec<TopicName>,
    pub timeout: Timeout,
    /// Its own topics, the liveliest first.
    pub seen: Vec<Seen>,
    pub standing: DeviceStanding,
}

/// A topic and what passed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub topic: TopicName,
    /// Whether a message on it is a sign of life, which `watch` takes.
    pub is_contact: bool,
    pub live: u32,
    pub longest_gap: Duration,
    pub retained: bool,
}

/// Whether there is anybody to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceStanding {
    /// It spoke, or its availability says that it is there.
    Heard,
    /// Its availability says that it is not there.
    Gone,
    /// Only what the broker retained, or a description.
    Remembered,
}

/// What all devices are seen against.
struct GroupingContext<'a> {
    topics: &'a Topics,
    described: &'a home_assistant::Described,
    listened: Duration,
}

struct Group<'a> {
    convention: Convention,
    name: String,
    bridge: Option<String>,
    topics: Vec<(&'a TopicName, &'a Traffic, Role)>,
}

impl<'a> Group<'a> {
    fn in_role(&self, wanted: Role) -> impl Iterator<Item = (&'a TopicName, &'a Traffic)> {
        let topics = self.topics.iter().filter(move |(_, _, role)| *role == wanted);
        topics.map(|(topic, traffic, _)| (*topic, *traffic))
    }
}

/// All devices, in the order of their names within their conventions.
pub fn devices(
    topics: &Topics,
    described: &home_assistant::Described,
    roster: &zigbee2mqtt::Roster,
    listened: Duration,
    taken: BTreeSet<String>,
) -> Vec<FoundDevice> {
    let context = GroupingContext { topics, described, listened };
    let mut names = UniqueNames::new(taken);
    let groups = groups(topics, described, roster).into_iter();
    let mut bridges = BTreeMap::new();
    let found = groups.filter_map(|((convention, key), group)| {
        let bridge = group.bridge.clone().map(|bridge| (convention, bridge));
        let device = device(&key, group, &context, &mut names)?;
        bridges.extend(bridge.map(|bridge| (device.name.clone(), bridge)));
        Some(((convention, key), device))
    });
    let mut found: BTreeMap<(Convention, String), FoundDevice> = found.collect();
    // Who is not watched can be nobody's way.
    let heard = found.iter().filter(|(_, device)| device.standing == DeviceStanding::Heard);
    let heard: BTreeMap<(Convention, String), DeviceName> =
        heard.map(|(owner, device)| (owner.clone(), device.name.clone())).collect();
    for device in found.values_mut() {
        let bridge = bridges.get(&device.name).and_then(|bridge| heard.get(bridge));
        device.depends_on = bridge.cloned();
    }
    found.into_values().collect()
}

fn groups<'a>(
    topics: &'a Topics,
    described: &home_assistant::Described,
    roster: &zigbee2mqtt::Roster,
) -> BTreeMap<(Convention, String), Group<'a>> {
    let roots = Roots::find(topics);
    let mut groups: BTreeMap<(Convention, String), Group<'a>> = BTreeMap::new();
    let mut unclaimed = Vec::new();
    for (topic, traffic) in topics.iter() {
        match roots.claim(topic.as_str(), described, roster) {
            Some(claim) if claim.role == Role::Description => {}
            Some(claim) => {
                let bridge = roots.bridge(&claim, topic.as_str());
                add(&mut groups, claim, topic, traffic).bridge = bridge;
            }
            None => unclaimed.push((topic, traffic)),
        }
    }
    for (claim, topic, traffic) in by_shape(&unclaimed) {
        add(&mut groups, claim, topic, traffic);
    }
    groups
}

/// Whose the topics are that no convention knows.
fn by_shape<'a>(
    unclaimed: &[(&'a TopicName, &'a Traffic)],
) -> Vec<(Claim, &'a TopicName, &'a Traffic)> {
    let said = unclaimed.iter().map(|(topic, traffic)| {
        let levels: Vec<&str> = topic.as_str().split('/').collect();
        let owner = levels[..shape::device_levels(&levels, traffic.object)].join("/");
        (topic.as_str(), (owner, role_by_shape(&levels, traffic)))
    });
    let said: BTreeMap<&str, (String, Role)> = said.collect();
    let speak = said.values().filter(|(_, role)| *role != Role::Order);
    let devices: BTreeSet<&str> = speak.map(|(owner, _)| owner.as_str()).collect();
    // `home/lamp` beside `home/lamp/power` is that device's, and not one of `home`; and
    // `home/lamp/power/set` is said to whoever says `home/lamp/power`.
    let owner = |topic: &str, (owner, role): &(String, Role)| match role {
        _ if devices.contains(topic) => topic.to_owned(),
        Role::Order => said.get(shape::answer(topic)).map_or(owner, |(owner, _)| owner).clone(),
        _ => owner.clone(),
    };
    let claims = unclaimed.iter().filter_map(|(topic, traffic)| {
        let told = said.get(topic.as_str())?;
        let device = owner(topic.as_str(), told);
        let name = shape::name(&device).to_owned();
        let claim = Claim { convention: Convention::Shape, device, name, role: told.1 };
        Some((claim, *topic, *traffic))
    });
    claims.collect()
}

fn add<'a, 'g>(
    groups: &'g mut BTreeMap<(Convention, String), Group<'a>>,
    claim: Claim,
    topic: &'a TopicName,
    traffic: &'a Traffic,
) -> &'g mut Group<'a> {
    let Claim { convention, device, name, role } = claim;
    let group = groups.entry((convention, device));
    let group =
        group.or_insert_with(|| Group { convention, name, bridge: None, topics: Vec::new() });
    group.topics.push((topic, traffic, role));
    group
}

fn role_by_shape(levels: &[&str], traffic: &Traffic) -> Role {
    if shape::is_order(levels) {
        Role::Order
    } else if shape::is_hello(levels) {
        Role::Hello
    } else if shape::is_availability(levels) && traffic.in_words {
        Role::Availability
    } else {
        Role::Contact
    }
}

/// `None` for what cannot be watched: of which only orders passed, or whose topics nobody may
/// subscribe to.
fn device(
    key: &str,
    mut group: Group<'_>,
    context: &GroupingContext<'_>,
    names: &mut UniqueNames,
) -> Option<FoundDevice> {
    group.topics.sort_by_key(|(topic, traffic, _)| (Reverse(traffic.live), *topic));
    let topics = |wanted| group.in_role(wanted).map(|(topic, _)| topic);
    let availability =
        group.in_role(Role::Availability).max_by_key(|(_, said)| said.here.is_some());
    let (hello, says) = (topics(Role::Hello).next(), availability.and_then(|(_, said)| said.here));
    let availability = availability.and_then(|(topic, _)| usable(topic));
    let hello = hello.and_then(usable);
    let watch = watch(key, &group, context.topics);
    if watch.is_empty() && availability.is_none() && hello.is_none() {
        return None;
    }
    let about =
        || group.topics.iter().filter_map(|(topic, _, _)| context.described.about(topic.as_str()));
    let timeout = rhythm::timeout(
        group.in_role(Role::Contact).map(|(_, traffic)| traffic),
        context.listened,
        group.convention,
        about().filter_map(|about| about.expires_after).max(),
    );
    Some(FoundDevice {
        name: names.give(&group.name),
        convention: group.convention,
        model: about().find_map(|about| about.model.clone()),
        watch,
        hello,
        availability,
        depends_on: None,
        orders: topics(Role::Order).cloned().collect(),
        timeout,
        standing: standing(&group, says),
        seen: group.topics.iter().filter(|(_, _, role)| *role != Role::Order).map(seen).collect(),
    })
}

fn watch(key: &str, group: &Group<'_>, topics: &Topics) -> Vec<TopicFilter> {
    let contacts: Vec<&TopicName> = group.in_role(Role::Contact).map(|(topic, _)| topic).collect();
    match group.convention {
        Convention::Shape => {
            let own = group.topics.iter().filter(|(_, _, role)| *role != Role::Order);
            filters::by_shape(&contacts, &own.map(|(topic, _, _)| *topic).collect(), topics)
        }
        convention => filters::by_convention(convention.patterns(key, &contacts), &contacts),
    }
}

fn standing(group: &Group<'_>, says: Option<bool>) -> DeviceStanding {
    let spoke = [Role::Contact, Role::Hello];
    let spoke =
        spoke.into_iter().any(|role| group.in_role(role).any(|(_, traffic)| traffic.live > 0));
    match says {
        _ if spoke => DeviceStanding::Heard,
        Some(true) => DeviceStanding::Heard,
        Some(false) => DeviceStanding::Gone,
        None => DeviceStanding::Remembered,
    }
}

fn seen((topic, traffic, role): &(&TopicName, &Traffic, Role)) -> Seen {
    let Traffic { live, longest_gap, retained, .. } = **traffic;
    Seen {
        topic: (*topic).clone(),
        is_contact: *role == Role::Contact,
        live,
        longest_gap,
        retained,
    }
}

/// What only looks like a shared subscription cannot be subscribed.
fn usable(topic: &TopicName) -> Option<TopicName> {
    topic.as_filter().map(|_| topic.clone())
}
