//! Figures of several rounds, and the table of them in Markdown.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What was measured in the rounds; never empty.
#[derive(Debug, Clone)]
pub struct Figure {
    values: Vec<f64>,
    unit: &'static str,
}

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    pub work: String,
    /// What it is compared with, by name.
    pub references: Vec<(&'static str, Figure)>,
    pub monitor: Figure,
    pub goal: Option<Goal>,
}

/// What is to be reached.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// At most so much of the first reference.
    Ratio(f64),
    /// At least so much of the first reference.
    RatioAtLeast(f64),
    /// At most so much more than the first reference.
    AtMostAbove(f64),
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    pub fn new(values: Vec<f64>, unit: &'static str) -> Self {
        let mut values = values;
        assert!(!values.is_empty(), "a figure needs a round");
        values.sort_by(f64::total_cmp);
        Self { values, unit }
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value that this part of all values are below.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "there are some hundred values"
    )]
    pub fn quantile(&self, part: f64) -> f64 {
        let place = (self.values.len() as f64 * part) as usize;
        self.values[place.min(self.values.len() - 1)]
    }
}

/// The median, and behind it the least and the greatest where there are several.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Short(self.median()), self.unit)?;
        match self.values[..] {
            [] | [_] => Ok(()),
            [first, .., last] => write!(f, " ({}–{})", Short(first), Short(last)),
        }
    }
}

/// Three digits that count.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = match self.0.abs() {
            value if value >= 100.0 => 0,
            value if value >= 10.0 => 1,
            _ => 2,
        };
        write!(f, "{:.places$}", self.0)
    }
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.references.first().map(|(_, figure)| self.monitor.median() / figure.median())
    }

    fn is_met(&self) -> Option<bool> {
        Some(match self.goal? {
            Goal::Ratio(most) => self.ratio()? <= most,
            Goal::RatioAtLeast(least) => self.ratio()? >= least,
            Goal::AtMostAbove(most) => {
                self.monitor.median() - self.references.first()?.1.median() <= most
            }
            Goal::AtMost(most) => self.monitor.median() <= most,
            Goal::AtLeast(least) => self.monitor.median() >= least,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let references: Vec<String> =
            self.references.iter().map(|(name, figure)| format!("{name} {figure}")).collect();
        let ratio = self.ratio().map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let goal = match self.goal {
            None => "–".to_owned(),
            Some(Goal::Ratio(most)) => format!("ratio ≤ {most}"),
            Some(Goal::RatioAtLeast(least)) => format!("ratio ≥ {least}"),
            Some(Goal::AtMostAbove(most)) => format!("≤ {most} {} more", self.monitor.unit),
            Some(Goal::AtMost(most)) => format!("≤ {most} {}", self.monitor.unit),
            Some(Goal::AtLeast(least)) => format!("≥ {least} {}", self.monitor.unit),
        };
        let met = match self.is_met() {
            None => "",
            Some(true) => "met",
            Some(false) => "not met",
        };
        let references =
            if references.is_empty() { "–".to_owned() } else { references.join(", ") };
        let Self { work, monitor, .. } = self;
        write!(f, "| {work} | {references} | {monitor} | {ratio} | {goal} | {met} |")
    }
}

/// Several programs side by side, one a column.
#[derive(Debug)]
pub struct Comparison {
    subjects: Vec<&'static str>,
    rows: Vec<(&'static str, Vec<String>)>,
}

impl Comparison {
    pub fn new(subjects: Vec<&'static str>) -> Self {
        Self { subjects, rows: Vec::new() }
    }

    /// Adds a row with what was found of each subject.
    pub fn push(&mut self, work: &'static str, found: Vec<String>) {
        self.rows.push((work, found));
    }

    /// The table in Markdown, with what it was measured on.
    pub fn render(&self, conditions: &str) -> String {
        let line = |first: &str, cells: &[String]| format!("| {first} | {} |\n", cells.join(" | "));
        let names: Vec<String> = self.subjects.iter().map(|name| (*name).to_owned()).collect();
        let mut text = format!("{conditions}\n\n{}", line("", &names));
        text.push_str(&format!("|---{}|\n", "|---".repeat(names.len())));
        text.extend(self.rows.iter().map(|(work, found)| line(work, found)));
        text
    }
}

/// The whole table, with what it was measured on.
pub fn render(rows: &[Row], conditions: &str) -> String {
    let mut text = format!(
        "{conditions}\n\n| Work | Reference | iotmonitor | Ratio | Goal | |\n|---|---|---|---|---|---|\n"
    );
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{row}");
    }
    text
}

/// Year, month and day in UTC (Hinnant, "chrono-compatible low-level date algorithms").
pub fn today() -> String {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let days = elapsed.as_secs() / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
