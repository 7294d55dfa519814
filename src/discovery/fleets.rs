//! Finds devices of one shape: their sections would differ in the name only, so that one section of
//! a fleet describes all of them.

use super::conventions::Convention;
use super::grouping::{DeviceStanding, FoundDevice, UnusedAvailability};
use super::naming::UniqueNames;
use super::timeout::{HeardRhythm, Timeout};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::fleet::PLACEHOLDER;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Fewer devices than this stay sections of their own, which are easier to read.
const FEWEST: usize = 5;

/// One section of the draft.
#[derive(Debug)]
pub enum DraftSection<'a> {
    Device(&'a FoundDevice),
    Fleet(Box<FoundFleet<'a>>),
}

/// Devices of one shape.
#[derive(Debug)]
pub struct FoundFleet<'a> {
    pub name: DeviceName,
    pub shape: DeviceShape<'a>,
    /// What was heard of all of them together.
    pub timeout: Timeout,
    /// The topics of orders of any of them.
    pub orders: BTreeSet<String>,
    pub members: Vec<&'a FoundDevice>,
}

/// What the section of a device says besides its name, with the placeholder in its topics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceShape<'a> {
    pub convention: Convention,
    pub watch: Vec<String>,
    pub hello: Option<String>,
    pub availability: Option<String>,
    pub words: &'a [Option<String>; 2],
    pub unused_availability: Option<(String, UnusedAvailability)>,
    pub depends_on: &'a [DeviceName],
    timeout: WrittenTimeout,
}

/// The value of `watchTimeOut`, and the reason where that is the same for all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum WrittenTimeout {
    Auto,
    Lasts(Duration, &'static str),
    Never(&'static str),
}

/// Returns the sections of the draft, each fleet at the place of its first member.
pub fn sections(devices: &[FoundDevice]) -> Vec<DraftSection<'_>> {
    let mut shapes: BTreeMap<DeviceShape<'_>, Vec<&FoundDevice>> = BTreeMap::new();
    for device in devices {
        if let Some(shape) = shape(device) {
            shapes.entry(shape).or_default().push(device);
        }
    }
    shapes.retain(|_, members| members.len() >= FEWEST);
    let mut fleets: BTreeMap<&DeviceName, (DeviceShape<'_>, Vec<&FoundDevice>)> =
        shapes.into_iter().map(|(shape, members)| (&members[0].name, (shape, members))).collect();
    let in_fleets: BTreeSet<&DeviceName> = fleets
        .values()
        .flat_map(|(_, members)| members.iter().map(|member| &member.name))
        .collect();
    let mut names = UniqueNames::new(BTreeSet::new());
    let mut sections = Vec::new();
    for device in devices {
        if let Some((shape, members)) = fleets.remove(&device.name) {
            let fleet = fleet(names.give(&label(&shape)), shape, members);
            sections.push(DraftSection::Fleet(Box::new(fleet)));
        } else if !in_fleets.contains(&device.name) {
            sections.push(DraftSection::Device(device));
        }
    }
    sections
}

fn fleet<'a>(
    name: DeviceName,
    shape: DeviceShape<'a>,
    members: Vec<&'a FoundDevice>,
) -> FoundFleet<'a> {
    let timeout = members.iter().map(|member| member.timeout).reduce(together);
    let orders = members.iter().flat_map(|member| {
        member.orders.iter().filter_map(|topic| template(topic.as_str(), &member.name))
    });
    FoundFleet {
        name,
        timeout: timeout.unwrap_or(Timeout::Auto(HeardRhythm::TooLittle)),
        orders: orders.collect(),
        shape,
        members,
    }
}

/// The shape of a device that may be a member. Each of its topics contains its name as a level.
fn shape(device: &FoundDevice) -> Option<DeviceShape<'_>> {
    // What is only commented out needs a comment of its own.
    if device.standing != DeviceStanding::Heard {
        return None;
    }
    let name = &device.name;
    let of = |topic: &str| template(topic, name);
    let watch: Option<Vec<String>> =
        device.watch.iter().map(|filter| of(filter.as_str())).collect();
    let hello = match &device.hello {
        Some(topic) => Some(of(topic.as_str())?),
        None => None,
    };
    let availability = match &device.availability {
        Some(topic) => Some(of(topic.as_str())?),
        None => None,
    };
    let unused_availability = match &device.unused_availability {
        Some((topic, why)) => Some((of(topic.as_str())?, *why)),
        None => None,
    };
    let has_topics = !device.watch.is_empty() || hello.is_some() || availability.is_some();
    has_topics.then_some(DeviceShape {
        convention: device.convention,
        watch: watch?,
        hello,
        availability,
        words: &device.words,
        unused_availability,
        depends_on: &device.depends_on,
        timeout: match device.timeout {
            Timeout::Auto(_) => WrittenTimeout::Auto,
            Timeout::Lasts(span, why) => WrittenTimeout::Lasts(span, why),
            Timeout::Never(why) => WrittenTimeout::Never(why),
        },
    })
}

/// The topic with the placeholder in place of each level that is the name; `None` where no level is,
/// or where the topic contains what a fleet would replace.
fn template(topic: &str, name: &DeviceName) -> Option<String> {
    if topic.contains(['{', '}']) || !topic.split('/').any(|level| level == name.as_str()) {
        return None;
    }
    let levels =
        topic.split('/').map(|level| if level == name.as_str() { PLACEHOLDER } else { level });
    Some(levels.collect::<Vec<_>>().join("/"))
}

