//! States that a person gives, takes away and imports, beside what devices say themselves.

use super::expect::{stateful, watched};
use super::timetable::{House, START, filter, message, secs, topic};
use bytes::Bytes;
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Message, Protocol, QoS};
use iotmonitor_core::model::spec::DeviceSpec;
use iotmonitor_core::model::state::{StateOrder, StateRecord, WriteId};

const A: &str = "home/lamp/states/a";

/// Running, the backlog in, `A` recorded, nothing restored yet. A state would also be a contact, if
/// it came from the device.
fn quiet_house(protocol: Protocol) -> House {
    let spec = DeviceSpec {
        restore_on_start: false,
        watch: vec![filter("home/lamp/#")],
        watch_timeout: Some(secs(30)),
        ..stateful("lamp")
    };
    House::settled(protocol, vec![spec], A)
}

fn both() -> [House; 2] {
    [Protocol::V5, Protocol::V311].map(quiet_house)
}

fn state(payload: &str, time: u64) -> StateRecord {
    StateRecord {
        topic: topic(A),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: QoS::AtLeastOnce,
        retain: false,
        time: secs(time),
    }
}

fn order(house: &mut House, order: StateOrder) {
    house.happen(Event::StatesOrdered { write: WriteId::Order(1), order });
}

fn set(house: &mut House, payload: &str) {
    let given = StateRecord { time: house.now().wall, ..state(payload, 0) };
    order(house, StateOrder::Set(given));
}

fn forget(house: &mut House, clear: bool) {
    order(house, StateOrder::Forget { topic: topic(A), clear });
}

fn recorded(house: &House) -> Option<String> {
    let state = house.store.states.get(&topic(A))?;
    Some(String::from_utf8_lossy(&state.payload).into_owned())
}

#[test]
fn a_given_state_is_recorded_and_reaches_the_device_and_is_no_contact() {
    for mut house in both() {
        set(&mut house, "off");
        assert_eq!(recorded(&house).as_deref(), Some("off"));
        assert_eq!(house.restored(), [format!("{A}=off")]);
        // Its copies come back on both connections, and mean nothing.
        house.advance(secs(100));
        assert_eq!(house.restored().len(), 1);
        assert!(
            house.monitor.view(&super::expect::device_name("lamp")).unwrap().last_contact.is_none()
        );
        assert_eq!(house.count(AlertKind::Expired), 1);
    }
}

/// In 3.1.1 the copy on the watch connection is known by its payload alone, and a replay of the same
/// is not it.
#[test]
fn a_replay_does_not_stand_for_the_copy_that_is_passed_over() {
    let mut house = quiet_house(Protocol::V311);
    house.broker.delivers = false;
    set(&mut house, "off");
    for retain in [true, false] {
        house.happen(Event::WatchMessage(Message { retain, ..message(A, "off") }));
    }
    let lamp = super::expect::device_name("lamp");
    assert!(house.monitor.view(&lamp).unwrap().last_contact.is_none());
    house.hear_payload(A, "off");
    assert!(house.monitor.view(&lamp).unwrap().last_contact.is_some(), "this one is its own");
}

#[test]
fn a_given_state_without_a_connection_waits_for_the_next_restore() {
    let mut house = quiet_house(Protocol::V5);
    house.lose_state();
    assert!(!house.monitor.publishes_states());
    set(&mut house, "off");
    assert_eq!(recorded(&house).as_deref(), Some("off"));
    house.connect_state();
    house.advance(secs(20));
    assert!(house.restored().is_empty());
    house.hear("home/lamp/hello");
    assert_eq!(house.restored(), [format!("{A}=off")]);
}

#[test]
fn what_a_device_says_between_a_given_state_and_its_echo_is_the_last_word() {
    for mut house in both() {
        let v5 = house.broker.protocol == Protocol::V5;
        house.broker.delivers = false;
        set(&mut house, "off");
        house.state(A, "newer");
        house.state_message(Message { restored: v5, ..message(A, "off") });
        assert_eq!(house.restored(), [format!("{A}=off"), format!("{A}=newer")]);
        assert_eq!(recorded(&house).as_deref(), Some("newer"));
    }
}

#[test]
fn a_restore_under_way_does_not_overwrite_what_was_given_or_forgotten() {
    for mut house in both() {
        house.store.holds_reads = true;
        house.hear("home/lamp/hello");
        let old = house.store.states.clone();
        set(&mut house, "off");
        house.store.states = old;
        house.settle_reads();
        assert_eq!(house.restored(), [format!("{A}=off")]);

        house.hear("home/lamp/hello");
        let old = house.store.states.clone();
        house.turn_the_page();
        forget(&mut house, false);
        house.store.states = old;
        house.settle_reads();
        assert!(house.restored().is_empty());
    }
}

#[test]
fn a_forgotten_state_is_gone_and_is_cleared_at_the_broker_where_that_is_wanted() {
    for mut house in both() {
        forget(&mut house, false);
        assert_eq!(recorded(&house), None);
        assert!(house.restored().is_empty());

        house.recorded(A, "on");
        forget(&mut house, true);
        let cleared = house.published(A);
        assert_eq!(cleared.len(), 1);
        assert!(cleared[0].1.retain && cleared[0].1.payload.is_empty());
        // In 3.1.1 an empty message is a value, but not this one.
        house.advance(secs(100));
        assert_eq!(recorded(&house), None);
    }
}

#[test]
fn an_import_is_recorded_where_nothing_newer_is_and_is_not_published() {
    let mut house = quiet_house(Protocol::V5);
    order(&mut house, StateOrder::Import(vec![state("older", START - 1)]));
    assert_eq!(recorded(&house).as_deref(), Some("on"));
    order(&mut house, StateOrder::Import(vec![state("newer", START + 1)]));
    assert_eq!(recorded(&house).as_deref(), Some("newer"));
    house.advance(secs(20));
    assert!(house.restored().is_empty());
    house.hear("home/lamp/hello");
    assert_eq!(house.restored(), [format!("{A}=newer")]);
}

#[test]
fn topics_are_distinguished() {
    let house = House::running(vec![stateful("lamp"), watched("bell", 30)]);
    assert!(house.monitor.records_topic(&topic(A)));
    assert!(!house.monitor.records_topic(&topic("home/bell/x")));
    assert!(house.monitor.is_own_topic(&topic("home/monitoring/up")));
    assert!(!house.monitor.is_own_topic(&topic(A)));
    let filters = |name| house.monitor.state_filters_of(&super::expect::device_name(name));
    assert_eq!(filters("lamp"), Some(vec![filter("home/lamp/states/#")]));
    assert_eq!(filters("bell"), Some(vec![]));
    assert_eq!(filters("lammp"), None);
}

#[test]
fn all_topics_of_a_device_are_told_each_once() {
    let mut lamp = stateful("lamp");
    lamp.watch.push(filter("home/lamp/states/#"));
    lamp.watch.push(filter("home/+/power"));
    let mut expected: Vec<_> = lamp.watch.iter().chain(&lamp.state).chain(&lamp.hello).collect();
    expected.sort();
    expected.dedup();
    let expected = expected.into_iter().cloned().collect();
    let house = House::running(vec![watched("bell", 30), lamp]);
    let filters = |name| house.monitor.topic_filters_of(&super::expect::device_name(name));
    assert_eq!(filters("lamp"), Some(expected));
    assert_eq!(filters("lammp"), None);
}
