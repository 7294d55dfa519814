//! A device's own word: its will, its birth message, and what the broker retains of both.

use super::expect::{device, device_name, watched};
use super::timetable::{House, filter, message, secs, topic};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Message, QoS};
use iotmonitor_core::model::spec::DeviceSpec;

const LWT: &str = "home/lamp/LWT";

/// Its will is below its watchTopics, as firmwares have it.
fn lamp() -> DeviceSpec {
    DeviceSpec { availability: Some(topic(LWT)), ..watched("lamp", 30) }
}

fn retained(house: &mut House, payload: &str) {
    house.happen(Event::WatchMessage(Message { retain: true, ..message(LWT, payload) }));
}

fn reason(house: &House) -> serde_json::Value {
    house.status("lamp")["reason"].clone()
}

#[test]
fn a_will_expires_the_device_at_once_and_its_next_word_brings_it_back() {
    for back in [LWT, "home/lamp/x"] {
        let mut house = House::running(vec![lamp()]);
        house.hear("home/lamp/x");
        house.advance(secs(10));
        let (gone, last) = (house.mono, house.wall().parse::<u64>().unwrap() - 10);
        house.hear_payload(LWT, "Offline");
        house.expect_published("expire/lamp", gone, &last.to_string());
        assert_eq!(
            (house.status("lamp")["state"].clone(), reason(&house)),
            ("expired".into(), "lwt-offline".into())
        );
        assert!(house.alerts(AlertKind::Expired)[0].1.message.contains("availabilityTopic"));
        house.advance(secs(100));
        house.hear_payload(LWT, "offline");
        assert_eq!(house.count(AlertKind::Expired), 1, "one episode");
        house.hear_payload(back, "online");
        assert_eq!(house.status("lamp")["state"], "alive");
        assert_eq!(house.count(AlertKind::Recovered), 1);
        house.advance(secs(29));
        assert_eq!(house.count(AlertKind::Expired), 1, "its silence began anew");
        house.advance(secs(2));
        assert_eq!(reason(&house), "silent");
    }
}

#[test]
fn a_will_during_an_alarm_only_says_why() {
    let mut house = House::running(vec![lamp()]);
    house.advance(secs(31));
    assert_eq!(reason(&house), "silent");
    house.hear_payload(LWT, "offline");
    assert_eq!(reason(&house), "lwt-offline");
    assert_eq!(house.published("expire/lamp").len(), 1);
    assert_eq!(house.count(AlertKind::Recovered), 0);
}

#[test]
fn of_what_is_retained_only_the_will_counts() {
    let mut house = House::running(vec![lamp()]);
    retained(&mut house, "online");
    assert_eq!(house.status("lamp")["state"], "unknown", "it may be from last year");
    retained(&mut house, "offline");
    assert_eq!(reason(&house), "lwt-offline");
    // It came back while the monitor was away, and went on talking to others.
    house.lose_watch();
    house.connect_watch();
    retained(&mut house, "online");
    assert_eq!(house.count(AlertKind::Recovered), 1);
    house.turn_the_page();
    house.advance(secs(31));
    assert_eq!(reason(&house), "silent", "and has its full timeout from then on");
    retained(&mut house, "online");
    assert_eq!(house.status("lamp")["state"], "expired", "which an old birth does not end");
}

#[test]
fn a_restart_does_not_alarm_again_whatever_comes_first() {
    for store_first in [true, false] {
        let mut house = House::running(vec![lamp()]);
        house.hear_payload(LWT, "offline");
        house.restart();
        house.turn_the_page();
        if store_first {
            house.open_store();
        }
        house.connect_watch();
        retained(&mut house, "offline");
        if !store_first {
            house.open_store();
        }
        house.advance(secs(100));
        house.expect_silence_on("expire/lamp");
        assert_eq!(reason(&house), "lwt-offline");

        // And in the next run it is told that it is back.
        house.restart();
        house.turn_the_page();
        if store_first {
            house.open_store();
        }
        house.connect_watch();
        retained(&mut house, "online");
        if !store_first {
            house.open_store();
        }
        assert_eq!(house.count(AlertKind::Recovered), 1, "store first: {store_first}");
        assert_eq!(house.monitor.summary().expired, 0);
    }
}

#[test]
fn what_was_said_before_the_store_was_read_is_not_lost() {
    let mut house = House::dark(vec![lamp()]);
    house.connect_watch();
    retained(&mut house, "offline");
    house.expect_silence_on("expire/lamp");
    house.happen(Event::StoreFailed { error: "the disk is gone".into() });
    assert_eq!(house.published("expire/lamp").len(), 1);
}

#[test]
fn a_device_that_only_has_a_will_needs_no_timeout() {
    let only = DeviceSpec { availability: Some(topic(LWT)), ..device("lamp") };
    let mut house = House::running(vec![only.clone()]);
    house.hear_payload(LWT, "21.5");
    assert_eq!(house.status("lamp")["state"], "unknown");
    house.hear_payload(LWT, "{\"state\":\"offline\"}");
    assert_eq!(house.monitor.summary().expired, 1);
    house.restart();
    house.power_up();
    assert_eq!(house.monitor.summary().expired, 1);
    house.reload(vec![only]);
    assert_eq!(reason(&house), "lwt-offline");
    house.hear_payload(LWT, "online");
    assert_eq!(house.status("lamp")["state"], "alive");
}

#[test]
fn who_is_out_of_the_monitoring_expires_when_taken_in_again() {
    let mut house = House::running(vec![lamp()]);
    house.happen(Event::Disabled { device: device_name("lamp") });
    house.hear_payload(LWT, "offline");
    house.expect_silence_on("expire/lamp");
    house.happen(Event::Enabled { device: device_name("lamp") });
    assert_eq!(house.published("expire/lamp").len(), 1);
    assert_eq!(reason(&house), "lwt-offline");
}

/// The broker publishes a will, so it shows nobody alive, whoever watches its topic.
#[test]
fn a_will_is_nobodys_sign_of_life() {
    let house_keeper = DeviceSpec { watch: vec![filter("home/#")], ..watched("keeper", 30) };
    let mut house = House::running(vec![lamp(), house_keeper]);
    house.advance(secs(20));
    house.hear_payload(LWT, "offline");
    house.advance(secs(11));
    assert_eq!(house.published("expire/keeper").len(), 1);
    house.hear_payload(LWT, "online");
    assert_eq!(house.published("recover/keeper").len(), 1);
}

#[test]
fn what_is_retained_is_asked_for_on_this_topic_alone() {
    let house = House::running(vec![lamp(), watched("bell", 30)]);
    let asked = house.subscribed(Connection::Watch);
    let replays: Vec<(&str, QoS, bool)> =
        asked.iter().map(|s| (s.filter.as_str(), s.qos, s.replay)).collect();
    assert_eq!(
        replays,
        [
            ("home/bell/#", QoS::AtMostOnce, false),
            ("home/lamp/#", QoS::AtMostOnce, false),
            (LWT, QoS::AtLeastOnce, true),
            ("home/monitoring/availability", QoS::AtMostOnce, false),
            ("home/monitoring/up", QoS::AtMostOnce, false),
        ]
    );
}
