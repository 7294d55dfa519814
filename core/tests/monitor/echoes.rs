//! The broker's copies of restored states: how long one is waited for, and that nothing else is
//! taken for one.

use super::expect::{device_name, stateful};
use super::timetable::{House, START, filter, message, millis, secs, topic};
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Message, Protocol, QoS};
use iotmonitor_core::model::spec::DeviceSpec;

const A: &str = "home/lamp/states/a";
const BOTH: [Protocol; 2] = [Protocol::V5, Protocol::V311];

fn on_hello(text: &str) -> DeviceSpec {
    DeviceSpec { restore_on_start: false, ..stateful(text) }
}

/// Running, the backlog in, `A` recorded as `on`.
fn settled(protocol: Protocol, devices: Vec<DeviceSpec>) -> House {
    House::settled(protocol, devices, A)
}

fn recorded(house: &House) -> String {
    String::from_utf8_lossy(&house.store.states[&topic(A)].payload).into_owned()
}

/// The copy of what was restored, as the connection brings it.
fn echo(protocol: Protocol, payload: &str) -> Message {
    let qos = QoS::AtLeastOnce;
    Message { restored: protocol == Protocol::V5, qos, ..message(A, payload) }
}

/// The markers of this connection come back.
fn markers_return(house: &mut House) {
    for number in [1, 2] {
        let on = format!("marker/iotmonitor/{number}");
        let marker = house.payloads(&on).last().unwrap().clone();
        house.state(&format!("home/monitoring/{on}"), &marker);
    }
}

#[test]
fn in_311_a_value_is_no_echo_after_one_was_lost() {
    let mut house = settled(Protocol::V311, vec![on_hello("lamp")]);
    house.broker.lost.insert(filter(A));
    house.hear("home/lamp/hello");
    assert_eq!(house.restored(), [format!("{A}=on")]);
    house.state(A, "off");
    house.state(A, "on");
    assert_eq!(recorded(&house), "on");
    assert_eq!(house.restored().len(), 1, "nothing was overwritten on the wire");
}

#[test]
fn a_hello_after_a_lost_echo_brings_the_newest_value() {
    for protocol in BOTH {
        let mut house = settled(protocol, vec![on_hello("lamp")]);
        house.broker.lost.insert(filter(A));
        house.hear("home/lamp/hello");
        house.state(A, "off");
        house.hear("home/lamp/hello");
        assert_eq!(house.restored(), [format!("{A}=on"), format!("{A}=off")]);
    }
}

#[test]
fn an_echo_is_known_in_the_backlog_after_any_outage() {
    for protocol in BOTH {
        let mut house = settled(protocol, vec![on_hello("lamp")]);
        house.broker.delivers = false;
        house.hear("home/lamp/hello");
        house.lose_state();
        house.advance(secs(600));
        house.connect_state();
        house.state(A, "newer");
        house.state_message(echo(protocol, "on"));
        assert_eq!(recorded(&house), "newer");
        assert_eq!(house.restored(), [format!("{A}=on"), format!("{A}=newer")]);
        // The echo of that is waited for as any other, beyond the markers.
        markers_return(&mut house);
        house.advance(secs(2));
        house.state(A, "newest");
        house.state_message(echo(protocol, "newer"));
        assert_eq!(recorded(&house), "newest");
        assert_eq!(house.restored().last(), Some(&format!("{A}=newest")));
    }
}

#[test]
fn behind_the_second_marker_no_echo_of_an_earlier_connection_comes() {
    for protocol in BOTH {
        let mut house = settled(protocol, vec![on_hello("lamp")]);
        house.broker.delivers = false;
        house.hear("home/lamp/hello");
        house.lose_state();
        house.connect_state();
        markers_return(&mut house);
        house.state(A, "off");
        house.state(A, "on");
        assert_eq!(recorded(&house), "on", "before it was quiet");
        house.advance(secs(5));
        assert!(!house.restored().contains(&format!("{A}=off")));
    }
}

#[test]
fn without_a_session_no_echo_of_an_earlier_connection_comes() {
    let mut house = settled(Protocol::V311, vec![on_hello("lamp")]);
    house.broker.delivers = false;
    house.hear("home/lamp/hello");
    house.lose_state();
    house.broker.has_session = false;
    house.connect_state();
    house.state(A, "off");
    house.state(A, "on");
    assert_eq!(recorded(&house), "on");
}

#[test]
fn a_monitor_that_was_held_up_knows_the_echo_that_waits_on_the_socket() {
    for protocol in BOTH {
        let mut house = settled(protocol, vec![on_hello("lamp")]);
        house.broker.delivers = false;
        house.hear("home/lamp/hello");
        house.stall(secs(600));
        house.happen(Event::TimePassed);
        house.state(A, "newer");
        house.advance(millis(100));
        house.state_message(echo(protocol, "on"));
        assert_eq!(recorded(&house), "newer");
        assert_eq!(house.restored().last(), Some(&format!("{A}=newer")));
    }
}

