//! What the package has for Prometheus and Grafana fits what `/metrics` gives.

use super::house::House;
use serde_json::Value;
use std::collections::BTreeSet;

pub const RULES: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/usr/share/iotmonitor/prometheus-rules.yml");
const DASHBOARD: &str = include_str!("../../systemd/usr/share/iotmonitor/grafana-dashboard.json");

pub fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// Metrics that no panel shows: they describe the setup, or are the matter of the rules.
const NOT_SHOWN: [&str; 7] = [
    "iotmonitor_build_info",
    "iotmonitor_device_hellos_total",
    "iotmonitor_device_node",
    "iotmonitor_device_watch_timeout_seconds",
    "iotmonitor_fleet_devices",
    "iotmonitor_names_refused_total",
    "iotmonitor_store_failing",
];

/// Words that can only be names of metrics.
fn names_in(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("iotmonitor_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn every_metric_that_is_queried_exists_and_none_is_left_out() {
    let house = House::with(
        "[device_lamp]\nwatchTimeOut = 5\nwatchTopics = \"home/lamp/#\"\n\
         [agent_pump]\nexec = \"exec sleep infinity\"\n",
    );
    house.publish("home/lamp/x", "1");
    house.until_state("lamp", "alive");
    let body = house.get("/metrics").body;
    let given = names_in(&body);
    let rules = std::fs::read_to_string(RULES).unwrap();
    let rules: Vec<&str> =
        rules.lines().filter(|line| line.contains("expr") || line.starts_with("   ")).collect();
    let (rules, queries) = (rules.join("\n"), queries().join("\n"));
    let shown = names_in(&queries);
    let forgotten: Vec<_> = given
        .iter()
        .filter(|name| name.starts_with("iotmonitor_"))
        .filter(|name| !shown.contains(*name) && !NOT_SHOWN.contains(name))
        .collect();
    assert!(forgotten.is_empty(), "the dashboard does not show {forgotten:?}");
    let asked = &names_in(&rules) | &names_in(&queries);
    assert!(asked.len() >= 10, "{asked:?}");
    let missing: Vec<_> = asked.difference(&given).collect();
    assert!(missing.is_empty(), "{missing:?} is not in\n{body}");
}
