//! The threat model: each of its lines names a test, and each test that is named exists.

use super::{page, root};
use std::fs;

const PAGE: &str = "docs/threat-model.md";

/// Each item of a list, as one line.
fn items(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(item) = line.strip_prefix("- ") {
            items.push(item.to_owned());
        } else if let (Some(rest), Some(item)) = (line.strip_prefix("  "), items.last_mut()) {
            item.push(' ');
            item.push_str(rest);
        }
    }
    items
}

/// What stands between backquotes and looks like `FILE::TEST`.
fn tests_in(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|words| words.split_once(".rs::")).collect()
}

#[test]
fn each_line_names_a_test() {
    let text = page(PAGE);
    let items = items(&text);
    assert!(items.len() > 25, "{items:?}");
    for item in items {
        assert!(!tests_in(&item).is_empty(), "no test shows: {item}");
    }
}

#[test]
fn each_test_that_is_named_exists() {
    let text = page(PAGE);
    let tests = tests_in(&text);
    assert!(tests.len() > 30, "{tests:?}");
    for (file, test) in tests {
        let path = root().join(format!("{file}.rs"));
        let code = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}.rs: {error}"));
        let (before, _) = code
            .split_once(&format!("fn {test}("))
            .unwrap_or_else(|| panic!("{file}.rs has no test `{test}`"));
        let is_test = before.trim_end_matches("async ").trim_end().ends_with(']');
        // One of those that `for_both_protocols!` makes tests of.
        let is_for_each = code.contains("for_both_protocols!") && code.matches(test).count() > 1;
        assert!(is_test || is_for_each, "{file}.rs: `{test}` is not a test");
    }
}