/// Where no marker comes back either, patience has an end.
#[test]
fn an_echo_that_never_arrives_is_given_up_in_the_end() {
    let mut house = settled(Protocol::V311, vec![on_hello("lamp")]);
    house.broker.delivers = false;
    house.hear("home/lamp/hello");
    house.advance(secs(70));
    house.state(A, "off");
    house.state(A, "on");
    assert_eq!(recorded(&house), "on");
}

#[test]
fn a_reload_keeps_the_expectations_of_living_devices_and_no_others() {
    for stays in [true, false] {
        let mut house = settled(Protocol::V311, vec![on_hello("lamp"), on_hello("pump")]);
        house.broker.delivers = false;
        house.hear("home/lamp/hello");
        let others = vec![on_hello("door"), on_hello("pump")];
        if stays {
            house.reload([on_hello("bell"), on_hello("lamp")].to_vec());
        } else {
            house.reload(others);
            house.reload(vec![on_hello("lamp")]);
        }
        house.advance(millis(100));
        let delivery = house.state(A, "off");
        house.state(A, "on");
        assert_eq!(recorded(&house), if stays { "off" } else { "on" });
        assert!(house.records().iter().any(|(recorded, _)| *recorded == delivery));
    }
}

#[test]
fn the_connection_that_published_and_the_one_that_hears_each_decide_by_their_own_protocol() {
    // Published without the property, and in the backlog of a connection that could bring one.
    // And published with it, and heard by one that cannot.
    for (published, heard) in [(Protocol::V311, Protocol::V5), (Protocol::V5, Protocol::V311)] {
        let mut house = settled(published, vec![on_hello("lamp")]);
        house.broker.delivers = false;
        house.hear("home/lamp/hello");
        house.lose_state();
        house.broker.protocol = heard;
        house.connect_state();
        house.state(A, "newer");
        house.state(A, "on");
        assert_eq!(recorded(&house), "newer", "published in {published:?}");
    }
    // In 5 a value without the property is one, whatever it looks like.
    let mut house = settled(Protocol::V5, vec![on_hello("lamp")]);
    house.broker.delivers = false;
    house.hear("home/lamp/hello");
    house.state(A, "off");
    house.state(A, "on");
    assert_eq!(recorded(&house), "on");
}

fn watching_its_states() -> DeviceSpec {
    DeviceSpec {
        watch: vec![filter("home/lamp/states/#")],
        hello: Some(filter("hello/lamp")),
        ..on_hello("lamp")
    }
}

/// Whether `A=on` on the watch connection, with ten seconds behind the last contact, is one.
fn is_contact(house: &mut House) -> bool {
    house.advance(secs(10));
    house.turn_the_page();
    house.hear_payload(A, "on");
    let view = house.monitor.view(&device_name("lamp")).unwrap();
    view.last_contact == Some(house.now().wall)
}

#[test]
fn a_restored_state_is_no_contact_whichever_connection_lacks_mqtt_5() {
    for (state, watch) in [(Protocol::V311, Protocol::V5), (Protocol::V5, Protocol::V311)] {
        let mut house = House::dark(vec![watching_its_states()]);
        house.recorded(A, "on");
        house.open_store();
        house.broker.protocol = watch;
        house.connect_watch();
        house.broker.protocol = state;
        house.connect_state();
        house.advance(secs(2));
        house.broker.delivers = false;
        house.hear("hello/lamp");
        assert_eq!(house.restored().len(), 1);
        assert!(!is_contact(&mut house), "{state:?} {watch:?}");
        assert!(is_contact(&mut house), "one copy is passed over");
    }
}

#[test]
fn in_311_a_contact_is_no_echo_after_one_was_lost() {
    let mut house = settled(Protocol::V311, vec![watching_its_states()]);
    house.broker.lost.insert(filter(A));
    house.hear("hello/lamp");
    assert_eq!(house.restored().len(), 1);
    assert!(is_contact(&mut house));
    // The restore breaks with its connection; the next one's second marker is behind it.
    house.broker.delivers = false;
    house.hear("hello/lamp");
    house.lose_state();
    house.broker.delivers = true;
    house.connect_state();
    assert!(is_contact(&mut house));
}

#[test]
fn an_expectation_goes_with_the_watch_connection_too() {
    let mut house = settled(Protocol::V311, vec![watching_its_states()]);
    house.broker.delivers = false;
    house.hear("hello/lamp");
    house.lose_watch();
    house.connect_watch();
    assert!(is_contact(&mut house));
}

#[test]
fn in_311_a_replay_is_no_echo() {
    let mut house = settled(Protocol::V311, vec![on_hello("lamp")]);
    house.broker.delivers = false;
    house.hear("home/lamp/hello");
    house.state_message(Message { retain: true, ..echo(Protocol::V311, "on") });
    house.state(A, "newer");
    house.state_message(echo(Protocol::V311, "on"));
    assert_eq!(recorded(&house), "newer");
    assert_eq!(house.store.states[&topic(A)].time, secs(START + 2));
}
