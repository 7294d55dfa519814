//! `iotmonitor history [NAME]`: uptime, incidents and restarts as the running monitor has recorded
//! them.

use super::command::{AskError, conclude, fail, in_runtime, suggesting};
use super::output::{self, OutputStyle};
use super::table::TextTable;
use crate::bus::{Addressee, CallError, Caller};
use crate::dbus::Bus;
use crate::printable::{escaped, escaped_json, escaped_lines};
use crate::time_span::{self, MAX_TIME_SPAN};
use clap::builder::styling::Style;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::report::{DayReport, DeviceReport, IncidentReport};
use iotmonitor_core::model::history::uptime::WINDOWS;
use iotmonitor_core::model::history::{DAY, Date};
use iotmonitor_core::model::words::RoundedDuration;
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

/// Prints the answer; returns the exit code.
pub fn history(bus: Bus, addressee: Addressee, query: &HistoryQuery) -> u8 {
    let name = match query.name.clone().map(DeviceName::new).transpose() {
        Ok(name) => name,
        Err(error) => return fail(&error),
    };
    conclude(in_runtime(async {
        let caller = Caller::connect(bus, None, addressee).await?;
        let reports = match &name {
            Some(name) => {
                let asked = caller.history(name.as_str(), query.since).await;
                vec![suggesting(&caller, name, asked).await?]
            }
            None => {
                let names = caller.devices().await?.into_iter().map(|device| device.name);
                let ask = async |name: String| caller.history(&name, query.since).await;
                all(names, query.unwatched, ask).await?
            }
        };
        output::print(render(&reports, name.is_some(), query, OutputStyle::of_stdout()))?;
        Ok::<(), AskError>(())
    }))
}

/// The reports of these devices but those that have left meanwhile. What is true of the monitor is in
/// every answer, and is kept once.
async fn all(
    names: impl Iterator<Item = String>,
    unwatched: bool,
    ask: impl AsyncFn(String) -> Result<DeviceReport, CallError>,
) -> Result<Vec<DeviceReport>, CallError> {
    let mut reports: Vec<DeviceReport> = Vec::new();
    for name in names {
        let mut report = match ask(name).await {
            Err(CallError::UnknownDevice(_)) => continue,
            answer => answer?,
        };
        if !reports.is_empty() {
            report.unwatched = Vec::new();
        }
        reports.push(report);
        if unwatched {
            break;
        }
    }
    Ok(reports)
}

fn render(
    reports: &[DeviceReport],
    alone: bool,
    query: &HistoryQuery,
    look: OutputStyle,
) -> String {
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
            incidents(&report.unwatched, look)
        }
        (HistoryFormat::Words, [report]) if alone => description(report, look),
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
fn description(report: &DeviceReport, look: OutputStyle) -> String {
    let mut text = format!("{}\n", report.name);
    if let Some(since) = report.since {
        text.push_str(&format!("  recorded since {}\n", time(since)));
    }
    let windows = WINDOWS.map(|(window, _)| format!("{window} {}", percent(report, window)));
    text.push_str(&format!("  uptime  {}\n", windows.join("  ")));
    text.push_str(&format!("  days    {}\n", bar(&report.days)));
    let mut text = escaped_lines(&text).into_owned();
    if report.incidents.is_empty() {
        text.push_str("\nno incidents\n");
    } else {
        text.push('\n');
        text.push_str(&incidents(&report.incidents, look));
    }
    if !report.restarts.is_empty() {
        let mut table = TextTable::new(look, ["RESTARTED", "AFTER"]);
        for restart in &report.restarts {
            let exit = restart.exit.clone().unwrap_or_else(|| "-".to_owned());
            table.row([(time(restart.time), Style::new()), (exit, Style::new())]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    text
}

fn incidents(incidents: &[IncidentReport], look: OutputStyle) -> String {
    let mut table = TextTable::new(look, ["BEGAN", "LASTED", "REASON", "ENDED BY"]);
    for incident in incidents {
        let reason = incident.reason.as_ref().unwrap_or(&incident.kind).clone();
        let ended_by = match (&incident.end, &incident.ended_by) {
            (None, _) => "lasts".to_owned(),
            (Some(_), by) => by.clone().unwrap_or_else(|| "-".to_owned()),
        };
        let length = Duration::try_from_secs_f64(incident.seconds).unwrap_or_default();
        let cells = [time(incident.begin), RoundedDuration(length).to_string(), reason, ended_by];
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

/// A sign for each day: the higher, the more of it was up.
fn bar(days: &[DayReport]) -> String {
    let sign = |day: &DayReport| match day.uptime {
        None => '·',
        Some(_) if day.alarm == 0 => '█',
        Some(uptime) if uptime >= 0.99 => '▇',
        Some(uptime) if uptime >= 0.9 => '▅',
        Some(uptime) if uptime >= 0.5 => '▃',
        Some(_) => '▁',
    };
    days.iter().map(sign).collect()
}

/// A time of UTC, as days are those of UTC.
fn time(seconds: u64) -> String {
    let (date, of_day) = (Date::of(Duration::from_secs(seconds)), seconds % DAY);
    format!("{date} {:02}:{:02}:{:02} UTC", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn report() -> DeviceReport {
        let day = |uptime, alarm| DayReport { uptime, alarm, ..DayReport::default() };
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
            days: vec![day(None, 0), day(Some(1.0), 0), day(Some(0.7), 9)],
            ..DeviceReport::default()
        }
    }

    fn shown(format: HistoryFormat, alone: bool) -> String {
        let query =
            HistoryQuery { name: None, since: Duration::from_secs(DAY), format, unwatched: false };
        render(&[report()], alone, &query, OutputStyle::default())
    }

    /// What the monitor answers for a device, where `gone` has just left.
    async fn answer(name: String) -> Result<DeviceReport, CallError> {
        match name.as_str() {
            "gone" => Err(CallError::UnknownDevice(name)),
            _ => Ok(DeviceReport { name, unwatched: report().incidents, ..report() }),
        }
    }

    fn asked(unwatched: bool) -> Vec<(String, usize)> {
        let names = ["gone", "lamp", "oven", "gone"].map(str::to_owned).into_iter();
        let reports = in_runtime(all(names, unwatched, answer)).unwrap().unwrap();
        reports.into_iter().map(|report| (report.name, report.unwatched.len())).collect()
    }

    #[test]
    fn what_is_true_of_the_monitor_is_asked_and_kept_once() {
        assert_eq!(asked(false), [("lamp".to_owned(), 1), ("oven".to_owned(), 0)]);
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
            "a,b\n  recorded since 2000-02-29 00:00:00 UTC\n  \
             uptime  24h 99.99 %  7d -  30d -  90d -\n  days    ·█▃\n\n\
             BEGAN                    LASTED      REASON  ENDED BY\n\
             2000-02-29 00:01:01 UTC  1 min 30 s  silent  contact\n"
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
