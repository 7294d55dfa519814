//! The section `[recorder]`, which `iotmonitor-recorder` uses and the monitor checks.

use super::report::ConfigReport;
use super::section::Section;
use super::size::{Limit, parse_memory};
use crate::time_span::MAX_TIME_SPAN;
use iotmonitor_core::topic::TopicFilter;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Every key of the section.
pub(super) const KEYS: &[&str] = &["topics", "exclude", "flush", "keep", "maxSize"];

/// Everything but the topics that begin with `$`.
const DEFAULT_TOPICS: &str = "#";

const DEFAULT_FLUSH: Duration = Duration::from_secs(10);

/// A file for each second is the most that a day can have, and an hour of messages the most that
/// should have to be read back after a crash.
const FLUSHES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

const DEFAULT_KEEP: Duration = Duration::from_secs(400 * 86_400);

/// Messages are removed by the day.
const KEEPS: RangeInclusive<Duration> = Duration::from_secs(86_400)..=MAX_TIME_SPAN;

const DEFAULT_MAX_SIZE: u64 = 4 << 30;

/// Room for the messages that wait for their files, and for one file beside the one that replaces it.
const LEAST_MAX_SIZE: u64 = 16 << 20;

/// What is recorded, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecorderSettings {
    /// At least one.
    pub topics: Vec<TopicFilter>,
    /// Messages that are not recorded although they match `topics`.
    pub exclude: Vec<TopicFilter>,
    /// The time after which messages become a Parquet file.
    pub flush: Duration,
    pub keep: Duration,
    /// The bytes of all files together; `None` for no limit.
    pub max_size: Option<u64>,
}

impl Default for RecorderSettings {
    fn default() -> Self {
        Self {
            topics: TopicFilter::new(DEFAULT_TOPICS).into_iter().collect(),
            exclude: Vec::new(),
            flush: DEFAULT_FLUSH,
            keep: DEFAULT_KEEP,
            max_size: Some(DEFAULT_MAX_SIZE),
        }
    }
}

/// Reads the section; errors are reported and their keys left out.
pub(super) fn read(section: &Section<'_>, report: &mut ConfigReport) -> RecorderSettings {
    section.report_unknown_keys(KEYS, |_| None, report);
    let default = RecorderSettings::default();
    let topics = filters(section, "topics", "home/#", report);
    let exclude = filters(section, "exclude", "home/+/camera", report);
    warn_of_useless(section, &topics, &exclude, report);
    RecorderSettings {
        topics: if topics.is_empty() { default.topics } else { topics },
        exclude,
        flush: section.time_span("flush", &FLUSHES, report).unwrap_or(default.flush),
        keep: section.time_span("keep", &KEEPS, report).unwrap_or(default.keep),
        max_size: max_size(section, report).unwrap_or(default.max_size),
    }
}

fn filters(
    section: &Section<'_>,
    key: &str,
    example: &str,
    report: &mut ConfigReport,
) -> Vec<TopicFilter> {
    let mut filters: Vec<TopicFilter> = Vec::new();
    for text in section.texts(key, example, report) {
        match TopicFilter::new(text.value) {
            Ok(filter) if filters.contains(&filter) => {}
            Ok(filter) => filters.push(filter),
            Err(error) => {
                let hint = format!(
                    "`+` stands for one whole level, `#` at the end for the rest: \"{example}\""
                );
                report.error(&text.span, format!("{key}: {error}"), hint);
            }
        }
    }
    filters
}

/// Warns of a list of topics of which nothing is left.
fn warn_of_useless(
    section: &Section<'_>,
    topics: &[TopicFilter],
    exclude: &[TopicFilter],
    report: &mut ConfigReport,
) {
    let Some(field) = section.field("topics") else { return };
    for topic in topics {
        if let Some(excluded) = exclude.iter().find(|excluded| excluded.covers(topic)) {
            let message = format!("nothing is recorded of `{topic}`: `{excluded}` excludes it all");
            report.warning(&field.span, message, "remove one of the two");
        }
    }
}

/// The outer `None` means that the key is absent or wrong.
fn max_size(section: &Section<'_>, report: &mut ConfigReport) -> Option<Option<u64>> {
    const HINT: &str = "write a size such as \"512M\" or \"4G\", or \"infinity\"";
    let field = section.field("maxSize")?;
    let size = match field.unsigned() {
        Some(bytes) => Some(Limit::At(bytes)),
        None => parse_memory(field.text(report)?),
    };
    match size {
        Some(Limit::Infinity) => Some(None),
        Some(Limit::At(bytes)) if bytes >= LEAST_MAX_SIZE => Some(Some(bytes)),
        Some(Limit::At(_)) => {
            let message = format!("maxSize = {} is too small", field.shown());
            report.error(&field.span, message, "it is at least 16M");
            None
        }
        None => {
            report.error(&field.span, format!("maxSize: {} is not a size", field.shown()), HINT);
            None
        }
    }
}