/// What is known of two members together. Both have the same value of `watchTimeOut`.
fn together(one: Timeout, other: Timeout) -> Timeout {
    use HeardRhythm::{Expected, Intervals, TooLittle};
    let (Timeout::Auto(one), Timeout::Auto(other)) = (one, other) else { return one };
    Timeout::Auto(match (one, other) {
        (
            Intervals { longest, intervals },
            Intervals { longest: other_longest, intervals: other_intervals },
        ) => Intervals {
            longest: longest.max(other_longest),
            intervals: intervals.saturating_add(other_intervals),
        },
        (known @ Intervals { .. }, _) | (_, known @ Intervals { .. }) => known,
        (known @ Expected(_), _) | (_, known @ Expected(_)) => known,
        (TooLittle, TooLittle) => TooLittle,
    })
}

/// What a fleet is called: by its convention, or by the first level that its topics have in common.
fn label(shape: &DeviceShape<'_>) -> String {
    if shape.convention != Convention::Shape {
        return shape.convention.to_string().to_lowercase();
    }
    let topic = shape.watch.first().or(shape.hello.as_ref()).or(shape.availability.as_ref());
    let levels = topic.into_iter().flat_map(|topic| topic.split('/'));
    let mut literal = levels.filter(|level| !["", "+", "#", PLACEHOLDER].contains(level));
    literal.next().unwrap_or("devices").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::topic::{TopicFilter, TopicName};

    fn device(name: &str, topic: &str) -> FoundDevice {
        FoundDevice {
            name: DeviceName::new(name).unwrap(),
            convention: Convention::Shape,
            model: None,
            watch: vec![TopicFilter::new(topic).unwrap()],
            hello: None,
            availability: None,
            words: [None, None],
            unused_availability: None,
            depends_on: Vec::new(),
            orders: Vec::new(),
            timeout: Timeout::Auto(HeardRhythm::TooLittle),
            seen: Vec::new(),
            standing: DeviceStanding::Heard,
        }
    }

    fn five() -> Vec<FoundDevice> {
        ["a", "b", "c", "d", "e"].map(|name| device(name, &format!("home/{name}/#"))).into()
    }

    /// The names of the sections, with the number of members of fleets.
    fn drafted(devices: &[FoundDevice]) -> Vec<String> {
        let drafted = |section| match section {
            DraftSection::Device(device) => device.name.to_string(),
            DraftSection::Fleet(fleet) => format!("{} × {}", fleet.name, fleet.members.len()),
        };
        sections(devices).into_iter().map(drafted).collect()
    }

    #[test]
    fn five_devices_of_one_shape_are_a_fleet() {
        let mut devices = five();
        assert_eq!(drafted(&devices), ["home × 5"]);
        devices.pop();
        assert_eq!(drafted(&devices), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_device_that_differs_in_anything_is_left_out() {
        let changes: [fn(&mut FoundDevice); 9] = [
            |device| device.convention = Convention::Tasmota,
            |device| device.watch.push(TopicFilter::new("away/e").unwrap()),
            |device| device.hello = Some(TopicName::new("home/e").unwrap()),
            |device| device.availability = Some(TopicName::new("home/e/online").unwrap()),
            |device| device.words[0] = Some("gone".to_owned()),
            |device| {
                let topic = TopicName::new("home/e/online").unwrap();
                device.unused_availability = Some((topic, UnusedAvailability::Sleeps));
            },
            |device| device.depends_on = vec![DeviceName::new("gateway").unwrap()],
            |device| device.timeout = Timeout::Never("it sleeps"),
            |device| device.standing = DeviceStanding::Gone,
        ];
        for change in changes {
            let mut devices = five();
            change(&mut devices[4]);
            assert_eq!(drafted(&devices).len(), 5, "{:?}", devices[4]);
        }
    }

    #[test]
    fn a_topic_without_the_name_and_one_with_braces_belong_to_no_fleet() {
        for topic in ["home/all/#", "home/xe/#", "home/e/{id}/#", "home/{name}/e"] {
            let mut devices = five();
            devices[4] = device("e", topic);
            assert_eq!(drafted(&devices), ["a", "b", "c", "d", "e"], "{topic}");
        }
    }

    #[test]
    fn a_fleet_is_where_its_first_member_was_and_each_has_a_name_of_its_own() {
        let mut devices = vec![device("first", "home/first/+")];
        devices.extend(five());
        devices.push(device("last", "home/last/+"));
        let others = ["v", "w", "x", "y", "z"].map(|name| device(name, &format!("home/{name}")));
        devices.extend(others);
        assert_eq!(drafted(&devices), ["first", "home × 5", "last", "home-2 × 5"]);
    }

    #[test]
    fn what_was_heard_of_all_is_said_together() {
        let mut devices = five();
        let heard = |longest, intervals| {
            Timeout::Auto(HeardRhythm::Intervals {
                longest: Duration::from_secs(longest),
                intervals,
            })
        };
        (devices[1].timeout, devices[3].timeout) = (heard(10, 4), heard(30, 3));
        devices[2].orders.push(TopicName::new("home/c/set").unwrap());
        let [DraftSection::Fleet(fleet)] = &sections(&devices)[..] else { panic!("no fleet") };
        assert_eq!(fleet.timeout, heard(30, 7));
        assert_eq!(fleet.orders, BTreeSet::from(["home/{name}/set".to_owned()]));
        assert_eq!(fleet.shape.watch, ["home/{name}/#"]);
    }
}
