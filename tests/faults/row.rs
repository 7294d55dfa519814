//! A promise's row in the table.

use std::fmt::Write;

/// What a promise was put to, and what came of it. It is kept when nothing was lost, no device was
/// alarmed falsely or in vain waited for, and nothing else is broken.
#[derive(Clone)]
pub struct Row {
    promise: &'static str,
    pub faults: usize,
    /// The four below say nothing where they do not apply.
    pub sent: Option<usize>,
    pub lost: Option<usize>,
    pub false_alarms: Option<usize>,
    pub missed_alarms: Option<usize>,
    /// What was measured, where the promise is about that.
    pub measured: Option<String>,
    /// What else does not hold, in sentences.
    pub broken: Vec<String>,
}

/// The maximum number of failures of a promise that are printed.
const SHOWN: usize = 20;

impl Row {
    /// A row without any count yet.
    pub fn new(promise: &'static str) -> Self {
        Self {
            promise,
            faults: 0,
            sent: None,
            lost: None,
            false_alarms: None,
            missed_alarms: None,
            measured: None,
            broken: Vec::new(),
        }
    }

    /// Of a promise that panicked.
    pub fn unfinished(name: &'static str) -> Self {
        Self { broken: vec!["it ended in a panic".to_owned()], ..Self::new(name) }
    }

    /// Adds to a count, which from then on applies.
    pub fn add(count: &mut Option<usize>, more: usize) {
        *count = Some(count.unwrap_or_default() + more);
    }

    /// Notes what is broken unless the condition holds.
    pub fn expect(&mut self, holds: bool, broken: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(broken());
        }
    }

    /// Why it is not kept, if it is not.
    pub fn failure(&self) -> Option<String> {
        let counts = [
            (self.lost, "lost"),
            (self.false_alarms, "false alarms"),
            (self.missed_alarms, "missed alarms"),
        ];
        let wrong = counts.into_iter().filter_map(|(count, what)| match count {
            None | Some(0) => None,
            Some(count) => Some(format!("{count} {what}")),
        });
        let all: Vec<String> = wrong.chain(self.broken.iter().cloned()).collect();
        let more = all.len().saturating_sub(SHOWN);
        let mut text = all[..all.len() - more].join("\n");
        if more > 0 {
            let _ = write!(text, "\nand {more} more");
        }
        (!all.is_empty()).then_some(text)
    }
}

/// The table as Markdown.
pub fn table<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let mut text =
        "\n| Promise | Faults | Messages sent | Lost | False alarms | Missed alarms | |\n\
         |---|--:|--:|--:|--:|--:|---|\n"
            .to_owned();
    let count = |count: Option<usize>| count.map_or("–".to_owned(), |count| count.to_string());
    for row in rows {
        let counts = [row.sent, row.lost, row.false_alarms, row.missed_alarms].map(count);
        let verdict = if row.failure().is_some() { "**broken**" } else { "kept" };
        let measured = row.measured.as_ref().map_or(String::new(), |words| format!(", {words}"));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {verdict}{measured} |",
            row.promise,
            row.faults,
            counts.join(" | ")
        );
    }
    text
}
