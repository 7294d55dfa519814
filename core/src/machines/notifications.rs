//! The alerts that people have not been notified of yet, and the times of the attempts.
//!
//! An alert is delivered when the unit that carries it has succeeded. Until then it waits here: one
//! entry for each device, or for a matter that concerns no device, which contains the latest news
//! of each matter, so that a late notification is still true. A beginning that was never delivered
//! is withdrawn by its end.
//!
//! A failed entry is tried again after a delay that doubles. More than [`MOST_ENTRIES`] entries of
//! one way are delivered as one summary. After a day of failures a way is tried only when something
//! changes, because a unit that delivers its message and still fails must not repeat it forever.

mod entry;
mod records;

pub use self::entry::AlertNews;
use self::entry::{FIRST_DELAY, Part, Retry, UnheardEntry};
use crate::model::alert::AlertKind;
use crate::model::device_name::DeviceName;
use crate::model::unit_name::{UnitTemplate, instance_of};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The number of notifications in progress at a time.
const MOST_FLYING: usize = 4;

/// More entries than this are delivered in one message.
pub const MOST_ENTRIES: usize = 16;

/// A way that has failed for this long is tried only when something changes.
pub const LONGEST_FAILURE: Duration = Duration::from_secs(24 * 3_600);

/// The instance of a summary, and its event.
pub const SUMMARY: &str = "pending";

/// The subject of a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Device(DeviceName),
    /// A matter that concerns no device.
    Matter(AlertKind),
}

/// A message to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationOrder {
    pub way: UnitTemplate,
    pub instance: String,
    pub content: NotificationContent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotificationContent {
    /// All news of one subject, and whether it could have been delivered before.
    Digest {
        subject: Subject,
        news: Vec<AlertNews>,
        late: bool,
    },
    Summary(Vec<(Subject, AlertNews)>),
    /// A test that a person has requested.
    Test(Option<DeviceName>),
}

/// What the end of a delivery shows about its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayChange {
    None,
    Fails,
    WorksAgain,
}

#[derive(Debug, Default)]
pub struct Notifications {
    entries: BTreeMap<Subject, UnheardEntry>,
    /// Those of them that have news to deliver and are not in progress.
    waiting: BTreeSet<Subject>,
    /// A crowd waits for its summary until this time.
    crowd_until: Option<Duration>,
    ways: BTreeMap<UnitTemplate, Way>,
    /// By instance.
    flights: BTreeMap<String, Flight>,
    last_delivered: Option<bool>,
    test: Option<TestState>,
    /// Failed instances whose news are delivered otherwise or withdrawn.
    dropped: Vec<String>,
}

/// One template.
#[derive(Debug, Default)]
struct Way {
    failing_since: Option<Failing>,
    summary: Retry,
}

/// How long it has been failing: before this run, and the time since which it fails in this one.
#[derive(Debug, Clone, Copy)]
struct Failing {
    before: Duration,
    since: Duration,
}

#[derive(Debug)]
struct Flight {
    way: UnitTemplate,
    of: Load,
}

#[derive(Debug)]
enum Load {
    Entry(Subject),
    Summary(Vec<Subject>),
    Test,
}

#[derive(Debug)]
enum TestState {
    Wanted { way: UnitTemplate, device: Option<DeviceName> },
    Flying,
    Ended(Option<String>),
}

impl Failing {
    fn lasts(&self, now: Duration) -> Duration {
        self.before + now.saturating_sub(self.since)
    }
}

