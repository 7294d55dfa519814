//! Texts of any kind, and files in which something slipped.

use super::{MQTT, device, fixture, parsed, system};
use iotmonitor::config::parse;
use iotmonitor_core::model::spec::Exec;
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

#[test]
fn line_ends_of_another_system_change_nothing() {
    let text = format!(
        "\u{feff}{MQTT}[agent_x]\nexec = \"\"\"\ncd /tmp\npwd \\\n  -P\n\"\"\"\n\
         environment = {{ A = '''\none\ntwo''' }}\n[agent_y]\nexec = [\"a\\r\\nb\"]\n"
    );
    let agent = |text: &str, name: &str| device(&parsed(text), name).agent.clone().unwrap();
    for text in [&text, &text.replace('\n', "\r\n")] {
        let agents = ["x", "y"].map(|name| agent(text, name));
        assert_eq!(agents[0].exec, Exec::Shell("cd /tmp\npwd -P\n".into()));
        assert_eq!(agents[0].environment["A"], "one\ntwo");
        let escaped = "what is escaped is meant";
        assert_eq!(agents[1].exec, Exec::Argv(vec!["a\r\nb".into()]), "{escaped}");
    }
}

#[test]
fn places_are_the_same_with_line_ends_of_another_system() {
    let text = fixture("many-errors.toml");
    let shown = |text: &str| parse(text, Path::new("c"), &system()).unwrap_err().to_string();
    assert_eq!(shown(&text.replace('\n', "\r\n")), shown(&text));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in "(\\PC|\n){0,300}") {
        if let Err(errors) = parse(&text, Path::new("c"), &system()) {
            prop_assert!(!errors.errors().is_empty());
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn a_mutated_file_never_panics(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "\\PC{0,3}|[\"'\\[\\]{}=,\n]"), 1..6)
    ) {
        let mut text: Vec<char> = fixture("full.toml").chars().collect();
        for (at, length, put) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(errors) = parse(&text, Path::new("c"), &system()) {
            prop_assert!(errors.errors().iter().all(|error| error.line >= 1 && error.column >= 1));
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn one_slip_of_the_hand_shows_no_password(
        at in any::<prop::sample::Index>(), length in 0_usize..12, put in "[a-z\"'\\[\\]{}=,#\n]{0,2}"
    ) {
        let mut text: Vec<char> = fixture("full.toml").chars().collect();
        let at = at.index(text.len());
        let end = (at + length).min(text.len());
        text.splice(at..end, put.chars());
        let text: String = text.into_iter().collect();
        let output = match parse(&text, Path::new("c"), &system()) {
            Ok(loaded) => format!("{loaded:?}"),
            Err(errors) => format!("{errors} {errors:?}"),
        };
        prop_assert!(!output.contains("hunter2"), "{}", output);
    }

    #[test]
    fn a_time_span_in_a_file_is_read_as_written(millis in 10_u64..300_000_000) {
        let span = iotmonitor::time_span::format(Duration::from_millis(millis));
        let text = format!("{MQTT}[device_x]\nwatchTopics = \"x\"\nwatchTimeOut = \"{span}\"\n");
        let loaded = parsed(&text);
        prop_assert_eq!(device(&loaded, "x").watch_timeout, Some(Duration::from_millis(millis)));
    }
}
