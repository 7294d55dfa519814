//! What a store holds, for people, spreadsheets and programs.
//!
//! Times are Unix seconds in JSON and in comma-separated values, and in UTC for people. A payload that is
//! not UTF-8 is in base64, under a name of its own.

use crate::error::Error;
use crate::layout::Store;
use crate::message::Message;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat};
use iotmonitor::printable::escaped;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::ops::Range;

/// Why a report is not complete.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("{0}")]
    Store(#[from] Error),
    /// The reader may have gone, which is no error of the program.
    #[error("cannot write to the standard output: {0}")]
    Output(#[from] io::Error),
}

/// Who reads a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Words,
    Csv,
    Json,
}

/// Lists the files that count. Returns what is wrong with those that cannot be read.
pub fn files(
    store: &Store,
    as_json: bool,
    out: &mut impl Write,
) -> Result<Vec<Error>, ReportError> {
    let all = store.files()?;
    if as_json {
        let files = all.files.iter().map(|file| {
            json!({
                "day": file.day.to_string(),
                "path": file.path.to_string_lossy(),
                "bytes": file.status.bytes,
                "messages": file.status.messages,
                "inode": file.status.inode,
            })
        });
        writeln!(out, "{}", Value::Array(files.collect()))?;
        return Ok(all.damaged);
    }
    writeln!(out, "{:<10}  {:>12}  {:>12}  FILE", "DAY", "MESSAGES", "BYTES")?;
    for file in &all.files {
        let day = file.day.to_string();
        let (messages, bytes) = (file.status.messages, file.status.bytes);
        let path = file.path.to_string_lossy();
        writeln!(out, "{day:<10}  {messages:>12}  {bytes:>12}  {}", escaped(&path))?;
    }
    Ok(all.damaged)
}

/// Lists the topics that begin with this prefix and that are wanted.
pub fn topics(
    store: &Store,
    prefix: &str,
    wanted: impl Fn(&str) -> bool,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), ReportError> {
    let topics = store.topics(prefix, wanted)?;
    if as_json {
        let topics = topics.iter().map(|(topic, summary)| {
            json!({
                "topic": topic,
                "messages": summary.messages,
                "numbers": summary.numbers,
                "last": seconds(summary.last),
            })
        });
        return Ok(writeln!(out, "{}", Value::Array(topics.collect()))?);
    }
    writeln!(out, "{:>12}  {:>12}  {:<20}  TOPIC", "MESSAGES", "NUMBERS", "LAST")?;
    for (topic, summary) in &topics {
        let (messages, numbers) = (summary.messages, summary.numbers);
        let (last, topic) = (moment(summary.last), escaped(topic));
        writeln!(out, "{messages:>12}  {numbers:>12}  {last:<20}  {topic}")?;
    }
    Ok(())
}

/// Prints every message of the topic.
pub fn messages(
    store: &Store,
    topic: &str,
    times: Range<i64>,
    format: Format,
    out: &mut impl Write,
) -> Result<(), ReportError> {
    let messages = store.read(topic, times)?;
    match format {
        Format::Words => {
            for message in messages {
                let message = message?;
                let payload = String::from_utf8_lossy(&message.payload);
                writeln!(out, "{}  {}", moment(message.time), escaped(&payload))?;
            }
        }
        Format::Csv => {
            write!(out, "time,number,payload,payloadBase64\r\n")?;
            for message in messages {
                csv_line(&message?, out)?;
            }
        }
        // An hour of a fast topic does not fit into memory as JSON.
        Format::Json => {
            write!(out, "{{\"topic\":{},\"messages\":[", Value::from(topic))?;
            for (place, message) in messages.enumerate() {
                let separator = if place == 0 { "\n" } else { ",\n" };
                write!(out, "{separator}{}", json_message(&message?))?;
            }
            writeln!(out, "\n]}}")?;
        }
    }
    Ok(())
}

fn csv_line(message: &Message, out: &mut impl Write) -> io::Result<()> {
    let number = message.number().map(|number| number.to_string()).unwrap_or_default();
    let (text, base64) = match std::str::from_utf8(&message.payload) {
        Ok(text) => (quoted(text), String::new()),
        Err(_) => (String::new(), STANDARD.encode(&message.payload)),
    };
    write!(out, "{},{number},{text},{base64}\r\n", seconds(message.time))
}

fn json_message(message: &Message) -> Value {
    let mut value = json!({ "time": seconds(message.time) });
    if let Some(number) = message.number() {
        value["number"] = number.into();
    }
    match std::str::from_utf8(&message.payload) {
        Ok(text) => value["payload"] = text.into(),
        Err(_) => value["payloadBase64"] = STANDARD.encode(&message.payload).into(),
    }
    value
}

/// Prints the numbers of a topic, a line for each stretch of time that has any.
pub fn series(
    store: &Store,
    topic: &str,
    times: Range<i64>,
    stretches: u32,
    format: Format,
    out: &mut impl Write,
) -> Result<(), ReportError> {
    let points = store.series(topic, times, stretches)?;
    match format {
        Format::Words => {
            writeln!(out, "{:<20}  {:>12}  {:>12}  {:>12}", "FROM", "LEAST", "MEAN", "MOST")?;
            for point in points {
                let (least, mean, most) = (point.least, point.mean, point.most);
                let time = moment(point.time);
                writeln!(out, "{time:<20}  {least:>12}  {mean:>12.3}  {most:>12}")?;
            }
        }
        Format::Csv => {
            write!(out, "time,least,mean,most,count\r\n")?;
            for point in points {
                let (least, mean, most) = (point.least, point.mean, point.most);
                let time = seconds(point.time);
                write!(out, "{time},{least},{mean},{most},{}\r\n", point.count)?;
            }
        }
        Format::Json => {
            let points: Vec<Value> = points
                .iter()
                .map(|point| json!([seconds(point.time), point.least, point.mean, point.most]))
                .collect();
            writeln!(out, "{}", json!({ "topic": topic, "points": points }))?;
        }
    }
    Ok(())
}

/// Whole seconds without a point, as programs expect them.
fn seconds(micros: i64) -> serde_json::Number {
    let whole = micros.div_euclid(1_000_000);
    if micros.rem_euclid(1_000_000) == 0 {
        return whole.into();
    }
    // A time in microseconds is a finite number.
    serde_json::Number::from_f64(micros as f64 / 1e6).unwrap_or_else(|| whole.into())
}

fn moment(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
        .unwrap_or_else(|| format!("{} s", micros.div_euclid(1_000_000)))
}

/// A cell in the form of RFC 4180.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_unix_seconds_to_the_microsecond() {
        assert_eq!(seconds(1_751_328_000_000_000).to_string(), "1751328000");
        assert_eq!(seconds(1_751_328_000_123_456).to_string(), "1751328000.123456");
        assert_eq!(seconds(-500_000).to_string(), "-0.5");
        assert_eq!(moment(951_782_400_999_999), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn a_cell_that_needs_it_is_quoted() {
        assert_eq!(quoted("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
    }
}
