//! The state connection: what is recorded, what is acknowledged, and what the session holds.

use super::expect::{stateful, watched};
use super::timetable::{House, filter, message, millis, secs, topic};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, Delivery, LossReason, Message, Protocol, QoS};
use iotmonitor_core::model::spec::DeviceSpec;
use iotmonitor_core::model::state::StateChange;

/// A house whose backlog is in and whose log is empty.
fn settled(devices: Vec<DeviceSpec>) -> House {
    let mut house = House::running(devices);
    house.advance(secs(2));
    house.turn_the_page();
    house
}

#[test]
fn a_state_is_recorded_as_it_came_and_acknowledged_after_the_commit() {
    let mut house = settled(vec![stateful("lamp")]);
    house.store.holds_commits = true;
    let live =
        Message { qos: QoS::AtLeastOnce, retain: true, ..message("home/lamp/states/a", "on") };
    let delivery = house.state_message(live);
    let records = house.records();
    let [(recorded, StateChange::Put(record))] = records.as_slice() else {
        panic!("one record is wanted: {records:?}")
    };
    assert_eq!(*recorded, delivery);
    assert_eq!(record.topic, topic("home/lamp/states/a"));
    assert_eq!(
        (&record.payload[..], record.qos, record.retain),
        (&b"on"[..], QoS::AtLeastOnce, true)
    );
    assert_eq!(record.time, house.now().wall);
    house.advance(secs(100));
    assert!(house.acknowledged().is_empty(), "not before the commit");
    house.happen(Event::StatesCommitted { through: delivery });
    assert_eq!(house.acknowledged(), [delivery]);
}

#[test]
fn every_delivery_reaches_the_store_in_the_order_of_receipt() {
    let mut house = settled(vec![stateful("lamp")]);
    house.store.holds_commits = true;
    let first = house.state("home/lamp/states/a", "1");
    let foreign = house.state("somewhere/else", "x");
    let own = house.state("home/monitoring/status/lamp", "{}");
    let last = house.state("home/lamp/states/a", "2");
    let order: Vec<Delivery> = house.records().iter().map(|(delivery, _)| *delivery).collect();
    assert_eq!(order, [first, foreign, own, last]);
    assert_eq!(*house.records()[1].1, StateChange::Nothing);
    assert_eq!(*house.records()[2].1, StateChange::Nothing);
    house.happen(Event::StatesCommitted { through: last });
    assert_eq!(house.acknowledged(), [last]);
}

#[test]
fn own_messages_are_no_states_even_where_the_filter_is_wide() {
    let wide = DeviceSpec { state: vec![filter("#")], ..stateful("lamp") };
    let mut house = settled(vec![wide]);
    house.state("home/monitoring/expire/lamp", "1");
    house.state("home/monitoring/marker/iotmonitor/1", "old");
    house.state("$SYS/broker/uptime", "1");
    assert!(house.records().iter().all(|(_, change)| **change == StateChange::Nothing));
    assert_eq!(house.records().len(), 3);
}

#[test]
fn a_retained_empty_message_forgets_in_5_and_a_plain_empty_one_is_a_value() {
    let mut house = settled(vec![stateful("lamp")]);
    let at = "home/lamp/states/a";
    house.state_message(Message { retain: true, ..message(at, "") });
    assert_eq!(*house.records()[0].1, StateChange::Forget(topic(at)));
    house.state_message(Message { retain: false, ..message(at, "") });
    assert!(matches!(house.records()[1].1, StateChange::Put(record) if record.payload.is_empty()));
}

#[test]
fn an_empty_message_is_a_value_in_311() {
    let mut house = House::running_311(vec![stateful("lamp")]);
    house.advance(secs(2));
    house.turn_the_page();
    for retain in [false, true] {
        house.state_message(Message { retain, ..message("home/lamp/states/a", "") });
    }
    assert!(house.records().iter().all(|(_, change)| change.state().is_some()));
    assert_eq!(house.records().len(), 2);
}

#[test]
fn a_state_is_no_contact_by_itself() {
    let both = DeviceSpec { watch: vec![filter("home/lamp/watch/#")], ..stateful("lamp") };
    let mut house = settled(vec![both]);
    house.state("home/lamp/states/a", "1");
    house.advance(secs(60));
    assert_eq!(house.published("expire/lamp").len(), 1);
}

