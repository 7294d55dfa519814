//! `iotmonitor-recorder files`, `topics` and `values`: what was recorded. They only read, also while the
//! service is at work.

use crate::error::Error;
use crate::layout::Store;
use crate::report::{self, Format, ReportError};
use clap::Args;
use iotmonitor::printable::escaped_lines;
use iotmonitor::time_span;
use iotmonitor_core::topic::{TopicError, TopicFilter, TopicName};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Something could not be read.
const EXIT_FAILURE: u8 = 1;

/// Where the service stores messages.
const DIRECTORY: &str = "/var/lib/iotmonitor-recorder";

/// A screen has at most some thousand points, and what asks for more wants the messages.
const MAX_POINTS: i64 = 10_000;

#[derive(Debug, Args)]
pub struct Place {
    /// Directory with the recorded messages.
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    directory: PathBuf,
}

#[derive(Debug, Args)]
pub struct FilesQuery {
    /// Print JSON for programs, with the inode of each file.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub struct TopicsQuery {
    /// Show only topics that match one of these topic filters.
    #[arg(value_name = "FILTER", value_parser = filter)]
    filters: Vec<TopicFilter>,
    /// Print JSON for programs, with times in Unix seconds.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub struct ValuesQuery {
    /// Topic of the messages.
    #[arg(value_parser = topic)]
    topic: TopicName,
    /// Show messages of this last stretch, such as 12h or 30d.
    #[arg(long, value_name = "SPAN", default_value = "7d", value_parser = span)]
    since: Duration,
    /// Divide the time into this many stretches, and show the least number of each, the mean and the
    /// most. Messages that are no numbers are left out.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=MAX_POINTS))]
    points: Option<u32>,
    /// Print JSON for programs, with times in Unix seconds.
    #[arg(long)]
    json: bool,
    /// Print comma-separated values, with times in Unix seconds.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    place: Place,
}

fn filter(text: &str) -> Result<TopicFilter, TopicError> {
    TopicFilter::new(text)
}

fn topic(text: &str) -> Result<TopicName, TopicError> {
    TopicName::new(text)
}

fn span(text: &str) -> Result<Duration, String> {
    match time_span::parse(text) {
        Ok(Duration::ZERO) => Err("it must be longer than zero".to_owned()),
        Ok(span) => Ok(span),
        Err(error) => Err(error.to_string()),
    }
}

pub fn files(query: &FilesQuery) -> u8 {
    conclude(&query.place, |store, out| {
        for error in report::files(store, query.json, out)? {
            say(&format!("{error}; the next compaction puts it aside, and it is left out"));
        }
        Ok(())
    })
}

pub fn topics(query: &TopicsQuery) -> u8 {
    let is_wanted = |topic: &str| {
        let name = TopicName::new(topic);
        query.filters.is_empty()
            || name.is_ok_and(|name| query.filters.iter().any(|filter| filter.matches(&name)))
    };
    conclude(&query.place, |store, out| {
        report::topics(store, &common_prefix(&query.filters), is_wanted, query.json, out)
    })
}

pub fn values(query: &ValuesQuery) -> u8 {
    let format = match (query.json, query.csv) {
        (true, _) => Format::Json,
        (_, true) => Format::Csv,
        _ => Format::Words,
    };
    let (topic, times) = (query.topic.as_str(), last(query.since));
    conclude(&query.place, |store, out| match query.points {
        Some(points) => report::series(store, topic, times, points, format, out),
        None => report::messages(store, topic, times, format, out),
    })
}

/// The stretch of this length that ends now, in microseconds.
fn last(span: Duration) -> Range<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    micros(now.saturating_sub(span))..micros(now).saturating_add(1)
}

/// What the topics of all these filters begin with, so that others are not looked at.
fn common_prefix(filters: &[TopicFilter]) -> String {
    let mut prefixes = filters.iter().map(|filter| {
        let text = filter.as_str();
        let (literal, wildcard) = text.split_at(text.find(['+', '#']).unwrap_or(text.len()));
        // `a/#` also matches `a`.
        if wildcard == "#" { literal.strip_suffix('/').unwrap_or(literal) } else { literal }
    });
    let first = prefixes.next().unwrap_or_default();
    prefixes.fold(first.to_owned(), |common, prefix| {
        let both = common.chars().zip(prefix.chars());
        both.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
    })
}

/// Writes a report to the standard output; returns the exit code.
fn conclude(
    place: &Place,
    write: impl FnOnce(&Store, &mut BufWriter<io::StdoutLock<'static>>) -> Result<(), ReportError>,
) -> u8 {
    let directory = &place.directory;
    match std::fs::metadata(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let shown = directory.display();
            say(&format!(
                "nothing is recorded in {shown}: `systemctl status iotmonitor-recorder` shows whether \
                 the service runs"
            ));
            return EXIT_FAILURE;
        }
        _ => {}
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let written = write(&Store::new(directory), &mut out);
    match written.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => 0,
        // The reader has seen enough.
        Err(ReportError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => 0,
        Err(error) => {
            say(&format!("{error}{}", hint(&error)));
            EXIT_FAILURE
        }
    }
}

fn hint(error: &ReportError) -> &'static str {
    match error {
        ReportError::Store(Error::Io { source, .. })
            if source.kind() == ErrorKind::PermissionDenied =>
        {
            "; try again with sudo, or as a member of the group iotmonitor-recorder"
        }
        _ => "",
    }
}

/// Writes a sentence to standard error; where that is closed, it is lost.
fn say(sentence: &str) {
    let line = format!("iotmonitor-recorder: {sentence}\n");
    let _ = io::stderr().lock().write_all(escaped_lines(&line).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_no_filter_can_match_are_not_looked_at() {
        for (filters, prefix) in [
            (&[][..], ""),
            (&["#"], ""),
            (&["home/lamp"], "home/lamp"),
            (&["home/lamp/#"], "home/lamp"),
            (&["home/+/state"], "home/"),
            (&["home/lamp/#", "home/lava/+"], "home/la"),
            (&["home/ü", "home/ö"], "home/"),
            (&["home/lamp", "+/lamp"], ""),
        ] {
            let filters: Vec<_> =
                filters.iter().map(|text| TopicFilter::new(*text).unwrap()).collect();
            assert_eq!(common_prefix(&filters), prefix, "{filters:?}");
        }
    }
}
