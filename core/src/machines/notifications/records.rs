//! The records of notifications that are kept from one run to the next.

use super::entry::{AlertNews, FIRST_DELAY, Part, Retry, UnheardEntry};
use super::{Failing, LONGEST_FAILURE, Notifications, Subject, Way};
use crate::model::alert::AlertKind;
use crate::model::snapshot::UnheardRecord;
use crate::model::unit_name::UnitTemplate;
use std::time::Duration;

impl Notifications {
    /// The record of a subject.
    #[must_use]
    pub fn records(&self, subject: &Subject) -> Vec<UnheardRecord> {
        self.entries.get(subject).map(UnheardEntry::records).unwrap_or_default()
    }

    /// The record of all matters that concern no device. Matters that another run detects by itself
    /// and reports anew are left out; of those with an end, that is not so for a broker that returns
    /// and a fleet that is full.
    #[must_use]
    pub fn records_of_matters(&self) -> Vec<UnheardRecord> {
        let matters = self.entries.iter().filter(|(subject, _)| match subject {
            Subject::Device(_) => false,
            Subject::Matter(AlertKind::BrokerLost | AlertKind::FleetFull) => true,
            Subject::Matter(matter) => !matter.has_end(),
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

    /// Continues a way that failed in an earlier run.
    pub fn resume_failing(&mut self, now: Duration, way: UnitTemplate, before: Duration) {
        let way = self.ways.entry(way).or_default();
        way.failing_since.get_or_insert(Failing { before, since: now });
        if before >= LONGEST_FAILURE {
            way.summary.due = None;
        }
    }

    /// Continues the news of a subject from an earlier run. This run's own news are newer.
    pub fn resume(
        &mut self,
        now: Duration,
        due: Duration,
        subject: Subject,
        way: &UnitTemplate,
        records: &[UnheardRecord],
    ) {
        let rests = self.rests(now, way);
        self.ways.entry(way.clone()).or_default();
        let entry = self.entries.entry(subject.clone()).or_insert_with(|| UnheardEntry {
            way: way.clone(),
            parts: Vec::new(),
            retry: Retry { due: (!rests).then_some(due), delay: FIRST_DELAY },
            is_flying: false,
            is_late: records.iter().any(|record| record.news.is_some()),
            failed: None,
        });
        for record in records {
            let Some(matter) = AlertKind::of_event(&record.matter) else { continue };
            match entry.parts.iter_mut().find(|part| part.matter == matter) {
                Some(part) => {
                    part.notified = record.notified;
                    part.settle();
                }
                None => entry.parts.push(Part {
                    matter,
                    notified: record.notified,
                    news: record.news.as_ref().and_then(AlertNews::of_record),
                    flying: None,
                }),
            }
        }
        self.settle(&subject);
    }
}
