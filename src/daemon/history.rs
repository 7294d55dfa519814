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

impl Daemon<'_> {
    /// Answers with the JSON of a [`DeviceReport`].
    pub(super) fn read_history(
        &self,
        device: DeviceName,
        length: Duration,
        reply: oneshot::Sender<Result<String, Rejection>>,
    ) {
        let (name, now) = (device.clone(), self.now().wall);
        let report = move |history: &DeviceHistory| {
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
        let report = move |history: &DeviceHistory| HoursReport::of(history, length, now).to_json();
        self.report_past(device, (length, now), report, reply);
    }

    /// Answers when the records have been read, and the report is made, on the thread of the
    /// history; neither the loop nor the watching waits for that.
    fn report_past(
        &self,
        device: DeviceName,
        (length, now): (Duration, Duration),
        report: impl FnOnce(&DeviceHistory) -> String + Send + 'static,
        reply: oneshot::Sender<Result<String, Rejection>>,
    ) {
        // The caller may have gone away meanwhile, here and below.
        if self.monitor.view(&device).is_none() {
            let _ = reply.send(Err(Rejection::UnknownDevice(device)));
            return;
        }
        let (sender, answer) = oneshot::channel();
        let reader = HistoryReader::new(move |history| {
            let _ = sender.send(history.map(|history| report(&history)));
        });
        self.adapters.read_history(device, (now.saturating_sub(length), now), reader);
        tokio::spawn(async move {
            let dropped = |_| Err("the history cannot be read at the moment".to_owned());
            let report = answer.await.unwrap_or_else(dropped);
            let _ = reply.send(report.map_err(Rejection::Failed));
        });
    }
}
