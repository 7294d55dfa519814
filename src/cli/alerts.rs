//! `iotmonitor alerts [NAME]` and `iotmonitor acknowledge ID`: alerts as the running monitor has
//! recorded them.

use super::command::{AskError, conclude, fail, in_runtime, suggesting};
use super::local_time::LocalTime;
use super::output::{self, OutputStyle};
use super::table::TextTable;
use crate::bus::{Addressee, Caller};
use crate::dbus::Bus;
use crate::printable::escaped_json;
use clap::builder::styling::Style;
use iotmonitor_core::model::alert::Priority;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::alert_record::AlertReport;
use std::time::Duration;

/// The requested contents and format.
#[derive(Debug)]
pub struct AlertsQuery {
    pub name: Option<String>,
    pub since: Duration,
    pub priority: Priority,
    pub json: bool,
}

/// The priority of `--priority`.
///
/// # Errors
/// Returns a sentence about the error.
pub fn priority(text: &str) -> Result<Priority, String> {
    let known = Priority::ALL.map(Priority::as_str).join(", ");
    Priority::named(text).ok_or_else(|| format!("it must be one of {known}"))
}

/// Prints the answer; returns the exit code.
pub fn alerts(bus: Bus, addressee: Addressee, query: &AlertsQuery) -> u8 {
    let name = match query.name.clone().map(DeviceName::new).transpose() {
        Ok(name) => name,
        Err(error) => return fail(&error),
    };
    conclude(in_runtime(async {
        let caller = Caller::connect(bus, None, addressee).await?;
        let device = name.as_ref().map(DeviceName::as_str);
        let alerts = caller.alerts(device, query.priority, query.since).await?;
        if let Some(name) = name.as_ref().filter(|_| alerts.is_empty()) {
            // A device that has left the configuration may have alerts; another one is a slip.
            suggesting(&caller, name, caller.device(name).await.map(drop)).await?;
        }
        output::print(if query.json {
            render_json(&alerts)
        } else {
            table(&alerts, &LocalTime::of_this_machine(), OutputStyle::of_stdout())
        })?;
        Ok::<(), AskError>(())
    }))
}

/// Notes that a person has seen to an alert; a success prints nothing.
pub fn acknowledge(bus: Bus, addressee: Addressee, id: u64) -> u8 {
    conclude(in_runtime(async {
        let caller = Caller::connect(bus, None, addressee).await?;
        caller.acknowledge(id).await
    }))
}

fn render_json(alerts: &[AlertReport]) -> String {
    let alerts: Vec<String> = alerts.iter().map(AlertReport::to_json).collect();
    escaped_json(format!("[{}]\n", alerts.join(",\n")))
}

fn table(alerts: &[AlertReport], local: &LocalTime, look: OutputStyle) -> String {
    if alerts.is_empty() {
        return "no alerts\n".to_owned();
    }
    let mut table = TextTable::new(look, ["ID", "TIME", "PRIORITY", "SEEN", "ALERT"]);
    for alert in alerts {
        let id = alert.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let seen = if alert.acknowledged.is_some() { "yes" } else { "-" };
        let cells = [
            id,
            local.show(alert.time),
            alert.priority.as_str().to_owned(),
            seen.to_owned(),
            alert.message.clone(),
        ];
        table.row(cells.map(|cell| (cell, Style::new())));
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert() -> AlertReport {
        AlertReport {
            id: Some(7),
            time: 951_782_461,
            event: "expired".to_owned(),
            priority: Priority::Warning,
            device: Some("lamp".to_owned()),
            reason: None,
            message: "`lamp` is silent".to_owned(),
            acknowledged: None,
        }
    }

    #[test]
    fn alerts_are_a_table_for_people_and_json_for_programs() {
        let seen = AlertReport { acknowledged: Some(951_782_500), id: Some(6), ..alert() };
        let alerts = [alert(), seen];
        assert_eq!(
            table(&alerts, &LocalTime::by_rules("IST-5:30"), OutputStyle::default()),
            "ID  TIME                     PRIORITY  SEEN  ALERT\n\
             7   2000-02-29 05:31:01 IST  warning   -     `lamp` is silent\n\
             6   2000-02-29 05:31:01 IST  warning   yes   `lamp` is silent\n"
        );
        let json = render_json(&alerts);
        assert_eq!(serde_json::from_str::<Vec<AlertReport>>(&json).unwrap(), alerts);
        assert_eq!(table(&[], &LocalTime::by_rules("UTC0"), OutputStyle::default()), "no alerts\n");
    }

    #[test]
    fn a_priority_is_named() {
        assert_eq!(priority("warning"), Ok(Priority::Warning));
        assert!(priority("loud").unwrap_err().contains("error, warning, notice, info"));
    }
}
