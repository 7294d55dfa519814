//! The key `dependsOn`: names of other sections, looked up when all sections are read.

use super::nearest::nearest;
use super::report::{ByteSpan, ConfigReport, MOST_SHOWN};
use super::section::{Section, Text};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::fleet::PLACEHOLDER;
use iotmonitor_core::model::spec::DeviceSpec;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use toml::de::DeValue;

pub(super) const KEY: &str = "dependsOn";

/// The number of names that are compared with wrong ones, which takes a second on a slow machine.
const MOST_LOOKED_AT: usize = 1_000_000;

/// The number of names of a cycle that are shown.
const LONGEST_WAY: usize = 20;

/// The value of the key in one section.
pub(super) struct Wish<'t> {
    /// The index of the device that was read from the section.
    pub device: usize,
    pub names: Vec<WishedName<'t>>,
}

/// One of these names, and its place.
pub(super) struct WishedName<'t> {
    value: Cow<'t, str>,
    span: ByteSpan,
}

impl<'t> WishedName<'t> {
    pub fn borrowed(text: Text<'t>) -> Self {
        Self { value: Cow::Borrowed(text.value), span: text.span }
    }

    pub fn has_placeholder(&self) -> bool {
        self.value.contains(PLACEHOLDER)
    }

    /// A copy, because the members of a fleet are read from tables that do not last.
    pub fn owned(text: &Text<'_>) -> Self {
        Self { value: Cow::Owned(text.value.to_owned()), span: text.span.clone() }
    }
}

/// The names that a section lists, whether or not such devices exist.
pub(super) fn read<'t>(section: &Section<'t>, report: &mut ConfigReport) -> Vec<Text<'t>> {
    match section.field(KEY) {
        Some(field) if !matches!(field.value, DeValue::String(_) | DeValue::Array(_)) => {
            field.report_type("a name or a list of names", "dependsOn = \"gateway\"", report);
            Vec::new()
        }
        Some(_) => section.texts(KEY, "gateway", report),
        None => Vec::new(),
    }
}

/// Resolves the dependencies of each device. `known` are the names of all sections.
pub(super) fn relate(
    wishes: &[Wish<'_>],
    known: &BTreeMap<&str, ByteSpan>,
    devices: &mut [DeviceSpec],
    report: &mut ConfigReport,
) {
    let mut places: BTreeMap<DeviceName, ByteSpan> = BTreeMap::new();
    let mut hints = Hints { known, found: HashMap::new() };
    // All members of a fleet may have the same wrong name from the same place.
    let mut reported = HashSet::new();
    for wish in wishes {
        let device = &mut devices[wish.device];
        let mut given = HashSet::new();
        for text in &wish.names {
            let value = text.value.as_ref();
            if !known.contains_key(value) {
                if reported.insert((text.span.start, value)) {
                    report_unknown(text, &mut hints, report);
                }
                continue;
            }
            // A known section whose name is invalid has already been reported.
            let Ok(name) = DeviceName::new(value) else { continue };
            if given.insert(value) {
                places.entry(device.name.clone()).or_insert_with(|| text.span.clone());
                device.depends_on.push(name);
            }
        }
    }
    report_circles(devices, &places, report);
}

/// The nearest known name of each wrong one. All known names are compared, so each wrong name is
/// looked up once, and only as many as can be shown: sections come in the order of the file. In a
/// very large file it is fewer.
struct Hints<'t, 'k> {
    known: &'k BTreeMap<&'k str, ByteSpan>,
    found: HashMap<&'t str, Option<&'k str>>,
}

impl<'t, 'k> Hints<'t, 'k> {
    fn of(&mut self, wrong: &'t str) -> Option<&'k str> {
        let looked_at = self.found.len() * self.known.len();
        if self.found.len() >= MOST_SHOWN || looked_at >= MOST_LOOKED_AT {
            return self.found.get(wrong).copied().flatten();
        }
        let known = self.known.keys().copied();
        *self.found.entry(wrong).or_insert_with(|| nearest(wrong, known))
    }
}

fn report_unknown<'w>(
    text: &'w WishedName<'_>,
    hints: &mut Hints<'w, '_>,
    report: &mut ConfigReport,
) {
    let shown = text.value.escape_debug();
    match hints.of(&text.value) {
        Some(near) => {
            let message = format!("dependsOn: there is no `{shown}`, did you mean `{near}`?");
            let hint = "it names what follows `device_` or `agent_` of another section";
            report.error(&text.span, message, hint);
        }
        None => {
            let message = format!("dependsOn: there is no device or agent `{shown}`");
            let hint = format!("add a section [device_{shown}], or remove the name");
            report.error(&text.span, message, hint);
        }
    }
}

/// Reports cycles: a device that depends on itself, directly or indirectly, would never be
/// reported.
fn report_circles(
    devices: &[DeviceSpec],
    places: &BTreeMap<DeviceName, ByteSpan>,
    report: &mut ConfigReport,
) {
    let mut open: BTreeMap<&DeviceName, Vec<&DeviceName>> = devices
        .iter()
        .filter(|device| !device.depends_on.is_empty())
        .map(|device| (&device.name, device.depends_on.iter().collect()))
        .collect();
    let mut ready: Vec<&DeviceName> =
        devices.iter().map(|device| &device.name).filter(|name| !open.contains_key(name)).collect();
    let mut children: BTreeMap<&DeviceName, Vec<&DeviceName>> = BTreeMap::new();
    for (child, parents) in &open {
        parents.iter().for_each(|parent| children.entry(parent).or_default().push(child));
    }
    let mut waits: BTreeMap<&DeviceName, usize> =
        open.iter().map(|(name, parents)| (*name, parents.len())).collect();
    // Removes each device that depends on nothing that is left; cycles and their tails remain.
    while let Some(done) = ready.pop() {
        for child in children.remove(done).unwrap_or_default() {
            if let Some(count) = waits.get_mut(child) {
                *count -= 1;
                if *count == 0 {
                    open.remove(child);
                    ready.push(child);
                }
            }
        }
    }
    while let Some((&first, _)) = open.first_key_value() {
        let (mut way, mut begins) = (vec![first], BTreeMap::from([(first, 0)]));
        let next =
            |last| open.get(last)?.iter().find(|parent| open.contains_key(**parent)).copied();
        // Without a next device, the path leads to a cycle that has been reported.
        while let Some(name) = next(way[way.len() - 1]) {
            if let Some(&begin) = begins.get(name) {
                report_circle(&way[begin..], places, report);
                break;
            }
            begins.insert(name, way.len());
            way.push(name);
        }
        way.iter().for_each(|name| drop(open.remove(name)));
    }
}

fn report_circle(
    circle: &[&DeviceName],
    places: &BTreeMap<DeviceName, ByteSpan>,
    report: &mut ConfigReport,
) {
    let Some(first) = circle.first() else { return };
    let mut names: Vec<Cow<'_, str>> =
        circle.iter().take(LONGEST_WAY).map(|name| name.as_str().into()).collect();
    if circle.len() > LONGEST_WAY {
        names.push(format!("… {} more …", circle.len() - LONGEST_WAY).into());
    }
    names.push(first.as_str().into());
    let message = format!("dependsOn goes in a circle: {}", names.join(" → "));
    let span = places.get(*first).cloned().unwrap_or(0..0);
    report.error(&span, message, "remove the one that does not apply");
}
