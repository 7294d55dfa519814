//! Publications that the broker does not take.

use super::expect::{stateful, watched};
use super::timetable::{House, filter, secs, topic};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, LossReason, Protocol, QoS};

const A: &str = "home/lamp/states/a";

fn messages(house: &House, kind: AlertKind) -> Vec<String> {
    house.alerts(kind).iter().map(|(_, alert)| alert.message.clone()).collect()
}

#[test]
fn one_alert_for_each_root_and_reason_until_one_is_taken() {
    let mut house = House::running(vec![watched("a", 10), watched("b", 10)]);
    house.broker.denied.insert(filter("home/monitoring/expire/#"));
    house.advance(secs(11));
    let raised = messages(&house, AlertKind::PublishRefused);
    let [message] = raised.as_slice() else { panic!("one alert is wanted: {raised:?}") };
    for part in ["`home/monitoring/expire`", "`home/monitoring/expire/a`", "not authorized"] {
        assert!(message.contains(part), "{message}");
    }
    // Neither a reconnection nor another topic of the root is a change.
    house.lose_watch();
    house.connect_watch();
    house.hear("home/a/x");
    house.advance(secs(100));
    assert_eq!(house.count(AlertKind::PublishRefused), 1);
    house.broker.denied.insert(filter("home/monitoring/status/#"));
    house.hear("home/a/x");
    assert_eq!(house.count(AlertKind::PublishRefused), 2, "another root");
    let reason = "a quota is exceeded".to_owned();
    let at = topic("home/monitoring/expire/b");
    house.happen(Event::PublishRefused { topic: at.clone(), reason, token: None });
    assert_eq!(house.count(AlertKind::PublishRefused), 3, "another reason");
    assert_eq!(house.count(AlertKind::PublishAccepted), 0);

    house.happen(Event::PublishAccepted { topic: at.clone() });
    house.happen(Event::PublishAccepted { topic: at.clone() });
    let raised = messages(&house, AlertKind::PublishAccepted);
    let [message] = raised.as_slice() else { panic!("one end is wanted: {raised:?}") };
    assert!(message.contains("`home/monitoring/expire`"), "{message}");
    let reason = "not authorized".to_owned();
    house.happen(Event::PublishRefused { topic: at, reason, token: None });
    assert_eq!(house.count(AlertKind::PublishRefused), 4, "a new episode");
}

#[test]
fn a_neighbour_that_is_taken_does_not_end_the_alert_of_a_foreign_topic() {
    let mut house = House::running(vec![stateful("lamp")]);
    let refused = |house: &mut House| {
        let reason = "not authorized".to_owned();
        house.happen(Event::PublishRefused { topic: topic(A), reason, token: None });
    };
    refused(&mut house);
    for _ in 0..3 {
        house.happen(Event::PublishAccepted { topic: topic("home/pump/states/a") });
        refused(&mut house);
    }
    assert_eq!(house.count(AlertKind::PublishRefused), 1);
    assert_eq!(house.count(AlertKind::PublishAccepted), 0);
    house.happen(Event::PublishAccepted { topic: topic(A) });
    assert_eq!(house.count(AlertKind::PublishAccepted), 1);
}

#[test]
fn what_was_refused_was_not_restored() {
    for qos in [QoS::AtLeastOnce, QoS::AtMostOnce] {
        let mut house = House::running(vec![stateful("lamp")]);
        house.advance(secs(2));
        house.recorded_as(A, "on", qos, true);
        house.recorded("home/lamp/states/b", "on");
        house.broker.denied.insert(filter("home/lamp/states/#"));
        house.turn_the_page();
        if qos == QoS::AtLeastOnce {
            house.hear("home/lamp/hello");
            assert_eq!(house.count(AlertKind::PublishRefused), 1);
            assert_eq!(house.count(AlertKind::Restored), 0);
        }
        house.broker.denied = [filter("home/lamp/states/b")].into();
        house.hear("home/lamp/hello");
        let raised = messages(&house, AlertKind::Restored);
        assert_eq!(raised, ["restored 1 state of `lamp`"]);
        house.broker.denied.clear();
        house.hear("home/lamp/hello");
        assert_eq!(messages(&house, AlertKind::Restored)[1], "restored 2 states of `lamp`");
    }
}

