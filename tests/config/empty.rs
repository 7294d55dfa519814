//! An empty string is the same as no key, whatever the type of the key.

use super::{MQTT, errors, fixture, system};
use iotmonitor::config::{Config, parse};
use std::path::Path;

/// The configuration, or what is said instead.
fn outcome(text: &str) -> Result<Config, Vec<String>> {
    let loaded = parse(text, Path::new("c"), &system()).map(|loaded| loaded.config);
    loaded.map_err(|errors| errors.errors().iter().map(|error| error.message.clone()).collect())
}

#[test]
fn every_key_of_every_section() {
    let text = fixture("full.toml");
    let lines: Vec<&str> = text.lines().collect();
    let mut keys = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else { continue };
        let with = |put: &str| {
            let mut changed = lines.clone();
            changed[at] = put;
            outcome(&changed.join("\n"))
        };
        assert_eq!(with(&format!("{key} = \"\"")), with(""), "{key}");
        keys += 1;
    }
    assert_eq!(keys, 38, "each key of the file has been tried");
}

#[test]
fn a_key_that_is_required_is_missed_where_it_is_empty() {
    let [address] = &errors("[mqtt]\nserverAddress = \"\"\n")[..] else { panic!() };
    assert_eq!((address.line, address.column), (2, 17));
    assert_eq!(address.message, "[mqtt] has no `serverAddress`");
    let [exec] = &errors(&format!("{MQTT}[agent_x]\nexec = \"\"\n"))[..] else { panic!() };
    assert_eq!((exec.line, exec.column, exec.message.as_str()), (4, 8, "[agent_x] has no `exec`"));
}

#[test]
fn what_is_no_key_may_be_empty() {
    let text =
        format!("{MQTT}[agent_x]\nexec = [\"echo\", \"\"]\nenvironment = {{ EMPTY = \"\" }}\n");
    let config = outcome(&text).unwrap();
    let agent = config.monitor.devices[0].agent.clone().unwrap();
    assert_eq!(agent.environment["EMPTY"], "");
    let unknown = outcome(&format!("{MQTT}colour = \"\"\n")).unwrap_err();
    assert!(unknown[0].starts_with("unknown key `colour`"), "{unknown:?}");
}
