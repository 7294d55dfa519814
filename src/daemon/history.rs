//! Requests for the past, which its thread answers later.

use super::Daemon;
use crate::history::HistoryReader;
use crate::request::Rejection;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::hours::HoursReport;
use iotmonitor_core::model::history::report::DeviceReport;
use iotmonitor_core::model::history::uptime::DeviceHistory;
use std::time::Duration;
use tokio::sync::oneshot;

/// The reason when the history's thread does not take the question.
const UNREADABLE: &str = "the history cannot be read at the moment";

/// The size in bytes at which an answer about several devices ends.
const LONG_ANSWER: usize = 4 << 20;

impl Daemon<'_> {
    /// Answers with the JSON of a [`DeviceReport`].
    pub(super) fn read_history(
        &self,
        device: DeviceName,
        length: Duration,
        reply: oneshot::Sender<Result<String, Rejection>>,
    ) {
        let now = self.now().wall;
        let report = move |name: &DeviceName, history: &DeviceHistory| {
            DeviceReport::of(name.as_str(), history, length, now).to_json()
        };
        self.report_past(device, (length, now), report, reply);
    }

    /// Answers with the JSON of an [`HoursReport`].
    pub(super) fn read_hours(
        &self,
        device: DeviceName,
        length: Duration,
        reply: oneshot::Sender<Result<String, Rejection>>,
    ) {
        let now = self.now().wall;
        let report = move |_: &DeviceName, history: &DeviceHistory| {
            HoursReport::of(history, length, now).to_json()
        };
        self.report_past(device, (length, now), report, reply);
    }

    /// Answers with the JSON of a [`DeviceReport`] for each device, until the answer is long.
    pub(super) fn read_histories(
        &self,
        mut devices: Vec<DeviceName>,
        length: Duration,
        boundaries: Vec<Duration>,
        reply: oneshot::Sender<Result<Vec<String>, Rejection>>,
    ) {
        let asked = devices.first().cloned();
        devices.retain(|device| self.monitor.view(device).is_some());
        if let (true, Some(device)) = (devices.is_empty(), asked) {
            // The caller may have gone away meanwhile, here and below.
            let _ = reply.send(Err(Rejection::UnknownDevice(device)));
            return;
        }
        let now = self.now().wall;
        let report = move |name: &DeviceName, history: &DeviceHistory| {
            let (name, times) = (name.as_str(), (length, now));
            let report = match &boundaries[..] {
                [] => DeviceReport::of(name, history, length, now),
                between => DeviceReport::with_days_between(between, name, history, times),
            };
            report.to_json()
        };
        let mut size = 0;
        let is_long = move |report: &String| {
            size += report.len();
            size >= LONG_ANSWER
        };
        let (sender, answer) = oneshot::channel();
        let reader = HistoryReader::until(is_long, report, |reports| drop(sender.send(reports)));
        self.adapters.read_history(devices, (now.saturating_sub(length), now), reader);
        tokio::spawn(async move {
            let reports = answer.await.unwrap_or_else(|_| Err(UNREADABLE.to_owned()));
            let _ = reply.send(reports.map_err(Rejection::Failed));
        });
    }

    /// Answers with the bars of those devices that there are.
    pub(super) fn read_bars(
        &self,
        mut devices: Vec<DeviceName>,
        boundaries: Vec<Duration>,
        reply: oneshot::Sender<Result<String, Rejection>>,
    ) {
        devices.retain(|device| self.monitor.knows(device));
        let now = self.now().wall;
        let bars = move |name: &DeviceName, history: &DeviceHistory| {
            // Strings and numbers always serialize.
            let text = |value: Result<String, _>| value.unwrap_or_default();
            let bars = text(serde_json::to_string(&history.bars(&boundaries, now)));
            format!("{}:{bars}", text(serde_json::to_string(name.as_str())))
        };
        let (sender, answer) = oneshot::channel();
        let reader = HistoryReader::new(bars, |bars| drop(sender.send(bars)));
        // Of their days and restarts none are needed.
        self.adapters.read_history(devices, (now, now), reader);
        tokio::spawn(async move {
            let bars = answer.await.unwrap_or_else(|_| Err(UNREADABLE.to_owned()));
            let json = bars.map(|bars| format!("{{\"devices\":{{{}}}}}", bars.join(",")));
            // The caller may have gone away meanwhile.
            let _ = reply.send(json.map_err(Rejection::Failed));
        });
    }

    /// Answers when the records have been read, and the report is made, on the thread of the
    /// history; neither the loop nor the watching waits for that.
    fn report_past(
        &self,
        device: DeviceName,
        (length, now): (Duration, Duration),
        report: impl Fn(&DeviceName, &DeviceHistory) -> String + Send + 'static,
        reply: oneshot::Sender<Result<String, Rejection>>,
    ) {
        if self.monitor.view(&device).is_none() {
            let _ = reply.send(Err(Rejection::UnknownDevice(device)));
            return;
        }
        let (sender, answer) = oneshot::channel();
        let reader = HistoryReader::new(report, |reports| drop(sender.send(reports)));
        self.adapters.read_history(vec![device], (now.saturating_sub(length), now), reader);
        tokio::spawn(async move {
            let reports = answer.await.unwrap_or_else(|_| Err(UNREADABLE.to_owned()));
            let report = reports.map(|reports| reports.into_iter().next().unwrap_or_default());
            let _ = reply.send(report.map_err(Rejection::Failed));
        });
    }
}
