//! The section `[homeassistant]`.

use super::report::ConfigReport;
use super::section::Section;
use iotmonitor_core::model::spec::HomeAssistant;
use iotmonitor_core::topic::TopicName;

/// Every key of the section.
pub(super) const KEYS: &[&str] = &["discovery", "discoveryPrefix", "allowCommands"];

/// The prefix under which Home Assistant looks for descriptions by default.
const DEFAULT_PREFIX: &str = "homeassistant";

/// Reads the section; errors are reported and their keys left out.
pub(super) fn read(section: &Section<'_>, report: &mut ConfigReport) -> HomeAssistant {
    section.report_unknown_keys(KEYS, |_| None, report);
    let discovery = section.boolean("discovery", false, report);
    let prefix = prefix(section, report);
    HomeAssistant {
        discovery: prefix.filter(|_| discovery),
        commands: section.boolean("allowCommands", false, report),
    }
}

fn prefix(section: &Section<'_>, report: &mut ConfigReport) -> Option<TopicName> {
    let Some(text) = section.text("discoveryPrefix", report) else {
        return TopicName::new(DEFAULT_PREFIX).ok();
    };
    TopicName::new(text.value)
        .map_err(|error| {
            let message = format!("discoveryPrefix: {error}");
            report.error(&text.span, message, "write it as Home Assistant's settings have it");
        })
        .ok()
}
