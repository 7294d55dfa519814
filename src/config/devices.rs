//! Reads all sections of devices, agents and fleets, which share one space of names.

use super::Environment;
use super::device::{self, SectionKind};
use super::fleet::{self, Fleet, MOST_HEARD, Names};
use super::mqtt::MqttSection;
use super::report::{ByteSpan, ConfigReport};
use super::section::{self, Section};
use super::upstream::{self, Wish, WishedName};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::fleet::{LONGEST_LEARNED_NAME, PLACEHOLDER};
use iotmonitor_core::model::name_pattern::NamePattern;
use iotmonitor_core::model::spec::{DeviceSpec, FleetSpec};
use iotmonitor_core::topic::TopicFilter;
use std::collections::{BTreeMap, HashSet};
use toml::de::{DeTable, DeValue};

/// What the members of all fleets may take, in bytes. A file of 16 MiB could describe far more.
const MOST_MEMORY: usize = 128 * 1024 * 1024;

/// The number of fleets whose names are learned: each is compared with all others.
const MOST_LEARNING: usize = 16;

/// Everything that the sections define.
#[derive(Default)]
pub(super) struct ConfiguredDevices {
    /// In the order of the file; the members of a fleet at the place of the fleet.
    pub devices: Vec<DeviceSpec>,
    /// The fleets whose names are learned.
    pub fleets: Vec<FleetSpec>,
    /// The other fleets, with the numbers of their members.
    pub listed: Vec<(String, usize)>,
}

/// Reads the sections; errors are reported.
pub(super) fn read<'r>(
    root: &'r DeTable<'r>,
    mqtt: &'r MqttSection,
    environment: &'r Environment,
    report: &mut ConfigReport,
) -> ConfiguredDevices {
    let fleets = fleet::read_all(root, report);
    let listed = fleets.values().flat_map(|fleet| match &fleet.names {
        Names::Listed(names) => names.as_slice(),
        Names::Learned { .. } | Names::Unknown => &[],
    });
    let mut reader = SectionReader {
        root,
        mqtt,
        environment,
        listed: listed.map(|name| name.value).collect(),
        names: BTreeMap::new(),
        early: BTreeMap::new(),
        wishes: Vec::new(),
        memory: MOST_MEMORY,
        read: ConfiguredDevices::default(),
    };
    let learning = reader.learning(&fleets, report);
    for entry in section::fields(root) {
        if let Some(fleet) = fleets.get(entry.key) {
            reader.members(fleet, report);
        } else if let Some((kind, name)) = SectionKind::of(entry.key)
            && let Some(section) = section::section_of(&entry, report)
        {
            reader.section(&section, kind, name, learning.len(), report);
        }
    }
    reader.finish(learning, report)
}

/// A device and the names of those that it depends on.
type Read<'t> = (Option<DeviceSpec>, Vec<WishedName<'t>>);

/// A fleet whose names are learned, while it is read.
struct Learning<'f, 'r> {
    fleet: &'f Fleet<'r>,
    max_devices: usize,
    ignore: &'f [NamePattern],
    template: Read<'r>,
}

struct SectionReader<'r> {
    root: &'r DeTable<'r>,
    mqtt: &'r MqttSection,
    environment: &'r Environment,
    /// The names in the lists of fleets, whose sections are read with their fleet.
    listed: HashSet<&'r str>,
    /// The places of all names so far.
    names: BTreeMap<&'r str, ByteSpan>,
    /// The devices without topics of their own that have those of the only fleet that learns.
    early: BTreeMap<&'r str, Read<'r>>,
    wishes: Vec<Wish<'r>>,
    /// What members may still take.
    memory: usize,
    read: ConfiguredDevices,
}

impl<'r> SectionReader<'r> {
    /// A section that is not a fleet's; so many fleets learn their names.
    fn section(
        &mut self,
        section: &Section<'r>,
        kind: SectionKind,
        name: &'r str,
        learning: usize,
        report: &mut ConfigReport,
    ) {
        fleet::warn_of_placeholder(section, report);
        let is_device = kind == SectionKind::Device;
        if is_device && self.listed.contains(name) {
            return;
        }
        if let Some(first) = self.names.insert(name, section.header.clone()) {
            let message = format!("device_{name} and agent_{name} would share the name `{name}`");
            let hint = "rename one of them, or make them one section";
            report.conflict(&section.header, &first, message, hint);
        }
        if is_device && learning > 1 && !device::has_topics(section) {
            let message = format!("{} has no topics", section.title);
            let hint = format!("add them, or put \"{name}\" into the `names` of one of the fleets");
            report.error(&section.header, message, hint);
            return;
        }
        let read = match self.early.remove(name).filter(|_| is_device) {
            Some(early) => early,
            None => {
                let wished = upstream::read(section, report);
                let wished = wished.into_iter().map(WishedName::borrowed).collect();
                (device::read(section, kind, name, self.mqtt, self.environment, report), wished)
            }
        };
        self.push(read);
    }

