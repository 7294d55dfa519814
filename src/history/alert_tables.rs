//! The tables of the alerts: warnings and errors have one of their own, and a bound, so that no number
//! of notices removes one.

use super::coding::{from_json, to_json};
use heed::types::Bytes as HeedBytes;
use heed::{RoTxn, RwTxn};
use iotmonitor_core::model::alert::Priority;
use iotmonitor_core::model::history::alert_record::{AlertQuery, AlertRecord};
use iotmonitor_core::model::time::ClockStep;
use serde::{Deserialize, Serialize};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// The number of warnings and errors, and of notices, that are kept; the oldest go first.
pub const MOST_WARNINGS: u64 = 10_000;
pub const MOST_NOTICES: u64 = 5_000;

const NUMBERS_KEY: &[u8] = b"alerts";

type Table = heed::Database<'static, HeedBytes, HeedBytes>;

/// The last number that was given.
#[derive(Serialize, Deserialize)]
struct Numbers {
    last_id: u64,
}

#[derive(Clone, Copy)]
pub(super) struct AlertTables {
    pub warnings: Table,
    pub notices: Table,
}

impl AlertTables {
    pub const NAMES: [&str; 2] = ["warnings", "notices"];

    /// The tables that may hold alerts of a priority, and graver ones.
    fn of(self, least: Priority) -> Vec<Table> {
        if least <= Priority::Warning {
            return vec![self.warnings];
        }
        vec![self.warnings, self.notices]
    }

    /// The bytes that they take.
    pub fn used(self, transaction: &RoTxn) -> heed::Result<usize> {
        let [warnings, notices] = [self.warnings, self.notices]
            .map(|table| table.stat(transaction).map(|stat| stat.non_free_page_size()));
        Ok(warnings? + notices?)
    }

    pub fn put(
        self,
        transaction: &mut RwTxn,
        meta: Table,
        alerts: &[Arc<AlertRecord>],
    ) -> heed::Result<()> {
        let mut last_id = 0;
        for alert in alerts {
            let Some(id) = alert.id else { continue };
            last_id = last_id.max(id);
            let (table, most) = match alert.is_warning() {
                true => (self.warnings, MOST_WARNINGS),
                false => (self.notices, MOST_NOTICES),
            };
            let key = id.to_be_bytes();
            table.put(transaction, &key, &to_json(&key, alert.as_ref())?)?;
            while table.len(transaction)? > most {
                remove_first(transaction, table)?;
            }
        }
        if last_id > 0 {
            let numbers = to_json(NUMBERS_KEY, &Numbers { last_id })?;
            meta.put(transaction, NUMBERS_KEY, &numbers)?;
        }
        Ok(())
    }

    /// Moves the times of alerts with the clock, if they are of this run: their numbers are behind that of
    /// the last alert before. After a step back, what may have been raised by the clock as it is now
    /// keeps its time.
    pub fn follow_clock(
        self,
        transaction: &mut RwTxn,
        earlier: u64,
        steps: &[ClockStep],
        mark: Duration,
    ) -> heed::Result<()> {
        let follow = |time: Duration| {
            let certain = |step: &&ClockStep| step.to > step.from || time > mark;
            steps.iter().filter(certain).fold(time, |time, step| step.follow(time))
        };
        let earlier = earlier.to_be_bytes();
        let of_this_run = (Bound::Excluded(earlier.as_slice()), Bound::Unbounded);
        for table in [self.warnings, self.notices] {
            let mut moved = Vec::new();
            for entry in table.range(transaction, &of_this_run)? {
                let (key, value) = entry?;
                let Some(alert) = from_json::<AlertRecord>(key, value) else { continue };
                let time = follow(alert.time);
                if time != alert.time {
                    let acknowledged = alert.acknowledged.map(follow);
                    let alert = AlertRecord { time, acknowledged, ..alert };
                    moved.push((key.to_vec(), to_json(key, &alert)?));
                }
            }
            for (key, value) in &moved {
                table.put(transaction, key, value)?;
            }
        }
        Ok(())
    }

