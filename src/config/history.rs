//! The section `[history]`.

use super::report::ConfigReport;
use super::section::Section;
use crate::time_span::MAX_TIME_SPAN;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Every key of the section.
pub(super) const KEYS: &[&str] = &["keep"];

/// How long the past is kept by default.
pub const DEFAULT_KEEP: Duration = Duration::from_secs(400 * 86_400);

/// A day is the least that the shortest figure of uptime needs.
const KEEPS: RangeInclusive<Duration> = Duration::from_secs(86_400)..=MAX_TIME_SPAN;

/// Reads the section; errors are reported and their keys left out.
pub(super) fn read(section: &Section<'_>, report: &mut ConfigReport) -> Duration {
    section.report_unknown_keys(KEYS, |_| None, report);
    section.time_span("keep", &KEEPS, report).unwrap_or(DEFAULT_KEEP)
}