    fn push(&mut self, (spec, names): Read<'r>) {
        if spec.is_some() && !names.is_empty() {
            self.wishes.push(Wish { device: self.read.devices.len(), names });
        }
        self.read.devices.extend(spec);
    }

    /// A device of a fleet.
    fn member(&self, section: &Section<'_>, name: &str, report: &mut ConfigReport) -> Read<'r> {
        let wished = upstream::read(section, report).iter().map(WishedName::owned).collect();
        let (mqtt, environment) = (self.mqtt, self.environment);
        (device::read(section, SectionKind::Device, name, mqtt, environment, report), wished)
    }

    /// The template of a fleet; what is wrong with it is wrong with all members.
    fn template(&self, fleet: &Fleet<'r>, report: &mut ConfigReport) -> Read<'r> {
        let (title, header) = (fleet.section.title.clone(), fleet.section.header.clone());
        let table = fleet.template();
        self.member(&Section { title, header, table: &table }, PLACEHOLDER, report)
    }

    /// The keys of the section of a device.
    fn own_table(&self, name: &str) -> Option<Section<'r>> {
        let field = section::field_of(self.root, &format!("device_{name}"))?;
        let DeValue::Table(table) = field.value else { return None };
        Some(Section { title: format!("[device_{name}]"), header: field.key_span, table })
    }

    /// The members of a fleet whose names are listed.
    fn members(&mut self, fleet: &Fleet<'r>, report: &mut ConfigReport) {
        let Names::Listed(names) = &fleet.names else { return };
        report.begin_fleet();
        let errors = report.errors();
        self.template(fleet, report);
        let is_sound = report.errors() == errors;
        let first = self.read.devices.len();
        let affordable = self.afford(fleet, names.len(), report);
        for name in names {
            let own = self.own_table(name.value);
            let claimed = self.claim(name.value, &name.span, own.as_ref(), report);
            if claimed && affordable && (is_sound || own.is_some()) {
                let table = fleet.table(name.value, own.as_ref().map(|own| own.table));
                report.begin_member(name.value, own.is_none());
                let (title, header) = match own {
                    Some(own) => (own.title, own.header),
                    None => (fleet.section.title.clone(), name.span.clone()),
                };
                let read =
                    self.member(&Section { title, header, table: &table }, name.value, report);
                self.push(read);
            }
        }
        report.end_fleet();
        let count = self.read.devices.len() - first;
        self.read.listed.push((fleet.section.title.clone(), count));
    }

    /// Whether a name in a list is a new one.
    fn claim(
        &mut self,
        name: &'r str,
        span: &ByteSpan,
        own: Option<&Section<'r>>,
        report: &mut ConfigReport,
    ) -> bool {
        let Some(first) = self.names.get(name).cloned() else {
            self.names.insert(name, span.clone());
            return true;
        };
        let shown = name.escape_debug();
        let message =
            if own.is_none() && section::field_of(self.root, &format!("agent_{name}")).is_some() {
                format!("`{shown}` is the name of an agent or of another device")
            } else {
                format!("`{shown}` is listed twice as the name of a member")
            };
        report.conflict(span, &first, message, "a name is that of one device: remove one of them");
        false
    }

    /// Whether so many members take no more memory than is left for them.
    fn afford(&mut self, fleet: &Fleet<'r>, members: usize, report: &mut ConfigReport) -> bool {
        let left = self.memory.checked_sub(fleet.cost().saturating_mul(members));
        if left.is_none() {
            let message = format!("the members of {} have too many topics", fleet.section.title);
            let hint = "one filter with a wildcard replaces many: \"home/{name}/#\"";
            let span = fleet.section.gap("names");
            let span = fleet.section.field("names").map_or(span, |field| field.key_span);
            report.error(&span, message, hint);
        }
        self.memory = left.unwrap_or(0);
        left.is_some()
    }

    /// The sections of devices that are in no list.
    fn own_sections(&self) -> Vec<(&'r str, Section<'r>)> {
        let entries = section::fields(self.root).into_iter().filter_map(|entry| {
            let name = entry.key.strip_prefix("device_")?;
            Some((name, self.own_table(name)?))
        });
        entries.filter(|(name, _)| !self.listed.contains(name)).collect()
    }

    /// The fleets whose names are learned, and the devices that are their members from the start.
    fn learning<'f>(
        &mut self,
        fleets: &'f BTreeMap<&'r str, Fleet<'r>>,
        report: &mut ConfigReport,
    ) -> Vec<Learning<'f, 'r>> {
        let mut found = Vec::new();
        let mut in_order: Vec<&Fleet<'r>> = fleets.values().collect();
        in_order.sort_by_key(|fleet| fleet.section.header.start);
        for fleet in in_order {
            let Names::Learned { max_devices, ignore } = &fleet.names else { continue };
            if found.len() == MOST_LEARNING {
                let message = format!("more than {MOST_LEARNING} fleets learn their names");
                report.error(&fleet.section.header, message, "list the names of some of them");
                break;
            }
            report.begin_fleet();
            let longest = "n".repeat(LONGEST_LEARNED_NAME);
            device::device_name(&fleet.section, &longest, self.mqtt.base_topic.as_ref(), report);
            let mut template = self.template(fleet, report);
            // With the placeholder they are errors that have been reported.
            template.1.retain(|name| !name.has_placeholder());
            found.push(Learning { fleet, max_devices: *max_devices, ignore, template });
            if found.len() == 1
                && !fleets.values().any(|other| other.learns() && other.name != fleet.name)
            {
                self.read_early(fleet, report);
            }
            report.end_fleet();
        }
        found
    }