#[test]
fn a_store_that_cannot_commit_holds_no_watching_back() {
    let mut house = settled(vec![stateful("lamp"), watched("pump", 30)]);
    house.store.holds_commits = true;
    house.happen(Event::StoreFailed { error: "no space left on device".into() });
    house.state("home/lamp/states/a", "1");
    house.hear("home/pump/x");
    let deadline = house.mono + secs(30);
    house.advance(secs(100));
    assert_eq!(house.published("expire/pump")[0].0, deadline);
    assert!(house.acknowledged().is_empty());
    assert_eq!(house.count(AlertKind::StoreFailed), 1);
    house.happen(Event::StoreRecovered);
    assert_eq!(house.count(AlertKind::StoreBack), 1);
}

fn marker(number: u8) -> impl Fn(&Action) -> bool {
    let at = topic(&format!("home/monitoring/marker/iotmonitor/{number}"));
    move |action| matches!(action, Action::Publish(p) if p.topic == at)
}

fn subscribe(action: &Action) -> bool {
    matches!(action, Action::Subscribe { connection: Connection::State, .. })
}

#[test]
fn with_a_kept_session_a_marker_goes_before_and_one_behind_the_subscription() {
    let mut house = settled(vec![stateful("lamp")]);
    house.lose_state();
    house.turn_the_page();
    house.connect_state();
    let first = house.position("marker 1", marker(1));
    let subscribed = house.position("subscription", subscribe);
    let second = house.position("marker 2", marker(2));
    assert!(first < subscribed && subscribed < second);
    for (_, publication) in house.published("marker/iotmonitor/1") {
        assert_eq!((publication.qos, publication.retain), (QoS::AtLeastOnce, false));
        assert_eq!(publication.connection, Connection::State);
    }
}

#[test]
fn without_a_kept_session_no_first_marker_is_awaited() {
    let mut house = House::dark(vec![stateful("lamp")]);
    house.recorded("home/lamp/states/a", "on");
    house.power_up();
    house.expect_silence_on("marker/iotmonitor/1");
    house.advance(secs(1));
    assert_eq!(house.restored(), ["home/lamp/states/a=on"]);
}

#[test]
fn state_filters_are_subscribed_at_qos_1_and_the_own_markers_too() {
    let house = House::running(vec![stateful("lamp"), watched("pump", 30)]);
    let subscribed = house.subscribed(Connection::State);
    assert!(subscribed.iter().all(|wanted| wanted.qos == QoS::AtLeastOnce));
    let covers = |at: &str| subscribed.iter().any(|wanted| wanted.filter.matches(&topic(at)));
    assert!(covers("home/lamp/states/a"));
    assert!(covers("home/monitoring/marker/iotmonitor/1"));
    assert!(covers("home/monitoring/marker/iotmonitor/2"));
    assert!(!covers("home/pump/x"));
    assert!(!covers("home/monitoring/marker/iotmonitor-2/1"), "another instance's markers");
}

#[test]
fn filters_are_saved_before_they_are_subscribed() {
    let house = House::running(vec![stateful("lamp")]);
    let saved = house.position("saved filters", |a| matches!(a, Action::SaveSessionFilters(_)));
    let subscribed = house.position("subscription", subscribe);
    assert!(saved < subscribed);
    assert!(house.store.session_filters.contains(&filter("home/lamp/states/#")));
}

#[test]
fn filters_are_saved_before_they_are_subscribed_in_a_reload_too() {
    let mut house = settled(vec![stateful("lamp")]);
    house.reload(vec![stateful("lamp"), stateful("pump")]);
    let saved = house.position("saved filters", |a| matches!(a, Action::SaveSessionFilters(_)));
    let subscribed = house.position("subscription", subscribe);
    assert!(saved < subscribed);
    assert!(house.store.session_filters.contains(&filter("home/pump/states/#")));
}

#[test]
fn what_left_the_configuration_is_unsubscribed_from_the_kept_session() {
    let mut house = settled(vec![stateful("lamp"), stateful("pump")]);
    house.restart();
    house.spec.devices.pop();
    house.crash();
    house.turn_the_page();
    house.power_up();
    assert_eq!(house.unsubscribed(Connection::State), [&filter("home/pump/states/#")]);
    assert!(!house.broker.session.contains_key(&filter("home/pump/states/#")));
    assert!(house.broker.session.contains_key(&filter("home/lamp/states/#")));
    assert!(!house.store.session_filters.contains(&filter("home/pump/states/#")));
}

