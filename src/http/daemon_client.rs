//! Requests to the daemon, which holds all data.

use super::refusal::HttpRefusal;
use crate::request::{Command, JournalEntry, Rejection, Request, Selection, StatePage};
use axum::body::{Body, Bytes};
use futures_util::stream;
use hyper::StatusCode;
use iotmonitor_core::model::device_name::DeviceName;
use iotmonitor_core::model::history::alert_record::AlertQuery;
use iotmonitor_core::model::history::figures::PastFigures;
use iotmonitor_core::model::view::{DeviceView, Summary};
use iotmonitor_core::topic::{TopicFilter, TopicName};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The number of devices in one answer of the daemon: a fraction of a millisecond for its loop, and
/// a bound on the memory for each client that reads a list.
const PAGE: usize = 100;

/// A daemon that does not answer within this time hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time that reading the journal may take, and somewhat more than its reader allows itself.
const JOURNAL: Duration = Duration::from_secs(10);

/// The time that a test alert may take to be delivered. Its unit may wait for a mail server.
const DELIVERY: Duration = Duration::from_secs(60);

/// The channel to the daemon.
#[derive(Debug, Clone)]
pub(super) struct DaemonClient {
    requests: mpsc::Sender<Request>,
}

impl DaemonClient {
    pub fn new(requests: mpsc::Sender<Request>) -> Self {
        Self { requests }
    }

    pub async fn summary(&self) -> Result<Summary, HttpRefusal> {
        self.ask(|reply| Request::Summary { reply }).await
    }

    pub async fn device(&self, device: DeviceName) -> Result<DeviceView, HttpRefusal> {
        self.ask(|reply| Request::View { device, reply }).await
    }

    /// The topic filters of a device.
    pub async fn topics(&self, device: DeviceName) -> Result<Vec<TopicFilter>, HttpRefusal> {
        self.ask(|reply| Request::Topics { device, reply }).await
    }

    /// The past of a device in JSON.
    pub async fn history(
        &self,
        device: DeviceName,
        length: Duration,
    ) -> Result<String, HttpRefusal> {
        self.ask(|reply| Request::History { device, length, reply }).await
    }

    /// The hours of a device in JSON.
    pub async fn hours(&self, device: DeviceName, length: Duration) -> Result<String, HttpRefusal> {
        self.ask(|reply| Request::Hours { device, length, reply }).await
    }

    /// The bars of several devices in JSON.
    pub async fn bars(
        &self,
        devices: Vec<DeviceName>,
        boundaries: Vec<Duration>,
    ) -> Result<String, HttpRefusal> {
        self.ask(|reply| Request::Bars { devices, boundaries, reply }).await
    }

    /// The next recorded states by topic.
    pub async fn states_after(
        &self,
        of: Selection,
        after: Option<TopicName>,
    ) -> Result<StatePage, HttpRefusal> {
        self.ask(|reply| Request::States { of, after, reply }).await
    }

    /// The last entries of the journal about a device.
    pub async fn journal(
        &self,
        device: DeviceName,
        lines: u16,
    ) -> Result<Vec<JournalEntry>, HttpRefusal> {
        let asked =
            self.ask_within(JOURNAL, |reply| Request::Journal { device, lines, reply }).await?;
        asked.unwrap_or_else(|| Err(unavailable("the journal could not be read in time")))
    }

    /// Sends a test alert, and waits for its delivery.
    pub async fn test_alert(&self, command: Command) -> Result<(), HttpRefusal> {
        let asked = self.ask_within(DELIVERY, |reply| Request::Order { command, reply });
        asked.await?.unwrap_or_else(|| {
            let sentence = format!(
                "the test alert was not delivered within {} s: the journal says what comes of it",
                DELIVERY.as_secs()
            );
            Err(HttpRefusal::new(StatusCode::GATEWAY_TIMEOUT, sentence))
        })
    }

    pub async fn command(&self, command: Command) -> Result<(), HttpRefusal> {
        self.ask(|reply| Request::Command { command, reply }).await
    }

    /// Alerts, the newest first, in JSON.
    pub async fn alerts(&self, query: AlertQuery) -> Result<String, HttpRefusal> {
        self.ask(|reply| Request::Alerts { query, reply }).await
    }

    /// The latest incidents, in JSON.
    pub async fn incidents(
        &self,
        device: Option<DeviceName>,
        length: Duration,
    ) -> Result<String, HttpRefusal> {
        self.ask(|reply| Request::Incidents { device, length, reply }).await
    }

    /// The figures of the past of all devices, by name.
    pub async fn figures(&self) -> Result<Vec<PastFigures>, HttpRefusal> {
        self.ask(|reply| Request::Figures { reply }).await
    }

    pub async fn acknowledge(&self, id: u64) -> Result<(), HttpRefusal> {
        self.ask(|reply| Request::Acknowledge { id, reply }).await
    }

    /// The next devices by name, and whether there may be more.
    pub async fn devices_after(
        &self,
        after: Option<DeviceName>,
    ) -> Result<(Vec<DeviceView>, Option<DeviceName>), HttpRefusal> {
        let views = self.ask(|reply| Request::Views { after, limit: PAGE, reply }).await?;
        let last = views.last().filter(|_| views.len() >= PAGE);
        let next = last.and_then(|last| DeviceName::new(last.name.clone()).ok());
        Ok((views, next))
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Rejection>>) -> Request,
    ) -> Result<T, HttpRefusal> {
        let hangs = || Err(unavailable("iotmonitor does not answer"));
        self.ask_within(PATIENCE, request).await?.unwrap_or_else(hangs)
    }

    /// The daemon's answer; `None` where it takes longer.
    async fn ask_within<T>(
        &self,
        patience: Duration,
        request: impl FnOnce(oneshot::Sender<Result<T, Rejection>>) -> Request,
    ) -> Result<Option<Result<T, HttpRefusal>>, HttpRefusal> {
        let answer = async {
            let (reply, answer) = oneshot::channel();
            let ending = || unavailable("iotmonitor is shutting down");
            self.requests.send(request(reply)).await.map_err(|_| ending())?;
            answer.await.map_err(|_| ending())
        };
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => Ok(Some(answer?.map_err(HttpRefusal::from))),
            Err(_elapsed) => Ok(None),
        }
    }

    /// Streams a JSON array of the results of `render` for each device, in the order of their
    /// names. The daemon is asked for more only when the client has read the earlier part.
    pub fn list(self, render: fn(&DeviceView) -> Option<String>) -> Body {
        let start = Some(Position { after: None, begun: false, full: false });
        Body::from_stream(stream::try_unfold((self, start), move |(daemon, position)| async move {
            let Some(mut position) = position else { return Ok::<_, HttpRefusal>(None) };
            let (views, next) = daemon.devices_after(position.after.take()).await?;
            let mut chunk = String::from(if position.begun { "" } else { "[" });
            for item in views.iter().filter_map(render) {
                chunk.push_str(if position.full { ",\n" } else { "\n" });
                chunk.push_str(&item);
                position.full = true;
            }
            let position = match next {
                Some(_) => Some(Position { after: next, begun: true, full: position.full }),
                None => {
                    chunk.push_str("\n]\n");
                    None
                }
            };
            Ok(Some((Bytes::from(chunk), (daemon, position))))
        }))
    }
}

fn unavailable(sentence: &str) -> HttpRefusal {
    HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence)
}

/// The position in a list.
struct Position {
    after: Option<DeviceName>,
    /// The opening bracket has been sent.
    begun: bool,
    /// An item has been sent.
    full: bool,
}
