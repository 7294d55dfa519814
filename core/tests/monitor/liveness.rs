//! Contacts, silence, expiry and recovery on a connection that stands.

use super::expect::{device, device_name, watched};
use super::timetable::{House, START, filter, message, millis, secs};
use iotmonitor_core::model::alert::{AlertKind, Priority};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Message, QoS};
use iotmonitor_core::model::spec::DeviceSpec;

#[test]
fn a_silent_device_expires_once_at_its_deadline_with_its_last_contact() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.advance(secs(10));
    house.hear("home/lamp/x");
    let contact = house.wall();
    house.turn_the_page();
    let deadline = house.mono + secs(30);
    house.advance(secs(3600));
    house.expect_published("expire/lamp", deadline, &contact);
    let (_, expire) = house.published("expire/lamp")[0];
    assert_eq!((expire.qos, expire.retain), (QoS::AtLeastOnce, false));
    assert_eq!(expire.connection, Connection::Watch);
    assert_eq!(house.count(AlertKind::Expired), 1);
    assert_eq!(
        house.alerts(AlertKind::Expired)[0].1.device,
        Some(super::expect::device_name("lamp"))
    );
    assert_eq!(AlertKind::Expired.priority(), Priority::Warning);
    assert_eq!(house.monitor.summary().expired, 1);
}

#[test]
fn a_contact_within_the_last_millisecond_is_in_time() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    for _ in 0..20 {
        house.advance(millis(29_999));
        house.hear("home/lamp/x");
    }
    house.expect_silence_on("expire/lamp");
    let deadline = house.mono + secs(30);
    let contact = house.wall();
    house.advance(secs(31));
    house.expect_published("expire/lamp", deadline, &contact);
}

#[test]
fn a_contact_counts_from_the_arrival_of_its_message() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.advance(secs(10));
    let (arrived, contact) = (house.mono, house.wall());
    house.advance(millis(7));
    let waited_micros = 7_000;
    house.happen(Event::WatchMessage(Message { waited_micros, ..message("home/lamp/x", "1") }));
    house.advance(secs(40));
    house.expect_published("expire/lamp", arrived + secs(30), &contact);
}

#[test]
fn a_device_never_seen_expires_with_zero() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    let start = house.mono;
    house.advance(secs(29));
    house.expect_silence_on("expire/lamp");
    assert_eq!(house.status("lamp")["state"], "unknown");
    house.advance(secs(60));
    house.expect_published("expire/lamp", start + secs(30), "0");
    assert_eq!(house.status("lamp")["state"], "expired");
    assert_eq!(house.status("lamp")["lastContact"], serde_json::Value::Null);
}

#[test]
fn no_timeout_and_no_watch_topics_mean_no_deadline() {
    let hello_only = DeviceSpec { hello: Some(filter("home/bell/hello")), ..device("bell") };
    let mut house = House::running(vec![watched("lamp", 0), hello_only]);
    house.hear("home/lamp/x");
    house.hear("home/bell/hello");
    house.advance(secs(1_000_000));
    house.expect_silence_on("expire/lamp");
    house.expect_silence_on("expire/bell");
    assert_eq!(house.status("lamp")["watchTimeOut"].as_f64(), Some(0.0));
    assert_eq!(house.status("lamp")["state"], "alive");
}

#[test]
fn a_contact_after_the_expiry_recovers_once() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    house.advance(secs(40));
    house.turn_the_page();
    house.hear("home/lamp/x");
    house.hear("home/lamp/x");
    house.expect_published("recover/lamp", house.mono, &house.wall());
    let (_, recover) = house.published("recover/lamp")[0];
    assert_eq!((recover.qos, recover.retain), (QoS::AtLeastOnce, false));
    assert_eq!(house.count(AlertKind::Recovered), 1);
    assert_eq!(AlertKind::Recovered.priority(), Priority::Notice);
    assert_eq!(house.status("lamp")["state"], "alive");
    assert_eq!(house.monitor.summary().expired, 0);
    // A new episode is a new alarm.
    let deadline = house.mono + secs(30);
    house.advance(secs(100));
    assert_eq!(house.published("expire/lamp").len(), 1);
    assert_eq!(house.published("expire/lamp")[0].0, deadline);
}

#[test]
fn a_contact_of_a_living_device_recovers_nothing() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    house.advance(secs(29));
    house.hear("home/lamp/x");
    house.expect_silence_on("recover/lamp");
}