    /// Removes the alerts from before this time that are the oldest by number as well.
    pub fn prune(self, transaction: &mut RwTxn, cutoff: Duration) -> heed::Result<()> {
        for table in [self.warnings, self.notices] {
            while let Some((key, value)) = table.first(transaction)? {
                let alert = from_json::<AlertRecord>(key, value);
                if alert.is_some_and(|alert| alert.time >= cutoff) {
                    break;
                }
                remove_first(transaction, table)?;
            }
        }
        Ok(())
    }

    pub fn last_id(self, transaction: &RoTxn, meta: Table) -> heed::Result<u64> {
        let noted = meta.get(transaction, NUMBERS_KEY)?;
        let noted = noted.and_then(|value| from_json::<Numbers>(NUMBERS_KEY, value));
        let mut last = noted.map_or(0, |numbers| numbers.last_id);
        // The number is never used twice, not even after its record was damaged.
        for table in [self.warnings, self.notices] {
            let entry = table.last(transaction)?;
            last = last.max(entry.and_then(|(key, _)| id_of(key)).unwrap_or(0));
        }
        Ok(last)
    }

    /// Adds those that a query covers, the newest first, up to its limit.
    pub fn read(
        self,
        transaction: &RoTxn,
        query: &AlertQuery,
        found: &mut Vec<Arc<AlertRecord>>,
    ) -> heed::Result<()> {
        let end = query.before.map(u64::to_be_bytes);
        let end = end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_slice()));
        let mut newest_first = Vec::new();
        for table in self.of(query.least) {
            let entries = table.rev_range(transaction, &(Bound::Unbounded, end))?;
            newest_first.push(entries.peekable());
        }
        while found.len() < query.limit {
            let Some((key, value)) = next_of(&mut newest_first).transpose()? else { break };
            // A damaged record is passed over.
            let Some(alert) = from_json::<AlertRecord>(key, value) else { continue };
            if query.covers(&alert) {
                found.push(Arc::new(alert));
            }
        }
        Ok(())
    }

    /// Notes that a person has acknowledged an alert, unless one already had. Returns when that was;
    /// `None` where there is no such alert.
    pub fn acknowledge(
        self,
        transaction: &mut RwTxn,
        id: u64,
        time: Duration,
    ) -> heed::Result<Option<Duration>> {
        let key = id.to_be_bytes();
        for table in [self.warnings, self.notices] {
            let value = table.get(transaction, &key)?;
            let Some(alert) = value.and_then(|it| from_json::<AlertRecord>(&key, it)) else {
                continue;
            };
            if alert.acknowledged.is_some() {
                return Ok(alert.acknowledged);
            }
            let alert = AlertRecord { acknowledged: Some(time), ..alert };
            table.put(transaction, &key, &to_json(&key, &alert)?)?;
            return Ok(Some(time));
        }
        Ok(None)
    }
}

fn remove_first(transaction: &mut RwTxn, table: Table) -> heed::Result<()> {
    let Some(key) = table.first(transaction)?.map(|(key, _)| key.to_vec()) else { return Ok(()) };
    table.delete(transaction, &key).map(drop)
}

fn id_of(key: &[u8]) -> Option<u64> {
    key.first_chunk().map(|id| u64::from_be_bytes(*id))
}

type Entry<'t> = heed::Result<(&'t [u8], &'t [u8])>;

/// The entry with the highest number among those that come next.
fn next_of<'t, I: Iterator<Item = Entry<'t>>>(tables: &mut [Peekable<I>]) -> Option<Entry<'t>> {
    let mut newest = (None, 0);
    for (place, table) in tables.iter_mut().enumerate() {
        let id = table.peek().map(|entry| match entry {
            Ok((key, _)) => id_of(key).unwrap_or_default(),
            // An error comes first.
            Err(_) => u64::MAX,
        });
        if id > newest.0 {
            newest = (id, place);
        }
    }
    tables.get_mut(newest.1)?.next()
}
