//! Requests for the past, which its thread answers later.

use super::Daemon;
use crate::request::Rejection;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::report::DeviceReport;
use std::time::Duration;
use tokio::sync::oneshot;

impl Daemon<'_> {
    /// Answers when the records have been read; neither the loop nor the watching waits for that.
    pub(super) fn read_history(
        &self,
        device: DeviceName,
        length: Duration,
        reply: oneshot::Sender<Result<DeviceReport, Rejection>>,
    ) {
        // The caller may have gone away meanwhile, here and below.
        if self.monitor.view(&device).is_none() {
            let _ = reply.send(Err(Rejection::UnknownDevice(device)));
            return;
        }
        let now = self.now().wall;
        let read = self.adapters.read_history(&device, (now.saturating_sub(length), now));
        tokio::spawn(async move {
            let failed = |reason: &str| Err(Rejection::Failed(reason.to_owned()));
            let _ = reply.send(match read.await {
                Ok(Ok(histories)) => {
                    let history = histories.into_iter().next().unwrap_or_default();
                    Ok(DeviceReport::of(device.as_str(), &history, length, now))
                }
                Ok(Err(reason)) => failed(&reason),
                Err(_) => failed("the history cannot be read at the moment"),
            });
        });
    }
}
