//! What Prometheus's own tool says of the metrics, the rules and the dashboard.
//!
//! The tests of this module need promtool, which is why they stand apart.

use super::dashboards::{RULES, queries};
use super::house::House;
use serde_json::{Value, json};
use std::io::{Seek as _, Write as _};
use std::process::Command;

fn promtool(arguments: &[&str]) -> String {
    let output = Command::new("promtool")
        .args(arguments)
        .output()
        .expect("promtool is installed; `make deps` does it");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    said.into_owned()
}

/// A file of YAML, of which JSON is a part.
fn file(content: &Value) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".yml").tempfile().unwrap();
    write!(file, "{content}").unwrap();
    file
}

#[test]
fn it_reads_the_metrics() {
    let house = House::with("[device_lamp]\nwatchTimeOut = 1\nwatchTopics = \"home/lamp/#\"\n");
    house.until_state("lamp", "expired");
    let answer = house.get("/metrics");
    let mut metrics = tempfile::tempfile().unwrap();
    metrics.write_all(answer.body.as_bytes()).unwrap();
    metrics.rewind().unwrap();
    let output = Command::new("promtool").args(["check", "metrics"]).stdin(metrics).output();
    let output = output.expect("promtool is installed; `make deps` does it");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}\n{}", answer.body);
}

#[test]
fn every_query_of_the_dashboard_is_one() {
    let rules: Vec<Value> = queries()
        .iter()
        .enumerate()
        .map(|(number, query)| {
            let expr = query.replace("$__rate_interval", "1m").replace("$instance", ".*");
            assert!(!expr.contains('$'), "a variable that is not known here: {expr}");
            json!({"record": format!("query:{number}"), "expr": expr})
        })
        .collect();
    assert!(rules.len() >= 10);
    let file = file(&json!({"groups": [{"name": "dashboard", "rules": rules}]}));
    promtool(&["check", "rules", &file.path().display().to_string()]);
}

#[test]
fn the_rules_alert_when_they_should_and_not_before() {
    promtool(&["check", "rules", RULES]);
    let series = |name: &str, labels: &str, values: &str| {
        let all = format!("job=\"iotmonitor\",instance=\"a\",{labels}");
        json!({"series": format!("{name}{{{all}}}"), "values": values})
    };
    let firing = |minute: u32, alerts: &[&str]| {
        let samples: Vec<Value> = alerts
            .iter()
            .map(|labels| json!({"labels": format!("{{{labels}}}"), "value": 1}))
            .collect();
        json!({
            "expr": "count by (alertname, device) (ALERTS{alertstate=\"firing\"})",
            "eval_time": format!("{minute}m"),
            "exp_samples": samples,
        })
    };
    let tests = json!({
        "rule_files": [RULES],
        "evaluation_interval": "1m",
        "tests": [{
            "interval": "1m",
            "input_series": [
                series("up", "", "1x9 0x9"),
                series("iotmonitor_broker_connected", "", "1x3 0 1x20"),
                series("iotmonitor_device_expired", "device=\"lamp\"", "0x4 1x2 0x20"),
                series("iotmonitor_device_expired", "device=\"bell\"", "0x20"),
                series("iotmonitor_device_enabled", "device=\"pump\"", "1x20"),
                series("iotmonitor_agent_running", "device=\"pump\"", "1 0x4 1x20"),
                series("iotmonitor_device_enabled", "device=\"off\"", "0x20"),
                series("iotmonitor_agent_running", "device=\"off\"", "0x20"),
                series("iotmonitor_agent_restarts_total", "device=\"pump\"", "0x6 1 2 4 8x20"),
                series("iotmonitor_store_failing", "", "0x15 1x2 0x9"),
            ],
            "promql_expr_test": [
                firing(2, &[]),
                firing(4, &["alertname=\"IotmonitorAgentDown\",device=\"pump\""]),
                firing(5, &[
                    "alertname=\"IotmonitorAgentDown\",device=\"pump\"",
                    "alertname=\"IotmonitorExpired\",device=\"lamp\"",
                ]),
                firing(8, &[]),
                firing(14, &[
                    "alertname=\"IotmonitorAgentRestarts\",device=\"pump\"",
                    "alertname=\"IotmonitorDown\"",
                ]),
                firing(18, &[
                    "alertname=\"IotmonitorAgentRestarts\",device=\"pump\"",
                    "alertname=\"IotmonitorDown\"",
                    "alertname=\"IotmonitorStoreFails\"",
                ]),
                firing(19, &[
                    "alertname=\"IotmonitorAgentRestarts\",device=\"pump\"",
                    "alertname=\"IotmonitorDown\"",
                ]),
            ],
        }, {
            // What another device, flapping or a person suppresses elsewhere is suppressed here.
            "interval": "1m",
            "input_series": [
                series("up", "", "1x20"),
                series("iotmonitor_device_expired", "device=\"bridge\"", "1x20"),
                series("iotmonitor_device_alarm", "device=\"bridge\",reason=\"silent\"", "1x20"),
                series("iotmonitor_device_expired", "device=\"behind\"", "1x20"),
                series("iotmonitor_device_alarm", "device=\"behind\",reason=\"upstream\"", "1x20"),
                series("iotmonitor_device_expired", "device=\"nervous\"", "0 1x3 0x20"),
                series(
                    "iotmonitor_device_alarm",
                    "device=\"nervous\",reason=\"flapping\"",
                    "1x6 _x20",
                ),
                series("iotmonitor_agent_running", "device=\"nervous\"", "0x20"),
                series("iotmonitor_device_enabled", "device=\"nervous\"", "1x4 0x20"),
                series("iotmonitor_device_expired", "device=\"quiet\"", "1x20"),
                series("iotmonitor_device_alarm", "device=\"quiet\",reason=\"silent\"", "1x20"),
                series("iotmonitor_device_silenced", "device=\"quiet\"", "1x4 _x20"),
                series("iotmonitor_notification_failing", "", "1x20"),
            ],
            "promql_expr_test": [
                firing(3, &[
                    "alertname=\"IotmonitorExpired\",device=\"bridge\"",
                    "alertname=\"IotmonitorFlapping\",device=\"nervous\"",
                ]),
                firing(12, &[
                    "alertname=\"IotmonitorExpired\",device=\"bridge\"",
                    "alertname=\"IotmonitorExpired\",device=\"quiet\"",
                ]),
                firing(16, &[
                    "alertname=\"IotmonitorAlertsNotTold\"",
                    "alertname=\"IotmonitorExpired\",device=\"bridge\"",
                    "alertname=\"IotmonitorExpired\",device=\"quiet\"",
                ]),
            ],
        }, {
            "interval": "1m",
            "input_series": [series("iotmonitor_broker_connected", "", "1x2 0x9")],
            "promql_expr_test": [
                firing(1, &[]),
                firing(5, &[
                    "alertname=\"IotmonitorBrokerLost\"",
                    // Nothing is scraped under this name in this house.
                    "alertname=\"IotmonitorDown\"",
                ]),
            ],
        }],
    });
    promtool(&["test", "rules", &file(&tests).path().display().to_string()]);
}