#[test]
fn a_state_at_qos_0_that_is_too_large_was_not_restored() {
    let mut house = House::running(vec![stateful("lamp")]);
    house.advance(secs(2));
    house.recorded_as(A, "on", QoS::AtMostOnce, true);
    house.broker.acknowledges = false;
    house.broker.delivers = false;
    house.hear("home/lamp/hello");
    let reason = "too large".to_owned();
    house.happen(Event::PublishRefused { topic: topic(A), reason, token: None });
    house.settle_acknowledgements();
    assert_eq!(house.count(AlertKind::Restored), 0);
}

#[test]
fn a_refused_restore_holds_nothing_up() {
    let mut house = House::running(vec![stateful("lamp"), stateful("pump")]);
    house.advance(secs(2));
    house.store.chunk = 2;
    for number in 0..5 {
        house.recorded(&format!("home/lamp/states/{number}"), "on");
        house.recorded(&format!("home/pump/states/{number}"), "on");
    }
    house.broker.denied.insert(filter("home/lamp/states/#"));
    house.hear("home/lamp/hello");
    house.hear("home/pump/hello");
    assert_eq!(messages(&house, AlertKind::Restored), ["restored 5 states of `pump`"]);
    // A value that is newer than a refused one is not an echo.
    house.state("home/lamp/states/0", "off");
    house.turn_the_page();
    house.broker.denied.clear();
    house.hear("home/lamp/hello");
    assert!(
        house.restored().contains(&"home/lamp/states/0=off".to_owned()),
        "{:?}",
        house.restored()
    );
}

#[test]
fn a_refused_round_trip_is_a_round_trip() {
    let mut house = House::running(vec![watched("lamp", 10)]);
    house.broker.denied.insert(filter("home/monitoring/marker/#"));
    house.advance(secs(12));
    assert_eq!(house.count(AlertKind::Expired), 1);
}

#[test]
fn in_3_1_1_a_marker_that_does_not_come_back_tells_it() {
    let mut house = House::dark(vec![stateful("lamp")]);
    house.broker.protocol = Protocol::V311;
    house.broker.denied.insert(filter("#"));
    house.recorded(A, "on");
    house.power_up();
    house.advance(secs(60));
    let raised = messages(&house, AlertKind::PublishRefused);
    let [message] = raised.as_slice() else { panic!("one alert is wanted: {raised:?}") };
    assert!(message.contains("`home/monitoring/marker/iotmonitor/2`"), "{message}");
    house.hear("home/lamp/hello");
    assert_eq!(house.restored().len(), 2, "it is tried all the same");
    assert_eq!(house.count(AlertKind::Restored), 0, "and nothing is known to have come through");
    house.lose(Connection::State, LossReason::Other("gone".into()));
    house.connect_state();
    house.advance(secs(60));
    assert_eq!(house.count(AlertKind::PublishRefused), 1, "no change");

    house.lose_state();
    house.broker.denied.clear();
    house.connect_state();
    house.advance(secs(5));
    assert_eq!(house.count(AlertKind::PublishAccepted), 1);
    house.hear("home/lamp/hello");
    assert_eq!(house.count(AlertKind::Restored), 1);
}

#[test]
fn a_marker_that_is_late_in_a_lively_house_is_not_missing() {
    let mut house = House::dark(vec![stateful("lamp")]);
    house.broker.delivers = false;
    house.power_up();
    for number in 0..400 {
        house.state(A, &number.to_string());
        house.advance(secs(1));
    }
    assert_eq!(house.count(AlertKind::PublishRefused), 0);
}

#[test]
fn what_the_broker_lacks_is_reported_once() {
    let mut house = House::running(vec![watched("lamp", 10)]);
    for what in ["", "retained messages", "retained messages", ""] {
        house.happen(Event::BrokerLacks { what: what.to_owned() });
    }
    let raised = messages(&house, AlertKind::BrokerLimited);
    let [message] = raised.as_slice() else { panic!("one alert is wanted: {raised:?}") };
    assert!(message.contains("retained messages"), "{message}");
}
