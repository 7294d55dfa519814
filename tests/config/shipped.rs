//! What `check` says, of the shipped file among others.

use super::{parsed, system};
use iotmonitor::cli::check::check;
use std::fs;
use std::path::Path;

fn checked(path: &Path) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = check(path, &system(), &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn the_shipped_file_passes() {
    let (code, out, err) = checked(Path::new("config.toml"));
    assert_eq!((code, out.as_str()), (0, "config.toml: ok, 1 device\n"), "{err}");
    assert_eq!(err, "");
}

#[test]
fn the_examples_of_the_shipped_file_pass_too() {
    let shipped = fs::read_to_string("config.toml").unwrap();
    let commented = |line: &str| {
        let rest = line.strip_prefix("# ").unwrap_or_default();
        rest.starts_with('[') || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    let live: String = shipped
        .lines()
        .map(|line| if commented(line) { &line[2..] } else { line })
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(live.contains("\n[agent_ledbox]\n") && live.contains("\nsandbox = \"strict\""));
    let loaded = parsed(&live);
    assert_eq!(loaded.config.monitor.devices.len(), 5);
}

#[test]
fn check_says_what_it_found_and_with_which_code() {
    let (code, out, err) = checked(Path::new("tests/fixtures/config/original.toml"));
    assert_eq!(code, 0);
    assert_eq!(out, "tests/fixtures/config/original.toml: ok, 3 devices and 2 agents\n");
    assert_eq!(err.matches("warning: ").count(), 2);
    let (code, out, err) = checked(Path::new("tests/fixtures/config/many-errors.toml"));
    assert_eq!((code, out.as_str()), (78, ""));
    assert_eq!(err.matches("error: ").count(), 12);
    assert_eq!(err.matches("warning: ").count(), 2);
    assert!(err.ends_with("many-errors.toml: 12 errors\n"), "{err}");
    let (code, _, err) = checked(Path::new("tests/fixtures/config/none.toml"));
    assert_eq!(code, 78);
    assert!(err.contains("none.toml"), "{err}");
}
