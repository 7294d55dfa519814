//! The section `[recorder]` in a line, for people.

use iotmonitor::config::recorder::RecorderSettings;
use iotmonitor::time_span;
use iotmonitor_core::topic::TopicFilter;

/// What is recorded, and for how long: `home/#` except `home/+/camera`, and
/// keeps 400d, 4096 MiB at most.
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
