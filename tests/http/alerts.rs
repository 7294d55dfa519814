//! Alerts over restarts, and their acknowledgement.

use super::house::{Answer, House, TOKEN, free_port, read_chunk};
use serde_json::Value;
use std::io::{BufReader, Write};

const LAMP: &str = "[device_lamp]\nwatchTimeOut = 1\nwatchTopics = \"home/lamp\"\n";

fn alerts(house: &House) -> Vec<Value> {
    house.get("/api/v1/alerts").json().as_array().unwrap().clone()
}

/// The newest alert about the lamp's silence.
fn expired(house: &House) -> Option<Value> {
    alerts(house).into_iter().find(|alert| alert["event"] == "expired")
}

fn until_heard(house: &House) {
    house.until("the monitor to hear its devices", || {
        house.try_get("/healthz").is_ok_and(|answer| answer.status == 200)
    });
}

/// Waits for an alert with a number that a crash does not remove any more.
fn until_recorded(house: &House) -> Value {
    house.until_state("lamp", "expired");
    house.until("the alert to have a number", || {
        expired(house).is_some_and(|alert| alert["id"].is_u64())
    });
    // What is promised to outlive a crash is a second old.
    std::thread::sleep(std::time::Duration::from_secs(1));
    expired(house).unwrap()
}

fn post(house: &House, path: &str) -> Answer {
    let bearer = format!("Bearer {TOKEN}");
    house.ask("POST", path, &[("authorization", &bearer)]).unwrap()
}

#[test]
fn alerts_are_shown_after_a_restart_and_after_a_crash() {
    let mut house = House::with(LAMP);
    let before = until_recorded(&house);
    house.stop();
    house.start();
    until_heard(&house);
    house.until("the earlier alerts", || expired(&house).as_ref() == Some(&before));
    let shown = alerts(&house);
    let events: Vec<&str> = shown.iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert!(events.contains(&"stopped"), "{events:?}");
    assert_eq!(events.iter().filter(|event| **event == "started").count(), 2, "{events:?}");

    house.publish("home/lamp", "on");
    house.until("another alert", || expired(&house).is_some_and(|it| it["id"] != before["id"]));
    let after = until_recorded(&house);
    assert!(after["id"].as_u64() > before["id"].as_u64());
    house.crash();
    house.start();
    until_heard(&house);
    house.until("the warning of before the crash", || expired(&house).as_ref() == Some(&after));
    let ids: Vec<u64> = alerts(&house).iter().map(|alert| alert["id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted_by(|newer, older| newer > older), "{ids:?}");
}

#[test]
fn an_alert_is_acknowledged_with_the_token_and_those_who_look_on_see_it() {
    let mut house = House::on(free_port(), &format!("token = \"{TOKEN}\""), LAMP);
    let alert = until_recorded(&house);
    assert!(alert.get("acknowledged").is_none(), "{alert}");
    let path = format!("/api/v1/alerts/{}/acknowledge", alert["id"]);
    assert_eq!(house.ask("POST", &path, &[]).unwrap().status, 401);
    assert!(expired(&house).unwrap().get("acknowledged").is_none());

    let mut stream = house.connect();
    stream.write_all(house.request("GET", "/api/v1/events", &[]).as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    assert_eq!(Answer::read_head(&mut stream).unwrap().status, 200);
    assert_eq!(post(&house, &path).status, 204);
    let mut next = || read_chunk(&mut stream).unwrap().expect("the stream goes on");
    let told = loop {
        let chunk = next();
        if let Some(data) = chunk.strip_prefix("event: acknowledged\ndata: ") {
            break serde_json::from_str::<Value>(data.trim()).unwrap();
        }
    };
    assert_eq!(told["id"], alert["id"]);
    assert_eq!(expired(&house).unwrap()["acknowledged"], told["acknowledged"]);
    assert_eq!(post(&house, &path).status, 204, "once more changes nothing");

    house.crash();
    house.start();
    until_heard(&house);
    house.until("the acknowledgement of before the crash", || {
        expired(&house).is_some_and(|it| it["acknowledged"] == told["acknowledged"])
    });
    let unknown = post(&house, "/api/v1/alerts/999999/acknowledge");
    assert_eq!(unknown.status, 404);
    assert!(unknown.json()["error"].as_str().unwrap().contains("no alert 999999"));
    assert_eq!(post(&house, "/api/v1/alerts/lamp/acknowledge").status, 404);
}

#[test]
fn incidents_and_figures_go_on_over_a_restart() {
    let mut house = House::with(LAMP);
    house.publish("home/lamp", "on");
    house.until_state("lamp", "expired");
    let incidents = |house: &House, query: &str| {
        let answer = house.get(&format!("/api/v1/incidents{query}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json().as_array().unwrap().clone()
    };
    house.until("the incident to be recorded", || !incidents(&house, "").is_empty());
    let lasting = incidents(&house, "?device=lamp&since=1h")[0].clone();
    assert_eq!((&lasting["device"], &lasting["kind"]), (&"lamp".into(), &"alarm".into()));
    assert_eq!((&lasting["reason"], &lasting["end"]), (&"silent".into(), &Value::Null));
    assert!(incidents(&house, "?device=other").is_empty());
    house.publish("home/lamp", "on");
    house.until("its end", || incidents(&house, "").iter().any(|it| it["endedBy"] == "contact"));
    house.until_state("lamp", "expired");
    house.until("another incident", || incidents(&house, "").len() >= 2);
    house.stop();
    house.start();
    until_heard(&house);
    house.until("the incidents of before", || incidents(&house, "").len() >= 2);
    let count = "iotmonitor_device_incidents_total{device=\"lamp\"} ";
    let metrics = house.get("/metrics").body;
    let counted = metrics.lines().find_map(|line| line.strip_prefix(count));
    assert!(counted.unwrap().parse::<u32>().unwrap() >= 2, "{metrics}");
    let uptime = "iotmonitor_device_uptime_ratio{device=\"lamp\",window=\"7d\"} 0.";
    assert!(metrics.lines().any(|line| line.starts_with(uptime)), "{metrics}");
    assert_eq!(house.get("/api/v1/incidents?since=never").status, 400);
}
