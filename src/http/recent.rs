//! The alerts of the last day, and what of the news is streamed.
//!
//! Alerts from before the start are in the journal only.

use super::live::Live;
use super::past_alert::PastAlert;
use super::{News, PageShared, json};
use iotmonitor_core::model::alert::AlertKind;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The number of alerts that are kept; the oldest are removed first.
const MAX_ALERTS: usize = 1_000;

/// The time for which an alert is kept.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Owned by the page's thread alone, whose tasks share it.
#[derive(Debug)]
pub(super) struct Recent {
    shared: Arc<PageShared>,
    alerts: Mutex<VecDeque<Arc<PastAlert>>>,
    pub live: Live,
}

impl Recent {
    pub fn new(shared: Arc<PageShared>) -> Self {
        Self { live: Live::new(Arc::clone(&shared)), shared, alerts: Mutex::default() }
    }

    /// Keeps the alerts, and forwards the event to the streaming clients.
    pub fn take_in(&self, news: News) {
        if self.shared.missed.swap(false, Ordering::Relaxed) {
            self.live.send("refresh", String::new());
        }
        match news {
            News::Alert(alert) => {
                if self.live.has_clients() {
                    self.live.send("alert", json::alert(&alert));
                }
                let mut alerts = self.alerts();
                forget_old(&mut alerts, alert.time);
                alerts.push_back(Arc::from(alert));
            }
            News::Device(view) => self.live.send("device", json::device(&view)),
            News::Summary(summary) => {
                self.live.send("summary", json::summary(&summary).to_string())
            }
            News::Reloaded => self.live.send("refresh", String::new()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::past_alert::LONGEST_MESSAGE;
    use iotmonitor_core::model::alert::Alert;

    fn recent() -> Recent {
        Recent::new(PageShared::new())
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
