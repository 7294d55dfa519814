//! The members of fleets whose names are learned: devices of one shape, which become known when they
//! are first heard.
//!
//! A fleet whose names are listed in the configuration needs no type, because each of its members
//! is a device of the configuration like any other.

use crate::model::device_name::DeviceName;
use crate::model::sparkplug::topics_beside;
use crate::model::spec::{DeviceSpec, FleetSpec};
use crate::topic::{TopicFilter, TopicName};
use std::collections::BTreeSet;

/// The topic level of a fleet at which a member's topic contains the member's name. It is a legal
/// level of a topic and a legal device name, so that a template is a device like any other.
pub const PLACEHOLDER: &str = "{name}";

/// The number of members that a fleet learns unless the configuration contains another number.
pub const DEFAULT_MAX_DEVICES: usize = 1_000;

/// The longest name that can be learned, in bytes. Anybody who may publish can choose a name, and
/// each one is stored. The configuration is checked to be valid for a name of this length.
pub const LONGEST_LEARNED_NAME: usize = 255;

/// The topics on which members of a fleet are heard, with [`PLACEHOLDER`] in place of the name.
#[derive(Debug, Clone)]
pub struct HeardTopics(Vec<String>);

impl HeardTopics {
    /// Returns the name that a topic contains, if it is one of these. The name is what was sent, and
    /// need not be a device name. No memory is allocated.
    #[must_use]
    pub fn name_in<'t>(&self, topic: &'t TopicName) -> Option<&'t str> {
        self.0.iter().find_map(|template| name_by(template, topic.as_str()))
    }

    /// Returns the filters for them, each once, with `+` in place of the name.
    #[must_use]
    pub fn filters(&self) -> Vec<TopicFilter> {
        of_any(self.0.iter().map(String::as_str))
    }
}

impl FleetSpec {
    /// Returns the topics on which a member shows that it exists. State topics are not among them: a
    /// person who publishes an order for a device that does not exist must not create it.
    #[must_use]
    pub fn heard_on(&self) -> HeardTopics {
        let has_name = |topic: &String| topic.split('/').any(|level| level == PLACEHOLDER);
        HeardTopics(self.contact_topics().filter(has_name).collect())
    }

    /// Returns whether members report on this topic, as it is written in the configuration, whether
    /// they are there.
    #[must_use]
    pub fn reports_on(&self, topic: &TopicName) -> bool {
        let reports = self.template.availability.iter();
        reports.map(TopicName::as_str).any(|report| name_by(report, topic.as_str()).is_some())
    }

    /// Returns whether the configuration excludes this name.
    #[must_use]
    pub fn ignores(&self, name: &str) -> bool {
        self.ignore.iter().any(|pattern| pattern.matches(name))
    }

    /// Returns whether states of any member are recorded.
    #[must_use]
    pub fn records_states(&self) -> bool {
        let exceptions = self.exceptions.values();
        exceptions.chain([&self.template]).any(|member| !member.state.is_empty())
    }

    /// Returns the member of this name. A topic that the name would make invalid is left out, which
    /// happens to no name of at most [`LONGEST_LEARNED_NAME`] bytes.
    #[must_use]
    pub fn member(&self, name: &DeviceName) -> DeviceSpec {
        if let Some(exception) = self.exceptions.get(name) {
            return exception.clone();
        }
        let filters = |filters: &[TopicFilter]| {
            filters.iter().filter_map(|filter| with_name(filter.as_str(), name.as_str())).collect()
        };
        let topics = |topics: &[TopicName]| {
            let filled = topics.iter().map(|topic| filled(topic.as_str(), name.as_str()));
            filled.filter_map(|topic| TopicName::new(topic).ok()).collect()
        };
        DeviceSpec {
            name: name.clone(),
            watch: filters(&self.template.watch),
            hello: self.template.hello.as_ref().and_then(|t| with_name(t.as_str(), name.as_str())),
            availability: topics(&self.template.availability),
            state: filters(&self.template.state),
            ..self.template.clone()
        }
    }

    /// Returns the filters for all topics of members, those of states among them, each once.
    #[must_use]
    pub fn all_filters(&self) -> Vec<TopicFilter> {
        let contact: Vec<_> = self.contact_topics().collect();
        let state = self.template.state.iter().map(TopicFilter::as_str);
        of_any(contact.iter().map(String::as_str).chain(state))
    }

    /// The topics of the template that the watch connection brings.
    fn contact_topics(&self) -> impl Iterator<Item = String> {
        let DeviceSpec { watch, hello, availability, .. } = &self.template;
        let filters = watch.iter().chain(hello).map(ToString::to_string);
        filters.chain(availability.iter().flat_map(topics_beside).map(|topic| topic.to_string()))
    }
}

/// The filters for these topics of a template, each once, with `+` in place of the name.
fn of_any<'t>(topics: impl Iterator<Item = &'t str>) -> Vec<TopicFilter> {
    let filters: BTreeSet<_> = topics.filter_map(|topic| with_name(topic, "+")).collect();
    filters.into_iter().collect()
}