#[test]
fn steps_of_the_wall_clock_change_nothing_but_what_is_shown() {
    for step in [-86_400 * 365, -31, 31, 86_400 * 365] {
        let mut house = House::running(vec![watched("lamp", 30)]);
        house.hear("home/lamp/x");
        let contact: i64 = house.wall().parse().unwrap();
        let deadline = house.mono + secs(30);
        house.advance(secs(15));
        house.wall_step += step;
        // A correction of less than a minute is not followed.
        let contact = (contact + if step.abs() > 60 { step } else { 0 }).to_string();
        house.advance(secs(100));
        house.expect_published("expire/lamp", deadline, &contact);
    }
}

#[test]
fn expire_is_repeated_when_the_section_asks_for_it_until_the_next_contact() {
    let repeating = DeviceSpec { expire_repeat: Some(secs(10)), ..watched("lamp", 30) };
    let mut house = House::running(vec![repeating]);
    house.hear("home/lamp/x");
    let t0 = house.mono;
    house.advance(secs(55));
    let times: Vec<_> = house.published("expire/lamp").iter().map(|(at, _)| *at - t0).collect();
    assert_eq!(times, [secs(30), secs(40), secs(50)]);
    assert!(house.payloads("expire/lamp").iter().all(|p| *p == START.to_string()));
    assert_eq!(house.count(AlertKind::Expired), 1, "the journal gets one warning");
    house.hear("home/lamp/x");
    house.turn_the_page();
    house.advance(secs(29));
    house.expect_silence_on("expire/lamp");
    house.advance(secs(12));
    assert_eq!(house.published("expire/lamp").len(), 2);
}

#[test]
fn a_hello_is_a_contact() {
    let spec = DeviceSpec { hello: Some(filter("home/hi/lamp")), ..watched("lamp", 30) };
    let mut house = House::running(vec![spec]);
    house.advance(secs(20));
    house.hear("home/hi/lamp");
    let deadline = house.mono + secs(30);
    house.advance(secs(60));
    assert_eq!(house.published("expire/lamp")[0].0, deadline);
}

#[test]
fn hellos_are_counted_and_published_at_each_change() {
    let spec = DeviceSpec { hello: Some(filter("home/hi/lamp")), ..watched("lamp", 30) };
    let mut house = House::running(vec![spec]);
    house.hear("home/lamp/x");
    house.expect_silence_on("helloTopicCount/lamp");
    house.hear("home/hi/lamp");
    house.hear("home/hi/lamp");
    assert_eq!(house.payloads("helloTopicCount/lamp"), ["1", "2"]);
    house.happen(Event::WatchMessage(Message { retain: true, ..message("home/hi/lamp", "x") }));
    assert_eq!(house.payloads("helloTopicCount/lamp").len(), 2, "a replay is no hello");
    let (_, count) = house.published("helloTopicCount/lamp")[0];
    assert_eq!((count.qos, count.retain), (QoS::AtLeastOnce, false));
}

/// None of these keeps the device alive.
fn is_no_contact(spec: DeviceSpec, no_contact: &Message) {
    let mut house = House::running(vec![spec]);
    let deadline = house.mono + secs(30);
    for _ in 0..5 {
        house.advance(secs(8));
        house.happen(Event::WatchMessage(no_contact.clone()));
    }
    house.expect_published("expire/lamp", deadline, "0");
    house.expect_silence_on("recover/lamp");
}

fn watched_on(text: &str) -> DeviceSpec {
    DeviceSpec { watch: vec![filter(text)], ..watched("lamp", 30) }
}

#[test]
fn a_retained_replay_is_no_contact() {
    let replay = Message { retain: true, ..message("home/lamp/x", "1") };
    is_no_contact(watched("lamp", 30), &replay);
}

#[test]
fn a_restored_state_is_no_contact() {
    let restored = Message { restored: true, ..message("home/lamp/x", "1") };
    is_no_contact(watched("lamp", 30), &restored);
}

#[test]
fn own_messages_are_no_contact() {
    for below in ["up", "status/lamp", "expire/lamp", "availability", "marker/iotmonitor/watch"] {
        let own = message(&format!("home/monitoring/{below}"), "1");
        is_no_contact(watched_on("home/#"), &own);
    }
    is_no_contact(watched_on("#"), &message("home/monitoring", "1"));
}

#[test]
fn a_topic_that_only_begins_like_the_own_ones_is_a_contact() {
    let mut house = House::running(vec![watched_on("home/#")]);
    house.hear("home/monitoring2/up");
    assert_eq!(house.status("lamp")["state"], "alive");
}