impl Notifications {
    /// Adds an alert. `wait` is how long it may still turn out to be irrelevant.
    pub fn raise(
        &mut self,
        now: Duration,
        subject: Subject,
        way: &UnitTemplate,
        news: AlertNews,
        wait: Duration,
    ) {
        let matter = news.kind.matter();
        let is_device = matches!(subject, Subject::Device(_));
        if news.kind.is_end() && !is_device && !self.knows(&subject, matter) {
            return;
        }
        let entry = self.entries.entry(subject.clone()).or_insert_with(|| UnheardEntry {
            way: way.clone(),
            parts: Vec::new(),
            retry: Retry::default(),
            is_flying: false,
            is_late: false,
            failed: None,
        });
        entry.way = way.clone();
        let waits_already = entry.has_news();
        entry.is_late &= waits_already;
        match entry.parts.iter_mut().find(|part| part.matter == matter) {
            Some(part) => part.hear(news),
            // A person who was notified before this run began expects the end.
            None => entry.parts.push(Part {
                matter,
                notified: news.kind.is_end(),
                news: Some(news),
                flying: None,
            }),
        }
        let due = now + wait;
        entry.retry.due = Some(match entry.retry.due {
            Some(before) if waits_already => before.min(due),
            _ => due,
        });
        self.settle(&subject);
        let is_pending = self.waiting.contains(&subject);
        let way = self.ways.entry(way.clone()).or_default();
        if is_pending {
            // A summary that rests waits for a change.
            way.summary.due.get_or_insert(due);
        }
    }

    fn knows(&self, subject: &Subject, matter: AlertKind) -> bool {
        self.entries
            .get(subject)
            .is_some_and(|entry| entry.parts.iter().any(|part| part.matter == matter))
    }

    /// Cancels all news of a subject. A delivery in progress continues.
    pub fn withdraw(&mut self, subject: &Subject) {
        if let Some(entry) = self.entries.get_mut(subject) {
            entry.parts.retain_mut(|part| {
                (part.news, part.notified) = (None, false);
                part.flying.is_some()
            });
        }
        self.settle(subject);
    }

    /// Drops subjects that no longer exist, and assigns each other one its way.
    pub fn retain(&mut self, way_of: impl Fn(&Subject) -> Option<UnitTemplate>) {
        let (dropped, ways) = (&mut self.dropped, &mut self.ways);
        self.entries.retain(|subject, entry| match way_of(subject) {
            Some(way) => {
                ways.entry(way.clone()).or_default();
                entry.way = way;
                true
            }
            None => {
                dropped.extend(entry.failed.take());
                false
            }
        });
        let entries = &self.entries;
        self.waiting.retain(|subject| entries.contains_key(subject));
        self.crowd_until = None;
    }

    /// Requests a message that a person waits for; while one is in progress there is no other.
    pub fn test(&mut self, way: UnitTemplate, device: Option<DeviceName>) {
        if !self.is_testing() {
            self.test = Some(TestState::Wanted { way, device });
        }
    }

    /// Whether the end of a test is expected.
    #[must_use]
    pub fn is_testing(&self) -> bool {
        matches!(self.test, Some(TestState::Wanted { .. } | TestState::Flying))
    }

    /// The reason of the last test's failure; `None` where it has succeeded, or there was none.
    #[must_use]
    pub fn test_failure(&self) -> Option<&str> {
        match &self.test {
            Some(TestState::Ended(failure)) => failure.as_deref(),
            None | Some(TestState::Wanted { .. } | TestState::Flying) => None,
        }
    }

    /// The messages that must go out now. Those for which `is_silenced` is true wait, and are late.
    pub fn next_orders(
        &mut self,
        now: Duration,
        is_silenced: impl Fn(&Subject) -> bool,
    ) -> Vec<NotificationOrder> {
        let mut orders = Vec::new();
        orders.extend(self.test_order());
        if self.is_crowd_waiting(now) {
            return orders;
        }
        let mut waiting: BTreeMap<UnitTemplate, Vec<Subject>> = BTreeMap::new();
        for subject in &self.waiting {
            let Some(entry) = self.entries.get_mut(subject) else { continue };
            if is_silenced(subject) {
                entry.is_late = true;
                continue;
            }
            // News that may turn out to be irrelevant is not counted before its time.
            if entry.is_late || entry.retry.is_due(now) {
                waiting.entry(entry.way.clone()).or_default().push(subject.clone());
            }
        }
        for (way, subjects) in waiting {
            if subjects.len() > MOST_ENTRIES {
                orders.extend(self.summary_order(now, way, subjects));
            } else {
                for subject in subjects {
                    orders.extend(self.digest_order(now, &subject));
                }
            }
        }
        orders
    }