/// The topic of a template with the name in its place.
fn filled(template: &str, name: &str) -> String {
    let levels = template.split('/');
    let levels = levels.map(|level| if level == PLACEHOLDER { name } else { level });
    levels.collect::<Vec<_>>().join("/")
}

fn with_name(template: &str, name: &str) -> Option<TopicFilter> {
    TopicFilter::new(filled(template, name)).ok()
}

/// The name in a topic that the template matches; the same at each place of it.
fn name_by<'t>(template: &str, topic: &'t str) -> Option<&'t str> {
    let wildcard_first = [PLACEHOLDER, "+", "#"].iter().any(|wildcard| {
        template.strip_prefix(wildcard).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if topic.starts_with('$') && wildcard_first {
        return None;
    }
    let mut name = None;
    let mut levels = topic.split('/');
    for pattern in template.split('/') {
        if pattern == "#" {
            return name;
        }
        let level = levels.next()?;
        match pattern {
            PLACEHOLDER if name.is_none_or(|name| name == level) => name = Some(level),
            "+" => {}
            _ if pattern == level && pattern != PLACEHOLDER => {}
            _ => return None,
        }
    }
    name.filter(|_| levels.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn name(text: &str) -> DeviceName {
        DeviceName::new(text).unwrap()
    }

    fn fleet(watch: &[&str], hello: Option<&str>, state: &[&str]) -> FleetSpec {
        let filter = |text: &&str| TopicFilter::new(*text).unwrap();
        let template = DeviceSpec {
            name: name(PLACEHOLDER),
            area: None,
            watch_timeout: Some(Duration::from_secs(60)),
            auto_timeout: false,
            expire_repeat: None,
            watch: watch.iter().map(filter).collect(),
            hello: hello.as_ref().map(filter),
            availability: vec![TopicName::new("tele/{name}/LWT").unwrap()],
            availability_words: None,
            depends_on: Vec::new(),
            alert_unit: None,
            state: state.iter().map(filter).collect(),
            restore_on_start: true,
            enabled: true,
            agent: None,
        };
        FleetSpec {
            name: name("esp"),
            template,
            exceptions: BTreeMap::new(),
            max_devices: DEFAULT_MAX_DEVICES,
            ignore: Vec::new(),
        }
    }

    #[test]
    fn a_member_has_its_name_in_every_topic() {
        let fleet = fleet(&["home/{name}/#", "{name}/+"], Some("hi/{name}"), &["set/{name}/#"]);
        let attic = fleet.member(&name("attic"));
        let shown = |filters: &[TopicFilter]| format!("{filters:?}");
        assert_eq!(attic.name, name("attic"));
        assert_eq!(shown(&attic.watch), "[\"home/attic/#\", \"attic/+\"]");
        assert_eq!(attic.hello.unwrap().as_str(), "hi/attic");
        assert_eq!(attic.availability[0].as_str(), "tele/attic/LWT");
        assert_eq!(shown(&attic.state), "[\"set/attic/#\"]");
        assert_eq!(attic.watch_timeout, Some(Duration::from_secs(60)));
    }

    #[test]
    fn an_exception_is_the_member() {
        let mut fleet = fleet(&["home/{name}/#"], None, &[]);
        let own = DeviceSpec { enabled: false, ..fleet.member(&name("attic")) };
        fleet.exceptions.insert(name("attic"), own.clone());
        assert_eq!(fleet.member(&name("attic")), own);
        assert!(fleet.member(&name("cellar")).enabled);
    }

    #[test]
    fn the_filters_are_those_of_contacts_each_once() {
        let fleet = fleet(&["home/{name}/#", "home/{name}/#"], Some("{name}/hi"), &["set/{name}"]);
        let filters: Vec<_> = fleet.heard_on().filters().iter().map(ToString::to_string).collect();
        assert_eq!(filters, ["+/hi", "home/+/#", "tele/+/LWT"]);
        let all: Vec<_> = fleet.all_filters().iter().map(ToString::to_string).collect();
        assert_eq!(all, ["+/hi", "home/+/#", "set/+", "tele/+/LWT"]);
    }

    #[test]
    fn a_name_is_found_where_a_filter_matches() {
        let fleet =
            fleet(&["home/{name}/+/x/#", "a/{name}/b/{name}"], Some("{name}/hi"), &["s/{name}"]);
        let heard = fleet.heard_on();
        for (topic, expected) in [
            ("home/attic/1/x", Some("attic")),
            ("home/attic/1/x/y/z", Some("attic")),
            ("home/attic/1/y", None),
            ("home/attic", None),
            ("a/attic/b/attic", Some("attic")),
            ("a/attic/b/cellar", None),
            ("attic/hi", Some("attic")),
            ("attic/hi/", None),
            ("$SYS/hi", None),
            ("home//1/x", Some("")),
            ("tele/attic/LWT", Some("attic")),
            ("s/attic", None),
        ] {
            assert_eq!(heard.name_in(&TopicName::new(topic).unwrap()), expected, "{topic}");
        }
    }
}
