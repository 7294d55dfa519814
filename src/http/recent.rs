//! The alerts of the last day, and the stream of events for connected clients.
//!
//! Alerts from before the start are in the journal only.

use super::past_alert::PastAlert;
use super::{News, PageShared, json};
use axum::response::sse::Event;
use futures_util::{Stream, stream};
use iotmonitor_core::model::alert::AlertKind;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// The number of alerts that are kept; the oldest are removed first.
const MAX_ALERTS: usize = 1_000;

/// The time for which an alert is kept.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// The number of clients that can stream events at a time; each is a permanent connection.
const MAX_STREAMS: usize = 32;

/// The number of events that wait for a slow client. A client that falls further behind is asked to
/// request everything again.
const BACKLOG: usize = 256;

/// An idle connection is kept alive at this interval.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The delay before the browser reconnects after the connection was lost, as when the monitor
/// restarts.
const RETRY: Duration = Duration::from_secs(1);

/// One event of the stream (HTML Living Standard, "Server-sent events").
#[derive(Debug)]
struct Frame {
    event: &'static str,
    data: String,
}

/// Owned by the page's thread alone, whose tasks share it.
#[derive(Debug)]
pub(super) struct Recent {
    shared: Arc<PageShared>,
    alerts: Mutex<VecDeque<Arc<PastAlert>>>,
    live: broadcast::Sender<Arc<Frame>>,
}

impl Recent {
    pub fn new(shared: Arc<PageShared>) -> Self {
        Self { shared, alerts: Mutex::default(), live: broadcast::channel(BACKLOG).0 }
    }

    /// Keeps the alerts, and forwards the event to the streaming clients.
    pub fn take_in(&self, news: News) {
        if self.shared.missed.swap(false, Ordering::Relaxed) {
            self.send("refresh", String::new());
        }
        match news {
            News::Alert(alert) => {
                if self.live.receiver_count() > 0 {
                    self.send("alert", json::alert(&alert));
                }
                let mut alerts = self.alerts();
                forget_old(&mut alerts, alert.time);
                alerts.push_back(Arc::from(alert));
            }
            News::Device(view) => self.send("device", json::device(&view)),
            News::Summary(summary) => self.send("summary", json::summary(&summary).to_string()),
            News::Reloaded => self.send("refresh", String::new()),
        }
    }

    fn send(&self, event: &'static str, data: String) {
        // There may be no streaming client.
        let _ = self.live.send(Arc::new(Frame { event, data }));
    }

    /// The alerts of the last day, newest first.
    pub fn alerts_of_the_day(&self) -> Vec<Arc<PastAlert>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut alerts = self.alerts();
        forget_old(&mut alerts, now);
        alerts.iter().rev().cloned().collect()
    }

    /// Alerts since the start, by kind.
    pub fn counts(&self) -> Vec<(AlertKind, u64)> {
        let counts = self.shared.alerts.iter().map(|count| count.load(Ordering::Relaxed));
        AlertKind::ALL.iter().copied().zip(counts).collect()
    }

    /// Streams the events from now on; `None` when the maximum number of clients is reached.
    pub fn follow(&self) -> Option<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let place = StreamSlot::take(&self.shared)?;
        let start = (self.live.subscribe(), place, true);
        Some(stream::unfold(start, |(mut frames, place, is_first)| async move {
            if is_first {
                return Some((Ok(Event::default().retry(RETRY)), (frames, place, false)));
            }
            let event = match tokio::time::timeout(KEEP_ALIVE, frames.recv()).await {
                Ok(Ok(frame)) => Event::default().event(frame.event).data(&frame.data),
                Ok(Err(RecvError::Lagged(_))) => Event::default().event("refresh").data(""),
                Ok(Err(RecvError::Closed)) => return None,
                Err(_quiet) => Event::default().comment(""),
            };
            Some((Ok(event), (frames, place, false)))
        }))
    }

    fn alerts(&self) -> MutexGuard<'_, VecDeque<Arc<PastAlert>>> {
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room for one more.
fn forget_old(alerts: &mut VecDeque<Arc<PastAlert>>, now: Duration) {
    let oldest = now.saturating_sub(MAX_AGE);
    while alerts.len() >= MAX_ALERTS || alerts.front().is_some_and(|alert| alert.time < oldest) {
        alerts.pop_front();
    }
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
    use crate::http::past_alert::LONGEST_MESSAGE;
    use iotmonitor_core::model::alert::Alert;
    use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

    fn recent() -> Recent {
        Recent::new(Arc::new(PageShared {
            alerts: std::array::from_fn(|_| AtomicU64::new(0)),
            missed: AtomicBool::new(false),
            streams: AtomicUsize::new(0),
        }))
    }

    fn aged(age: Duration, message: &str) -> News {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let alert = Alert::plain(AlertKind::Expired, message.to_owned());
        News::Alert(Box::new(PastAlert::new(now - age, &alert)))
    }

    #[test]
    fn a_day_of_alerts_is_kept_and_no_more_than_a_thousand() {
        let recent = recent();
        recent.take_in(aged(MAX_AGE + Duration::from_secs(1), "too old"));
        recent.take_in(aged(MAX_AGE / 2, "old"));
        recent.take_in(aged(Duration::ZERO, &"é".repeat(LONGEST_MESSAGE + 1)));
        let kept = recent.alerts_of_the_day();
        assert_eq!(kept.len(), 2);
        assert_eq!(kept[0].message.chars().count(), LONGEST_MESSAGE + 1, "and an ellipsis");
        assert_eq!(kept[1].message, "old");
        for number in 0..2 * MAX_ALERTS {
            recent.take_in(aged(Duration::ZERO, &number.to_string()));
        }
        let kept = recent.alerts_of_the_day();
        assert!(kept.len() >= MAX_ALERTS - 1 && kept.len() <= MAX_ALERTS, "{}", kept.len());
        assert_eq!(kept[0].message, (2 * MAX_ALERTS - 1).to_string());
    }

    #[test]
    fn so_many_look_on_and_the_next_when_one_has_gone() {
        let recent = recent();
        let mut streams: Vec<_> = (0..MAX_STREAMS).map(|_| recent.follow().unwrap()).collect();
        assert!(recent.follow().is_none());
        streams.pop();
        assert!(recent.follow().is_some());
    }

    #[test]
    fn clients_refresh_after_missed_events() {
        let recent = recent();
        let mut frames = recent.live.subscribe();
        recent.shared.missed.store(true, Ordering::Relaxed);
        recent.take_in(aged(Duration::ZERO, "x"));
        assert_eq!(frames.try_recv().unwrap().event, "refresh");
        assert_eq!(frames.try_recv().unwrap().event, "alert");
        recent.take_in(News::Reloaded);
        assert_eq!(frames.try_recv().unwrap().event, "refresh");
        assert!(frames.try_recv().is_err());
    }
}
