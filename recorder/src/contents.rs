//! What a store holds: its files, its topics, and the numbers of a topic over time.

use crate::error::Error;
use crate::layout::{Day, Store};
use crate::table::{Status, Table, TopicSummary, Topics, add_to};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

/// A Parquet file that counts: no other one has its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    pub day: Day,
    pub path: PathBuf,
    pub status: Status,
}

/// The files of a store at one moment.
#[derive(Debug, Default)]
pub struct Files {
    pub files: Vec<StoredFile>,
    /// Files that cannot be read, which the next compaction puts aside.
    pub damaged: Vec<Error>,
}

/// The numbers of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When the stretch begins, in microseconds since 1970 in UTC.
    pub time: i64,
    pub least: f64,
    pub mean: f64,
    pub most: f64,
    pub count: u64,
}

impl Store {
    /// The Parquet files that hold each message once, by day. Messages of the last seconds are in none
    /// of them yet. A compaction may replace a file at any time: whoever opens it later compares its
    /// inode.
    pub fn files(&self) -> Result<Files, Error> {
        let mut all = Files::default();
        for day in self.days()? {
            let look = |table: Result<Table, Error>| match table {
                Err(error @ Error::Damaged { .. }) => Ok(Err(error)),
                table => {
                    let table = table?;
                    Ok(Ok((table.path().to_owned(), table.status()?)))
                }
            };
            for found in self.visit(day, look)?.found {
                match found {
                    Ok((path, status)) => all.files.push(StoredFile { day, path, status }),
                    Err(error) => all.damaged.push(error),
                }
            }
        }
        Ok(all)
    }

    /// The topics that begin with this prefix and that are wanted, also those of messages that are not
    /// in a Parquet file yet.
    pub fn topics(
        &self,
        prefix: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, TopicSummary>, Error> {
        let prefix = prefix.as_bytes();
        let recent = self.recent(|row| row.topic.data().starts_with(prefix))?;
        let mut days: BTreeSet<Day> = self.days()?.into_iter().collect();
        days.extend(recent.iter().map(|(_, row)| Day::of(row.time)));
        let mut topics = Topics::new();
        for day in days {
            let visited = self.visit(day, |table| table?.topics(prefix))?;
            let of_day = recent.iter().filter(|(_, row)| Day::of(row.time) == day);
            for (_, row) in of_day.filter(|(segment, _)| !visited.has(*segment)) {
                add_to(&mut topics, row.topic.data(), TopicSummary::of(row));
            }
            for (topic, summary) in visited.found.into_iter().flatten() {
                add_to(&mut topics, &topic, summary);
            }
        }
        let named = topics.into_iter().filter_map(|(topic, summary)| {
            String::from_utf8(topic)
                .ok()
                .filter(|topic| wanted(topic))
                .map(|topic| (topic, summary))
        });
        Ok(named.collect())
    }

    /// Divides the span of time into this many stretches of the same length, and reads the least number
    /// of the topic in each, the mean and the most. A stretch without a number is left out.
    pub fn series(
        &self,
        topic: &str,
        times: Range<i64>,
        stretches: u32,
    ) -> Result<Vec<Point>, Error> {
        let length = times.end.saturating_sub(times.start);
        let stretch = length.max(0).unsigned_abs().div_ceil(u64::from(stretches.max(1))).max(1);
        let stretch = i64::try_from(stretch).unwrap_or(i64::MAX);
        let mut points: Vec<Point> = Vec::new();
        for message in self.read(topic, times.clone())? {
            let message = message?;
            let Some(number) = message.number() else { continue };
            let place = message.time.saturating_sub(times.start).div_euclid(stretch);
            let begin = times.start.saturating_add(place.saturating_mul(stretch));
            match points.last_mut().filter(|point| point.time == begin) {
                Some(point) => point.add(number),
                None => points.push(Point::of(begin, number)),
            }
        }
        Ok(points)
    }
}

impl Point {
    fn of(time: i64, number: f64) -> Self {
        Self { time, least: number, mean: number, most: number, count: 1 }
    }

    fn add(&mut self, number: f64) {
        self.count += 1;
        self.least = self.least.min(number);
        self.most = self.most.max(number);
        // A sum or a difference of the largest numbers would be infinite.
        let count = self.count as f64;
        self.mean += number / count - self.mean / count;
    }
}
