//! `iotmonitor history [NAME]`: uptime, incidents and restarts as the running monitor has recorded
//! them.

mod values;

pub use values::values;

use super::command::{AskError, conclude, fail, in_runtime, suggesting};
use super::local_time::{self, LocalTime};
use super::output::{self, OutputStyle};
use super::table::TextTable;
use crate::bus::{Addressee, CallError, Caller};
use crate::dbus::Bus;
use crate::printable::{escaped, escaped_json, escaped_lines};
use crate::time_span::{self, MAX_TIME_SPAN};
use clap::builder::styling::Style;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::DAY;
use iotmonitor_core::model::history::report::{DayReport, DeviceReport, IncidentReport};
use iotmonitor_core::model::history::uptime::WINDOWS;
use iotmonitor_core::model::words::{RoundedDuration, mebibytes};
use iotmonitor_core::topic::{TopicError, TopicName};
use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

const SINCE: RangeInclusive<Duration> = Duration::from_secs(60)..=MAX_TIME_SPAN;

/// The requested contents and format.
#[derive(Debug)]
pub struct HistoryQuery {
    pub name: Option<String>,
    pub since: Duration,
    pub format: HistoryFormat,
    pub unwatched: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFormat {
    Words,
    Json,
    Csv,
}

/// The time span of `--since`.
///
/// # Errors
/// Returns a sentence about the error.
pub fn since(text: &str) -> Result<Duration, String> {
    let span = time_span::parse(text).map_err(|error| error.to_string())?;
    if SINCE.contains(&span) {
        return Ok(span);
    }
    let (least, most) = (time_span::format(*SINCE.start()), time_span::format(*SINCE.end()));
    Err(format!("it must be from {least} to {most}"))
}

/// The topic of `--values`.
///
/// # Errors
/// Returns the error in the topic.
pub fn topic(text: &str) -> Result<TopicName, TopicError> {
    TopicName::new(text)
}

/// The number of devices that are asked for at once.
const BATCH: usize = 200;

/// Prints the answer; returns the exit code.
pub fn history(bus: Bus, addressee: Addressee, query: &HistoryQuery) -> u8 {
    let name = match query.name.clone().map(DeviceName::new).transpose() {
        Ok(name) => name,
        Err(error) => return fail(&error),
    };
    let local = LocalTime::of_this_machine();
    let boundaries = match query.format {
        HistoryFormat::Words => {
            local.last_days(query.since.as_secs().div_ceil(DAY), local_time::now())
        }
        HistoryFormat::Json | HistoryFormat::Csv => Vec::new(),
    };
    conclude(in_runtime(async {
        let caller = Caller::connect(bus, None, addressee).await?;
        let ask = async |names: &[&str]| caller.histories(names, query.since, &boundaries).await;
        let reports = match &name {
            Some(name) => suggesting(&caller, name, ask(&[name.as_str()]).await).await?,
            None => {
                let devices = caller.devices().await?;
                let names = devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>();
                all(&names, query.unwatched, ask).await?
            }
        };
        let scene = Scene { alone: name.is_some(), local, look: OutputStyle::of_stdout() };
        output::print(render(&reports, query, &scene))?;
        Ok::<(), AskError>(())
    }))
}

/// The reports of these devices but those that have left meanwhile. What is true of the monitor is in
/// every answer, and is kept once.
pub(super) async fn all(
    mut names: &[&str],
    unwatched: bool,
    ask: impl AsyncFn(&[&str]) -> Result<Vec<DeviceReport>, CallError>,
) -> Result<Vec<DeviceReport>, CallError> {
    let mut reports: Vec<DeviceReport> = Vec::new();
    let batch = if unwatched { 1 } else { BATCH };
    while !names.is_empty() && (reports.is_empty() || !unwatched) {
        let (asked, rest) = names.split_at(names.len().min(batch));
        let answered = match ask(asked).await {
            Err(CallError::UnknownDevice(_)) => Vec::new(),
            answer => answer?,
        };
        // A long answer ends before the last one that was asked for.
        let last = answered.last().map(|report| report.name.as_str());
        let place = last.and_then(|last| asked.iter().position(|name| *name == last));
        names = place.map_or(rest, |place| &names[place + 1..]);
        for mut report in answered {
            if !reports.is_empty() {
                report.unwatched = Vec::new();
            }
            reports.push(report);
        }
    }
    Ok(reports)
}

/// How the answer is shown.
struct Scene {
    /// One device was asked for by its name.
    alone: bool,
    local: LocalTime,
    look: OutputStyle,
}

fn render(reports: &[DeviceReport], query: &HistoryQuery, scene: &Scene) -> String {
    let Scene { alone, look, .. } = *scene;
    match (query.format, reports) {
        (HistoryFormat::Json, [report]) if alone => escaped_json(format!("{}\n", report.to_json())),
        (HistoryFormat::Json, _) => {
            let reports: Vec<String> = reports.iter().map(DeviceReport::to_json).collect();
            escaped_json(format!("[{}]\n", reports.join(",")))
        }
        (HistoryFormat::Csv, _) => csv(reports, query.unwatched, look.is_terminal),
        (HistoryFormat::Words, []) => "no devices or agents are configured\n".to_owned(),
        (HistoryFormat::Words, [report, ..]) if query.unwatched => {
            if report.unwatched.is_empty() {
                return "the monitor could hear all the time\n".to_owned();
            }
            incidents(&report.unwatched, scene)
        }
        (HistoryFormat::Words, [report]) if alone => description(report, scene),
        (HistoryFormat::Words, _) => table(reports, look),
    }
}

/// The table of all devices.
fn table(reports: &[DeviceReport], look: OutputStyle) -> String {
    let mut table =
        TextTable::new(look, ["NAME", "24 H", "7 D", "30 D", "90 D", "INCIDENTS", "DAYS"]);
    for report in reports {
        let mut cells = vec![report.name.clone()];
        cells.extend(WINDOWS.iter().map(|(window, _)| percent(report, window)));
        cells.push(report.incidents.len().to_string());
        cells.push(bar(&report.days));
        table.row(cells.into_iter().map(|cell| (cell, Style::new())));
    }
    table.render()
}

/// Everything about one device.
fn description(report: &DeviceReport, scene: &Scene) -> String {
    let mut text = format!("{}\n", report.name);
    if let Some(since) = report.since {
        text.push_str(&format!("  recorded since {}\n", scene.local.show(since)));
    }
    let windows = WINDOWS.map(|(window, _)| format!("{window} {}", percent(report, window)));
    text.push_str(&format!("  uptime  {}\n", windows.join("  ")));
    text.push_str(&format!("  days    {}\n", bar(&report.days)));
    let mut text = escaped_lines(&text).into_owned();
    if report.incidents.is_empty() {
        text.push_str("\nno incidents\n");
    } else {
        text.push('\n');
        text.push_str(&incidents(&report.incidents, scene));
    }
    if !report.restarts.is_empty() {
        let mut table = TextTable::new(scene.look, ["RESTARTED", "AFTER", "MEMORY PEAK"]);
        for restart in &report.restarts {
            let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
            let cells = [
                scene.local.show(restart.time),
                or_dash(restart.exit.clone()),
                or_dash(restart.memory_peak.map(mebibytes)),
            ];
            table.row(cells.map(|cell| (cell, Style::new())));
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    text
}

fn incidents(incidents: &[IncidentReport], scene: &Scene) -> String {
    let mut table = TextTable::new(scene.look, ["BEGAN", "LASTED", "REASON", "ENDED BY"]);
    for incident in incidents {
        let reason = incident.reason.as_ref().unwrap_or(&incident.kind).clone();
        let ended_by = match (&incident.end, &incident.ended_by) {
            (None, _) => "lasts".to_owned(),
            (Some(_), by) => by.clone().unwrap_or_else(|| "-".to_owned()),
        };
        let length = Duration::try_from_secs_f64(incident.seconds).unwrap_or_default();
        let begin = scene.local.show(incident.begin);
        let cells = [begin, RoundedDuration(length).to_string(), reason, ended_by];
        table.row(cells.map(|cell| (cell, Style::new())));
    }
    table.render()
}

/// Incidents in the form of RFC 4180.
fn csv(reports: &[DeviceReport], unwatched: bool, is_terminal: bool) -> String {
    let mut text = "device,kind,reason,begin,end,seconds,endedBy,lastContact\r\n".to_owned();
    let mut line = |device: &str, incident: &IncidentReport| {
        let number = |number: Option<u64>| number.map(|it| it.to_string()).unwrap_or_default();
        let cells = [
            quoted(if is_terminal { escaped(device) } else { device.into() }),
            incident.kind.clone(),
            incident.reason.clone().unwrap_or_default(),
            incident.begin.to_string(),
            number(incident.end),
            incident.seconds.to_string(),
            incident.ended_by.clone().unwrap_or_default(),
            number(incident.last_contact),
        ];
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    };
    if unwatched {
        reports.iter().take(1).flat_map(|it| &it.unwatched).for_each(|it| line("", it));
    } else {
        for report in reports {
            report.incidents.iter().for_each(|incident| line(&report.name, incident));
        }
    }
    text
}

/// A name may hold anything but a control character.
fn quoted(cell: Cow<'_, str>) -> String {
    if cell.contains([',', '"']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.into_owned()
    }
}

/// An uptime, rounded down: a device that was ever down has less than 100 %.
fn percent(report: &DeviceReport, window: &str) -> String {
    match report.uptime.get(window).copied().flatten() {
        None => "-".to_owned(),
        Some(uptime) => format!("{:.2} %", (uptime * 10_000.0).floor() / 100.0),
    }
}

/// A sign for each day since the device is known: the higher, the more of it was up.
fn bar(days: &[DayReport]) -> String {
    let sign = |day: &DayReport| match day.uptime {
        None => '·',
        Some(_) if day.alarm == 0 => '█',
        Some(uptime) if uptime >= 0.99 => '▇',
        Some(uptime) if uptime >= 0.9 => '▅',
        Some(uptime) if uptime >= 0.5 => '▃',
        Some(_) => '▁',
    };
    days.iter().skip_while(|day| day.seconds == 0).map(sign).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::history::report::RestartReport;
    use std::collections::BTreeMap;

    fn report() -> DeviceReport {
        let day =
            |seconds, uptime, alarm| DayReport { seconds, uptime, alarm, ..DayReport::default() };
        DeviceReport {
            name: "a,b".to_owned(),
            since: Some(951_782_400),
            uptime: BTreeMap::from([("24h".to_owned(), Some(0.999_999)), ("7d".to_owned(), None)]),
            incidents: vec![IncidentReport {
                kind: "alarm".to_owned(),
                reason: Some("silent".to_owned()),
                begin: 951_782_461,
                end: Some(951_782_551),
                seconds: 90.0,
                ended_by: Some("contact".to_owned()),
                last_contact: None,
            }],
            days: vec![
                day(0, None, 0),
                day(9, None, 0),
                day(9, Some(1.0), 0),
                day(9, Some(0.7), 9),
            ],
            ..DeviceReport::default()
        }
    }

    fn shown(format: HistoryFormat, alone: bool) -> String {
        let query =
            HistoryQuery { name: None, since: Duration::from_secs(DAY), format, unwatched: false };
        let restart = RestartReport { time: 951_782_551, exit: None, memory_peak: Some(3 << 20) };
        let restarts = if alone { vec![restart] } else { Vec::new() };
        let report = DeviceReport { restarts, ..report() };
        let local = LocalTime::by_rules("IST-5:30");
        render(&[report], &query, &Scene { alone, local, look: OutputStyle::default() })
    }

    /// What a monitor of two devices to an answer answers, where `gone` has just left.
    async fn answer(names: &[&str]) -> Result<Vec<DeviceReport>, CallError> {
        let known = names.iter().filter(|name| **name != "gone").take(2);
        let reports: Vec<DeviceReport> = known
            .map(|name| DeviceReport {
                name: (*name).to_owned(),
                unwatched: report().incidents,
                ..report()
            })
            .collect();
        if reports.is_empty() {
            return Err(CallError::UnknownDevice(names[0].to_owned()));
        }
        Ok(reports)
    }

    fn asked(unwatched: bool) -> Vec<(String, usize)> {
        let names = ["gone", "lamp", "oven", "gone", "door", "gone"];
        let reports = in_runtime(all(&names, unwatched, answer)).unwrap().unwrap();
        reports.into_iter().map(|report| (report.name, report.unwatched.len())).collect()
    }

    #[test]
    fn what_is_true_of_the_monitor_is_asked_and_kept_once() {
        let all = [("lamp", 1), ("oven", 0), ("door", 0)];
        assert_eq!(asked(false), all.map(|(name, count)| (name.to_owned(), count)));
        assert_eq!(asked(true), [("lamp".to_owned(), 1)]);
    }

    #[test]
    fn csv_deceives_no_terminal_and_changes_nothing_for_a_program() {
        let reports = [DeviceReport { name: "a\u{202e}b".to_owned(), ..report() }];
        assert!(csv(&reports, false, true).contains("\r\na\\u{202e}b,alarm,"));
        assert!(csv(&reports, false, false).contains("\r\na\u{202e}b,alarm,"));
    }

    #[test]
    fn one_device_is_described_with_its_incidents() {
        assert_eq!(
            shown(HistoryFormat::Words, true),
            "a,b\n  recorded since 2000-02-29 05:30:00 IST\n  \
             uptime  24h 99.99 %  7d -  30d -  90d -\n  days    ·█▃\n\n\
             BEGAN                    LASTED      REASON  ENDED BY\n\
             2000-02-29 05:31:01 IST  1 min 30 s  silent  contact\n\n\
             RESTARTED                AFTER  MEMORY PEAK\n\
             2000-02-29 05:32:31 IST  -      3.0 MiB\n"
        );
    }

    #[test]
    fn all_devices_are_a_table_and_programs_get_csv_and_json() {
        assert_eq!(
            shown(HistoryFormat::Words, false),
            "NAME  24 H     7 D  30 D  90 D  INCIDENTS  DAYS\n\
             a,b   99.99 %  -    -     -     1          ·█▃\n"
        );
        assert_eq!(
            shown(HistoryFormat::Csv, true),
            "device,kind,reason,begin,end,seconds,endedBy,lastContact\r\n\
             \"a,b\",alarm,silent,951782461,951782551,90,contact,\r\n"
        );
        let json = shown(HistoryFormat::Json, false);
        assert_eq!(serde_json::from_str::<Vec<DeviceReport>>(&json).unwrap(), [report()]);
    }
}
