//! Requests for alerts, which the thread of the history answers later.

use super::Daemon;
use crate::history::PastReader;
use crate::request::Rejection;
use iotmonitor_core::model::history::alert_record::{AlertQuery, AlertRecord, AlertReport};
use std::sync::Arc;
use tokio::sync::oneshot;

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
            let _ = sender.send(alerts.map(|alerts| {
                let reports = alerts.iter().map(|alert| AlertReport::of(alert).to_json());
                format!("[\n{}\n]\n", reports.collect::<Vec<_>>().join(",\n"))
            }));
        });
        self.adapters.read_alerts(query, reader);
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

/// A question that was dropped could not be asked.
fn answered<T>(
    answer: Result<Result<T, String>, oneshot::error::RecvError>,
) -> Result<T, Rejection> {
    let dropped = |_| Err("the history cannot be used at the moment".to_owned());
    answer.unwrap_or_else(dropped).map_err(Rejection::Failed)
}
