//! Uptime and incidents of all devices, which the history computes for scrapes once a minute at most.

use super::daemon_client::DaemonClient;
use iotmonitor_core::model::history::figures::PastFigures;
use iotmonitor_core::model::history::uptime::WINDOWS;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time for which figures are used again.
const FRESH: Duration = Duration::from_secs(60);

/// Figures by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures(Arc<Vec<PastFigures>>);

impl Figures {
    pub fn new(mut figures: Vec<PastFigures>) -> Self {
        figures.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Self(Arc::new(figures))
    }

    pub fn of(&self, name: &str) -> Option<&PastFigures> {
        let place = self.0.binary_search_by(|figures| (*figures.name).cmp(name)).ok()?;
        self.0.get(place)
    }

    /// The uptime of a device in each window of which any time counts, with the window's name.
    pub fn uptimes(&self, name: &str) -> impl Iterator<Item = (&'static str, f64)> {
        let figures = self.of(name);
        WINDOWS.iter().enumerate().filter_map(move |(place, (title, _))| {
            figures.and_then(|figures| Some((*title, figures.uptime(place)?)))
        })
    }
}

/// The latest figures, shared by all scrapes.
#[derive(Debug, Default)]
pub(super) struct FiguresCache(Mutex<Option<(Instant, Figures)>>);

impl FiguresCache {
    /// The figures, at most a minute old. Where they cannot be had there are none: the others are
    /// not held back for them.
    pub async fn get(&self, daemon: &DaemonClient) -> Figures {
        if let Some(figures) = self.fresh(Instant::now()) {
            return figures;
        }
        let Ok(figures) = daemon.figures().await.map(Figures::new) else {
            return Figures::default();
        };
        self.put(figures.clone(), Instant::now());
        figures
    }

    fn fresh(&self, now: Instant) -> Option<Figures> {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (made, figures) = cached.as_ref()?;
        (now.saturating_duration_since(*made) < FRESH).then(|| figures.clone())
    }

    fn put(&self, figures: Figures, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, figures));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotmonitor_core::model::history::figures::FiguresMaker;

    #[test]
    fn figures_are_found_by_name_and_used_for_a_minute() {
        let maker = FiguresMaker::new(Duration::from_secs(1_800_000_000), Vec::new());
        let known_for = |name: &str, seconds: u64| {
            let since = Duration::from_secs(1_800_000_000 - seconds);
            maker.figures(name.to_owned(), since, &[], 2)
        };
        let figures = Figures::new(vec![known_for("oven", 60), known_for("lamp", 0)]);
        assert_eq!(figures.uptimes("lamp").count(), 0, "no time counts");
        let uptimes: Vec<_> = figures.uptimes("oven").collect();
        assert_eq!(uptimes, [("24h", 1.0), ("7d", 1.0), ("30d", 1.0), ("90d", 1.0)]);
        assert_eq!(figures.of("oven").unwrap().incidents, 2);
        assert!(figures.of("bell").is_none());

        let (cache, made) = (FiguresCache::default(), Instant::now());
        assert!(cache.fresh(made).is_none());
        cache.put(figures, made);
        assert!(cache.fresh(made + FRESH - Duration::from_millis(1)).is_some());
        assert!(cache.fresh(made + FRESH).is_none());
    }
}
