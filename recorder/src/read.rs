//! The messages of a topic, in the order of their times.
//!
//! A writer and a compaction may be at work meanwhile, in other processes. Each of them makes a new
//! file appear before it removes what the new one replaces. Therefore the reader looks in the same
//! order: at the segments, then at the small files of a day, then at the file of the day.

use crate::error::Error;
use crate::layout::{Day, Span, Store, live};
use crate::message::{Message, Row};
use crate::segment;
use crate::table::Table;
use bytes::Bytes;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::ops::Range;

/// The messages of a topic, a day at a time.
#[derive(Debug)]
pub struct Messages {
    store: Store,
    topic: String,
    times: Range<i64>,
    days: VecDeque<Day>,
    /// From segments, with the number of the first message of their segment.
    recent: Vec<(u64, Row)>,
    present: std::vec::IntoIter<Message>,
}

impl Store {
    /// Reads the messages of a topic that were received in this span of time, also those that are
    /// not in a Parquet file yet. What appears behind an error belongs to later days.
    pub fn read(&self, topic: &str, times: Range<i64>) -> Result<Messages, Error> {
        let recent =
            self.recent(|row| row.topic.data() == topic.as_bytes() && times.contains(&row.time))?;
        let mut days = self.days()?;
        days.extend(recent.iter().map(|(_, row)| Day::of(row.time)));
        days.sort_unstable();
        days.dedup();
        let (first, last) = (Day::of(times.start), Day::of(times.end.saturating_sub(1)));
        days.retain(|day| first <= *day && *day <= last && !times.is_empty());
        Ok(Messages {
            store: self.clone(),
            topic: topic.to_owned(),
            times,
            days: days.into(),
            recent,
            present: Vec::new().into_iter(),
        })
    }

    /// What the segments have of this kind, with the number of the first message of the segment.
    pub(crate) fn recent(&self, wanted: impl Fn(&Row) -> bool) -> Result<Vec<(u64, Row)>, Error> {
        let firsts = self.segment_list()?;
        let mut found = Vec::new();
        for (place, first) in firsts.iter().copied().enumerate() {
            let path = self.segment(first);
            let bytes = match fs::read(&path) {
                // It has become a Parquet file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                bytes => Bytes::from(bytes.map_err(Error::io("read", &path))?),
            };
            let end = firsts.get(place + 1).copied().unwrap_or(u64::MAX);
            let rows = segment::read(&bytes, first, end).rows.into_iter();
            found.extend(rows.filter(&wanted).map(|row| (first, row)));
        }
        Ok(found)
    }

    /// Looks at the Parquet files of a day, each of which may be damaged, and keeps what was found in
    /// those that count.
    pub(crate) fn visit<T>(
        &self,
        day: Day,
        look: impl Fn(Result<Table, Error>) -> Result<T, Error>,
    ) -> Result<Visited<T>, Error> {
        loop {
            let spans = self.small_files(day)?;
            // One file is open at a time, because there may be thousands.
            let visit = |span: &Span| match Table::open(&self.small_file(day, *span)) {
                Err(error) if error.is_missing() => Err(error),
                table => Ok((*span, look(table)?)),
            };
            let small = match spans.iter().map(visit).collect::<Result<Vec<_>, Error>>() {
                // It was replaced after the directory was listed, by a file that may not be listed.
                Err(error) if error.is_missing() => continue,
                small => small?,
            };
            let mut through = 0;
            let mut found = Vec::new();
            match Table::open(&self.day_file(day)) {
                Err(error) if error.is_missing() => {}
                table => {
                    through = table.as_ref().ok().and_then(Table::through).unwrap_or(0);
                    found.push(look(table)?);
                }
            }
            let (spans, _) = live(spans, through);
            let small = small.into_iter().filter(|(span, _)| spans.contains(span));
            found.extend(small.map(|(_, item)| item));
            return Ok(Visited { found, through, spans });
        }
    }
}

/// What was found in the Parquet files of a day.
pub(crate) struct Visited<T> {
    pub found: Vec<T>,
    /// Which messages of the day were looked at: those up to this number, and those of these spans.
    through: u64,
    spans: Vec<Span>,
}

impl<T> Visited<T> {
    /// Whether the day's messages of the segment are in one of the files.
    pub fn has(&self, segment: u64) -> bool {
        let first = Span { first: segment, last: segment };
        segment <= self.through || self.spans.iter().any(|span| span.covers(first))
    }
}

impl Messages {
    fn read_day(&self, day: Day) -> Result<Vec<Message>, Error> {
        let stored = self.store.visit(day, |table| table?.rows(&self.topic, &self.times))?;
        let recent = self.recent.iter();
        let recent = recent.filter(|(_, row)| Day::of(row.time) == day);
        let recent = recent.filter(|(segment, _)| !stored.has(*segment));
        let recent: Vec<Row> = recent.map(|(_, row)| row.clone()).collect();
        let mut rows: Vec<Row> = stored.found.into_iter().flatten().collect();
        rows.extend(recent);
        rows.sort_by_key(|row| row.time);
        let messages = rows.into_iter().map(Row::into_message).collect::<Result<_, _>>();
        messages.map_err(|error| Error::Damaged {
            path: self.store.day(day),
            reason: format!("a topic is not UTF-8: {error}"),
        })
    }
}

impl Iterator for Messages {
    type Item = Result<Message, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(message) = self.present.next() {
                return Some(Ok(message));
            }
            let day = self.days.pop_front()?;
            match self.read_day(day) {
                Ok(messages) => self.present = messages.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
