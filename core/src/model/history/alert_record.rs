//! An alert as it is kept for people who read it later, and what they ask for.

use super::{millis, optional_millis};
use crate::model::alert::{Alert, AlertKind, Priority, Reason};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest part of a message that is kept, in characters. With the number of alerts it bounds
/// what they take.
pub const LONGEST_MESSAGE: usize = 2_000;

/// An alert that was raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRecord {
    /// Distinguishes it from all others of this monitor, and grows with each. `None` until the
    /// numbers of earlier runs are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The wall clock, since the Unix epoch.
    #[serde(with = "millis")]
    pub time: Duration,
    /// The kind of alert (see [`AlertKind::event`]), which a later version may not know.
    pub event: String,
    pub priority: Priority,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The reason of the alarm, where the alert is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    pub message: String,
    /// When a person acknowledged it.
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Duration>,
}

impl AlertRecord {
    #[must_use]
    pub fn new(time: Duration, alert: &Alert) -> Self {
        let end = alert.message.char_indices().nth(LONGEST_MESSAGE);
        let message = match end {
            Some((end, _)) => format!("{}…", &alert.message[..end]),
            None => alert.message.clone(),
        };
        Self {
            id: None,
            time,
            event: alert.kind.event().to_owned(),
            priority: alert.kind.priority(),
            device: alert.device.as_ref().map(ToString::to_string),
            reason: alert.reason,
            message,
            acknowledged: None,
        }
    }

    /// An alert without a device.
    #[must_use]
    pub fn plain(time: Duration, kind: AlertKind, message: &str) -> Self {
        Self::new(time, &Alert::plain(kind, message.to_owned()))
    }

    /// Whether a person should see to it: such alerts are kept apart from the others.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        self.priority <= Priority::Warning
    }

    /// The bytes that it takes, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        let device = self.device.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.event.len() + device + self.message.len()
    }
}

/// An alert in the form in which programs receive it. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertReport {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    pub time: u64,
    pub event: String,
    pub priority: Priority,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<u64>,
}

impl AlertReport {
    #[must_use]
    pub fn of(record: &AlertRecord) -> Self {
        Self {
            id: record.id,
            time: record.time.as_secs(),
            event: record.event.clone(),
            priority: record.priority,
            device: record.device.clone(),
            reason: record.reason.map(|reason| reason.as_str().to_owned()),
            message: record.message.clone(),
            acknowledged: record.acknowledged.map(|time| time.as_secs()),
        }
    }

    /// The reports in an array of JSON.
    #[must_use]
    pub fn list_from_json(text: &str) -> Option<Vec<Self>> {
        serde_json::from_str(text).ok()
    }

    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and numbers always serialize.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// Which alerts are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertQuery {
    /// Not those from before this time.
    pub since: Duration,
    pub device: Option<String>,
    /// Those of this priority, and graver ones.
    pub least: Priority,
    /// Only those with a lower number.
    pub before: Option<u64>,
    pub limit: usize,
}

impl AlertQuery {
    #[must_use]
    pub fn covers(&self, record: &AlertRecord) -> bool {
        record.time >= self.since
            && record.priority <= self.least
            && self.device.as_ref().is_none_or(|name| record.device.as_ref() == Some(name))
            && self.before.is_none_or(|before| record.id.is_some_and(|id| id < before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AlertRecord {
        let time = Duration::from_millis(1_700_000_000_123);
        let record = AlertRecord::plain(time, AlertKind::Expired, "`lamp` is silent");
        AlertRecord { id: Some(7), device: Some("lamp".to_owned()), ..record }
    }

    #[test]
    fn an_alert_is_kept_in_few_bytes_and_reported_in_seconds() {
        let text = serde_json::to_string(&record()).unwrap();
        assert_eq!(
            text,
            "{\"id\":7,\"time\":1700000000123,\"event\":\"expired\",\"priority\":\"warning\",\
             \"device\":\"lamp\",\"message\":\"`lamp` is silent\"}"
        );
        assert_eq!(serde_json::from_str::<AlertRecord>(&text).unwrap(), record());
        let seen = Some(Duration::from_secs(1_700_000_009));
        let seen = AlertRecord { acknowledged: seen, reason: Some(Reason::Silent), ..record() };
        assert_eq!(
            AlertReport::of(&seen).to_json(),
            "{\"id\":7,\"time\":1700000000,\"event\":\"expired\",\"priority\":\"warning\",\
             \"device\":\"lamp\",\"reason\":\"silent\",\"message\":\"`lamp` is silent\",\
             \"acknowledged\":1700000009}"
        );
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let text = "é".repeat(LONGEST_MESSAGE + 1);
        let kept = AlertRecord::plain(Duration::ZERO, AlertKind::Started, &text).message;
        assert_eq!(kept.chars().count(), LONGEST_MESSAGE + 1, "and an ellipsis");
        assert!(kept.ends_with("é…"));
    }

    #[test]
    fn a_query_covers_what_it_names() {
        let all = AlertQuery {
            since: Duration::ZERO,
            device: None,
            least: Priority::Info,
            before: None,
            limit: 10,
        };
        let covers = |query: AlertQuery| query.covers(&record());
        assert!(covers(all.clone()));
        assert!(covers(AlertQuery { since: record().time, ..all.clone() }));
        assert!(!covers(AlertQuery { since: Duration::from_secs(1_700_000_001), ..all.clone() }));
        assert!(covers(AlertQuery { device: Some("lamp".to_owned()), ..all.clone() }));
        assert!(!covers(AlertQuery { device: Some("lam".to_owned()), ..all.clone() }));
        assert!(covers(AlertQuery { least: Priority::Warning, ..all.clone() }));
        assert!(!covers(AlertQuery { least: Priority::Error, ..all.clone() }));
        assert!(covers(AlertQuery { before: Some(8), ..all.clone() }));
        assert!(!covers(AlertQuery { before: Some(7), ..all.clone() }));
        let unnumbered = AlertRecord { id: None, ..record() };
        assert!(all.covers(&unnumbered));
        assert!(!AlertQuery { before: Some(8), ..all }.covers(&unnumbered));
    }
}
