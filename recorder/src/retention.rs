//! Old messages are removed.

use crate::error::Error;
use crate::files;
use crate::layout::{Day, Store};
use crate::table::{Table, TableWriter};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

/// What is kept of the past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// The time since the end of a day.
    pub age: Option<Duration>,
    /// The bytes of all files together.
    pub size: Option<u64>,
}

/// What was removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removal {
    pub days: Vec<Day>,
    /// The newest day, and the time before which its messages were removed.
    pub part: Option<(Day, i64)>,
}

impl Store {
    /// Removes the days that are older than what is kept, and then the oldest ones until the others
    /// are not larger than what is kept. When the newest day alone is larger, its oldest messages
    /// are removed from the file of the day. Age does not remove the newest day, because a clock that
    /// runs ahead would otherwise leave nothing.
    pub fn retain(&self, keep: &Keep, now: i64) -> Result<Removal, Error> {
        let _lock = files::lock(&self.directory().join("compaction.lock"))?;
        let days = self.days()?;
        let sizes = days.iter().map(|day| self.size_of(*day)).collect::<Result<Vec<_>, _>>()?;
        let mut size: u64 = sizes.iter().sum();
        let mut removal = Removal::default();
        let Some((newest, older)) = days.split_last() else { return Ok(removal) };
        for (day, size_of_day) in older.iter().zip(&sizes) {
            let is_old = keep.age.is_some_and(|age| {
                let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
                day.end() <= now.saturating_sub(age)
            });
            if !is_old && keep.size.is_none_or(|most| size <= most) {
                return Ok(removal);
            }
            self.remove_day(*day)?;
            size -= size_of_day;
            removal.days.push(*day);
        }
        if let Some(excess) = keep.size.and_then(|most| size.checked_sub(most))
            && excess > 0
        {
            removal.part = self.shorten(*newest, excess)?.map(|from| (*newest, from));
        }
        Ok(removal)
    }

    /// Removes the oldest messages from the file of a day, so that it is about this much smaller.
    fn shorten(&self, day: Day, excess: u64) -> Result<Option<i64>, Error> {
        let path = self.day_file(day);
        let table = match Table::open(&path) {
            Err(error) if error.is_missing() => return Ok(None),
            table => table?,
        };
        let size = fs::metadata(&path).map_err(Error::io("look at", &path))?.len();
        let through = table.through();
        // A little more than necessary, so that it is not done again for the next few messages.
        let kept = size.saturating_sub(excess) as f64 / size as f64 * 0.9;
        let Some(from) = beginning_of_rest(table, kept)? else { return Ok(None) };
        let temporary = self.temporary("merged.parquet");
        let mut shorter = TableWriter::create(&temporary)?;
        let mut cursor = Table::open(&path)?.cursor();
        while let Some(row) = cursor.next()? {
            if row.time >= from {
                shorter.push(row)?;
            }
        }
        shorter.finish(through)?;
        files::rename(&temporary, &path)?;
        Ok(Some(from))
    }

    fn size_of(&self, day: Day) -> Result<u64, Error> {
        let directory = self.day(day);
        let mut size = 0;
        for name in files::names(&directory)? {
            let path = directory.join(name);
            match fs::metadata(&path) {
                Ok(file) => size += file.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("look at", &path)(error)),
            }
        }
        Ok(size)
    }

    fn remove_day(&self, day: Day) -> Result<(), Error> {
        let directory = self.day(day);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", &directory)(error))
            }
            _ => Ok(()),
        }
    }
}

/// The time from which the messages make up at most this share of a file's bytes, to the minute.
/// `None` if that is the time of the first one.
fn beginning_of_rest(table: Table, share: f64) -> Result<Option<i64>, Error> {
    const MINUTE: i64 = 60_000_000;
    let mut minutes: BTreeMap<i64, u64> = BTreeMap::new();
    let mut cursor = table.cursor();
    while let Some(row) = cursor.next()? {
        let bytes = row.topic.len() + row.payload.len() + 1;
        *minutes.entry(row.time.div_euclid(MINUTE)).or_default() += bytes as u64;
    }
    let mut left: u64 = minutes.values().sum();
    let most = left as f64 * share;
    let mut from = None;
    for (minute, bytes) in minutes {
        if left as f64 <= most {
            break;
        }
        left -= bytes;
        from = Some(minute.saturating_add(1).saturating_mul(MINUTE));
    }
    Ok(from)
}