#[test]
fn dollar_topics_are_no_contact_for_a_leading_wildcard_and_are_for_a_literal_one() {
    is_no_contact(watched_on("#"), &message("$SYS/broker/uptime", "1"));
    is_no_contact(watched_on("+/broker/uptime"), &message("$SYS/broker/uptime", "1"));
    let mut house = House::running(vec![watched_on("$SYS/#")]);
    house.hear("$SYS/broker/uptime");
    assert_eq!(house.status("lamp")["state"], "alive");
}

#[test]
fn a_topic_of_another_device_is_no_contact() {
    is_no_contact(watched("lamp", 30), &message("home/lamp2/x", "1"));
    is_no_contact(watched_on("home/+/x"), &message("home/a/b/x", "1"));
}

#[test]
fn one_message_is_a_contact_of_every_device_that_it_matches() {
    let both = DeviceSpec { name: super::timetable::name("house"), ..watched_on("home/+/x") };
    let mut house = House::running(vec![watched("lamp", 30), both]);
    house.hear("home/lamp/x");
    assert_eq!(house.status("lamp")["state"], "alive");
    assert_eq!(house.status("house")["state"], "alive");
}

#[test]
fn the_status_is_published_retained_at_each_change_and_only_then() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    let start: u64 = house.wall().parse().unwrap();
    let status = house.status("lamp");
    assert_eq!(status["name"], "lamp");
    assert_eq!(status["kind"], "device");
    assert_eq!(status["state"], "unknown");
    assert_eq!(status["watchTimeOut"].as_f64(), Some(30.0));
    assert_eq!(status["since"], start);
    house.advance(secs(5));
    house.turn_the_page();
    house.hear("home/lamp/x");
    assert_eq!(house.status("lamp")["state"], "alive");
    assert_eq!(house.status("lamp")["since"], start + 5);
    assert_eq!(house.status("lamp")["lastContact"], start + 5);
    let (_, publication) = house.published("status/lamp")[0];
    assert_eq!((publication.qos, publication.retain), (QoS::AtLeastOnce, true));
    house.advance(secs(5));
    house.hear("home/lamp/x");
    assert_eq!(house.published("status/lamp").len(), 1, "a further contact changes no state");
    house.advance(secs(31));
    assert_eq!(house.status("lamp")["state"], "expired");
    assert_eq!(house.status("lamp")["since"], start + 40);
    assert_eq!(house.status("lamp")["lastContact"], start + 10);
}

#[test]
fn up_counts_the_seconds_from_one() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    let start = house.mono;
    house.advance(millis(3_500));
    assert_eq!(house.payloads("up"), ["1", "2", "3"]);
    let times: Vec<_> = house.published("up").iter().map(|(at, _)| *at - start).collect();
    assert_eq!(times, [secs(1), secs(2), secs(3)]);
    let (_, up) = house.published("up")[0];
    assert_eq!((up.qos, up.retain, up.connection), (QoS::AtMostOnce, false, Connection::Watch));
    house.crash();
    house.power_up();
    house.turn_the_page();
    house.advance(secs(2));
    assert_eq!(house.payloads("up"), ["1", "2"], "from 1 at each start");
}

#[test]
fn availability_is_online_retained_at_each_connection_and_offline_at_the_stop() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.lose_watch();
    house.connect_watch();
    assert_eq!(house.payloads("availability"), ["online", "online"]);
    house.happen(Event::Stopping);
    assert_eq!(house.payloads("availability"), ["online", "online", "offline"]);
    for (_, publication) in house.published("availability") {
        assert_eq!((publication.qos, publication.retain), (QoS::AtLeastOnce, true));
    }
}

#[test]
fn watch_filters_are_subscribed_at_qos_0_and_hellos_at_qos_1() {
    let spec = DeviceSpec { hello: Some(filter("hi/lamp")), ..watched("lamp", 30) };
    let house = House::running(vec![spec]);
    let mut subscribed: Vec<_> = house
        .subscribed(Connection::Watch)
        .iter()
        .map(|wanted| (wanted.filter.as_str(), wanted.qos))
        .collect();
    subscribed.sort();
    let own = ["home/monitoring/availability", "home/monitoring/up"];
    let own = own.map(|topic| (topic, QoS::AtMostOnce));
    let devices = [("hi/lamp", QoS::AtLeastOnce), ("home/lamp/#", QoS::AtMostOnce)];
    assert_eq!(subscribed, [devices, own].concat());
}

