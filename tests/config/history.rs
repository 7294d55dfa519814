//! The section `[history]`.

use super::{MQTT, errors, parsed};
use std::time::Duration;

const DAY: u64 = 86_400;

#[test]
fn the_past_is_kept_for_as_long_as_the_file_says() {
    let keep = |text: &str| parsed(&format!("{MQTT}{text}")).config.history_keep;
    assert_eq!(keep(""), Duration::from_secs(400 * DAY));
    assert_eq!(keep("[history]\n"), Duration::from_secs(400 * DAY));
    assert_eq!(keep("[history]\nkeep = \"90d\"\n"), Duration::from_secs(90 * DAY));
}

#[test]
fn less_than_a_day_and_anything_but_a_time_is_an_error() {
    for (wrong, told) in [("\"1h\"", "out of range"), ("true", "keep")] {
        let errors = errors(&format!("{MQTT}[history]\nkeep = {wrong}\n"));
        assert_eq!((errors.len(), errors[0].line), (1, 4), "{wrong}");
        assert!(errors[0].message.contains(told), "{}", errors[0].message);
    }
}
