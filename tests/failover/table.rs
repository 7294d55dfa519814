//! What was measured, as a table.

use super::fault::Fault;
use super::round::Outcome;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What came of all rounds with one fault, or with two at once.
#[derive(Default)]
struct Row {
    rounds: usize,
    two_owners: usize,
    distance: Option<Duration>,
    moved_after: Vec<Duration>,
    silence: Duration,
    lost: usize,
    twice: usize,
    false_alarms: usize,
    missed_alarms: usize,
}

#[derive(Default)]
pub struct Table {
    rows: BTreeMap<Vec<Fault>, Row>,
    /// Of all rounds.
    asked: usize,
    silent: usize,
    compared: usize,
}

impl Table {
    pub fn add(&mut self, faults: &[Fault], outcome: &Outcome) {
        let row = self.rows.entry(faults.to_vec()).or_default();
        row.rounds += 1;
        row.two_owners += outcome.both.len();
        row.distance = [row.distance, outcome.distance].into_iter().flatten().min();
        row.moved_after.extend(&outcome.moved_after);
        row.silence = outcome.silences.iter().fold(row.silence, |most, &more| most.max(more));
        let devices = &outcome.devices;
        row.lost += devices.lost.len();
        row.twice += devices.twice.len();
        row.false_alarms += devices.false_alarms.len();
        row.missed_alarms += devices.missed_alarms.len();
        self.asked += devices.asked;
        self.silent += devices.silent;
        self.compared += devices.compared;
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As Markdown.
    pub fn text(&mut self) -> String {
        let mut text = "\n| Fault | Rounds | Two owners | Smallest distance | Elsewhere after, median | worst | Longest silence | States lost | Restored by two | False alarms | Missed alarms |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
        for (faults, row) in &mut self.rows {
            row.moved_after.sort_unstable();
            let median = row.moved_after.get(row.moved_after.len() / 2).copied();
            let worst = row.moved_after.last().copied();
            let mut words: Vec<String> =
                faults.iter().map(|fault| fault.words().to_owned()).collect();
            if words.len() > 1 {
                // There is no row above it to which it refers.
                words.iter_mut().for_each(|it| *it = it.replace('…', "node cut off"));
            }
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                words.join("; "),
                row.rounds,
                row.two_owners,
                seconds(row.distance),
                seconds(median),
                seconds(worst),
                seconds(Some(row.silence)),
                row.lost,
                row.twice,
                row.false_alarms,
                row.missed_alarms,
            );
        }
        let Self { asked, silent, compared, .. } = self;
        let _ = writeln!(
            text,
            "\n{asked} states were to be given back, {silent} devices fell silent, and {compared} recorded states were compared."
        );
        text
    }
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("–".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
}