    /// Whether a crowd waits for its summary, so that its entries need not be examined.
    fn is_crowd_waiting(&mut self, now: Duration) -> bool {
        let is_early = self.crowd_until.is_some_and(|until| now < until);
        let is_crowd = self.waiting.len() > MOST_ENTRIES && self.ways.len() == 1;
        let waits = is_crowd && (is_early || self.flights.contains_key(SUMMARY));
        if !waits {
            self.crowd_until = None;
        }
        waits
    }

    fn test_order(&mut self) -> Option<NotificationOrder> {
        let Some(TestState::Wanted { way, device }) = &self.test else { return None };
        let (way, device) = (way.clone(), device.clone());
        let instance = instance_of(device.as_ref().map_or("test", DeviceName::as_str));
        if !self.take_place(&instance, &way, Load::Test) {
            return None;
        }
        self.test = Some(TestState::Flying);
        Some(NotificationOrder { way, instance, content: NotificationContent::Test(device) })
    }

    fn digest_order(&mut self, now: Duration, subject: &Subject) -> Option<NotificationOrder> {
        let entry = self.entries.get(subject).filter(|entry| entry.retry.is_due(now))?;
        let way = entry.way.clone();
        let mut kinds =
            entry.parts.iter().filter_map(|part| part.news.as_ref()).map(|news| news.kind);
        let instance = instance_of(match subject {
            Subject::Device(name) => name.as_str(),
            Subject::Matter(matter) => kinds.next_back().unwrap_or(*matter).event(),
        });
        if !self.take_place(&instance, &way, Load::Entry(subject.clone())) {
            return None;
        }
        let entry = self.entries.get_mut(subject)?;
        let (news, late) = (entry.take_off(), entry.is_late);
        self.waiting.remove(subject);
        let content = NotificationContent::Digest { subject: subject.clone(), news, late };
        Some(NotificationOrder { way, instance, content })
    }

    fn summary_order(
        &mut self,
        now: Duration,
        way: UnitTemplate,
        subjects: Vec<Subject>,
    ) -> Option<NotificationOrder> {
        let summary = self.ways.entry(way.clone()).or_default().summary;
        let load = Load::Summary(subjects.clone());
        self.crowd_until = summary.due;
        if !summary.is_due(now) || !self.take_place(SUMMARY, &way, load) {
            return None;
        }
        let mut all = Vec::new();
        for subject in subjects {
            let news =
                self.entries.get_mut(&subject).map(UnheardEntry::take_off).unwrap_or_default();
            self.waiting.remove(&subject);
            all.extend(news.into_iter().map(|news| (subject.clone(), news)));
        }
        Some(NotificationOrder {
            way,
            instance: SUMMARY.to_owned(),
            content: NotificationContent::Summary(all),
        })
    }

    /// Two messages never share an instance, and so never a file.
    fn take_place(&mut self, instance: &str, way: &UnitTemplate, of: Load) -> bool {
        let is_free = self.flights.len() < MOST_FLYING && !self.flights.contains_key(instance);
        if is_free {
            self.flights.insert(instance.to_owned(), Flight { way: way.clone(), of });
        }
        is_free
    }

