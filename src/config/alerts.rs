//! The section `[alerts]`, and the key that it has in common with devices.

use super::report::ConfigReport;
use super::section::Section;
use iotmonitor_core::model::unit_name::UnitTemplate;
use std::ops::RangeInclusive;
use std::time::Duration;

pub(super) const KEYS: &[&str] = &["alertUnit", "brokerGrace"];

/// A broker that is away for longer is reported to people.
const BROKER_GRACE: Duration = Duration::from_secs(60);

const BROKER_GRACES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

/// How alerts are forwarded to people.
pub(super) struct AlertsSection {
    /// The unit that is started for an alert of a section that names no other.
    pub unit: Option<UnitTemplate>,
    pub broker_grace: Duration,
}

impl Default for AlertsSection {
    fn default() -> Self {
        Self { unit: None, broker_grace: BROKER_GRACE }
    }
}

/// Reads the section; errors are reported and their keys left out.
pub(super) fn read(section: &Section<'_>, report: &mut ConfigReport) -> AlertsSection {
    section.report_unknown_keys(KEYS, |_| None, report);
    AlertsSection {
        unit: unit(section, report),
        broker_grace: section
            .time_span("brokerGrace", &BROKER_GRACES, report)
            .unwrap_or(BROKER_GRACE),
    }
}

/// The key `alertUnit`.
pub(super) fn unit(section: &Section<'_>, report: &mut ConfigReport) -> Option<UnitTemplate> {
    let text = section.text("alertUnit", report)?;
    UnitTemplate::new(text.value)
        .map_err(|error| {
            let hint =
                "write alertUnit = \"notify@.service\"; the instance is named after the device";
            report.error(&text.span, format!("alertUnit: {error}"), hint);
        })
        .ok()
}