    fn read_early(&mut self, fleet: &Fleet<'r>, report: &mut ConfigReport) {
        for (name, own) in self.own_sections() {
            if device::has_topics(&own) {
                continue;
            }
            let table = fleet.table(name, Some(own.table));
            report.begin_member(name, false);
            let whole = Section { title: own.title, header: own.header, table: &table };
            let read = self.member(&whole, name, report);
            self.early.insert(name, read);
        }
    }

    /// Looks up what depends on what, when all names are known.
    fn finish(
        mut self,
        learning: Vec<Learning<'_, 'r>>,
        report: &mut ConfigReport,
    ) -> ConfiguredDevices {
        let count = self.read.devices.len();
        let mut specs = Vec::new();
        for learning in learning {
            let Learning { fleet, max_devices, ignore, template } = learning;
            let Ok(name) = DeviceName::new(fleet.name) else { continue };
            if template.0.is_none() {
                continue;
            }
            self.push(template);
            let exceptions = self.exceptions(fleet, report);
            specs.push((fleet, name, max_devices, ignore.to_vec(), exceptions));
        }
        upstream::relate(&self.wishes, &self.names, &mut self.read.devices, report);
        let mut rest = self.read.devices.split_off(count).into_iter();
        let mut heard: Vec<(&Section<'_>, Vec<TopicFilter>)> = Vec::new();
        for (fleet, name, max_devices, ignore, exceptions) in specs {
            let Some(template) = rest.next() else { break };
            let exceptions = rest.by_ref().take(exceptions);
            let exceptions = exceptions.map(|spec| (spec.name.clone(), spec)).collect();
            let spec = FleetSpec { name, template, exceptions, max_devices, ignore };
            let filters = heard_on(&spec, &fleet.section, report);
            for (other, others) in &heard {
                report_overlap((&fleet.section, &filters), (other, others), report);
            }
            heard.push((&fleet.section, filters));
            self.read.fleets.push(spec);
        }
        self.read
    }

    /// Reads each device with a section of its own as it is when it is a member. Returns their
    /// number.
    fn exceptions(&mut self, fleet: &Fleet<'r>, report: &mut ConfigReport) -> usize {
        let sections = self.own_sections();
        if !self.afford(fleet, sections.len(), report) {
            return 0;
        }
        let before = self.read.devices.len();
        for (name, own) in sections {
            let mut table = fleet.table(name, Some(own.table));
            // The gateway of a fleet may be heard like a member, and does not depend on itself.
            if device::has_topics(&own) && own.field(upstream::KEY).is_none() {
                table.remove(upstream::KEY);
            }
            let header = own.header.clone();
            let whole = Section { title: own.title.clone(), header: own.header, table: &table };
            // What is wrong with either of them alone has been reported.
            let mut both = ConfigReport::default();
            let read = self.member(&whole, name, &mut both);
            if let Some(error) = both.first_error().filter(|_| report.errors() == 0) {
                let message =
                    format!("{} cannot be a member of {}: {error}", own.title, fleet.section.title);
                report.error(
                    &header,
                    message,
                    "its keys and those of the fleet are taken together",
                );
            }
            self.push(read);
        }
        self.read.devices.len() - before
    }
}

/// The filters on which the members of a fleet are heard.
fn heard_on(
    spec: &FleetSpec,
    section: &Section<'_>,
    report: &mut ConfigReport,
) -> Vec<TopicFilter> {
    let filters = spec.heard_on().filters();
    if filters.len() <= MOST_HEARD {
        return filters;
    }
    let message =
        format!("{} has more than {MOST_HEARD} topics on which members are heard", section.title);
    report.error(&section.header, message, "use filters with wildcards, or list the names");
    Vec::new()
}

/// Reports two fleets that could learn a name from the same message.
fn report_overlap(
    (section, filters): (&Section<'_>, &[TopicFilter]),
    (other, others): (&Section<'_>, &[TopicFilter]),
    report: &mut ConfigReport,
) {
    let both = filters.iter().find_map(|filter| {
        let shared = others.iter().find(|other| filter.overlaps(other))?;
        Some((filter, shared))
    });
    if let Some((filter, shared)) = both {
        let message = format!(
            "{} and {} could learn names from the same message: `{filter}` and `{shared}` overlap",
            section.title, other.title
        );
        let hint = "list the names of one of them, or choose topics that differ";
        report.conflict(&section.header, &other.header, message, hint);
    }
}
