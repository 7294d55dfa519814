//! Requests for entries of the journal, which another process reads.

use super::{Daemon, adapters};
use crate::request::{JournalEntry, Rejection};
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::unit_name::UnitName;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Daemon<'_> {
    /// Answers when the entries have been read, for which the loop does not wait.
    pub(super) fn read_journal(
        &self,
        device: DeviceName,
        lines: u16,
        mut reply: oneshot::Sender<Result<Vec<JournalEntry>, Rejection>>,
    ) {
        let Some(view) = self.monitor.view(&device) else {
            // The caller may have gone away meanwhile, here and below.
            let _ = reply.send(Err(Rejection::UnknownDevice(device)));
            return;
        };
        let unit = view.agent.map(|agent| UnitName::from_systemd(agent.unit));
        let (journal, bus) = (Arc::clone(&self.journal), adapters::bus_of(self.options));
        tokio::spawn(async move {
            let reading = journal.last(bus, &device, unit.as_ref(), lines);
            let entries = tokio::select! {
                entries = reading => entries,
                () = reply.closed() => return,
            };
            let _ = reply.send(entries.map_err(Rejection::Failed));
        });
    }
}
