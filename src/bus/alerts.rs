//! Alerts of the past on the bus: both sides of the calls about them.

use super::calls::{Call, Calls};
use super::client::{CallError, Caller};
use super::error::BusError;
use crate::request::Request;
use iotmonitor_core::model::alert::Priority;
use iotmonitor_core::model::history::alert_record::{AlertQuery, AlertReport};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zbus::Message;

/// The number of alerts in an answer.
const MOST_ALERTS: usize = 1_000;

/// Device, priority, seconds, number and limit; what is empty or 0 restricts nothing.
type Asked = (String, String, u64, u64, u32);

impl Calls {
    pub(super) async fn list_alerts(&self, call: &Call<'_>) -> Result<Message, BusError> {
        let query = query(call.arguments()?)?;
        call.reply(&self.ask(|reply| Request::Alerts { query, reply }).await?)
    }

    pub(super) async fn acknowledge_alert(&self, call: &Call<'_>) -> Result<Message, BusError> {
        self.authorise(call).await?;
        let id = call.arguments()?;
        self.ask(|reply| Request::Acknowledge { id, reply }).await?;
        call.reply(&())
    }
}

fn query((device, priority, seconds, before, limit): Asked) -> Result<AlertQuery, BusError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let least = match priority.as_str() {
        "" => Priority::Info,
        name => Priority::named(name).ok_or_else(|| {
            let known = Priority::ALL.map(Priority::as_str).join(", ");
            BusError::Failed(format!("`{}` is none of {known}", name.escape_debug()))
        })?,
    };
    let limit = match usize::try_from(limit).unwrap_or(MOST_ALERTS) {
        0 => MOST_ALERTS,
        limit => limit.min(MOST_ALERTS),
    };
    Ok(AlertQuery {
        since: match seconds {
            0 => Duration::ZERO,
            _ => now.saturating_sub(Duration::from_secs(seconds)),
        },
        device: Some(device).filter(|device| !device.is_empty()),
        least,
        before: Some(before).filter(|before| *before > 0),
        limit,
    })
}

impl Caller {
    /// The alerts of the last stretch of this length, newest first: of one device or of all, and of
    /// this priority or a graver one.
    ///
    /// # Errors
    /// Returns an error when the daemon cannot be reached, as a sentence for the person who asked.
    pub async fn alerts(
        &self,
        device: Option<&str>,
        least: Priority,
        since: Duration,
    ) -> Result<Vec<AlertReport>, CallError> {
        let (device, least, seconds) =
            (device.unwrap_or(""), least.as_str(), since.as_secs().max(1));
        let (mut alerts, mut before) = (Vec::new(), 0_u64);
        loop {
            let reply = self.method("ListAlerts", &(device, least, seconds, before, 0_u32)).await?;
            let text: String = reply.body().deserialize().map_err(|error| self.explain(error))?;
            let page = AlertReport::list_from_json(&text).ok_or_else(|| self.no_answer())?;
            let next = page.last().filter(|_| page.len() >= MOST_ALERTS).and_then(|last| last.id);
            alerts.extend(page);
            match next {
                Some(last) => before = last,
                None => return Ok(alerts),
            }
        }
    }

    /// Notes that a person has seen to an alert.
    ///
    /// # Errors
    /// Returns an error when the daemon cannot be reached or refuses.
    pub async fn acknowledge(&self, id: u64) -> Result<(), CallError> {
        self.ask("AcknowledgeAlert", &id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_restricts_nothing() {
        let all = query((String::new(), String::new(), 0, 0, 0)).unwrap();
        assert_eq!((all.device, all.before, all.since), (None, None, Duration::ZERO));
        assert_eq!((all.least, all.limit), (Priority::Info, MOST_ALERTS));
        let some = query(("lamp".to_owned(), "warning".to_owned(), 60, 7, 5)).unwrap();
        assert_eq!((some.device.as_deref(), some.before), (Some("lamp"), Some(7)));
        assert_eq!((some.least, some.limit), (Priority::Warning, 5));
        assert!(some.since > Duration::ZERO);
        let wrong = query((String::new(), "loud".to_owned(), 0, 0, 0)).unwrap_err();
        assert!(wrong.to_string().contains("`loud` is none of error, warning"), "{wrong}");
    }
}
