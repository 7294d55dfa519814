//! Requests for alerts, incidents and figures, which the thread of the history answers later.

use super::Daemon;
use crate::history::{HistoryCommand, PastReader};
use crate::request::Rejection;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::EpisodeRecord;
use iotmonitor_core::model::history::alert_record::{AlertQuery, AlertRecord, AlertReport};
use iotmonitor_core::model::history::figures::PastFigures;
use iotmonitor_core::model::history::report::DeviceIncident;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The number of incidents in an answer.
const MOST_INCIDENTS: usize = 1_000;

impl Daemon<'_> {
    /// Answers with JSON, which is made on the thread of the history.
    pub(super) fn read_alerts(
        &self,
        query: AlertQuery,
        reply: oneshot::Sender<Result<String, Rejection>>,
    ) {
        let (sender, answer) = oneshot::channel();
        let reader = PastReader::new(move |alerts: Result<Vec<Arc<AlertRecord>>, String>| {
            // The caller may have gone away meanwhile, here and below.
            let _ =
                sender.send(alerts.map(|alerts| {
                    array(alerts.iter().map(|alert| AlertReport::of(alert).to_json()))
                }));
        });
        self.adapters.read_alerts(query, reader);
        tokio::spawn(async move {
            let _ = reply.send(answered(answer.await));
        });
    }

    /// Answers with JSON, as above.
    pub(super) fn read_incidents(
        &self,
        device: Option<DeviceName>,
        length: Duration,
        reply: oneshot::Sender<Result<String, Rejection>>,
    ) {
        let now = self.now().wall;
        let (sender, answer) = oneshot::channel();
        let reader = PastReader::new(move |episodes: Result<Vec<EpisodeRecord>, String>| {
            let _ = sender.send(episodes.map(|episodes| {
                let reports = episodes.iter().filter_map(|it| DeviceIncident::of(it, now));
                array(reports.map(|report| report.to_json()))
            }));
        });
        let since = now.saturating_sub(length);
        self.adapters.ask_history(HistoryCommand::ReadIncidents {
            device,
            since,
            limit: MOST_INCIDENTS,
            reader,
        });
        tokio::spawn(async move {
            let _ = reply.send(answered(answer.await));
        });
    }

    pub(super) fn read_figures(&self, reply: oneshot::Sender<Result<Vec<PastFigures>, Rejection>>) {
        let (sender, answer) = oneshot::channel();
        let reader = PastReader::new(move |figures| drop(sender.send(figures)));
        let now = self.now().wall;
        self.adapters.ask_history(HistoryCommand::ReadFigures { now, reader });
        tokio::spawn(async move {
            let _ = reply.send(answered(answer.await));
        });
    }

    /// Answers when it is on disk, and reports it to those who watch the page.
    pub(super) fn acknowledge(&self, id: u64, reply: oneshot::Sender<Result<(), Rejection>>) {
        let (sender, answer) = oneshot::channel();
        let reader = PastReader::new(move |outcome| drop(sender.send(outcome)));
        self.adapters.acknowledge(id, self.now().wall, reader);
        let page = self.adapters.page_news();
        tokio::spawn(async move {
            let outcome = answered(answer.await).and_then(|acknowledged| {
                let time = acknowledged.ok_or(Rejection::UnknownAlert(id))?;
                if let Some(page) = page {
                    page.acknowledged(id, time);
                }
                Ok(())
            });
            let _ = reply.send(outcome);
        });
    }
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[\n{}\n]\n", items.collect::<Vec<_>>().join(",\n"))
}

/// A question that was dropped could not be asked.
fn answered<T>(
    answer: Result<Result<T, String>, oneshot::error::RecvError>,
) -> Result<T, Rejection> {
    let dropped = |_| Err("the history cannot be used at the moment".to_owned());
    answer.unwrap_or_else(dropped).map_err(Rejection::Failed)
}
