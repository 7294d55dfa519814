//! Which alerts a person has still to hear about, and when that is tried.
//!
//! An alert is done when the unit that carries it has succeeded. Until then it waits here: one entry
//! a device, or a matter that concerns no device, and in it the latest news of each matter, so that
//! what is told late is what is still true. A beginning that nobody has heard of is withdrawn by its
//! end.
//!
//! An entry that fails is tried again after a delay that doubles. More than [`MOST_ENTRIES`] entries
//! of one way are told as one summary. After a day of failures a way is tried with changes alone, for
//! a unit that tells and fails all the same must not do so for ever.

mod entry;

pub use self::entry::News;
use self::entry::{Entry, FIRST_DELAY, Part, Retry};
use crate::model::alert::AlertKind;
use crate::model::device_name::DeviceName;
use crate::model::snapshot::UnheardRecord;
use crate::model::unit_name::{UnitTemplate, instance_of};
use crate::model::view::LastNotification;
use std::collections::BTreeMap;
use std::time::Duration;

/// Notifications that are under way at a time.
const MOST_FLYING: usize = 4;

/// More entries than that are told in one message.
pub const MOST_ENTRIES: usize = 16;

/// A way that has failed for so long is tried with changes alone.
pub const LONGEST_FAILURE: Duration = Duration::from_secs(24 * 3_600);

/// The instance of a summary, and its event.
pub const SUMMARY: &str = "pending";

/// What a message is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Device(DeviceName),
    /// A matter that concerns no device.
    Matter(AlertKind),
}

/// A message that is to go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub way: UnitTemplate,
    pub instance: String,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// All that is new of one subject, and whether it could have been told before.
    Digest {
        subject: Subject,
        news: Vec<News>,
        late: bool,
    },
    Summary(Vec<(Subject, News)>),
    /// For a person who tries the way.
    Test(Option<DeviceName>),
}

/// What the end of a delivery shows of its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayChange {
    None,
    Fails,
    WorksAgain,
}

#[derive(Debug, Default)]
pub struct Notifications {
    entries: BTreeMap<Subject, Entry>,
    ways: BTreeMap<UnitTemplate, Way>,
    /// By instance.
    flights: BTreeMap<String, Flight>,
    last: Option<LastNotification>,
    test: Option<TestState>,
    /// Instances that have failed, and whose news are told otherwise or withdrawn.
    dropped: Vec<String>,
}

/// One template.
#[derive(Debug, Default)]
struct Way {
    failing_since: Option<Failing>,
    summary: Retry,
}

