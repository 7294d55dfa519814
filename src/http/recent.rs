//! What of the news is streamed, and the alerts counted since the start.

use super::live::Live;
use super::{News, PageShared, json};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::history::alert_record::AlertReport;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Owned by the page's thread alone, whose tasks share it.
#[derive(Debug)]
pub(super) struct Recent {
    shared: Arc<PageShared>,
    pub live: Live,
}

impl Recent {
    pub fn new(shared: Arc<PageShared>) -> Self {
        Self { live: Live::new(Arc::clone(&shared)), shared }
    }

    /// Forwards the event to the streaming clients.
    pub fn take_in(&self, news: News) {
        if self.shared.missed.swap(false, Ordering::Relaxed) {
            self.live.refresh();
        }
        match news {
            News::Alert(alert) if self.live.has_clients() => {
                self.live.send("alert", AlertReport::of(&alert).to_json());
            }
            News::Alert(_) => {}
            News::Acknowledged { id, time } => {
                let time = time.as_secs();
                let data = serde_json::json!({ "id": id, "acknowledged": time });
                self.live.send("acknowledged", data.to_string());
            }
            News::Device(view) => self.live.device(&view.name, json::device(&view)),
            News::Summary(summary) => self.live.summary(json::summary(&summary).to_string()),
            News::Reloaded => self.live.refresh(),
        }
    }

    /// Alerts since the start, by kind.
    pub fn counts(&self) -> Vec<(AlertKind, u64)> {
        let counts = self.shared.alerts.iter().map(|count| count.load(Ordering::Relaxed));
        AlertKind::ALL.iter().copied().zip(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::live::Listener;
    use iotmonitor_core::model::history::alert_record::AlertRecord;
    use std::time::Duration;

    #[test]
    fn clients_refresh_after_missed_events() {
        let recent = Recent::new(PageShared::new());
        let listener = Listener::to(&recent.live);
        let kinds =
            || -> Vec<_> { std::iter::from_fn(|| listener.next()).map(|(kind, _)| kind).collect() };
        recent.shared.missed.store(true, Ordering::Relaxed);
        let alert = || Arc::new(AlertRecord::plain(Duration::ZERO, AlertKind::Expired, "x"));
        recent.take_in(News::Alert(alert()));
        assert_eq!(kinds(), ["refresh"], "which brings the alert as well");
        recent.take_in(News::Alert(alert()));
        recent.take_in(News::Acknowledged { id: 3, time: Duration::from_secs(5) });
        assert_eq!(kinds(), ["alert", "acknowledged"]);
        recent.take_in(News::Reloaded);
        assert_eq!(kinds(), [""; 0], "one has just been asked for");
        let other = Listener::to(&recent.live);
        recent.take_in(News::Reloaded);
        assert_eq!(other.next().unwrap().0, "refresh");
    }
}
