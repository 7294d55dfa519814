//! What the running monitor knows, as files of JSON with an object on each line.

use crate::bus::{CallError, Caller};
use crate::cli::history;
use crate::time_span::MAX_TIME_SPAN;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::Date;
use iotmonitor_core::model::history::report::{DayReport, IncidentReport};
use iotmonitor_core::model::view::DeviceView;
use iotmonitor_core::topic::TopicFilter;
use serde_json::{Value, json};
use std::time::Duration;

/// The names of the files.
pub const DEVICES: &str = "device.json";
pub const FILTERS: &str = "device_filter.json";
pub const EPISODES: &str = "episode.json";
pub const DAYS: &str = "day.json";

/// The lines of each file.
#[derive(Debug, Default)]
pub struct Past {
    devices: String,
    filters: String,
    episodes: String,
    days: String,
}

impl Past {
    pub fn files(&self) -> [(&'static str, &str); 4] {
        [
            (DEVICES, &self.devices),
            (FILTERS, &self.filters),
            (EPISODES, &self.episodes),
            (DAYS, &self.days),
        ]
    }

    /// Whether a file has no line, of which an engine could not tell the columns.
    pub fn is_empty(&self, name: &str) -> bool {
        self.files().iter().any(|(file, lines)| *file == name && lines.is_empty())
    }
}

/// Whether a statement may use one of the views. What stands in quotes is no name of a view.
pub fn is_mentioned(statement: &str) -> bool {
    let outside = statement.split('\'').step_by(2);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = outside.flat_map(|part| part.split(move |c| !is_word(c)));
    words.any(|word| {
        let views = ["device", "device_filter", "device_topic", "episode", "day"];
        views.iter().any(|view| word.eq_ignore_ascii_case(view))
    })
}

pub async fn ask(caller: &Caller) -> Result<Past, CallError> {
    let mut past = Past::default();
    let devices = caller.devices().await?;
    for device in &devices {
        add(&mut past.devices, &device_line(device));
        let Ok(name) = DeviceName::new(device.name.clone()) else { continue };
        let filters = match caller.topics(&name).await {
            // It has left meanwhile.
            Err(CallError::UnknownDevice(_)) => continue,
            filters => filters?,
        };
        filters
            .iter()
            .for_each(|filter| add(&mut past.filters, &filter_line(&device.name, filter)));
    }
    let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    let ask = async |names: &[&str]| caller.histories(names, MAX_TIME_SPAN, &[]).await;
    for report in history::all(&names, false, ask).await? {
        for incident in &report.incidents {
            add(&mut past.episodes, &episode_line(Some(&report.name), incident));
        }
        // These are the monitor's, and in one report.
        report.unwatched.iter().for_each(|it| add(&mut past.episodes, &episode_line(None, it)));
        report.days.iter().for_each(|day| add(&mut past.days, &day_line(&report.name, day)));
    }
    Ok(past)
}

fn add(lines: &mut String, line: &Value) {
    lines.push_str(&line.to_string());
    lines.push('\n');
}

fn device_line(device: &DeviceView) -> Value {
    json!({
        "device": device.name,
        "kind": device.kind(),
        "state": device.state.as_str(),
        "reason": device.reason,
        "since": timestamp(device.since.as_secs()),
        "last_contact": device.last_contact.map(|time| timestamp(time.as_secs())),
        "timeout": device.watch_timeout.map(|timeout| timeout.as_secs_f64()),
        "fleet": device.fleet,
    })
}

fn episode_line(device: Option<&str>, incident: &IncidentReport) -> Value {
    json!({
        "device": device,
        "kind": incident.kind,
        "reason": incident.reason,
        "began": timestamp(incident.begin),
        "ended": incident.end.map(timestamp),
        "seconds": incident.seconds,
        "ended_by": incident.ended_by,
        "last_contact": incident.last_contact.map(timestamp),
    })
}

fn day_line(device: &str, day: &DayReport) -> Value {
    json!({
        "device": device,
        "date": day.date,
        "seconds": day.seconds,
        "uptime": day.uptime,
        "alarm": day.alarm,
        "upstream": day.upstream,
        "unwatched": day.unwatched,
        "disabled": day.disabled,
        "contacts": day.contacts,
        "longest_silence": day.longest_silence,
    })
}

/// With a regular expression that matches the topics of the filter, and what they begin with.
fn filter_line(device: &str, filter: &TopicFilter) -> Value {
    let text = filter.as_str();
    let literal = text.split(['+', '#']).next().unwrap_or_default();
    // `a/#` also matches `a`.
    let prefix =
        if text.ends_with("/#") { literal.strip_suffix('/').unwrap_or(literal) } else { literal };
    json!({ "device": device, "filter": text, "prefix": prefix, "pattern": pattern(filter) })
}

/// The filter as a regular expression of a whole topic, in the syntax that RE2 and Rust's `regex` share.
fn pattern(filter: &TopicFilter) -> String {
    let mut pattern = String::from("(?s)");
    for (place, level) in filter.as_str().split('/').enumerate() {
        let is_first = place == 0;
        match level {
            // A wildcard at the beginning matches no topic that begins with `$`.
            "#" if is_first => pattern.push_str("([^$].*)?"),
            "#" => pattern.push_str("(/.*)?"),
            "+" if is_first => pattern.push_str("([^$/][^/]*)?"),
            "+" => pattern.push_str("/[^/]*"),
            level => {
                pattern.push_str(if is_first { "" } else { "/" });
                level.chars().for_each(|c| push_literal(&mut pattern, c));
            }
        }
    }
    pattern
}

fn push_literal(pattern: &mut String, c: char) {
    if c.is_ascii() && !c.is_ascii_alphanumeric() {
        pattern.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
    } else {
        pattern.push(c);
    }
}

/// A time as all engines read it.
fn timestamp(seconds: u64) -> String {
    let date = Date::of(Duration::from_secs(seconds));
    let of_day = seconds % 86_400;
    format!("{date}T{:02}:{:02}:{:02}Z", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statements_that_may_use_them_ask_the_monitor() {
        for statement in ["FROM device", "select * from \"Episode\";", "SELECT 1 FROM x,day"] {
            assert!(is_mentioned(statement), "{statement}");
        }
        for statement in
            ["FROM message", "SELECT date_trunc('day', time) FROM message", "SELECT devices, days"]
        {
            assert!(!is_mentioned(statement), "{statement}");
        }
    }

    #[test]
    fn a_pattern_takes_nothing_literally_but_letters_and_digits() {
        let pattern = |filter: &str| pattern(&TopicFilter::new(filter).unwrap());
        assert_eq!(pattern("a.b/+/#"), "(?s)a\\x{2e}b/[^/]*(/.*)?");
        assert_eq!(pattern("#"), "(?s)([^$].*)?");
        assert_eq!(pattern("+/ü"), "(?s)([^$/][^/]*)?/ü");
        assert_eq!(timestamp(951_782_461), "2000-02-29T00:01:01Z");
    }
}
