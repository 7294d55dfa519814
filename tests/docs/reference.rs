//! The tables of the pages name every key, kind, reason and promise that there is.

use super::{page, root};
use iotmonitor::config::{self, Environment};
use iotmonitor_core::model::alert::{AlertKind, Reason};
use std::path::Path;

/// The heading above each section's table, a section of that kind, and the fewest keys that it has.
const SECTIONS: [(&str, &str, usize); 10] = [
    ("## `[mqtt]`", "mqtt", 5),
    ("## `[device_NAME]`", "device_x", 5),
    ("## `[agent_NAME]`", "agent_x", 5),
    ("## `[fleet_NAME]`", "fleet_x", 3),
    ("## `[alerts]`", "alerts", 2),
    ("## `[history]`", "history", 1),
    ("## `[recorder]`", "recorder", 5),
    ("## `[homeassistant]`", "homeassistant", 3),
    ("## `[http]`", "http", 5),
    ("## `[cluster]`", "cluster", 10),
];

#[test]
fn every_kind_of_alert_is_named() {
    let alerts = page("docs/alerts.md");
    for kind in AlertKind::ALL {
        assert!(alerts.contains(&format!("`{}`", kind.event())), "{} is missing", kind.event());
    }
}

#[test]
fn every_reason_is_named_in_words() {
    let alerts = page("docs/alerts.md");
    for reason in Reason::ALL {
        let row = format!("\n| `{}` | ", reason.as_str());
        assert!(alerts.contains(&row), "{} is missing", reason.as_str());
    }
}

/// Each key in the first column of a section's table is accepted in that section, for a key that
/// is not known would be reported as such.
#[test]
fn every_key_of_the_reference_is_known() {
    for (heading, section, least) in SECTIONS {
        let keys = keys_below(heading);
        assert!(keys.len() >= least, "the table below {heading} is missing");
        for key in keys {
            let text = format!("[{section}]\n{key} = \"\"\n");
            let findings = findings(&text);
            assert!(!findings.contains("unknown key"), "`{key}`: {findings}");
        }
    }
}

/// And each known key is in a table: an unknown one is answered with the list of those.
#[test]
fn every_known_key_is_in_the_reference() {
    for (heading, section, _) in SECTIONS {
        let findings = findings(&format!("[{section}]\nzzzzzzzzzzzzzzzz = \"\"\n"));
        let known = findings.split(" knows ").nth(1).unwrap().lines().next().unwrap();
        let mut named = keys_below(heading);
        if ["agent_x", "fleet_x"].contains(&section) {
            named.extend(keys_below("## `[device_NAME]`"));
        }
        for key in known.split(", ") {
            assert!(named.iter().any(|name| name == key), "`{key}` is missing below {heading}");
        }
    }
}

/// And a key that does not exist is found out, so that the test above can fail.
#[test]
fn a_key_that_does_not_exist_is_unknown() {
    assert!(findings("[mqtt]\nnonsense = \"\"\n").contains("unknown key"));
}

/// And each promise that the table of faults quotes is one that the fault tests make.
#[test]
fn every_promise_that_is_quoted_is_tested() {
    let folder = root().join("tests/faults");
    let sources = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let sources =
        sources.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let code: String = sources
        .map(|path| words(&std::fs::read_to_string(path).unwrap().replace("\\\n", "")))
        .collect();
    let page = page("docs/reliability.md");
    let (table, machines) = page.split_once("## Several machines").unwrap();
    let faults = std::fs::read_to_string(root().join("tests/failover/fault.rs")).unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| Fault |");
    let rows: Vec<&str> = machines.lines().filter(is_row).collect();
    assert!(rows.len() >= 10, "{rows:?}");
    for row in rows {
        for fault in row.split('|').nth(1).unwrap().trim().split("; ") {
            let refers = fault.replace("node cut off in", "… in");
            assert!(faults.contains(&format!("\"{refers}\"")), "no test makes: {fault}");
        }
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(cells[3], "0", "two owners: {row}");
        assert_eq!(cells[8..12], ["0"; 4], "states and alarms: {row}");
    }
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 10, "{rows:?}");
    for row in rows {
        let promise = row.split('|').nth(1).unwrap().trim();
        assert!(code.contains(&format!("\"{promise}\"")), "no test promises: {promise}");
        assert!(row.contains("| kept"), "{row}");
    }
}

fn keys_below(heading: &str) -> Vec<String> {
    let reference = page("docs/configuration.md");
    let section = reference.split(heading).nth(1).unwrap();
    let section = section.split("\n#").next().unwrap();
    section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| {
            let first = line.split('|').nth(1).unwrap();
            first.split(',').map(|key| key.trim().trim_matches('`').to_owned()).collect::<Vec<_>>()
        })
        .collect()
}

fn findings(text: &str) -> String {
    match config::parse(text, Path::new("config.toml"), &Environment::default()) {
        Ok(_) => String::new(),
        Err(errors) => errors.to_string(),
    }
}
