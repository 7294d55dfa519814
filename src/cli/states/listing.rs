//! `states list`: a table for people, lines for programs.

use super::{StatesError, lines, unix_now};
use crate::bus::{Caller, State};
use crate::config::nearest::nearest;
use crate::request::Selection;
use clap::builder::styling::Style;
use iotmonitor_core::model::words::Ago;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// Characters of a payload in the table.
const PREVIEW: usize = 60;

const HEADINGS: [&str; 5] = ["RECORDED", "QOS", "RETAINED", "TOPIC", "PAYLOAD"];

type Row = [String; 5];

pub async fn list(caller: &Caller, of: &Selection, json: bool) -> Result<(), StatesError> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    let now = unix_now();
    loop {
        let (states, next) = caller.states(of, &after).await?;
        if json {
            let text: String =
                states.iter().filter_map(lines::write).map(|line| line + "\n").collect();
            // Who closed the other end has seen enough.
            if std::io::stdout().lock().write_all(text.as_bytes()).is_err() {
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
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let _ = std::io::stdout().lock().write_all(table(&rows, coloured).as_bytes());
    Ok(())
}

/// What has no level may have been meant as a device's name.
async fn nothing(caller: &Caller, of: &Selection) -> Result<(), StatesError> {
    let (what, near) = match of {
        Selection::All => {
            eprintln!("nothing is recorded");
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

fn row(state: &State, now: Duration) -> Row {
    [
        Ago(now.saturating_sub(state.time)).to_string(),
        state.qos.to_string(),
        if state.retain { "yes" } else { "no" }.to_owned(),
        harmless(&state.topic),
        preview(state),
    ]
}

/// The beginning of a text, or what it is.
fn preview(state: &State) -> String {
    let text = state.payload.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
    match text {
        Some("") => "(empty)".to_owned(),
        Some(text) => {
            let mut shown: String = text.chars().take(PREVIEW).collect();
            if shown.len() < text.len() {
                shown.push('…');
            }
            harmless(&shown)
        }
        None => format!("({} bytes)", state.size),
    }
}

/// Without characters that command a terminal.
fn harmless(text: &str) -> String {
    let escaped = |character: char| -> String {
        if character.is_control() { character.escape_default().collect() } else { character.into() }
    };
    text.chars().map(escaped).collect()
}

fn table(rows: &[Row], coloured: bool) -> String {
    let headings = HEADINGS.map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().chain([&headings]);
        cells.map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for (index, row) in std::iter::once(&headings).chain(rows).enumerate() {
        let style = if coloured && index == 0 { Style::new().bold() } else { Style::new() };
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let padding = " ".repeat(width - cell.chars().count());
            line.push_str(&format!("{style}{cell}{style:#}{padding}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(payload: &[u8]) -> State {
        State {
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
            table(&rows, false),
            "RECORDED   QOS  RETAINED  TOPIC                PAYLOAD\n\
             3 min ago  1    yes       home/lamp/set/color  red\n\
             3 min ago  1    yes       home/lamp/set/color  (2 bytes)\n\
             3 min ago  1    yes       home/lamp/set/color  (empty)\n"
        );
    }

    #[test]
    fn nothing_commands_the_terminal() {
        assert_eq!(preview(&state(b"\x1b[2J\n")), "\\u{1b}[2J\\n");
        let long = preview(&state("ü".repeat(100).as_bytes()));
        assert_eq!(long, format!("{}…", "ü".repeat(PREVIEW)));
    }
}
