//! `states list`: prints a table for people, or lines for programs.

use super::transfer::left_out;
use super::{StatesError, lines, unix_now};
use crate::bus::{Caller, RecordedState};
use crate::cli::output::{self, OutputStyle, Reader, say};
use crate::cli::table::TextTable;
use crate::config::nearest::nearest;
use crate::request::Selection;
use clap::builder::styling::Style;
use iotmonitor_core::model::words::Ago;
use std::time::Duration;

/// The number of characters of a payload in the table.
const PREVIEW: usize = 60;

const HEADINGS: [&str; 5] = ["RECORDED", "QOS", "RETAINED", "TOPIC", "PAYLOAD"];

type Row = [String; 5];

pub async fn list(caller: &Caller, of: &Selection, json: bool) -> Result<(), StatesError> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    let now = unix_now();
    loop {
        let (states, next) = caller.states(of, &after).await?;
        if json {
            let mut text = String::new();
            for state in &states {
                match lines::write(state) {
                    Some(line) => text.extend([line.as_str(), "\n"]),
                    None => left_out(state),
                }
            }
            if output::print(text)? == Reader::Gone {
                return Ok(());
            }
        } else {
            rows.extend(states.iter().map(|state| row(state, now)));
        }
        if next.is_empty() {
            break;
        }
        after = next;
    }
    if json {
        return Ok(());
    }
    if rows.is_empty() {
        return nothing(caller, of).await;
    }
    output::print(table(&rows, OutputStyle::of_stdout()))?;
    Ok(())
}

/// A filter without levels may have been meant as a device's name.
async fn nothing(caller: &Caller, of: &Selection) -> Result<(), StatesError> {
    let (what, near) = match of {
        Selection::All => {
            say!("nothing is recorded");
            return Ok(());
        }
        Selection::Device(name) => (name.as_str(), None),
        Selection::Filter(filter) if filter.as_str().contains('/') => (filter.as_str(), None),
        Selection::Filter(filter) => {
            let devices = caller.devices().await?;
            let names = devices.iter().map(|device| device.name.as_str());
            (filter.as_str(), nearest(filter.as_str(), names).map(str::to_owned))
        }
    };
    Err(StatesError::Nothing { what: what.to_owned(), nearest: near })
}

fn row(state: &RecordedState, now: Duration) -> Row {
    [
        Ago(now.saturating_sub(state.time)).to_string(),
        state.qos.to_string(),
        if state.retain { "yes" } else { "no" }.to_owned(),
        state.topic.clone(),
        preview(state),
    ]
}

/// The beginning of a string, or a description of binary data.
fn preview(state: &RecordedState) -> String {
    let text = state.payload.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
    match text {
        Some("") => "(empty)".to_owned(),
        Some(text) => {
            let mut shown: String = text.chars().take(PREVIEW).collect();
            if shown.len() < text.len() {
                shown.push('…');
            }
            shown
        }
        None if state.size == 1 => "(1 byte)".to_owned(),
        None => format!("({} bytes)", state.size),
    }
}

fn table(rows: &[Row], look: OutputStyle) -> String {
    let mut table = TextTable::new(look, HEADINGS);
    for row in rows {
        table.row(row.iter().map(|cell| (cell.as_str(), Style::new())));
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(payload: &[u8]) -> RecordedState {
        RecordedState {
            topic: "home/lamp/set/color".to_owned(),
            payload: Some(payload.to_vec()),
            size: payload.len() as u64,
            qos: 1,
            retain: true,
            time: Duration::from_secs(1_000),
        }
    }

    #[test]
    fn a_table_shows_texts_and_says_what_is_none() {
        let now = Duration::from_secs(1_180);
        let rows = [row(&state(b"red"), now), row(&state(b"\0\xff"), now), row(&state(b""), now)];
        assert_eq!(
            table(&rows, OutputStyle::default()),
            "RECORDED   QOS  RETAINED  TOPIC                PAYLOAD\n\
             3 min ago  1    yes       home/lamp/set/color  red\n\
             3 min ago  1    yes       home/lamp/set/color  (2 bytes)\n\
             3 min ago  1    yes       home/lamp/set/color  (empty)\n"
        );
    }

    #[test]
    fn nothing_commands_the_terminal() {
        let rows = [row(&state(b"\x1b[2J\n"), Duration::ZERO)];
        assert!(table(&rows, OutputStyle::default()).ends_with("  \\u{1b}[2J\\n\n"));
        let long = preview(&state("ü".repeat(100).as_bytes()));
        assert_eq!(long, format!("{}…", "ü".repeat(PREVIEW)));
    }
}