/// How long it has been failing: before this run, and since when in this one.
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
    /// Takes in an alert. `wait` is how long it may turn out to be no news.
    pub fn raise(
        &mut self,
        now: Duration,
        subject: Subject,
        way: &UnitTemplate,
        news: News,
        wait: Duration,
    ) {
        let matter = news.kind.matter();
        let is_device = matches!(subject, Subject::Device(_));
        if news.kind.is_end() && !is_device && !self.knows(&subject, matter) {
            return;
        }
        let entry = self.entries.entry(subject).or_insert_with(|| Entry {
            way: way.clone(),
            parts: Vec::new(),
            retry: Retry::default(),
            is_flying: false,
            is_late: false,
            failed: None,
        });
        entry.way = way.clone();
        let waits_already = entry.has_news();
        match entry.parts.iter_mut().find(|part| part.matter == matter) {
            Some(part) => part.hear(news),
            // Whoever was told before this run began waits for the end.
            None => entry.parts.push(Part {
                matter,
                told: news.kind.is_end(),
                news: Some(news),
                flying: None,
            }),
        }
        let due = now + wait;
        entry.retry.due = Some(match entry.retry.due {
            Some(before) if waits_already => before.min(due),
            _ => due,
        });
        self.clear_up();
    }

    fn knows(&self, subject: &Subject, matter: AlertKind) -> bool {
        self.entries
            .get(subject)
            .is_some_and(|entry| entry.parts.iter().any(|part| part.matter == matter))
    }

    /// Nothing is to be told of it any more. What is under way is.
    pub fn withdraw(&mut self, subject: &Subject) {
        if let Some(entry) = self.entries.get_mut(subject) {
            entry.parts.retain_mut(|part| {
                (part.news, part.told) = (None, false);
                part.flying.is_some()
            });
        }
        self.clear_up();
    }

    /// Drops those of whom there is no more, and gives each of the others its way.
    pub fn retain(&mut self, way_of: impl Fn(&Subject) -> Option<UnitTemplate>) {
        let dropped = &mut self.dropped;
        self.entries.retain(|subject, entry| match way_of(subject) {
            Some(way) => {
                entry.way = way;
                true
            }
            None => {
                dropped.extend(entry.failed.take());
                false
            }
        });
    }

    /// Asks for a message that a person awaits; while one is under way there is no other.
    pub fn test(&mut self, way: UnitTemplate, device: Option<DeviceName>) {
        if !self.is_testing() {
            self.test = Some(TestState::Wanted { way, device });
        }
    }

    /// Whether the end of a test is awaited.
    #[must_use]
    pub fn is_testing(&self) -> bool {
        matches!(self.test, Some(TestState::Wanted { .. } | TestState::Flying))
    }

    /// Why the last test failed; `None` where it has succeeded, or there was none.
    #[must_use]
    pub fn test_failure(&self) -> Option<&str> {
        match &self.test {
            Some(TestState::Ended(failure)) => failure.as_deref(),
            None | Some(TestState::Wanted { .. } | TestState::Flying) => None,
        }
    }

    /// The messages that are to go out now. Those of whom `is_silenced` says so wait, and are late.
    pub fn next_orders(
        &mut self,
        now: Duration,
        is_silenced: impl Fn(&Subject) -> bool,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        orders.extend(self.test_order());
        let mut waiting: BTreeMap<UnitTemplate, Vec<Subject>> = BTreeMap::new();
        for (subject, entry) in &mut self.entries {
            if !entry.waits() {
                continue;
            }
            if is_silenced(subject) {
                entry.is_late = true;
                continue;
            }
            // What may turn out to be no news is not counted before its time.
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

    fn test_order(&mut self) -> Option<Order> {
        let Some(TestState::Wanted { way, device }) = &self.test else { return None };
        let (way, device) = (way.clone(), device.clone());
        let instance = instance_of(device.as_ref().map_or("test", DeviceName::as_str));
        if !self.take_place(&instance, &way, Load::Test) {
            return None;
        }
        self.test = Some(TestState::Flying);
        Some(Order { way, instance, content: Content::Test(device) })
    }

    fn digest_order(&mut self, now: Duration, subject: &Subject) -> Option<Order> {
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
        let content = Content::Digest { subject: subject.clone(), news, late };
        Some(Order { way, instance, content })
    }

    fn summary_order(
        &mut self,
        now: Duration,
        way: UnitTemplate,
        subjects: Vec<Subject>,
    ) -> Option<Order> {
        let summary = self.ways.entry(way.clone()).or_default().summary;
        let load = Load::Summary(subjects.clone());
        if !summary.is_due(now) || !self.take_place(SUMMARY, &way, load) {
            return None;
        }
        let mut all = Vec::new();
        for subject in subjects {
            let news = self.entries.get_mut(&subject).map(Entry::take_off).unwrap_or_default();
            all.extend(news.into_iter().map(|news| (subject.clone(), news)));
        }
        Some(Order { way, instance: SUMMARY.to_owned(), content: Content::Summary(all) })
    }

    /// Two messages never share an instance, and so never a file.
    fn take_place(&mut self, instance: &str, way: &UnitTemplate, of: Load) -> bool {
        let is_free = self.flights.len() < MOST_FLYING && !self.flights.contains_key(instance);
        if is_free {
            self.flights.insert(instance.to_owned(), Flight { way: way.clone(), of });
        }
        is_free
    }

    /// A message has arrived, or has failed for this reason. Returns what that shows of its way, and
    /// whom it was about.
    pub fn finished(
        &mut self,
        now: Duration,
        wall: Duration,
        instance: &str,
        failure: Option<String>,
    ) -> Option<(UnitTemplate, WayChange, Vec<Subject>)> {
        let Flight { way, of } = self.flights.remove(instance)?;
        let success = failure.is_none();
        self.last = Some(LastNotification { time: wall, failure: failure.clone() });
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
                    summary.failed(now, false);
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
        self.clear_up();
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

    /// Forgets what is told and over.
    fn clear_up(&mut self) {
        let dropped = &mut self.dropped;
        self.entries.retain(|_, entry| {
            entry.parts.retain(|part| !part.is_done());
            if !entry.is_flying && !entry.has_news() {
                dropped.extend(entry.failed.take());
            }
            entry.is_flying || !entry.parts.is_empty()
        });
    }

    /// When the next delay ends, on monotonic time. What is due and has not gone out waits for another
    /// event.
    #[must_use]
    pub fn next(&self, now: Duration) -> Option<Duration> {
        let entries = self.entries.values().filter(|entry| entry.waits());
        let summaries = self.ways.values().filter_map(|way| way.summary.due);
        entries.filter_map(|entry| entry.retry.due).chain(summaries).filter(|due| *due > now).min()
    }

    /// The instances whose files nobody needs any more.
    pub fn take_dropped(&mut self) -> Vec<String> {
        std::mem::take(&mut self.dropped)
    }

    /// Whether any way fails at the moment.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.ways.values().any(|way| way.failing_since.is_some())
    }

    /// How many subjects wait to be told.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_flying || entry.has_news()).count()
    }

    #[must_use]
    pub fn last(&self) -> Option<&LastNotification> {
        self.last.as_ref()
    }

    /// What is to be kept of a subject.
    #[must_use]
    pub fn records(&self, subject: &Subject) -> Vec<UnheardRecord> {
        self.entries.get(subject).map(Entry::records).unwrap_or_default()
    }

    /// What is to be kept of all that concerns no device. What another run finds out for itself is
    /// left out, and only the broker's return is found out by every run.
    #[must_use]
    pub fn records_of_matters(&self) -> Vec<UnheardRecord> {
        let matters = self.entries.iter().filter(|(subject, _)| match subject {
            Subject::Device(_) => false,
            Subject::Matter(matter) => *matter == AlertKind::BrokerLost || !matter.has_end(),
        });
        matters.flat_map(|(_, entry)| entry.records()).collect()
    }

    /// The templates that fail, and for how long.
    #[must_use]
    pub fn failing(&self, now: Duration) -> Vec<(String, Duration)> {
        let failing = |(name, way): (&UnitTemplate, &Way)| {
            way.failing_since.map(|failing| (name.to_string(), failing.lasts(now)))
        };
        self.ways.iter().filter_map(failing).collect()
    }

    /// Goes on with a way that failed in an earlier run.
    pub fn resume_failing(&mut self, now: Duration, way: UnitTemplate, before: Duration) {
        let way = self.ways.entry(way).or_default();
        way.failing_since.get_or_insert(Failing { before, since: now });
    }

    /// Goes on with what an earlier run has left of a subject. What this one has heard is newer.
    pub fn resume(
        &mut self,
        now: Duration,
        due: Duration,
        subject: Subject,
        way: &UnitTemplate,
        records: &[UnheardRecord],
    ) {
        let rests = self.rests(now, way);
        let entry = self.entries.entry(subject).or_insert_with(|| Entry {
            way: way.clone(),
            parts: Vec::new(),
            retry: Retry { due: (!rests).then_some(due), delay: FIRST_DELAY },
            is_flying: false,
            is_late: true,
            failed: None,
        });
        for record in records {
            let Some(matter) = AlertKind::of_event(&record.matter) else { continue };
            match entry.parts.iter_mut().find(|part| part.matter == matter) {
                Some(part) => {
                    part.told = record.told;
                    part.settle();
                }
                None => entry.parts.push(Part {
                    matter,
                    told: record.told,
                    news: record.news.as_ref().and_then(News::of_record),
                    flying: None,
                }),
            }
        }
        self.clear_up();
    }
}
