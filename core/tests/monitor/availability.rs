//! A device's own word: its will, its birth message, and what the broker retains of both.

use super::expect::{device, device_name, watched};
use super::timetable::{House, START, filter, message, secs, topic};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::availability_words::OwnWords;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Message, QoS};
use iotmonitor_core::model::spec::DeviceSpec;

const LWT: &str = "home/lamp/LWT";

/// Its will is below its watchTopics, as firmwares have it.
fn lamp() -> DeviceSpec {
    DeviceSpec { availability: vec![topic(LWT)], ..watched("lamp", 30) }
}

/// A lamp that shows no other sign of life.
fn only_available() -> DeviceSpec {
    DeviceSpec { availability: vec![topic(LWT)], ..device("lamp") }
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

        // The next run reports that it is back.
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
    house.advance(secs(31));
    assert_eq!(house.published("expire/lamp").len(), 1);
}

#[test]
fn a_device_that_only_has_a_will_needs_no_timeout() {
    let only = DeviceSpec { availability: vec![topic(LWT)], ..device("lamp") };
    let mut house = House::running(vec![only.clone()]);
    house.hear_payload(LWT, "21.5");
    assert_eq!(house.status("lamp")["state"], "alive", "whatever it says, it speaks");
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
fn an_unmonitored_device_that_is_gone_expires_when_it_is_monitored_again() {
    let mut house = House::running(vec![lamp()]);
    house.happen(Event::Disabled { device: device_name("lamp") });
    house.hear_payload(LWT, "offline");
    house.expect_silence_on("expire/lamp");
    house.happen(Event::Enabled { device: device_name("lamp") });
    assert_eq!(house.published("expire/lamp").len(), 1);
    assert_eq!(reason(&house), "lwt-offline");
}

/// The broker publishes a will, so it is not a contact of any device that watches its topic.
#[test]
fn a_will_is_not_a_contact() {
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

/// A will that the broker retains and a birth that it does not: each reconnection brings the will of
/// long ago beside a device that speaks.
#[test]
fn a_will_that_the_device_belied_is_no_news_when_it_is_replayed() {
    let mut house = House::running(vec![lamp()]);
    house.hear_payload(LWT, "offline");
    house.hear_payload(LWT, "online");
    for _ in 0..3 {
        house.hear("home/lamp/x");
        house.advance(secs(2));
        house.lose_watch();
        house.connect_watch();
        house.turn_the_page();
        retained(&mut house, "offline");
        house.advance(secs(2));
        house.expect_silence_on("expire/lamp");
    }
    house.hear("home/lamp/x");
    house.turn_the_page();
    house.restart();
    house.power_up();
    retained(&mut house, "offline");
    house.hear("home/lamp/x");
    house.expect_silence_on("expire/lamp");
    assert_eq!(house.status("lamp")["state"], "alive");
    house.hear_payload(LWT, "offline");
    assert_eq!(reason(&house), "lwt-offline", "a live will is one");
}

#[test]
fn a_retained_birth_shows_that_a_later_retained_will_is_news() {
    let mut house = House::running(vec![lamp()]);
    house.hear_payload(LWT, "offline");
    house.hear_payload(LWT, "online");
    house.lose_watch();
    house.connect_watch();
    retained(&mut house, "online");
    house.hear("home/lamp/x");
    house.hear_payload(LWT, "offline");
    house.hear_payload(LWT, "online");
    // It dies while the monitor is away: births are retained, so the broker's last word is a newer one.
    house.lose_watch();
    house.connect_watch();
    house.turn_the_page();
    retained(&mut house, "offline");
    assert_eq!(house.published("expire/lamp").len(), 1);
}

#[test]
fn at_a_first_start_a_replayed_will_is_believed_after_a_silent_watch_interval() {
    let mut house = House::running(vec![lamp()]);
    retained(&mut house, "offline");
    house.hear("home/lamp/x");
    house.advance(secs(29));
    house.expect_silence_on("expire/lamp");
    assert_eq!(house.status("lamp")["state"], "alive");

    let mut house = House::running(vec![lamp()]);
    let start = house.mono;
    retained(&mut house, "offline");
    house.expect_silence_on("expire/lamp");
    house.advance(secs(31));
    assert_eq!(house.published("expire/lamp")[0].0, start + secs(30));
    assert_eq!(reason(&house), "lwt-offline");

    // A sensor that speaks once a day is not waited for that long.
    let mut house =
        House::running(vec![DeviceSpec { watch_timeout: Some(secs(90_000)), ..lamp() }]);
    let start = house.mono;
    retained(&mut house, "offline");
    house.advance(secs(700));
    assert_eq!(house.published("expire/lamp")[0].0, start + secs(600));
}

#[test]
fn a_doubt_is_waited_out_in_time_in_which_the_device_could_be_heard() {
    let mut house = House::running(vec![lamp()]);
    retained(&mut house, "offline");
    house.advance(secs(2));
    house.lose_watch();
    house.advance(secs(20));
    house.connect_watch();
    house.turn_the_page();
    retained(&mut house, "offline");
    house.advance(secs(29));
    house.expect_silence_on("expire/lamp");
    house.hear("home/lamp/x");
    house.advance(secs(5));
    house.expect_silence_on("expire/lamp");
    assert_eq!(house.status("lamp")["state"], "alive");
}

#[test]
fn a_doubt_ends_where_a_reload_has_taken_the_timeout_away() {
    let mut house = House::running(vec![lamp()]);
    retained(&mut house, "offline");
    house.lose_watch();
    house.reload(vec![DeviceSpec { watch_timeout: None, ..lamp() }]);
    house.advance(secs(10));
    house.expect_silence_on("expire/lamp");
    house.connect_watch();
    house.advance(secs(2));
    assert_eq!(house.published("expire/lamp").len(), 1);
}

#[test]
fn any_live_word_but_a_known_gone_ends_the_alarm() {
    for word in ["2", "1", "hello", "21.5", "{\"online\":true}", "{\"value\":\"anything\"}"] {
        let mut house = House::running(vec![only_available()]);
        house.hear_payload(LWT, "offline");
        assert_eq!(reason(&house), "lwt-offline");
        house.hear_payload(LWT, word);
        assert_eq!(house.status("lamp")["state"], "alive", "{word}");
    }
    // Whoever clears what is retained sends an empty message.
    let mut house = House::running(vec![only_available()]);
    house.hear_payload(LWT, "offline");
    house.hear_payload(LWT, "");
    assert_eq!(house.status("lamp")["state"], "expired");
}

#[test]
fn words_of_its_own_are_known_from_the_configuration() {
    let words = OwnWords { offline: vec!["weg".into()], online: vec!["da".into()] };
    let lamp = DeviceSpec { availability_words: Some(Box::new(words)), ..lamp() };
    let mut house = House::running(vec![lamp]);
    house.hear_payload(LWT, "weg");
    assert_eq!(reason(&house), "lwt-offline");
    house.lose_watch();
    house.connect_watch();
    retained(&mut house, "da");
    assert_eq!(house.count(AlertKind::Recovered), 1);
}

#[test]
fn a_device_with_two_topics_is_gone_as_long_as_either_says_so() {
    let spec = |name: &str| DeviceSpec {
        availability: vec![topic("z/bridge/state"), topic(&format!("z/{name}/availability"))],
        watch: vec![filter(&format!("z/{name}"))],
        ..watched(name, 90_000)
    };
    let mut house = House::running(vec![spec("sensor"), spec("bulb")]);
    for name in ["sensor", "bulb"] {
        house.hear(&format!("z/{name}"));
    }
    house.hear_payload("z/sensor/availability", "offline");
    house.hear_payload("z/bridge/state", "offline");
    assert_eq!(house.monitor.summary().expired, 2);
    house.hear_payload("z/bridge/state", "online");
    assert_eq!(house.monitor.summary().expired, 1, "the sensor has said so itself");
    house.hear_payload("z/sensor/availability", "online");
    assert_eq!(house.monitor.summary().expired, 0);
    house.advance(secs(10));
    house.hear_payload("z/bridge/state", "online");
    let contact = house.monitor.view(&device_name("bulb")).unwrap().last_contact;
    assert_eq!(contact, Some(secs(START)), "the bridge speaks, and not the bulb");
}

/// A payload with the metric `bdSeq` alone, as an edge node of Sparkplug sends it.
fn certificate(number: u8) -> String {
    format!("\x12\x09\x0a\x05bdSeq\x58{}", char::from(number))
}

#[test]
fn a_node_of_sparkplug_dies_by_its_will_and_not_by_a_late_one() {
    let node = DeviceSpec {
        availability: vec![topic("spBv1.0/plant/NDEATH/press")],
        watch: vec![filter("spBv1.0/plant/+/press/#")],
        ..watched("press", 60)
    };
    let motor = DeviceSpec {
        availability: vec![topic("spBv1.0/plant/DDEATH/press/motor")],
        ..device("motor")
    };
    // Whoever watches everything does not take a will for a sign of life.
    let all = DeviceSpec { watch: vec![filter("spBv1.0/#")], ..watched("all", 60) };
    let mut house = House::running(vec![node, motor, all]);
    let expired = |house: &House| house.monitor.summary().expired;
    house.hear_payload("spBv1.0/plant/NBIRTH/press", &certificate(1));
    house.hear_payload("spBv1.0/plant/DBIRTH/press/motor", "");
    assert_eq!(house.status("motor")["state"], "alive");
    house.hear_payload("spBv1.0/plant/DDEATH/press/motor", "");
    assert_eq!((expired(&house), house.status("motor")["state"].clone()), (1, "expired".into()));
    house.hear_payload("spBv1.0/plant/DBIRTH/press/motor", "");
    assert_eq!(expired(&house), 0);

    house.hear_payload("spBv1.0/plant/NDEATH/press", &certificate(1));
    assert_eq!(house.status("press")["reason"], "lwt-offline");
    assert_eq!(house.status("motor")["reason"], "lwt-offline", "all behind it are gone");
    house.hear_payload("spBv1.0/plant/NBIRTH/press", &certificate(2));
    assert_eq!(house.status("press")["state"], "alive");
    assert_eq!(house.status("motor")["state"], "expired", "before its own birth");
    house.hear_payload("spBv1.0/plant/DBIRTH/press/motor", "");
    // The broker finds out about the former connection.
    house.hear_payload("spBv1.0/plant/NDEATH/press", &certificate(1));
    assert_eq!(expired(&house), 0);

    house.advance(secs(59));
    house.hear_payload("spBv1.0/plant/NDEATH/press", &certificate(2));
    house.advance(secs(1));
    assert_eq!(house.status("all")["state"], "expired", "the death was no sign of life");
}

/// A sensor behind a gateway, as Zigbee2MQTT shows them.
fn behind_a_gateway() -> House {
    let gateway = DeviceSpec { availability: vec![topic("z/bridge/state")], ..device("gateway") };
    let sensor = DeviceSpec {
        availability: vec![topic("z/sensor/availability")],
        depends_on: vec![device_name("gateway")],
        watch: vec![filter("z/sensor")],
        ..watched("sensor", 90_000)
    };
    let mut house = House::running(vec![gateway, sensor]);
    house.hear_payload("z/bridge/state", "online");
    house.hear_payload("z/sensor/availability", "online");
    house.hear("z/sensor");
    house.advance(secs(60));
    house.hear_payload("z/sensor/availability", "offline");
    house.advance(secs(600));
    house.hear_payload("z/bridge/state", "offline");
    house.advance(secs(20));
    house.hear_payload("z/bridge/state", "online");
    house
}

#[test]
fn what_a_returned_gateway_has_kept_of_a_dead_device_is_no_recovery() {
    let mut house = behind_a_gateway();
    house.hear_payload("z/sensor/availability", "offline");
    house.turn_the_page();
    house.hear("z/sensor");
    house.expect_silence_on("recover/sensor");
    assert_eq!(house.monitor.summary().expired, 1);
    house.advance(secs(5));
    house.hear("z/sensor");
    assert_eq!(house.published("recover/sensor").len(), 1, "a later word is one");
}

#[test]
fn its_own_online_or_a_word_long_after_the_gateway_is_a_recovery() {
    let mut house = behind_a_gateway();
    house.hear_payload("z/sensor/availability", "offline");
    house.hear_payload("z/sensor/availability", "online");
    assert_eq!(house.published("recover/sensor").len(), 1);

    let mut house = behind_a_gateway();
    house.hear_payload("z/sensor/availability", "offline");
    house.advance(secs(61));
    house.hear("z/sensor");
    assert_eq!(house.published("recover/sensor").len(), 1);

    // Nothing has said anew that it is gone.
    let mut house = behind_a_gateway();
    house.hear("z/sensor");
    assert_eq!(house.published("recover/sensor").len(), 1);
}
