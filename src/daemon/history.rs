//! Requests for the past, which its thread answers later.

use super::Daemon;
use crate::history::HistoryReader;
use crate::request::Rejection;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::report::DeviceReport;
use std::time::Duration;
use tokio::sync::oneshot;

impl Daemon<'_> {
    /// Answers with the JSON of a [`DeviceReport`] when the records have been read, and the report is
    /// made, on the thread of the history; neither the loop nor the watching waits for that.
    pub(super) fn read_history(
        &self,
        device: DeviceName,
        length: Duration,
        reply: oneshot::Sender<Result<String, Rejection>>,
    ) {
        // The caller may have gone away meanwhile, here and below.
        if self.monitor.view(&device).is_none() {
            let _ = reply.send(Err(Rejection::UnknownDevice(device)));
            return;
        }
        let now = self.now().wall;
        let name = device.clone();
        let (sender, answer) = oneshot::channel();
        let reader = HistoryReader::new(move |history| {
            let report = history
                .map(|history| DeviceReport::of(name.as_str(), &history, length, now).to_json());
            let _ = sender.send(report);
        });
        self.adapters.read_history(device, (now.saturating_sub(length), now), reader);
        tokio::spawn(async move {
            let dropped = |_| Err("the history cannot be read at the moment".to_owned());
            let report = answer.await.unwrap_or_else(dropped);
            let _ = reply.send(report.map_err(Rejection::Failed));
        });
    }
}
