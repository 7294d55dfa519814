//! An alert as the page keeps it.

use iotmonitor_core::model::alert::{Alert, AlertKind, Reason};
use std::time::Duration;

/// The longest part of a message that is kept, in characters. With [`MAX_ALERTS`] it bounds the
/// memory to a few MB.
pub(super) const LONGEST_MESSAGE: usize = 2_000;

/// An alert as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PastAlert {
    /// The wall clock, since the Unix epoch.
    pub time: Duration,
    pub kind: AlertKind,
    pub device: Option<String>,
    /// The reason of the alarm, where the alert is about one.
    pub reason: Option<Reason>,
    pub message: String,
}

impl PastAlert {
    pub fn new(time: Duration, alert: &Alert) -> Self {
        let end = alert.message.char_indices().nth(LONGEST_MESSAGE);
        let message = match end {
            Some((end, _)) => format!("{}…", &alert.message[..end]),
            None => alert.message.clone(),
        };
        let device = alert.device.as_ref().map(ToString::to_string);
        Self { time, kind: alert.kind, device, reason: alert.reason, message }
    }
}
