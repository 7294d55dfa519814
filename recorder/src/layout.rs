//! Where the files of a store are, and which of them count.

use crate::error::Error;
use crate::files;
use chrono::{DateTime, NaiveDate};
use std::fmt;
use std::path::{Path, PathBuf};

/// A day in UTC, from 0001-01-01 to 9999-12-31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(NaiveDate);

impl Day {
    const FORMAT: &str = "%Y-%m-%d";

    /// The day of a time in microseconds since 1970. A time outside of all days is on the nearest.
    pub fn of(time: i64) -> Self {
        let (first, last) = Self::bounds();
        let date = DateTime::from_timestamp_micros(time).map(|time| time.date_naive());
        Self(date.unwrap_or(if time < 0 { first } else { last }).clamp(first, last))
    }

    fn bounds() -> (NaiveDate, NaiveDate) {
        let day = |year, month, day| NaiveDate::from_ymd_opt(year, month, day);
        (day(1, 1, 1).unwrap_or(NaiveDate::MIN), day(9999, 12, 31).unwrap_or(NaiveDate::MAX))
    }

    /// The time at which the day is over.
    pub fn end(self) -> i64 {
        let next = self.0.succ_opt().and_then(|next| next.and_hms_opt(0, 0, 0));
        next.map_or(i64::MAX, |next| next.and_utc().timestamp_micros())
    }

    fn parse(name: &str) -> Option<Self> {
        let date = name.strip_prefix("date=")?;
        let day = Self(NaiveDate::parse_from_str(date, Self::FORMAT).ok()?);
        (day.to_string() == date).then_some(day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.format(Self::FORMAT).fmt(f)
    }
}

/// The numbers of the messages that a file was made of, first and last. Those of another day are in
/// another file with the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub first: u64,
    pub last: u64,
}

impl Span {
    pub fn file_name(self) -> String {
        format!("{:020}-{:020}.parquet", self.first, self.last)
    }

    pub fn parse(name: &str) -> Option<Self> {
        let (first, last) = name.strip_suffix(".parquet")?.split_once('-')?;
        let span = Self { first: first.parse().ok()?, last: last.parse().ok()? };
        (span.first <= span.last && span.file_name() == name).then_some(span)
    }

    pub fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

/// Those of a day's files that count, in their order, and those that a file with more messages has
/// replaced. All up to `through` are in the day's file.
pub(crate) fn live(mut spans: Vec<Span>, through: u64) -> (Vec<Span>, Vec<Span>) {
    spans.sort_by_key(|span| (span.first, std::cmp::Reverse(span.last)));
    let mut widest: Option<Span> = None;
    spans.into_iter().partition(|span| {
        let replaced = span.last <= through || widest.is_some_and(|widest| widest.covers(*span));
        if !replaced {
            widest = Some(*span);
        }
        !replaced
    })
}

/// A directory in which messages are stored.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// A store in this directory, which [`Writer::open`](crate::Writer::open) makes.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { root: directory.into() }
    }

    pub fn directory(&self) -> &Path {
        &self.root
    }

    /// Makes the directories, unless they are there.
    pub(crate) fn create(&self) -> Result<(), Error> {
        std::fs::create_dir_all(&self.root).map_err(Error::io("create", &self.root))?;
        for directory in [self.segments(), self.messages(), self.temporary(""), self.damaged("")] {
            files::create_directory(&directory)?;
        }
        Ok(())
    }

    pub(crate) fn segments(&self) -> PathBuf {
        self.root.join("segments")
    }

    pub(crate) fn segment(&self, first: u64) -> PathBuf {
        self.segments().join(format!("{first:020}.segment"))
    }

    /// The first numbers of all segments, in order.
    pub(crate) fn segment_list(&self) -> Result<Vec<u64>, Error> {
        let names = files::names(&self.segments())?;
        let first = |name: &str| {
            let first = name.strip_suffix(".segment")?.parse().ok()?;
            (format!("{first:020}.segment") == name).then_some(first)
        };
        Ok(names.iter().filter_map(|name| first(name.to_str()?)).collect())
    }

    /// The directory that queries are given, with nothing in it but Parquet files.
    pub fn messages(&self) -> PathBuf {
        self.root.join("messages")
    }

    pub(crate) fn day(&self, day: Day) -> PathBuf {
        self.messages().join(format!("date={day}"))
    }

    pub(crate) fn day_file(&self, day: Day) -> PathBuf {
        self.day(day).join("day.parquet")
    }

    pub(crate) fn small_file(&self, day: Day, span: Span) -> PathBuf {
        self.day(day).join(span.file_name())
    }

    /// All days of which there are messages, in order.
    pub fn days(&self) -> Result<Vec<Day>, Error> {
        let names = files::names(&self.messages())?;
        Ok(names.iter().filter_map(|name| Day::parse(name.to_str()?)).collect())
    }

    /// The files of a day beside the day's own.
    pub(crate) fn small_files(&self, day: Day) -> Result<Vec<Span>, Error> {
        let names = files::names(&self.day(day))?;
        Ok(names.iter().filter_map(|name| Span::parse(name.to_str()?)).collect())
    }

    /// Where a file is written before it has its name. A file that a crash left there is written
    /// over.
    pub(crate) fn temporary(&self, name: &str) -> PathBuf {
        self.root.join("tmp").join(name)
    }

    pub(crate) fn damaged(&self, name: &str) -> PathBuf {
        self.root.join("damaged").join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::{Day, Span, live};

    #[test]
    fn a_time_is_on_its_day_in_utc() {
        let day = 86_400_000_000;
        assert_eq!(Day::of(0).to_string(), "1970-01-01");
        assert_eq!(Day::of(-1).to_string(), "1969-12-31");
        assert_eq!(Day::of(day - 1).to_string(), "1970-01-01");
        assert_eq!(Day::of(19_782 * day).to_string(), "2024-02-29");
        assert_eq!(Day::of(19_782 * day).end(), 19_783 * day);
        assert_eq!(Day::of(i64::MIN).to_string(), "0001-01-01");
        assert_eq!(Day::of(i64::MAX).to_string(), "9999-12-31");
    }

    #[test]
    fn only_names_of_the_own_form_are_read() {
        assert_eq!(Day::parse("date=2024-02-29"), Some(Day::of(19_782 * 86_400_000_000)));
        for name in ["date=2024-2-29", "date=2023-02-29", "2024-02-29", "date=", "date=+2024-02-29"]
        {
            assert_eq!(Day::parse(name), None, "{name}");
        }
        let span = Span { first: 7, last: 12 };
        assert_eq!(Span::parse(&span.file_name()), Some(span));
        for name in ["7-12.parquet", "day.parquet", &span.file_name().replace("parquet", "tmp")] {
            assert_eq!(Span::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_file_counts_until_another_one_has_all_its_messages() {
        let span = |first, last| Span { first, last };
        let all =
            vec![span(1, 5), span(6, 9), span(1, 9), span(10, 10), span(10, 20), span(21, 30)];
        let (count, replaced) = live(all.clone(), 0);
        assert_eq!(count, [span(1, 9), span(10, 20), span(21, 30)]);
        assert_eq!(replaced, [span(1, 5), span(6, 9), span(10, 10)]);
        let (count, replaced) = live(all.clone(), 20);
        assert_eq!((count, replaced.len()), (vec![span(21, 30)], 5));
        assert_eq!(live(all, 30).0, []);
    }
}