#[test]
fn what_left_by_a_reload_is_unsubscribed_at_once_or_with_the_next_connection() {
    let mut house = settled(vec![stateful("lamp"), stateful("pump")]);
    house.reload(vec![stateful("lamp")]);
    assert_eq!(house.unsubscribed(Connection::State), [&filter("home/pump/states/#")]);
    house.lose_state();
    house.reload(vec![stateful("pump")]);
    house.connect_state();
    assert!(house.broker.session.contains_key(&filter("home/pump/states/#")));
    assert!(!house.broker.session.contains_key(&filter("home/lamp/states/#")));
}

#[test]
fn a_filter_that_left_stays_known_until_the_broker_has_certainly_dropped_it() {
    let mut house = settled(vec![stateful("lamp"), stateful("pump")]);
    house.restart();
    house.spec.devices.pop();
    house.crash();
    house.broker.delivers = false;
    house.power_up();
    // The connection breaks before the broker took the packet.
    house.broker.session.insert(filter("home/pump/states/#"), QoS::AtLeastOnce);
    assert!(house.store.session_filters.contains(&filter("home/pump/states/#")));
    house.crash();
    house.broker.delivers = true;
    house.power_up();
    assert!(!house.broker.session.contains_key(&filter("home/pump/states/#")));
    assert!(!house.store.session_filters.contains(&filter("home/pump/states/#")));
}

#[test]
fn a_message_of_a_filter_that_left_is_acknowledged_and_not_recorded() {
    let mut house = settled(vec![stateful("lamp"), stateful("pump")]);
    house.reload(vec![stateful("lamp")]);
    let delivery = house.state("home/pump/states/a", "1");
    assert_eq!(house.records(), [(delivery, &StateChange::Nothing)]);
    assert_eq!(house.acknowledged(), [delivery]);
}

#[test]
fn a_short_loss_of_the_state_connection_is_no_alert_and_a_long_one_is_one() {
    let mut house = settled(vec![stateful("lamp")]);
    house.lose_state();
    house.advance(millis(500));
    house.connect_state();
    house.advance(secs(100));
    assert_eq!(house.count(AlertKind::BrokerLost), 0);
    house.lose_state();
    house.advance(secs(100));
    assert_eq!(house.count(AlertKind::BrokerLost), 1);
    house.connect_state();
    assert_eq!(house.count(AlertKind::BrokerBack), 1);
}

#[test]
fn a_taken_state_client_id_is_named() {
    let mut house = settled(vec![stateful("lamp")]);
    house.lose(Connection::State, LossReason::TakenOver);
    house.advance(secs(100));
    assert_eq!(house.count(AlertKind::ClientIdTaken), 1);
    assert!(house.alerts(AlertKind::ClientIdTaken)[0].1.message.contains("iotmonitor-states"));
}

#[test]
fn a_refused_state_filter_is_reported_once() {
    let mut house = House::dark(vec![stateful("lamp")]);
    house.broker.refused.insert(filter("home/lamp/states/#"));
    house.power_up();
    for _ in 0..3 {
        house.advance(secs(2));
        house.lose_state();
        house.connect_state();
    }
    assert_eq!(house.count(AlertKind::FilterRefused), 1);
}

#[test]
fn questions_and_toggles_are_neither_recorded_nor_given_back() {
    for protocol in [Protocol::V5, Protocol::V311] {
        let plug = DeviceSpec {
            state: vec![filter("cmnd/plug/+"), filter("z/+/get")],
            hello: Some(filter("tele/plug/INFO1")),
            ..stateful("plug")
        };
        let mut house = House::dark(vec![plug]);
        house.broker.protocol = protocol;
        // What an earlier version recorded.
        house.recorded("cmnd/plug/POWER2", "TOGGLE");
        house.recorded("z/lamp/get", "{}");
        house.power_up();
        house.advance(secs(2));
        assert!(house.restored().is_empty(), "{:?}", house.restored());
        house.state("cmnd/plug/POWER", "ON");
        for question in ["", "?", "TOGGLE"] {
            let delivery = house.state("cmnd/plug/POWER", question);
            assert_eq!(house.acknowledged().last(), Some(&delivery));
        }
        house.state("cmnd/plug/Dimmer", "+");
        house.state("z/lamp/get", "{}");
        house.hear("tele/plug/INFO1");
        assert_eq!(house.restored(), ["cmnd/plug/POWER=ON"]);
    }
}

#[test]
fn a_retained_empty_message_in_5_forgets_an_order_too() {
    let plug = DeviceSpec { state: vec![filter("cmnd/plug/+")], ..stateful("plug") };
    let mut house = settled(vec![plug]);
    house.state("cmnd/plug/POWER", "ON");
    house.state_message(Message { retain: true, ..message("cmnd/plug/POWER", "") });
    assert!(house.store.states.is_empty());
}
