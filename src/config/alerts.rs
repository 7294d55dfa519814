//! The section `[alerts]`, and the key that it has in common with devices.

use super::report::ConfigReport;
use super::section::Section;
use iotmonitor_core::model::unit_name::UnitTemplate;

pub(super) const KEYS: &[&str] = &["alertUnit"];

/// What alerts start whose section names nothing else; what is wrong is reported and left out.
pub(super) fn read(section: &Section<'_>, report: &mut ConfigReport) -> Option<UnitTemplate> {
    section.report_unknown_keys(KEYS, |_| None, report);
    unit(section, report)
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