#[test]
fn no_device_expires_before_the_broker_has_answered_a_round_trip() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    let t0 = house.mono;
    house.broker.acknowledges = false;
    house.advance(secs(33));
    house.expect_silence_on("expire/lamp");
    let probes = house.published("marker/iotmonitor/watch");
    assert_eq!(probes.len(), 1);
    assert_eq!(probes[0].0, t0 + secs(30), "asked at the deadline, not later");
    assert_eq!(probes[0].1.qos, QoS::AtLeastOnce);
    assert!(probes[0].1.token.is_some());
    house.settle_acknowledgements();
    house.expect_published("expire/lamp", t0 + secs(33), &START.to_string());
}

#[test]
fn a_contact_that_comes_during_the_round_trip_saves_the_device() {
    let mut house = House::running(vec![watched("lamp", 30), watched("pump", 30)]);
    house.broker.acknowledges = false;
    house.advance(secs(31));
    house.hear("home/lamp/x");
    house.settle_acknowledgements();
    house.expect_silence_on("expire/lamp");
    assert_eq!(house.published("expire/pump").len(), 1);
    house.broker.acknowledges = true;
    let deadline = house.mono + secs(30);
    house.advance(secs(60));
    assert_eq!(house.published("expire/lamp")[0].0, deadline);
}

#[test]
fn a_device_that_falls_due_during_a_round_trip_of_others_is_judged_by_its_own() {
    let mut house = House::running(vec![watched("lamp", 30), watched("pump", 31)]);
    house.broker.acknowledges = false;
    house.advance(secs(32));
    house.settle_acknowledgements();
    assert_eq!(house.published("expire/lamp").len(), 1);
    house.expect_silence_on("expire/pump");
    house.settle_acknowledgements();
    assert_eq!(house.published("expire/pump").len(), 1);
}

#[test]
fn a_monitor_that_was_held_up_reads_what_waits_before_it_lets_things_expire() {
    let mut house = House::running(vec![watched("lamp", 30), watched("pump", 30)]);
    house.hear("home/lamp/x");
    house.hear("home/pump/x");
    house.broker.acknowledges = false;
    house.stall(secs(500));
    house.happen(Event::TimePassed);
    house.expect_silence_on("expire/lamp");
    house.hear("home/lamp/x");
    house.settle_acknowledgements();
    house.expect_silence_on("expire/lamp");
    assert_eq!(house.published("expire/pump").len(), 1);
}

#[test]
fn time_in_which_the_broker_was_held_up_does_not_count() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    house.broker.acknowledges = false;
    house.advance(secs(40));
    // Asked at 30 s and answered at 40 s, while what the lamp said still waits in the broker.
    house.happen(Event::AnsweredLate { after: secs(10) });
    house.settle_acknowledgements();
    house.broker.acknowledges = true;
    house.advance(secs(29));
    house.expect_silence_on("expire/lamp");
    house.advance(secs(2));
    assert_eq!(house.published("expire/lamp").len(), 1, "a grace is no pardon");
}

#[test]
fn a_broker_that_is_held_up_again_and_again_hides_no_device() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    for _ in 0..20 {
        house.advance(secs(10));
        house.happen(Event::AnsweredLate { after: secs(2) });
    }
    assert_eq!(house.published("expire/lamp").len(), 1);
}

/// As on a Raspberry Pi, which has no clock: it starts with a time of long ago, until the network sets it
/// the present one.
#[test]
fn what_is_shown_of_this_run_follows_the_wall_clock() {
    let mut house =
        House::running(vec![watched("lamp", 30), watched("bell", 3600), watched("old", 0)]);
    house.hear("home/old/x");
    let earlier = house.monitor.view(&device_name("old")).unwrap().last_contact;
    house.wall_step -= 10 * 365 * 86_400;
    house.restart();
    house.power_up();
    house.hear("home/lamp/x");
    house.hear("home/bell/x");
    house.advance(secs(20));
    house.turn_the_page();
    house.wall_step += 10 * 365 * 86_400;
    house.advance(secs(20));
    let last_contact =
        |house: &House, name: &str| house.monitor.view(&device_name(name)).unwrap().last_contact;
    let heard = house.now().wall - secs(40);
    assert_eq!(last_contact(&house, "bell"), Some(heard));
    assert_eq!(house.status("bell")["lastContact"].as_u64(), Some(heard.as_secs()));
    assert_eq!(last_contact(&house, "old"), earlier, "that was on another clock");
    let message = &house.alerts(AlertKind::Expired)[0].1.message;
    assert!(message.contains("last contact 30 s ago"), "{message}");
    assert_eq!(house.payloads("expire/lamp"), [heard.as_secs().to_string()]);
    // The record is on the new clock, too.
    house.restart();
    house.power_up();
    assert_eq!(last_contact(&house, "bell"), Some(heard));
}
