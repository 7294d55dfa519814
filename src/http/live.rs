//! The stream of events for connected clients.

use super::PageShared;
use super::daemon_client::DaemonClient;
use axum::response::sse::Event;
use futures_util::{Stream, stream};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;

/// The number of clients that can stream events at a time; each is a permanent connection.
const MAX_STREAMS: usize = 32;

/// The number of events that wait for a slow client. A client that falls further behind is asked to
/// request everything again.
const BACKLOG: usize = 256;

/// An idle connection is kept alive at this interval.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The event after which a client requests everything again. A browser drops an event without data.
const REFRESH: &str = "refresh";
const NOTHING: &str = "{}";

/// The event that proves that the daemon answers, and its interval.
const HEARTBEAT: &str = "heartbeat";
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// The delay before the browser reconnects after the connection was lost, as when the monitor
/// restarts.
const RETRY: Duration = Duration::from_secs(1);

/// One event of the stream (HTML Living Standard, "Server-sent events").
#[derive(Debug)]
pub(super) struct Frame {
    pub event: &'static str,
    data: String,
}

/// Owned by the page's thread alone, whose tasks share it.
#[derive(Debug)]
pub(super) struct Live {
    shared: Arc<PageShared>,
    frames: broadcast::Sender<Arc<Frame>>,
}

impl Live {
    pub fn new(shared: Arc<PageShared>) -> Self {
        Self { shared, frames: broadcast::channel(BACKLOG).0 }
    }

    /// Whether any client would receive an event.
    pub fn has_clients(&self) -> bool {
        self.frames.receiver_count() > 0
    }

    /// Reports at intervals that the daemon answers. A browser shows no comments to scripts, and a
    /// proxy may hold a stream whose source is gone.
    pub async fn prove_life(&self, daemon: &DaemonClient) -> Infallible {
        let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.has_clients() && daemon.summary().await.is_ok() {
                self.send(HEARTBEAT, proof_of_life());
            }
        }
    }

    /// Asks the clients to request everything again.
    pub fn refresh(&self) {
        self.send(REFRESH, NOTHING.to_owned());
    }

    pub fn send(&self, event: &'static str, data: String) {
        // There may be no streaming client.
        let _ = self.frames.send(Arc::new(Frame { event, data }));
    }

    #[cfg(test)]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Frame>> {
        self.frames.subscribe()
    }

    /// Streams the events from now on; `None` when the maximum number of clients is reached.
    pub fn follow(&self) -> Option<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let place = StreamSlot::take(&self.shared)?;
        let start = (self.frames.subscribe(), place, true);
        Some(stream::unfold(start, |(mut frames, place, is_first)| async move {
            if is_first {
                // The daemon has answered just now.
                let event = Event::default().retry(RETRY).event(HEARTBEAT).data(proof_of_life());
                return Some((Ok(event), (frames, place, false)));
            }
            let event = match tokio::time::timeout(KEEP_ALIVE, frames.recv()).await {
                Ok(Ok(frame)) => Event::default().event(frame.event).data(&frame.data),
                Ok(Err(RecvError::Lagged(_))) => Event::default().event(REFRESH).data(NOTHING),
                Ok(Err(RecvError::Closed)) => return None,
                Err(_quiet) => Event::default().comment(""),
            };
            Some((Ok(event), (frames, place, false)))
        }))
    }
}

fn proof_of_life() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({ "time": now.as_secs() }).to_string()
}

/// One of [`MAX_STREAMS`] places, returned when it is dropped.
struct StreamSlot(Arc<PageShared>);

impl StreamSlot {
    fn take(shared: &Arc<PageShared>) -> Option<Self> {
        let place = Self(Arc::clone(shared));
        // Dropping a surplus place returns it.
        (shared.streams.fetch_add(1, Ordering::Relaxed) < MAX_STREAMS).then_some(place)
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_look_on_and_the_next_when_one_has_gone() {
        let live = Live::new(PageShared::new());
        let mut streams: Vec<_> = (0..MAX_STREAMS).map(|_| live.follow().unwrap()).collect();
        assert!(live.follow().is_none());
        streams.pop();
        assert!(live.follow().is_some());
    }
}
