//! The key `dependsOn`: names of other sections, looked up when all sections are read.

use super::nearest::nearest;
use super::report::{Report, Span};
use super::section::{Section, Text};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::spec::DeviceSpec;
use std::collections::BTreeMap;
use toml::de::DeValue;

pub(super) const KEY: &str = "dependsOn";

/// What the key of one section says.
pub(super) struct Wish<'t> {
    /// Index of the device that was read from the section.
    pub device: usize,
    pub names: Vec<Text<'t>>,
}

/// The names that a section gives, whether there are such devices or not.
pub(super) fn read<'t>(section: &Section<'t>, report: &mut Report) -> Vec<Text<'t>> {
    match section.field(KEY) {
        Some(field) if !matches!(field.value, DeValue::String(_) | DeValue::Array(_)) => {
            field.report_type("a name or a list of names", "dependsOn = \"gateway\"", report);
            Vec::new()
        }
        Some(_) => section.texts(KEY, "gateway", report),
        None => Vec::new(),
    }
}

/// Gives each device what it depends on. `known` are the names of all sections.
pub(super) fn relate(
    wishes: &[Wish<'_>],
    known: &BTreeMap<&str, Span>,
    devices: &mut [DeviceSpec],
    report: &mut Report,
) {
    let mut places: BTreeMap<DeviceName, Span> = BTreeMap::new();
    for wish in wishes {
        for text in &wish.names {
            if !known.contains_key(text.value) {
                report_unknown(text, known, report);
                continue;
            }
            let device = &mut devices[wish.device];
            // One that is known and no name has been reported for its own sake.
            let Ok(name) = DeviceName::new(text.value) else { continue };
            if !device.depends_on.contains(&name) {
                places.entry(device.name.clone()).or_insert_with(|| text.span.clone());
                device.depends_on.push(name);
            }
        }
    }
    report_circles(devices, &places, report);
}

fn report_unknown(text: &Text<'_>, known: &BTreeMap<&str, Span>, report: &mut Report) {
    let shown = text.value.escape_debug();
    match nearest(text.value, known.keys().copied()) {
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

/// Who depends on itself, at last, would never be told of.
fn report_circles(
    devices: &[DeviceSpec],
    places: &BTreeMap<DeviceName, Span>,
    report: &mut Report,
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
    // Takes away whoever depends on nothing that is left; what remains are circles and their tails.
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
        // Without a next one it leads to a circle that has been reported.
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

fn report_circle(circle: &[&DeviceName], places: &BTreeMap<DeviceName, Span>, report: &mut Report) {
    let Some(first) = circle.first() else { return };
    let names: Vec<&str> = circle.iter().chain([first]).map(|name| name.as_str()).collect();
    let message = format!("dependsOn goes in a circle: {}", names.join(" → "));
    let span = places.get(*first).cloned().unwrap_or(0..0);
    report.error(&span, message, "remove the one that is not so");
}
