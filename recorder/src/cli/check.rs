//! `iotmonitor-recorder check [FILE]`: reports whether a configuration can be used, and changes
//! nothing.

use iotmonitor::cli::check::{EXIT_CONFIG, show};
use iotmonitor::config::recorder::RecorderSettings;
use iotmonitor::config::{self, ConfigErrors, Environment};
use iotmonitor::time_span;
use iotmonitor_core::model::words::counted;
use iotmonitor_core::topic::TopicFilter;
use std::io::Write;
use std::path::Path;

/// Checks the file; findings go to `err`, one line about a good file to `out`. Returns the exit
/// code: 0, also with warnings, or [`EXIT_CONFIG`].
pub fn check(
    path: &Path,
    environment: &Environment,
    out: &mut impl Write,
    err: &mut impl Write,
) -> u8 {
    // A reader that closed the other end does not want more: write errors change no outcome.
    match config::load_for_recorder(path, environment) {
        Ok(loaded) => {
            show(&loaded.warnings, err);
            let _ = writeln!(out, "{}: ok, records {}", path.display(), summary(&loaded.recorder));
            0
        }
        Err(ConfigErrors::Invalid { errors, warnings }) => {
            show(&warnings, err);
            show(&errors, err);
            let _ = writeln!(err, "{}: {}", path.display(), counted(errors.total(), "error"));
            EXIT_CONFIG
        }
        Err(unreadable @ ConfigErrors::Unreadable { .. }) => {
            let _ = writeln!(err, "{unreadable}");
            EXIT_CONFIG
        }
    }
}

/// What is recorded, and for how long: `` `home/#` except `home/+/camera`, and keeps 400d or 4.0 GiB ``.
pub fn summary(settings: &RecorderSettings) -> String {
    let mut summary = listed(&settings.topics);
    if !settings.exclude.is_empty() {
        summary.push_str(&format!(" except {}", listed(&settings.exclude)));
    }
    summary.push_str(&format!(", and keeps {}", time_span::format(settings.keep)));
    if let Some(most) = settings.max_size {
        summary.push_str(&format!(", {} MiB at most", most >> 20));
    }
    summary
}

fn listed(filters: &[TopicFilter]) -> String {
    let filters: Vec<String> = filters.iter().map(|filter| format!("`{filter}`")).collect();
    filters.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_is_summed_up_in_a_line() {
        let filter = |text: &str| TopicFilter::new(text).unwrap();
        let mut settings = RecorderSettings::default();
        assert_eq!(summary(&settings), "`#`, and keeps 400d, 4096 MiB at most");
        settings.topics = vec![filter("home/#"), filter("garden/#")];
        settings.exclude = vec![filter("home/+/camera")];
        settings.max_size = None;
        let expected = "`home/#`, `garden/#` except `home/+/camera`, and keeps 400d";
        assert_eq!(summary(&settings), expected);
    }
}