    /// A message has been delivered, or has failed for this reason. Returns what that shows about
    /// its way, and its subjects.
    pub fn finished(
        &mut self,
        now: Duration,
        instance: &str,
        failure: Option<String>,
    ) -> Option<(UnitTemplate, WayChange, Vec<Subject>)> {
        let Flight { way, of } = self.flights.remove(instance)?;
        let success = failure.is_none();
        self.last_delivered = Some(success);
        let change = self.way_showed(now, &way, success);
        let rests = self.rests(now, &way);
        let subjects = match of {
            Load::Test => {
                self.test = Some(TestState::Ended(failure));
                Vec::new()
            }
            Load::Entry(subject) => vec![subject],
            Load::Summary(subjects) => {
                let summary = &mut self.ways.entry(way.clone()).or_default().summary;
                if success {
                    *summary = Retry::default();
                } else {
                    summary.failed(now, rests);
                }
                subjects
            }
        };
        for subject in &subjects {
            let Some(entry) = self.entries.get_mut(subject) else { continue };
            entry.is_flying = false;
            entry.parts.iter_mut().for_each(|part| part.landed(success));
            if success {
                (entry.retry.delay, entry.is_late) = (FIRST_DELAY, false);
                self.dropped.extend(entry.failed.take());
            } else {
                entry.is_late = true;
                entry.retry.failed(now, rests);
                if instance != SUMMARY {
                    self.dropped.extend(entry.failed.replace(instance.to_owned()));
                }
            }
        }
        self.dropped.retain(|dropped| dropped != instance || success);
        subjects.iter().for_each(|subject| self.settle(subject));
        Some((way, change, subjects))
    }

    fn way_showed(&mut self, now: Duration, name: &UnitTemplate, success: bool) -> WayChange {
        let way = self.ways.entry(name.clone()).or_default();
        match (success, way.failing_since) {
            (true, None) | (false, Some(_)) => WayChange::None,
            (false, None) => {
                way.failing_since = Some(Failing { before: Duration::ZERO, since: now });
                WayChange::Fails
            }
            (true, Some(_)) => {
                *way = Way::default();
                self.crowd_until = None;
                for entry in self.entries.values_mut() {
                    if entry.is_late && entry.way == *name {
                        entry.retry.due = Some(now);
                    }
                }
                WayChange::WorksAgain
            }
        }
    }

    fn rests(&self, now: Duration, way: &UnitTemplate) -> bool {
        let failing = self.ways.get(way).and_then(|way| way.failing_since);
        failing.is_some_and(|failing| failing.lasts(now) >= LONGEST_FAILURE)
    }

    /// Updates the record of a subject with a change: matters that are delivered and over are
    /// forgotten.
    fn settle(&mut self, subject: &Subject) {
        let Some(entry) = self.entries.get_mut(subject) else { return };
        entry.parts.retain(|part| !part.is_done());
        if !entry.is_flying && !entry.has_news() {
            self.dropped.extend(entry.failed.take());
        }
        if entry.waits() {
            self.waiting.insert(subject.clone());
        } else {
            self.waiting.remove(subject);
        }
        if !entry.is_flying && entry.parts.is_empty() {
            self.entries.remove(subject);
        }
    }

    /// The end of the next delay, on monotonic time. Entries that are due and have not gone out
    /// wait for another event.
    #[must_use]
    pub fn next(&self, now: Duration) -> Option<Duration> {
        // Only what goes another way is due before that.
        if let Some(until) = self.crowd_until.filter(|until| now < *until && self.ways.len() == 1) {
            return Some(until);
        }
        let entries = self.waiting.iter().filter_map(|subject| self.entries.get(subject));
        let summaries = self.ways.values().filter_map(|way| way.summary.due);
        entries.filter_map(|entry| entry.retry.due).chain(summaries).filter(|due| *due > now).min()
    }

    /// The instances whose files are no longer needed.
    pub fn take_dropped(&mut self) -> Vec<String> {
        std::mem::take(&mut self.dropped)
    }

    /// The number of subjects that wait for delivery.
    #[must_use]
    pub fn pending(&self) -> usize {
        let flying = self.flights.values().map(|flight| match &flight.of {
            Load::Entry(_) => 1,
            Load::Summary(subjects) => subjects.len(),
            Load::Test => 0,
        });
        self.waiting.len() + flying.sum::<usize>()
    }

    /// Whether the last one was delivered; `None` before there was one.
    #[must_use]
    pub fn last_delivered(&self) -> Option<bool> {
        self.last_delivered
    }
}
