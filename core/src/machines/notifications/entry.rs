//! The undelivered news of one subject, and the time of the next attempt.

use crate::model::alert::{AlertKind, Reason};
use crate::model::snapshot::{NewsRecord, UnheardRecord};
use crate::model::unit_name::UnitTemplate;
use std::time::Duration;

/// The delay between tries doubles from the first to the longest.
pub const FIRST_DELAY: Duration = Duration::from_secs(10);
const LONGEST_DELAY: Duration = Duration::from_secs(15 * 60);

/// Facts of one kind are listed line by line, up to this many of the latest.
const MOST_FACTS: usize = 16;

/// One alert for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertNews {
    pub kind: AlertKind,
    /// Wall clock since the Unix epoch.
    pub time: Duration,
    pub reason: Option<Reason>,
    pub message: String,
}

/// The undelivered news of one subject.
#[derive(Debug)]
pub struct UnheardEntry {
    pub way: UnitTemplate,
    pub parts: Vec<Part>,
    pub retry: Retry,
    pub is_flying: bool,
    /// It could not be delivered when it happened.
    pub is_late: bool,
    /// The instance that was tried last and has failed.
    pub failed: Option<String>,
}

/// One matter of an entry.
#[derive(Debug)]
pub struct Part {
    pub matter: AlertKind,
    /// A person has been notified of its beginning, and not of its end.
    pub notified: bool,
    pub news: Option<AlertNews>,
    /// The part in progress.
    pub flying: Option<AlertNews>,
}

#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// The next attempt on monotonic time; `None` waits for a change.
    pub due: Option<Duration>,
    /// The delay after the next failure.
    pub delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { due: Some(Duration::ZERO), delay: FIRST_DELAY }
    }
}

impl Retry {
    pub fn is_due(&self, now: Duration) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// `rests` waits for a change.
    pub fn failed(&mut self, now: Duration, rests: bool) {
        self.due = (!rests).then(|| now + self.delay);
        self.delay = (self.delay * 2).min(LONGEST_DELAY);
    }
}

impl Part {
    /// Adds newer news. The end of a matter whose beginning was not delivered withdraws it.
    pub fn hear(&mut self, news: AlertNews) {
        self.news = Some(match self.news.take() {
            Some(before) if before.kind == news.kind && news.kind.is_fact() => before.and(news),
            Some(_) | None => news,
        });
        self.settle();
    }

    pub fn settle(&mut self) {
        let begins = self.flying.as_ref().is_some_and(|news| !news.kind.is_end());
        let is_end = self.news.as_ref().is_some_and(|news| news.kind.is_end());
        if is_end && !self.notified && !begins {
            self.news = None;
        }
    }

    pub fn landed(&mut self, success: bool) {
        let Some(news) = self.flying.take() else { return };
        if success {
            self.notified = news.kind.has_end();
        } else {
            let newer = self.news.replace(news);
            newer.into_iter().for_each(|newer| self.hear(newer));
        }
        self.settle();
    }

    /// Whether there is nothing to remember.
    pub fn is_done(&self) -> bool {
        !self.notified && self.news.is_none() && self.flying.is_none()
    }
}

impl UnheardEntry {
    pub fn has_news(&self) -> bool {
        self.parts.iter().any(|part| part.news.is_some())
    }

    /// Whether it waits for delivery, by itself or in a summary.
    pub fn waits(&self) -> bool {
        !self.is_flying && self.has_news()
    }

    pub fn take_off(&mut self) -> Vec<AlertNews> {
        self.is_flying = true;
        let mut flying = Vec::new();
        for part in &mut self.parts {
            part.flying = part.news.take();
            flying.extend(part.flying.clone());
        }
        flying
    }
}

impl UnheardEntry {
    pub fn records(&self) -> Vec<UnheardRecord> {
        self.parts.iter().map(Part::record).collect()
    }
}

impl Part {
    fn record(&self) -> UnheardRecord {
        let news = self.news.as_ref().or(self.flying.as_ref()).map(|news| NewsRecord {
            event: news.kind.event().to_owned(),
            time: news.time,
            reason: news.reason,
            message: news.message.clone(),
        });
        UnheardRecord { matter: self.matter.event().to_owned(), notified: self.notified, news }
    }
}

impl AlertNews {
    /// Combines two facts, of which neither replaces the other.
    fn and(mut self, newer: Self) -> Self {
        if !self.message.lines().any(|line| line == newer.message) {
            let first = self.message.lines().count().saturating_sub(MOST_FACTS - 1);
            let lines: Vec<&str> = self.message.lines().skip(first).collect();
            self.message = [&lines[..], &[newer.message.as_str()]].concat().join("\n");
        }
        self
    }

    pub fn of_record(record: &NewsRecord) -> Option<Self> {
        Some(Self {
            kind: AlertKind::of_event(&record.event)?,
            time: record.time,
            reason: record.reason,
            message: record.message.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(kind: AlertKind) -> AlertNews {
        AlertNews { kind, time: Duration::ZERO, reason: None, message: kind.event().to_owned() }
    }

    fn part(notified: bool) -> Part {
        Part { matter: AlertKind::Expired, notified, news: None, flying: None }
    }

    fn take_off(part: &mut Part) {
        part.flying = part.news.take();
    }

    #[test]
    fn an_end_is_news_only_after_a_delivered_beginning() {
        for notified in [false, true] {
            let mut part = part(notified);
            part.hear(news(AlertKind::Recovered));
            assert_eq!(part.news.is_some(), notified);
        }
    }

    #[test]
    fn what_is_under_way_decides_on_the_end_that_follows() {
        for arrives in [false, true] {
            let mut part = part(false);
            part.hear(news(AlertKind::Expired));
            take_off(&mut part);
            part.hear(news(AlertKind::Recovered));
            assert!(part.news.is_some(), "it is not known yet");
            part.landed(arrives);
            assert_eq!(part.news.is_some(), arrives);
            assert_eq!(part.is_done(), !arrives);
        }
    }

    #[test]
    fn what_failed_waits_again_unless_there_is_something_newer() {
        let mut part = part(false);
        part.hear(news(AlertKind::Expired));
        take_off(&mut part);
        part.landed(false);
        assert_eq!(part.news, Some(news(AlertKind::Expired)));
        take_off(&mut part);
        part.hear(news(AlertKind::Flapping));
        part.landed(false);
        assert_eq!(part.news, Some(news(AlertKind::Flapping)));
    }

    #[test]
    fn a_fact_is_done_when_it_is_delivered_and_a_beginning_waits_for_its_end() {
        for (kind, is_done) in [(AlertKind::AgentRelaunched, true), (AlertKind::Expired, false)] {
            let mut part = Part { matter: kind, ..part(false) };
            part.hear(news(kind));
            take_off(&mut part);
            part.landed(true);
            assert_eq!(part.is_done(), is_done, "{kind:?}");
        }
    }

    #[test]
    fn delays_double_up_to_the_longest_and_rest_when_requested() {
        let mut retry = Retry::default();
        let mut delays = Vec::new();
        for _ in 0..9 {
            retry.failed(Duration::ZERO, false);
            delays.push(retry.due.unwrap().as_secs());
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 320, 640, 900, 900]);
        retry.failed(Duration::ZERO, true);
        assert!(!retry.is_due(Duration::MAX));
    }
}
